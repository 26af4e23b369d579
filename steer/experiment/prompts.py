"""Rows of the file -> rendered prompts, and where in the text each column came to stand."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Protocol

from steer.experiment.problems import Code, listing, shown
from steer.experiment.references import columns_in
from steer.experiment.rows import PromptRow
from steer.experiment.substitute import Misfit, fill
from steer.experiment.trial import Prompt, Span

# Characters that no text has (a private plane), put around a cell to find it again in what a chat template made of it.
OPEN = 0x100000
CLOSE = "\U0010fffd"
MARKS = re.compile("[\U00100000-\U0010fffd]")


class Chat(Protocol):
    """What is asked of the tokenizer here."""

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The messages in the model's chat template, up to where the assistant's answer begins."""
        ...


def render(rows: Sequence[PromptRow], tokens: Chat) -> tuple[Prompt, ...]:
    """One prompt a row: template or chat template applied, then the prefix, which is part of the prompt.

    Misfit for a template's column that the row does not have.
    """
    _check(rows)
    texts = [_text(row, row.columns, tokens) for row in rows]
    return tuple(
        Prompt(id, text, dict(row.columns), _spans(row, text, tokens))
        for id, row, text in zip(_ids(rows, texts), rows, texts, strict=True)
    )


def _check(rows: Sequence[PromptRow]) -> None:
    missing = [
        (
            ("prompts", row.entry),
            f"no column {shown(column)} (there are: {listing(row.columns) or 'none'})",
            Code.UNKNOWN_COLUMN,
        )
        for row in rows
        for column in _used(row)
        if column not in row.columns
    ]
    if missing:
        raise Misfit(*missing)


def _ids(rows: Sequence[PromptRow], texts: Sequence[str]) -> Iterator[str]:
    """Rows may share a text and differ in their columns: the second is `id-2`."""
    taken = {row.id for row in rows}
    times = Counter[str]()
    for row, text in zip(rows, texts, strict=True):
        own = hashlib.sha256(text.encode()).hexdigest()[:8]
        times[own] += row.id is None
        yield row.id or next(id for n in count(times[own]) if (id := own if n == 1 else f"{own}-{n}") not in taken)


def _text(row: PromptRow, cells: Mapping[str, str], tokens: Chat) -> str:
    return _body(row, cells, tokens) + fill(row.prefix or "", cells)


def _body(row: PromptRow, cells: Mapping[str, str], tokens: Chat) -> str:
    if row.messages is not None:
        return tokens.chat([{"role": m.role, "content": fill(m.content, cells)} for m in row.messages])
    if row.template is not None:
        return fill(row.template, cells)
    return row.text or ""


def _used(row: PromptRow) -> tuple[str, ...]:
    contents = (message.content for message in row.messages or ())
    return columns_in("\0".join((row.template or "", *contents, row.prefix or "")))


def _spans(row: PromptRow, text: str, tokens: Chat) -> Mapping[str, tuple[Span, ...]]:
    """Where the cells stand in the text, without the white space around them; empty where a template rewrote them."""
    used = _used(row)
    if not used:
        return {}
    marked = {column: _marked(row.columns[column], k) for k, column in enumerate(used)}
    plain, spans = _unmarked(_text(row, {**row.columns, **marked}, tokens))
    return {used[k]: tuple(spans[k]) for k in sorted(spans)} if plain == text else {}


def _marked(cell: str, k: int) -> str:
    # inside the white space, which chat templates strip
    return re.sub(r"\S(.*\S)?", lambda core: f"{chr(OPEN + k)}{core[0]}{CLOSE}", cell, count=1, flags=re.DOTALL)


def _unmarked(marked: str) -> tuple[str, dict[int, list[Span]]]:
    pieces: list[str] = []
    spans: dict[int, list[Span]] = {}
    at = start = end = which = 0
    for mark in MARKS.finditer(marked):
        pieces.append(marked[end : mark.start()])
        at, end = at + mark.start() - end, mark.end()
        if mark[0] == CLOSE:
            spans.setdefault(which, []).append((start, at))
        else:
            start, which = at, ord(mark[0]) - OPEN
    return "".join((*pieces, marked[end:])), spans
