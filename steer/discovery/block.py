"""Groups as a `features:` block that an experiment file can hold, or read with `{file: found.yaml}`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steer.report.visible import shortened, visible


@dataclass(frozen=True)
class Found:
    """What a discovery command has to say: lines for the reader, and a block for the experiment file."""

    text: str
    block: str


def features_block(groups: Mapping[str, Sequence[str]], command: str) -> str:
    """`features:` with a group a line, under a comment that records the command; `groups` by what they stand for."""
    names = group_names(list(groups))
    lines = [
        f"  {names[meant]}: [{', '.join(features)}]{_note(names[meant], meant)}" for meant, features in groups.items()
    ]
    if not lines:
        return "# nothing found\n"
    recorded = visible(command.replace("\n", "\\n"), keep="")
    return "\n".join([f"# {recorded}", "features:", *lines]) + "\n"


def group_names(meant: Sequence[str]) -> dict[str, str]:
    """A name that YAML and `$name` can say for each text: " Texas" -> texas; the second of a kind is `texas_2`."""
    found: dict[str, str] = {}
    for text in meant:
        stem = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "group"
        stem = f"_{stem}" if stem[0].isdigit() else stem
        name, n = stem, 1
        while name in found.values():
            n += 1
            name = f"{stem}_{n}"
        found[text] = name
    return found


def _note(name: str, meant: str) -> str:
    return "" if name == meant else f"  # {shortened(meant)}"
