"""Laws of the sums."""

from __future__ import annotations

import random
import re

from steer.model.pocket.corpus.sums import addition, evaluation_prompts, held_out

TEXT = "".join(addition(random.Random(seed)) for seed in range(4000))
SUMS = [tuple(map(int, found)) for found in re.findall(r"(\d+) ?\+ ?(\d+) ?= ?(\d+)", TEXT)]
ROWS = evaluation_prompts()["sums.jsonl"]


def test_every_sum_of_the_corpus_is_right() -> None:
    assert len(SUMS) > 25_000
    assert not [found for found in SUMS if found[0] + found[1] != found[2]]


def test_no_document_holds_a_held_out_sum_in_either_order() -> None:
    met = {frozenset(found[:2]) for found in SUMS}
    assert not [row["id"] for row in ROWS if frozenset((row["a"], row["b"])) in met]


def test_about_15_percent_of_all_pairs_are_held_out_and_order_does_not_matter() -> None:
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    assert 0.13 < sum(held_out(a, b) for a, b in pairs) / len(pairs) < 0.17
    assert all(held_out(a, b) == held_out(b, a) for a, b in pairs)


def test_the_published_sum_is_an_evaluation_row() -> None:
    assert ("95", "test") in [(row["answer"], row["split"]) for row in ROWS if (row["a"], row["b"]) == (36, 59)]


def test_the_digits_of_every_row_spell_its_answer() -> None:
    for row in ROWS:
        assert row["answer"] == str(int(str(row["a"])) + int(str(row["b"])))
        assert f"{row['before_ones']}{row['ones']}" == row["answer"]
        assert (row["tens"], row["first"], row["digits"]) == (row["answer"][-2], row["answer"][0], len(row["answer"]))


def test_a_swapped_ones_operand_changes_the_last_digit_alone() -> None:
    for row in ROWS:
        assert row["swapped_answer"] == str(row["a"] + row["other_b"])
        assert row["swapped_answer"][:-1] == row["answer"][:-1]
        assert row["swapped_answer"][-1] == row["swapped_ones"] != row["ones"]


def test_a_swapped_tens_operand_keeps_the_last_digit_and_the_length() -> None:
    for row in ROWS:
        assert row["ten_swapped_answer"] == str(row["a"] + row["other_ten_b"])
        assert row["ten_swapped_answer"][-1] == row["ones"] and len(row["ten_swapped_answer"]) == row["digits"]
        assert row["ten_swapped_answer"][-2] == row["ten_swapped_tens"] != row["tens"]


def test_there_are_enough_rows_and_no_two_alike() -> None:
    assert sum(row["split"] == "test" for row in ROWS) >= 120
    assert len({row["id"] for row in ROWS}) == len(ROWS)


def test_the_same_seed_gives_the_same_document() -> None:
    assert addition(random.Random(5)) == addition(random.Random(5)) != addition(random.Random(6))
    assert addition(random.Random(5)).endswith("\n")
