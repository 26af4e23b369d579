"""Measurements on completions: pure functions over a text or over token ids."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import regex
from rapidfuzz.distance import Levenshtein

from steer.errors import RunError

REGEX_SECONDS = 5.0
_WORD = r"[\p{L}\p{N}\p{M}_]"
_RUNS_ON = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]"  # scripts that put no space between words
_INSIDE_A_WORD = regex.compile(rf"(?:(?!{_RUNS_ON}){_WORD}|{_WORD}['’])$")


def contains(text: str, words: Sequence[str], ignore_case: bool = True) -> bool:
    """Whether one of the words stands in the text, also inside a longer word (`regex` with `\\b` is stricter)."""
    read = str.casefold if ignore_case else str
    return any(read(word) in read(text) for word in words)


def matches(text: str, pattern: str, seconds: float = REGEX_SECONDS) -> bool:
    """Whether the pattern is found in the text.

    Nested repeats such as `(a+)+$` can take a time exponential in the text, so a search is stopped after `seconds`:
    RunError. The `regex` package is used because Python's own `re` cannot be stopped; patterns mean the same in both,
    but for two additions of `regex`: POSIX classes (`[[:alpha:]]`) and fuzzy counts (`a{e<=1}`).
    """
    try:
        return regex.search(pattern, text, timeout=seconds) is not None
    except TimeoutError:
        raise RunError(
            f"pattern {pattern!r} took more than {seconds:g} s on a completion of {len(text)} characters: "
            "it repeats something that repeats itself; write it without nested repeats"
        ) from None


def ends_with(text: str, words: Sequence[str]) -> bool:
    """Whether the text ends with one of the words, whole, whatever the case and the punctuation after it.

    "a hungry rabbit." ends with "rabbit" and not with "bit"; a word may be several ("grab it").
    """
    ending = _without_closing(text.casefold())
    return any(_ends_with_word(ending, _without_closing(word.casefold())) for word in words)


def last_word(text: str, words: Sequence[str], line: int = 0) -> bool:
    """Whether a line of the text ends with one of the words; blank lines do not count, -1 is the last line.

    A text that has no such line ends with none of them.
    """
    lines = [found for found in text.splitlines() if found.strip()]
    return -len(lines) <= line < len(lines) and ends_with(lines[line], words)


def repetition(ids: Sequence[int], n: int) -> float:
    """rep-n: 1 - distinct n-grams / n-grams; 0 where there are fewer than n tokens.

    Source: Welleck et al. 2019, "Neural Text Generation with Unlikelihood Training" (arXiv 1908.04319), seq-rep-n.
    """
    grams = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct(ids: Sequence[int], n: int) -> float:
    """Distinct n-grams / n-grams = 1 - rep-n.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function" (arXiv 1510.03055), there over words.
    """
    return 1 - repetition(ids, n)


def edit_distance(first: Sequence[int], second: Sequence[int]) -> float:
    """Levenshtein distance in tokens over the longer length: 0 is equal, 1 is nothing in common; two empty ones are 0.

    Not Hamming: one inserted word would shift everything after it.
    """
    longer = max(len(first), len(second))
    return levenshtein(first, second) / longer if longer else 0.0


def levenshtein(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and substitutions of one item that turn one sequence into the other.

    Items are numbered, because rapidfuzz compares hashes.
    """
    codes = {item: code for code, item in enumerate(dict.fromkeys((*first, *second)))}
    return Levenshtein.distance([codes[item] for item in first], [codes[item] for item in second])


def first_divergence(first: Sequence[int], second: Sequence[int]) -> int | None:
    """Index of the first token that differs (the shorter length, where one begins with the other); None if equal."""
    pairs = enumerate(zip(first, second, strict=False))
    differs = next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))
    return None if len(first) == len(second) == differs else differs


def _ends_with_word(ending: str, word: str) -> bool:
    before = ending.removesuffix(word)
    if not word or len(before) == len(ending):
        return False
    starts_inside = _INSIDE_A_WORD.search(before[-2:]) is not None and regex.match(_WORD, word) is not None
    return not starts_inside or regex.match(_RUNS_ON, word) is not None


def _without_closing(text: str) -> str:
    """The text up to its last letter or digit."""
    while text and not regex.match(_WORD, text[-1]):
        text = text[:-1]
    return text
