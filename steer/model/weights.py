"""A folder becomes a Hugging Face model in memory: safetensors only, every weight accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from steer.errors import ModelError
from steer.model.devices import DeviceMap, require_device
from steer.model.hashes import file_hash as file_hash

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def read(folder: Path, id: str, dtype: str, device: str | DeviceMap) -> PreTrainedModel:
    """The model in a folder. No code that comes with weights is run. Raises ModelError.

    `device` is one device, `auto` (spread over what there is), or a Hugging Face `device_map`.
    """
    if dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r} is not one of: {', '.join(DTYPES)}")
    whole = isinstance(device, str) and device != "auto"
    if whole:
        require_device(str(device))
    transformers.utils.logging.disable_progress_bar()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=DTYPES[dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **({} if whole else {"device_map": device if isinstance(device, str) else dict(device)}),
        )
    except Exception as error:  # what a damaged file breaks is up to the file
        raise ModelError(f"model {id!r} in {folder} cannot be loaded: {error}") from error
    hf, loading = loaded
    absent = sorted(map(str, (*loading["missing_keys"], *loading["mismatched_keys"])))
    if absent:
        raise ModelError(f"model {id!r} in {folder}: weights missing or of another shape: {', '.join(absent[:5])}")
    placed: PreTrainedModel = hf.to(device) if whole else hf
    return placed


def with_its_cap(hf: PreTrainedModel) -> PreTrainedModel:
    """The model, with attention written out where it caps its scores (Gemma 2).

    torch's fused attention has no cap, and some versions of transformers choose it all the same and leave the cap out
    without a word.
    """
    if getattr(hf.config, "attn_logit_softcapping", None) and hf.config._attn_implementation == "sdpa":
        hf.set_attn_implementation("eager")
    return hf


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names and values; hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
