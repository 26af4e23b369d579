"""What a transcoder folder holds, told from its config and file headers alone: no weight is read, no torch imported.

circuit-tracer's layout of per-layer transcoders (decoderesearch/circuit-tracer, `circuit_tracer/transcoder/`):
`config.yaml` says what the set reads and writes, `layer_{i}.safetensors` holds one layer:

    W_enc [d_transcoder d_model], W_dec [d_transcoder d_model], b_enc [d_transcoder], b_dec [d_model],
    optional W_skip [d_model d_model] (skip = x @ W_skip.T), activation_function.threshold [d_transcoder], k []
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from steer.errors import TranscoderError

READS = ("mlp.hook_in", "ln2.hook_normalized", "hook_resid_mid")
WRITES = ("hook_mlp_out", "mlp.hook_out")
REQUIRED = ("W_enc", "W_dec", "b_enc", "b_dec")
THRESHOLD = "activation_function.threshold"
OPTIONAL = ("W_skip", THRESHOLD, "k")
LAYER_FILE = re.compile(r"layer_(\d+)\.safetensors")
CLT_FILE = re.compile(r"W_(enc|dec)_\d+\.safetensors")
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt")
KNOWN = "known: circuit-tracer per-layer transcoders (config.yaml and layer_0.safetensors, layer_1.safetensors, ...)"
NUMBERS = {"I64": "<q", "I32": "<i", "I16": "<h", "U8": "<B", "F32": "<f", "F64": "<d"}
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
HEADER_LIMIT = 100_000_000  # bytes; what the safetensors library itself allows


@dataclass(frozen=True)
class Activation:
    """What turns a pre-activation p into an activation.

    `relu` is max(p, 0); `jumprelu` keeps p above the feature's threshold; `topk` keeps the `k` largest of a position.
    `rectified` says whether what a gate keeps is cut at zero too: not in circuit-tracer's layout (it differs only where
    a threshold is negative, or where fewer than k pre-activations are positive).
    """

    kind: Literal["relu", "jumprelu", "topk"]
    k: int | None = None
    rectified: bool = False


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file; its bytes are [start, stop), counted from the start of the file."""

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class LayerLayout:
    """Where one layer's tensors are."""

    W_enc: Stored
    W_dec: Stored
    b_enc: Stored
    b_dec: Stored
    W_skip: Stored | None
    threshold: Stored | None
    activation: Activation

    @property
    def file(self) -> Path:
        return self.W_enc.file

    @property
    def width(self) -> int:
        """d_transcoder."""
        return self.W_enc.shape[0]

    @property
    def d_model(self) -> int:
        return self.W_enc.shape[1]


@dataclass(frozen=True)
class Layout:
    """A set of transcoders on disk, layer 0 first; `statistics` and `examples` are the files beside them, if any."""

    name: str
    reads: str
    writes: str
    layers: tuple[LayerLayout, ...]
    config: Path
    statistics: Path | None
    examples: Path | None


@dataclass(frozen=True)
class Shape:
    """The facts that an experiment file is checked against; `widths` is d_transcoder by layer."""

    n_layers: int
    widths: Mapping[int, int]
    d_model: int
    reads: str
    writes: str


def shapes(folder: Path) -> Shape:
    """Layers, widths and hook points of the transcoders in a folder; raises TranscoderError like `layout`."""
    found = layout(folder)
    widths = {number: layer.width for number, layer in enumerate(found.layers)}
    return Shape(len(found.layers), widths, found.layers[0].d_model, found.reads, found.writes)


def layout(folder: Path) -> Layout:
    """What a folder holds; raises TranscoderError with the file, what was found in it and what is possible."""
    if not folder.is_dir():
        raise TranscoderError(f"{folder}: no such folder")
    path = folder / "config.yaml"
    if not path.is_file():
        raise TranscoderError(f"{folder}: no config.yaml; found {_listed(folder)}; {KNOWN}")
    config = _config(path)
    layers = tuple(_layer(file, config) for file in _layer_files(folder, path, config))
    _require_one_shape(layers)
    return Layout(
        name=folder.resolve().name,
        reads=_hook(path, config, "feature_input_hook", READS),
        writes=_hook(path, config, "feature_output_hook", WRITES),
        layers=layers,
        config=path,
        statistics=_beside(folder, "statistics.safetensors"),
        examples=_beside(folder, "examples.json", "examples.json.gz"),
    )


def header(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file: 8 bytes little-endian length, a JSON object, then the data.

    Raises TranscoderError for a file that is missing, cut short, or something else (a pickle, a Git LFS pointer).
    """
    try:
        with file.open("rb") as stream:
            lead = stream.read(8)
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(lead, "little")
            _require_safetensors(file, lead, length, size)
            entries = json.loads(stream.read(length))
        entries.pop("__metadata__", None)
        tensors = {key: _stored(file, key, entry, 8 + length) for key, entry in entries.items()}
    except OSError as error:
        raise TranscoderError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise TranscoderError(f"{file}: not a safetensors file: its header is not what the format says") from error
    _require_complete(file, tensors.values(), 8 + length, size)
    return tensors


def require_feature(name: str, widths: Mapping[int, int], layer: int, index: int) -> None:
    """Raises TranscoderError unless the feature exists."""
    if layer not in widths:
        raise TranscoderError(f"{name} has no layer {layer} (layers 0-{max(widths)})")
    if not 0 <= index < widths[layer]:
        raise TranscoderError(f"{name} has no feature {layer}/{index} (layer {layer}: 0-{widths[layer] - 1})")


# --- headers --------------------------------------------------------------------------------------------------


def _require_safetensors(file: Path, lead: bytes, length: int, size: int) -> None:
    if lead.startswith((b"PK", b"\x80")):
        raise TranscoderError(
            f"{file}: a pickle, not a safetensors file; opening a pickle can run code, so it is refused: convert it"
        )
    if lead.startswith(b"version "):
        raise TranscoderError(f"{file}: a Git LFS pointer, not the weights themselves: run `git lfs pull`")
    if not 2 <= length <= HEADER_LIMIT:
        raise TranscoderError(f"{file}: not a safetensors file, or one cut short ({size} bytes)")
    if 8 + length > size:
        raise TranscoderError(f"{file}: cut short: its header needs {8 + length} bytes and the file has {size}")


def _require_complete(file: Path, tensors: Iterable[Stored], start: int, size: int) -> None:
    expected = max((tensor.stop for tensor in tensors), default=start)
    if expected != size:
        raise TranscoderError(f"{file}: damaged or cut short: its header speaks of {expected} bytes, there are {size}")


def _stored(file: Path, key: str, entry: dict[str, Any], start: int) -> Stored:
    first, last = entry["data_offsets"]
    return Stored(file, key, entry["dtype"], tuple(entry["shape"]), start + first, start + last)


def _number(stored: Stored) -> int:
    if stored.dtype not in NUMBERS or stored.shape not in ((), (1,)):
        raise TranscoderError(
            f"{stored.file}: {stored.key} is {stored.dtype} {list(stored.shape)}, expected one number "
            f"({', '.join(NUMBERS)})"
        )
    code = NUMBERS[stored.dtype]
    with stored.file.open("rb") as stream:
        stream.seek(stored.start)
        return int(struct.unpack(code, stream.read(struct.calcsize(code)))[0])


# --- the config -----------------------------------------------------------------------------------------------


def _config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TranscoderError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict):
        raise TranscoderError(f"{path}: expected a mapping with feature_input_hook, feature_output_hook, ...")
    if config.get("model_kind", "transcoder_set") != "transcoder_set":
        raise TranscoderError(f"{path}: model_kind is {config['model_kind']!r}, which cannot be read; {KNOWN}")
    return config


def _hook(path: Path, config: dict[str, Any], key: str, possible: tuple[str, ...]) -> str:
    value = config.get(key)
    if value not in possible:
        given = "is missing" if value is None else f"is {value!r}"
        raise TranscoderError(f"{path}: {key} {given} (possible: {', '.join(possible)})")
    return str(value)


def _layer_files(folder: Path, path: Path, config: dict[str, Any]) -> list[Path]:
    if config.get("transcoders"):
        return [_entry_file(path, number, entry) for number, entry in enumerate(config["transcoders"])]
    names = [file.name for file in folder.iterdir()]
    numbers = sorted(int(match[1]) for name in names if (match := LAYER_FILE.fullmatch(name)))
    if not numbers:
        raise TranscoderError(f"{folder}: {_no_layers(names)}; found {_listed(folder)}; {KNOWN}")
    if missing := sorted(set(range(numbers[-1] + 1)) - set(numbers)):
        raise TranscoderError(f"{folder}: layers must run from 0 without gaps; missing: {_joined(missing)}")
    return [folder / f"layer_{number}.safetensors" for number in numbers]


def _entry_file(path: Path, number: int, entry: Any) -> Path:
    """A `transcoders:` entry as a file: beside the config, or under the same path as in its Hub repository."""
    if isinstance(entry, dict):  # the older style: {id, layer, filepath}
        if entry.get("layer", number) != number:
            raise TranscoderError(f"{path}: transcoders[{number}] is layer {entry['layer']}, expected {number}")
        entry = entry.get("filepath")
    if not isinstance(entry, str):
        raise TranscoderError(f"{path}: transcoders[{number}] names no file")
    within = entry.removeprefix("hf://").split("?")[0].split("/", 2)[-1] if entry.startswith("hf://") else entry
    file = path.parent / within
    if not file.is_file():
        raise TranscoderError(f"{path}: transcoders[{number}] is {entry!r}, and there is no file {file}")
    return file


def _no_layers(names: list[str]) -> str:
    if any(CLT_FILE.fullmatch(name) for name in names):
        return "a cross-layer transcoder, which cannot be read"
    if any(Path(name).suffix in PICKLES for name in names):
        return "only pickles, which are refused because opening one can run code: convert them to safetensors"
    return "no layer_0.safetensors"


def _listed(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir())
    return _joined(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _joined(items: Iterable[object]) -> str:
    return ", ".join(map(str, items)) or "nothing"


def _beside(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


# --- one layer ------------------------------------------------------------------------------------------------


def _layer(file: Path, config: dict[str, Any]) -> LayerLayout:
    tensors = header(file)
    if missing := [key for key in REQUIRED if key not in tensors]:
        raise TranscoderError(f"{file}: no {_joined(missing)}; found {_joined(sorted(tensors))}")
    if unknown := sorted(set(tensors) - {*REQUIRED, *OPTIONAL}):
        raise TranscoderError(f"{file}: unknown {_joined(unknown)} (known: {_joined((*REQUIRED, *OPTIONAL))})")
    layer = LayerLayout(
        **{key: tensors[key] for key in REQUIRED},
        W_skip=tensors.get("W_skip"),
        threshold=tensors.get(THRESHOLD),
        activation=_activation(file, tensors, config),
    )
    _require_shapes(layer)
    return layer


def _activation(file: Path, tensors: dict[str, Stored], config: dict[str, Any]) -> Activation:
    """circuit-tracer's rule: what the config says; else JumpReLU where a threshold is stored, ReLU where none is."""
    stored = "jumprelu" if THRESHOLD in tensors else "relu"
    kind = config.get("activation") or stored
    match kind:
        case "topk":
            return Activation("topk", k=_k(file, tensors, config))
        case "relu" | "jumprelu" if kind == stored:
            return Activation("relu") if kind == "relu" else Activation("jumprelu")
        case "relu" | "jumprelu":
            where = "with" if stored == "jumprelu" else "without"
            raise TranscoderError(f"{file}: the config says activation {kind}, the file comes {where} {THRESHOLD}")
        case _:
            raise TranscoderError(f"{file}: the config's activation is {kind!r} (possible: relu, jumprelu, topk)")


def _k(file: Path, tensors: dict[str, Stored], config: dict[str, Any]) -> int:
    k = _number(tensors["k"]) if "k" in tensors else config.get("k")
    if not isinstance(k, int) or not 1 <= k <= tensors["W_enc"].shape[0]:
        given = "neither the file nor the config says k" if k is None else f"k is {k!r}"
        raise TranscoderError(f"{file}: a TopK transcoder, but {given} (1 to d_transcoder)")
    return k


def _require_shapes(layer: LayerLayout) -> None:
    if len(layer.W_enc.shape) != 2:
        raise TranscoderError(f"{layer.file}: W_enc is {list(layer.W_enc.shape)}, expected [d_transcoder d_model]")
    width, d_model = layer.W_enc.shape
    expected = {"W_dec": (width, d_model), "b_enc": (width,), "b_dec": (d_model,), "W_skip": (d_model, d_model)}
    for name, shape in expected.items():
        _require_shape(getattr(layer, name), (shape,))
    _require_shape(layer.threshold, ((width,), (1,), ()))
    _require_shape(layer.W_enc, (layer.W_enc.shape,))


def _require_shape(stored: Stored | None, possible: tuple[tuple[int, ...], ...]) -> None:
    if stored is None:
        return
    if stored.dtype not in FLOATS:
        raise TranscoderError(f"{stored.file}: {stored.key} is {stored.dtype} (possible: {', '.join(FLOATS)})")
    if stored.shape not in possible:
        expected = " or ".join(str(list(shape)) for shape in possible)
        raise TranscoderError(f"{stored.file}: {stored.key} is {list(stored.shape)}, expected {expected}")


def _require_one_shape(layers: tuple[LayerLayout, ...]) -> None:
    first = layers[0]
    for layer in layers[1:]:
        if (layer.width, layer.d_model) != (first.width, first.d_model):
            raise TranscoderError(
                f"{layer.file}: W_enc is {list(layer.W_enc.shape)}, but {first.file.name} has "
                f"{list(first.W_enc.shape)}; all layers must agree"
            )
