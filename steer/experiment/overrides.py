"""`extends:` and `--set`: one file laid over another, one value put into a file; every value keeps its place."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from steer.experiment.paths import Refused, find
from steer.experiment.problems import Code, Place, Problem, help_for, shown
from steer.experiment.source import Node, Source, read, read_file

MAX_CHAIN = 8


def read_extended(path: Path, root: Path, overrides: Sequence[str] = ()) -> Source:
    """The file at a path laid over the files it extends, with the values of `--set` on top."""
    source = _chain(path, path.parent, root, ())
    for setting in overrides:
        source = _set(source, setting)
    return source


def merge(base: Node, top: Node) -> Node:
    """Mappings merge, lists and scalars replace, an empty value (`null`) removes."""
    if not isinstance(base.value, Mapping) or not isinstance(top.value, Mapping):
        return top
    entries = dict(base.value)
    for key, node in top.value.items():
        if node.value is None:
            entries.pop(key, None)
        else:
            entries[key] = merge(entries[key], node) if key in entries else node
    return replace(top, value=entries)


def _chain(path: Path, folder: Path, root: Path, above: tuple[Path, ...]) -> Source:
    text, problems = read_file(path)
    source = read(text, path) if text is not None else Source(None, path, problems)
    named = source.root.child("extends") if source.root else None
    if source.root is None or named is None or named.value is None:
        return _moved(source, folder)
    if not isinstance(named.value, str):
        return _failed(source, Problem(named.place, "'extends' should be one path", None, Code.EXTENDS))
    base = find(named.value, path.parent, root)
    seen = (*above, path.resolve())
    if isinstance(base, Refused):
        return _failed(source, base.at(named.place))
    if base.resolve() in seen or len(seen) > MAX_CHAIN:
        return _failed(source, Problem(named.place, "the files extend each other in a circle", None, Code.EXTENDS))
    return _laid_over(_chain(base, folder, root, seen), _moved(source, folder))


def _failed(source: Source, problem: Problem) -> Source:
    # without its base nothing can be said about what is missing in this file
    return replace(source, root=None, problems=(*source.problems, problem))


def _laid_over(base: Source, top: Source) -> Source:
    problems = (*top.problems, *base.problems)
    if base.root is None or top.root is None:
        return replace(top, root=None, problems=problems)
    own = replace(top.root, value={k: node for k, node in _entries(top.root).items() if k != "extends"})
    inherited = replace(base.root, value={k: node for k, node in _entries(base.root).items() if k != "extends"})
    return replace(top, root=merge(inherited, own), problems=problems)


def _entries(node: Node) -> Mapping[str, Node]:
    return node.value if isinstance(node.value, Mapping) else {}


def _moved(source: Source, folder: Path) -> Source:
    """Paths of another folder's file, written relative to the experiment's folder."""
    if source.root is None or source.path.parent == folder:
        return source
    return replace(source, root=_relative(source.root, source.path.parent, folder))


def _relative(node: Node, here: Path, folder: Path) -> Node:
    match node.value:
        case Mapping() as entries:
            moved = {key: _relative(child, here, folder) for key, child in entries.items()}
            return replace(node, value={key: _path_moved(key, child, here, folder) for key, child in moved.items()})
        case tuple() as items:
            return replace(node, value=tuple(_relative(child, here, folder) for child in items))
        case _:
            return node


def _path_moved(key: str, node: Node, here: Path, folder: Path) -> Node:
    if key != "file" or not isinstance(node.value, str) or Path(node.value).is_absolute():
        return node
    return replace(node, value=os.path.relpath(here / node.value, folder))


# --- --set ----------------------------------------------------------------------------------------------------


def _set(source: Source, setting: str) -> Source:
    written, equals, text = setting.partition("=")
    keys = tuple(written.strip().split("."))
    place = Place(f"--set {written.strip()}")
    if not equals or not all(keys):
        message = f"{shown(setting)} is not of the form a.b.c=value"
        return replace(source, problems=(*source.problems, Problem(place, message, None, Code.SETTING)))
    value = read(text or "~", place.file)
    if source.root is None or value.root is None:
        return replace(source, problems=(*source.problems, *value.problems))
    root, problems = _put(source.root, keys, replace(value.root, key=place), place)
    return replace(source, root=root, problems=(*source.problems, *value.problems, *problems))


def _put(node: Node, keys: tuple[str, ...], value: Node, place: Place) -> tuple[Node, list[Problem]]:
    """The tree with a value at a path; an empty value removes, mappings on the way are made."""
    if not keys:
        return value, []
    if isinstance(node.value, tuple):
        return _put_item(node, keys, value, place)
    entries = dict(_entries(node))
    if node.value is not None and not isinstance(node.value, Mapping):
        message = f"there is no {shown(keys[0])} inside a plain value"
        return node, [Problem(place, message, None, Code.SETTING)]
    if len(keys) == 1 and value.value is None:
        entries.pop(keys[0], None)
        return replace(node, value=entries), []
    below = entries.get(keys[0], Node({} if len(keys) > 1 else None, value.place, place))
    entries[keys[0]], problems = _put(below, keys[1:], value, place)
    return replace(node, value=entries), problems


def _put_item(node: Node, keys: tuple[str, ...], value: Node, place: Place) -> tuple[Node, list[Problem]]:
    items = list(node.value) if isinstance(node.value, tuple) else []
    known = [str(i) for i in range(len(items))]
    if keys[0] not in known:
        message = f"a list has no item {shown(keys[0])}"
        return node, [Problem(place, message, help_for(keys[0], known, noun="items"), Code.SETTING)]
    items[int(keys[0])], problems = _put(items[int(keys[0])], keys[1:], value, place)
    return replace(node, value=tuple(items)), problems
