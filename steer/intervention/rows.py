"""A trial's set-up becomes one row of a batch: every number raw, every position known, every vector named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import assert_never

from steer.errors import RunError, SteerError
from steer.experiment.spec import (
    Ablate,
    Add,
    Clamp,
    Condition,
    Control,
    DirectionFile,
    Donor,
    FeatureUse,
    Identity,
    InhibitOnly,
    InjectOnly,
    Intervention,
    Member,
    OtherPositions,
    RandomDirection,
    RandomFeatures,
    Scale,
    Steer,
    Swap,
)
from steer.experiment.spec import Positions as PositionsSpec
from steer.experiment.trial import Prompt, Trial
from steer.intervention import controls
from steer.intervention.edits import Along, Edit, FeatureOp, Level, Push, Role, affine
from steer.intervention.positions import Positions, resolve
from steer.model.tokens import Encoded
from steer.transcoder.transcoder import FeatureStatistics, Statistics, Transcoders

Groups = Mapping[str, tuple[Member, ...]]
NOWHERE = Positions(prompt=())


class ConflictError(SteerError):
    """Two interventions of one condition on the same feature at overlapping positions."""

    exit_code = 2


class Baseline(Protocol):
    """What resolving has to ask the unedited model."""

    def donor_activation(self, donor: Donor, layer: int, index: int) -> float:
        """The largest activation at the donor's positions."""

    def fires(self, prompt: Prompt, layer: int, positions: tuple[int, ...]) -> Bool[Tensor, " d_transcoder"]:
        """The features that are active at one of the prompt's positions."""

    def direction(self, name: str) -> tuple[int, Float[Tensor, " d_model"]]:
        """Layer and vector of an entry of `directions:`."""

    def direction_file(self, file: str) -> Float[Tensor, " d_model"]:
        """The vector stored in a file."""


@dataclass(frozen=True)
class Row:
    """What is done in one row of a batch."""

    edits: tuple[Edit, ...] = ()
    pushes: tuple[Push, ...] = ()
    freeze_attention: bool = False
    freeze_norms: bool = False
    constrained: range = range(0)

    @cached_property
    def layers(self) -> frozenset[int]:
        """Layers with an edit or a push."""
        return frozenset(change.layer for change in (*self.edits, *self.pushes))

    @property
    def needs_shadow(self) -> bool:
        """Whether generated text needs the unedited model on the same tokens."""
        return any(edit.level != "one" and edit.positions.beyond_prompt for edit in self.edits)


def members_of(use: FeatureUse, groups: Groups) -> tuple[Member, ...]:
    """The features a name, a `layer/index`, or a list of these stands for, each once."""
    found: dict[tuple[int, int], Member] = {}
    for name in (use,) if isinstance(use, str) else use:
        for member in groups[name] if name in groups else (_single(name),):
            found.setdefault((member.layer, member.index), member)
    return tuple(found.values())


def _single(text: str) -> Member:
    layer, index = text.split("/")
    return Member(layer=int(layer), index=int(index))


def named_features(groups: Groups, conditions: Mapping[str, Condition]) -> Mapping[int, frozenset[int]]:
    """Every feature the file names, by layer: none of them may stand in for another."""
    uses = [use for condition in conditions.values() for use in _uses(condition.interventions)]
    members = [member for group in groups.values() for member in group]
    members += [member for use in uses if "$" not in str(use) for member in members_of(use, groups)]
    layers = {member.layer for member in members}
    return {layer: frozenset(m.index for m in members if m.layer == layer) for layer in layers}


def _uses(interventions: Sequence[Intervention]) -> Iterator[FeatureUse]:
    for intervention in interventions:
        match intervention:
            case Swap(from_=source, to=target):
                yield from (source, target)
            case Steer(direction=direction):
                if isinstance(direction, str) and "/" in direction:
                    yield direction
            case Clamp() | Scale() | Add() | Ablate():
                yield intervention.feature
            case _:
                assert_never(intervention)


@dataclass(frozen=True)
class Resolver:
    """Everything that is needed to turn a trial into a row."""

    groups: Groups
    directions: Collection[str]
    named: Mapping[int, frozenset[int]]
    transcoders: Transcoders
    baseline: Baseline

    def row(self, trial: Trial, encoded: Encoded) -> Row:
        """The row of a trial; ConflictError, PositionError, RunError name prompt and condition."""
        setup = trial.setup
        place = Place(trial.prompt, encoded)
        edits: list[Edit] = []
        pushes: list[Push] = []
        for number, intervention in enumerate(setup.interventions):
            if isinstance(intervention, Steer):
                pushes += self._pushes(number, intervention, place)
            else:
                edits += self._edits(number, intervention, place)
        _refuse_conflicts(edits, trial)
        edits, pushes = self._controlled(edits, pushes, setup.control, trial.control_index, place, setup.interventions)
        return Row(
            edits=tuple(edits),
            pushes=tuple(pushes),
            freeze_attention=setup.freeze_attention,
            freeze_norms=setup.freeze_norms,
            constrained=range(0)
            if setup.constrain is None
            else range(int(setup.constrain.layers[0]), int(setup.constrain.layers[1]) + 1),
        )

    # --- interventions ----------------------------------------------------------------------------------------

    def _edits(self, number: int, op: FeatureOp, place: Place) -> list[Edit]:
        uses: list[tuple[Role, FeatureUse]] = (
            [("from", op.from_), ("to", op.to)] if isinstance(op, Swap) else [("feature", op.feature)]
        )
        return [
            self._edit(number, op, role, str(use), member, place)
            for role, use in uses
            for member in _kept(members_of(use, self.groups), op)
        ]

    def _edit(self, number: int, op: FeatureOp, role: Role, group: str, member: Member, place: Place) -> Edit:
        factor, value = affine(op, role, self._value(op, role, member))
        return Edit(
            intervention=number,
            role=role,
            group=group,
            layer=member.layer,
            index=member.index,
            factor=factor,
            value=value,
            level=_level(op, role),
            positions=place.positions(op.positions, member),
            along=Along(index=member.index),
        )

    def _value(self, op: FeatureOp, role: Role, member: Member) -> float:
        """The op's number times what the member's unit makes of it (1 for units that differ by position)."""
        if isinstance(op, Ablate):
            return 0.0 if op.to == "zero" else self._statistics(member, "ablate to mean").mean
        if isinstance(op, Scale) or role == "from":
            return 0.0
        assert isinstance(op, Clamp | Add | Swap)
        return float(op.value) * member.weight * self._constant(op, member)

    def _constant(self, op: Clamp | Add | Swap, member: Member) -> float:
        match op.unit:
            case "raw" | "own_act" | "source_act":
                return 1.0
            case "max_act":
                return member.max_act or self._statistics(member, "unit max_act").max_act
            case "donor_act":
                assert op.donor is not None
                return self._donor(op, member)
            case _:
                assert_never(op.unit)

    def _donor(self, op: Clamp | Add | Swap, member: Member) -> float:
        assert op.donor is not None
        group = _kept(members_of(op.to if isinstance(op, Swap) else op.feature, self.groups), op)
        values = {(m.layer, m.index): self.baseline.donor_activation(op.donor, m.layer, m.index) for m in group}
        if not any(value > 0 for value in values.values()):
            ids = ", ".join(m.id for m in group)
            raise RunError(f"no member of the group fires on its donor {op.donor.model_dump()}: {ids}")
        return values[member.layer, member.index]

    def _statistics(self, member: Member, reason: str) -> FeatureStatistics:
        return self._all_statistics(reason).at(member.layer, member.index)

    def _all_statistics(self, reason: str) -> Statistics:
        if self.transcoders.statistics is None:
            raise RunError(
                f"{reason} needs feature statistics, and {self.transcoders.name} has none: `steer gate` measures them"
                " on reference text (or give `max_act:` on the feature)"
            )
        return self.transcoders.statistics

    def _pushes(self, number: int, op: Steer, place: Place) -> list[Push]:
        return [
            Push(
                intervention=number,
                layer=layer if op.layer is None else int(op.layer),
                index=index,
                vector=vector,
                coefficient=float(op.coefficient),
                relative=op.unit == "residual_norm",
                positions=positions,
            )
            for layer, index, vector, positions in self._directions(op, place)
        ]

    def _directions(self, op: Steer, place: Place) -> Iterator[tuple[int, int | None, Tensor, Positions]]:
        positions = place.positions(op.positions, None)
        if isinstance(op.direction, DirectionFile):
            if op.layer is None:
                raise RunError(f"steer along the file {op.direction.file} needs a `layer`")
            yield int(op.layer), None, self.baseline.direction_file(op.direction.file), positions
        elif op.direction in self.directions:
            layer, vector = self.baseline.direction(op.direction)
            yield layer, None, vector, positions
        else:
            for member in _kept(members_of(op.direction, self.groups), op):
                vector = self.transcoders.decoder(member.layer, [member.index])[0] * member.weight
                yield member.layer, member.index, vector, place.positions(op.positions, member)

    # --- controls ---------------------------------------------------------------------------------------------

    def _controlled(
        self,
        edits: list[Edit],
        pushes: list[Push],
        control: Control | None,
        control_index: int,
        place: Place,
        interventions: Sequence[Intervention],
    ) -> tuple[list[Edit], list[Push]]:
        match control:
            case None:
                return edits, pushes
            case Identity():
                return [replace(e, factor=1.0, value=0.0, level="one") for e in edits], [
                    replace(p, coefficient=0.0) for p in pushes
                ]
            case OtherPositions(positions=elsewhere):
                there = place.positions(elsewhere, None)
                return [replace(e, positions=there) for e in edits], [replace(p, positions=there) for p in pushes]
            case InhibitOnly():
                return [_silenced(e) if e.role == "to" else e for e in edits], pushes
            case InjectOnly():
                return [_silenced(e) if e.role == "from" else e for e in edits], pushes
            case RandomFeatures():
                stand_in = self._active_stand_in if "active" in control.match else self._stand_in
                taken = _taken(control)
                return (
                    [stand_in(e, control, control_index, place, interventions) if taken(e) else e for e in edits],
                    [self._random_push(p, control, control_index) for p in pushes],
                )
            case RandomDirection():
                taken = _taken(control)
                return (
                    [self._gaussian_edit(e, control, control_index) if taken(e) else e for e in edits],
                    [self._gaussian_push(p, control, control_index) for p in pushes],
                )
            case _:
                assert_never(control)

    def _drawn(self, layer: int, index: int, control: RandomFeatures, draw: int, allowed: Tensor | None = None) -> int:
        n = max(control.n, draw + 1)  # two controls of one type count on
        pool = (
            self._pool(layer, index, control.match, n)
            if allowed is None
            else self._candidates(layer, index, control.match, n, allowed)
        )
        return controls.draw(pool, control.seed, (layer, index), draw)

    @cached_property
    def _pool(self) -> Callable[[int, int, tuple[str, ...], int], Sequence[int]]:
        return cache(self._candidates)

    def _candidates(
        self, layer: int, index: int, match: tuple[str, ...], n: int, allowed: Tensor | None = None
    ) -> Sequence[int]:
        statistics = self._all_statistics("the control random_features")
        excluded = self.named.get(layer, frozenset())
        return controls.candidates(
            statistics.density[layer], statistics.decoder_norm[layer], index, match, excluded, n, allowed
        )

    def _norm(self, layer: int, index: int) -> float:
        return float(self.transcoders.decoder(layer, [index])[0].norm())

    def _stand_in(
        self, edit: Edit, control: RandomFeatures, draw: int, place: Place, interventions: Sequence[Intervention]
    ) -> Edit:
        """The target's own change, written along another feature's decoder vector at the same norm."""
        drawn = self._drawn(edit.layer, edit.index, control, draw)
        return replace(edit, along=Along(index=drawn, norm=self._norm(edit.layer, edit.index)))

    def _active_stand_in(
        self, edit: Edit, control: RandomFeatures, draw: int, place: Place, interventions: Sequence[Intervention]
    ) -> Edit:
        """The op itself, on another feature that fires there."""
        allowed = self.baseline.fires(place.prompt, edit.layer, edit.positions.prompt)
        drawn = self._drawn(edit.layer, edit.index, control, draw, allowed)
        op = interventions[edit.intervention]
        assert not isinstance(op, Steer)
        other = self._edit(edit.intervention, op, edit.role, edit.group, Member(layer=edit.layer, index=drawn), place)
        return replace(other, positions=edit.positions)

    def _random_push(self, push: Push, control: RandomFeatures, draw: int) -> Push:
        if push.index is None:
            raise RunError("random_features needs a feature in `steer`'s place; for other directions: random_direction")
        drawn = self._drawn(push.layer, push.index, control, draw)
        vector = self.transcoders.decoder(push.layer, [drawn])[0]
        return replace(push, vector=vector * (push.vector.norm() / vector.norm()))

    def _gaussian_edit(self, edit: Edit, control: RandomDirection, draw: int) -> Edit:
        vector = controls.gaussian(control.seed, draw, edit.layer, self.transcoders.d_model)
        return replace(edit, along=Along(index=None, vector=vector, norm=self._norm(edit.layer, edit.index)))

    def _gaussian_push(self, push: Push, control: RandomDirection, draw: int) -> Push:
        vector = controls.gaussian(control.seed, draw, push.layer, self.transcoders.d_model)
        return replace(push, vector=vector * push.vector.norm())


@dataclass(frozen=True)
class Place:
    """The prompt a row is about."""

    prompt: Prompt
    encoded: Encoded

    def positions(self, stated: PositionsSpec | None, member: Member | None) -> Positions:
        """The intervention's positions, else the member's own, else all."""
        own = None if member is None else member.positions
        chosen = stated if stated is not None else own if own is not None else "all"
        return resolve(chosen, self.encoded, self.prompt)


def _level(op: FeatureOp, role: Role) -> Level:
    unit = getattr(op, "unit", "raw") if role != "from" else "raw"
    return {"own_act": "own", "source_act": "source"}.get(unit, "one")  # type: ignore[return-value]


def _kept(members: Sequence[Member], op: Intervention) -> tuple[Member, ...]:
    if op.layers is None:
        return tuple(members)
    first, last = int(op.layers[0]), int(op.layers[1])
    return tuple(member for member in members if first <= member.layer <= last)


def _silenced(edit: Edit) -> Edit:
    """Still read (`source_act` is measured on it), nowhere written."""
    return replace(edit, positions=NOWHERE)


def _taken(control: RandomFeatures | RandomDirection) -> Callable[[Edit], bool]:
    match control.replace:
        case "all":
            return lambda edit: True
        case "from" | "to":
            return lambda edit: edit.role == control.replace
        case groups:
            return lambda edit: edit.group in groups


def _refuse_conflicts(edits: Sequence[Edit], trial: Trial) -> None:
    seen: dict[tuple[int, int], list[Edit]] = {}
    for edit in edits:
        for other in seen.setdefault((edit.layer, edit.index), []):
            if edit.positions.overlaps(other.positions):
                raise ConflictError(
                    f"condition {trial.condition}, prompt {trial.prompt.id}: two interventions edit feature"
                    f" {edit.layer}/{edit.index} at the same positions"
                )
        seen[edit.layer, edit.index].append(edit)
