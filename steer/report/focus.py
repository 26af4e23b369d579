"""What a report is about: the measurement, condition and sweep point that the headline judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from steer.analysis.analyse import Analysis
from steer.analysis.expectations import Verdict
from steer.analysis.samples import where_text
from steer.analysis.tables import Run, Wanted, select


@dataclass(frozen=True)
class Focus:
    """`point` fixes every axis that the condition uses; `columns` says which prompts are judged.

    `condition` is None for a file that only reads; `how` says where the point comes from.
    """

    condition: str | None
    measurement: str
    point: Mapping[str, Any]
    columns: Mapping[str, Wanted]
    how: str

    @property
    def where(self) -> dict[str, Wanted]:
        """The rows of the target at the focus."""
        return {"condition": self.condition or "baseline", "control": "none", **self.point}


def find_focus(run: Run, analysis: Analysis) -> Focus:
    """The place of the first headline, else of the first verdict about a condition, else of the largest effect."""
    return find_focuses(run, analysis)[0]


def find_focuses(run: Run, analysis: Analysis) -> tuple[Focus, ...]:
    """The places of all headlines, each once; at least one."""
    about = [v for v in analysis.verdicts if v.where.get("condition") in run.spec.conditions and v.estimate is not None]
    main = [verdict for verdict in about if is_headline(verdict)] or about[:1]
    found = [_focus(run, analysis, verdict) for verdict in main] or [_focus(run, analysis, None)]
    return tuple(focus for place, focus in enumerate(found) if focus not in found[:place])


def _focus(run: Run, analysis: Analysis, verdict: Verdict | None) -> Focus:
    measurement = verdict.measurement if verdict else next(iter(run.spec.measurements), "")
    condition = str(verdict.where["condition"]) if verdict else next(iter(run.spec.conditions), None)
    where = {key: wanted for key, wanted in (verdict.where if verdict else {}).items() if key != _each(run, verdict)}
    columns = {key: wanted for key, wanted in where.items() if key in run.columns}
    axes = {key: wanted for key, wanted in where.items() if key in run.axes}
    fixed = {key: wanted for key, wanted in axes.items() if not isinstance(wanted, (tuple, list))}
    point, how = _point(run, analysis, condition, measurement, fixed)
    return Focus(condition, measurement, point, columns, how)


def _each(run: Run, verdict: Verdict | None) -> str | None:
    """The column whose values have verdicts of their own: the report is about all of them."""
    name = verdict.id.split("[")[0] if verdict else ""
    return next((expectation.each for expectation in run.spec.expectations if expectation.id == name), None)


def is_headline(verdict: Verdict) -> bool:
    """Whether a verdict is the file's main claim."""
    return verdict.id.split("[")[0].split("-")[0] == "headline"


def headlines(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts of the main claim; the first one where no expectation is called headline."""
    return tuple(v for v in verdicts if is_headline(v)) or tuple(verdicts[:1])


def used_axes(run: Run, condition: str | None) -> tuple[str, ...]:
    """The axes a condition is swept over."""
    rows = run.measurements[run.measurements["condition"] == condition]
    return tuple(axis for axis in run.axes if rows[axis].notna().any())


def number_axes(run: Run, condition: str | None) -> tuple[str, ...]:
    """The axes of a condition that are numbers with at least two values: what a curve can be drawn over."""
    return tuple(
        axis
        for axis in used_axes(run, condition)
        if pd.api.types.is_numeric_dtype(run.measurements[axis]) and run.measurements[axis].nunique() >= 2
    )


def measured(run: Run, condition: str, measurement: str) -> bool:
    """Whether a condition has a value of a measurement at all."""
    rows = select(run.measurements, {"condition": condition, "control": "none", "measurement": measurement})
    return bool(rows["effect"].notna().any())


def _point(
    run: Run, analysis: Analysis, condition: str | None, measurement: str, fixed: Mapping[str, Wanted]
) -> tuple[dict[str, Wanted], str]:
    axes = used_axes(run, condition)
    chosen = analysis.choices[analysis.choices["chosen"].astype(bool)] if len(analysis.choices) else analysis.choices
    picked = {row["axis"]: row["value"] for _, row in chosen.iterrows() if row["condition"] == condition}
    known = {**{axis: picked[axis] for axis in axes if axis in picked}, **fixed}
    point = {axis: known[axis] for axis in axes if axis in known}
    how = "chosen on other prompts" if any(axis in picked for axis in point) else "judged"
    if len(point) == len(axes):
        return point, how if axes else "no sweep"
    return {**_largest(run, condition, measurement, point, axes), **point}, "largest effect"


def _largest(
    run: Run, condition: str | None, measurement: str, point: Mapping[str, Wanted], axes: tuple[str, ...]
) -> dict[str, Any]:
    rows = select(run.measurements, {"condition": condition or "baseline", "control": "none", **point})
    rows = rows[rows["measurement"] == measurement]
    means = rows.groupby(list(axes))["effect"].mean().abs()
    if means.empty:
        return {}
    best = means.idxmax()
    values = best if isinstance(best, tuple) else (best,)
    return {axis: value if isinstance(value, str) else float(value) for axis, value in zip(axes, values, strict=True)}


def judged_prompts(run: Run, focus: Focus, but: Sequence[str] = ()) -> Run:
    """The run with only the measurements of the prompts that the headline judges; columns in `but` stay free."""
    rows = select(run.measurements, {key: wanted for key, wanted in focus.columns.items() if key not in but})
    return replace(run, measurements=rows) if len(rows) else run


def prompts_text(run: Run, focus: Focus) -> str:
    """`40 prompts (split test)`."""
    count = judged_prompts(run, focus).measurements["prompt_id"].nunique()
    plural = "prompt" if count == 1 else "prompts"
    return f"{count} {plural}" + (f" ({where_text(focus.columns)})" if focus.columns else "")


def at(focus: Focus, *but: str) -> str:
    """` at layer 2`: the sweep values that are held, without the axes that the reader sees; else empty."""
    held = {axis: value for axis, value in focus.point.items() if axis not in but}
    return f" at {where_text(held)}" if held else ""
