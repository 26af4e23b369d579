"""What cross-layer transcoders and SAEs ask of constraining, controls, steering and the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor

from steer.errors import RunError
from steer.experiment.spec import Constrain, Control, Intervention
from steer.experiment.trial import Prompt, Setup, Trial
from steer.intervention.edits import Push
from steer.intervention.positions import Positions
from steer.intervention.records import applied
from steer.intervention.rows import Row
from steer.transcoder.transcoder import Transcoders
from tests.intervention import cases
from tests.intervention.batches import run_rows
from tests.intervention.world import World
from tests.transcoder.published import circuit_tracer, others, saelens
from tests.transcoder.published.formula import CrossLayerRelease

D_MODEL, N_LAYERS, WIDTH = 32, 3, 23
TEXT = "He saw a carrot and had to grab it,"
ROUNDING = 1e-4


@pytest.fixture
def clt(tmp_path: Path, tiny_model: Callable[..., Any]) -> tuple[World, CrossLayerRelease]:
    """A tiny model with a CLT and statistics for it."""
    release = circuit_tracer.clt(tmp_path, n_layers=N_LAYERS, d=D_MODEL)
    names = ("max_act", "mean", "density", "decoder_norm")
    random = torch.Generator().manual_seed(0)
    statistics = {name: 0.1 + torch.rand(N_LAYERS, WIDTH, generator=random) for name in names}
    save_file(statistics, release.folder / "statistics.safetensors")
    return World(tiny_model("llama"), Transcoders.open(release.folder), (), "clt"), release


def row(world: World, *stated: dict[str, Any], control: dict[str, Any] | None = None, **more: Any) -> Row:
    interventions = tuple(TypeAdapter(Intervention).validate_python(one) for one in stated)
    neutral = None if control is None else TypeAdapter(Control).validate_python(control)
    setup = Setup(interventions, control=neutral, **more)
    trial = Trial("t", Prompt(id="p", text=TEXT), "c", "none", 0, {}, 0, setup, {})
    return cases.resolver(world, {}).row(trial, world.model.tokens.encode(TEXT))


def logits(world: World, *rows: Row) -> Tensor:
    ids = world.model.tokens.encode(TEXT).ids
    return run_rows(world, list(rows), [ids] * len(rows)).logits


def seen(
    world: World, points: list[str], *, added: dict[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """What passes some points, and the logits, with tensors put in place of others."""
    kept: dict[str, Tensor] = {}
    hooks = [(name, lambda x, hook: kept.update({hook.name: x.clone()})) for name in points]
    hooks += [(name, lambda x, hook, new=new: new) for name, new in (added or {}).items()]
    ids = torch.tensor([world.model.tokens.encode(TEXT).ids])
    with torch.inference_mode(), world.model.hooked(hooks):  # type: ignore[arg-type]
        found = world.model.forward_pass(
            ids, torch.ones_like(ids, dtype=torch.bool), logits_at=torch.arange(ids.shape[1])
        )
    return kept, found


def test_constrained_mlps_write_what_they_wrote_and_every_change_that_a_clt_makes_there(
    clt: tuple[World, CrossLayerRelease],
) -> None:
    world, release = clt
    edits = {(0, 3): 4.0, (1, 5): -2.0}
    stated = [{"op": "clamp", "feature": f"{layer}/{i}", "value": v} for (layer, i), v in edits.items()]
    found = logits(world, row(world, *stated, constrain=Constrain(layers=(0, N_LAYERS - 1))))
    reads = [f"blocks.{layer}.hook_resid_mid" for layer in range(N_LAYERS)]
    writes = [f"blocks.{layer}.hook_mlp_out" for layer in range(N_LAYERS)]
    plain, _ = seen(world, reads + writes)
    held = {name: plain[name].double() for name in writes}
    for (layer, index), value in edits.items():
        a = release.formula.encode(layer, plain[reads[layer]][0].double())[:, index]
        for j, vector in enumerate(release.formula.rows(layer)[index]):
            held[writes[layer + j]] += ((value - a)[:, None] * vector)[None]
    _, expected = seen(world, [], added={name: x.float() for name, x in held.items()})
    torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=ROUNDING)
    assert not torch.allclose(found, logits(world, row(world, *stated)), atol=0.01)


def test_controls_of_a_clt_push_as_hard_as_its_target_over_all_layers(clt: tuple[World, CrossLayerRelease]) -> None:
    world, _ = clt
    clamp = {"op": "clamp", "feature": "0/3", "value": 2}
    [target] = world.transcoders.decoder(0, [3])
    for kind in ("random_features", "random_direction"):
        [edit] = row(world, clamp, control={"type": kind, "n": 3}).edits
        along = edit.along.vector if edit.along.index is None else world.transcoders.decoder(0, [edit.along.index])[0]
        assert along is not None and edit.along.norm is not None
        assert along.shape == target.shape
        assert edit.along.norm == pytest.approx(float(target.norm()))
        if kind == "random_direction":
            torch.testing.assert_close(along.norm(dim=-1), target.norm(dim=-1))


def test_steering_along_a_clt_s_feature_pushes_along_what_it_writes_to_that_layer(
    clt: tuple[World, CrossLayerRelease],
) -> None:
    world, release = clt
    steer = {"op": "steer", "direction": "1/3", "coefficient": 2.0}
    [own], [later] = row(world, steer).pushes, row(world, steer | {"layer": 2}).pushes
    torch.testing.assert_close(own.vector.double(), release.formula.rows(1)[3, 0])
    torch.testing.assert_close(later.vector.double(), release.formula.rows(1)[3, 1])
    with pytest.raises(RunError, match="writes to layer 1 and later"):
        row(world, steer | {"layer": 0})


def test_relative_norm_of_a_clt_s_edit_is_that_of_the_layer_where_it_is_largest(
    clt: tuple[World, CrossLayerRelease],
) -> None:
    world, release = clt
    ids = world.model.tokens.encode(TEXT).ids
    rows = [row(world, {"op": "add", "feature": "0/3", "value": 1.5, "positions": [2]})]
    streams: list[Tensor] = []
    ends = [(f"blocks.{layer}.hook_resid_post", lambda x, hook: streams.append(x[0, 2].double())) for layer in range(3)]
    with world.model.hooked(ends):  # type: ignore[arg-type]
        done = run_rows(world, rows, [ids], shortcuts=False)
    changes = 1.5 * release.formula.rows(0)[3]
    after = streams[-N_LAYERS:]
    shares = [float(c.norm() / (x - c).norm()) for c, x in zip(changes, after, strict=True)]
    (what,) = applied(rows, done.editing.records, done.editing.layout)
    assert what.relative_norm == pytest.approx(max(shares), rel=1e-4)
    assert [(e.layer, e.index, e.position) for e in what.edits] == [(0, 3, 2)]
    assert what.edits[0].relative_norm == pytest.approx(max(shares), rel=1e-4)


def test_an_sae_between_attention_and_mlp_edits_the_stream_that_goes_on_too(
    tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    release = others.openai(tmp_path, "resid_post_attn", "ReLU", d=D_MODEL)
    world = World(tiny_model("gemma2"), Transcoders.open(release.folder), (), "sae")
    assert world.transcoders.writes == "hook_resid_mid"
    found = logits(world, row(world, {"op": "add", "feature": "1/3", "value": 2.5}))
    vector = world.transcoders.decoder(1, [3])[0]
    point = "blocks.1.hook_attn_out"
    plain, _ = seen(world, [point])
    _, expected = seen(world, [], added={point: plain[point] + 2.5 * vector})
    torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=ROUNDING)


def test_constraining_holds_mlps_and_leaves_an_sae_s_own_edit(tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    release = saelens.version_6(tmp_path, "standard", d_in=D_MODEL)
    world = World(tiny_model("llama"), Transcoders.open(release.folder), (), "sae")
    add = {"op": "add", "feature": "1/3", "value": 2.5}
    found = logits(world, row(world, add, constrain=Constrain(layers=(2, 2))))
    vector = world.transcoders.decoder(1, [3])[0]
    plain, _ = seen(world, ["blocks.1.hook_resid_post", "blocks.2.hook_mlp_out"])
    stream = plain["blocks.1.hook_resid_post"] + 2.5 * vector
    _, expected = seen(
        world, [], added={"blocks.1.hook_resid_post": stream, **{k: v for k, v in plain.items() if "2" in k}}
    )
    torch.testing.assert_close(found, expected, atol=ROUNDING, rtol=ROUNDING)


def test_steering_along_a_feature_of_attention_heads_is_refused(tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    release = saelens.version_6(tmp_path, "standard", point="attn.hook_z", d_in=D_MODEL)
    world = World(tiny_model("llama"), Transcoders.open(release.folder), (), "sae")
    with pytest.raises(Exception, match="attention heads"):
        row(world, {"op": "steer", "direction": "1/3", "coefficient": 2.0})


@pytest.mark.parametrize("point", ["hook_resid_post", "attn.hook_z"])
def test_rows_that_edit_an_sae_and_rows_that_steer_are_each_measured_as_if_they_were_alone(
    tmp_path: Path, tiny_model: Callable[..., Any], point: str
) -> None:
    release = saelens.version_6(tmp_path, "standard", point=point, d_in=D_MODEL)
    world = World(tiny_model("llama"), Transcoders.open(release.folder), (), "sae")
    ids = world.model.tokens.encode(TEXT).ids
    edit = row(world, {"op": "add", "feature": "1/3", "value": 2.5, "positions": [2]})
    push = Row(pushes=(Push(0, "d", 1, None, torch.ones(D_MODEL), 0.5, False, Positions((3,))),))
    norms = []
    for rows in ([edit], [push], [edit, push]):
        done = run_rows(world, rows, [ids] * len(rows))
        norms.append([one.relative_norm for one in applied(rows, done.editing.records, done.editing.layout)])
    assert norms[2] == pytest.approx(norms[0] + norms[1], rel=1e-4)
    assert min(norms[2]) > 0
