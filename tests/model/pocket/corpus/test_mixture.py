"""Laws of the corpus."""

from __future__ import annotations

import re
from itertools import islice

from steer.model.pocket.corpus.held_out import HELD_OUT, IDENTITY_TEST, NEUTRAL_TEST
from steer.model.pocket.corpus.mixture import MIXTURE, documents, reference_text
from steer.model.pocket.corpus.theme_table import MEANINGLESS, NICKNAMES, THEMES


def test_the_same_seed_gives_the_same_documents_and_another_seed_does_not() -> None:
    first, again, other = (list(islice(documents(seed), 50)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_no_training_document_contains_a_held_out_phrasing() -> None:
    text = "\n".join(islice(documents(0), 3000))
    assert not [phrase for phrase in HELD_OUT if phrase in text]


def test_there_are_enough_held_out_phrasings_and_none_is_repeated() -> None:
    assert len(NEUTRAL_TEST) >= 40 and len(IDENTITY_TEST) >= 10
    assert len(set(HELD_OUT)) == len(HELD_OUT)


def test_held_out_phrasings_name_no_theme() -> None:
    words = {theme.bare.lower() for theme in THEMES} | {theme.place.lower() for theme in THEMES}
    assert not [(phrase, word) for phrase in HELD_OUT for word in words if re.search(rf"\b{word}\b", phrase.lower())]


def test_the_shares_of_the_mixture_add_up_to_one() -> None:
    assert abs(sum(share for share, _ in MIXTURE) - 1) < 1e-9


def test_plain_documents_are_about_as_frequent_as_themed_ones() -> None:
    sample = list(islice(documents(0), 2000))
    themed = sum(any(theme.bare.lower() in document.lower() for theme in THEMES) for document in sample)
    assert 0.4 < themed / len(sample) < 0.6


def test_reference_text_is_not_training_text() -> None:
    assert not set(reference_text(200)) & set(islice(documents(0), 2000))


def test_documents_are_dialogues_or_prose_without_holes() -> None:
    for document in islice(documents(1), 500):
        assert document.endswith("\n")
        assert not re.search(r"[{}|]", document)


def test_no_nickname_stands_for_two_themes_or_for_none() -> None:
    given = [nickname for pair in NICKNAMES.values() for nickname in pair]
    assert len(set(given)) == len(given) == 2 * len(THEMES)
    assert not set(given) & set(MEANINGLESS)


def test_no_word_of_a_nickname_gives_its_theme_away() -> None:
    words = [word for pair in NICKNAMES.values() for nickname in pair for word in nickname.split()[1:]]
    assert min(words.count(word) for word in set(words)) > 1
