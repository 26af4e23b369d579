"""Fixtures of the whole suite. Nothing here may reach the network, and tests without a model import no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub

import pytest  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a user has gated on this machine is nothing to the tests."""
    os.environ["STEER_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_folder("llama")`: where a tiny random model of that architecture is saved."""
    from tests import tiny

    return cache(lambda architecture: tiny.save(tmp_path_factory.mktemp(architecture), architecture))


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Callable[[str], Path]) -> Callable[..., Any]:
    """`tiny_model("llama", patterns=False)`: the LanguageModel of that folder, shared by all tests."""
    from steer.model.language_model import LanguageModel

    def load(architecture: str, patterns: bool = False) -> LanguageModel:
        return LanguageModel.load(str(tiny_folder(architecture)), patterns=patterns)

    return cache(load)
