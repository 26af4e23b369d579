"""A contender: a name, the work, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

Said = list[list[int]]
"""What each row was continued with."""


@dataclass(frozen=True)
class Answer:
    """Of each row of the workload the last logits (NaN where they are not told), or the tokens that were generated."""

    logits: Float[Tensor, "row d_vocab"] | None = None
    said: Said | None = None


@dataclass(frozen=True)
class Contender:
    """`prepare` makes what a round needs and is not timed, `work` is, and `answer` reads what it gave.

    `details` are more numbers on a round, in seconds, of a contender that can tell.
    """

    name: str
    prepare: Callable[[], Any]
    work: Callable[[Any], Any]
    answer: Callable[[Any], Answer]
    steers: bool = True
    details: Callable[[Any], Mapping[str, float]] = field(default=lambda done: {})
