"""What is wrong with a published file is said by name; and no file, whoever wrote it, can make us run anything."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from steer.errors import TranscoderError
from steer.transcoder.transcoder import Transcoders
from tests.transcoder.published import circuit_tracer, gemma, others, saelens
from tests.transcoder.published.damage import WRAPPINGS, files, hostile, longer, rewrite, tensors
from tests.transcoder.published.formula import WIDTH, CrossLayerRelease, Release, inputs

Writer = Callable[[Path], Release | CrossLayerRelease]
NEEDED: dict[Writer, tuple[str, ...]] = {
    circuit_tracer.relu_with_skip: ("W_enc", "W_dec", "b_enc", "b_dec"),
    circuit_tracer.jumprelu_set: ("W_enc", "W_dec", "b_enc", "b_dec"),
    circuit_tracer.clt: ("W_dec_0",),
    gemma.scope_transcoders: ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"),
    gemma.scope_2_affine: ("w_enc", "w_dec", "b_enc", "b_dec", "threshold", "affine_skip_connection"),
    gemma.scope_2_clt: ("w_enc", "w_dec", "b_enc", "b_dec", "threshold", "affine_skip_connection"),
    saelens.standard: ("W_enc", "W_dec", "b_enc", "b_dec"),
    saelens.gated: ("W_enc", "W_dec", "b_gate", "b_mag", "r_mag", "b_dec"),
    saelens.jumprelu_skip_transcoder: ("W_enc", "W_dec", "b_enc", "b_dec", "threshold", "W_skip"),
    others.sparsify_skip_transcoders: ("encoder.weight", "encoder.bias", "W_dec", "b_dec", "W_skip"),
    others.autoencoder: ("bias", "encoder.weight", "encoder.bias", "decoder.weight"),
    others.gated_autoencoder: ("decoder_bias", "r_mag", "gate_bias", "mag_bias", "encoder.weight", "decoder.weight"),
    others.batchtopk_autoencoder: ("b_dec", "threshold", "encoder.weight", "encoder.bias", "decoder.weight"),
    others.topk_autoencoder: ("b_dec", "encoder.weight", "encoder.bias", "decoder.weight"),
    others.april_autoencoder: ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"),
    others.matryoshka_autoencoder: ("W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
    others.openai_post_mlp: ("pre_bias", "latent_bias", "encoder.weight", "decoder.weight"),
    others.dunefsky_zip: ("W_enc", "b_enc", "W_dec", "b_dec", "b_dec_out"),
    others.dunefsky_gzip: ("W_enc", "b_enc", "W_dec", "b_dec", "b_dec_out"),
}
CASES = [pytest.param(writer, key, id=f"{writer.__name__} {key}") for writer, keys in NEEDED.items() for key in keys]
PICKLED = {"zip": others.dunefsky_zip, "plain": others.dunefsky_zip, "gzip": others.dunefsky_gzip}


def read(folder: Path) -> None:
    """Opens a release and uses every layer of it."""
    transcoders = Transcoders.open(folder)
    for layer in transcoders.widths:
        transcoders.encode_all(layer, inputs())


def refusal(folder: Path) -> str:
    with pytest.raises(TranscoderError) as caught:
        read(folder)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(("writer", "key"), CASES)
def test_a_missing_tensor_is_named_with_its_file(tmp_path: Path, writer: Writer, key: str) -> None:
    release = writer(tmp_path)
    file = files(release.folder)[0]
    rewrite(file, {key: None})
    message = refusal(release.folder)
    assert file.name in message
    assert key in message


@pytest.mark.parametrize(("writer", "key"), CASES)
def test_a_tensor_of_another_shape_is_named_with_its_file_and_what_was_expected(
    tmp_path: Path, writer: Writer, key: str
) -> None:
    release = writer(tmp_path)
    file = files(release.folder)[0]
    stored: Tensor = tensors(file)[key]
    changed = stored.repeat(3) if stored.dim() == 0 else longer(stored)
    rewrite(file, {key: changed})
    message = refusal(release.folder)
    assert file.name in message
    assert "expected" in message
    if stored.dim() < 2:  # of two matrices that do not fit either may be the wrong one
        assert key in message
        assert str(list(changed.shape)) in message


@pytest.mark.parametrize("writer", NEEDED, ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_file_cut_short_is_refused_by_name(tmp_path: Path, writer: Writer, share: float) -> None:
    release = writer(tmp_path)
    file = files(release.folder)[0]
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert file.name in refusal(release.folder)


@pytest.mark.parametrize(
    "writer", [gemma.scope_transcoders, others.autoencoder, saelens.standard], ids=["npz", "torch", "safetensors"]
)
def test_a_git_lfs_pointer_is_called_one(tmp_path: Path, writer: Writer) -> None:
    release = writer(tmp_path)
    file = files(release.folder)[0]
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    message = refusal(release.folder)
    assert file.name in message
    assert "Git LFS" in message


@pytest.mark.parametrize("wrapping", PICKLED)
@pytest.mark.parametrize("attack", hostile(Path()))
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path: Path, attack: str, wrapping: str) -> None:
    release = PICKLED[wrapping](tmp_path / "release")
    sentinel = tmp_path / "ran"
    file = files(release.folder)[0]
    file.write_bytes(WRAPPINGS[wrapping](hostile(sentinel)[attack]))
    message = refusal(release.folder)
    assert file.name in message
    assert not sentinel.exists()


@pytest.mark.parametrize("writer", [others.autoencoder, others.openai_post_mlp], ids=lambda writer: writer.__name__)
@pytest.mark.parametrize("attack", ["shell", "within torch", "nested"])
@pytest.mark.parametrize("wrapping", ["zip", "plain"])
def test_a_hostile_torch_file_of_any_layout_is_refused_and_runs_nothing(
    tmp_path: Path, writer: Writer, attack: str, wrapping: str
) -> None:
    release = writer(tmp_path / "release")
    sentinel = tmp_path / "ran"
    file = files(release.folder)[0]
    file.write_bytes(WRAPPINGS[wrapping](hostile(sentinel)[attack]))
    assert file.name in refusal(release.folder)
    assert not sentinel.exists()


def test_a_refused_pickle_says_what_it_asked_for(tmp_path: Path) -> None:
    release = others.dunefsky_zip(tmp_path)
    files(release.folder)[0].write_bytes(WRAPPINGS["zip"](hostile(tmp_path / "ran")["shell"]))
    assert "posix.system" in refusal(release.folder)


def test_an_npz_with_a_pickle_in_it_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    import numpy as np

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {tmp_path / 'ran'}",)

    release = gemma.scope_transcoders(tmp_path / "release")
    file = files(release.folder)[0]
    arrays = {key: tensor.numpy() for key, tensor in tensors(file).items()}
    np.savez(file, **(arrays | {"b_enc": np.array([Payload()], dtype=object)}))
    assert file.name in refusal(release.folder)
    assert not (tmp_path / "ran").exists()


def test_the_hostile_pickles_do_run_where_they_are_trusted(tmp_path: Path) -> None:
    import pickle

    pickle.loads(hostile(tmp_path / "ran")["shell"])
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("changes", [{"shape": [WIDTH, 10**6]}, {"shape": [WIDTH, -14]}, {"dtype": "F8_E4M3"}])
def test_a_header_that_lies_about_its_bytes_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    release = saelens.standard(tmp_path)
    file = files(release.folder)[0]
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["W_dec"] |= changes
    lying = json.dumps(header).encode()
    file.write_bytes(len(lying).to_bytes(8, "little") + lying + content[8 + length :])
    assert file.name in refusal(release.folder)


@pytest.mark.parametrize(
    "writer",
    [
        gemma.scope_transcoders,
        gemma.scope_compressed,
        others.autoencoder,
        others.dunefsky_before_1_6,
        others.dunefsky_pickle,
        others.dunefsky_gzip,
        saelens.standard,
    ],
    ids=["npz", "compressed npz", "torch", "torch before 1.6", "pickle", "pickle in gzip", "safetensors"],
)
def test_a_file_with_some_bytes_changed_is_refused_or_read_but_never_a_crash(tmp_path: Path, writer: Writer) -> None:
    release = writer(tmp_path)
    file = files(release.folder)[0]
    content = file.read_bytes()
    rng = random.Random(7)
    for _ in range(40):
        changed = bytearray(content)
        for place in rng.choices([*range(600), *range(len(content) - 600, len(content))], k=2):
            changed[place] = rng.choice([0, 255, ord("9"), ord("-"), ord("["), rng.randrange(256)])
        (tmp_path / "changed").write_bytes(changed)
        (tmp_path / "changed").replace(file)  # in another file's place: what is mapped must not shrink
        with contextlib.suppress(TranscoderError):
            read(release.folder)


def test_numbers_that_are_no_floats_are_refused(tmp_path: Path) -> None:
    release = saelens.standard(tmp_path)
    file = files(release.folder)[0]
    rewrite(file, {"W_dec": tensors(file)["W_dec"].to(torch.int32)})
    assert file.name in refusal(release.folder)
