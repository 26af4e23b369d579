"""Which files an experiment may read: those under its project's root."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from steer.experiment.problems import Code, Place, Problem, listing, suggestion

MARKS = ("pyproject.toml", ".git")


@dataclass(frozen=True)
class Refused:
    """Why a path is not read."""

    message: str
    help: str | None = None
    code: Code = Code.OUTSIDE

    def at(self, place: Place) -> Problem:
        return Problem(place, self.message, self.help, self.code)


def project_root(path: Path) -> Path:
    """The nearest folder above the file with a pyproject.toml or .git, else the file's own folder."""
    folder = Path(os.path.realpath(path)).parent
    marked = (above for above in (folder, *folder.parents) if any((above / mark).exists() for mark in MARKS))
    return next(marked, folder)


def find(written: str, folder: Path, root: Path) -> Path | Refused:
    """A file by its path relative to a folder; refused unless it is a file under the root, wherever links lead."""
    if not written.isprintable() or not written.strip():
        return Refused("a path without text, or with control characters")
    if Path(written).is_absolute():
        return Refused(f"the path is absolute: {written}", "write it relative to the experiment's folder")
    try:
        real = Path(os.path.realpath(folder / written))
        if not real.is_relative_to(root):
            help = "files lie under its root, the nearest folder with a pyproject.toml or .git"
            return Refused(f"'{written}' leads out of the project", help)
        if not real.is_file():
            return _missing(written, real)
    except (OSError, ValueError) as error:
        return Refused(f"'{written}' cannot be read: {error}", None, Code.UNREADABLE)
    return folder / written


def _missing(written: str, real: Path) -> Refused:
    if real.exists():
        return Refused(f"'{written}' is not a file", None, Code.UNREADABLE)
    folder = real.parent
    there = sorted(path.name for path in folder.iterdir() if path.suffix == real.suffix) if folder.is_dir() else []
    stems = {Path(name).stem: name for name in there}
    meant = stems.get(suggestion(real.stem, stems) or "")
    help = f"did you mean '{meant}'?" if meant else f"in that folder: {listing(there, 8)}" if there else None
    return Refused(f"there is no file '{written}'", help, Code.UNREADABLE)
