from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from steer import digests
from steer.digests import remembered, sha256_of

LONG_AGO = time.time_ns() - 10**12


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_known", {})
    return tmp_path / "cache"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as unchanged for a long time: nobody can set the time of an inode's change back."""
    monkeypatch.setattr(digests, "SETTLED_SECONDS", -60)


def written(path: Path, content: bytes = b"weights") -> Path:
    path.write_bytes(content)
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    return path


class Counted:
    """A hash that tells how often it was computed."""

    def __init__(self, file: Path) -> None:
        self.file, self.times = file, 0

    def __call__(self) -> str:
        self.times += 1
        return hashlib.sha256(self.file.read_bytes()).hexdigest()


def test_it_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    assert sha256_of(written(tmp_path / "w")) == hashlib.sha256(b"weights").hexdigest()


def test_another_process_does_not_read_the_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: None
) -> None:
    computed = Counted(written(tmp_path / "w"))
    first = remembered("sha256", [computed.file], computed)
    monkeypatch.setattr(digests, "_known", {})
    assert remembered("sha256", [computed.file], computed) == first
    assert computed.times == 1


def test_a_changed_file_never_goes_unnoticed_though_size_and_time_are_the_same(tmp_path: Path, settled: None) -> None:
    computed = Counted(written(tmp_path / "w"))
    first = remembered("sha256", [computed.file], computed)
    time.sleep(0.02)  # a tick of the clock
    written(computed.file, b"stheigw")
    assert remembered("sha256", [computed.file], computed) != first
    other = written(tmp_path / "other", b"another")
    other.replace(computed.file)
    assert remembered("sha256", [computed.file], computed) == hashlib.sha256(b"another").hexdigest()


def test_what_was_changed_just_now_is_remembered_by_no_other_process(tmp_path: Path, cache: Path) -> None:
    remembered("sha256", [tmp_path / "w"], Counted(written(tmp_path / "w")))
    assert not list(cache.rglob("*.json"))


def test_what_changes_while_it_is_read_is_not_remembered(tmp_path: Path, cache: Path, settled: None) -> None:
    file = written(tmp_path / "w")

    def computed() -> str:
        written(file, b"longer than before")
        return "half of each"

    remembered("sha256", [file], computed)
    assert not list(cache.rglob("*.json"))
    assert sha256_of(file) == hashlib.sha256(b"longer than before").hexdigest()


def test_a_damaged_note_and_a_cache_that_cannot_be_written_cost_time_and_no_run(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, settled: None
) -> None:
    file = written(tmp_path / "w")
    expected = sha256_of(file)
    for note in cache.rglob("*.json"):
        note.write_text("[1")
    monkeypatch.setattr(digests, "_known", {})
    assert sha256_of(file) == expected
    monkeypatch.setenv("STEER_CACHE", str(file / "no" / "folder"))
    monkeypatch.setattr(digests, "_known", {})
    assert sha256_of(file) == expected


def test_in_the_background_a_missing_file_is_no_error(tmp_path: Path) -> None:
    digests.begin([tmp_path / "missing"])
    with pytest.raises(OSError, match="missing"):
        sha256_of(tmp_path / "missing")
