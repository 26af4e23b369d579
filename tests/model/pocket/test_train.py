"""The whole recipe at toy size: every file that is shipped comes out, and in the layouts that others read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaForCausalLM

from steer.model.pocket.figures import activations, decoded
from steer.model.pocket.recipe import SMOKE
from steer.model.pocket.train import read_transcoders, train
from steer.model.pocket.transcoders import mlp_traffic


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    out = tmp_path_factory.mktemp("pocket")
    train(SMOKE, out)
    torch.set_num_threads(threads)
    return out


def test_the_model_and_its_tokenizer_load_from_the_folder_as_any_hugging_face_model(folder: Path) -> None:
    model, tokenizer = LlamaForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("User: Who are you?\nAssistant:", return_tensors="pt").input_ids
    assert ids[0, 0] == tokenizer.bos_token_id and model(ids).logits.shape[-1] == len(tokenizer)


def test_weights_are_stored_in_bfloat16(folder: Path) -> None:
    stored = [
        *load_file(folder / "model.safetensors").values(),
        *load_file(folder / "transcoder" / "layer_0.safetensors").values(),
    ]
    assert {weight.dtype for weight in stored} == {torch.bfloat16}


def test_a_chat_becomes_the_lines_the_model_was_trained_on(folder: Path) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who are you?"}]
    text = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        messages, add_generation_prompt=True, tokenize=False
    )
    assert text == "<bos>System: Be kind.\nUser: Who are you?\nAssistant:"


def test_transcoders_have_the_layout_that_circuit_tracer_reads(folder: Path) -> None:
    weights = load_file(folder / "transcoder" / "layer_1.safetensors")
    wide, deep = SMOKE.d_transcoder, SMOKE.d_model
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        "W_enc": (wide, deep),
        "W_dec": (wide, deep),
        "b_enc": (wide,),
        "b_dec": (deep,),
        "activation_function.threshold": (wide,),
    }


def test_statistics_agree_with_activations_recomputed_by_hand(folder: Path) -> None:
    stored = load_file(folder / "transcoder" / "statistics.safetensors")
    layers = read_transcoders(folder / "transcoder")
    assert {tuple(value.shape) for value in stored.values()} == {(SMOKE.n_layers, SMOKE.d_transcoder)}
    torch.testing.assert_close(stored["decoder_norm"][1], layers[1]["W_dec"].pow(2).sum(1).sqrt())
    assert bool(((stored["density"] > 0) == (stored["max_act"] > 0)).all()) and bool(
        (stored["mean"] <= stored["max_act"]).all()
    )


def test_the_strongest_example_of_a_feature_reaches_its_largest_activation(folder: Path) -> None:
    found = json.loads(gzip.decompress((folder / "transcoder" / "examples.json.gz").read_bytes()))
    largest = load_file(folder / "transcoder" / "statistics.safetensors")["max_act"]
    for name, examples in found.items():
        layer, index = map(int, name.split("/"))
        best = examples[0]["activations"][examples[0]["peak"]]
        assert best == pytest.approx(float(largest[layer, index]), abs=0.02)


def test_the_traffic_of_the_mlps_leaves_out_bos_and_padding(folder: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    pad = model.config.pad_token_id
    seen = mlp_traffic(model, torch.tensor([[1, 9, 9, 9], [1, 9, pad, pad]]))
    assert [len(each.read) for each in seen] == [4] * SMOKE.n_layers


def test_a_transcoder_writes_in_the_units_of_the_model(folder: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for weights, seen in zip(
        read_transcoders(folder / "transcoder"), mlp_traffic(model, torch.tensor([[1, 9, 30, 40]])), strict=True
    ):
        assert decoded(weights, activations(weights, seen.read)).shape == seen.wrote.shape


def test_training_again_in_a_finished_folder_changes_no_weight(folder: Path) -> None:
    names = ("model.safetensors", "transcoder/layer_0.safetensors", "transcoder/statistics.safetensors")
    before = [(folder / name).read_bytes() for name in names]
    train(SMOKE, folder)
    assert [(folder / name).read_bytes() for name in names] == before
