from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from steer.analysis import statistics as s


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 17), (39, 40), (1, 1)])
def test_clopper_pearson_is_scipys_exact_interval(hits: int, n: int) -> None:
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    ours = s.clopper_pearson(hits, n)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("n", "low"), [(10, 0.692), (20, 0.832), (50, 0.929), (100, 0.964)])
def test_all_hits_have_the_lower_bound_of_the_closed_form(n: int, low: float) -> None:
    assert s.clopper_pearson(n, n).low == pytest.approx(0.025 ** (1 / n))
    assert s.clopper_pearson(n, n).low == pytest.approx(low, abs=5e-4)


def test_bonett_price_follows_its_formula_by_hand() -> None:
    # n = 40: 12 prompts hit only in the first run, 3 only in the second, 20 in both, 5 in neither.
    first = np.array([1] * 12 + [0] * 3 + [1] * 20 + [0] * 5, float)
    second = np.array([0] * 12 + [1] * 3 + [1] * 20 + [0] * 5, float)
    only_first, only_second = 13 / 42, 4 / 42
    middle = only_first - only_second
    half = 1.959963984540054 * ((only_first + only_second - middle**2) / 42) ** 0.5
    ours = s.bonett_price(first, second)
    assert (ours.low, ours.high) == pytest.approx((middle - half, middle + half), abs=1e-12)


def test_swapping_the_two_runs_mirrors_bonett_price() -> None:
    random = np.random.default_rng(3)
    first, second = random.integers(0, 2, (2, 25)).astype(float)
    one, other = s.bonett_price(first, second), s.bonett_price(second, first)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_a_difference_that_no_prompt_contradicts_still_has_a_width() -> None:
    interval = s.rate_difference_interval(np.ones(20), np.zeros(20))
    assert interval is not None
    assert interval.low < 0.99


def test_bca_agrees_with_scipys_bootstrap() -> None:
    values = np.random.default_rng(5).exponential(size=45)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=40_000, method="BCa", rng=1).confidence_interval
    ours = s.mean_interval(values)
    assert ours is not None
    assert ours.method == "BCa bootstrap over prompts"
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.015)


def test_bca_of_a_ratio_of_means_agrees_with_scipys_paired_bootstrap() -> None:
    random = np.random.default_rng(8)
    top, bottom = random.exponential(size=30) + 1, random.exponential(size=30) + 2

    def ratio(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(x.mean(axis=axis) / y.mean(axis=axis))

    theirs = stats.bootstrap(
        (top, bottom), ratio, paired=True, vectorized=True, n_resamples=20_000, method="BCa", rng=1
    ).confidence_interval
    low, high = s.bca(np.column_stack([top, bottom]), lambda m: (m[..., 0] / m[..., 1])[..., None])
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_between_8_and_19_prompts_the_interval_is_students() -> None:
    values = np.random.default_rng(0).normal(size=12)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    ours = s.mean_interval(values)
    assert ours is not None
    assert (ours.low, ours.high, ours.method) == pytest.approx((theirs.low, theirs.high, "t"))


def test_below_8_prompts_there_is_no_interval_of_a_mean() -> None:
    assert s.mean_interval(np.arange(7.0)) is None
    assert s.rate_difference_interval(np.ones(7), np.zeros(7)) is None


@pytest.mark.parametrize("n", [9, 25])
def test_adding_a_constant_moves_the_interval_by_it_and_scaling_scales_it(n: int) -> None:
    values = np.random.default_rng(1).gamma(2, size=n)
    plain, moved, scaled = (s.mean_interval(v) for v in (values, values + 7, values * 3))
    assert plain is not None
    assert moved is not None
    assert scaled is not None
    assert (moved.low, moved.high) == pytest.approx((plain.low + 7, plain.high + 7))
    assert (scaled.low, scaled.high) == pytest.approx((plain.low * 3, plain.high * 3))


def test_values_that_do_not_vary_have_an_interval_of_one_point() -> None:
    interval = s.mean_interval(np.full(30, 0.1))
    assert interval is not None
    assert (interval.low, interval.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_groups_together_have_the_intervals_they_have_alone() -> None:
    values = np.random.default_rng(2).normal(size=(30, 5))
    low, high, _ = s.mean_intervals(values)
    alone = [s.mean_intervals(column[:, None])[:2] for column in values.T]
    assert np.allclose(np.array([low, high]), np.hstack([np.array(ends) for ends in alone]), rtol=1e-12)


def test_chunked_resamples_are_means_over_prompts() -> None:
    means = s.resampled_means(np.arange(300.0)[:, None], draws=9_000)
    assert means.shape == (9_000, 1)
    assert means.mean() == pytest.approx(149.5, abs=1)
    assert means.std() == pytest.approx(np.arange(300).std() / 300**0.5, rel=0.05)


def brute_force_sign_flip(differences: np.ndarray) -> float:
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product([1, -1], repeat=len(differences))]
    return float(np.mean([value >= abs(differences.sum()) - 1e-9 for value in sums]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=1, max_size=8))
def test_sign_flips_up_to_fifteen_prompts_are_all_of_them(values: list[int]) -> None:
    differences = np.array(values, float)
    assert s.sign_flip(differences) == pytest.approx(brute_force_sign_flip(differences))


def test_drawn_sign_flips_come_close_to_the_exact_ones() -> None:
    differences = np.random.default_rng(4).normal(0.35, 1, 16)
    assert s.sign_flip(differences) == pytest.approx(brute_force_sign_flip(differences), abs=0.015)


def test_sign_flips_never_give_a_p_value_of_zero() -> None:
    assert s.sign_flip(np.ones(60)) == 1 / 10_001


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs() -> None:
    first = np.array([1] * 9 + [0] * 2 + [1] * 30, float)
    second = np.array([0] * 9 + [1] * 2 + [1] * 30, float)
    assert s.mcnemar(first, second) == pytest.approx(stats.binomtest(2, 11).pvalue)
    assert s.mcnemar(first, first) == 1.0


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04 -> x4 x3 x2 x1 = .04 .06 .06 .04, made monotone: .04 .06 .06 .06
    adjusted = s.holm(np.array([0.03, 0.01, 0.04, 0.02]))
    assert adjusted == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert s.holm(np.array([0.6, 0.7])) == pytest.approx([1, 1])


def test_nineteen_weaker_draws_make_a_p_value_of_one_in_twenty() -> None:
    draws = np.linspace(-0.3, 0.3, 19)
    assert s.against_draws(np.full(19, 0.9), draws) == 0.05
    assert s.against_draws(np.full(19, -0.9), draws) == 0.05
    assert s.against_draws(np.zeros(19), draws) == 1.0


def test_a_perfect_rate_needs_36_prompts_to_be_above_nine_tenths() -> None:
    assert s.prompts_to_decide(1.0, s.clopper_pearson(10, 10), 0.9, 10) == 36
    assert s.prompts_to_decide(0.9, s.clopper_pearson(9, 10), 0.9, 10) is None


def test_half_the_distance_needs_four_times_the_prompts() -> None:
    interval = s.Interval(0.3, 0.7, "BCa bootstrap over prompts")
    assert s.prompts_to_decide(0.5, interval, 0.4, 25) == 100
