"""A random Llama small enough that every contender is done in milliseconds."""

from __future__ import annotations

import pytest

from benchmarks.world import Size, World, random_llama


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    size = Size(layers=3, width=64, inner=96, heads=4, vocabulary=128, features=128)
    return random_llama(size, tmp_path_factory.mktemp("benchmarks"))
