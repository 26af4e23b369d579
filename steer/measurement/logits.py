"""Measurements on next-token logits: one number for each row of `[... d_vocab]`, computed in float64.

Definitions: probabilities are softmax(logits); T are the targets, F the foils; natural logarithms, so nats. A row with
a NaN gives a NaN in every function here, which `measure` turns into None; a logit of -inf is a token that cannot come.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def token_prob(logits: Float[Tensor, "*n d_vocab"], targets: Sequence[int]) -> Float[Tensor, "*n"]:
    """p(T): the sum of the targets' probabilities."""
    return token_logprob(logits, targets).exp()


def token_logprob(logits: Float[Tensor, "*n d_vocab"], targets: Sequence[int]) -> Float[Tensor, "*n"]:
    """log p(T) = logsumexp over T of log softmax(logits)."""
    return _log_probs(logits)[..., list(targets)].logsumexp(dim=-1)


def token_rank(logits: Float[Tensor, "*n d_vocab"], targets: Sequence[int]) -> Float[Tensor, "*n"]:
    """Number of tokens with a strictly larger logit than the best target: 0 is the top, and equals share a rank.

    Counted on logits, not on probabilities, so that rounding in the softmax makes no ties.
    """
    best = logits[..., list(targets)].amax(dim=-1, keepdim=True)
    ranks = (logits > best).sum(dim=-1).double()
    return ranks.masked_fill(logits.isnan().any(dim=-1), torch.nan)


def is_top(logits: Float[Tensor, "*n d_vocab"], targets: Sequence[int]) -> Float[Tensor, "*n"]:
    """1 where no token has a larger logit than the best target."""
    return in_top_k(logits, targets, 1)


def in_top_k(logits: Float[Tensor, "*n d_vocab"], targets: Sequence[int], k: int) -> Float[Tensor, "*n"]:
    """1 where fewer than k tokens have a larger logit than the best target."""
    ranks = token_rank(logits, targets)
    return (ranks < k).double().masked_fill(ranks.isnan(), torch.nan)


def logit_diff(
    logits: Float[Tensor, "*n d_vocab"], targets: Sequence[int], foils: Sequence[int]
) -> Float[Tensor, "*n"]:
    """Mean logit over T minus mean logit over F: linear in small edits, blind to a shift of all logits.

    Source: Wang et al. 2022, "Interpretability in the Wild" (arXiv 2211.00593), there for one name against another.
    """
    wide = logits.double()
    return wide[..., list(targets)].mean(dim=-1) - wide[..., list(foils)].mean(dim=-1)


def entropy(logits: Float[Tensor, "*n d_vocab"]) -> Float[Tensor, "*n"]:
    """-sum over v of p(v) log p(v), in nats."""
    log_probs = _log_probs(logits)
    return -_expected(log_probs, log_probs)


def kl_per_token(intervened: Float[Tensor, "*n d_vocab"], baseline: Float[Tensor, "*n d_vocab"]) -> Float[Tensor, "*n"]:
    """KL(intervened || baseline) = sum over v of ps(v) (log ps(v) - log p0(v)), in nats, at each row.

    Both rows must have read the same tokens. Source: Kullback and Leibler 1951. Rounding can leave about -1e-16 where
    the two are equal; the result is cut at zero.
    """
    steered = _log_probs(intervened)
    return _expected(steered, steered - _log_probs(baseline)).clamp(min=0)


def _log_probs(logits: Float[Tensor, "*n d_vocab"]) -> Float[Tensor, "*n d_vocab"]:
    return logits.double().log_softmax(dim=-1)


def _expected(log_probs: Float[Tensor, "*n d_vocab"], value: Float[Tensor, "*n d_vocab"]) -> Float[Tensor, "*n"]:
    """Mean of a value under the probabilities; a token that cannot come adds nothing, whatever its value."""
    return (log_probs.exp() * value.masked_fill(log_probs == -torch.inf, 0.0)).sum(dim=-1)
