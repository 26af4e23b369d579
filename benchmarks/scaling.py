"""Does a trial cost the same in a plan of ten and of ten thousand? The dose sweep, each size in fresh processes.

    python -m benchmarks.scaling --on pocket --trials 1000

A plan of n trials is n / 16 prompts of the sweep's lengths at 16 doses, and a baseline a prompt; outcomes go to a
journal as they do in a run. Peak memory is what the process held at most while the trials ran (VmHWM, reset before).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.contenders.ours import finished, in_order, open_quietly, prepare
from benchmarks.timing import measured
from benchmarks.workloads import DOSES, Workload, sweep
from benchmarks.world import ROOT, World, pocket, random_llama
from steer.execution.batch_run import Session
from steer.execution.journal import Journal
from steer.execution.loaded import Loaded
from steer.experiment.trial import Trial

TRIALS = (10, 100, 1000, 10_000)


@dataclass(frozen=True)
class Scale:
    """One size: of its runs the best time of a row, and the smallest peak of memory."""

    trials: int
    rows: int
    repeats: int
    cpu_ms_per_row: float
    wall_ms_per_row: float
    peak_mb: float


@dataclass(frozen=True)
class Scaling:
    """All sizes."""

    name: str
    title: str
    on: str
    lines: tuple[Scale, ...]


def scaled(world: World, trials: int) -> Workload:
    """The sweep with about so many trials besides its baselines."""
    prompts = max(1, round(trials / len(DOSES)))
    doses = DOSES if trials >= len(DOSES) else DOSES[:trials]
    return sweep(world, "scaling", f"dose sweep of {prompts * len(doses)} trials", prompts, doses)


def one_run(world: World, trials: int) -> dict[str, float]:
    """In this process: after a small run that warms everything up, seconds and the peak of memory."""
    for size in (min(trials, 100), trials):
        work = _prepared(world, size)
        reset_peak()
        cpu, wall, rows = measured(work)
    return {"cpu_s": cpu, "wall_s": wall, "rows": rows, "peak_mb": peak_mb()}


def _prepared(world: World, trials: int) -> partial[int]:
    job = scaled(world, trials)
    prepared = prepare(world, job)
    return partial(_run, in_order(prepared.plan.trials, job), open_quietly(prepared, Loaded()))


def _run(ordered: tuple[Trial, ...], session: Session) -> int:
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.jsonl") as journal:
        for _, outcome in finished(ordered, session):
            journal.append(outcome.record())
    return len(ordered)


def reset_peak() -> None:
    """Forget what was held before (Linux: clear_refs, 5)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """The most memory that was resident since, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


def scaling(on: str, sizes: Sequence[int], repeats: int) -> Scaling:
    """Each size `repeats` times, in turn; the best of each."""
    runs: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(repeats):
        for size in sizes:
            runs[size].append(_in_a_process(on, size))
    name = "scaling" if on != "pocket" else "pocket-scaling"
    return Scaling(name, "dose sweep, by the number of trials", on, tuple(_lines(runs)))


def _lines(runs: dict[int, list[dict[str, float]]]) -> Iterator[Scale]:
    for size, done in runs.items():
        rows = int(done[0]["rows"])
        cpu, wall = (min(run[clock] for run in done) * 1000 / rows for clock in ("cpu_s", "wall_s"))
        peak = min(run["peak_mb"] for run in done)
        yield Scale(size, rows, len(done), round(cpu, 3), round(wall, 3), round(peak))


def _in_a_process(on: str, size: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--on", on, "--trials", str(size)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", choices=("pocket", "llama"), default="pocket")
    parser.add_argument("--trials", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(one_run(pocket() if given.on == "pocket" else random_llama(), given.trials)))


if __name__ == "__main__":
    main()
