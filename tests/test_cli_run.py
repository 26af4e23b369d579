"""`steer run --explain` and `--retry failed`, as commands: what is said, what runs, and the exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.execution.lab import failing, without_plots
from tests.intervention.world import write_transcoders
from tests.project import SMALL, Project, make_project, tables
from tests.test_pipeline import steer

AGAIN = ["  3 of clamped run: {}", "  6 of clamped, random_features run: {}"]
"""What is said of the trials of a dose."""


class Command:
    """`steer run` of a project, with what it prints."""

    def __init__(self, project: Project, said: pytest.CaptureFixture[str]) -> None:
        self.project, self._said = project, said

    def __call__(self, *more: str) -> tuple[int, list[str], str]:
        """The exit code, the lines on cached trials and those below them, and stderr but for the word on the gate."""
        self._said.readouterr()
        code = steer("run", self.project.experiment, "--results", self.project.results, *more)
        out, told_aside = self._said.readouterr()
        error = "".join(line for line in told_aside.splitlines(True) if "was never gated" not in line)
        told = [line for line in out.splitlines() if line.startswith("cached: ") or " run: " in line]
        return code, told, error

    def runs(self) -> list[Path]:
        return sorted((self.project.results / "tiny").glob("2*"))


@pytest.fixture
def run(tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    transcoders = write_transcoders(tmp_path / "transcoders", "jumprelu", n_layers=3, d_model=32)
    with without_plots():
        yield Command(make_project(tmp_path / "project", tiny_folder("llama"), transcoders, SMALL), capsys)


def because(why: str) -> list[str]:
    return [line.format(why) for line in AGAIN]


def test_retry_runs_what_failed_and_says_so_and_completes_the_run(run: Command) -> None:
    with failing(4):
        code, told, error = run()
    assert (code, told) == (3, ["cached: 0 of 21 trials"]) and "it broke" in error
    code, told, _ = run("--retry", "failed", "--explain", "--dry-run")
    assert (code, told) == (0, ["cached: 12 of 21 trials", *because("it failed, and is retried")])
    with failing(4):
        assert run("--retry", "failed")[0] == 3  # it fails again: recorded, and still to be retried
    code, told, error = run("--retry", "failed", "--explain")
    assert (code, told, error) == (0, ["cached: 12 of 21 trials", *because("it failed, and is retried")], "")
    assert len(run.runs()) == 1 and len(tables(run.project.run())["trials"]) == 21
    code, _, error = run("--retry", "failed")
    assert code == 2 and f"no trial of {run.runs()[0]} has failed" in error


def test_a_new_run_says_that_trials_failed_before_and_gives_what_a_retry_gives(run: Command) -> None:
    with failing(4):
        run()
    (failed,) = run.runs()
    code, told, _ = run("--explain")
    assert (code, told) == (0, ["cached: 12 of 21 trials", *because(f"it failed in {failed.name}")])
    anew = tables(run.project.run())
    assert run("--retry", "failed", "--explain")[:2] == (2, [])  # the newest run is whole
    assert run("--explain")[1] == ["cached: 21 of 21 trials"]
    for name, table in tables(run.project.run()).items():
        pd.testing.assert_frame_equal(table, anew[name])


def test_what_is_different_is_named(run: Command) -> None:
    assert run("--explain")[1][1:] == ["  3 of baseline run: nothing has run before"] + [
        line.replace("3", "6", 1) if "features" not in line else line.replace("6", "12", 1)
        for line in because("nothing has run before")
    ]
    (before,) = run.runs()
    dose = run.project.experiment.read_text().replace("dose: [2, 4]", "dose: [2, 4, 5]")
    run.project.experiment.write_text(dose)
    _, told, _ = run("--explain", "--dry-run")
    assert told[0] == "cached: 21 of 30 trials" and len(told) == 3
    assert all(before.name in line and "than in" in line for line in told[1:])
    _, told, _ = run("--explain", "--dry-run", "--set", "generation.max_new_tokens=2")
    assert told[0] == "cached: 0 of 30 trials" and "generation" in told[1]


@pytest.mark.parametrize("options", [("--retry", "all"), ("--retry", "failed", "--fresh")])
def test_what_retry_does_not_take_is_refused_before_anything_runs(run: Command, options: tuple[str, ...]) -> None:
    code, _, error = run(*options)
    assert code == 2 and "expected --retry failed, without --fresh" in error
    assert not run.project.results.exists()


def test_there_is_nothing_to_retry_before_the_first_run(run: Command) -> None:
    code, _, error = run("--retry", "failed")
    assert code == 2 and "no run of this file" in error


def test_beside_a_file_with_failures_one_without_is_skipped(run: Command) -> None:
    other = run.project.experiment.with_name("other.yaml")
    other.write_text(run.project.experiment.read_text().replace("name: tiny", "name: other", 1))
    assert run(str(other))[0] == 0
    with failing(4):
        assert run(str(other), "--fresh")[0] == 3
    assert run()[0] == 0  # the newest run of the first is whole; the other's is not
    code, _, error = run(str(other), "--retry", "failed")
    assert code == 0 and f"{run.project.experiment} is skipped: --retry: no trial of" in error
    code, _, error = run(str(other), "--retry", "failed")
    assert code == 2 and error.count("is skipped") == 2


def test_the_reason_is_the_difference_from_the_nearest_run_and_not_from_the_newest(run: Command) -> None:
    one = ("--only", "condition=clamped", "--limit", "1")
    assert run(*one)[0] == 0
    nearest = run.runs()[-1].name
    assert run(*one, "--set", "generation.max_new_tokens=5", "--set", "features.group=[0/5]")[0] == 0
    _, told, _ = run(*one, "--set", "generation.max_new_tokens=6", "--explain", "--dry-run")
    edited = [line for line in told if "clamped" in line]  # the baselines of both runs are as near
    assert len(edited) == 2 and all(f"run: other generation settings than in {nearest}" in line for line in edited)


def test_without_shortcuts_a_run_gives_the_same_numbers_and_says_so(run: Command) -> None:
    for options, shortcuts in (((), True), (("--fresh", "--no-shortcuts"), False)):
        assert run(*options)[0] == 0
        manifest = json.loads((run.project.run() / "manifest.json").read_text())
        assert manifest["shortcuts"] is shortcuts
    short, whole = (tables(folder)["measurements"] for folder in run.runs())
    pd.testing.assert_frame_equal(short, whole, check_exact=False, rtol=1e-4, atol=1e-4)
    assert run("--no-shortcuts", "--fresh", "--dry-run")[0] == 0
