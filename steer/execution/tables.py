"""The journal becomes the run's six tables, streamed in plan order, so that memory does not grow with the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from steer.execution.journal import Journal
from steer.execution.outcome import Outcome
from steer.experiment.axes import text
from steer.experiment.trial import Plan, Trial
from steer.files import replacing
from steer.model.tokens import Encoded, Tokens

CHUNK = 1_000  # trials whose rows are held at a time
Row = tuple[Any, ...]
Rows = list[Row]
"""Cells in the order of the table's columns."""
Axes = Mapping[str, pa.DataType]
"""The sweep axes and what their columns hold."""

EDITS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("intervention", pa.int32()),
        ("layer", pa.int32()),
        ("index", pa.int32()),
        ("position", pa.int32()),
        ("before", pa.float64()),
        ("after", pa.float64()),
        ("relative_norm", pa.float64()),
    ]
)
COMPLETIONS = [(name, pa.string()) for name in ("prompt", "baseline_text", "intervened_text", "stop_reason")]
SHIFTS = [
    ("position", pa.int32()),
    ("token_id", pa.int32()),
    ("token", pa.string()),
    ("baseline_logit", pa.float64()),
    ("intervened_logit", pa.float64()),
    ("shift", pa.float64()),
    ("baseline_prob", pa.float64()),
    ("intervened_prob", pa.float64()),
    ("baseline_rank", pa.int32()),
    ("intervened_rank", pa.int32()),
]
MEASUREMENTS = [("measurement", pa.string())] + [(n, pa.float64()) for n in ("baseline", "intervened", "effect")]


@dataclass
class _Writer:
    """A Parquet file under way, with a checksum on every page."""

    file: parquet.ParquetWriter
    rows: int = 0

    def write(self, rows: Rows) -> None:
        if rows:
            schema = self.file.schema
            columns = [
                pa.array(cells, field.type) for cells, field in zip(zip(*rows, strict=True), schema, strict=True)
            ]
            self.file.write_table(pa.Table.from_arrays(columns, schema=schema))
            self.rows += len(rows)


@contextmanager
def _writer(path: Path, schema: pa.Schema) -> Iterator[_Writer]:
    with replacing(path) as stream:
        options = {"compression": "zstd", "write_page_checksum": True, "store_schema": False}
        file = parquet.ParquetWriter(stream, schema, **options)
        try:
            yield _Writer(file)
            file.close()
        except BaseException:
            stream.abandoned = True  # the writer's destructor tries once more to end the file
            raise
        finally:
            file.is_open = False


def write_tables(
    folder: Path, plan: Plan, journal: Journal, encoded: Mapping[str, Encoded], tokens: Tokens
) -> dict[str, int]:
    """Write all six tables of a run and give back their row counts; ResultsError (exit code 3) if the disk refuses."""
    axes = {axis: _axis_type(axis, plan.trials) for axis in plan.axes}
    with ExitStack() as open_files:
        writers = {
            name: open_files.enter_context(_writer(folder / f"{name}.parquet", schema))
            for name, schema in _schemas(plan, axes).items()
        }
        writers["prompts"].write([_prompt(prompt, encoded[prompt.id], tokens, plan) for prompt in plan.prompts])
        baselines: dict[tuple[str, int], str] = {}
        for chunk in _chunks(_outcomes(plan, journal)):
            for name, rows in _rows(chunk, axes, baselines, tokens).items():
                writers[name].write(rows)
    return {name: writer.rows for name, writer in writers.items()}


def _outcomes(plan: Plan, journal: Journal) -> Iterator[tuple[Trial, Outcome]]:
    """Every trial that is in the journal; failed ones are not, as nothing was measured."""
    done = [trial for trial in plan.trials if trial.id in journal.entries]
    records = journal.read_all(trial.id for trial in done)
    for trial, record in zip(done, records, strict=True):
        outcome = Outcome.of(record)
        if outcome.status == "ok":
            yield trial, outcome


def _chunks(outcomes: Iterator[tuple[Trial, Outcome]]) -> Iterator[list[tuple[Trial, Outcome]]]:
    while chunk := list(islice(outcomes, CHUNK)):
        yield chunk


def _schemas(plan: Plan, axes: Axes) -> dict[str, pa.Schema]:
    identity = [(name, pa.string()) for name in ("trial_id", "prompt_id", "condition", "control")]
    identity += [("control_index", pa.int32())]
    identity += [*axes.items(), ("seed", pa.int64())]
    prompts = [("prompt_id", pa.string()), ("text", pa.string())]
    prompts += [("tokens", pa.list_(pa.string())), ("token_ids", pa.list_(pa.int32()))]
    return {
        "trials": pa.schema([*identity, ("applied", pa.int64()), ("relative_norm", pa.float64())]),
        "prompts": pa.schema([*prompts, *((column, pa.string()) for column in plan.columns)]),
        "edits": EDITS,
        "completions": pa.schema(identity + COMPLETIONS),
        "logit_shifts": pa.schema(identity + SHIFTS),
        "measurements": pa.schema(identity + MEASUREMENTS),
    }


def _axis_type(axis: str, trials: Iterable[Trial]) -> pa.DataType:
    """Numbers where every value is one; numbers among words (`[-1, generated]`) are written as they are shown."""
    kinds = {type(trial.point[axis]) for trial in trials if axis in trial.point}
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def _prompt(prompt: Any, encoded: Encoded, tokens: Tokens, plan: Plan) -> Row:
    columns = (prompt.columns.get(column) for column in plan.columns)
    return (prompt.id, prompt.text, [tokens.token(id) for id in encoded.ids], list(encoded.ids), *columns)


def _rows(
    chunk: Sequence[tuple[Trial, Outcome]], axes: Axes, baselines: dict[tuple[str, int], str], tokens: Tokens
) -> dict[str, Rows]:
    tables: dict[str, Rows] = {name: [] for name in ("trials", "edits", "completions", "logit_shifts", "measurements")}
    for trial, outcome in chunk:
        identity, done = _identity(trial, axes), outcome.applied
        tables["trials"].append((*identity, done.pairs, done.relative_norm))
        tables["edits"] += [(trial.id, *edit) for edit in done.edits]
        tables["completions"] += _completion(trial, outcome, identity, baselines)
        tables["logit_shifts"] += _shifts(outcome, identity, tokens)
        tables["measurements"] += _measurements(outcome, identity)
    return tables


def _identity(trial: Trial, axes: Axes) -> Row:
    cells = (_cell(trial, axis, type_) for axis, type_ in axes.items())
    names = (trial.id, trial.prompt.id, trial.condition, trial.control, trial.control_index)
    return (*names, *cells, trial.seed)


def _cell(trial: Trial, axis: str, type_: pa.DataType) -> Any:
    value = trial.point.get(axis)
    return text(value) if value is not None and type_ == pa.string() else value


def _completion(trial: Trial, outcome: Outcome, identity: Row, baselines: dict[tuple[str, int], str]) -> Rows:
    if outcome.completion is None:
        return []
    where, said = (trial.prompt.id, trial.seed), outcome.completion
    if trial.condition == "baseline":
        baselines[where] = said.text
    return [(*identity, trial.prompt.text, baselines.get(where), said.text, said.stop_reason)]


def _shifts(outcome: Outcome, identity: Row, tokens: Tokens) -> Iterator[Row]:
    for position, shift in outcome.shifts:
        yield (*identity, position, shift.token_id, tokens.token(shift.token_id), *shift[1:])


def _measurements(outcome: Outcome, identity: Row) -> Iterator[Row]:
    for name, (baseline, intervened) in outcome.values.items():
        effect = None if baseline is None or intervened is None else intervened - baseline
        yield (*identity, name, baseline, intervened, effect)
