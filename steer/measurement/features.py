"""Measurements on watched features: one number for each row of `[... members]` activations."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def feature_activation(activations: Float[Tensor, "*n members"]) -> Float[Tensor, "*n"]:
    """Mean activation over the members of the group."""
    return activations.double().mean(dim=-1)


def group_activation(activations: Float[Tensor, "*n members"]) -> Float[Tensor, "*n"]:
    """Sum of the members' activations.

    "The group falls to 18 %" in circuit papers is this number intervened over baseline (`of: ratio`); source:
    Lindsey et al. 2025, "On the Biology of a Large Language Model".
    """
    return activations.double().sum(dim=-1)
