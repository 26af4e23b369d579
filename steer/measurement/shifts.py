"""Which tokens an intervention makes likelier or less likely: rows of `logit_shifts.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LIKELIEST = 5  # tokens kept from the top, before and after
MOVERS = 5  # tokens kept from each end of the shifts


@dataclass(frozen=True)
class Shift:
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
    intervened_logits: Float[Tensor, " d_vocab"],
    named: Sequence[int],
    everything: bool,
) -> list[Shift]:
    """The named tokens; with `everything` also the likeliest before and after, and the largest movers each way.

    Every token once, in that order. Empty where the logits hold a NaN; a token whose logit is infinite on one side (a
    forbidden one) has no shift and is left out.
    """
    before, after = baseline_logits.double(), intervened_logits.double()
    if before.isnan().any() or after.isnan().any():
        return []
    chosen = list(named) + (_remarkable(before, after) if everything else [])
    kept = [token for token in dict.fromkeys(chosen) if before[token].isfinite() and after[token].isfinite()]
    return _shifts(before, after, torch.tensor(kept, device=before.device, dtype=torch.long))


def _remarkable(before: Float[Tensor, " d_vocab"], after: Float[Tensor, " d_vocab"]) -> list[int]:
    shift = torch.where(before.isfinite() & after.isfinite(), after - before, 0.0)
    up = [token for token in _largest(shift, MOVERS) if shift[token] > 0]
    down = [token for token in _largest(-shift, MOVERS) if shift[token] < 0]
    return [*_largest(before, LIKELIEST), *_largest(after, LIKELIEST), *up, *down]


def _largest(values: Float[Tensor, " d_vocab"], count: int) -> list[int]:
    return [int(token) for token in values.topk(min(count, len(values))).indices]


def _shifts(before: Float[Tensor, " d_vocab"], after: Float[Tensor, " d_vocab"], tokens: Tensor) -> list[Shift]:
    columns = (
        tokens,
        before[tokens],
        after[tokens],
        after[tokens] - before[tokens],
        (before[tokens] - before.logsumexp(dim=-1)).exp(),
        (after[tokens] - after.logsumexp(dim=-1)).exp(),
        (before > before[tokens, None]).sum(dim=-1),
        (after > after[tokens, None]).sum(dim=-1),
    )
    return [Shift(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
