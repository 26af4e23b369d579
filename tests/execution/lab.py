"""Whole runs in this process, on one loaded tiny model: what a test that needs hundreds of them is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from steer import pipeline
from steer.execution import batches
from steer.execution.loaded import Loaded
from steer.execution.reuse import Standing
from steer.files import write_atomic
from tests.intervention.world import write_transcoders
from tests.project import make_project

SMALL = """\
# Does clamping a random feature of a random model change what it says?
version: 1
name: tiny
model: {{id: {model}}}
transcoder: {{id: {transcoders}}}
features:
  group: [0/3, 1/8]
prompts:
  - {{id: one, text: "He saw a carrot and had to grab it,"}}
  - {{id: two, text: "User: who are you"}}
  - {{id: three, text: "the rabbit said to the bridge"}}
generation: {{max_new_tokens: 3, temperature: 0.7}}
sweep: {{dose: [2, 4]}}
conditions:
  clamped:
    interventions: [{{op: clamp, feature: group, value: $dose, unit: max_act}}]
    controls: [{{type: random_features, n: 2}}]
measurements:
  kl: {{type: kl}}
  p: {{type: token_prob, target: " the"}}
  loops: {{type: repetition, n: 2}}
  far: {{type: edit_distance}}
  fires: {{type: group_activation, feature: group, position: all}}
expectations:
  - {{id: headline, measurement: kl, where: {{condition: clamped, dose: 4}}, min: 0.00001}}
"""


@dataclass(frozen=True)
class Ran:
    """A run: its folder, its counts, and what was said of it before it began."""

    folder: Path
    counts: dict[str, int]
    standing: Standing
    exit_code: int


@dataclass
class Lab:
    """A project's folder, and the models that its runs share."""

    folder: Path
    model: Path
    transcoders: Path
    loaded: Loaded = field(default_factory=Loaded)
    elsewhere: Path | None = None

    @property
    def results(self) -> Path:
        return self.elsewhere or self.folder / "results"

    def prepared(self, text: str = SMALL) -> pipeline.Prepared:
        return pipeline.prepare(make_project(self.folder, self.model, self.transcoders, text).experiment)

    def run(self, text: str = SMALL, fresh: bool = False, retry: bool = False, **more: Any) -> Ran:
        """A run without plots."""
        prepared = more.pop("prepared", None) or self.prepared(text)
        said: list[Standing] = []
        arguments = self.results, fresh, ["steer"], more.pop("progress", lambda n: None), pipeline.Selection()
        with without_plots():
            finished = pipeline.run(prepared, *arguments, self.loaded, retry, said.append)
        return Ran(finished.folder, dict(finished.counts), said[0], finished.exit_code)


@contextmanager
def without_plots() -> Iterator[None]:
    """Drawing takes longer than all the rest; what remains of the report is a file that is written."""

    def report(run: Path, analysis: object) -> Path:
        write_atomic(run / "report.html", "<html>\n" * 40)
        return run / "report.html"

    with mock.patch("steer.report.report.report", report):
        yield


@contextmanager
def rows_of(n: int) -> Iterator[None]:
    """Batches of at most n rows."""
    with mock.patch.object(batches, "ROWS", n):
        yield


def make_lab(folder: Path, tiny_folder: Callable[[str], Path], architecture: str = "llama") -> Lab:
    transcoders = write_transcoders(folder / "transcoders", "jumprelu", n_layers=3, d_model=32)
    return Lab(folder / "project", tiny_folder(architecture), transcoders)
