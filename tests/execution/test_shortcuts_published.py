"""What others publish, SAEs that read where they write among it, gives the same numbers with shortcuts and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from steer.execution.passes import Engine, Text, unedited_pass
from steer.execution.steered import Steered, steered_pass
from steer.intervention.records import applied
from steer.intervention.rows import Row
from steer.intervention.watch import Watch
from steer.model.generation import Sampling
from steer.model.language_model import LanguageModel
from steer.transcoder.transcoder import Transcoders
from tests.intervention.test_laws import row
from tests.intervention.world import World
from tests.transcoder.published import circuit_tracer, others, saelens

D_MODEL, STEPS, ROUNDING = 32, 3, 1e-4
TEXTS = ("He saw a carrot and had to grab it,", "the rabbit")
FEATURES = frozenset({(1, 3), (1, 7)})
PUBLISHED: dict[str, Callable[[Path], Path]] = {
    "hook_resid_post": lambda folder: saelens.version_6(folder, "jumprelu", d_in=D_MODEL).folder,
    "hook_resid_post, TopK": lambda folder: others.openai(folder, "resid_post_mlp", "TopK", D_MODEL).folder,
    "hook_mlp_out": lambda folder: others.openai(folder, "resid_delta_mlp", "ReLU", D_MODEL).folder,
    "hook_attn_out": lambda folder: others.openai(folder, "resid_delta_attn", "ReLU", D_MODEL).folder,
    "hook_resid_mid": lambda folder: others.openai(folder, "resid_post_attn", "ReLU", D_MODEL).folder,
    "attn.hook_z": lambda folder: saelens.version_6(folder, "standard", point="attn.hook_z", d_in=D_MODEL).folder,
    "a cross-layer transcoder": lambda folder: circuit_tracer.clt(folder, n_layers=3, d=D_MODEL).folder,
}


class Ran(NamedTuple):
    """A batch, and what was watched."""

    done: Steered
    watch: Watch


def run(world: World, rows: Sequence[Row], ids: Sequence[tuple[int, ...]], shortcuts: bool) -> Ran:
    """Rows as one batch, with logits at every column, some greedy tokens, and the edited features watched."""
    model, engine = world.model, Engine(world.model, world.transcoders, shortcuts)
    distinct = list(dict.fromkeys(ids))
    once, text = (Text.of(some, [()] * len(some), model.tokens.pad_id, model.device) for some in (distinct, ids))
    width, text_of = text.layout.width, [distinct.index(one) for one in ids]
    before = Watch(FEATURES, world.transcoders, len(distinct), width, model.device)
    watch = Watch(FEATURES, world.transcoders, len(ids), width + STEPS, model.device)
    watch.at(slice(0, width))
    known = unedited_pass(engine, once, rows, before, range(width))
    done = steered_pass(engine, ids, text, text_of, known, rows, watch, Sampling(STEPS), [0] * len(ids))
    return Ran(done, watch)


def rows_of(world: World, text: str) -> list[Row]:
    """Edits everywhere, late, on generated text and on two features, in units of the baseline too; and none."""
    everywhere = {"op": "clamp", "feature": "1/3", "value": 4.0}
    relative = {"op": "add", "feature": "1/7", "value": 1.5, "unit": "own_act", "positions": "1:"}
    late = {"op": "add", "feature": "1/7", "value": 3.0, "positions": "last"}
    said = {"op": "clamp", "feature": "1/3", "value": 5.0, "positions": "generated"}
    return [Row(), *(row(world, text, *some) for some in ([everywhere], [everywhere, relative], [late], [said]))]


def same(ours: Tensor, theirs: Tensor) -> None:
    scale = max(1.0, float(theirs.nan_to_num().abs().max()))
    torch.testing.assert_close(ours, theirs, atol=ROUNDING * scale, rtol=0, equal_nan=True)


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
@pytest.mark.parametrize("published", PUBLISHED)
def test_published_features_give_the_same_numbers_with_shortcuts_and_without(
    tmp_path: Path, tiny_model: Callable[..., LanguageModel], architecture: str, published: str
) -> None:
    model = tiny_model(architecture)
    world = World(model, Transcoders.open(PUBLISHED[published](tmp_path)), (), published)
    assert world.transcoders.kind == "clt" or published.startswith(world.transcoders.writes)
    rows = [one for text in TEXTS for one in rows_of(world, text)]
    ids = [model.tokens.encode(text).ids for text in TEXTS for _ in rows_of(world, text)]
    short, whole = (run(world, rows, ids, shortcuts) for shortcuts in (True, False))
    assert short.done.completions == whole.done.completions
    records = [applied(rows, ran.done.editing.records, ran.done.editing.layout) for ran in (short, whole)]
    for b, one in enumerate(ids):
        same(*(ran.done.logits[b, -len(one) :] for ran in (short, whole)))
        same(*(ran.watch.seen[1][b, -len(one) - STEPS :] for ran in (short, whole)))
        ours, theirs = (record[b] for record in records)
        assert (ours.pairs > 0) == (theirs.pairs > 0)
        assert ours.relative_norm == pytest.approx(theirs.relative_norm, rel=1e-3, abs=1e-4)
    assert any(one.pairs for one in records[1])
