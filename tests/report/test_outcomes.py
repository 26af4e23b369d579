from __future__ import annotations

from pathlib import Path

from steer.report.outcomes import outcome_table
from tests.analysis.test_suite import CRASHED, FAILED, PASSED, SKIPPED, ended


def test_every_experiment_has_a_line_with_its_counts_its_worst_verdict_its_time_and_its_page() -> None:
    slow = ended("pass", "inconclusive", seconds=75.4)
    lines = outcome_table([PASSED, FAILED, slow, SKIPPED, CRASHED]).splitlines()
    assert lines[0].split() == ["experiment", "pass", "fail", "inconclusive", "worst", "time", "report"]
    assert lines[1].split() == ["x", "2", "0", "0", "pass", "0", "s", "results/x/report.html"]
    assert lines[2].split()[1:5] == ["1", "1", "1", "fail"]
    assert lines[3].split()[4:7] == ["inconclusive", "75", "s"]
    assert lines[4].split()[1:5] == ["-", "-", "-", "skipped"] and lines[4].endswith("it needs the Hub")
    assert lines[5].endswith("internal error")


def test_columns_stand_under_each_other_and_a_problem_stays_on_its_line() -> None:
    long = ended(problems=("first\n::error::second\x1b[2J",), page=Path("p"))
    lines = outcome_table([PASSED, long]).splitlines()
    assert len(lines) == 3
    assert (
        len({line.index(word) for line, word in zip(lines, ("worst", "pass  ", "incomplete"), strict=True)} - {0}) <= 2
    )
    assert "\x1b" not in outcome_table([ended(problems=("a\x1b[2Jb",), page=None)])
