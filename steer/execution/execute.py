"""A plan is executed: what is missing in the journal runs, batch by batch, and the tables are written."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from steer.errors import ModelError, RunError, SpecError, UsageError
from steer.execution import provenance
from steer.execution.batch_run import Baselines, BatchResult, Session
from steer.execution.batches import Batch, cut
from steer.execution.folder import RunFolder, now, peak_memory
from steer.execution.journal import Journal
from steer.execution.loaded import Loaded, weights
from steer.execution.memory import run_in_memory, trim
from steer.execution.outcome import Outcome
from steer.execution.passes import Engine
from steer.execution.shards import Share
from steer.execution.tables import write_tables
from steer.execution.trial_key import Environment
from steer.execution.unedited import DirectionTexts, Unedited
from steer.experiment.load import Experiment
from steer.experiment.rows import texts_of
from steer.experiment.trial import Plan, Trial
from steer.intervention.records import Applied
from steer.intervention.rows import Resolver, named_features
from steer.model.generation import Sampling
from steer.model.hashes import model_hash
from steer.model.language_model import LanguageModel
from steer.model.tokens import Encoded
from steer.transcoder.transcoder import Transcoders

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
"""What decides which tokens a text is, and where a completion stops."""
TRIM_EVERY = 4  # batches
Progress = Callable[[int], None]
"""Told how many trials have just finished."""
Parts = Iterator[tuple[Batch, BatchResult]]
Runner = Callable[[Sequence[Batch], Session, Baselines], Parts]
"""Runs batches, in any order and each once, whole or as parts of it; who takes a part adds its baselines to the given
ones before asking for the next."""


def run_here(batches: Sequence[Batch], session: Session, baselines: Baselines) -> Parts:
    """The batches in their order, in this process."""
    for number, batch in enumerate(batches, 1):
        yield from run_in_memory(batch, session, baselines)
        if number % TRIM_EVERY == 0:
            trim()


@dataclass
class Tally:
    """What the trials of a run came to."""

    planned: int
    cached: int = 0
    run: int = 0
    failed: int = 0
    halved: int = 0
    taken_from: Counter[str] = field(default_factory=Counter)
    expected: set[str] = field(default_factory=set)
    fired: Counter[str] = field(default_factory=Counter)
    acted: Counter[str] = field(default_factory=Counter)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        return {"planned": self.planned, "cached": self.cached, "run": self.run, "failed": self.failed}

    @property
    def calls(self) -> dict[str, int]:
        """How often each hook fired that was planned."""
        return {name: self.fired[name] for name in sorted(self.expected)}

    def failures(self, plan: Plan) -> list[str]:
        """Why trials failed, in plan order and each reason once."""
        return list(dict.fromkeys(self.errors[trial.id] for trial in plan.trials if trial.id in self.errors))


@dataclass(frozen=True)
class Executed:
    """A run whose tables are written: its tally, what stands against calling it complete, and its manifest so far."""

    tally: Tally
    problems: tuple[str, ...]
    manifest: dict[str, Any]


def open_session(
    experiment: Experiment, plan: Plan, transcoder: Path, loaded: Loaded, shortcuts: bool = True
) -> Session:
    """Model and transcoders, loaded where they are not yet, and the prompts' tokens.

    ModelError, TranscoderError, RunError.
    """
    spec, wanted = experiment.spec, weights(experiment, plan)
    model, transcoders = loaded.model(wanted), loaded.transcoders(transcoder, spec.transcoder, wanted)
    require_pair(model, transcoders)
    encoded = {prompt.id: model.tokens.encode(prompt.text) for prompt in plan.prompts}
    _check_context(model, encoded, experiment.spec.generation.max_new_tokens if experiment.spec.generation else 0)
    unedited = Unedited(
        model,
        transcoders,
        {prompt.id: prompt for prompt in plan.prompts},
        {name: _direction_texts(experiment, name) for name in spec.directions},
        {use: experiment.path.parent / use for use in _direction_files(experiment)},
    )
    return Session(
        engine=Engine(model, transcoders, shortcuts),
        resolver=Resolver(
            experiment.features,
            tuple(spec.directions),
            named_features([experiment.resolved, [dict(row.columns) for row in experiment.rows]]),
            transcoders,
            unedited,
        ),
        encoded=encoded,
        sampling=sampling(experiment),
        environment=_environment(model, transcoders, spec.model.dtype, wanted.patterns),
    )


def require_pair(model: LanguageModel, transcoders: Transcoders) -> None:
    """RunError, ModelError unless they fit, and the model has the points where the transcoder reads and writes."""
    if not transcoders.fits(model.n_layers, model.d_model):
        raise RunError(
            f"transcoder {transcoders.name} ({transcoders.n_layers} layers of width {transcoders.d_model}) does not fit"
            f" model {model.name} ({model.n_layers} layers of width {model.d_model})"
        )
    for layer in transcoders.layers:
        for point in {transcoders.reads, transcoders.writes, transcoders.mlp_out}:
            model.point(f"blocks.{layer}.{point}")


def _check_context(model: LanguageModel, encoded: Mapping[str, Encoded], new_tokens: int) -> None:
    """Past its context some architectures fail and others go on with nonsense."""
    lengths = {id: len(one.ids) for id, one in encoded.items() if len(one.ids) + new_tokens > model.n_ctx}
    if lengths:
        named = ", ".join(f"{id} ({length} tokens)" for id, length in list(lengths.items())[:5])
        more = f" and {len(lengths) - 5} more" if len(lengths) > 5 else ""
        raise ModelError(
            f"too long for {model.name}, which reads {model.n_ctx} tokens, {new_tokens} of them for what is generated:"
            f" prompts {named}{more}"
        )


def sampling(experiment: Experiment) -> Sampling | None:
    """The file's `generation:` block."""
    stated = experiment.spec.generation
    if stated is None:
        return None
    stop = (stated.stop,) if isinstance(stated.stop, str) else stated.stop
    return Sampling(stated.max_new_tokens, stated.temperature, stated.top_p, stated.repetition_penalty, tuple(stop))


def check_rows(session: Session, plan: Plan) -> None:
    """Resolve every condition and kind of control on every prompt once: what cannot be done is said before all else.

    UsageError for what no trial of a condition can do; what fails on some prompts only is left to its trials.
    """
    failed: dict[tuple[str, str], list[str]] = {}
    seen: Counter[tuple[str, str]] = Counter()
    done: set[tuple[str, str, str]] = set()
    for trial in plan.trials:
        kind = trial.condition, trial.control
        if (trial.prompt.id, *kind) in done and trial.control != "none":
            continue
        done.add((trial.prompt.id, *kind))
        seen[kind] += 1
        try:
            session.row(trial)
        except RunError as error:
            failed.setdefault(kind, []).append(str(error))
    hopeless = [f"{kind[0]}, {kind[1]}: {why[0]}" for kind, why in failed.items() if len(why) == seen[kind]]
    if hopeless:
        raise UsageError("; ".join(hopeless))


def identity(experiment_hash: str, plan: Plan, environment: Environment, shortcuts: bool) -> str:
    """64 hex digits: runs that share it would write the same tables, so one can go on where another stopped."""
    return _digest([experiment_hash, [trial.id for trial in plan.trials], asdict(environment), shortcuts])


def execute(
    plan: Plan,
    session: Session,
    folder: RunFolder,
    base: Mapping[str, Any],
    progress: Progress,
    retry: bool = False,
    runner: Runner = run_here,
    share: Share | None = None,
) -> Executed:
    """Run what is missing in the journal (with `retry` also what failed) and write the tables.

    `share` says which batches those of a shard's plan are. An interruption leaves the journal and status `interrupted`.
    """
    started = time.perf_counter()
    before = folder.manifest()
    manifest = {**base, **_described(session, plan), "status": "started", "run_id": folder.run_id}
    manifest |= {"created": before["created"], "fresh": before["fresh"]}
    folder.write_manifest(manifest)
    try:
        with Journal(folder.journal) as journal:
            work = _Work(plan, session, journal, progress, retry, Tally(planned=len(plan.trials)))
            tally = work.done(runner, share)
            ran = time.perf_counter()
            rows = write_tables(folder.path, plan, journal, session.encoded, session.engine.model.tokens)
    except KeyboardInterrupt:
        folder.write_manifest({**manifest, "status": "interrupted", "finished": now()})
        raise
    if journal.damaged:
        ran_again = f"{journal.damaged} lines of the journal were damaged; what they said was run again"
        manifest["warnings"] = [*manifest["warnings"], ran_again]
    manifest |= {
        "counts": tally.counts,
        "taken_from": dict(tally.taken_from),
        "halved_batches": tally.halved,
        "hooks": {"expected": len(tally.calls), "fired": sum(map(bool, tally.calls.values()))},
        "tables": rows,
        "peak_memory_bytes": peak_memory(),
        "timings": {"trials_s": round(ran - started, 3), "tables_s": round(time.perf_counter() - ran, 3)},
    }
    return Executed(tally, tuple(tally.failures(plan) if share else problems(plan, tally)), manifest)


@dataclass
class _Work:
    """A run under way: what its journal has, and what is still to do."""

    plan: Plan
    session: Session
    journal: Journal
    progress: Progress
    retry: bool
    tally: Tally
    baselines: Baselines = field(default_factory=dict)

    def done(self, runner: Runner, share: Share | None) -> Tally:
        """What was taken over from other runs first, then what the journal has, then the batches of all the rest."""
        taken = [trial for trial in self.plan.trials if self._is_taken_over(trial)]
        self._recall(taken)
        self.tally.cached = len(taken)
        self.progress(len(taken))
        for where in share.lacking if share else ():
            self.baselines[where] = Outcome.failed("", "its trials are another shard's")
        todo = list(self._missing(self._cut() if share is None else share.batches))
        self._run(todo, runner)
        return self.tally

    def _cut(self) -> Iterator[Batch]:
        lengths = {name: len(encoded.ids) for name, encoded in self.session.encoded.items()}
        new_tokens = self.session.sampling.max_new_tokens if self.session.sampling else 0
        return cut([t for t in self.plan.trials if not self._is_taken_over(t)], lengths, new_tokens)

    def _missing(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches of which a trial is to run: whole, so that shape and numbers are those of a run at one go."""
        for batch in batches:
            ours = self._ours(batch)
            missing = sum(map(self._is_missing, ours))
            self.tally.cached += len(ours) - missing
            self.tally.run += missing
            if missing:
                yield batch
            else:
                self._recall(ours)
                self.progress(len(ours))

    def _run(self, todo: Sequence[Batch], runner: Runner) -> None:
        sizes = {batch.trials[0].id: len(batch.trials) for batch in todo}
        for part, result in runner(todo, self.session, self.baselines):
            self.tally.halved += len(part.trials) < sizes.get(part.trials[0].id, 0)
            self.tally.expected |= result.expected
            self.tally.fired.update(result.fired)
            self._take(part, result)
            self.progress(len(self._ours(part)))

    def _take(self, part: Batch, result: BatchResult) -> None:
        """Into the journal what it does not have; a trial that is another shard's counts as a baseline at most."""
        for trial, outcome in zip(part.trials, result.outcomes, strict=True):
            if self._is_missing(trial):
                self.journal.append(outcome.record())
                self.baselines |= noted(trial, outcome, self.tally)
            elif trial.id in self._ids:
                self._recall([trial])
            elif trial.condition == "baseline":
                self.baselines[trial.prompt.id, trial.seed] = _slim(outcome)

    def _recall(self, trials: Sequence[Trial]) -> None:
        self.baselines |= recall(trials, self.journal, self.tally)

    def _ours(self, batch: Batch) -> list[Trial]:
        return [trial for trial in batch.trials if trial.id in self._ids]

    @cached_property
    def _ids(self) -> frozenset[str]:
        return frozenset(trial.id for trial in self.plan.trials)

    def _is_taken_over(self, trial: Trial) -> bool:
        return trial.id in self.journal.entries and self.journal.entries[trial.id].origin != ""

    def _is_missing(self, trial: Trial) -> bool:
        entry = self.journal.entries.get(trial.id)
        return trial.id in self._ids and (entry is None or (self.retry and entry.status == "failed"))


def recall(trials: Sequence[Trial], journal: Journal, tally: Tally) -> Baselines:
    """Count what the journal says of trials; gives back the baselines among them."""
    found: Baselines = {}
    for trial, record in zip(trials, journal.read_all(trial.id for trial in trials), strict=True):
        found |= noted(trial, Outcome.of(record), tally)
    return found


def noted(trial: Trial, outcome: Outcome, tally: Tally) -> Baselines:
    """Count an outcome; gives it back if others are compared with it."""
    if outcome.origin:
        tally.taken_from[outcome.origin] += 1
    if outcome.status == "failed":
        tally.failed += 1
        tally.errors[trial.id] = f"trial {trial.id} ({trial.condition}, {trial.control}): {outcome.error}"
    elif trial.control == "none":
        tally.acted[trial.condition] += outcome.applied.pairs
    return {(trial.prompt.id, trial.seed): _slim(outcome)} if trial.condition == "baseline" else {}


def _slim(outcome: Outcome) -> Outcome:
    return replace(outcome, applied=Applied(0, 0.0, ()), shifts=())


def problems(plan: Plan, tally: Tally) -> list[str]:
    """What stands against calling a whole run complete."""
    problems = tally.failures(plan)
    problems += [f"hook {name} was planned and never called" for name, count in tally.calls.items() if not count]
    conditions = {t.condition: t.setup.allow_silent for t in plan.trials if t.condition != "baseline"}
    for condition, allowed in conditions.items():
        if not allowed and tally.acted[condition] == 0 and tally.planned > tally.failed:
            problems.append(
                f"condition {condition} changed nothing in any of its trials; an edit that does nothing shows no null"
                " result (`allow_silent: true` accepts it)"
            )
    return problems


def _described(session: Session, plan: Plan) -> dict[str, Any]:
    model, transcoders = session.engine.model, session.engine.transcoders
    return {
        "axes": list(plan.axes),
        "columns": list(plan.columns),
        "device": str(model.device),
        "dtype": session.environment.dtype,
        "model": {
            "id": model.name,
            "hash": session.environment.model,
            "layers": model.n_layers,
            **provenance.hub_commit(model.folder),
        },
        "transcoder": {
            "id": transcoders.name,
            "hash": session.environment.transcoder,
            "statistics": session.environment.statistics,
            "reads": transcoders.reads,
            "writes": transcoders.writes,
            **provenance.hub_commit(transcoders.layout.files[0]),
        },
        "packages": provenance.packages(),
        "machine": provenance.machine(torch.get_num_threads()),
        "environment": _digest(asdict(session.environment)),
    }


def _environment(model: LanguageModel, transcoders: Transcoders, dtype: str, patterns: bool) -> Environment:
    return Environment(
        model=_model_hash(model),
        tokenizer=_digest(_hashes(model, *TOKENIZER_FILES)),
        transcoder=transcoders.weight_hash(),
        statistics=transcoders.statistics_hash(),
        dtype=dtype,
        attention="hooked" if patterns else "sdpa",
        device=f"{model.device}, {provenance.arithmetic(model.device.type)}",
        packages=provenance.numeric_packages(),
    )


def _model_hash(model: LanguageModel) -> str:
    assert model.folder is not None
    return model_hash(model.folder)


def _hashes(model: LanguageModel, *names: str) -> list[str | None]:
    """Of the files beside a loaded model's weights; None for one that is not there."""
    assert model.folder is not None
    paths = [model.folder / name for name in names]
    return [provenance.file_hash(path) if path.is_file() else None for path in paths]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _direction_texts(experiment: Experiment, name: str) -> DirectionTexts:
    stated = experiment.spec.directions[name]
    sides = []
    for side in ("positive", "negative"):
        place = experiment.source.place(("directions", name, side, "file"))
        found, problems = texts_of(getattr(stated, side).file, place, experiment.source, experiment.root)
        if problems:
            raise SpecError(tuple(problems))
        sides.append(found)
    return DirectionTexts(stated.layer, stated.position, *sides)


def _direction_files(experiment: Experiment) -> set[str]:
    """Files that `steer` takes a vector from."""
    return {
        op.direction.file
        for condition in experiment.spec.conditions.values()
        for op in condition.interventions
        if op.op == "steer" and not isinstance(op.direction, str)
    }
