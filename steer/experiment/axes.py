"""Sweep values: as they are written, which is what `$name` is replaced by, and as they are shown.

What is shown, in tables and in `where`, is an int or float for anything that reads as a number, else text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from steer.experiment.references import matches, wanted
from steer.experiment.spec import Scalar, Where

Axes = Mapping[str, Mapping[Scalar, Any]]
"""Per axis: the value as shown -> the value as written."""

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
PLAIN = re.compile(r"[A-Za-z0-9_/.:+-]+")


def by_shown(axes: Mapping[str, Sequence[Any]]) -> Axes:
    """Every axis with its values in the order of the file; a value listed twice counts once."""
    return {name: {shown(value): value for value in values} for name, values in axes.items()}


def shown(value: Any) -> Scalar:
    """How a value stands in tables: 5 for `5`, `5.0` and `5e0`; text as written; a list or mapping in flow style.

    >>> shown("1e-3"), shown("2.0"), shown("0/411"), shown({"token": " it", "offset": "1"})
    (0.001, 2, '0/411', '{token: " it", offset: 1}')
    """
    written = text(value)
    if not NUMBER.fullmatch(written):
        return written
    number = float(written)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def text(value: Any) -> str:
    """A value in YAML's flow style."""
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{key}: {_inner(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_inner, value)) + "]"
        case _:
            return str(value)


def _inner(value: Any) -> str:
    written = text(value)
    return (
        written if not isinstance(value, str) or PLAIN.fullmatch(written) else json.dumps(written, ensure_ascii=False)
    )


def allows(where: Where, cells: Mapping[str, str], point: Mapping[str, Scalar]) -> bool:
    """Whether a `where` holds: axes compare as they are shown, columns as text."""
    swept = {key: allowed for key, allowed in where.items() if key in point}
    rest = {key: allowed for key, allowed in where.items() if key not in point}
    return all(point[key] in map(shown, wanted(allowed)) for key, allowed in swept.items()) and matches(cells, rest)
