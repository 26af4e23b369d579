"""What was applied: the before and after of every edit, and how large the change was beside the residual stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.intervention.rows import Row
from steer.intervention.slots import Layout


@dataclass(frozen=True)
class Record:
    """One layer's part of the record, filled in place while the batch runs; NaN where nothing was done."""

    before: Float[Tensor, "batch slot pos"]
    after: Float[Tensor, "batch slot pos"]
    edit_norm: Float[Tensor, "batch slot pos"]
    push_norm: Float[Tensor, "batch push pos"]
    stream_norm: Float[Tensor, "batch pos"]
    change_norm: Float[Tensor, "batch pos"]

    @classmethod
    def empty(cls, shape: tuple[int, int, int, int], device: torch.device) -> Record:
        """`shape`: rows, slots, pushes, columns."""
        batch, slots, pushes, columns = shape
        sizes = [(batch, slots, columns)] * 3 + [(batch, pushes, columns)] + [(batch, columns)] * 2
        return cls(*(torch.full(size, math.nan, device=device) for size in sizes))

    def edits(
        self,
        rows: Int[Tensor, " kept"],
        columns: slice,
        acts: Bool[Tensor, "kept slot pos"],
        before: Float[Tensor, "kept slot pos"],
        after: Float[Tensor, "kept slot pos"],
        along: Float[Tensor, "kept slot d_model"],
    ) -> None:
        """Note the edits of a pass."""
        norm = (after - before).abs() * along.norm(dim=-1)[..., None]
        for store, values in ((self.before, before), (self.after, after), (self.edit_norm, norm)):
            store[rows, :, columns] = torch.where(acts, values, math.nan)

    def pushes(
        self,
        rows: Int[Tensor, " kept"],
        columns: slice,
        multiple: Float[Tensor, "kept push pos"],
        vector: Float[Tensor, "kept push d_model"],
    ) -> None:
        """Note the pushes of a pass."""
        self.push_norm[rows, :, columns] = multiple.abs() * vector.norm(dim=-1)[..., None]

    def stream(
        self,
        rows: Int[Tensor, " kept"],
        columns: slice,
        before: Float[Tensor, "kept pos d_model"],
        change: Float[Tensor, "kept pos d_model"],
    ) -> None:
        """Note how long the residual stream was, and the sum of a pass's changes."""
        self.stream_norm[rows, columns] = before.norm(dim=-1)
        self.change_norm[rows, columns] = change.norm(dim=-1)


@dataclass(frozen=True)
class AppliedEdit:
    """A row of `edits.parquet`; `position` None: the mean over generated positions; `index` None: a direction."""

    intervention: int
    layer: int
    index: int | None
    position: int | None
    before: float | None
    after: float | None
    relative_norm: float


@dataclass(frozen=True)
class Applied:
    """What was done in one row: pairs (feature, position) that changed, and the size of the change."""

    pairs: int
    relative_norm: float
    edits: tuple[AppliedEdit, ...]


def applied(rows: Sequence[Row], records: Mapping[int, Record], layout: Layout) -> list[Applied]:
    """What was done in each row of a batch."""
    on_cpu = {layer: Record(*(t.cpu() for t in vars(record).values())) for layer, record in records.items()}
    return [_applied(b, row, on_cpu, layout) for b, row in enumerate(rows)]


def _applied(b: int, row: Row, records: Mapping[int, Record], layout: Layout) -> Applied:
    edits: list[AppliedEdit] = []
    pairs, largest = 0, 0.0
    for layer in sorted(row.layers):
        record = records[layer]
        done = list(_layer_edits(b, row, layer, record))
        columns = torch.tensor([where for *_, where in done]).unique()
        pairs += len(done)
        if len(columns):
            share = record.change_norm[b, columns] / record.stream_norm[b, columns]
            largest = max(largest, float(share.mean()))
        edits += _summarised([(edit, where) for edit, where in done], b, layout)
    return Applied(pairs, largest, tuple(edits))


def _layer_edits(b: int, row: Row, layer: int, record: Record) -> Iterator[tuple[AppliedEdit, int]]:
    """Every (feature, position) of a layer whose value changed, and every position that was pushed, by column."""
    for s, edit in enumerate(e for e in row.edits if e.layer == layer):
        before, after, norm = record.before[b, s], record.after[b, s], record.edit_norm[b, s]
        for c in torch.nonzero(~before.isnan() & (before != after)).flatten().tolist():
            share = float(norm[c] / record.stream_norm[b, c])
            yield AppliedEdit(edit.intervention, layer, edit.index, c, float(before[c]), float(after[c]), share), c
    for r, push in enumerate(p for p in row.pushes if p.layer == layer):
        norm = record.push_norm[b, r]
        for c in torch.nonzero(norm.nan_to_num() > 0).flatten().tolist():
            share = float(norm[c] / record.stream_norm[b, c])
            yield AppliedEdit(push.intervention, layer, push.index, c, None, None, share), c


def _summarised(done: Sequence[tuple[AppliedEdit, int]], b: int, layout: Layout) -> Iterator[AppliedEdit]:
    """Prompt positions one by one, generated ones as one mean a feature."""
    generated: dict[tuple[int, int, int | None], list[AppliedEdit]] = {}
    for edit, column in done:
        if column < layout.width:
            yield _at(edit, layout.position(b, column))
        else:
            generated.setdefault((edit.intervention, edit.layer, edit.index), []).append(edit)
    for (intervention, layer, index), several in generated.items():
        yield AppliedEdit(
            intervention,
            layer,
            index,
            None,
            _mean([edit.before for edit in several]),
            _mean([edit.after for edit in several]),
            sum(edit.relative_norm for edit in several) / len(several),
        )


def _at(edit: AppliedEdit, position: int) -> AppliedEdit:
    return AppliedEdit(edit.intervention, edit.layer, edit.index, position, edit.before, edit.after, edit.relative_norm)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
