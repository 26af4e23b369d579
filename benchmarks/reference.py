"""What every contender has to agree with: one row at a time, the whole transcoder encoded and decoded, nothing kept.

Plain Hugging Face and the definition of an edit, written as slowly as it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.workloads import Clamp, Ids, Workload
from benchmarks.world import Rows, World

TOLERANCE = 1e-3
"""By how much a contender's logits may differ from the reference's."""


class Reference:
    """Logits of a row; a layer's transcoder is read once and kept until another one is asked for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.model = world.hf()
        self.transcoder = lru_cache(maxsize=1)(world.rows)

    def logits(self, ids: Ids, clamps: Sequence[Clamp]) -> Float[Tensor, "pos d_vocab"]:
        """At every position; the clamps are of different layers."""
        with torch.inference_mode(), self.clamped(clamps):
            logits: Tensor = self.model(torch.tensor([ids], device=self.world.device)).logits[0]
            return logits

    @contextmanager
    def clamped(self, clamps: Sequence[Clamp]) -> Iterator[None]:
        mlps = [self.model.model.layers[clamp.layer].mlp for clamp in clamps]
        hooks = [partial(_hook, rows=self.transcoder(clamp.layer), clamp=clamp) for clamp in clamps]
        handles = [mlp.register_forward_hook(hook) for mlp, hook in zip(mlps, hooks, strict=True)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _hook(mlp: Any, args: tuple[Tensor, ...], output: Tensor, rows: Rows, clamp: Clamp) -> Tensor:
    return output + moved(args[0], rows, clamp)


def moved(x: Float[Tensor, "1 pos d_model"], rows: Rows, clamp: Clamp) -> Float[Tensor, "1 pos d_model"]:
    """decode(edited) - decode(original)."""
    acts = rows.activations(x)
    edited = acts.clone()
    edited[..., clamp.index] = clamp.value
    return (edited - acts) @ rows.W_dec


def last_logits(world: World, workload: Workload) -> Float[Tensor, "row d_vocab"]:
    """Behind every row's prompt."""
    reference = Reference(world)
    return torch.stack([reference.logits(workload.prompts[row.prompt], row.clamps)[-1] for row in workload.rows])


def short_of_the_top(world: World, workload: Workload, said: Mapping[int, Sequence[int]]) -> float:
    """By how much the logit of a token that was said misses the largest one there, at most; `said` is by row.

    ValueError where a row says more or less than it was asked for.
    """
    reference = Reference(world)
    worst = 0.0
    for which, tokens in said.items():
        row = workload.rows[which]
        prompt = workload.prompts[row.prompt]
        if len(tokens) != workload.new_tokens:
            raise ValueError(f"row {which} has {len(tokens)} tokens where {workload.new_tokens} were asked for")
        logits = reference.logits((*prompt, *tokens[:-1]), row.clamps)[len(prompt) - 1 :]
        chosen = logits.gather(-1, torch.tensor([tokens], device=logits.device).T)[:, 0]
        worst = max(worst, float((logits.amax(-1) - chosen).max()))
    return worst
