"""One cold start, in a fresh process that imports nothing but what it needs: `python child.py WHO` with JSON on stdin.

Says in one line of JSON, as soon as it has the logits, what its processor time was by then and how much after each
step; then come the logits, by token.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

Clamps = list[tuple[int, int, float]]
"""Layer, index, value."""


def main() -> None:
    given = json.loads(sys.stdin.read())
    steps: dict[str, float] = {}

    def done(step: str) -> None:
        steps[step] = time.process_time()

    logits = _CHILDREN[sys.argv[1]](given, done)
    done("logits")
    print(json.dumps(steps), flush=True)
    print(json.dumps(logits), flush=True)


def loading(given: dict[str, Any], done: Any) -> dict[str, float]:
    """The model by itself."""
    import torch
    from transformers import AutoModelForCausalLM

    done("imports")
    AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    return {}


def loading_beside_lens(given: dict[str, Any], done: Any) -> dict[str, float]:
    """The model by itself, with TransformerLens imported."""
    import transformer_lens  # noqa: F401

    return loading(given, done)


def by_hand(given: dict[str, Any], done: Any) -> dict[str, float]:
    """Hugging Face with a forward hook on two MLPs, their features' rows read from the file."""
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    done("imports")
    model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    done("model")

    def hook(row: dict[str, Any], value: float) -> Any:
        def moved(mlp: Any, args: Any, output: Any) -> Any:
            a = (args[0] @ row["W_enc"] + row["b_enc"]).relu()
            return output + (value - a)[..., None] * row["W_dec"]

        return moved

    for layer, index, value in given["clamps"]:
        with safe_open(f"{given['transcoder']}/layer_{layer}.safetensors", framework="pt") as file:
            row = {key: file.get_slice(key)[index : index + 1][0] for key in ("W_enc", "b_enc", "W_dec")}
        model.model.layers[layer].mlp.register_forward_hook(hook(row, value))
    with torch.inference_mode():
        logits = model(torch.tensor([given["ids"]]), logits_to_keep=1).logits[0, -1]
    return _told(logits)


def bridge(given: dict[str, Any], done: Any) -> dict[str, float]:
    """TransformerBridge with hooks at two points of each layer."""
    import torch
    from safetensors import safe_open
    from transformer_lens.model_bridge import TransformerBridge

    done("imports")
    model = TransformerBridge.boot_transformers(given["model"], device="cpu", dtype=torch.float32)
    done("model")
    seen: dict[int, Any] = {}

    def pair(layer: int, row: dict[str, Any], value: float) -> list[tuple[str, Any]]:
        def read(x: Any, hook: Any) -> None:
            seen[layer] = (x @ row["W_enc"] + row["b_enc"]).relu()

        def write(out: Any, hook: Any) -> Any:
            return out + (value - seen[layer])[..., None] * row["W_dec"]

        return [(f"blocks.{layer}.mlp.hook_in", read), (f"blocks.{layer}.hook_mlp_out", write)]

    hooks = []
    for layer, index, value in given["clamps"]:
        with safe_open(f"{given['transcoder']}/layer_{layer}.safetensors", framework="pt") as file:
            row = {key: file.get_slice(key)[index : index + 1][0] for key in ("W_enc", "b_enc", "W_dec")}
        hooks += pair(layer, row, value)
    with torch.inference_mode(), model.hooks(fwd_hooks=hooks):
        logits = model(torch.tensor([given["ids"]]), return_type="logits")[0, -1]
    return _told(logits)


def ours(given: dict[str, Any], done: Any) -> dict[str, float]:
    """This project: an experiment file, from checking it to the outcomes of its first batch, as `steer run` does it."""
    from pathlib import Path

    from steer import pipeline
    from steer.collecting import paused

    with paused():
        prepared = pipeline.prepare(Path(given["experiment"]))
    done("plan")
    session, _ = pipeline.opened(prepared, None)
    done("session")
    from steer.execution.batches import cut
    from steer.execution.memory import run_in_memory

    lengths = {name: len(encoded.ids) for name, encoded in session.encoded.items()}
    [batch] = cut(prepared.plan.trials, lengths, 0)
    [(_, result)] = run_in_memory(batch, session, {})
    steered = result.outcomes[-1]
    return {str(placed.shift.token_id): placed.shift.intervened_logit for placed in steered.shifts}


def _told(logits: Any) -> dict[str, float]:
    return {str(token): value for token, value in enumerate(logits.tolist())}


_CHILDREN = {
    "loading": loading,
    "loading_beside_lens": loading_beside_lens,
    "by_hand": by_hand,
    "bridge": bridge,
    "ours": ours,
}

if __name__ == "__main__":
    main()
