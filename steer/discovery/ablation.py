"""What the model really does without a feature: each node ablated by itself, in batches, everything else live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steer.discovery.attribution import Node, Objective
from steer.discovery.frozen import unembedded
from steer.execution.batches import ROWS, TOKENS
from steer.execution.passes import Engine, Text, edited_pass, unedited_pass
from steer.intervention.edits import Along, Edit
from steer.intervention.positions import Positions
from steer.intervention.rows import Row
from steer.intervention.watch import Watch


def ablated(
    engine: Engine, ids: tuple[int, ...], nodes: Sequence[Node], objective: Objective, freeze: bool = False
) -> list[float]:
    """Change of the logit difference (before a softcap) when each node alone is set to zero at its position.

    With `freeze`, attention patterns and norm denominators stay as they were.
    """
    return without_each(engine, ids, [without(node, freeze) for node in nodes], objective)


def without_each(engine: Engine, ids: tuple[int, ...], rows: Sequence[Row], objective: Objective) -> list[float]:
    """Change of the logit difference in each row, however many rows there are.

    Every batch carries the unedited prompt as its first row, so that differences are taken at equal batch shape.
    """
    size = max(1, min(ROWS, TOKENS // len(ids)) - 1)
    chunks = (rows[start : start + size] for start in range(0, len(rows), size))
    return [effect for chunk in chunks for effect in effects(engine, ids, chunk, objective)]


def without(node: Node, freeze: bool) -> Row:
    """The intervention `ablate` on one feature at one position."""
    return ablating(node.layer, node.index, (node.position,), freeze)


def ablating(layer: int, index: int, positions: tuple[int, ...], freeze: bool = False) -> Row:
    """The intervention `ablate` on one feature at some positions."""
    edit = Edit(
        intervention=0,
        role="feature",
        group=f"{layer}/{index}",
        layer=layer,
        index=index,
        factor=0.0,
        value=0.0,
        level="one",
        positions=Positions(positions),
        along=Along(index=index),
    )
    return Row(edits=(edit,), freeze_attention=freeze, freeze_norms=freeze)


def effects(engine: Engine, ids: tuple[int, ...], rows: Sequence[Row], objective: Objective) -> list[float]:
    """Change of the logit difference at the prompt's end in each row, compared with the unedited prompt."""
    batch, engine = [Row(), *rows], replace(engine, shortcuts=False)  # one pass, whose unembedding is looked at
    device, pad_id = engine.model.device, engine.model.tokens.pad_id
    unwatched = Watch((), engine.transcoders, 1, 0, device)
    one = Text.of([ids], [()], pad_id, device)
    known = unedited_pass(engine, one, batch, unwatched, [len(ids) - 1])
    text = Text.of([ids] * len(batch), [()] * len(batch), pad_id, device)
    with unembedded(engine.model) as logits:
        edited_pass(engine, text, [0] * len(batch), known, batch)
    values = objective.of(logits[-1][:, -1].float())
    return list((values[1:] - values[0]).tolist())
