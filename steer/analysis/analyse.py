"""A run folder's tables become its summary, choices and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from steer.analysis.choices import choices_table, choose_all
from steer.analysis.expectations import Verdict, judge_all, verdicts_json
from steer.analysis.junit import junit
from steer.analysis.snapshots import read_snapshot, recorded_bounds, snapshot_path
from steer.analysis.summary import summarise
from steer.analysis.tables import Run, csv_text, read_run
from steer.files import write_atomic


@dataclass(frozen=True)
class Analysis:
    """What a run shows: the rows of `summary.csv` and `choices.csv`, and the verdicts in the order of the file."""

    summary: pd.DataFrame
    choices: pd.DataFrame
    verdicts: tuple[Verdict, ...]


def analyse(run: Path, lines: Mapping[str, int] | None = None) -> Analysis:
    """Analyse a run folder and write `summary.csv, choices.csv, expectations.json, junit.xml` into it.

    Needs the folder only: no model, no experiment file (`lines`, where expectations stand in it, is for the JUnit
    file). Raises `ResultsError` for a folder that cannot be read or written.
    """
    data = read_run(run)
    choices = choose_all(data)
    verdicts = judge_all(data, choices, _snapshot(data))
    analysis = Analysis(summarise(data), choices_table(choices), verdicts)
    source = data.manifest.get("experiment_path")
    write_atomic(run / "summary.csv", csv_text(analysis.summary))
    write_atomic(run / "choices.csv", csv_text(analysis.choices))
    write_atomic(run / "expectations.json", verdicts_json(verdicts))
    write_atomic(run / "junit.xml", junit(data.spec.name, verdicts, source, lines))
    return analysis


def _snapshot(run: Run) -> Mapping[str, float]:
    """The recorded values beside the YAML, or where that is out of reach those this run was judged against before."""
    source = run.manifest.get("experiment_path")
    beside = read_snapshot(snapshot_path(Path(source))) if source else {}
    return {**recorded_bounds(run.folder / "expectations.json"), **beside}
