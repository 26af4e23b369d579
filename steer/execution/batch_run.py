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
from steer.execution.passes import Engine, Ids, Known, Text, edited_pass, unedited_pass
from steer.execution.readings import Reading, named_tokens, reading_of
from steer.execution.steered import Steered, steered_pass
from steer.execution.trial_key import Environment, Keys, TrialKey
from steer.experiment.spec import FeatureActivation, GroupActivation, Measurement
from steer.experiment.trial import Trial
from steer.intervention.records import Applied, applied
from steer.intervention.rows import Resolver, Row, members_of
from steer.intervention.slots import Layout
from steer.intervention.watch import Feature, Watch
from steer.measurement.logits import kl_per_token
from steer.measurement.measure import Measured, Side, measure, measure_rows, needs
from steer.measurement.shifts import Shift, logit_shifts
from steer.model.devices import readable
from steer.model.generation import Completion, Sampling, overflowed
from steer.model.tokens import Encoded

LOGITS = 2**26  # numbers of teacher-forced logits held at a time (256 MB)
MEASURED = 2**20  # numbers that are measured at a time, a few times in float64 (8 MB each)


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
    # Worked out once for all trials that measure the same on a prompt.
    readings: dict[tuple[str, int], Reading] = field(default_factory=dict)

    def pieces(self, word: str) -> Ids:
        return tuple(self.engine.model.tokens.pieces(word))

    def row(self, trial: Trial) -> Row:
        """What is done in a trial; RunError where it cannot be done."""
        return self.resolver.row(trial, self.encoded[trial.prompt.id])

    def key(self, trial: Trial, row: Row) -> TrialKey:
        """What a trial means."""
        return self._keys.of(trial, row, self.reading(trial))

    def reading(self, trial: Trial) -> Reading:
        """Where a trial's measurements read; MeasurementPositionError, PositionError."""
        shared = trial.prompt.id, id(trial.measurements)  # no other's: the reading keeps them
        if shared not in self.readings:
            self.readings[shared] = reading_of(trial, self.encoded[trial.prompt.id])
        return self.readings[shared]

    @cached_property
    def _keys(self) -> Keys:
        return Keys(self.environment, self.sampling, self.pieces, self.resolver.groups)


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
        self.readings = [session.reading(trial) for trial in trials]
        self.columns = sorted({self.text.layout.width - 1, *self._logit_columns()})
        self.values: dict[tuple[str, int], dict[int, Measured]] = {}

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
        return Outcome(trial.id, key, "ok", done, values, completion, nll, tuple(self._shifts[b]))

    def _failed(self, b: int, reason: str) -> Outcome:
        return Outcome.failed(self.trials[b].id, reason, self.session.key(self.trials[b], self.rows[b]))

    def _overflow(self, b: int, done: Applied) -> str:
        """What is no longer a number, in words; empty where everything is one."""
        if not done.finite:
            return "an edit overflowed: activations or residual stream are no longer finite"
        said = self.steered.completions[b].stop_reason if self.steered.completions else ""
        if said != "overflow" and not self._overflowed[b]:
            return ""
        model = self.engine.model
        dtype = str(model.dtype).removeprefix("torch.")
        who = f"{model.name} overflowed" if self.trials[b].condition == "baseline" else "the edited model overflowed"
        return f"{who}: its logits are no longer finite ({dtype} ends at {torch.finfo(model.dtype).max:.3g})"

    @cached_property
    def _overflowed(self) -> list[bool]:
        last = self.columns.index(self.text.layout.width - 1)
        found: list[bool] = overflowed(readable(self.steered.logits[:, last])).tolist()
        return found

    def _measured(self, b: int, name: str, own: _Said, base: _Said) -> Measured:
        trial, pieces = self.trials[b], self.session.pieces
        measurement = trial.measurements[name]
        if trial.condition == "baseline":
            side = self._side(b, measurement, own)
            return measure(measurement, side, side, pieces)
        if needs(measurement).completion:
            return measure(measurement, own.side, base.side, pieces)
        if self._reads_generated(b, measurement):  # the baseline's own text: not the same tokens, so taken from there
            known = base.values[name].intervened if name in base.values else None
            return Measured(known, self._read(b, measurement).intervened)
        return self._read(b, measurement)

    def _side(self, b: int, measurement: Measurement, said: _Said) -> Side:
        needed = needs(measurement)
        if needed.completion:
            return said.side
        [seen] = self._seen([b], measurement)
        return Side(logits=seen) if needed.logits else Side(activations=seen[~seen.isnan().any(-1)])

    def _read(self, b: int, measurement: Measurement) -> Measured:
        """A measurement on logits or activations, taken at once in all rows that read it in the same places."""
        where = self.trials[b].prompt.id, id(measurement)
        if where not in self.values:
            self.values[where] = self._read_all(measurement, self._alike[where])
        return self.values[where][b]

    def _read_all(self, measurement: Measurement, rows: Sequence[int]) -> dict[int, Measured]:
        pieces, generated = self.session.pieces, self._reads_generated(rows[0], measurement)
        unedited = self._seen([rows[0]], measurement)[0] if generated else self._seen_unedited(rows[0], measurement)
        size = max(1, MEASURED // max(1, unedited.numel()))
        portions = (rows[start : start + size] for start in range(0, len(rows), size))
        intervened = [
            value
            for some in portions
            for value in measure_rows(measurement, self._seen(some, measurement), unedited, pieces)
        ]
        [baseline] = [None] if generated else measure_rows(measurement, unedited[None], unedited, pieces)
        return {b: Measured(baseline, value) for b, value in zip(rows, intervened, strict=True)}

    def _seen(self, rows: Sequence[int], measurement: Measurement) -> Float[Tensor, "rows n width"]:
        """Logits or activations under the edits, of rows that read in the same places."""
        each = torch.tensor(rows, device=self.device)[:, None]
        columns = self._columns(rows[0], self._positions(rows[0], measurement))
        if needs(measurement).logits:
            return readable(self.steered.logits[each, self._kept(columns)])
        return readable(self.watched.of(each, columns, self._watched_features(measurement)))

    def _seen_unedited(self, b: int, measurement: Measurement) -> Float[Tensor, "n width"]:
        columns = self._columns(b, self._positions(b, measurement))
        if needs(measurement).logits:
            return readable(self.known.logits[self.prompt_of[b]][self._kept(columns)])
        return readable(self.known.watch.of(self.prompt_of[b], columns, self._watched_features(measurement)))

    @cached_property
    def _shifts(self) -> list[list[PlacedShift]]:
        """By row: the measured positions and the last, with their named targets; controls only these."""
        alike: dict[tuple[int, bool], list[int]] = {}
        for b, trial in enumerate(self.trials):
            alike.setdefault((id(self.readings[b]), trial.control == "none"), []).append(b)
        found: list[list[PlacedShift]] = [[] for _ in self.trials]
        for (_, everything), rows in alike.items():
            for position, tokens in named_tokens(self.readings[rows[0]], self.session.pieces).items():
                for b, shifts in zip(rows, self._shifts_at(position, rows, tokens, everything), strict=True):
                    found[b] += [PlacedShift(position, shift) for shift in shifts]
        return found

    def _shifts_at(
        self, position: int, rows: Sequence[int], tokens: Sequence[int], everything: bool
    ) -> list[list[Shift]]:
        [column] = self._kept(self._columns(rows[0], [position]))
        before = self.known.logits[self.prompt_of[rows[0]], column]
        after = self.steered.logits[torch.tensor(rows, device=self.device), column]
        return logit_shifts(readable(before), readable(after), tokens, everything)

    # --- positions --------------------------------------------------------------------------------------------

    @cached_property
    def _alike(self) -> dict[tuple[str, int], list[int]]:
        """The rows that take a measurement on a prompt: in the same places, as they stand in the same columns."""
        found: dict[tuple[str, int], list[int]] = {}
        for b, trial in enumerate(self.trials):
            for measurement in trial.measurements.values():
                found.setdefault((trial.prompt.id, id(measurement)), []).append(b)
        return found

    def _positions(self, b: int, measurement: Measurement) -> tuple[int, ...]:
        places = self.readings[b].of(measurement)
        if places is None or not places.beyond_prompt:
            return () if places is None else places.prompt
        beyond = range(len(self.ids[b]), self.watched.columns_in_all - self.text.layout.column(b, 0))
        return (*places.prompt, *(position for position in beyond if position in places))

    def _columns(self, b: int, positions: Sequence[int]) -> list[int]:
        return [self.text.layout.column(b, position) for position in positions]

    def _kept(self, columns: Sequence[int]) -> list[int]:
        """Where columns are among those whose logits are kept."""
        return [self.columns.index(column) for column in columns]

    def _reads_generated(self, b: int, measurement: Measurement) -> bool:
        places = self.readings[b].of(measurement)
        return needs(measurement).activations and places is not None and places.beyond_prompt

    def _logit_columns(self) -> Iterator[int]:
        for b in {id(reading): b for b, reading in enumerate(self.readings)}.values():
            for measurement in self.trials[b].measurements.values():
                if needs(measurement).logits:
                    yield from self._columns(b, self._positions(b, measurement))

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

    @property
    def side(self) -> Side:
        return Side(completion=self.completion, nll=self.nll, completion_kl=self.kl)

    @classmethod
    def of(cls, outcome: Outcome) -> _Said:
        return cls(outcome.completion, outcome.nll, 0.0, outcome.values)
