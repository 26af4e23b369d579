"""A number over two swept axes, or over a grid of prompts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from steer.analysis.summary import is_hit
from steer.analysis.tables import Run, cell_text, select, sweep_order
from steer.report.figure import INK, MUTED, Plot, new_figure, titled
from steer.report.focus import Focus, judged_prompts, prompts_text, used_axes
from steer.report.visible import shortened
from steer.report.wording import measurement_label

ANNOTATED = 80
"""So many cells have their number written in them."""


def swept_heat_map(run: Run, focus: Focus) -> Plot | None:
    """The mean effect over the two largest swept axes of the focus condition; None with fewer."""
    run = judged_prompts(run, focus)
    rows = run.measurements[run.measurements["measurement"] == focus.measurement]
    rows = select(rows, {"condition": focus.condition or "baseline", "control": "none"})
    axes = sorted(used_axes(run, focus.condition), key=lambda axis: -rows[axis].nunique())[:2]
    if len(axes) < 2 or min(rows[axis].nunique() for axis in axes) < 2:
        return None
    across, down = sorted(axes, key=list(run.axes).index)
    rows = select(rows, {axis: value for axis, value in focus.point.items() if axis not in axes})
    means = rows.groupby([down, across, "prompt_id"])["effect"].mean().groupby([down, across]).mean()
    orders = {axis: sweep_order(rows[axis], run.spec.sweep.get(axis, ())) for axis in axes}
    table = means.unstack(across).reindex(index=orders[down], columns=orders[across])
    if table.isna().all(axis=None):
        return None
    question = f"Where, over {across} and {down}, does ‘{focus.measurement}’ change?"
    text = f"Mean effect over {prompts_text(run, focus)}; the frame is the largest."
    return _drawn(run, focus.measurement, table, question, text, f"heat-map-{across}-{down}", diverging=True)


def grid_heat_maps(run: Run, focus: Focus) -> list[Plot]:
    """A heat map per measurement (four at most) over the two columns of a prompt grid."""
    grids = [tuple(entry.grid) for entry in run.spec.prompts if entry.grid and len(entry.grid) >= 2]
    if not grids:
        return []
    across, down = grids[0][:2]
    rows = select(run.measurements, focus.where).dropna(subset=[across, down, "intervened"])
    names = [name for name in run.spec.measurements if (rows["measurement"] == name).any()][:4]
    found = []
    for name in names:
        means = rows[rows["measurement"] == name].groupby([down, across])["intervened"].mean().unstack(across)
        table = means.reindex(index=_numeric_order(means.index), columns=_numeric_order(means.columns))
        question = f"How does ‘{name}’ depend on {across} and {down}?"
        text = f"A cell per prompt, {focus.condition or 'baseline'}; the frame is the largest."
        found.append(_drawn(run, name, table, question, text, f"grid-{name}", diverging=False))
    return found


def _numeric_order(values: pd.Index) -> list[str]:
    """Columns of prompts are text: numbers among them are put in their order."""
    return sorted(values, key=lambda text: (0, float(text), "") if _is_number(text) else (1, 0.0, str(text)))


def _is_number(text: object) -> bool:
    return str(text).lstrip("-").replace(".", "", 1).isdigit()


def _drawn(run: Run, name: str, table: pd.DataFrame, question: str, text: str, file: str, diverging: bool) -> Plot:
    rows, columns = table.shape
    figure = new_figure(min(9.5, max(5.5, 0.55 * columns + 2.6)), min(8.0, max(3.2, 0.4 * rows + 1.8)))
    axes = figure.add_subplot()
    label = measurement_label(name, run.spec.measurements[name]).replace("\n", " ")
    rate = is_hit(run.spec.measurements[name])
    _draw_image(figure, axes, table, f"change of: {label}" if diverging else label, diverging, rate)
    if rows * columns <= ANNOTATED:
        _write_numbers(axes, table, rate)
    _ring_largest(axes, table)
    return titled(figure, question, text, file)


def _draw_image(figure: Figure, axes: Axes, table: pd.DataFrame, label: str, diverging: bool, rate: bool) -> None:
    values = table.to_numpy(float)
    reach = float(np.nanmax(np.abs(values))) or 1.0
    limits = {"vmin": -reach, "vmax": reach, "cmap": "RdBu_r"} if diverging else {"cmap": "cividis"}
    image = axes.imshow(values, aspect="auto", origin="lower", interpolation="nearest", **limits)
    axes.grid(False)
    axes.set_xlabel(str(table.columns.name))
    axes.set_ylabel(str(table.index.name))
    axes.set_xticks(*_ticks(table.columns), rotation=0 if _short(table.columns) else 40, fontsize=8.5)
    axes.set_yticks(*_ticks(table.index), fontsize=8.5)
    axes.set_title(label, fontsize=9, color=MUTED)
    bar = figure.colorbar(
        image, ax=axes, shrink=0.9, pad=0.02, format=(lambda value, _: f"{value:.0%}") if rate else None
    )
    bar.outline.set_visible(False)


def _ticks(values: pd.Index) -> tuple[list[int], list[str]]:
    """At most about 20 labels."""
    step = max(1, -(-len(values) // 20))
    places = list(range(0, len(values), step))
    return places, [shortened(cell_text(values[place]), 16) for place in places]


def _short(values: pd.Index) -> bool:
    return max(len(text) for text in _ticks(values)[1]) <= 4


def _write_numbers(axes: Axes, table: pd.DataFrame, rate: bool) -> None:
    values = table.to_numpy(float)
    middle = np.nanmax(np.abs(values)) * 0.6
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        text = f"{value:.0%}" if rate else f"{value:.2g}"
        colour = "white" if abs(value) > middle else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)


def _ring_largest(axes: Axes, table: pd.DataFrame) -> None:
    values = np.abs(table.to_numpy(float))
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2.2, zorder=5))
