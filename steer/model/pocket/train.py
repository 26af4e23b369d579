"""`python -m steer.model.pocket.train`: corpus -> tokenizer -> language model -> transcoders -> figures, resumable."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from steer.model.pocket import figures
from steer.model.pocket import tokenizer as pocket_tokenizer
from steer.model.pocket.corpus.mixture import PRETRAINING, documents
from steer.model.pocket.pretraining import trained_model
from steer.model.pocket.recipe import FULL, SMOKE, Recipe
from steer.model.pocket.transcoders import Transcoder, exported, trained_transcoders

WEIGHTS = Path(__file__).parent / "weights"
THREADS = 2


def made_tokenizer(recipe: Recipe, out: Path) -> Tokenizer:
    """Trained once per folder; a resumed training must not meet other ids."""
    if not (out / "tokenizer.json").exists():
        fresh = pocket_tokenizer.trained(
            islice(documents(PRETRAINING, recipe.seed), recipe.tokenizer_documents), recipe.vocabulary
        )
        pocket_tokenizer.save(fresh, out, recipe.positions)
    return Tokenizer.from_file(str(out / "tokenizer.json"))


def rounded(model: LlamaForCausalLM, out: Path) -> LlamaForCausalLM:
    """Stored in bfloat16 and read back: what is measured is what is shipped."""
    model.to(torch.bfloat16).save_pretrained(out)
    return LlamaForCausalLM.from_pretrained(out, dtype=torch.float32, attn_implementation="sdpa").eval()


def write_transcoders(transcoders: list[Transcoder], folder: Path) -> None:
    """circuit-tracer's layout for per-layer transcoders."""
    folder.mkdir(exist_ok=True)
    names = [f"layer_{layer}.safetensors" for layer in range(len(transcoders))]
    for transcoder, name in zip(transcoders, names, strict=True):
        save_file(exported(transcoder), folder / name)
    config = {
        "model_name": "pocket",
        "model_kind": "transcoder_set",
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "hook_mlp_out",
        "transcoders": names,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def read_transcoders(folder: Path) -> list[figures.Weights]:
    names = yaml.safe_load((folder / "config.yaml").read_text())["transcoders"]
    return [{key: weight.float() for key, weight in load_file(folder / name).items()} for name in names]


def measure(model: LlamaForCausalLM, tokenizer: Tokenizer, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Statistics, examples and report beside the transcoders; gives back the report."""
    layers, rows = read_transcoders(folder), figures.reference_rows(tokenizer, recipe)
    sums, peaks = figures.surveyed(model, layers, rows)
    save_file(figures.statistics(layers, sums), folder / "statistics.safetensors")
    figures.write_examples(figures.examples(model, layers, peaks, rows, tokenizer), folder / "examples.json.gz")
    found = figures.report(model, layers, sums, tokenizer, recipe)
    (folder / "report.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def environment() -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "transformers", "tokenizers", "safetensors")}
    return {"python": platform.python_version(), "threads": str(torch.get_num_threads()), **packages}


def train(recipe: Recipe, out: Path) -> dict[str, Any]:
    """The whole path; started again in the same folder it goes on where it stopped."""
    torch.set_num_threads(THREADS)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = made_tokenizer(recipe, out)
    model, model_log = trained_model(recipe, tokenizer, out)
    model = rounded(model, out)
    transcoders, transcoder_log = trained_transcoders(model, tokenizer, recipe, out / "checkpoint_transcoders.pt")
    write_transcoders(transcoders, out / "transcoder")
    found = measure(model, tokenizer, recipe, out / "transcoder")
    log = {
        "recipe": asdict(recipe),
        "environment": environment(),
        "report": found,
        "model": model_log,
        "transcoders": transcoder_log,
    }
    (out / "training.json").write_text(json.dumps(log, indent=1) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for weights, logs and checkpoints")
    parser.add_argument(
        "--smoke", action="store_true", help="toy size, under a minute: only to see that every step works"
    )
    options = parser.parse_args()
    print(json.dumps(train(SMOKE if options.smoke else FULL, options.out), indent=2))


if __name__ == "__main__":
    main()
