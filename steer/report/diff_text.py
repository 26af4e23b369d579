"""A comparison of two runs as lines for a terminal, and as JSON for a program."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from steer.analysis.diff import OUTCOMES, ChangedCompletion, Comparison, Diff, OneSided
from steer.analysis.numbers import interval_text, number_text
from steer.analysis.samples import where_text
from steer.analysis.sides import Change
from steer.report.visible import shortened, visible


def diff_text(diff: Diff, completions: int) -> str:
    """What the command prints; of the changed completions the `completions` that changed most."""
    lines = [*_sides(diff), *_manifest(diff), *_trials(diff), *_measurements(diff), *_completions(diff, completions)]
    return "\n".join([*lines, "", verdict_sentence(diff)])


def verdict_sentence(diff: Diff) -> str:
    """The outcome in one sentence: what moved, and what could not be decided."""
    judged = [one for one in diff.comparisons if one.judged]
    open_ = sum(one.verdict == "inconclusive" for one in judged)
    few = sum(one.verdict == "too few prompts" for one in judged)
    said = [f"{len(diff.moved) or 'none'} of {len(judged)} judged comparisons moved beyond tolerance"]
    said += [f"{open_} beyond tolerance with an interval that includes 0"] if open_ else []
    said += [f"{few} NOT JUDGED, too few prompts for an interval"] if few else []
    return "; ".join(said)


def chance_sentence(diff: Diff) -> str:
    """How many intervals there are, and how many of those would exclude 0 if nothing had changed but chance."""
    intervals = sum(one.judged and one.ci_low is not None for one in diff.comparisons)
    if not intervals:
        return "no judged comparison has enough prompts for a 95 % interval"
    return (
        f"{intervals} judged 95 % intervals, of which about {intervals * 0.05:.0f} would exclude 0 by chance alone;"
        " moved is what also exceeds its tolerance"
    )


def counts_text(diff: Diff) -> str:
    """`2 moved (1 of a control, not judged), 40 same`."""
    counts = Counter(one.verdict for one in diff.comparisons)
    unjudged = Counter(one.verdict for one in diff.comparisons if not one.judged)
    said = [f"{counts[name]} {name}" + (f" ({unjudged[name]} of controls)" * (unjudged[name] > 0)) for name in OUTCOMES]
    return ", ".join(text for text, name in zip(said, OUTCOMES, strict=True) if counts[name])


def _sides(diff: Diff) -> Iterator[str]:
    for word, side in (("old", diff.old), ("new", diff.new)):
        yield f"{word}: {side.folder} ({' '.join(filter(None, [side.name, side.run_id]))}, {side.status})"
    yield from (f"note: {visible(note, keep='')}" for note in diff.notes)


def _manifest(diff: Diff) -> Iterator[str]:
    yield f"\nwhat differs in the manifests: {len(diff.manifest) or 'nothing'}"
    yield from (f"  {change_text(change)}" for change in diff.manifest)


def change_text(change: Change, length: int = 60) -> str:
    """`packages.torch: 2.12.0 -> 2.13.0`."""
    return f"{visible(change.key, keep='')}: {value_text(change.old, length)} -> {value_text(change.new, length)}"


def value_text(value: Any, length: int) -> str:
    """A field of a manifest on one line; a dash where a side lacks it."""
    if value is None:
        return "–"
    return shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), length)


def _trials(diff: Diff) -> Iterator[str]:
    yield f"\ntrials in both: {diff.trials:,}"
    yield from (f"  {line}" for line in one_sided_lines(diff))


def one_sided_lines(diff: Diff) -> list[str]:
    """What only one run has, in words."""
    sides = (("old", diff.only_old), ("new", diff.only_new))
    return [line for word, alone in sides for line in _alone(word, alone)]


def _alone(word: str, alone: OneSided) -> Iterator[str]:
    if alone.trials:
        said = ", ".join(f"{visible(name)} {count:,}" for name, count in alone.trials.items())
        yield f"only in the {word} run: {sum(alone.trials.values()):,} trials ({said})"
    if alone.values:
        said = ", ".join(f"{visible(name)} {count:,}" for name, count in alone.values.items())
        yield f"only in the {word} run: {sum(alone.values.values()):,} values of trials that both have ({said})"


def _measurements(diff: Diff) -> Iterator[str]:
    yield f"\nmeasurements: {len(diff.comparisons)} comparisons: {counts_text(diff) or 'nothing measured in both'}"
    if diff.comparisons:
        yield f"  ({chance_sentence(diff)})"
    shown = [one for one in diff.comparisons if one.verdict != "same"]
    width = max((len(one.verdict) for one in shown), default=0)
    yield from (f"  {one.verdict:<{width}}  {comparison_text(one)}" for one in shown)


def comparison_text(one: Comparison) -> str:
    """`clamped, dose 5: mentions 0.93 -> 0.60, -0.33 [-0.45, -0.21] (48 prompts, tolerance 0.02)`."""
    details = [f"{one.n} prompts", f"tolerance {number_text(one.tolerance)}"]
    details += [f"of snapshot {one.snapshot}"] if one.snapshot else []
    details += [f"{one.left_out} prompts without a value on both sides left out"] if one.left_out else []
    details += [] if one.judged else ["a control, not judged"]
    numbers = f"{number_text(one.old)} -> {number_text(one.new)}, {difference_text(one)}"
    return f"{place_text(one)}: {measured_text(one)} {numbers} ({', '.join(details)})"


def measured_text(one: Comparison) -> str:
    """`mentions`, `effect on mentions`."""
    return visible(one.measurement if one.of == "intervened" else f"{one.of} of {one.measurement}")


def place_text(one: Comparison | ChangedCompletion) -> str:
    """`clamped, random_features, dose 5`."""
    names = [one.condition] if one.control == "none" else [one.condition, one.control]
    return visible(", ".join([*names, where_text(one.point)] if one.point else names))


def difference_text(one: Comparison) -> str:
    """`-0.33 [-0.45, -0.21]`."""
    return interval_text(one.difference, one.ci_low, one.ci_high)


def _completions(diff: Diff, limit: int) -> Iterator[str]:
    yield f"\ncompletions: {len(diff.changed):,} of {diff.completions:,} changed"
    for one in diff.changed[:limit]:
        yield f"  {one.share:.0%} of the words: {visible(one.prompt_id)}, {trial_text(one)}"
        yield f"    old: {shortened(one.old, 200)}"
        yield f"    new: {shortened(one.new, 200)}"
    if len(diff.changed) > limit:
        yield f"  and {len(diff.changed) - limit:,} more"


def trial_text(one: ChangedCompletion) -> str:
    """`clamped, random_features, dose 5, draw 3, seed 0`."""
    draw = "" if one.control == "none" else f", draw {one.control_index}"
    return f"{place_text(one)}{draw}, seed {one.seed}"


def diff_json(diff: Diff) -> str:
    """Everything, for a program; ASCII only, so that no text of a model can act on a terminal."""
    content = {**asdict(diff), "moved": len(diff.moved)}
    return json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False)
