"""A batch of trials becomes outcomes: the same prompts without and with the interventions, and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from steer.errors import RunError
from steer.execution.batches import Batch
from steer.execution.outcome import Outcome, PlacedShift
from steer.execution.passes import Engine, Ids, Known, Steered, Text, edited_pass, steered_pass, unedited_pass
from steer.execution.readings import named_tokens, reading_of
from steer.execution.trial_key import Environment, TrialKey, trial_key
from steer.experiment.spec import FeatureActivation, GroupActivation, Measurement
from steer.experiment.trial import Trial
from steer.intervention.records import Applied, applied
from steer.intervention.rows import Resolver, Row, members_of
from steer.intervention.slots import Layout
from steer.intervention.watch import Feature, Watch
from steer.measurement.logits import kl_per_token
from steer.measurement.measure import Measured, Needs, Side, measure, needs
from steer.measurement.shifts import logit_shifts
from steer.model.devices import readable
from steer.model.generation import Completion, Sampling, overflowed
from steer.model.tokens import Encoded

LOGITS = 2**26  # numbers of teacher-forced logits held at a time (256 MB)


@dataclass
class Memory:
    """What is known of the last batch's prompts: a prompt of many trials is not run again for each of its batches.

    Only a batch of the very same prompts at the same width takes it over, so that the numbers of a batch do not depend
    on which ran before it.
    """

    asked: object = None
    known: Known | None = None

    def recall(self, asked: object, find: Callable[[], Known]) -> Known:
        if self.known is None or self.asked != asked:
            self.known = None  # not both in memory
            self.asked, self.known = asked, find()
        return self.known


@dataclass(frozen=True)
class Session:
    """What every batch of a run shares."""

    engine: Engine
    resolver: Resolver
    encoded: Mapping[str, Encoded]
    sampling: Sampling | None
    environment: Environment
    memory: Memory = field(default_factory=Memory)

    def pieces(self, word: str) -> Ids:
        return tuple(self.engine.model.tokens.pieces(word))

    def row(self, trial: Trial) -> Row:
        """What is done in a trial; RunError where it cannot be done."""
        return self.resolver.row(trial, self.encoded[trial.prompt.id])

    def key(self, trial: Trial, row: Row) -> TrialKey:
        """What a trial means."""
        reading = reading_of(trial, self.encoded[trial.prompt.id])
        groups = self.resolver.groups
        return trial_key(trial, row, reading, self.environment, self.sampling, self.pieces, groups)


Baselines = dict[tuple[str, int], Outcome]
"""Baseline outcomes by prompt and seed: what completions are compared with."""


@dataclass(frozen=True)
class BatchResult:
    """Outcomes in the batch's order, and how often each planned hook fired."""

    outcomes: tuple[Outcome, ...]
    fired: Mapping[str, int]
    expected: frozenset[str]


def run_batch(batch: Batch, session: Session, baselines: Baselines) -> BatchResult:
    """Run a batch; baselines found in it are added to `baselines`. A trial that cannot be resolved fails alone."""
    rows, failed = _resolved(batch.trials, session)
    trials = [trial for trial in batch.trials if trial.id not in failed]
    if not trials:
        return BatchResult(tuple(failed[trial.id] for trial in batch.trials), {}, frozenset())
    run = _BatchRun(trials, rows, session)
    done = {outcome.trial_id: outcome for outcome in run.outcomes(baselines)}
    editing = run.steered.editing
    outcomes = tuple((done | failed)[trial.id] for trial in batch.trials)
    return BatchResult(outcomes, dict(editing.fired), frozenset(editing.planned))


def _resolved(trials: Sequence[Trial], session: Session) -> tuple[list[Row], dict[str, Outcome]]:
    rows, failed = [], {}
    for trial in trials:
        try:
            rows.append(session.row(trial))
        except RunError as error:
            failed[trial.id] = Outcome.failed(trial.id, str(error))
    return rows, failed


class _BatchRun:
    """One batch under way; everything is computed once, when it is first asked for."""

    def __init__(self, trials: Sequence[Trial], rows: Sequence[Row], session: Session) -> None:
        self.trials, self.rows, self.session = trials, rows, session
        self.engine, self.device = session.engine, session.engine.model.device
        self.ids = [session.encoded[trial.prompt.id].ids for trial in trials]
        self.text = self._text(self.ids, [()] * len(trials))
        self.prompts = list(dict.fromkeys(trial.prompt.id for trial in trials))
        self.prompt_of = [self.prompts.index(trial.prompt.id) for trial in trials]
        self.first = [next(b for b, t in enumerate(trials) if t.prompt.id == prompt) for prompt in self.prompts]
        self.readings = [reading_of(trial, session.encoded[trial.prompt.id]) for trial in trials]
        self.columns = sorted({self.text.layout.width - 1, *self._logit_columns()})

    def outcomes(self, baselines: Baselines) -> Iterator[Outcome]:
        """One for each trial, baselines before the trials that are compared with them."""
        done = applied(self.rows, self.steered.editing.records, self.steered.editing.layout)
        kls = None
        for b, trial in enumerate(self.trials):
            if trial.condition == "baseline":
                outcome = self._outcome(b, done[b], baselines, None)
                baselines[trial.prompt.id, trial.seed] = outcome
                yield outcome
        for b, trial in enumerate(self.trials):
            if trial.condition != "baseline":
                kls = self._completion_kls(baselines) if kls is None else kls
                base = self._baseline(trial, baselines)
                yield (
                    self._failed(b, f"its baseline failed: {base.error}")
                    if base.status == "failed"
                    else self._outcome(b, done[b], baselines, kls[b])
                )

    # --- passes -----------------------------------------------------------------------------------------------

    @cached_property
    def known(self) -> Known:
        """What the unedited model does on the prompts, one row a prompt, padded as the batch is."""
        prompts = tuple(self.ids[b] for b in self.first)
        wanted, features = self.engine.wanted(self.rows), self.watched.features
        asked = (prompts, self.text.layout.width, tuple(self.columns), wanted, features)
        return self.session.memory.recall(asked, self._look)

    def _look(self) -> Known:
        lengths = tuple(self.text.layout.lengths[b] for b in self.first)
        layout = Layout(lengths, self.text.layout.width, self.text.layout.width)
        text = Text(self.text.ids[self.first], self.text.mask[self.first], layout)
        return unedited_pass(self.engine, text, self.rows, self.watched_unedited, self.columns)

    @cached_property
    def steered(self) -> Steered:
        """The batch under its edits."""
        return steered_pass(
            self.engine,
            self.ids,
            self.text,
            self.prompt_of,
            self.known,
            self.rows,
            self.watched,
            self.session.sampling,
            [trial.seed for trial in self.trials],
        )

    @cached_property
    def watched(self) -> Watch:
        steps = 0 if self.session.sampling is None else self.session.sampling.max_new_tokens
        return self._watch(len(self.trials), self.text.layout.width + steps)

    @cached_property
    def watched_unedited(self) -> Watch:
        return self._watch(len(self.prompts), self.text.layout.width)

    def _watch(self, batch: int, total: int) -> Watch:
        features = {f for t in self.trials for m in t.measurements.values() for f in self._watched_features(m)}
        watch = Watch(features, self.engine.transcoders, batch, total, self.device)
        watch.at(slice(0, self.text.layout.width))
        return watch

    @cached_property
    def nlls(self) -> list[float | None]:
        """Mean negative log-likelihood a token of each completion under the unedited model; None where empty."""
        assert self.steered.completions is not None
        said = [completion.ids for completion in self.steered.completions]
        found: list[float | None] = []
        for chunk in self._chunks(said):
            logits = self._forced(chunk, said)
            for row, b in enumerate(chunk):
                n = len(said[b])
                logp = readable(logits[row, :n]).double().log_softmax(-1)
                target = torch.tensor(said[b], device=logp.device)
                found.append(None if n == 0 else -float(logp.gather(-1, target[:, None]).mean()))
        return found

    def _completion_kls(self, baselines: Baselines) -> list[float | None]:
        """KL(intervened || baseline) a token along the baseline's completion, for the trials that measure it."""
        asking = [any(needs(m).completion_kl for m in trial.measurements.values()) for trial in self.trials]
        found: list[float | None] = [None] * len(self.trials)
        if not any(asking):
            return found
        said = [self._baseline(trial, baselines).completion for trial in self.trials]
        ids = [() if one is None else one.ids for one in said]
        for chunk in self._chunks([i if ask else () for i, ask in zip(ids, asking, strict=True)]):
            for row, (edited, unedited) in enumerate(self._forced_pair(chunk, ids)):
                b = chunk[row]
                n = len(ids[b])
                if asking[b] and n:
                    found[b] = float(kl_per_token(readable(edited[:n]), readable(unedited[:n])).mean())
        return found

    def _forced(self, chunk: Sequence[int], said: Sequence[Ids]) -> Float[Tensor, "chunk n d_vocab"]:
        """Logits of the unedited model before each token of given text behind the prompts."""
        text = self._text([self.ids[b] for b in chunk], [said[b] for b in chunk])
        return unedited_pass(self.engine, text, (), self._unwatched, self._forced_columns(text)).logits

    def _forced_pair(self, chunk: Sequence[int], said: Sequence[Ids]) -> list[tuple[Tensor, Tensor]]:
        """The same under each row's edits, and without: the texts of rows that share prompt and seed run once."""
        texts = [(self.ids[b], said[b]) for b in chunk]
        distinct = list(dict.fromkeys(texts))
        text_of = [distinct.index(text) for text in texts]
        once, text = (self._text(*zip(*some, strict=True)) for some in (distinct, texts))
        rows = [self.rows[b] for b in chunk]
        known = unedited_pass(self.engine, once, rows, self._unwatched, self._forced_columns(text))
        edited = edited_pass(self.engine, text, text_of, known, rows)
        return list(zip(edited, known.logits[text_of], strict=True))

    @property
    def _unwatched(self) -> Watch:
        return Watch((), self.engine.transcoders, 0, 0, self.device)

    def _forced_columns(self, text: Text) -> range:
        return range(text.layout.width - 1, max(text.layout.total - 1, text.layout.width))

    def _chunks(self, said: Sequence[Ids]) -> list[list[int]]:
        longest = max(1, *map(len, said)) if said else 1
        size = max(1, LOGITS // (longest * self.engine.model.d_vocab))
        return [list(range(start, min(start + size, len(said)))) for start in range(0, len(said), size)]

    def _text(self, prompts: Sequence[Ids], behind: Sequence[Ids]) -> Text:
        return Text.of(prompts, behind, self.engine.model.tokens.pad_id, self.device)

    # --- measuring --------------------------------------------------------------------------------------------

    def _outcome(self, b: int, done: Applied, baselines: Baselines, kl: float | None) -> Outcome:
        trial = self.trials[b]
        completion = None if self.steered.completions is None else self.steered.completions[b]
        nll = self.nlls[b] if any(needs(m).nll for m in trial.measurements.values()) else None
        own = _Said(completion, nll, kl, {})
        base = own if trial.condition == "baseline" else _Said.of(self._baseline(trial, baselines))
        if overflow := self._overflow(b, done):
            return self._failed(b, overflow)
        try:
            values = {name: self._measured(b, name, own, base) for name in trial.measurements}
        except RunError as error:
            return self._failed(b, str(error))
        key = self.session.key(trial, self.rows[b])
        return Outcome(trial.id, key, "ok", done, values, completion, nll, tuple(self._shifts(b)))

    def _failed(self, b: int, reason: str) -> Outcome:
        return Outcome.failed(self.trials[b].id, reason, self.session.key(self.trials[b], self.rows[b]))

    def _overflow(self, b: int, done: Applied) -> str:
        """What is no longer a number, in words; empty where everything is one."""
        if not done.finite:
            return "an edit overflowed: activations or residual stream are no longer finite"
        said = self.steered.completions[b].stop_reason if self.steered.completions else ""
        last = self._logits_at(b, [len(self.ids[b]) - 1], edited=True)
        if said != "overflow" and not bool(overflowed(last)):
            return ""
        model = self.engine.model
        dtype = str(model.dtype).removeprefix("torch.")
        who = f"{model.name} overflowed" if self.trials[b].condition == "baseline" else "the edited model overflowed"
        return f"{who}: its logits are no longer finite ({dtype} ends at {torch.finfo(model.dtype).max:.3g})"

    def _measured(self, b: int, name: str, own: _Said, base: _Said) -> Measured:
        measurement = self.trials[b].measurements[name]
        needed = needs(measurement)
        intervened = self._side(b, measurement, needed, own, edited=True)
        if self.trials[b].condition == "baseline":
            return measure(measurement, intervened, intervened, self.session.pieces)
        if self._reads_generated(b, measurement):  # the baseline's own text: not the same tokens, so taken from there
            alone = measure(measurement, intervened, intervened, self.session.pieces)
            return Measured(base.values[name].intervened if name in base.values else None, alone.intervened)
        unedited = self._side(b, measurement, needed, base, edited=False)
        return measure(measurement, intervened, unedited, self.session.pieces)

    def _side(self, b: int, measurement: Measurement, needed: Needs, said: _Said, edited: bool) -> Side:
        at = self._positions(b, measurement)
        return Side(
            logits=self._logits_at(b, at, edited) if needed.logits else None,
            activations=self._activations_at(b, measurement, at, edited) if needed.activations else None,
            completion=said.completion,
            nll=said.nll,
            completion_kl=said.kl,
        )

    def _logits_at(self, b: int, positions: Sequence[int], edited: bool) -> Float[Tensor, "n d_vocab"]:
        columns = [self.columns.index(self.text.layout.column(b, p)) for p in positions]
        return readable((self.steered.logits[b] if edited else self.known.logits[self.prompt_of[b]])[columns])

    def _activations_at(
        self, b: int, measurement: Measurement, positions: Sequence[int], edited: bool
    ) -> Float[Tensor, "n members"]:
        columns = [self.text.layout.column(b, position) for position in positions]
        features = self._watched_features(measurement)
        if edited:
            seen = readable(self.watched.of(b, columns, features))
            return seen[~seen.isnan().any(-1)]  # the last token that is generated is never read
        return readable(self.known.watch.of(self.prompt_of[b], columns, features))

    def _shifts(self, b: int) -> Iterator[PlacedShift]:
        """The measured positions and the last, with their named targets; controls only these."""
        trial = self.trials[b]
        named = named_tokens(trial, self.readings[b], self.session.pieces)
        for position, tokens in named.items():
            before, after = (self._logits_at(b, [position], edited)[0] for edited in (False, True))
            for shift in logit_shifts(before, after, tokens, everything=trial.control == "none"):
                yield PlacedShift(position, shift)

    # --- positions --------------------------------------------------------------------------------------------

    def _positions(self, b: int, measurement: Measurement) -> tuple[int, ...]:
        places = self.readings[b].of(measurement)
        if places is None:
            return ()
        beyond = range(len(self.ids[b]), self.watched.columns_in_all - self.text.layout.column(b, 0))
        return (*places.prompt, *(position for position in beyond if position in places))

    def _reads_generated(self, b: int, measurement: Measurement) -> bool:
        places = self.readings[b].of(measurement)
        return needs(measurement).activations and places is not None and places.beyond_prompt

    def _logit_columns(self) -> Iterator[int]:
        for b, trial in enumerate(self.trials):
            for measurement in trial.measurements.values():
                if needs(measurement).logits:
                    yield from (self.text.layout.column(b, p) for p in self._positions(b, measurement))

    def _watched_features(self, measurement: Measurement) -> list[Feature]:
        if not isinstance(measurement, FeatureActivation | GroupActivation):
            return []
        return [(m.layer, m.index) for m in members_of(measurement.feature, self.session.resolver.groups)]

    def _baseline(self, trial: Trial, baselines: Baselines) -> Outcome:
        return baselines[trial.prompt.id, trial.seed]


@dataclass(frozen=True)
class _Said:
    """The generated side of a trial."""

    completion: Completion | None
    nll: float | None
    kl: float | None
    values: Mapping[str, Measured]

    @classmethod
    def of(cls, outcome: Outcome) -> _Said:
        return cls(outcome.completion, outcome.nll, 0.0, outcome.values)
