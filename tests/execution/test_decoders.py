"""Steps that are replayed give what steps give that are run.

No GPU is here: what stands in for CUDA's graphs is `tests/recorded.py`, which does the operations of one step again and
again, with nothing but their tensors. The oracle is the decoder whose steps are run, with caches that grow.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import compress, takewhile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import transformers
from torch import Tensor

from steer.execution import steered
from steer.execution.decoders import FEW, CudaGraphs, Recorder, capturable
from steer.execution.passes import Engine, Text, unedited_pass
from steer.execution.steered import Steered, steered_pass
from steer.intervention.columns import NOBODY
from steer.intervention.hooks import Editing
from steer.intervention.records import Applied, applied
from steer.intervention.reference import Reference
from steer.intervention.rows import Row
from steer.intervention.slots import Layout
from steer.intervention.watch import Watch
from steer.model.cache import FixedCache
from steer.model.generation import Sampling, generate
from steer.model.language_model import LanguageModel
from steer.model.tokens import Tokens
from steer.transcoder.transcoder import Transcoders
from tests import tiny
from tests.intervention.batches import generated_rows, worlds
from tests.intervention.test_laws import row
from tests.intervention.world import World, make
from tests.pretend import pretended, spread
from tests.recorded import Recorded, Waits, recording

ROUNDING = 1e-4
LONG = Sampling(20)  # with the prompt, more than the sliding windows of `tests/tiny.py`
ENDING = Sampling(24, temperature=1.0, top_p=0.95, repetition_penalty=1.1, stop=("e", "t", "r", "1", "G"))
TEXT = "He saw a carrot and had to grab it,"
REPLAYED = [name for name in tiny.ARCHITECTURES if name != "mixtral"]

Worlds = Callable[[str, str], World]


@pytest.fixture(scope="session")
def world(tiny_model: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    return worlds(tiny_model, tmp_path_factory.mktemp("decoders"))


@dataclass
class Spied:
    """A decoder; kept is what each row read at each step, and the logits that came of it."""

    decoder: Any
    going: Tensor
    steps: list[list[tuple[int, Tensor]]]

    def step(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = self.decoder.step(ids, mask)
        for b, id, one in zip(self.going.tolist(), ids.tolist(), logits.cpu(), strict=True):
            self.steps[b].append((id[0], one.clone()))
        return logits

    def keep(self, kept: Tensor) -> None:
        self.going = self.going[kept.cpu()]
        self.decoder.keep(kept)


@dataclass(frozen=True)
class Ran:
    """A batch, its steps row by row, and what was watched."""

    done: Steered
    steps: list[list[tuple[int, Tensor]]]
    watch: Watch

    def applied(self, rows: Sequence[Row]) -> list[Applied]:
        return applied(rows, self.done.editing.records, self.done.editing.layout)


def run(world: World, rows: Sequence[Row], ids: Sequence[tuple[int, ...]], sampling: Sampling) -> Ran:
    """Rows as one batch, with two features watched."""
    engine, device = Engine(world.model, world.transcoders), world.model.device
    distinct = list(dict.fromkeys(ids))
    once, text = (Text.of(some, [()] * len(some), world.model.tokens.pad_id, device) for some in (distinct, ids))
    width, features = text.layout.width, {(0, 3), (2, 7)}
    before = Watch(features, world.transcoders, len(distinct), width, device)
    watch = Watch(features, world.transcoders, len(ids), width + sampling.max_new_tokens, device)
    known = unedited_pass(engine, once, rows, before, [width - 1])
    text_of, spies = [distinct.index(one) for one in ids], []

    def spied(decoder: Any, tokens: Tokens, logits: Tensor, *rest: Any) -> Any:
        spies.append(Spied(decoder, torch.arange(len(logits)), [[] for _ in logits]))
        return generate(spies[0], tokens, logits, *rest)

    with mock.patch.object(steered, "generate", spied):
        done = steered_pass(engine, ids, text, text_of, known, rows, watch, sampling, range(len(ids)))
    return Ran(done, spies[0].steps, watch)


@contextmanager
def replaying(recorder: Recorder | None = None) -> Iterator[Any]:
    """Inside, steps are recorded and replayed wherever the model is."""
    recorder = Recorded() if recorder is None else recorder
    with (
        mock.patch.object(steered, "capturable", lambda *_: True),
        mock.patch.object(CudaGraphs, "on", lambda device: recorder),
    ):
        yield recorder


def random_rows(world: World, seed: int, count: int = 24) -> tuple[list[Row], list[tuple[int, ...]]]:
    generated, rows = generated_rows(world, random.Random(seed), count)
    return rows, [one.encoded.ids for one in generated]


def assert_same(run: Ran, replayed: Ran, rows: Sequence[Row]) -> None:
    """The same up to rounding. Where two tokens are nearly as likely, texts may part: of one row in ten at most."""
    for ours, theirs in zip(replayed.steps, run.steps, strict=True):
        together = takewhile(lambda pair: pair[0][0] == pair[1][0], zip(ours, theirs, strict=False))
        for (_, a), (_, b) in together:
            assert float((a - b).abs().max()) <= ROUNDING * max(1.0, float(b.abs().max()))
    same = [a == b for a, b in zip(run.done.completions or (), replayed.done.completions or (), strict=True)]
    assert sum(same) >= 0.9 * len(same)
    for ours_did, theirs_did in compress(zip(replayed.applied(rows), run.applied(rows), strict=True), same):
        assert_same_record(ours_did, theirs_did)
    for layer, seen in run.watch.seen.items():
        ours, theirs = (one[:NOBODY][torch.tensor(same)] for one in (replayed.watch.seen[layer], seen))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3, equal_nan=True)


def assert_same_record(ours: Applied, theirs: Applied) -> None:
    assert (ours.pairs, len(ours.edits)) == (theirs.pairs, len(theirs.edits))
    assert numbers(ours) == pytest.approx(numbers(theirs), rel=1e-3, abs=1e-3)


def numbers(done: Applied) -> dict[Any, float]:
    each = ("before", "after", "relative_norm")
    found = {(e[:4], name): getattr(e, name) for e in done.edits for name in each}
    return {"all": done.relative_norm, **{key: number for key, number in found.items() if number is not None}}


@pytest.mark.parametrize("architecture", REPLAYED)
@pytest.mark.parametrize("sampling", [LONG, ENDING], ids=["long", "ending"])
def test_replayed_steps_give_what_steps_give_that_are_run(world: Worlds, architecture: str, sampling: Sampling) -> None:
    here = world(architecture, "jumprelu" if architecture == "gemma2" else "relu")
    rows, ids = random_rows(here, seed=len(architecture))
    assert any(one.needs_shadow for one in rows) and any(one.pushes for one in rows)
    run_as_they_are = run(here, rows, ids, sampling)
    with replaying() as recorder:
        replayed = run(here, rows, ids, sampling)
    assert_same(run_as_they_are, replayed, rows)
    assert replayed.done.editing.fired == run_as_they_are.done.editing.fired
    assert recorder.rehearsals + recorder.replays == max(map(len, replayed.steps))


def test_attention_without_patterns_is_replayed_too(tiny_model: Callable[..., LanguageModel], tmp_path: Path) -> None:
    for architecture in ("llama", "gemma3", "gpt2"):
        here = make(tiny_model(architecture), tmp_path / architecture, "relu")
        rows, ids = random_rows(here, seed=3)
        rows = [replace(one, freeze_attention=False) for one in rows]
        as_they_are = run(here, rows, ids, ENDING)
        with replaying():
            assert_same(as_they_are, run(here, rows, ids, ENDING), rows)


def test_a_step_depends_on_nothing_but_the_tensors_that_it_is_given(world: Worlds) -> None:
    here = world("gemma2", "relu")
    rows, ids = random_rows(here, seed=4)
    with replaying():
        replayed = run(here, rows, ids, ENDING)
    with replaying(Running()):
        again = run(here, rows, ids, ENDING)
    assert replayed.done.completions == again.done.completions
    assert replayed.applied(rows) == again.applied(rows)
    for ours, theirs in zip(replayed.steps, again.steps, strict=True):
        assert [id for id, _ in ours] == [id for id, _ in theirs]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(ours, theirs, strict=True))


class Running:
    """Fixed shapes, but every step is run."""

    def rehearsed(self, step: Callable[[], Tensor]) -> Tensor:
        return step()

    def recorded(self, step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        return step


def test_rows_that_are_done_leave_when_fewer_than_half_are_left(world: Worlds) -> None:
    here = world("llama", "relu")
    rows, ids = random_rows(here, seed=5, count=32)
    with replaying() as recorder:
        replayed = run(here, rows, ids, ENDING)
    ends = sorted({len(steps) for steps in replayed.steps})
    assert len(ends) > 6  # rows end at many steps, and few of these ends are recorded anew
    assert 1 < recorder.rehearsals <= 1 + math.log2(len(rows))
    for b, steps in enumerate(replayed.steps):  # and what a row does when it is done is noted nowhere
        seen = replayed.watch.seen[0][b, replayed.done.editing.layout.width :]
        assert (~seen.isnan()).all(1).tolist() == [True] * len(steps) + [False] * (len(seen) - len(steps))


def test_the_keys_and_values_of_prompts_are_not_copied_and_have_room_for_the_steps_alone(world: Worlds) -> None:
    here, context = world("llama", "relu"), 9
    ids = torch.arange(12).view(2, 6)
    cache = here.model.new_cache(context - 6)
    here.model.forward_pass(ids, torch.ones_like(ids, dtype=torch.bool), cache)
    layers: list[Any] = cache.layers
    held = [buffer.data_ptr() for layer in layers for buffer in layer.buffers]
    fixed: list[Any] = FixedCache(cache, torch.tensor([6]), context).layers
    assert [one.data_ptr() for layer in fixed for one in layer.held] == held
    assert {one.shape[-2] for layer in fixed for one in layer.held} == {context}


# --- the rule ---


def asked(world: World, stated: dict[str, Any], watched: int = 0, steps: int = FEW + 1, shortcuts: bool = True) -> bool:
    """The rule's answer for one row."""
    rows, device = [row(world, TEXT, stated)], world.model.device
    layout, text_of = Layout((12,), 12, 12 + steps), torch.zeros(1, dtype=torch.long, device=device)
    engine = Engine(world.model, world.transcoders, shortcuts)
    editing = Editing(rows, layout, engine.transcoders, Reference(), text_of, world.model.devices, device)
    watch = Watch({(1, n) for n in range(watched)}, world.transcoders, 1, layout.total, device)
    return capturable(engine, editing, watch, steps)


CLAMP = {"op": "clamp", "feature": "1/5", "value": 2.0}
PUSH = {"op": "steer", "direction": "1/5", "coefficient": 2.0}


def test_steps_are_run_where_the_model_is_on_no_gpu(world: Worlds) -> None:
    assert not asked(world("llama", "relu"), CLAMP)


@contextmanager
def pretended_graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    """Devices that are not there, one of which has graphs."""
    recorder = Recorded()
    monkeypatch.setattr("steer.model.language_model.never_waiting", lambda device: recording())
    monkeypatch.setattr(CudaGraphs, "on", lambda device: recorder)
    with pretended(monkeypatch):
        monkeypatch.setattr(steered, "capturable", capturable)
        yield recorder


def elsewhere(folder: Path, kind: str, tokens: Tokens, hf: Any, head: str = "cuda:0") -> World:
    """A world on devices that are not there."""
    plain = make(LanguageModel.wrap(hf, tokens), folder, kind)
    spread(hf, {"": "cuda:0", "lm_head": head})
    model = LanguageModel.wrap(hf, tokens)
    return replace(plain, model=model, transcoders=Transcoders.open(folder / kind, model.device))


@pytest.fixture
def tokens(tiny_folder: Callable[[str], Path]) -> Tokens:
    return Tokens.open(tiny_folder("llama"))


def test_architectures_are_replayed_but_for_routed_experts(tiny_model: Callable[..., LanguageModel]) -> None:
    assert [name for name in tiny.ARCHITECTURES if tiny_model(name).replayable] == REPLAYED


def test_a_window_that_no_cache_knows_of_is_noticed(tokens: Tokens) -> None:
    config = transformers.GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, vocab_size=128, max_position_embeddings=600, window_size=256,
        attention_types=[[["global", "local"], 1]],
    )  # fmt: skip
    hf = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in hf.parameters():
        parameter.data.normal_(0, 0.3)
    assert not LanguageModel.wrap(hf, tokens).replayable


def test_the_rule_of_what_is_replayed(tmp_path: Path, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_graphs(monkeypatch):
        here = elsewhere(tmp_path, "relu", tokens, tiny.hf_model("llama"))
        assert asked(here, CLAMP) and asked(here, CLAMP, watched=2) and asked(here, PUSH)
        assert not asked(here, CLAMP, shortcuts=False)
        assert not asked(here, CLAMP, steps=FEW)
        competing = elsewhere(tmp_path, "topk", tokens, tiny.hf_model("llama"))
        assert not asked(competing, CLAMP)
        assert asked(competing, PUSH) and not asked(competing, PUSH, watched=1)
        assert not asked(elsewhere(tmp_path, "relu", tokens, tiny.hf_model("llama"), head="cuda:1"), CLAMP)
        waiting = transformers.LlamaConfig(
            **tiny.PLAIN, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
        )
        hf = transformers.AutoModelForCausalLM.from_config(waiting).eval()
        assert not asked(elsewhere(tmp_path, "relu", tokens, hf), CLAMP)  # it asks how long the text is


def test_where_a_model_is_on_a_gpu_its_steps_are_replayed_and_bring_nothing_there(
    tmp_path: Path, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make(LanguageModel.wrap(tiny.hf_model("qwen3"), tokens), tmp_path, "relu")
    rows, ids = random_rows(plain, seed=6, count=8)
    rows = [replace(one, freeze_attention=False) for one in rows]
    as_they_are = run(plain, rows, ids, replace(ENDING, max_new_tokens=8))
    with pretended_graphs(monkeypatch) as recorder:
        there = elsewhere(tmp_path, "relu", tokens, tiny.hf_model("qwen3"))
        replayed = run(there, rows, ids, replace(ENDING, max_new_tokens=8))
        assert recorder.replays > 0
        for layer, seen in replayed.watch.seen.items():
            replayed.watch.seen[layer] = seen.cpu()
        assert_same(as_they_are, replayed, rows)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
@pytest.mark.parametrize("architecture", REPLAYED)
def test_a_cuda_graph_gives_what_steps_give_that_are_run(
    tmp_path: Path, tokens: Tokens, architecture: str, sampling: Sampling = ENDING
) -> None:
    model = LanguageModel.wrap(tiny.hf_model(architecture).to("cuda:0"), tokens)
    plain = make(model, tmp_path, "relu")
    here = replace(plain, transcoders=Transcoders.open(tmp_path / "relu", model.device))
    assert model.replayable
    rows, ids = random_rows(here, seed=7)
    rows = [replace(one, freeze_attention=False) for one in rows]
    replayed = run(here, rows, ids, sampling)
    with mock.patch.object(steered, "capturable", lambda *_: False):
        as_they_are = run(here, rows, ids, sampling)
    for one in (replayed, as_they_are):
        one.watch.seen = {layer: seen.cpu() for layer, seen in one.watch.seen.items()}
    assert_same(as_they_are, replayed, rows)


# --- what stands in for a graph ---


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.tolist(),
    ],
    ids=["item", "bool", "mask", "nonzero", "tolist"],
)
def test_a_graph_holds_nothing_that_waits(waits: Callable[[Tensor], object]) -> None:
    with pytest.raises(Waits), recording():
        waits(torch.tensor([1.0, -1.0]))


def test_what_is_recorded_is_not_run_and_a_replay_reads_what_is_there_then() -> None:
    count, given = torch.zeros(1), torch.ones(3)

    def step() -> Tensor:
        count.add_(1)
        return given * count

    replayed = Recorded().recorded(step)
    assert count == 0
    given[:] = torch.tensor([1.0, 2.0, 3.0])
    assert [replayed().tolist() for _ in range(2)] == [[1, 2, 3], [2, 4, 6]]
