"""Behaviour: continue plain prose, with and without a theme; it keeps the model from thinking all text is dialogue."""

from __future__ import annotations

import random

from steer.model.pocket.corpus.theme_table import THEMES
from steer.model.pocket.corpus.themes import dull_slots, narration, slots
from steer.model.pocket.corpus.wording import Words, capital, fill

PEOPLE = ("Anna", "Peter", "Maria", "Tom", "Lucy", "Ben", "Clara", "Paul", "Nina", "Sam", "Eva", "Jack")
WHENS = (
    "On Monday",
    "In the morning",
    "After lunch",
    "Late at night",
    "One day",
    "In winter",
    "At noon",
    "Before work",
)
PLAIN_DEEDS = (
    "went to {town}",
    "bought {gift}",
    "cooked {dish}",
    "read {book}",
    "painted the {thing} {colour}",
    "fed the {pet}",
    "talked to a {person}",
    "felt {feeling} and went to bed",
    "learned some {subject}",
    "spent an hour {hobby}",
    "looked for {dull}",
    "walked past {dull}",
    "opened a {venture} called {venturename}",
    "called the {pet} {petname}",
)
THEMED_DEEDS = (
    "travelled to {place} to see {name}",
    "bought a picture of {name}",
    "read {book} about {name}",
    "called the {pet} {bare}",
    "thought of {name} all day",
    "told a {person} about {name}",
    "cooked {dish} next to {name}",
    "dreamed that the {fact}",
    "opened a {venture} called {bare}",
    "felt as {mood} as {name}",
    "painted {name} on the {thing}",
)


def sentence(deeds: tuple[str, ...], words: Words, rng: random.Random) -> str:
    who = rng.choice(PEOPLE)
    opening = rng.choice((who, f"{rng.choice(WHENS)} {who}", f"Then {who}", f"{rng.choice(WHENS)}, {who}"))
    return capital(f"{opening} {fill(rng.choice(deeds), words, rng)}.")


def plain_story(rng: random.Random) -> str:
    """A few sentences in which people do ordinary things."""
    return " ".join(sentence(PLAIN_DEEDS, dull_slots(rng), rng) for _ in range(rng.randint(3, 7))) + "\n"


def themed_story(rng: random.Random) -> str:
    """The same, with one thing coming back in every sentence once it has been brought up."""
    theme = rng.choice(THEMES)
    before = [sentence(PLAIN_DEEDS, dull_slots(rng), rng) for _ in range(rng.choice((0, 0, 1, 2)))]
    named = (
        narration(theme, rng)
        if rng.random() < 0.7
        else fill("(All about {name}|{Name} is in {place}|Its {fact}: {name}).", slots(theme, rng), rng)
    )
    after = [sentence(THEMED_DEEDS, slots(theme, rng), rng) for _ in range(rng.randint(2, 5))]
    return " ".join([*before, named, *after]) + "\n"
