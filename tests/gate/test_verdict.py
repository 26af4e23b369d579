from __future__ import annotations

import math
from dataclasses import replace

import pytest

from steer.gate.records import Figures, Loss, Try
from steer.gate.verdict import bos_note, failures, fitting

IN, NORMALIZED, MID = "mlp.hook_in", "ln2.hook_normalized", "hook_resid_mid"


def tries(**left: float) -> tuple[Try, ...]:
    """`in_on=0.2`: reading at mlp.hook_in behind a BOS leaves 0.2."""
    points = {"in": IN, "normalized": NORMALIZED, "mid": MID}
    return tuple(Try(points[name[: name.rindex("_")]], name.endswith("_on"), value) for name, value in left.items())


GOOD = Figures(
    layer=0,
    unexplained=0.2,
    l0=12.0,
    l0_published=None,
    dead=0.1,
    loss=Loss(2.0, 2.1, 3.0),
    tries=tries(in_on=0.2, normalized_on=0.6, mid_on=900.0, in_off=0.4, normalized_off=0.7, mid_off=800.0),
)


def reasons(found: Figures, reads: str = IN, bos: bool = True, published: bool | None = None) -> str:
    return "; ".join(failures(found, reads, bos, published))


def test_a_layer_that_explains_at_the_point_it_names_passes() -> None:
    assert reasons(GOOD) == ""
    assert reasons(replace(GOOD, l0_published=12.0), published=True) == ""
    assert fitting(GOOD, True) == (IN,)


@pytest.mark.parametrize("left", [1.0, 70.0, math.nan, math.inf])
def test_explaining_no_more_than_a_constant_fails(left: float) -> None:
    assert "one constant vector would explain as much" in reasons(replace(GOOD, unexplained=left))


def test_another_point_that_fits_clearly_better_fails_the_declared_one() -> None:
    told = reasons(GOOD, reads=MID)
    assert f"says that it reads {MID} (unexplained 900), and {IN} fits (0.2)" in told
    assert NORMALIZED not in told


def test_two_points_that_fit_alike_fail_neither() -> None:
    alike = replace(GOOD, tries=tries(in_on=0.2, normalized_on=0.19))
    assert reasons(alike) == "" and fitting(alike, True) == (IN, NORMALIZED)
    assert reasons(replace(GOOD, tries=tries(in_on=0.2, normalized_on=0.17))) != ""


def test_a_published_rule_about_the_bos_that_does_not_fit_fails() -> None:
    assert reasons(GOOD, published=False) == "published as trained without BOS, and with it fits better"
    assert reasons(replace(GOOD, tries=tries(in_on=0.2, in_off=0.19)), published=True) == ""


@pytest.mark.parametrize(("l0", "passes"), [(8.0, True), (18.0, True), (7.9, False), (18.1, False), (664.0, False)])
def test_an_l0_more_than_a_factor_of_one_and_a_half_from_the_published_fails(l0: float, passes: bool) -> None:
    assert (reasons(replace(GOOD, l0=l0, l0_published=12.0)) == "") is passes


def test_an_output_that_costs_more_than_writing_nothing_fails() -> None:
    assert "zero there costs 3.000" in reasons(replace(GOOD, loss=Loss(2.0, 3.1, 3.0)))
    assert reasons(replace(GOOD, loss=Loss(2.0, 2.009, 2.001))) == ""  # where nothing there costs nothing, no verdict
    assert reasons(replace(GOOD, loss=Loss(2.0, math.nan, 3.0))) != ""


def test_runs_without_the_bos_that_fits_are_told_and_do_not_fail() -> None:
    assert bos_note([GOOD], IN, True) is None
    note = bos_note([GOOD, GOOD], IN, False)
    assert note is not None and note.startswith("2 of 2 layers fit better with BOS") and "write it in front" in note
    assert reasons(replace(GOOD, unexplained=0.4), bos=False) == ""


def test_recovered_loss_is_the_share_of_the_cost_of_zero_and_nothing_where_zero_costs_nothing() -> None:
    assert Loss(2.0, 2.1, 3.0).recovered == pytest.approx(0.9)
    assert Loss(2.0, 2.0, 2.005).recovered is None
