"""Plots over a swept number: the target between its controls, and what the effect costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from steer.analysis.numbers import number_text
from steer.analysis.summary import cells, is_hit, value_intervals
from steer.analysis.tables import Run, group_names, select
from steer.report.figure import (
    DIRECTION,
    INK,
    MUTED,
    OTHERS,
    RANDOM,
    RATE_TOP,
    TARGET,
    Plot,
    dose_axis,
    legend_below,
    new_figure,
    percent,
    titled,
)
from steer.report.focus import Focus, at, judged_prompts, measured, number_axes, prompts_text, used_axes
from steer.report.visible import shortened
from steer.report.wording import CONTROLS, dose_label, measurement_label


@dataclass(frozen=True)
class Curves:
    """One condition along one axis: `target`, `controls` and `draws` have a row per dose, measurement and group.

    Columns: `dose, measurement, group, baseline, intervened, ci_low, ci_high` (`control` and `control_index` in the
    last two). `n` is the number of prompts.
    """

    target: pd.DataFrame
    controls: pd.DataFrame
    draws: pd.DataFrame
    n: int


def curves(run: Run, condition: str, axis: str, point: Mapping[str, Any], by: tuple[str, ...] = ()) -> Curves:
    """The means over prompts of a condition and its controls; the other axes that it uses are fixed at `point`."""
    others = {key: value for key, value in point.items() if key != axis and key in used_axes(run, condition)}
    wanted = {"condition": condition, **others}
    part = Run(**{**run.__dict__, "measurements": select(run.measurements, wanted)})
    data = cells(part, by)
    means = data.keys.join(data.prompts.groupby("cell")[["baseline", "intervened"]].mean())
    means = _grouped(means.join(value_intervals(part, data)), axis, by)
    draws = (
        data.draws.groupby(["cell", "control_index"])[["baseline", "intervened"]].mean().reset_index("control_index")
    )
    draws = _grouped(data.keys.join(draws, how="right"), axis, by)
    is_target = means["control"] == "none"
    n = part.measurements["prompt_id"].nunique()
    return Curves(means[is_target], means[~is_target], draws[draws["control"] != "none"], n)


def _grouped(frame: pd.DataFrame, axis: str, by: tuple[str, ...]) -> pd.DataFrame:
    return frame.assign(dose=frame[axis], group=group_names(frame, by)).sort_values("dose")


def dose_response(run: Run, focus: Focus, condition: str, axis: str, name: str = "") -> Plot:
    """The judged measurement against dose, with its controls, for the judged prompts."""
    run = judged_prompts(run, focus)
    data = curves(run, condition, axis, focus.point)
    figure = new_figure()
    axes = figure.add_subplot()
    draw_panel(axes, run, data, focus.measurement)
    axes.set_xlabel(dose_label(axis, run.spec.conditions[condition]))
    if condition == focus.condition and axis in focus.point:
        mark_dose(axes, data, focus, axis)
    legend_below(figure, legend(condition, data))
    more = ", and more than its controls do" if len(data.controls) else ""
    question = f"Does ‘{condition}’{at(focus, axis)} change ‘{focus.measurement}’{more}?"
    name = name or ("dose-response" if condition == focus.condition else f"dose-response-{condition}")
    return titled(figure, question, caption(run, focus, data), name)


def caption(run: Run, focus: Focus, data: Curves) -> str:
    """What the marks are, in words."""
    draws = data.draws[data.draws["control"] == "random_features"]["control_index"].nunique()
    controls = f" Each grey point is one of {draws} random features, the grey line their mean." if draws else ""
    return f"Means over {prompts_text(run, focus)}; the band is the 95 % interval over prompts.{controls}"


def draw_panel(axes: Axes, run: Run, data: Curves, measurement: str, group: str = "", apart: float = 0.045) -> None:
    """One measurement of one group: baseline, controls, target on top; a tick label needs `apart` of the width."""
    target = _of(data.target, measurement, group)
    _draw_controls(axes, _of(data.controls, measurement, group), _of(data.draws, measurement, group))
    axes.axhline(target["baseline"].mean(), color=INK, linestyle=(0, (5, 4)), linewidth=1.2, zorder=2)
    axes.fill_between(target["dose"], target["ci_low"], target["ci_high"], color=TARGET, alpha=0.18, linewidth=0)
    axes.plot(target["dose"], target["intervened"], color=TARGET, marker="o", markersize=5, linewidth=2.4, zorder=5)
    _finish(axes, run, measurement, sorted(target["dose"].unique()), apart)


def _of(frame: pd.DataFrame, measurement: str, group: str) -> pd.DataFrame:
    return frame[(frame["measurement"] == measurement) & (frame["group"] == group)]


def _draw_controls(axes: Axes, controls: pd.DataFrame, draws: pd.DataFrame) -> None:
    points = draws[draws["control"] == "random_features"]
    spread = points.groupby("dose")["intervened"].agg(["min", "max"])
    axes.fill_between(spread.index, spread["min"], spread["max"], color=RANDOM, alpha=0.15, linewidth=0, zorder=1)
    axes.scatter(points["dose"], points["intervened"], s=9, color=RANDOM, alpha=0.45, linewidth=0, zorder=1)
    for control, rows in controls.groupby("control"):
        look = control_look(str(control), sorted(controls["control"].unique()))
        axes.plot(rows["dose"], rows["intervened"], linewidth=1.4, markersize=4.5, zorder=3, **look)


def control_look(control: str, controls: list[str]) -> dict[str, Any]:
    """Colour, marker and line of a control, the same in every plot."""
    if control == "random_features":
        return {"color": RANDOM, "marker": "s", "linestyle": "-"}
    if control == "random_direction":
        return {"color": DIRECTION, "marker": "^", "linestyle": "-.", "fillstyle": "none"}
    rest = [name for name in controls if name not in ("random_features", "random_direction", "none")]
    number = rest.index(control) % len(OTHERS)
    return {"color": OTHERS[number], "marker": "Dvx*"[number], "linestyle": ":"}


def legend(condition: str, data: Curves) -> list[Line2D]:
    """The marks that are there, the target first."""
    controls = sorted(data.controls["control"].unique(), key=lambda name: name != "random_features")
    found = [Line2D([], [], color=TARGET, marker="o", linewidth=2.4, label=f"{condition} ({CONTROLS['none']})")]
    for control in controls:
        draws = data.draws[data.draws["control"] == control]["control_index"].nunique()
        count = f" ({draws})" if draws > 1 else ""
        look = control_look(control, controls)
        found.append(Line2D([], [], linewidth=1.4, markersize=4.5, label=CONTROLS[control] + count, **look))
    return [*found, Line2D([], [], color=INK, linestyle=(0, (5, 4)), linewidth=1.2, label="baseline, no intervention")]


def mark_dose(axes: Axes, data: Curves, focus: Focus, axis: str) -> None:
    """The dose that the report is about: a thin line, why it is this one, and the value there."""
    dose = float(focus.point[axis])
    target = _of(data.target, focus.measurement, "")
    height = target.loc[target["dose"] == dose, "intervened"].mean()
    shown = f"{height:.0%}" if axes.get_ylim()[1] == RATE_TOP else number_text(height)
    axes.axvline(dose, color=MUTED, linewidth=1, linestyle=":", zorder=0)
    if axes.get_ylim()[1] != RATE_TOP:
        axes.margins(y=0.14)  # room for the words
    left = dose > sum(axes.get_xlim()) / 2
    place = {"xytext": (-5 if left else 5, -3), "ha": "right" if left else "left", "va": "top"}
    text = f"{shown} at {axis} {dose:g} ({focus.how})"
    axes.annotate(text, (dose, 1), xycoords=("data", "axes fraction"), **{**SMALL, "color": TARGET, **place})


FLOATING: dict[str, Any] = {"textcoords": "offset points", "annotation_clip": False, "zorder": 7}
SMALL: dict[str, Any] = {"fontsize": 8, "color": MUTED, **FLOATING}


def all_measurements(run: Run, focus: Focus, condition: str, axis: str) -> Plot | None:
    """Every measurement against dose, in small panels; None where there is only one."""
    run = judged_prompts(run, focus)
    names = [name for name in run.spec.measurements if measured(run, condition, name)][:9]
    if len(names) < 2:
        return None
    data = curves(run, condition, axis, focus.point)
    columns = min(3, len(names)) if len(names) != 4 else 2
    rows = -(-len(names) // columns)
    figure = new_figure(3.1 * columns + 0.4, 2.7 * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, name in zip(panels, names, strict=False):
        draw_panel(panel, run, data, name, apart=0.08)
        panel.set_xlabel(dose_label(axis, run.spec.conditions[condition]), fontsize=8)
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    legend_below(figure, legend(condition, data))
    return titled(figure, f"What else does ‘{condition}’ change?", caption(run, focus, data), "dose-response-all")


def by_group(run: Run, focus: Focus, condition: str, axis: str) -> Plot | None:
    """The judged measurement against dose, a panel per group of `group_by`; None without groups."""
    by = run.spec.group_by
    run = judged_prompts(run, focus, but=by)
    data = curves(run, condition, axis, focus.point, by)
    groups = sorted(data.target.loc[data.target["measurement"] == focus.measurement, "group"].unique())[:12]
    if not by or len(groups) < 2:
        return None
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(2.6 * columns + 0.6, 2.6 * rows + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for panel, group in zip(panels, groups, strict=False):
        draw_panel(panel, run, data, focus.measurement, group, apart=0.1)
        count = run.measurements.loc[group_names(run.measurements, by) == group, "prompt_id"].nunique()
        panel.set_title(f"{shortened(group, 28)} ({count} prompts)", fontsize=9)
        panel.set_xlabel(dose_label(axis, run.spec.conditions[condition]), fontsize=8)
    for panel in panels[len(groups) :]:
        panel.set_axis_off()
    legend_below(figure, legend(condition, data))
    return titled(
        figure,
        f"Does ‘{focus.measurement}’ change alike for every {' and '.join(by)}?",
        caption(run, focus, data),
        "by-group",
    )


COSTS = ("kl", "repetition", "perplexity", "edit_distance")


def cost_measurement(run: Run, focus: Focus) -> str | None:
    """What the effect is held against: a limit of `choose`, else KL, else repetition, else perplexity."""
    types = {name: m.type for name, m in run.spec.measurements.items() if name != focus.measurement}
    limited = [name for entry in run.spec.choose.values() for name in entry.limits if types.get(name) in COSTS]
    ranked = sorted((name for name in types if types[name] in COSTS), key=lambda name: COSTS.index(types[name]))
    return next(iter([*limited, *ranked]), None)


def effect_and_cost(run: Run, focus: Focus, condition: str, axis: str) -> Plot | None:
    """The judged measurement against its cost, a point per dose, the point of the report ringed."""
    cost = cost_measurement(run, focus)
    if cost is None:
        return None
    run = judged_prompts(run, focus)
    data = curves(run, condition, axis, focus.point)
    figure = new_figure()
    axes = figure.add_subplot()
    for control, rows in data.controls.groupby("control"):
        look = control_look(str(control), sorted(data.controls["control"].unique()))
        wide = _wide(rows, focus.measurement, cost)
        axes.plot(wide[cost], wide[focus.measurement], linewidth=1.2, markersize=4.5, alpha=0.8, **look)
    wide = _wide(data.target, focus.measurement, cost)
    _draw_frontier(axes, wide, cost, focus, axis)
    _draw_limit(axes, run, cost)
    axes.set_xlabel(measurement_label(cost, run.spec.measurements[cost]).replace("\n", " "))
    axes.set_title(
        measurement_label(focus.measurement, run.spec.measurements[focus.measurement]), fontsize=9, color=MUTED
    )
    if is_hit(run.spec.measurements[focus.measurement]):
        percent(axes)
    legend_below(figure, legend(condition, data)[:-1])
    question = f"What does ‘{focus.measurement}’ cost in ‘{cost}’?"
    text = f"A point per {axis}, means over {prompts_text(run, focus)}; the ring is {axis} {_ringed(focus, axis)}."
    return titled(figure, question, text, "effect-and-cost")


def _wide(rows: pd.DataFrame, effect: str, cost: str) -> pd.DataFrame:
    table = rows[rows["measurement"].isin([effect, cost])]
    return table.pivot_table(index="dose", columns="measurement", values="intervened").reindex(columns=[effect, cost])


def _draw_frontier(axes: Axes, wide: pd.DataFrame, cost: str, focus: Focus, axis: str) -> None:
    effect = focus.measurement
    axes.plot(wide[cost], wide[effect], color=TARGET, marker="o", linewidth=2, zorder=4)
    for dose, row in wide.iterrows():
        place = (row[cost], row[effect])
        axes.annotate(f"{axis} {dose:g}", place, xytext=(9, 5), fontsize=9, color=TARGET, **FLOATING)
    if axis in focus.point and float(focus.point[axis]) in wide.index:
        row = wide.loc[float(focus.point[axis])]
        axes.plot(
            row[cost], row[effect], "o", markersize=15, fillstyle="none", color=INK, markeredgewidth=1.6, zorder=6
        )


def _draw_limit(axes: Axes, run: Run, cost: str) -> None:
    limits = [entry.limits[cost].max for entry in run.spec.choose.values() if cost in entry.limits]
    for limit in {limit for limit in limits if limit is not None}:
        axes.axvline(limit, color=MUTED, linestyle=":", linewidth=1.2)
        axes.annotate(f"limit {limit:g}", (limit, 0.5), xycoords=("data", "axes fraction"), xytext=(4, 0), **SMALL)


def _ringed(focus: Focus, axis: str) -> str:
    return f"{focus.point[axis]:g} ({focus.how})" if axis in focus.point else "none"


def side_by_side(run: Run, focus: Focus, axis: str) -> Plot | None:
    """The conditions that share an axis in one panel, without controls; None with fewer than two."""
    run = judged_prompts(run, focus)
    names = [n for n in run.spec.conditions if axis in number_axes(run, n) and measured(run, n, focus.measurement)][:6]
    if len(names) < 2:
        return None
    figure = new_figure()
    axes = figure.add_subplot()
    for number, name in enumerate(sorted(names, key=lambda name: name != focus.condition)):
        rows = _of(curves(run, name, axis, focus.point).target, focus.measurement, "")
        colour, marker = [TARGET, DIRECTION, *OTHERS][number], "os^Dvx"[number]
        axes.fill_between(rows["dose"], rows["ci_low"], rows["ci_high"], color=colour, alpha=0.1, linewidth=0)
        axes.plot(rows["dose"], rows["intervened"], color=colour, marker=marker, linewidth=2, label=name)
    axes.axhline(rows["baseline"].mean(), color=INK, linestyle=(0, (5, 4)), linewidth=1.2, label="baseline")
    _finish(axes, run, focus.measurement, sorted(rows["dose"].unique()))
    axes.set_xlabel(axis)
    legend_below(figure, list(axes.get_lines()))
    text = f"Means over {prompts_text(run, focus)}; the bands are 95 % intervals over prompts."
    question = f"Which condition changes ‘{focus.measurement}’, and at which {axis}?"
    return titled(figure, question, text, f"conditions-{axis}")


def _finish(axes: Axes, run: Run, measurement: str, doses: list[float], apart: float = 0.045) -> None:
    """Scales, ticks at the doses, and what is measured above the panel, where it is read without turning the head."""
    if is_hit(run.spec.measurements[measurement]):
        percent(axes)
    dose_axis(axes, doses, apart)
    axes.set_title(measurement_label(measurement, run.spec.measurements[measurement]), fontsize=9, color=MUTED)


def curve_plots(run: Run, focus: Focus) -> list[Plot]:
    """The plots over the focus condition's swept number, and those of other conditions that have controls."""
    condition, found = focus.condition, list[Plot | None]()
    axes = number_axes(run, condition)
    if condition is not None and axes and measured(run, condition, focus.measurement):
        views = (dose_response, effect_and_cost, all_measurements, by_group)
        found = [view(run, focus, condition, axes[0]) for view in views]
        found.append(side_by_side(run, focus, axes[0]))
    judged = judged_prompts(run, focus)
    for name, other in run.spec.conditions.items():
        swept = number_axes(run, name)
        if name != condition and swept and other.controls and measured(judged, name, focus.measurement):
            found.append(dose_response(run, focus, name, swept[0]))
    return [plot for plot in found if plot is not None]


def further_headline(run: Run, focus: Focus) -> Plot | None:
    """The dose-response of another headline than the first."""
    axes = number_axes(run, focus.condition)
    if focus.condition is None or not axes or not measured(run, focus.condition, focus.measurement):
        return None
    return dose_response(run, focus, focus.condition, axes[0], f"dose-response-{focus.measurement}")
