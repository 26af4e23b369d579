"""Folders as EleutherAI's sparsify, dictionary_learning, OpenAI and Dunefsky et al. publish them."""

from __future__ import annotations

import gzip
import json
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.transcoder.published.formula import (
    D_IN,
    WIDTH,
    Formula,
    Release,
    drawn,
    groupmax,
    jumprelu,
    relu,
    signed_topk,
    standardised,
    thresholds,
    topk,
    weights,
    wide,
)

N_LAYERS = 2
K = 5


# --- EleutherAI/sparsify --------------------------------------------------------------------------------------


def sparsify(
    folder: Path,
    point: str,
    writes: str,
    transcode: bool,
    skip: bool,
    subtracts: bool,
    d: int = D_IN,
    chosen: Callable[[Tensor], Tensor] = lambda p: topk(relu(p), K),
    width: int = WIDTH,
    **more: Any,
) -> Release:
    """`{hookpoint}/cfg.json` and `sae.safetensors`; the k largest after ReLU; skip is x @ W_skip.mT."""
    formulas = {}
    for layer in range(N_LAYERS):
        w = of_width(width, weights(layer, d), weights(layer + 50, d))
        stored = {key: w[key] for key in ("W_dec", "b_dec")}
        stored |= {"encoder.weight": w["W_enc"], "encoder.bias": w["b_enc"] - 2}
        if skip:
            stored["W_skip"] = drawn(7000 + layer, d, d)
        place = folder / point.format(layer)
        place.mkdir(parents=True)
        save_file(stored, place / "sae.safetensors")
        (place / "cfg.json").write_text(json.dumps(_sparsify_config(transcode, skip) | {"d_in": d} | more))
        formulas[layer] = _sparsify(wide(stored), subtracts, chosen)
    reads = "mlp.hook_in" if transcode else writes
    return Release(folder, "sparsify", formulas, reads, writes, d, width)


def of_width(width: int, first: Mapping[str, Tensor], more: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first weights with as many features of others behind them as it takes."""
    each = {key: torch.cat([first[key], more[key]])[:width] for key in ("W_enc", "W_dec", "b_enc")}
    return {**each, "b_dec": first["b_dec"]}


def _sparsify_config(transcode: bool, skip: bool) -> dict[str, Any]:
    return {
        "activation": "topk",
        "expansion_factor": 128,
        "normalize_decoder": True,
        "num_latents": WIDTH,
        "k": K,
        "multi_topk": False,
        "skip_connection": skip,
        "transcode": transcode,
    }


def _sparsify(w: Mapping[str, Tensor], subtracts: bool, chosen: Callable[[Tensor], Tensor]) -> Formula:
    def encode(x: Tensor) -> Tensor:
        x = x - w["b_dec"] if subtracts else x
        return chosen(x @ w["encoder.weight"].T + w["encoder.bias"])

    def decode(activations: Tensor, x: Tensor) -> Tensor:
        out = activations @ w["W_dec"] + w["b_dec"]
        return out + x @ w["W_skip"].T if "W_skip" in w else out

    return Formula(encode, decode)


def sparsify_skip_transcoders(folder: Path) -> Release:
    return sparsify(folder, "layers.{}.mlp", "mlp.hook_out", transcode=True, skip=True, subtracts=False)


def sparsify_gpt2_transcoders(folder: Path) -> Release:
    return sparsify(folder, "h.{}.mlp", "mlp.hook_out", transcode=True, skip=False, subtracts=False)


def sparsify_saes(folder: Path) -> Release:
    return sparsify(folder, "layers.{}", "hook_resid_post", False, False, subtracts=True, signed=False)


def sparsify_signed(folder: Path) -> Release:
    """Until 2024: the k farthest from zero, as they are."""
    chosen = partial(signed_topk, k=K)
    return sparsify(folder, "layers.{}", "hook_resid_post", False, False, True, chosen=chosen, signed=True)


def sparsify_groupmax(folder: Path) -> Release:
    chosen = partial(groupmax, k=4)
    return sparsify(
        folder, "layers.{}.mlp", "mlp.hook_out", True, True, False, chosen=chosen, width=24, activation="groupmax", k=4
    )


# --- saprmarks/dictionary_learning ----------------------------------------------------------------------------


def dictionary(
    folder: Path, dict_class: str, state: Mapping[str, Tensor], made: Formula, layer: int = 1, **more: Any
) -> Release:
    """`trainer_0/{ae.pt, config.json}`: a state_dict, and the trainer's configuration with the class in it."""
    place = folder / "trainer_0"
    place.mkdir(parents=True)
    torch.save(_state_dict(state), place / "ae.pt")
    trainer = {
        "trainer_class": "Trainer",
        "dict_class": dict_class,
        "lr": 0.0001,
        "steps": 100,
        "seed": 0,
        "activation_dim": D_IN,
        "dict_size": WIDTH,
        "device": "cuda:0",
        "layer": layer,
        "lm_name": "EleutherAI/pythia-70m-deduped",
        "wandb_name": dict_class,
        "submodule_name": f"resid_post_layer_{layer}",
        **more,
    }
    buffer = {"d_submodule": D_IN, "io": "out", "n_ctxs": 128, "ctx_len": 128, "device": "cuda:0"}
    (place / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": buffer}))
    return Release(place, "dictionary-learning", {layer: made}, "hook_resid_post", "hook_resid_post")


def _state_dict(state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """As a module's state_dict() is: an OrderedDict that carries an attribute of its own."""
    saved = OrderedDict(state)
    saved._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return saved


def autoencoder(folder: Path) -> Release:
    """The decoder is brought to unit rows on loading, and the encoder takes up their lengths."""
    w = weights(1)
    state = {
        "bias": w["b_dec"],
        "encoder.weight": w["W_enc"],
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
    }
    s = wide(state)
    lengths = s["decoder.weight"].square().sum(0).sqrt()
    made = Formula(
        lambda x: relu((x - s["bias"]) @ s["encoder.weight"].T + s["encoder.bias"]) * lengths,
        lambda activations, x: (activations / lengths) @ s["decoder.weight"].T + s["bias"],
    )
    return dictionary(folder, "AutoEncoder", state, made)


def gated_autoencoder(folder: Path) -> Release:
    w = weights(1)
    state = {
        "decoder_bias": w["b_dec"],
        "r_mag": drawn(7300, WIDTH, scale=0.5),
        "gate_bias": w["b_enc"],
        "mag_bias": drawn(7200, WIDTH),
        "encoder.weight": w["W_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
    }
    s = wide(state)

    def encode(x: Tensor) -> Tensor:
        p = (x - s["decoder_bias"]) @ s["encoder.weight"].T
        return torch.where(p + s["gate_bias"] > 0, relu(s["r_mag"].exp() * p + s["mag_bias"]), 0.0)

    made = Formula(encode, lambda activations, x: activations @ s["decoder.weight"].T + s["decoder_bias"])
    return dictionary(folder, "GatedAutoEncoder", state, made)


def april_autoencoder(folder: Path) -> Release:
    """AutoEncoderNew: no input bias, and decoder rows stay as long as they are."""
    w = weights(1)
    state = {
        "encoder.weight": w["W_enc"],
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
        "decoder.bias": w["b_dec"],
    }
    s = wide(state)
    made = Formula(
        lambda x: relu(x @ s["encoder.weight"].T + s["encoder.bias"]),
        lambda activations, x: activations @ s["decoder.weight"].T + s["decoder.bias"],
    )
    return dictionary(folder, "AutoEncoderNew", state, made)


def jumprelu_autoencoder(folder: Path) -> Release:
    w = weights(1)
    state = w | {"W_enc": w["W_enc"].T.contiguous(), "threshold": thresholds(1)}
    s = wide(state)
    made = Formula(
        lambda x: jumprelu(x @ s["W_enc"] + s["b_enc"], s["threshold"]),
        lambda activations, x: activations @ s["W_dec"] + s["b_dec"],
    )
    return dictionary(folder, "JumpReluAutoEncoder", state, made)


def _linear(threshold: float) -> dict[str, Tensor]:
    w = weights(1)
    return {
        "b_dec": w["b_dec"],
        "k": torch.tensor(K, dtype=torch.int),
        "threshold": torch.tensor(threshold),
        "encoder.weight": w["W_enc"],
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
    }


def topk_autoencoder(folder: Path) -> Release:
    """AutoEncoderTopK: the competition decides, although a threshold is stored beside it."""
    state = _linear(0.9)
    s = wide(state)
    made = Formula(
        lambda x: topk(relu((x - s["b_dec"]) @ s["encoder.weight"].T + s["encoder.bias"]), K),
        lambda activations, x: activations @ s["decoder.weight"].T + s["b_dec"],
    )
    return dictionary(folder, "AutoEncoderTopK", state, made, k=K)


def batchtopk_autoencoder(folder: Path) -> Release:
    """BatchTopKSAE: above one threshold for all features; k is not used."""
    state = _linear(0.9)
    s = wide(state)
    made = Formula(
        lambda x: jumprelu((x - s["b_dec"]) @ s["encoder.weight"].T + s["encoder.bias"], s["threshold"]),
        lambda activations, x: activations @ s["decoder.weight"].T + s["b_dec"],
    )
    return dictionary(folder, "BatchTopKSAE", state, made, k=K)


def matryoshka_autoencoder(folder: Path) -> Release:
    w = weights(1)
    groups = [5, 7, WIDTH - 12]
    state = w | {
        "W_enc": w["W_enc"].T.contiguous(),
        "k": torch.tensor(K, dtype=torch.int),
        "threshold": torch.tensor(0.9),
        "group_sizes": torch.tensor(groups),
    }
    s = wide(state)
    made = Formula(
        lambda x: jumprelu((x - s["b_dec"]) @ s["W_enc"] + s["b_enc"], s["threshold"]),
        lambda activations, x: activations @ s["W_dec"] + s["b_dec"],
    )
    return dictionary(folder, "MatryoshkaBatchTopKSAE", state, made, k=K, group_sizes=groups)


# --- openai/sparse_autoencoder --------------------------------------------------------------------------------

LOCATIONS = {
    "resid_post_mlp": "hook_resid_post",
    "resid_post_attn": "hook_resid_mid",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_delta_attn": "hook_attn_out",
}


def openai(folder: Path, location: str, kind: str = "TopK", d: int = D_IN) -> Release:
    """`{location}_v5_32k/autoencoders/{L}.pt`: a state_dict with the activation's name in it."""
    place = folder / f"{location}_v5_32k"
    (place / "autoencoders").mkdir(parents=True)
    formulas = {}
    for layer in range(N_LAYERS):
        state = _openai_state(layer, kind, d)
        torch.save(state, place / "autoencoders" / f"{layer}.pt")
        formulas[layer] = _openai(wide({key: t for key, t in state.items() if isinstance(t, Tensor)}), kind)
    return Release(place, "openai", formulas, LOCATIONS[location], LOCATIONS[location], d)


def _openai_state(layer: int, kind: str, d: int) -> dict[str, Any]:
    w = weights(layer, d)
    state: dict[str, Any] = OrderedDict(
        {
            "pre_bias": w["b_dec"],
            "latent_bias": w["b_enc"],
            "stats_last_nonzero": torch.zeros(WIDTH, dtype=torch.long),
            "latents_activation_frequency": torch.ones(WIDTH),
            "latents_mean_square": torch.zeros(WIDTH),
            "encoder.weight": w["W_enc"],
            "decoder.weight": w["W_dec"].T.contiguous(),
        }
    )
    state["activation"] = kind
    state["activation_state_dict"] = _state_dict({"k": K, "postact_fn": "ReLU"} if kind == "TopK" else {})
    return _state_dict(state)


def _openai(w: Mapping[str, Tensor], kind: str) -> Formula:
    """TopK: the input is standardised per token, before pre_bias is subtracted, and the output scaled back."""

    def encode(x: Tensor) -> Tensor:
        x = standardised(x)[0] if kind == "TopK" else x
        p = (x - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
        return relu(topk(p, K)) if kind == "TopK" else relu(p)

    def decode(activations: Tensor, x: Tensor) -> Tensor:
        out = activations @ w["decoder.weight"].T + w["pre_bias"]
        if kind != "TopK":
            return out
        _, mean, deviation = standardised(x)
        return out * deviation + mean

    return Formula(encode, decode)


def openai_post_mlp(folder: Path) -> Release:
    return openai(folder, "resid_post_mlp")


def openai_post_attn(folder: Path) -> Release:
    return openai(folder, "resid_post_attn")


def openai_delta_mlp(folder: Path) -> Release:
    return openai(folder, "resid_delta_mlp")


def openai_delta_attn(folder: Path) -> Release:
    return openai(folder, "resid_delta_attn")


def openai_relu(folder: Path) -> Release:
    return openai(folder, "resid_post_mlp", "ReLU")


# --- Dunefsky, Chlenski and Nanda 2024 ------------------------------------------------------------------------

DUNEFSKY = "final_sparse_autoencoder_gpt2-small_blocks.{}.ln2.hook_normalized_24576"


@contextmanager
def their_modules() -> Iterator[type]:
    """`sae_training.config` exists while their class is pickled, and is gone when the pickle is read."""
    package, module = types.ModuleType("sae_training"), types.ModuleType("sae_training.config")
    made = type("LanguageModelSAERunnerConfig", (), {"__module__": "sae_training.config"})
    module.LanguageModelSAERunnerConfig = made  # type: ignore[attr-defined]
    sys.modules |= {"sae_training": package, "sae_training.config": module}
    try:
        yield made
    finally:
        del sys.modules["sae_training"], sys.modules["sae_training.config"]


def dunefsky_state(layer: int) -> dict[str, Tensor]:
    w = weights(layer)
    return _state_dict(
        {
            "W_enc": w["W_enc"].T.contiguous(),
            "b_enc": w["b_enc"],
            "W_dec": w["W_dec"],
            "b_dec": drawn(7400 + layer, D_IN, scale=2.0),
            "b_dec_out": w["b_dec"],
        }
    )


def dunefsky_config(made: type, layer: int) -> object:
    config = made()
    config.__dict__ |= {
        "model_name": "gpt2-small",
        "hook_point": f"blocks.{layer}.ln2.hook_normalized",
        "hook_point_layer": layer,
        "hook_point_head_index": None,
        "d_in": D_IN,
        "d_sae": WIDTH,
        "d_out": D_IN,
        "dtype": torch.float32,
        "device": torch.device("cuda"),
        "is_transcoder": True,
        "out_hook_point": f"blocks.{layer}.hook_mlp_out",
        "out_hook_point_layer": layer,
        "use_ghost_grads": (False,),
        "lr": 0.0004,
    }
    return config


def dunefsky(folder: Path, packed: bool = False) -> Release:
    """A pickle {cfg, state_dict}, zipped by torch.save, or (`.pkl.gz`) a plain one in gzip."""
    folder.mkdir(parents=True, exist_ok=True)
    formulas = {}
    for layer in range(N_LAYERS):
        with their_modules() as made:
            content = {"cfg": dunefsky_config(made, layer), "state_dict": dunefsky_state(layer)}
            if packed:
                with gzip.open(folder / (DUNEFSKY.format(layer) + ".pkl.gz"), "wb") as stream:
                    pickle.dump(content, stream)
            else:
                torch.save(content, folder / (DUNEFSKY.format(layer) + ".pt"))
        formulas[layer] = _dunefsky(wide(dunefsky_state(layer)))
    return Release(folder, "dunefsky", formulas, "ln2.hook_normalized", "hook_mlp_out")


def _dunefsky(w: Mapping[str, Tensor]) -> Formula:
    """`b_dec` is the bias of the input, `b_dec_out` of the output."""
    return Formula(
        lambda x: relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]),
        lambda activations, x: activations @ w["W_dec"] + w["b_dec_out"],
    )


def dunefsky_zip(folder: Path) -> Release:
    return dunefsky(folder)


def dunefsky_gzip(folder: Path) -> Release:
    return dunefsky(folder, packed=True)


def dunefsky_pickle(folder: Path) -> Release:
    release = dunefsky(folder, packed=True)
    for file in folder.glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    return release


def dunefsky_before_1_6(folder: Path) -> Release:
    """The same, saved with the torch of its day."""
    release = dunefsky(folder)
    for layer in release.layers:
        with their_modules() as made:
            content = {"cfg": dunefsky_config(made, layer), "state_dict": dunefsky_state(layer)}
            torch.save(content, folder / (DUNEFSKY.format(layer) + ".pt"), _use_new_zipfile_serialization=False)
    return release


RELEASES: tuple[Callable[[Path], Release], ...] = (
    sparsify_skip_transcoders,
    sparsify_gpt2_transcoders,
    sparsify_saes,
    sparsify_signed,
    sparsify_groupmax,
    autoencoder,
    gated_autoencoder,
    april_autoencoder,
    jumprelu_autoencoder,
    topk_autoencoder,
    batchtopk_autoencoder,
    matryoshka_autoencoder,
    openai_post_mlp,
    openai_post_attn,
    openai_delta_mlp,
    openai_delta_attn,
    openai_relu,
    dunefsky_zip,
    dunefsky_pickle,
    dunefsky_gzip,
    dunefsky_before_1_6,
)
