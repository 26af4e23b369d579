from __future__ import annotations

import os
from pathlib import Path

import pytest

from steer.errors import ResultsError
from steer.execution.journal import Journal, decoded, encoded


def records(n: int) -> list[dict[str, object]]:
    return [{"trial_id": f"{i:016x}", "text": "é\n\x00::x" * i, "value": i / 3} for i in range(n)]


def filled(path: Path, n: int = 5) -> Path:
    with Journal(path) as journal:
        for record in records(n):
            journal.append(record)
    return path


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    with Journal(filled(tmp_path / "j")) as journal:
        assert [journal.read(id) for id in journal.offsets] == records(5)
        assert list(journal.read_all(iter(reversed(journal.offsets)))) == records(5)[::-1]


def test_wherever_the_last_line_is_torn_the_lines_before_it_stay(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(ends[2], ends[3]):
        path = tmp_path / "torn"
        path.write_bytes(whole[:cut])
        with Journal(path) as journal:
            assert list(journal.offsets) == [record["trial_id"] for record in records(3)]
            journal.append(records(4)[3])
        assert path.read_bytes() == whole[: ends[3]]


def test_every_single_changed_byte_is_noticed() -> None:
    line = encoded(records(2)[1])
    for place in range(len(line) - 1):
        damaged = bytearray(line)
        damaged[place] ^= 1
        with pytest.raises(ResultsError):
            decoded(bytes(damaged))


def test_a_damaged_line_is_run_again_and_the_others_stay(tmp_path: Path) -> None:
    path = filled(tmp_path / "j")
    content = bytearray(path.read_bytes())
    content[content.index(b"\n") + 30] ^= 4
    path.write_bytes(bytes(content))
    with Journal(path) as journal:
        assert list(journal.offsets) == [record["trial_id"] for i, record in enumerate(records(5)) if i != 1]
        assert journal.damaged == 1


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "j", 2)
    before = path.read_bytes()
    write = os.write
    with Journal(path) as journal:
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
        with pytest.raises(ResultsError, match="7 of") as error:
            journal.append(records(3)[2])
    assert error.value.exit_code == 3 and str(path) in str(error.value)
    assert path.read_bytes() == before
