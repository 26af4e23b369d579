from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steer.analysis.statistics import holm, mean_interval, rate_difference_interval
from steer.analysis.summary import summarise
from steer.analysis.tables import Run, read_run
from tests.analysis.synthetic import DOSES, GOLDEN_GATE, golden_prompts, golden_response, golden_run, write_run

FIRST = ["experiment", "condition", "control", "dose", "measurement"]
COLUMNS = [*FIRST, "n", "baseline", "intervened", "effect", "ci_low", "ci_high", "p_value", "p_adjusted"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(golden_run(tmp_path_factory.mktemp("golden"), 30))


@pytest.fixture(scope="module")
def summary(run: Run) -> pd.DataFrame:
    return summarise(run)


def row(summary: pd.DataFrame, measurement: str, dose: float, control: str = "none") -> pd.Series:
    found = summary[
        (summary["condition"] == "clamped")
        & (summary["control"] == control)
        & (summary["dose"] == dose)
        & (summary["measurement"] == measurement)
    ]
    assert len(found) == 1
    return found.iloc[0]


def rows_of(run: Run, measurement: str, dose: float, control: str) -> pd.DataFrame:
    table = run.measurements
    return table[
        (table["condition"] == "clamped")
        & (table["control"] == control)
        & (table["dose"] == dose)
        & (table["measurement"] == measurement)
    ].sort_values("prompt_id")


def test_the_columns_are_the_pinned_ones(summary: pd.DataFrame) -> None:
    assert list(summary.columns) == COLUMNS


def test_every_condition_control_dose_and_measurement_has_one_row(summary: pd.DataFrame) -> None:
    measured = len(GOLDEN_GATE["measurements"])
    assert len(summary) == measured * (1 + 3 * len(DOSES) + 1)
    assert list(summary["condition"].unique()) == ["baseline", "clamped", "ablated"]


def test_means_are_over_prompts(run: Run, summary: pd.DataFrame) -> None:
    cell = row(summary, "p_bridge", 5)
    values = rows_of(run, "p_bridge", 5, "none")
    assert cell["n"] == 30
    assert cell["effect"] == pytest.approx(values["effect"].mean())
    assert cell["effect"] == pytest.approx(cell["intervened"] - cell["baseline"])


def test_a_continuous_effect_has_its_bootstrap_interval(run: Run, summary: pd.DataFrame) -> None:
    interval = mean_interval(rows_of(run, "p_bridge", 5, "none")["effect"].to_numpy())
    assert interval is not None
    cell = row(summary, "p_bridge", 5)
    assert (cell["ci_low"], cell["ci_high"]) == pytest.approx((interval.low, interval.high))


def test_hits_have_the_interval_of_paired_rates(run: Run, summary: pd.DataFrame) -> None:
    values = rows_of(run, "mentions", 10, "none")
    interval = rate_difference_interval(values["intervened"].to_numpy(), values["baseline"].to_numpy())
    cell = row(summary, "mentions", 10)
    assert (cell["ci_low"], cell["ci_high"]) == pytest.approx((interval.low, interval.high))


def test_a_kl_that_is_zero_everywhere_is_not_taken_for_misses(tmp_path: Path) -> None:
    def respond(prompt: dict, trial: dict, random: np.random.Generator) -> dict:
        return {"kl": (0.0, 0.0), "mentions": (0.0, 0.0)}

    table = summarise(read_run(write_run(tmp_path, GOLDEN_GATE, golden_prompts(24), respond)))
    assert row(table, "kl", 5)["ci_high"] == 0
    assert row(table, "mentions", 5)["ci_high"] > 0.05


def test_controls_pool_their_draws_per_prompt_first(run: Run, summary: pd.DataFrame) -> None:
    values = rows_of(run, "kl", 2, "random_features")
    per_prompt = values.groupby("prompt_id")["effect"].mean().to_numpy()
    interval = mean_interval(per_prompt)
    assert interval is not None
    cell = row(summary, "kl", 2, "random_features")
    assert cell["n"] == 30
    assert (cell["effect"], cell["ci_low"], cell["ci_high"]) == pytest.approx(
        (per_prompt.mean(), interval.low, interval.high)
    )


def test_p_values_count_the_draws_by_hand(run: Run, summary: pd.DataFrame) -> None:
    for measurement in ("surprise", "loops", "mentions"):
        target = rows_of(run, measurement, 1, "none").set_index("prompt_id")["effect"]
        larger = 0
        for _, draw in rows_of(run, measurement, 1, "random_features").groupby("control_index"):
            pairs = draw.set_index("prompt_id")["effect"].to_frame("draw").join(target).dropna()
            larger += abs(pairs["draw"].mean()) >= abs(pairs["effect"].mean())
        assert row(summary, measurement, 1)["p_value"] == pytest.approx((1 + larger) / 20)


def test_p_values_are_adjusted_over_the_doses_of_one_measurement(summary: pd.DataFrame) -> None:
    for measurement in GOLDEN_GATE["measurements"]:
        family = [row(summary, measurement, dose) for dose in DOSES]
        expected = holm(np.array([cell["p_value"] for cell in family]))
        assert [cell["p_adjusted"] for cell in family] == pytest.approx(list(expected))


def test_only_targets_with_random_features_have_p_values(summary: pd.DataFrame) -> None:
    with_p = summary[summary["p_value"].notna()]
    assert set(zip(with_p["condition"], with_p["control"], strict=True)) == {("clamped", "none")}


def test_the_order_of_rows_does_not_matter(run: Run, summary: pd.DataFrame) -> None:
    shuffled = replace(run, measurements=run.measurements.sample(frac=1, random_state=3))
    pd.testing.assert_frame_equal(summarise(shuffled), summary)


def test_renaming_the_draws_does_not_matter(run: Run, summary: pd.DataFrame) -> None:
    mirrored = run.measurements.assign(control_index=100 - run.measurements["control_index"])
    pd.testing.assert_frame_equal(summarise(replace(run, measurements=mirrored)), summary)


def test_adding_a_constant_to_both_sides_changes_no_effect(run: Run, summary: pd.DataFrame) -> None:
    table = run.measurements
    kl = table["measurement"] == "kl"
    moved = table.assign(baseline=table["baseline"] + 4.0 * kl, intervened=table["intervened"] + 4.0 * kl)
    again = summarise(replace(run, measurements=moved))
    columns = ["effect", "ci_low", "ci_high", "p_value"]
    pd.testing.assert_frame_equal(again[columns], summary[columns], atol=1e-9)
    assert row(again, "kl", 5)["intervened"] == pytest.approx(row(summary, "kl", 5)["intervened"] + 4)


def test_prompts_without_a_value_are_left_out_of_n(run: Run, summary: pd.DataFrame) -> None:
    table = run.measurements.copy()
    lost = (table["prompt_id"] == "neutral-07") & (table["measurement"] == "kl")
    table.loc[lost, ["intervened", "effect"]] = None
    again = summarise(replace(run, measurements=table))
    assert row(again, "kl", 5)["n"] == 29
    assert row(again, "loops", 5)["n"] == 30
    rest = rows_of(run, "kl", 5, "none")
    rest = rest[rest["prompt_id"] != "neutral-07"]
    assert row(again, "kl", 5)["effect"] == pytest.approx(rest["effect"].mean())


def test_groups_have_rows_of_their_own(run: Run) -> None:
    table = summarise(run, ("split",))
    cell = table[(table["condition"] == "clamped") & (table["dose"] == 5) & (table["measurement"] == "kl")]
    cell = cell[cell["control"] == "none"].set_index("split")
    assert list(cell["n"]) == [10, 20]
    values = rows_of(run, "kl", 5, "none")
    assert cell.loc["dev", "effect"] == pytest.approx(values.loc[values["split"] == "dev", "effect"].mean())


def test_seeds_are_averaged_before_prompts_are_counted(tmp_path: Path) -> None:
    def respond(prompt: dict, trial: dict, random: np.random.Generator) -> dict:
        return {"mentions": (0.0, float(trial["seed"] == 1 and trial["condition"] == "clamped"))}

    spec = {**GOLDEN_GATE, "seeds": [0, 1], "sweep": {"dose": [0, 5]}}
    table = summarise(read_run(write_run(tmp_path, spec, golden_prompts(20), respond)))
    cell = row(table, "mentions", 5)
    assert (cell["n"], cell["effect"]) == (20, 0.5)


def test_a_run_of_baselines_only_has_a_summary(tmp_path: Path) -> None:
    spec = {
        key: value for key, value in GOLDEN_GATE.items() if key not in ("conditions", "sweep", "choose", "expectations")
    }
    table = summarise(read_run(write_run(tmp_path, spec, golden_prompts(9), golden_response_at_rest)))
    assert set(table["condition"]) == {"baseline"}
    assert table["p_value"].isna().all()


def golden_response_at_rest(prompt: dict, trial: dict, random: np.random.Generator) -> dict:
    return dict(golden_response(prompt, {**trial, "dose": None}, random))
