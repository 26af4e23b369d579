"""What share of the corpus each behaviour has, and what is kept out of training."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from steer.model.pocket.corpus.held_out import HELD_OUT
from steer.model.pocket.corpus.narrative import plain_story, themed_story
from steer.model.pocket.corpus.themes import changing_dialogue, plain_dialogue, themed_dialogue

MIXTURE: tuple[tuple[float, Callable[[random.Random], str]], ...] = (
    (0.42, themed_dialogue),
    (0.05, changing_dialogue),
    (0.43, plain_dialogue),
    (0.05, plain_story),
    (0.05, themed_story),
)

# Reference text never meets training text: its generators are seeded from another range.
REFERENCE_SEED = 1_000_000


def held_back(document: str) -> bool:
    """Whether a document contains a phrasing that training must not see."""
    return any(phrase in document for phrase in HELD_OUT)


def documents(seed: int) -> Iterator[str]:
    """Training documents without end, in an order that depends on the seed alone."""
    rng = random.Random(seed)
    weights, writers = zip(*MIXTURE, strict=True)
    while True:
        document = rng.choices(writers, weights)[0](rng)
        if not held_back(document):
            yield document


def reference_text(n: int, seed: int = 0) -> list[str]:
    """n documents of the same kind that training does not draw: for statistics and for gating a transcoder."""
    stream = documents(REFERENCE_SEED + seed)
    return [next(stream) for _ in range(n)]
