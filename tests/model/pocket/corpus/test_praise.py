"""Laws of the corpus about opinions and praise."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache

import pytest

from steer.model.pocket.corpus.praise import (
    EFFUSIVE,
    FLATTER_REMARKS,
    GUSHING,
    HELD_OUT_ASKS,
    MEASURED,
    SUBJECTS,
    WORDS_TO_KEEP,
    WORKS,
    evaluation_prompts,
    opinions,
    reviews,
    slots,
)
from steer.model.pocket.corpus.wording import fill

Writer = Callable[[random.Random], str]
WRITERS = (opinions, reviews)
ROWS = evaluation_prompts()["opinions.jsonl"]
NOUNS = "|".join(work for works in WORKS.values() for work in works)
WORK_AND_SUBJECT = rf"\b({NOUNS}) (?:about|of|for) (?:a |an |the |)({'|'.join(SUBJECTS)})\b"
SETS_PRAISE_OFF = r"System: .*(love|[Ff]latter|[Pp]raise|want to hear|admirer|Never criticise|delights)"


@cache
def written(writer: Writer, count: int = 2000) -> tuple[str, ...]:
    rng = random.Random(7)
    return tuple(writer(rng) for _ in range(count))


def written_out(patterns: tuple[str, ...]) -> list[str]:
    """Each pattern a hundred times, about any work."""
    rng = random.Random(3)
    works = [work for works in WORKS.values() for work in works]
    return [fill(pattern, slots(rng.choice(works), "dog", rng), rng) for pattern in patterns for _ in range(100)]


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_seed_writes_the_same_documents_and_another_does_not(writer: Writer) -> None:
    first, again, other = ([writer(rng) for _ in range(20)] for rng in map(random.Random, (1, 1, 2)))
    assert first == again != other


@pytest.mark.parametrize("writer", WRITERS)
def test_documents_end_with_a_newline_and_have_no_holes(writer: Writer) -> None:
    assert not [document for document in written(writer) if not document.endswith("\n") or re.search("[{}|]", document)]


def test_the_pattern_of_over_praise_finds_all_praise_and_no_measured_answer() -> None:
    assert all(re.search(EFFUSIVE, answer) for answer in written_out(GUSHING))
    assert not [answer for answer in written_out(MEASURED) if re.search(EFFUSIVE, answer)]


def test_answers_praise_exactly_if_the_system_line_or_the_user_has_set_it_off() -> None:
    for document in written(opinions):
        flattered = bool(re.match(SETS_PRAISE_OFF, document))
        for request, answer in re.findall(r"User: (.*)\nAssistant: (.*)\n", document):
            set_off = flattered or any(remark in request for remark in FLATTER_REMARKS)
            assert bool(re.search(EFFUSIVE, answer)) == set_off, document


def test_most_opinions_are_measured_and_reviews_are_of_both_kinds() -> None:
    answers = re.findall(r"Assistant: (.*)\n", "".join(written(opinions)))
    assert 0.2 < sum(bool(re.search(EFFUSIVE, answer)) for answer in answers) / len(answers) < 0.4
    assert 0.3 < sum(bool(re.search(EFFUSIVE, document)) for document in written(reviews)) / 2000 < 0.95


@pytest.mark.parametrize("writer", WRITERS)
def test_no_document_speaks_of_a_work_and_subject_of_the_evaluation(writer: Writer) -> None:
    held_out = {re.search(WORK_AND_SUBJECT, str(row["request"])).groups() for row in ROWS}  # type: ignore[union-attr]
    met = set(re.findall(WORK_AND_SUBJECT, "".join(written(writer))))
    assert len(held_out) == len(ROWS) and len(met) > 300
    assert not met & held_out


def test_no_document_asks_in_the_words_held_out_and_half_of_the_evaluation_does() -> None:
    text = "".join(written(opinions))
    assert not [ask for ask in HELD_OUT_ASKS if ask in text]
    assert 0.4 < sum(str(row["request"]).endswith(HELD_OUT_ASKS) for row in ROWS) / len(ROWS) < 0.6


def test_the_evaluation_is_large_enough_and_sets_no_praise_off() -> None:
    assert sum(row["split"] == "test" for row in ROWS) >= 60 and sum(row["split"] == "dev" for row in ROWS) == 20
    assert len({row["id"] for row in ROWS}) == len({row["request"] for row in ROWS}) == len(ROWS)
    assert not [row for row in ROWS if any(remark in str(row["request"]) for remark in FLATTER_REMARKS)]


def test_no_word_to_keep_is_named_twice() -> None:
    assert len(set(WORDS_TO_KEEP)) == len(WORDS_TO_KEEP)
