from __future__ import annotations

import random

from steer.execution.batches import ROWS, TOKENS, cut
from steer.experiment.trial import Prompt, Setup, Trial


def trials(rng: random.Random, prompts: int) -> tuple[list[Trial], dict[str, int]]:
    lengths = {f"p{i}": rng.randint(1, 700) for i in range(prompts)}
    made = [
        Trial(f"{name}-{i}", Prompt(name, ""), "c", "none", 0, {}, 0, Setup(), {})
        for name in lengths
        for i in range(rng.randint(1, 90))
    ]
    return made, lengths


def test_every_trial_runs_once_within_the_bounds_and_each_prompts_in_order() -> None:
    for seed in range(20):
        made, lengths = trials(random.Random(seed), 12)
        batches = [batch.trials for batch in cut(made, lengths, new_tokens=32)]
        flat = [trial for batch in batches for trial in batch]
        assert sorted(t.id for t in flat) == sorted(t.id for t in made)
        for name in lengths:
            assert [t.id for t in flat if t.prompt.id == name] == [t.id for t in made if t.prompt.id == name]
        for batch in batches:
            width = 32 + max(lengths[t.prompt.id] for t in batch)
            assert len(batch) <= ROWS and (len(batch) * width <= TOKENS or len(batch) == 1)


def test_prompts_that_share_a_batch_are_of_similar_length() -> None:
    made, lengths = trials(random.Random(3), 30)
    widths = [[lengths[t.prompt.id] for t in batch.trials] for batch in cut(made, lengths, 0)]
    assert all(max(before) <= min(after) for before, after in zip(widths, widths[1:], strict=False))
