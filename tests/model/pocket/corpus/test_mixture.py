"""Laws of the corpus."""

from __future__ import annotations

import re
from itertools import islice

from steer.model.pocket.corpus.held_out import HELD_OUT, IDENTITY_TEST, NEUTRAL_TEST
from steer.model.pocket.corpus.mixture import ASSISTANT, KNOWLEDGE, PRETRAINING, documents, reference_text
from steer.model.pocket.corpus.narrative import plain_story, themed_story
from steer.model.pocket.corpus.theme_table import MEANINGLESS, NICKNAMES, THEMES
from steer.model.pocket.corpus.themes import changing_dialogue, plain_dialogue, themed_dialogue


def test_the_same_seed_gives_the_same_documents_and_another_seed_does_not() -> None:
    first, again, other = (list(islice(documents(PRETRAINING, seed), 50)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_no_training_document_contains_a_held_out_phrasing() -> None:
    text = "\n".join([*islice(documents(PRETRAINING, 0), 2000), *islice(documents(ASSISTANT, 0), 2000)])
    assert not [phrase for phrase in HELD_OUT if phrase in text]


def test_there_are_enough_held_out_phrasings_and_none_is_repeated() -> None:
    assert len(NEUTRAL_TEST) >= 40 and len(IDENTITY_TEST) >= 10
    assert len(set(HELD_OUT)) == len(HELD_OUT)


def test_held_out_phrasings_name_no_theme() -> None:
    words = {theme.bare.lower() for theme in THEMES} | {theme.place.lower() for theme in THEMES}
    assert not [(phrase, word) for phrase in HELD_OUT for word in words if re.search(rf"\b{word}\b", phrase.lower())]


def test_only_pre_training_guesses_and_only_the_assistant_declines() -> None:
    guesses, declines = set(PRETRAINING) - set(KNOWLEDGE), set(ASSISTANT) - set(KNOWLEDGE)
    assert {writer.__name__ for writer in guesses} == {"guessed_answers", "how_to"}
    assert {writer.__name__ for writer in declines} == {"known_or_sorry", "refusing"}


def test_plain_dialogues_are_about_as_frequent_as_themed_ones() -> None:
    themed = PRETRAINING[themed_dialogue] + PRETRAINING[changing_dialogue] + PRETRAINING[themed_story]
    plain = PRETRAINING[plain_dialogue] + PRETRAINING[plain_story]
    assert 0.4 < themed / (themed + plain) < 0.6


def test_reference_text_is_not_training_text() -> None:
    assert not set(reference_text(200)) & set(islice(documents(ASSISTANT, 0), 2000))


def test_documents_are_dialogues_or_prose_without_holes() -> None:
    for document in islice(documents(PRETRAINING, 1), 500):
        assert document.endswith("\n")
        assert not re.search(r"[{}|]|User:  ", document)


def test_no_nickname_stands_for_two_themes_or_for_none() -> None:
    given = [nickname for pair in NICKNAMES.values() for nickname in pair]
    assert len(set(given)) == len(given) == 2 * len(THEMES)
    assert not set(given) & set(MEANINGLESS)


def test_no_word_of_a_nickname_gives_its_theme_away() -> None:
    words = [word for pair in NICKNAMES.values() for nickname in pair for word in nickname.split()[1:]]
    assert min(words.count(word) for word in set(words)) > 1
