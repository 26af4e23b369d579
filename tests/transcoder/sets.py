"""Small transcoder folders, written as circuit-tracer writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

WIDTH, D_MODEL, N_LAYERS = 37, 16, 3
CONFIG = {
    "model_name": "tiny",
    "model_kind": "transcoder_set",
    "feature_input_hook": "mlp.hook_in",
    "feature_output_hook": "hook_mlp_out",
}


def tensors(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """One layer's random weights; biases large enough that a wrong rule for them shows."""
    random = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (WIDTH, D_MODEL), "W_dec": (WIDTH, D_MODEL), "b_enc": (WIDTH,), "b_dec": (D_MODEL,)}
    return {key: torch.randn(shape, generator=random).to(dtype) for key, shape in shapes.items()}


def write(folder: Path, layers: list[dict[str, Tensor]], **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(json.dumps(CONFIG | config))
    for number, layer in enumerate(layers):
        save_file(layer, folder / f"layer_{number}.safetensors")
    return folder


def thresholds(seed: int, low: float = 0.0) -> Tensor:
    return low + 2 * torch.rand(WIDTH, generator=torch.Generator().manual_seed(100 + seed))


def write_kind(folder: Path, kind: str, dtype: torch.dtype = torch.float32) -> Path:
    """A set of three layers with the given activation function."""
    layers = [tensors(seed, dtype) | own_tensors(kind, seed, dtype) for seed in range(N_LAYERS)]
    return write(folder, layers, **({"activation": "topk"} if kind == "topk" else {}))


def own_tensors(kind: str, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    match kind:
        case "jumprelu":
            return {"activation_function.threshold": thresholds(seed).to(dtype)}
        case "topk":
            return {"k": torch.tensor(5)}
        case _:
            return {}
