"""`python -m steer.model.pocket.corpus.prompts FOLDER`: the prompts that `pocket` is judged on, as JSON lines.

They are drawn from what each behaviour keeps out of training, so they belong to the corpus and are written by it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from steer.model.pocket.corpus import couplets, languages, names, praise, refusal, states, sums

Row = Mapping[str, object]


def files() -> dict[str, str]:
    """Name and text of every prompt file."""
    behaviours = (couplets, languages, names, praise, refusal, states, sums)
    return {name: lines(rows) for each in behaviours for name, rows in each.evaluation_prompts().items()}


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
