"""The oracle: a tiny Llama as Hugging Face has it, in float64, one row at a time, without hook points of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

Replaced = Mapping[int, Callable[["Seen"], Tensor]]
NOTHING: Replaced = {}


@dataclass
class Seen:
    """What went by in one row, [pos d_model] by layer, and the logits."""

    mlp_in: dict[int, Tensor] = field(default_factory=dict)
    mlp_out: dict[int, Tensor] = field(default_factory=dict)
    mid: dict[int, Tensor] = field(default_factory=dict)
    post: dict[int, Tensor] = field(default_factory=dict)
    logits: Tensor = torch.empty(0)

    def at(self, point: str) -> dict[int, Tensor]:
        """By the name of a hook point; the norm's denominator by hand."""
        if point == "ln2.hook_normalized":
            return {layer: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() for layer, x in self.mid.items()}
        names = {"mlp.hook_in": "mlp_in", "hook_mlp_out": "mlp_out", "hook_resid_mid": "mid", "hook_resid_post": "post"}
        found: dict[int, Tensor] = getattr(self, names[point])
        return found


@dataclass(frozen=True)
class Plain:
    """The model in a folder."""

    hf: Any

    @classmethod
    def load(cls, folder: Path) -> Plain:
        return cls(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval())

    def run(self, ids: Sequence[int], replaced: Replaced = NOTHING, point: str = "hook_mlp_out") -> Seen:
        """One row; `replaced` gives what is written at `point` instead, but for the first position."""
        seen = Seen()
        with ExitStack() as stack, torch.no_grad():
            for layer, block in enumerate(self.hf.model.layers):
                mlp = replaced if point == "hook_mlp_out" else {}
                post = replaced if point == "hook_resid_post" else {}
                hooks = (
                    block.post_attention_layernorm.register_forward_pre_hook(_taking(seen.mid, layer)),
                    block.mlp.register_forward_hook(_through(seen.mlp_in, seen.mlp_out, seen, layer, mlp)),
                    block.register_forward_hook(_through({}, seen.post, seen, layer, post)),
                )
                for hook in hooks:
                    stack.callback(hook.remove)
            seen.logits = self.hf(torch.tensor([list(ids)]), use_cache=False).logits[0]
        return seen

    def loss(self, rows: Sequence[Sequence[int]], replaced: Replaced = NOTHING, point: str = "hook_mlp_out") -> float:
        """Mean surprise of every token after the first, in nats."""
        surprises = [surprise for ids in rows for surprise in self._surprises(ids, replaced, point)]
        return sum(surprises) / len(surprises)

    def _surprises(self, ids: Sequence[int], replaced: Replaced, point: str) -> Iterator[float]:
        logits = self.run(ids, replaced, point).logits
        for place, id in enumerate(ids[1:]):
            yield float(logits[place].logsumexp(0) - logits[place, id])


def _taking(store: dict[int, Tensor], layer: int) -> Any:
    def hook(module: Any, args: Any) -> None:
        store[layer] = args[0][0]

    return hook


def _through(
    took: dict[int, Tensor], gave: dict[int, Tensor], seen: Seen, layer: int, replaced: Replaced
) -> Callable[..., Any]:
    def hook(module: Any, args: Any, output: Tensor) -> Tensor | None:
        took[layer], gave[layer] = args[0][0], output[0]
        if layer not in replaced:
            return None
        return torch.cat([output[:, :1], replaced[layer](seen)[None, 1:]], dim=1)

    return hook
