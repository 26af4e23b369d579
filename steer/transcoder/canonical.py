"""One reading of every published layout: which tensors a layer has, and in what order they are used.

With x what the layer reads (axes: d_in, d_out, d_transcoder F):

    x' = normalised(x) - b_in                             each only where the layout has it
    p  = x' @ W_enc.T + b_enc                             times |W_dec[f]| where `rescaled`
    a  = activation(p)
    out = denormalised(a @ W_dec + b_dec) + x @ W_skip    with W_dec[f] / |W_dec[f]| where `rescaled`

Rows are features in every matrix, however it is stored. A layer of a cross-layer transcoder (CLT) writes to its own
layer and the later ones, and its `b_dec` belongs to what is written to its own layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from steer.errors import TranscoderError
from steer.experiment.spec import TranscoderFormat
from steer.transcoder.stored import Stored, described, require_shape

READS = ("mlp.hook_in", "ln2.hook_normalized", "hook_resid_mid")
WRITES = ("hook_mlp_out", "mlp.hook_out")
SAE_POINTS = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "attn.hook_z",
    "hook_mlp_out",
    "mlp.hook_out",
)

Kind = Literal["transcoder", "clt", "sae"]


@dataclass(frozen=True)
class Activation:
    """What turns a pre-activation p into an activation.

    `relu` is max(p, 0); `jumprelu` keeps p above the feature's threshold; `topk` keeps the `k` largest of a position,
    or, where `signed`, the k farthest from zero; `groupmax` keeps the largest of each of `k` equal runs of features;
    `gated` is max(p, 0) where a second pre-activation, with a bias of its own, is above zero. `rectified` says whether
    what a gate keeps is cut at zero too: not in circuit-tracer's layout (it differs only where a threshold is negative,
    or where fewer than k pre-activations are positive).
    """

    kind: Literal["relu", "jumprelu", "topk", "groupmax", "gated"]
    k: int | None = None
    rectified: bool = False
    signed: bool = False

    @property
    def competes(self) -> bool:
        """Whether a feature's activation depends on those of others."""
        return self.kind in ("topk", "groupmax")


@dataclass(frozen=True)
class Normalisation:
    """What is done to a token's input before anything else, and taken back from the output where `undone`.

    `layer_norm`: minus its mean, divided by its standard deviation (unbiased) + 1e-5; taken back: times the standard
    deviation, plus the mean. `constant_norm`: scaled to length sqrt(d_in). `constant`: times `factor`, and the output
    divided by it.
    """

    kind: Literal["layer_norm", "constant_norm", "constant"]
    undone: bool = True
    factor: float = 1.0


@dataclass(frozen=True)
class LayerLayout:
    """Where one layer's tensors are, and how they are used. In a gated layer `b_enc` is the magnitude's bias."""

    W_enc: Stored
    W_dec: Stored
    b_enc: Stored | None
    b_dec: Stored | None
    activation: Activation
    W_skip: Stored | None = None
    threshold: Stored | float | None = None
    b_in: Stored | None = None
    b_gate: Stored | None = None
    r_mag: Stored | None = None
    normalisation: Normalisation | None = None
    rescaled: bool = False

    @property
    def file(self) -> Path:
        return self.W_enc.file

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of its tensors, each once."""
        stored = (getattr(self, field.name) for field in fields(self))
        return tuple(dict.fromkeys(tensor.file for tensor in stored if isinstance(tensor, Stored)))

    @property
    def width(self) -> int:
        """d_transcoder."""
        return self.W_enc.shape[0]

    @property
    def d_in(self) -> int:
        return self.W_enc.shape[1]

    @property
    def d_out(self) -> int:
        return self.W_dec.shape[-1]

    @property
    def n_writes(self) -> int:
        """How many layers a feature writes to."""
        return self.W_dec.shape[1] if len(self.W_dec.shape) == 3 else 1


@dataclass(frozen=True)
class Layout:
    """A set of transcoders on disk, by layer; `statistics` and `examples` are the files beside them, if any.

    `configs` are the files that say how the weights are used; `stated` is what the user said in their place.
    """

    name: str
    format: TranscoderFormat
    kind: Kind
    reads: str
    writes: str
    layers: Mapping[int, LayerLayout]
    configs: tuple[Path, ...]
    statistics: Path | None = None
    examples: Path | None = None
    stated: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that decides what a feature does, each file once."""
        weights = (file for _, layer in sorted(self.layers.items()) for file in layer.files)
        return tuple(dict.fromkeys((*self.configs, *weights)))


@dataclass(frozen=True)
class Hooks:
    """The hook points that the user states; None: what the files say."""

    reads: str | None = None
    writes: str | None = None

    def over(self, where: Path, reads: str | None, writes: str | None) -> tuple[str, str]:
        """These, or else what `where` says. TranscoderError where neither says, with what to do about it."""
        found = self.reads or reads, self.writes or writes
        if found[0] is None or found[1] is None:
            lacking = " and ".join(word for word, hook in zip(("reads", "writes"), found, strict=True) if hook is None)
            raise TranscoderError(
                f"{where} does not say what the features read and write: say it with `{lacking}` under `transcoder:`"
                f" (reads: {', '.join((*READS, *SAE_POINTS[:5]))}; writes: {', '.join(WRITES)}, or what an SAE reads)"
            )
        return found[0], found[1]


@dataclass(frozen=True)
class Described:
    """One layer as its files describe it: `where` they say so, and what it reads and writes, if they say."""

    number: int
    where: Path
    reads: str | None
    writes: str | None
    layer: LayerLayout


def assembled(
    folder: Path, format: TranscoderFormat, hooks: Hooks, each: Iterable[Described], *configs: Path
) -> Layout:
    """A set of layers that read and write at the same hook points.

    TranscoderError where they do not, where a layer comes twice, and where nobody says what is read and written.
    """
    layers: dict[int, LayerLayout] = {}
    points: dict[int, tuple[str, str]] = {}
    for one in each:
        if one.number in layers:
            twice = f"{layers[one.number].file.parent}, {one.layer.file.parent}"
            raise TranscoderError(f"{folder}: layer {one.number} comes twice: {twice}; open one of them")
        points[one.number] = hooks.over(one.where, one.reads, one.writes)
        layers[one.number] = one.layer
    if len(set(points.values())) > 1:
        raise TranscoderError(f"{folder}: its layers read and write at different hook points: {points}")
    reads, writes = next(iter(points.values()))
    return Layout(
        name=folder.resolve().name,
        format=format,
        kind=kind_of(folder, reads, writes),
        reads=reads,
        writes=writes,
        layers=dict(sorted(layers.items())),
        configs=configs,
    )


def kind_of(where: Path, reads: str, writes: str) -> Literal["transcoder", "sae"]:
    """An SAE writes where it reads. TranscoderError for hook points that are neither's, with the possible ones."""
    if reads == writes and reads in SAE_POINTS:
        return "sae"
    if reads not in READS:
        raise TranscoderError(
            f"{where}: reads {reads!r} (possible: {', '.join(READS)}; an SAE: {', '.join(SAE_POINTS)})"
        )
    if writes not in WRITES:
        raise TranscoderError(f"{where}: writes {writes!r} (possible: {', '.join(WRITES)})")
    return "transcoder"


def checked(layer: LayerLayout, d_out: int | None = None) -> LayerLayout:
    """The layer, if its tensors have the shapes that belong together. TranscoderError with found and expected.

    `d_out` is the width of what is written; None: that of what is read.
    """
    if len(layer.W_enc.shape) != 2:
        raise TranscoderError(f"{layer.file}: {described(layer.W_enc)}, expected [d_transcoder d_model]")
    width, d_in = layer.W_enc.shape
    d_out = d_in if d_out is None else d_out
    require_shape(layer.W_enc, (width, d_in))
    require_shape(layer.W_dec, (width, d_out), (width, *layer.W_dec.shape[1:-1], d_out))
    for stored in (layer.b_enc, layer.b_gate, layer.r_mag):
        require_shape(stored, (width,))
    require_shape(layer.b_dec, (d_out,))
    require_shape(layer.b_in, (d_in,))
    require_shape(layer.W_skip, (d_in, d_out))
    if isinstance(layer.threshold, Stored):
        require_shape(layer.threshold, (width,), (1,), ())
    return layer


def require_one_shape(layers: Iterable[LayerLayout]) -> None:
    """TranscoderError unless all layers have one width and one d_model."""
    first, *others = layers
    for layer in others:
        if (layer.width, layer.d_in) != (first.width, first.d_in):
            raise TranscoderError(
                f"{layer.file}: W_enc is {list(layer.W_enc.shape_in_file)}, but {first.file.name} has "
                f"{list(first.W_enc.shape_in_file)}; all layers must agree"
            )


def require_k(file: Path, k: object, width: int) -> int:
    """The k of a TopK layout. TranscoderError where nobody says it."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= width:
        given = "neither the file nor the config says k" if k is None else f"k is {k!r}"
        raise TranscoderError(f"{file}: a TopK transcoder, but {given} (1 to d_transcoder)")
    return k
