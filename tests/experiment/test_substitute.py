from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from steer.experiment import spec
from steer.experiment.problems import Code
from steer.experiment.references import columns_in
from steer.experiment.substitute import Misfit, fill, names, substitute

LAW = settings(max_examples=60, deadline=None)
INTERVENTION = TypeAdapter(spec.Intervention)
MEASUREMENT = TypeAdapter(spec.Measurement)
PATH = ("conditions", "c", "interventions", 0)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="{}"), max_size=12)


def intervention(values: Mapping[str, object], **fields: object) -> Any:
    return substitute(INTERVENTION.validate_python(fields), values, PATH)


def measurement(values: Mapping[str, object], **fields: object) -> Any:
    return substitute(MEASUREMENT.validate_python(fields), values, ("measurements", "m"))


@LAW
@given(parts=st.lists(st.tuples(TEXT, st.sampled_from(["a", "Z9_", "city"])), max_size=4), tail=TEXT, cell=st.text())
def test_fill_joins_the_literal_parts_with_the_cells(parts: list[tuple[str, str]], tail: str, cell: str) -> None:
    cells = {"a": cell, "Z9_": "{a}", "city": ""}
    template = "".join(f"{literal}{{{name}}}" for literal, name in parts) + tail
    assert fill(template, cells) == "".join(literal + cells[name] for literal, name in parts) + tail
    assert set(columns_in(template)) == {name for _, name in parts}


@LAW
@given(text=st.text(st.sampled_from("{}ab1,"), max_size=12))
def test_doubled_braces_write_any_text_literally(text: str) -> None:
    assert fill(text.replace("{", "{{").replace("}", "}}"), {}) == text


@pytest.mark.parametrize("text", [r"\d{2}", r"a{2,3}", "{ name}", "{}", "{?}", "{_x}", "{a b}", '{"a"'])
def test_only_a_name_with_a_letter_first_is_a_column(text: str) -> None:
    assert fill(text, {}) == text
    assert columns_in(text) == ()


@LAW
@given(cell=st.text(min_size=1, max_size=12))
def test_a_column_in_a_pattern_matches_itself_and_nothing_more(cell: str) -> None:
    filled = measurement({"name": cell}, type="regex", pattern=r"^{name}\d{2}$")
    assert isinstance(filled, spec.Regex)
    assert re.search(filled.pattern, f"{cell}42")
    assert not re.search(filled.pattern, f"{cell}4")


def test_a_whole_reference_in_a_pattern_is_the_pattern() -> None:
    assert measurement({"p": "a|b"}, type="regex", pattern="$p").pattern == "a|b"


def test_a_number_is_typed_by_the_schema_not_by_its_spelling() -> None:
    clamped = intervention({"dose": "1e-3"}, op="clamp", feature="3/4", value="$dose")
    assert clamped.value == 0.001
    assert intervention({"end": "5"}, op="clamp", feature="3/4", value="1", layers=("0", "$end")).layers == (0, 5)
    assert substitute(spec.Freeze(attention="$frozen"), {"frozen": "off"}, ()).attention is False


@LAW
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_minus_before_a_reference_negates_the_number(number: float) -> None:
    scaled = intervention({"k": repr(number)}, op="scale", feature="3/4", factor="-$k")
    assert scaled.factor == -number


def test_a_minus_before_text_is_an_error_at_its_mapping() -> None:
    with pytest.raises(Misfit, match="needs a number, not 'red'") as caught:
        intervention({"k": "red"}, op="scale", feature="3/4", factor="-$k")
    assert caught.value.found[0][0] == PATH


def test_a_value_that_the_field_does_not_take_is_an_error_at_the_field() -> None:
    with pytest.raises(Misfit) as caught:
        intervention({"dose": "much", "unit": "x"}, op="clamp", feature="3/4", value="$dose")
    assert caught.value.found == (((*PATH, "value"), "value cannot be 'much' here", Code.WRONG_TYPE),)


def test_an_error_names_the_field_by_its_word_in_the_file() -> None:
    with pytest.raises(Misfit) as caught:
        intervention({"x": {"a": "b"}}, op="swap", **{"from": "$x"}, to="3/4")
    assert caught.value.found[0][0] == (*PATH, "from")


def test_a_reference_may_stand_for_several_items_of_a_list() -> None:
    values = {"pair": ("0/1", "0/2")}
    assert intervention(values, op="ablate", feature="$pair").feature == ("0/1", "0/2")
    assert intervention(values, op="ablate", feature=("3/3", "$pair")).feature == ("3/3", "0/1", "0/2")


def test_a_reference_may_stand_for_a_whole_selector() -> None:
    values = {"site": {"token": " it", "which": "0"}}
    moved = intervention(values, op="ablate", feature="1/1", positions="$site")
    assert moved.positions == spec.TokenSelector(token=" it", which=0)


def test_a_swap_keeps_the_words_of_the_file() -> None:
    swapped = intervention({"state": "texas", "other": "ohio"}, op="swap", **{"from": "$state"}, to="$other")
    assert isinstance(swapped, spec.Swap)
    assert (swapped.from_, swapped.to, swapped.unit) == ("texas", "ohio", "source_act")


def test_columns_are_text_only_in_the_fields_that_say_so() -> None:
    donor = {"text": "capital of {state}", "position": {"text": "{state}"}}
    added = intervention({"state": "Ohio"}, op="add", feature="1/1", value=1, unit="donor_act", donor=donor)
    assert added.donor == spec.DonorText(text="capital of Ohio", position=spec.TextSelector(text="{state}"))
    probability = measurement(
        {"state": "Ohio"}, type="token_prob", target=(" {state}", "{{"), position={"token": "{state}"}
    )
    assert probability.target == (" Ohio", "{")
    assert probability.position == spec.TokenSelector(token="Ohio")


def test_braces_in_a_cell_are_literal() -> None:
    assert measurement({"x": "{y}"}, type="contains", words=("$x", "{x}")).words == ("{y}", "{y}")


def test_names_finds_every_reference_and_leaves_where_aside() -> None:
    found = names(
        INTERVENTION.validate_python(
            {
                "op": "swap",
                "from": "$a",
                "to": ["$b", "x"],
                "value": "-$c",
                "positions": [{"token": "{d}", "offset": "$e"}],
            }
        )
    )
    assert found == {"a", "b", "c", "d", "e"}
    assert names(MEASUREMENT.validate_python({"type": "regex", "pattern": "{f}", "where": {"split": "$g"}})) == {"f"}


def test_the_result_stands_without_its_where() -> None:
    assert measurement({}, type="length", where={"split": "dev"}) == spec.Length(type="length")
