"""What was applied: the before and after of every edit, and how large the change was beside the residual stream."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.intervention.columns import NOBODY, Columns, cells
from steer.intervention.edits import Edit, Push
from steer.intervention.rows import Row
from steer.intervention.slots import Layout


class Notes:
    """One quantity of every row and column of a batch, NaN where nothing was noted; on the device that computes it.

    In memory it is [row column ...], with a row for `NOBODY`.
    """

    def __init__(self, batch: int, columns: int) -> None:
        self.batch, self.columns = batch, columns
        self.held: Tensor | None = None

    def put(self, rows: Int[Tensor, " kept"], columns: Columns, values: Float[Tensor, "kept *each pos"]) -> None:
        """Note what a pass did."""
        if self.held is None:
            self.held = values.new_full((self.batch + 1, self.columns, *values.shape[1:-1]), math.nan)
        self.held[cells(rows.to(values.device), columns)] = values.movedim(-1, 1)

    def all(self, *each: int) -> Float[Tensor, "batch *each pos"]:
        """Everything, on the CPU; `each` says what there is of a row and column."""
        if self.held is None:
            return torch.full((self.batch, *each, self.columns), math.nan)
        return self.held[:NOBODY].movedim(1, -1).cpu()


class Record:
    """One layer's part of the record of a batch.

    `along` and `vectors` hold how long the vectors are that edits and pushes of each row are written along, those of
    edits for every layer that is written to.
    """

    def __init__(
        self, along: Float[Tensor, "batch slot write"], vectors: Float[Tensor, "batch push"], columns: int
    ) -> None:
        self.along, self.vectors = along, vectors
        self.before, self.after, self.difference, self.multiple, self.stream_norm, self.change_norm = (
            Notes(len(along), columns) for _ in range(6)
        )

    def edits(
        self,
        rows: Int[Tensor, " kept"],
        columns: Columns,
        acts: Bool[Tensor, "kept slot pos"],
        before: Float[Tensor, "kept slot pos"],
        after: Float[Tensor, "kept slot pos"],
        difference: Float[Tensor, "kept slot pos"],
    ) -> None:
        """Note the edits of a pass; `difference` is what multiplies the vectors that are written along."""
        self.before.put(rows, columns, before.masked_fill(~acts, math.nan))
        self.after.put(rows, columns, after)
        self.difference.put(rows, columns, difference.abs())

    def pushes(self, rows: Int[Tensor, " kept"], columns: Columns, multiple: Float[Tensor, "kept push pos"]) -> None:
        """Note the pushes of a pass."""
        self.multiple.put(rows, columns, multiple.abs())

    def stream(
        self,
        rows: Int[Tensor, " kept"],
        columns: Columns,
        before: Float[Tensor, "kept pos d_model"],
        change: Float[Tensor, "kept pos d_model"],
    ) -> None:
        """Note how long the residual stream was, and the sum of a pass's changes."""
        self.stream_norm.put(rows, columns, before.norm(dim=-1))
        self.change_norm.put(rows, columns, change.norm(dim=-1))

    def filled(self) -> Filled:
        """Everything by original row and column, on the CPU."""
        slots, pushes, stream = self.along.shape[1], self.vectors.shape[1], self.stream_norm.all()
        return Filled(
            before=self.before.all(slots),
            after=self.after.all(slots),
            edit_norm=self.difference.all(slots)[:, :, None] * self.along.cpu()[..., None],
            push_norm=self.multiple.all(pushes) * self.vectors.cpu()[..., None],
            stream_norm=stream.masked_fill(stream.isinf(), math.nan),  # no change is a share of it, not even 0
            change_norm=self.change_norm.all(),
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


class AppliedEdit(NamedTuple):
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
    filled = {layer: record.filled() for layer, record in sorted(records.items())}
    places = {layer: _places(layer, filled, rows) for layer in filled}
    edits: list[list[AppliedEdit]] = [[] for _ in rows]
    for several in places.values():
        for part in (*(one.in_prompt(layout) for one in several), *(one.generated(layout) for one in several)):
            for b, edit in part:
                edits[b].append(edit)
    pairs = torch.zeros(len(rows), dtype=torch.long)
    for one in chain(*places.values()):
        pairs += one.there.flatten(1).sum(1)
    norms = _relative_norms(filled, places, len(rows))
    return [Applied(*row) for row in zip(pairs.tolist(), norms, map(tuple, edits), strict=True)]


@dataclass(frozen=True)
class _Places:
    """Where a layer's slots, or its pushes, changed something; `changes` has those of each row.

    `numbers` [batch slot pos] are before, after and share of an edit; of a push the share alone.
    """

    layer: int
    changes: Sequence[Sequence[Edit | Push]]
    there: Bool[Tensor, "batch slot pos"]
    numbers: tuple[Tensor, ...]

    def in_prompt(self, layout: Layout) -> Iterator[tuple[int, AppliedEdit]]:
        """Prompt positions one by one, each with its row."""
        there = self.there[..., : layout.width]
        columns = (number[..., : layout.width][there].tolist() for number in self.numbers)
        for (b, s, c), *numbers in zip(there.nonzero().tolist(), *columns, strict=True):
            yield b, self._edit(b, s, layout.position(b, c), numbers)

    def generated(self, layout: Layout) -> Iterator[tuple[int, AppliedEdit]]:
        """Generated positions as one mean a feature, each with its row."""
        there = self.there[..., layout.width :]
        count = there.sum(-1)
        some = count > 0
        known = (number[..., layout.width :].double().masked_fill(~there, 0.0) for number in self.numbers)
        columns = ((number.sum(-1) / count)[some].tolist() for number in known)
        for (b, s), *numbers in zip(some.nonzero().tolist(), *columns, strict=True):
            yield b, self._edit(b, s, None, numbers)

    def _edit(self, b: int, s: int, position: int | None, numbers: Sequence[float]) -> AppliedEdit:
        change, (before, after) = self.changes[b][s], numbers[:-1] or (None, None)
        return AppliedEdit(change.intervention, self.layer, change.index, position, before, after, numbers[-1])


def _places(layer: int, records: Mapping[int, Filled], rows: Sequence[Row]) -> tuple[_Places, _Places]:
    record = records[layer]
    edits = [[edit for edit in row.edits if edit.layer == layer] for row in rows]
    edited = ~record.before.isnan() & (record.before != record.after)
    streams = torch.stack([records[layer + w].stream_norm for w in range(record.edit_norm.shape[2])], 1)
    shares = (record.edit_norm / streams[:, None]).amax(dim=2)  # the largest over the layers written to
    pushes = [[push for push in row.pushes if push.layer == layer] for row in rows]
    pushed, push_shares = record.push_norm.nan_to_num() > 0, record.push_norm / record.stream_norm[:, None]
    return (
        _Places(layer, edits, edited, (record.before, record.after, shares)),
        _Places(layer, pushes, pushed, (push_shares,)),
    )


def _relative_norms(records: Mapping[int, Filled], places: Mapping[int, Sequence[_Places]], n_rows: int) -> list[float]:
    """By row: the mean over the changed columns of |sum of changes| / |residual stream before|, largest layer."""
    found: list[list[float]] = [[] for _ in range(n_rows)]
    for at, record in records.items():
        into = [layer for layer, source in records.items() if layer <= at < layer + source.edit_norm.shape[2]]
        touched = torch.stack([one.there.any(1) for layer in into for one in places[layer]]).any(0)
        shares = record.change_norm / record.stream_norm
        for b in touched.any(1).nonzero()[:, 0].tolist():
            found[b].append(float(shares[b][touched[b]].mean()))
    return [max(several, default=0.0) for several in found]
