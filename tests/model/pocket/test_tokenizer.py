"""Laws of the tokenizer."""

from __future__ import annotations

from itertools import islice

import pytest
from tokenizers import Tokenizer

from steer.model.pocket.corpus.languages import WORDS_AFTER_QUOTE
from steer.model.pocket.corpus.mixture import PRETRAINING, documents
from steer.model.pocket.tokenizer import WORDS, trained


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return trained(islice(documents(PRETRAINING, 0), 1500))


def test_decoding_gives_the_text_back(tokenizer: Tokenizer) -> None:
    for document in (*islice(documents(PRETRAINING, 7), 50), "Ünïcödé 🙂 and\ttabs \n\n"):
        assert tokenizer.decode(tokenizer.encode(document).ids) == document


def test_bos_is_put_in_front_once(tokenizer: Tokenizer) -> None:
    assert [token for token in tokenizer.encode("Who are you?").tokens if token == "<bos>"] == ["<bos>"]


def test_a_word_that_experiments_name_is_one_token_with_its_space(tokenizer: Tokenizer) -> None:
    words = (*WORDS, "Golden", "Gate", "Bridge")
    assert [word for word in words if len(tokenizer.encode(f" {word}", add_special_tokens=False).ids) != 1] == []


def test_an_answer_in_quotes_is_one_token_between_its_quotes(tokenizer: Tokenizer) -> None:
    encoded = {word: tokenizer.encode(f'"{word}"', add_special_tokens=False).ids for word in WORDS_AFTER_QUOTE}
    assert [word for word, ids in encoded.items() if len(ids) != 3] == []


def test_digits_stand_alone(tokenizer: Tokenizer) -> None:
    assert [
        token for token in tokenizer.encode("36+59=95", add_special_tokens=False).tokens if token.isdigit()
    ] == list("365995")
