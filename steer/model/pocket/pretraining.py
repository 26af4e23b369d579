"""Trains the language model of `pocket`: Llama-shaped, next-token loss, AdamW, cosine schedule, resumable."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from steer.model.pocket.batches import batches
from steer.model.pocket.corpus.mixture import documents, reference_text
from steer.model.pocket.recipe import Recipe
from steer.model.pocket.tokenizer import BOS, EOS, PAD

LOG_EVERY = 20
HELD_OUT_SEED = 1


def configuration(recipe: Recipe, tokenizer: Tokenizer) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=recipe.d_model,
        intermediate_size=recipe.d_mlp,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        attn_implementation="sdpa",
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(EOS),
        pad_token_id=tokenizer.token_to_id(PAD),
    )


def save_atomically(state: dict[str, Any], path: Path) -> None:
    """A checkpoint is either the old one or the new one, never half of one."""
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to a twentieth of the peak."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    progress = min(1.0, (step - recipe.warmup) / max(1, steps - recipe.warmup))
    return recipe.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def loss_of(model: LlamaForCausalLM, ids: Tensor) -> Tensor:
    """Mean next-token loss in nats over what is not padding; ids `[batch pos]`."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=model.training):
        hidden = model.model(ids, use_cache=False).last_hidden_state
        real = ids[:, 1:] != model.config.pad_token_id
        logits = model.lm_head(hidden[:, :-1][real])
    return cross_entropy(logits.float(), ids[:, 1:][real])


def optimizer_for(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    """Weight decay on matrices only."""
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    gains = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, tokenizer: Tokenizer, recipe: Recipe, n: int) -> float:
    """Mean loss over n held-out documents, weighted by token."""
    model.eval()
    total, count = 0.0, 0
    for ids in batches(tokenizer, iter(reference_text(n, HELD_OUT_SEED)), recipe.batch_tokens, seed=0):
        tokens = int((ids[:, 1:] != model.config.pad_token_id).sum())
        total, count = total + loss_of(model, ids).item() * tokens, count + tokens
    model.train()
    return total / count


def optimize(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, ids: Tensor, learning_rate: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    loss = loss_of(model, ids)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def training_batches(tokenizer: Tokenizer, recipe: Recipe, skip: int) -> Iterator[Tensor]:
    """The training stream from a step on: it depends on the seed and the step alone."""
    return islice(batches(tokenizer, documents(recipe.seed), recipe.batch_tokens, recipe.seed), skip, None)


def fresh(recipe: Recipe, tokenizer: Tokenizer) -> tuple[LlamaForCausalLM, torch.optim.AdamW]:
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(configuration(recipe, tokenizer)).train()
    return model, optimizer_for(model, recipe)


def trained_model(
    recipe: Recipe, tokenizer: Tokenizer, checkpoint: Path
) -> tuple[LlamaForCausalLM, list[dict[str, float]]]:
    """The trained model and its log; goes on from the checkpoint if there is one."""
    model, optimizer = fresh(recipe, tokenizer)
    state: dict[str, Any] = {"step": 0, "log": [], "wall": 0.0, "cpu": 0.0}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    run_steps(model, optimizer, state, recipe, tokenizer, checkpoint)
    return model.eval(), state["log"]


def run_steps(
    model: LlamaForCausalLM,
    optimizer: torch.optim.AdamW,
    state: dict[str, Any],
    recipe: Recipe,
    tokenizer: Tokenizer,
    checkpoint: Path,
) -> None:
    """All steps that are left; `state` is brought up to date as they pass."""
    steps = recipe.tokens // recipe.batch_tokens
    clock, saved = Clock(state), time.monotonic()
    stream = training_batches(tokenizer, recipe, state["step"])
    while state["step"] < steps:
        loss = optimize(model, optimizer, next(stream), rate(state["step"], steps, recipe))
        state["step"] += 1
        if state["step"] % LOG_EVERY == 0 or state["step"] == steps:
            state["log"].append(clock.line(state["step"], loss, recipe))
        if time.monotonic() - saved > recipe.checkpoint_seconds or state["step"] == steps:
            state["log"].append(
                {**clock.line(state["step"], loss, recipe), "held_out": held_out_loss(model, tokenizer, recipe, 200)}
            )
            print(state["log"][-1], flush=True)
            clock.store(state)
            save_atomically({**state, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
            saved = time.monotonic()


class Clock:
    """Wall and processor seconds, carried over restarts."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.wall, self.cpu = time.monotonic() - state["wall"], time.process_time() - state["cpu"]

    def store(self, state: dict[str, Any]) -> None:
        state.update(wall=time.monotonic() - self.wall, cpu=time.process_time() - self.cpu)

    def line(self, step: int, loss: float, recipe: Recipe) -> dict[str, float]:
        return {
            "step": step,
            "tokens": step * recipe.batch_tokens,
            "loss": loss,
            "wall_seconds": round(time.monotonic() - self.wall, 1),
            "cpu_seconds": round(time.process_time() - self.cpu, 1),
        }
