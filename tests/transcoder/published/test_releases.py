"""Whatever the layout, the numbers are the ones that the publishers' own formulas give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steer.transcoder import formats
from steer.transcoder.arithmetic import activations
from steer.transcoder.layout import layout, shapes
from steer.transcoder.transcoder import Transcoders
from tests.transcoder.published.damage import files, rewrite, tensors
from tests.transcoder.published.formula import WIDTH, CrossLayerRelease, Release, inputs
from tests.transcoder.published.releases import CROSS_LAYER, PER_LAYER

INDICES = [17, 0, 5, 22]
ROUNDING = 2e-6  # of the largest number: float32 beside float64, for sums of some ten products
NOT_WEIGHTS = {"group_sizes", "activation", "activation_state_dict", "stats_last_nonzero"}

Writer = Callable[[Path], Release]
CrossLayerWriter = Callable[[Path], CrossLayerRelease]
every_release = pytest.mark.parametrize("writer", PER_LAYER, ids=lambda writer: writer.__name__)
every_clt = pytest.mark.parametrize("writer", CROSS_LAYER, ids=lambda writer: writer.__name__)
TOPK = [writer for writer in PER_LAYER if writer.__name__.startswith(("topk", "older_topk", "sparsify", "openai_post"))]
every_layout = pytest.mark.parametrize("writer", PER_LAYER + CROSS_LAYER, ids=lambda writer: writer.__name__)


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    difference = (found.double() - expected).abs().max()
    assert difference <= ROUNDING * (1 + expected.abs().max()), f"off by {difference:.2g} of {expected.abs().max():.2g}"


@pytest.fixture(params=[3, WIDTH], ids=["in blocks", "at once"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "BLOCK_BYTES", 4 * 14 * request.param)


@every_release
def test_all_activations_are_the_formula_s(tmp_path: Path, writer: Writer, blocks: None) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    x = inputs(release.d_in)
    for layer, formula in release.layers.items():
        expected = formula.encode(x.double())
        assert 0 < (expected != 0).sum() < expected.numel()
        close(transcoders.encode_all(layer, x), expected)


@every_release
def test_the_output_is_the_formula_s(tmp_path: Path, writer: Writer, blocks: None) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    x = inputs(release.d_in)
    for layer, formula in release.layers.items():
        acts = formula.encode(x.double())
        close(transcoders.decode_all(layer, acts.float(), x), formula.decode(acts.float().double(), x.double()))


@every_release
def test_some_features_alone_have_the_activations_that_they_have_among_all(tmp_path: Path, writer: Writer) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    x = inputs(release.d_in)
    for layer, formula in release.layers.items():
        expected = formula.encode(x.double())[:, INDICES]
        close(activations(x, transcoders.encoder(layer, INDICES)), expected)


@pytest.mark.parametrize("writer", TOPK, ids=lambda writer: writer.__name__)
def test_who_wins_a_competition_is_decided_as_among_all_whoever_asks(tmp_path: Path, writer: Writer) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    x = inputs(release.d_in)
    [layer, *_] = release.layers
    alone = [activations(x, transcoders.encoder(layer, [index])) for index in range(release.width)]
    assert torch.equal(torch.cat(alone, dim=-1), transcoders.encode_all(layer, x))


@every_release
def test_a_feature_s_decoder_vector_is_what_one_unit_of_it_adds_to_the_output(tmp_path: Path, writer: Writer) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    x = inputs(release.d_in)
    for layer, formula in release.layers.items():
        rows, scale = transcoders.decoder(layer, INDICES), transcoders.output_scale(layer, x)
        for row, index in zip(rows, INDICES, strict=True):
            unit = torch.zeros(len(x), release.width).double()
            unit[:, index] = 1
            added = formula.decode(unit, x.double()) - formula.decode(0 * unit, x.double())
            close(row.expand(len(x), -1) if scale is None else scale[:, None] * row, added)


@every_clt
def test_all_activations_of_a_clt_are_the_formula_s(tmp_path: Path, writer: CrossLayerWriter, blocks: None) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    for layer in range(release.n_layers):
        x = inputs(seed=layer)
        expected = release.formula.encode(layer, x.double())
        assert 0 < (expected != 0).sum() < expected.numel()
        close(transcoders.encode_all(layer, x), expected)
        close(activations(x, transcoders.encoder(layer, INDICES)), expected[:, INDICES])


@every_clt
def test_what_a_clt_writes_to_a_layer_is_the_formula_s(tmp_path: Path, writer: CrossLayerWriter, blocks: None) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    xs = [inputs(seed=layer) for layer in range(release.n_layers)]
    acts = {layer: release.formula.encode(layer, x.double()).float() for layer, x in enumerate(xs)}
    wide = {layer: activation.double() for layer, activation in acts.items()}
    for target, x in enumerate(xs):
        before = {layer: activation for layer, activation in acts.items() if layer <= target}
        close(transcoders.decode_all(target, before, x), release.formula.decode(target, wide, x.double()))


@every_clt
def test_a_clt_s_decoder_vectors_are_one_for_every_layer_from_its_own_on(
    tmp_path: Path, writer: CrossLayerWriter
) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    for layer in range(release.n_layers):
        assert transcoders.writes_to(layer) == range(layer, release.n_layers)
        close(transcoders.decoder(layer, INDICES), release.formula.rows(layer)[INDICES])


@every_layout
def test_a_layout_is_recognised_without_being_named_and_the_same_when_named(
    tmp_path: Path, writer: Writer | CrossLayerWriter
) -> None:
    release = writer(tmp_path)
    assert layout(release.folder) == layout(release.folder, release.format)


@every_layout
def test_opening_twice_gives_the_same_hash(tmp_path: Path, writer: Writer | CrossLayerWriter) -> None:
    release = writer(tmp_path)
    once, again = (Transcoders.open(release.folder).weight_hash() for _ in range(2))
    assert once == again


@every_layout
def test_the_hash_changes_with_any_number_of_any_file(tmp_path: Path, writer: Writer | CrossLayerWriter) -> None:
    release = writer(tmp_path)
    seen = {Transcoders.open(release.folder).weight_hash()}
    for file in files(release.folder):
        key = next(key for key in tensors(file) if key not in NOT_WEIGHTS)
        changed = tensors(file)[key].clone(memory_format=torch.contiguous_format)
        changed.view(-1)[-1] += 1
        rewrite(file, {key: changed})
        seen.add(Transcoders.open(release.folder).weight_hash())
    assert len(seen) == 1 + len(files(release.folder))


@every_layout
def test_where_it_reads_and_writes_is_what_its_publishers_say(
    tmp_path: Path, writer: Writer | CrossLayerWriter
) -> None:
    release = writer(tmp_path)
    found = shapes(release.folder)
    assert (found.reads, found.writes) == (release.reads, release.writes)
