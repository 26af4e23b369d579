from __future__ import annotations

import gzip
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steer.errors import TranscoderError
from steer.transcoder.containers.torch_file import saved, tensors
from steer.transcoder.containers.unpacked import unpacked
from steer.transcoder.stored import Stored, mapped


def numbers(stored: Stored) -> np.ndarray:
    if stored.member is None:
        return stored.array(mapped(stored.file))
    with unpacked(stored.file, stored.member) as plain:
        return stored.array(np.memmap(plain, np.uint8, "r"))


def written(folder: Path, content: Any) -> Path:
    file = folder / "x.pt"
    torch.save(content, file)
    return file


def written_by_an_old_torch(folder: Path, content: Any) -> Path:
    file = folder / "x.pt"
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file


def pickled_into_gzip(folder: Path, content: Any) -> Path:
    file = folder / "x.pkl.gz"
    with gzip.open(file, "wb") as stream:
        pickle.dump(content, stream)
    return file


every_way = pytest.mark.parametrize("written", [written, written_by_an_old_torch, pickled_into_gzip])


BASE = torch.arange(24, dtype=torch.float32).reshape(4, 6)
VIEWS = {
    "whole": BASE,
    "transposed": BASE.T,
    "a part": BASE[1:3, 2:5],
    "every second": BASE[::2, 1],
    "expanded": torch.ones(1, 3).expand(5, 3),
    "a number": torch.tensor(7.0),
    "nothing": torch.empty(0, 3),
}


@every_way
def test_tensors_are_where_torch_put_them_whatever_part_of_a_storage_they_are(
    tmp_path: Path, written: Callable[[Path, Any], Path]
) -> None:
    file = written(tmp_path, OrderedDict(VIEWS))
    found = tensors(file, saved(file))
    assert set(found) == set(VIEWS)
    for name, tensor in VIEWS.items():
        assert np.array_equal(numbers(found[name]), tensor.numpy()), name
        assert np.array_equal(numbers(found[name].T), tensor.mT.numpy() if tensor.dim() == 2 else tensor.numpy())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
@every_way
def test_every_number_type_is_read(tmp_path: Path, dtype: torch.dtype, written: Callable[[Path, Any], Path]) -> None:
    tensor = torch.tensor([0, 1, 1, 0]).to(dtype)
    file = written(tmp_path, {"x": tensor, "parameter": torch.nn.Parameter(torch.ones(2))})
    found = tensors(file, saved(file))
    bits = tensor.view(torch.int16) if dtype == torch.bfloat16 else tensor
    assert numbers(found["x"]).tolist() == bits.tolist()
    assert numbers(found["parameter"]).tolist() == [1, 1]


@every_way
def test_plain_values_beside_the_tensors_are_kept(tmp_path: Path, written: Callable[[Path, Any], Path]) -> None:
    content = {"activation": "TopK", "settings": {"k": 32, "on": [True, None, 1.5]}, "weights": {"x": BASE}}
    found = saved(written(tmp_path, content))
    assert (found["activation"], found["settings"]) == (content["activation"], content["settings"])
    assert isinstance(found["weights"]["x"], Stored)


def test_a_tensor_that_its_storage_does_not_hold_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {"x": BASE})
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    [name] = [name for name in content if name.endswith("data/0")]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member, data in content.items():
            archive.writestr(member, data[:40] if member == name else data)
    with pytest.raises(TranscoderError, match="bytes do not hold"):
        saved(file)


def test_a_pickle_without_its_storage_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {"x": BASE})
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member, data in content.items():
            if not member.endswith("data/0"):
                archive.writestr(member, data)
    with pytest.raises(TranscoderError, match="storage '0' that is not there"):
        saved(file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x02cposix\nsystem\n.", "posix.system"),
        (b"\x1f\x8b and then nothing", "damaged"),
        (gzip.compress(b"", mtime=0), "nothing in it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\x03\x04 and then nothing", "cut short"),
        (b"", "cut short"),
    ],
)
def test_what_torch_save_does_not_write_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(TranscoderError, match=r"x\.pt") as caught:
        saved(tmp_path / "x.pt")
    assert said in str(caught.value)


def test_a_large_tensor_of_a_pickle_is_found_outside_of_its_frames(tmp_path: Path) -> None:
    large = torch.arange(10**5, dtype=torch.float32)  # pickle writes bytes past 64 KiB in another way
    file = pickled_into_gzip(tmp_path, {"small": BASE, "large": large, "again": large[5:], "equal": BASE.clone()})
    found = tensors(file, saved(file))
    assert np.array_equal(numbers(found["large"]), large.numpy())
    assert np.array_equal(numbers(found["again"]), large[5:].numpy())
    assert np.array_equal(numbers(found["equal"]), BASE.numpy())


@pytest.mark.parametrize("cut", [1, 8, 90])
def test_an_old_file_without_all_of_its_numbers_is_refused(tmp_path: Path, cut: int) -> None:
    file = written_by_an_old_torch(tmp_path, {"x": BASE, "y": BASE + 1})
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(TranscoderError, match=r"x\.pt: .*cut short"):
        saved(file)


def test_a_list_is_no_state_dict(tmp_path: Path) -> None:
    file = written(tmp_path, [BASE])
    with pytest.raises(TranscoderError, match="found list"):
        tensors(file, saved(file))
