"""CLTs and SAEs are edited by the laws of per-layer transcoders: the change is added, everything else stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch import Tensor

from steer.experiment.spec import Constrain, Control, Intervention
from steer.experiment.trial import Prompt, Setup, Trial
from steer.intervention.records import applied
from steer.intervention.rows import Row
from steer.intervention.slots import Layout, kept, stack_slots
from steer.transcoder.transcoder import Statistics, Transcoders
from tests.intervention import cases
from tests.intervention.batches import run_rows
from tests.intervention.world import World
from tests.transcoder.published import circuit_tracer, gemma, others, saelens
from tests.transcoder.published.formula import WIDTH, CrossLayerRelease, Release, inputs
from tests.transcoder.published.naive import Change, Naive

D_MODEL, N_LAYERS, STEPS = 32, 3, 4  # of the tiny models
TEXTS = ("He saw a carrot and had to grab it,", "the rabbit said")
BOUND = 5e-5  # of a row's largest logit; float32 rounds by up to 2e-5 here, a wrong rule is off by 1e-2 and more
EVERYWHERE = range(10_000)
DEVICE = torch.device("cpu")
RELEASES: dict[str, Callable[[Path], Release | CrossLayerRelease]] = {
    "transcoders": partial(circuit_tracer.write, kind="jumprelu skip", dtype=torch.float32, d=D_MODEL),
    "transcoders before a post-norm": partial(
        others.sparsify,
        point="layers.{}.mlp",
        writes="mlp.hook_out",
        transcode=True,
        skip=True,
        subtracts=False,
        d=D_MODEL,
    ),
    "clt on the raw stream": partial(circuit_tracer.clt, n_layers=N_LAYERS, d=D_MODEL),
    "clt on the MLP input": partial(gemma.scope_2_clt, n_layers=N_LAYERS, d=D_MODEL),
    "sae": partial(saelens.version_6, architecture="standard", d_in=D_MODEL),
    "sae on attention": partial(saelens.version_6, architecture="standard", point="hook_attn_out", d_in=D_MODEL),
    "sae on heads": partial(saelens.version_6, architecture="standard", point="attn.hook_z", d_in=D_MODEL),
    "sae with layer norm": partial(
        saelens.version_6, architecture="standard", d_in=D_MODEL, normalize_activations="layer_norm"
    ),
    "sae with constant norm": partial(
        saelens.version_6, architecture="jumprelu", d_in=D_MODEL, normalize_activations="constant_norm_rescale"
    ),
    "sae between attention and MLP": partial(others.openai, location="resid_post_attn", d=D_MODEL),
    "gated sae": partial(saelens.version_6, architecture="gated", d_in=D_MODEL),
    "topk sae, rescaled": partial(
        saelens.version_6, architecture="topk", d_in=D_MODEL, rescale_acts_by_decoder_norm=True
    ),
}
ARCHITECTURES = ("llama", "gemma2")
AFTER_A_NORM = ("transcoders before a post-norm", "sae on attention", "sae between attention and MLP")
SPOKEN = ("clt on the raw stream", "sae between attention and MLP", "sae with layer norm", "topk sae, rescaled")
CLTS = tuple(kind for kind in RELEASES if kind.startswith("clt"))
Here = tuple[World, Naive]


def made(kind: str, architecture: str, folder: Path, tiny_model: Callable[..., Any]) -> Here:
    """A tiny model with a release for it, and its naive copy."""
    release = RELEASES[kind](folder)
    model = tiny_model(architecture)
    return World(model, Transcoders.open(release.folder), (), kind), Naive(model.hf, release)


@pytest.fixture(
    params=[
        *((kind, "llama") for kind in RELEASES),
        *((kind, "gemma2") for kind in ("transcoders", *CLTS, *AFTER_A_NORM)),
    ],
    ids=" ".join,
)
def everywhere(request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Callable[..., Any]) -> Here:
    """Every kind of release; those that write what a model may normalise once more, also on such a model."""
    return made(*request.param, tmp_path, tiny_model)


@pytest.fixture(params=RELEASES)
def here(request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Callable[..., Any]) -> Here:
    return made(request.param, "llama", tmp_path, tiny_model)


@pytest.fixture(params=[(kind, architecture) for kind in CLTS for architecture in ARCHITECTURES], ids=" ".join)
def clt(request: pytest.FixtureRequest, tmp_path: Path, tiny_model: Callable[..., Any]) -> Here:
    return made(*request.param, tmp_path, tiny_model)


def row(world: World, text: str, *stated: dict[str, Any], **setup: Any) -> Row:
    interventions = tuple(TypeAdapter(Intervention).validate_python(one) for one in stated)
    trial = Trial("t", Prompt(id="p", text=text), "c", "none", 0, {}, 0, Setup(interventions, **setup), {})
    return cases.resolver(world, {}).row(trial, world.model.tokens.encode(text))


def ids_of(world: World) -> list[tuple[int, ...]]:
    return [world.model.tokens.encode(text).ids for text in TEXTS]


def logits(world: World, *stated: dict[str, Any], **setup: Any) -> list[Tensor]:
    """[pos d_vocab] of each text, run as one left-padded batch."""
    found = run_rows(world, [row(world, text, *stated, **setup) for text in TEXTS], ids_of(world)).logits
    return [found[b, -len(ids) :] for b, ids in enumerate(ids_of(world))]


def clamp(layer: int, index: int, value: float, positions: Any = "all") -> dict[str, Any]:
    return {"op": "clamp", "feature": f"{layer}/{index}", "value": value, "positions": positions}


def stated(world: World) -> list[dict[str, Any]]:
    """Edits in every layer there is; the deeper read what those above them have changed."""
    edits: list[dict[str, Any]] = []
    for layer in world.transcoders.widths:
        edits += [
            clamp(layer, 3, 4.0, [1, 2]),
            {"op": "scale", "feature": f"{layer}/17", "factor": -2},
            {"op": "add", "feature": f"{layer}/5", "value": 1.5, "positions": "1:"},
            {"op": "ablate", "feature": f"{layer}/9"},
        ]
    return edits


def understood(world: World) -> list[Change]:
    changes: list[Change] = []
    for layer in world.transcoders.widths:
        changes += [
            Change(layer, 3, (1, 2), lambda a: torch.full_like(a, 4.0)),
            Change(layer, 17, EVERYWHERE, lambda a: -2 * a),
            Change(layer, 5, range(1, 10_000), lambda a: a + 1.5),
            Change(layer, 9, EVERYWHERE, torch.zeros_like),
        ]
    return changes


def differences(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """The largest of each text, as a share of its largest logit."""
    pairs = zip(found, expected, strict=True)
    return [float((ours.double() - naive).abs().max() / naive.abs().max().clamp(min=1)) for ours, naive in pairs]


def test_steered_logits_equal_a_full_decode_in_float64(everywhere: Here) -> None:
    world, naive = everywhere
    expected = [naive.logits(ids, understood(world)) for ids in ids_of(world)]
    assert max(differences(logits(world, *stated(world)), expected)) < BOUND
    plain = [naive.logits(ids, ()) for ids in ids_of(world)]
    assert min(differences(expected, plain)) > 1e-2  # the edits do something


@pytest.mark.parametrize("kind", SPOKEN)
def test_generated_tokens_are_steered_as_a_pass_over_the_whole_text_is(
    tmp_path: Path, tiny_model: Callable[..., Any], kind: str
) -> None:
    world, naive = made(kind, "llama", tmp_path, tiny_model)
    rows = [row(world, text, *stated(world)) for text in TEXTS]
    done = run_rows(world, rows, ids_of(world), STEPS)
    assert done.completions is not None
    for ids, completion in zip(ids_of(world), done.completions, strict=True):
        expected = naive.greedy(ids, understood(world), STEPS)
        ended = [*completion.ids, *world.model.tokens.eos_ids][: len(expected)]
        assert expected == ended[: len(expected)]


@pytest.mark.parametrize("control", [None, {"type": "identity"}], ids=["scale by one", "the identity control"])
def test_what_adds_nothing_changes_no_bit(here: Here, control: dict[str, str] | None) -> None:
    world, _ = here
    layer = min(world.transcoders.widths)
    if control is None:
        ours = logits(world, {"op": "scale", "feature": f"{layer}/3", "factor": 1})
    else:
        ours = logits(world, clamp(layer, 3, 4.0), control=TypeAdapter(Control).validate_python(control))
    assert all(map(torch.equal, ours, logits(world)))


def test_clamping_to_the_own_activation_changes_nothing(here: Here) -> None:
    world, _ = here
    layer = min(world.transcoders.widths)
    own = {"op": "clamp", "feature": f"{layer}/3", "value": 1, "unit": "own_act"}
    assert max(differences(logits(world, own), [plain.double() for plain in logits(world)])) < BOUND


def test_ablating_is_clamping_to_zero(here: Here) -> None:
    world, _ = here
    layer = min(world.transcoders.widths)
    ablated = logits(world, {"op": "ablate", "feature": f"{layer}/17"})
    assert all(map(torch.equal, ablated, logits(world, clamp(layer, 17, 0))))


@pytest.mark.parametrize("kind", ["sae", "gated sae", "topk sae, rescaled"])
def test_steering_along_an_sae_s_feature_is_adding_to_it(
    tmp_path: Path, tiny_model: Callable[..., Any], kind: str
) -> None:
    world, _ = made(kind, "llama", tmp_path, tiny_model)
    steered = logits(world, {"op": "steer", "direction": "1/3", "coefficient": 1.7})
    added = logits(world, {"op": "add", "feature": "1/3", "value": 1.7})
    assert max(differences(steered, [wide.double() for wide in added])) < BOUND


def test_constraining_holds_what_a_clt_writes_to_at_the_baseline_plus_the_changes(clt: Here) -> None:
    world, naive = clt
    held = logits(world, *stated(world), constrain=Constrain(layers=(0, N_LAYERS - 1)))
    expected = [naive.constrained(ids, understood(world)) for ids in ids_of(world)]
    assert max(differences(held, expected)) < BOUND
    free = [naive.logits(ids, understood(world)) for ids in ids_of(world)]
    assert min(differences(held, free)) > 1e-3


def test_a_random_direction_pushes_as_hard_as_a_clt_s_feature_in_every_layer_it_writes_to(clt: Here) -> None:
    world, _ = clt
    control = TypeAdapter(Control).validate_python({"type": "random_direction", "n": 1})
    layout = Layout((4,), 4, 4)
    [target], [drawn] = (
        stack_slots([row(world, TEXTS[0], clamp(0, 3, 4.0), control=neutral)], layout, world.transcoders, DEVICE)
        for neutral in (None, control)
    )
    assert target.along.shape == (1, 1, N_LAYERS, D_MODEL)
    torch.testing.assert_close(drawn.along.norm(dim=-1), target.along.norm(dim=-1))
    assert not torch.allclose(drawn.along, target.along, atol=0.1)


def test_a_random_feature_of_a_clt_takes_the_target_s_change_wherever_it_writes(clt: Here) -> None:
    _, naive = clt
    world = with_statistics(clt)
    control = TypeAdapter(Control).validate_python({"type": "random_features", "n": 3, "seed": 7})
    for layer in (0, 1):
        found = logits(world, clamp(layer, 3, 4.0, [1, 2]), control=control)
        [edit] = row(world, TEXTS[0], clamp(layer, 3, 4.0), control=control).edits
        drawn = edit.along.index
        assert drawn not in (None, 3)
        change = Change(layer, 3, (1, 2), lambda a: torch.full_like(a, 4.0))
        expected = [naive.driven(ids, change, drawn) for ids in ids_of(world)]
        assert max(differences(found, expected)) < BOUND
        assert min(differences(found, [naive.logits(ids, [change]) for ids in ids_of(world)])) > 1e-3


def with_statistics(here: Here) -> World:
    """The same release with statistics beside its weights, in which every feature is as likely a match as any."""
    world, naive = here
    folder, shape = naive.release.folder, (N_LAYERS, WIDTH)
    save_file({field.name: torch.ones(shape) for field in fields(Statistics)}, folder / "statistics.safetensors")
    return World(world.model, Transcoders.open(folder), (), world.kind)


def test_rows_that_go_on_when_others_have_ended_keep_their_own_features(here: Here) -> None:
    world, _ = here
    layer = max(world.transcoders.widths)
    rows = [row(world, TEXTS[0], clamp(layer, index, 1.0)) for index in (3, 9, 17)]
    [slots] = stack_slots(rows, Layout((4, 4, 4), 4, 4), world.transcoders, DEVICE)
    x = inputs(D_MODEL, n=12).view(3, 4, D_MODEL)
    going_on = torch.tensor([2, 1])
    every = world.transcoders.encode_all(layer, x.reshape(12, D_MODEL)).view(3, 4, -1)
    expected = torch.stack([every[2, :, 17], every[1, :, 9]])[:, None]
    torch.testing.assert_close(kept(slots, going_on).activations(x[going_on]), expected, atol=1e-4, rtol=1e-4)


def test_a_feature_counts_once_however_many_layers_it_writes_to(here: Here) -> None:
    world, _ = here
    layer = min(world.transcoders.widths)
    rows = [row(world, TEXTS[0], clamp(layer, 3, 40.0, [1, "last"]))]
    done = run_rows(world, rows, ids_of(world)[:1])
    (what,) = applied(rows, done.editing.records, done.editing.layout)
    assert [(e.layer, e.index, e.position, e.after) for e in what.edits] == [
        (layer, 3, 1, 40.0),
        (layer, 3, len(ids_of(world)[0]) - 1, 40.0),
    ]
    assert what.pairs == 2


def test_an_edit_leaves_the_layers_before_it_alone(here: Here) -> None:
    world, _ = here
    last = max(world.transcoders.widths)
    seen: dict[str, list[Tensor]] = {f"blocks.{layer}.hook_resid_pre": [] for layer in range(last + 1)}
    hooks = [(name, lambda x, hook, into=passed: into.append(x.clone())) for name, passed in seen.items()]
    with world.model.hooked(hooks):
        for stated in ((clamp(last, 3, 40.0),), ()):
            rows = [row(world, text, *stated) for text in TEXTS]
            run_rows(world, rows, ids_of(world), shortcuts=False)  # the blocks below would not run at all
    for passed in seen.values():
        assert torch.equal(passed[-2], passed[-1])
