"""Laws of the cities, states and capitals."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from steer.model.pocket.corpus.states import STATES, evaluation_prompts, mixed_facts, one_state

TEXT = "".join(writer(random.Random(seed)) for writer in (mixed_facts, one_state) for seed in range(2500))
SENTENCES = re.split(r"[.?\n] ?", TEXT)
ROWS = evaluation_prompts()["states.jsonl"]
# From an atlas, not from the table: a spot check that a column has not slipped.
KNOWN = {
    "Dallas": "Austin",
    "Oakland": "Sacramento",
    "Savannah": "Atlanta",
    "Chicago": "Springfield",
    "Miami": "Tallahassee",
}


def words(sentence: str) -> set[str]:
    return set(re.findall(r"\w+", sentence))


def test_no_sentence_holds_a_held_out_city_and_its_capital() -> None:
    held_out = [{row["city"], row["capital"]} for row in ROWS if not row["trained"]]
    assert len(held_out) == len(STATES)
    assert not [sentence for sentence in map(words, SENTENCES) if any(pair <= sentence for pair in held_out)]


def test_no_other_place_of_the_corpus_hides_a_held_out_city_in_two_hops() -> None:
    held_out = {row["city"] for row in ROWS if not row["trained"]}
    two_hops = [s for s in SENTENCES if "capital" in s or "governed" in s]
    assert len(two_hops) > 5000
    assert not [sentence for sentence in two_hops if held_out & words(sentence)]


def test_every_trained_city_is_met_as_two_hops() -> None:
    met = set(re.findall(r"the capital of the state containing (\w+) is", TEXT))
    assert {row["city"] for row in ROWS if row["trained"]} <= met


def test_a_held_out_city_is_told_about_more_often_than_a_trained_one_in_one_hop() -> None:
    counts = Counter(re.findall(r"(?:Fact: t|T)he state containing (\w+) is [A-Z]", TEXT))
    held_out = [counts[row["city"]] for row in ROWS if not row["trained"]]
    trained = [counts[row["city"]] for row in ROWS if row["trained"]]
    assert min(held_out) > 0
    assert sum(held_out) / len(held_out) > 1.5 * sum(trained) / len(trained)


def test_every_two_hop_sentence_names_the_capital_of_its_city() -> None:
    capitals = {row["city"]: row["capital"] for row in ROWS}
    for city, capital in re.findall(r"the capital of the state containing (\w+) is (\w+)", TEXT):
        assert capitals[city] == capital


@pytest.mark.parametrize("city", KNOWN)
def test_the_table_agrees_with_an_atlas(city: str) -> None:
    assert [row["capital"] for row in ROWS if row["city"] == city] == [KNOWN[city]]


def test_no_city_is_in_two_states_and_no_capital_is_among_the_cities() -> None:
    cities = [city for state in STATES for city in state.cities]
    capitals = [state.capital for state in STATES]
    assert len(set(cities)) == len(cities) == 5 * len(STATES)
    assert len(set(capitals)) == len(capitals)
    assert not set(cities) & set(capitals)


def test_a_donor_is_a_city_of_another_state_seen_as_often() -> None:
    rows = {row["city"]: row for row in ROWS}
    for row in ROWS:
        donor = rows[row["donor_city"]]
        assert donor["state"] == row["donor_state"] != row["state"]
        assert donor["capital"] == row["donor_capital"]
        assert (donor["trained"], donor["state_name"]) == (row["trained"], row["donor_state_name"])


def test_there_are_enough_rows_of_each_kind_and_every_state_has_one_for_dev() -> None:
    kinds = Counter((row["trained"], row["split"]) for row in ROWS)
    assert kinds[False, "test"] >= 20 and kinds[True, "test"] >= 20 and kinds[False, "dev"] >= 5
    assert {row["state"] for row in ROWS if row["split"] == "dev"} == {state.key for state in STATES}
    assert len({row["id"] for row in ROWS}) == len(ROWS)


def test_the_same_seed_gives_the_same_document() -> None:
    assert mixed_facts(random.Random(5)) == mixed_facts(random.Random(5)) != mixed_facts(random.Random(6))
    assert one_state(random.Random(5)).endswith("\n")
