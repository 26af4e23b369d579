"""Recorded values beside the experiment: `golden_gate.snapshot.json` for `golden_gate.yaml`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steer.analysis.expectations import Verdict
from steer.errors import ResultsError

ENVIRONMENT = ("model", "transcoder", "device", "dtype", "packages")


def snapshot_path(experiment: Path) -> Path:
    """Where the recorded values of an experiment file are kept."""
    return experiment.with_suffix(".snapshot.json")


def read_snapshot(path: Path) -> dict[str, float]:
    """The recorded values by verdict id; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text("utf-8"))["values"]
        return {name: float(entry["estimate"]) for name, entry in values.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(f"{path}: not a snapshot file: {error}") from error


def recorded_bounds(verdicts: Path) -> dict[str, float]:
    """The values an earlier analysis of this run was judged against, for a folder copied away from its experiment."""
    if not verdicts.is_file():
        return {}
    entries = json.loads(verdicts.read_text("utf-8"))
    return {entry["id"]: entry["bound"]["snapshot"] for entry in entries if "snapshot" in entry["bound"]}


def snapshot_text(manifest: Mapping[str, Any], verdicts: Sequence[Verdict], names: frozenset[str]) -> str:
    """The text of a snapshot file: the estimates of the named verdicts, sorted, with what they were taken on."""
    values = {v.id: {"estimate": v.estimate, "n": v.n} for v in verdicts if v.id in names and v.estimate is not None}
    taken_on = {key: manifest[key] for key in ENVIRONMENT if key in manifest}
    content = {"taken_on": taken_on, "values": values}
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
