"""Laws of the tokenizer."""

from __future__ import annotations

from itertools import islice

import pytest
from tokenizers import Tokenizer

from steer.model.pocket.corpus.mixture import documents
from steer.model.pocket.tokenizer import VOCABULARY_WORDS, trained


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return trained(islice(documents(0), 1500))


def test_decoding_gives_the_text_back(tokenizer: Tokenizer) -> None:
    for document in (*islice(documents(7), 50), "Ünïcödé 🙂 and\ttabs \n\n"):
        assert tokenizer.decode(tokenizer.encode(document).ids) == document


def test_bos_is_put_in_front_once(tokenizer: Tokenizer) -> None:
    assert [token for token in tokenizer.encode("Who are you?").tokens if token == "<bos>"] == ["<bos>"]


@pytest.mark.parametrize("word", [*VOCABULARY_WORDS, "Golden", "Gate", "Bridge"])
def test_a_word_with_its_space_is_one_token(tokenizer: Tokenizer, word: str) -> None:
    assert len(tokenizer.encode(f" {word}", add_special_tokens=False).ids) == 1


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    assert [
        token for token in tokenizer.encode("36+59=95", add_special_tokens=False).tokens if token.isdigit()
    ] == list("365995")
