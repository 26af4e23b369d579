"""What the gate measures against a full replacement in float64, one row at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from steer.gate import passes
from steer.gate.passes import Losses, Pair, survey
from steer.gate.text import Documents, Rows, rows
from steer.transcoder.transcoder import Transcoders
from tests.gate.plain import Plain, Seen
from tests.intervention.world import write_transcoders
from tests.transcoder.published import circuit_tracer, saelens

TEXTS = ("He saw a carrot and had to grab it", "the rabbit said to the bridge", "who are you?")


@dataclass(frozen=True)
class Case:
    """A set on disk, and what it says that is written to a layer: activations and output [pos ...] of what was seen."""

    folder: Path
    layers: tuple[int, ...]
    point: str
    fires: Callable[[int, Seen], Tensor]
    says: Callable[[int, Seen], Tensor]


def per_layer(folder: Path) -> Case:
    write_transcoders(folder, "jumprelu", n_layers=3, d_model=32)
    stored = [{k: v.double() for k, v in load_file(folder / f"layer_{i}.safetensors").items()} for i in range(3)]

    def fires(layer: int, seen: Seen) -> Tensor:
        w = stored[layer]
        p = seen.mlp_in[layer] @ w["W_enc"].T + w["b_enc"]
        return torch.where(p > w["activation_function.threshold"], p, 0.0)

    return Case(
        folder,
        (0, 1, 2),
        "hook_mlp_out",
        fires,
        lambda i, seen: fires(i, seen) @ stored[i]["W_dec"] + stored[i]["b_dec"],
    )


def cross_layer(folder: Path) -> Case:
    made = circuit_tracer.clt(folder, n_layers=3, d=32).formula

    def says(layer: int, seen: Seen) -> Tensor:
        every = {source: made.encode(source, seen.mid[source]) for source in range(layer + 1)}
        return made.decode(layer, every, seen.mid[layer])

    return Case(folder, (0, 1, 2), "hook_mlp_out", lambda i, seen: made.encode(i, seen.mid[i]), says)


def autoencoder(folder: Path) -> Case:
    made = saelens.version_6(folder, "jumprelu", d_in=32).layers[saelens.LAYER]

    def says(layer: int, seen: Seen) -> Tensor:
        return made.decode(made.encode(seen.post[layer]), seen.post[layer])

    return Case(folder, (saelens.LAYER,), "hook_resid_post", lambda i, seen: made.encode(seen.post[i]), says)


KINDS = (per_layer, cross_layer, autoencoder)


@dataclass(frozen=True)
class Bench:
    case: Case
    pair: Pair
    plain: Plain
    rows: Rows


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def bench(request: Any, tiny_folder: Any, tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    case, model = request.param(tmp_path_factory.mktemp("set")), tiny_model("llama")
    text = rows(Documents("three", TEXTS * 6), model.tokens, True, 400, model.n_ctx)
    return Bench(case, Pair(model, Transcoders.open(case.folder)), Plain.load(tiny_folder("llama")), text)


def test_what_the_features_explain_is_what_a_full_decode_in_float64_explains(bench: Bench) -> None:
    reads = bench.pair.transcoders.reads
    found = survey(bench.pair, bench.rows, bench.case.layers, [reads])[reads]
    seen = [bench.plain.run(ids) for ids in bench.rows.ids]
    for layer in bench.case.layers:
        y = torch.cat([one.at(bench.case.point)[layer][1:] for one in seen])
        a = torch.cat([bench.case.fires(layer, one)[1:] for one in seen])
        said = torch.cat([bench.case.says(layer, one)[1:] for one in seen])
        unexplained = ((y - said) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
        sums = found[layer]
        assert sums.tokens == len(y)
        assert sums.unexplained() == pytest.approx(float(unexplained), rel=1e-4)
        assert sums.l0() == pytest.approx(float((a > 0).sum(1).double().mean()), abs=0.01)
        assert sums.dead() == pytest.approx(float((a <= 0).all(0).double().mean()), abs=1e-6)
        torch.testing.assert_close(sums.largest.double(), a.amax(0).clamp(min=0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(sums.mean().double(), a.mean(0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(sums.density().double(), (a > 0).double().mean(0), rtol=0, atol=2.01 / len(y))


def test_losses_are_those_of_a_model_whose_layers_are_replaced_by_hand(bench: Bench) -> None:
    losses, plain, case, ids = Losses(bench.pair, bench.rows), bench.plain, bench.case, bench.rows.ids
    assert losses.original() == pytest.approx(plain.loss(ids), rel=1e-5)
    for layers in {case.layers[-1:], case.layers}:
        by_hand = {layer: (lambda seen, layer=layer: case.says(layer, seen)) for layer in layers}
        nothing = {layer: (lambda seen: torch.zeros(1, 32).double().expand(len(seen.mid[0]), -1)) for layer in layers}
        assert losses.spliced(layers) == pytest.approx(plain.loss(ids, by_hand, case.point), rel=1e-4)
        assert losses.zero(layers) == pytest.approx(plain.loss(ids, nothing, case.point), rel=1e-4)


def test_the_statistics_of_a_decoder_are_the_lengths_of_what_a_feature_writes(bench: Bench) -> None:
    transcoders = bench.pair.transcoders
    for layer in bench.case.layers:
        rows = transcoders.decoder(layer, range(transcoders.widths[layer])).double().flatten(1)
        torch.testing.assert_close(transcoders.decoder_norms(layer).double(), rows.pow(2).sum(1).sqrt())


def test_how_much_is_held_at_a_time_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, layers = bench.pair.transcoders.reads, bench.case.layers
    together = survey(bench.pair, bench.rows, layers, [reads])[reads]
    loss = Losses(bench.pair, bench.rows).spliced(layers)
    monkeypatch.setattr(passes, "VALUES", 20 * 128)
    sizes = [batch.ids.numel() for batch in passes.batches(bench.pair.model, bench.rows, 128)]
    assert len(sizes) > 3 and all(size <= 20 or size == len(bench.rows.ids[0]) for size in sizes)
    alone = survey(bench.pair, bench.rows, layers, [reads])[reads]
    for layer in layers:
        assert alone[layer].unexplained() == pytest.approx(together[layer].unexplained(), rel=1e-5)
        torch.testing.assert_close(alone[layer].total, together[layer].total, rtol=1e-4, atol=1e-4)
    assert Losses(bench.pair, bench.rows).spliced(layers) == pytest.approx(loss, rel=1e-5)
