from __future__ import annotations

import json
from pathlib import Path

from steer.digests import sha256_of
from steer.transcoder.hashes import layer_hash
from steer.transcoder.layout import layout
from tests.transcoder.sets import CONFIG, N_LAYERS, write_kind


def hashes(folder: Path, **stated: str) -> dict[int, str]:
    found = layout(folder, **stated)  # type: ignore[arg-type]
    return {layer: layer_hash(found, layer) for layer in found.layers}


def test_a_layer_has_its_hash_in_the_whole_set_and_in_a_part_of_it(tmp_path: Path) -> None:
    whole = hashes(write_kind(tmp_path / "whole", "jumprelu"))
    part = write_kind(tmp_path / "part", "jumprelu")
    (part / "layer_0.safetensors").unlink()
    assert len(set(whole.values())) == N_LAYERS
    assert hashes(part) == {layer: hash for layer, hash in whole.items() if layer}


def test_it_is_the_same_whether_the_files_or_the_user_say_what_is_read(tmp_path: Path) -> None:
    said = hashes(write_kind(tmp_path / "said", "relu"))
    other = write_kind(tmp_path / "other", "relu")
    (other / "config.yaml").write_text(json.dumps({**CONFIG, "feature_input_hook": "hook_resid_mid"}))
    assert hashes(other, reads="mlp.hook_in") == said
    assert not set(hashes(other).values()) & set(said.values())


def test_other_weights_are_another_layer_also_under_the_same_name(tmp_path: Path) -> None:
    folder = write_kind(tmp_path, "relu")
    before, file = hashes(folder), folder / "layer_1.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    after = hashes(folder)
    assert [layer for layer in before if before[layer] != after[layer]] == [1]
    file.write_bytes(content)
    assert hashes(folder) == before


def test_a_large_file_of_the_hub_is_known_by_its_name(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"never read")
    (tmp_path / "layer_0.safetensors").symlink_to(blob)
    assert sha256_of(tmp_path / "layer_0.safetensors") == "ab" * 32
