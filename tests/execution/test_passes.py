"""A row that starts where it differs gives what it gives when it runs whole, and runs no more than that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import FalconConfig, FalconForCausalLM

from steer.execution.passes import Engine, Text, edited_pass, unedited_pass
from steer.intervention.records import Applied, applied
from steer.intervention.rows import Row
from steer.intervention.watch import Watch
from steer.model.generation import Sampling
from steer.model.language_model import LanguageModel
from steer.model.tokens import Tokens
from tests.intervention.batches import generated_rows, run_rows, worlds
from tests.intervention.test_laws import row
from tests.intervention.world import World, make
from tests.tiny import ARCHITECTURES

ROUNDING = 1e-4
TEXT = "He saw a carrot and had to grab it,"
CLEAR = 1e-3
SLIDING = ("gemma2", "gemma3", "mistral")


@pytest.fixture(scope="session")
def world(tiny_model: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], World]:
    return worlds(tiny_model, tmp_path_factory.mktemp("passes"))


Worlds = Callable[[str, str], World]


@contextmanager
def counted(world: World) -> Iterator[list[int]]:
    """Tokens that each block's attention reads."""
    read = [0] * world.model.n_layers

    def count(layer: int) -> Callable[[Tensor, Any], None]:
        def add(x: Tensor, hook: Any) -> None:
            read[layer] += x.shape[0] * x.shape[1]

        return add

    with world.model.hooked([(f"blocks.{layer}.hook_attn_out", count(layer)) for layer in range(len(read))]):
        yield read


def run_beyond_baseline(
    world: World, rows: Sequence[Row], text: str, steps: int = 0, shortcuts: bool = True
) -> list[int]:
    """Tokens a block reads for the rows, the unedited pass over their text left out."""
    ids = [world.model.tokens.encode(text).ids] * len(rows)
    _ = world.model.resumable  # found out once, by passes of its own
    with counted(world) as read:
        run_rows(world, rows, ids, steps, shortcuts=shortcuts)
    return [n - len(ids[0]) for n in read]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["jumprelu", "topk"])
def test_shortcuts_change_no_number(world: Worlds, architecture: str, kind: str) -> None:
    here = world(architecture, kind)
    generated, rows = generated_rows(here, random.Random(11), 24)
    ids = [one.encoded.ids for one in generated]
    short, whole = (run_rows(here, rows, ids, 4, shortcuts=shortcuts) for shortcuts in (True, False))
    width = max(map(len, ids))
    for b, one in enumerate(ids):
        ours, theirs = (done.logits[b, width - len(one) :] for done in (short, whole))
        scale = max(1.0, float(theirs.abs().max()))
        assert float((ours - theirs).abs().max()) <= ROUNDING * scale
        if clear(theirs[-1]):
            assert short.completions[b].ids[:1] == whole.completions[b].ids[:1]  # type: ignore[index]
    for ours_did, theirs_did in zip(*(did(rows, done) for done in (short, whole)), strict=True):
        assert_same_record(ours_did, theirs_did)


def did(rows: Sequence[Row], done: Any) -> list[Applied]:
    return applied(rows, done.editing.records, done.editing.layout)


def assert_same_record(ours: Applied, theirs: Applied) -> None:
    """What was changed in the prompt; generated text may part where two tokens are nearly as likely."""
    mine, other = (
        {(e.layer, e.index, e.position): e for e in a.edits if e.position is not None} for a in (ours, theirs)
    )
    for key in mine.keys() ^ other.keys():
        edit = mine.get(key) or other[key]
        assert edit.before is not None and edit.after == pytest.approx(
            edit.before, abs=1e-3
        )  # a change of rounding's size
    for key in mine.keys() & other.keys():
        assert mine[key].relative_norm == pytest.approx(other[key].relative_norm, rel=1e-2, abs=1e-4)


def clear(logits: Tensor) -> bool:
    best, second = logits.topk(2).values.tolist()
    return best - second > CLEAR


def test_a_sampled_row_says_the_same_with_shortcuts_and_without(world: Worlds) -> None:
    here = world("llama", "relu")
    rows = [
        row(here, TEXT, {"op": "clamp", "feature": "1/5", "value": v, "positions": [3, 4]}) for v in (0.0, 2.0, 4.0)
    ]
    ids = [here.model.tokens.encode(TEXT).ids] * len(rows)
    said = [
        [one.ids for one in run_rows(here, rows, ids, sampling=Sampling(8, 1.0), shortcuts=on).completions or ()]
        for on in (True, False)
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in (*SLIDING, "mixtral")])
def test_nothing_up_to_the_first_edited_layer_and_before_the_first_edited_position_runs(
    world: Worlds, architecture: str
) -> None:
    here = world(architecture, "relu")
    length = len(here.model.tokens.encode(TEXT).ids)
    for layer in range(here.model.n_layers):
        stated = {"op": "add", "feature": f"{layer}/5", "value": 2, "positions": f"{length - 4}:{length}"}
        after = here.model.n_layers - layer - 1
        assert run_beyond_baseline(here, [row(here, TEXT, stated)], TEXT) == [0] * (layer + 1) + [4] * after


@pytest.mark.parametrize("architecture", SLIDING)
def test_models_with_sliding_windows_skip_layers_only_and_only_where_nothing_is_generated(
    world: Worlds, architecture: str
) -> None:
    here = world(architecture, "relu")
    length, deep = len(here.model.tokens.encode(TEXT).ids), here.model.n_layers - 1
    rows = [row(here, TEXT, {"op": "add", "feature": "1/5", "value": 2, "positions": "last"})]
    assert run_beyond_baseline(here, rows, TEXT) == [0, 0] + [length] * (deep - 1)
    assert run_beyond_baseline(here, rows, TEXT, steps=1) == [length] * (deep + 1)


def test_routed_experts_run_whole(world: Worlds) -> None:
    here = world("mixtral", "relu")
    assert not Engine(here.model, here.transcoders).resumes
    rows = [row(here, TEXT, {"op": "add", "feature": "1/5", "value": 2, "positions": "last"})]
    length = len(here.model.tokens.encode(TEXT).ids)
    assert run_beyond_baseline(here, rows, TEXT) == [length] * here.model.n_layers


def test_frozen_attention_runs_whole_and_without_shortcuts_everything_does(world: Worlds) -> None:
    here = world("llama", "relu")
    length, depth = len(here.model.tokens.encode(TEXT).ids), here.model.n_layers
    plain = row(here, TEXT, {"op": "add", "feature": "1/5", "value": 2, "positions": "last"})
    frozen = Row(plain.edits, freeze_attention=True)
    assert run_beyond_baseline(here, [frozen], TEXT) == [length] * depth
    assert run_beyond_baseline(here, [plain], TEXT, shortcuts=False) == [length] * depth


def test_the_ablation_of_a_silent_feature_is_its_baseline_and_is_not_run(world: Worlds) -> None:
    here = world("llama", "relu")
    ids = here.model.tokens.encode(TEXT).ids
    silent = next(index for index in range(80) if not fires(here, 1, index))
    firing = next(index for index in range(80) if fires(here, 1, index))
    rows = [row(here, TEXT, {"op": "ablate", "feature": f"1/{i}", "positions": "prompt"}) for i in (silent, firing)]
    assert run_beyond_baseline(here, [rows[0]], TEXT) == [0] * here.model.n_layers
    assert run_beyond_baseline(here, [rows[1]], TEXT)[2] > 0
    done = run_rows(here, [Row(), rows[0]], [ids, ids], 3)
    assert torch.equal(done.logits[0], done.logits[1]) and done.completions is not None
    assert done.completions[0] == done.completions[1]


def fires(world: World, layer: int, index: int) -> bool:
    ids = torch.tensor([world.model.tokens.encode(TEXT).ids])
    seen: list[Tensor] = []
    with torch.inference_mode(), world.model.hooked([(f"blocks.{layer}.mlp.hook_in", lambda x, hook: seen.append(x))]):
        world.model.forward_pass(ids, torch.ones_like(ids, dtype=torch.bool))
    return bool((world.transcoders.encode_all(layer, seen[0][0])[:, index] > 0).any())


def test_rows_of_one_prompt_and_seed_that_change_nothing_are_generated_once(world: Worlds) -> None:
    here = world("llama", "relu")
    same = [row(here, TEXT, {"op": "scale", "feature": "1/5", "factor": 1, "positions": "prompt"})] * 3
    length = len(here.model.tokens.encode(TEXT).ids)
    with counted(here) as read:
        done = run_rows(here, [Row(), *same], [here.model.tokens.encode(TEXT).ids] * 4, 5)
    steps = max(len(one.ids) + (one.stop_reason == "eos") for one in done.completions or ()) - 1
    assert read == [length + steps] * here.model.n_layers
    assert len(set(done.completions or ())) == 1


def test_a_row_that_changes_only_what_lies_behind_the_last_known_column_gives_what_is_known(world: Worlds) -> None:
    here = world("llama", "relu")
    ids = here.model.tokens.encode(TEXT).ids
    text = Text.of([ids], [(5, 6, 7)], here.model.tokens.pad_id, here.model.device)
    rows = [row(here, TEXT, {"op": "add", "feature": "1/5", "value": 9, "positions": len(ids) + 2})]
    for shortcuts in (True, False):
        engine = Engine(here.model, here.transcoders, shortcuts)
        nothing = Watch((), here.transcoders, 1, 0, here.model.device)
        known = unedited_pass(engine, text, rows, nothing, range(len(ids) - 1, len(ids) + 2))
        edited = edited_pass(engine, text, [0], known, rows)
        torch.testing.assert_close(edited, known.logits, atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("architecture", ["gemma2", "llama"])
def test_rows_with_something_held_run_beside_longer_ones(world: Worlds, architecture: str) -> None:
    here, texts = world(architecture, "relu"), (TEXT, "the rabbit", "the habit")
    stated = {"op": "add", "feature": "1/5", "value": 2, "positions": "last"}
    rows = [row(here, text, stated) for text in texts]
    rows[1] = Row(rows[1].edits, freeze_attention=True, freeze_norms=True)
    rows[2] = Row(rows[2].edits, constrained=range(0, 2))
    ids = [here.model.tokens.encode(text).ids for text in texts]
    short, whole = (run_rows(here, rows, ids, shortcuts=shortcuts).logits for shortcuts in (True, False))
    for b, one in enumerate(ids):
        torch.testing.assert_close(short[b, -len(one) :], whole[b, -len(one) :], atol=ROUNDING, rtol=ROUNDING)


@pytest.mark.parametrize("shortcuts", [True, False])
def test_a_hook_is_planned_when_its_pass_begins_and_then_fires(world: Worlds, shortcuts: bool) -> None:
    here = world("gpt2", "relu")
    rows = [row(here, TEXT, {"op": "add", "feature": "1/5", "value": 2, "positions": "generated"})]
    ids = [here.model.tokens.encode(TEXT).ids]
    for steps in (1, 3):
        editing = run_rows(here, rows, ids, steps, shortcuts=shortcuts).editing
        assert editing.planned <= set(editing.fired)


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
@pytest.mark.parametrize("shortcuts", [True, False])
def test_a_dose_in_units_of_the_baseline_goes_beside_more_interventions_elsewhere(
    world: Worlds, architecture: str, shortcuts: bool
) -> None:
    here = world(architecture, "relu")
    relative = row(here, TEXT, {"op": "add", "feature": "0/5", "value": 2, "unit": "own_act", "positions": "all"})
    several = [{"op": "clamp", "feature": f"1/{index}", "value": 2, "positions": "all"} for index in (3, 4, 5)]
    rows, ids = [relative, row(here, TEXT, *several)], here.model.tokens.encode(TEXT).ids
    together = run_rows(here, rows, [ids] * 2, 3, shortcuts=shortcuts)
    for b in range(2):
        alone = run_rows(here, [rows[b]], [ids], 3, shortcuts=shortcuts)
        torch.testing.assert_close(together.logits[b], alone.logits[0], atol=ROUNDING, rtol=ROUNDING)


def test_what_a_model_adds_to_in_place_is_known_as_it_was(tmp_path: Path, tiny_folder: Callable[[str], Path]) -> None:
    """Falcon's parallel block adds what attention gave to what its MLP gave, in the MLP's own memory."""
    sizes = {"vocab_size": 128, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    torch.manual_seed(0)
    hf = FalconForCausalLM(FalconConfig(**sizes, parallel_attn=True, alibi=False, bos_token_id=0, eos_token_id=1))
    here = make(LanguageModel.wrap(hf, Tokens.open(tiny_folder("llama"))), tmp_path, "relu")
    nothing = row(here, TEXT, {"op": "add", "feature": "0/5", "value": 0, "positions": "all"})
    held, ids = replace(nothing, constrained=range(1, 2)), here.model.tokens.encode(TEXT).ids
    for shortcuts in (True, False):
        constrained, unedited = run_rows(here, [held, Row()], [ids] * 2, shortcuts=shortcuts).logits
        torch.testing.assert_close(constrained, unedited, atol=1e-5, rtol=1e-5)
