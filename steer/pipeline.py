"""The whole path of one experiment: file -> plan -> run folder -> verdicts -> report."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steer.errors import ModelError, SpecError
from steer.experiment.checks import Facts, check
from steer.experiment.load import Experiment, load
from steer.experiment.plan import plan, plan_warnings
from steer.experiment.problems import Problem, errors
from steer.experiment.selection import select
from steer.experiment.trial import Plan
from steer.model.location import folder_of, is_hub_id
from steer.model.tokens import Tokens
from steer.transcoder.layout import shapes

if TYPE_CHECKING:
    from steer.analysis.analyse import Analysis

FLOPS_PER_CORE = 20e9  # of float32, as measured on pocket; only for the estimate that is printed with the plan


@dataclass(frozen=True)
class Selection:
    """The part of a plan that was asked for; everything, if nothing was."""

    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    contains: str | None = None
    limit: int | None = None

    @property
    def partial(self) -> bool:
        return bool(self.only) or self.contains is not None or self.limit is not None


@dataclass(frozen=True)
class Prepared:
    """A checked experiment and its plan; nothing heavy is loaded yet."""

    experiment: Experiment
    plan: Plan
    tokens: Tokens
    warnings: tuple[Problem, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Finished:
    """A run that came to its end: where it is, what it shows, and what stands against calling it complete."""

    folder: Path
    analysis: Analysis
    report: Path
    problems: tuple[str, ...]
    counts: Mapping[str, int]

    @property
    def exit_code(self) -> int:
        """0 all expectations held, 1 one failed or is inconclusive, 3 the run did not complete."""
        if self.problems:
            return 3
        return int(any(verdict.verdict != "pass" for verdict in self.analysis.verdicts))


def check_file(path: Path, overrides: Sequence[str] = ()) -> tuple[Experiment, tuple[Problem, ...]]:
    """Read a file and check it against what is known of its model and transcoder without loading weights.

    SpecError with every problem; gives back the warnings.
    """
    experiment = load(path, overrides)
    found = (*experiment.warnings, *check(experiment, facts(experiment)))
    if errors(found):
        raise SpecError(found)
    return experiment, found


def facts(experiment: Experiment) -> Facts:
    """What the files of model and transcoder say: tokenizer, layers, widths. ModelError, TranscoderError."""
    tokens = Tokens.open(folder_of(experiment.spec.model.id, experiment.spec.model.revision, weights=False))
    if is_hub_id(experiment.spec.transcoder.id):  # may be many GB: looked at when the run loads it
        return Facts(tokens=tokens, n_layers=None, widths={})
    shape = shapes(transcoder_folder(experiment))
    return Facts(tokens=tokens, n_layers=shape.n_layers, widths=shape.widths)


def transcoder_folder(experiment: Experiment) -> Path:
    """Where an experiment's transcoder lies."""
    return transcoder_folder_of(experiment.spec.transcoder.id, experiment.spec.transcoder.revision)


def transcoder_folder_of(id: str, revision: str | None) -> Path:
    """Where a transcoder lies; that of `pocket` comes with the package."""
    folder = folder_of(id, revision)
    return folder / "transcoder" if id == "pocket" else folder


def prepare(path: Path, overrides: Sequence[str] = (), selection: Selection = Selection()) -> Prepared:
    """Check a file and plan it. SpecError, UsageError."""
    experiment, warnings = check_file(path, overrides)
    tokens = Tokens.open(folder_of(experiment.spec.model.id, experiment.spec.model.revision, weights=False))
    whole = plan(experiment, tokens)
    part = select(whole, selection.only, selection.contains, selection.limit) if selection.partial else whole
    return Prepared(experiment, part, tokens, warnings, plan_warnings(experiment.spec))


@dataclass(frozen=True)
class Outline:
    """The size of a plan."""

    prompts: int
    conditions: int
    trials: int
    batches: int
    tokens: int
    seconds: float


def outline(prepared: Prepared, cores: int) -> Outline:
    """The size of a plan, and an estimate of its time: two FLOPs a parameter and token, at `FLOPS_PER_CORE`."""
    from steer.execution.batches import cut

    generation = prepared.experiment.spec.generation
    steps = 0 if generation is None else generation.max_new_tokens
    lengths = {prompt.id: len(prepared.tokens.encode(prompt.text).ids) for prompt in prepared.plan.prompts}
    batches = list(cut(prepared.plan.trials, lengths, steps))
    tokens = sum(lengths[trial.prompt.id] + steps for trial in prepared.plan.trials)
    model = prepared.experiment.spec.model
    flops = 2 * parameters(folder_of(model.id, model.revision)) * tokens
    return Outline(
        prompts=len(prepared.plan.prompts),
        conditions=len({trial.condition for trial in prepared.plan.trials} - {"baseline"}),
        trials=len(prepared.plan.trials),
        batches=len(batches),
        tokens=tokens,
        seconds=flops / (cores * FLOPS_PER_CORE),
    )


def parameters(folder: Path) -> int:
    """How many numbers the safetensors files of a model hold, by their headers."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no safetensors weights")
    return sum(_numbers(path) for path in files)


def _numbers(path: Path) -> int:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            size = 1
            for n in tensor["shape"]:
                size *= n
            total += size
    return total


def run(
    prepared: Prepared,
    results: Path,
    fresh: bool,
    command: Sequence[str],
    progress: Callable[[int], None],
    selection: Selection = Selection(),
) -> Finished:
    """Execute a plan and tell what it shows. A run whose problems are not empty has status `failed`."""
    from steer.analysis.analyse import analyse
    from steer.execution import provenance
    from steer.execution.execute import check_rows, execute, identity, open_session
    from steer.execution.folder import now, open_folder
    from steer.report.report import report

    experiment = prepared.experiment
    session = open_session(experiment, prepared.plan, transcoder_folder(experiment))
    check_rows(session, prepared.plan)
    base = {
        "schema": 1,
        "experiment": experiment.resolved,
        "experiment_path": str(experiment.path),
        "experiment_hash": experiment.hash,
        "identity": identity(experiment.hash, prepared.plan, session.environment),
        "question": experiment.question,
        "command": list(command),
        "git": provenance.git(experiment.path.parent),
        "seeds": list(experiment.spec.seeds),
        "partial": selection.partial,
        "warnings": [*(warning.message for warning in prepared.warnings), *prepared.notes],
    }
    with open_folder(results, experiment.spec.name, base["identity"], experiment.hash, fresh) as folder:
        executed = execute(prepared.plan, session, folder, base, progress)
        analysis = analyse(folder.path, _lines(experiment))
        status = "failed" if executed.problems else "complete"
        manifest = {**executed.manifest, "status": status, "problems": list(executed.problems), "finished": now()}
        folder.write_manifest(manifest)  # before the page, which shows it
        page = report(folder.path, analysis)
        outputs = {p.name: provenance.file_hash(p) for p in sorted(folder.path.iterdir()) if _is_output(p)}
        folder.write_manifest({**manifest, "outputs": outputs})
        if status == "complete" and not selection.partial:
            folder.point_latest_here()
        return Finished(folder.path, analysis, page, executed.problems, executed.tally.counts)


def _is_output(path: Path) -> bool:
    return path.is_file() and path.name != "manifest.json" and not path.name.startswith(".")


def _lines(experiment: Experiment) -> dict[str, int]:
    return {
        expectation.id: experiment.source.place(("expectations", i)).line
        for i, expectation in enumerate(experiment.spec.expectations)
    }


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: status `interrupted`, resumable."""
    import signal

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
