from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from steer.analysis.choices import choices_table, choose_all, make_choice
from steer.analysis.tables import Run, read_run
from steer.experiment.spec import Choose
from tests.analysis.synthetic import GOLDEN_GATE, golden_prompts, golden_run, map_run, write_run

FIRST = ["name", "condition", "axis", "value", "objective"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(golden_run(tmp_path_factory.mktemp("golden"), 30, draws=2))


def choose(run: Run, **fields: Any) -> Any:
    entry = Choose.model_validate({"condition": "clamped", "axis": "dose", **fields})
    return make_choice(run, "best", entry)


def mean(run: Run, measurement: str, dose: float, split: str | None = None) -> float:
    rows = run.measurements.query("condition == 'clamped' and control == 'none' and measurement == @measurement")
    rows = rows[(rows["dose"] == dose) & ((rows["split"] == split) if split else True)]
    return float(rows["intervened"].mean())


def test_the_best_dose_within_the_limits_is_chosen(run: Run) -> None:
    choice = choose_all(run)["best"]
    doses = run.spec.sweep["dose"]
    allowed = [float(dose) for dose in doses if mean(run, "loops", float(dose), "dev") <= 0.2]  # type: ignore[arg-type]
    assert choice.value == max(allowed, key=lambda dose: mean(run, "mentions", dose, "dev"))


def test_only_the_prompts_of_where_are_looked_at(run: Run) -> None:
    choice = choose_all(run)["best"]
    dev = set(run.prompts.loc[run.prompts["split"] == "dev", "prompt_id"])
    assert choice.prompts == dev
    for row in choice.candidates.itertuples():
        assert row.objective == pytest.approx(mean(run, "mentions", row.value, "dev"))


def test_the_table_has_the_pinned_columns_and_one_chosen_row(run: Run) -> None:
    table = choices_table(choose_all(run))
    assert list(table.columns) == [*FIRST, "loops", "within_limits", "chosen"]
    assert list(table["value"]) == [0, 1, 2, 5, 10, 20]
    assert table["chosen"].sum() == 1


def test_without_limits_the_whole_sweep_counts(run: Run) -> None:
    assert choose(run, maximize="loops").value == 20
    assert choose(run, minimize="kl").value == 0


def test_nothing_within_the_limits_is_no_choice(run: Run) -> None:
    choice = choose(run, maximize="mentions", limits={"loops": {"max": -1}})
    assert choice.value is None
    assert choice.reason == "choose 'best': no dose is within the limits"
    assert not choice.candidates["chosen"].any()


def test_a_lower_limit_excludes_too(run: Run) -> None:
    assert choose(run, minimize="loops", limits={"mentions": {"min": 0.5}}).value > 0


def test_a_tie_goes_to_the_gentler_dose(tmp_path: Path) -> None:
    spec = {**GOLDEN_GATE, "sweep": {"dose": [-10, -5, 0, 5, 10]}}

    def respond(prompt: Any, trial: Any, random: Any) -> Any:
        return {"mentions": (0.0, float(abs(trial["dose"] or 0) >= 5)), "loops": (0.0, 0.0)}

    run = read_run(write_run(tmp_path, spec, golden_prompts(6), respond))
    assert choose(run, maximize="mentions").value in (-5, 5)


def test_another_axis_left_free_is_no_choice(tmp_path: Path) -> None:
    run = read_run(map_run(tmp_path))
    entry = Choose.model_validate({"condition": "swapped", "axis": "layer", "minimize": "rhyme"})
    assert make_choice(run, "best", entry).reason == "choose 'best': position is not fixed"
    fixed = replace_where(entry, {"position": "newline"})
    assert make_choice(run, "best", fixed).value == 2


def test_an_axis_of_words_can_be_chosen(tmp_path: Path) -> None:
    run = read_run(map_run(tmp_path))
    entry = Choose.model_validate(
        {"condition": "swapped", "axis": "position", "minimize": "rhyme", "where": {"layer": "2"}}
    )
    assert make_choice(run, "best", entry).value == "newline"


def test_a_filtered_run_without_the_condition_has_no_choice(run: Run) -> None:
    table = run.measurements
    choice = choose_all(replace(run, measurements=table[table["condition"] == "baseline"]))["best"]
    assert (choice.value, choice.reason) == (None, "choose 'best': no measurement matches")
    assert choices_table({"best": choice}).empty


def replace_where(entry: Choose, where: dict[str, Any]) -> Choose:
    return entry.model_copy(update={"where": where})
