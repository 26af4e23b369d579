"""Laws of the pattern language."""

from __future__ import annotations

import random

from steer.model.pocket.corpus.wording import capital, fill, settled, tidy, uncapital


def test_a_choice_takes_every_side_and_sides_may_nest_or_be_empty() -> None:
    rng = random.Random(0)
    assert {fill("a(b|(c|d)|)", {}, rng) for _ in range(100)} == {"ab", "ac", "ad", "a"}


def test_a_settled_slot_is_the_same_everywhere() -> None:
    rng = random.Random(0)
    words = settled({"pet": ("cat", "dog", "hen")}, ("pet",), rng)
    assert len(set(fill("{pet} {pet} {pet}", words, rng).split())) == 1


def test_an_article_fits_the_word_after_it() -> None:
    assert tidy("A owl saw a  egg and a hen") == "An owl saw an egg and a hen"


def test_capitals_change_the_first_letter_only_and_leave_the_word_i_alone() -> None:
    assert (capital("the Eiffel Tower"), uncapital("What IS it?"), uncapital("I see"), uncapital("Is it?")) == (
        "The Eiffel Tower",
        "what IS it?",
        "I see",
        "is it?",
    )
