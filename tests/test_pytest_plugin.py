"""`pytest experiments/`, in processes of its own, on a tiny model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.intervention.world import write_transcoders
from tests.test_suite_run import FAILS, FAR, NOTHING, PASSES, SILENT, UNDECIDED

ROOT = Path(__file__).parents[1]
PINNED = """\
  - {{id: pinned, measurement: kl, where: {{condition: pushed}}, snapshot: true, atol: 0.1}}
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A pytest that knows no plugin but this one and xdist."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_", "CI"))}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-p", "steer.pytest_plugin", "-p", "xdist.plugin", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@dataclass(frozen=True)
class Sessions:
    """A first session over everything, and a second over what failed, in two processes."""

    folder: Path
    first: subprocess.CompletedProcess[str]
    junit: ElementTree.Element
    runs_of_first: dict[str, int]
    second: subprocess.CompletedProcess[str]

    def runs(self) -> dict[str, int]:
        return count_runs(self.folder)


def count_runs(folder: Path) -> dict[str, int]:
    homes = (path for path in (folder / "kept").iterdir() if not path.name.startswith("."))
    return {path.name: len(list(path.glob("2*"))) for path in homes}


@pytest.fixture(scope="module")
def sessions(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    folder = tmp_path_factory.mktemp("project")
    transcoders = write_transcoders(tmp_path_factory.mktemp("transcoders"), "jumprelu", n_layers=3, d_model=32)
    more = FAILS[FAILS.index("  - {{id: headline") :].replace("headline", "second")
    kinds = PASSES.replace("id: one,", "id: one, columns: {{kind: a}},").replace("passes", "kinds")
    texts = {
        "passes": PASSES,
        "fails": FAILS + more,
        "undecided": UNDECIDED + PINNED,
        "silent": SILENT,
        "nothing": NOTHING,
    }
    texts |= {"far": FAR, "broken": FAILS.replace("op: add", "op: ad").replace("kl: ", "kl: {{type: k}}\n  k: ")}
    texts |= {"kinds": kinds.replace("min: 1.0e-9", "max: 0, each: kind")}
    (folder / "experiments").mkdir()
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '--strict-markers -W error'\n")
    for name, text in texts.items():
        (folder / "experiments" / f"{name}.yaml").write_text(
            text.format(model=tiny_folder("llama"), transcoders=transcoders)
        )
    (folder / "experiments" / "other.yaml").write_text("name: x\nkey: [not, an, experiment\n")
    (folder / "test_code.py").write_text("def test_code(): pass\n")
    options = "--steer-results=kept", "--continue-on-collection-errors", "--steer-update-snapshots=none"
    first = run_pytest(folder, "experiments", *options, "--junitxml=junit.xml", "-rs")
    runs = count_runs(folder)
    second = run_pytest(folder, "experiments", *options, "-n", "2", "--lf", "-v", "-k", "fails or passes")
    return Sessions(folder, first, ElementTree.parse(folder / "junit.xml").getroot(), runs, second)


def outcomes(junit: ElementTree.Element) -> dict[str, str]:
    """`file::test` -> passed, failure, error or skipped."""
    return {
        f"{(case.get('classname') or '').removeprefix('experiments.')}::{case.get('name')}": next(
            (child.tag for child in case), "passed"
        )
        for case in junit.iter("testcase")
    }


def block(text: str, title: str) -> str:
    """What pytest prints below the title of a failure."""
    below = re.split(rf"(?m)^_+ {re.escape(title)} _+$", text)[1]
    return re.split(r"(?m)^[_=]{3,}", below)[0].strip()


def test_every_expectation_is_a_test_and_a_file_without_any_is_one(sessions: Sessions) -> None:
    assert outcomes(sessions.junit) == {
        "::experiments.broken.yaml": "error",
        "fails.yaml::headline": "failure",
        "fails.yaml::second": "failure",
        "far.yaml::runs": "skipped",
        "kinds.yaml::headline": "failure",
        "nothing.yaml::headline": "error",
        "passes.yaml::headline": "passed",
        "silent.yaml::runs": "passed",
        "undecided.yaml::headline": "failure",
        "undecided.yaml::pinned": "failure",
    }
    assert sessions.first.returncode == 1


def test_a_failure_is_its_numbers_the_worst_prompts_and_the_report_and_no_traceback(sessions: Sessions) -> None:
    told = block(sessions.first.stdout, "fails::headline").splitlines()
    assert re.fullmatch(r"fail headline: kl \S+ \(3 prompts\), expected at most 1e-12", told[0])
    assert told[1] == "  at condition pushed; no interval"
    assert told[2] == "  prompts that miss by most:"
    misses = [re.fullmatch(r'    (\w+): (\S+)  ".*"', line) for line in told[3:6]]
    assert {miss[1] for miss in misses if miss} == {"one", "two", "three"}
    values = [float(miss[2]) for miss in misses if miss]
    assert values == sorted(values, reverse=True)
    assert Path(told[6].removeprefix("report: ")).is_file()
    assert told[7:] == []
    assert "Traceback" not in sessions.first.stdout and "pytest_plugin.py" not in sessions.first.stdout


def test_inconclusive_fails_in_its_own_words(sessions: Sessions) -> None:
    told = block(sessions.first.stdout, "undecided::headline")
    assert told.startswith("inconclusive headline: kl ") and "no interval below 8 prompts" in told


def test_each_has_one_test_that_tells_every_value_that_fails(sessions: Sessions) -> None:
    told = block(sessions.first.stdout, "kinds::headline")
    assert "fail headline[a]" in told and told.count("report: ") == 1


def test_a_file_with_errors_is_a_collection_error_that_says_them_all(sessions: Sessions) -> None:
    told = block(sessions.first.stdout, "ERROR collecting experiments/broken.yaml")
    assert "broken.yaml:13:" in told and "did you mean 'add'?" in told and "broken.yaml:15:" in told
    assert "steer/pipeline.py" not in told


def test_a_run_that_did_not_complete_is_an_error_of_its_tests(sessions: Sessions) -> None:
    told = block(sessions.first.stdout, "ERROR at setup of nothing::headline")
    assert told.startswith("the run did not complete\nproblem: condition pushed changed nothing")


def test_a_snapshot_that_may_not_be_recorded_fails(sessions: Sessions) -> None:
    assert block(sessions.first.stdout, "undecided::pinned").startswith("fail pinned: kl")
    assert not list((sessions.folder / "experiments").glob("*.snapshot.json"))


def test_what_needs_the_hub_is_skipped_with_the_reason(sessions: Sessions) -> None:
    assert "it needs the Hugging Face Hub; HF_HUB_OFFLINE is set" in sessions.first.stdout


def test_an_experiment_runs_once_in_a_session_also_with_several_workers(sessions: Sessions) -> None:
    assert sessions.runs_of_first == dict.fromkeys(["passes", "fails", "undecided", "silent", "nothing", "kinds"], 1)
    again = {name: count - sessions.runs_of_first[name] for name, count in sessions.runs().items()}
    assert again == {**dict.fromkeys(again, 0), "fails": 1}  # its two tests went to two workers; `passes` had passed
    second = sessions.second.stdout
    assert len(set(re.findall(r"\[gw\d\]", second))) == 2
    assert "experiments/fails.yaml::second" in second and "experiments/passes.yaml::headline" not in second


def test_a_session_leaves_nothing_but_results(sessions: Sessions) -> None:
    there = {path.name for path in sessions.folder.iterdir()} - {".pytest_cache", "__pycache__"}
    assert there == {"experiments", "kept", "junit.xml", "pyproject.toml", "test_code.py"}


def test_a_pytest_without_experiments_imports_nothing_heavy_and_ignores_other_yaml(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: x\nmodel: {a: [\n")
    (tmp_path / "test_code.py").write_text(
        "import sys\n"
        "def test_code():\n"
        "    heavy = {'torch', 'pandas', 'pydantic', 'yaml', 'steer.pipeline', 'transformers', 'filelock'}\n"
        "    assert heavy & set(sys.modules) == set()\n"
    )
    done = run_pytest(tmp_path, "-W", "error", "--strict-markers")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
    assert {path.name for path in tmp_path.iterdir()} - {".pytest_cache", "__pycache__"} == {
        "config.yaml",
        "test_code.py",
    }


def test_the_package_brings_the_plugin() -> None:
    declared = (ROOT / "pyproject.toml").read_text().split("[project.entry-points.pytest11]\n")[1].splitlines()[0]
    assert declared == 'steer = "steer.pytest_plugin"'
