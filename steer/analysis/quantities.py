"""The number that an expectation judges, its interval, and the test of a difference."""

from __future__ import annotations

import numpy as np

from steer.analysis.samples import Sample
from steer.analysis.statistics import (
    BCA,
    BOOTSTRAP_FROM,
    T_FROM,
    Array,
    Interval,
    bca,
    is_binary,
    mcnemar,
    mean_interval,
    percentile_interval,
    rate_difference_interval,
    rate_interval,
    sign_flip,
)
from steer.experiment.spec import Expectation


def statistic(expectation: Expectation, data: Sample, means: Array) -> Array:
    """The judged number from mean values `[... points sides parts]`."""
    curve = levels(means)
    if expectation.statistic == "peak":
        return np.asarray(np.asarray(data.points, float)[np.argmax(curve, axis=-1)])
    if expectation.statistic == "crossover":
        return crossover(np.asarray(data.points, float), curve)
    if expectation.trend is not None:
        return steady_rise(curve if expectation.trend == "increasing" else -curve, expectation.slack)
    return curve[..., 0]


def levels(means: Array) -> Array:
    """`[... points]`: parts divided (a ratio of means, not a mean of ratios), then sides subtracted."""
    sides: Array = means[..., 0]
    if means.shape[-1] == 2:
        sides = sides / np.where(means[..., 1] == 0, np.nan, means[..., 1])
    return sides[..., 0] - sides[..., 1] if sides.shape[-1] == 2 else sides[..., 0]


def crossover(points: Array, curve: Array) -> Array:
    """The smallest dose at which `curve [... points]` rises above 0, between doses by a straight line; NaN if never."""
    above = curve > 0
    first = np.argmax(above, axis=-1)
    before = np.maximum(first - 1, 0)
    high = np.take_along_axis(curve, first[..., None], axis=-1)[..., 0]
    low = np.take_along_axis(curve, before[..., None], axis=-1)[..., 0]
    rise = np.where(high > low, high - low, 1.0)
    dose = points[before] + (points[first] - points[before]) * np.where(first > 0, -low / rise, 0.0)
    return np.where(above.any(axis=-1), dose, np.nan)


def steady_rise(curve: Array, slack: float) -> Array:
    """How much `curve [... points]` rises from its first dose to its last; negative where it falls on the way.

    A fall of more than `slack` from any dose to a later one replaces the rise. Only a positive number is a trend:
    a flat curve, the mark of an effect that is gone, is not increasing.
    """
    fall = (curve - np.maximum.accumulate(curve, axis=-1)).min(axis=-1)
    return np.where(fall < -slack - 1e-9, fall, curve[..., -1] - curve[..., 0])


# --- the interval -------------------------------------------------------------------------------------------------


def interval_of(expectation: Expectation, data: Sample) -> Interval | None:
    """By the kind of the data, as `statistics.py` has it for rates, their differences and means; None if none is."""
    confidence = expectation.confidence or 0.95
    values, n = data.values, len(data.prompts)
    if expectation.over is not None:
        return _curve_interval(expectation, data, confidence) if n >= BOOTSTRAP_FROM else None
    if values.shape[3] == 2:
        return _ratio_interval(values, confidence)
    first, second = values[:, 0, 0, 0], values[:, 0, -1, 0]
    match data.hits, values.shape[2]:
        case True, 1:
            return rate_interval(first, data.trials, confidence)
        case True, _:
            return rate_difference_interval(first, second, confidence)
        case _, 1:
            return mean_interval(first, confidence)
        case _:
            return mean_interval(first - second, confidence)


def _curve_interval(expectation: Expectation, data: Sample, confidence: float) -> Interval:
    shape = data.values.shape[1:]
    flat = data.values.reshape(len(data.prompts), -1)
    return percentile_interval(flat, lambda m: statistic(expectation, data, m.reshape(-1, *shape)), confidence)


def _ratio_interval(values: Array, confidence: float) -> Interval | None:
    """Of a ratio of means: BCa, or t of what each prompt contributes; none below 8 prompts or where a mean is 0."""
    n, shape = len(values), values.shape[1:]
    if n < T_FROM or np.isnan(levels(values.mean(axis=0))).any():
        return None
    if n < BOOTSTRAP_FROM:
        return mean_interval(linearised(values), confidence)
    flat = values.reshape(n, -1)
    low, high = bca(flat, lambda means: levels(means.reshape(*means.shape[:-1], *shape)), confidence)
    return Interval(float(low[0]), float(high[0]), BCA)


def linearised(values: Array) -> Array:
    """Each prompt's share `[n]` of the quantity, whose mean is the quantity itself (a ratio by the delta method)."""
    mean = values.mean(axis=0, keepdims=True)
    sides: Array = values[..., 0]
    if values.shape[-1] == 2:
        ratio = mean[..., 0] / mean[..., 1]
        sides = ratio + (sides - ratio * values[..., 1]) / mean[..., 1]
    return sides[:, 0, 0] - sides[:, 0, 1] if sides.shape[2] == 2 else sides[:, 0, 0]


def difference_test(expectation: Expectation, data: Sample) -> tuple[float | None, str]:
    """Is the difference 0? McNemar for paired hits, sign flips otherwise; only where there is a difference."""
    if data.values.shape[2] < 2 or data.values.shape[3] > 1 or expectation.over is not None:
        return None, ""
    first, second = data.values[:, 0, 0, 0], data.values[:, 0, 1, 0]
    if data.hits and is_binary(first) and is_binary(second):
        return mcnemar(first, second), "McNemar"
    return sign_flip(first - second), "sign-flip permutation"
