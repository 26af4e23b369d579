from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steer.measurement.logits import (
    entropy,
    in_top_k,
    is_top,
    kl_per_token,
    logit_diff,
    token_logprob,
    token_prob,
    token_rank,
)

VOCAB = 11
SEEDS = st.integers(0, 2**31)
SCALES = st.sampled_from([0.0, 0.1, 3.0, 40.0])
EXACT = 1e-12  # float64 against float64


def random_logits(seed: int, scale: float = 3.0, n: int = 4) -> Tensor:
    return scale * torch.randn(n, VOCAB, generator=torch.Generator().manual_seed(seed))


def probabilities(logits: Tensor) -> Any:
    wide = logits.double().numpy()
    odds = np.exp(wide - wide.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, scale=SCALES, targets=st.sets(st.integers(0, VOCAB - 1), min_size=1))
def test_probability_is_the_sum_over_targets_and_its_log_is_the_logprob(
    seed: int, scale: float, targets: set[int]
) -> None:
    logits = random_logits(seed, scale)
    expected = probabilities(logits)[:, sorted(targets)].sum(-1)
    np.testing.assert_allclose(token_prob(logits, sorted(targets)).numpy(), expected, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(token_logprob(logits, sorted(targets)).numpy(), np.log(expected), atol=1e-9)


def test_all_tokens_together_have_probability_one() -> None:
    assert torch.allclose(token_prob(random_logits(0), range(VOCAB)), torch.ones(4).double(), atol=EXACT)


def test_a_tiny_probability_keeps_its_logprob() -> None:
    logits = torch.tensor([[0.0, -2000.0]])
    assert token_prob(logits, [1]).item() == 0.0
    assert token_logprob(logits, [1]).item() == -2000.0


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_ranks_are_the_places_in_the_sorted_vocabulary(seed: int) -> None:
    logits = random_logits(seed)
    order = np.argsort(-logits.numpy(), axis=-1)
    for token in range(VOCAB):
        expected = [list(row).index(token) for row in order]
        assert token_rank(logits, [token]).tolist() == expected


def test_equal_logits_share_the_better_rank_and_several_targets_count_as_the_best() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0]])
    assert [token_rank(logits, [token]).item() for token in range(4)] == [3, 0, 0, 2]
    assert token_rank(logits, [0, 3]).item() == 2
    assert is_top(logits, [2]).item() == is_top(logits, [0, 1]).item() == 1
    assert is_top(logits, [0, 3]).item() == 0


@pytest.mark.parametrize("k", [1, 3, VOCAB])
def test_k_tokens_are_in_the_top_k(k: int) -> None:
    logits = random_logits(5)
    inside = sum(in_top_k(logits, [token], k) for token in range(VOCAB))
    assert torch.as_tensor(inside).tolist() == [k] * 4


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, shift=st.floats(-1000, 1000))
def test_a_shift_of_all_logits_changes_no_measurement(seed: int, shift: float) -> None:
    logits = random_logits(seed).double()
    measures: list[Callable[[Tensor], Tensor]] = [
        lambda x: logit_diff(x, [1, 2], [3]),
        lambda x: token_logprob(x, [1, 4]),
        entropy,
        lambda x: kl_per_token(x, random_logits(7).double()),
    ]
    for measure in measures:
        assert torch.allclose(measure(logits + shift), measure(logits), atol=1e-9)


def test_logit_diff_is_mean_over_targets_minus_mean_over_foils() -> None:
    assert logit_diff(torch.tensor([[1.0, 4.0, 10.0, 0.0]]), [1, 2], [0, 3]).item() == 7 - 0.5
    assert logit_diff(torch.tensor([[1.0, 4.0]]), [0], [1]).item() == -3


@settings(max_examples=30, deadline=None)
@given(one=SEEDS, other=SEEDS, scale=SCALES)
def test_kl_is_the_published_sum_never_negative_and_zero_on_itself(one: int, other: int, scale: float) -> None:
    intervened, baseline = random_logits(one, scale), random_logits(other)
    ps, p0 = probabilities(intervened), probabilities(baseline)
    expected = np.where(ps > 0, ps * (np.log(np.maximum(ps, 1e-300)) - np.log(p0)), 0).sum(-1)
    found = kl_per_token(intervened, baseline)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)
    assert (found >= 0).all()
    assert kl_per_token(baseline, baseline).tolist() == [0.0] * 4


def test_kl_measures_the_intervened_run_from_the_baseline_and_not_the_reverse() -> None:
    sure, unsure = torch.tensor([[50.0, 0.0]]), torch.zeros(1, 2)
    assert kl_per_token(sure, unsure).item() == pytest.approx(np.log(2))
    assert kl_per_token(unsure, sure).item() == pytest.approx(25 - np.log(2))


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, scale=SCALES)
def test_entropy_is_that_of_the_distribution(seed: int, scale: float) -> None:
    logits = random_logits(seed, scale)
    p = probabilities(logits)
    expected = -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(-1)
    np.testing.assert_allclose(entropy(logits).numpy(), expected, atol=1e-9)


def test_equal_logits_have_the_largest_entropy_and_one_certain_token_none() -> None:
    assert entropy(torch.zeros(1, VOCAB)).item() == pytest.approx(np.log(VOCAB))
    assert entropy(torch.tensor([[0.0, -torch.inf]])).item() == 0.0


def test_a_forbidden_token_adds_nothing_to_the_divergence() -> None:
    logits = torch.tensor([[1.0, 2.0, -torch.inf]])
    assert kl_per_token(logits, logits).item() == 0.0
    assert kl_per_token(logits, torch.tensor([[1.0, 2.0, 0.0]])).isfinite().all()


def test_a_nan_is_never_a_rank() -> None:
    logits = torch.tensor([[0.0, torch.nan], [0.0, 1.0]])
    for found in (token_rank(logits, [0]), is_top(logits, [0]), in_top_k(logits, [0], 2)):
        assert found.isnan().tolist() == [True, False]


def test_half_precision_logits_are_measured_in_double() -> None:
    logits = random_logits(3).bfloat16()
    assert token_logprob(logits, [1]).dtype == torch.float64
    assert torch.equal(token_logprob(logits, [1]), token_logprob(logits.double(), [1]))
