from __future__ import annotations

import torch

from steer.measurement.features import feature_activation, group_activation


def test_a_group_s_activation_is_the_sum_and_a_feature_s_the_mean_over_members() -> None:
    activations = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    assert group_activation(activations).tolist() == [9, 0]
    assert feature_activation(activations).tolist() == [3, 0]


def test_on_a_single_feature_both_are_its_activation() -> None:
    activations = torch.tensor([[1.5], [-2.0]])
    assert group_activation(activations).tolist() == feature_activation(activations).tolist() == [1.5, -2]
