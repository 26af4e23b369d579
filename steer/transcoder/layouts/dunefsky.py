"""Dunefsky's GPT-2 transcoders (pchlenski/gpt2-transcoders; Dunefsky et al. 2024, arXiv:2406.11944).

`final_sparse_autoencoder_gpt2-small_blocks.{L}.ln2.hook_normalized_24576.pt`, `.pkl` or `.pkl.gz`: {"cfg",
"state_dict"} with W_enc [d F], b_enc [F], W_dec [F d], b_dec [d] (subtracted from the input) and b_dec_out [d]:

    a = max((x - b_dec) @ W_enc + b_enc, 0),  out = a @ W_dec + b_dec_out

`cfg` is an object of their training code; it is never made. They were trained on TransformerLens' processed GPT-2
(folded, centred), without BOS.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from steer.errors import TranscoderError
from steer.transcoder.canonical import Activation, Described, Hooks, LayerLayout, Layout, assembled, checked
from steer.transcoder.containers.torch_file import saved, tensors
from steer.transcoder.found import Found, in_path, one_a_layer
from steer.transcoder.stored import require_keys

FILE = r"final_sparse_autoencoder_[^/]*blocks\.(\d+)\.([a-z0-9_.]+?)_\d+\.(?:pt|pkl(?:\.gz)?)"
KEYS = ("W_enc", "b_enc", "W_dec", "b_dec", "b_dec_out")
NEEDS = "final_sparse_autoencoder_{model}_blocks.{L}.{hook}_{width}.pt (or .pkl, .pkl.gz)"


def is_mine(found: Found) -> bool:
    return bool(found.named(FILE))


def describe(found: Found, hooks: Hooks) -> Layout:
    """The set; TranscoderError with the file, what was found in it and what is possible."""
    files = one_a_layer(found.named(FILE), FILE)
    return assembled(found.folder, "dunefsky", hooks, (_described(*item) for item in files.items()))


def _described(number: int, file: Path) -> Described:
    match = in_path(file, FILE)
    return Described(number, file, match[2] if match else None, "hook_mlp_out", _layer(file))


def _layer(file: Path) -> LayerLayout:
    content = saved(file)
    if not isinstance(content, Mapping) or "state_dict" not in content:
        raise TranscoderError(f"{file}: expected a dictionary with cfg and state_dict")
    found = tensors(file, content["state_dict"])
    require_keys(file, found, KEYS, ())
    return checked(
        LayerLayout(
            W_enc=found["W_enc"].T,
            W_dec=found["W_dec"],
            b_enc=found["b_enc"],
            b_dec=found["b_dec_out"],
            activation=Activation("relu"),
            b_in=found["b_dec"],
        )
    )
