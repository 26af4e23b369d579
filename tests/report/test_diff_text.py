from __future__ import annotations

import json
from dataclasses import asdict, replace

from steer.analysis.diff import ChangedCompletion, Comparison, Diff, OneSided, Side
from steer.analysis.sides import Change
from steer.report.diff_text import diff_json, diff_text

SIDE = Side("results/gate/latest", "gate", "20261120T180000Z-1a2b3c4d", "complete")
MOVED = Comparison(
    condition="clamped", control="none", point={"dose": 5.0}, measurement="mentions", of="intervened", snapshot="",
    n=48, left_out=2, old=0.93, new=0.6, difference=-0.33, ci_low=-0.45, ci_high=-0.21, test="Bonett-Price",
    tolerance=0.02, verdict="moved", judged=True,
)  # fmt: skip
FEW = replace(MOVED, n=3, ci_low=None, ci_high=None, test="no interval", verdict="too few prompts", left_out=0)
SAME = replace(MOVED, difference=0.0, verdict="same", control="random_features", judged=False)
HOSTILE = "a\x1b[31mred\n::error::x\u202e\ud800"
CHANGED = ChangedCompletion(
    trial_id="00", prompt_id="p1", condition="clamped", control="none", control_index=0, point={"dose": 5.0}, seed=0,
    share=0.5, prompt=HOSTILE, old="as it was", new=HOSTILE,
)  # fmt: skip
EMPTY = OneSided({}, {})


def made(*comparisons: Comparison, changed: int = 0, only_old: OneSided = EMPTY) -> Diff:
    changes = (Change("model.hash", "aa", "bb"), Change("packages.torch", None, "2.13"))
    return Diff(SIDE, SIDE, changes, 96, only_old, EMPTY, comparisons, 96, (CHANGED,) * changed, ())


def test_a_comparison_is_a_line_with_all_of_its_numbers() -> None:
    text = diff_text(made(MOVED, SAME), 5)
    assert "  moved  clamped, dose 5: mentions 0.93 -> 0.60, -0.33 [-0.45, -0.21] (48 prompts, tolerance 0.02" in text
    assert "2 comparisons: 1 moved, 1 same (1 of controls)" in text
    assert "1 judged 95 % intervals" in text
    assert text.endswith("1 of 1 judged comparisons moved beyond tolerance")


def test_the_manifests_come_first() -> None:
    text = diff_text(made(MOVED, changed=1), 5)
    places = [text.index(part) for part in ("model.hash: aa -> bb", "torch: – -> 2.13", "moved  ", "of the words")]
    assert places == sorted(places)


def test_what_could_not_be_judged_is_not_passed_over() -> None:
    assert diff_text(made(FEW), 5).endswith(
        "none of 1 judged comparisons moved beyond tolerance; 1 NOT JUDGED, too few prompts for an interval"
    )


def test_what_one_side_has_alone_is_said() -> None:
    text = diff_text(made(only_old=OneSided({"clamped": 1200}, {"kl": 4})), 5)
    assert "only in the old run: 1,200 trials (clamped 1,200)" in text
    assert "only in the old run: 4 values of trials that both have (kl 4)" in text


def test_completions_are_limited_with_a_count() -> None:
    text = diff_text(made(changed=7), 2)
    assert text.count("of the words") == 2 and "7 of 96 changed" in text and "and 5 more" in text
    assert diff_text(made(changed=7), 0).count("of the words") == 0


def test_nothing_a_model_wrote_acts_on_a_terminal() -> None:
    for text in (diff_text(made(changed=1), 5), diff_json(made(changed=1))):
        assert not set(text) & {"\x1b", "\u202e", "\ud800"}
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]


def test_json_says_everything() -> None:
    content = json.loads(diff_json(made(MOVED, FEW, changed=9)))
    assert content["moved"] == 1 and len(content["changed"]) == 9
    assert content["comparisons"][0] == asdict(MOVED)
    assert content["changed"][0]["new"] == HOSTILE
