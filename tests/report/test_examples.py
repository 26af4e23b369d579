from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from steer.analysis.analyse import analyse
from steer.analysis.tables import read_run
from steer.report.examples import LONGEST, Example, changes, examples, goal_is_less, pick
from steer.report.focus import find_focus
from tests.analysis.synthetic import golden_run, swap_run


def marked(before: str, after: str) -> list[str]:
    return [piece.text for piece in changes(before, after) if piece.changed]


def test_only_changed_words_are_marked() -> None:
    assert marked("I am a helpful assistant.", "I am a golden bridge.") == ["golden bridge."]
    assert marked("I see the bay", "I see the bay") == []
    assert marked("", "all new") == ["all new"]
    assert marked("something", "") == []


@pytest.mark.parametrize("after", ["  two  spaces\n\nand lines ", "one", "", " leading"])
def test_the_pieces_are_the_whole_text(after: str) -> None:
    assert "".join(piece.text for piece in changes("some other text", after)) == after


def test_space_before_a_word_is_not_marked() -> None:
    assert "".join(f"<{p.text}>" if p.changed else p.text for p in changes(" a b", " a c d")) == " a <c d>"


def test_endless_completions_are_cut_and_say_so() -> None:
    pieces = changes("a", "bridge " * 5 * LONGEST)
    assert pieces[-1].text == " …"
    assert sum(len(piece.text.split()) for piece in pieces) == LONGEST + 1


def test_typical_worst_and_best_prompts_are_different_ones() -> None:
    values = pd.Series({"a": 0.0, "b": 0.5, "c": 0.55, "d": 1.0, "e": 0.1, "f": 0.9})
    assert pick(values, falling=False) == [
        ("typical", "b"), ("typical", "c"), ("worst", "a"), ("worst", "e"), ("best", "d")
    ]  # fmt: skip
    assert [name for why, name in pick(values, falling=True) if why == "worst"] == ["d", "f"]


def test_with_few_prompts_each_is_shown_once() -> None:
    assert [name for _, name in pick(pd.Series({"a": 1.0}), falling=False)] == ["a"]
    assert pick(pd.Series(dtype=float), falling=False) == []


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Example, ...]:
    folder = golden_run(tmp_path_factory.mktemp("golden"), 30, draws=2)
    analysis, run = analyse(folder), read_run(folder)
    focus = find_focus(run, analysis)
    return examples(run, focus, goal_is_less(run, focus))


def test_a_failure_is_among_the_examples_where_there_is_one(shown: tuple[Example, ...]) -> None:
    worst = [example for example in shown if example.why == "worst"]
    assert len(worst) == 2
    assert [example.values["intervened"] for example in shown if example.why == "best"] == ["mentions: yes"]


def test_a_random_feature_stands_beside_every_example(shown: tuple[Example, ...]) -> None:
    for example in shown:
        assert list(example.columns) == ["baseline", "intervened", "random feature"]
        text = "".join(piece.text for piece in example.columns["random feature"])
        assert "garden" in text


def test_examples_are_of_the_judged_prompts(shown: tuple[Example, ...]) -> None:
    assert all(int(example.prompt_id[-2:]) % 3 for example in shown)


def test_without_completions_there_are_no_examples(tmp_path: Path) -> None:
    folder = swap_run(tmp_path)
    run = read_run(folder)
    assert examples(run, find_focus(run, analyse(folder)), False) == ()
