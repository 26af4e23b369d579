from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steer.discovery import survey as module
from steer.discovery.inputs import Reading
from steer.discovery.survey import survey
from steer.experiment.trial import Prompt
from tests.discovery.worlds import READS, engine

PROMPTS = ((0, 40, 41, 90), (0, 17, 64, 101, 55, 23, 8), (0, 99), (0, 31, 30, 29, 28), (0, 77, 12, 4))
POSITIONS = ((3,), (1, 2, 6), (1,), (1, 2, 3, 4), (2, 3))
GROUPS = (0, 1, 0, 2, 1)


@pytest.mark.parametrize("kind", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("reads", READS)
def test_batches_give_what_each_prompt_gives_by_itself(
    kind: str, reads: str, tiny_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VALUES", 80 * 12)  # two prompts or so a batch
    world = engine(tiny_model, tmp_path, "llama", kind, reads)
    readings = [Reading(Prompt(str(i), ""), *one) for i, one in enumerate(zip(PROMPTS, POSITIONS, strict=True))]
    for reduce in ("max", "mean"):
        found = survey(world, readings, GROUPS, (0, 2), reduce)  # type: ignore[arg-type]
        each = [alone(world, ids, at, reduce) for ids, at in zip(PROMPTS, POSITIONS, strict=True)]
        for group in range(3):
            own = np.stack([each[i] for i in range(5) if GROUPS[i] == group])
            assert found.count[group] == len(own)
            np.testing.assert_allclose(found.total[group], own.sum(0), atol=2e-4)
            np.testing.assert_allclose(found.squares[group], (own**2).sum(0), atol=2e-3)


def alone(world: Any, ids: tuple[int, ...], positions: tuple[int, ...], reduce: str) -> np.ndarray:
    """Layers 0 and 2 of one prompt without a batch around it."""
    seen: dict[int, torch.Tensor] = {}
    hooks = [(f"blocks.{n}.{world.transcoders.reads}", lambda x, hook, n=n: seen.update({n: x[0]})) for n in (0, 2)]
    with torch.inference_mode(), world.model.hooked(hooks):
        world.model.forward_pass(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
    values = [world.transcoders.encode_all(n, seen[n])[list(positions)].double() for n in (0, 2)]
    return torch.stack([v.max(0).values if reduce == "max" else v.sum(0) / len(v) for v in values]).numpy()
