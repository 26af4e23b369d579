"""`make bench`: steered generation beside plain Hugging Face `generate`, on the same batch and model.

One process, one warm-up, then the two in turn; each pair gives a ratio of processor times, and the median of the ratios
is the number to quote. Both generate equally many tokens, and without edits the same ones, or nothing is reported.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from steer.execution.passes import Engine, Text, steered_pass, unedited_pass
from steer.execution.provenance import packages
from steer.intervention.edits import Along, Edit
from steer.intervention.positions import Positions
from steer.intervention.rows import Row
from steer.intervention.watch import Watch
from steer.model.generation import Sampling, padded
from steer.model.language_model import LanguageModel
from steer.model.location import POCKET
from steer.transcoder.transcoder import Transcoders

ROUNDS = 15
NEW_TOKENS = 32
RESULTS = Path(__file__).parent / "results"
PROMPTS = (
    "User: Who are you?\nAssistant:",
    "User: What should I cook tonight?\nAssistant:",
    "User: Can you help me with something?\nAssistant:",
    "User: Tell me about your day.\nAssistant:",
)


@dataclass(frozen=True)
class Comparison:
    """Medians over the pairs; `throughput` is plain time over steered time, so 1 means that steering costs nothing."""

    workload: str
    rows: int
    new_tokens: int
    rounds: int
    plain_cpu_s: float
    steered_cpu_s: float
    throughput: float
    throughput_min: float
    throughput_max: float
    throughput_wall: float


def main() -> None:
    """Time both workloads, print them, and keep them with the machine's description."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    engine = Engine(LanguageModel.load("pocket"), Transcoders.open(POCKET / "transcoder"))
    found = [compare(engine, rows) for rows in (16, 64)]
    for one in found:
        print(
            f"{one.workload}, {one.rows} rows x {one.new_tokens} tokens: steered generation has {one.throughput:.3f} of"
            f" plain Hugging Face generate's throughput ({one.throughput_min:.3f} to {one.throughput_max:.3f};"
            f" {one.rounds} pairs, processor time)"
        )
    RESULTS.mkdir(exist_ok=True)
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    content = {"machine": machine, "packages": packages(), "comparisons": [asdict(one) for one in found]}
    (RESULTS / "generation.json").write_text(json.dumps(content, indent=1) + "\n")


def compare(engine: Engine, rows: int) -> Comparison:
    """One batch size."""
    prompts = [engine.model.tokens.encode(PROMPTS[i % len(PROMPTS)]).ids for i in range(rows)]
    _require_same_tokens(engine, prompts)
    pairs = [_timed_pair(engine, prompts) for _ in range(ROUNDS + 1)][1:]
    cpu = [plain.cpu / steered.cpu for plain, steered in pairs]
    return Comparison(
        workload="pocket, one clamped feature in each of two layers, greedy",
        rows=rows,
        new_tokens=NEW_TOKENS,
        rounds=ROUNDS,
        plain_cpu_s=round(statistics.median(plain.cpu for plain, _ in pairs), 4),
        steered_cpu_s=round(statistics.median(steered.cpu for _, steered in pairs), 4),
        throughput=round(statistics.median(cpu), 4),
        throughput_min=round(min(cpu), 4),
        throughput_max=round(max(cpu), 4),
        throughput_wall=round(statistics.median(plain.wall / steered.wall for plain, steered in pairs), 4),
    )


@dataclass(frozen=True)
class _Time:
    cpu: float
    wall: float


def _timed_pair(engine: Engine, prompts: Sequence[tuple[int, ...]]) -> tuple[_Time, _Time]:
    return _timed(lambda: plain(engine.model, prompts)), _timed(lambda: steered(engine, prompts, 1.0))


def _timed(work: Callable[[], object]) -> _Time:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return _Time(time.process_time() - cpu, time.perf_counter() - wall)


def plain(model: LanguageModel, prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Hugging Face `generate`; rows never end early, so that both do the same work."""
    ids, mask = padded(prompts, model.tokens.pad_id)
    with torch.inference_mode():
        done = model.hf.generate(
            input_ids=ids,
            attention_mask=mask.long(),
            max_new_tokens=NEW_TOKENS,
            min_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=model.tokens.pad_id,
        )
    return [row[ids.shape[1] :].tolist() for row in done]


def steered(engine: Engine, prompts: Sequence[tuple[int, ...]], value: float) -> list[list[int]]:
    """The same with two features clamped at every position of every row, as a run does it."""
    rows = [_row(engine, layer_values=((0, value), (1, value)), length=len(ids)) for ids in prompts]
    text = Text.of(prompts, [()] * len(prompts), engine.model.tokens.pad_id, engine.model.device)
    nothing = Watch((), engine.transcoders, len(prompts), 0, engine.model.device)
    last = torch.tensor([text.layout.width - 1])
    _, reference = unedited_pass(engine, _first(text), engine.wanted(rows), nothing, last)
    sampling = Sampling(NEW_TOKENS)
    seeds = [0] * len(prompts)
    model = engine.model
    before, model.tokens.eos_ids = model.tokens.eos_ids, frozenset()
    try:
        same = reference.rows(torch.zeros(len(prompts), dtype=torch.long))
        done = steered_pass(engine, prompts, text, rows, same, nothing, last, sampling, seeds)
    finally:
        model.tokens.eos_ids = before
    assert done.completions is not None
    return [list(one.ids) for one in done.completions]


def _first(text: Text) -> Text:
    """A single row: a run shares one unedited pass between all rows of a prompt."""
    from dataclasses import replace

    layout = replace(text.layout, lengths=text.layout.lengths[:1])
    return Text(text.ids[:1], text.mask[:1], layout)


def _row(engine: Engine, layer_values: Sequence[tuple[int, float]], length: int) -> Row:
    everywhere = Positions(prompt=tuple(range(length)), onwards=length)
    return Row(
        tuple(
            Edit(0, "feature", "g", layer, 0, 0.0, value, "one", everywhere, Along(index=0))
            for layer, value in layer_values
        )
    )


def _require_same_tokens(engine: Engine, prompts: Sequence[tuple[int, ...]]) -> None:
    """Without edits both must say the same (min_new_tokens forbids Hugging Face's side the EOS: compare up to it)."""
    eos = engine.model.tokens.eos_ids
    ours = steered_nothing(engine, prompts)
    for mine, theirs in zip(ours, plain(engine.model, prompts), strict=True):
        end = next((i for i, token in enumerate(mine) if token in eos), len(mine))
        if mine[:end] != theirs[:end]:
            raise SystemExit("the contenders disagree on greedy tokens; nothing is timed")


def steered_nothing(engine: Engine, prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Our decode loop without edits."""
    from steer.model.generation import complete

    return [list(one.ids) for one in complete(engine.model, prompts, Sampling(NEW_TOKENS), [0] * len(prompts))]


if __name__ == "__main__":
    main()
