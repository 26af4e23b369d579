from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from steer.analysis.analyse import analyse
from steer.analysis.tables import Run, read_run
from steer.report.misses import Miss, miss_text, misses
from tests.analysis.synthetic import golden_run

WHERE = {"condition": "clamped", "dose": 5}


def judged(folder: Path, **expectation: Any) -> tuple[Run, Any, Any]:
    """A run with one expectation: the run, the expectation and its verdict."""
    golden_run(folder, 24, draws=2, choose={}, expectations=[{"id": "one", **expectation}])
    (verdict,) = analyse(folder).verdicts
    run = read_run(folder)
    return run, run.spec.expectations[0], verdict


def table(run: Run, measurement: str) -> pd.DataFrame:
    rows = run.measurements.query("condition == 'clamped' and dose == 5 and measurement == @measurement")
    return rows.set_index("prompt_id")


@pytest.mark.parametrize(("bound", "ascending"), [({"min": 0.9}, True), ({"max": 0.0}, False)])
def test_the_prompts_farthest_on_the_wrong_side_come_first(tmp_path: Path, bound: Any, ascending: bool) -> None:
    found = misses(*judged(tmp_path, measurement="p_bridge", where=WHERE, **bound))
    values = table(read_run(tmp_path), "p_bridge").query("control == 'none'").intervened
    assert [miss.value for miss in found] == pytest.approx(values.sort_values(ascending=ascending)[:3].tolist())
    assert all(miss.completion for miss in found)


def test_a_prompt_inside_the_bound_is_no_miss(tmp_path: Path) -> None:
    run, expectation, verdict = judged(tmp_path, measurement="mentions", where={**WHERE, "dose": 2}, min=0.999)
    rows = run.measurements.query("condition == 'clamped' and dose == 2 and control == 'none'")
    wrong = set(rows.query("measurement == 'mentions' and intervened == 0").prompt_id)
    assert wrong and {miss.prompt_id for miss in misses(run, expectation, verdict)} <= wrong


def test_a_difference_is_told_by_the_difference_of_each_prompt(tmp_path: Path) -> None:
    run, expectation, verdict = judged(
        tmp_path, measurement="p_bridge", where=WHERE, versus="random_features", min_diff=2.0
    )
    rows = table(run, "p_bridge")
    random = rows.query("control == 'random_features'").groupby("prompt_id").intervened.mean()
    difference = (rows.query("control == 'none'").intervened - random).sort_values()
    assert [miss.value for miss in misses(run, expectation, verdict)] == pytest.approx(difference[:3].tolist())


def test_a_curve_and_what_was_not_evaluated_have_no_worst_prompts(tmp_path: Path) -> None:
    curve = {"condition": "clamped"}
    over = judged(tmp_path / "a", measurement="p_bridge", where=curve, over="dose", trend="decreasing")
    assert over[2].verdict == "fail" and misses(*over) == ()
    nothing = judged(tmp_path / "b", measurement="p_bridge", where={**WHERE, "split": "nowhere"}, min=0.5)
    assert nothing[2].estimate is None and misses(*nothing) == ()


def test_a_line_says_yes_or_no_for_hits_and_holds_no_control_character(tmp_path: Path) -> None:
    run, expectation, _ = judged(tmp_path, measurement="mentions", where=WHERE, min=1.0)
    assert miss_text(run, expectation, Miss("who", 0.0, "I am\n\x1b[2Jan assistant")) == (
        'who: no  "I am ⏎ ␛[2Jan assistant"'
    )
    assert miss_text(run, expectation, Miss("who", 0.25, "")) == "who: 0.25"
    assert len(miss_text(run, expectation, Miss("who", 1.0, "word " * 500))) < 130
