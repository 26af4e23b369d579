"""The trial key: a hash over what a trial means, resolved, and over what it runs on; no names.

Equal keys may share a result; unequal ones never do. Batch composition is left out: it moves logits by less than the
batch-shape law allows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from steer.experiment.spec import Measurement
from steer.intervention.edits import Along, Edit, Push
from steer.intervention.rows import Row
from steer.model.generation import Sampling

VERSION = 1
ENGINE = 1  # raised by hand when numerics change


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


def trial_key(
    environment: Environment,
    ids: Sequence[int],
    row: Row,
    sampling: Sampling | None,
    seed: int,
    measurements: Mapping[str, Measurement],
) -> str:
    """64 hex digits."""
    meaning = {
        "version": VERSION,
        "engine": ENGINE,
        "environment": asdict(environment),
        "ids": list(ids),
        "edits": [_edit(edit) for edit in row.edits],
        "pushes": [_push(push) for push in row.pushes],
        "frozen": [row.freeze_attention, row.freeze_norms],
        "constrained": [row.constrained.start, row.constrained.stop],
        "sampling": None if sampling is None else asdict(sampling),
        "seed": seed,
        "measurements": {name: m.model_dump(mode="json") for name, m in sorted(measurements.items())},
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _edit(edit: Edit) -> list[Any]:
    positions = [edit.positions.prompt, edit.positions.generated, edit.positions.onwards]
    return [edit.layer, edit.index, edit.role, edit.factor, edit.value, edit.level, positions, _along(edit.along)]


def _along(along: Along) -> list[Any]:
    return [along.index, None if along.vector is None else _digest(along.vector), along.norm]


def _push(push: Push) -> list[Any]:
    positions = [push.positions.prompt, push.positions.generated, push.positions.onwards]
    return [push.layer, _digest(push.vector), push.coefficient, push.relative, positions]


def _digest(vector: Tensor) -> str:
    return hashlib.sha256(vector.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
