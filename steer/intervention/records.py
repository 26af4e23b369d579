"""What was applied: the before and after of every edit, and how large the change was beside the residual stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.intervention.rows import Row
from steer.intervention.slots import Layout

Parts = list[tuple[Tensor, slice, Tensor]]
"""What passes noted of one quantity: rows, columns and values of each."""


@dataclass
class Record:
    """One layer's part of the record; passes only note tensors, `filled` lays them out when the batch is done.

    `along` and `vectors` hold how long the vectors are that edits and pushes of each row are written along, those of
    edits for every layer that is written to.
    """

    along: Float[Tensor, "batch slot write"]
    vectors: Float[Tensor, "batch push"]
    before: Parts = field(default_factory=list)
    after: Parts = field(default_factory=list)
    difference: Parts = field(default_factory=list)
    multiple: Parts = field(default_factory=list)
    stream_norm: Parts = field(default_factory=list)
    change_norm: Parts = field(default_factory=list)

    def edits(
        self,
        rows: Int[Tensor, " kept"],
        columns: slice,
        acts: Bool[Tensor, "kept slot pos"],
        before: Float[Tensor, "kept slot pos"],
        after: Float[Tensor, "kept slot pos"],
        difference: Float[Tensor, "kept slot pos"],
    ) -> None:
        """Note the edits of a pass; `difference` is what multiplies the vectors that are written along."""
        self.before.append((rows, columns, before.masked_fill(~acts, math.nan)))
        self.after.append((rows, columns, after))
        self.difference.append((rows, columns, difference.abs()))

    def pushes(self, rows: Int[Tensor, " kept"], columns: slice, multiple: Float[Tensor, "kept push pos"]) -> None:
        """Note the pushes of a pass."""
        self.multiple.append((rows, columns, multiple.abs()))

    def stream(
        self,
        rows: Int[Tensor, " kept"],
        columns: slice,
        before: Float[Tensor, "kept pos d_model"],
        change: Float[Tensor, "kept pos d_model"],
    ) -> None:
        """Note how long the residual stream was, and the sum of a pass's changes."""
        self.stream_norm.append((rows, columns, before.norm(dim=-1)))
        self.change_norm.append((rows, columns, change.norm(dim=-1)))

    def filled(self, batch: int, columns: int) -> Filled:
        """Everything by original row and column, on the CPU."""
        edits, pushes, each = self.along.shape[:2], self.vectors.shape, (batch,)
        stream = _filled(self.stream_norm, each, columns)
        return Filled(
            before=_filled(self.before, edits, columns),
            after=_filled(self.after, edits, columns),
            edit_norm=_filled(self.difference, edits, columns)[:, :, None] * self.along.cpu()[..., None],
            push_norm=_filled(self.multiple, pushes, columns) * self.vectors.cpu()[..., None],
            stream_norm=stream.masked_fill(stream.isinf(), math.nan),  # no change is a share of it, not even 0
            change_norm=_filled(self.change_norm, each, columns),
        )


@dataclass(frozen=True)
class Filled:
    """A layer's record as tensors; NaN where nothing was done."""

    before: Float[Tensor, "batch slot pos"]
    after: Float[Tensor, "batch slot pos"]
    edit_norm: Float[Tensor, "batch slot write pos"]
    push_norm: Float[Tensor, "batch push pos"]
    stream_norm: Float[Tensor, "batch pos"]
    change_norm: Float[Tensor, "batch pos"]


def _filled(parts: Parts, shape: tuple[int, ...], columns: int) -> Tensor:
    whole = torch.full((*shape, columns), math.nan)
    for rows, where, values in parts:
        whole[rows.cpu(), ..., where] = values.cpu()
    return whole


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

    @property
    def finite(self) -> bool:
        """Whether every number is one."""
        numbers = [number for edit in self.edits for number in (edit.before, edit.after, edit.relative_norm)]
        return all(number is None or math.isfinite(number) for number in (self.relative_norm, *numbers))


def applied(rows: Sequence[Row], records: Mapping[int, Record], layout: Layout) -> list[Applied]:
    """What was done in each row of a batch."""
    filled = {layer: record.filled(len(rows), layout.total) for layer, record in records.items()}
    return [_applied(b, row, filled, layout) for b, row in enumerate(rows)]


def _applied(b: int, row: Row, records: Mapping[int, Filled], layout: Layout) -> Applied:
    edits: list[AppliedEdit] = []
    columns: dict[int, set[int]] = {}  # where something was added, by the layer that it was added in
    pairs = 0
    for layer in sorted(row.layers):
        done = list(_layer_edits(b, row, layer, records))
        for at in range(layer, layer + records[layer].edit_norm.shape[2]):
            columns.setdefault(at, set()).update(where for _, where in done)
        pairs += len(done)
        edits += _summarised(done, b, layout)
    shares = [_share(records[layer], b, sorted(where)) for layer, where in columns.items() if where]
    return Applied(pairs, max(shares, default=0.0), tuple(edits))


def _share(record: Filled, b: int, columns: list[int]) -> float:
    """The mean over some columns of |sum of changes| / |residual stream before|."""
    return float((record.change_norm[b, columns] / record.stream_norm[b, columns]).mean())


def _layer_edits(b: int, row: Row, layer: int, records: Mapping[int, Filled]) -> Iterator[tuple[AppliedEdit, int]]:
    """Every (feature, position) of a layer whose value changed, and every position that was pushed, by column."""
    record = records[layer]
    edits, before, after = [e for e in row.edits if e.layer == layer], record.before[b], record.after[b]
    there = ~before.isnan() & (before != after)
    streams = torch.stack([records[layer + w].stream_norm[b] for w in range(record.edit_norm.shape[2])])
    shares = (record.edit_norm[b] / streams).amax(dim=1)  # the largest over the layers written to
    numbers = zip(before[there].tolist(), after[there].tolist(), shares[there].tolist(), strict=True)
    for (s, c), (was, now, share) in zip(there.nonzero().tolist(), numbers, strict=True):
        yield AppliedEdit(edits[s].intervention, layer, edits[s].index, c, was, now, share), c
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
