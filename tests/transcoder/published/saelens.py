"""Folders as SAELens saves them: cfg.json and sae_weights.safetensors, since version 6 and before it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.transcoder.published.formula import (
    D_IN,
    D_OUT,
    WIDTH,
    Formula,
    Release,
    drawn,
    jumprelu,
    relu,
    rescaled,
    standardised,
    thresholds,
    topk,
    weights,
    wide,
)

LAYER = 1
K = 5
FACTOR = 0.2138  # of an average norm
RESIDUAL = "hook_resid_post"


def tensors_of(architecture: str, d_in: int = D_IN, seed: int = LAYER) -> dict[str, Tensor]:
    """W_enc [d_in d_transcoder], W_dec [d_transcoder d_out], and what the architecture has besides."""
    d_out = D_OUT if "transcoder" in architecture else d_in
    tensors = weights(seed, d_in, d_out)
    tensors["W_enc"] = tensors["W_enc"].T.contiguous()
    if "jumprelu" in architecture:
        tensors["threshold"] = thresholds(seed)
    if "skip" in architecture:
        tensors["W_skip"] = drawn(7000 + seed, d_out, d_in)
    if architecture == "gated":
        del tensors["b_enc"]
        tensors |= {
            "b_gate": drawn(7100 + seed, WIDTH),
            "b_mag": drawn(7200 + seed, WIDTH),
            "r_mag": drawn(7300 + seed, WIDTH, scale=0.5),
        }
    return tensors


def formula(
    architecture: str,
    tensors: Mapping[str, Tensor],
    apply_b_dec_to_input: bool,
    normalize: str = "none",
    rescale: bool = False,
    k: int = K,
) -> Formula:
    """encode: activation(norm_in(x) - b_dec * apply_b_dec_to_input); decode: norm_out(acts @ W_dec + b_dec) + skip.

    A transcoder normalises its input too, but not back: what it writes has another scale anyway.
    """
    w = wide(tensors)
    lengths = w["W_dec"].square().sum(-1).sqrt()

    def encode(x: Tensor) -> Tensor:
        x = standardised(x)[0] if normalize == "layer_norm" else x
        x = rescaled(x)[0] if normalize == "constant_norm_rescale" else x
        x = x * FACTOR if normalize == "expected_average_only_in" else x
        x = x - w["b_dec"] if apply_b_dec_to_input else x
        if architecture == "gated":
            fires = x @ w["W_enc"] + w["b_gate"] > 0
            return torch.where(fires, relu(x @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"]), 0.0)
        p = x @ w["W_enc"] + w["b_enc"]
        if architecture == "topk":
            return relu(topk(p * lengths if rescale else p, k))
        return jumprelu(p, w["threshold"]) if "jumprelu" in architecture else relu(p)

    def decode(activations: Tensor, x: Tensor) -> Tensor:
        out = (activations / lengths if rescale else activations) @ w["W_dec"] + w["b_dec"]
        if normalize == "layer_norm" and "transcoder" not in architecture:
            _, mean, deviation = standardised(x)
            out = out * deviation + mean
        if normalize == "constant_norm_rescale" and "transcoder" not in architecture:
            out = out / rescaled(x)[1]
        if normalize == "expected_average_only_in":
            out = out / FACTOR
        return out + x @ w["W_skip"].T if "skip" in architecture else out

    return Formula(encode, decode)


def config(architecture: str, point: str = RESIDUAL, d_in: int = D_IN, **more: Any) -> dict[str, Any]:
    """cfg.json since version 6."""
    transcoder = "transcoder" in architecture
    point = "mlp.hook_in" if transcoder else point
    return {
        "d_in": d_in,
        "d_sae": WIDTH,
        "dtype": "float32",
        "device": "cuda",
        "apply_b_dec_to_input": not transcoder,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if point.endswith("hook_z") else "none",
        "architecture": architecture,
        **({"d_out": D_OUT} if transcoder else {}),
        **({"k": K} if architecture == "topk" else {}),
        "metadata": {
            "sae_lens_version": "6.12.3",
            "sae_lens_training_version": "6.12.3",
            "model_name": "gpt2-small",
            "hook_name": f"blocks.{LAYER}.{point}",
            **({"hook_name_out": f"blocks.{LAYER}.hook_mlp_out"} if transcoder else {}),
            "hook_head_index": None,
            "prepend_bos": True,
            "context_size": 1024,
            "dataset_path": "Skylion007/openwebtext",
            "model_from_pretrained_kwargs": {},
            "neuronpedia_id": None,
        },
        **more,
    }


def write(folder: Path, stated: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(stated))
    save_file(dict(tensors), folder / "sae_weights.safetensors")
    save_file({"sparsity": drawn(9000, WIDTH)}, folder / "sparsity.safetensors")
    return folder


def version_6(folder: Path, architecture: str, point: str = RESIDUAL, d_in: int = D_IN, **more: Any) -> Release:
    stated = config(architecture, point, d_in, **more)
    tensors = tensors_of(architecture, d_in)
    made = formula(
        architecture,
        tensors,
        stated["apply_b_dec_to_input"],
        stated["normalize_activations"],
        stated.get("rescale_acts_by_decoder_norm", False),
    )
    reads = stated["metadata"]["hook_name"].removeprefix(f"blocks.{LAYER}.")
    writes = "hook_mlp_out" if "transcoder" in architecture else reads
    return Release(write(folder, stated, tensors), "saelens", {LAYER: made}, reads, writes, d_in)


def older(folder: Path, kind: str, applied: bool = True, normalize: str = "none", **stated: Any) -> Release:
    """cfg.json before version 6: flat, with a `hook_point` and its layer."""
    tensors = tensors_of(kind)
    flat = {
        "model_name": "gpt2-small",
        "hook_point": f"blocks.{LAYER}.hook_resid_pre",
        "hook_point_layer": LAYER,
        "hook_point_head_index": None,
        "dataset_path": "Skylion007/openwebtext",
        "context_size": 128,
        "d_in": D_IN,
        "d_sae": WIDTH,
        "dtype": "torch.float32",
        "device": "cuda",
        **stated,
    }
    made = formula(kind, tensors, applied, normalize)
    return Release(write(folder, flat, tensors), "saelens", {LAYER: made}, "hook_resid_pre", "hook_resid_pre")


def standard(folder: Path) -> Release:
    return version_6(folder, "standard")


def attention_output(folder: Path) -> Release:
    return version_6(folder, "standard", "hook_attn_out")


def hook_z(folder: Path) -> Release:
    """Reads the heads' outputs side by side: its d_in is no d_model."""
    return version_6(folder, "standard", "attn.hook_z", d_in=12)


def input_bias_off(folder: Path) -> Release:
    return version_6(folder, "standard", apply_b_dec_to_input=False)


def layer_norm(folder: Path) -> Release:
    return version_6(folder, "standard", normalize_activations="layer_norm")


def constant_norm(folder: Path) -> Release:
    return version_6(folder, "standard", normalize_activations="constant_norm_rescale")


def average_norm(folder: Path) -> Release:
    """Not folded in: the factor is where the trainer left it."""
    release = version_6(folder, "jumprelu", normalize_activations="expected_average_only_in")
    (folder / "activation_scaler.json").write_text(json.dumps({"scaling_factor": FACTOR}))
    return release


def older_average_norm(folder: Path) -> Release:
    average = "expected_average_only_in"
    release = older(folder, "standard", True, average, architecture="standard", normalize_activations=average)
    state = {"n_dataset_processed": torch.tensor(3), "estimated_norm_scaling_factor": torch.tensor(FACTOR)}
    save_file(state, folder / "activations_store_state.safetensors")
    return release


def gated(folder: Path) -> Release:
    return version_6(folder, "gated")


def gated_layer_norm(folder: Path) -> Release:
    return version_6(folder, "gated", normalize_activations="layer_norm")


def topk_sae(folder: Path) -> Release:
    return version_6(folder, "topk")


def topk_rescaled(folder: Path) -> Release:
    """The competition is between pre-activations times |W_dec|."""
    return version_6(folder, "topk", rescale_acts_by_decoder_norm=True)


def topk_layer_norm(folder: Path) -> Release:
    return version_6(folder, "topk", normalize_activations="layer_norm", rescale_acts_by_decoder_norm=True)


def jumprelu_sae(folder: Path) -> Release:
    """Also what a BatchTopK or Matryoshka SAE is saved as."""
    return version_6(folder, "jumprelu")


def transcoder(folder: Path) -> Release:
    return version_6(folder, "transcoder")


def skip_transcoder(folder: Path) -> Release:
    return version_6(folder, "skip_transcoder")


def jumprelu_transcoder(folder: Path) -> Release:
    return version_6(folder, "jumprelu_transcoder")


def jumprelu_skip_transcoder(folder: Path) -> Release:
    return version_6(folder, "jumprelu_skip_transcoder")


def transcoder_layer_norm(folder: Path) -> Release:
    return version_6(folder, "transcoder", normalize_activations="layer_norm")


def skip_transcoder_constant_norm(folder: Path) -> Release:
    """The skip term takes the input as it is."""
    return version_6(folder, "jumprelu_skip_transcoder", normalize_activations="constant_norm_rescale")


def ones(folder: Path) -> Release:
    """A `scaling_factor` of ones, which SAELens wrote for a while, means nothing."""
    release = older(folder, "standard", finetuning_scaling_factor=False)
    write_again(folder, scaling_factor=torch.ones(WIDTH))
    return release


def write_again(folder: Path, **changes: Tensor | None) -> None:
    """The weights of a folder with some tensors put in, or taken out where None."""
    tensors = tensors_of("standard") | changes
    save_file({key: t for key, t in tensors.items() if t is not None}, folder / "sae_weights.safetensors")


def bare(folder: Path) -> Release:
    """The oldest: no architecture, no word on b_dec (true), none on normalisation (none)."""
    return older(folder, "standard")


def older_topk(folder: Path) -> Release:
    return older(folder, "topk", activation_fn_str="topk", activation_fn_kwargs={"k": K}, normalize_activations=False)


def older_gated(folder: Path) -> Release:
    stated = {"architecture": "gated", "activation_fn_str": "relu", "apply_b_dec_to_input": False}
    return older(folder, "gated", applied=False, **stated)


def older_layer_norm(folder: Path) -> Release:
    return older(folder, "jumprelu", True, "layer_norm", architecture="jumprelu", normalize_activations="layer_norm")


RELEASES: tuple[Callable[[Path], Release], ...] = (
    standard,
    attention_output,
    hook_z,
    input_bias_off,
    layer_norm,
    constant_norm,
    average_norm,
    older_average_norm,
    gated,
    gated_layer_norm,
    topk_sae,
    topk_rescaled,
    topk_layer_norm,
    jumprelu_sae,
    transcoder,
    skip_transcoder,
    jumprelu_transcoder,
    jumprelu_skip_transcoder,
    transcoder_layer_norm,
    skip_transcoder_constant_norm,
    ones,
    bare,
    older_topk,
    older_gated,
    older_layer_norm,
)
