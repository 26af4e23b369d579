from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer.errors import RunError
from steer.measurement.text import (
    contains,
    distinct,
    edit_distance,
    ends_with,
    first_divergence,
    last_word,
    levenshtein,
    matches,
    repetition,
)

IDS = st.lists(st.integers(0, 3), max_size=7)
few = settings(max_examples=60, deadline=None)


def brute_force(first: Sequence[int], second: Sequence[int]) -> int:
    """Levenshtein by its recursive definition."""

    @cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        substituted = distance(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(substituted, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(first), len(second))


@few
@given(one=IDS, other=IDS)
def test_levenshtein_is_its_recursive_definition(one: list[int], other: list[int]) -> None:
    assert levenshtein(one, other) == brute_force(tuple(one), tuple(other))


@few
@given(a=IDS, b=IDS, c=IDS)
def test_levenshtein_is_a_metric(a: list[int], b: list[int], c: list[int]) -> None:
    assert levenshtein(a, b) == levenshtein(b, a)
    assert (levenshtein(a, b) == 0) == (a == b)
    assert levenshtein(a, c) <= levenshtein(a, b) + levenshtein(b, c)


@few
@given(a=IDS, b=IDS)
def test_edit_distance_lies_between_equal_and_nothing_in_common(a: list[int], b: list[int]) -> None:
    assert 0 <= edit_distance(a, b) <= 1
    assert edit_distance(a, a) == 0
    assert edit_distance(a, [9] * len(a)) == bool(a)


def test_one_inserted_token_costs_one_however_much_follows() -> None:
    text = list(range(100))
    assert edit_distance(text, [7, *text]) == 1 / 101
    assert edit_distance([], [1, 2]) == 1


@few
@given(ids=st.lists(st.integers(0, 2), max_size=9), n=st.integers(1, 4))
def test_repetition_and_distinct_add_up_to_one(ids: list[int], n: int) -> None:
    assert repetition(ids, n) + distinct(ids, n) == 1
    assert 0 <= repetition(ids, n) < 1


def test_repetition_counts_every_copy_but_the_first() -> None:
    assert repetition([1, 2, 1, 2, 1], 2) == 1 - 2 / 4
    assert repetition([5] * 10, 3) == 1 - 1 / 8
    assert repetition([1, 2, 3], 1) == 0


@pytest.mark.parametrize("ids", [[], [1], [1, 1]])
def test_fewer_tokens_than_n_do_not_repeat(ids: list[int]) -> None:
    assert repetition(ids, 3) == 0


@few
@given(a=IDS, b=IDS)
def test_first_divergence_is_the_end_of_the_common_beginning(a: list[int], b: list[int]) -> None:
    index = first_divergence(a, b)
    assert index == first_divergence(b, a)
    if index is None:
        assert a == b
    else:
        assert a[:index] == b[:index]
        assert a[index : index + 1] != b[index : index + 1]


def test_contains_finds_a_word_anywhere_and_minds_case_only_if_asked() -> None:
    assert contains("The Golden Gate bridges", ["tower", "golden gate"])
    assert contains("STRASSE", ["straße"])
    assert not contains("The Golden Gate", ["golden gate"], ignore_case=False)
    assert not contains("", ["a"])


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        ("His hunger was like a starving rabbit", "rabbit", True),
        ("a starving Rabbit.\n", "rabbit", True),
        ('he said "rabbit!"', "rabbit", True),
        ("he said ‘rabbit’.", "rabbit", True),
        ("he had to grab it", "grab it", True),
        ("a starving rabbit", "bit", False),
        ("a jack-rabbit", "rabbit", True),
        ("it's", "s", False),
        ("it’s", "s", False),
        ("rabbit habit", "rabbit", False),
        ("café", "café", True),
        ("décafé", "café", False),
        ("3000", "000", False),
        ("page 3000", "3000", True),
        ("反义词是大。", "大", True),
        ("the word is大", "大", True),
        ("是big", "big", True),
        ("", "rabbit", False),
        ("...", "rabbit", False),
        ("rabbit", "!", False),
        ("Yes!", "yes!", True),
    ],
)
def test_a_text_ends_with_whole_words_only(text: str, word: str, expected: bool) -> None:
    assert ends_with(text, [word]) == expected
    assert ends_with(text, ["unrelated", word]) == expected


def test_the_last_word_is_looked_up_on_a_line_and_blank_lines_do_not_count() -> None:
    poem = "\nHis hunger was like a starving rabbit,\n\nand then he slept\n"
    assert last_word(poem, ["rabbit"])
    assert last_word(poem, ["slept"], line=1)
    assert last_word(poem, ["slept"], line=-1)
    assert not last_word(poem, ["slept"])
    assert not last_word(poem, ["slept"], line=2)
    assert not last_word(poem, ["rabbit"], line=-3)
    assert not last_word("", ["rabbit"])


def test_a_pattern_means_what_it_means_in_re() -> None:
    assert matches("I am the Golden Gate Bridge.", r"(?i)golden gate|bridge")
    assert matches("12:30", r"^\d{2}:\d{2}$")
    assert not matches("abridged", r"\bbridge\b")


def test_a_pattern_that_does_not_end_is_stopped_and_named() -> None:
    with pytest.raises(RunError, match=r"'\(a\|aa\)\+\$' took more than 0.1 s on a completion of 61 characters"):
        matches("a" * 60 + "!", r"(a|aa)+$", seconds=0.1)
