from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from steer.errors import TranscoderError
from steer.transcoder.describe import describe, direct_logits
from steer.transcoder.transcoder import Transcoders
from tests.transcoder.sets import D_MODEL, N_LAYERS, WIDTH, write_kind

VOCAB = 30
RANDOM = torch.Generator().manual_seed(4)
GAIN = torch.rand(D_MODEL, generator=RANDOM) + 0.5
UNEMBEDDING = torch.randn(VOCAB, D_MODEL, generator=RANDOM)


def test_a_vector_that_is_one_token_s_unembedding_promotes_that_token() -> None:
    for token in range(VOCAB):
        direction = UNEMBEDDING[token] / GAIN / UNEMBEDDING[token].square().sum()
        logits = direct_logits(direction, GAIN, UNEMBEDDING)
        assert logits[token].item() == pytest.approx(1, rel=1e-5)


def test_promoted_and_suppressed_are_the_ends_of_the_direct_logits(tmp_path: Path) -> None:
    transcoders = Transcoders.open(write_kind(tmp_path, "relu"))
    found = describe(transcoders, 1, 7, GAIN, UNEMBEDDING, "<{}>".format, count=4)
    vector = load_file(tmp_path / "layer_1.safetensors")["W_dec"][7].double()
    expected = torch.tensor([float((vector * GAIN.double() * row.double()).sum()) for row in UNEMBEDDING])
    order = expected.argsort(descending=True).tolist()
    assert [entry.token_id for entry in found.promoted] == order[:4]
    assert [entry.token_id for entry in found.suppressed] == order[::-1][:4]
    assert found.promoted[0].token == f"<{order[0]}>"
    assert found.promoted[0].logit == pytest.approx(float(expected[order[0]]), rel=1e-4)
    assert (found.statistics, found.examples) == (None, ())


def test_statistics_are_told_where_they_are_stored(tmp_path: Path) -> None:
    write_kind(tmp_path, "relu")
    names = ("max_act", "mean", "density", "decoder_norm")
    save_file({name: torch.full((N_LAYERS, WIDTH), 0.5) for name in names}, tmp_path / "statistics.safetensors")
    found = describe(Transcoders.open(tmp_path), 0, 0, GAIN, UNEMBEDDING, str)
    assert found.statistics is not None
    assert found.statistics.max_act == 0.5


def test_a_feature_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TranscoderError, match="layers 0-2"):
        describe(Transcoders.open(write_kind(tmp_path, "relu")), 9, 0, GAIN, UNEMBEDDING, str)
