"""Plots with one row per thing compared: conditions beside their controls, and the values of a swept axis, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from steer.analysis.summary import Cells, cells, effect_intervals, is_hit, value_intervals
from steer.analysis.tables import Run, cell_text, group_names, select, sweep_order
from steer.experiment import spec
from steer.report.figure import INK, MUTED, RANDOM, TARGET, Plot, legend_below, new_figure, titled
from steer.report.focus import Focus, at, judged_prompts, measured, number_axes, prompts_text, used_axes
from steer.report.visible import shortened
from steer.report.wording import CONTROLS, measurement_label


def conditions_plot(run: Run, focus: Focus) -> Plot | None:
    """Baseline, every condition and its controls, side by side; None where one swept condition is all there is."""
    names = [
        name
        for name in run.spec.conditions
        if set(used_axes(run, name)) <= set(focus.point) and measured(run, name, focus.measurement)
    ]
    if not names or (len(names) < 2 and (number_axes(run, names[0]) or word_axes(run, names[0]))):
        return None
    own = [column for condition in run.spec.conditions.values() for column in condition.where]
    panels = _panels(judged_prompts(run, focus, but=[*run.spec.group_by, *own]), focus)
    data = [_rows(part, focus, names, measurement) for _, part, measurement in panels]
    order = list(dict.fromkeys(key for rows in data for key in rows.index))
    figure = new_figure(3.4 * len(panels) + 1.6, 0.34 * len(order) + 2.0)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True, gridspec_kw={"wspace": 0.07})[0]
    for panel, (title, part, measurement), rows in zip(axes, panels, data, strict=True):
        _draw_rows(panel, rows, order)
        panel.set_title(title, fontsize=9)
        if is_hit(part.spec.measurements[measurement]):
            panel.set_xlim(-0.04, 1.04)
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _label_rows(axes[0], order)
    legend_below(figure, _row_legend(data))
    text = "A dot is the mean over prompts with its 95 % interval; a diamond is the same prompts without intervention."
    return titled(figure, f"What do the conditions do to ‘{focus.measurement}’{at(focus)}?", text, "conditions")


def _panels(run: Run, focus: Focus) -> list[tuple[str, Run, str]]:
    """A panel per group where the file groups prompts, else one per measurement that is judged (four at most)."""
    by = run.spec.group_by
    if by:
        names = group_names(run.measurements, by)
        parts = {
            name: replace(run, measurements=run.measurements[names == name]) for name in sorted(names.unique())[:4]
        }
        return [(shortened(name), part, focus.measurement) for name, part in parts.items()]
    judged = [expectation.measurement for expectation in run.spec.expectations]
    found = list(dict.fromkeys([focus.measurement, *judged]))[:4]
    return [(measurement_label(name, run.spec.measurements[name]), run, name) for name in found]


def _rows(run: Run, focus: Focus, names: Sequence[str], measurement: str) -> pd.DataFrame:
    """Means, intervals and draws of every condition at the focus, a row per (condition, control)."""
    wanted = run.measurements[run.measurements["measurement"] == measurement]
    parts = [select(wanted, {"condition": n, **{a: focus.point[a] for a in used_axes(run, n)}}) for n in names]
    part = replace(run, measurements=pd.concat(parts))
    data = cells(part, ())
    means = data.keys.join(data.prompts.groupby("cell")[["baseline", "intervened"]].mean())
    means = means.join(value_intervals(part, data)).join(_draw_means(data))
    means["rank"] = [names.index(name) for name in means["condition"]]
    means["place"] = [list(CONTROLS).index(control) for control in means["control"]]
    means = means.sort_values(["rank", "place"])
    return means.set_index(["condition", "control"])


def _draw_means(data: Cells) -> pd.Series:
    means = data.draws.groupby(["cell", "control_index"])["intervened"].mean()
    return means.groupby("cell").agg(list).rename("draws")


def _draw_rows(axes: Axes, rows: pd.DataFrame, order: list[tuple[str, str]]) -> None:
    for key, row in rows.iterrows():
        y = order.index(key)
        colour = TARGET if key[1] == "none" else RANDOM
        axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=colour, linewidth=2, alpha=0.6)
        if len(row["draws"]) > 1:
            axes.scatter(row["draws"], np.full(len(row["draws"]), y), s=9, color=RANDOM, alpha=0.4, linewidth=0)
        axes.plot(row["intervened"], y, "o" if key[1] == "none" else "s", color=colour, markersize=7, zorder=4)
        axes.plot(row["baseline"], y, "D", color=INK, fillstyle="none", markersize=6, zorder=3)
    axes.grid(False, axis="y")


def _label_rows(axes: Axes, order: list[tuple[str, str]]) -> None:
    labels = [shortened(name, 32) if control == "none" else f"   {CONTROLS[control]}" for name, control in order]
    axes.set_yticks(range(len(order)), labels=labels)
    axes.set_ylim(len(order) - 0.4, -0.6)
    for label, (_, control) in zip(axes.get_yticklabels(), order, strict=True):
        label.set_color(INK if control == "none" else MUTED)
        label.set_fontsize(10 if control == "none" else 8.5)


def _row_legend(data: list[pd.DataFrame]) -> list[Line2D]:
    controls = any(control != "none" for rows in data for _, control in rows.index)
    found = [
        Line2D([], [], color=INK, marker="D", fillstyle="none", linestyle="none", label="baseline, the same prompts"),
        Line2D([], [], color=TARGET, marker="o", linewidth=2, label="with the intervention"),
    ]
    return [*found, *([Line2D([], [], color=RANDOM, marker="s", linewidth=2, label="control")] if controls else [])]


# --- the values of an axis ----------------------------------------------------------------------------------------


def word_axes(run: Run, condition: str) -> tuple[str, ...]:
    """Axes of a condition that are not numbers, or are a group's features one by one."""
    axes = used_axes(run, condition)
    return tuple(a for a in axes if is_screen(run, a) or not pd.api.types.is_numeric_dtype(run.measurements[a]))


def is_screen(run: Run, axis: str) -> bool:
    """Whether an axis goes through a group's features one by one."""
    return isinstance(run.spec.sweep.get(axis), spec.Each)


SHOWN = 24


def ranked_bars(run: Run, focus: Focus, condition: str, axis: str) -> Plot:
    """The mean effect of each value of an axis; features are ranked, other axes keep the order of the file."""
    run = judged_prompts(run, focus)
    point = {a: focus.point[a] for a in used_axes(run, condition) if a != axis and a in focus.point}
    rows = select(run.measurements, {"condition": condition, **point})
    part = replace(run, measurements=rows[rows["measurement"] == focus.measurement])
    data = cells(part, ())
    table = data.keys.join(data.prompts.groupby("cell")["effect"].mean()).join(effect_intervals(part, data))
    draws = data.keys.join(data.draws.groupby(["cell", "control_index"])["effect"].mean().reset_index(1), how="right")
    bars = _order(run, axis, table[table["control"] == "none"])
    shown = bars[:SHOWN]
    figure = new_figure(7.2, 0.28 * len(shown) + 1.7)
    axes = figure.add_subplot()
    _draw_bars(axes, shown, draws[draws["control"] == "random_features"], axis)
    axes.set_yticks(range(len(shown)), labels=[_feature_label(run, value) for value in shown[axis]], fontsize=8.5)
    said = measurement_label(focus.measurement, run.spec.measurements[focus.measurement]).replace("\n", " ")
    axes.set_xlabel(f"change of: {said}", fontsize=9)
    cut = f" The first {SHOWN} of {len(bars)}." if len(bars) > SHOWN else ""
    grey = "; grey points are random features" if len(draws[draws["control"] == "random_features"]) else ""
    text = f"Mean effect over {prompts_text(run, focus)} with its 95 % interval{grey}.{cut}"
    return titled(figure, f"Which {axis} changes ‘{focus.measurement}’ most{at(focus, axis)}?", text, f"ranked-{axis}")


def _order(run: Run, axis: str, bars: pd.DataFrame) -> pd.DataFrame:
    if is_screen(run, axis):
        return bars.sort_values("effect", ascending=False, key=abs, kind="stable")
    order = sweep_order(bars[axis], run.spec.sweep.get(axis, ()))
    return bars.iloc[np.argsort([order.index(value) for value in bars[axis]], kind="stable")]


def _draw_bars(axes: Axes, bars: pd.DataFrame, draws: pd.DataFrame, axis: str) -> None:
    places = np.arange(len(bars))
    axes.barh(places, bars["effect"], color=TARGET, height=0.68)
    for y, (_, row) in zip(places, bars.iterrows(), strict=True):
        axes.plot([row["ci_low"], row["ci_high"]], [y, y], color=INK, linewidth=1.3)
        random = draws.loc[draws[axis] == row[axis], "effect"]
        axes.scatter(random, np.full(len(random), y), s=10, color=RANDOM, zorder=3, edgecolor="white", linewidth=0.3)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(False, axis="y")


def _feature_label(run: Run, value: object) -> str:
    """`0/411 “the words Golden Gate”` where the file gives a label, else the value as written."""
    groups = (group if isinstance(group, tuple) else (group,) for group in run.spec.features.values())
    labels = {m.id: m.label for group in groups for m in group if isinstance(m, spec.Member) and m.label}
    text = cell_text(value)
    return shortened(f"{text} “{labels[text]}”" if text in labels else text, 44)


def bar_plots(run: Run, focus: Focus) -> list[Plot]:
    """The ranked bars of the focus condition."""
    if focus.condition is None or not measured(run, focus.condition, focus.measurement):
        return []
    return [ranked_bars(run, focus, focus.condition, axis) for axis in word_axes(run, focus.condition)]
