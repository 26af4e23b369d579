"""What a trial leaves in the journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from steer.execution.trial_key import TrialKey
from steer.intervention.records import Applied, AppliedEdit
from steer.measurement.measure import Measured
from steer.measurement.shifts import Shift
from steer.model.generation import Completion

NO_KEY = TrialKey("", {})  # of a trial that could not be resolved


class PlacedShift(NamedTuple):
    """A logit shift and the position it was read at."""

    position: int
    shift: Shift


@dataclass(frozen=True)
class Outcome:
    """One finished trial; `error` says why a failed one has nothing else, `origin` from which run it was taken over."""

    trial_id: str
    key: TrialKey
    status: Literal["ok", "failed"]
    applied: Applied
    values: Mapping[str, Measured]
    completion: Completion | None = None
    nll: float | None = None
    shifts: tuple[PlacedShift, ...] = ()
    error: str | None = None
    origin: str = ""

    @classmethod
    def failed(cls, trial_id: str, error: str, key: TrialKey = NO_KEY) -> Outcome:
        return cls(trial_id, key, "failed", Applied(0, 0.0, ()), {}, error=error)

    def record(self) -> dict[str, Any]:
        """As it is written, in the journal's order; floats keep seven digits, which is what float32 holds."""
        return {
            "trial_id": self.trial_id,
            "status": self.status,
            "origin": self.origin,
            "key": self.key.text,
            "measured": dict(self.key.measured),
            "error": self.error,
            "applied": self.applied.pairs,
            "relative_norm": self.applied.relative_norm,
            "values": {name: list(pair) for name, pair in self.values.items()},
            "completion": None if self.completion is None else vars(self.completion),
            "nll": self.nll,
            "edits": [_short(edit) for edit in self.applied.edits],
            "shifts": [_short((placed.position, *placed.shift)) for placed in self.shifts],
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Outcome:
        """The inverse of `record`."""
        edits = tuple(map(AppliedEdit._make, record["edits"]))
        said = record["completion"]
        return cls(
            trial_id=record["trial_id"],
            key=TrialKey(record["key"], record["measured"]),
            status=record["status"],
            origin=record["origin"],
            error=record["error"],
            applied=Applied(record["applied"], record["relative_norm"], edits),
            values={name: Measured(*pair) for name, pair in record["values"].items()},
            completion=None
            if said is None
            else Completion(ids=tuple(said["ids"]), text=said["text"], stop_reason=said["stop_reason"]),
            nll=record["nll"],
            shifts=tuple(PlacedShift(shift[0], Shift._make(shift[1:])) for shift in record["shifts"]),
        )


def _short(row: Iterable[Any]) -> list[Any]:
    return [float(f"{value:.7g}") if isinstance(value, float) else value for value in row]
