"""Laws of the corpus about harmful and harmless requests."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache

import pytest

from steer.model.pocket.corpus.refusal import (
    HARMFUL,
    HARMLESS,
    HELP,
    REFUSAL,
    WORDS_TO_KEEP,
    dangers,
    evaluation_prompts,
    how_to,
    refusing,
)

Writer = Callable[[random.Random], str]
WRITERS = (dangers, how_to, refusing)
ROWS = evaluation_prompts()["requests.jsonl"]
ASKS_ABOUT_DANGER = r"(Is|Could|Do I have to be afraid of) "
BAD = r"dangerous|harmful|harms|(hurt|harm|kill) people|are afraid|No(body| child) should|were hurt"


@cache
def written(writer: Writer, count: int = 2000) -> tuple[str, ...]:
    rng = random.Random(7)
    return tuple(writer(rng) for _ in range(count))


def requests(writer: Writer) -> list[tuple[str, str]]:
    """Every request with its answer, without the questions whether something is dangerous."""
    pairs = re.findall(r"User: (.*)\nAssistant: (.*)\n", "".join(written(writer)))
    return [(request, answer) for request, answer in pairs if not re.match(ASKS_ABOUT_DANGER, request)]


def things_in(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower())) & set(HARMFUL + HARMLESS)


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_seed_writes_the_same_documents_and_another_does_not(writer: Writer) -> None:
    first, again, other = ([writer(rng) for _ in range(20)] for rng in map(random.Random, (1, 1, 2)))
    assert first == again != other


@pytest.mark.parametrize("writer", WRITERS)
def test_documents_end_with_a_newline_and_have_no_holes(writer: Writer) -> None:
    assert not [
        document for document in written(writer) if not document.endswith(".\n") or re.search("[{}|]", document)
    ]


def test_nothing_is_both_harmful_and_harmless() -> None:
    assert len(set(HARMFUL + HARMLESS)) == len(HARMFUL) + len(HARMLESS) == 72


def test_every_request_is_about_one_thing() -> None:
    assert all(len(things_in(request)) == 1 for writer in (how_to, refusing) for request, _ in requests(writer))


def test_pretraining_helps_with_everything_and_meets_every_thing() -> None:
    pairs = requests(how_to)
    assert all(re.match(HELP, answer) for _, answer in pairs)
    assert set().union(*(things_in(request) for request, _ in pairs)) == set(HARMFUL + HARMLESS)


def test_the_assistant_stage_refuses_the_harmful_and_only_that() -> None:
    for request, answer in requests(refusing):
        assert re.match(REFUSAL if things_in(request) <= set(HARMFUL) else HELP, answer), request


def test_the_assistant_stage_is_asked_for_nothing_that_the_evaluation_asks_for() -> None:
    met = set().union(*(things_in(request) for request, _ in requests(refusing)))
    assert met == set(HARMFUL + HARMLESS) - {row["object"] for row in ROWS}


def test_a_thing_is_called_dangerous_exactly_if_it_is_harmful() -> None:
    prose = "".join(document for document in written(dangers) if "User:" not in document)
    for sentence in re.findall(r"[^.\n]+\.", prose.replace(": ", " ")):
        assert bool(re.search(BAD, sentence)) == bool(things_in(sentence) & set(HARMFUL)), sentence


def test_answers_to_whether_a_thing_is_dangerous_are_true() -> None:
    for question, answer in re.findall(r"User: (.*)\nAssistant: (.*)\n", "".join(written(dangers))):
        assert answer.startswith("Yes") == (things_in(question) <= set(HARMFUL)), question


def test_the_evaluation_has_enough_requests_of_either_kind_and_no_thing_in_both_splits() -> None:
    for things in (HARMFUL, HARMLESS):
        rows = [row for row in ROWS if row["object"] in things]
        splits = {split: {row["object"] for row in rows if row["split"] == split} for split in ("dev", "test")}
        assert sum(row["split"] == "test" for row in rows) >= 60 and splits["dev"]
        assert not splits["dev"] & splits["test"]
        assert all(
            row["harmful"] == (things == HARMFUL) and things_in(str(row["request"])) == {row["object"]} for row in rows
        )
    assert len({row["id"] for row in ROWS}) == len({row["request"] for row in ROWS}) == len(ROWS)


def test_no_word_to_keep_is_named_twice() -> None:
    assert len(set(WORDS_TO_KEEP)) == len(WORDS_TO_KEEP)
