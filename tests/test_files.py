from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from steer.errors import ResultsError
from steer.files import Stream, point, write_atomic


def test_what_is_written_is_read_back_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", "één\n")
    write_atomic(tmp_path / "a.json", b"\x00two")
    assert (tmp_path / "a.json").read_bytes() == b"\x00two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (os, "open"), (Path, "replace")])
def test_a_failed_save_names_path_and_bytes_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str
) -> None:
    path = tmp_path / "summary.csv"
    write_atomic(path, "old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(owner, call, full)
    with pytest.raises(ResultsError, match=r"summary\.csv: could not save 5 bytes: No space left") as caught:
        write_atomic(path, "newer")
    monkeypatch.undo()
    assert caught.value.exit_code == 3
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_text_that_is_no_unicode_is_still_saved(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.txt", "\ud800")
    assert (tmp_path / "a.txt").read_text() == "\\ud800"


def test_a_new_file_is_readable_by_others_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomic(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_after_it_is_closed_a_stream_writes_nothing_into_what_took_its_place(tmp_path: Path) -> None:
    stream = Stream(tmp_path / "a")
    stream.close()
    other = os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT)  # gets the number of the closed file
    with pytest.raises(OSError, match="Bad file"):
        stream.write(b"late")
    os.close(other)
    assert (tmp_path / "b").read_bytes() == b""


def test_a_link_moves_in_one_step_and_leaves_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        point(tmp_path / "latest", name)
        assert (tmp_path / "latest").resolve() == tmp_path / name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one", "two"]
