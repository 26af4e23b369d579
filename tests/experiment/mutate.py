"""Seeded damage to experiment files: what a slip of the keyboard, a merge gone wrong or malice might write."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

# fmt: off
WORDS = (
    *("null", "~", "''", "[]", "{}", "[[]]", "{a: b}", "- x", "*words", "&words"),
    *("!!python/name:os.system", "<<: *words"),
    *("$dose", "-$dose", "$nope", "$best", "2*$dose", "{place}", "{nope}", "{{", "}}", "${x}"),
    *("{{x}}", "{0}", "$", "-"),
    *("nan", ".inf", "-1", "1e999", "9" * 30, "9" * 5000, "0.5", "1:5", "5:1", "0:999999999"),
    *("24_13277_5", "off", "1e-3"),
    *('"\\ud800"', '"\\0"', '"\\U00110000"', "\x07", "\t", "\u2028", "\ufeff", "日本語", "# cut", '"'),
    *("'", "|", ">", "%", "@"),
    *("../../etc/passwd", "/dev/zero", "prompts", "full.yaml", "a/b", "99/99", "golden_gate"),
    *("cheer", "baseline", "all"),
    *("(", "[a-", "(?P<x", "a{99999999999}", "\\", "x" * 2000, "[" * 60, "clamp", "swap"),
    *("token_prob", "test", "extends: full.yaml"),
)
# fmt: on


def mutated(text: str, seed: int) -> str:
    """The text after one to four random slips."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 4)):
        text = rng.choice(SLIPS)(text, rng)
    return text


def _word(text: str, rng: random.Random) -> str:
    start, end = _token(text, rng)
    return text[:start] + rng.choice(WORDS) + text[end:]


def _swap(text: str, rng: random.Random) -> str:
    (a, b), (c, d) = sorted([_token(text, rng), _token(text, rng)])
    return text if b > c else text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:]


def _drop(text: str, rng: random.Random) -> str:
    start, end = _token(text, rng)
    return text[:start] + text[end:]


def _letter(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(" \n:,[]{}#&*!|>'\"%@`$-?x0\x00\x1b") + text[at + rng.randint(0, 1) :]


def _lines(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            lines.pop(at)
        case 1:
            lines.insert(rng.randrange(len(lines)), lines[at])
        case 2:
            lines[at] = "  " + lines[at]
        case _:
            lines[at] = lines[at][2:]
    return "\n".join(lines)


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


SLIPS = (_word, _word, _word, _swap, _drop, _drop, _letter, _lines, _lines, _cut)


def _token(text: str, rng: random.Random) -> tuple[int, int]:
    """The ends of a word of the text, picked at random."""
    at = rng.randrange(len(text) + 1)
    stops = " \n,:[]{}\"'"
    start = max((text.rfind(stop, 0, at) for stop in stops), default=-1) + 1
    ends = [end for stop in stops if (end := text.find(stop, at)) >= 0]
    return start, min(ends, default=len(text))


def damaged(data: Any, seed: int) -> Any:
    """Parsed data with one to three values or keys replaced, moved, renamed or taken out: always valid YAML as JSON."""
    rng = random.Random(seed)
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 3)):
        _damage(data, rng)
    return data


# fmt: off
VALUES: tuple[Any, ...] = (
    *(None, "", [], {}, [[]], [None], {"a": "b"}, {"token": ""}, {"regex": "("}),
    *({"column": "nope"}, {"each": "golden_gate"}),
    *("$dose", "-$dose", "$nope", "$best", "$place", "2*$dose", "{place} $place", "{nope}", "nan"),
    *("inf", "-1", "1e999"),
    *("9" * 30, "9" * 5000, "0.5", "1:5", "5:1", "0:99999999", "off", "../x", "/dev/zero"),
    *("prompts", "found.yaml", "99/99"),
    *("golden_gate", "cheer", "clamped", "baseline", "all", "generated", "last", "(", "(?P<x"),
    *("test", "donor_act", "dose"),
    *("random_features", "inhibit_only", "clamp", "swap", "token_prob", "regex", "\x1b[31m"),
    *("\u2028", "日本語", ["$dose", "0"]),
)
# fmt: on


def _damage(data: Any, rng: random.Random) -> None:
    places = [(box, key) for box in _boxes(data) for key in (box if isinstance(box, dict) else range(len(box)))]
    box, key = rng.choice(places)
    match rng.randrange(5):
        case 0:
            box.pop(key)
        case 1 if isinstance(box, dict):
            box[rng.choice([key + "s", key[:-1] or "x", key[::-1], "x y", "op", "type"])] = box.pop(key)
        case 2:
            other, at = rng.choice(places)
            if at in other if isinstance(other, dict) else at < len(other):
                box[key] = copy.deepcopy(other[at])
        case _:
            box[key] = copy.deepcopy(rng.choice(VALUES))


def _boxes(data: Any) -> Iterator[Any]:
    if isinstance(data, dict | list) and data:
        yield data
    for below in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from _boxes(below)
