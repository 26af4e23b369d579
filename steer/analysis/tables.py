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
from steer.execution.manifest import SCHEMA, read_output
from steer.execution.manifest import read_manifest as manifest_of
from steer.experiment.axes import NUMBER, shown, text
from steer.experiment.spec import ExperimentSpec

Wanted = str | int | float | bool | tuple[Any, ...] | list[Any]

KINDS: Mapping[str, type] = {"experiment": dict, "axes": list, "columns": list, "experiment_path": str}
"""What a manifest says as what; the last need not be there."""
TRIAL = ("trial_id", "prompt_id", "condition", "control", "control_index", "seed")
NUMBERS = ("baseline", "intervened", "effect")
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "trials": TRIAL,
    "prompts": ("prompt_id", "text"),
    "edits": ("trial_id",),
    "completions": (*TRIAL, "prompt", "baseline_text", "intervened_text"),
    "logit_shifts": (*TRIAL, "token", "shift"),
    "measurements": (*TRIAL, "measurement", *NUMBERS),
}
KEYS = {"trials": ["trial_id"], "prompts": ["prompt_id"], "completions": ["trial_id"],
        "measurements": ["trial_id", "measurement"]}  # fmt: skip
"""What no two rows of a table share."""


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
        return _table(self.folder, name, () if name in ("edits", "prompts") else self.axes)


def read_run(folder: Path) -> Run:
    """The manifest and the measurements of a run folder; raises `ResultsError` saying what cannot be read."""
    manifest = read_manifest(folder)
    columns = tuple(manifest["columns"])
    prompts = _table(folder, "prompts", columns)
    measurements = _table(folder, "measurements", tuple(manifest["axes"]))
    joined = measurements.merge(prompts[["prompt_id", *columns]], on="prompt_id", how="left", validate="many_to_one")
    return Run(folder, manifest, _spec(folder, manifest), tuple(manifest["axes"]), columns, prompts, joined)


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """`manifest.json` of a run folder."""
    manifest = manifest_of(folder)
    _readable(folder, manifest)
    missing = [key for key in ("experiment", "axes", "columns") if key not in manifest]
    if missing:
        raise ResultsError(f"{folder / 'manifest.json'}: the manifest has no {', '.join(missing)}")
    wrong = [key for key, kind in KINDS.items() if not isinstance(manifest.get(key, kind()), kind)]
    if wrong or not all(isinstance(name, str) for name in (*manifest["axes"], *manifest["columns"])):
        keys = ", ".join(wrong or ("axes", "columns"))
        raise ResultsError(f"{folder / 'manifest.json'}: not the manifest of a run: look at its {keys}")
    return manifest


def _readable(folder: Path, manifest: Mapping[str, Any]) -> None:
    """ResultsError for a run of another layout, and for one that has no tables yet."""
    status, schema = manifest.get("status"), manifest.get("schema", SCHEMA)
    if schema != SCHEMA:
        told = f"a run of schema {schema}; this version of steer reads schema {SCHEMA}"
        raise ResultsError(f"{folder / 'manifest.json'}: {told}")
    if status in ("started", "interrupted") and not (folder / "measurements.parquet").exists():
        raise ResultsError(
            f"{folder}: no tables yet (status {status}); the command that began this run goes on with it"
        )


def _table(folder: Path, name: str, more: tuple[str, ...]) -> pd.DataFrame:
    """A table with the columns that a run's has, and no row twice; ResultsError for what is not one."""
    frame, path = read_table(folder, name), folder / f"{name}.parquet"
    lacking = [column for column in (*COLUMNS[name], *more) if column not in frame]
    if lacking:
        raise ResultsError(f"{path}: not the {name} of a run: it has no column {', '.join(lacking)}")
    text = [number for number in NUMBERS if number in frame and not pd.api.types.is_numeric_dtype(frame[number])]
    if text:
        raise ResultsError(f"{path}: not the {name} of a run: {', '.join(text)} should be numbers")
    if name in KEYS and frame.duplicated(KEYS[name]).any():
        raise ResultsError(f"{path}: not the {name} of a run: {' and '.join(KEYS[name])} of some rows are the same")
    return frame


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
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        why = f"the experiment in it cannot be read, which another version of steer may have written: {said}"
        raise ResultsError(f"{folder / 'manifest.json'}: {why}") from error


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


def as_columns(run: Run, where: Mapping[str, Wanted]) -> dict[str, Wanted]:
    """A `where` with its sweep values as the run's columns hold them."""
    return {
        key: as_column(run.measurements[key], wanted) if key in run.axes else wanted for key, wanted in where.items()
    }


def as_column(values: pd.Series, wanted: Wanted) -> Wanted:
    """A sweep value as its column holds it: the file's text `5.0` is the number 5, and `5` where there are words."""
    if isinstance(wanted, (tuple, list)):
        return [as_column(values, option) for option in wanted]
    if not pd.api.types.is_numeric_dtype(values):
        return text(shown(wanted))
    number = _number(wanted)
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
    order = [text(shown(value)) for value in written] if isinstance(written, (tuple, list)) else []
    places = {value: place for place, value in reversed(list(enumerate(order)))}
    return sorted(present, key=lambda value: places.get(cell_text(value), len(order)))


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV that a spreadsheet does not take for formulas: text that starts like one gets a quote.

    A negative number among words (`-1`, a sweep value) is no formula and stays as it is.

    A carriage return in a cell is written as `\\r`: readers do not agree on whether it ends the row. A NUL is written
    as `\\0`: Python's own csv can neither write nor read one before 3.11.
    """
    return str(frame.map(_without_formula).to_csv(index=False, lineterminator="\n", float_format="%.9g"))


def _without_formula(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell:
        return cell
    formula = cell[0] in "=+@\t\r" or (cell[0] == "-" and not NUMBER.fullmatch(cell))
    return ("'" if formula else "") + cell.replace("\r", "\\r").replace("\0", "\\0")
