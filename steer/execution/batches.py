"""The plan is cut into batches: rows that share a pass through the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from steer.experiment.trial import Trial

ROWS = 128  # measured on pocket, 2 cores: from 64 rows on the time a row costs is flat
ROWS_READ = 256  # where nothing is generated: more rows that start at the same layer and column; 512 are not faster
TOKENS = 16_384  # bounds a batch's memory where prompts are long


@dataclass(frozen=True)
class Batch:
    """Trials that run together, in plan order within each prompt."""

    trials: tuple[Trial, ...]

    def halves(self) -> tuple[Batch, Batch]:
        """The first trials and the others: a prompt's baseline stays before what is compared with it."""
        middle = (len(self.trials) + 1) // 2
        return Batch(self.trials[:middle]), Batch(self.trials[middle:])


def cut(trials: Sequence[Trial], lengths: Mapping[str, int], new_tokens: int) -> Iterator[Batch]:
    """Batches in the order of prompt length, so that little is padded; each prompt's trials stay in plan order.

    The cut depends on the trials alone: a run that is killed and started again sees the same batches.
    """
    rows: list[Trial] = []
    most = ROWS if new_tokens else ROWS_READ
    for trial in sorted(trials, key=lambda trial: lengths[trial.prompt.id]):
        width = lengths[trial.prompt.id] + new_tokens  # the longest so far
        if rows and (len(rows) == most or (len(rows) + 1) * width > TOKENS):
            yield Batch(tuple(rows))
            rows = []
        rows.append(trial)
    if rows:
        yield Batch(tuple(rows))
