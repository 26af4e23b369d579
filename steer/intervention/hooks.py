"""A batch of rows becomes (hook name, hook) pairs: edits, pushes, freezing, constraining, and what was applied.

A feature is read once, in its layer, and its change is added to what the layer writes; a feature of a cross-layer
transcoder (CLT) is read once, too, and changes what its layer and every later one writes.
One pass covers some rows and columns of the batch (`among`); a decode step moves on to the next column (`at`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.intervention.columns import NOBODY, Columns
from steer.intervention.edits import change, edited, pushed
from steer.intervention.records import Record
from steer.intervention.reference import HookFunction, Hooks, Reference
from steer.intervention.rows import Row
from steer.intervention.slots import Layout, Slots, baseline_levels, kept, moved, stack_pushes, stack_slots
from steer.transcoder.transcoder import HEADS, Transcoders


class Editing:
    """The hooks of one batch, and the record of what they did.

    `reference` is of the unedited model on the batch's texts, row b's being number `text_of[b]`: over its columns,
    freezing and constraining hold what they hold, and baseline units are known. `devices` are those of the model's
    blocks: what is added in a layer is computed where the layer is. Rows of the batch are counted on `device`.

    A change is compared with the residual stream at its block's end, without it; one in the attention heads, which
    have a width of their own, with what the heads gave.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        layout: Layout,
        transcoders: Transcoders,
        reference: Reference,
        text_of: Int[Tensor, " batch"],
        devices: Sequence[torch.device],
        device: torch.device,
    ) -> None:
        self.layout, self.text_of = layout, text_of
        self.reads, self.writes, self.mlp_out = transcoders.reads, transcoders.writes, transcoders.mlp_out
        self.devices = devices
        slots, pushes = stack_slots(rows, layout, transcoders, device), stack_pushes(rows, layout, device)
        self.slots = {layer.layer: moved(layer, devices[layer.layer]) for layer in slots}
        self.pushes = {layer.layer: moved(layer, devices[layer.layer]) for layer in pushes}
        self.written = _written(self.slots)
        self.records = {layer: Record(*self._lengths(layer, len(rows)), layout.total) for layer in self.layers}
        self.reference = reference
        self.frozen = _flags((row.freeze_attention for row in rows), device)
        self.norms_held = _flags((row.freeze_norms for row in rows), device)
        self.constrained = {
            layer: _flags((layer in row.constrained for row in rows), device) for layer in reference.mlp_out
        }
        self.rows = torch.arange(len(rows), device=device)
        self.columns: Columns = slice(0, layout.total)
        self.planned: set[str] = set()  # names of hooks that were to fire
        self._named: set[str] = set()
        self.fired: Counter[str] = Counter()
        self._forget()
        known = {layer: slots for layer, slots in self.slots.items() if layer in reference.reads}
        self.unedited = {at: slots.shared_activations(reference.reads[at], text_of) for at, slots in known.items()}
        self.relative = any(bool((slots.own | slots.source).any()) for slots in self.slots.values())
        if self.relative:
            self.interventions = 1 + max(int(slots.intervention.max()) for slots in self.slots.values())
            self._take_levels(known, self.unedited, slice(0, next(iter(reference.reads.values())).shape[1]))

    def among(self, index: Int[Tensor, " some"], columns: slice, blocks: range) -> Editing:
        """The same for some of the rows in a pass through some blocks that covers `columns`; records are shared.

        What does nothing there has no hook. Generated text needs every slot that a baseline unit is measured on.
        """
        some = copy(self)
        some._forget()
        some.rows, some.text_of, some.columns = self.rows[index], self.text_of[index], columns
        some.frozen, some.norms_held = self.frozen[index], self.norms_held[index]
        held = {layer: flags[index] for layer, flags in self.constrained.items() if layer in blocks}
        some.constrained = {layer: flags for layer, flags in held.items() if flags.any()}
        measured = self.relative and not some._in_prompt()
        slots = {layer: kept(slots, index) for layer, slots in self.slots.items() if layer in blocks}
        pushes = {layer: kept(pushes, index) for layer, pushes in self.pushes.items() if layer in blocks}
        some.slots = {layer: one for layer, one in slots.items() if measured or one.acts[..., columns].any()}
        some.pushes = {layer: one for layer, one in pushes.items() if one.coefficient[..., columns].any()}
        some.written = _written(some.slots)
        return some

    def starts(self, n_layers: int, width: int) -> tuple[list[int], list[int]]:
        """The first block that each row has to run, and the first of `width` columns at which.

        An edit that leaves every activation of the unedited run as it is changes nothing, and neither does what comes
        before the first one that does. Where a change is added to the stream as it leaves a block, that block is known,
        too (`begin`). The block after the last one (`n_layers`) stands for the logits alone, `n_layers` + 1 for
        nothing. Rows in which something is held run whole.
        """
        changed = torch.zeros(len(self.rows), n_layers, width, dtype=torch.bool)
        for layer, slots in self.slots.items():
            before, level = self.unedited[layer], slots.level[..., :width]
            moves = (edited(before, slots.factor, slots.value, level) != before) & ~level.isnan()
            changed[:, layer] |= (slots.acts[..., :width] & moves).any(1).cpu()
        for layer, pushes in self.pushes.items():
            changed[:, layer] |= (pushes.coefficient[..., :width] != 0).any(1).cpu()
        first, columns, held = _first(changed.any(2)), _first(changed.any(1)), self.held.cpu()
        layers = torch.where(first < n_layers, first + int(self.begins), n_layers + 1)
        return layers.masked_fill(held, 0).tolist(), columns.masked_fill(held, 0).tolist()

    @property
    def across(self) -> bool:
        """Whether a feature writes to several layers: its change has to be carried from one to the next."""
        return any(len(slots.writes_to) > 1 for slots in self.slots.values())

    @property
    def begins(self) -> bool:
        """Whether what is written goes straight into the stream that leaves the block, not read there nor elsewhere."""
        last = ("hook_mlp_out", "hook_resid_post")
        return self.writes in last and self.reads not in last and not self.across

    def begin(self, layer: int, stream: Float[Tensor, "some pos d_model"]) -> Float[Tensor, "some pos d_model"]:
        """What leaves a block with its edits and pushes, from what leaves it without: the block does not run.

        Only for a block in which no row reads anything edited.
        """
        if layer in self.slots and self.begins:
            x = self.reference.reads[layer][self.text_of.to(stream.device), self.columns].float()
            known = self.unedited[layer][self.rows.to(x.device)][..., self.columns]
            self._read_in[layer] = known, self.slots[layer].output_scale(x)
            stream = self._write(layer, stream, None)
        pushed = self._push(layer, stream, None) if layer in self.layers else None
        return stream if pushed is None else pushed

    @property
    def held(self) -> Bool[Tensor, " batch"]:
        """The rows in which attention, norms or MLPs are held at the baseline's."""
        flags = [flags.to(self.frozen.device) for flags in self.constrained.values()]
        return torch.stack([self.frozen, self.norms_held, *flags]).any(0)

    @property
    def layers(self) -> list[int]:
        """The layers in which something is added to what the model computes."""
        return sorted({*self.written, *self.pushes})

    def hooks(self) -> Hooks:
        """The pairs for `LanguageModel.hooked`, in the order in which they have to run."""
        pairs: Hooks = []
        for layer in sorted({*self.layers, *(self.constrained if self._in_prompt() else ())}):
            pairs += [(f"blocks.{layer}.{point}", hook) for point, hook in self._of_layer(layer)]
        for held, which in ((self.reference.patterns, self.frozen), (self.reference.scales, self.norms_held)):
            if self._in_prompt() and which.any():
                pairs += [(name, partial(self._hold, values, which)) for name, values in held.items()]
        self._named = {name for name, _ in pairs}
        return [(name, self._counted(name, hook)) for name, hook in pairs]

    def begun(self) -> None:
        """A pass begins: its hooks are expected to fire."""
        self.planned |= self._named

    def at(self, columns: Columns) -> None:
        """The columns that the next pass covers."""
        self.columns = columns

    def act_from(self, column: int) -> list[bool]:
        """Whether each row has an edit or a push at that column or later."""
        acts = [slots.acts[..., column:].flatten(1).any(1).cpu() for slots in self.slots.values()]
        acts += [(pushes.coefficient[..., column:] != 0).flatten(1).any(1).cpu() for pushes in self.pushes.values()]
        return torch.stack([torch.zeros(len(self.rows), dtype=torch.bool), *acts]).any(0).tolist()

    def keep(self, index: Int[Tensor, " kept"]) -> None:
        """Only these rows go on; freezing and constraining hold over the prompt and end with it."""
        self.rows, self.text_of = self.rows[index], self.text_of[index]
        self.slots = {layer: kept(slots, index) for layer, slots in self.slots.items()}
        self.pushes = {layer: kept(pushes, index) for layer, pushes in self.pushes.items()}

    def dismiss(self, which: Bool[Tensor, " rows"]) -> None:
        """What these rows go on to do is nobody's."""
        self.rows.masked_fill_(which, NOBODY)

    def measure_levels(self, reads: Mapping[int, Float[Tensor, "batch pos d_model"]]) -> None:
        """Take the levels of this pass's columns from what the unedited model reads there, row by row."""
        known = {layer: slots for layer, slots in self.slots.items() if layer in reads}
        unedited = {layer: slots.activations(reads[layer].float()) for layer, slots in known.items()}
        self._take_levels(known, unedited, self.columns)

    def _take_levels(self, known: Mapping[int, Slots], unedited: Mapping[int, Tensor], columns: Columns) -> None:
        levels = baseline_levels(list(known.values()), [unedited[layer] for layer in known], self.interventions)
        for slots, level in zip(known.values(), levels, strict=True):
            slots.level[..., columns] = level

    def _forget(self) -> None:
        """What hooks of one pass tell each other."""
        self._read_in: dict[int, tuple[Tensor, Tensor | float | None]] = {}
        self._difference: dict[int, Tensor] = {}
        self._change: dict[int, Tensor] = {}

    # --- hooks ------------------------------------------------------------------------------------------------

    def _of_layer(self, layer: int) -> Iterator[tuple[str, HookFunction]]:
        if layer in self.constrained:
            yield self.mlp_out, partial(self._constrain, layer)
        if layer in self.slots:
            yield self.reads, partial(self._read, layer)
        if layer in self.written:
            yield self.writes, partial(self._write, layer)
            if self.writes == "hook_resid_mid":  # what is added there reaches the MLP alone
                yield "hook_mlp_out", partial(self._write_again, layer)
        if layer in self.layers:
            yield "hook_resid_post", partial(self._push, layer)

    def _constrain(self, layer: int, mlp_out: Tensor, hook: Any) -> Tensor | None:
        """The MLP's output over the prompt, as it was in the baseline."""
        if not self._in_prompt():
            return None
        held = self._held(mlp_out, self.reference.mlp_out[layer])
        return _where(self.constrained[layer], held, mlp_out)

    def _read(self, layer: int, x: Tensor, hook: Any) -> None:
        slots, seen = self.slots[layer], x.float()
        if layer in self.constrained and layer in self.reference.reads and self._in_prompt():
            held = self._held(seen, self.reference.reads[layer])
            seen = _where(self.constrained[layer], held, seen)
        self._read_in[layer] = slots.activations(seen), slots.output_scale(seen)

    def _write(self, layer: int, out: Tensor, hook: Any) -> Tensor:
        if layer in self.slots:
            self._difference[layer] = self._edit(layer, *self._read_in.pop(layer))
        moved = self._moved(layer)
        if self.writes == HEADS:
            self.records[layer].stream(self.rows, self.columns, out.float(), moved)
        self._change[layer] = moved
        return (out.float() + moved).to(out.dtype)

    def _write_again(self, layer: int, out: Tensor, hook: Any) -> Tensor:
        return (out.float() + self._change[layer]).to(out.dtype)

    def _edit(self, layer: int, activation: Tensor, scale: Tensor | float | None) -> Tensor:
        """How far each slot's feature moves, in the scale of what is written."""
        slots = self.slots[layer]
        level, acts = slots.level[..., self.columns], slots.acts[..., self.columns]
        if self.relative:
            acts = acts & ~level.isnan()
        after = torch.where(acts, edited(activation, slots.factor, slots.value, level), activation)
        difference = after - activation if scale is None else (after - activation) * scale
        self.records[layer].edits(self.rows, self.columns, acts, activation, after, difference)
        return difference

    def _moved(self, layer: int) -> Tensor:
        """The sum of what the edited features change in what a layer writes."""
        parts = []
        for slots in (self.slots[source] for source in self.written[layer]):
            along = slots.along[:, :, layer - slots.layer].to(self.devices[layer])
            parts.append(change(self._difference[slots.layer].to(self.devices[layer]), along))
        return sum(parts[1:], start=parts[0])

    def _push(self, layer: int, residual: Tensor, hook: Any) -> Tensor | None:
        stream = residual.float()
        moved = torch.zeros_like(stream)
        if layer in self._change and self.writes != HEADS:
            moved = self._change.pop(layer)
        before = stream - moved
        if layer not in self.pushes:
            if self.writes != HEADS:
                self.records[layer].stream(self.rows, self.columns, before, moved)
            return None
        pushes = self.pushes[layer]
        multiple = pushed(stream, pushes.vector, pushes.coefficient[..., self.columns], pushes.relative)
        push = change(multiple, pushes.vector)
        self.records[layer].pushes(self.rows, self.columns, multiple)
        self._note_pushed(layer, before, moved + push)
        return (stream + push).to(residual.dtype)

    def _hold(self, values: Tensor, which: Tensor, activation: Tensor, hook: Any) -> Tensor | None:
        """Attention patterns or norm scales of the prompt's columns, as they were in the baseline."""
        if not self._in_prompt():
            return None
        held, n = activation.clone(), self.layout.width
        values = values[self.text_of.to(values.device)]
        if values.dim() == 4:
            held[:, :, :n, :n] = values[:, :, :n, :n]
        else:
            held[:, :n] = values[:, :n]
        return _where(which, held, activation)

    def _note_pushed(self, layer: int, before: Tensor, added: Tensor) -> None:
        """Rows without a push in the layer keep what was noted in the attention heads, if that is where they edit."""
        rows = self.rows
        if self.writes == HEADS:
            has_push = self.pushes[layer].coefficient.flatten(1).any(1)
            rows = rows.masked_fill(~has_push.to(rows.device), NOBODY)
        self.records[layer].stream(rows, self.columns, before, added)

    # --- pieces -----------------------------------------------------------------------------------------------

    def _in_prompt(self) -> bool:
        return isinstance(self.columns, slice) and self.columns.start < self.layout.width

    def _held(self, live: Tensor, baseline: Tensor) -> Tensor:
        """The baseline's values over the prompt, live ones after it."""
        n = self.layout.width
        own = baseline[self.text_of.to(baseline.device), :n].to(live.dtype)
        return torch.cat([own, live[:, n:]], 1)

    def _lengths(self, layer: int, batch: int) -> tuple[Tensor, Tensor]:
        """How long the vectors of a layer's slots (a vector for each layer written to) and pushes are."""
        slots, pushes = self.slots.get(layer), self.pushes.get(layer)
        return (
            torch.empty(batch, 0, 1) if slots is None else slots.along.norm(dim=-1),
            torch.empty(batch, 0) if pushes is None else pushes.vector.norm(dim=-1),
        )

    def _counted(self, name: str, hook: HookFunction) -> HookFunction:
        def counted(activation: Tensor, point: Any) -> Tensor | None:
            self.fired[name] += 1
            return hook(activation, point)

        return counted


def _written(slots: Mapping[int, Slots]) -> dict[int, list[int]]:
    """The layers that edited features write to, each with the layers of these features."""
    layers = {at for source in slots.values() for at in source.writes_to}
    return {at: [layer for layer, source in slots.items() if at in source.writes_to] for at in sorted(layers)}


def _flags(values: Iterable[bool], device: torch.device) -> Bool[Tensor, " batch"]:
    return torch.tensor(list(values), dtype=torch.bool, device=device)


def _first(flags: Bool[Tensor, "batch n"]) -> Int[Tensor, " batch"]:
    """The place of each row's first True; n where there is none."""
    never = flags.new_ones(len(flags), 1)
    return torch.cat([flags, never], 1).int().argmax(1)


def _where(rows: Bool[Tensor, " batch"], chosen: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where(rows.to(chosen.device).view(-1, *[1] * (chosen.dim() - 1)), chosen, otherwise)
