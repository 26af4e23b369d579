"""A Hugging Face causal language model that carries TransformerLens' hook points.

The model itself runs unwrapped: forward hooks on its modules, there only while they are needed, pass activations
through `HookPoint`s under TransformerLens' names (`blocks.3.hook_mlp_out`). TransformerLens' architecture adapters say
which modules those are.
This is the only module that imports transformer_lens.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformer_lens import HookedRootModule
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf
from transformers import Cache, PreTrainedModel

from steer.errors import ModelError, RunError
from steer.model.attention import HOOKED
from steer.model.cache import FixedCache, RoomyCache
from steer.model.devices import DeviceMap, device_of, never_waiting, require_all_weights
from steer.model.linear import with_onednn
from steer.model.location import folder_of
from steer.model.tokens import Tokens
from steer.model.weights import file_hash, read, tensor_hash, with_its_cap

Hook = Callable[[Tensor, HookPoint], Tensor | None]


class LanguageModel(HookedRootModule):
    """A causal language model with hook points.

    Points of each block i, `blocks.i. ...`; activations are [batch pos d_model] where nothing else is said:

        hook_resid_pre, hook_resid_post        the residual stream before and after the block
        hook_attn_out, hook_mlp_out            what is added to it: after a post-norm, times a residual multiplier
        hook_resid_mid                         the stream between the two; an edit reaches the MLP's input only, as in
                                               TransformerBridge
        mlp.hook_in, mlp.hook_out              what the MLP takes and gives, before a post-norm
        attn.hook_z                            what the heads give, side by side [batch pos head*d_head]
        ln1.hook_scale, ln2.hook_scale         [batch pos 1] float32
        ln2.hook_normalized                    before the gain, float32
        attn.hook_pattern                      [batch head query key]; only with `patterns`

    and `ln_final.hook_scale`. What an architecture does not have is not there: no `hook_resid_mid` where attention and
    MLP read the same stream side by side, no `ln2` where nothing normalises what the MLP takes. Activations of a
    block are on its device (`devices`), ids and logits on `device`.
    """

    hf: PreTrainedModel
    hf_blocks: tuple[nn.Module, ...]
    answering: tuple[nn.Module, ...]

    def __init__(self, hf: PreTrainedModel, tokens: Tokens, name: str, patterns: bool = False) -> None:
        super().__init__()
        self.__dict__["hf"] = with_its_cap(hf.eval().requires_grad_(False))  # not a submodule: names stay "blocks.0..."
        self.tokens = tokens
        self.name = name
        self.folder: Path | None = None
        found = _architecture(hf)
        self.n_layers, self.d_model, self.n_ctx = found.n_layers, found.d_model, found.n_ctx
        self.parallel = found.parallel
        self.d_vocab = int(hf.get_output_embeddings().weight.shape[0])
        require_all_weights(hf, name)
        layers = _find(hf, found.blocks, "list of blocks")
        self.__dict__["hf_blocks"] = tuple(layers)
        self.__dict__["answering"] = _answering(layers[-1], found)
        self.devices = tuple(map(device_of, layers))
        norm = partial(_Norm, usual_eps=found.eps, width=self.d_model)
        self.blocks = nn.ModuleList(_Block(layer, found, norm, patterns) for layer in layers)
        if found.ln_final is not None:
            self.ln_final = norm(_find(hf, found.ln_final, "final norm"))
        self.setup()  # type: ignore[no-untyped-call]
        _check(self, patterns)

    @classmethod
    def load(
        cls,
        id: str,
        revision: str | None = None,
        dtype: str = "float32",
        device: str | DeviceMap = "cpu",
        patterns: bool = False,
        local_files_only: bool = False,
    ) -> LanguageModel:
        """A model by Hub id, local folder, or `pocket`; safetensors only, and no code that comes with weights is run.

        `device="auto"` spreads the model over the devices there are; a mapping from module names to devices spreads it
        as it says (Hugging Face's `device_map`). `patterns` swaps the attention for one that shows its
        patterns (slower; only where an experiment reads or freezes them). Raises ModelError.
        """
        folder = folder_of(id, revision, local_files_only=local_files_only)
        model = cls(with_onednn(read(folder, id, dtype, device)), Tokens.open(folder), id, patterns)
        model.folder = folder
        return model

    @classmethod
    def wrap(cls, hf: PreTrainedModel, tokens: Tokens, patterns: bool = False) -> LanguageModel:
        """Hook points on a model that is in memory already; the model's own hooks and weights are left alone."""
        return cls(hf, tokens, type(hf).__name__, patterns)

    @property
    def device(self) -> torch.device:
        """Where token ids go and logits come out."""
        return device_of(self.hf.get_input_embeddings())

    @property
    def dtype(self) -> torch.dtype:
        return self.hf.dtype

    def forward(self, *args: Any, **kwargs: Any) -> Float[Tensor, "batch n d_vocab"]:
        """`forward_pass`, for TransformerLens' own `run_with_cache` and `run_with_hooks`."""
        return self.forward_pass(*args, **kwargs)

    def forward_pass(
        self,
        ids: Int[Tensor, "batch pos"],
        mask: Bool[Tensor, "batch context"],
        cache: Cache | None = None,
        logits_at: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "batch n d_vocab"]:
        """One pass over `ids`; `mask` is False on (left) padding and covers what the cache holds, then `ids`.

        Positions count real tokens only, so padding changes nothing. Logits (float32, softcapped where the model
        does) are computed at the columns `logits_at` of this pass alone, by default the last. Raises RunError for
        more positions than the model has.
        """
        if mask.shape[1] > self.n_ctx:  # some architectures would fail, others go on with nonsense
            raise RunError(f"{mask.shape[1]} tokens are more than {self.name} reads ({self.n_ctx})")
        output = self.hf(
            input_ids=ids,
            attention_mask=mask,
            position_ids=_positions(mask, ids.shape[1]),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=1 if logits_at is None else logits_at.tolist(),  # a tensor would be on one of the devices
        )
        logits: Tensor = output.logits
        return logits.float()

    def new_cache(self, room: int = 64) -> RoomyCache:
        """An empty key-value cache of this model's kind, whose memory grows by `room` positions at a time."""
        return RoomyCache(self.hf.config, room)

    def point(self, name: str) -> HookPoint:
        """The hook point of that name; ModelError with those that there are where there is none."""
        if name not in self.hook_dict:
            raise ModelError(
                f"{self.name} ({type(self.hf).__name__}) has no hook point {name!r}; {self._instead(name)}"
            )
        return self.hook_dict[name]

    def _instead(self, name: str) -> str:
        """What could be meant by a name: near ones, and the points of the block that it speaks of."""
        near = difflib.get_close_matches(name, self.hook_dict, n=3, cutoff=0.9)
        meant = f"near: {', '.join(near)}; " if near else ""
        if self.parallel and name.endswith("hook_resid_mid"):
            meant += "its attention and MLP read the same stream, side by side; "
        found = re.match(r"blocks\.(\d+)\.", name)
        layer = int(found[1]) if found and int(found[1]) < self.n_layers else 0
        start = f"blocks.{layer}."
        there = sorted(point.removeprefix(start) for point in self.hook_dict if point.startswith(start))
        return f"{meant}block {layer} (of 0-{self.n_layers - 1}) has: {', '.join(there)}"

    @contextmanager
    def hooked(self, hooks: Iterable[tuple[str, Hook]]) -> Iterator[LanguageModel]:
        """Inside, every hook sees its point's activation and may return another one; afterwards no trace is left.

        Hooks of one point run in the order given, each seeing what the one before returned. What they return is
        cast to the activation's dtype; another shape is a RunError.
        """
        pairs = [(self.point(name), hook) for name, hook in hooks]  # names first: nothing is added if one is wrong
        handles = [(point, point.add_hook(partial(_checked, function=hook))) for point, hook in pairs]
        try:
            yield self
        finally:
            for point, handle in handles:
                handle.hook.remove()
                point.fwd_hooks.remove(handle)

    @contextmanager
    def running(
        self, blocks: range, stream: Float[Tensor, "batch pos d_model"] | None = None
    ) -> Iterator[LanguageModel]:
        """Inside, a pass runs some of the blocks: `stream` is what leaves the one before them, if there is one.

        The others pass on what they are given. Only where `resumable`; the points within them see nothing.
        """
        left_out = [block for number, block in enumerate(self.hf_blocks) if number not in blocks]
        with ExitStack() as stack:
            for block in left_out:
                stack.enter_context(_forward(block, partial(_passed_on, self._wraps[block])))
            if stream is not None:
                before = f"blocks.{blocks.start - 1}.hook_resid_post"
                stack.enter_context(self.hooked([(before, lambda x, hook: stream)]))
            yield self

    @contextmanager
    def answering_at(self, columns: Int[Tensor, " n"]) -> Iterator[LanguageModel]:
        """Inside, the last block takes keys and values of all columns of a pass, and does the rest at some of them:
        those whose logits are asked for.

        Only where `resumable`; what the last block gives elsewhere, and the stream after it, mean nothing.
        """
        with ExitStack() as stack:
            for module in self.answering:
                stack.enter_context(_forward(module, partial(_at_columns, module.forward, columns)))
            yield self

    @cached_property
    def resumable(self) -> bool:
        """Whether a pass that starts in the middle, and ends at one column, gives what a whole pass gives: it is tried.

        Routed experts are left out: which rows meet in an expert, and so the order of its sums, depends on the batch.
        """
        upper = range(self.n_layers // 2, self.n_layers)
        if upper.start == 0 or _routed(self.hf.config):
            return False
        seen, whole = _short_pass(self, ("hook_resid_post",))
        stream = seen[f"blocks.{upper.start - 1}.hook_resid_post"].to(self.devices[upper.start - 1], self.dtype)
        with self.running(upper, stream), self.answering_at(torch.tensor([SHORT - 1])):
            _, resumed = _short_pass(self, ())
        return _close(resumed, whole, 1e-5 if self.dtype == torch.float32 else 1e-2)

    @cached_property
    def replayable(self) -> bool:
        """Whether a step on a cache of fixed length gives what a step gives, and waits for no device: it is tried.

        Such a step can be recorded and replayed. Routed experts are left out, because which rows meet in an expert
        depends on the batch; so are kinds of attention that look back otherwise than at everything or a window.
        """
        if _routed(self.hf.config) or not _looks_back(self.hf.config) or not self.new_cache().fixable:
            return False
        ids = torch.arange(2 * SHORT, device=self.device).view(2, SHORT) % self.d_vocab
        context, column = min(WIDE, self.n_ctx), torch.full((1,), SHORT - 1, device=self.device)
        mask = torch.arange(context, device=self.device).expand(2, -1) < SHORT
        mask[0, 0] = False  # as in a batch with a shorter prompt
        with torch.no_grad():
            growing, fixed = (self._read(ids[:, :-1], mask[:, : SHORT - 1], context) for _ in range(2))
            expected = self.forward_pass(ids[:, -1:], mask[:, :SHORT], growing)
            try:
                with never_waiting(self.device):
                    found = self.forward_pass(ids[:, -1:], mask, FixedCache(fixed, column, context))
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, TypeError):  # it waits, or takes the column for a number
                return False
        return _close(found, expected, 1e-5 if self.dtype == torch.float32 else 1e-2)

    def _read(self, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"], context: int) -> RoomyCache:
        """The keys and values of some text, with room for a context."""
        cache = self.new_cache(context - ids.shape[1])
        self.forward_pass(ids, mask, cache)
        return cache

    @cached_property
    def _wraps(self) -> dict[nn.Module, type | None]:
        """What blocks wrap their output in: a tuple or a list, or None where it is the tensor itself."""
        found: dict[nn.Module, type | None] = {}

        def look(block: nn.Module, args: Any, output: Any) -> None:
            found[block] = None if isinstance(output, Tensor) else type(output)

        handles = [block.register_forward_hook(look) for block in self.hf_blocks]
        try:
            _short_pass(self, ())
        finally:
            for handle in handles:
                handle.remove()
        return found

    def final_gain(self) -> Float[Tensor, " d_model"]:
        """What the final norm multiplies a normalised row with (for Gemma 1 + its stored weight)."""
        gain: Tensor = self.ln_final.gain()
        return gain

    def unembedding(self) -> Float[Tensor, "d_vocab d_model"]:
        """The vectors a normalised row is multiplied with to give logits."""
        return self.hf.get_output_embeddings().weight

    def weight_hash(self) -> str:
        """sha256 over the weight files, or over the tensors of a wrapped model; hex."""
        if self.folder is None:
            return tensor_hash(self.hf.state_dict())
        return file_hash(sorted(self.folder.glob("*.safetensors")))


class _Norm(nn.Module):
    """The points of one norm. Its scale is the denominator sqrt(mean(x^2) + eps), of the centred x in a LayerNorm.

    Another scale s' makes the output (y - bias) * s / s' + bias.
    """

    norm: nn.Module

    def __init__(self, norm: nn.Module, usual_eps: float, width: int) -> None:
        super().__init__()
        self.__dict__["norm"] = norm  # the model's own, not a submodule
        tap = _Tap(lambda: norm.register_forward_hook(self.on_output))
        self.hook_scale, self.hook_normalized = _Point(tap), _Point(tap)
        self.eps = float(getattr(norm, "eps", getattr(norm, "variance_epsilon", usual_eps)))
        self.width = width
        self.centred = _ignores_the_mean(norm, self.probe())

    def probe(self) -> Tensor:
        """A row without zeros whose mean is nearly zero, as the norm takes it."""
        sign = 1 - 2 * (torch.arange(self.width) % 2)
        like = next(self.norm.parameters(), torch.empty(0))
        return (torch.linspace(1, 3, self.width) * sign).to(like)

    def gain(self) -> Tensor:
        """What the norm multiplies a normalised row with (1 + weight in some architectures), read off from a probe."""
        probe = self.probe()
        x = self.centre(probe.float())
        gain: Tensor = (self.norm.forward(probe).float() - _bias(self.norm)) / (x / self.scale(x))
        return gain

    def on_output(self, norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self.hook_scale.tap.closed(self.hook_scale, self.hook_normalized):
            return None
        x = self.centre(args[0].to(output.device).float())
        scale = self.scale(x)
        new_scale: Tensor = self.hook_scale(scale)
        normalized = x / new_scale
        new_normalized: Tensor = self.hook_normalized(normalized)
        if new_scale is scale and new_normalized is normalized:
            return None
        if new_normalized is not normalized:
            return (_bias(norm) + self.gain() * new_normalized).to(output.dtype)
        # Written as a change, so that a norm frozen at its own scale is the same to the last bit.
        return (output + (output - _bias(norm)) * (scale / new_scale - 1)).to(output.dtype)

    def centre(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, centred: Tensor) -> Tensor:
        return (centred.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()


class _Block(nn.Module):
    """The points of one block, fed by hooks on the modules of the model where `found` says they are."""

    def __init__(
        self, layer: nn.Module, found: _Architecture, norm: Callable[[nn.Module], _Norm], patterns: bool
    ) -> None:
        super().__init__()
        self.attn, self.mlp = nn.Module(), nn.Module()
        device = device_of(layer)
        for name, place in found.places.items():
            module = _find(layer, place.path, name)
            inner, _, last = name.rpartition(".")
            point = _on_input(module, device) if place.side == "hook_in" else _on_output(module, place.scale)
            setattr(self.get_submodule(inner), last, point)
        for name, path in found.norms.items():
            setattr(self, name, norm(_find(layer, path, "norm")))
        if patterns:
            self.attn.hook_pattern = HookPoint()
            attention = _find(layer, found.attention, "attention")
            attention.__dict__["hook_pattern"] = self.attn.hook_pattern  # read by `hooked_attention`


class _Tap:
    """A hook on a module of the model that is there while one of its points has hooks: idle points cost nothing."""

    def __init__(self, attach: Callable[[], RemovableHandle]) -> None:
        self.attach = attach
        self.handle: RemovableHandle | None = None

    def open(self) -> None:
        self.handle = self.handle or self.attach()

    def closed(self, *points: HookPoint) -> bool:
        """Whether the points have no hooks any more; then the module's hook goes, too."""
        if any(point._forward_hooks for point in points):
            return False
        if self.handle:
            self.handle.remove()
        self.handle = None
        return True


class _Point(HookPoint):
    """A hook point that opens its tap when it is given a hook, by whichever way TransformerLens has for that."""

    def __init__(self, tap: _Tap) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tap = tap

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        self.tap.open()
        return super().register_forward_hook(*args, **kwargs)


def _on_input(module: nn.Module, device: torch.device) -> _Point:
    """A point on what a module takes; between blocks on two devices, that may still be on the one before."""
    point = _Point(_Tap(lambda: module.register_forward_pre_hook(pass_input, with_kwargs=True)))

    def pass_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if point.tap.closed(point):
            return None
        if args:
            return (point(args[0].to(device)), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": point(kwargs["hidden_states"].to(device))}

    return point


def _on_output(module: nn.Module, scale: float) -> _Point:
    """A point on what a module gives, times the scale that the block gives it on its way into the residual stream."""
    point = _Point(_Tap(lambda: module.register_forward_hook(pass_output)))

    def pass_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if point.tap.closed(point):
            return None
        if isinstance(output, tuple | list):
            return type(output)((_through(point, output[0], scale), *output[1:]))
        return _through(point, output, scale)

    return point


def _through(point: HookPoint, output: Tensor, scale: float) -> Tensor:
    if scale == 1:
        shown: Tensor = point(output)
        return shown
    seen = output * scale
    change: Tensor = (point(seen) - seen) / scale  # so that what was not changed stays the same to the last bit
    return (output + change).to(output.dtype)


def _checked(activation: Tensor, hook: HookPoint, function: Hook) -> Tensor | None:
    """A returned tensor of another shape would be broadcast in silence, one of another dtype would break later."""
    new = function(activation, hook)
    if new is None:
        return None
    if new.shape != activation.shape:
        raise RunError(f"{hook.name}: a hook returned shape {list(new.shape)} where {list(activation.shape)} goes in")
    return new.to(activation.dtype)


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Another forward for a module; a model that is spread over devices has put its own there already."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def _at_columns(forward: Callable[..., Tensor], columns: Int[Tensor, " n"], *inputs: Tensor) -> Tensor:
    """A module that treats positions alike, run at some of them; zero elsewhere."""
    there = forward(*(x[:, columns] for x in inputs))
    out = there.new_zeros(*inputs[0].shape[:2], *there.shape[2:])
    out[:, columns] = there
    return out


def _passed_on(wrap: type | None, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
    """A block that is left out: what it takes, in the form in which it gives."""
    return hidden_states if wrap is None else wrap((hidden_states,))


def _routed(config: Any) -> bool:
    return any(getattr(config, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts"))


def _looks_back(config: Any) -> bool:
    """Whether all layers attend to what came before, or to the last of it; not in chunks, say."""
    kinds = getattr(config.get_text_config(decoder=True), "layer_types", None) or ()
    return {"full_attention", "sliding_attention"}.issuperset(kinds)


def _positions(mask: Bool[Tensor, "batch context"], width: int) -> Int[Tensor, "batch pos"]:
    counts = mask.sum(-1, keepdim=True) if width == 1 else mask.cumsum(-1)[:, -width:]
    return (counts - 1).clamp(min=0)


# --- which module is which ---


@dataclass(frozen=True)
class _Place:
    """A side (`hook_in` or `hook_out`) of a module of a block, and what the block multiplies it with."""

    path: str  # "" is the block itself
    side: str
    scale: float = 1.0


@dataclass(frozen=True)
class _Architecture:
    """What TransformerLens knows of a model: its shapes, its modules' names, and where the points of a block are."""

    n_layers: int
    d_model: int
    n_ctx: int
    eps: float
    parallel: bool  # attention and MLP read the same stream
    blocks: str
    ln_final: str | None
    attention: str
    query: str | None  # the module that makes queries and nothing else
    norms: Mapping[str, str]
    places: Mapping[str, _Place]


_NEEDED = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post", "mlp.hook_in")


def _architecture(hf: PreTrainedModel) -> _Architecture:
    architecture = type(hf).__name__
    try:
        config = build_bridge_config_from_hf(hf.config, architecture, architecture, hf.dtype)
        mapping = ArchitectureAdapterFactory.select_architecture_adapter(config).component_mapping or {}
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"TransformerLens knows no architecture {architecture!r}: {error}") from error
    if "blocks" not in mapping:
        raise ModelError(f"{architecture} is no stack of transformer blocks")
    block = mapping["blocks"]
    places = _places(block)
    missing = [point for point in _NEEDED if point not in places]
    if missing:
        raise ModelError(f"{architecture}: its blocks have no module of their own for: {', '.join(missing)}")
    return _Architecture(
        n_layers=int(config.n_layers),
        d_model=int(config.d_model),
        n_ctx=int(config.n_ctx),
        eps=float(config.eps),
        parallel=bool(config.parallel_attn_mlp),
        blocks=str(block.name),
        ln_final=mapping["ln_final"].name if "ln_final" in mapping else None,
        attention=_path(block, ["attn"]) or "",
        query=_query(block),
        norms={name: path for name in ("ln1", "ln2") if (path := _path(block, [name]))},
        places=places,
    )


def _places(block: Any) -> dict[str, _Place]:
    """Where TransformerLens' adapter has the points of a block; those that it does not have are left out."""
    names: dict[str, Any] = {
        "hook_resid_pre": "hook_in",
        "hook_resid_post": "hook_out",
        "attn.hook_z": "attn.o.hook_in",
        "mlp.hook_in": ["mlp.hook_in", "mlp.in.hook_in"],
        "mlp.hook_out": ["mlp.hook_out", "mlp.out.hook_out"],
        **{name: block.hook_aliases.get(name, []) for name in ("hook_attn_out", "hook_resid_mid", "hook_mlp_out")},
    }
    scale = float(getattr(block, "residual_contribution_scale", 1.0))
    for name, part in (("hook_attn_out", "scaled_attn_submodule"), ("hook_mlp_out", "scaled_mlp_submodule")):
        if getattr(block, part, None):
            names[name] = f"{getattr(block, part)}.hook_out"
    places = {name: _place(block, one, scale if name in _SCALED else 1.0) for name, one in names.items()}
    return {name: place for name, place in places.items() if place is not None}


_SCALED = ("hook_attn_out", "hook_mlp_out")


def _place(block: Any, names: str | Sequence[str], scale: float) -> _Place | None:
    """The first of TransformerLens' names (`mlp.out.hook_out`) that means a module of the model."""
    for name in (names,) if isinstance(names, str) else names:
        *parts, side = name.split(".")
        path = _path(block, parts)
        if path is not None:
            return _Place(path, side, scale)
    return None


def _answering(layer: nn.Module, found: _Architecture) -> tuple[nn.Module, ...]:
    """The modules of a block whose work at one position is for that position alone.

    The projections of queries and of the heads' outputs, and the MLP, as far as they are modules of their own.
    """
    inward, outward = found.places["mlp.hook_in"].path, found.places.get("mlp.hook_out")
    mlp = inward if outward is not None and outward.path == inward else None
    heads = found.places.get("attn.hook_z")
    modules = dict(layer.named_modules())
    return tuple(modules[path] for path in (found.query, heads and heads.path, mlp) if path in modules)


def _query(block: Any) -> str | None:
    """What makes a block's queries; None where one module makes keys and values with them."""
    return None if _path(block, ["attn", "qkv"]) else _path(block, ["attn", "q"])


def _path(block: Any, parts: Sequence[str]) -> str | None:
    """The module of the model under a chain of TransformerLens' parts; None where there is none."""
    names, component = [""], block
    for part in parts:
        component = (component.submodules or {}).get(part)
        if component is None:
            return None
        names.append(component.name)
    return ".".join(name for name in names if name) if names[-1] is not None else None


def _find(parent: nn.Module, path: str, what: str) -> Any:
    try:
        return parent.get_submodule(path)
    except AttributeError as error:
        raise ModelError(f"{type(parent).__name__} has no {what} at {path!r}: {error}") from error


def _ignores_the_mean(norm: nn.Module, x: Tensor) -> bool:
    """Whether the norm centres its input: asked of the norm itself, because names and classes do not tell."""
    return _close(norm.forward(x + 2), norm.forward(x), 0.05)


def _bias(norm: nn.Module) -> Tensor | float:
    bias = getattr(norm, "bias", None)
    return 0.0 if bias is None else bias.float()


# --- checks at load ---

SHORT = 4  # tokens of the pass that looks at the points
WIDE = 512  # columns of the fixed cache that is tried: more than the windows that modules know alone (GPT-Neo's: 256)
_STREAM = ("hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post", "mlp.hook_in")
_SUMS = {
    "hook_resid_mid": ("hook_resid_pre", "hook_attn_out"),
    "hook_resid_post": ("hook_resid_pre", "hook_attn_out", "hook_mlp_out"),
}


def _check(model: LanguageModel, patterns: bool) -> None:
    """Do the points see what their names say? One short pass, before anybody relies on it."""
    seen, logits = _short_pass(model, _STREAM)
    eps = torch.finfo(model.dtype).eps
    for layer in range(model.n_layers):
        block = {point: seen[name] for point in _STREAM if (name := f"blocks.{layer}.{point}") in seen}
        trouble = _misshapen(block, model.d_model) or _not_finite(block, model.dtype) or _not_the_sum(block, eps)
        if trouble:
            raise ModelError(f"{model.name} ({type(model.hf).__name__}), block {layer} of {model.n_layers}: {trouble}")
    if patterns:
        _show_patterns(model, logits, 1e-3 if model.dtype == torch.float32 else 5e-2)


def _misshapen(block: Mapping[str, Tensor], d_model: int) -> str:
    expected = [1, SHORT, d_model]
    wrong = [f"{point} {list(x.shape)}" for point, x in block.items() if list(x.shape) != expected]
    return f"not [batch pos d_model] = {expected}: {', '.join(wrong)}" if wrong else ""


def _not_finite(block: Mapping[str, Tensor], dtype: torch.dtype) -> str:
    wrong = [point for point, x in block.items() if not x.isfinite().all()]
    if not wrong:
        return ""
    largest = torch.finfo(dtype).max
    return f"{', '.join(wrong)} not finite ({str(dtype).removeprefix('torch.')} ends at {largest:.3g})"


def _not_the_sum(block: Mapping[str, Tensor], eps: float) -> str:
    """What is wrong where the parts do not add up to the stream; empty where they do.

    Two sums rounded to `eps` / 2 each differ from the exact one by at most `eps` times the sum of the parts' sizes,
    number by number; four times that is allowed. So no large number elsewhere in the stream hides a wrong part.
    """
    for total, parts in _SUMS.items():
        if total not in block:
            continue
        together = torch.stack([block[part] for part in parts])
        missed = (together.sum(0) - block[total]).abs()
        allowed = 4 * eps * together.abs().sum(0)
        if bool((missed > allowed).any()):
            where = (missed - allowed).argmax()
            return (
                f"{' + '.join(parts)} do not add up to {total} of the residual stream: off by"
                f" {float(missed.flatten()[where]):.3g} where rounding explains {float(allowed.flatten()[where]):.1g},"
                " so an edit there would not mean what it says"
            )
    return ""


def _short_pass(model: LanguageModel, points: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    """What the points of every block show (float64, on the CPU), and the last logits."""
    seen: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: HookPoint) -> None:
        seen[str(hook.name)] = activation.cpu().double()

    names = [f"blocks.{layer}.{point}" for layer in range(model.n_layers) for point in points]
    ids = torch.arange(SHORT, device=model.device)[None] % model.d_vocab
    with torch.no_grad(), model.hooked([(name, keep) for name in names if name in model.hook_dict]):
        return seen, model.forward_pass(ids, torch.ones_like(ids, dtype=torch.bool))


def _show_patterns(model: LanguageModel, logits: Tensor, tolerance: float) -> None:
    """Switches to the attention that shows its patterns, if it computes what the model's own attention does."""
    model.hf.set_attn_implementation(HOOKED)
    seen, shown = _short_pass(model, ("attn.hook_pattern",))
    if len(seen) < model.n_layers or not _close(shown, logits, tolerance):
        raise ModelError(f"{model.name}: its attention cannot be made to show its patterns")


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Equal up to a share of the largest value."""
    return float((a - b).abs().max()) <= tolerance * float(b.abs().max())
