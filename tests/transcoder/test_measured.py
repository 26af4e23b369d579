from __future__ import annotations

from pathlib import Path

import pytest

from steer.transcoder.measured import record_of, statistics_of

MODEL, LAYER = "ab" * 32, "cd" * 32


def test_what_the_gate_keeps_lies_under_the_cache_by_model_and_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    within = Path("gate") / ("ab" * 16) / ("cd" * 16)
    monkeypatch.setenv("STEER_CACHE", str(tmp_path / "own"))
    assert record_of(MODEL, LAYER) == (tmp_path / "own" / within).with_suffix(".json")
    monkeypatch.delenv("STEER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert statistics_of(MODEL, LAYER) == (tmp_path / "xdg" / "steer" / within).with_suffix(".safetensors")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert record_of(MODEL, LAYER) == (tmp_path / ".cache" / "steer" / within).with_suffix(".json")
