"""Contenders do the same work, and one that does not is found out."""

from __future__ import annotations

import pytest
import torch

from benchmarks import compare
from benchmarks.contenders import by_hand, every
from benchmarks.contenders.contender import Contender
from benchmarks.reference import TOLERANCE, last_logits
from benchmarks.workloads import Workload, screening, sweep
from benchmarks.world import World

DOSES = (2.0, 4.0)


def jobs(world: World) -> dict[str, Workload]:
    return {
        "sweep": sweep(world, "W1", "a sweep", 3, DOSES),
        "generation": sweep(world, "W2", "generation", 3, DOSES, new_tokens=4),
        "screening": screening(world, "W3", "screening", 12, 9),
    }


@pytest.mark.parametrize("name", ["sweep", "generation", "screening"])
@pytest.mark.parametrize("contender", sorted(set(every.installed()) - {by_hand.PLAIN}))
def test_a_contender_gives_what_the_reference_gives(world: World, name: str, contender: str) -> None:
    job = jobs(world)[name]
    judge = compare.Judge.of(world, job)
    assert judge.error(every.installed()[contender](world, job)) < TOLERANCE / 10


@pytest.mark.parametrize("name", ["sweep", "generation", "screening"])
def test_what_is_steered_differs_from_its_baseline_by_more_than_the_tolerance(world: World, name: str) -> None:
    job = jobs(world)[name]
    logits = last_logits(world, job)
    baseline = {row.prompt: logits[r] for r, row in enumerate(job.rows) if row.clamp is None}
    effects = [float((logits[r] - baseline[row.prompt]).abs().max()) for r, row in enumerate(job.rows) if row.clamp]
    assert sorted(effects)[len(effects) // 2] > 5 * TOLERANCE  # ablated where nobody reads any more, nothing changes


def lazy(world: World, job: Workload) -> Contender:
    """Steers nothing and says that it does."""
    model = world.hf()
    return by_hand.in_batches("lazy", world, job, lambda batch: by_hand.run(model, job.new_tokens, batch))


def broken(world: World, job: Workload) -> Contender:
    raise RuntimeError("not today")


@pytest.mark.parametrize("name", ["sweep", "generation", "screening"])
def test_a_contender_that_is_wrong_or_breaks_is_reported_and_not_timed(world: World, name: str) -> None:
    makers = {by_hand.PLAIN: by_hand.plain, by_hand.HOOKS: by_hand.hooks, "lazy": lazy, "broken": broken}
    lines = {line.name: line for line in compare.compare(world, jobs(world)[name], makers, rounds=1).lines}
    assert lines["lazy"].trouble.startswith("its logits are off by") and lines["lazy"].cpu_s is None
    assert lines["broken"].trouble == "RuntimeError: not today"
    assert not lines[by_hand.HOOKS].trouble and lines[by_hand.HOOKS].to_plain["cpu"] > 0


def test_about_one_feature_in_a_hundred_fires() -> None:
    from benchmarks.world import FIRING

    bias = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - FIRING)))
    share = float((torch.randn(100_000, generator=torch.Generator().manual_seed(0)) > bias).float().mean())
    assert share == pytest.approx(FIRING, rel=0.1)
