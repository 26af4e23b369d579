"""Workloads have the rows that they are said to have."""

from __future__ import annotations

import pytest

from benchmarks.scaling import scaled
from benchmarks.workloads import DOSES, FEW, PROMPTS, Workload, pocket_prompts, screening, workload
from benchmarks.world import World, pocket


def test_a_sweep_has_a_baseline_and_every_dose_of_each_prompt() -> None:
    job = workload("pocket-W1", pocket())
    assert len(job.rows) == PROMPTS * (1 + len(DOSES)) == 272
    assert [row.clamp is None for row in job.rows] == [True, *[False] * 16] * 16
    assert all(len({len(job.prompts[job.rows[r].prompt]) for r in batch}) == 1 for batch in job.batches)


def test_what_is_generated_is_batched_in_the_order_of_length() -> None:
    job = workload("pocket-W2", pocket())
    assert job.new_tokens == 32 and len(job.rows) == PROMPTS * (1 + len(FEW)) == 80
    assert [len(batch) for batch in job.batches] == [40, 40] and _rows_once(job)
    lengths = [len(job.prompts[job.rows[row].prompt]) for batch in job.batches for row in batch]
    assert lengths == sorted(lengths)


def test_screening_ablates_features_that_fire_each_once_and_all_layers_alike(world: World) -> None:
    job = screening(world, "W3", "screening", 12, 10)
    clamps = [row.clamp for row in job.rows if row.clamp]
    assert len({(clamp.layer, clamp.index) for clamp in clamps}) == 10 and {clamp.value for clamp in clamps} == {0.0}
    assert sorted(sum(clamp.layer == layer for clamp in clamps) for layer in range(3)) == [3, 3, 4]
    assert _rows_once(job)


def _rows_once(job: Workload) -> bool:
    return sorted(row for batch in job.batches for row in batch) == list(range(len(job.rows)))


def test_prompts_of_pocket_differ_however_many_are_asked_for() -> None:
    ids, texts = pocket_prompts(pocket(), 200)
    assert len(set(texts)) == len(set(ids)) == 200


@pytest.mark.parametrize("trials", [10, 96, 1000])
def test_a_scaled_sweep_has_about_as_many_trials_as_were_asked_for(trials: int) -> None:
    job = scaled(pocket(), trials)
    steered = sum(row.clamp is not None for row in job.rows)
    assert abs(steered - trials) <= len(DOSES) / 2
    assert len(job.rows) - steered == len(job.prompts)
