"""What earlier runs know: finished trials that mean the same are taken over, and why the others have to run.

A run takes over once, when its journal is begun; its batches are cut from what is left. So a run that is killed and
started again, whatever other runs have finished meanwhile, still gives the tables of one that was not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from steer.errors import NothingFailed, RunError
from steer.execution.batch_run import Baselines, Session
from steer.execution.folder import RunFolder
from steer.execution.journal import Entry, encoded, entries
from steer.execution.outcome import Outcome
from steer.execution.trial_key import PARTS, TrialKey, differing
from steer.experiment.spec import Measurement
from steer.experiment.trial import Plan, Trial
from steer.files import replacing
from steer.measurement.measure import Measured, Side, measure, needs

Reasons = Counter[tuple[str, str, str]]
"""How many trials run, by condition, control and why."""


@dataclass(frozen=True)
class Earlier:
    """The trials in the journals of other runs: finished ones by key, all of them by id; of several the newest."""

    finished: Mapping[str, Entry]
    named: Mapping[str, Entry]

    @classmethod
    def under(cls, results: Path, own: Path | None = None) -> Earlier:
        """Everything under a results folder but one's own run."""
        finished: dict[str, Entry] = {}
        named: dict[str, Entry] = {}
        runs = [path for path in results.glob("*/*") if not path.is_symlink() and path != own]
        for run in sorted(runs, key=lambda path: path.name):
            for entry in entries(run / "journal.jsonl"):
                named[entry.trial_id] = entry
                if entry.status == "ok":
                    finished[entry.key] = entry
        return cls(finished, named)

    def why(self, trial: Trial, key: TrialKey) -> str:
        """Why no earlier result is this trial's."""
        if not self.named:
            return "nothing has run before"
        if key.text in self.finished:
            return "a measurement is new, and needs the model"
        called = self.named.get(trial.id)
        if called is not None and called.status == "failed" and called.key in ("", key.text):
            return f"it failed in {called.path.parent.name}"
        return _difference(key.text, self._nearest(key.text) or called)

    def _nearest(self, key: str) -> Entry | None:
        return next((self._but_one[near] for near in _but_one(key) if near in self._but_one), None)

    @cached_property
    def _but_one(self) -> dict[str, Entry]:
        return {near: entry for key, entry in self.finished.items() for near in _but_one(key)}


def _but_one(key: str) -> Iterator[str]:
    """The key with each of its parts left out in turn."""
    parts = key.split()
    return (" ".join([*parts[:n], "-", *parts[n + 1 :]]) for n in range(len(parts)))


def _difference(key: str, entry: Entry | None) -> str:
    if entry is None:
        return "nothing like it has run"
    return "; ".join(PARTS[part] for part in differing(key, entry.key)) + f" than in {entry.path.parent.name}"


@dataclass(frozen=True)
class Standing:
    """Where a run stands before its first batch; `why` tells for what reason each trial runs that is not cached."""

    planned: int
    cached: int
    why: Callable[[], Reasons]


def begin(plan: Plan, session: Session, folder: RunFolder, results: Path, retry: bool, alone: bool = False) -> Standing:
    """Give a new run its journal, with all that earlier runs know; there at once and whole, or not at all.

    A run that is begun with `--fresh`, or is `alone`, takes nothing from them. UsageError where nothing is to be
    retried.
    """
    fresh = alone or bool(folder.manifest()["fresh"])
    earlier = Earlier({}, {}) if fresh else Earlier.under(results, folder.path)
    if not folder.journal.exists():
        with replacing(folder.journal) as stream:
            for outcome in taken_over(plan, session, earlier):
                stream.write(encoded(outcome.record()))
    return standing(plan, session, earlier, folder.journal, folder.resumed, retry)


def foresee(plan: Plan, session: Session, results: Path, resumed: Path | None, fresh: bool, retry: bool) -> Standing:
    """The standing of a run that goes on with `resumed`, or would be new; nothing is written."""
    earlier = Earlier({}, {}) if fresh else Earlier.under(results, resumed)
    if resumed is not None and (resumed / "journal.jsonl").exists():
        return standing(plan, session, earlier, resumed / "journal.jsonl", True, retry)
    done = {outcome.trial_id for outcome in taken_over(plan, session, earlier)}
    return Standing(len(plan.trials), len(done), lambda: _reasons(plan, done, _asked(session, earlier)))


def standing(plan: Plan, session: Session, earlier: Earlier, journal: Path, resumed: bool, retry: bool) -> Standing:
    """Where a run with a journal stands."""
    own = {entry.trial_id: entry for entry in entries(journal)}
    failed = {trial for trial, entry in own.items() if entry.status == "failed"}
    if retry and not failed:
        raise NothingFailed(f"--retry: no trial of {journal.parent} has failed")
    done = own.keys() - failed if retry else own.keys()
    stopped = "the run stopped before it was finished"
    why = (lambda trial: "it failed, and is retried" if trial.id in failed else stopped) if resumed else None
    return Standing(len(plan.trials), len(done), lambda: _reasons(plan, done, why or _asked(session, earlier)))


def _asked(session: Session, earlier: Earlier) -> Callable[[Trial], str]:
    def why(trial: Trial) -> str:
        key = key_of(trial, session)
        return "it cannot be done on its prompt" if key is None else earlier.why(trial, key)

    return why


def _reasons(plan: Plan, done: Container[str], why: Callable[[Trial], str]) -> Reasons:
    missing = (trial for trial in plan.trials if trial.id not in done)
    return Counter((trial.condition, trial.control, why(trial)) for trial in missing)


def taken_over(plan: Plan, session: Session, earlier: Earlier) -> Iterator[Outcome]:
    """The trials of a plan that need not run, as outcomes of this run."""
    if not earlier.finished:
        return
    baselines: Baselines = {}
    for trial in plan.trials:
        key = key_of(trial, session)
        entry = None if key is None else earlier.finished.get(key.text)
        if key is not None and entry is not None:
            outcome = _as(trial, key, entry, baselines, session)
            if outcome is not None:
                yield outcome


def key_of(trial: Trial, session: Session) -> TrialKey | None:
    """A trial's key; None where it cannot be resolved, which is for the run to say."""
    try:
        return session.key(trial, session.row(trial))
    except RunError:
        return None


def _as(trial: Trial, key: TrialKey, entry: Entry, baselines: Baselines, session: Session) -> Outcome | None:
    """An earlier outcome under this trial's names, if it has all that the trial measures."""
    earlier = Outcome.of(entry.read())
    where = trial.prompt.id, trial.seed
    base = earlier if trial.condition == "baseline" else baselines.get(where)
    known = {meaning: earlier.values[name] for name, meaning in earlier.key.measured.items()}
    values = {}
    for name, measurement in trial.measurements.items():
        value = known.get(key.measured[name]) or _from_text(measurement, earlier, base, session)
        if value is None:
            return None
        values[name] = value
    origin = earlier.origin or entry.path.parent.name
    outcome = replace(earlier, trial_id=trial.id, key=key, values=values, origin=origin)
    if trial.condition == "baseline":
        baselines[where] = replace(outcome, shifts=())
    return outcome


def _from_text(measurement: Measurement, earlier: Outcome, base: Outcome | None, session: Session) -> Measured | None:
    """A measurement that was not taken, if the completions are all it needs."""
    needed = needs(measurement)
    if base is None or needed.logits or needed.activations or needed.completion_kl:
        return None
    intervened = _said(earlier)
    baseline = intervened if base is earlier else _said(base)
    if needed.nll and not (_has_nll(earlier) and _has_nll(base)):
        return None
    try:
        return measure(measurement, intervened, baseline, session.pieces)
    except RunError:  # a pattern that does not end: the run will say so
        return None


def _said(outcome: Outcome) -> Side:
    return Side(completion=outcome.completion, nll=outcome.nll)


def _has_nll(outcome: Outcome) -> bool:
    """Whether it was measured; it is undefined where nothing was said."""
    return outcome.nll is not None or (outcome.completion is not None and not outcome.completion.ids)
