"""What model and transcoder are run on: the built-in model's held-out corpus, the text of this package, or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from steer.discovery.contexts import WINDOW, documents_of
from steer.errors import UsageError
from steer.model.tokens import Tokens

OWN = Path(__file__).with_name("reference.txt")
POCKET_TOKENS = 40  # of a document of the built-in corpus, at least; the mean is about 80
FEWEST = 200
"""Tokens that a verdict has to rest on at least."""


@dataclass(frozen=True)
class Documents:
    """A text by its name, and its documents."""

    name: str
    texts: tuple[str, ...]

    def sha256(self) -> str:
        """Over all documents; hex."""
        return hashlib.sha256("\0".join(self.texts).encode()).hexdigest()


@dataclass(frozen=True)
class Rows:
    """Pieces of documents as the model reads them; the first `front` tokens of each are not measured.

    That is the BOS, or without one the first token of a piece: models treat whatever stands first like a BOS (its
    norm is many times that of the others), so one token in 256 would decide every figure.
    """

    ids: tuple[tuple[int, ...], ...]
    front: int

    @property
    def tokens(self) -> int:
        """How many are measured."""
        return sum(len(row) - self.front for row in self.ids)


def reference(model: str, path: Path | None, tokens: Tokens, limit: int) -> Documents:
    """The text of a file, or else the one for this model, `limit` tokens of it. UsageError, SpecError."""
    if path is not None:
        return Documents(path.name, tuple(documents_of(path, tokens)))
    if model == "pocket":
        from steer.model.pocket.corpus.mixture import reference_text

        return Documents("pocket's held-out corpus", tuple(reference_text(-(-limit // POCKET_TOKENS))))
    return Documents("steer's reference text", tuple(documents_of(OWN, tokens)))


def puts_bos(tokens: Tokens) -> bool:
    """Whether the prompts of this model have a BOS (or another prefix) in front."""
    return len(tokens.encode("a").ids) > len(tokens.pieces("a"))


def rows(documents: Documents, tokens: Tokens, bos: bool, limit: int, n_ctx: int) -> Rows:
    """The first `limit` tokens of a text in pieces of at most 256, each behind a BOS or not.

    UsageError where the text has too few tokens to judge by.
    """
    prefix = _prefix(tokens) if bos else ()
    front = max(1, len(prefix))
    pieces = (part for text in documents.texts for part in _parts(text, tokens, min(WINDOW, n_ctx) - len(prefix)))
    found = Rows(tuple(_limited((prefix + part for part in pieces), front, limit)), front)
    if found.tokens < FEWEST:
        raise UsageError(f"{documents.name} has {found.tokens} tokens to measure; a verdict needs {FEWEST} or more")
    return found


def beginning(of: Rows, limit: int) -> Rows:
    """The first `limit` tokens of rows."""
    return Rows(tuple(_limited(iter(of.ids), of.front, limit)), of.front)


def _prefix(tokens: Tokens) -> tuple[int, ...]:
    """What the tokenizer puts in front of a text, or its BOS where it puts nothing."""
    ids = tokens.encode("a").ids
    own = ids[: len(ids) - len(tokens.pieces("a"))]
    return own or (() if tokens.bos_id is None else (tokens.bos_id,))


def _parts(text: str, tokens: Tokens, room: int) -> Iterator[tuple[int, ...]]:
    """A document in pieces; a rest of one token says nothing about what comes next."""
    ids = tokens.pieces(text)
    cut = (ids[start : start + room] for start in range(0, len(ids), room))
    return (part for part in cut if len(part) > 1)


def _limited(rows: Iterator[tuple[int, ...]], front: int, limit: int) -> Iterator[tuple[int, ...]]:
    """Rows until `limit` tokens are measured, the last cut short."""
    left = limit
    for row in rows:
        if left <= 0:
            return
        yield row[: front + left]
        left -= len(row) - front
