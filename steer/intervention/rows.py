"""A trial's set-up becomes one row of a batch: every number raw, every position known, every vector named."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import assert_never

from steer.errors import RunError, SteerError
from steer.experiment.feature_ids import written_feature
from steer.experiment.groups import member as member_of
from steer.experiment.spec import (
    Ablate,
    Add,
    Clamp,
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
Feature = tuple[int, int]
"""Layer and index."""
NOWHERE = Positions(prompt=())
REMEMBERED = 64  # set-ups on a prompt whose edits are kept


class ConflictError(SteerError):
    """Two interventions of one condition on the same feature at overlapping positions."""

    exit_code = 2


class Baseline(Protocol):
    """What resolving has to ask the unedited model."""

    def donor_activations(self, donor: Donor, layer: int, indices: list[int]) -> list[float]:
        """The largest activation of each feature at the donor's positions."""

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
    """The features a name, a feature as it is written, or a list of these stands for, each once."""
    return tuple(member for _, member in _named_members(use, groups))


def _named_members(use: FeatureUse, groups: Groups) -> tuple[tuple[str, Member], ...]:
    """The same, each with the name it came by."""
    found: dict[tuple[int, int], tuple[str, Member]] = {}
    for name in (use,) if isinstance(use, str) else use:
        for member in groups[name] if name in groups else (member_of(name),):
            found.setdefault((member.layer, member.index), (name, member))
    return tuple(found.values())


def named_features(resolved: object) -> dict[int, frozenset[int]]:
    """Every feature that a resolved experiment or its rows name, by layer: none of them may stand in for another.

    Features are texts that write one (in groups, conditions, measurements, axes, columns) or mappings with both keys.
    """
    found: dict[int, set[int]] = {}
    for layer, index in _features_in(resolved):
        found.setdefault(layer, set()).add(index)
    return {layer: frozenset(indices) for layer, indices in found.items()}


def _features_in(value: object) -> Iterator[tuple[int, int]]:
    match value:
        case str() if read := written_feature(value):
            yield read.layer, read.index
        case Mapping():
            if isinstance(value.get("layer"), int) and isinstance(value.get("index"), int):
                yield value["layer"], value["index"]
            for inner in value.values():
                yield from _features_in(inner)
        case list() | tuple():
            for inner in value:
                yield from _features_in(inner)


@dataclass(frozen=True)
class Resolver:
    """Everything that is needed to turn a trial into a row."""

    groups: Groups
    directions: Collection[str]
    named: Mapping[int, frozenset[int]]
    transcoders: Transcoders
    baseline: Baseline
    # Asked once for a donor and members, not once for every trial.
    donors: dict[tuple[Donor, Sequence[Feature]], Sequence[float]] = field(default_factory=dict)
    stated: dict[tuple[str, int], Stated] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    def row(self, trial: Trial, encoded: Encoded) -> Row:
        """The row of a trial; ConflictError, PositionError, RunError name prompt and condition."""
        setup, stated = trial.setup, self._of_setup(trial, encoded)
        edits, pushes = self._controlled(stated, setup.control, trial.control_index)
        if setup.control is not None:
            _refuse_conflicts(edits, trial)
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

    def _of_setup(self, trial: Trial, encoded: Encoded) -> Stated:
        """What a set-up does on a prompt: worked out once for all draws of its controls."""
        where = trial.prompt.id, id(trial.setup.interventions)  # no other's: what is remembered keeps them
        if where not in self.stated:
            if len(self.stated) >= REMEMBERED:
                self.stated.pop(next(iter(self.stated)))
            place = self.places.setdefault(trial.prompt.id, Place(trial.prompt, encoded))
            self.stated[where] = self._stated(trial, place)
        return self.stated[where]

    def _stated(self, trial: Trial, place: Place) -> Stated:
        edits: list[Edit] = []
        pushes: list[Push] = []
        for number, intervention in enumerate(trial.setup.interventions):
            if isinstance(intervention, Steer):
                pushes += self._pushes(number, intervention, place)
            else:
                edits += self._edits(number, intervention, place)
        _refuse_conflicts(edits, trial)
        return Stated(trial.setup.interventions, place, tuple(edits), tuple(pushes))

    def _edits(self, number: int, op: FeatureOp, place: Place) -> list[Edit]:
        uses: list[tuple[Role, FeatureUse]] = (
            [("from", op.from_), ("to", op.to)] if isinstance(op, Swap) else [("feature", op.feature)]
        )
        return [edit for role, use in uses for edit in self._group(number, op, role, use, place)]

    def _group(self, number: int, op: FeatureOp, role: Role, use: FeatureUse, place: Place) -> list[Edit]:
        named = [one for one in _named_members(use, self.groups) if _in_layers(one[1], op)]
        members = [member for _, member in named]
        self._refuse_silent_donor(op, role, members)
        values = self._values(op, role, members)
        return [
            _edit(number, op, role, name, member, value, place)
            for (name, member), value in zip(named, values, strict=True)
        ]

    def _values(self, op: FeatureOp, role: Role, members: Sequence[Member]) -> list[float]:
        """The op's number times what each member's unit makes of it (1 for units that differ by position)."""
        if isinstance(op, Ablate):
            return [0.0 if op.to == "zero" else self._statistics(one, "ablate to mean").mean for one in members]
        if isinstance(op, Scale) or role == "from":
            return [0.0] * len(members)
        assert isinstance(op, Clamp | Add | Swap)
        constants = zip(members, self._constants(op, members), strict=True)
        return [float(op.value) * member.weight * constant for member, constant in constants]

    def _constants(self, op: Clamp | Add | Swap, members: Sequence[Member]) -> Sequence[float]:
        match op.unit:
            case "raw" | "own_act" | "source_act":
                return [1.0] * len(members)
            case "max_act":
                return [one.max_act or self._statistics(one, "unit max_act").max_act for one in members]
            case "donor_act":
                assert op.donor is not None
                return self._donated(op.donor, tuple((member.layer, member.index) for member in members))
            case _:
                assert_never(op.unit)

    def _donated(self, donor: Donor, features: Sequence[Feature]) -> Sequence[float]:
        """What each feature does on the donor."""
        if (donor, features) not in self.donors:
            values: dict[Feature, float] = {}
            for layer in sorted({layer for layer, _ in features}):
                indices = [index for at, index in features if at == layer]
                activations = self.baseline.donor_activations(donor, layer, indices)
                values |= {(layer, index): value for index, value in zip(indices, activations, strict=True)}
            self.donors[donor, features] = [values[feature] for feature in features]
        return self.donors[donor, features]

    def _refuse_silent_donor(self, op: FeatureOp, role: Role, members: Sequence[Member]) -> None:
        """RunError where no member of the group fires on its donor."""
        donor = None if role == "from" else getattr(op, "donor", None)
        features = tuple((member.layer, member.index) for member in members)
        if donor is not None and not any(value > 0 for value in self._donated(donor, features)):
            ids = ", ".join(member.id for member in members)
            raise RunError(f"no member of the group fires on its donor {donor.model_dump()}: {ids}")

    def _statistics(self, member: Member, reason: str) -> FeatureStatistics:
        return self._all_statistics(reason).at(member.layer, member.index)

    def _all_statistics(self, reason: str) -> Statistics:
        if self.transcoders.statistics is None:
            raise RunError(
                f"{reason} needs feature statistics, and {self.transcoders.name} has no statistics.safetensors beside"
                " its weights (for unit max_act alone, `max_act:` on the feature will do)"
            )
        return self.transcoders.statistics

    def _pushes(self, number: int, op: Steer, place: Place) -> list[Push]:
        group = op.direction if isinstance(op.direction, str) else op.direction.file
        return [
            Push(
                intervention=number,
                group=group,
                layer=layer if op.layer is None else int(op.layer),
                index=index,
                vector=vector,
                coefficient=float(op.coefficient) * weight,
                relative=op.unit == "residual_norm",
                positions=positions,
            )
            for layer, index, vector, weight, positions in self._directions(op, place)
        ]

    def _directions(self, op: Steer, place: Place) -> Iterator[tuple[int, int | None, Tensor, float, Positions]]:
        """Layer, feature, vector, weight and positions of what is pushed along."""
        positions = place.positions(op.positions, None)
        if isinstance(op.direction, DirectionFile):
            if op.layer is None:
                raise RunError(f"steer along the file {op.direction.file} needs a `layer`")
            yield int(op.layer), None, self.baseline.direction_file(op.direction.file), 1.0, positions
        elif op.direction in self.directions:
            layer, vector = self.baseline.direction(op.direction)
            yield layer, None, vector, 1.0, positions
        else:
            for member in _kept(members_of(op.direction, self.groups), op):
                at = member.layer if op.layer is None else int(op.layer)
                vector = self._added_in(at, member.layer, member.index)
                yield member.layer, member.index, vector, member.weight, place.positions(op.positions, member)

    # --- controls ---------------------------------------------------------------------------------------------

    def _controlled(self, stated: Stated, control: Control | None, draw: int) -> tuple[Sequence[Edit], Sequence[Push]]:
        edits, pushes = stated.edits, stated.pushes
        match control:
            case None:
                return edits, pushes
            case Identity():
                return [replace(e, factor=1.0, value=0.0, level="one") for e in edits], [
                    replace(p, coefficient=0.0) for p in pushes
                ]
            case OtherPositions(positions=elsewhere):
                there = stated.place.positions(elsewhere, None)
                return [replace(e, positions=there) for e in edits], [replace(p, positions=there) for p in pushes]
            case InhibitOnly():
                return [_silenced(e) if e.role == "to" else e for e in edits], pushes
            case InjectOnly():
                return [_silenced(e) if e.role == "from" else e for e in edits], pushes
            case RandomFeatures():
                taken = _taken(control)
                drawn = [self._random_push(p, control, draw) if taken(p) else p for p in pushes]
                if "active" in control.match:
                    return self._active_stand_ins(stated, control, draw), drawn
                stranger = self._strangers(control.match, control.seed, max(control.n, draw + 1), draw)
                return [replace(e, along=stranger(e.layer, e.index)) if taken(e) else e for e in edits], drawn
            case RandomDirection():
                taken = _taken(control)
                return (
                    [self._gaussian_edit(e, control, draw) if taken(e) else e for e in edits],
                    [self._gaussian_push(p, control, draw) if taken(p) else p for p in pushes],
                )
            case _:
                assert_never(control)

    def _drawn(self, layer: int, index: int, control: RandomFeatures, draw: int, allowed: Tensor | None = None) -> int:
        n = max(control.n, draw + 1)  # two controls of one type count on
        order = self._order if allowed is None else partial(self._drawing_order, allowed=allowed)
        return order(layer, index, control.match, control.seed, n)[draw]

    @cached_property
    def _order(self) -> Callable[[int, int, tuple[str, ...], int, int], Sequence[int]]:
        return cache(self._drawing_order)

    def _drawing_order(
        self, layer: int, index: int, match: tuple[str, ...], seed: int, n: int, allowed: Tensor | None = None
    ) -> Sequence[int]:
        statistics = self._all_statistics("the control random_features")
        density, norm = statistics.density[layer], statistics.decoder_norm[layer]
        excluded = self.named.get(layer, frozenset())
        pool = controls.candidates(density, norm, index, match, excluded, n, allowed)
        return controls.drawing_order(pool, seed, (layer, index))

    def _added_in(self, at: int, layer: int, index: int) -> Float[Tensor, " d_model"]:
        """What a unit of a feature adds to the stream; of a CLT's feature what it writes to the layer `at`."""
        [vector] = self.transcoders.decoder(layer, [index])
        if vector.dim() == 1:
            return self.transcoders.direct(layer, [index])[0]
        if at not in self.transcoders.writes_to(layer):
            raise RunError(
                f"steer in layer {at} along {layer}/{index}: the feature writes to layer {layer} and later ones"
            )
        return vector[at - layer]

    @cached_property
    def _norm(self) -> Callable[[int, int], float]:
        """How long all that a unit of a feature writes is."""
        return cache(lambda layer, index: float(self.transcoders.decoder(layer, [index])[0].norm()))

    @cached_property
    def _strangers(self) -> Callable[[tuple[str, ...], int, int, int], Callable[[int, int], Along]]:
        """Whose decoder vector a draw writes a feature's own change along, at the same norm; the same in all rows."""

        def along(match: tuple[str, ...], seed: int, n: int, draw: int, layer: int, index: int) -> Along:
            return Along(index=self._order(layer, index, match, seed, n)[draw], norm=self._norm(layer, index))

        return cache(lambda *control: cache(partial(along, *control)))

    def _active_stand_ins(self, stated: Stated, control: RandomFeatures, draw: int) -> list[Edit]:
        """The op itself, on other features that fire there; each once in a row."""
        taken = _taken(control)
        used: dict[int, set[int]] = {}
        found = []
        for edit in stated.edits:
            if taken(edit):
                others = used.setdefault(edit.layer, set())
                edit = self._active_stand_in(edit, control, draw, stated, others)
                others.add(edit.index)
            found.append(edit)
        return found

    def _active_stand_in(
        self, edit: Edit, control: RandomFeatures, draw: int, stated: Stated, used: Collection[int]
    ) -> Edit:
        place = stated.place
        allowed = self.baseline.fires(place.prompt, edit.layer, edit.positions.prompt).clone()
        allowed[list(used)] = False
        op = stated.interventions[edit.intervention]
        assert not isinstance(op, Steer)
        weight = next(m.weight for _, m in self._members(op) if (m.layer, m.index) == (edit.layer, edit.index))
        drawn = self._drawn(edit.layer, edit.index, control, draw, allowed)
        member = Member(layer=edit.layer, index=drawn, weight=weight)
        value = self._values(op, edit.role, [member])[0]
        stand_in = _edit(edit.intervention, op, edit.role, edit.group, member, value, place)
        return replace(stand_in, positions=edit.positions)

    def _members(self, op: FeatureOp) -> tuple[tuple[str, Member], ...]:
        uses = (op.from_, op.to) if isinstance(op, Swap) else (op.feature,)
        return tuple(pair for use in uses for pair in _named_members(use, self.groups))

    def _random_push(self, push: Push, control: RandomFeatures, draw: int) -> Push:
        if push.index is None:
            raise RunError("random_features needs a feature in `steer`'s place; for other directions: random_direction")
        drawn = self._drawn(push.layer, push.index, control, draw)
        vector = self._added_in(push.layer, push.layer, drawn)
        return replace(push, vector=vector * (push.vector.norm() / vector.norm()))

    def _gaussian_edit(self, edit: Edit, control: RandomDirection, draw: int) -> Edit:
        [target] = self.transcoders.decoder(edit.layer, [edit.index])
        vector = controls.gaussian(control.seed, draw, edit.layer, self.transcoders.d_model)
        if target.dim() == 2:  # one for every layer that is written to, as long as the target's there
            lengths = enumerate(target.norm(dim=-1).tolist())
            each = [controls.gaussian(control.seed, draw, edit.layer + j, len(vector)) * norm for j, norm in lengths]
            vector = torch.stack(each)
        return replace(edit, along=Along(index=None, vector=vector, norm=float(target.norm())))

    def _gaussian_push(self, push: Push, control: RandomDirection, draw: int) -> Push:
        vector = controls.gaussian(control.seed, draw, push.layer, self.transcoders.d_model)
        return replace(push, vector=vector * push.vector.norm())


@dataclass(frozen=True)
class Stated:
    """What a set-up says is done on a prompt, before a control puts something else in its place."""

    interventions: Sequence[Intervention]
    place: Place
    edits: Sequence[Edit]
    pushes: Sequence[Push]


@dataclass(frozen=True)
class Place:
    """The prompt a row is about."""

    prompt: Prompt
    encoded: Encoded

    def positions(self, stated: PositionsSpec | None, member: Member | None) -> Positions:
        """The intervention's positions, else the member's own, else all."""
        own = None if member is None else member.positions
        return self._resolved(stated if stated is not None else own if own is not None else "all")

    @cached_property
    def _resolved(self) -> Callable[[PositionsSpec], Positions]:
        return cache(lambda positions: resolve(positions, self.encoded, self.prompt))


def _edit(number: int, op: FeatureOp, role: Role, group: str, member: Member, value: float, place: Place) -> Edit:
    factor, value = affine(op, role, value)
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


def _level(op: FeatureOp, role: Role) -> Level:
    unit = getattr(op, "unit", "raw") if role != "from" else "raw"
    return {"own_act": "own", "source_act": "source"}.get(unit, "one")  # type: ignore[return-value]


def _kept(members: Sequence[Member], op: Intervention) -> tuple[Member, ...]:
    return tuple(member for member in members if _in_layers(member, op))


def _in_layers(member: Member, op: Intervention) -> bool:
    return op.layers is None or int(op.layers[0]) <= member.layer <= int(op.layers[1])


def _silenced(edit: Edit) -> Edit:
    """Still read (`source_act` is measured on it), nowhere written."""
    return replace(edit, positions=NOWHERE)


def _taken(control: RandomFeatures | RandomDirection) -> Callable[[Edit | Push], bool]:
    """Whose place is taken; a push is neither half of a swap."""
    match control.replace:
        case "all":
            return lambda change: True
        case "from" | "to":
            return lambda change: isinstance(change, Edit) and change.role == control.replace
        case groups:
            return lambda change: change.group in groups


def _refuse_conflicts(edits: Sequence[Edit], trial: Trial) -> None:
    if len({(edit.layer, edit.index) for edit in edits}) == len(edits):
        return
    seen: dict[tuple[int, int], list[Edit]] = {}
    for edit in edits:
        for other in seen.setdefault((edit.layer, edit.index), []):
            if edit.positions.overlaps(other.positions):
                raise ConflictError(
                    f"condition {trial.condition}, prompt {trial.prompt.id}: two interventions edit feature"
                    f" {edit.layer}/{edit.index} at the same positions"
                )
        seen[edit.layer, edit.index].append(edit)
