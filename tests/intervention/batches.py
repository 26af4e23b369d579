"""Runs generated cases as one batch, and the oracle beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from steer.execution.passes import Engine, Text, unedited_pass
from steer.execution.steered import Steered, steered_pass
from steer.intervention.rows import ConflictError, Row
from steer.intervention.watch import Watch
from steer.model.generation import Sampling
from tests.intervention import cases
from tests.intervention.oracle import Oracle
from tests.intervention.world import World, make


@dataclass(frozen=True)
class Compared:
    """A batch beside the oracle: the largest difference of a logit, also as a share of its row's largest logit."""

    absolute: float
    error: float
    rows: int
    tokens: int
    applied: int


def run_rows(
    world: World,
    rows: Sequence[Row],
    ids: Sequence[tuple[int, ...]],
    steps: int = 0,
    sampling: Sampling | None = None,
    shortcuts: bool = True,
) -> Steered:
    """Rows as one batch, with logits at every column of the prompt, and `steps` greedy tokens or others."""
    engine = Engine(world.model, world.transcoders, shortcuts)
    distinct = list(dict.fromkeys(ids))
    once, text = (
        Text.of(some, [()] * len(some), world.model.tokens.pad_id, world.model.device) for some in (distinct, ids)
    )
    unwatched = Watch((), world.transcoders, len(ids), 0, world.model.device)
    known = unedited_pass(engine, once, rows, unwatched, range(text.layout.width))
    text_of = [distinct.index(one) for one in ids]
    sampling = sampling or (Sampling(steps) if steps else None)
    return steered_pass(engine, ids, text, text_of, known, rows, unwatched, sampling, [0] * len(ids))


def compare(world: World, oracle: Oracle, rng: random.Random, rows: int) -> Compared:
    """A batch of random rows against the oracle: prompt logits, and greedy tokens where they win clearly."""
    generated, resolved = generated_rows(world, rng, rows)
    done = run_rows(world, resolved, [one.encoded.ids for one in generated], cases.STEPS)
    width = max(len(one.encoded.ids) for one in generated)
    absolute, error, tokens = 0.0, 0.0, 0
    for b, one in enumerate(generated):
        expected = oracle.logits(one.case)
        found = done.logits[b, width - len(one.encoded.ids) :].double()
        difference = float((found - expected).abs().max())
        absolute = max(absolute, difference)
        error = max(error, difference / max(1.0, float(expected.abs().max())))
        tokens += _same_tokens(world, oracle, one, done.completions[b].ids)  # type: ignore[index]
    return Compared(absolute, error, rows, tokens, sum(len(row.edits) + len(row.pushes) for row in resolved))


def _same_tokens(world: World, oracle: Oracle, one: cases.Generated, said: tuple[int, ...]) -> int:
    expected, margins = oracle.greedy(one.case, cases.STEPS, world.model.tokens.eos_ids)
    for step, margin in enumerate(margins):
        if margin < 1e-3:
            return step
        ours = said[step] if step < len(said) else None
        theirs = expected[step] if step < len(expected) else None
        assert ours == theirs, f"step {step} of {one.trial}: {ours} instead of {theirs}, which wins by {margin}"
    return len(margins)


def generated_rows(world: World, rng: random.Random, count: int) -> tuple[list[cases.Generated], list[Row]]:
    """Random trials, and their rows."""
    generated, resolved = [], []
    while len(generated) < count:
        group = cases.groups(rng, world.model.n_layers)
        resolve = cases.resolver(world, group)
        one = cases.generate_trial(rng, world, group, len(generated))
        try:
            row = resolve.row(one.trial, one.encoded)
        except ConflictError:
            continue
        for edit in row.edits:
            if edit.along.index is not None:
                vector = world.tensors[edit.layer]["W_dec"][edit.along.index]
                cases.DRAWN[one.trial.id, edit.layer, edit.index] = vector
        for push in row.pushes:
            if push.index is not None:
                cases.DRAWN[one.trial.id, push.layer, push.index] = push.vector.cpu().double()
        generated.append(cases.understood(world, group, one))
        resolved.append(row)
    return generated, resolved


def worlds(tiny_model: Callable[..., object], folder: Path) -> Callable[[str, str], World]:
    """`worlds("gemma2", "topk")`: a world whose model shows its attention patterns."""
    return lambda architecture, kind: make(tiny_model(architecture, patterns=True), folder / architecture, kind)  # type: ignore[arg-type]
