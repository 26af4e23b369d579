"""A shard: the batches of a plan that one machine runs, so that all shards together are the whole run.

Batches are cut from the whole plan, and each runs whole, so every number has the batch shape that it has in a run of
one piece. A shard is a stretch of batches. Where it begins in the middle of a prompt, the prompt's baseline is in a
batch of the shard before it: that batch runs here as well, for its baseline alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from steer.errors import UsageError
from steer.execution.baselines import Where, awaited, brought
from steer.execution.batches import Batch
from steer.experiment.trial import Plan, Trial

WRITTEN = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Shard:
    """One of `of` shards, counted from 1."""

    index: int
    of: int

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


def written_shard(text: str) -> Shard:
    """`2/3`; UsageError."""
    match = WRITTEN.fullmatch(text)
    shard = Shard(int(match[1]), int(match[2])) if match else None
    if shard is None or shard.index > shard.of:
        raise UsageError(f"--shard {text}: expected i/n with i from 1 to n, as in 1/3, 2/3 and 3/3")
    return shard


@dataclass(frozen=True)
class Share:
    """What a shard runs: `plan` has its own trials and the baselines that they need from other shards.

    `lacking` are the baselines that the trials around a borrowed baseline would be compared with; those trials are
    other shards'. `cut` is a digest of all batches of the whole plan: shards that differ in it do not fit together.
    """

    plan: Plan
    batches: tuple[Batch, ...]
    lacking: frozenset[Where]
    cut: str


def share(plan: Plan, batches: Sequence[Batch], lengths: Mapping[str, int], new_tokens: int, shard: Shard) -> Share:
    """The batches of a shard, out of all batches of a plan. `lengths` are the prompts' tokens, by id."""
    costs = [_cost(batch, lengths, new_tokens) for batch in batches]
    own = [batch for batch, number in zip(batches, _shards(costs, shard.of), strict=True) if number == shard.index]
    borrowed = set[Where]().union(*map(awaited, own)).difference(*map(brought, own))
    ids = {trial.id for batch in own for trial in batch.trials}
    trials = [t for t in plan.trials if t.id in ids or (t.condition == "baseline" and _where(t) in borrowed)]
    run = tuple(batch for batch in batches if batch.trials[0].id in ids or brought(batch) & borrowed)
    lacking = set[Where]().union(*map(awaited, run)).difference(*map(brought, run))
    return Share(replace(plan, trials=tuple(trials)), run, frozenset(lacking), _digest(batches))


def _cost(batch: Batch, lengths: Mapping[str, int], new_tokens: int) -> int:
    """Tokens that the batch's passes read, padding included."""
    return len(batch.trials) * (max(lengths[trial.prompt.id] for trial in batch.trials) + new_tokens)


def _shards(costs: Sequence[int], n: int) -> list[int]:
    """The shard of each batch, from 1: where the middle of its stretch of the whole cost falls."""
    ends = list(accumulate(costs))
    return [1 + (2 * end - cost) * n // (2 * ends[-1]) for end, cost in zip(ends, costs, strict=True)]


def _where(trial: Trial) -> Where:
    return trial.prompt.id, trial.seed


def _digest(batches: Sequence[Batch]) -> str:
    return hashlib.sha256(json.dumps([[trial.id for trial in b.trials] for b in batches]).encode()).hexdigest()
