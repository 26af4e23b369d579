"""`$name` and `{column}` replaced, so that behind the plan a field holds the thing itself.

A whole scalar `$name` stands for a sweep value or a cell, `-$name` for its negative. Inside the few fields that are
text for the tokenizer or a pattern, `{name}` is the cell's text, and `{{`, `}}` write braces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from steer.experiment.problems import Code, shown
from steer.experiment.references import COLUMN, REF, columns_in, is_templated, negated, number
from steer.experiment.source import Path_

S = TypeVar("S", bound=BaseModel)


def fill(template: str, cells: Mapping[str, Any], quoted: Callable[[str], str] = str) -> str:
    """The template with each `{name}` replaced by its cell; KeyError for a name without one.

    >>> fill("{a} + {b} = {{?}}, x{2}", {"a": "1", "b": "2"})
    '1 + 2 = {?}, x{2}'
    """

    def cell(match: re.Match[str]) -> str:
        return quoted(str(cells[match[1]])) if match[1] else match[0][0]

    return COLUMN.sub(cell, template)


def names(spec: BaseModel) -> frozenset[str]:
    """Every axis or column that a mapping of the file refers to, its `where` aside."""
    return frozenset(_names(_data(spec), ()))


def substitute(spec: S, values: Mapping[str, Any], path: Path_) -> S:
    """The same mapping with every reference replaced and the schema applied to the result; without its `where`.

    `values` are written values, as they would stand in the file, where the mapping stands at `path`. Misfit where the
    schema does not take one.
    """
    try:
        return type(spec).model_validate(replaced(_data(spec), values, ()))
    except ValidationError as error:
        raise Misfit(*_misfits(error, path)) from None
    except _NotANumber as error:
        raise Misfit((path, str(error), Code.WRONG_TYPE)) from None


class Misfit(Exception):
    """What a plan finds wrong with a file: where (the path in the file), the message and its code."""

    def __init__(self, *found: tuple[Path_, str, Code]) -> None:
        super().__init__("; ".join(message for _, message, _ in found))
        self.found = found


class _NotANumber(ValueError):
    """`-$name` for something that has no negative."""


def _misfits(error: ValidationError, path: Path_) -> list[tuple[Path_, str, Code]]:
    # a union reports one error per alternative: the value that none of them takes is what the reader needs
    given = {problem["loc"][:1]: problem["input"] for problem in error.errors()}
    return [
        ((*path, *field), f"{' '.join(map(str, field))} cannot be {shown(value)} here", Code.WRONG_TYPE)
        for field, value in given.items()
    ]


def _data(spec: BaseModel) -> Any:
    return spec.model_dump(by_alias=True, exclude_unset=True, exclude={"where"})


def _names(data: Any, path: Path_) -> Iterator[str]:
    match data:
        case dict():
            for key, value in data.items():
                yield from _names(value, (*path, key))
        case list() | tuple():
            for value in data:
                yield from _names(value, path)
        case str() if reference := REF.fullmatch(data):
            yield reference[2]
        case str() if is_templated(path):
            yield from columns_in(data)


def replaced(data: Any, values: Mapping[str, Any], path: Path_) -> Any:
    """Plain data of the file with every reference replaced; KeyError for a name without a value.

    What takes a reference's place is not looked into again: a cell may hold braces.
    """
    match data:
        case dict():
            return {key: replaced(value, values, (*path, key)) for key, value in data.items()}
        case list() | tuple():
            return tuple(item for value in data for item in _spliced(value, replaced(value, values, path)))
        case str() if reference := REF.fullmatch(data):
            return _negative(values[reference[2]]) if reference[1] else values[reference[2]]
        case str() if is_templated(path):
            return fill(data, values, re.escape if path[-1] == "pattern" else str)
        case _:
            return data


def _spliced(before: Any, after: Any) -> tuple[Any, ...]:
    """A `$name` in a list may stand for several items of the list."""
    return tuple(after) if isinstance(before, str) and isinstance(after, list | tuple) else (after,)


def _negative(value: Any) -> Any:
    if number(value) is None:
        raise _NotANumber(f"`-$name` needs a number, not {shown(value)}")
    return negated(value)
