"""A whole run on devices that are not there: see `tests/pretend.py`; the oracle is the same run on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from steer.execution.loaded import weights
from steer.model.language_model import LanguageModel
from steer.model.tokens import Tokens
from tests import tiny
from tests.execution.lab import make_lab
from tests.pretend import pretended, spread
from tests.project import tables

SPREAD = {"": "cuda:0", "model.layers.1": "cuda:1", "model.layers.2": "cuda:1", "model.norm": "cuda:1"}


@pytest.mark.parametrize("device_map", [SPREAD, {"": "mps:0"}], ids=["spread", "without float64"])
def test_a_run_writes_the_same_tables_wherever_the_model_is(
    tmp_path: Path, tiny_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, device_map: dict[str, str]
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)  # other devices have no oneDNN
    here, there = (make_lab(tmp_path / name, tiny_folder) for name in ("here", "there"))
    expected = tables(here.run().folder)
    prepared = there.prepared()
    hf = tiny.hf_model("llama")
    monkeypatch.setattr("steer.execution.provenance.arithmetic", lambda device: device)
    with pretended(monkeypatch):
        spread(hf, device_map)
        model = LanguageModel.wrap(hf, Tokens.open(tiny_folder("llama")))
        model.folder = tiny_folder("llama")
        there.loaded.models[weights(prepared.experiment, prepared.plan)] = model
        found = tables(there.run(prepared=prepared).folder)
    for name, table in expected.items():
        pd.testing.assert_frame_equal(found[name], table)
