"""Worlds: tiny models with random transcoders."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.intervention.world import World


@pytest.fixture(scope="session")
def world(tiny_model: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], World]:
    """`world("gemma2", "topk")`; its model shows its attention patterns."""
    from tests.intervention.batches import worlds

    return worlds(tiny_model, tmp_path_factory.mktemp("worlds"))
