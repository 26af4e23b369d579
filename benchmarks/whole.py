"""W5: a whole experiment file on `pocket`, from the plan to the report. How much of the time is the model's?

    python -m benchmarks.whole

What is imported, and loading the weights, happens before the clock starts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.contenders.ours import time_inside
from benchmarks.workloads import pocket_prompts
from benchmarks.world import World, scratch

PROMPTS, CONTROLS, NEW_TOKENS = 50, 19, 32
DOSES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Whole:
    """Wall time in all and in the model's passes, by part of the run; the shares are of the wall time."""

    name: str
    title: str
    on: str
    trials: int
    wall_s: float
    cpu_s: float
    inside_wall_s: float
    share_inside: float
    passes: int
    timings: dict[str, float]


def whole(world: World, prompts: int = PROMPTS, controls: int = CONTROLS) -> Whole:
    """One run, everything that it writes included."""
    from steer import pipeline
    from steer.execution.loaded import Loaded, weights

    folder = scratch()
    path = write_file(folder, world, prompts, controls)
    _import_everything()
    first, loaded = pipeline.prepare(path), Loaded()
    loaded.model(weights(first.experiment, first.plan))
    wall, cpu = time.perf_counter(), time.process_time()
    with time_inside(time.perf_counter) as spent:
        prepared = pipeline.prepare(path)
        done = pipeline.run(
            prepared, folder / "results", command=["steer"], progress=lambda n: None, fresh=True, loaded=loaded
        )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if done.problems:
        raise SystemExit(f"the run did not complete: {done.problems[0]}")
    title = f"a whole file: {prompts} prompts x {len(DOSES)} doses x (1 + {controls} controls), {NEW_TOKENS} tokens"
    return Whole(
        "W5",
        title,
        world.name,
        len(prepared.plan.trials),
        round(wall, 2),
        round(cpu, 2),
        round(sum(spent), 2),
        round(sum(spent) / wall, 3),
        len(spent),
        _timings(done.folder),
    )


def _import_everything() -> None:
    """What a run imports on its way."""
    import matplotlib.pyplot  # noqa: F401

    import steer.analysis.analyse
    import steer.analysis.snapshots
    import steer.execution.execute
    import steer.execution.reuse
    import steer.report.report  # noqa: F401


def _timings(run: Path) -> dict[str, float]:
    import json

    found: dict[str, float] = json.loads((run / "manifest.json").read_text())["timings"]
    return found


def write_file(folder: Path, world: World, prompts: int, controls: int) -> Path:
    """An experiment as people write them: two features, doses in units of their largest activation, five numbers."""
    _, texts = pocket_prompts(world, prompts)
    control = {"type": "random_features", "n": controls, "seed": 7}
    clamp = {"op": "clamp", "feature": "group", "value": "$dose", "unit": "max_act"}
    spec: dict[str, Any] = {
        "version": 1,
        "name": "whole",
        "model": {"id": str(world.model)},
        "transcoder": {"id": str(world.transcoder)},
        "features": {"group": ["1/411", "2/87"]},
        "prompts": [{"id": f"p{p}", "text": text} for p, text in enumerate(texts)],
        "generation": {"max_new_tokens": NEW_TOKENS, "temperature": 0},
        "sweep": {"dose": list(DOSES)},
        "conditions": {"clamped": {"interventions": [clamp], "controls": [control]}},
        "measurements": {
            "mentions": {"type": "regex", "pattern": "(?i)bridge|rabbit"},
            "p": {"type": "token_prob", "target": " I"},
            "kl": {"type": "kl"},
            "loops": {"type": "repetition", "n": 3},
            "far": {"type": "edit_distance"},
        },
        "expectations": [
            {"id": "headline", "measurement": "kl", "where": {"condition": "clamped", "dose": 5}, "min": 0}
        ],
    }
    (folder / "pyproject.toml").touch()
    path = folder / "whole.yaml"
    path.write_text("# What does a whole experiment cost?\n" + yaml.safe_dump(spec, sort_keys=False))
    return path
