from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steer.errors import UsageError
from steer.gate.text import OWN, Documents, beginning, puts_bos, reference, rows
from steer.model.tokens import Tokens
from tests import tiny

LONG = Documents("long", ("a bridge, a rabbit and a habit. " * 60, "who are you?\n" * 20))


@pytest.fixture(scope="module")
def tokens(tiny_folder: Callable[[str], Path]) -> Tokens:
    return Tokens.open(tiny_folder("llama"))


@pytest.mark.parametrize("bos", [True, False])
def test_rows_are_the_text_in_pieces_the_first_token_of_each_unmeasured(tokens: Tokens, bos: bool) -> None:
    found = rows(LONG, tokens, bos, 10**6, 256)
    assert found.front == 1
    assert max(map(len, found.ids)) == 256
    assert all((row[0] == tokens.bos_id) is bos for row in found.ids)
    text = tuple(id for row in found.ids for id in row[bos:])
    assert text == tokens.pieces(LONG.texts[0]) + tokens.pieces(LONG.texts[1])
    assert found.tokens == sum(len(row) - 1 for row in found.ids)


def test_a_limit_is_kept_to_the_token_and_a_shorter_text_is_its_beginning(tokens: Tokens) -> None:
    whole = rows(LONG, tokens, True, 10**6, 64)
    part = rows(LONG, tokens, True, 333, 64)
    assert (part.tokens, part) == (333, beginning(whole, 333))
    assert part.ids[:-1] == whole.ids[: len(part.ids) - 1]
    assert part.ids[-1] == whole.ids[len(part.ids) - 1][: len(part.ids[-1])]


def test_a_text_that_is_too_short_to_judge_by_is_refused(tokens: Tokens) -> None:
    with pytest.raises(UsageError, match=r"short has \d+ tokens to measure; a verdict needs 200"):
        rows(Documents("short", ("a bridge",)), tokens, True, 10**6, 256)


def test_whether_prompts_have_a_bos_is_the_tokenizers_own_rule(tokens: Tokens, tmp_path: Path) -> None:
    bare = Tokens.open(tiny.save_tokenizer(tmp_path, tiny.byte_level(bos=False)))
    assert (puts_bos(tokens), puts_bos(bare)) == (True, False)
    assert rows(LONG, bare, True, 500, 256).ids[0][0] == bare.bos_id


def test_the_text_of_the_package_is_plain_ascii_of_a_few_thousand_words(tokens: Tokens) -> None:
    found: Any = reference("someone/model", None, tokens, 400)
    assert len(found.texts) >= 15 and 2_500 < sum(len(text.split()) for text in found.texts) < 4_000
    assert OWN.read_text("utf-8").isascii()
    assert reference("pocket", None, tokens, 400).name == "pocket's held-out corpus"
