from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from steer.discovery.contrast import contrasts
from steer.discovery.survey import Moments

RANDOM = np.random.default_rng(3)


def moments(groups: list[np.ndarray]) -> Moments:
    """What a survey of prompts with these activations, `[prompt layer feature]` by group, would give."""
    return Moments(
        layers=(1, 4),
        count=np.array([float(len(group)) for group in groups]),
        total=np.stack([group.sum(0) for group in groups]),
        squares=np.stack([(group**2).sum(0) for group in groups]),
    )


def random_groups(sizes: list[int], width: int = 9) -> list[np.ndarray]:
    return [RANDOM.gamma(1.0, 1.0, (n, 2, width)) for n in sizes]


def test_two_sets_are_compared_as_welch_s_test_compares_them() -> None:
    positive, negative = random_groups([7, 11])
    found = contrasts(moments([positive, negative]), 0, top=18)
    assert found
    for one in found:
        first, second = (side[:, (1, 4).index(one.layer), one.index] for side in (positive, negative))
        low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
        assert (one.low, one.high) == pytest.approx((low, high))
        assert one.difference == pytest.approx(first.mean() - second.mean())
        assert one.standardised == pytest.approx(one.difference / np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2))


def test_of_many_groups_each_counts_once_and_is_the_unit() -> None:
    groups = random_groups([6, 3, 20, 5])
    for one in contrasts(moments(groups), 0, top=18, shared=True):
        first, *others = (group[:, (1, 4).index(one.layer), one.index] for group in groups)
        means = [other.mean() for other in others]
        low, high = stats.ttest_ind(first, means, equal_var=False).confidence_interval(0.95)
        assert one.rest == pytest.approx(np.mean(means))
        assert (one.low, one.high) == pytest.approx((low, high))
        assert (one.other, one.largest_other) == (pytest.approx(max(means)), 1 + int(np.argmax(means)))


def test_a_feature_that_another_group_has_more_of_is_none_of_this_group() -> None:
    groups = random_groups([6, 4, 4, 4])
    means = np.stack([group.mean(0) for group in groups])
    beats = {(layer, f) for layer in range(2) for f in range(9) if means[0, layer, f] > means[1:, layer, f].max()}
    found = contrasts(moments(groups), 0, top=18)
    assert {((1, 4).index(one.layer), one.index) for one in found} == beats
    assert len(contrasts(moments(groups), 0, top=18, shared=True)) > len(beats)


def test_the_larger_difference_comes_first_and_equals_in_the_order_of_layer_and_index() -> None:
    positive = np.zeros((2, 2, 4))
    positive[:, 0] = [1, 3, 1, 0]
    positive[:, 1] = [3, 1, 0, 2]
    found = contrasts(moments([positive, np.zeros((2, 2, 4))]), 0, top=5)
    assert [one.feature for one in found] == ["1/1", "4/0", "4/3", "1/0", "1/2"]
    by_layer = contrasts(moments([positive, np.zeros((2, 2, 4))]), 0, top=2, per_layer=True)
    assert [one.feature for one in by_layer] == ["1/1", "1/0", "4/0", "4/3"]


def test_one_prompt_a_side_has_no_interval() -> None:
    [best] = contrasts(moments([np.ones((1, 2, 3)), np.zeros((1, 2, 3))]), 0, top=1)
    assert best.difference == 1
    assert np.isnan([best.low, best.high, best.standardised]).all()
