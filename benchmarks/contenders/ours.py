"""This project: the workload as an experiment file, planned, and run in batches as a run does it.

Timed is what stands between the plan and its outcomes: rows are resolved, batches are cut and run, results measured.
Each round opens a session of its own, so no pass over a prompt is there in the next.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml

from benchmarks.contenders.contender import Answer, Contender
from benchmarks.workloads import Clamp, Workload
from benchmarks.world import World, scratch
from steer import pipeline
from steer.collecting import settled
from steer.execution.batch_run import Baselines, Session
from steer.execution.batches import cut
from steer.execution.execute import open_session, run_here
from steer.execution.loaded import Loaded
from steer.execution.outcome import Outcome
from steer.experiment.trial import Trial
from steer.intervention.records import Applied
from steer.model.language_model import LanguageModel

NAME = "this project"
ON_PYTORCH = "this project, linear layers by PyTorch"


@dataclass(frozen=True)
class Done:
    """The outcomes of a round by trial, and the processor time that was spent in the model's passes."""

    outcomes: Mapping[str, Outcome]
    inside: float


def ours(world: World, workload: Workload) -> Contender:
    """The engine's own batches."""
    return _ours(NAME, open_quietly, world, workload)


def ours_on_pytorch(world: World, workload: Workload) -> Contender:
    """The same without oneDNN, as Hugging Face's linear layers are."""
    return _ours(ON_PYTORCH, open_on_pytorch, world, workload)


def _ours(
    name: str, opening: Callable[[pipeline.Prepared, Loaded], Session], world: World, workload: Workload
) -> Contender:
    prepared, loaded = prepare(world, workload), Loaded()
    trials = in_order(prepared.plan.trials, workload)
    opened = partial(opening, prepared, loaded)
    work = partial(run_trials, trials)
    read = partial(_answer, trials, workload, world.config.vocab_size)
    return Contender(name, opened, work, read, details=lambda done: {"inside_cpu_s": done.inside})


def open_quietly(prepared: pipeline.Prepared, loaded: Loaded) -> Session:
    """A session in which no row ends early."""
    session = open_session(prepared.experiment, prepared.plan, pipeline.transcoder_folder(prepared.experiment), loaded)
    session.engine.model.tokens.eos_ids = frozenset()
    return session


def open_on_pytorch(prepared: pipeline.Prepared, loaded: Loaded) -> Session:
    """The same with a model as PyTorch has it."""
    with mock.patch.object(torch.backends.mkldnn, "is_available", return_value=False):
        return open_quietly(prepared, loaded)


def run_trials(trials: tuple[Trial, ...], session: Session) -> Done:
    """Every trial, and what came of it."""
    outcomes: dict[str, Outcome] = {}
    with settled(), time_inside() as spent:
        for trial, outcome in finished(trials, session):
            outcomes[trial.id] = outcome
    return Done(outcomes, sum(spent))


def finished(trials: tuple[Trial, ...], session: Session) -> Iterator[tuple[Trial, Outcome]]:
    """What `execute` does with trials that are missing: of baselines is kept what later trials are compared with."""
    baselines: Baselines = {}
    lengths = {name: len(encoded.ids) for name, encoded in session.encoded.items()}
    batches = list(cut(trials, lengths, session.sampling.max_new_tokens if session.sampling else 0))
    for part, result in run_here(batches, session, baselines):
        for trial, outcome in zip(part.trials, result.outcomes, strict=True):
            if trial.condition == "baseline":
                slim = replace(outcome, applied=Applied(0, 0.0, ()), shifts=())
                baselines[trial.prompt.id, trial.seed] = slim
            yield trial, outcome


@contextmanager
def time_inside(clock: Callable[[], float] = time.process_time) -> Iterator[list[float]]:
    """The time of each pass through a model."""
    spent: list[float] = []
    forward_pass = LanguageModel.forward_pass

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = clock()
        try:
            return forward_pass(*args, **kwargs)
        finally:
            spent.append(clock() - start)

    with mock.patch.object(LanguageModel, "forward_pass", timed):
        yield spent


# --- the workload as an experiment ----------------------------------------------------------------------------


def prepare(world: World, workload: Workload) -> pipeline.Prepared:
    """The workload's file, checked and planned."""
    return pipeline.prepare(write_experiment(scratch(), world, workload))


def write_experiment(folder: Path, world: World, workload: Workload) -> Path:
    """A file that says what the workload says."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").touch()
    prompts = [{"id": f"p{p}", "text": text} for p, text in enumerate(workload.texts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    path = folder / "benchmark.yaml"
    path.write_text(
        f"# {workload.title}: what does it cost?\n" + yaml.safe_dump(_spec(world, workload), sort_keys=False)
    )
    return path


def _spec(world: World, workload: Workload) -> dict[str, Any]:
    at = {"device": world.device} if world.device != "cpu" else {}
    target = " w5" if world.name != "pocket" else " I"
    op, axis = _swept(workload)
    return {
        "version": 1,
        "name": "benchmark",
        "model": {"id": str(world.model), **at},
        "transcoder": {"id": str(world.transcoder)},
        "prompts": [{"file": "prompts.jsonl"}],
        **({"generation": {"max_new_tokens": workload.new_tokens}} if workload.new_tokens else {}),
        "sweep": axis,
        "conditions": {"steered": {"interventions": [op]}},
        "measurements": {
            "logprob": {"type": "token_logprob", "target": target},
            "top": {"type": "is_top", "target": target},
        },
    }


def _swept(workload: Workload) -> tuple[dict[str, Any], dict[str, Any]]:
    """One feature at several doses is a sweep of doses, many features ablated are a sweep of features."""
    clamps = list(dict.fromkeys(row.clamp for row in workload.rows if row.clamp))
    if all(clamp.value == 0 for clamp in clamps):
        return {"op": "ablate", "feature": "$feature"}, {"feature": [written(clamp) for clamp in clamps]}
    [feature] = {written(clamp) for clamp in clamps}
    doses = [clamp.value for clamp in clamps]
    return {"op": "clamp", "feature": feature, "value": "$dose", "unit": "raw", "positions": "all"}, {"dose": doses}


def written(clamp: Clamp) -> str:
    return f"{clamp.layer}/{clamp.index}"


def in_order(trials: tuple[Trial, ...], workload: Workload) -> tuple[Trial, ...]:
    """The trials of the workload's rows."""
    by_place = {(trial.prompt.id, *trial.point.values()): trial for trial in trials}
    keys = [(f"p{row.prompt}", *_point(row.clamp)) for row in workload.rows]
    if len(by_place) != len(trials) or set(keys) != set(by_place):
        raise ValueError(f"the plan of {workload.name} has other trials than the workload has rows")
    return tuple(by_place[key] for key in keys)


def _point(clamp: Clamp | None) -> tuple[str | float, ...]:
    if clamp is None:
        return ()
    return (written(clamp),) if clamp.value == 0 else (clamp.value,)


def _answer(trials: tuple[Trial, ...], workload: Workload, d_vocab: int, done: Done) -> Answer:
    """Completions, or the logits that a run keeps: the likeliest tokens, the largest movers and the named ones."""
    outcomes = [done.outcomes[trial.id] for trial in trials]
    if failed := [outcome.error for outcome in outcomes if outcome.status == "failed"]:
        raise ValueError(f"{len(failed)} trials failed: {failed[0]}")
    if workload.new_tokens:
        return Answer(said=[list(one.completion.ids) for one in outcomes if one.completion])
    logits = torch.full((len(outcomes), d_vocab), math.nan)
    for row, outcome in enumerate(outcomes):
        for placed in outcome.shifts:
            logits[row, placed.shift.token_id] = placed.shift.intervened_logit
    return Answer(logits=logits)
