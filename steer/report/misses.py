"""The prompts on which an expectation misses by most, with what was said there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from steer.analysis.choices import choose_all
from steer.analysis.expectations import Bound, Verdict, resolve_versus
from steer.analysis.numbers import number_text
from steer.analysis.quantities import levels
from steer.analysis.samples import sample, versus_where
from steer.analysis.summary import is_hit
from steer.analysis.tables import Run, select
from steer.experiment.spec import Expectation
from steer.report.visible import shortened

SHOWN = 3
LENGTH = 100


@dataclass(frozen=True)
class Miss:
    """A prompt, its own value of the judged number, and its completion (empty where nothing was generated)."""

    prompt_id: str
    value: float
    completion: str


def misses(run: Run, expectation: Expectation, verdict: Verdict) -> tuple[Miss, ...]:
    """The three prompts whose own values lie farthest on the wrong side of the bound, the farthest first.

    None for an expectation over a curve, where a prompt alone has no value, and where there was nothing to judge.
    """
    if expectation.over is not None or verdict.estimate is None:
        return ()
    values = prompt_values(run, expectation, verdict)
    bound = Bound.of(expectation, verdict.id, {verdict.id: verdict.bound.get("snapshot", 0.0)})
    beyond = {prompt: max(bound.low - value, value - bound.high) for prompt, value in values.items()}
    wrong = sorted((prompt for prompt in values if beyond[prompt] > 0), key=lambda prompt: (-beyond[prompt], prompt))
    said = _completions(run, expectation, verdict.where) if wrong else {}
    return tuple(Miss(prompt, values[prompt], said.get(prompt, "")) for prompt in wrong[:SHOWN])


def prompt_values(run: Run, expectation: Expectation, verdict: Verdict) -> dict[str, float]:
    """The judged number of each prompt by itself; none where a prompt's baseline is 0 and a ratio is judged."""
    other = None
    if expectation.versus is not None:
        other = versus_where(run, verdict.where, resolve_versus(expectation, choose_all(run)))
    data = sample(run, expectation, verdict.where, other)
    own = levels(data.values)[:, 0]
    return {prompt: float(value) for prompt, value in zip(data.prompts, own, strict=True) if np.isfinite(value)}


def _completions(run: Run, expectation: Expectation, where: Mapping[str, Any]) -> dict[str, str]:
    """What was said on each prompt, by the first seed."""
    if not (run.folder / "completions.parquet").is_file():
        return {}
    known = run.table("completions").merge(run.prompts[["prompt_id", *run.columns]], on="prompt_id")
    conditions = {"control": "none", "condition": next(iter(run.spec.conditions), "baseline")}
    rows = select(known, {**conditions, **where}).sort_values(["seed", "control_index"], ascending=False)
    text = "baseline_text" if expectation.of == "baseline" else "intervened_text"
    return dict(zip(rows["prompt_id"], rows[text].fillna(""), strict=True))


def miss_text(run: Run, expectation: Expectation, miss: Miss) -> str:
    """`who-3: no  "I am an assistant."`, a line for a log."""
    plain = expectation.versus is None and expectation.of in ("intervened", "baseline")
    hit = plain and is_hit(run.spec.measurements[expectation.measurement]) and miss.value in (0.0, 1.0)
    value = ("yes" if miss.value else "no") if hit else number_text(miss.value)
    said = f'  "{shortened(miss.completion, LENGTH)}"' if miss.completion else ""
    return f"{shortened(miss.prompt_id)}: {value}{said}"
