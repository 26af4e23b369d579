"""A batch of rows becomes (hook name, hook) pairs: edits, pushes, freezing, constraining, and what was applied.

One pass covers some columns of the batch (the whole prompt, then a column a step); `at` says which before it runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.intervention.edits import change, edited, pushed
from steer.intervention.records import Record
from steer.intervention.reference import HookFunction, Hooks, Reference
from steer.intervention.rows import Row
from steer.intervention.slots import Layout, baseline_levels, kept, stack_pushes, stack_slots
from steer.transcoder.transcoder import Transcoders


class Editing:
    """The hooks of one batch, and the record of what they did.

    `reference` has one row per row of the batch and covers the columns up to `held`: over these, freezing and
    constraining hold what they hold, and baseline units are known.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        layout: Layout,
        transcoders: Transcoders,
        reference: Reference,
        n_layers: int,
        device: torch.device,
    ) -> None:
        self.layout = layout
        self.reads, self.writes, self.n_layers = transcoders.reads, transcoders.writes, n_layers
        self.slots = {slots.layer: slots for slots in stack_slots(rows, layout, transcoders, device)}
        self.pushes = {pushes.layer: pushes for pushes in stack_pushes(rows, layout, device)}
        self.records = {layer: Record(*self._lengths(layer, len(rows), device)) for layer in self.layers}
        self.reference = reference
        self.frozen = _flags((row.freeze_attention for row in rows), device)
        self.norms_held = _flags((row.freeze_norms for row in rows), device)
        self.constrained = {
            layer: _flags((layer in row.constrained for row in rows), device) for layer in reference.mlp_out
        }
        self.rows = torch.arange(len(rows), device=device)
        self.columns = slice(0, layout.width)
        self.fired: Counter[str] = Counter()
        self._activation: dict[int, Tensor] = {}
        self._change: dict[int, Tensor] = {}
        self.relative = any(bool((slots.own | slots.source).any()) for slots in self.slots.values())
        if self.relative:
            self.measure_levels(reference.reads, slice(0, next(iter(reference.reads.values())).shape[1]))

    @property
    def layers(self) -> list[int]:
        return sorted({*self.slots, *self.pushes})

    def hooks(self) -> Hooks:
        """The pairs for `LanguageModel.hooked`, in the order in which they have to run."""
        pairs: Hooks = []
        for layer in sorted({*self.layers, *self.constrained}):
            block = f"blocks.{layer}"
            if layer in self.slots:
                pairs.append((f"{block}.{self.reads}", partial(self._read, layer)))
            if layer in self.slots or layer in self.constrained:
                pairs.append((f"{block}.{self.writes}", partial(self._write, layer)))
            if layer in self.layers:
                pairs.append((f"{block}.hook_resid_post", partial(self._push, layer)))
        for held, which in ((self.reference.patterns, self.frozen), (self.reference.scales, self.norms_held)):
            pairs += [(name, partial(self._hold, values, which)) for name, values in held.items()]
        return [(name, self._counted(name, hook)) for name, hook in pairs]

    def at(self, columns: slice) -> None:
        """The columns that the next pass covers."""
        self.columns = columns

    def keep(self, index: Int[Tensor, " kept"]) -> None:
        """Only these rows go on; freezing and constraining hold over the prompt and end with it."""
        self.rows = self.rows[index]
        self.slots = {layer: kept(slots, index) for layer, slots in self.slots.items()}
        self.pushes = {layer: kept(pushes, index) for layer, pushes in self.pushes.items()}

    def measure_levels(self, reads: dict[int, Float[Tensor, "batch pos d_model"]], columns: slice) -> None:
        """Take the levels of some columns from what the unedited model reads there."""
        slots = [slots for layer, slots in self.slots.items() if layer in reads]
        for layer, level in zip(slots, baseline_levels(slots, reads), strict=True):
            layer.level[..., columns] = level

    # --- hooks ------------------------------------------------------------------------------------------------

    def _read(self, layer: int, x: Tensor, hook: Any) -> None:
        slots = self.slots[layer]
        activation = slots.activations(x.float())
        if layer in self.constrained and layer in self.reference.reads and self._in_prompt():
            baseline = slots.activations(self.reference.reads[layer].float())
            activation = _where(self.constrained[layer], self._held(activation, baseline, dim=-1), activation)
        self._activation[layer] = activation

    def _write(self, layer: int, mlp_out: Tensor, hook: Any) -> Tensor:
        out = mlp_out.float()
        if layer in self.constrained and self._in_prompt():
            held = self._held(out, self.reference.mlp_out[layer].float(), dim=1)
            out = _where(self.constrained[layer], held, out)
        if layer not in self.slots:
            return out.to(mlp_out.dtype)
        slots, activation = self.slots[layer], self._activation.pop(layer)
        level, acts = slots.level[..., self.columns], slots.acts[..., self.columns]
        if self.relative:
            acts = acts & ~level.isnan()
        after = torch.where(acts, edited(activation, slots.factor, slots.value, level), activation)
        moved = change(after - activation, slots.along)
        self._change[layer] = moved
        self.records[layer].edits(self.rows, self.columns, acts, activation, after)
        return (out + moved).to(mlp_out.dtype)

    def _push(self, layer: int, residual: Tensor, hook: Any) -> Tensor | None:
        stream = residual.float()
        moved = self._change.pop(layer, torch.zeros_like(stream))
        before = stream - moved
        if layer not in self.pushes:
            self.records[layer].stream(self.rows, self.columns, before, moved)
            return None
        pushes = self.pushes[layer]
        multiple = pushed(stream, pushes.vector, pushes.coefficient[..., self.columns], pushes.relative)
        push = change(multiple, pushes.vector)
        self.records[layer].pushes(self.rows, self.columns, multiple)
        self.records[layer].stream(self.rows, self.columns, before, moved + push)
        return (stream + push).to(residual.dtype)

    def _hold(self, values: Tensor, which: Tensor, activation: Tensor, hook: Any) -> Tensor | None:
        """Attention patterns or norm scales of the prompt's columns, as they were in the baseline."""
        if not self._in_prompt():
            return None
        held = activation.clone()
        n = self.layout.width
        if values.dim() == 4:
            held[:, :, :n, :n] = values[:, :, :n, :n]
        else:
            held[:, :n] = values[:, :n]
        return _where(which, held, activation)

    # --- pieces -----------------------------------------------------------------------------------------------

    def _in_prompt(self) -> bool:
        return self.columns.start < self.layout.width

    def _held(self, live: Tensor, baseline: Tensor, dim: int) -> Tensor:
        """The baseline's values over the prompt, live ones after it."""
        n = self.layout.width
        return torch.cat([baseline.narrow(dim, 0, n), live.narrow(dim, n, live.shape[dim] - n)], dim)

    def _lengths(self, layer: int, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """How long the vectors of a layer's slots and pushes are."""
        slots, pushes = self.slots.get(layer), self.pushes.get(layer)
        none = torch.empty(batch, 0, device=device)
        return (
            none if slots is None else slots.along.norm(dim=-1),
            none if pushes is None else pushes.vector.norm(dim=-1),
        )

    def _counted(self, name: str, hook: HookFunction) -> HookFunction:
        def counted(activation: Tensor, point: Any) -> Tensor | None:
            self.fired[name] += 1
            return hook(activation, point)

        return counted


def _flags(values: Iterable[bool], device: torch.device) -> Bool[Tensor, " batch"]:
    return torch.tensor(list(values), dtype=torch.bool, device=device)


def _where(rows: Bool[Tensor, " batch"], chosen: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (chosen.dim() - 1)), chosen, otherwise)
