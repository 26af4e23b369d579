"""A batch that does not fit in memory runs in halves; a row that does not fit alone is a failed trial.

Rows of a half have another batch shape than the plan's, so their numbers agree with it to what the batch-shape law
allows, not to the last bit.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator

import torch

from steer.execution.batch_run import Baselines, BatchResult, Session, run_batch
from steer.execution.batches import Batch
from steer.execution.outcome import Outcome

WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")


def run_in_memory(batch: Batch, session: Session, baselines: Baselines) -> Iterator[tuple[Batch, BatchResult]]:
    """The batch, or as large parts of it as fit; who takes a part adds its failed baselines to `baselines`."""
    result = _attempt(batch, session, baselines)
    if isinstance(result, BatchResult):
        yield batch, result
        return
    _let_go()
    if len(batch.trials) == 1:
        failed = Outcome.failed(batch.trials[0].id, f"it does not fit in memory, even alone: {result}")
        yield batch, BatchResult((failed,), {}, frozenset())
        return
    for half in batch.halves():
        yield from run_in_memory(half, session, baselines)


def trim() -> None:
    """What the heap holds without using it, back to the system, where the C library (glibc) can be asked for that.

    Batches differ in shape, and the gaps that one leaves between what stays are not all of use to the next. What goes
    back has to be asked for anew: doing this after every batch took a twentieth of a run on pocket.
    """
    release = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if release is not None:
        release(0)


def _attempt(batch: Batch, session: Session, baselines: Baselines) -> BatchResult | str:
    """The result, or why there was no memory for it: outside of the `except`, nothing holds what the pass had."""
    try:
        return run_batch(batch, session, baselines)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return next(iter(str(error).splitlines()), "") or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python's, CUDA's or torch's CPU allocator says so (the last is a plain RuntimeError)."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in WORDS)


def _let_go() -> None:
    """What the failed pass had allocated, back to the device: two halves beside it would not fit either."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
