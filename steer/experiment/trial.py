"""What a plan is made of: prompts, and trials that share their set-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from steer.experiment.spec import Constrain, Control, Intervention, Measurement, Scalar

Span = tuple[int, int]
EMPTY: Mapping[str, Scalar] = MappingProxyType({})


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt: what the tokenizer gets, and where the template put each column (character spans)."""

    id: str
    text: str
    columns: Mapping[str, str] = field(default_factory=dict)
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Setup:
    """What is done to the model in a trial: every `$name` replaced; shared by all trials that do the same."""

    interventions: tuple[Intervention, ...] = ()
    freeze_attention: bool = False
    freeze_norms: bool = False
    constrain: Constrain | None = None
    control: Control | None = None
    allow_silent: bool = False


@dataclass(frozen=True)
class Trial:
    """One prompt x condition x control x sweep point x seed.

    `point` holds the axes the condition uses, as they stand in the tables' columns. `measurements` are those
    defined for this row, by name, with `$name` and `{column}` replaced.
    """

    id: str
    prompt: Prompt
    condition: str
    control: str
    control_index: int
    point: Mapping[str, Scalar]
    seed: int
    setup: Setup
    measurements: Mapping[str, Measurement]


@dataclass(frozen=True)
class Plan:
    """All trials of an experiment, prompt by prompt, each prompt's baselines first."""

    name: str
    axes: tuple[str, ...]
    columns: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    trials: tuple[Trial, ...]
