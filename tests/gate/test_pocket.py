"""The built-in pair ships gated: the record beside its weights is of these weights, and says what training measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steer.experiment.load import load
from steer.gate.records import BESIDE, read_records
from steer.gate.trust import Trust, trust
from steer.model.location import POCKET
from steer.pipeline import gate_notes
from steer.transcoder.layout import layout

ROOT = Path(__file__).parents[2]
FOLDER = POCKET / "transcoder"
COMMAND = f"steer gate --transcoder pocket --record {(FOLDER / BESIDE).relative_to(ROOT)}"


def test_the_built_in_pair_passed_with_the_weights_that_are_here() -> None:
    assert trust(POCKET, layout(FOLDER), FOLDER, range(5)) == Trust((), ()), f"after a new training: {COMMAND}"


def test_the_gate_measured_what_training_measured_on_twenty_times_the_text() -> None:
    trained = json.loads((FOLDER / "report.json").read_text())["layers"]
    for record, report in zip(read_records(FOLDER / BESIDE), trained, strict=True):
        found = record.figures
        assert found.layer == report["layer"] and record.text.tokens >= 20_000
        assert found.unexplained == pytest.approx(report["unexplained_variance"], rel=0.15)
        assert found.l0 == pytest.approx(report["mean_l0"], rel=0.05)
        assert found.dead >= report["dead_share"]  # rare features have had less text to fire in


def test_a_shipped_experiment_runs_without_a_word_from_the_gate() -> None:
    assert gate_notes(load(ROOT / "experiments" / "golden_gate.yaml")) == ()
