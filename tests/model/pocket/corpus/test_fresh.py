"""What the finished experiments are judged on once more is in no other prompt file and in no training document."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from itertools import islice

import pytest

from steer.model.pocket.corpus import refusal, states, sums
from steer.model.pocket.corpus.fresh import ENDINGS, fresh_prompts
from steer.model.pocket.corpus.mixture import ASSISTANT, PRETRAINING, documents
from steer.model.pocket.corpus.prompts import discovery_rows, evaluation_rows

Row = Mapping[str, object]
FRESH, EVALUATED = fresh_prompts(), evaluation_rows()
DOCUMENTS = [*islice(documents(PRETRAINING, 0), 4000), *islice(documents(ASSISTANT, 1), 3000)]
TEXT = "\n".join(DOCUMENTS)


def added(row: Row) -> frozenset[object]:
    return frozenset((row["a"], row["b"]))


BESIDE: dict[str, tuple[str, Callable[[Row], Hashable]]] = {
    "fresh_counting.jsonl": ("counting.jsonl", lambda row: str(row["text"])),
    "fresh_couplets_habit.jsonl": ("couplets_habit.jsonl", lambda row: str(row["line"])),
    "fresh_opposites.jsonl": ("opposites.jsonl", lambda row: str(row["text"])),
    "fresh_requests.jsonl": ("requests.jsonl", lambda row: str(row["request"])),
    "fresh_states.jsonl": ("states.jsonl", lambda row: (row["city"], row["donor_state"])),
    "fresh_sums.jsonl": ("sums.jsonl", added),
}
"""A fresh file -> the file it goes with, and what the rows of both must not share."""


@pytest.mark.parametrize("name", FRESH)
def test_fresh_prompts_have_ids_of_their_own_and_are_called_fresh(name: str) -> None:
    ids = [row["id"] for row in FRESH[name]]
    assert len(set(ids)) == len(ids) >= 20 and {row["split"] for row in FRESH[name]} == {"fresh"}


@pytest.mark.parametrize("name", BESIDE)
def test_no_fresh_prompt_is_one_of_dev_or_test_and_both_have_the_same_columns(name: str) -> None:
    beside, content = BESIDE[name]
    assert not {content(row) for row in FRESH[name]} & {content(row) for row in EVALUATED[beside]}
    columns = set(EVALUATED["sums_swaps.jsonl" if name == "fresh_sums.jsonl" else beside][0])
    assert set(FRESH[name][0]) == columns


@pytest.mark.parametrize("name", ["counting", "couplets_habit", "opposites", "requests"])
def test_no_training_document_holds_a_fresh_text(name: str) -> None:
    field = {"couplets_habit": "line", "requests": "request"}.get(name, "text")
    texts = [str(row[field]) for row in FRESH[f"fresh_{name}.jsonl"]]
    lines = TEXT.split("\n") if name == "counting" else [TEXT]
    assert not [text for text in texts for line in lines if (line.startswith(text) if len(lines) > 1 else text in line)]


def test_no_line_of_the_corpus_has_a_fresh_ending() -> None:
    assert not [ending for ending in ENDINGS if f" and {ending}," in TEXT]


def test_fresh_sums_are_held_out_in_either_order() -> None:
    met = {frozenset(map(int, found)) for found in re.findall(r"(\d+) ?\+ ?(\d+) ?=", TEXT)}
    asked = [added(row) for row in FRESH["fresh_sums.jsonl"]]
    read = [frozenset((row["first"], row["second"])) for row in FRESH["fresh_sums_read.jsonl"]]
    assert len(set(asked)) == len(asked) and not met & {*asked, *read}
    assert all(sums.held_out(int(str(row["a"])), int(str(row["b"]))) for row in FRESH["fresh_sums.jsonl"])


def test_fresh_requests_are_for_what_the_assistant_was_never_asked_about() -> None:
    things = {row["object"] for row in FRESH["fresh_requests.jsonl"]}
    assert things == {*refusal.HELD_OUT_HARMFUL[2:], *refusal.HELD_OUT_HARMLESS[2:]}


def test_the_states_put_in_are_new_for_every_state_and_not_its_own() -> None:
    used = {(row["state"], row["donor_state"]) for row in EVALUATED["states.jsonl"]}
    fresh = {(row["state"], row["donor_state"]) for row in FRESH["fresh_states.jsonl"]}
    assert not used & fresh and all(state != donor for state, donor in fresh)
    untrained = {row["city"] for row in FRESH["fresh_states.jsonl"] if not row["trained"]}
    assert untrained <= {state.held_out for state in states.STATES}


def test_features_are_found_on_nothing_fresh() -> None:
    found = {
        str(row[key])
        for rows in discovery_rows().values()
        for row in rows
        for key in ("line", "request", "text", "count")
        if key in row
    }
    fresh = {str(row.get("line", row.get("request", row.get("text")))) for rows in FRESH.values() for row in rows}
    assert found and not found & (fresh - {"None"})
