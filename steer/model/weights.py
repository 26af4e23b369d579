"""A folder becomes a Hugging Face model in memory: safetensors only, every weight accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from steer.digests import remembered
from steer.errors import ModelError
from steer.model.devices import DeviceMap, require_device

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


def file_hash(paths: Iterable[Path]) -> str:
    """sha256 over names and contents; hex."""
    files = [path.absolute() for path in paths]
    return remembered("names and contents", files, lambda: _file_hash(files))


def _file_hash(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names and values; hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
