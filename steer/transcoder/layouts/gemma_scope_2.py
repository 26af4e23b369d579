"""Gemma Scope 2 (google/gemma-scope-2-*): JumpReLU transcoders with an affine skip, cross-layer transcoders, SAEs.

`{site}/layer_{L}_width_{W}_l0_{size}[_affine]/params.safetensors` beside a `config.json` with `hf_hook_point_in` and
`hf_hook_point_out`; a CLT is `clt/width_*/params_layer_{L}.safetensors`. Keys: w_enc [d_model d_transcoder], w_dec
[d_transcoder d_model], b_enc, b_dec, threshold, affine_skip_connection [d_in d_out]:

    a = max(p, 0) * (p > threshold),  out = a @ w_dec + b_dec + x @ affine_skip_connection

A CLT's w_dec is [d_transcoder n_layers d_model] over all layers, with zeros before its own; where the layers' second
axes differ, they begin at their own layer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from steer.errors import TranscoderError
from steer.transcoder.canonical import Activation, Described, Hooks, LayerLayout, Layout, assembled, checked, kind_of
from steer.transcoder.containers.safetensors_file import header
from steer.transcoder.found import Found, in_path, json_file, layer_in, one_a_layer
from steer.transcoder.stored import Stored, described, own_keys, require_keys

KEYS = ("w_enc", "w_dec", "b_enc", "b_dec", "threshold")
SKIP = "affine_skip_connection"
POINTS = {
    "pre_feedforward_layernorm.output": "mlp.hook_in",
    "mlp.input": "mlp.hook_in",
    "mlp.output": "mlp.hook_out",
    "post_feedforward_layernorm.output": "hook_mlp_out",
    "post_attention_layernorm.output": "hook_attn_out",
    "self_attn.o_proj.input": "attn.hook_z",
    "output": "hook_resid_post",
    "input": "hook_resid_pre",
}
"""Modules of a Hugging Face Gemma 3 block as hook points of ours."""
CLT_FILE = r"params_layer_(\d+)\.safetensors"
CROSSCODER = r"(?<=/)crosscoder/|(?<=/)layer(?:_\d+){2,}_width_"  # {site}/layer_{a}_{b}_{c}_{d}_width_{W}
NEEDS = "layer_{L}_width_{W}_l0_{size}/params.safetensors and config.json, or params_layer_{L}.safetensors of a CLT"


def is_mine(found: Found) -> bool:
    return bool(_files(found, r"params\.safetensors") or found.named(CLT_FILE))


def describe(found: Found, hooks: Hooks) -> Layout:
    """The set; TranscoderError with the file, what was found in it and what is possible."""
    return _clt(found, hooks) if found.named(CLT_FILE) else _per_layer(found, hooks)


def layer(file: Path) -> LayerLayout:
    """One layer's file; whether it has a skip term is said in the config.json beside it."""
    return _described(file, header(file), _config(file))


def _config(file: Path) -> dict[str, Any]:
    path = file.parent / "config.json"
    return json_file(path) if path.is_file() else {}


def _files(found: Found, pattern: str) -> list[Path]:
    return [file for file in found.named(pattern) if (file.parent / "config.json").is_file()]


def _per_layer(found: Found, hooks: Hooks) -> Layout:
    files = one_a_layer(_files(found, r"params\.safetensors"), r"layer_(\d+)(?=[_/])")
    configs = [file.parent / "config.json" for file in files.values()]
    return assembled(found.folder, "gemma-scope-2", hooks, (_one(*item) for item in files.items()), *configs)


def _one(number: int, file: Path) -> Described:
    path = file.parent / "config.json"
    reads, writes = _points(path, json_file(path))
    return Described(number, path, reads, writes, layer(file))


def _clt(found: Found, hooks: Hooks) -> Layout:
    files = found.named(CLT_FILE)
    if in_path(files[0], CROSSCODER):
        raise TranscoderError(
            f"{files[0].parent}: a crosscoder: its features read several layers at once; not read here"
        )
    if len({file.parent for file in files}) > 1:
        raise TranscoderError(f"{found.folder}: several CLTs: {', '.join(sorted({str(f.parent) for f in files}))}")
    config = files[0].parent / "config.json"
    numbered = dict(sorted((layer_in(file, CLT_FILE), file) for file in files))
    points = _points(config, json_file(config)) if config.is_file() else (None, None)
    reads, writes = hooks.over(config, *points)
    if kind_of(config, reads, writes) != "transcoder":
        raise TranscoderError(f"{config}: a CLT that reads {reads} and writes {writes}")
    return Layout(
        name=found.folder.resolve().name,
        format="gemma-scope-2",
        kind="clt",
        reads=reads,
        writes=writes,
        layers=_clt_layers(numbered),
        configs=(config,) if config.is_file() else (),
    )


def _clt_layers(files: dict[int, Path]) -> dict[int, LayerLayout]:
    headers = {i: header(file) for i, file in files.items()}
    for i, file in files.items():
        require_keys(file, headers[i], KEYS, (SKIP,))
        if len(headers[i]["w_dec"].shape) != 3:
            raise TranscoderError(f"{file}: {described(headers[i]['w_dec'])}, expected [d_transcoder n_layers d_model]")
    counts = {i: tensors["w_dec"].shape[1] for i, tensors in headers.items()}
    whole = len(set(counts.values())) == 1
    ends = {count if whole else count + i for i, count in counts.items()}
    if len(ends) > 1 or max(files) >= max(ends):
        raise TranscoderError(
            f"{files[min(files)].parent}: w_dec's second axis is {counts}, expected all layers in each"
        )
    return {
        i: _described(file, headers[i] | ({"w_dec": headers[i]["w_dec"].later(i)} if whole else {}), _config(file))
        for i, file in files.items()
    }


def _described(file: Path, tensors: dict[str, Stored], config: dict[str, Any]) -> LayerLayout:
    own, optional = own_keys(config.get("affine_connection"), SKIP)
    require_keys(file, tensors, (*KEYS, *own), optional)
    return checked(
        LayerLayout(
            W_enc=tensors["w_enc"].T,
            W_dec=tensors["w_dec"],
            b_enc=tensors["b_enc"],
            b_dec=tensors["b_dec"],
            threshold=tensors["threshold"],
            W_skip=tensors.get(SKIP),
            activation=Activation("jumprelu", rectified=True),
        )
    )


def _points(path: Path, config: dict[str, Any]) -> tuple[str | None, str | None]:
    """What is read and written; an SAE's config names one point."""
    if config.get("architecture", "jump_relu") != "jump_relu":
        raise TranscoderError(f"{path}: architecture is {config['architecture']!r} (possible: jump_relu)")
    reads = config.get("hf_hook_point_in")
    writes = config.get("hf_hook_point_out") or reads
    return _point(path, reads), _point(path, writes)


def _point(path: Path, module: Any) -> str | None:
    if module is None:
        return None
    match = re.fullmatch(r"(?:.*\.)?layers\.(?:\d+|\{[^}]*\}|\*)\.(.+)", str(module))
    if match is None or match[1] not in POINTS:
        raise TranscoderError(f"{path}: hook point {module!r} is not known (known in a block: {', '.join(POINTS)})")
    return POINTS[match[1]]
