from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from steer.measurement.shifts import Shift, logit_shifts

VOCAB = 40


def sides(seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(VOCAB, generator=random), torch.randn(VOCAB, generator=random)


def shifts(before: Tensor, after: Tensor, named: list[int], everything: bool) -> list[Shift]:
    """Of a single row."""
    [found] = logit_shifts(before, after[None], named, everything)
    return found


def test_each_row_agrees_with_a_plain_count_and_softmax() -> None:
    before, after = sides()
    for found in shifts(before, after, [3, 17], everything=True):
        token = found.token_id
        assert found.baseline_logit == before[token].item()
        assert found.intervened_logit == after[token].item()
        assert found.shift == found.intervened_logit - found.baseline_logit
        assert found.baseline_rank == sum(other > before[token] for other in before)
        assert found.intervened_rank == sum(other > after[token] for other in after)
        odds = np.exp(after.double().numpy())
        assert math.isclose(found.intervened_prob, odds[token] / odds.sum(), rel_tol=1e-9)


def test_named_come_first_then_likeliest_then_movers_and_no_token_twice() -> None:
    before, after = sides()
    tokens = [found.token_id for found in shifts(before, after, [3, 17, 3], everything=True)]
    assert tokens[:2] == [3, 17]
    assert len(set(tokens)) == len(tokens)
    first, second = before.numpy(), after.numpy()
    shift = second - first
    wanted = {3, 17, *np.argsort(-first)[:5].tolist(), *np.argsort(-second)[:5].tolist()}
    wanted |= {*np.argsort(-shift)[:5].tolist(), *np.argsort(shift)[:5].tolist()}
    assert set(tokens) == wanted


def test_controls_keep_the_named_tokens_alone() -> None:
    assert [found.token_id for found in shifts(*sides(), [5], everything=False)] == [5]
    assert shifts(*sides(), [], everything=False) == []


def test_where_nothing_moves_there_are_no_movers() -> None:
    before, _ = sides()
    found = shifts(before, before, [], everything=True)
    assert len(found) == 5
    assert all(row.shift == 0 for row in found)


def test_a_small_vocabulary_is_listed_once() -> None:
    assert len(shifts(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0]), [], everything=True)) == 2


def test_no_row_holds_a_nan_or_an_infinity() -> None:
    before, after = sides()
    before[4] = after[4] = -torch.inf
    after[5] = -torch.inf
    found = shifts(before, after, [4, 5, 6], everything=True)
    assert 6 in {row.token_id for row in found}
    assert all(math.isfinite(value) for row in found for value in row)
    after[0] = torch.nan
    assert shifts(before, after, [6], everything=True) == []


def test_rows_are_found_together_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before, _ = sides()
    after = torch.stack([sides(seed)[1] for seed in range(7)])
    after[3, 5] = torch.nan
    after[4] = before
    monkeypatch.setattr("steer.measurement.shifts.LOGITS", 3 * VOCAB)  # three rows at a time
    for everything in (True, False):
        alone = [shifts(before, row, [3, 17], everything) for row in after]
        assert logit_shifts(before, after, [3, 17], everything) == alone
        assert [not row for row in alone] == [b == 3 for b in range(7)]
