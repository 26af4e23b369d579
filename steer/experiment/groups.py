"""`features:` -> members by name; groups kept in a file of their own are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from steer.experiment import spec as schema
from steer.experiment.feature_ids import WrittenFeature, written_feature
from steer.experiment.paths import Refused, find
from steer.experiment.problems import Code, Place, Problem, help_for, shown
from steer.experiment.source import Source, read, read_file
from steer.experiment.spec import ExperimentSpec, FeatureFile, Member
from steer.experiment.validation import check_value


@dataclass(frozen=True)
class Groups:
    """Every group that could be read, and the problems of the others.

    `neuronpedia` are the members that are written as Neuronpedia's ids, which also say what model they belong to.
    """

    members: Mapping[str, tuple[Member, ...]]
    problems: tuple[Problem, ...]
    neuronpedia: tuple[tuple[Place, WrittenFeature], ...] = ()


def feature_groups(spec: ExperimentSpec, source: Source, root: Path) -> Groups:
    found: dict[str, tuple[Member, ...]] = {}
    problems: list[Problem] = []
    neuronpedia: list[tuple[Place, WrittenFeature]] = []
    opened = cache(_opened)  # a file may hold many groups
    for name, group in spec.features.items():
        place = source.place(("features", name))
        if isinstance(group, FeatureFile):
            there = find(group.file, source.path.parent, root)
            group, wrong = _from_file(name, group.file, there, source.place(("features", name, "file")), opened)
            problems += wrong
        if group is not None:
            listed = group if isinstance(group, tuple) else (group,)
            found[name], twice = _once(name, tuple(map(member, listed)), place)
            problems += twice
            neuronpedia += [(_place(source, name, one), read) for one in listed if (read := neuronpedia_id(one))]
    return Groups(found, tuple(problems), tuple(neuronpedia))


def member(written: str | Member) -> Member:
    """A feature that is known to be written as one: as text, or as a mapping."""
    if isinstance(written, Member):
        return written
    read = written_feature(written)
    assert read is not None, written
    return Member(layer=read.layer, index=read.index)


def neuronpedia_id(written: str | Member) -> WrittenFeature | None:
    """What a feature that is written as Neuronpedia's id says; None for every other feature."""
    read = written_feature(written) if isinstance(written, str) else None
    return read if read is not None and read.source is not None else None


def _place(source: Source, name: str, written: str | Member) -> Place:
    """Where a member of a group stands; the group itself where it is kept in a file of its own."""
    node = source.node(("features", name))
    there = (below.place for _, below in node.walk() if below.value == written) if node else ()
    return next(iter(there), source.place(("features", name)))


def _once(name: str, members: Sequence[Member], place: Place) -> tuple[tuple[Member, ...], list[Problem]]:
    first: dict[str, Member] = {}
    problems = []
    for one in members:
        if one.id in first:
            message = f"feature {one.id} is listed twice in {shown(name)}: it edits once"
            problems.append(Problem(place, message, None, Code.FEATURES, "warning"))
        first.setdefault(one.id, one)
    return tuple(first.values()), problems


def _opened(path: Path) -> tuple[Source | None, tuple[Problem, ...]]:
    text, unread = read_file(path)
    return (None, tuple(unread)) if text is None else (read(text, path), ())


def _from_file(
    name: str, written: str, path: Path | Refused, place: Place, opened: Callable[[Path], Any]
) -> tuple[Any, list[Problem]]:
    if isinstance(path, Refused):
        return None, [path.at(place)]
    inner, unread = opened(path)
    if inner is None:
        return None, list(unread)
    if inner.problems or not isinstance(inner.data, dict):
        message = f"{shown(written)} should be a mapping of names to features"
        return None, list(inner.problems) or [Problem(place, message, None, Code.FEATURES)]
    return _named(name, written, place, inner)


def _named(name: str, written: str, place: Place, inner: Source) -> tuple[Any, list[Problem]]:
    below = ("features",) if set(inner.data) == {"features"} else ()
    groups = inner.node(below)
    options = [str(key) for key, _ in groups.children()] if groups else []
    if name not in options:
        message = f"{shown(written)} has no group {shown(name)}"
        return None, [Problem(place, message, help_for(name, options, noun="it has"), Code.FEATURES)]
    return check_value(inner, (*below, name), schema.InlineGroup)
