"""The committed prompt files are what the corpus writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steer.model.pocket.corpus.prompts import files

FOLDER = Path(__file__).parents[4] / "experiments" / "prompts"
FILES = files()


@pytest.mark.parametrize("name", FILES)
def test_a_prompt_file_is_what_its_command_would_write_now(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == FILES[name]


@pytest.mark.parametrize("name", FILES)
def test_prompts_have_ids_and_a_split(name: str) -> None:
    rows = [json.loads(line) for line in FILES[name].splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) and {row["split"] for row in rows} == {"dev", "test"}
