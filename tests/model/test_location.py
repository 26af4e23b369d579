from __future__ import annotations

from pathlib import Path

import pytest

from steer.errors import ModelError
from steer.model import location
from steer.model.location import folder_of


def test_a_local_folder_is_itself(tmp_path: Path) -> None:
    assert folder_of(str(tmp_path)) == tmp_path


def test_pocket_is_in_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(location, "POCKET", tmp_path)
    assert folder_of("pocket") == tmp_path


@pytest.mark.parametrize("id", ["./missing", "/missing/model", "~/missing", "a/b/c"])
def test_a_missing_folder_is_named(id: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        folder_of(id)


@pytest.mark.parametrize("id", ["someone/some-model", "pockett", "not a name!"])
def test_what_is_neither_folder_nor_in_the_cache_is_a_model_error(id: str) -> None:
    with pytest.raises(ModelError, match="neither 'pocket' nor a folder"):
        folder_of(id, revision="main", local_files_only=True)
