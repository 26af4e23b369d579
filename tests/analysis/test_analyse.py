from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from steer.analysis.analyse import analyse
from steer.analysis.snapshots import read_snapshot, snapshot_path, snapshot_text
from steer.errors import ResultsError
from tests.analysis.synthetic import GOLDEN_GATE, golden_run, swap_run

PINNED = {
    "id": "pinned",
    "measurement": "p_bridge",
    "where": {"condition": "clamped", "dose": 5, "split": "test"},
    "snapshot": True,
    "atol": 0.02,
}


def test_a_run_folder_gets_its_four_files(tmp_path: Path) -> None:
    analysis = analyse(golden_run(tmp_path, 30, draws=2), {"headline": 31})
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert list(summary.columns) == list(analysis.summary.columns)
    assert summary["effect"].to_numpy() == pytest.approx(analysis.summary["effect"].to_numpy(), rel=1e-8)
    assert pd.read_csv(tmp_path / "choices.csv")["chosen"].sum() == 1
    verdicts = json.loads((tmp_path / "expectations.json").read_text())
    assert [entry["id"] for entry in verdicts] == [verdict.id for verdict in analysis.verdicts]
    cases = ElementTree.parse(tmp_path / "junit.xml").getroot()[0]
    assert cases[0].attrib["file"] == "experiments/golden_gate.yaml"
    assert cases[0].attrib["line"] == "31"


def test_analysing_twice_changes_no_byte(tmp_path: Path) -> None:
    folder = swap_run(tmp_path)
    analyse(folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    analyse(folder)
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_experiment_without_choose_and_expectations_has_empty_ones(tmp_path: Path) -> None:
    folder = golden_run(tmp_path, 8, draws=1, choose={}, expectations=[])
    assert analyse(folder).verdicts == ()
    assert (folder / "choices.csv").read_text() == "name,condition,axis,value,objective,within_limits,chosen\n"
    assert json.loads((folder / "expectations.json").read_text()) == []


def test_a_snapshot_is_read_from_beside_the_experiment_and_remembered_by_the_run(tmp_path: Path) -> None:
    yaml = tmp_path / "golden_gate.yaml"
    folder = golden_run(tmp_path / "run", 30, draws=1, expectations=[PINNED])
    manifest = {**json.loads((folder / "manifest.json").read_text()), "experiment_path": str(yaml)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (missing,) = analyse(folder).verdicts
    assert (missing.verdict, missing.estimate) == ("fail", None)

    measured = measured_value(folder)
    snapshot_path(yaml).write_text(json.dumps({"values": {"pinned": {"estimate": measured + 0.01, "n": 20}}}))
    assert analyse(folder).verdicts[0].verdict == "pass"

    copied = shutil.copytree(folder, tmp_path / "elsewhere")
    snapshot_path(yaml).unlink()
    assert analyse(copied).verdicts[0].verdict == "pass"
    assert analyse(copied).verdicts[0].bound == {"snapshot": pytest.approx(measured + 0.01), "atol": 0.02}


def measured_value(folder: Path) -> float:
    table = pd.read_parquet(folder / "measurements.parquet").merge(pd.read_parquet(folder / "prompts.parquet"))
    rows = table.query("condition == 'clamped' and dose == 5 and split == 'test' and control == 'none'")
    return float(rows.loc[rows["measurement"] == "p_bridge", "intervened"].mean())


def test_a_written_snapshot_is_read_back(tmp_path: Path) -> None:
    folder = golden_run(tmp_path / "run", 30, draws=1)
    analysis = analyse(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    path = tmp_path / "x.snapshot.json"
    path.write_text(snapshot_text(manifest, analysis.verdicts, frozenset({"headline", "peak"})))
    assert read_snapshot(path) == {v.id: v.estimate for v in analysis.verdicts if v.id in ("headline", "peak")}
    assert json.loads(path.read_text())["taken_on"]["device"] == "cpu"
    assert list(json.loads(path.read_text())["values"]) == ["headline", "peak"]


@pytest.mark.parametrize("text", ["", "[]", '{"values": {"x": {}}}', '{"values": {"x": {"estimate": "a"}}}'])
def test_a_broken_snapshot_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.snapshot.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=r"x\.snapshot\.json: not a snapshot file"):
        read_snapshot(path)


def test_the_snapshot_of_an_experiment_stands_beside_it() -> None:
    assert snapshot_path(Path("experiments/golden_gate.yaml")) == Path("experiments/golden_gate.snapshot.json")


def test_analysis_and_report_import_neither_torch_nor_a_window_system() -> None:
    code = (
        "import sys, steer.analysis.analyse, steer.report.report\n"
        "print([m for m in ('torch', 'transformers', 'matplotlib.pyplot', 'tkinter') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_golden_gate_experiment_passes_its_headline(tmp_path: Path) -> None:
    verdicts = {verdict.id: verdict for verdict in analyse(golden_run(tmp_path, 60, draws=2)).verdicts}
    assert verdicts["headline"].verdict == "pass"
    assert verdicts["headline"].n == 40
    assert len(verdicts) == len(GOLDEN_GATE["expectations"]) + 2
