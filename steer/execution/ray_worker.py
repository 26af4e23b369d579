"""What runs in an actor: it holds the model, and gets and gives pickles.

A ray:// cluster unpickles on its head whatever passes through, and pickles it again; bytes go through as they are. So
the cluster's own processes need no torch, and this module imports none on their behalf.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steer.execution.batch_run import Baselines, BatchResult, Session
    from steer.execution.batches import Batch
    from steer.execution.loaded import Loaded


class Worker:
    """What is loaded, and the session of the experiment under way."""

    def __init__(self) -> None:
        self.loaded: Loaded | None = None
        self.session: Session | None = None

    def open(self, opening: bytes) -> bytes:
        """Load what an experiment needs, as an Opening does; the Environment on which its numbers will depend."""
        import torch

        from steer.execution.loaded import Loaded

        torch.set_num_threads(1)  # Ray gave this actor one core
        self.loaded = self.loaded or Loaded()
        self.session = None
        self.session = pickle.loads(opening)(self.loaded)
        return packed(self.session.environment)

    def run(self, work: bytes) -> bytes:
        """A batch, with the baselines it needs, in parts as large as fit: how many trials each, and their results."""
        return packed(self._parts(*pickle.loads(work)))

    def _parts(self, batch: Batch, baselines: Baselines) -> list[tuple[int, BatchResult]]:
        from steer.execution.memory import run_in_memory

        assert self.session is not None, "opened before it gets a batch"
        parts = []
        for part, result in run_in_memory(batch, self.session, baselines):
            for trial, outcome in zip(part.trials, result.outcomes, strict=True):
                if trial.condition == "baseline":
                    baselines[trial.prompt.id, trial.seed] = outcome
            parts.append((len(part.trials), result))
        return parts


def packed(what: object) -> bytes:
    """What `pickle.loads` reads again; Ray's pickle knows some types that Python's does not."""
    from ray import cloudpickle

    return cloudpickle.dumps(what)  # type: ignore[no-any-return,no-untyped-call]
