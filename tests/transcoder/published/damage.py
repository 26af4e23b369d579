"""Ways to spoil a published file, and pickles that would run something."""

from __future__ import annotations

import gzip
import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.transcoder.published.others import dunefsky_config, their_modules


def files(folder: Path) -> list[Path]:
    """The weights of a release, layer by layer."""
    kinds = {".safetensors", ".npz", ".pt", ".pkl", ".gz"}
    return sorted(f for f in folder.rglob("*") if f.suffix in kinds and f.name != "sparsity.safetensors")


def tensors(file: Path) -> dict[str, Any]:
    match file.suffix:
        case ".safetensors":
            return dict(load_file(file))
        case ".npz":
            with np.load(file) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays}
    content = _pickled(file)
    return dict(content.get("state_dict", content))


def rewrite(file: Path, changes: Mapping[str, Any]) -> None:
    """The file again with some tensors put in, or left out where None."""
    kept = {key: value for key, value in (tensors(file) | dict(changes)).items() if value is not None}
    match file.suffix:
        case ".safetensors":
            save_file(kept, file)
        case ".npz":
            np.savez(file, **{key: value.numpy() for key, value in kept.items()})
        case _:
            _pickle(file, kept)


def _pickled(file: Path) -> dict[str, Any]:
    with their_modules():
        if file.suffix in (".gz", ".pkl"):
            with _opened(file, "rb") as stream:
                return dict(pickle.load(stream))
        return dict(torch.load(file, weights_only=False))  # our own file


def _pickle(file: Path, state: Mapping[str, Any]) -> None:
    if not file.name.startswith("final_sparse_autoencoder"):
        torch.save(dict(state), file)
        return
    with their_modules() as made:
        content = {"cfg": dunefsky_config(made, 0), "state_dict": dict(state)}
        if file.suffix in (".gz", ".pkl"):
            with _opened(file, "wb") as stream:
                pickle.dump(content, stream)
        else:
            torch.save(content, file)


def _opened(file: Path, mode: str) -> Any:
    return gzip.open(file, mode) if file.suffix == ".gz" else file.open(mode)


def longer(tensor: Tensor) -> Tensor:
    """One more number along the last axis."""
    return torch.cat([tensor, tensor[..., :1]], -1).contiguous()


# --- pickles that run something -------------------------------------------------------------------------------


def call(module: str, name: str, argument: bytes | str) -> bytes:
    """A pickle (protocol 4) of a dict of which one value is module.name(argument)."""
    said = _text("cfg"), _text(module), _text(name), b"\x93", _value(argument), b"\x85R"
    made = b"\x80\x04}(" + b"".join(said) + _text("state_dict") + b"}u."
    pickletools.dis(made, out=io.StringIO())  # it is a pickle
    return made


def _text(words: str) -> bytes:
    encoded = words.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _value(argument: bytes | str) -> bytes:
    if isinstance(argument, str):
        return _text(argument)
    return b"B" + len(argument).to_bytes(4, "little") + argument


def zipped(content: bytes) -> bytes:
    """As torch.save wraps a pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def nested(content: bytes) -> bytes:
    """The pickle inside the bytes that a tensor in a plain pickle is rebuilt from."""
    return call("torch.storage", "_load_from_bytes", zipped(content))


def hostile(sentinel: Path) -> dict[str, bytes]:
    """Pickles that create the file `sentinel` when they are trusted."""
    shell, code = f"touch {sentinel}", f"open({str(sentinel)!r}, 'w')"
    direct = call("posix", "system", shell)
    return {
        "shell": direct,
        "os": call("os", "system", shell),
        "code": call("builtins", "exec", code),
        "expression": call("builtins", "eval", code),
        "within torch": call("torch", "os.system", shell),
        "within torch.serialization": call("torch.serialization", "os.system", shell),
        "within torch._utils": call("torch._utils", "sys.modules", shell),
        "within numpy": call("numpy", "testing._private.utils.runstring", code),
        "within collections": call("collections", "_sys.modules", shell),
        "within their class": call("sae_training.config", "LanguageModelSAERunnerConfig.__init__.__globals__", shell),
        "nested": nested(direct),
        "nested twice": nested(nested(direct)),
    }


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "zip": zipped,
    "plain": lambda content: content,
    "gzip": gzip.compress,
}
