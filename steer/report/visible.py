"""Text from models, prompts and labels, made safe to look at."""

from __future__ import annotations

import re
import unicodedata

COMMAND = re.compile(r"(?m)^(\s*):(?=:)")
"""What GitHub's runner obeys: `::name ...::` at the beginning of a line, whatever white space is before it."""
OLDER_COMMAND = re.compile(r"#(?=#\w*\[)")
"""`##[name]`, `##vso[...]` and `##teamcity[...]`, which runners obey in the middle of a line as well."""


def visible(text: str, keep: str = "\n") -> str:
    """The text with every character that would act instead of being seen replaced by a sign for it.

    C0 controls become their pictures (ESC is U+241B), C1 controls, direction marks, zero-width characters and lone
    surrogates their code (`‹U+202E›`); characters in `keep` stay.
    """
    return "".join(_shown(character) if character not in keep else character for character in text)


def log_text(text: str) -> str:
    """Text that may come from a model, for a terminal or a CI log: nothing in it acts, and no line is a command."""
    shown = visible(text, keep="\n\t")
    return OLDER_COMMAND.sub("# ", COMMAND.sub(r"\1: ", shown))


def _shown(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return f"‹U+{code:04X}›"
    return character


def shortened(text: str, length: int = 40) -> str:
    """One line of at most `length` characters."""
    line = visible(" ⏎ ".join(text.split("\n")), keep="")
    return line if len(line) <= length else line[: length - 1] + "…"
