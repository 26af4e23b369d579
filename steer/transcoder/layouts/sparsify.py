"""EleutherAI's sparsify: a folder named after a module (`layers.5.mlp`) with `cfg.json` and `sae.safetensors`.

    encoder.weight [F d_in], encoder.bias [F], W_dec [F d_out], b_dec, optional W_skip [d_out d_in] (x @ W_skip.mT)

a = max(p, 0), then the k largest of all, or (`groupmax`) the largest of each of k equal runs of features; where
`signed` (until 2024), the k farthest from zero as they are. A transcoder (`transcode`) encodes x, an SAE x - b_dec.
Transcoders saved before 2025-02-12 subtracted b_dec too and say so nowhere: the user has to (`sparsify_2024`), and
`steer gate` tells which of the two explains the model.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from steer.errors import TranscoderError
from steer.experiment.spec import TranscoderFormat
from steer.transcoder.canonical import Activation, Described, Hooks, LayerLayout, Layout, assembled, checked, require_k
from steer.transcoder.containers.safetensors_file import header
from steer.transcoder.found import Found, in_path, json_file
from steer.transcoder.stored import own_keys, require_keys

WEIGHTS = "sae.safetensors"
NEEDS = f"layers.{{L}}.mlp/cfg.json and layers.{{L}}.mlp/{WEIGHTS}"
MODULE = r"(?<=[/.])(?:layers|h)\.(\d+)(?:\.(mlp|attn|attention|self_attn))?(?=/)"
POINTS = {None: "hook_resid_post", "mlp": "mlp.hook_out", "attn": "hook_attn_out", "attention": "hook_attn_out"}


def is_mine(found: Found) -> bool:
    return any((file.parent / "cfg.json").is_file() for file in found.named(re.escape(WEIGHTS)))


def describe(found: Found, hooks: Hooks) -> Layout:
    """The set; TranscoderError with the file, what was found in it and what is possible."""
    return described_as("sparsify", found, hooks, subtracted=False)


def described_as(format: TranscoderFormat, found: Found, hooks: Hooks, subtracted: bool) -> Layout:
    """The set, `subtracted` telling whether its transcoders subtract b_dec from what they read."""
    files = found.named(re.escape(WEIGHTS))
    configs = [file.parent / "cfg.json" for file in files]
    each = (_described(file, subtracted) for file in files)
    return assembled(found.folder, format, hooks, each, *configs)


def _described(file: Path, subtracted: bool) -> Described:
    config = json_file(file.parent / "cfg.json")
    transcodes = bool(config.get("transcode", False))
    number, reads, writes = _hooks(file, transcodes)
    return Described(number, file, reads, writes, _layer(file, config, subtracted or not transcodes))


def _hooks(file: Path, transcodes: bool) -> tuple[int, str | None, str | None]:
    """Layer and hook points from the module that the folder is named after; a transcoder goes from MLP to MLP."""
    match = in_path(file, MODULE)
    if match is None:
        raise TranscoderError(f"{file}: its folder is not named after a module (expected layers.5.mlp, h.5.mlp, ...)")
    if transcodes:
        mlp = match[2] == "mlp"
        return int(match[1]), "mlp.hook_in" if mlp else None, "mlp.hook_out" if mlp else None
    point = POINTS.get("attn" if match[2] == "self_attn" else match[2])
    return int(match[1]), point, point


def _layer(file: Path, config: dict[str, Any], subtracts: bool) -> LayerLayout:
    tensors = header(file)
    own, optional = own_keys(config.get("skip_connection"), "W_skip")
    require_keys(file, tensors, ("encoder.weight", "encoder.bias", "W_dec", "b_dec", *own), optional)
    if config.get("gram_lookup"):
        raise TranscoderError(
            f"{file}: gram_lookup: it reads and writes what an n-gram table leaves, which is not here"
        )
    W_enc, skip = tensors["encoder.weight"], tensors.get("W_skip")
    return checked(
        LayerLayout(
            W_enc=W_enc,
            W_dec=tensors["W_dec"],
            b_enc=tensors["encoder.bias"],
            b_dec=tensors["b_dec"],
            activation=_activation(file, config, W_enc.shape[0]),
            W_skip=None if skip is None else skip.T,
            b_in=tensors["b_dec"] if subtracts else None,
        )
    )


def _activation(file: Path, config: dict[str, Any], width: int) -> Activation:
    k, signed = require_k(file, config.get("k"), width), bool(config.get("signed", False))
    match config.get("activation", "topk"):
        case "topk":
            return Activation("topk", k=k, rectified=not signed, signed=signed)
        case "groupmax" if width % k:
            raise TranscoderError(f"{file}: groupmax: {width} features are no {k} groups of one size")
        case "groupmax" if not signed:
            return Activation("groupmax", k=k, rectified=True)
        case other:
            raise TranscoderError(
                f"{file}: activation {other!r}{', signed' if signed else ''} (possible: topk, topk signed, groupmax)"
            )
