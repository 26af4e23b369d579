from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from steer.analysis.analyse import analyse
from tests.analysis.synthetic import GOLDEN_GATE, golden_run, swap_run


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
