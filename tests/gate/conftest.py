"""What these tests gate, and make fail, is nothing to others that build the same tiny weights."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ["STEER_CACHE"]
    os.environ["STEER_CACHE"] = str(tmp_path_factory.mktemp("gate"))
    yield
    os.environ["STEER_CACHE"] = before
