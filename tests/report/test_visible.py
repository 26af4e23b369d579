from __future__ import annotations

import unicodedata

import pytest

from steer.report.visible import shortened, visible


@pytest.mark.parametrize(
    "code", [*range(0x20), 0x7F, *range(0x80, 0xA0), 0x200B, 0x200E, 0x202E, 0x2066, 0xFEFF, 0xD800, 0x2028]
)
def test_every_character_that_would_act_is_replaced_by_one_that_is_seen(code: int) -> None:
    shown = visible(f"a{chr(code)}b")
    if chr(code) == "\n":
        assert shown == "a\nb"
        return
    assert chr(code) not in shown
    assert shown[0] == "a"
    assert shown[-1] == "b"
    assert len(shown) > 2
    assert all(unicodedata.category(character) not in ("Cc", "Cf", "Cs") for character in shown)


@pytest.mark.parametrize("text", ["plain", "naïve café", "橋の上", "emoji 🌉", " leading and trailing ", "a\nb"])
def test_text_to_be_read_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_an_escape_sequence_is_seen_and_does_nothing() -> None:
    assert visible("\x1b[31mred") == "␛[31mred"


def test_long_text_is_cut_to_one_line() -> None:
    assert shortened("one\ntwo", 20) == "one ⏎ two"
    assert shortened("x" * 50, 10) == "x" * 9 + "…"
