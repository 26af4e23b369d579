"""Whole runs in this process, on one loaded tiny model: what a test that needs hundreds of them is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from steer import pipeline
from steer.execution import batch_run, batches
from steer.execution.loaded import Loaded
from steer.execution.outcome import Outcome
from steer.execution.reuse import Standing
from steer.files import write_atomic
from tests.intervention.world import write_transcoders
from tests.project import SMALL, make_project


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
        with without_plots():
            finished = pipeline.run(
                prepared,
                self.results,
                command=["steer"],
                progress=more.pop("progress", lambda n: None),
                fresh=fresh,
                loaded=self.loaded,
                retry=retry,
                told=said.append,
                **more,
            )
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
def failing(dose: float) -> Iterator[None]:
    """Trials of this dose fail."""
    outcome = batch_run._BatchRun._outcome

    def broken(self: batch_run._BatchRun, b: int, *rest: Any) -> Outcome:
        return self._failed(b, "it broke") if self.trials[b].point.get("dose") == dose else outcome(self, b, *rest)

    with mock.patch.object(batch_run._BatchRun, "_outcome", broken):
        yield


@contextmanager
def rows_of(n: int) -> Iterator[None]:
    """Batches of at most n rows."""
    with mock.patch.object(batches, "ROWS", n):
        yield


def make_lab(folder: Path, tiny_folder: Callable[[str], Path], architecture: str = "llama") -> Lab:
    transcoders = write_transcoders(folder / "transcoders", "jumprelu", n_layers=3, d_model=32)
    return Lab(folder / "project", tiny_folder(architecture), transcoders)
