"""The trial key: what a trial means, resolved, and what it runs on; no names.

Equal keys may share a result; unequal ones never do. A key is a row of hashes, one for each part of the meaning, so
that two keys also say in what they differ. Left out is what moves a result by less than the batch-shape law allows
(1e-4 in float32 logits): which trials share a batch, and on how many threads it ran.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from torch import Tensor

from steer.execution.readings import Pieces, Reading, named_tokens
from steer.experiment.spec import FeatureActivation, GroupActivation, Measurement
from steer.experiment.trial import Trial
from steer.intervention.edits import Along, Edit, Push
from steer.intervention.positions import Positions
from steer.intervention.rows import Groups, Row, members_of
from steer.model.generation import Sampling

ENGINE = 2  # raised by hand when numerics change
PARTS = {
    "engine": "steer computes it differently",
    "packages": "another version of torch, transformers or tokenizers",
    "device": "another device, dtype or kind of attention",
    "model": "other model weights",
    "tokenizer": "another tokenizer",
    "transcoder": "other transcoder weights",
    "prompt": "other prompt tokens",
    "edits": "other edits (features, values, positions, freezing, a control's draw)",
    "generation": "other generation settings",
    "seed": "another seed",
    "reading": "logits read at other positions, or other target tokens",
}
"""The parts of a key, and what it means that one of them differs."""


@dataclass(frozen=True)
class Environment:
    """What a number depends on besides the trial."""

    model: str
    tokenizer: str
    transcoder: str
    statistics: str | None
    dtype: str
    attention: str
    device: str
    packages: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TrialKey:
    """`text` is the hash of each part, in the order of `PARTS`; `measured` what each measurement reads, by name."""

    text: str
    measured: Mapping[str, str]


class Keys:
    """The keys of a run's trials; what many of them share is hashed once."""

    def __init__(self, environment: Environment, sampling: Sampling | None, pieces: Pieces, groups: Groups) -> None:
        self.pieces, self.groups = pieces, groups
        self.random = sampling is not None and sampling.temperature > 0
        parts: dict[str, Any] = {
            "engine": ENGINE,
            "packages": environment.packages,
            "device": [environment.device, environment.dtype, environment.attention],
            "model": environment.model,
            "tokenizer": environment.tokenizer,
            "transcoder": environment.transcoder,
            "generation": None if sampling is None else asdict(sampling),
        }
        self.run = {part: _hash(value) for part, value in parts.items()}
        self._read, self._measured = cache(self._hashes_of), cache(self._measured_by)

    def of(self, trial: Trial, row: Row, reading: Reading) -> TrialKey:
        """The key of a trial whose row is resolved."""
        seed = trial.seed if self.random else None
        own = {"edits": _hash(_edits(row)), "seed": _hash(seed)}
        hashes = {**self.run, **self._read(reading, trial.control == "none"), **own}
        assert hashes.keys() == PARTS.keys()
        return TrialKey(" ".join(hashes[part] for part in PARTS), self._measured(reading))

    def _hashes_of(self, reading: Reading, everything: bool) -> Mapping[str, str]:
        named = list(named_tokens(reading, self.pieces).items())
        return {"prompt": _hash(reading.ids), "reading": _hash([named, everything])}

    def _measured_by(self, reading: Reading) -> Mapping[str, str]:
        measurements = reading.measurements.items()
        return {name: _hash(_measurement(m, reading, self.pieces, self.groups)) for name, m in measurements}


def differing(key: str, other: str) -> tuple[str, ...]:
    """The parts in which two keys differ."""
    pairs = zip(PARTS, key.split(), other.split(), strict=True)
    return tuple(part for part, one, another in pairs if one != another)


def _measurement(measurement: Measurement, reading: Reading, pieces: Pieces, groups: Groups) -> dict[str, Any]:
    """What is measured, with words as tokens, positions as numbers and groups as features."""
    found: dict[str, Any] = measurement.model_dump(mode="json", exclude={"where", "position", "feature"})
    found["positions"] = _positions(reading.of(measurement))
    for side in {"target", "foil"} & found.keys():
        words = found[side]
        found[side] = [pieces(word) for word in ([words] if isinstance(words, str) else words)]
    if isinstance(measurement, FeatureActivation | GroupActivation):
        found["features"] = [[member.layer, member.index] for member in members_of(measurement.feature, groups)]
    return found


def _edits(row: Row) -> list[Any]:
    return [
        [_edit(edit) for edit in row.edits],
        [_push(push) for push in row.pushes],
        [row.freeze_attention, row.freeze_norms],
        [row.constrained.start, row.constrained.stop] if row.constrained else [],
    ]


def _edit(edit: Edit) -> list[Any]:
    what = [edit.intervention, edit.layer, edit.index, edit.role, edit.factor, edit.value, edit.level]
    return [*what, _positions(edit.positions), _along(edit.along)]


def _along(along: Along) -> list[Any]:
    return [along.index, None if along.vector is None else _numbers(along.vector), along.norm]


def _push(push: Push) -> list[Any]:
    what = [push.intervention, push.layer, push.index, push.coefficient, push.relative]
    return [*what, _numbers(push.vector), _positions(push.positions)]


def _positions(positions: Positions | None) -> list[Any]:
    return [] if positions is None else [positions.prompt, positions.generated, positions.onwards]


def _numbers(vector: Tensor) -> str:
    return hashlib.sha256(vector.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def _hash(value: Any) -> str:
    """16 hex digits of sha256 over canonical JSON: 8 and 8.0 are one number where the schema says number."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
