"""Rows become tensors: the edits and pushes of one layer over a whole batch, whatever mixture of ops the rows hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.intervention.edits import Edit
from steer.intervention.positions import Positions
from steer.intervention.rows import Row
from steer.transcoder.arithmetic import Encoder, activated, activations, output_scale
from steer.transcoder.transcoder import Transcoders

Stacked = TypeVar("Stacked", "Slots", "Pushes")


@dataclass(frozen=True)
class Layout:
    """Where a batch's rows stand: left-padded prompts of `width` columns, then generated text up to `total`."""

    lengths: tuple[int, ...]
    width: int
    total: int

    def column(self, row: int, position: int) -> int:
        """The column of a position counted from the row's first real token."""
        return self.width - self.lengths[row] + position

    def position(self, row: int, column: int) -> int:
        """The inverse of `column`."""
        return column - self.width + self.lengths[row]

    def mask(self, row: int, positions: Positions) -> list[bool]:
        """One flag per column of the batch."""
        pad = self.width - self.lengths[row]
        return [False] * pad + list(positions.mask(self.total - pad))


@dataclass(frozen=True)
class Slots:
    """The feature edits of one layer: slot s of row b; a slot that a row does not use acts nowhere.

    `encoder` holds the rows in use, `each` the same slot by slot. A feature writes to `layer` and, in a CLT, to those
    after it: `along` has a vector for each. `level` is 1, or the baseline's activation, and NaN where the baseline
    gives none: nothing is edited there.
    """

    layer: int
    encoder: Encoder
    feature: Int[Tensor, "batch slot"]
    intervention: Int[Tensor, "batch slot"]
    each: Encoder
    along: Float[Tensor, "batch slot write d_model"]
    factor: Float[Tensor, "batch slot"]
    value: Float[Tensor, "batch slot"]
    own: Bool[Tensor, "batch slot"]
    source: Bool[Tensor, "batch slot"]
    is_from: Bool[Tensor, "batch slot"]
    acts: Bool[Tensor, "batch slot pos"]
    level: Float[Tensor, "batch slot pos"]

    @property
    def writes_to(self) -> range:
        """The layers that its features write to."""
        return range(self.layer, self.layer + self.along.shape[2])

    def output_scale(self, x: Float[Tensor, "batch pos d_in"]) -> Float[Tensor, "batch 1 pos"] | float | None:
        """What a change is multiplied with before it is written, where the transcoder normalises its input."""
        scale = output_scale(x, self.encoder.input.normalisation)
        return scale[:, None] if isinstance(scale, Tensor) else scale

    def activations(self, x: Float[Tensor, "batch pos d_in"]) -> Float[Tensor, "batch slot pos"]:
        """The features' own values on what the transcoder reads; `feature` counts the encoder's rows."""
        if self.encoder.competition is not None:
            every = activations(x, self.encoder)
            return every.gather(-1, self.feature[:, None].expand(-1, x.shape[1], -1)).mT
        product = self.each.W_enc @ self.each.input.prepared(x).mT
        return activated(product.mT, self.each.at((slice(None), None))).mT

    def shared_activations(
        self, x: Float[Tensor, "text pos d_in"], text_of: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch slot pos"]:
        """The same where rows share what is read: row b reads `x[text_of[b]]`."""
        by_text = activations(x, self.encoder).mT
        return by_text[text_of.to(by_text.device)[:, None], self.feature.to(by_text.device)]


@dataclass(frozen=True)
class Pushes:
    """The pushes of one layer: push r of row b."""

    layer: int
    intervention: Int[Tensor, "batch push"]
    vector: Float[Tensor, "batch push d_model"]
    coefficient: Float[Tensor, "batch push pos"]
    relative: Float[Tensor, "batch push"]


def kept(stacked: Stacked, rows: Int[Tensor, " kept"]) -> Stacked:
    """The same for some of the rows."""
    rows = rows.to(stacked.intervention.device)
    values = ((field.name, getattr(stacked, field.name)) for field in fields(stacked))
    chosen: dict[str, Any] = {name: v[rows] if isinstance(v, Tensor) else v for name, v in values}
    if isinstance(stacked, Slots):
        chosen["each"] = stacked.each.at(rows)
    return replace(stacked, **chosen)


def moved(stacked: Stacked, device: torch.device) -> Stacked:
    """The same on the device of the layer's activations."""
    values = {field.name: getattr(stacked, field.name) for field in fields(stacked)}
    placed = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in values.items()}
    return type(stacked)(**placed | ({"each": stacked.each.to(device)} if isinstance(stacked, Slots) else {}))


@dataclass(frozen=True)
class _Placed:
    """The edits of one layer and their slots: edit n is slot `slot[n]` of row `row[n]`."""

    edits: Sequence[Edit]
    row: Sequence[int]
    slot: Sequence[int]

    def laid_out(self, batch: int, values: Sequence[float] | Tensor, fill: float = 0.0) -> Tensor:
        """A value, or a tensor, for each edit as [batch slot ...]."""
        each = torch.as_tensor(values)
        out = torch.full((batch, 1 + max(self.slot), *each.shape[1:]), fill, dtype=each.dtype)
        out[self.row, self.slot] = each
        return out


def stack_slots(rows: Sequence[Row], layout: Layout, transcoders: Transcoders, device: torch.device) -> list[Slots]:
    """The feature edits of a batch, a `Slots` per layer in use; only the encoder and decoder rows in use are read."""
    by_layer: dict[int, list[tuple[Edit, int, int]]] = {}
    for b, row in enumerate(rows):
        used: Counter[int] = Counter()
        for edit in row.edits:
            by_layer.setdefault(edit.layer, []).append((edit, b, used[edit.layer]))
            used[edit.layer] += 1
    placed = {layer: _Placed(*zip(*by_layer[layer], strict=True)) for layer in sorted(by_layer)}
    return [_slots(layer, one, layout, transcoders, device) for layer, one in placed.items()]


def _slots(layer: int, placed: _Placed, layout: Layout, transcoders: Transcoders, device: torch.device) -> Slots:
    edits, laid_out = placed.edits, partial(placed.laid_out, len(layout.lengths))
    indices, where = torch.tensor([edit.index for edit in edits]).unique(return_inverse=True)
    encoder = transcoders.encoder(layer, indices.tolist())
    feature = laid_out(where)
    acts = laid_out(_acts(placed, layout))
    tensors: dict[str, Tensor] = {
        "feature": feature,
        "intervention": laid_out([edit.intervention for edit in edits]),
        "along": laid_out(_along(layer, edits, transcoders)),
        "factor": laid_out([edit.factor for edit in edits]),
        "value": laid_out([edit.value for edit in edits]),
        "own": laid_out([edit.level == "own" for edit in edits]),
        "source": laid_out([edit.level == "source" for edit in edits]),
        "is_from": laid_out([edit.role == "from" for edit in edits]),
        "acts": acts,
        "level": torch.ones(acts.shape),
    }
    moved_in: dict[str, Any] = {name: value.to(device) for name, value in tensors.items()}
    return Slots(layer=layer, encoder=encoder, each=encoder.at(feature).to(device), **moved_in)


def _acts(placed: _Placed, layout: Layout) -> Bool[Tensor, "edit pos"]:
    found: dict[tuple[int, Positions], Tensor] = {}  # the members of a group, and rows of one prompt, share theirs
    for edit, b in zip(placed.edits, placed.row, strict=True):
        where = layout.lengths[b], edit.positions
        if where not in found:
            found[where] = torch.tensor(layout.mask(b, edit.positions))
    pairs = zip(placed.edits, placed.row, strict=True)
    return torch.stack([found[layout.lengths[b], edit.positions] for edit, b in pairs])


def _along(layer: int, edits: Sequence[Edit], transcoders: Transcoders) -> Float[Tensor, "edit write d_model"]:
    """The vector of every edit, as long as it is if the edit states no norm; one for every layer written to."""
    vectors = torch.zeros(len(edits), len(transcoders.writes_to(layer)), transcoders.d_model)
    own = [n for n, edit in enumerate(edits) if edit.along.index is not None]
    if own:
        indices, where = torch.tensor([edits[n].along.index for n in own]).unique(return_inverse=True)
        decoder = transcoders.decoder(layer, indices.tolist())
        vectors[own] = decoder.view(len(decoder), *vectors.shape[1:]).to(vectors.device)[where]
    for n, edit in enumerate(edits):
        if edit.along.vector is not None:
            vectors[n] = edit.along.vector
    norms = torch.tensor([torch.nan if edit.along.norm is None else edit.along.norm for edit in edits])
    scale = torch.where(norms.isnan(), 1.0, norms / vectors.flatten(1).norm(dim=-1))
    return vectors * scale[:, None, None]


def stack_pushes(rows: Sequence[Row], layout: Layout, device: torch.device) -> list[Pushes]:
    """The pushes of a batch, a `Pushes` per layer in use."""
    layers = sorted({push.layer for row in rows for push in row.pushes})
    return [_pushes(layer, rows, layout, device) for layer in layers]


def _pushes(layer: int, rows: Sequence[Row], layout: Layout, device: torch.device) -> Pushes:
    pushes = [[push for push in row.pushes if push.layer == layer] for row in rows]
    shape = len(rows), max(map(len, pushes))
    example = next(push for row in pushes for push in row)
    vector = torch.ones(*shape, len(example.vector))  # of a push that is not there: anything but zero, its norm divides
    coefficient = torch.zeros(*shape, layout.total)
    relative = torch.zeros(*shape)
    intervention = torch.zeros(*shape, dtype=torch.long)
    for b, row in enumerate(pushes):
        for r, push in enumerate(row):
            vector[b, r] = push.vector
            coefficient[b, r] = push.coefficient * torch.tensor(layout.mask(b, push.positions))
            relative[b, r] = float(push.relative)
            intervention[b, r] = push.intervention
    return Pushes(
        layer=layer,
        intervention=intervention.to(device),
        vector=vector.to(device),
        coefficient=coefficient.to(device),
        relative=relative.to(device),
    )


def baseline_levels(
    slots: Sequence[Slots], unedited: Sequence[Float[Tensor, "batch slot pos"]], interventions: int
) -> list[Float[Tensor, "batch slot pos"]]:
    """What `own_act` and `source_act` multiply, from the activations of the unedited model on the same tokens.

    `interventions` bounds the number of interventions in a row. `source_act` is the mean over those `from` members that
    fire at the position, whatever their layer; NaN where none does.
    """
    shape = unedited[0].shape[0], interventions, unedited[0].shape[2]
    total, firing, device = unedited[0].new_zeros(shape), unedited[0].new_zeros(shape), unedited[0].device
    for layer, activation in zip(slots, unedited, strict=True):
        fires = (activation > 0) & layer.is_from[..., None]
        group = layer.intervention[..., None].expand_as(activation)
        total.scatter_add_(1, group.to(device), (activation * fires).to(device))
        firing.scatter_add_(1, group.to(device), fires.to(device, activation.dtype))
    mean = torch.where(firing > 0, total / firing, torch.nan)
    levels = []
    for layer, activation in zip(slots, unedited, strict=True):
        source = mean.to(activation.device).gather(1, layer.intervention[..., None].expand_as(activation))
        level = torch.where(layer.own[..., None], activation, torch.ones_like(activation))
        levels.append(torch.where(layer.source[..., None], source, level))
    return levels
