"""Models of half precision: edits are computed in float32 and rounded once, where they meet the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from steer.experiment.spec import Intervention, Member
from steer.experiment.trial import Prompt, Setup, Trial
from steer.intervention.hooks import Editing
from steer.intervention.records import applied
from steer.intervention.reference import Reference
from steer.intervention.rows import Row
from steer.model.generation import overflowed
from steer.model.language_model import LanguageModel
from steer.model.tokens import Tokens
from tests import tiny
from tests.intervention import cases
from tests.intervention.batches import run_rows
from tests.intervention.oracle import Baseline, Case, Change, Oracle
from tests.intervention.world import World, make

DTYPES = ("float32", "bfloat16", "float16")
TEXT = "He saw a carrot and had to grab it,"
GROUP = {"one": (Member(layer=1, index=8),)}
OPS: list[tuple[dict[str, Any], Callable[[Tensor], Tensor]]] = [
    ({"op": "clamp", "value": 3.3}, lambda a: torch.full_like(a, 3.3)),
    ({"op": "scale", "factor": -2}, lambda a: -2 * a),
    ({"op": "add", "value": 0.7}, lambda a: a + 0.7),
    ({"op": "ablate"}, lambda a: 0 * a),
]


@pytest.fixture(scope="module")
def worlds(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], World]:
    tokens = Tokens.open(tiny_folder("llama"))

    def load(architecture: str, dtype: str) -> World:
        hf = tiny.hf_model(architecture).to(getattr(torch, dtype))
        return make(LanguageModel.wrap(hf, tokens), tmp_path_factory.mktemp(architecture), "relu")

    return load


def row(world: World, **stated: Any) -> Row:
    intervention = TypeAdapter(Intervention).validate_python(stated)
    trial = Trial("t", Prompt("p", TEXT), "c", "none", 0, {}, 0, Setup((intervention,)), {})
    return cases.resolver(world, GROUP).row(trial, world.model.tokens.encode(TEXT))


@dataclass
class Around:
    """What a block's points showed while one row was edited: before and after the hooks of the edits."""

    read: Tensor
    before: dict[str, Tensor]
    after: dict[str, Tensor]


def around(world: World, edited: Row, points: tuple[str, ...]) -> Around:
    from steer.intervention.slots import Layout

    ids = torch.tensor([world.model.tokens.encode(TEXT).ids])
    width = ids.shape[1]
    layout, model = Layout((width,), width, width), world.model
    editing = Editing([edited], layout, world.transcoders, Reference(), torch.tensor([0]), model.devices, model.device)
    seen: list[dict[str, Tensor]] = [{}, {}]

    def looking(store: dict[str, Tensor]) -> list[tuple[str, Any]]:
        return [(f"blocks.1.{p}", lambda x, hook, p=p: store.__setitem__(p, x.double())) for p in points]

    editing.at(slice(0, width))
    with torch.no_grad(), model.hooked([*looking(seen[0]), *editing.hooks(), *looking(seen[1])]):
        model.forward_pass(ids, torch.ones_like(ids, dtype=torch.bool))
    return Around(seen[0]["mlp.hook_in"], seen[0], seen[1])


def assert_rounded_once(found: Tensor, exact: Tensor, size: Tensor, dtype: torch.dtype) -> None:
    """Half a unit in the last place of the model's dtype, and what float32 leaves of numbers of that size."""
    half_unit = torch.finfo(dtype).eps / 2 * exact.abs() + torch.finfo(dtype).smallest_normal
    assert bool(((found - exact).abs() <= half_unit * 1.01 + 1e-5 * size).all())


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "pythia"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_edit_is_the_float64_formula_rounded_once(
    worlds: Callable[[str, str], World], architecture: str, dtype: str
) -> None:
    world = worlds(architecture, dtype)
    weights = {name: tensor[8] for name, tensor in world.tensors[1].items()}
    for stated, new in OPS:
        seen = around(world, row(world, feature="one", **stated), ("mlp.hook_in", "hook_mlp_out"))
        a = (seen.read @ weights["W_enc"] + weights["b_enc"]).clamp(min=0)
        change = (new(a) - a)[..., None] * weights["W_dec"]
        out = seen.before["hook_mlp_out"]
        size = out.abs() + change.abs() + seen.read.norm(dim=-1, keepdim=True)
        assert_rounded_once(seen.after["hook_mlp_out"], out + change, size, world.model.dtype)
        assert float(change.abs().max()) > 0.1


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_push_is_the_float64_formula_rounded_once(worlds: Callable[[str, str], World], dtype: str) -> None:
    world = worlds("qwen3", dtype)
    steer = row(world, op="steer", direction="one", coefficient=0.3, unit="residual_norm")
    seen = around(world, steer, ("mlp.hook_in", "hook_resid_post"))
    stream, vector = seen.before["hook_resid_post"], world.tensors[1]["W_dec"][8]
    push = 0.3 * stream.norm(dim=-1, keepdim=True) * vector / vector.norm()
    assert_rounded_once(seen.after["hook_resid_post"], stream + push, stream.abs() + push.abs(), world.model.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", ["gpt2", "gemma3", "phi3"])
def test_an_edited_model_is_as_near_to_float64_as_its_dtype_is(
    worlds: Callable[[str, str], World], architecture: str, dtype: str
) -> None:
    world = worlds(architecture, dtype)
    ids = world.model.tokens.encode(TEXT).ids
    oracle = Oracle(world)

    def ones(baseline: Baseline) -> Tensor:
        return torch.ones(len(ids)).double()

    clamp = Change(1, 8, frozenset(range(len(ids))), lambda a, level: torch.tensor(3.3).double(), ones)
    for edited, case in ((Row(), Case(ids)), (row(world, op="clamp", feature="one", value=3.3), Case(ids, (clamp,)))):
        found, expected = run_rows(world, [edited], [ids]).logits[0].double(), oracle.logits(case)
        error = float((found - expected).abs().max() / expected.abs().max())
        assert error < 30 * torch.finfo(world.model.dtype).eps, f"{error}"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_what_changes_nothing_changes_no_bit_of_a_half_precision_model(
    worlds: Callable[[str, str], World], dtype: str
) -> None:
    world = worlds("olmo2", dtype)
    ids = [world.model.tokens.encode(TEXT).ids]
    same = row(world, op="scale", feature="one", factor=1)
    assert torch.equal(run_rows(world, [same], ids).logits, run_rows(world, [Row()], ids).logits)


@pytest.mark.parametrize("value", [3.0, 1e6])
def test_a_change_that_is_no_float16_is_told_from_one_that_is(
    worlds: Callable[[str, str], World], value: float
) -> None:
    world = worlds("llama", "float16")
    rows = [row(world, op="clamp", feature="one", value=value), Row()]
    done = run_rows(world, rows, [world.model.tokens.encode(TEXT).ids] * 2, steps=3)
    edited, unedited = applied(rows, done.editing.records, done.editing.layout)
    fits = value < 1000
    assert (edited.finite, unedited.finite) == (fits, True)
    assert overflowed(done.logits[:, -1]).tolist() == [not fits, False]
    assert done.completions is not None
    assert [said.stop_reason == "overflow" for said in done.completions] == [not fits, False]
