from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from steer.errors import TranscoderError
from steer.transcoder import formats
from steer.transcoder.arithmetic import Encoder, Input, activations, output_scale
from steer.transcoder.canonical import Activation, Normalisation
from steer.transcoder.transcoder import Transcoders
from tests.transcoder.sets import D_MODEL, N_LAYERS, WIDTH, tensors, write, write_kind

KINDS = ["relu", "jumprelu", "topk"]
INDICES = [31, 0, 7, 36]
ROUNDING = 1e-4  # float32 against float64, for sums of 16 products of size 1


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, D_MODEL, generator=torch.Generator().manual_seed(9))


def oracle(folder: Path, layer: int, x: Tensor, kind: str) -> Any:
    """All activations of a layer in float64, straight from the published rule."""
    weights = {key: tensor.double().numpy() for key, tensor in load_file(folder / f"layer_{layer}.safetensors").items()}
    p = x.double().numpy() @ weights["W_enc"].T + weights["b_enc"]
    if kind == "relu":
        return np.maximum(p, 0)
    if kind == "jumprelu":
        return p * (p > weights["activation_function.threshold"])
    keep = np.argsort(-p, axis=-1)[:, : int(weights["k"])]
    kept = np.zeros_like(p)
    np.put_along_axis(kept, keep, np.take_along_axis(p, keep, -1), -1)
    return kept


@pytest.fixture(params=[3, WIDTH], ids=["many blocks", "one block"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(formats, "BLOCK_BYTES", 4 * D_MODEL * request.param)
    return int(request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_activations_follow_the_published_rule(tmp_path: Path, kind: str, dtype: torch.dtype, blocks: int) -> None:
    transcoders = Transcoders.open(write_kind(tmp_path, kind, dtype))
    x = inputs(50)
    expected = oracle(tmp_path, 1, x, kind)
    assert 0 < (expected != 0).sum() < expected.size
    np.testing.assert_allclose(transcoders.encode_all(1, x).numpy(), expected, atol=ROUNDING)
    some = activations(x, transcoders.encoder(1, INDICES))
    np.testing.assert_allclose(some.numpy(), expected[:, INDICES], atol=ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_keep_the_leading_axes(tmp_path: Path, kind: str) -> None:
    encoder = Transcoders.open(write_kind(tmp_path, kind)).encoder(0, INDICES)
    x = inputs(2, 3, 4)
    flat = activations(x.reshape(24, D_MODEL), encoder)
    assert torch.allclose(activations(x, encoder), flat.reshape(2, 3, 4, len(INDICES)), atol=ROUNDING)


def test_exactly_k_features_fire_and_alone_they_give_the_same_numbers(tmp_path: Path, blocks: int) -> None:
    transcoders = Transcoders.open(write_kind(tmp_path, "topk"))
    x = inputs(40)
    everything = transcoders.encode_all(2, x)
    assert (everything != 0).sum(-1).tolist() == [5] * 40
    alone = [activations(x, transcoders.encoder(2, [index])) for index in range(WIDTH)]
    assert torch.equal(torch.cat(alone, dim=-1), everything)


def test_a_threshold_below_zero_lets_negative_activations_through_unless_rectified() -> None:
    threshold = torch.tensor([-1.0])
    encoder = Encoder(torch.tensor([[1.0]]), torch.zeros(1), threshold, Activation("jumprelu"))
    x = torch.tensor([[-2.0], [-1.0], [-0.5], [0.5]])
    assert activations(x, encoder).flatten().tolist() == [0, 0, -0.5, 0.5]
    rectified = Encoder(encoder.W_enc, encoder.b_enc, threshold, Activation("jumprelu", rectified=True))
    assert activations(x, rectified).flatten().tolist() == [0, 0, 0, 0.5]


def test_jumprelu_keeps_what_is_above_its_threshold_not_what_equals_it() -> None:
    encoder = Encoder(torch.tensor([[1.0]]), torch.zeros(1), torch.tensor([0.5]), Activation("jumprelu"))
    assert activations(torch.tensor([[0.5], [0.500001]]), encoder).ne(0).flatten().tolist() == [False, True]


def test_the_decoder_bias_is_never_subtracted_from_the_input(tmp_path: Path) -> None:
    layer = tensors(0)
    shifted = layer | {"b_dec": layer["b_dec"] + 100}
    transcoders = Transcoders.open(write(tmp_path, [layer, shifted]))
    assert torch.equal(transcoders.encode_all(0, inputs(5)), transcoders.encode_all(1, inputs(5)))


@pytest.mark.parametrize("skip", [False, True])
def test_the_full_decode_is_the_published_formula(tmp_path: Path, skip: bool, blocks: int) -> None:
    W_skip = torch.randn(D_MODEL, D_MODEL, generator=torch.Generator().manual_seed(3))
    layer = tensors(0) | ({"W_skip": W_skip} if skip else {})
    transcoders = Transcoders.open(write(tmp_path, [layer]))
    x = inputs(6)
    a = transcoders.encode_all(0, x)
    wide = {key: tensor.double() for key, tensor in layer.items()}
    expected = a.double() @ wide["W_dec"] + wide["b_dec"]
    if skip:
        expected = expected + torch.stack([wide["W_skip"] @ row for row in x.double()])
    assert torch.allclose(transcoders.decode_all(0, a, x).double(), expected, atol=1e-3)


def test_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    transcoders = Transcoders.open(write_kind(tmp_path, "jumprelu", torch.bfloat16))
    whole = load_file(tmp_path / "layer_1.safetensors")
    encoder = transcoders.encoder(1, INDICES)
    assert torch.equal(transcoders.decoder(1, INDICES), whole["W_dec"].float()[INDICES])
    assert torch.equal(encoder.W_enc, whole["W_enc"].float()[INDICES])
    assert torch.equal(encoder.b_enc, whole["b_enc"].float()[INDICES])


@pytest.mark.parametrize(("layer", "index"), [(N_LAYERS, 0), (-1, 0), (0, WIDTH), (0, -1)])
def test_a_feature_that_does_not_exist_is_an_error_with_the_range(tmp_path: Path, layer: int, index: int) -> None:
    transcoders = Transcoders.open(write_kind(tmp_path, "relu"))
    for read in (transcoders.encoder, transcoders.decoder):
        with pytest.raises(TranscoderError, match=r"0-2|0-36"):
            read(layer, [0, index])


def test_statistics_and_examples_stand_beside_the_weights(tmp_path: Path) -> None:
    write_kind(tmp_path, "relu")
    names = ("max_act", "mean", "density", "decoder_norm")
    stored = {name: torch.rand(N_LAYERS, WIDTH) for name in names}
    save_file(stored, tmp_path / "statistics.safetensors")
    example = {"tokens": ["The", " bridge"], "activations": [0.0, 2.5], "peak": 1}
    (tmp_path / "examples.json.gz").write_bytes(gzip.compress(json.dumps({"2/7": [example]}).encode()))
    transcoders = Transcoders.open(tmp_path)
    assert transcoders.statistics is not None
    found = transcoders.statistics.at(2, 7)
    assert [getattr(found, name) for name in names] == [float(stored[name][2, 7]) for name in names]
    assert [(e.tokens[e.peak], e.activations) for e in transcoders.examples(2, 7)] == [(" bridge", (0.0, 2.5))]
    assert transcoders.examples(0, 0) == []


def test_without_statistics_there_are_none(tmp_path: Path) -> None:
    transcoders = Transcoders.open(write_kind(tmp_path, "relu"))
    assert transcoders.statistics is None
    assert transcoders.statistics_hash() is None
    assert transcoders.examples(0, 0) == []


@pytest.mark.parametrize("stored", [{"max_act": torch.zeros(1)}, {}])
def test_statistics_that_do_not_fit_are_refused(tmp_path: Path, stored: dict[str, Tensor]) -> None:
    write_kind(tmp_path, "relu")
    complete = {name: torch.zeros(N_LAYERS, WIDTH) for name in ("mean", "density", "decoder_norm")}
    save_file(complete | stored, tmp_path / "statistics.safetensors")
    with pytest.raises(TranscoderError, match="max_act"):
        _ = Transcoders.open(tmp_path).statistics


def test_damaged_examples_are_refused(tmp_path: Path) -> None:
    write_kind(tmp_path, "relu")
    (tmp_path / "examples.json.gz").write_bytes(b"not gzip")
    with pytest.raises(TranscoderError, match=r"examples\.json\.gz"):
        Transcoders.open(tmp_path).examples(0, 0)


def test_the_weight_hash_changes_with_any_weight_and_with_nothing_else(tmp_path: Path) -> None:
    first = Transcoders.open(write(tmp_path / "a", [tensors(0), tensors(1)])).weight_hash()
    same = write(tmp_path / "b", [tensors(0), tensors(1)])
    (same / "README.md").write_text("words")
    assert Transcoders.open(same).weight_hash() == first
    other = tensors(1)
    other["b_dec"][0] += 1e-3
    assert Transcoders.open(write(tmp_path / "c", [tensors(0), other])).weight_hash() != first
    assert Transcoders.open(write(tmp_path / "d", [tensors(1), tensors(0)])).weight_hash() != first


def test_a_hub_cache_file_is_hashed_by_its_name(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", [tensors(0)])
    cached = write(tmp_path / "cached", [tensors(0)])
    first = Transcoders.open(plain).weight_hash()
    blob = tmp_path / "blobs" / hashlib.sha256((cached / "layer_0.safetensors").read_bytes()).hexdigest()
    blob.parent.mkdir()
    (cached / "layer_0.safetensors").rename(blob)
    (cached / "layer_0.safetensors").symlink_to(blob)
    assert Transcoders.open(cached).weight_hash() == first


def test_a_norm_of_nothing_is_nothing() -> None:
    """Attention gives zeros at padding, and what is no number there would go on to every token."""
    x = torch.zeros(2, 3, 8)
    x[0] = torch.randn(3, 8)
    for undone in (True, False):
        norm = Normalisation("constant_norm", undone)
        prepared, scale = Input(norm).prepared(x), output_scale(x, norm)
        assert prepared.isfinite().all() and not prepared[1].any()
        assert scale is None or torch.as_tensor(scale).isfinite().all()
