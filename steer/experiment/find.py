"""Which files of a folder are experiments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from steer.errors import UsageError

SUFFIXES = (".yaml", ".yml")
TELLING = frozenset({"transcoder", "extends", "conditions", "measurements", "expectations"})
READ = 1_000_000
MARGIN_KEY = re.compile(r"""(?m)^(["']?)(\w+)\1[ \t]*:(?=\s|$)""")


@dataclass(frozen=True)
class Found:
    """Experiment files in order, and files that have parts of one but no name: bases that others extend."""

    files: tuple[Path, ...]
    unnamed: tuple[Path, ...]


def experiment_files(given: Iterable[Path]) -> Found:
    """Files as they are given, folders searched with all that lies below them; each file once. UsageError.

    Whatever is given by name counts as an experiment; in a folder `is_experiment` decides. What begins with a dot is
    left alone, and so are links to folders.
    """
    files: list[Path] = []
    unnamed: list[Path] = []
    for path in given:
        keys = {file: margin_keys(file) for file in _yaml_below(path)} if path.is_dir() else {path: None}
        here = [file for file, words in keys.items() if words is None or _tells(words)]
        unnamed += [file for file, words in keys.items() if words and words & TELLING and "name" not in words]
        if not here:
            raise UsageError(
                f"{path}: no experiment in it: no YAML file with `name:` and {_words()} at its left margin"
            )
        files += here
    return Found(tuple({os.path.realpath(file): file for file in reversed(files)}.values())[::-1], tuple(unnamed))


def is_experiment(path: Path) -> bool:
    """Whether a YAML file is an experiment: keys at its left margin are `name` and one that only experiments have.

    Told by the text alone, so that a file which is broken further on is an error and not overlooked. A base for
    `extends` leaves the `name` to the files that build on it.
    """
    return path.suffix in SUFFIXES and _tells(margin_keys(path))


def margin_keys(path: Path) -> frozenset[str] | None:
    """The words in front of a colon at the left margin, as far as `READ` bytes go; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(READ).decode("utf-8-sig", errors="replace")
    except OSError:
        return None  # reading it as an experiment says why
    return frozenset(match[2] for match in MARGIN_KEY.finditer(text.replace("\r", "\n")))


def _tells(words: frozenset[str] | None) -> bool:
    return words is None or ("name" in words and not TELLING.isdisjoint(words))


def _words() -> str:
    *first, last = (f"`{word}:`" for word in sorted(TELLING))
    return f"{', '.join(first)} or {last}"


def _yaml_below(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, n) for n in sorted(names) if n.endswith(SUFFIXES) and not n.startswith("."))
