"""A Hugging Face causal language model that carries TransformerLens' hook points.

The model itself runs unwrapped: forward hooks on its modules, there only while they are needed, pass activations
through `HookPoint`s under TransformerLens' names (`blocks.3.hook_mlp_out`). TransformerLens' architecture adapters say
which modules those are.
This is the only module that imports transformer_lens.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformer_lens import HookedRootModule
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf
from transformers import AttentionInterface, AutoModelForCausalLM, Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from steer.errors import ModelError, RunError
from steer.model.location import folder_of
from steer.model.tokens import Tokens

Hook = Callable[[Tensor, HookPoint], Tensor | None]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LanguageModel(HookedRootModule):
    """A causal language model with hook points.

    Points, for each block i (activations are [batch pos d_model], scales [batch pos 1] float32):
    `blocks.i.hook_resid_pre`, `hook_attn_out`, `hook_resid_mid`, `hook_mlp_out`, `hook_resid_post`, `mlp.hook_in`,
    `ln1.hook_scale`, `ln2.hook_scale`, `ln2.hook_normalized`, and `ln_final.hook_scale`; with `patterns` also
    `attn.hook_pattern` [batch head query key]. What an architecture does not have is not there (no norm before the
    MLP, or attention and MLP side by side: no `hook_resid_mid`). `hook_attn_out` and `hook_mlp_out` are what is added
    to the residual stream. An edit of `hook_resid_mid` reaches the MLP's input only, as in TransformerBridge.
    """

    hf: PreTrainedModel

    def __init__(self, hf: PreTrainedModel, tokens: Tokens, name: str, patterns: bool = False) -> None:
        super().__init__()
        self.__dict__["hf"] = hf.eval().requires_grad_(False)  # not a submodule: names stay "blocks.0..."
        self.tokens = tokens
        self.name = name
        self.folder: Path | None = None
        shapes, parts = _architecture(hf)
        self.n_layers, self.d_model, self.n_ctx = int(shapes.n_layers), int(shapes.d_model), int(shapes.n_ctx)
        self.d_vocab = int(hf.get_output_embeddings().weight.shape[0])
        norm = partial(_Norm, usual_eps=float(shapes.eps), like=hf.get_output_embeddings().weight[0])
        layers = _find(hf, parts["blocks"], "list of blocks")
        self.blocks = nn.ModuleList(_Block(layer, parts, norm, patterns) for layer in layers)
        if "ln_final" in parts:
            self.ln_final = norm(_find(hf, parts["ln_final"], "final norm"))
        self.setup()  # type: ignore[no-untyped-call]
        _check(self, patterns)

    @classmethod
    def load(
        cls,
        id: str,
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        patterns: bool = False,
        local_files_only: bool = False,
    ) -> LanguageModel:
        """A model by Hub id, local folder, or `pocket`; safetensors only, and no code that comes with weights is run.

        `device="auto"` spreads the model over what there is. `patterns` swaps the attention for one that shows its
        patterns (slower; only where an experiment reads or freezes them). Raises ModelError.
        """
        if dtype not in DTYPES:
            raise ModelError(f"dtype {dtype!r} is not one of: {', '.join(DTYPES)}")
        folder = folder_of(id, revision, local_files_only=local_files_only)
        model = cls(_read(folder, id, DTYPES[dtype], device), Tokens.open(folder), id, patterns)
        model.folder = folder
        return model

    @classmethod
    def wrap(cls, hf: PreTrainedModel, tokens: Tokens, patterns: bool = False) -> LanguageModel:
        """Hook points on a model that is in memory already; the model's own hooks and weights are left alone."""
        return cls(hf, tokens, type(hf).__name__, patterns)

    @property
    def device(self) -> torch.device:
        return self.hf.device

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
        does) are computed at the columns `logits_at` of this pass alone, by default the last.
        """
        output = self.hf(
            input_ids=ids,
            attention_mask=mask,
            position_ids=_positions(mask, ids.shape[1]),
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=1 if logits_at is None else logits_at,
        )
        logits: Tensor = output.logits
        return logits.float()

    def new_cache(self, room: int = 64) -> Cache:
        """An empty key-value cache of this model's kind, whose memory grows by `room` positions at a time."""
        cache = DynamicCache(config=self.hf.config)
        cache.layers = [_RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
        return cache

    def point(self, name: str) -> HookPoint:
        """The hook point of that name; ModelError with the nearest names where there is none."""
        if name not in self.hook_dict:
            near = difflib.get_close_matches(name, self.hook_dict, n=4) or list(self.hook_dict)[:4]
            raise ModelError(f"{self.name} has no hook point {name!r}; near: {', '.join(near)}")
        return self.hook_dict[name]

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

    def final_gain(self) -> Float[Tensor, " d_model"]:
        """What the final norm multiplies a normalised row with (for Gemma 1 + its stored weight)."""
        points = self.ln_final
        return _gain(points.norm, points, self.hf.get_output_embeddings().weight[0])

    def unembedding(self) -> Float[Tensor, "d_vocab d_model"]:
        """The vectors a normalised row is multiplied with to give logits."""
        return self.hf.get_output_embeddings().weight

    def weight_hash(self) -> str:
        """sha256 over the weight files, or over the tensors of a wrapped model; hex."""
        if self.folder is None:
            return _tensor_hash(self.hf.state_dict())
        return _file_hash(sorted(self.folder.glob("*.safetensors")))


class _Norm(nn.Module):
    """The points of one norm. Its scale is the denominator sqrt(mean(x^2) + eps), of the centred x in a LayerNorm.

    Another scale s' makes the output (y - bias) * s / s' + bias.
    """

    def __init__(self, norm: nn.Module, usual_eps: float, like: Tensor) -> None:
        super().__init__()
        self.__dict__["norm"] = norm  # the model's own, not a submodule
        tap = _Tap(lambda: norm.register_forward_hook(self.on_output))
        self.hook_scale, self.hook_normalized = _Point(tap), _Point(tap)
        self.eps = float(getattr(norm, "eps", getattr(norm, "variance_epsilon", usual_eps)))
        self.centred = _ignores_the_mean(norm, like)

    def on_output(self, norm: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if self.hook_scale.tap.closed(self.hook_scale, self.hook_normalized):
            return None
        x = self.centre(args[0].float())
        scale = self.scale(x)
        new_scale: Tensor = self.hook_scale(scale)
        normalized = x / new_scale
        new_normalized: Tensor = self.hook_normalized(normalized)
        if new_scale is scale and new_normalized is normalized:
            return None
        if new_normalized is not normalized:
            return (_bias(norm) + _gain(norm, self, args[0]) * new_normalized).to(output.dtype)
        # Written as a change, so that a norm frozen at its own scale is the same to the last bit.
        return (output + (output - _bias(norm)) * (scale / new_scale - 1)).to(output.dtype)

    def centre(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def scale(self, centred: Tensor) -> Tensor:
        return (centred.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()


class _Block(nn.Module):
    """The points of one block, fed by hooks on the modules that `parts` names."""

    def __init__(
        self, layer: nn.Module, parts: Mapping[str, str], norm: Callable[[nn.Module], _Norm], patterns: bool
    ) -> None:
        super().__init__()
        find = partial(_find, layer)
        attention, mlp = find(parts["attn"], "attention"), find(parts["mlp"], "MLP")
        self.hook_resid_pre = _on_input(layer)
        self.hook_resid_post = _on_output(layer)
        self.hook_attn_out = _on_output(find(parts["ln1_post"], "norm") if "ln1_post" in parts else attention)
        self.hook_mlp_out = _on_output(find(parts["ln2_post"], "norm") if "ln2_post" in parts else mlp)
        self.mlp = nn.Module()
        self.mlp.hook_in = _on_input(mlp)
        if "ln1" in parts:
            self.ln1 = norm(find(parts["ln1"], "norm"))
        if "ln2" in parts:
            self.ln2 = norm(find(parts["ln2"], "norm"))
        if "resid_mid" in parts:
            self.hook_resid_mid = _on_input(find(parts["resid_mid"], "norm"))
        if patterns:
            self.attn = nn.Module()
            self.attn.hook_pattern = HookPoint()
            attention.__dict__["hook_pattern"] = self.attn.hook_pattern  # read by `_hooked_attention`


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


def _on_input(module: nn.Module) -> _Point:
    point = _Point(_Tap(lambda: module.register_forward_pre_hook(pass_input, with_kwargs=True)))

    def pass_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if point.tap.closed(point):
            return None
        if args:
            return (point(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": point(kwargs["hidden_states"])}

    return point


def _on_output(module: nn.Module) -> _Point:
    point = _Point(_Tap(lambda: module.register_forward_hook(pass_output)))

    def pass_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if point.tap.closed(point):
            return None
        return (point(output[0]), *output[1:]) if isinstance(output, tuple) else point(output)

    return point


class _RoomyLayer(DynamicLayer):
    """Keys and values in buffers with room to spare, so that a step writes its own and copies nobody else's.

    `keys` and `values` are the used part of the buffers, as the base class knows them.
    """

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = room
        self.buffers: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if not self.buffers or end > self.buffers[0].shape[-2]:
            self.buffers = self._grown(key_states, value_states, end)
            self.is_initialized = True
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new
        return self._use(end)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._replace(lambda buffer: buffer[indices])

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._replace(lambda buffer: buffer.repeat_interleave(repeats, 0))

    def _replace(self, change: Callable[[Tensor], Tensor]) -> None:
        if self.buffers:
            length = self.get_seq_length()
            self.buffers = tuple(change(buffer) for buffer in self.buffers)
            self._use(length)

    def _grown(self, keys: Tensor, values: Tensor, length: int) -> tuple[Tensor, ...]:
        grown = tuple(new.new_empty(*new.shape[:2], length + self.room, new.shape[-1]) for new in (keys, values))
        for larger, old in zip(grown, self.buffers, strict=False):
            larger[:, :, : old.shape[-2]] = old
        return grown

    def _use(self, length: int) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)
        return self.keys, self.values


def _checked(activation: Tensor, hook: HookPoint, function: Hook) -> Tensor | None:
    """A returned tensor of another shape would be broadcast in silence, one of another dtype would break later."""
    new = function(activation, hook)
    if new is None:
        return None
    if new.shape != activation.shape:
        raise RunError(f"{hook.name}: a hook returned shape {list(new.shape)} where {list(activation.shape)} goes in")
    return new.to(activation.dtype)


def _positions(mask: Bool[Tensor, "batch context"], width: int) -> Int[Tensor, "batch pos"]:
    counts = mask.sum(-1, keepdim=True) if width == 1 else mask.cumsum(-1)[:, -width:]
    return (counts - 1).clamp(min=0)


# --- which module is which ---


def _architecture(hf: PreTrainedModel) -> tuple[Any, dict[str, str]]:
    """TransformerLens' shapes of the model and the module names of its parts (`blocks`, `ln_final`, `attn`, ...)."""
    architecture = type(hf).__name__
    try:
        config = build_bridge_config_from_hf(hf.config, architecture, architecture, hf.dtype)
        mapping = ArchitectureAdapterFactory.select_architecture_adapter(config).component_mapping or {}
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"TransformerLens knows no architecture {architecture!r}: {error}") from error
    if "blocks" not in mapping:
        raise ModelError(f"{architecture} is no stack of transformer blocks")
    outer = {part: mapping[part].name for part in ("blocks", "ln_final") if part in mapping}
    inner = {part: module.name for part, module in mapping["blocks"].submodules.items()}
    missing = [part for part in ("attn", "mlp") if not inner.get(part)]
    if missing:
        raise ModelError(f"{architecture}: its blocks have no module of their own for: {', '.join(missing)}")
    # Where attention and MLP read the same stream, side by side, there is nothing between them to look at.
    inner["resid_mid"] = None if config.parallel_attn_mlp else inner.get("ln2")
    return config, {part: name for part, name in (*inner.items(), *outer.items()) if name}


def _find(parent: nn.Module, path: str, what: str) -> Any:
    try:
        return parent.get_submodule(path)
    except AttributeError as error:
        raise ModelError(f"{type(parent).__name__} has no {what} at {path!r}: {error}") from error


def _probe(like: Tensor) -> Tensor:
    """A row without zeros whose mean is nearly zero, of the width, dtype and device of an activation."""
    sign = 1 - 2 * (torch.arange(like.shape[-1]) % 2)
    return (torch.linspace(1, 3, like.shape[-1]) * sign).to(like)


def _ignores_the_mean(norm: nn.Module, like: Tensor) -> bool:
    """Whether the norm centres its input: asked of the norm itself, because names and classes do not tell."""
    x = _probe(like)
    return _close(norm.forward(x + 2), norm.forward(x), 0.05)


def _bias(norm: nn.Module) -> Tensor | float:
    bias = getattr(norm, "bias", None)
    return 0.0 if bias is None else bias.float()


def _gain(norm: nn.Module, points: _Norm, like: Tensor) -> Tensor:
    """What the norm multiplies a normalised row with (1 + weight in some architectures), read off from a probe."""
    probe = _probe(like)
    x = points.centre(probe.float())
    gain: Tensor = (norm.forward(probe).float() - _bias(norm)) / (x / points.scale(x))
    return gain


# --- checks at load ---


def _check(model: LanguageModel, patterns: bool) -> None:
    """Do the points see what their names say? One tiny pass, before anybody relies on it."""
    seen, logits = _tiny_pass(model)
    tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2
    for layer in range(model.n_layers):
        before, attention, mlp, after = (seen[f"blocks.{layer}.{name}"] for name in _SUMMANDS)
        if not _close(before + attention + mlp, after, tolerance):
            raise ModelError(
                f"{model.name}: in block {layer} attention output and MLP output do not add up to the residual stream, "
                "so an edit there would not mean what it says"
            )
    if patterns:
        _show_patterns(model, logits, tolerance)


_SUMMANDS = ("hook_resid_pre", "hook_attn_out", "hook_mlp_out", "hook_resid_post")


def _tiny_pass(model: LanguageModel, points: tuple[str, ...] = _SUMMANDS) -> tuple[dict[str, Tensor], Tensor]:
    seen: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: HookPoint) -> None:
        seen[str(hook.name)] = activation.float()

    names = [f"blocks.{layer}.{point}" for layer in range(model.n_layers) for point in points]
    ids = torch.arange(4, device=model.device)[None] % model.d_vocab
    with torch.no_grad(), model.hooked([(name, keep) for name in names]):
        return seen, model.forward_pass(ids, torch.ones_like(ids, dtype=torch.bool))


def _show_patterns(model: LanguageModel, logits: Tensor, tolerance: float) -> None:
    """Switches to the attention that shows its patterns, if it computes what the model's own attention does."""
    model.hf.set_attn_implementation("hooked")
    seen, shown = _tiny_pass(model, ("attn.hook_pattern",))
    if len(seen) < model.n_layers or not _close(shown, logits, tolerance):
        raise ModelError(f"{model.name}: its attention cannot be made to show its patterns")


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Equal up to a share of the largest value."""
    return float((a - b).abs().max()) <= tolerance * float(b.abs().max())


def _hooked_attention(
    module: Any,
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_head"],
    mask: Float[Tensor, "batch 1 query key"] | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "batch query head d_head"], Float[Tensor, "batch head query key"]]:
    """Softmax attention written out, with the pattern passed through the module's hook point."""
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    cap = softcap or getattr(module, "attn_logit_softcapping", None)
    scores = torch.tanh(scores / cap) * cap if cap else scores
    scores = scores if mask is None else scores + mask[..., : key.shape[-2]]
    pattern = module.hook_pattern(torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype))
    return (pattern @ value).transpose(1, 2).contiguous(), pattern


AttentionInterface.register("hooked", _hooked_attention)
AttentionMaskInterface.register("hooked", eager_mask)


# --- files ---


def _read(folder: Path, id: str, dtype: torch.dtype, device: str) -> PreTrainedModel:
    transformers.utils.logging.disable_progress_bar()
    spread = {"device_map": "auto"} if device == "auto" else {}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **spread,
        )
    except Exception as error:  # what a damaged file breaks is up to the file
        raise ModelError(f"model {id!r} in {folder} cannot be loaded: {error}") from error
    hf, loading = loaded
    absent = sorted(map(str, (*loading["missing_keys"], *loading["mismatched_keys"])))
    if absent:
        raise ModelError(f"model {id!r} in {folder}: weights missing or of another shape: {', '.join(absent[:5])}")
    placed: PreTrainedModel = hf if spread else hf.to(device)
    return placed


def _file_hash(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
