"""A run folder's tables become its summary, choices and verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from steer.analysis.choices import choices_table, choose_all
from steer.analysis.expectations import Verdict, verdicts_json
from steer.analysis.junit import junit
from steer.analysis.recording import judge_again, judge_and_record
from steer.analysis.snapshots import Update
from steer.analysis.summary import summarise
from steer.analysis.tables import csv_text, read_run
from steer.files import write_atomic


@dataclass(frozen=True)
class Analysis:
    """What a run shows: the rows of `summary.csv` and `choices.csv`, and the verdicts in the order of the file.

    `notes` are lines for the terminal, `recorded` is for the manifest: what became of the values beside the YAML.
    """

    summary: pd.DataFrame
    choices: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    recorded: Mapping[str, Any] = field(default_factory=dict)


def analyse(run: Path, lines: Mapping[str, int] | None = None, update: Update | None = None) -> Analysis:
    """Analyse a run folder and write `summary.csv, choices.csv, expectations.json, junit.xml` into it.

    Needs the folder only: no model, no experiment file (`lines`, where expectations stand in it, is for the JUnit
    file). With `update` the run has just finished and may record values beside its experiment. Raises `ResultsError`
    for what cannot be read or written.
    """
    data = read_run(run)
    choices = choose_all(data)
    judged = judge_again(data, choices) if update is None else judge_and_record(data, choices, update)
    analysis = Analysis(summarise(data), choices_table(choices), judged.verdicts, judged.notes, judged.recorded)
    source = data.manifest.get("experiment_path")
    write_atomic(run / "summary.csv", csv_text(analysis.summary))
    write_atomic(run / "choices.csv", csv_text(analysis.choices))
    write_atomic(run / "expectations.json", verdicts_json(analysis.verdicts))
    write_atomic(run / "junit.xml", junit(data.spec.name, analysis.verdicts, source, lines))
    return analysis
