"""Which baselines the trials of a batch are compared with, and which it brings itself."""

from __future__ import annotations

from collections.abc import Iterator

from steer.execution.batches import Batch

Where = tuple[str, int]
"""A baseline: its prompt's id and its seed."""


def brought(batch: Batch) -> set[Where]:
    """The baselines among a batch's trials."""
    return {(trial.prompt.id, trial.seed) for trial in batch.trials if trial.condition == "baseline"}


def awaited(batch: Batch) -> set[Where]:
    """The baselines that have to be known before a batch runs: another batch holds them."""
    return set(_compared(batch)) - brought(batch)


def _compared(batch: Batch) -> Iterator[Where]:
    return ((trial.prompt.id, trial.seed) for trial in batch.trials if trial.condition != "baseline")
