"""Watched features: their activations as the run goes, edited or not."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from copy import copy
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steer.intervention.columns import NOBODY, Columns, cells
from steer.intervention.reference import Hooks
from steer.transcoder.arithmetic import activations
from steer.transcoder.transcoder import Transcoders

Feature = tuple[int, int]


class Watch:
    """Hooks that note what watched features do, row by row and column by column."""

    def __init__(
        self, features: Collection[Feature], transcoders: Transcoders, batch: int, total: int, device: torch.device
    ) -> None:
        layers = sorted({layer for layer, _ in features})
        self.features = frozenset(features)
        self.reads = transcoders.reads
        self.indices = {layer: sorted({i for at, i in features if at == layer}) for layer in layers}
        self.encoders = {layer: transcoders.encoder(layer, self.indices[layer]) for layer in layers}
        size = batch + 1, total  # the last row is nobody's
        self.seen = {at: torch.full((*size, len(self.indices[at])), math.nan, device=device) for at in layers}
        self.columns_in_all = total
        self.rows = torch.arange(batch, device=device)
        self.columns: Columns = slice(0, total)

    def hooks(self) -> Hooks:
        """The pairs for `LanguageModel.hooked`."""
        return [(f"blocks.{layer}.{self.reads}", partial(self._see, layer)) for layer in self.encoders]

    def start(self, unedited: Watch, text_of: Int[Tensor, " batch"]) -> None:
        """Begin with what the unedited model does on each row's text."""
        for layer, seen in unedited.seen.items():
            self.seen[layer][:NOBODY, : unedited.columns_in_all] = seen[text_of]

    def among(self, index: Int[Tensor, " some"], columns: slice, blocks: range) -> Watch:
        """The same for some of the rows in a pass through some blocks over some columns; what is seen is shared."""
        some = copy(self)
        some.encoders = {layer: encoder for layer, encoder in self.encoders.items() if layer in blocks}
        some.rows, some.columns = self.rows[index], columns
        return some

    def repeat(self, same: Sequence[int], columns: slice) -> None:
        """Over some columns, every row has seen what the row has that it is the same as."""
        for seen in self.seen.values():
            seen[:NOBODY, columns] = seen[list(same), columns]

    def at(self, columns: Columns) -> None:
        """The columns that the next pass covers."""
        self.columns = columns

    def keep(self, index: Int[Tensor, " kept"]) -> None:
        """Only these rows go on."""
        self.rows = self.rows[index]

    def dismiss(self, which: Bool[Tensor, " rows"]) -> None:
        """What these rows go on to do is nobody's."""
        self.rows.masked_fill_(which, NOBODY)

    def of(
        self, row: int | Tensor, columns: list[int], features: Collection[Feature]
    ) -> Float[Tensor, "*rows n members"]:
        """The activations of some features at some columns of a row, or of rows given as [rows 1]."""
        each = [self.seen[layer][row, columns, self.indices[layer].index(index)] for layer, index in features]
        return torch.stack(each, dim=-1)

    def _see(self, layer: int, x: Tensor, hook: Any) -> None:
        values = activations(x.float(), self.encoders[layer])
        self.seen[layer][cells(self.rows, self.columns)] = values.to(self.rows.device)
