from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from steer.discovery.contexts import Contexts, Window, contexts, documents_of, windows
from steer.errors import UsageError
from tests.discovery.worlds import engine


def test_the_strongest_contexts_are_the_largest_activations_of_single_passes(
    tiny_model: Callable[..., Any], tmp_path: Path
) -> None:
    world = engine(tiny_model, tmp_path, "llama", "relu")
    read = [Window((0, *(3 + (7 * i + j * j) % 120 for j in range(2 + i % 5))), 1) for i in range(12)]
    found = contexts(world, read, [(1, 5), (2, 40)], top=3)
    for layer, index in found:
        peaks = sorted((alone(world, window.ids, layer, index) for window in read), reverse=True)
        kept = [one.activations[one.peak] for one in found[layer, index].examples]
        assert kept == pytest.approx([peak for peak in peaks[:3] if peak > 0], abs=1e-5)
    assert found[1, 5].tokens == sum(len(window.ids) - 1 for window in read)


def alone(world: Any, ids: tuple[int, ...], layer: int, index: int) -> float:
    """The largest activation behind the BOS."""
    seen: list[torch.Tensor] = []
    with torch.inference_mode(), world.model.hooked([(f"blocks.{layer}.mlp.hook_in", lambda x, hook: seen.append(x))]):
        world.model.forward_pass(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
    return float(world.transcoders.encode_all(layer, seen[0][0, 1:])[:, index].max())


def test_a_context_keeps_the_activations_beside_their_tokens() -> None:
    kept = Contexts(top=2)
    words = [str(n) for n in range(40)]
    kept.add(words, [0.0] * 30 + [2.0] + [0.0] * 9)
    kept.add(words, [0.0] * 40)
    kept.add(words, [3.0] + [0.0] * 39)
    assert [one.tokens[one.peak] for one in kept.examples] == ["0", "30"]
    assert [one.activations[one.peak] for one in kept.examples] == [3.0, 2.0]
    assert (kept.tokens, kept.fires) == (120, 2)


def test_every_token_of_a_long_document_is_read_once_behind_a_bos(tiny_model: Callable[..., Any]) -> None:
    tokens = tiny_model("llama", patterns=True).tokens
    text = "the rabbit said to the bridge " * 40
    read = list(windows([text], tokens, n_ctx=32))
    whole = tokens.encode(text).ids
    assert tuple(id for window in read for id in window.ids[1:]) == whole[1:]
    assert all(window.ids[0] == whole[0] and len(window.ids) <= 32 for window in read)


def test_blank_lines_part_the_documents_of_a_text(tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
    tokens = tiny_model("llama", patterns=True).tokens
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree\n\n\n")
    assert documents_of(tmp_path / "a.txt", tokens) == ["one\ntwo", "three"]
    (tmp_path / "b.txt").write_text("\n")
    for name in ("b.txt", "absent.txt"):
        with pytest.raises(UsageError, match="--text"):
            documents_of(tmp_path / name, tokens)
