"""What the benchmarks run on: a random Llama with random transcoders, made once and kept, and the built-in `pocket`."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from steer.model.location import POCKET

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "benchmarks"
FIRING = 0.01
"""The share of features of the random transcoders that fire at a token."""
SPECIAL = BOS, UNKNOWN, PAD = "<bos>", "<unk>", "<pad>"


@dataclass(frozen=True)
class Size:
    """Sizes of the random Llama and its transcoders; the MLP is 8/3 as wide as the stream, as Llama's."""

    layers: int = 12
    width: int = 512
    inner: int = 1376
    heads: int = 8
    vocabulary: int = 8192
    features: int = 16384

    @property
    def name(self) -> str:
        return "llama-" + "-".join(str(number) for number in asdict(self).values())


@dataclass(frozen=True)
class Rows:
    """What is known of some features of one layer: their rows of the transcoder."""

    W_enc: Float[Tensor, "k d_model"]
    b_enc: Float[Tensor, " k"]
    threshold: Float[Tensor, " k"] | None
    W_dec: Float[Tensor, "k d_model"]

    def activations(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... k"]:
        """What the features do on what the MLP reads."""
        pre = x @ self.W_enc.T + self.b_enc
        return pre.relu() if self.threshold is None else pre * (pre > self.threshold)


@dataclass(frozen=True)
class World:
    """A folder with a model and one with its transcoders, and where their numbers are wanted."""

    name: str
    model: Path
    transcoder: Path
    device: str = "cpu"

    def hf(self) -> transformers.PreTrainedModel:
        """The model as anybody loads it; every contender has its own."""
        transformers.utils.logging.disable_progress_bar()
        loaded = transformers.AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
        loaded.generation_config.eos_token_id = None  # no row ends early
        return loaded.to(self.device).eval().requires_grad_(False)

    def rows(self, layer: int, indices: Sequence[int] | None = None) -> Rows:
        """Some features of a layer (all of them, if none are named), read as one reads a file by hand."""
        with safe_open(self.transcoder / f"layer_{layer}.safetensors", framework="pt", device=self.device) as file:
            stored = set(file.keys())
            found = {key: _picked(file, key, indices) for key in _KEYS if key in stored}
        return Rows(*(found.get(key) for key in _KEYS))  # type: ignore[arg-type]

    @property
    def features(self) -> int:
        """How many features a layer has."""
        with safe_open(self.transcoder / "layer_0.safetensors", framework="pt") as file:
            return int(file.get_slice("b_enc").get_shape()[0])

    @property
    def config(self) -> transformers.PreTrainedConfig:
        return transformers.AutoConfig.from_pretrained(self.model)


_KEYS = ("W_enc", "b_enc", "activation_function.threshold", "W_dec")


def _picked(file: object, key: str, indices: Sequence[int] | None) -> Tensor:
    stored = file.get_slice(key)  # type: ignore[attr-defined]
    if indices is None:
        return stored[:].float()
    return torch.cat([stored[index : index + 1] for index in indices]).float()


def scratch() -> Path:
    """A new folder that is gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def pocket(device: str = "cpu") -> World:
    """The built-in model."""
    return World("pocket", POCKET, POCKET / "transcoder", device)


def random_llama(size: Size = Size(), kept: Path = KEPT, device: str = "cpu") -> World:
    """The random Llama, written to `kept` where it is not there yet (1 GB in its full size)."""
    folder = kept / size.name
    if not folder.exists():
        kept.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=kept))
        write_model(made / "model", size)
        write_transcoders(made / "transcoder", size)
        made.rename(folder)
    return World("random Llama", folder / "model", folder / "transcoder", device)


def write_model(folder: Path, size: Size) -> None:
    """Weights of a variance that keeps every layer alive, and a tokenizer of whole words."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=1024,
        initializer_range=size.width**-0.5,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=SPECIAL.index(PAD),
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    named = {"bos_token": BOS, "unk_token": UNKNOWN, "pad_token": PAD}
    tokenizer = word_tokenizer(size.vocabulary)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def word_tokenizer(vocabulary: int) -> Tokenizer:
    """One token a word: `w3`, `w4`, ... behind a BOS."""
    words = [*SPECIAL, *map(word, range(len(SPECIAL), vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return tokenizer


def word(token: int) -> str:
    return f"w{token}"


def write_transcoders(folder: Path, size: Size) -> None:
    """ReLU transcoders whose features fire at about one token in a hundred.

    What an MLP reads has length sqrt(width) behind its norm, so a unit encoder row gives a pre-activation of
    variance 1, and the bias is the normal distribution's quantile. Decoder rows have length 3.
    """
    folder.mkdir(parents=True)
    bias = -float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor(1 - FIRING)))
    for layer in range(size.layers):
        random = torch.Generator().manual_seed(layer)
        rows = [torch.randn(size.features, size.width, generator=random) for _ in range(2)]
        enc, dec = (one / one.norm(dim=-1, keepdim=True) for one in rows)
        tensors = {
            "W_enc": enc,
            "W_dec": 3 * dec,
            "b_enc": torch.full((size.features,), bias),
            "b_dec": torch.zeros(size.width),
        }
        save_file(tensors, folder / f"layer_{layer}.safetensors")
    points = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
    (folder / "config.yaml").write_text(json.dumps({"model_kind": "transcoder_set", **points}))
