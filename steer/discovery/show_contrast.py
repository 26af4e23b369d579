"""`steer discover contrast`: files and options in, a table and a features block out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from steer.discovery.block import Found, features_block
from steer.discovery.contrast import Contrast, contrasts
from steer.discovery.inputs import column_of, layers_of, positions_of, prompts_of, readings
from steer.discovery.promoted import promoted_tokens
from steer.discovery.survey import Moments, Reduce, survey
from steer.discovery.table import aligned, number, signed
from steer.errors import UsageError
from steer.execution.passes import Engine
from steer.experiment.problems import listing
from steer.experiment.trial import Prompt
from steer.report.visible import shortened


@dataclass(frozen=True)
class Options:
    """How prompts are read and features ranked; words as they were typed."""

    template: str | None
    positions: str
    layers: str | None
    reduce: Reduce
    top: int
    per_layer: bool
    shared: bool
    name: str | None


@dataclass(frozen=True)
class Labelled:
    """Prompts, the group of each, and the names of the groups."""

    prompts: tuple[Prompt, ...]
    numbers: tuple[int, ...]
    groups: tuple[str, ...]

    @classmethod
    def by(cls, pairs: Sequence[tuple[Prompt, str]]) -> Labelled:
        """Groups in the order in which they come; a prompt without a label is left out."""
        kept = [(prompt, label) for prompt, label in pairs if label]
        groups = tuple(dict.fromkeys(label for _, label in kept))
        return cls(tuple(prompt for prompt, _ in kept), tuple(groups.index(label) for _, label in kept), groups)

    def __str__(self) -> str:
        groups = f" in {len(self.groups)} groups" if len(self.groups) > 1 else ""
        return f"{len(self.prompts)} prompts{groups}"


def contrast_sets(
    engine: Engine, positive: Path, negative: Path, group: str | None, options: Options, command: str
) -> Found:
    """One contrast: the prompts of a file against those of another, which may fall into groups."""
    first, second = (prompts_of(path, options.template, engine.model.tokens) for path in (positive, negative))
    labels = column_of(second, group, "--group") if group else [negative.name] * len(second)
    others = Labelled.by(list(zip(second, labels, strict=True)))
    moments = _survey(engine, (*first, *others.prompts), [0] * len(first) + [n + 1 for n in others.numbers], options)
    ranked = contrasts(moments, 0, options.top, options.per_layer, options.shared)
    head = f"{positive} ({len(first)} prompts) against {negative} ({others})"
    table = _table(engine, ranked, ("", *others.groups))
    return Found(f"{head}\n{table}", _block({options.name or "found": ranked}, command))


def contrast_each(
    engine: Engine, prompts: Path, each: str, only: Sequence[str], options: Options, command: str
) -> Found:
    """A contrast for every value of a column (or for some of them) against all other values, from one survey."""
    read = prompts_of(prompts, options.template, engine.model.tokens)
    labelled = Labelled.by(list(zip(read, column_of(read, each, "--each"), strict=True)))
    chosen = _chosen(labelled, prompts, each, only)
    moments = _survey(engine, labelled.prompts, labelled.numbers, options)
    found = {
        value: contrasts(moments, labelled.groups.index(value), options.top, options.per_layer, options.shared)
        for value in chosen
    }
    head = f"{prompts} ({labelled}), each against the others"
    summary = _summary(moments, found, labelled.groups)
    tables = [f"\n{value}\n{_table(engine, found[value], labelled.groups)}" for value in chosen if only]
    named = {options.name: found[chosen[0]]} if options.name and len(chosen) == 1 else found
    return Found("\n".join([head, summary, *tables]), _block(named, command))


def _chosen(labelled: Labelled, prompts: Path, each: str, only: Sequence[str]) -> list[str]:
    groups = labelled.groups
    if unknown := [value for value in only if value not in groups]:
        raise UsageError(f"--only {unknown[0]}: {each} has no such value (it has: {listing(groups)})")
    if len(groups) < 2:
        raise UsageError(f"--each {each}: every prompt of {prompts} has the value {groups[0]!r}: nothing to compare")
    return [value for value in groups if value in only or not only]


def _survey(engine: Engine, prompts: Sequence[Prompt], numbers: Sequence[int], options: Options) -> Moments:
    layers = layers_of(options.layers, engine.transcoders)
    read = readings(prompts, positions_of(options.positions), engine.model)
    return survey(engine, read, numbers, layers, options.reduce)


def _block(found: Mapping[str, Sequence[Contrast]], command: str) -> str:
    return features_block({name: [one.feature for one in ranked] for name, ranked in found.items() if ranked}, command)


# --- tables ---------------------------------------------------------------------------------------------------

HEADER = ("feature", "difference", "95 % interval", "standardised", "positive", "rest", "largest other", "", "promotes")


def _table(engine: Engine, found: Sequence[Contrast], groups: Sequence[str]) -> str:
    if not found:
        return "no feature is more active here than in every other group"
    promoted = promoted_tokens(engine)
    return aligned(HEADER, [(*_cells(one, groups), promoted(one.layer, one.index)) for one in found])


def _cells(one: Contrast, groups: Sequence[str]) -> tuple[str, ...]:
    return (
        one.feature,
        signed(one.difference),
        _interval(one),
        number(one.standardised, 2),
        number(one.positive),
        number(one.rest),
        number(one.other),
        shortened(groups[one.largest_other], 24),
    )


def _interval(one: Contrast) -> str:
    return "-" if one.low != one.low else f"[{one.low:+.3f}, {one.high:+.3f}]"


def _summary(moments: Moments, found: dict[str, list[Contrast]], groups: Sequence[str]) -> str:
    header = ("value", "prompts", "features", "best", "difference", "95 % interval", "positive", "largest other", "")
    rows = [_summary_row(value, moments, ranked, groups) for value, ranked in found.items()]
    return aligned(header, rows)


def _summary_row(value: str, moments: Moments, ranked: Sequence[Contrast], groups: Sequence[str]) -> tuple[str, ...]:
    counts = shortened(value, 32), f"{moments.count[groups.index(value)]:.0f}", str(len(ranked))
    if not ranked:
        return *counts, "-", "-", "-", "-", "-", ""
    best = max(ranked, key=lambda one: one.difference)
    feature, difference, interval, _, positive, _, other, largest = _cells(best, groups)
    return *counts, feature, difference, interval, positive, other, largest
