"""Where an intervention acts and a measurement reads: selectors over a rendered prompt -> token positions.

Position 0 is the first real token (BOS, if there is one), whatever the padding of the batch. An edit at position p acts
while token p is read, so it changes the prediction of p + 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steer.errors import SteerError
from steer.experiment import spec
from steer.experiment.trial import Prompt, Span
from steer.model.tokens import Encoded

SHOWN_TOKENS = 160


class PositionError(SteerError):
    """A selector that finds nothing in a prompt, or more than one thing without `which`."""

    exit_code = 2


@dataclass(frozen=True)
class Positions:
    """Token positions of one row, counted from the first real token.

    `prompt` and `generated` are sorted; `generated` holds single positions past the prompt, `onwards` the position
    from which everything generated is in (None: nothing is).
    """

    prompt: tuple[int, ...]
    generated: tuple[int, ...] = ()
    onwards: int | None = None

    def __contains__(self, position: int) -> bool:
        beyond = self.onwards is not None and position >= self.onwards
        return beyond or position in self.prompt or position in self.generated

    def mask(self, total: int) -> tuple[bool, ...]:
        """One flag per column of prompt and generated text together, without padding."""
        single = {*self.prompt, *self.generated}
        start = total if self.onwards is None else self.onwards
        return tuple(column in single or column >= start for column in range(total))

    def overlaps(self, other: Positions) -> bool:
        """Whether both hold some position, however much is generated."""
        if self.onwards is not None and other.onwards is not None:
            return True
        return any(p in other for p in self.prompt + self.generated) or any(
            p in self for p in other.prompt + other.generated
        )

    @property
    def beyond_prompt(self) -> bool:
        """Whether generated tokens are among them."""
        return bool(self.generated) or self.onwards is not None


@dataclass(frozen=True)
class _Text:
    """What a selector looks at; `spans` are the character spans of the tokens (empty where a token has no text)."""

    prompt: Prompt
    ids: Sequence[int]
    spans: Sequence[Span]

    def __len__(self) -> int:
        return len(self.ids)

    def covering(self, start: int, end: int) -> tuple[int, ...]:
        return tuple(i for i, (a, b) in enumerate(self.spans) if max(a, start) < min(b, end))

    def shown(self) -> str:
        tokens = [f"{i} {self._token(i)}" for i in range(len(self))]
        if len(tokens) > SHOWN_TOKENS:
            half = SHOWN_TOKENS // 2
            tokens[half:-half] = ["..."]
        return ", ".join(tokens)

    def _token(self, i: int) -> str:
        start, end = self.spans[i]
        return repr(self.prompt.text[start:end]) if start < end else f"<token {self.ids[i]}>"

    def error(self, message: str) -> PositionError:
        return PositionError(f"{message}\n  tokens of prompt {self.prompt.id}: {self.shown()}")


def resolve(positions: spec.Positions, encoded: Encoded, prompt: Prompt) -> Positions:
    """The positions meant by a field of the file, in one prompt.

    A slice that holds nothing is empty, as in Python; PositionError if an index lies before the prompt, or a selector
    finds nothing, or several matches without `which`.
    """
    text = _Text(prompt, encoded.ids, encoded.offsets)
    listed = positions if isinstance(positions, tuple) else (positions,)
    return _union([_one(position, text) for position in listed], len(text))


def _union(parts: Sequence[Positions], length: int) -> Positions:
    starts = [part.onwards for part in parts if part.onwards is not None]
    onwards = min(starts) if starts else None
    single = {p for part in parts for p in part.prompt + part.generated if onwards is None or p < onwards}
    return _split(single, length, onwards)


def _split(single: Iterable[int], length: int, onwards: int | None = None) -> Positions:
    ordered = sorted(set(single))
    return Positions(
        prompt=tuple(p for p in ordered if p < length),
        generated=tuple(p for p in ordered if p >= length),
        onwards=onwards,
    )


def _one(position: spec.Position, text: _Text) -> Positions:
    length = len(text)
    match position:
        case "all":
            return Positions(tuple(range(length)), onwards=length)
        case "prompt":
            return Positions(tuple(range(length)))
        case "generated":
            return Positions((), onwards=length)
        case "last":
            return _split([_index(-1, text)], length)
        case int():
            return _split([_index(position, text)], length)
        case str():
            return _slice(position, length)
        case _:
            return _split(_selected(position, text), length)


def _index(index: int, text: _Text) -> int:
    if index < -len(text):
        raise text.error(f"position {index} lies before prompt {text.prompt.id}, which has {len(text)} tokens")
    return index if index >= 0 else len(text) + index


def _slice(written: str, length: int) -> Positions:
    """`"a:b"`: negative ends count from the prompt's end, an open end runs on through generated text."""
    first, last = (int(end) if end else None for end in written.split(":"))
    start = _bound(first or 0, length)
    if last is None:
        return Positions(tuple(range(start, length)), onwards=max(start, length))
    return _split(range(start, _bound(last, length)), length)


def _bound(end: int, length: int) -> int:
    return end if end >= 0 else max(0, length + end)


def _selected(selector: spec.Selector, text: _Text) -> set[int]:
    matches = [match for match in _matches(selector, text) if match]
    shifted = {p + int(selector.offset) for match in _chosen(selector, matches, text) for p in match}
    if min(shifted) < 0:
        raise text.error(f"{_written(selector)} with offset {selector.offset} lies before prompt {text.prompt.id}")
    return shifted


def _matches(selector: spec.Selector, text: _Text) -> list[tuple[int, ...]]:
    """The matches in reading order, each the positions of all its tokens."""
    match selector:
        case spec.TokenSelector(token=token):
            return _tokens(token, text)
        case spec.TextSelector(text=wanted):
            return _found(re.escape(wanted), selector, text)
        case spec.RegexSelector(regex=pattern):
            return _found(pattern, selector, text)
        case spec.ColumnSelector(column=column):
            return [text.covering(*span) for span in text.prompt.spans.get(column, ())]
        case _:
            raise AssertionError(f"not a selector: {selector!r}")


def _tokens(token: str, text: _Text) -> list[tuple[int, ...]]:
    # tokens that are bytes of one character all carry that character's span, and none of them is the character
    times = Counter(text.spans)
    return [
        (i,)
        for i, (start, end) in enumerate(text.spans)
        if start < end and times[start, end] == 1 and text.prompt.text[start:end] == token
    ]


def _found(pattern: str, selector: spec.Selector, text: _Text) -> list[tuple[int, ...]]:
    try:
        return [text.covering(*match.span()) for match in re.finditer(pattern, text.prompt.text)]
    except re.error as problem:
        raise text.error(f"{_written(selector)} is no regular expression: {problem}") from None


def _chosen(selector: spec.Selector, matches: Sequence[tuple[int, ...]], text: _Text) -> Sequence[tuple[int, ...]]:
    if not matches:
        raise text.error(f"{_written(selector)} does not occur in prompt {text.prompt.id}{_columns(selector, text)}")
    match selector.which:
        case "all":
            return matches
        case "first":
            return matches[:1]
        case "last":
            return matches[-1:]
        case None if len(matches) == 1:
            return matches
        case int(n) if -len(matches) <= n < len(matches):
            return [matches[n]]
        case _:
            raise text.error(_ambiguous(selector, matches, text))


def _ambiguous(selector: spec.Selector, matches: Sequence[tuple[int, ...]], text: _Text) -> str:
    places = "; ".join(", ".join(map(str, match)) for match in matches)
    times = "once" if len(matches) == 1 else f"{len(matches)} times"
    occurs = f"{_written(selector)} occurs {times} in prompt {text.prompt.id} (positions {places})"
    if selector.which is None:
        return f"{occurs}: say `which: first`, `last`, `all` or a number from 0"
    return f"{occurs}: there is no `which: {selector.which}`"


def _columns(selector: spec.Selector, text: _Text) -> str:
    if not isinstance(selector, spec.ColumnSelector):
        return ""
    return f"; its template has the columns {', '.join(text.prompt.spans) or 'none'}"


def _written(selector: spec.Selector) -> str:
    key = next(key for key in spec.SELECTOR_KEYS if hasattr(selector, key))
    return f"{{{key}: {getattr(selector, key)!r}}}"
