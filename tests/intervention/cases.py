"""Random trials, each twice: as the file would state it, and as the oracle understands it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import TypeAdapter

from steer.experiment.spec import Constrain, Control, Intervention, Member
from steer.experiment.trial import Prompt, Setup, Trial
from steer.intervention.positions import resolve
from steer.intervention.rows import Resolver
from steer.model.tokens import Encoded
from tests.intervention.oracle import Baseline, Case, Change, Shove
from tests.intervention.world import WIDTH, World

INTERVENTION: TypeAdapter[Any] = TypeAdapter(Intervention)
CONTROL: TypeAdapter[Any] = TypeAdapter(Control)
STEPS = 4
OPS = ("clamp", "scale", "add", "ablate", "swap", "steer")
WORDS = ["the", "rabbit", "had", "to", "grab", "it", "and", "a", "carrot", "said", "User:", "who", "you", "bridge"]


class NoBaseline:
    """For set-ups that ask the unedited model nothing."""


@dataclass(frozen=True)
class Stated:
    """A trial as the file states it."""

    trial: Trial
    encoded: Encoded


@dataclass(frozen=True)
class Generated:
    """The same, with what the oracle makes of it."""

    trial: Trial
    encoded: Encoded
    case: Case


def groups(rng: random.Random, n_layers: int) -> dict[str, tuple[Member, ...]]:
    """Three disjoint groups over several layers."""
    taken = rng.sample([(layer, index) for layer in range(n_layers) for index in range(WIDTH)], 9)
    names = ("a", "b", "c")
    return {
        name: tuple(
            Member(layer=layer, index=index, weight=rng.choice([1.0, 1.0, 0.5]))
            for layer, index in taken[3 * i : 3 * i + rng.randint(1, 3)]
        )
        for i, name in enumerate(names)
    }


def resolver(world: World, group: dict[str, tuple[Member, ...]]) -> Resolver:
    named = {layer: frozenset(m.index for g in group.values() for m in g if m.layer == layer) for layer in range(9)}
    return Resolver(group, (), named, world.transcoders, NoBaseline())  # type: ignore[arg-type]


def generate_trial(rng: random.Random, world: World, group: dict[str, tuple[Member, ...]], number: int) -> Stated:
    """One random trial."""
    prompt = Prompt(id=f"p{number}", text=" ".join(rng.choices(WORDS, k=rng.randint(3, 9))))
    encoded = world.model.tokens.encode(prompt.text)
    length = len(encoded.ids)
    ops = rng.sample(OPS, rng.randint(1, 2))
    free = dict.fromkeys(rng.sample(sorted(group), 3))
    stated = [_intervention(rng, op, free, length, world.model.n_layers) for op in ops]
    freeze = rng.random() < 0.2, rng.random() < 0.2
    first = rng.randint(0, world.model.n_layers - 1)
    layers = (first, rng.randint(first - 1, world.model.n_layers - 1)) if rng.random() < 0.25 else None
    interventions = tuple(INTERVENTION.validate_python(one) for one in stated)
    control = _control(rng, interventions)
    setup = Setup(interventions, freeze[0], freeze[1], None if layers is None else Constrain(layers=layers), control)
    index = rng.randint(0, 2) if control is not None and "random" in control.type else 0
    trial = Trial(f"t{number}", prompt, "c", "none" if control is None else control.type, index, {}, 0, setup, {})
    return Stated(trial, encoded)


def understood(world: World, group: dict[str, tuple[Member, ...]], stated: Stated) -> Generated:
    """What the oracle is to do."""
    return Generated(stated.trial, stated.encoded, _case(world, group, stated.trial, stated.encoded))


def _positions(rng: random.Random, length: int) -> Any:
    kind = rng.randrange(8)
    match kind:
        case 0 | 1:
            return "all"
        case 2:
            return "prompt"
        case 3:
            return "generated"
        case 4:
            return "last"
        case 5:
            return rng.randint(-length, length + 1)
        case 6:
            return [rng.randrange(length), rng.randrange(length)]
        case _:
            return f"{rng.randrange(length)}:"


def _intervention(rng: random.Random, op: str, free: dict[str, None], length: int, n_layers: int) -> dict[str, Any]:
    use = [free.popitem()[0] for _ in range(2 if op == "swap" else 1)]
    stated: dict[str, Any] = {"op": op, "positions": _positions(rng, length)}
    value = round(rng.uniform(-3, 3), 2)
    match op:
        case "clamp" | "add":
            stated |= {"feature": use[0], "value": value, "unit": rng.choice(["raw", "max_act", "own_act"])}
        case "scale":
            stated |= {"feature": use[0], "factor": value}
        case "ablate":
            stated |= {"feature": use[0], "to": rng.choice(["zero", "mean"])}
        case "swap":
            unit = rng.choice(["source_act", "source_act", "own_act", "raw"])
            stated |= {"from": use[0], "to": use[1], "from_factor": rng.choice([0, -1.5]), "value": value, "unit": unit}
        case "steer":
            stated |= {"direction": use[0], "coefficient": value, "unit": rng.choice(["raw", "residual_norm"])}
    if rng.random() < 0.2:
        stated["layers"] = [0, n_layers - 2]
    return stated


def _control(rng: random.Random, interventions: tuple[Any, ...]) -> Any:
    kinds: list[dict[str, Any]] = [{"type": "random_features", "n": 3}, {"type": "random_direction", "n": 3}]
    kinds += [{"type": "identity"}, {"type": "other_positions", "positions": "1:"}]
    if any(op.op == "swap" for op in interventions):
        kinds += [{"type": "inhibit_only"}, {"type": "inject_only"}]
    return CONTROL.validate_python(rng.choice(kinds)) if rng.random() < 0.4 else None


# --- the oracle's understanding -------------------------------------------------------------------------------


def _case(world: World, group: dict[str, tuple[Member, ...]], trial: Trial, encoded: Encoded) -> Case:
    changes: list[Change] = []
    shoves: list[Shove] = []
    for op in trial.setup.interventions:
        stated = trial.setup.control.positions if trial.control == "other_positions" else op.positions  # type: ignore[union-attr]
        found = resolve(stated, encoded, trial.prompt)
        total = len(encoded.ids) + STEPS
        positions = frozenset(p for p in range(total) if p in found)
        if op.op == "steer":
            shoves += _shoves(world, group, op, positions, trial)
        else:
            changes += _changes(world, group, op, positions, trial)
    constrain = trial.setup.constrain
    return Case(
        encoded.ids,
        tuple(changes),
        tuple(shoves),
        trial.setup.freeze_attention,
        trial.setup.freeze_norms,
        range(0) if constrain is None else range(constrain.layers[0], constrain.layers[1] + 1),
    )


def _members(group: dict[str, tuple[Member, ...]], name: str, op: Any) -> list[Member]:
    low, high = op.layers or (0, 99)
    return [member for member in group[name] if low <= member.layer <= high]


def _changes(
    world: World, group: dict[str, tuple[Member, ...]], op: Any, positions: frozenset[int], trial: Trial
) -> list[Change]:
    halves = [("from", op.from_), ("to", op.to)] if op.op == "swap" else [("feature", op.feature)]
    changes = []
    for role, name in halves:
        silent = (trial.control, role) in {("inhibit_only", "to"), ("inject_only", "from")}
        for member in _members(group, name, op):
            new = (lambda a, level: a) if trial.control == "identity" else _rule(world, op, role, member)
            level = _level(group, op, role, member)
            if trial.control == "identity":
                level = _ones
            along = _along(world, trial, member)
            where = frozenset() if silent else positions
            changes.append(Change(member.layer, member.index, where, new, level, along))
    return changes


def _rule(world: World, op: Any, role: str, member: Member) -> Any:
    statistics = world.transcoders.statistics
    assert statistics is not None
    known = statistics.at(member.layer, member.index)
    constant = known.max_act if getattr(op, "unit", "") == "max_act" else 1.0
    if op.op == "clamp" or (op.op == "swap" and role == "to"):
        return lambda a, level: torch.as_tensor(op.value * member.weight * constant).double() * level
    if op.op == "scale":
        return lambda a, level: op.factor * a
    if op.op == "add":
        return lambda a, level: a + op.value * member.weight * constant * level
    if op.op == "ablate":
        return lambda a, level: torch.as_tensor(known.mean if op.to == "mean" else 0.0).double()
    return lambda a, level: op.from_factor * a


def _ones(baseline: Baseline) -> torch.Tensor:
    return torch.ones(len(baseline.features[0])).double()


def _level(group: dict[str, tuple[Member, ...]], op: Any, role: str, member: Member) -> Any:
    unit = getattr(op, "unit", "raw")
    if role == "from" or unit in ("raw", "max_act"):
        return _ones
    if unit == "own_act":
        return lambda baseline: baseline.features[member.layer][:, member.index]
    sources = _members(group, op.from_, op)

    def mean_of_firing(baseline: Baseline) -> torch.Tensor:
        values = torch.stack([baseline.features[s.layer][:, s.index] for s in sources]) if sources else None
        if values is None:
            return torch.full((len(baseline.features[0]),), torch.nan).double()
        fires = values > 0
        return (values * fires).sum(0) / fires.sum(0)

    return mean_of_firing


def _along(world: World, trial: Trial, member: Member) -> torch.Tensor | None:
    """The stand-in's vector; who stands in is not the oracle's business (the draw has tests of its own)."""
    if trial.control not in ("random_features", "random_direction"):
        return None
    return _stand_in(world, trial, member.layer, member.index)


def _stand_in(world: World, trial: Trial, layer: int, index: int) -> torch.Tensor:
    W_dec = world.tensors[layer]["W_dec"]
    control = trial.setup.control
    assert control is not None
    if control.type == "random_direction":
        from steer.intervention.controls import gaussian

        other = gaussian(control.seed, trial.control_index, layer, W_dec.shape[1]).double()
    else:
        other = DRAWN[trial.id, layer, index]
    return other * W_dec[index].norm() / other.norm()


DRAWN: dict[tuple[str, int, int], torch.Tensor] = {}
"""Who stands in for whom: filled from the resolved rows before the oracle runs."""


def _shoves(
    world: World, group: dict[str, tuple[Member, ...]], op: Any, positions: frozenset[int], trial: Trial
) -> list[Shove]:
    shoves = []
    for member in _members(group, op.direction, op):
        vector = world.tensors[member.layer]["W_dec"][member.index]
        if trial.control in ("random_features", "random_direction"):
            vector = _stand_in(world, trial, member.layer, member.index)
        coefficient = 0.0 if trial.control == "identity" else op.coefficient * member.weight
        shoves.append(Shove(member.layer, positions, vector, coefficient, op.unit == "residual_norm"))
    return shoves
