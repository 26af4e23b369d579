"""The unedited model on the same tokens: what units, freezing and constraining compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from steer.intervention.rows import Row

HookFunction = Callable[[Tensor, Any], Tensor | None]
Hooks = list[tuple[str, HookFunction]]


@dataclass(frozen=True)
class Wanted:
    """What has to be kept of an unedited pass; `streams` are for rows that start where they change something."""

    reads: frozenset[int] = frozenset()
    mlp_out: frozenset[int] = frozenset()
    streams: frozenset[int] = frozenset()
    patterns: bool = False
    scales: bool = False

    @classmethod
    def by(cls, rows: Iterable[Row], n_layers: int, resumed: bool) -> Wanted:
        """What the rows of a batch need; with `resumed`, also what it takes to start in the middle of the model."""
        rows = list(rows)
        relative = {e.layer for row in rows if any(e.level != "one" for e in row.edits) for e in row.edits}
        held = {layer for row in rows for layer in row.constrained if layer < n_layers}
        constrained = {e.layer for row in rows for e in row.edits if e.layer in row.constrained}
        edited = {e.layer for row in rows for e in row.edits} if resumed else set()
        changed = edited | {push.layer for row in rows for push in row.pushes} if resumed else set()
        return cls(
            reads=frozenset(relative | constrained | edited),
            mlp_out=frozenset(held),
            streams=frozenset({*changed, *(layer - 1 for layer in changed)}) - {-1},
            patterns=any(row.freeze_attention for row in rows),
            scales=any(row.freeze_norms for row in rows),
        )


@dataclass
class Reference:
    """What an unedited pass did with each of its texts.

    Transcoder inputs, MLP outputs and the residual streams that leave a block by layer; patterns and norm scales by
    hook name.
    """

    reads: dict[int, Float[Tensor, "text pos d_model"]] = field(default_factory=dict)
    mlp_out: dict[int, Float[Tensor, "text pos d_model"]] = field(default_factory=dict)
    streams: dict[int, Float[Tensor, "text pos d_model"]] = field(default_factory=dict)
    patterns: dict[str, Float[Tensor, "text head pos pos"]] = field(default_factory=dict)
    scales: dict[str, Float[Tensor, "text pos 1"]] = field(default_factory=dict)


def norm_points(n_layers: int, hook_points: Iterable[str]) -> list[str]:
    """The norms of the residual stream that this model has."""
    names = [f"blocks.{layer}.{norm}.hook_scale" for layer in range(n_layers) for norm in ("ln1", "ln2")]
    known = set(hook_points)
    return [name for name in (*names, "ln_final.hook_scale") if name in known]


def capture(wanted: Wanted, reads: str, mlp_out: str, n_layers: int, norms: Iterable[str]) -> tuple[Reference, Hooks]:
    """A `Reference` that the hooks fill while the unedited model runs."""
    reference = Reference()
    hooks: Hooks = [(f"blocks.{layer}.{reads}", partial(_keep, reference.reads, layer)) for layer in wanted.reads]
    hooks += [(f"blocks.{layer}.{mlp_out}", partial(_keep, reference.mlp_out, layer)) for layer in wanted.mlp_out]
    hooks += [(f"blocks.{layer}.hook_resid_post", partial(_keep, reference.streams, layer)) for layer in wanted.streams]
    if wanted.patterns:
        names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(n_layers)]
        hooks += [(name, partial(_keep, reference.patterns, name)) for name in names]
    if wanted.scales:
        hooks += [(name, partial(_keep, reference.scales, name)) for name in norms]
    return reference, hooks


def _keep(store: dict[Any, Tensor], name: Any, activation: Tensor, hook: Any) -> None:
    store[name] = activation.clone()  # some models go on to add to it in place (Falcon)
