"""The page of `steer diff --html`: two runs side by side, one file, no script, in the report's style."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from steer.analysis.diff import ChangedCompletion, Comparison, Diff, Side
from steer.analysis.numbers import number_text
from steer.report.diff_text import (
    chance_sentence,
    counts_text,
    difference_text,
    measured_text,
    one_sided_lines,
    place_text,
    trial_text,
    value_text,
    verdict_sentence,
)
from steer.report.examples import Piece, changes
from steer.report.visible import visible

LONGEST_TABLE = 600
"""Comparisons and changed completions that the page shows; all of them are in `--json`."""
COMPLETIONS = 30
REACH, HALF = 4.0, 60.0
"""A drawing reaches from -4 to 4 tolerances, over 120 pixels."""
CLASSES = {"moved": "fail", "inconclusive": "inconclusive", "too few prompts": "inconclusive"}


@dataclass(frozen=True)
class Drawing:
    """A difference with its interval, in pixels; the tolerance is a band in the middle. `cut` where it goes on."""

    low: float
    high: float
    at: float
    cut: bool


@dataclass(frozen=True)
class Line:
    """A comparison as the page shows it."""

    verdict: str
    css: str
    place: str
    measurement: str
    old: str
    new: str
    difference: str
    n: int
    tolerance: str
    remarks: str
    times: str
    drawing: Drawing | None


def diff_page(diff: Diff) -> str:
    """The whole page as HTML."""
    differing = [one for one in diff.comparisons if one.verdict != "same"]
    same = [one for one in diff.comparisons if one.verdict == "same"]
    return _template().render(
        diff=diff,
        name=visible(diff.new.name),
        failed=bool(diff.moved),
        undecided=any(one.judged and one.verdict in ("inconclusive", "too few prompts") for one in diff.comparisons),
        sentence=verdict_sentence(diff),
        chance=chance_sentence(diff),
        counts=counts_text(diff),
        notes=[visible(note) for note in (*diff.notes, *one_sided_lines(diff))],
        sides=[side_line(word, side) for word, side in (("old", diff.old), ("new", diff.new))],
        manifest=[(visible(c.key), value_text(c.old, 300), value_text(c.new, 300)) for c in diff.manifest],
        differing=lines(differing),
        same=lines(same),
        left_out=max(0, len(differing) - LONGEST_TABLE) + max(0, len(same) - LONGEST_TABLE),
        changed=[completion(one) for one in diff.changed[:COMPLETIONS]],
        more=max(0, len(diff.changed) - COMPLETIONS),
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("steer.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("diff.html.j2")


def side_line(word: str, side: Side) -> tuple[str, str, str]:
    """Which run stands on a side: the word, the folder, the rest."""
    return word, visible(side.folder), visible(f"{side.run_id} {side.status}")


def lines(comparisons: Iterable[Comparison]) -> list[Line]:
    """Comparisons in words, as many as the page shows."""
    return [_line(one) for one in list(comparisons)[:LONGEST_TABLE]]


def _line(one: Comparison) -> Line:
    remarks = [f"snapshot {one.snapshot}"] if one.snapshot else []
    remarks += [f"{one.left_out} prompts left out"] if one.left_out else []
    remarks += [] if one.judged else ["a control, not judged"]
    return Line(
        verdict=one.verdict,
        css=CLASSES.get(one.verdict, "muted") if one.judged else "muted",
        place=place_text(one),
        measurement=measured_text(one),
        old=number_text(one.old),
        new=number_text(one.new),
        difference=difference_text(one),
        n=one.n,
        tolerance=number_text(one.tolerance),
        remarks=visible(", ".join([one.test, *remarks])),
        times=_times(one.beyond),
        drawing=drawing(one),
    )


def _times(beyond: float) -> str:
    """How many tolerances, where there is a drawing of them."""
    if not 0 < beyond < inf:
        return ""
    return f"{beyond:.2g} ×" if beyond < 1000 else "> 1000 ×"


def drawing(one: Comparison) -> Drawing | None:
    """The difference in tolerances, as pixels; none without a tolerance to measure it in."""
    if one.difference is None or not one.tolerance:
        return None
    ends = (one.ci_low, one.ci_high) if one.ci_low is not None and one.ci_high is not None else (one.difference,) * 2
    low, high, at = (_pixel(value / one.tolerance) for value in (*ends, one.difference))
    return Drawing(low, high, at, max(abs(end) for end in ends) > REACH * one.tolerance)


def _pixel(tolerances: float) -> float:
    return round(HALF + HALF * min(REACH, max(-REACH, tolerances)) / REACH, 1)


def completion(one: ChangedCompletion) -> dict[str, str | Sequence[Piece]]:
    """A changed completion, the words marked that are not in the old one at their place."""
    return {
        "share": f"{one.share:.0%} of the words",
        "id": visible(one.prompt_id),
        "place": trial_text(one),
        "prompt": visible(one.prompt),
        "old": (Piece(visible(one.old), False),),
        "new": changes(one.old, one.new),
    }
