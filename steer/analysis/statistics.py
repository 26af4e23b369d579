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

CLOPPER_PEARSON, KORN_GRAUBARD, BONETT_PRICE = "Clopper-Pearson", "Korn-Graubard", "Bonett-Price"
BCA, PERCENTILE = "BCa bootstrap over prompts", "percentile bootstrap over prompts"
STUDENT = "t, corrected for skewness"

RESAMPLES = 10_000
EXACT_SIGN_FLIPS = 2**15
BOOTSTRAP_FROM = 20
T_FROM = 8
FEW = 5
"""With fewer prompts that have a hit, or fewer that have a miss, how much rates vary cannot be seen in them."""
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


@dataclass(frozen=True)
class Intervals:
    """Intervals of many data sets of the same size: `low [k]`, `high [k]`, and methods; NaN and "" where none is."""

    low: Array
    high: Array
    methods: NDArray[Any]

    @classmethod
    def none(cls, k: int) -> Intervals:
        return cls(np.full(k, np.nan), np.full(k, np.nan), np.full(k, "", dtype=object))

    def put(self, where: NDArray[Any], low: Array, high: Array, method: str) -> None:
        """Fill in the data sets `where [k]` points at."""
        self.low[where], self.high[where], self.methods[where] = low, high, method

    @property
    def only(self) -> Interval | None:
        """The interval of the one data set there is."""
        (method,) = self.methods
        return Interval(float(self.low[0]), float(self.high[0]), method) if method else None


# --- rates --------------------------------------------------------------------------------------------------------


def clopper_pearson(hits: float, n: float, confidence: float = 0.95) -> Interval:
    """Exact interval of a rate (Clopper and Pearson 1934): beta quantiles."""
    low, high = clopper_pearson_ends(np.array([hits]), np.array([n]), confidence)
    return Interval(float(low[0]), float(high[0]), CLOPPER_PEARSON)


def clopper_pearson_ends(hits: NDArray[Any], n: NDArray[Any] | int, confidence: float = 0.95) -> tuple[Array, Array]:
    """Both ends of the exact intervals of many rates `[k]`."""
    tail = (1 - confidence) / 2
    low = np.where(hits == 0, 0.0, stats.beta.ppf(tail, hits, n - hits + 1))
    high = np.where(hits == n, 1.0, stats.beta.ppf(1 - tail, hits + 1, n - hits))
    return low, high


def korn_graubard_ends(values: Array, trials: int, confidence: float = 0.95) -> tuple[Array, Array]:
    """Ends of intervals of rates from `values [n k]`, the shares of hits in `trials` of each prompt.

    Korn and Graubard 1998 (Survey Methodology 24:193): Clopper-Pearson for as many independent trials as have the
    variance that is seen between prompts. Here at least one a prompt and at most `trials`; and the variance is
    trusted no further than the prompts that stand out show it, with as many degrees of freedom as there are of them.
    """
    n, rate = len(values), values.mean(axis=0)
    variance = values.var(axis=0, ddof=1) / n
    independent = rate * (1 - rate) / np.where(variance > 0, variance, np.inf)
    quantile = (1 + confidence) / 2
    trust = stats.t.ppf(quantile, n * trials) / stats.t.ppf(quantile, np.maximum(1, standing_out(values)))
    effective = np.clip(independent * trust**2, n, n * trials)
    return clopper_pearson_ends(rate * effective, effective, confidence)


def standing_out(values: Array) -> NDArray[Any]:
    """How many prompts of `values [n k]` have a hit, or how many have a miss, whichever is less; `[k]`."""
    return np.asarray(np.minimum(np.sum(values > 1e-9, axis=0), np.sum(values < 1 - 1e-9, axis=0)))


def rate_intervals(values: Array, trials: int, confidence: float = 0.95) -> Intervals:
    """Intervals of many rates from `values [n k]`, the shares of hits in `trials` of each prompt.

    One hit or miss a prompt, or trials that all agree: Clopper-Pearson. Shares: as for a mean where enough prompts
    stand out, else Korn-Graubard; a bootstrap of nothing but misses would be as sure as of none at all.
    """
    found = Intervals.none(values.shape[1])
    exact = _binary(values)
    found.put(exact, *clopper_pearson_ends(values[:, exact].sum(axis=0), len(values), confidence), CLOPPER_PEARSON)
    if len(values) < T_FROM:
        return found
    seen = ~exact & _varies(values) & (standing_out(values) >= FEW)
    found.put(seen, *mean_intervals(values[:, seen], confidence))
    rest = ~exact & ~seen
    found.put(rest, *korn_graubard_ends(values[:, rest], trials, confidence), KORN_GRAUBARD)
    return found


def rate_interval(values: Array, trials: int, confidence: float = 0.95) -> Interval | None:
    """Interval of one rate from the shares of hits `[n]` in `trials` of each prompt; see `rate_intervals`."""
    return rate_intervals(values[:, None], trials, confidence).only


def bonett_price_ends(differences: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """Ends of intervals of differences of paired rates, from the prompts' own `differences [n k]`.

    Bonett and Price 2012 (Stat. Methods Med. Res. 21:479): a Wald interval after one prompt of each kind of
    disagreement is added. For hits and misses this is their formula; shares of hits go into it as they are.
    """
    n, z = len(differences) + 2, stats.norm.ppf((1 + confidence) / 2)
    mean = differences.sum(axis=0) / n
    half = z * np.sqrt((((differences**2).sum(axis=0) + 2) / n - mean**2) / n)
    return np.maximum(-1, mean - half), np.minimum(1, mean + half)


def rate_difference_intervals(first: Array, second: Array, confidence: float = 0.95) -> Intervals:
    """Intervals of rate(first) - rate(second) from paired shares of hits `[n k]`; none below 8 prompts.

    Bonett-Price for hits and misses; for shares that of the mean difference where enough prompts stand out on both
    sides, else Bonett-Price too: a difference that no prompt contradicts would have a bootstrap interval of width 0.
    """
    found, difference = Intervals.none(first.shape[1]), first - second
    if len(first) < T_FROM:
        return found
    enough = np.minimum(standing_out(first), standing_out(second)) >= FEW
    seen = enough & _varies(difference) & ~(_binary(first) & _binary(second))
    found.put(seen, *mean_intervals(difference[:, seen], confidence))
    found.put(~seen, *bonett_price_ends(difference[:, ~seen], confidence), BONETT_PRICE)
    return found


def rate_difference_interval(first: Array, second: Array, confidence: float = 0.95) -> Interval | None:
    """Interval of the difference of two paired rates `[n]`; see `rate_difference_intervals`."""
    return rate_difference_intervals(first[:, None], second[:, None], confidence).only


def mcnemar(first: Array, second: Array) -> float:
    """Exact two-sided p-value that paired hits `[n]` have equal rates: a binomial test of the discordant pairs."""
    only_first, only_second = int(np.sum(first > second)), int(np.sum(first < second))
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def is_binary(values: Array) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.all((values == 0) | (values == 1)))


def _binary(values: Array) -> NDArray[Any]:
    return np.asarray(np.all((values == 0) | (values == 1), axis=0))


def _varies(values: Array) -> NDArray[Any]:
    return np.asarray(np.ptp(values, axis=0) > 1e-9)


# --- means --------------------------------------------------------------------------------------------------------


def mean_interval(values: Array, confidence: float = 0.95) -> Interval | None:
    """Interval of the mean of `values [n]`: BCa bootstrap from 20 prompts, t from 8, none below."""
    low, high, method = mean_intervals(values[:, None], confidence)
    return Interval(float(low[0]), float(high[0]), method) if method else None


def mean_intervals(values: Array, confidence: float = 0.95) -> tuple[Array, Array, str]:
    """Ends `[k]` of the intervals of the means of `values [n k]`, which share their resamples; NaN below 8 prompts."""
    if len(values) >= BOOTSTRAP_FROM:
        return *bca(values, lambda means: means, confidence), BCA
    if len(values) >= T_FROM:
        return *t_ends(values, confidence), STUDENT
    nothing = np.full(values.shape[1], np.nan)
    return nothing, nothing, ""


def t_ends(values: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """Ends of Student's t intervals of the means of `values [n k]`, after Hall's transformation.

    Hall 1992 (J. R. Stat. Soc. B 54:221) makes the statistic of skewed values symmetric; without skewness this is
    Student's interval. Plain t of 10 exponential values covers .90 where it says .95, this .94.
    """
    n, mean, spread = len(values), values.mean(axis=0), values.std(axis=0, ddof=1)
    skewness = _skewness(values)
    reach = stats.t.ppf((1 + confidence) / 2, n - 1) / np.sqrt(n)
    return mean - spread * _hall(reach, skewness, n), mean - spread * _hall(-reach, skewness, n)


def _skewness(values: Array) -> Array:
    """Of each column of `values [n k]`; 0 where nothing varies, or so little that rounding decides."""
    deviation = values - values.mean(axis=0)
    spread = np.sqrt((deviation**2).mean(axis=0))
    still = spread <= 1e-12 * (1 + np.abs(values).max(axis=0))
    return np.where(still, 0.0, (deviation**3).mean(axis=0) / np.where(still, 1.0, spread) ** 3)


def _hall(reach: float, skewness: Array, n: int) -> Array:
    """The statistic t / sqrt(n) whose transform is `reach`: the inverse of Hall's cubic."""
    bent = np.where(np.abs(skewness) < 1e-6, 1.0, skewness)
    inverse = 3 / bent * (np.cbrt(1 + bent * (reach - bent / (6 * n))) - 1)
    return np.where(np.abs(skewness) < 1e-6, reach, inverse)


def reach_of(confidence: float, n: int) -> float:
    """The normal quantile at which bootstrap intervals over `n` prompts are read off: t's, times sqrt(n / (n - 1)).

    Resamples of n prompts vary by (n - 1) / n of what they should, and nothing in them makes up for the unknown
    variance (Hesterberg 2015, The American Statistician 69:371). Without this BCa of 20 values covers .92.
    """
    return float(stats.t.ppf((1 + confidence) / 2, n - 1) * np.sqrt(n / (n - 1)))


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
    not vary, both ends are the estimate. The ends are those of `scipy.stats.bootstrap` at the same level; by hand
    because scipy resamples every column anew, leaves out each prompt in n^2 steps, and tells equal sums apart by
    their rounding, which shifts the interval of a rate.
    """
    n = len(values)
    mean = values.mean(axis=0)
    estimate = statistic(mean)
    ordered = np.sort(statistic(resampled_means(values, seed=seed)).T)
    left_out = statistic((n * mean - values) / (n - 1))
    ranks = _bca_ranks(estimate, ordered, left_out, reach_of(confidence, n))
    ends = [_quantiles(ordered, rank) for rank in ranks]
    still = ordered[:, -1] - ordered[:, 0] <= 1e-12 * (1 + np.abs(estimate))
    return np.where(still, estimate, ends[0]), np.where(still, estimate, ends[1])


def _bca_ranks(estimate: Array, ordered: Array, left_out: Array, reach: float) -> list[Array]:
    """The two shares `[m]` of the resampled statistics `ordered [m draws]` that lie below the ends."""
    tolerance = 1e-9 * (np.std(ordered, axis=1) + 1e-300)  # draws that tie with the estimate count half
    below = np.mean(ordered < (estimate - tolerance)[:, None], axis=1)
    up_to = np.mean(ordered <= (estimate + tolerance)[:, None], axis=1)
    draws = ordered.shape[1]
    bias = stats.norm.ppf(np.clip((below + up_to) / 2, 0.5 / draws, 1 - 0.5 / draws))
    deviation = left_out.mean(axis=0) - left_out
    spread = np.sum(deviation**2, axis=0) ** 1.5
    acceleration = np.sum(deviation**3, axis=0) / (6 * np.where(spread > 0, spread, 1))
    tails = [bias - reach, bias + reach]
    return [stats.norm.cdf(bias + tail / (1 - acceleration * tail)) for tail in tails]


def _quantiles(ordered: Array, ranks: Array) -> Array:
    """The quantile of every row of `ordered [m draws]` at its own rank `[m]`, between draws by a straight line."""
    place = ranks * (ordered.shape[1] - 1)
    before = np.floor(place).astype(int)
    after = np.minimum(before + 1, ordered.shape[1] - 1)
    rows = np.arange(len(ordered))
    low, high = ordered[rows, before], ordered[rows, after]
    return np.asarray(low + (place - before) * (high - low))


def percentile_interval(values: Array, statistic: Statistic, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of a statistic that is not smooth (a peak, a crossover, the worst step).

    `statistic` maps means `[... k]` to `[...]`; a resample without a value counts as infinitely late.
    """
    draws = statistic(resampled_means(values, seed=seed))
    draws = np.where(np.isnan(draws), np.inf, draws)
    tails = stats.norm.cdf([-reach_of(confidence, len(values)), reach_of(confidence, len(values))])
    low, high = np.quantile(draws, tails, method="inverted_cdf")
    return Interval(float(low), float(high), PERCENTILE)


# --- tests --------------------------------------------------------------------------------------------------------


def sign_flip(differences: Array, draws: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value that `differences [n]` are symmetric around 0: all sign patterns up to 2^15, else draws.

    What `scipy.stats.permutation_test(..., permutation_type="samples")` computes, which takes seconds for hundreds
    of prompts. Of random patterns the observed one counts as one, so p is never 0 (Phipson and Smyth 2010).
    """
    n = len(differences)
    observed = abs(differences.sum()) * (1 - 1e-12)
    if 2**n <= EXACT_SIGN_FLIPS:
        return float(np.mean(np.abs(_sign_patterns(n) @ differences) >= observed))
    drawn = (np.abs(signs @ differences) >= observed for signs in _random_signs(n, draws, seed))
    return (1 + sum(int(np.sum(extreme)) for extreme in drawn)) / (1 + draws)


def _sign_patterns(n: int) -> Array:
    return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)


def _random_signs(n: int, draws: int, seed: int) -> Iterator[Array]:
    """Random signs `[chunk n]`, in chunks that fit in memory."""
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // n)
    for start in range(0, draws, step):
        yield generator.choice([-1.0, 1.0], (min(step, draws - start), n))


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


def prompts_to_decide(
    estimate: float, interval: Interval, low: float, high: float, n: int, confidence: float = 0.95
) -> int | None:
    """About how many prompts with the same estimate would bring the interval to one side of the bound `low, high`.

    Exact for a rate of hits (the interval is computed again), else by its width shrinking as 1 / sqrt(n). None if the
    estimate lies on the bound, or the interval has no end.
    """
    inside = low <= estimate <= high
    ends = [end for end in (low, high) if np.isfinite(end)] if inside else [low if estimate < low else high]
    shares = [_share(estimate, interval, end) for end in ends]
    if not np.all(np.isfinite(shares)):
        return None
    guess = max(n + 1, *(int(np.ceil(n * share**2 - 1e-6)) for share in shares))
    if interval.method != CLOPPER_PEARSON or guess > SEARCHED:
        return guess
    sizes = np.arange(n + 1, 4 * guess)
    lows, highs = clopper_pearson_ends(np.rint(estimate * sizes), sizes, confidence)
    clear = sizes[(lows >= low) & (highs <= high) if inside else (highs < low) | (lows > high)]
    return int(clear[0]) if len(clear) else guess


def _share(estimate: float, interval: Interval, end: float) -> float:
    """How far the interval reaches towards an end of the bound, over how far that is; not finite on the bound."""
    distance = abs(estimate - end)
    reach = estimate - interval.low if estimate > end else interval.high - estimate
    return reach / distance if distance > 1e-9 else np.inf
