"""The comparisons by name, and each one's result as JSON, with the machine that it was found on."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.cold.start import cold_comparison
from benchmarks.compare import Comparison, compared, spoken
from benchmarks.machine import described
from benchmarks.scaling import TRIALS, scaling
from benchmarks.whole import whole
from benchmarks.world import pocket, random_llama
from steer.files import write_atomic

USUAL = ("W1", "W2", "W3", "W4", "W5", "pocket-W1", "pocket-W2", "pocket-scaling")
"""What `make bench` runs."""
NAMES = (*USUAL, "scaling")
"""`scaling` takes as long as all the others together."""


def run(name: str, rounds: int, device: str, only: Collection[str]) -> Any:
    """One of them, here and now."""
    match name:
        case "W1" | "W2" | "W3":
            return compared(name, rounds, device, only)
        case "pocket-W1" | "pocket-W2":
            return compared(name, 5 * rounds, device, only)  # a second each
        case "W4":
            return cold_comparison(random_llama(), rounds)
        case "W5":
            return whole(pocket(device))
        case "pocket-scaling":
            return scaling("pocket", TRIALS, rounds)
        case "scaling":
            return scaling("llama", TRIALS, rounds)
    raise ValueError(f"no comparison is called {name!r}")


def save(found: Any, results: Path, device: str) -> None:
    """As NAME.json."""
    results.mkdir(parents=True, exist_ok=True)
    content = {**asdict(found), "machine": described(device)}
    write_atomic(results / f"{found.name}.json", json.dumps(content, indent=1) + "\n")


def told(found: Any) -> str:
    """For somebody who waits."""
    if isinstance(found, Comparison):
        return "\n".join(spoken(found))
    parts = asdict(found)
    lines = [f"  {line}" for line in parts.pop("lines", ())]
    return "\n".join([str(parts), *lines])
