"""`steer diff`, as a command: exit codes, words for runs, and the whole way on a tiny model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.synthetic import golden_run, save_table
from tests.intervention.world import write_transcoders
from tests.project import EXPERIMENT, make_project
from tests.test_pipeline import steer

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `latest` whose mentions are gone, and a reference."""
    results = tmp_path_factory.mktemp("results")
    reference = golden_run(results / "reference" / "golden-gate", 20, draws=1, sweep={"dose": [0, 5]})
    run = results / "golden-gate" / "20261120T180000Z-1a2b3c4d"
    shutil.copytree(reference, run)
    (run.parent / "latest").symlink_to(run.name)
    frame = pd.read_parquet(run / "measurements.parquet")
    gone = (frame.measurement == "mentions") & (frame.condition == "clamped") & (frame.control == "none")
    save_table(run, "measurements", frame.assign(intervened=frame.intervened.mask(gone, 0.0)))
    return results


def test_an_effect_that_is_gone_ends_with_1(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = ("diff", "reference", "latest", "--results", results)
    assert steer(*sides) == 1
    assert re.search("moved +clamped, dose 5: mentions", capsys.readouterr().out)
    assert steer(*sides, "--report-only") == 0
    assert steer(*sides, "--atol", "1") == 0
    assert steer("diff", "latest", "latest", "--results", results) == 0


def test_json_is_all_that_is_printed_and_the_page_is_written(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "diff.html"
    assert steer("diff", "reference", "latest", "--results", results, "--json", "--html", page) == 1
    assert json.loads(capsys.readouterr().out)["moved"] == 1
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_a_missing_side_ends_with_2_and_says_what_there_is(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert steer("diff", "reference", "nowhere", "--results", results, "--report-only") == 2
    said = capsys.readouterr().err
    assert "nowhere: no such run folder" in said and str(results / "golden-gate" / "latest") in said
    assert steer("diff", "reference", results, "--results", results) == 2
    assert steer("diff", "reference", "latest", "--results", results, "--name", "poem") == 2


def test_a_page_that_cannot_be_saved_ends_with_3(results: Path, tmp_path: Path) -> None:
    assert steer("diff", "latest", "latest", "--results", results, "--html", tmp_path / "no" / "p.html") == 3


def test_a_comparison_needs_no_torch() -> None:
    modules = "steer.analysis.diff, steer.report.diff_page"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_two_runs_of_a_model_are_the_same_and_an_override_is_named(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transcoders = write_transcoders(tmp_path / "transcoders", "jumprelu", n_layers=3, d_model=32)
    project = make_project(tmp_path / "project", tiny_folder("llama"), transcoders, EXPERIMENT)
    overrides = ((), (), ("--set", "generation.max_new_tokens=4"))
    for folder, override in zip("abc", overrides, strict=True):
        assert steer("run", project.experiment, "--results", tmp_path / folder, *override) == 0
    a, b, c = (tmp_path / folder / "tiny" / "latest" for folder in "abc")
    capsys.readouterr()
    assert steer("diff", a, b, "--controls") == 0
    same = capsys.readouterr().out
    assert "manifests: nothing" in same and "none of" in same and "completions: 0 of" in same
    assert steer("diff", a, c) == 0  # three prompts are too few to fail on, and that is said
    other = capsys.readouterr().out
    assert "experiment.generation.max_new_tokens: 6 -> 4" in other and "NOT JUDGED" in other
