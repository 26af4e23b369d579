from __future__ import annotations

from collections.abc import Callable

import pytest

from steer.errors import UsageError
from steer.experiment.selection import select
from steer.experiment.spec import Clamp, DonorPrompt
from steer.experiment.trial import EMPTY, Plan, Prompt, Scalar, Setup, Trial

PROMPTS = tuple(
    Prompt(id, id.upper(), {"split": split}) for id, split in (("ann", "dev"), ("bob", "test"), ("cyd", "test"))
)
DONATED = Setup((Clamp(op="clamp", feature="0/1", value=1, unit="donor_act", donor=DonorPrompt(prompt="cyd")),))


def _trials() -> list[Trial]:
    cases: list[tuple[str, str, dict[str, Scalar], Setup]] = [
        ("baseline", "none", dict(EMPTY), Setup()),
        ("clamped", "none", {"dose": 5}, Setup()),
        ("clamped", "identity", {"dose": 5}, Setup()),
        ("clamped", "none", {"dose": 0.5}, Setup()),
        ("lent", "none", {}, DONATED),
    ]
    return [
        Trial(f"{prompt.id}{i}{seed}", prompt, condition, control, 0, point, seed, setup, {})
        for prompt in PROMPTS
        for i, (condition, control, point, setup) in enumerate(cases)
        for seed in (0, 1)
    ]


PLAN = Plan("test", ("dose", "unused"), ("split",), PROMPTS, tuple(_trials()))


Asked = Callable[[Trial], bool]


def with_baselines(asked: Asked) -> list[Trial]:
    rows = {(t.prompt.id, t.seed) for t in PLAN.trials if asked(t)}
    return [t for t in PLAN.trials if asked(t) or (t.condition == "baseline" and (t.prompt.id, t.seed) in rows)]


def test_no_filter_keeps_the_plan() -> None:
    assert select(PLAN) == PLAN


@pytest.mark.parametrize(
    ("only", "asked"),
    [
        ({"condition": ("clamped",)}, lambda t: t.condition == "clamped"),
        ({"condition": ("clamped", "lent")}, lambda t: t.condition in ("clamped", "lent")),
        ({"condition": ("baseline",)}, lambda t: t.condition == "baseline"),
        ({"control": ("identity",)}, lambda t: t.control == "identity"),
        ({"dose": ("5.0",)}, lambda t: t.point.get("dose") == 5),
        ({"dose": ("5", ".5"), "control": ("none",)}, lambda t: "dose" in t.point and t.control == "none"),
        ({"prompt": ("bob",), "seed": ("1",)}, lambda t: t.prompt.id == "bob" and t.seed == 1),
        ({"split": ("test",)}, lambda t: t.prompt.id != "ann"),
        ({"split": ("dev",), "dose": ("0.5",)}, lambda t: t.prompt.id == "ann" and t.point.get("dose") == 0.5),
    ],
)
def test_only_keeps_what_was_asked_for_and_the_baselines_of_its_rows(
    only: dict[str, tuple[str, ...]], asked: Asked
) -> None:
    kept = select(PLAN, only)
    assert list(kept.trials) == with_baselines(asked)
    assert kept.axes == PLAN.axes
    assert kept.columns == PLAN.columns


def test_contains_looks_into_prompt_ids_and_condition_names() -> None:
    assert list(select(PLAN, contains="nn").trials) == with_baselines(lambda t: t.prompt.id == "ann")
    assert list(select(PLAN, contains="len").trials) == with_baselines(lambda t: t.condition == "lent")


def test_limit_keeps_the_first_prompts_of_what_is_left() -> None:
    kept = select(PLAN, {"split": ("test",), "condition": ("clamped",)}, limit=1)
    assert list(kept.trials) == with_baselines(lambda t: t.prompt.id == "bob" and t.condition == "clamped")
    assert [prompt.id for prompt in kept.prompts] == ["bob"]


def test_a_prompt_that_lends_its_activation_stays_without_trials() -> None:
    kept = select(PLAN, {"prompt": ("ann",), "condition": ("lent",)})
    assert {t.prompt.id for t in kept.trials} == {"ann"}
    assert [prompt.id for prompt in kept.prompts] == ["ann", "cyd"]


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ({"condtion": ("clamped",)}, "condtion=...: a plan is filtered by condition, control, seed, prompt, dose"),
        ({"condition": ("clamped", "clamp")}, "condition=clamp: the plan has condition baseline, clamped, lent"),
        ({"dose": ("7",)}, "dose=7: the plan has dose 5, 0.5"),
        ({"prompt": ("ann",), "split": ("test",)}, "none of the 30 trials is left by prompt=ann, split=test"),
    ],
)
def test_a_filter_that_leaves_nothing_is_a_wrong_command(only: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(PLAN, only)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_text_that_occurs_nowhere_is_a_wrong_command() -> None:
    with pytest.raises(UsageError, match="containing 'zebra'"):
        select(PLAN, contains="zebra")
