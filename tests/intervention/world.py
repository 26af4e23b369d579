"""A tiny model with random transcoders of its width: what the laws of the interventions are tested on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from steer.model.language_model import LanguageModel
from steer.transcoder.transcoder import Statistics, Transcoders

WIDTH = 80
KINDS = ("relu", "jumprelu", "topk")


@dataclass(frozen=True)
class World:
    """A model, its transcoders, and the same transcoders as plain float64 tensors for the oracle."""

    model: LanguageModel
    transcoders: Transcoders
    tensors: tuple[dict[str, torch.Tensor], ...]
    kind: str
    k: int = 7


def write_transcoders(folder: Path, kind: str, n_layers: int, d_model: int, seed: int = 0) -> Path:
    """Random transcoders with statistics; most features fire somewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(seed)
    for layer in range(n_layers):
        tensors = {
            "W_enc": 0.4 * torch.randn(WIDTH, d_model, generator=random),
            "W_dec": 0.5 * torch.randn(WIDTH, d_model, generator=random),
            "b_enc": 0.3 * torch.randn(WIDTH, generator=random),
            "b_dec": torch.randn(d_model, generator=random),
        }
        if kind == "jumprelu":
            tensors["activation_function.threshold"] = torch.rand(WIDTH, generator=random)
        if kind == "topk":
            tensors["k"] = torch.tensor(World.k)
        save_file(tensors, folder / f"layer_{layer}.safetensors")
    config = {
        "model_name": "tiny",
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "hook_mlp_out",
        **({"activation": "topk"} if kind == "topk" else {}),
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    save_file(statistics(n_layers, random), folder / "statistics.safetensors")
    return folder


def statistics(n_layers: int, random: torch.Generator) -> dict[str, torch.Tensor]:
    names = [field for field in Statistics.__dataclass_fields__]
    return {name: 0.1 + torch.rand(n_layers, WIDTH, generator=random) for name in names}


def make(model: LanguageModel, folder: Path, kind: str) -> World:
    transcoders = Transcoders.open(write_transcoders(folder / kind, kind, model.n_layers, model.d_model))
    layers = range(model.n_layers)
    every = range(WIDTH)
    tensors = tuple(
        {
            "W_enc": transcoders.encoder(layer, every).W_enc.double(),
            "b_enc": transcoders.encoder(layer, every).b_enc.double(),
            "threshold": torch.zeros(WIDTH).double()
            if (t := transcoders.encoder(layer, every).threshold) is None
            else t.double(),
            "W_dec": transcoders.decoder(layer, every).double(),
        }
        for layer in layers
    )
    return World(model, transcoders, tensors, kind)
