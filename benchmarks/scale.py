"""How the cost of a trial grows with trials, features, layers, width, prompt and completion, and what the driver adds.

    OMP_NUM_THREADS=1 python -m benchmarks.scale

runs dose sweeps on `pocket` that differ in one thing at a time, and prints processor milliseconds a trial (the smallest
of `--repeats`; passes and measurements, without journal and tables), then what one whole run costs outside of its
batches. Every number in docs/scale.md that is called measured comes from here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.rows_on_demand import circuit_tracer
from steer import pipeline
from steer.execution.execute import open_session, run_here
from steer.execution.loaded import Loaded

FILE = """\
# What does a trial cost?
version: 1
name: scale
model: {{id: pocket}}
transcoder: {{id: {transcoder}}}
features: {{group: [{features}]}}
prompts: [{{file: prompts.jsonl}}]
{generation}
sweep: {{dose: [{doses}]}}
conditions:
  clamped: {{interventions: [{{op: clamp, feature: group, value: $dose, unit: raw}}]}}
measurements:
  kl: {{type: kl}}
  p: {{type: token_prob, target: " the"}}
"""


@dataclass(frozen=True)
class Case:
    """A sweep: its shape, and the features that are clamped together."""

    prompts: int = 8
    tokens: int = 24
    doses: int = 15
    features: Sequence[str] = ("2/7",)
    generated: int = 0
    transcoder: str = "pocket"

    @property
    def trials(self) -> int:
        return self.prompts * (self.doses + 1)

    def write(self, folder: Path) -> Path:
        """The experiment file and its prompts, every one of them another text of the same length."""
        (folder / "pyproject.toml").touch()
        words = " the bridge is over the water and" * (self.tokens // 7 + 1)
        texts = [f"{i % 10}" + " ".join(words.split(" ")[: self.tokens - 1]) for i in range(self.prompts)]
        rows = [json.dumps({"id": f"p{i}", "text": text}) for i, text in enumerate(texts)]
        (folder / "prompts.jsonl").write_text("\n".join(rows))
        generation = f"generation: {{max_new_tokens: {self.generated}}}" if self.generated else ""
        doses = ", ".join(f"{1 + i / 64}" for i in range(self.doses))
        path = folder / "scale.yaml"
        named = {"features": ", ".join(self.features), "doses": doses, "generation": generation}
        path.write_text(FILE.format(transcoder=self.transcoder, **named))
        return path


def milliseconds(case: Case, folder: Path, loaded: Loaded, repeats: int = 1) -> float:
    """Of processor time a trial, in batches as `steer run` cuts them."""
    prepared = pipeline.prepare(case.write(folder))
    transcoder = pipeline.transcoder_folder(prepared.experiment)
    found = []
    for _ in range(repeats):
        session = open_session(prepared.experiment, prepared.plan, transcoder, loaded)
        started = time.process_time()
        for _ in run_here(pipeline.batches_of(prepared), session, {}):
            pass
        found.append(1000 * (time.process_time() - started) / case.trials)
    return min(found)


def cases(folder: Path) -> dict[str, dict[str, Case]]:
    """What is compared, one thing at a time."""
    base = Case()
    one_layer = [f"2/{i}" for i in range(64)]
    spread = [f"{layer}/{i}" for i in range(13) for layer in range(5)]
    return {
        "trials": {f"{n * 8 + 8:,}": replace(base, doses=n) for n in (7, 31, 127)},
        "features in one layer": {str(n): replace(base, features=one_layer[:n]) for n in (1, 4, 16, 64)},
        "5 features over layers": {str(n): replace(base, features=_over(n)) for n in (1, 3, 5)},
        "features over 5 layers": {str(n): replace(base, features=spread[:n]) for n in (5, 20, 65)},
        "width of the transcoder": {f"{n:,}": replace(base, transcoder=_random(folder, n)) for n in (2048, 32768)},
        "prompt tokens (about)": {str(n): replace(base, tokens=n) for n in (12, 24, 96, 240)},
        "generated tokens": {str(n): replace(base, generated=n) for n in (0, 8, 32)},
    }


def _over(layers: int) -> list[str]:
    return [f"{i % layers}/{7 + i}" for i in range(5)]


def _random(folder: Path, width: int) -> str:
    made = folder / f"width{width}"
    made.mkdir()
    circuit_tracer(made, 5, width, 256)
    return str(made)


def outside(case: Case, folder: Path, loaded: Loaded) -> dict[str, float]:
    """Milliseconds of processor time of a whole run, by what they are spent on, and bytes on disk."""
    marks = [time.process_time()]
    prepared = pipeline.prepare(case.write(folder))
    marks.append(time.process_time())
    last = [0.0]

    def progress(n: int) -> None:
        last[0] = time.process_time()

    finished = pipeline.run(
        prepared,
        folder / "results",
        command=["benchmark"],
        progress=progress,
        fresh=True,
        loaded=loaded,
        told=lambda standing: marks.append(time.process_time()),
    )
    marks += [last[0], time.process_time()]
    names = ("read, check, plan", "resolve and key every trial", "batches and journal", "tables, statistics, report")
    spent = {name: 1000 * (b - a) for name, a, b in zip(names, marks, marks[1:], strict=False)}
    sizes = {path.name: path.stat().st_size for path in finished.folder.glob("*.*") if path.is_file()}
    return {
        **spent,
        "bytes of journal": sizes["journal.jsonl"],
        "bytes of tables": sum(size for name, size in sizes.items() if name.endswith(".parquet")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    folder, loaded = Path(tempfile.mkdtemp()), Loaded()
    try:
        milliseconds(Case(doses=7), folder, loaded)  # everything is imported and loaded before the first measurement
        for title, compared in cases(folder).items():
            print(f"\n{title}: " + " | ".join(compared))
            print(
                "ms a trial: "
                + " | ".join(f"{milliseconds(c, folder, loaded, repeats):.2f}" for c in compared.values())
            )
            sys.stdout.flush()
        small, large = Case(doses=32), Case(doses=256)
        print(f"\nwhat {large.trials:,} trials cost more than {small.trials}, a trial (ms of processor time, bytes):")
        first, second = (outside(case, folder, loaded) for case in (small, large))
        for name, number in second.items():
            print(f"  {name}: {(number - first[name]) / (large.trials - small.trials):.3f}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
