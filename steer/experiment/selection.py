"""Part of a plan: what `--only`, `-k` and `--limit` leave, with what the remaining trials need."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from steer.errors import UsageError
from steer.experiment.axes import shown, text
from steer.experiment.problems import listing
from steer.experiment.spec import DonorPrompt
from steer.experiment.trial import Plan, Setup, Trial

KEYS = ("condition", "control", "seed", "prompt")
NO_FILTER: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def select(
    plan: Plan, only: Mapping[str, tuple[str, ...]] = NO_FILTER, contains: str | None = None, limit: int | None = None
) -> Plan:
    """The trials that were asked for, with the baselines they are compared with and the donors they borrow from.

    `only` holds allowed values for `condition`, `control`, `seed`, `prompt`, an axis or a column; `contains` is part of
    a prompt's id or of a condition's name; `limit` keeps the first prompts of what is left. UsageError for a key or
    value that the plan does not have, and where nothing is left.
    """
    allowed = _allowed(plan, only)
    chosen = [trial for trial in plan.trials if _asked(trial, plan, allowed) and _named(trial, contains)]
    kept = set(list(dict.fromkeys(trial.prompt.id for trial in chosen))[:limit])
    chosen = [trial for trial in chosen if trial.prompt.id in kept]
    if not chosen:
        raise UsageError(f"none of the {len(plan.trials)} trials is left by {_filters(only, contains, limit)}")
    return _with_partners(plan, chosen)


def _with_partners(plan: Plan, chosen: Sequence[Trial]) -> Plan:
    ids = {trial.id for trial in chosen}
    rows = {(trial.prompt.id, trial.seed) for trial in chosen}
    trials = [t for t in plan.trials if t.id in ids or (t.condition == "baseline" and (t.prompt.id, t.seed) in rows)]
    kept = {trial.prompt.id for trial in trials} | {donor for setup in _setups(trials) for donor in _donors(setup)}
    return replace(plan, trials=tuple(trials), prompts=tuple(prompt for prompt in plan.prompts if prompt.id in kept))


def _setups(trials: Iterable[Trial]) -> Iterable[Setup]:
    return {id(trial.setup): trial.setup for trial in trials}.values()


def _donors(setup: Setup) -> Iterator[str]:
    for intervention in setup.interventions:
        donor = getattr(intervention, "donor", None)
        if isinstance(donor, DonorPrompt):
            yield donor.prompt


def _facet(trial: Trial, key: str, plan: Plan) -> str | None:
    """What `--only key=...` asks of a trial, as text; None where its condition does not use the axis."""
    match key:
        case "prompt":
            return trial.prompt.id
        case "condition" | "control" | "seed":
            return str(getattr(trial, key))
        case _ if key in plan.axes:
            return text(trial.point[key]) if key in trial.point else None
        case _:
            return trial.prompt.columns.get(key)


def _asked(trial: Trial, plan: Plan, allowed: Mapping[str, Container[str]]) -> bool:
    return all(_facet(trial, key, plan) in values for key, values in allowed.items())


def _named(trial: Trial, contains: str | None) -> bool:
    return contains is None or contains in trial.prompt.id or contains in trial.condition


def _allowed(plan: Plan, only: Mapping[str, tuple[str, ...]]) -> Mapping[str, frozenset[str]]:
    """The values as trials hold them (5.0 asks for 5 on an axis), each of which the plan has."""
    keys = (*KEYS, *plan.axes, *plan.columns)
    if unknown := [key for key in only if key not in keys]:
        raise UsageError(f"--only {unknown[0]}=...: a plan is filtered by {', '.join(keys)}")
    allowed = {
        key: frozenset(text(shown(value)) if key in plan.axes else value for value in values)
        for key, values in only.items()
    }
    for key, values in allowed.items():
        _check(plan, key, values)
    return allowed


def _check(plan: Plan, key: str, values: frozenset[str]) -> None:
    occurring = dict.fromkeys(_facet(trial, key, plan) for trial in plan.trials)
    if missing := values - occurring.keys():
        listed = listing(value for value in occurring if value is not None)
        raise UsageError(f"--only {key}={','.join(sorted(missing))}: the plan has {key} {listed}")


def _filters(only: Mapping[str, tuple[str, ...]], contains: str | None, limit: int | None) -> str:
    parts = [f"{key}={','.join(values)}" for key, values in only.items()]
    parts += [f"containing {contains!r}"] if contains is not None else []
    return ", ".join(parts + ([f"the limit of {limit} prompts"] if limit is not None else []))
