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
COMPARED = 2**24  # logits that are compared with those of tokens, for their ranks, at a time (16 MB)


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
    tokens = len(named) + 2 * (LIKELIEST + MOVERS) * everything
    size = max(1, COMPARED // (max(1, tokens) * len(baseline_logits)))
    before = baseline_logits.double()
    parts = (_shifts(before, after.double(), named, everything) for after in intervened_logits.split(size))
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
    """The fields of a `Shift`, each [n token]."""
    was, now = before[tokens], after.gather(-1, tokens)
    return (
        tokens,
        was,
        now,
        now - was,
        (was - before.logsumexp(dim=-1)).exp(),
        (now - after.logsumexp(dim=-1, keepdim=True)).exp(),
        (before > was[..., None]).sum(dim=-1),
        (after[:, None] > now[..., None]).sum(dim=-1),
    )
