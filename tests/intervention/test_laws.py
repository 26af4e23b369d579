"""What must hold whatever the numbers: identities of the ops, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from steer.errors import RunError
from steer.experiment.spec import Control, Intervention, Member
from steer.experiment.trial import Prompt, Setup, Trial
from steer.intervention.records import applied
from steer.intervention.rows import ConflictError, Row
from steer.model.generation import padded
from tests.intervention import cases
from tests.intervention.batches import run_rows
from tests.intervention.world import World
from tests.tiny import ARCHITECTURES

GROUP = {
    "one": (Member(layer=1, index=5),),
    "low": (Member(layer=0, index=3), Member(layer=1, index=8)),
    "high": (Member(layer=2, index=11), Member(layer=2, index=12)),
}
TEXTS = ("He saw a carrot and had to grab it,", "User: who are you", "the rabbit", "and the bridge said habit to")
Worlds = Callable[[str, str], World]


@pytest.fixture(params=ARCHITECTURES)
def here(world: Worlds, request: pytest.FixtureRequest) -> World:
    return world(request.param, "jumprelu")


def row(world: World, text: str, *stated: dict[str, Any], control: dict[str, Any] | None = None, index: int = 0) -> Row:
    interventions = tuple(TypeAdapter(Intervention).validate_python(one) for one in stated)
    neutral = None if control is None else TypeAdapter(Control).validate_python(control)
    prompt = Prompt(id="p", text=text)
    setup = Setup(interventions, control=neutral)
    trial = Trial("t", prompt, "c", "none", index, {}, 0, setup, {})
    return cases.resolver(world, GROUP).row(trial, world.model.tokens.encode(text))


def logits(world: World, rows: list[Row], texts: tuple[str, ...] = TEXTS) -> Tensor:
    return run_rows(world, rows, [world.model.tokens.encode(text).ids for text in texts]).logits


def everywhere(world: World, *stated: dict[str, Any], **more: Any) -> list[Row]:
    return [row(world, text, *stated, **more) for text in TEXTS]


def baseline(world: World) -> Tensor:
    return logits(world, [Row()] * len(TEXTS))


def test_the_empty_condition_changes_no_bit(here: World) -> None:
    ids = [here.model.tokens.encode(text).ids for text in TEXTS]
    batch = padded(ids, here.model.tokens.pad_id)
    width = batch[0].shape[1]
    plain = here.model.forward_pass(*batch, logits_at=torch.tensor([*range(width), width - 1]))
    assert torch.equal(baseline(here), plain[:, :-1])


@pytest.mark.parametrize(
    "stated",
    [
        {"op": "scale", "feature": "low", "factor": 1},
        {"op": "add", "feature": "low", "value": 0},
        {"op": "steer", "direction": "one", "coefficient": 0},
    ],
)
def test_what_adds_nothing_changes_no_bit(here: World, stated: dict[str, Any]) -> None:
    assert torch.equal(logits(here, everywhere(here, stated)), baseline(here))


def test_the_identity_control_changes_no_bit_and_applies_nothing(here: World) -> None:
    stated = {"op": "swap", "from": "low", "to": "high", "value": 3}
    rows = everywhere(here, stated, control={"type": "identity"})
    done = run_rows(here, rows, [here.model.tokens.encode(text).ids for text in TEXTS])
    assert torch.equal(done.logits, baseline(here))
    assert [a.pairs for a in applied(rows, done.editing.records, done.editing.layout)] == [0] * len(TEXTS)


def test_ablating_is_clamping_to_zero(here: World) -> None:
    ablated = logits(here, everywhere(here, {"op": "ablate", "feature": "low"}))
    clamped = logits(here, everywhere(here, {"op": "clamp", "feature": "low", "value": 0}))
    assert torch.equal(ablated, clamped)
    assert not torch.equal(ablated, baseline(here))


def test_clamping_to_the_own_activation_changes_nothing(here: World) -> None:
    stated = {"op": "clamp", "feature": "one", "value": 1, "unit": "own_act"}
    torch.testing.assert_close(logits(here, everywhere(here, stated)), baseline(here), atol=1e-5, rtol=1e-5)


def test_steering_along_a_feature_is_adding_to_it(here: World) -> None:
    steered = logits(here, everywhere(here, {"op": "steer", "direction": "one", "coefficient": 1.7}))
    added = logits(here, everywhere(here, {"op": "add", "feature": "one", "value": 1.7}))
    torch.testing.assert_close(steered, added, atol=1e-4, rtol=1e-5)


def test_steering_there_and_back_cancels(here: World) -> None:
    there = {"op": "steer", "direction": "one", "coefficient": 2.0}
    back = {"op": "steer", "direction": "one", "coefficient": -2.0}
    torch.testing.assert_close(logits(here, everywhere(here, there, back)), baseline(here), atol=1e-4, rtol=1e-5)


def test_interventions_on_different_features_commute(here: World) -> None:
    first = {"op": "clamp", "feature": "1/20", "value": 2}
    second = {"op": "add", "feature": "1/21", "value": -1}
    forth, back = (logits(here, everywhere(here, *order)) for order in ((first, second), (second, first)))
    torch.testing.assert_close(forth, back, atol=1e-4, rtol=1e-5)


def test_a_row_alone_equals_the_row_in_a_mixed_batch(here: World) -> None:
    stated = (
        {"op": "clamp", "feature": "low", "value": 2},
        {"op": "swap", "from": "low", "to": "high"},
        {"op": "steer", "direction": "high", "coefficient": 0.5, "unit": "residual_norm"},
        {"op": "scale", "feature": "one", "factor": -2, "positions": "last"},
    )
    rows = [row(here, text, one) for text, one in zip(TEXTS, stated, strict=True)]
    together = logits(here, rows)
    for b, text in enumerate(TEXTS):
        alone = logits(here, [rows[b]], (text,))[0]
        torch.testing.assert_close(together[b, -len(alone) :], alone, atol=1e-4, rtol=1e-5)


def test_one_intervention_does_not_leak_into_the_rows_beside_it(here: World) -> None:
    rows = [row(here, TEXTS[0], {"op": "clamp", "feature": "low", "value": 9}), Row(), Row(), Row()]
    assert torch.equal(logits(here, rows)[1:], baseline(here)[1:])


def test_hooks_leave_no_trace_also_after_an_exception(here: World) -> None:
    before = baseline(here)
    with pytest.raises(ZeroDivisionError), here.model.hooked([("blocks.0.hook_mlp_out", lambda x, hook: 1 / 0)]):  # type: ignore[arg-type,return-value]
        baseline(here)
    logits(here, everywhere(here, {"op": "clamp", "feature": "low", "value": 9}))
    assert torch.equal(baseline(here), before)


def test_random_features_push_as_hard_as_the_target_and_elsewhere(here: World) -> None:
    target = row(here, TEXTS[0], {"op": "clamp", "feature": "low", "value": 2})
    control = {"type": "random_features", "n": 19}
    stated = {"op": "clamp", "feature": "low", "value": 2}
    drawn = [row(here, TEXTS[0], stated, control=control, index=i) for i in range(19)]
    for s, edit in enumerate(target.edits):
        others = [one.edits[s].along for one in drawn]
        norm = here.transcoders.decoder(edit.layer, [edit.index])[0].norm()
        assert len({other.index for other in others}) == 19
        assert edit.index not in {other.index for other in others}
        assert all(other.norm == pytest.approx(float(norm)) for other in others)


def test_editing_one_feature_twice_at_one_position_is_refused(here: World) -> None:
    clamp = {"op": "clamp", "feature": "one", "value": 2, "positions": "last"}
    with pytest.raises(ConflictError, match="1/5"):
        row(here, TEXTS[0], clamp, {"op": "scale", "feature": "1/5", "factor": 2})
    row(here, TEXTS[0], clamp, {"op": "scale", "feature": "1/5", "factor": 2, "positions": [0]})


def test_what_was_applied_is_what_the_file_says(here: World) -> None:
    stated = {"op": "clamp", "feature": "one", "value": 2.5, "positions": [1, "last"]}
    rows = [row(here, TEXTS[0], stated)]
    ids = here.model.tokens.encode(TEXTS[0]).ids
    done = run_rows(here, rows, [ids], steps=3)
    (what,) = applied(rows, done.editing.records, done.editing.layout)
    assert [(e.layer, e.index, e.position, e.after) for e in what.edits] == [(1, 5, 1, 2.5), (1, 5, len(ids) - 1, 2.5)]
    assert what.pairs == 2 and what.relative_norm > 0


def test_relative_norm_is_the_push_over_the_stream_it_is_added_to(here: World) -> None:
    stated = {"op": "steer", "direction": "one", "coefficient": 0.25, "unit": "residual_norm", "positions": [2]}
    rows = [row(here, TEXTS[0], stated)]
    done = run_rows(here, rows, [here.model.tokens.encode(TEXTS[0]).ids])
    (what,) = applied(rows, done.editing.records, done.editing.layout)
    assert what.relative_norm == pytest.approx(0.25, rel=1e-5)


def test_a_donor_of_which_no_member_fires_is_refused(here: World) -> None:
    class Silent:
        def donor_activations(self, donor: object, layer: int, indices: list[int]) -> list[float]:
            return [0.0] * len(indices)

    stated = {"op": "clamp", "feature": "one", "value": 2, "unit": "donor_act", "donor": {"text": "x"}}
    interventions = (TypeAdapter(Intervention).validate_python(stated),)
    trial = Trial("t", Prompt("p", TEXTS[0]), "c", "none", 0, {}, 0, Setup(interventions), {})
    resolver = cases.resolver(here, GROUP)
    with pytest.raises(RunError, match="no member"):
        replace(resolver, baseline=Silent()).row(trial, here.model.tokens.encode(TEXTS[0]))  # type: ignore[arg-type]


def test_replacing_one_group_of_a_list_replaces_that_group_alone(here: World) -> None:
    stated = {"op": "clamp", "feature": ["low", "high"], "value": 2}
    control = {"type": "random_features", "n": 3, "replace": ["low"]}
    drawn = row(here, TEXTS[0], stated, control=control)
    assert {edit.group: edit.along.index == edit.index for edit in drawn.edits} == {"low": False, "high": True}


def test_a_push_that_is_not_named_by_replace_stays(here: World) -> None:
    stated = {"op": "clamp", "feature": "low", "value": 2}, {"op": "steer", "direction": "one", "coefficient": 2}
    plain = row(here, TEXTS[0], *stated)
    for kind in ("random_features", "random_direction"):
        kept = row(here, TEXTS[0], *stated, control={"type": kind, "n": 3, "replace": ["low"]})
        taken = row(here, TEXTS[0], *stated, control={"type": kind, "n": 3, "replace": ["one"]})
        assert torch.equal(kept.pushes[0].vector, plain.pushes[0].vector)
        assert not torch.equal(taken.pushes[0].vector, plain.pushes[0].vector)
        assert all(edit.along.index == edit.index for edit in taken.edits)


def test_active_stand_ins_edit_no_feature_twice(here: World) -> None:
    class Everything:
        def fires(self, *_: object) -> Tensor:
            return torch.ones(80, dtype=torch.bool)

    control = {"type": "random_features", "n": 19, "match": ["layer", "active"]}
    stated = {"op": "clamp", "feature": ["2/1", "2/2", "2/3", "2/4"], "value": 5}
    interventions = (TypeAdapter(Intervention).validate_python(stated),)
    neutral = TypeAdapter(Control).validate_python(control)
    resolver = replace(cases.resolver(here, GROUP), baseline=Everything())  # type: ignore[arg-type]
    for index in range(19):
        setup = Setup(interventions, control=neutral)
        trial = Trial("t", Prompt("p", TEXTS[0]), "c", "random_features", index, {}, 0, setup, {})
        edits = resolver.row(trial, here.model.tokens.encode(TEXTS[0])).edits
        assert len({(edit.layer, edit.index) for edit in edits}) == 4


def test_moving_two_edits_of_a_feature_to_one_place_is_refused(here: World) -> None:
    stated = [{"op": "clamp", "feature": "one", "value": 2, "positions": [p]} for p in (1, 2)]
    with pytest.raises(ConflictError):
        row(here, TEXTS[0], *stated, control={"type": "other_positions", "positions": 3})
