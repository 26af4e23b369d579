"""Completions to look at: typical ones and the worst, with and without the intervention and beside a random feature."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import pandas as pd

from steer.analysis.numbers import number_text
from steer.analysis.summary import is_hit
from steer.analysis.tables import Run, select
from steer.report.focus import Focus, judged_prompts
from steer.report.visible import visible

LONGEST = 400
"""Words of a completion that are compared and shown."""


@dataclass(frozen=True)
class Piece:
    """A run of words; `changed` where they are not in the baseline's completion at this place."""

    text: str
    changed: bool


@dataclass(frozen=True)
class Example:
    """One prompt: why it is shown, and its completions by column (`baseline`, `intervened`, `random feature`)."""

    why: str
    prompt_id: str
    prompt: str
    columns: Mapping[str, tuple[Piece, ...]]
    values: Mapping[str, str]


def examples(run: Run, focus: Focus, falling: bool) -> tuple[Example, ...]:
    """Two typical prompts, the two worst and the best by the judged measurement; `falling` where less is better."""
    if not (run.folder / "completions.parquet").is_file() or focus.condition is None:
        return ()
    completions = run.table("completions").dropna(subset=["baseline_text", "intervened_text"])
    completions = completions[completions["seed"] == completions["seed"].min()]
    there = set(select(completions, focus.where)["prompt_id"])
    values = prompt_values(run, focus)
    chosen = pick(values[values.index.isin(there)], falling)
    return tuple(_example(run, focus, completions, prompt, why) for why, prompt in chosen)


def prompt_values(run: Run, focus: Focus) -> pd.Series:
    """The judged measurement of each judged prompt at the focus, seeds averaged."""
    rows = select(judged_prompts(run, focus).measurements, focus.where)
    rows = rows[rows["measurement"] == focus.measurement]
    return rows.groupby("prompt_id")["intervened"].mean().dropna()


def pick(values: pd.Series, falling: bool) -> list[tuple[str, str]]:
    """(why, prompt id), each prompt once: the two nearest to the median, the two worst, the best."""
    ranked = values.sort_index().sort_values(ascending=not falling, kind="stable")
    typical = (values.sort_index() - values.median()).abs().sort_values(kind="stable").index
    worst = [name for name in ranked.index if name not in typical[:2]][:2]
    best = [name for name in ranked.index[::-1] if name not in [*typical[:2], *worst]][:1]
    chosen = [("typical", typical[:2]), ("worst", worst), ("best", best)]
    return [(why, str(name)) for why, names in chosen for name in names]


def goal_is_less(run: Run, focus: Focus) -> bool:
    """Whether the judged expectation asks for a small number (or the effect, without one, is a fall)."""
    judged = next((e for e in run.spec.expectations if e.measurement == focus.measurement), None)
    if judged is not None and (judged.max is not None or judged.max_diff is not None):
        return judged.min is None and judged.min_diff is None
    rows = select(judged_prompts(run, focus).measurements, focus.where)
    return bool(rows.loc[rows["measurement"] == focus.measurement, "effect"].mean() < 0)


def _example(run: Run, focus: Focus, completions: pd.DataFrame, prompt: str, why: str) -> Example:
    rows = completions[completions["prompt_id"] == prompt]
    target = select(rows, focus.where).iloc[0]
    random = select(rows, {**focus.where, "control": "random_features"}).sort_values("control_index")
    baseline = target["baseline_text"]
    columns = {
        "baseline": (Piece(visible(_cut(baseline)), False),),
        "intervened": changes(baseline, target["intervened_text"]),
    }
    values = {
        "baseline": _value(run, target, focus, "baseline"),
        "intervened": _value(run, target, focus, "intervened"),
    }
    if len(random):
        first = random.iloc[0]
        columns["random feature"] = changes(baseline, first["intervened_text"])
        values["random feature"] = _value(run, first, focus, "intervened")
    return Example(why, visible(prompt), visible(str(target["prompt"])), columns, values)


def _value(run: Run, row: Mapping[str, Any], focus: Focus, side: str) -> str:
    measured = run.measurements
    found = measured.loc[
        (measured["trial_id"] == row["trial_id"]) & (measured["measurement"] == focus.measurement), side
    ]
    if not found.notna().any():
        return ""
    value = float(found.iloc[0])
    hit = is_hit(run.spec.measurements[focus.measurement])
    return f"{focus.measurement}: {('yes' if value else 'no') if hit else number_text(value)}"


def changes(before: str, after: str) -> tuple[Piece, ...]:
    """`after` in pieces, those words marked that are not in `before` at their place."""
    old, new = _words(before), _words(after)
    matcher = SequenceMatcher(a=[w.strip() for w in old], b=[w.strip() for w in new], autojunk=False)
    pieces = [
        piece
        for tag, _, _, start, end in matcher.get_opcodes()
        for piece in _marked("".join(new[start:end]), tag != "equal")
    ]
    return (*pieces, Piece(" …", False)) if len(after) > len("".join(new)) else tuple(pieces)


def _marked(text: str, changed: bool) -> list[Piece]:
    """The text as pieces, the space before it never marked."""
    bare = text.lstrip()
    pieces = [Piece(visible(text[: len(text) - len(bare)]), False), Piece(visible(bare), changed)]
    return [piece for piece in pieces if piece.text]


def _words(text: str) -> list[str]:
    """Words with the space before them, the first `LONGEST`."""
    return re.findall(r"\s*\S+|\s+$", text)[:LONGEST]


def _cut(text: str) -> str:
    shown = "".join(_words(text))
    return shown + " …" if len(text) > len(shown) else shown
