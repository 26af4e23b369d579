"""One comparison: contenders agree with the reference first, and are timed then, in turn."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from benchmarks import arithmetic
from benchmarks.contenders.bridge import WHOLE
from benchmarks.contenders.by_hand import HOOKS, ON_ONEDNN, PLAIN
from benchmarks.contenders.contender import Answer, Contender
from benchmarks.contenders.every import Maker, installed
from benchmarks.contenders.ours import NAME, ON_PYTORCH
from benchmarks.reference import TOLERANCE, last_logits, short_of_the_top
from benchmarks.timing import Time, interleaved, median, ratios
from benchmarks.workloads import POCKET_GENERATION, POCKET_SWEEP, W1, Workload, workload
from benchmarks.world import World, pocket, random_llama

EVERY_ROUND = (PLAIN, HOOKS, ON_ONEDNN, ON_PYTORCH, NAME)


@dataclass(frozen=True)
class Line:
    """What a contender came to: medians over the rounds, times over those of plain Hugging Face and of hand hooks.

    `error` is its largest difference from the reference in logits; `trouble` says why it was not timed.
    """

    name: str
    error: float | None = None
    cpu_s: float | None = None
    wall_s: float | None = None
    to_plain: Mapping[str, float] = field(default_factory=dict)
    to_hooks: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, float] = field(default_factory=dict)
    trouble: str = ""


@dataclass(frozen=True)
class Comparison:
    """A workload, how large it is, what it takes at least (as a share of what plain Hugging Face multiplies), lines."""

    name: str
    title: str
    on: str
    rows: int
    tokens: int
    rounds: int
    least_arithmetic: float
    lines: tuple[Line, ...]


def compare(world: World, job: Workload, makers: Mapping[str, Maker], rounds: int) -> Comparison:
    """Contenders that cannot do it, or do it wrongly, are reported and not timed."""
    judge = Judge.of(world, job)
    good: dict[str, tuple[Contender, float]] = {}
    troubled: list[Line] = []
    for name, make in makers.items():
        try:
            contender = make(world, job)
            error = judge.error(contender)
        except Exception as problem:  # a library's own troubles are its result
            troubled.append(Line(name, trouble=_last_line(problem)))
            continue
        if error <= TOLERANCE:
            good[contender.name] = contender, error
        else:
            troubled.append(Line(name, error=error, trouble=f"its logits are off by {error:.2g}"))
    times = interleaved([contender for contender, _ in good.values()], rounds, EVERY_ROUND)
    lines = [line(name, error, times) for name, (_, error) in good.items()]
    share = arithmetic.least(world, job) / arithmetic.plain(world, job)
    return Comparison(job.name, job.title, world.name, len(job.rows), job.tokens, rounds, share, (*lines, *troubled))


@dataclass(frozen=True)
class Judge:
    """The reference's logits, and the question how far an answer is from them."""

    world: World
    job: Workload
    logits: torch.Tensor | None

    @classmethod
    def of(cls, world: World, job: Workload) -> Judge:
        return cls(world, job, None if job.new_tokens else last_logits(world, job).cpu())

    def error(self, contender: Contender) -> float:
        """The largest difference; of generated tokens, by how much the reference's logit of one misses the largest."""
        answer = contender.answer(contender.work(contender.prepare()))
        rows = [r for r, row in enumerate(self.job.rows) if contender.steers or row.clamp is None]
        return self.of_rows(rows, answer)

    def of_rows(self, rows: Sequence[int], answer: Answer) -> float:
        """Over some of the rows; one that does not steer is asked for baselines alone."""
        if answer.said is not None:
            return short_of_the_top(self.world, self.job, {row: answer.said[row] for row in rows})
        assert answer.logits is not None and self.logits is not None
        told = ~answer.logits[rows].isnan()
        if not bool(told.any(1).all()):
            raise ValueError("rows without logits")
        return float((answer.logits - self.logits)[rows][told].abs().max())


def _last_line(problem: Exception) -> str:
    traceback.print_exception(problem, file=sys.stderr)
    return f"{type(problem).__name__}: {problem}".splitlines()[0][:200]


def line(name: str, error: float, times: Mapping[str, Sequence[Time]]) -> Line:
    """Medians of one contender."""
    own = times[name]
    details = {key: round(median([time.details[key] for time in own]), 4) for key in own[0].details}
    return Line(
        name,
        float(f"{error:.2g}"),
        round(median([time.cpu for time in own]), 4),
        round(median([time.wall for time in own]), 4),
        _ratios(own, times.get(PLAIN)),
        _ratios(own, times.get(HOOKS)),
        details,
    )


def _ratios(own: Sequence[Time], other: Sequence[Time] | None) -> dict[str, float]:
    if other is None:
        return {}
    cpu, wall = (ratios(own, other, clock) for clock in ("cpu", "wall"))
    found = {"cpu": median(cpu), "cpu_min": min(cpu), "cpu_max": max(cpu), "wall": median(wall)}
    return {key: round(value, 4) for key, value in found.items()}


# --- by name ---------------------------------------------------------------------------------------------------


def world_of(name: str, device: str) -> World:
    return pocket(device) if name in (POCKET_SWEEP, POCKET_GENERATION) else random_llama(device=device)


def compared(name: str, rounds: int, device: str, only: Collection[str]) -> Comparison:
    """A comparison by its name; `only` names contenders, nothing means all of them but those left out of it."""
    world = world_of(name, device)
    wanted = only or [one for one in installed() if name == W1 or one != WHOLE]
    chosen = {one: make for one, make in installed().items() if one in wanted}
    return compare(world, workload(name, world), chosen, rounds)


def spoken(found: Comparison) -> list[str]:
    """For somebody who waits."""
    least = f"least arithmetic {found.least_arithmetic:.2f} x plain"
    said = [f"{found.name}: {found.title} ({found.on}, {found.rows} rows); {least}"]
    return said + [f"  {one.name}: {_spoken(one)}" for one in found.lines]


def _spoken(one: Line) -> str:
    if one.trouble:
        return f"not timed: {one.trouble}"
    parts = [f"{one.cpu_s:.2f} s of the processor"]
    for other, ratio in (("plain", one.to_plain), ("hooks", one.to_hooks)):
        if ratio:
            parts.append(f"{ratio['cpu']:.2f} ({ratio['cpu_min']:.2f}-{ratio['cpu_max']:.2f}) x {other}")
    parts += [f"{key} {value}" for key, value in one.details.items()]
    return ", ".join([*parts, f"off by {one.error:.1g}"])
