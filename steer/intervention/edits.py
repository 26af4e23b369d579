"""What an intervention does to a feature: all six ops on this page.

Every op on a feature is affine in the feature's own activation `a`:

    a' = factor * a + value * level

where `level` is 1, or (units `own_act` and `source_act`) an activation of the baseline at that position. The MLP
output then moves along one vector and nowhere else, mlp_out += (a' - a) * W_dec[f]. That is decode(edited) -
decode(original): reconstruction error, `b_dec` and skip term stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import assert_never

from steer.experiment.spec import Ablate, Add, Clamp, Scale, Swap
from steer.intervention.positions import Positions

FeatureOp = Clamp | Scale | Add | Ablate | Swap
Role = Literal["feature", "from", "to"]
Level = Literal["one", "own", "source"]


@dataclass(frozen=True)
class Along:
    """The vector a change is written along: `W_dec[index]` of the layer, or the `vector`, scaled to `norm` if given."""

    index: int | None
    vector: Tensor | None = None
    norm: float | None = None


@dataclass(frozen=True)
class Edit:
    """One feature of one row: a' = factor * a + value * level at the positions, written along a vector."""

    intervention: int
    role: Role
    group: str
    layer: int
    index: int
    factor: float
    value: float
    level: Level
    positions: Positions
    along: Along


@dataclass(frozen=True)
class Push:
    """`steer`: residual stream += coefficient * vector; with `relative`, in units of the stream's norm there."""

    intervention: int
    group: str
    layer: int
    index: int | None
    vector: Tensor
    coefficient: float
    relative: bool
    positions: Positions


def affine(intervention: FeatureOp, role: Role, value: float) -> tuple[float, float]:
    """(factor, value) of an op for one member; `value` is the op's own number times the member's constants."""
    match intervention:
        case Clamp():
            return 0.0, value
        case Scale(factor=factor):
            return float(factor), 0.0
        case Add():
            return 1.0, value
        case Ablate():
            return 0.0, value
        case Swap(from_factor=factor):
            return (float(factor), 0.0) if role == "from" else (0.0, value)
        case _:
            assert_never(intervention)


def edited(
    activation: Float[Tensor, "batch slot pos"],
    factor: Float[Tensor, "batch slot"],
    value: Float[Tensor, "batch slot"],
    level: Float[Tensor, "batch slot pos"],
) -> Float[Tensor, "batch slot pos"]:
    """a' of every slot."""
    return factor[..., None] * activation + value[..., None] * level


def change(
    difference: Float[Tensor, "batch slot pos"], along: Float[Tensor, "batch slot d_model"]
) -> Float[Tensor, "batch pos d_model"]:
    """What is added to the MLP output: each slot's a' - a along its vector, summed over the slots."""
    return difference.mT @ along


def pushed(
    residual: Float[Tensor, "batch pos d_model"],
    vector: Float[Tensor, "batch push d_model"],
    coefficient: Float[Tensor, "batch push pos"],
    relative: Float[Tensor, "batch push"],
) -> Float[Tensor, "batch push pos"]:
    """The multiple of each vector that is added: the coefficient, or the coefficient times |residual| / |vector|."""
    ratio = residual.norm(dim=-1)[:, None] / vector.norm(dim=-1)[..., None]
    return coefficient * torch.where(relative[..., None] > 0, ratio, torch.ones_like(ratio))
