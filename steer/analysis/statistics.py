"""Intervals and tests over prompts: pure functions on numpy arrays, one row per prompt.

The prompt is the unit of resampling (Miller, arXiv 2411.00640); no normal approximation at these sizes (Bowyer,
arXiv 2503.01747). Every interval is two-sided; `confidence` is its coverage, 0.95 unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.floating[Any]]
Statistic = Callable[[Array], Array]

RESAMPLES = 10_000
EXACT_SIGN_FLIPS = 2**15
BOOTSTRAP_FROM = 20
T_FROM = 8
SEARCHED = 10_000
"""Beyond so many prompts, how many would decide a rate is estimated, not searched."""
CHUNK = 2_000_000
"""Resampled prompts held in memory at once."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval and the name of its method."""

    low: float
    high: float
    method: str


# --- rates: one hit or miss per prompt --------------------------------------------------------------------------


def clopper_pearson(hits: int, n: int, confidence: float = 0.95) -> Interval:
    """Exact interval of a rate (Clopper and Pearson 1934): beta quantiles."""
    low, high = clopper_pearson_ends(np.array([hits]), np.array([n]), confidence)
    return Interval(float(low[0]), float(high[0]), "Clopper-Pearson")


def clopper_pearson_ends(hits: NDArray[Any], n: NDArray[Any], confidence: float = 0.95) -> tuple[Array, Array]:
    """Both ends of the exact intervals of many rates `[k]`."""
    tail = (1 - confidence) / 2
    low = np.where(hits == 0, 0.0, stats.beta.ppf(tail, hits, n - hits + 1))
    high = np.where(hits == n, 1.0, stats.beta.ppf(1 - tail, hits + 1, n - hits))
    return low, high


def bonett_price(first: Array, second: Array, confidence: float = 0.95) -> Interval:
    """Interval of rate(first) - rate(second) for paired hits `[n]` of 0 and 1.

    Bonett and Price 2012: a Wald interval after adding one to both discordant counts and two to n.
    """
    n = len(first)
    only_first = (np.sum(first > second) + 1) / (n + 2)
    only_second = (np.sum(first < second) + 1) / (n + 2)
    difference = only_first - only_second
    z = stats.norm.ppf((1 + confidence) / 2)
    half = z * np.sqrt((only_first + only_second - difference**2) / (n + 2))
    return Interval(float(max(-1, difference - half)), float(min(1, difference + half)), "Bonett-Price")


def mcnemar(first: Array, second: Array) -> float:
    """Exact two-sided p-value that paired hits `[n]` have equal rates: a binomial test of the discordant pairs."""
    only_first, only_second = int(np.sum(first > second)), int(np.sum(first < second))
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def rate_interval(values: Array, confidence: float = 0.95) -> Interval | None:
    """Interval of a rate from `values [n]`: exact for hits and misses, as for a mean where seeds disagree."""
    if is_binary(values):
        return clopper_pearson(int(values.sum()), len(values), confidence)
    return mean_interval(values, confidence)


def rate_difference_interval(first: Array, second: Array, confidence: float = 0.95) -> Interval | None:
    """Interval of a difference of paired rates `[n]`: Bonett-Price for hits and misses, else of the mean difference.

    A difference that no prompt contradicts would have a bootstrap interval of width 0; this one never does.
    """
    if is_binary(first) and is_binary(second) and len(first) >= T_FROM:
        return bonett_price(first, second, confidence)
    return mean_interval(first - second, confidence)


def is_binary(values: Array) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.all((values == 0) | (values == 1)))


# --- means --------------------------------------------------------------------------------------------------------


def mean_interval(values: Array, confidence: float = 0.95) -> Interval | None:
    """Interval of the mean of `values [n]`: BCa bootstrap from 20 prompts, t from 8, none below."""
    low, high, method = mean_intervals(values[:, None], confidence)
    return Interval(float(low[0]), float(high[0]), method) if method else None


def mean_intervals(values: Array, confidence: float = 0.95) -> tuple[Array, Array, str]:
    """Ends `[k]` of the intervals of the means of `values [n k]`, which share their resamples; NaN below 8 prompts."""
    if len(values) >= BOOTSTRAP_FROM:
        return *bca(values, lambda means: means, confidence), "BCa bootstrap over prompts"
    if len(values) >= T_FROM:
        return *t_ends(values, confidence), "t"
    nothing = np.full(values.shape[1], np.nan)
    return nothing, nothing, ""


def t_ends(values: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """Ends of Student's t intervals of the means of `values [n k]`."""
    n = len(values)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(n)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * error
    return mean - half, mean + half


def resampled_means(values: Array, draws: int = RESAMPLES, seed: int = 0) -> Array:
    """Means `[draws k]` of prompts drawn with replacement from `values [n k]`, the same prompts for every column."""
    centre = values.mean(axis=0)
    rows = [counts @ (values - centre) for counts in _resamples(len(values), draws, seed)]
    return np.asarray(np.concatenate(rows) / len(values) + centre)


def _resamples(n: int, draws: int, seed: int) -> Iterator[Array]:
    """How often each prompt is drawn, `[chunk n]`, in chunks that fit in memory."""
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // n)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        drawn = generator.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(float)


def bca(values: Array, statistic: Statistic, confidence: float = 0.95, seed: int = 0) -> tuple[Array, Array]:
    """Ends of the bias-corrected and accelerated bootstrap intervals (Efron 1987) of `statistic(means)`.

    `values [n k]` has a row per prompt; `statistic` maps means `[... k]` to `[... m]`. Where the statistic does
    not vary, both ends are the estimate.
    """
    n = len(values)
    mean = values.mean(axis=0)
    estimate = statistic(mean)
    draws = statistic(resampled_means(values, seed=seed))
    left_out = statistic((n * mean - values) / (n - 1))
    ranks = _bca_ranks(estimate, draws, left_out, confidence)
    ends = [_quantiles(draws, rank) for rank in ranks]
    still = np.ptp(draws, axis=0) <= 1e-12 * (1 + np.abs(estimate))
    return np.where(still, estimate, ends[0]), np.where(still, estimate, ends[1])


def _bca_ranks(estimate: Array, draws: Array, left_out: Array, confidence: float) -> list[Array]:
    tolerance = 1e-9 * (np.std(draws, axis=0) + 1e-300)  # draws that tie with the estimate count half
    below = np.mean(draws < estimate - tolerance, axis=0)
    ties = np.mean(np.abs(draws - estimate) <= tolerance, axis=0)
    share = np.clip(below + ties / 2, 0.5 / len(draws), 1 - 0.5 / len(draws))
    bias = stats.norm.ppf(share)
    deviation = left_out.mean(axis=0) - left_out
    spread = np.sum(deviation**2, axis=0) ** 1.5
    acceleration = np.sum(deviation**3, axis=0) / (6 * np.where(spread > 0, spread, 1))
    tails = [bias + stats.norm.ppf(tail) for tail in ((1 - confidence) / 2, (1 + confidence) / 2)]
    return [stats.norm.cdf(bias + tail / (1 - acceleration * tail)) for tail in tails]


def _quantiles(draws: Array, ranks: Array) -> Array:
    return np.array([np.quantile(column, rank) for column, rank in zip(draws.T, ranks, strict=True)])


def percentile_interval(values: Array, statistic: Statistic, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of a statistic that is not smooth (a peak, a crossover, the worst step).

    `statistic` maps means `[... k]` to `[...]`; a resample without a value counts as infinitely late.
    """
    draws = statistic(resampled_means(values, seed=seed))
    draws = np.where(np.isnan(draws), np.inf, draws)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], method="inverted_cdf")
    return Interval(float(low), float(high), "percentile bootstrap over prompts")


# --- tests --------------------------------------------------------------------------------------------------------


def sign_flip(differences: Array, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that `differences [n]` are symmetric around 0: all sign patterns up to 2^15, else draws."""
    n = len(differences)
    exact = 2**n <= EXACT_SIGN_FLIPS
    signs = _sign_patterns(n) if exact else np.random.default_rng(seed).choice([-1.0, 1.0], (draws, n))
    observed = abs(differences.sum())
    extreme = int(np.sum(np.abs(signs @ differences) >= observed * (1 - 1e-12)))
    return extreme / len(signs) if exact else (1 + extreme) / (1 + draws)


def _sign_patterns(n: int) -> Array:
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)


def against_draws(target: Array, draws: Array) -> float:
    """(1 + number of draws at least as large as the target in absolute value) / (1 + draws).

    Both `[draws]`: the target's effect over the prompts of each draw, and the draw's own. Phipson and Smyth 2010.
    """
    larger = np.abs(draws) >= np.abs(target) * (1 - 1e-12)
    return (1 + int(np.sum(larger))) / (1 + len(draws))


def holm(p_values: Array) -> Array:
    """Holm's step-down adjustment `[m]` of a family of p-values (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, stepped)
    return adjusted


def prompts_to_decide(estimate: float, interval: Interval, bound: float, n: int) -> int | None:
    """About how many prompts with the same estimate would clear the bound; None if it lies on the bound.

    Exact for a rate of hits (the interval is computed again), else by its width shrinking as 1 / sqrt(n).
    """
    distance = abs(estimate - bound)
    reach = estimate - interval.low if estimate > bound else interval.high - estimate
    if distance <= 1e-9 or not np.isfinite(reach):
        return None
    guess = max(n + 1, int(np.ceil(n * (reach / distance) ** 2 - 1e-6)))
    if interval.method != "Clopper-Pearson" or guess > SEARCHED:
        return guess
    sizes = np.arange(n + 1, 4 * guess)
    low, high = clopper_pearson_ends(np.rint(estimate * sizes), sizes)
    clear = sizes[low >= bound] if estimate > bound else sizes[high <= bound]
    return int(clear[0]) if len(clear) else guess
