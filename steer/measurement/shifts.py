"""Which tokens an intervention makes likelier or less likely: rows of `logit_shifts.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

LIKELIEST = 5  # tokens kept from the top, before and after
MOVERS = 5  # tokens kept from each end of the shifts
LOGITS = 2**20  # numbers of logits that are looked at at a time, some of them in float64 (8 MB)


class Shift(NamedTuple):
    """One token's logit, probability and rank (0 is the top) before and after."""

    token_id: int
    baseline_logit: float
    intervened_logit: float
    shift: float
    baseline_prob: float
    intervened_prob: float
    baseline_rank: int
    intervened_rank: int


def logit_shifts(
    baseline_logits: Float[Tensor, " d_vocab"],
    intervened_logits: Float[Tensor, "n d_vocab"],
    named: Sequence[int],
    everything: bool,
) -> list[list[Shift]]:
    """For each row the named tokens; with `everything` also the likeliest before and after, and the largest movers
    each way.

    Every token once, in that order. Empty where the logits hold a NaN; a token whose logit is infinite on one side (a
    forbidden one) has no shift and is left out.
    """
    size = max(1, LOGITS // len(baseline_logits))
    parts = (_shifts(baseline_logits, after, named, everything) for after in intervened_logits.split(size))
    return [row for part in parts for row in part]


def _shifts(
    before: Float[Tensor, " d_vocab"], after: Float[Tensor, "n d_vocab"], named: Sequence[int], everything: bool
) -> list[list[Shift]]:
    more = _remarkable(before, after) if everything else [[]] * len(after)
    chosen = [list(dict.fromkeys([*named, *those])) for those in more]
    widest = max(map(len, chosen))
    tokens = torch.tensor([row + [0] * (widest - len(row)) for row in chosen], device=before.device, dtype=torch.long)
    whole = ~(before.isnan().any() | after.isnan().any(dim=-1))
    columns = [column.tolist() for column in _columns(before, after, tokens)]
    rows = (zip(*(column[row][: len(ids)] for column in columns), strict=True) for row, ids in enumerate(chosen))
    return [
        [Shift(*cells) for cells in row if isfinite(cells[1]) and isfinite(cells[2])] if is_whole else []
        for row, is_whole in zip(rows, whole.tolist(), strict=True)
    ]


def _remarkable(before: Float[Tensor, " d_vocab"], after: Float[Tensor, "n d_vocab"]) -> list[list[int]]:
    shift = torch.where(before.isfinite() & after.isfinite(), after - before, 0.0)
    [first], likeliest = _largest(before[None], LIKELIEST), _largest(after, LIKELIEST)
    movers = zip(_largest(shift, MOVERS, above=0.0), _largest(-shift, MOVERS, above=0.0), strict=True)
    return [[*first, *then, *up, *down] for then, (up, down) in zip(likeliest, movers, strict=True)]


def _largest(values: Float[Tensor, "n d_vocab"], count: int, above: float = -torch.inf) -> list[list[int]]:
    top = values.topk(min(count, values.shape[-1]))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [[token for token, value in zip(*row, strict=True) if value > above] for row in pairs]


def _columns(
    before: Float[Tensor, " d_vocab"], after: Float[Tensor, "n d_vocab"], tokens: Int[Tensor, "n token"]
) -> tuple[Tensor, ...]:
    """The fields of a `Shift`, each [n token]; differences and probabilities are worked out in float64."""
    then, later = before[tokens], after.gather(-1, tokens)
    was, now = then.double(), later.double()
    return (
        tokens,
        was,
        now,
        now - was,
        (was - before.double().logsumexp(dim=-1)).exp(),
        (now - after.double().logsumexp(dim=-1, keepdim=True)).exp(),
        _ranks(before[None], then),
        _ranks(after, later),
    )


def _ranks(logits: Float[Tensor, "#n d_vocab"], of: Float[Tensor, "n token"]) -> Int[Tensor, "n token"]:
    """How many logits of its row are above each of these.

    Added up as floating-point numbers (exact in float32 up to 16 million): booleans take ten times as long.
    """
    above, ranks = of.new_empty(len(of), logits.shape[-1]), torch.empty_like(of, dtype=torch.long)
    for token in range(of.shape[1]):
        ranks[:, token] = torch.gt(logits, of[:, token, None], out=above).sum(dim=-1)
    return ranks
