"""The page says what the committed results say."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from benchmarks import suite, table
from benchmarks.compare import Comparison, Line
from benchmarks.machine import described


def test_the_page_is_made_from_the_committed_results() -> None:
    assert table.PAGE.read_text() == table.page(table.read()), "make it again: python -m benchmarks.table"


@pytest.mark.parametrize("name", sorted(table.read()))
def test_a_committed_result_is_of_a_comparison_that_there_is(name: str) -> None:
    found = json.loads((table.RESULTS / f"{name}.json").read_text())
    assert found["name"] == name and name in suite.NAMES
    assert found["machine"]["threads"] == 1


def test_a_contender_that_was_not_timed_is_in_the_table_with_the_reason() -> None:
    ratios = {"cpu": 0.5, "cpu_min": 0.4, "cpu_max": 0.6, "wall": 0.5}
    lines = (Line("this project", 1e-6, 1.0, 1.0, ratios, ratios), Line("other", trouble="it broke"))
    found = Comparison("W1", "a sweep", "a model", 10, 100, 3, 0.4, lines)
    text = "\n".join(table.section({**asdict(found), "machine": described("cpu")}))
    assert "| **this project** | 1.00 s | 0.50 | 0.40 to 0.60 |" in text
    assert "| other | not timed: it broke |" in text


def test_every_comparison_can_be_made_by_name() -> None:
    assert set(suite.USUAL) <= set(suite.NAMES) == set(table.ORDER)
    with pytest.raises(ValueError, match="no comparison is called"):
        suite.run("W9", 1, "cpu", ())
