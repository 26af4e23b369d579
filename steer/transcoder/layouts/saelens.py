"""SAELens (decoderesearch/SAELens): a folder with `cfg.json` and `sae_weights.safetensors`, or one such folder a layer.

    W_enc [d_in d_sae], W_dec [d_sae d_out], b_enc, b_dec, threshold [d_sae]; gated: b_gate, b_mag, r_mag and no b_enc;
    W_skip [d_out d_in] (skip = x @ W_skip.T); scaling_factor (a leftover: only ones can be read)
    activation_scaler.json or activations_store_state.safetensors: the factor of an average norm, if it is not folded in

Since version 6 the hook names stand in `metadata`, before in the file itself. An SAE subtracts b_dec from its
(normalised) input unless `apply_b_dec_to_input` is false; a transcoder never does, and does not take its input's
normalisation back from the output. Only a TopK one looks at `rescale_acts_by_decoder_norm`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from steer.errors import TranscoderError
from steer.transcoder.canonical import (
    Activation,
    Described,
    Hooks,
    LayerLayout,
    Layout,
    Normalisation,
    assembled,
    checked,
    require_k,
)
from steer.transcoder.containers.safetensors_file import header
from steer.transcoder.found import Found, json_file
from steer.transcoder.stored import Stored, one, require_keys, values

WEIGHTS = "sae_weights.safetensors"
AVERAGE = ("expected_average_only_in", True)
SCALER, STORE = "activation_scaler.json", "activations_store_state.safetensors"
NEEDS = f"cfg.json and {WEIGHTS}"
SAES = ("standard", "gated", "topk", "jumprelu")
TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
HOOK = re.compile(r"blocks\.(\d+)\.(.+)")
HF_INPUTS = ("pre_feedforward_layernorm.output", "post_attention_layernorm.output", "mlp.input")


def is_mine(found: Found) -> bool:
    return any((file.parent / "cfg.json").is_file() for file in found.named(re.escape(WEIGHTS)))


def describe(found: Found, hooks: Hooks) -> Layout:
    """The set; TranscoderError with the file, what was found in it and what is possible."""
    configs = [file.parent / "cfg.json" for file in found.named(re.escape(WEIGHTS))]
    factors = [file for path in configs if (file := _factor_file(path)) is not None]
    return assembled(found.folder, "saelens", hooks, map(_described, configs), *configs, *factors)


def _described(path: Path) -> Described:
    config = json_file(path)
    number, reads, writes = _hooks(path, config)
    return Described(number, path, reads, writes, _layer(path, config))


# --- what it reads and writes ---------------------------------------------------------------------------------


def _hooks(path: Path, config: dict[str, Any]) -> tuple[int, str | None, str | None]:
    """The layer, and the hook points read and written where they are clear."""
    told = {**config, **(config.get("metadata") or config.get("meta") or {})}
    reads = told.get("hook_name") or told.get("hook_point")
    if reads is None:
        raise TranscoderError(f"{path}: no hook name (looked for metadata.hook_name, hook_name, hook_point)")
    if told.get("hook_head_index") is not None:
        raise TranscoderError(f"{path}: an SAE of one attention head (hook_head_index) cannot be read")
    layer, read = _hook(path, reads)
    written = told.get("hook_name_out") or (None if _architecture(path, config) in TRANSCODERS else reads)
    return layer, _clear(told, read), None if written is None else _hook(path, written)[1]


def _hook(path: Path, name: object) -> tuple[int, str]:
    match = HOOK.fullmatch(str(name))
    if match is None:
        raise TranscoderError(f"{path}: hook name {name!r} (expected blocks.LAYER.POINT)")
    return int(match[1]), match[2]


def _clear(told: dict[str, Any], read: str) -> str | None:
    """`hook_mlp_in` is the raw residual stream in TransformerLens and the MLP's input in what others saved so.

    Where a Hugging Face module is named too, that decides; otherwise the user has to.
    """
    if read != "hook_mlp_in":
        return read
    module = str(told.get("hf_hook_name") or "")
    return "mlp.hook_in" if module.endswith(HF_INPUTS) else None


# --- how it is used -------------------------------------------------------------------------------------------


def _layer(path: Path, config: dict[str, Any]) -> LayerLayout:
    file = path.parent / WEIGHTS
    tensors = header(file)
    architecture = _architecture(path, config)
    transcodes = architecture in TRANSCODERS
    gated, jumps, skips = architecture == "gated", "jumprelu" in architecture, "skip" in architecture
    biases = ("b_gate", "b_mag", "r_mag") if gated else ("b_enc",)
    own = (("threshold",) if jumps else ()) + (("W_skip",) if skips else ())
    require_keys(file, tensors, ("W_enc", "W_dec", "b_dec", *biases, *own), ("scaling_factor",))
    _require_ones(tensors.get("scaling_factor"))
    subtracts = config.get("apply_b_dec_to_input", not transcodes)
    if subtracts and transcodes:
        raise TranscoderError(f"{path}: apply_b_dec_to_input is true, which a transcoder cannot have")
    return checked(
        LayerLayout(
            W_enc=tensors["W_enc"].T,
            W_dec=tensors["W_dec"],
            b_enc=tensors["b_mag" if gated else "b_enc"],
            b_dec=tensors["b_dec"],
            activation=_activation(path, config, architecture, tensors["W_dec"].shape[0]),
            W_skip=tensors["W_skip"].T if skips else None,
            threshold=tensors["threshold"] if jumps else None,
            b_in=tensors["b_dec"] if subtracts else None,
            b_gate=tensors["b_gate"] if gated else None,
            r_mag=tensors["r_mag"] if gated else None,
            normalisation=_normalisation(path, config, undone=not transcodes),
            rescaled=architecture == "topk" and bool(config.get("rescale_acts_by_decoder_norm", False)),
        ),
        d_out=tensors["W_dec"].shape[-1],
    )


def _architecture(path: Path, config: dict[str, Any]) -> str:
    """The architecture; before version 6 a TopK one may be called `standard` and say `topk` as activation function."""
    stated = config.get("architecture", "standard")
    if stated == "standard" and config.get("activation_fn_str", config.get("activation_fn")) == "topk":
        return "topk"
    if stated not in (*SAES, *TRANSCODERS):
        raise TranscoderError(f"{path}: architecture is {stated!r} (possible: {', '.join((*SAES, *TRANSCODERS))})")
    return str(stated)


def _activation(path: Path, config: dict[str, Any], architecture: str, width: int) -> Activation:
    match architecture:
        case "topk":
            k = config.get("k", (config.get("activation_fn_kwargs") or {}).get("k"))
            return Activation("topk", k=require_k(path, k, width), rectified=True)
        case "gated":
            return Activation("gated")
        case _ if "jumprelu" in architecture:
            return Activation("jumprelu", rectified=True)
        case _:
            stated = config.get("activation_fn_str", config.get("activation_fn", "relu"))
            if stated != "relu":
                raise TranscoderError(f"{path}: activation function {stated!r} (possible: relu, topk)")
            return Activation("relu")


def _normalisation(path: Path, config: dict[str, Any], undone: bool) -> Normalisation | None:
    """Older files say true or false. Weights that an average norm has been folded into say none."""
    stated = config.get("normalize_activations", "none")
    match stated:
        case "none" | None | False:
            return None
        case _ if stated in AVERAGE:
            return Normalisation("constant", factor=_average_factor(path, config, undone))
        case "layer_norm":
            return Normalisation("layer_norm", undone)
        case "constant_norm_rescale":
            return Normalisation("constant_norm", undone)
        case _:
            raise TranscoderError(
                f"{path}: normalize_activations is {stated!r} (possible: none, constant_norm_rescale, layer_norm)"
            )


def _average_factor(path: Path, config: dict[str, Any], undone: bool) -> float:
    """What the input is multiplied with, as the trainer left it beside the weights: since version 6, and before it."""
    if not undone or config.get("rescale_acts_by_decoder_norm"):
        raise TranscoderError(f"{path}: an average norm that was not folded in is read of plain SAEs only")
    file = _factor_file(path)
    factor = None if file is None else _factor(file)
    if factor is None:
        raise TranscoderError(
            f"{path}: normalize_activations is {config['normalize_activations']!r}, and the factor that it scales its"
            f" input with is not there (looked for {SCALER}, {STORE}); weights that it has been folded into (W_enc"
            " times it, W_dec and b_dec divided by it) say none"
        )
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
        raise TranscoderError(f"{file}: the scaling factor is {factor!r}, expected a number above 0")
    return float(factor)


def _factor_file(path: Path) -> Path | None:
    """Where the factor of an average norm is, if the config states one."""
    if json_file(path).get("normalize_activations") not in AVERAGE:
        return None
    return next((file for name in (SCALER, STORE) if (file := path.parent / name).is_file()), None)


def _factor(file: Path) -> object:
    if file.name == SCALER:
        return json_file(file).get("scaling_factor")
    stored = header(file).get("estimated_norm_scaling_factor")
    return None if stored is None else one(stored)


def _require_ones(factor: Stored | None) -> None:
    if factor is not None and not np.all(values(factor) == 1):
        raise TranscoderError(f"{factor.file}: {factor.key} is not 1 everywhere; what it scales was never published")
