"""`$name` and `{column}`: where they stand, what they may stand for, and what takes their place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steer.experiment.source import Path_
from steer.experiment.spec import NAME

REF = re.compile(rf"(-?)\$({NAME})")
COLUMN = re.compile(r"\{\{|\}\}|\{([A-Za-z][A-Za-z0-9_]*)\}")
RANGE = re.compile(r"(-?[0-9]{1,9}):(-?[0-9]{1,9})")
TEMPLATED = frozenset({"target", "foil", "token", "words", "pattern"})
MAX_AXIS = 100_000


@dataclass(frozen=True)
class Reference:
    """A whole scalar `$name`, or `-$name`."""

    path: Path_
    name: str
    negative: bool


def references(data: Any, path: Path_ = ()) -> Iterator[Reference]:
    """Every `$name` in the raw data of a part of the file."""
    for where, text in scalars(data, path):
        if match := REF.fullmatch(text):
            yield Reference(where, match[2], bool(match[1]))


def scalars(data: Any, path: Path_ = ()) -> Iterator[tuple[Path_, str]]:
    match data:
        case dict():
            for key, value in data.items():
                yield from scalars(value, (*path, key))
        case list() | tuple():
            for index, value in enumerate(data):
                yield from scalars(value, (*path, index))
        case str():
            yield path, data


def substitute(data: Any, values: Mapping[str, Any]) -> Any:
    """Raw data with values in place of their `$name`s; names without a value stay."""
    match data:
        case dict():
            return {key: substitute(value, values) for key, value in data.items()}
        case list() | tuple():
            return [item for value in data for item in _spliced(value, substitute(value, values))]
        case str() if (match := REF.fullmatch(data)) and match[2] in values:
            value = values[match[2]]
            return negated(value) if match[1] else value
        case _:
            return data


def _spliced(before: Any, after: Any) -> Sequence[Any]:
    """A `$name` in a list may stand for several items of the list."""
    return after if isinstance(before, str) and isinstance(after, list | tuple) else [after]


def negated(value: Any) -> Any:
    """The value of `-$name`: the number with its sign turned, still as text where it was text."""
    if isinstance(value, str):
        return value[1:] if value.startswith("-") else f"-{value.removeprefix('+')}"
    return -value if isinstance(value, int | float) else f"-{value}"


def columns_in(text: str) -> tuple[str, ...]:
    """The columns that a templated text names: `{name}` with a letter first; `{{` and `}}` are braces."""
    return tuple(dict.fromkeys(match[1] for match in COLUMN.finditer(text) if match[1]))


def is_templated(path: Path_) -> bool:
    """Whether `{column}` in the scalar at this path is the row's text."""
    keys = [key for key in path if isinstance(key, str)]
    return bool(keys) and (keys[-1] in TEMPLATED or keys[-2:] == ["donor", "text"])


def axis_range(written: str) -> range | None:
    """`a:b` as whole numbers without b; None for anything else, or for more than MAX_AXIS of them."""
    match = RANGE.fullmatch(written)
    found = range(int(match[1]), int(match[2])) if match else None
    return found if found is not None and len(found) <= MAX_AXIS else None


def number(value: Any) -> float | None:
    """The number that a raw value writes, if it writes one."""
    try:
        return float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        return None


def same(left: Any, right: Any) -> bool:
    """Whether two raw values mean the same: `5` is `5.0`."""
    return canonical(left) == canonical(right)


def canonical(value: Any) -> str:
    """One writing for all that mean the same."""
    found = number(value)
    return json.dumps(value, sort_keys=True) if found is None else repr(found)


def matches(columns: Mapping[str, str], where: Mapping[str, Any]) -> bool:
    """Whether a row's columns are those of a `where`: its text, or one of several; keys that are no columns: no."""
    return all(key in columns and columns[key] in wanted(value) for key, value in where.items())


def wanted(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def filled(text: str, columns: Mapping[str, str]) -> str:
    """A templated text with its columns; those that a row does not have are left out."""
    return COLUMN.sub(lambda match: columns.get(match[1], "") if match[1] else match[0][0], text)
