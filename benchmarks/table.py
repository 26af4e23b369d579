"""benchmarks/README.md: what the results in benchmarks/results say, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from steer.files import write_atomic

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PAGE = FOLDER / "README.md"
OURS = "this project"
ORDER = ("W1", "W2", "W3", "pocket-W1", "pocket-W2", "W4", "W5", "scaling", "pocket-scaling")
AIMS = {
    "W1": "at most 0.60 of plain Hugging Face",
    "W2": "at most 0.80 of plain Hugging Face",
    "W3": "at most 0.27 of hand-written hooks",
    "pocket-W1": "at most 0.67 of plain Hugging Face, which is 1.5 times its throughput",
    "W4": "at most 1.25 of hand-written hooks, and at most 150 MB more",
    "W5": "at least 80 % of the time in the model",
    "scaling": "from 100 to 10,000 trials within 15 % in time and 10 % in memory",
    "pocket-scaling": "from 100 to 10,000 trials within 15 % in time and 10 % in memory",
}
INTRODUCTION = """\
# What does steering cost?

This page is made from `benchmarks/results/*.json` by `make bench` (`python -m benchmarks.table` makes it from what is
there); every file names the machine that it was measured on.

One comparison is one process; its contenders take turns in it, round by round, in float32 on one thread. What is
quoted are medians of processor time over the rounds, and medians of the ratios within a round (libraries other than
Hugging Face and this project take part in the first round only). Before a contender is timed its logits (of this
project those that a run keeps: the likeliest tokens, the largest movers and the named ones) are compared with a
reference that runs one row at a time and encodes and decodes the whole transcoder: more than 0.001 off, and it is not
timed. Of generated text each token must be the reference's likeliest to within 0.001.

- **The model** is a random Llama of 12 layers, width 512 and vocabulary 8,192 with a transcoder of 16,384 features a
  layer, of which 1 % fire at a token (ReLU; the bias is the normal distribution's 1 % point), or the built-in
  `pocket`.
- **Rows** are a prompt's baseline and its steered trials; every contender runs all of them. Hugging Face and the
  libraries take a prompt's rows as one batch (W1), a layer's ablations as one batch (W3), and what is generated 40 rows
  at a time in the order of length (W2), the fastest of the sizes that were tried; logits are computed at the last
  position alone wherever that can be asked for.
- **This project** gets the workload as an experiment file; timed is all from the plan to the outcomes: rows resolved,
  batches cut and run, results measured. *In the passes* is the share of that in `LanguageModel.forward_pass`, hooks
  included.
- **Linear layers** of a model that this project loads run through oneDNN on a CPU. For many rows that is about twice as
  fast on this processor as the MKL that PyTorch calls, and slower for one (`steer/model/linear.py`). How much of a gain
  is that alone is to be seen from two more contenders: hand-written hooks on such a model, and this project on a model
  as PyTorch has it. They add nothing else.
- **Least arithmetic** is counted (`benchmarks/arithmetic.py`): the multiply-adds that remain if nothing is computed
  twice, and nothing that nobody reads, over what plain Hugging Face multiplies. It knows nothing of how fast products
  are, so it is to be compared with "linear layers by PyTorch".
"""


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    known = [name for name in ORDER if name in results]
    return "\n".join([INTRODUCTION, *("\n".join([*section(results[name]), ""]) for name in known)])


def section(found: Mapping[str, Any]) -> list[str]:
    """One comparison."""
    name = found["name"]
    title = [f"## {name}: {found['title']}", ""]
    aim = [f"Aim: {AIMS[name]}. "] if name in AIMS else [""]
    return [*title, aim[0] + _about(found), "", *_table(found), "", _where(found["machine"])]


def _about(found: Mapping[str, Any]) -> str:
    match found["name"]:
        case "W5":
            return (
                f"{found['trials']:,} trials, {found['wall_s']:.0f} s of the clock from reading the file to the report,"
                f" imports and loading the weights apart; {found['share_inside']:.0%} of it in the model's passes."
            )
        case "W4":
            return "Until the first steered logits, each time in a fresh process, files in the cache."
        case "scaling" | "pocket-scaling":
            return f"On {_model(found)}; the best of the repeats, outcomes written to a journal."
    return (
        f"On {_model(found)}, {found['rows']:,} rows; rounds: {found['rounds']}."
        f" Least arithmetic: {found['least_arithmetic']:.2f} of plain Hugging Face's."
    )


def _model(found: Mapping[str, Any]) -> str:
    return "`pocket`" if found["on"] == "pocket" else "the random Llama"


def _table(found: Mapping[str, Any]) -> list[str]:
    match found["name"]:
        case "W5":
            return _rows(("in all", "in the model's passes", "passes"), _whole(found))
        case "W4":
            head = ("who", "processor", "clock", "of hand-written hooks", "anonymous memory", "more")
            return _rows(head, map(_cold, found["lines"]))
        case "scaling" | "pocket-scaling":
            head = ("trials", "rows", "processor a row", "clock a row", "peak of memory", "repeats")
            return _rows(head, map(_scale, found["lines"]))
    head = (
        "contender",
        "processor",
        "of plain",
        "least to most",
        "of hooks",
        "clock, of plain",
        "off by",
        "in the passes",
    )
    return _rows(head, map(_line, found["lines"]))


def _rows(head: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def _line(line: Mapping[str, Any]) -> list[str]:
    if line["trouble"]:
        return [line["name"], f"not timed: {line['trouble']}", *[""] * 6]
    plain, hooks = line["to_plain"], line["to_hooks"]
    inside = line["details"].get("inside_cpu_s")
    off = f"{line['error']:.0e}" if line["error"] else "0"
    numbers = [_ratio(plain, "cpu"), _least_to_most(plain), _ratio(hooks, "cpu"), _ratio(plain, "wall")]
    share = "" if inside is None else f"{inside / line['cpu_s']:.0%}"
    return [_marked(line["name"]), f"{line['cpu_s']:.2f} s", *numbers, off, share]


def _marked(name: str) -> str:
    return f"**{name}**" if name == OURS else str(name)


def _ratio(ratios: Mapping[str, float], key: str) -> str:
    return f"{ratios[key]:.2f}" if ratios else ""


def _least_to_most(ratios: Mapping[str, float]) -> str:
    return f"{ratios['cpu_min']:.2f} to {ratios['cpu_max']:.2f}" if ratios else ""


def _cold(line: Mapping[str, Any]) -> list[str]:
    times = [f"{line['cpu_s']:.2f} s", f"{line['wall_s']:.2f} s", f"{line['to_hooks']:.2f}"]
    return [_marked(line["name"]), *times, f"{line['anonymous_mb']:.0f} MB", f"{line['more_mb']:+.0f} MB"]


def _scale(line: Mapping[str, Any]) -> list[str]:
    times = [f"{line['cpu_ms_per_row']:.2f} ms", f"{line['wall_ms_per_row']:.2f} ms"]
    return [f"{line['trials']:,}", f"{line['rows']:,}", *times, f"{line['peak_mb']:,.0f} MB", str(line["repeats"])]


def _whole(found: Mapping[str, Any]) -> list[list[str]]:
    return [[f"{found['wall_s']:.1f} s", f"{found['inside_wall_s']:.1f} s", f"{found['passes']:,}"]]


def _where(machine: Mapping[str, Any]) -> str:
    packages = machine["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers", "transformer-lens"))
    return f"{machine['processor']} ({machine['cores']} cores, {machine['arithmetic']}), 1 thread; {versions}."


def read() -> dict[str, dict[str, Any]]:
    """The results that are there, by name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}


def write() -> None:
    """Put the page together anew."""
    write_atomic(PAGE, page(read()))


if __name__ == "__main__":
    write()
