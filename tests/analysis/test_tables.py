from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steer.analysis.tables import as_column, csv_text, group_names, matches, read_run, read_table, select, sweep_order
from steer.errors import ResultsError
from tests.analysis.synthetic import save_table, swap_run


def test_prompt_columns_stand_beside_every_measurement(tmp_path: Path) -> None:
    run = read_run(swap_run(tmp_path))
    one = run.measurements[run.measurements["prompt_id"] == "city-03"]
    assert set(one["relation"]) == {"state"}
    assert run.axes == ()
    assert run.columns == ("relation",)


def test_a_flipped_byte_in_a_page_is_an_error_and_never_a_number(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=2_000)
    save_table(tmp_path, "measurements", pd.DataFrame({"effect": values}))
    path = tmp_path / "measurements.parquet"
    whole = path.read_bytes()
    for place in np.random.default_rng(1).integers(4, len(whole) - 8, 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << int(place) % 8]) + whole[place + 1 :])
        try:
            read = read_table(tmp_path, "measurements")["effect"].to_numpy()
        except (ResultsError, KeyError):
            continue
        assert np.array_equal(read, values), place


@pytest.mark.parametrize("content", ["", "not a table", None])
def test_a_missing_or_broken_table_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "trials.parquet").write_text(content)
    with pytest.raises(ResultsError, match="trials.parquet: (missing or )?damaged"):
        read_table(tmp_path, "trials")


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no readable manifest"), ("{", "damaged"), ("{}", "has no experiment")]
)
def test_a_folder_without_a_manifest_is_no_run_folder(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ResultsError, match=message):
        read_run(tmp_path)


def test_an_experiment_that_no_longer_validates_is_reported(tmp_path: Path) -> None:
    swap_run(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["experiment"]["nonsense"] = 1
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ResultsError, match="the experiment in it cannot be read"):
        read_run(tmp_path)


@pytest.mark.parametrize("wanted", [5, 5.0, "5", "5.0", [1, 5], ("5",)])
def test_a_number_is_found_however_the_file_writes_it(wanted: object) -> None:
    values = pd.Series([1.0, 5.0, None, 50.0])
    assert list(matches(values, wanted)[:2]) == [wanted == [1, 5], True]  # type: ignore[arg-type]
    assert not matches(values, wanted)[2:].any()  # type: ignore[arg-type]


def test_text_is_compared_as_it_is_written() -> None:
    values = pd.Series(["5", "05", None, "true", ""])
    assert list(matches(values, 5)) == [True, False, False, False, False]
    assert list(matches(values, "05")) == [False, True, False, False, False]
    assert list(matches(values, True)) == [False, False, False, True, False]


def test_an_axis_of_booleans_is_found_by_its_written_form() -> None:
    values = pd.Series([True, False, None], dtype=object)
    assert list(matches(values, "true")) == [True, False, False]
    assert list(matches(values, False)) == [False, True, False]
    assert sweep_order(values, ("false", "true")) == [False, True]


def test_all_named_columns_have_to_match() -> None:
    frame = pd.DataFrame({"condition": ["a", "a", "b"], "dose": [1.0, 2.0, 1.0]})
    assert list(select(frame, {"condition": "a", "dose": "1"}).index) == [0]
    assert list(select(frame, {}).index) == [0, 1, 2]


def test_an_axis_is_in_the_order_of_the_file_unless_it_is_numbers() -> None:
    assert sweep_order(pd.Series([5.0, 0.0, None, 10.0]), (10, 0, 5)) == [0.0, 5.0, 10.0]
    assert sweep_order(pd.Series(["last", "3", "newline", "last"]), ("newline", "last", 3)) == ["newline", "last", "3"]


def test_groups_of_several_columns_are_named_together() -> None:
    frame = pd.DataFrame({"a": ["x", None], "b": ["1", "2"]})
    assert list(group_names(frame, ("a", "b"))) == ["x, 1", ", 2"]
    assert list(group_names(frame, ())) == ["", ""]


FORMULAS = ["=1+1", "+1", "-1:5", "@SUM(A1)", "\tx", "\rx", '=cmd|" /C calc"!A0', '=HYPERLINK("http://x")']


@pytest.mark.parametrize("text", FORMULAS)
def test_text_cells_cannot_be_formulas(text: str) -> None:
    written = csv_text(pd.DataFrame({"condition": [text]}))
    cell = next(csv.DictReader(io.StringIO(written, newline="")))["condition"]
    assert cell == "'" + text.replace("\r", "\\r")


def test_a_cell_with_a_nul_is_written_so_that_every_python_reads_it() -> None:
    assert csv_text(pd.DataFrame({"label": ["a\0b"]})) == "label\na\\0b\n"


def test_numbers_and_plain_text_stay_as_they_are_in_csv() -> None:
    frame = pd.DataFrame({"name": ["it's - fine"], "effect": [-0.25], "p_value": [float("nan")], "n": [3]})
    assert csv_text(frame) == "name,effect,p_value,n\nit's - fine,-0.25,,3\n"


def test_a_number_among_words_is_found_and_ordered_as_it_is_shown_and_is_no_formula() -> None:
    values = pd.Series(["-1", "generated", "2", "0.001"])
    assert [as_column(values, wanted) for wanted in (-1, "2.0", "1e-3", "generated")] == [
        "-1",
        "2",
        "0.001",
        "generated",
    ]
    assert sweep_order(values, ("generated", "1e-3", "-1", "2.0")) == ["generated", "0.001", "-1", "2"]
    assert csv_text(pd.DataFrame({"place": ["-1", "-1+1", "+2", "=1"]})).split() == [
        "place", "-1", "'-1+1", "'+2", "'=1",
    ]  # fmt: skip
