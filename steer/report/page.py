"""`report.html`: one file, no script, safe against whatever a model wrote."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from steer.analysis.analyse import Analysis
from steer.analysis.expectations import Verdict, bound_text, estimate_text
from steer.analysis.numbers import interval_text, number_text
from steer.analysis.samples import where_text
from steer.analysis.summary import summarise
from steer.analysis.tables import Run, cell_text, select
from steer.report.examples import Example
from steer.report.figure import Plot
from steer.report.focus import Focus, headlines, judged_prompts, prompts_text
from steer.report.visible import visible
from steer.report.wording import CONTROLS, condition_sentence, control_sentence, group_labels, quantity

SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?"}
LONGEST_TABLE = 600
"""Rows of the summary that the page shows; the rest is in `summary.csv`."""


@dataclass(frozen=True)
class VerdictLine:
    """A verdict as the page shows it."""

    id: str
    outcome: str
    sign: str
    measurement: str
    said: str
    estimate: str
    expected: str
    where: str
    n: int
    test: str
    p_value: str
    reason: str
    beside: str


@dataclass(frozen=True)
class Table:
    """Column names and rows of text; `numbers` says which columns are aligned right."""

    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[bool]


def page(
    run: Run, analysis: Analysis, focuses: Sequence[Focus], plots: Sequence[Plot], shown: Sequence[Example]
) -> str:
    """The whole report as HTML; the plots of the headlines come before the list of verdicts."""
    focus = focuses[0]
    lines = [verdict_line(run, verdict) for verdict in analysis.verdicts]
    main = {verdict.id for verdict in headlines(analysis.verdicts)}
    return _template().render(
        name=visible(run.spec.name),
        question=visible(str(run.manifest.get("question") or run.spec.name)),
        status=str(run.manifest.get("status", "")),
        headlines=[line for line in lines if line.id in main],
        verdicts=lines,
        counts={sign: sum(v.verdict == sign for v in analysis.verdicts) for sign in SIGNS},
        conditions=condition_lines(run),
        measurements={name: quantity(measurement) for name, measurement in run.spec.measurements.items()},
        features={name: visible(text) for name, text in group_labels(run.spec.features).items()},
        prompts=len(run.prompts),
        first=len(focuses),
        plots=[{"plot": plot, "uri": data_uri(plot)} for plot in plots],
        focus=focus,
        focus_text=visible(f"{focus.condition or 'baseline'}{_at(focus)}"),
        judged=prompts_text(run, focus),
        examples=shown,
        at_focus=focus_table(run, focus),
        summary=summary_table(analysis.summary),
        left_out=max(0, len(analysis.summary) - LONGEST_TABLE),
        choices=choice_table(analysis.choices),
        warnings=[visible(text) for text in warnings(run.manifest)],
        provenance=provenance(run.manifest),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("steer.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("template.html.j2")


def _at(focus: Focus) -> str:
    return f" at {where_text(focus.point)}" if focus.point else ""


def data_uri(plot: Plot) -> str:
    """An image that the page carries itself; as an image an SVG can run nothing."""
    return "data:image/svg+xml;base64," + base64.b64encode(plot.svg.encode()).decode()


def verdict_line(run: Run, verdict: Verdict) -> VerdictLine:
    """A verdict in words."""
    return VerdictLine(
        id=visible(verdict.id),
        outcome=verdict.verdict,
        sign=SIGNS[verdict.verdict],
        measurement=visible(verdict.measurement),
        said=visible(quantity(run.spec.measurements[verdict.measurement])),
        estimate=estimate_text(verdict),
        expected=bound_text(verdict.bound),
        where=visible(where_text(verdict.where)),
        n=verdict.n,
        test=verdict.test,
        p_value="" if verdict.p_value is None else number_text(verdict.p_value),
        reason=visible(verdict.reason),
        beside=beside(run, verdict),
    )


def beside(run: Run, verdict: Verdict) -> str:
    """What the same measurement is without the intervention and under each control: `random features 0.01`."""
    if verdict.where.get("condition") not in run.spec.conditions or "over" in verdict.bound or verdict.estimate is None:
        return ""
    rows = select(run.measurements, {k: v for k, v in verdict.where.items() if k != "control"})
    rows = rows[rows["measurement"] == verdict.measurement]
    target = rows[rows["control"] == verdict.where.get("control", "none")]
    said = [f"without the intervention {number_text(mean_over_prompts(target, 'baseline'))}"]
    for control in CONTROLS:
        controls = rows[rows["control"] == control]
        if control not in ("none", verdict.where.get("control")) and len(controls):
            said.append(f"{CONTROLS[control]} {number_text(mean_over_prompts(controls, 'intervened'))}")
    return " · ".join(said)


def mean_over_prompts(rows: pd.DataFrame, side: str) -> float:
    """Seeds and draws averaged first."""
    return float(rows.groupby("prompt_id")[side].mean().mean())


def condition_lines(run: Run) -> list[dict[str, str]]:
    """Each condition as a sentence, with its controls."""
    labels = group_labels(run.spec.features)
    return [
        {
            "name": visible(name),
            "sentence": visible(condition_sentence(condition, labels)),
            "controls": control_sentence(condition.controls),
        }
        for name, condition in run.spec.conditions.items()
    ]


# --- tables -------------------------------------------------------------------------------------------------------


def focus_table(run: Run, focus: Focus) -> Table:
    """Every measurement of the judged prompts at the focus, with the effect of each control; a row per group."""
    if focus.condition is None:
        return Table((), (), ())
    judged = judged_prompts(run, focus)
    wanted = judged.measurements["condition"] == focus.condition
    summary = summarise(replace(judged, measurements=judged.measurements[wanted]))
    rows = select(summary, focus.point)
    groups = list(run.spec.group_by)
    controls = [control for control in CONTROLS if control != "none" and (rows["control"] == control).any()]
    names = [*groups, "measurement", "prompts", "baseline", "intervened", "effect [95 %]"]
    names += [f"effect of {CONTROLS[control]}" for control in controls] + ["p", "p adjusted"]
    target = rows[rows["control"] == "none"]
    found = [_focus_row(row, rows, groups, controls) for _, row in target.iterrows()]
    return Table(names, found, [False] * (len(groups) + 1) + [True] * (len(names) - len(groups) - 1))


def _focus_row(row: pd.Series, rows: pd.DataFrame, groups: list[str], controls: list[str]) -> list[str]:
    same = rows[(rows[["measurement", *groups]] == row[["measurement", *groups]]).all(axis=1)]
    effects = [same.loc[same["control"] == control, "effect"] for control in controls]
    return [
        *(visible(cell_text(row[group])) for group in groups),
        row["measurement"],
        str(row["n"]),
        number_text(row["baseline"]),
        number_text(row["intervened"]),
        _with_interval(row),
        *(number_text(effect.iloc[0]) if len(effect) else "" for effect in effects),
        number_text(row["p_value"]),
        number_text(row["p_adjusted"]),
    ]


def _with_interval(row: pd.Series) -> str:
    return interval_text(row["effect"], row["ci_low"], row["ci_high"])


def summary_table(summary: pd.DataFrame) -> Table:
    """`summary.csv` for reading."""
    return text_table(summary.drop(columns="experiment").head(LONGEST_TABLE))


def choice_table(choices: pd.DataFrame) -> Table:
    """`choices.csv` for reading."""
    return text_table(choices)


def text_table(frame: pd.DataFrame) -> Table:
    """A data frame as text."""
    numeric = [pd.api.types.is_float_dtype(frame[name]) for name in frame]
    rows = [
        [_cell(value, number) for value, number in zip(row, numeric, strict=True)]
        for row in frame.itertuples(index=False, name=None)
    ]
    return Table([visible(str(name)) for name in frame], rows, numeric)


def _cell(value: Any, number: bool) -> str:
    if number:
        return "" if value != value else number_text(value)
    return visible(cell_text(value))


def warnings(manifest: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before believing the page."""
    partial = (
        ["Only a part of the experiment ran: a filter was given on the command line."]
        if manifest.get("partial")
        else []
    )
    return [*map(str, manifest.get("problems", [])), *partial, *map(str, manifest.get("warnings", []))]


# --- provenance ---------------------------------------------------------------------------------------------------

PROVENANCE = (
    "command", "run_id", "created", "finished", "git", "model", "transcoder", "device", "dtype", "packages",
    "counts", "hooks", "timings",
)  # fmt: skip


def provenance(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What the run was made with, from its manifest."""
    return {key: visible(_plain(manifest[key])) for key in PROVENANCE if manifest.get(key) not in (None, {}, [])}


def _plain(value: Any, inside: bool = False) -> str:
    match value:
        case str():
            return value
        case dict() if not inside:
            return "\n".join(f"{key}: {_plain(inner, inside=True)}" for key, inner in value.items())
        case [*words] if words and all(isinstance(word, str) for word in words):
            return shlex.join(words)
        case _:
            return json.dumps(value, ensure_ascii=False)
