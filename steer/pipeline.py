"""The whole path of one experiment: file -> plan -> run folder -> verdicts -> report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steer import digests
from steer.analysis.suite import Ended
from steer.collecting import paused, settled
from steer.errors import ModelError, SpecError, SteerError, TranscoderError, UsageError
from steer.experiment.checks import Facts, check
from steer.experiment.load import Experiment, load
from steer.experiment.plan import plan, plan_warnings
from steer.experiment.problems import Code, Place, Problem, errors
from steer.experiment.selection import select
from steer.experiment.trial import Plan
from steer.model.known_tokens import known_tokens
from steer.model.location import folder_of, is_hub_id
from steer.model.reach import lacking
from steer.model.tokens import Tokens
from steer.transcoder import location
from steer.transcoder.containers.safetensors_file import header
from steer.transcoder.layout import layout, shapes
from steer.transcoder.location import known_release
from steer.transcoder.neuronpedia import contradiction

if TYPE_CHECKING:
    from steer.analysis.analyse import Analysis
    from steer.analysis.snapshots import Update
    from steer.execution.batch_run import Session
    from steer.execution.batches import Batch
    from steer.execution.execute import Executed, Runner
    from steer.execution.folder import RunFolder
    from steer.execution.loaded import Loaded
    from steer.execution.reuse import Standing
    from steer.execution.shards import Shard, Share

    Opening = Callable[[Loaded], Session]
    Engine = Callable[[Opening], Runner]
    """From a way to open an experiment's session, in whatever process, to what runs its batches."""

FLOPS_PER_CORE = 40e9  # of float32, as measured on pocket; only for the estimate that is printed with the plan


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
    """A checked experiment and its plan; nothing heavy is loaded yet. Without `shortcuts` every row runs whole."""

    experiment: Experiment
    plan: Plan
    tokens: Tokens
    warnings: tuple[Problem, ...]
    notes: tuple[str, ...]
    shortcuts: bool = True


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


@dataclass(frozen=True)
class FinishedShard:
    """A shard that came to its end: its verdicts are those of the merged run."""

    shard: Shard
    folder: Path
    problems: tuple[str, ...]
    counts: Mapping[str, int]


def check_file(path: Path, overrides: Sequence[str] = ()) -> tuple[Experiment, tuple[Problem, ...]]:
    """Read a file and check it against what is known of its model and transcoder without loading weights.

    SpecError with every problem; gives back the warnings.
    """
    experiment = load(path, overrides)
    return experiment, check_loaded(experiment)


def check_loaded(experiment: Experiment) -> tuple[Problem, ...]:
    """The warnings of a file that has been read, checked against its model and transcoder. SpecError, ResultsError."""
    from steer.analysis.snapshots import read_snapshot, snapshot_path

    found = (*experiment.warnings, *check(experiment, facts(experiment)))
    if errors(found):
        raise SpecError(found)
    read_snapshot(snapshot_path(experiment.path))  # a damaged one is not found out after the run
    return found


def facts(experiment: Experiment) -> Facts:
    """What is known of model and transcoder without weights: tokenizer, layers, widths. ModelError, TranscoderError."""
    model, tokens = experiment.spec.model.id, _tokens_at_hand(experiment)
    n_layers, widths = _extent(experiment)
    return Facts(
        tokens=tokens,
        n_layers=n_layers,
        widths=widths,
        absent=model if tokens is None else None,
        known=known_tokens(model),
        contradiction=partial(contradiction, model=model, transcoder=experiment.spec.transcoder.id),
    )


def _tokens_at_hand(experiment: Experiment) -> Tokens | None:
    """The model's tokenizer. A file that `needs: [hub]` is checked without it where it is not in the local cache."""
    model, away = experiment.spec.model, "hub" in experiment.spec.needs
    try:
        return Tokens.open(folder_of(model.id, model.revision, weights=False, local_files_only=away))
    except ModelError:
        if away and is_hub_id(model.id):
            return None
        raise


def _extent(experiment: Experiment) -> tuple[int | None, Mapping[int, int]]:
    """Layers of the model and widths of the transcoder; of a Hub repository that is no release neither is known."""
    transcoder = experiment.spec.transcoder
    if release := known_release(transcoder.id, transcoder.revision):
        return None if release.kind == "sae" else release.layers, release.widths
    if is_hub_id(transcoder.id):  # may be many GB: looked at when the run loads it
        return None, {}
    shape = shapes(transcoder_folder(experiment), transcoder.format, transcoder.reads, transcoder.writes)
    return None if shape.kind == "sae" else shape.n_layers, shape.widths


def transcoder_folder(experiment: Experiment, local_files_only: bool = False) -> Path:
    """Where an experiment's transcoder lies: of one on the Hub the layers in use. TranscoderError."""
    transcoder, layers = experiment.spec.transcoder, experiment.layers or {0}
    return location.transcoder_folder(transcoder.id, transcoder.revision, layers, local_files_only)


def prepare(path: Path, overrides: Sequence[str] = (), selection: Selection = Selection()) -> Prepared:
    """Check a file and plan it. SpecError, UsageError."""
    return prepare_loaded(load(path, overrides), selection)


def prepare_loaded(experiment: Experiment, selection: Selection) -> Prepared:
    """Check what has been read and plan it; a missing tokenizer is fetched. SpecError, UsageError, ModelError."""
    tokens = Tokens.open(folder_of(experiment.spec.model.id, experiment.spec.model.revision, weights=False))
    warnings = check_loaded(experiment)
    whole = plan(experiment, tokens)
    part = select(whole, selection.only, selection.contains, selection.limit) if selection.partial else whole
    return Prepared(experiment, part, tokens, warnings, plan_warnings(experiment.spec))


@dataclass(frozen=True)
class Collected:
    """What several files ask for: the experiments that can run here, and why others are left out."""

    ready: tuple[Prepared, ...]
    skipped: tuple[Ended, ...]


def collect(paths: Sequence[Path], overrides: Sequence[str] = (), selection: Selection = Selection()) -> Collected:
    """Check and plan every file before anything is loaded; the problems of all of them are raised together.

    Left out is what `needs:` something that is not here, and among several files what a selection leaves nothing of.
    Experiments of one model come one after another. SpecError, UsageError, ModelError, TranscoderError.
    """
    ready: list[Prepared] = []
    skipped: list[Ended] = []
    wrong: list[tuple[Path, SteerError]] = []
    for path in paths:
        try:
            experiment = load(path, overrides)
            model = experiment.spec.model
            if why := lacking(experiment.spec.needs, [(model.id, model.revision)], partial(_at_hand, experiment)):
                check_loaded(experiment)  # what is wrong with it is wrong here, too
                skipped.append(Ended(experiment.spec.name, path, skipped=why))
            else:
                ready.append(prepare_loaded(experiment, selection))
        except UsageError as error:  # nothing is left by the selection
            if len(paths) == 1:
                raise
            skipped.append(Ended(experiment.spec.name, path, skipped=f"not selected: {error}"))
        except SteerError as error:
            wrong.append((path, error))
    raise_together([*wrong, *_shared_names(ready)])
    order = {model: i for i, model in reversed(list(enumerate(one.experiment.spec.model for one in ready)))}
    return Collected(tuple(sorted(ready, key=lambda one: order[one.experiment.spec.model])), tuple(skipped))


def collect_one(path: Path, overrides: Sequence[str] = (), selection: Selection = Selection()) -> Collected:
    """A single file that is asked for by name: tried whatever it `needs:`, so that its loader says what is missing."""
    return Collected((prepare(path, overrides, selection),), ())


def raise_together(wrong: Sequence[tuple[Path, SteerError]]) -> None:
    """Raise the errors of several files as one; a single error is raised as it is."""
    if len(wrong) == 1:
        raise wrong[0][1]
    if wrong:
        raise SpecError(tuple(problem for path, error in wrong for problem in _problems_of(path, error)))


def _problems_of(path: Path, error: SteerError) -> tuple[object, ...]:
    if isinstance(error, SpecError):
        return error.problems
    return (Problem(Place(str(path)), str(error), None, Code.UNREADABLE),)


def _at_hand(experiment: Experiment) -> bool:
    """Whether the transcoder's files are here; one that is no question of the Hub counts as if it were."""
    try:
        transcoder_folder(experiment, local_files_only=True)
    except TranscoderError:
        return not is_hub_id(experiment.spec.transcoder.id)
    return True


def _shared_names(ready: Sequence[Prepared]) -> Iterator[tuple[Path, SteerError]]:
    """Two files of one name would move each other's `latest`."""
    first: dict[str, Path] = {}
    for one in ready:
        experiment, name = one.experiment, one.experiment.spec.name
        if name in first:
            message = f"the name {name!r} is that of {first[name]} as well"
            place = experiment.source.place(("name",))
            yield experiment.path, SpecError((Problem(place, message, "results lie by name", Code.NAME_CLASH),))
        first.setdefault(name, experiment.path)


def gate_notes(experiment: Experiment, local_files_only: bool = False) -> tuple[str, ...]:
    """What to tell of an experiment's model and transcoder: never gated, or failed and allowed to run all the same.

    Hashes the files of both, in the layers in use. UsageError where the gate failed and the file does not allow it.
    """
    from steer.gate.trust import failed_note, trust, ungated_note

    spec, stated = experiment.spec, experiment.spec.transcoder
    if not experiment.layers:
        return ()
    folder = transcoder_folder(experiment, local_files_only)
    found = layout(folder, stated.format, stated.reads, stated.writes)
    model = folder_of(spec.model.id, spec.model.revision, local_files_only=local_files_only)
    known = trust(model, found, folder, experiment.layers)
    pair = f"transcoder {stated.id} on model {spec.model.id}"
    notes = [ungated_note(known.ungated, pair, experiment.path)] if known.ungated else []
    if known.failed and not stated.allow_failed_gate:
        raise UsageError(
            f"{failed_note(known.failed, pair)}. `steer gate {experiment.path}` shows all of it; to run all the same,"
            " say `transcoder: {allow_failed_gate: true}`, or --set transcoder.allow_failed_gate=true"
        )
    return (*notes, *([f"{failed_note(known.failed, pair)}; the file allows it"] if known.failed else []))


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
    lengths, steps = _lengths(prepared)
    batches = batches_of(prepared)
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


def _lengths(prepared: Prepared) -> tuple[Mapping[str, int], int]:
    """Tokens of every prompt, and how many may be generated behind each."""
    generation = prepared.experiment.spec.generation
    lengths = {prompt.id: len(prepared.tokens.encode(prompt.text).ids) for prompt in prepared.plan.prompts}
    return lengths, 0 if generation is None else generation.max_new_tokens


def batches_of(prepared: Prepared) -> tuple[Batch, ...]:
    """All batches of a plan, as a run cuts them that takes nothing over."""
    from steer.execution.batches import cut

    return tuple(cut(prepared.plan.trials, *_lengths(prepared)))


def share_of(prepared: Prepared, shard: Shard) -> Share:
    """What one of several shards runs of a plan."""
    from steer.execution.shards import share

    return share(prepared.plan, batches_of(prepared), *_lengths(prepared), shard)


def parameters(folder: Path) -> int:
    """How many numbers the safetensors files of a model hold, by their headers."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no safetensors weights")
    return sum(_numbers(path) for path in files)


def _numbers(path: Path) -> int:
    try:
        return sum(prod(tensor.shape) for tensor in header(path).values())
    except TranscoderError as error:  # what is wrong with a file, whoever it belongs to
        raise ModelError(str(error)) from error


def run(
    prepared: Prepared,
    results: Path,
    *,
    command: Sequence[str],
    progress: Callable[[int], None],
    fresh: bool = False,
    selection: Selection = Selection(),
    loaded: Loaded | None = None,
    retry: bool = False,
    told: Callable[[Standing], None] = lambda standing: None,
    update: Update | None = None,
    engine: Engine | None = None,
) -> Finished:
    """Execute a plan and tell what it shows. A run whose problems are not empty has status `failed`.

    `loaded` holds models and transcoders that other runs of this process share. With `retry` the newest run of this
    experiment goes on with the trials that failed. `told` hears how much is cached before the first batch. `update`
    says which values are recorded beside the file; by default new ones, in CI and of a part of the plan none. `engine`
    runs the batches, by default in this process.
    """
    from steer.analysis.snapshots import chosen_update

    experiment = prepared.experiment
    update = update or chosen_update(None, selection.partial, False, os.environ)
    notes = gate_notes(experiment)
    session, identity = opened(prepared, loaded)
    from steer.execution.execute import execute
    from steer.execution.folder import open_folder
    from steer.execution.reuse import begin

    base = asked(prepared, identity, command, selection, notes)
    with open_folder(results, experiment.spec.name, identity, experiment.hash, fresh, retry) as folder, settled():
        told(begin(prepared.plan, session, folder, results, retry))
        executed = execute(prepared.plan, session, folder, base, progress, retry, _runner(engine, prepared))
        return concluded(prepared, folder, executed, update)


def concluded(prepared: Prepared, folder: RunFolder, executed: Executed, update: Update) -> Finished:
    """The tables of a run, analysed and told; `latest` points at it if it is complete and whole. ResultsError."""
    from steer.analysis.analyse import analyse  # not before: nobody waits for these to see the first trials done
    from steer.execution.folder import now
    from steer.execution.manifest import outputs
    from steer.report.report import report

    lines = expectation_lines(prepared.experiment)
    analysis = analyse(folder.path, lines, "none" if executed.problems else update)
    status = "failed" if executed.problems else "complete"
    manifest = {**executed.manifest, "status": status, "problems": list(executed.problems), "finished": now()}
    manifest |= {"snapshots": dict(analysis.recorded)}
    folder.write_manifest(manifest)  # before the page, which shows it
    page = report(folder.path, analysis)
    folder.write_manifest({**manifest, "outputs": outputs(folder.path)})
    if status == "complete" and not manifest["partial"]:
        folder.point_latest_here()
    return Finished(folder.path, analysis, page, executed.problems, executed.tally.counts)


def run_shard(
    prepared: Prepared,
    shard: Shard,
    results: Path,
    *,
    command: Sequence[str],
    progress: Callable[[int], None],
    fresh: bool = False,
    selection: Selection = Selection(),
    overrides: Sequence[str] = (),
    loaded: Loaded | None = None,
    retry: bool = False,
    told: Callable[[Standing], None] = lambda standing: None,
    engine: Engine | None = None,
) -> FinishedShard:
    """Execute one shard of a plan, in a run folder of its own that has tables but no verdicts.

    Nothing is taken from other runs: what they know would change the batches, and of each shard others. `overrides` and
    `selection` are what `prepared` was made with; its merging makes it again.
    """
    from steer.execution.execute import execute
    from steer.execution.folder import now, open_folder
    from steer.execution.manifest import outputs
    from steer.execution.reuse import begin

    experiment, share = prepared.experiment, share_of(prepared, shard)
    notes = gate_notes(experiment)
    session, whole = opened(prepared, loaded)
    part = {"index": shard.index, "of": shard.of, "whole": whole, "cut": share.cut}
    part |= {"set": list(overrides), "selection": asdict(selection)}
    identity = f"{whole} {shard} {share.cut}"
    base = {**asked(prepared, identity, command, selection, notes), "partial": True, "shard": part}
    with open_folder(results, experiment.spec.name, identity, experiment.hash, fresh, retry) as folder, settled():
        told(begin(share.plan, session, folder, results, retry, alone=True))
        executed = execute(share.plan, session, folder, base, progress, retry, _runner(engine, prepared), share)
        status = "failed" if executed.problems else "complete"
        manifest = {**executed.manifest, "status": status, "problems": list(executed.problems), "finished": now()}
        manifest["shard"] = {**part, "calls": executed.tally.calls}
        folder.write_manifest({**manifest, "outputs": outputs(folder.path)})
        return FinishedShard(shard, folder.path, executed.problems, executed.tally.counts)


def _runner(engine: Engine | None, prepared: Prepared) -> Runner:
    from steer.execution.execute import run_here

    if engine is None:
        return run_here
    plan = prepared.plan
    frozen = [trial for trial in plan.trials if trial.setup.freeze_attention]
    few = replace(plan, trials=tuple((frozen or plan.trials)[:1]))  # all that a session depends on, of maybe millions
    return engine(partial(reopened, prepared.experiment, few, prepared.shortcuts))


def reopened(experiment: Experiment, plan: Plan, shortcuts: bool, loaded: Loaded) -> Session:
    """The session of an experiment in another process, which lets go of the models of those before it."""
    from steer.execution.execute import open_session
    from steer.execution.loaded import weights

    loaded.keep({weights(experiment, plan)})
    return open_session(experiment, plan, transcoder_folder(experiment), loaded, shortcuts)


def opened(prepared: Prepared, loaded: Loaded | None) -> tuple[Session, str]:
    """The model and transcoder of a plan, every row of which can be made, and the identity of its run."""
    experiment, plan = prepared.experiment, prepared.plan
    folder, stated = transcoder_folder(experiment), experiment.spec.transcoder
    digests.begin(layout(folder, stated.format, stated.reads, stated.writes).files)  # while all else is loaded
    with paused():
        from steer.execution.execute import check_rows, identity, open_session
        from steer.execution.loaded import Loaded

        session = open_session(experiment, plan, folder, loaded or Loaded(), prepared.shortcuts)
    check_rows(session, plan)
    return session, identity(experiment.hash, plan, session.environment, prepared.shortcuts)


def asked(
    prepared: Prepared, identity: str, command: Sequence[str], selection: Selection, notes: Sequence[str]
) -> dict[str, Any]:
    """What the manifest says before anything has run."""
    from steer.execution import provenance
    from steer.execution.manifest import SCHEMA

    experiment = prepared.experiment
    return {
        "schema": SCHEMA,
        "experiment": experiment.resolved,
        "experiment_path": str(experiment.path),
        "experiment_hash": experiment.hash,
        "identity": identity,
        "question": experiment.question,
        "command": list(command),
        "git": provenance.git(experiment.path.parent),
        "seeds": list(experiment.spec.seeds),
        "partial": selection.partial,
        "shortcuts": prepared.shortcuts,
        "warnings": [*(warning.message for warning in prepared.warnings), *prepared.notes, *notes],
    }


def foresee(prepared: Prepared, results: Path, fresh: bool, retry: bool, loaded: Loaded | None = None) -> Standing:
    """How much of a plan is cached, and why the rest would run; nothing is written. The model is loaded."""
    from steer.execution import reuse
    from steer.execution.folder import resumable

    experiment = prepared.experiment
    session, wanted = opened(prepared, loaded)
    home = results / experiment.spec.name
    resumed = None if fresh else resumable(home, wanted, experiment.hash, retry)
    return reuse.foresee(prepared.plan, session, results, resumed, fresh, retry)


def ended(prepared: Prepared, finished: Finished | FinishedShard, seconds: float) -> Ended:
    """A run that came to its end, for the summary of several."""
    experiment = prepared.experiment
    if isinstance(finished, FinishedShard):
        name, problems = f"{experiment.spec.name} {finished.shard}", finished.problems
        return Ended(name, experiment.path, problems=problems, page=finished.folder, seconds=seconds, shard=True)
    return Ended(
        name=experiment.spec.name,
        path=experiment.path,
        verdicts=finished.analysis.verdicts,
        lines=expectation_lines(experiment),
        problems=finished.problems,
        page=finished.report,
        seconds=seconds,
    )


def expectation_lines(experiment: Experiment) -> dict[str, int]:
    """Where the expectations stand in the file, by id."""
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
