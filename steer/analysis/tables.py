"""A run folder as tables: read with checksums, joined, and selected from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
from pydantic import ValidationError

from steer.errors import ResultsError
from steer.execution.manifest import read_manifest as manifest_of
from steer.execution.manifest import read_output
from steer.experiment.spec import ExperimentSpec

Wanted = str | int | float | bool | tuple[Any, ...] | list[Any]


@dataclass(frozen=True)
class Run:
    """A finished run: what was asked, and its measurements with the prompts' columns beside them.

    `measurements` has one row per trial and measurement: `trial_id, prompt_id, condition, control, control_index,
    <axes>, seed, measurement, baseline, intervened, effect, <columns>`. The larger tables are read when wanted.
    """

    folder: Path
    manifest: Mapping[str, Any]
    spec: ExperimentSpec
    axes: tuple[str, ...]
    columns: tuple[str, ...]
    prompts: pd.DataFrame
    measurements: pd.DataFrame

    def table(self, name: str) -> pd.DataFrame:
        """Another of the run's tables (`trials`, `edits`, `completions`, `logit_shifts`)."""
        return read_table(self.folder, name)


def read_run(folder: Path) -> Run:
    """The manifest and the measurements of a run folder; raises `ResultsError` saying what cannot be read."""
    manifest = read_manifest(folder)
    columns = tuple(manifest["columns"])
    prompts = read_table(folder, "prompts")
    measurements = read_table(folder, "measurements")
    joined = measurements.merge(prompts[["prompt_id", *columns]], on="prompt_id", how="left", validate="many_to_one")
    return Run(folder, manifest, _spec(folder, manifest), tuple(manifest["axes"]), columns, prompts, joined)


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """`manifest.json` of a run folder."""
    manifest = manifest_of(folder)
    missing = [key for key in ("experiment", "axes", "columns") if key not in manifest]
    if missing:
        raise ResultsError(f"{folder / 'manifest.json'}: the manifest has no {', '.join(missing)}")
    return manifest


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """A Parquet table of the folder; one that is not what the run wrote is an error, never a wrong number."""
    content = read_output(folder, f"{name}.parquet")
    try:
        return parquet.read_table(pa.BufferReader(content), page_checksum_verification=True).to_pandas()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ResultsError(f"{folder / name}.parquet: damaged: {error}", exit_code=3) from error


def _spec(folder: Path, manifest: Mapping[str, Any]) -> ExperimentSpec:
    try:
        return ExperimentSpec.model_validate(manifest["experiment"])
    except ValidationError as error:
        raise ResultsError(f"{folder / 'manifest.json'}: the experiment in it cannot be read: {error}") from error


def select(frame: pd.DataFrame, where: Mapping[str, Wanted]) -> pd.DataFrame:
    """The rows in which every named column has the wanted value, or one of the wanted values."""
    keep = np.ones(len(frame), bool)
    for column, wanted in where.items():
        keep &= matches(frame[column], wanted)
    return frame[keep]


def matches(values: pd.Series, wanted: Wanted) -> np.ndarray:
    """Which cells are wanted. A column of numbers compares numbers, any other compares the text as written."""
    options = wanted if isinstance(wanted, (tuple, list)) else (wanted,)
    if pd.api.types.is_bool_dtype(values) or not pd.api.types.is_numeric_dtype(values):
        codes, present = pd.factorize(values)  # text is compared once per different value, not once per row
        wanted_texts = {cell_text(option) for option in options}
        found: np.ndarray = np.array([*(cell_text(value) in wanted_texts for value in present), False])[codes]
        return found
    numbers = [number for number in map(_number, options) if number is not None]
    close = np.isclose(values.to_numpy(float)[:, None], np.array(numbers, float)[None, :], atol=1e-12)
    return np.asarray(close.any(axis=1))


def as_column(values: pd.Series, wanted: Wanted) -> Wanted:
    """A wanted value as its column holds it: the file's text `5` is the number 5 in a column of numbers."""
    if isinstance(wanted, (tuple, list)):
        return [as_column(values, option) for option in wanted]
    number = _number(wanted) if pd.api.types.is_numeric_dtype(values) else None
    return wanted if number is None else number


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def group_names(frame: pd.DataFrame, by: tuple[str, ...]) -> pd.Series:
    """The values of several columns as one text per row, `travel, long`; empty without columns."""
    if not by:
        return pd.Series("", frame.index)
    first, *rest = (frame[column].map(cell_text) for column in by)
    return first.str.cat(rest, sep=", ") if rest else first


def cell_text(value: Any) -> str:
    """A value as it is written in a file: `true`, `5`, `0.5`, ` bridge`; nothing for an empty cell."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:g}"
    return "" if value is None or value is pd.NA else str(value)


def sweep_order(values: pd.Series, written: object = ()) -> list[Any]:
    """The different values of an axis: numbers ascending, anything else in the order the file writes it."""
    present = list(values.dropna().unique())
    if pd.api.types.is_numeric_dtype(values):
        return sorted(float(value) for value in present)
    order = [cell_text(value) for value in written] if isinstance(written, (tuple, list)) else []
    places = {text: place for place, text in reversed(list(enumerate(order)))}
    return sorted(present, key=lambda value: places.get(cell_text(value), len(order)))


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV that a spreadsheet does not take for formulas: text that starts like one gets a quote.

    A carriage return in a cell is written as `\\r`: readers do not agree on whether it ends the row.
    """
    return str(frame.map(_without_formula).to_csv(index=False, lineterminator="\n", float_format="%.9g"))


def _without_formula(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell:
        return cell
    return ("'" if cell[0] in "=+-@\t\r" else "") + cell.replace("\r", "\\r")
