"""An experiment -> its trials: prompts x conditions x sweep points x controls x seeds, with stable ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, product
from typing import Any, TypeVar

from steer.errors import SpecError
from steer.experiment.axes import Axes, allows, by_shown
from steer.experiment.load import Experiment
from steer.experiment.problems import Problem
from steer.experiment.prompts import Chat, render
from steer.experiment.spec import (
    Condition,
    Control,
    ExperimentSpec,
    Measurement,
    RandomDirection,
    RandomFeatures,
    Scalar,
)
from steer.experiment.substitute import Misfit, names, substitute
from steer.experiment.trial import EMPTY, Plan, Prompt, Setup, Trial

Point = Mapping[str, Scalar]
Cells = tuple[tuple[str, str], ...]
"""Some columns of a row: rows that agree in them share what is made of them."""
Values = tuple[tuple[str, Scalar], ...]
Draw = tuple[str, int, Setup]
"""Control, control index, set-up."""

V = TypeVar("V")

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def plan(experiment: Experiment, tokens: Chat) -> Plan:
    """All trials, prompt by prompt: the baselines of every seed, then conditions, points, controls and seeds.

    SpecError where a swept value or a cell does not fit the field it is put into.
    """
    try:
        return _plan(experiment, tokens)
    except Misfit as misfit:
        place = experiment.source.place
        raise SpecError(
            tuple(Problem(place(path), message, None, code) for path, message, code in misfit.found)
        ) from None


def _plan(experiment: Experiment, tokens: Chat) -> Plan:
    spec = experiment.spec
    prompts = render(experiment.rows, tokens)
    return Plan(
        name=spec.name,
        axes=tuple(spec.sweep),
        columns=tuple(dict.fromkeys(column for prompt in prompts for column in prompt.columns)),
        prompts=prompts,
        trials=tuple(_trials(experiment, prompts, by_shown(experiment.axes))),
    )


def plan_warnings(spec: ExperimentSpec) -> tuple[str, ...]:
    """What a reader of the plan should know: seeds that cannot make a difference."""
    if len(spec.seeds) > 1 and (spec.generation is None or spec.generation.temperature == 0):
        reason = "nothing is generated" if spec.generation is None else "temperature 0 is greedy"
        return (f"seeds: {len(spec.seeds)} seeds give the same numbers {len(spec.seeds)} times, as {reason}",)
    return ()


def trial_id(prompt: str, condition: str, control: str, control_index: int, point: Point, seed: int) -> str:
    """16 hex digits of what a trial is called, never of weights: runs of two models join on it."""
    identity = _encode([prompt, condition, control, control_index, dict(point), seed])
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Case:
    """A condition at one sweep point: what every trial shares that does this."""

    condition: str
    point: Point
    draws: Sequence[Draw]


_BASELINE = _Case("baseline", EMPTY, (("none", 0, Setup()),))


def _trials(experiment: Experiment, prompts: Sequence[Prompt], axes: Axes) -> Iterator[Trial]:
    spec = experiment.spec
    used = {name: {axis: axes[axis] for axis in over} for name, over in experiment.axes_used.items()}
    conditions = [_cases(name, condition, used[name]) for name, condition in spec.conditions.items()]
    measurements = _measurements(spec.measurements, axes)
    for prompt in prompts:
        for case in chain([_BASELINE], *(cases(prompt) for cases in conditions)):
            measured = measurements(prompt, case.point)
            for (control, index, setup), seed in product(case.draws, spec.seeds):
                id = trial_id(prompt.id, case.condition, control, index, case.point, seed)
                yield Trial(id, prompt, case.condition, control, index, case.point, seed, setup, measured)


def _read(prompt: Prompt, columns: Iterable[str]) -> Cells:
    return tuple((column, prompt.columns.get(column, "")) for column in columns)


def _cases(name: str, condition: Condition, axes: Axes) -> Callable[[Prompt], Sequence[_Case]]:
    """From a prompt to the cases of a condition along the axes it uses; none where a cell it needs is empty."""
    parts = (*condition.interventions, condition.freeze, *((condition.constrain,) if condition.constrain else ()))
    needed = frozenset[str]().union(*map(names, parts))
    used = needed.union(*map(names, condition.controls))
    wheres = chain(condition.where, *(control.where for control in condition.controls))
    columns = sorted(used.union(wheres) - axes.keys())

    @cache
    def cases(cells: Cells) -> Sequence[_Case]:
        row = dict(cells)
        if not _given(needed - axes.keys(), row) or not allows(condition.where, row, EMPTY):
            return ()
        points = (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))
        return tuple(_Case(name, point, _draws(name, condition, row, point, axes)) for point in points)

    return lambda prompt: cases(_read(prompt, columns))


def _draws(name: str, condition: Condition, row: Mapping[str, str], point: Point, axes: Axes) -> Sequence[Draw]:
    """The condition itself, then the draws of its controls, which differ in type."""
    values = _written(row, point, axes)
    setup = _setup(name, condition, values)
    draws: list[Draw] = [("none", 0, setup)]
    for i, control in enumerate(condition.controls):
        if allows(control.where, row, point) and _given(names(control), values):
            neutral = replace(setup, control=substitute(control, values, ("conditions", name, "controls", i)))
            draws += [(control.type, index, neutral) for index in range(_n(control))]
    return tuple(draws)


def _n(control: Control) -> int:
    return control.n if isinstance(control, RandomFeatures | RandomDirection) else 1


def _given(needed: Iterable[str], values: Mapping[str, Any]) -> bool:
    """Whether no cell is empty and no axis is missing."""
    return all(values.get(name, "") != "" for name in needed)


def _written(row: Mapping[str, str], point: Point, axes: Axes) -> Mapping[str, Any]:
    return {**row, **{axis: axes[axis][value] for axis, value in point.items()}}


def _setup(name: str, condition: Condition, values: Mapping[str, Any]) -> Setup:
    path = ("conditions", name)
    freeze = substitute(condition.freeze, values, (*path, "freeze"))
    return Setup(
        interventions=tuple(
            substitute(intervention, values, (*path, "interventions", i))
            for i, intervention in enumerate(condition.interventions)
        ),
        freeze_attention=bool(freeze.attention),
        freeze_norms=bool(freeze.norms),
        constrain=condition.constrain and substitute(condition.constrain, values, (*path, "constrain")),
        allow_silent=condition.allow_silent,
    )


def _measurements(
    declared: Mapping[str, Measurement], axes: Axes
) -> Callable[[Prompt, Point], Mapping[str, Measurement]]:
    """From a prompt and a point to what is measured there; a measurement that uses an axis needs the axis."""
    needs = {name: names(measurement) for name, measurement in declared.items()}
    used = frozenset[str]().union(*needs.values(), *(measurement.where for measurement in declared.values()))
    columns = sorted(used - axes.keys())

    @cache
    def one(name: str, cells: Cells, point: Values) -> Measurement:
        values = _written(dict(cells), dict(point), axes)
        return substitute(declared[name], values, ("measurements", name))

    @cache
    def measured(cells: Cells, point: Values) -> Mapping[str, Measurement]:
        row = dict(cells)
        values = {**row, **dict(point)}
        return {
            name: one(name, _among(cells, needs[name]), _among(point, needs[name]))
            for name, measurement in declared.items()
            if allows(measurement.where, row, EMPTY) and _given(needs[name], values)
        }

    return lambda prompt, point: measured(_read(prompt, columns), _among(point.items(), used))


def _among(items: Iterable[tuple[str, V]], wanted: Container[str]) -> tuple[tuple[str, V], ...]:
    return tuple((key, value) for key, value in items if key in wanted)
