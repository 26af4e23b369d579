"""The two sides of a comparison: which run folders are meant, and what differs in their manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steer.errors import UsageError

EACH_RUN_ITS_OWN = (
    "run_id", "created", "finished", "command", "timings", "peak_memory_bytes", "outputs", "tables", "counts",
    "checksum", "fresh", "taken_from", "identity", "experiment_hash", "experiment_path", "hooks", "question",
    "snapshots", "shard", "merged",
)  # fmt: skip
"""Keys that differ between any two runs, or that only repeat what other keys say."""

FIRST = (
    "status", "partial", "shortcuts", "model", "transcoder", "device", "dtype", "packages", "machine", "git", "seeds",
    "experiment",
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One field of the manifests, `experiment.conditions.clamped.freeze.norms`; None where a side lacks it."""

    key: str
    old: Any
    new: Any


def find_sides(old: str, new: str, results: Path, name: str | None) -> tuple[Path, Path]:
    """The two run folders; raises `UsageError` with everything that is missing and what there is.

    A side is the path of a run folder, or `latest` (`<results>/<name>/latest`) or `reference`
    (`<results>/reference/<name>`); the name may be left out where there is only one.
    """
    missing: list[str] = []
    found: list[Path] = []
    for word in (old, new):
        try:
            found.append(_side(word, results, name))
        except UsageError as error:
            missing.append(str(error))
    if missing:
        there = ", ".join(map(str, runs_there(results))) or "nothing"
        raise UsageError("\n".join([*dict.fromkeys(missing), f"under {results} there is: {there}"]))
    return found[0], found[1]


def _side(word: str, results: Path, name: str | None) -> Path:
    folder = _named(word, results, name) if word in ("latest", "reference") else Path(word)
    try:
        found = folder.is_dir()
    except OSError as error:  # a name that no folder can have
        raise UsageError(f"{word[:60]}: {error.strerror}") from None
    if not found:
        raise UsageError(f"{folder}: no such run folder")
    if not (folder / "manifest.json").is_file():
        raise UsageError(f"{folder}: not a run folder, it has no manifest.json")
    return folder


def _named(word: str, results: Path, name: str | None) -> Path:
    """`latest` or `reference` of an experiment."""
    if name is not None:
        return results / name / "latest" if word == "latest" else results / "reference" / name
    candidates = [run for run in runs_there(results) if (run.name == "latest") == (word == "latest")]
    if len(candidates) != 1:
        which = "no experiment has one" if not candidates else f"{len(candidates)} experiments have one, say --name"
        raise UsageError(f"{word}: {which}")
    return candidates[0]


def runs_there(results: Path) -> list[Path]:
    """Every `latest` and every reference run of a results folder."""
    found = [*sorted(results.glob("*/latest")), *sorted(results.glob("reference/*"))]
    return [path for path in found if (path / "manifest.json").is_file()]


# --- manifests ----------------------------------------------------------------------------------------------------


def manifest_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """The fields that differ: what the run was made with, then the experiment; never what each run has of its own."""
    before, after = fields(old), fields(new)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return tuple(Change(key, before.get(key), after.get(key)) for key in sorted(keys, key=_place))


def _place(key: str) -> tuple[int, str]:
    section = key.split(".")[0].split("[")[0]
    return (FIRST.index(section) if section in FIRST else len(FIRST), key)


def fields(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest as one value per dotted key; empty lists and mappings have none.

    Members of a list are named by their `id` where they have one, so that an inserted expectation is one change.
    """
    kept = {key: value for key, value in manifest.items() if key not in EACH_RUN_ITS_OWN}
    return dict(_leaves("", kept))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case dict():
            for key, inner in value.items():
                yield from _leaves(f"{path}.{key}" if path else str(key), inner)
        case [*members] if all(isinstance(member, dict) for member in members):
            for number, member in enumerate(members):
                yield from _leaves(f"{path}[{member.get('id', number)}]", member)
        case _:
            yield path, value
