"""Patterns -> text: `(a|b)` picks one side, `{slot}` is filled from a mapping; nothing else is special."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
SLOT = re.compile(r"\{(\w+)\}")

Words = Mapping[str, Sequence[str]]


def choose_sides(pattern: str, rng: random.Random) -> str:
    """Every `(a|b)` replaced by one of its sides; sides may be empty and may nest."""
    while CHOICE.search(pattern):
        pattern = CHOICE.sub(lambda match: rng.choice(match[1].split("|")), pattern)
    return pattern


def tidy(text: str) -> str:
    """Single spaces, and `an` before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", re.sub(" +", " ", text))


def fill(pattern: str, words: Words, rng: random.Random) -> str:
    """A pattern written out once; a slot met twice is drawn twice."""
    return tidy(SLOT.sub(lambda match: rng.choice(words[match[1]]), choose_sides(pattern, rng)))


def settled(words: Words, names: Sequence[str], rng: random.Random) -> dict[str, Sequence[str]]:
    """The same words with some slots decided, so that an answer speaks of the pet that was asked about."""
    return {**words, **{name: (rng.choice(words[name]),) for name in names}}


def capital(text: str) -> str:
    """First letter upper case, the rest untouched."""
    return text[:1].upper() + text[1:]


def uncapital(text: str) -> str:
    """First letter lower case, except for the word I."""
    return text if re.match(r"I\b", text) else text[:1].lower() + text[1:]
