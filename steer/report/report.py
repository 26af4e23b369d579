"""A run folder becomes plots and a page."""

from __future__ import annotations

from pathlib import Path

from steer.analysis.analyse import Analysis
from steer.analysis.tables import read_run
from steer.files import write_atomic
from steer.report.examples import examples, goal_is_less
from steer.report.focus import find_focuses
from steer.report.page import page
from steer.report.plots import draw, save


def report(run: Path, analysis: Analysis) -> Path:
    """Write `plots/` and `report.html` into a run folder and return the path of the page.

    Needs the folder only: no model, no experiment file, no network. Raises `ResultsError`.
    """
    data = read_run(run)
    focuses = find_focuses(data, analysis)
    focus, plots = focuses[0], draw(data, focuses)
    save(plots, run / "plots")
    shown = examples(data, focus, goal_is_less(data, focus))
    path = run / "report.html"
    write_atomic(path, page(data, analysis, focuses, plots, shown))
    return path
