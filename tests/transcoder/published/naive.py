"""A float64 copy of a model in which every feature is encoded and decoded, and no cache: what steering must equal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tests.transcoder.published.formula import CrossLayerFormula, CrossLayerRelease, Release

Rule = Callable[[Tensor], Tensor]  # a -> a', of one feature at the edited positions


@dataclass(frozen=True)
class Change:
    """One feature's edit; positions past the text are those that will be generated."""

    layer: int
    index: int
    positions: range | tuple[int, ...]
    rule: Rule


class Naive:
    """The model of a release, edited by the definition: the site gets decode(edited) - decode(original)."""

    def __init__(self, hf: nn.Module, release: Release | CrossLayerRelease) -> None:
        self.hf = copy.deepcopy(hf).double()
        for module in self.hf.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        self.hf.set_attn_implementation("eager")  # type: ignore[operator]
        self.blocks = self.hf.model.layers  # type: ignore[union-attr]
        self.release = release

    def logits(self, ids: Sequence[int], changes: Sequence[Change]) -> Tensor:
        """[pos d_vocab]."""
        return self._pass(ids, [handle for hook in self._hooks(changes) for handle in hook])

    def constrained(self, ids: Sequence[int], changes: Sequence[Change]) -> Tensor:
        """The same with every MLP's output at the unedited model's plus the changes, which its activations decide."""
        assert isinstance(self.release, CrossLayerRelease)
        seen: dict[str, dict[int, Tensor]] = {"x": {}, "out": {}}
        points = ((self.release.reads, "x"), (self.release.writes, "out"))
        self._pass(ids, [self._at(i, point, _keeping(seen[name], i)) for i in self._layers() for point, name in points])
        before = {layer: self.release.formula.encode(layer, x) for layer, x in seen["x"].items()}
        after = {layer: edited(a, changes, layer) for layer, a in before.items()}

        def written(layer: int, out: Tensor) -> Tensor:
            difference = {source: after[source] - before[source] for source in self._layers()}
            rest = {later: torch.zeros_like(before[0]) for later in self._layers() if later > layer}
            silent = {source: torch.zeros_like(before[0]) for source in self._layers()}
            decode = partial(self.release.formula.decode, layer)  # type: ignore[union-attr]
            return seen["out"][layer] + decode({**difference, **rest}, out) - decode(silent, out)

        return self._pass(ids, [self._at(i, self.release.writes, partial(written, i)) for i in self._layers()])

    def driven(self, ids: Sequence[int], change: Change, along: int) -> Tensor:
        """A feature's change written along another's vectors, which are brought to the length of its own."""
        assert isinstance(self.release, CrossLayerRelease)
        rows, encode = self.release.formula.rows(change.layer).double(), self.release.formula.encode
        vectors = rows[along] * (rows[change.index].square().sum() / rows[along].square().sum()).sqrt()
        moved: dict[str, Tensor] = {}

        def read(x: Tensor) -> Tensor:
            before = encode(change.layer, x)
            moved["by"] = (edited(before, [change], change.layer) - before)[:, [change.index]]
            return x

        def write(vector: Tensor, out: Tensor) -> Tensor:
            return out + moved["by"] * vector

        handles = [self._at(change.layer, self.release.reads, read)]
        for later, vector in enumerate(vectors, change.layer):
            handles.append(self._at(later, self.release.writes, partial(write, vector)))
        return self._pass(ids, handles)

    def _pass(self, ids: Sequence[int], handles: Sequence[Any]) -> Tensor:
        try:
            with torch.no_grad():
                return self.hf(input_ids=torch.tensor([list(ids)])).logits[0]
        finally:
            for handle in handles:
                handle.remove()

    def greedy(self, ids: Sequence[int], changes: Sequence[Change], steps: int) -> list[int]:
        """Greedy tokens, as far as each wins by so much that float32 cannot turn it."""
        said: list[int] = []
        for _ in range(steps):
            top = self.logits([*ids, *said], changes)[-1].topk(2)
            if top.values[0] - top.values[1] < 1e-3:
                break
            said.append(int(top.indices[0]))
        return said

    def _hooks(self, changes: Sequence[Change]) -> list[list[Any]]:
        if isinstance(self.release, CrossLayerRelease):
            before: dict[int, Tensor] = {}
            after: dict[int, Tensor] = {}
            return [self._cross(layer, self.release.formula, changes, before, after) for layer in self._layers()]
        return [self._own(layer, changes) for layer in self.release.layers]

    def _layers(self) -> range:
        return range(len(self.blocks))

    def _own(self, layer: int, changes: Sequence[Change]) -> list[Any]:
        assert isinstance(self.release, Release)
        formula, seen = self.release.layers[layer], {}

        def read(x: Tensor) -> Tensor:
            seen["x"], seen["a"] = x, formula.encode(x)
            return x

        def write(out: Tensor) -> Tensor:
            x, a = seen["x"], seen["a"]
            return out + formula.decode(edited(a, changes, layer), x) - formula.decode(a, x)

        if self.release.reads == self.release.writes:
            return [self._at(layer, self.release.writes, lambda x: write(read(x)))]
        return [self._at(layer, self.release.reads, read), self._at(layer, self.release.writes, write)]

    def _cross(
        self,
        layer: int,
        formula: CrossLayerFormula,
        changes: Sequence[Change],
        before: dict[int, Tensor],
        after: dict[int, Tensor],
    ) -> list[Any]:
        def read(x: Tensor) -> Tensor:
            before[layer] = formula.encode(layer, x)
            after[layer] = edited(before[layer], changes, layer)
            return x

        def write(out: Tensor) -> Tensor:
            rest = {later: torch.zeros_like(before[0]) for later in self._layers() if later > layer}
            written, original = (formula.decode(layer, {**acts, **rest}, out) for acts in (after, before))
            return out + written - original

        return [self._at(layer, self.release.reads, read), self._at(layer, self.release.writes, write)]

    def _at(self, layer: int, point: str, change: Callable[[Tensor], Tensor]) -> Any:
        """A hook that changes what passes a point, [pos d]; points have TransformerLens' names."""
        block = self.blocks[layer]
        post_norms = hasattr(block, "post_feedforward_layernorm")
        second = block.pre_feedforward_layernorm if post_norms else block.post_attention_layernorm
        match point:
            case "hook_resid_pre":
                return block.register_forward_pre_hook(_first(change))
            case "hook_resid_post":
                return block.register_forward_hook(_output(change))
            case "hook_resid_mid":
                return _Together(
                    second.register_forward_pre_hook(_first(_noting(change, noted := {}))),
                    (block.post_feedforward_layernorm if post_norms else block.mlp).register_forward_hook(
                        _output(lambda out: out + noted["change"])
                    ),
                )
            case "mlp.hook_in":
                return block.mlp.register_forward_pre_hook(_first(change))
            case "mlp.hook_out":
                return block.mlp.register_forward_hook(_output(change))
            case "attn.hook_z":
                return block.self_attn.o_proj.register_forward_pre_hook(_first(change))
            case "hook_mlp_out":
                written = block.post_feedforward_layernorm if post_norms else block.mlp
                return written.register_forward_hook(_output(change))
            case "hook_attn_out":
                written = block.post_attention_layernorm if post_norms else block.self_attn
                return written.register_forward_hook(_output(change))
        raise ValueError(point)


def _keeping(kept: dict[int, Tensor], layer: int) -> Callable[[Tensor], Tensor]:
    return lambda x: kept.setdefault(layer, x)


class _Together:
    """Two handles as one."""

    def __init__(self, *handles: Any) -> None:
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def _noting(change: Callable[[Tensor], Tensor], noted: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """The stream after attention goes into the MLP's norm and past the MLP; only the first has a module to hook."""

    def noting(x: Tensor) -> Tensor:
        changed = change(x)
        noted["change"] = changed - x
        return changed

    return noting


def edited(activations: Tensor, changes: Sequence[Change], layer: int) -> Tensor:
    """Every activation, those of the changes edited."""
    after = activations.clone()
    for change in (c for c in changes if c.layer == layer):
        for position in (p for p in range(len(after)) if p in change.positions):
            after[position, change.index] = change.rule(activations[position, change.index])
    return after


def _first(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    return lambda module, args: (change(args[0][0])[None], *args[1:])


def _output(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0][0])[None], *output[1:])
        return change(output[0])[None]

    return hook
