"""Laws of the three languages."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from steer.model.pocket.corpus.languages import (
    ALSO_ENGLISH,
    CONCEPTS,
    LANGUAGES,
    counting,
    evaluation_prompts,
    language_words,
    opposites,
    prose,
    sentences,
    translations,
)

WRITERS = (opposites, translations, prose, counting)
TEXTS = {writer: "".join(writer(random.Random(seed)) for seed in range(1500)) for writer in WRITERS}
TEXT = "".join(TEXTS.values())
ROWS = evaluation_prompts()["opposites.jsonl"]
COUNTS = evaluation_prompts()["counting.jsonl"]
# From a dictionary, not from the table.
KNOWN = {
    "english-antonym-small": "big",
    "french-antonym-small": "grand",
    "spanish-antonym-small": "grande",
    "french-antonym-cold": "chaud",
    "spanish-antonym-old": "joven",
    "english-synonym-clever": "smart",
    "french-synonym-beautiful": "joli",
    "spanish-synonym-fast": "veloz",
}


def test_no_document_holds_a_held_out_fact() -> None:
    assert not [row["id"] for row in ROWS if not row["trained"] and row["text"] in TEXT]


def test_every_trained_fact_is_met_with_its_answer() -> None:
    assert not [row["id"] for row in ROWS if row["trained"] and f'{row["text"]}{row["answer"]}".' not in TEXT]


def test_about_a_fifth_of_the_facts_is_held_out_and_never_one_in_two_languages() -> None:
    held_out = [(row["concept"], row["operation"]) for row in ROWS if not row["trained"]]
    assert 0.15 < len(held_out) / len(ROWS) < 0.25
    assert len(set(held_out)) == len(held_out)


@pytest.mark.parametrize("name", KNOWN)
def test_the_table_agrees_with_a_dictionary(name: str) -> None:
    assert [row["answer"] for row in ROWS if row["id"] == name] == [KNOWN[name]]


def test_the_opposite_of_the_opposite_is_the_word() -> None:
    for row in ROWS:
        back = [r for r in ROWS if r["word"] == row["opposite"] and r["language"] == row["language"]]
        assert {r["opposite"] for r in back} == {row["word"]}


def test_no_language_uses_a_word_for_two_things() -> None:
    for place in range(3):
        words = [word for concept in CONCEPTS.values() for word in (concept.words[place], concept.synonyms[place])]
        assert len(set(words)) == len(words)


def test_every_swap_changes_the_answer() -> None:
    for row in ROWS:
        answers = [row["answer"], row["other_answer"], row["other_operation_answer"], row["word"]]
        assert len(set(answers)) == 4
        assert len({row[f"answer_{language}"] for language in LANGUAGES}) == 3
        assert row["answer"] == row[f"answer_{row['language']}"]


def test_the_donor_of_every_swap_has_the_answer_that_the_swap_expects() -> None:
    answers = {row["text"]: row["answer"] for row in ROWS}
    for row in ROWS:
        assert answers[row["other_text"]] == row["other_answer"]
        assert answers[row["other_operation_text"]] == row["other_operation_answer"]
        assert [answers[row[f"text_{language}"]] for language in LANGUAGES] == [
            row[f"answer_{language}"] for language in LANGUAGES
        ]


def test_a_translation_is_never_between_two_different_things() -> None:
    same = [set(words) for concept in CONCEPTS.values() for words in (concept.words, concept.synonyms)]
    pairs = re.findall(r'"(\S+)" (?:is|est|es) "(\S+)"\.', TEXTS[translations])
    assert len(pairs) > 5000
    assert all(any({first, second} <= words for words in same) for first, second in pairs)


def test_words_follow_a_held_out_count_in_no_document() -> None:
    counts = re.findall(r"^((?:\d+, )*\d+,) [^\d\W]", TEXTS[counting], re.M)
    assert len(counts) > 1500
    assert not {row["text"] for row in COUNTS} & set(counts)
    assert not [row["id"] for row in COUNTS if re.search(rf"^{row['text']}", TEXTS[counting], re.M)]


def test_a_count_is_followed_by_each_language_as_often() -> None:
    words = {language: set(own) for language, own in language_words().items()}
    after = re.findall(r"^(?:\d+, )+(\D.*)$", TEXTS[counting], re.M)
    spoken = [
        max(LANGUAGES, key=lambda name: len(words[name] & set(re.findall(r"[^\W\d_]+", line.lower()))))
        for line in after
    ]
    assert all(0.29 < spoken.count(language) / len(spoken) < 0.38 for language in LANGUAGES)


def test_no_word_tells_of_two_languages() -> None:
    english, french, spanish = (set(language_words()[language]) for language in LANGUAGES)
    assert not (english & french or english & spanish or french & spanish)
    assert not (french | spanish) & ALSO_ENGLISH
    assert min(map(len, (english, french, spanish))) > 150


def test_french_elides_before_a_vowel() -> None:
    assert not re.findall(r"\b(?:que|le|la|ce|de) [aeiouéœ]\w+", sentences(1, 2000, random.Random(0)).lower())


def test_there_are_enough_rows_of_each_kind() -> None:
    assert sum(not row["trained"] and row["split"] == "test" for row in ROWS) >= 30
    assert {row["concept"] for row in ROWS if row["split"] == "dev"} == set(CONCEPTS)
    assert len(COUNTS) >= 30 and {row["split"] for row in COUNTS} == {"dev", "test"}
    assert "1, 2, 3," in [row["text"] for row in COUNTS]


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_seed_gives_the_same_document(writer: Callable[[random.Random], str]) -> None:
    assert writer(random.Random(5)) == writer(random.Random(5)) != writer(random.Random(6))
    assert writer(random.Random(5)).endswith("\n")
