from __future__ import annotations

import re
import unicodedata

import pytest

from steer.report.visible import log_text, shortened, visible


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


@pytest.mark.parametrize(
    "space", ["", " ", "\t", "\u00a0", "\u3000", "\u2003 ", "\u2028", "\x85", "\r", "\x1b[0m\r", "\n"]
)
def test_no_line_of_a_log_is_a_command_whatever_white_space_is_before_it(space: str) -> None:
    """The runner strips white space in Unicode's sense before it looks for `::`."""
    for line in log_text(f"fine{space}\n{space}::add-mask::x{space}\n::error::y").splitlines():
        assert not line.lstrip().startswith("::")


@pytest.mark.parametrize(
    "text", ["##[error]x", "a ##[add-mask]x", "##vso[task.setvariable]", "###teamcity[x]", "####[[x]"]
)
def test_older_commands_are_broken_in_the_middle_of_a_line_as_well(text: str) -> None:
    assert re.search(r"##\w*\[", log_text(text)) is None


@pytest.mark.parametrize(
    "code",
    [*(c for c in range(0x20) if chr(c) not in "\n\t"), 0x7F, *range(0x80, 0xA0)]
    + [
        0xAD,
        0x61C,
        0x200B,
        0x200D,
        *range(0x200E, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x2065),
        *range(0x2066, 0x2070),
    ]
    + [0xFEFF, 0xFFF9, 0xD800, 0xDFFF, 0xE0001, 0xE0041],
)
def test_nothing_in_a_log_line_acts(code: int) -> None:
    shown = log_text(f"a{chr(code)}b")
    assert shown[0] == "a" and shown[-1] == "b" and chr(code) not in shown and shown.isprintable()


def test_a_carriage_return_does_not_write_over_what_stands_before_it() -> None:
    assert log_text("FAIL\rpass") == "FAIL␍pass"
    assert log_text("\x1b]8;;http://x\x07link\x1b]8;;\x07") == "␛]8;;http://x␇link␛]8;;␇"


@pytest.mark.parametrize("text", ["a::b", "x: ::y", "# heading", "## [x]", "std::vector\n  a: b", "naïve 橋 🌉\n\tb"])
def test_a_log_keeps_text_that_does_nothing(text: str) -> None:
    assert log_text(text) == text
