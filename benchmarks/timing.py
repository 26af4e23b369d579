"""Contenders in turn, round by round, in one process; ratios of one round are what counts."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.contenders.contender import Contender


@dataclass(frozen=True)
class Time:
    """Seconds of the processor, over all threads, and of the clock; `details` are the contender's own."""

    cpu: float
    wall: float
    details: Mapping[str, float]


def interleaved(contenders: Sequence[Contender], rounds: int, often: Collection[str]) -> dict[str, list[Time]]:
    """The times of each contender, round by round; the others than those named take part in the first round only.

    The order turns round with every round, so that none is always first.
    """
    times: dict[str, list[Time]] = {one.name: [] for one in contenders}
    for turn in range(rounds):
        taking_part = [one for one in contenders if turn == 0 or one.name in often]
        for one in taking_part if turn % 2 == 0 else reversed(taking_part):
            times[one.name].append(timed(one))
    return times


def timed(one: Contender) -> Time:
    """One round of one contender."""
    ready = one.prepare()
    gc.collect()
    cpu, wall, done = measured(lambda: one.work(ready))
    return Time(cpu, wall, one.details(done))


def measured(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Processor time and wall time of some work, and what it gave; a GPU is waited for."""
    _wait()
    cpu, wall = time.process_time(), time.perf_counter()
    done = work()
    _wait()
    return time.process_time() - cpu, time.perf_counter() - wall, done


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratios(ours: Sequence[Time], theirs: Sequence[Time], clock: str) -> list[float]:
    """Of each round that both took part in: our time over theirs."""
    return [getattr(a, clock) / getattr(b, clock) for a, b in zip(ours, theirs, strict=False)]


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))
