from __future__ import annotations

import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest

from steer.analysis.expectations import Verdict
from steer.analysis.suite import Ended, suite_exit_code

PAGE = Path("results/x/report.html")


def verdict(outcome: str) -> Verdict:
    return Verdict("one[a]", "kl", {}, outcome, 0.5, None, None, 3, {"min": 0.1}, "no interval", "")  # type: ignore[arg-type]


def ended(*outcomes: str, problems: tuple[str, ...] = (), page: Path | None = PAGE, **more: object) -> Ended:
    return Ended("x", Path("x.yaml"), tuple(map(verdict, outcomes)), {"one": 7}, problems, page=page, **more)  # type: ignore[arg-type]


PASSED, SILENT = ended("pass", "pass"), ended()
FAILED, OPEN = ended("pass", "inconclusive", "fail"), ended("pass", "inconclusive")
INCOMPLETE = ended("pass", problems=("a trial failed",))
REFUSED = ended(problems=("does not fit",), page=None, code=2)
CRASHED = ended(problems=("internal error",), page=None)
SKIPPED = ended(page=None, skipped="it needs the Hub")


@pytest.mark.parametrize(
    ("one", "word", "code"),
    [
        (PASSED, "pass", 0),
        (SILENT, "expects nothing", 0),
        (FAILED, "fail", 1),
        (OPEN, "inconclusive", 1),
        (INCOMPLETE, "incomplete", 3),
        (REFUSED, "did not run", 2),
        (CRASHED, "did not run", 3),
        (SKIPPED, "skipped", 0),
    ],
)
def test_the_worst_word_decides_the_exit_code_of_one_experiment(one: Ended, word: str, code: int) -> None:
    assert (one.worst, one.exit_code, suite_exit_code([one])) == (word, code, 2 if one is SKIPPED else code)


@pytest.mark.parametrize(
    ("several", "code"),
    [
        ((PASSED, SILENT, SKIPPED), 0),
        ((PASSED, OPEN, SKIPPED), 1),
        ((FAILED, INCOMPLETE, PASSED), 3),
        ((PASSED, REFUSED, FAILED), 3),  # something ran, so 2 would be wrong
        ((REFUSED, REFUSED, SKIPPED), 2),
        ((REFUSED, CRASHED), 3),
        ((SKIPPED, SKIPPED), 2),  # what ran nowhere has not passed
        ((), 2),
    ],
)
def test_three_wins_over_one_over_zero_and_two_means_that_nothing_ran(several: tuple[Ended, ...], code: int) -> None:
    assert {suite_exit_code(order) for order in permutations(several)} == {code}


def test_a_verdict_per_value_stands_where_its_expectation_stands() -> None:
    assert PASSED.line(PASSED.verdicts[0]) == 7


def test_planning_several_files_needs_no_pandas() -> None:
    code = "import sys, steer.analysis.suite; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
