"""`summary.csv`: one row per condition, control, sweep point, group and measurement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from steer.analysis.statistics import (
    Interval,
    against_draws,
    holm,
    mean_intervals,
    rate_difference_interval,
    rate_interval,
)
from steer.analysis.tables import Run, sweep_order
from steer.experiment.spec import Measurement

HITS = ("is_top", "top_k", "contains", "regex", "ends_with", "last_word", "stop_rate")
VALUES = ["baseline", "intervened", "effect"]
NUMBERS = ["n", *VALUES, "ci_low", "ci_high", "p_value", "p_adjusted"]


def is_hit(measurement: Measurement) -> bool:
    """Whether a measurement is 1 for a hit and 0 for a miss, so that its mean is a rate."""
    return measurement.type in HITS


@dataclass(frozen=True)
class Cells:
    """Per-prompt values, cell by cell: a cell is a condition, control, sweep point, group and measurement.

    `keys` has a row per cell; `prompts` has `cell, prompt_id, baseline, intervened, effect`, seeds and draws
    averaged, and how many `trials` that were; `draws` the same with `control_index`, seeds averaged.
    """

    keys: pd.DataFrame
    prompts: pd.DataFrame
    draws: pd.DataFrame


def cells(run: Run, by: tuple[str, ...]) -> Cells:
    """The measurements of a run averaged to one row per prompt in each cell; undefined values are left out."""
    names = ["condition", "control", *run.axes, *by, "measurement"]
    rows = run.measurements.dropna(subset=VALUES)
    rows = rows.assign(cell=rows.groupby(names, dropna=False, sort=False).ngroup())
    keys = rows.drop_duplicates("cell").set_index("cell")[names]
    draws = rows.groupby(["cell", "control_index", "prompt_id"], as_index=False)[VALUES].mean()
    prompts = draws.groupby(["cell", "prompt_id"], as_index=False)[VALUES].mean()
    prompts["trials"] = rows.groupby(["cell", "prompt_id"]).size().to_numpy()  # in the same order
    return Cells(keys, prompts, draws)


def summarise(run: Run, by: tuple[str, ...] | None = None) -> pd.DataFrame:
    """The summary table; `by` are the columns to split by, by default the experiment's `group_by`.

    Intervals are of the mean effect over prompts. `p_value` compares the target with its `random_features` draws at
    the same point over the same prompts; `p_adjusted` is Holm's over the condition's sweep, per measurement and group.
    """
    by = run.spec.group_by if by is None else by
    data = cells(run, by)
    means = data.prompts.groupby("cell")[VALUES].mean()
    table = data.keys.join(means).assign(n=data.prompts.groupby("cell").size())
    table = table.join(effect_intervals(run, data)).join(p_values(run, data, by))
    table["p_adjusted"] = _adjusted(table, by)
    table.insert(0, "experiment", run.spec.name)
    table = table[["experiment", "condition", "control", *run.axes, *by, "measurement", *NUMBERS]]
    return _ordered(run, table, by)


def effect_intervals(run: Run, data: Cells) -> pd.DataFrame:
    """`ci_low, ci_high` of the mean effect per cell; none for the baseline, whose effect is 0 by definition."""
    return _intervals(run, data.prompts, data.keys[data.keys["condition"] != "baseline"], "effect")


def value_intervals(run: Run, data: Cells) -> pd.DataFrame:
    """`ci_low, ci_high` of the mean intervened value per cell."""
    return _intervals(run, data.prompts, data.keys, "intervened")


def _intervals(run: Run, prompts: pd.DataFrame, keys: pd.DataFrame, value: str) -> pd.DataFrame:
    hits = keys["measurement"].map(lambda name: is_hit(run.spec.measurements[name]))
    wanted = prompts[prompts["cell"].isin(keys.index)].sort_values(["cell", "prompt_id"])
    groups = {cell: rows for cell, rows in wanted.groupby("cell")}
    means = {cell: rows[value].to_numpy() for cell, rows in groups.items() if not hits[cell]}
    rates = {cell: _rate_interval(rows, value) for cell, rows in groups.items() if hits[cell]}
    found = {**_mean_intervals(means), **{cell: (i.low, i.high) for cell, i in rates.items() if i is not None}}
    return pd.DataFrame.from_dict(found, orient="index", columns=["ci_low", "ci_high"], dtype=float)


def _rate_interval(rows: pd.DataFrame, value: str) -> Interval | None:
    if value == "effect":
        return rate_difference_interval(rows["intervened"].to_numpy(), rows["baseline"].to_numpy())
    return rate_interval(rows[value].to_numpy(), int(rows["trials"].min()))


def _mean_intervals(groups: dict[int, np.ndarray]) -> dict[int, tuple[float, float]]:
    """Cells with equally many prompts share their resamples, which makes a whole sweep as cheap as one cell."""
    found: dict[int, tuple[float, float]] = {}
    for size in {len(values) for values in groups.values()}:
        same = [cell for cell, values in groups.items() if len(values) == size]
        low, high, _ = mean_intervals(np.column_stack([groups[cell] for cell in same]))
        found |= {cell: (float(a), float(b)) for cell, a, b in zip(same, low, high, strict=True)}
    return found


def p_values(run: Run, data: Cells, by: tuple[str, ...]) -> pd.DataFrame:
    """`p_value` of every cell of a target that has `random_features` draws beside it."""
    point = ["condition", *run.axes, *by, "measurement"]
    twins = data.keys.assign(point=data.keys.groupby(point, dropna=False).ngroup()).reset_index()
    targets = twins[twins["control"] == "none"].merge(data.prompts, on="cell")
    draws = twins[twins["control"] == "random_features"].merge(data.draws, on="cell")
    pairs = targets.merge(draws, on=["point", "prompt_id"], suffixes=("", "_draw"))
    means = pairs.groupby(["cell", "control_index"])[["effect", "effect_draw"]].mean()
    found = {
        cell: against_draws(rows["effect"].to_numpy(), rows["effect_draw"].to_numpy())
        for cell, rows in means.groupby("cell")
    }
    return pd.DataFrame.from_dict(found, orient="index", columns=["p_value"], dtype=float)


def _adjusted(table: pd.DataFrame, by: tuple[str, ...]) -> pd.Series:
    judged = table.dropna(subset=["p_value"])
    families = judged.groupby(["condition", *by, "measurement"], dropna=False)["p_value"]
    return families.transform(lambda family: holm(family.to_numpy())).reindex(table.index)


def _ordered(run: Run, table: pd.DataFrame, by: tuple[str, ...]) -> pd.DataFrame:
    """In the order of the file: conditions (baseline first), the target before its controls, doses ascending."""
    orders: dict[str, list[object]] = {
        "condition": ["baseline", *run.spec.conditions],
        "control": ["none", *sorted(set(table["control"]) - {"none"})],
        "measurement": list(run.spec.measurements),
        **{axis: sweep_order(table[axis], run.spec.sweep.get(axis, ())) for axis in run.axes},
        **{column: sorted(table[column].dropna().unique()) for column in by},
    }
    ranks = pd.DataFrame({name: table[name].map({v: i for i, v in enumerate(o)}) for name, o in orders.items()})
    names = ["condition", "control", *run.axes, *by, "measurement"]
    return table.loc[ranks.sort_values(names, kind="stable").index].reset_index(drop=True)
