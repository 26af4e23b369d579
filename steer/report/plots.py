"""Which plots a run's data allow, the ones that answer the question first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steer.analysis.tables import Run
from steer.files import make_folder, write_atomic
from steer.report.comparison import bar_plots, conditions_plot
from steer.report.dose_response import curve_plots, further_headline
from steer.report.figure import Plot, styled
from steer.report.focus import Focus
from steer.report.heat_map import grid_heat_maps, swept_heat_map
from steer.report.shifts import shift_plot


def draw(run: Run, focuses: Sequence[Focus]) -> tuple[Plot, ...]:
    """All plots of a run, one of each headline first; an experiment without measurements has none."""
    focus = focuses[0]
    if not focus.measurement or run.measurements.empty:
        return ()
    with styled():
        found = [swept_heat_map(run, focus), *bar_plots(run, focus), *curve_plots(run, focus)]
        found += [conditions_plot(run, focus), _shifts(run, focus), *grid_heat_maps(run, focus)]
        further = [further_headline(run, other) for other in focuses[1:5]]
    main = [plot for plot in found if plot is not None]
    plots = [*main[:1], *(plot for plot in further if plot is not None), *main[1:]]
    names = [plot.name for plot in plots]
    return tuple(plot for place, plot in enumerate(plots) if plot.name not in names[:place])


def _shifts(run: Run, focus: Focus) -> Plot | None:
    recorded = (run.folder / "logit_shifts.parquet").is_file() and focus.condition is not None
    return shift_plot(run, focus, run.table("logit_shifts")) if recorded else None


def save(plots: Sequence[Plot], folder: Path) -> None:
    """Each plot as SVG and PNG; plots of an earlier report go."""
    make_folder(folder)
    for old in [*folder.glob("*.svg"), *folder.glob("*.png")]:
        old.unlink()
    for plot in plots:
        write_atomic(folder / f"{plot.name}.svg", plot.svg)
        write_atomic(folder / f"{plot.name}.png", plot.png)
