from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter

from steer.errors import RunError
from steer.experiment import spec
from steer.measurement.measure import Needs, Side, measure, measure_rows, needs, targets

WORDS = {" yes": (1,), " no": (2,), " maybe": (3,), " perhaps not": (1, 2), "": ()}


@dataclass(frozen=True)
class Text:
    ids: tuple[int, ...]
    text: str
    stop_reason: str = "eos"


def parsed(**fields: Any) -> spec.Measurement:
    return TypeAdapter(spec.Measurement).validate_python(fields)


def pieces(word: str) -> tuple[int, ...]:
    return WORDS[word]


BASELINE = Side(
    logits=torch.tensor([[0.0, 1.0, 2.0, 3.0]]),
    activations=torch.tensor([[1.0, 3.0]]),
    completion=Text((4, 5, 6), "the tower."),
    nll=math.log(2),
    completion_kl=None,
)
INTERVENED = Side(
    logits=torch.tensor([[0.0, 4.0, 2.0, 3.0]]),
    activations=torch.tensor([[8.0, 0.0]]),
    completion=Text((4, 5, 5, 5, 5), "the Golden Gate Bridge", "length"),
    nll=math.log(8),
    completion_kl=0.25,
)


def plogp(yes: float) -> float:
    """The entropy of softmax(0, yes, 2, 3)."""
    total = sum(map(math.exp, (0, yes, 2, 3)))
    return -sum(math.exp(x) / total * (x - math.log(total)) for x in (0, yes, 2, 3))


BEFORE, AFTER = (math.exp(yes) / sum(map(math.exp, (0, yes, 2, 3))) for yes in (1, 4))  # p(" yes")
ALL: list[tuple[dict[str, Any], tuple[float | None, float | None]]] = [
    ({"type": "token_prob", "target": " yes"}, (BEFORE, AFTER)),
    ({"type": "token_prob", "target": [" yes", " yes"]}, (BEFORE, AFTER)),
    ({"type": "token_logprob", "target": " yes"}, (math.log(BEFORE), math.log(AFTER))),
    ({"type": "token_rank", "target": " yes"}, (2, 0)),
    ({"type": "token_rank", "target": [" yes", " maybe"]}, (0, 0)),
    ({"type": "is_top", "target": " yes"}, (0, 1)),
    ({"type": "top_k", "target": " yes", "k": 2}, (0, 1)),
    ({"type": "logit_diff", "target": [" yes", " no"], "foil": " maybe"}, (-1.5, 0)),
    ({"type": "kl"}, (0, AFTER * math.log(AFTER / BEFORE) + (1 - AFTER) * math.log((1 - AFTER) / (1 - BEFORE)))),
    ({"type": "kl", "over": "completion"}, (0, 0.25)),
    ({"type": "entropy"}, (plogp(1), plogp(4))),
    ({"type": "feature_activation", "feature": "f"}, (2, 4)),
    ({"type": "group_activation", "feature": "f"}, (4, 8)),
    ({"type": "contains", "words": ["bridge", "river"]}, (0, 1)),
    ({"type": "regex", "pattern": "(?i)golden gate|bridge"}, (0, 1)),
    ({"type": "ends_with", "words": "bridge"}, (0, 1)),
    ({"type": "last_word", "words": "tower"}, (1, 0)),
    ({"type": "repetition", "n": 2}, (0, 0.5)),
    ({"type": "distinct", "n": 2}, (1, 0.5)),
    ({"type": "perplexity"}, (2, 8)),
    ({"type": "edit_distance"}, (0, 3 / 5)),
    ({"type": "first_divergence"}, (None, 2)),
    ({"type": "length"}, (3, 5)),
    ({"type": "stop_rate"}, (1, 0)),
]


@pytest.mark.parametrize(("fields", "expected"), ALL, ids=[str(fields["type"]) for fields, _ in ALL])
def test_every_kind_gives_its_value_on_both_sides(
    fields: dict[str, Any], expected: tuple[float | None, float | None]
) -> None:
    found = measure(parsed(**fields), INTERVENED, BASELINE, pieces)
    assert found.baseline == (None if expected[0] is None else pytest.approx(expected[0]))
    assert found.intervened == (None if expected[1] is None else pytest.approx(expected[1]))
    assert all(value is None or type(value) is float for value in found)


def test_every_kind_of_the_schema_is_tried_here() -> None:
    kinds = get_args(get_args(spec.Measurement)[0])
    assert {get_args(kind.model_fields["type"].annotation)[0] for kind in kinds} == {f["type"] for f, _ in ALL}


@pytest.mark.parametrize("fields", [fields for fields, _ in ALL], ids=[str(fields["type"]) for fields, _ in ALL])
def test_a_baseline_trial_measures_the_same_on_both_sides(fields: dict[str, Any]) -> None:
    found = measure(parsed(**fields), BASELINE, BASELINE, pieces)
    assert found.baseline == found.intervened


@pytest.mark.parametrize("fields", [fields for fields, _ in ALL], ids=[str(fields["type"]) for fields, _ in ALL])
def test_what_is_needed_is_enough_and_nothing_of_it_is_spare(fields: dict[str, Any]) -> None:
    asked = needs(parsed(**fields))

    def kept(side: Side) -> Side:
        return Side(**{name: getattr(side, name) for name in Needs.__dataclass_fields__ if getattr(asked, name)})

    full = measure(parsed(**fields), INTERVENED, BASELINE, pieces)
    assert measure(parsed(**fields), kept(INTERVENED), kept(BASELINE), pieces) == full


def test_several_positions_give_their_mean() -> None:
    logits = torch.tensor([[0.0, 4.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]])
    two = Side(logits=logits, activations=torch.tensor([[2.0], [4.0]]))
    assert measure(parsed(type="token_rank", target=" yes"), two, two, pieces).intervened == 1
    assert measure(parsed(type="is_top", target=" yes"), two, two, pieces).intervened == 0.5
    assert measure(parsed(type="group_activation", feature="f"), two, two, pieces).intervened == 3


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("fields", [f for f, _ in ALL if not needs(parsed(**f)).completion], ids=str)
def test_many_rows_measured_together_give_what_each_gives_alone(fields: dict[str, Any], n: int) -> None:
    random = torch.Generator().manual_seed(n)
    rows, unedited = torch.randn(5, n, 4, generator=random), torch.randn(n, 4, generator=random)
    base = Side(logits=unedited, activations=unedited)
    alone = [measure(parsed(**fields), Side(logits=row, activations=row), base, pieces) for row in rows]
    together = measure_rows(parsed(**fields), rows, unedited, pieces)
    assert together == [found.intervened for found in alone]


def test_a_position_that_was_never_read_is_left_out_of_an_activation() -> None:
    seen = torch.tensor([[[1.0, 3.0], [5.0, 7.0]], [[2.0, 4.0], [math.nan, math.nan]], [[math.nan] * 2] * 2])
    found = measure_rows(parsed(type="feature_activation", feature="f"), seen, seen[0], pieces)
    assert found == [4, 3, None]


def test_no_positions_and_empty_completions_are_undefined_where_they_must_be() -> None:
    none = Side(
        logits=torch.zeros(0, 4), activations=torch.zeros(0, 2), completion=Text((), ""), nll=None, completion_kl=None
    )
    values = {str(fields): measure(parsed(**fields), none, none, pieces).intervened for fields, _ in ALL}
    undefined = {name for name, value in values.items() if value is None}
    at_positions = {str(fields) for fields, _ in ALL if needs(parsed(**fields)).logits or "activation" in str(fields)}
    other = {str(fields) for fields, _ in ALL if fields["type"] in ("kl", "perplexity", "first_divergence")}
    assert undefined == at_positions | other


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("fields", [fields for fields, _ in ALL if needs(parsed(**fields)).logits], ids=str)
def test_broken_logits_give_none_and_never_a_number_that_looks_right(fields: dict[str, Any], broken: float) -> None:
    logits = torch.full((1, 4), broken)
    found = measure(parsed(**fields), Side(logits=logits), BASELINE, pieces).intervened
    if math.isnan(broken):
        assert found is None
    assert found is None or math.isfinite(found)


def test_an_enormous_surprise_is_still_a_number() -> None:
    dull = Side(completion=Text((1,), "x"), nll=5000.0)
    found = measure(parsed(type="perplexity"), dull, dull, pieces).intervened
    assert found is not None and found > 1e300


@pytest.mark.parametrize("word", [" perhaps not", ""])
def test_a_target_that_is_not_one_token_is_an_error(word: str) -> None:
    with pytest.raises(RunError, match="it must be one"):
        measure(parsed(type="token_prob", target=word), INTERVENED, BASELINE, pieces)


def test_kl_over_generated_positions_of_different_length_is_an_error_with_the_way_out() -> None:
    longer = Side(logits=torch.zeros(3, 4))
    with pytest.raises(RunError, match="over: completion"):
        measure(parsed(type="kl", position="generated"), longer, BASELINE, pieces)


def test_named_targets_are_targets_then_foils_once_each() -> None:
    assert targets(parsed(type="logit_diff", target=[" no", " yes"], foil=[" maybe", " yes"]), pieces) == (2, 1, 3)
    assert targets(parsed(type="token_prob", target=" no"), pieces) == (2,)
    assert targets(parsed(type="length"), pieces) == ()
