"""Mistakes that other readers of these files have made, one test each."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from steer.errors import TranscoderError
from steer.transcoder import formats, transcoder
from steer.transcoder.arithmetic import activations
from steer.transcoder.formats import LayerFile
from steer.transcoder.layout import layout, shapes
from steer.transcoder.stored import Stored
from steer.transcoder.transcoder import Transcoders
from tests.transcoder.published import circuit_tracer, gemma, others, saelens
from tests.transcoder.published.damage import files, rewrite, tensors
from tests.transcoder.published.formula import D_IN, WIDTH, CrossLayerRelease, Release, inputs
from tests.transcoder.published.test_releases import close

Writer = Callable[[Path], Release]


def refusal(folder: Path) -> str:
    with pytest.raises(TranscoderError) as caught:
        Transcoders.open(folder)
    assert caught.value.exit_code == 2
    return str(caught.value)


def reconfigure(file: Path, **changes: Any) -> None:
    """A JSON config again with some fields changed, or left out where None."""
    stated = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in stated.items() if value is not None}))


# --- layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", [circuit_tracer.clt, gemma.scope_2_clt], ids=["circuit-tracer", "gemma-scope-2"])
def test_every_layer_of_a_clt_is_there_the_last_and_those_past_nine_too(
    tmp_path: Path, writer: Callable[..., CrossLayerRelease]
) -> None:
    release = writer(tmp_path, n_layers=11)
    transcoders = Transcoders.open(release.folder)
    assert sorted(transcoders.widths) == list(range(11))
    for layer in (2, 10):
        close(transcoders.encode_all(layer, inputs()), release.formula.encode(layer, inputs().double()))


@pytest.mark.parametrize("writer", [circuit_tracer.clt, gemma.scope_2_clt], ids=["circuit-tracer", "gemma-scope-2"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_clt_without_one_of_its_layers_does_not_decode_as_if_it_were_whole(
    tmp_path: Path, writer: Callable[..., CrossLayerRelease], layer: int
) -> None:
    release = writer(tmp_path)
    for file in files(release.folder):
        if file.stem.endswith(str(layer)):
            file.unlink()
    acts = {source: torch.zeros(1, WIDTH) for source in range(3) if source != layer}
    with pytest.raises(TranscoderError, match=str(layer)):
        Transcoders.open(release.folder).decode_all(2, acts, inputs(n=1))


def test_a_circuit_tracer_clt_whose_decoders_run_over_all_layers_is_refused(tmp_path: Path) -> None:
    release = circuit_tracer.clt(tmp_path)
    file = release.folder / "W_dec_1.safetensors"
    rewrite(file, {"W_dec_1": torch.randn(WIDTH, 3, D_IN)})
    message = refusal(release.folder)
    assert "W_dec_1.safetensors" in message
    assert f"[{WIDTH}, 3, {D_IN}]" in message


@pytest.mark.parametrize("folder", ["crosscoder/layer_7_13_17_22_width_65k_l0_medium", "layer_7_13_width_16k_l0_small"])
def test_a_crosscoder_is_not_taken_for_a_clt_though_its_files_have_the_same_names(tmp_path: Path, folder: str) -> None:
    release = gemma.scope_2_clt(tmp_path / "clt")
    place = tmp_path / folder
    place.parent.mkdir(exist_ok=True)
    files(release.folder)[0].parent.rename(place)
    assert "crosscoder" in refusal(place)


# --- activation functions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", None])
def test_relu_may_be_said_or_left_to_the_missing_threshold(tmp_path: Path, activation: str | None) -> None:
    release = circuit_tracer.relu_with_skip(tmp_path)
    circuit_tracer.config(release.folder, activation=activation)
    found = Transcoders.open(release.folder).encode_all(0, inputs())
    close(found, release.layers[0].encode(inputs().double()))


def without_k_in_circuit_tracer(folder: Path) -> Path:
    release = circuit_tracer.topk_by_config(folder)
    circuit_tracer.config(folder, activation="topk")
    return release.folder


def without_k_in_saelens(folder: Path) -> Path:
    release = saelens.topk_sae(folder)
    reconfigure(release.folder / "cfg.json", k=None)
    return release.folder


def without_k_in_sparsify(folder: Path) -> Path:
    release = others.sparsify_skip_transcoders(folder)
    reconfigure(release.folder / "layers.0.mlp" / "cfg.json", k=None)
    return release.folder


def without_k_in_openai(folder: Path) -> Path:
    release = others.openai_post_mlp(folder)
    rewrite(files(release.folder)[0], {"activation_state_dict": {"postact_fn": "ReLU"}})
    return release.folder


def without_k_in_dictionary_learning(folder: Path) -> Path:
    release = others.topk_autoencoder(folder)
    rewrite(release.folder / "ae.pt", {"k": None})
    config = release.folder / "config.json"
    stated = json.loads(config.read_text())
    del stated["trainer"]["k"]
    config.write_text(json.dumps(stated))
    return release.folder


@pytest.mark.parametrize(
    "writer",
    [
        without_k_in_circuit_tracer,
        without_k_in_saelens,
        without_k_in_sparsify,
        without_k_in_openai,
        without_k_in_dictionary_learning,
    ],
    ids=lambda writer: writer.__name__.removeprefix("without_k_in_"),
)
def test_a_topk_release_that_says_no_k_is_refused(tmp_path: Path, writer: Callable[[Path], Path]) -> None:
    assert "k" in refusal(writer(tmp_path)).replace(",", " ").split()


def test_a_threshold_below_zero_is_cut_by_saelens_and_gemma_scope_and_not_by_circuit_tracer(tmp_path: Path) -> None:
    lowest = {}
    for writer in (saelens.jumprelu_sae, gemma.scope_transcoders, circuit_tracer.jumprelu_set):
        release = writer(tmp_path / writer.__name__)
        [layer, *_] = release.layers
        lowest[release.format] = float(Transcoders.open(release.folder).encode_all(layer, inputs()).min())
    assert (lowest["saelens"], lowest["gemma-scope"]) == (0, 0)
    assert lowest["circuit-tracer"] < -1


def test_an_untrained_batchtopk_threshold_leaves_relu(tmp_path: Path) -> None:
    release = others.batchtopk_autoencoder(tmp_path)
    rewrite(release.folder / "ae.pt", {"threshold": torch.tensor(-1.0)})
    assert float(Transcoders.open(release.folder).encode_all(1, inputs()).min()) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "topk_binary"},
        {"activation": "groupmax"},  # 23 features in 5 groups
        {"activation": "groupmax", "k": 1, "signed": True},
        {"gram_lookup": True},
    ],
    ids=["unknown", "groups of unequal size", "signed groupmax", "an n-gram table"],
)
def test_what_of_sparsify_cannot_be_computed_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    release = others.sparsify_saes(tmp_path)
    reconfigure(release.folder / "layers.1" / "cfg.json", **changes)
    message = refusal(release.folder)
    assert "layers.1" in message
    assert any(word in message for word in ("topk_binary", "groupmax", "gram_lookup"))


@pytest.mark.parametrize("held", [0, 224, formats.BLOCK_BYTES], ids=["nothing", "a part", "all"])
@pytest.mark.parametrize(
    "writer", [others.sparsify_groupmax, saelens.topk_rescaled], ids=["rows and groups", "columns and lengths"]
)
def test_what_competes_reads_its_rivals_once_as_far_as_it_may_keep_them(
    tmp_path: Path, writer: Writer, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    block = LayerFile.block

    def counted(file: LayerFile, stored: Stored, start: int, stop: int) -> torch.Tensor:
        if stored == file.layout.W_enc:
            read.append(start)
        return block(file, stored, start, stop)

    monkeypatch.setattr(transcoder, "HELD", held)
    monkeypatch.setattr(formats, "BLOCK_BYTES", 4 * D_IN * 2)  # blocks of two features, 112 bytes
    monkeypatch.setattr(LayerFile, "block", counted)
    release = writer(tmp_path)
    [layer, *_] = release.layers
    encoder = Transcoders.open(release.folder).encoder(layer, [3, 17])
    expected = release.layers[layer].encode(inputs().double())[:, [3, 17]]
    for _ in range(3):
        close(activations(inputs(), encoder), expected)
    assert len(read) == 3 * len(set(read)) - 2 * min(held // (4 * D_IN * 2), len(set(read)))


# --- orientation ----------------------------------------------------------------------------------------------

SQUARE: dict[str, Writer] = {
    "saelens": partial(saelens.version_6, architecture="standard", d_in=WIDTH),
    "gemma-scope": partial(gemma.scope, kind="res", reads="hook_resid_post", d=WIDTH),
    "gemma-scope-2": partial(gemma.scope_2, site="transcoder_all", affine=True, kind="transcoder", d=WIDTH),
    "sparsify": partial(
        others.sparsify,
        point="layers.{}.mlp",
        writes="mlp.hook_out",
        transcode=True,
        skip=True,
        subtracts=False,
        d=WIDTH,
    ),
}


@pytest.mark.parametrize("writer", SQUARE.values(), ids=SQUARE)
def test_the_orientation_is_the_layout_s_where_shapes_cannot_tell_it(tmp_path: Path, writer: Writer) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    x = inputs(WIDTH)
    [layer, *_] = release.layers
    acts = transcoders.encode_all(layer, x)
    close(acts, release.layers[layer].encode(x.double()))
    close(transcoders.decode_all(layer, acts, x), release.layers[layer].decode(acts.double(), x.double()))


# which way the stored matrix is applied: circuit-tracer, SAELens and sparsify transpose it, Gemma Scope 2 does not
SKIPS: dict[Writer, tuple[str, bool]] = {
    circuit_tracer.relu_with_skip: ("W_skip", True),
    saelens.skip_transcoder: ("W_skip", True),
    saelens.jumprelu_skip_transcoder: ("W_skip", True),
    others.sparsify_skip_transcoders: ("W_skip", True),
    gemma.scope_2_affine: ("affine_skip_connection", False),
}


@pytest.mark.parametrize("writer", SKIPS, ids=lambda writer: writer.__name__)
def test_a_skip_term_is_applied_the_way_round_that_its_publishers_do(tmp_path: Path, writer: Writer) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder)
    [layer, *_] = release.layers
    key, transposed = SKIPS[writer]
    W_skip = tensors(files(release.folder)[0])[key].double()
    x, silent = inputs(), torch.zeros(len(inputs()), WIDTH)
    moved = transcoders.decode_all(layer, silent, x) - transcoders.decode_all(layer, silent, 0 * x)
    close(moved, x.double() @ (W_skip.T if transposed else W_skip))


# --- how numbers lie in a file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    "writer",
    [saelens.skip_transcoder, gemma.scope_2_affine, others.batchtopk_autoencoder],
    ids=lambda writer: writer.__name__,
)
def test_weights_of_another_precision_are_the_numbers_that_are_stored(
    tmp_path: Path, writer: Writer, dtype: torch.dtype
) -> None:
    release = writer(tmp_path)
    [layer, *_] = release.layers
    file = files(release.folder)[0]
    stored = {key: value.to(dtype) for key, value in tensors(file).items() if value.is_floating_point()}
    rewrite(file, {key: value.float() for key, value in stored.items()})
    acts, out, rows = numbers(release.folder, layer)
    rewrite(file, stored)
    assert all(map(torch.equal, numbers(release.folder, layer), (acts, out, rows)))


def numbers(folder: Path, layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activations, output and two decoder vectors."""
    transcoders = Transcoders.open(folder)
    acts = transcoders.encode_all(layer, inputs())
    return acts, transcoders.decode_all(layer, acts, inputs()), transcoders.decoder(layer, [7, 2])


def test_tensors_that_were_views_when_they_were_saved_are_read_as_they_were(tmp_path: Path) -> None:
    release = others.batchtopk_autoencoder(tmp_path)
    state = tensors(release.folder / "ae.pt")
    both = torch.cat([state["encoder.weight"], state["decoder.weight"].T])  # one storage, and an offset into it
    views = {
        "encoder.weight": both[:WIDTH],
        "decoder.weight": both[WIDTH:].T,
        "b_dec": torch.stack([state["b_dec"]] * 2, 1),
    }
    torch.save(state | views | {"b_dec": views["b_dec"][:, 1]}, release.folder / "ae.pt")
    transcoders = Transcoders.open(release.folder)
    acts = transcoders.encode_all(1, inputs())
    close(acts, release.layers[1].encode(inputs().double()))
    close(transcoders.decode_all(1, acts, inputs()), release.layers[1].decode(acts.double(), inputs().double()))


# --- biases ---------------------------------------------------------------------------------------------------

INPUT_BIAS: dict[Writer, tuple[str, bool]] = {  # the decoder's bias, and whether it is also subtracted from the input
    circuit_tracer.jumprelu_set: ("b_dec", False),
    gemma.scope_transcoders: ("b_dec", False),
    gemma.scope_residual: ("b_dec", False),
    gemma.scope_2_transcoders: ("b_dec", False),
    saelens.transcoder: ("b_dec", False),
    saelens.jumprelu_skip_transcoder: ("b_dec", False),
    saelens.input_bias_off: ("b_dec", False),
    saelens.standard: ("b_dec", True),
    saelens.bare: ("b_dec", True),
    others.sparsify_skip_transcoders: ("b_dec", False),
    others.sparsify_saes: ("b_dec", True),
    others.jumprelu_autoencoder: ("b_dec", False),
    others.april_autoencoder: ("decoder.bias", False),
    others.batchtopk_autoencoder: ("b_dec", True),
    others.openai_post_mlp: ("pre_bias", True),
    others.dunefsky_zip: ("b_dec_out", False),
}


@pytest.mark.parametrize("writer", INPUT_BIAS, ids=lambda writer: writer.__name__)
def test_the_decoder_s_bias_is_subtracted_from_the_input_only_where_its_publishers_do(
    tmp_path: Path, writer: Writer
) -> None:
    key, subtracted = INPUT_BIAS[writer]
    release = writer(tmp_path)
    [layer, *_] = release.layers
    before = Transcoders.open(release.folder).encode_all(layer, inputs())
    file = files(release.folder)[0]
    rewrite(file, {key: tensors(file)[key] + 100 * torch.linspace(-1, 1, len(tensors(file)[key]))})
    after = Transcoders.open(release.folder).encode_all(layer, inputs())
    assert torch.equal(before, after) != subtracted


def test_dunefsky_s_b_dec_is_the_input_s_bias_and_no_part_of_the_output(tmp_path: Path) -> None:
    release = others.dunefsky_zip(tmp_path)
    file = files(release.folder)[0]
    silent = torch.zeros(1, WIDTH)
    before = Transcoders.open(release.folder).decode_all(0, silent, inputs(n=1))
    rewrite(file, {"b_dec": tensors(file)["b_dec"] + 100})
    assert torch.equal(Transcoders.open(release.folder).decode_all(0, silent, inputs(n=1)), before)


def test_whether_an_old_sparsify_transcoder_subtracted_its_bias_is_for_the_user_to_say(tmp_path: Path) -> None:
    release = others.sparsify(tmp_path, "layers.{}.mlp", "mlp.hook_out", transcode=True, skip=True, subtracts=True)
    expected = release.layers[0].encode(inputs().double())
    told = Transcoders.open(release.folder, format="sparsify-2024")
    close(told.encode_all(0, inputs()), expected)
    close(
        told.decode_all(0, expected.float(), inputs()),
        release.layers[0].decode(expected.float().double(), inputs().double()),
    )
    plain = Transcoders.open(release.folder)
    assert plain.format == "sparsify"
    assert not torch.allclose(plain.encode_all(0, inputs()).double(), expected, atol=0.1)


# --- hook points ----------------------------------------------------------------------------------------------


def test_saelens_hook_mlp_in_is_two_tensors_and_the_user_has_to_say_which(tmp_path: Path) -> None:
    release = saelens.jumprelu_transcoder(tmp_path)
    file = release.folder / "cfg.json"
    metadata = json.loads(file.read_text())["metadata"] | {"hook_name": "blocks.1.hook_mlp_in"}
    reconfigure(file, metadata=metadata)
    message = refusal(release.folder)
    assert "hook_mlp_in" in message
    assert "reads" in message
    assert shapes(release.folder, reads="mlp.hook_in").reads == "mlp.hook_in"


def test_saelens_hook_names_are_found_where_the_metadata_has_no_version(tmp_path: Path) -> None:
    release = saelens.standard(tmp_path)
    file = release.folder / "cfg.json"
    metadata = json.loads(file.read_text())["metadata"]
    del metadata["sae_lens_version"]
    reconfigure(file, metadata=metadata)
    assert shapes(release.folder).reads == "hook_resid_post"


def test_saelens_without_a_hook_name_is_refused(tmp_path: Path) -> None:
    release = saelens.bare(tmp_path)
    reconfigure(release.folder / "cfg.json", hook_point=None)
    assert "hook_name" in refusal(release.folder)


def test_an_sae_of_one_head_is_refused(tmp_path: Path) -> None:
    release = saelens.hook_z(tmp_path)
    file = release.folder / "cfg.json"
    metadata = json.loads(file.read_text())["metadata"] | {"hook_head_index": 3}
    reconfigure(file, metadata=metadata)
    assert "hook_head_index" in refusal(release.folder)


@pytest.mark.parametrize("architecture", ["temporal", "matching_pursuit", "nonsense"])
def test_an_architecture_that_cannot_be_computed_is_refused_with_those_that_can(
    tmp_path: Path, architecture: str
) -> None:
    release = saelens.standard(tmp_path)
    reconfigure(release.folder / "cfg.json", architecture=architecture)
    message = refusal(release.folder)
    assert architecture in message
    assert "jumprelu_skip_transcoder" in message


def test_a_dictionary_class_that_cannot_be_computed_is_refused_with_those_that_can(tmp_path: Path) -> None:
    release = others.autoencoder(tmp_path)
    config = release.folder / "config.json"
    stated = json.loads(config.read_text())
    stated["trainer"]["dict_class"] = "CrossCoder"
    config.write_text(json.dumps(stated))
    message = refusal(release.folder)
    assert "CrossCoder" in message
    assert "MatryoshkaBatchTopKSAE" in message


@pytest.mark.parametrize("writer", [gemma.scope_transcoders, others.openai_post_mlp], ids=["gemma-scope", "openai"])
def test_hook_points_that_only_a_folder_s_name_tells_have_to_be_stated_in_another(
    tmp_path: Path, writer: Writer
) -> None:
    release = writer(tmp_path)
    plain = release.folder.rename(tmp_path / "weights")
    assert "reads" in refusal(plain)
    stated = shapes(plain, reads=release.reads, writes=release.writes)
    assert (stated.reads, stated.writes) == (release.reads, release.writes)


# --- scale ----------------------------------------------------------------------------------------------------


def test_a_scaling_factor_that_is_not_one_is_not_dropped_in_silence(tmp_path: Path) -> None:
    release = saelens.ones(tmp_path)
    saelens.write_again(release.folder, scaling_factor=torch.full((WIDTH,), 2.0))
    with pytest.raises(TranscoderError, match="scaling_factor"):
        Transcoders.open(release.folder).encode_all(1, inputs())


@pytest.mark.parametrize("stated", [True, "expected_average_only_in"])
def test_an_average_norm_whose_factor_is_not_in_the_file_is_refused(tmp_path: Path, stated: object) -> None:
    release = saelens.bare(tmp_path)  # SAELens says "none" once it has folded the factor into the weights
    reconfigure(release.folder / "cfg.json", normalize_activations=stated)
    assert "normalize_activations" in refusal(release.folder)


@pytest.mark.parametrize(
    ("writer", "config", "key"),
    [
        (gemma.scope_2_affine, "layer_0_width_16k_l0_small_affine/config.json", "affine_skip_connection"),
        (others.sparsify_skip_transcoders, "layers.0.mlp/cfg.json", "W_skip"),
    ],
    ids=["gemma-scope-2", "sparsify"],
)
def test_a_skip_term_that_the_config_denies_is_not_dropped_in_silence(
    tmp_path: Path, writer: Writer, config: str, key: str
) -> None:
    release = writer(tmp_path)
    reconfigure(release.folder / config, affine_connection=False, skip_connection=False)
    assert key in refusal(release.folder)


# --- which files ----------------------------------------------------------------------------------------------


def test_two_l0_variants_of_a_layer_are_not_chosen_between_in_silence(tmp_path: Path) -> None:
    release = gemma.scope_transcoders(tmp_path)
    width = release.folder / "layer_1" / "width_16k"
    other = width / "average_l0_130"
    other.mkdir()
    (other / "params.npz").write_bytes((width / "average_l0_65" / "params.npz").read_bytes())
    message = refusal(release.folder)
    assert "average_l0_65" in message
    assert "average_l0_130" in message


@pytest.mark.parametrize(
    ("writer", "within"),
    [
        (gemma.scope_transcoders, "layer_1/width_16k/average_l0_65"),
        (gemma.scope_2_affine, "layer_1_width_16k_l0_small_affine"),
        (others.sparsify_skip_transcoders, "layers.1.mlp"),
    ],
    ids=["gemma-scope", "gemma-scope-2", "sparsify"],
)
def test_the_folder_of_one_layer_opens_as_that_layer(tmp_path: Path, writer: Writer, within: str) -> None:
    release = writer(tmp_path)
    transcoders = Transcoders.open(release.folder / within)
    assert transcoders.layers == (1,)
    assert (transcoders.reads, transcoders.writes) == (release.reads, release.writes)
    close(transcoders.encode_all(1, inputs()), release.layers[1].encode(inputs().double()))


def test_a_folder_of_saelens_folders_opens_as_all_their_layers(tmp_path: Path) -> None:
    release = saelens.gated(tmp_path / "blocks.1.hook_resid_post")
    saelens.gated(tmp_path / "blocks.12.hook_resid_post")
    file = tmp_path / "blocks.12.hook_resid_post" / "cfg.json"
    reconfigure(file, metadata=json.loads(file.read_text())["metadata"] | {"hook_name": "blocks.12.hook_resid_post"})
    transcoders = Transcoders.open(tmp_path)
    assert transcoders.layers == (1, 12)
    for layer in transcoders.layers:
        close(transcoders.encode_all(layer, inputs()), release.layers[1].encode(inputs().double()))


def test_an_identity_behind_openai_s_topk_lets_negative_activations_through(tmp_path: Path) -> None:
    release = others.openai_post_mlp(tmp_path)
    file = files(release.folder)[0]
    low = tensors(file)["latent_bias"] - 8
    for after, lowest in (("ReLU", 0.0), ("Identity", -1.0)):
        rewrite(file, {"latent_bias": low, "activation_state_dict": {"k": 5, "postact_fn": after}})
        found = float(Transcoders.open(release.folder).encode_all(0, inputs()).min())
        assert found == 0 if lowest == 0 else found < lowest


def test_an_unknown_folder_says_what_was_found_and_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"numbers")
    message = refusal(tmp_path)
    assert "weights.bin" in message
    for known in (
        "circuit-tracer",
        "circuit-tracer-clt",
        "gemma-scope",
        "gemma-scope-2",
        "saelens",
        "sparsify",
        "sparsify-2024",
        "dictionary-learning",
        "openai",
        "dunefsky",
    ):
        assert known in message


def test_a_name_that_no_layout_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    release = saelens.standard(tmp_path)
    with pytest.raises(TranscoderError, match="dictionary-learning"):
        layout(release.folder, "safetensors")


@pytest.mark.parametrize("named", ["openai", "sparsify", "circuit-tracer", "gemma-scope-2", "dunefsky"])
def test_a_folder_named_as_something_else_is_refused(tmp_path: Path, named: str) -> None:
    release = saelens.standard(tmp_path)
    with pytest.raises(TranscoderError):
        layout(release.folder, named)
