"""YAML text -> nodes with positions: dicts, lists and raw strings, and the place in the file of every key and value.

A scalar's type comes from the schema, never from YAML's guesses: `1:5`, `24_13277_5`, `off` and `1e-3` stay text. There
are no tags, and aliases are bounded, so a file can neither run code nor grow while it is read.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import Reader

from steer.experiment.problems import Code, Place, Problem, shown

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 50_000
MAX_CHARACTER_PROBLEMS = 5

Path_ = tuple[str | int, ...]
BLANK = ("", "~", "null")


@dataclass(frozen=True, eq=False)
class Node:
    """A value of the file and where it stands; `key` is the place of the key in front of it."""

    value: Mapping[str, Node] | tuple[Node, ...] | str | None
    place: Place
    key: Place | None = None
    cut: bool = False
    """A plain text with a comment behind it: perhaps the `#` belonged to the text."""

    @property
    def data(self) -> Any:
        """The value as dicts, lists, strings and None."""
        match self.value:
            case Mapping():
                return {key: child.data for key, child in self.value.items()}
            case tuple():
                return [child.data for child in self.value]
            case _:
                return self.value

    def child(self, key: str | int) -> Node | None:
        match self.value, key:
            case (Mapping() as entries, str()):
                found: Node | None = entries.get(key)
            case (tuple() as items, int()) if -len(items) <= key < len(items):
                found = items[key]
            case _:
                found = None
        return found

    def children(self) -> Iterator[tuple[str | int, Node]]:
        match self.value:
            case Mapping():
                yield from self.value.items()
            case tuple():
                yield from enumerate(self.value)

    def walk(self, path: Path_ = ()) -> Iterator[tuple[Path_, Node]]:
        """This node and all below it, each with its path."""
        yield path, self
        for key, child in self.children():
            yield from child.walk((*path, key))


@dataclass(frozen=True)
class Source:
    """A file (or a file laid over the ones it extends) as nodes; `root` is None where it could not be read."""

    root: Node | None
    path: Path
    problems: tuple[Problem, ...] = ()

    @cached_property
    def data(self) -> Any:
        return self.root.data if self.root else None

    def node(self, path: Path_) -> Node | None:
        found = self.root
        for key in path:
            found = found.child(key) if found else None
        return found

    def place(self, path: Path_) -> Place:
        """Where the value stands, or the nearest thing around it that is written."""
        found = next((node for end in range(len(path), -1, -1) if (node := self.node(path[:end]))), None)
        return found.place if found else Place(str(self.path))

    def key(self, path: Path_) -> Place:
        """Where the key in front of the value stands."""
        found = self.node(path)
        return (found.key if found else None) or self.place(path)


def read_file(path: Path, max_bytes: int = MAX_BYTES) -> tuple[str | None, tuple[Problem, ...]]:
    """The text of a file, or why it cannot be read."""
    place = Place(str(path))
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "there is no such file"
            return None, (
                Problem(place, f"{what}: {path}" if "no" in what else f"{path} {what}", None, Code.UNREADABLE),
            )
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return None, (Problem(place, f"cannot be read: {reason}", None, Code.UNREADABLE),)
    return decode(content, str(path), max_bytes)


def decode(content: bytes, file: str, max_bytes: int = MAX_BYTES) -> tuple[str | None, tuple[Problem, ...]]:
    """UTF-8 (with or without a byte order mark) as text."""
    if len(content) > max_bytes:
        message = f"the file is too large: more than {max_bytes:,} bytes"
        return None, (Problem(Place(file), message, "long lists of prompts go to a .jsonl file", Code.UNREADABLE),)
    try:
        return content.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig", errors="replace")
        place = Lines(before, file).place(len(before))
        message = f"not UTF-8: byte 0x{content[error.start]:02x} is no character"
        return None, (Problem(place, message, "save the file as UTF-8", Code.UNREADABLE),)


def read(text: str, path: Path | str) -> Source:
    """Every node of a YAML text, and every problem on the way to them."""
    lines = Lines(text, str(path))
    problems = tuple(_unprintable(text, lines))
    if problems or len(text) > MAX_BYTES:
        too_large = Problem(Place(str(path)), f"too large: more than {MAX_BYTES:,} characters", None, Code.UNREADABLE)
        return Source(None, Path(path), problems or (too_large,))
    reader = _Reader(text, lines)
    root = reader.document()
    return Source(root, Path(path), tuple(reader.problems))


class Lines:
    """The lines of a text, to turn an index into a place."""

    def __init__(self, text: str, file: str) -> None:
        self._text, self._file = text, file
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]
        self._lines: dict[int, str] = {}  # one copy of a line for all places in it

    def place(self, index: int) -> Place:
        line = bisect_right(self._starts, index)
        start = self._starts[line - 1]
        if line not in self._lines:
            end = self._starts[line] if line < len(self._starts) else len(self._text)
            self._lines[line] = self._text[start:end].rstrip("\r\n")
        return Place(self._file, line, index - start + 1, self._lines[line])


def _unprintable(text: str, lines: Lines) -> Iterator[Problem]:
    for count, match in enumerate(Reader.NON_PRINTABLE.finditer(text)):
        if count == MAX_CHARACTER_PROBLEMS:
            return
        message = f"control character U+{ord(match.group()):04X}"
        yield Problem(lines.place(match.start()), message, "take it out, or write an escape in quotes", Code.CHARACTERS)


class _Stop(Exception):
    """Nothing after this problem can be trusted."""


@dataclass
class _Reader:
    """Builds the nodes of one document from PyYAML's events, which come one by one: nothing is ever constructed."""

    text: str
    lines: Lines
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    count: int = 0

    def document(self) -> Node | None:
        self.events = yaml.parse(self.text, Loader=yaml.SafeLoader)
        try:
            next(self.events)
            start = next(self.events)
            if isinstance(start, yaml.StreamEndEvent):
                self.stop(0, "the file is empty", "`steer init` writes a file to start from", Code.DOCUMENT)
            root = self.node(next(self.events), 0)
            next(self.events)
            self.one_document()
            return root
        except _Stop:
            return None
        except yaml.YAMLError as error:
            self.problems.append(_syntax(error, self.lines))
        except ValueError as error:  # an escape such as "\U00110000" that names no character
            self.problems.append(Problem(self.lines.place(0), f"not YAML: {error}", None, Code.NOT_YAML))
        return None

    def one_document(self) -> None:
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            self.report(after, "a second document begins", "one file is one experiment", Code.DOCUMENT)

    def node(self, event: yaml.Event, depth: int) -> Node:
        self.spend(event, 1)
        if depth > MAX_DEPTH:
            self.stop(event.start_mark.index, f"nested more than {MAX_DEPTH} levels deep", None, Code.TOO_DEEP)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        before = self.count
        if event.anchor:
            self.anchors[event.anchor] = None
        node = self.untagged(event, depth)
        if event.anchor:
            self.anchors[event.anchor], self.sizes[event.anchor] = node, self.count - before + 1
        return node

    def untagged(self, event: yaml.Event, depth: int) -> Node:
        if event.tag is not None:
            help = "put text that begins with '!' in quotes"
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.report(event, f"tags are not allowed: {shown(tag)}", help, Code.TAG)
        place = self.lines.place(event.start_mark.index)
        match event:
            case yaml.ScalarEvent():
                return self.scalar(event, place)
            case yaml.SequenceStartEvent():
                return Node(tuple(self.items(depth)), place)
            case _:
                return Node(self.entries(depth), place)

    def scalar(self, event: yaml.ScalarEvent, place: Place) -> Node:
        plain = event.style is None
        if any("\ud800" <= c <= "\udfff" or c == "\0" for c in event.value):
            self.report(event, "the text holds a character that is none (NUL or half of a pair)", None, Code.CHARACTERS)
            return Node("", place)
        if plain and event.value in BLANK:
            return Node(None, place)
        cut = plain and re.compile(r"[ \t]+#").match(self.text, event.end_mark.index) is not None
        return Node(event.value, place, cut=cut)

    def items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            yield self.node(event, depth + 1)

    def entries(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            self.entry(event, depth, found)
        return found

    def entry(self, event: yaml.Event, depth: int, found: dict[str, Node]) -> None:
        key = self.node(event, depth + 1)
        value = self.node(next(self.events), depth + 1)
        word = key.value if isinstance(event, yaml.ScalarEvent) else None
        if not isinstance(word, str) or not word:
            help = "text with braces, brackets or a leading '?' needs quotes"
            self.report(event, "a key that is not a word", help, Code.BAD_KEY)
        elif word == "<<" and getattr(event, "style", None) is None:
            self.report(event, "merge keys are not read", "a file builds on another by `extends:`", Code.BAD_KEY)
        elif word in found:
            first = (found[word].key or found[word].place).line
            self.report(event, f"duplicate key {shown(word)}", f"first set on line {first}", Code.DUPLICATE)
        else:
            found[word] = Node(value.value, value.place, key.place, value.cut)

    def alias(self, event: yaml.AliasEvent) -> Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            what = "stands inside its own anchor" if event.anchor in self.anchors else "has no anchor"
            self.report(event, f"the alias '*{event.anchor}' {what}", None, Code.ALIAS)
            return Node(None, self.lines.place(event.start_mark.index))
        self.spend(event, self.sizes[event.anchor])
        return node

    def spend(self, event: yaml.Event, nodes: int) -> None:
        self.count += nodes
        if self.count > MAX_NODES:
            message = f"more than {MAX_NODES:,} values, aliases written out"
            self.stop(event.start_mark.index, message, None, Code.TOO_DEEP)

    def report(self, event: yaml.Event, message: str, help: str | None, code: Code) -> None:
        self.problems.append(Problem(self.lines.place(event.start_mark.index), message, help, code))

    def stop(self, index: int, message: str, help: str | None, code: Code) -> None:
        self.problems.append(Problem(self.lines.place(index), message, help, code))
        raise _Stop


# What PyYAML says, and what a user can do about it.
_ADVICE = {
    "mapping values are not allowed": "text with a colon and a space needs quotes",
    "'\\t'": "indent with spaces, not tabs",
    "cannot start any token": "text that begins with this character needs quotes",
    "found unexpected end of stream": "a quote is not closed",
    "expected ',' or": "a bracket or brace is not closed, or text inside one needs quotes",
    "found unknown escape character": "in double quotes a backslash is written \\\\; single quotes keep it as it is",
    "could not find expected ':'": "a key needs a colon behind it, and text over several lines needs quotes",
    "expected <block end>": "the indentation does not fit the lines above",
    "expected alphabetic or numeric": "text that begins with '*' or '&' needs quotes",
}


def _syntax(error: yaml.YAMLError, lines: Lines) -> Problem:
    marks = [getattr(error, name, None) for name in ("problem_mark", "context_mark")]
    if "end of stream" in (getattr(error, "problem", None) or ""):
        marks.reverse()  # where a quote was opened says more than the end of the file
    mark = marks[0] or marks[1]
    what = " ".join(part for part in (getattr(error, "context", None), getattr(error, "problem", None)) if part)
    place = lines.place(mark.index if mark else 0)
    help = next((advice for words, advice in _ADVICE.items() if words in what), None)
    return Problem(place, f"not YAML: {what or error}", help, Code.NOT_YAML)
