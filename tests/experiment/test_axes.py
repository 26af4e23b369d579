from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer.experiment.axes import allows, by_shown, shown

LAW = settings(max_examples=60, deadline=None)


def test_a_value_listed_twice_counts_once_however_it_is_written() -> None:
    found = by_shown({"dose": ("0", "5", "5.0", "5e0", "0.50", ".5", "last")})
    assert list(found["dose"]) == [0, 5, 0.5, "last"]


@LAW
@given(number=st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60))
def test_a_number_is_shown_as_its_value(number: float) -> None:
    assert shown(repr(number)) == float(number)
    assert shown(number) == shown(repr(number))


def test_a_whole_number_is_an_int_unless_a_float_would_round_it() -> None:
    assert [type(shown(written)) for written in ("5.0", "-3", "0.5", "1e300")] == [int, int, float, float]


@pytest.mark.parametrize("text", ["nan", "inf", "1_000", "0x10", "1:5", "true", "3/411", "", " 5", "-"])
def test_anything_else_is_shown_as_written(text: str) -> None:
    assert shown(text) == text


def test_lists_and_mappings_are_shown_in_flow_style() -> None:
    assert shown(("0/411", "0/87")) == "[0/411, 0/87]"
    assert shown({"text": 'a "b"', "offset": "-1"}) == '{text: "a \\"b\\"", offset: -1}'


def test_where_compares_axes_by_value_and_columns_as_text() -> None:
    assert allows({"dose": "5.0"}, {}, {"dose": 5})
    assert allows({"dose": ("1", 5)}, {}, {"dose": 5})
    assert not allows({"dose": "5"}, {}, {"dose": 10})
    assert not allows({"code": "7"}, {"code": "007"}, {})
    assert allows({"code": "007", "dose": "1e1"}, {"code": "007"}, {"dose": 10})
    assert not allows({"split": "dev"}, {}, {})
    assert allows({}, {}, {})
