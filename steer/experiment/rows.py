"""Prompt entries -> rows: files read, grids expanded, every row with its columns."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from steer.experiment.paths import Refused, find
from steer.experiment.problems import Code, Place, Problem, listing, shown, suggestion
from steer.experiment.references import axis_range
from steer.experiment.source import Source, read_file
from steer.experiment.spec import NAME, ExperimentSpec, Message, PromptEntry

MAX_FILE_BYTES = 64_000_000
MAX_ROWS = 200_000
MAX_PROBLEMS = 10

FIELDS = ("id", "text", "messages", "template", "prefix")
ENTRY_FIELDS = tuple(PromptEntry.model_fields)
KINDS = ("text", "messages", "template")
# Names that result tables already have, or that a `where` means something else by.
RESERVED_COLUMNS = frozenset(
    ["prompt_id", "tokens", "token_ids", "trial_id", "condition", "control", "control_index", "seed", "experiment"]
    + ["measurement", "n", "baseline", "intervened", "effect", "ci_low", "ci_high", "p_value", "p_adjusted"]
)
RESERVED_AXES = RESERVED_COLUMNS | frozenset(
    ["text", "prompt", "applied", "relative_norm", "baseline_text", "intervened_text", "stop_reason", "position"]
    + ["token_id", "token", "baseline_logit", "intervened_logit", "shift", "baseline_prob", "intervened_prob"]
    + ["baseline_rank", "intervened_rank"]
)


@dataclass(frozen=True)
class PromptRow:
    """One prompt before it is rendered: exactly one of `text`, `messages` and `template` is set.

    `columns` are texts; an empty one means: no trial or measurement that needs it. `place` is where the row stands.
    """

    entry: int
    id: str | None = None
    text: str | None = None
    template: str | None = None
    messages: tuple[Message, ...] | None = None
    prefix: str | None = None
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    place: Place = field(default=Place(""), compare=False)

    @property
    def name(self) -> str:
        """How a message calls the row."""
        return f"prompt '{self.id}'" if self.id else f"the prompt of {self.place}"


@dataclass(frozen=True)
class Rows:
    """All rows of a file; `complete` unless some could not be read, so that nothing can be said to be missing."""

    rows: tuple[PromptRow, ...]
    problems: tuple[Problem, ...]
    complete: bool


@dataclass(frozen=True)
class _Line:
    """One row of a prompt file, or one point of a grid."""

    place: Place
    cells: Mapping[str, Any]


def prompt_rows(entries: Sequence[PromptEntry], source: Source, root: Path, broken: Container[Place] = ()) -> Rows:
    """The rows of every entry that is not broken; what is wrong with those was said before."""
    rows: list[PromptRow] = []
    problems: list[Problem] = []
    whole = [number for number in range(len(entries)) if source.place(("prompts", number)) not in broken]
    for number in whole:
        found, wrong = _entry_rows(number, entries[number], source, root)
        rows += found
        problems += wrong
    complete = not problems and len(whole) == len(entries)
    return Rows(tuple(rows), (*problems, *_repeated_ids(rows)), complete)


def texts_of(written: str, place: Place, source: Source, root: Path) -> tuple[tuple[str, ...], list[Problem]]:
    """The texts of a direction's prompt file."""
    lines, problems = _file(written, place, source.path.parent, root)
    empty = [line for line in lines if not isinstance(line.cells.get("text"), str)]
    problems += [Problem(line.place, "a row without 'text'", None, Code.PROMPT_FILE) for line in empty[:MAX_PROBLEMS]]
    return tuple(line.cells["text"] for line in lines if line not in empty), problems


def direction_problems(spec: ExperimentSpec, source: Source, root: Path) -> Iterator[Problem]:
    """The prompt files of every direction can be read and hold texts."""
    for name, direction in spec.directions.items():
        for key, prompts in (("positive", direction.positive), ("negative", direction.negative)):
            yield from texts_of(prompts.file, source.place(("directions", name, key, "file")), source, root)[1]


def _entry_rows(number: int, entry: PromptEntry, source: Source, root: Path) -> tuple[list[PromptRow], list[Problem]]:
    place = source.place(("prompts", number))
    columns, problems = _own_columns(entry, number, source)
    problems += _entry_problems(entry, place, source.place(("prompts", number, "id")))
    lines, wrong = _lines(number, entry, source, root)
    problems += wrong
    rows = []
    for line in lines:
        row, trouble = _row(PromptRow(number, columns=columns, place=line.place), entry, line)
        problems += trouble
        rows.append(row)
        if len(problems) > MAX_PROBLEMS:
            break
    return rows, problems


def _entry_problems(entry: PromptEntry, place: Place, id_place: Place) -> Iterator[Problem]:
    kinds = [kind for kind in KINDS if getattr(entry, kind) is not None]
    if entry.file is not None and entry.grid is not None:
        yield Problem(place, "a prompt entry has a file or a grid, not both", None, Code.PROMPT)
    if len(kinds) > 1:
        yield Problem(place, f"a prompt has one of {', '.join(KINDS)}; here are {listing(kinds)}", None, Code.PROMPT)
    if not kinds and entry.file is None:
        yield Problem(place, "a prompt needs text, messages, template or file", _meant(entry), Code.PROMPT)
    if entry.id is not None and (entry.file is not None or entry.grid is not None):
        help = "the rows of a file carry their own `id`; other prompts get one from their text"
        yield Problem(id_place, "an id is for one prompt", help, Code.PROMPT)


def _meant(entry: PromptEntry) -> str | None:
    extra = entry.model_extra or {}
    close = [(key, meant) for key in extra if (meant := suggestion(key, ENTRY_FIELDS))]
    return f"'{close[0][0]}' is a column here: did you mean '{close[0][1]}'?" if close else None


# --- columns --------------------------------------------------------------------------------------------------


def _own_columns(entry: PromptEntry, number: int, source: Source) -> tuple[dict[str, str], list[Problem]]:
    found: dict[str, str] = dict(entry.columns)
    problems = [p for key in entry.columns for p in _column_name(key, source.key(("prompts", number, "columns", key)))]
    for key, value in (entry.model_extra or {}).items():
        path = ("prompts", number, key)
        problems += _column_name(key, source.key(path))
        if isinstance(value, str) or value is None:
            found[key] = value or ""
        else:
            problems.append(_unknown_field(key, source.key(path)))
    return found, problems


def _unknown_field(key: str, place: Place) -> Problem:
    meant = suggestion(key, ENTRY_FIELDS)
    help = f"did you mean '{meant}'?" if meant else "every other key of a prompt is a column: one text"
    return Problem(place, f"column {shown(key)} should be text", help, Code.PROMPT)


def _column_name(name: str, place: Place) -> Iterator[Problem]:
    if name in RESERVED_COLUMNS or name in ENTRY_FIELDS:
        help = "the result tables have a column of this name: choose another"
        yield Problem(place, f"a column cannot be called {shown(name)}", help, Code.NAME_CLASH)
    elif not re.fullmatch(NAME, name):
        help = "letters, digits and _, so that '$name' and '{name}' can say it"
        yield Problem(place, f"{shown(name)} is no name for a column", help, Code.PROMPT)


# --- rows -----------------------------------------------------------------------------------------------------


def _lines(number: int, entry: PromptEntry, source: Source, root: Path) -> tuple[list[_Line], list[Problem]]:
    path = ("prompts", number)
    if entry.file is not None:
        return _file(entry.file, source.place((*path, "file")), source.path.parent, root)
    if entry.grid is not None:
        return _grid(entry.grid, number, source)
    return [_Line(source.place(path), {})], []


def _row(row: PromptRow, entry: PromptEntry, line: _Line) -> tuple[PromptRow, list[Problem]]:
    own = {key: getattr(entry, key) for key in FIELDS}
    given = {key: line.cells[key] for key in FIELDS if line.cells.get(key) not in (None, "")}
    problems = [_both(key, line.place) for key in given if own[key] is not None]
    fields, wrong = _fields({**own, **given}, line.place)
    cells = {key: value for key, value in line.cells.items() if key not in FIELDS}
    columns = {**row.columns, **{key: _text(value) for key, value in cells.items()}}
    problems += wrong + [problem for key, value in cells.items() for problem in _cell(key, value, line.place)]
    row = replace(row, columns=columns, **fields)
    return row, problems + (_one_kind(row) if entry.file is not None else [])


def _both(key: str, place: Place) -> Problem:
    return Problem(place, f"the row and its entry both say '{key}'", "keep one of them", Code.PROMPT_FILE)


def _fields(fields: dict[str, Any], place: Place) -> tuple[dict[str, Any], list[Problem]]:
    problems: list[Problem] = []
    if isinstance(fields["messages"], str | list):
        fields["messages"], problems = _messages(fields["messages"], place)
    problems += [_no_character(key, place) for key in FIELDS if _has_no_character(fields[key])]
    for key in ("id", "text", "template", "prefix"):
        if fields[key] is not None and not isinstance(fields[key], str):
            fields[key] = _text(fields[key]) if key == "id" and not isinstance(fields[key], list | dict) else None
            problems += [] if fields[key] else [Problem(place, f"'{key}' should be text", None, Code.PROMPT_FILE)]
    return fields, problems


def _messages(value: Any, place: Place) -> tuple[tuple[Message, ...] | None, list[Problem]]:
    try:
        return TypeAdapter(tuple[Message, ...]).validate_python(value), []
    except ValidationError:
        message = "'messages' should be a list of {role: system, user or assistant, content: text}"
        return None, [Problem(place, message, None, Code.PROMPT_FILE)]


def _one_kind(row: PromptRow) -> list[Problem]:
    kinds = [kind for kind in KINDS if getattr(row, kind) is not None]
    if len(kinds) == 1:
        return []
    if not kinds:
        help = f"its columns: {listing(row.columns)}; or give the entry a template"
        return [Problem(row.place, "a row without 'text'", help, Code.PROMPT_FILE)]
    return [Problem(row.place, f"a prompt has one of {', '.join(KINDS)}; here are {listing(kinds)}", None, Code.PROMPT)]


def _cell(key: str, value: Any, place: Place) -> Iterator[Problem]:
    if isinstance(value, list | dict):
        yield Problem(place, f"column {shown(key)} should be one text or number", None, Code.PROMPT_FILE)
    if _has_no_character(value):
        yield _no_character(key, place)
    yield from _column_name(key, place)


def _has_no_character(value: Any) -> bool:
    return any("\ud800" <= c <= "\udfff" or c == "\0" for c in str(value)) if value is not None else False


def _no_character(key: str, place: Place) -> Problem:
    message = f"{shown(key)} holds a character that is none (NUL or half of a pair)"
    return Problem(place, message, None, Code.CHARACTERS)


def _text(value: Any) -> str:
    """A cell as text: numbers as they are written in JSON, nothing as the empty text."""
    match value:
        case str():
            return value
        case None:
            return ""
        case _:
            return json.dumps(value, ensure_ascii=False)


def _repeated_ids(rows: Iterable[PromptRow]) -> Iterator[Problem]:
    first: dict[str, Place] = {}
    for row in rows:
        if row.id is not None and row.id in first:
            help = f"first used at {first[row.id]}"
            yield Problem(row.place, f"a second prompt with the id {shown(row.id)}", help, Code.DUPLICATE)
        elif row.id is not None:
            first[row.id] = row.place


# --- grids ----------------------------------------------------------------------------------------------------


def _grid(grid: Mapping[str, str | tuple[str, ...]], number: int, source: Source) -> tuple[list[_Line], list[Problem]]:
    path = ("prompts", number, "grid")
    values: dict[str, Sequence[str]] = {}
    problems: list[Problem] = []
    for name, written in grid.items():
        problems += _column_name(name, source.key((*path, name)))
        found = axis_range(written) if isinstance(written, str) else written
        if not found:
            message = f"{shown(f'{name}: {written}')} should be a list or a range a:b (b is left out)"
            problems.append(Problem(source.place((*path, name)), message, None, Code.PROMPT))
        values[name] = [str(value) for value in found or ()]
    count = 1
    for several in values.values():
        count *= len(several)
    if count > MAX_ROWS:
        problems.append(
            Problem(source.place(path), f"a grid of {count:,} prompts", f"at most {MAX_ROWS:,}", Code.PROMPT)
        )
    if problems:
        return [], problems
    place = source.place(("prompts", number))
    return [_Line(place, dict(zip(values, point, strict=True))) for point in itertools.product(*values.values())], []


# --- files ----------------------------------------------------------------------------------------------------


def _file(written: str, place: Place, folder: Path, root: Path) -> tuple[list[_Line], list[Problem]]:
    path = find(written, folder, root)
    if isinstance(path, Refused):
        return [], [path.at(place)]
    text, unread = read_file(path, MAX_FILE_BYTES)
    if text is None:
        return [], list(unread)
    match path.suffix:
        case ".jsonl":
            lines, problems = _json_lines(text, str(path))
        case ".csv":
            lines, problems = _csv_lines(text, str(path))
        case _:
            return [], [
                Problem(place, f"prompts come from .jsonl or .csv, not {shown(written)}", None, Code.PROMPT_FILE)
            ]
    if not lines and not problems:
        problems = [Problem(place, f"there is no prompt in {shown(written)}", None, Code.PROMPT_FILE)]
    return lines, problems[:MAX_PROBLEMS]


def _json_lines(text: str, file: str) -> tuple[list[_Line], list[Problem]]:
    found: list[_Line] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.split("\n"), start=1):
        place = Place(file, number, 1, line.rstrip("\r"))
        if not line.strip() or len(problems) >= MAX_PROBLEMS:
            continue
        try:
            cells = json.loads(line, object_pairs_hook=_once, parse_constant=_no_constant)
            if not isinstance(cells, dict):
                raise ValueError("a row should be an object: {...}")
            found.append(_Line(place, cells))
        except json.JSONDecodeError as error:
            problems.append(
                Problem(replace(place, column=error.colno), f"not JSON: {error.msg}", None, Code.PROMPT_FILE)
            )
        except (ValueError, RecursionError) as error:
            problems.append(Problem(place, f"not a row: {error}", None, Code.PROMPT_FILE))
    return found, problems


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {shown(next(key for key in keys if keys.count(key) > 1))} is there twice")
    return found


def _no_constant(written: str) -> Any:
    raise ValueError(f"{written} is not a number here")


def _csv_lines(text: str, file: str) -> tuple[list[_Line], list[Problem]]:
    lines = text.splitlines()
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[_Line] = []
    problems: list[Problem] = []
    header: list[str] = []
    start = 1
    try:
        for cells in reader:
            place = Place(file, start, 1, lines[start - 1] if start <= len(lines) else "")
            start = reader.line_num + 1
            if not header:
                header = [cell.strip() for cell in cells]
                problems += _header(header, place)
            elif len(cells) == len(header):
                found.append(_Line(place, dict(zip(header, cells, strict=True))))
            elif cells:
                message = f"a row of {len(cells)} cells under a header of {len(header)}"
                problems.append(Problem(place, message, "a cell with a comma needs double quotes", Code.PROMPT_FILE))
    except csv.Error as error:
        problems.append(Problem(Place(file, start, 1, ""), f"not CSV: {error}", None, Code.PROMPT_FILE))
    return found, problems


def _header(header: Sequence[str], place: Place) -> Iterator[Problem]:
    for name in dict.fromkeys(header):
        if not name:
            yield Problem(place, "a column without a name", None, Code.PROMPT_FILE)
        elif header.count(name) > 1:
            yield Problem(place, f"two columns are called {shown(name)}", None, Code.PROMPT_FILE)
