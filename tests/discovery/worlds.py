"""Tiny models that show their attention patterns, with random transcoders of every activation function and place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from steer.execution.passes import Engine
from steer.transcoder.transcoder import Transcoders
from tests.intervention.world import write_transcoders

READS = ("mlp.hook_in", "ln2.hook_normalized", "hook_resid_mid")
IDS = (0, 40, 41, 90, 17, 64, 101, 55, 23)  # a BOS and what comes


def folder(path: Path, kind: str, reads: str, n_layers: int, d_model: int) -> Path:
    write_transcoders(path, kind, n_layers, d_model)
    config = json.loads((path / "config.yaml").read_text())
    (path / "config.yaml").write_text(json.dumps(config | {"feature_input_hook": reads}))
    return path


def engine(
    tiny_model: Callable[..., Any], path: Path, architecture: str, kind: str = "jumprelu", reads: str = READS[0]
) -> Engine:
    model = tiny_model(architecture, patterns=True)
    return Engine(model, Transcoders.open(folder(path, kind, reads, model.n_layers, model.d_model)))


def close(found: float | torch.Tensor, expected: float | torch.Tensor, of: float) -> bool:
    """Equal up to float32 sums over numbers of size `of`."""
    return bool((torch.as_tensor(found) - torch.as_tensor(expected)).abs().max() <= 2e-5 * max(1.0, of))
