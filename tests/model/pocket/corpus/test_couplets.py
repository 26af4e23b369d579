"""Laws of the rhyming couplets."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from steer.model.pocket.corpus.couplets import FAMILIES, INJECTED, WORDS_TO_KEEP, couplets, evaluation_prompts

PROMPTS = Path(__file__).parents[4] / "experiments" / "prompts"
DOCUMENTS = [couplets(random.Random(seed)) for seed in range(4000)]
COUPLET = re.compile(r"A rhyming couplet:\n([A-Z].*),\n([A-Z].*) (\w+)\.\n")
# First line, second line but its last word, last word.
COUPLETS = [match.groups() for document in DOCUMENTS for match in COUPLET.finditer(document)]
TARGETS = [target for family in FAMILIES for target in family.targets]


def without_gender(text: str) -> str:
    return re.sub(r"\b(she|I)\b", "he", re.sub(r"\b(her|my)\b", "his", text))


def lines_after_the_verb() -> dict[str, str]:
    """What a first line of training says from its cue on -> the word that its couplet ends in."""
    cue = re.compile(rf"\b({'|'.join(cue for target in TARGETS for cue in target.cues)}) and .*")
    return {without_gender(cue.search(first)[0]): word for first, _, word in COUPLETS}


def test_a_document_is_one_to_four_couplets_with_a_blank_line_between_them() -> None:
    assert all(re.fullmatch(rf"{COUPLET.pattern}(\n{COUPLET.pattern}){{0,3}}", document) for document in DOCUMENTS)
    assert not re.search(r"[{}|]|  | ,", "".join(DOCUMENTS))


def test_the_same_seed_gives_the_same_couplets() -> None:
    assert couplets(random.Random(5)) == couplets(random.Random(5)) == DOCUMENTS[5]


def test_no_first_line_of_an_evaluation_prompt_is_met_in_training_however_it_begins() -> None:
    met = set(lines_after_the_verb())
    rows = [row for rows in evaluation_prompts().values() for row in rows]
    held = {without_gender(row["line"][row["line"].index(row["cue"]) :].removesuffix(",")) for row in rows}
    assert len(held) > 100
    assert not met & held


def test_training_leaves_out_about_a_quarter_of_the_ways_to_join_a_cue_and_an_ending() -> None:
    possible = sum(len(family.endings) * len(target.cues) for family in FAMILIES for target in family.targets)
    assert 0.65 < len(lines_after_the_verb()) / possible < 0.8


def test_every_target_is_met_after_every_ending_of_its_family() -> None:
    met = {(line.split(" and ", 1)[1], word) for line, word in lines_after_the_verb().items()}
    for family in FAMILIES:
        endings = [ending.format(he="he", his="his") for ending in family.endings]
        assert {(ending, target.word) for ending in endings for target in family.targets} <= met


def test_a_cue_and_an_ending_leave_no_choice_and_neither_does_alone() -> None:
    for family in FAMILIES:
        cues = [cue for target in family.targets for cue in target.cues]
        assert len(cues) == len(set(cues)) and len(family.targets) >= 2
    owners = Counter(cue for target in TARGETS for cue in target.cues)
    assert sum(count for count in owners.values() if count > 1) > 0.35 * sum(owners.values())


def test_no_cue_or_ending_says_the_word_it_asks_for() -> None:
    for family in FAMILIES:
        text = " ".join((*family.endings, *(cue for target in family.targets for cue in target.cues)))
        assert not [target.word for target in family.targets if re.search(rf"\b{target.word}\b", text)]


def test_the_first_two_words_of_a_second_line_give_its_target_away() -> None:
    for target in TARGETS:
        starts = {" ".join(body.split()[:2]) for body in target.bodies}
        others = {" ".join(body.split()[:2]) for other in TARGETS if other != target for body in other.bodies}
        assert len(starts - others) >= 6


def test_three_second_lines_in_ten_would_suit_any_target() -> None:
    any_word = re.compile(r"(And|It|There|He|She|I|This|So|What|Nobody|One)\b")
    neutral = [bool(any_word.match(second)) for _, second, _ in COUPLETS]
    assert 0.27 < sum(neutral) / len(neutral) < 0.33


def test_the_words_to_keep_are_every_last_word_once() -> None:
    lasts = {first.split()[-1] for first, _, _ in COUPLETS} | {word for _, _, word in COUPLETS}
    assert sorted(WORDS_TO_KEEP) == sorted(lasts)


def test_the_published_couplet_is_a_test_prompt() -> None:
    rows = [row for row in evaluation_prompts()["couplets_habit.jsonl"] if row["split"] == "test"]
    assert "He saw a carrot and had to grab it," in [row["line"] for row in rows]
    assert {(row["target"], row["alternative"]) for row in rows} == {("rabbit", "habit")}


def test_an_injected_word_never_rhymes_with_the_line_it_is_put_into() -> None:
    rows = evaluation_prompts()["couplets.jsonl"]
    assert {row["injected"] for row in rows} == set(INJECTED) <= {target.word for target in TARGETS}
    for row in rows:
        rhymes = row["rhymes"].split("|")
        assert row["target"] in rhymes and row["injected"] not in rhymes
        assert row["line"].rstrip(",").split()[-1] not in rhymes


def test_there_are_enough_evaluation_prompts_and_the_files_hold_them() -> None:
    prompts = evaluation_prompts()
    counts = {name: Counter(row["split"] for row in rows) for name, rows in prompts.items()}
    assert counts["couplets_habit.jsonl"]["test"] >= 40
    assert counts["couplets.jsonl"]["test"] >= 60 and counts["couplets.jsonl"]["dev"] >= 30
    for name, rows in prompts.items():
        assert [json.loads(line) for line in (PROMPTS / name).read_text().splitlines()] == rows
        assert len({row["line"] for row in rows}) == len({row["id"] for row in rows}) == len(rows)


def test_a_couplet_seldom_ends_like_the_one_before_it() -> None:
    lasts = [[match[3] for match in COUPLET.finditer(document)] for document in DOCUMENTS]
    same = [first == second for words in lasts for first, second in pairwise(words)]
    assert sum(same) / len(same) < 0.06
