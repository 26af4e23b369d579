"""W4: time to the first steered logits and the most anonymous memory by then, each time in a fresh process."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.reference import TOLERANCE, Reference
from benchmarks.timing import median
from benchmarks.workloads import Clamp, random_prompts
from benchmarks.world import World, scratch

CHILD = Path(__file__).parent / "child.py"
NAMES = {
    "loading": "importing torch and transformers, loading the model",
    "loading_beside_lens": "the same, importing transformer_lens too",
    "by_hand": "hand-written hooks",
    "bridge": "TransformerBridge",
    "ours": "this project",
}
CLAMPS = (Clamp(4, 411, 5.0), Clamp(8, 87, 5.0))
LENGTH = 24


@dataclass(frozen=True)
class Start:
    """One cold start: seconds until the logits, megabytes of anonymous memory, seconds of the processor by step."""

    cpu_s: float
    wall_s: float
    anonymous_mb: float
    steps: Mapping[str, float]
    logits: Mapping[int, float]


@dataclass(frozen=True)
class ColdLine:
    """Medians over the rounds; ratios to hand hooks are of one round."""

    name: str
    cpu_s: float
    wall_s: float
    anonymous_mb: float
    to_hooks: float
    wall_to_hooks: float
    to_lens: float
    more_mb: float
    steps: Mapping[str, float]


@dataclass(frozen=True)
class ColdComparison:
    """All of them."""

    name: str
    title: str
    on: str
    rounds: int
    set_mb: int
    lines: tuple[ColdLine, ...]


def cold_comparison(world: World, rounds: int, clamps: Sequence[Clamp] = CLAMPS) -> ColdComparison:
    """Interleaved; every round starts each once, the logits of the first are compared with the reference."""
    told = given(world, clamps)
    expected = Reference(world).logits(told["ids"], clamps)[-1]
    starts: dict[str, list[Start]] = {who: [] for who in NAMES}
    for turn in range(rounds + 1):  # the first warms the cache of files
        for who in NAMES if turn % 2 else reversed(NAMES):
            start = started(who, told)
            _require_right(who, start, expected)
            starts[who] += [start] if turn else []
    size = sum(file.stat().st_size for file in world.transcoder.glob("*.safetensors"))
    title = f"cold start with two features of a transcoder set of {size / 1e6:,.0f} MB"
    return ColdComparison(
        "W4", title, world.name, rounds, round(size / 1e6), tuple(_line(who, starts) for who in NAMES)
    )


def given(world: World, clamps: Sequence[Clamp]) -> dict[str, Any]:
    (ids,), (text,) = random_prompts(world.config.vocab_size, (LENGTH,), seed=2)
    return {
        "model": str(world.model),
        "transcoder": str(world.transcoder),
        "ids": ids,
        "clamps": [(clamp.layer, clamp.index, clamp.value) for clamp in clamps],
        "experiment": str(_experiment(scratch(), world, text, clamps)),
    }


def _experiment(folder: Path, world: World, text: str, clamps: Sequence[Clamp]) -> Path:
    ops = [{"op": "clamp", "feature": f"{c.layer}/{c.index}", "value": c.value, "unit": "raw"} for c in clamps]
    spec = {
        "version": 1,
        "name": "cold",
        "model": {"id": str(world.model)},
        "transcoder": {"id": str(world.transcoder)},
        "prompts": [{"id": "one", "text": text}],
        "conditions": {"clamped": {"interventions": ops}},
        "measurements": {"logprob": {"type": "token_logprob", "target": " w5"}},
    }
    (folder / "pyproject.toml").touch()
    path = folder / "cold.yaml"
    path.write_text("# How long do the first steered logits take?\n" + yaml.safe_dump(spec, sort_keys=False))
    return path


def started(who: str, given: Mapping[str, Any]) -> Start:
    """A fresh process, watched until it has its logits."""
    wall = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, str(CHILD), who],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
    )
    assert child.stdin and child.stdout
    child.stdin.write(json.dumps(given))
    child.stdin.close()
    most = 0.0
    while not select.select([child.stdout], [], [], 0.005)[0]:
        most = max(most, anonymous_mb(child.pid))
    first = child.stdout.readline()
    wall = time.perf_counter() - wall
    rest = child.stdout.read()
    if child.wait():
        raise RuntimeError(f"the cold start of {who} ended with {child.returncode}")
    steps = json.loads(first)
    logits = {int(token): value for token, value in json.loads(rest).items()}
    return Start(steps["logits"], wall, most, steps, logits)


def anonymous_mb(pid: int) -> float:
    """Anonymous memory of a process, in MB; 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("RssAnon:"))


def _require_right(who: str, start: Start, expected: torch.Tensor) -> None:
    off = max((abs(value - float(expected[token])) for token, value in start.logits.items()), default=0.0)
    if off > TOLERANCE or not (start.logits or who.startswith("loading")):
        raise SystemExit(f"{NAMES[who]}: its logits are off by {off:.2g}; nothing is reported")


def _line(who: str, starts: Mapping[str, Sequence[Start]]) -> ColdLine:
    own, hooks, lens = starts[who], starts["by_hand"], starts["loading_beside_lens"]
    steps = {step: round(median([start.steps[step] for start in own]), 3) for step in own[0].steps}
    return ColdLine(
        NAMES[who],
        round(median([start.cpu_s for start in own]), 3),
        round(median([start.wall_s for start in own]), 3),
        round(median([start.anonymous_mb for start in own])),
        round(median([a.cpu_s / b.cpu_s for a, b in zip(own, hooks, strict=True)]), 3),
        round(median([a.wall_s / b.wall_s for a, b in zip(own, hooks, strict=True)]), 3),
        round(median([a.cpu_s / b.cpu_s for a, b in zip(own, lens, strict=True)]), 3),
        round(median([a.anonymous_mb - b.anonymous_mb for a, b in zip(own, hooks, strict=True)])),
        steps,
    )
