from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from steer.experiment import spec
from steer.experiment.trial import Prompt
from steer.intervention.positions import PositionError, Positions, resolve
from steer.model.tokens import Encoded

LAW = settings(max_examples=60, deadline=None)
FIELD = TypeAdapter(spec.Positions)


def encoded(pieces: list[str], bos: bool = False) -> Encoded:
    """Tokens as given, laid end to end, behind a BOS without text."""
    ends = [sum(map(len, pieces[: i + 1])) for i in range(len(pieces))]
    spans = [(end - len(piece), end) for end, piece in zip(ends, pieces, strict=True)]
    head = [(0, 0)] if bos else []
    return Encoded("".join(pieces), tuple(range(len(head) + len(spans))), tuple(head + spans))


def at(positions: object, pieces: list[str], bos: bool = False, **spans: tuple[tuple[int, int], ...]) -> Positions:
    """What a field of the file, as the loader hands it over, means in one prompt."""
    text = encoded(pieces, bos)
    return resolve(FIELD.validate_python(positions), text, Prompt("carrot", text.text, spans=spans))


def chosen(positions: object, length: int, total: int) -> list[int]:
    """The columns that the mask selects in a row of `total` tokens, `length` of them the prompt's."""
    mask = at(positions, ["x"] * length).mask(total)
    assert len(mask) == total
    return [column for column, selected in enumerate(mask) if selected]


CARROT = ["A", " rhyming", " couplet", ":\n", "He", " had", " to", " grab", " it", ",", " it", "\n"]


def test_the_words_all_prompt_generated_and_last_mean_what_they_say() -> None:
    assert chosen("all", 3, 5) == [0, 1, 2, 3, 4]
    assert chosen("prompt", 3, 5) == [0, 1, 2]
    assert chosen("generated", 3, 5) == [3, 4]
    assert chosen("last", 3, 5) == [2]


@LAW
@given(length=st.integers(1, 12), generated=st.integers(0, 6), data=st.data())
def test_a_slice_with_two_ends_is_pythons_slice_of_the_row(length: int, generated: int, data: st.DataObject) -> None:
    first = data.draw(st.none() | st.integers(-length - 3, length))
    last = data.draw(st.integers(-length - 3, length))
    written = f"{'' if first is None else first}:{last}"
    assert chosen(written, length, length + generated) == list(range(length))[first:last]
    assert at(written, ["x"] * length) == Positions(tuple(range(length)[first:last]))


@LAW
@given(length=st.integers(1, 12), generated=st.integers(0, 6), data=st.data())
def test_an_open_end_runs_on_through_generated_text(length: int, generated: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(-length, length + generated))
    from_there = list(range(length + generated))[first + length if first < 0 else first :]
    assert chosen(f"{first}:", length, length + generated) == from_there


def test_an_end_past_the_prompt_counts_generated_tokens() -> None:
    assert chosen("2:6", 4, 10) == [2, 3, 4, 5]
    assert chosen("5:7", 4, 10) == [5, 6]
    assert chosen("5:", 4, 8) == [5, 6, 7]


@LAW
@given(length=st.integers(1, 12), data=st.data())
def test_a_negative_index_counts_from_the_prompts_end(length: int, data: st.DataObject) -> None:
    back = data.draw(st.integers(1, length))
    assert at(-back, ["x"] * length) == at(length - back, ["x"] * length)


def test_an_index_past_the_prompt_is_that_generated_token() -> None:
    assert at(5, ["x"] * 3) == Positions((), (5,))
    assert chosen(5, 3, 5) == []
    assert chosen(5, 3, 6) == [5]


def test_an_index_before_the_prompt_is_an_error_that_shows_the_tokens() -> None:
    with pytest.raises(
        PositionError, match=r"position -4 lies before prompt carrot.*3 tokens(?s:.*)0 'a', 1 'b', 2 'c'"
    ):
        at(-4, ["a", "b", "c"])


@LAW
@given(indices=st.lists(st.integers(-5, 8), min_size=1, max_size=5), total=st.integers(5, 10))
def test_a_list_selects_what_its_parts_select(indices: list[int], total: int) -> None:
    parts = {column for index in indices for column in chosen(index, 5, total)}
    assert chosen(tuple(indices), 5, total) == sorted(parts)


def test_a_list_may_mix_every_kind() -> None:
    assert chosen((0, "-2:", {"token": "x", "which": 1}), 6, 8) == [0, 1, 4, 5, 6, 7]


def test_a_list_starts_to_run_on_where_its_first_open_slice_does() -> None:
    assert at(("7:", "5:", 4, 6, 1), ["x"] * 3) == Positions((1,), (4,), onwards=5)


def test_bos_is_position_0_and_in_all() -> None:
    assert at("all", ["a", "b"], bos=True).prompt == (0, 1, 2)
    assert at({"token": "a"}, ["a", "b"], bos=True).prompt == (1,)


@LAW
@given(
    pieces=st.lists(st.sampled_from(["a", "b", " a", "ab", "\n"]), min_size=1, max_size=8),
    wanted=st.sampled_from(["a", "ab", "b a", "\n", "aa"]),
)
def test_a_text_selects_every_token_that_shares_a_character_with_it(pieces: list[str], wanted: str) -> None:
    text = encoded(pieces)
    owner = [i for i, piece in enumerate(pieces) for _ in piece]
    found = [m.start() for m in re.finditer(re.escape(wanted), text.text)]
    expected = sorted({owner[start + k] for start in found for k in range(len(wanted))})
    if not found:
        with pytest.raises(PositionError, match="does not occur"):
            at({"text": wanted, "which": "all"}, pieces)
    else:
        assert list(at({"text": wanted, "which": "all"}, pieces).prompt) == expected
        assert at({"regex": re.escape(wanted), "which": "all"}, pieces) == at({"text": wanted, "which": "all"}, pieces)


@LAW
@given(
    pieces=st.lists(st.sampled_from(["a", "b", " a", "ab"]), min_size=1, max_size=8),
    token=st.sampled_from(["a", " a", "ab"]),
)
def test_a_token_is_matched_whole_and_never_inside_another(pieces: list[str], token: str) -> None:
    expected = [i for i, piece in enumerate(pieces) if piece == token]
    if expected:
        assert list(at({"token": token, "which": "all"}, pieces).prompt) == expected
    else:
        with pytest.raises(PositionError, match="does not occur"):
            at({"token": token, "which": "all"}, pieces)


def test_which_chooses_among_matches_and_takes_all_tokens_of_one() -> None:
    pieces = ["to", " be", " or", " not", " to", " be"]
    assert at({"regex": "to be", "which": 0}, pieces).prompt == (0, 1)
    assert at({"regex": "to be", "which": "last"}, pieces).prompt == (4, 5)
    assert at({"regex": "to be", "which": -1}, pieces).prompt == (4, 5)
    assert at({"regex": "to be", "which": "first"}, pieces).prompt == (0, 1)
    assert at({"regex": "to be", "which": "all"}, pieces).prompt == (0, 1, 4, 5)


def test_several_matches_without_which_are_an_error_that_names_them() -> None:
    with pytest.raises(PositionError) as caught:
        at({"token": " it"}, CARROT)
    assert "{token: ' it'} occurs 2 times in prompt carrot (positions 8; 10)" in str(caught.value)
    assert "8 ' it', 9 ',', 10 ' it'" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_which_beyond_the_matches_is_an_error() -> None:
    with pytest.raises(PositionError, match="occurs 2 times.*there is no `which: 2`"):
        at({"token": " it", "which": 2}, CARROT)
    with pytest.raises(PositionError, match="there is no `which: -3`"):
        at({"token": " it", "which": -3}, CARROT)


def test_a_text_is_no_regular_expression() -> None:
    assert at({"text": "a.b"}, ["axb", " a.b"]).prompt == (1,)


def test_offset_moves_every_selected_token_and_may_reach_generated_text() -> None:
    assert at({"text": "grab it", "offset": 2}, CARROT).prompt == (9, 10)
    assert at({"regex": "\n$", "offset": 1}, CARROT) == Positions((), (12,))
    with pytest.raises(PositionError, match="offset -1 lies before"):
        at({"token": "A", "offset": -1}, CARROT)


def test_a_column_is_where_the_template_put_it() -> None:
    pieces = ["Which", " sport", " does", " Tom", " Brady", " play"]
    assert at({"column": "name"}, pieces, name=((17, 26),)).prompt == (3, 4)
    with pytest.raises(PositionError, match="does not occur in prompt carrot; its template has the columns name"):
        at({"column": "city"}, pieces, name=((17, 26),))


def test_an_empty_match_covers_no_token() -> None:
    with pytest.raises(PositionError, match="does not occur"):
        at({"regex": "x*"}, ["a", "b"])


def test_a_broken_regular_expression_is_an_error() -> None:
    with pytest.raises(PositionError, match="is no regular expression"):
        at({"regex": "("}, ["a"])


def test_bytes_of_one_character_are_not_the_character_but_cover_it() -> None:
    text = Encoded("é!", (7, 8, 9), ((0, 1), (0, 1), (1, 2)))
    prompt = Prompt("accent", text.text)
    assert resolve(spec.TextSelector(text="é"), text, prompt).prompt == (0, 1)
    with pytest.raises(PositionError, match="does not occur"):
        resolve(spec.TokenSelector(token="é"), text, prompt)


def test_a_prompt_without_tokens_has_no_last_position() -> None:
    with pytest.raises(PositionError):
        at("last", [])


@LAW
@given(
    written=st.lists(
        st.sampled_from(["all", "prompt", "generated", "last", "2:4", "-1:", "6:8", 0, 5, 7]), min_size=2, max_size=2
    )
)
def test_positions_overlap_exactly_when_a_long_row_shows_it(written: list[object]) -> None:
    one, other = (at(positions, ["x"] * 5) for positions in written)
    together = [a and b for a, b in zip(one.mask(20), other.mask(20), strict=True)]
    assert one.overlaps(other) == other.overlaps(one) == any(together)
    assert [position in one for position in range(20)] == list(one.mask(20))
    assert one.beyond_prompt == any(one.mask(20)[5:])
