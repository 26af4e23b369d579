"""`python -m steer.model.pocket.corpus.prompts FOLDER`: the prompt files of `pocket`, as JSON lines.

What it is judged on is drawn from what each behaviour keeps out of training, and what its features are found on
(`discover_*`) from what training sees, so both belong to the corpus and are written by it. On `fresh_*` the finished
set-ups were judged once more.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from steer.model.pocket.corpus import couplets, languages, names, praise, refusal, states, sums, themes
from steer.model.pocket.corpus.fresh import fresh_prompts

Row = Mapping[str, object]
BEHAVIOURS = (couplets, languages, names, praise, refusal, states, sums)


def evaluation_rows() -> dict[str, Sequence[Row]]:
    """What experiments choose doses on and judge, by file name."""
    return {name: rows for each in BEHAVIOURS for name, rows in each.evaluation_prompts().items()}


def discovery_rows() -> dict[str, Sequence[Row]]:
    """What `steer discover` reads, by file name."""
    return {name: rows for each in (*BEHAVIOURS, themes) for name, rows in each.discovery_prompts().items()}


def files() -> dict[str, str]:
    """Name and text of every prompt file."""
    every = {**evaluation_rows(), **fresh_prompts(), **discovery_rows()}
    return {name: lines(rows) for name, rows in every.items()}


def lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
