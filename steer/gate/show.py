"""`steer gate`: what was found, as tables and a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from steer.discovery.table import aligned, number
from steer.gate.records import Loss, Record
from steer.gate.verdict import fitting
from steer.transcoder.layout import runs

HEADER = ("layer", "unexplained", "L0", "published", "dead", "loss", "zero", "recovered", "verdict")


def gate_lines(records: Sequence[Record], kind: str) -> Iterator[str]:
    """Everything that a gate found, for the terminal."""
    first = records[0]
    yield (
        f"{first.transcoder} (reads {first.reads}, writes {first.writes}) on {first.model}: {first.text.name},"
        f" {first.text.tokens:,} tokens {'behind a BOS' if first.text.bos else 'without a BOS'}"
    )
    yield ""
    yield aligned(HEADER, [_row(one) for one in records])
    yield ""
    yield _together(first)
    yield ""
    points = tuple(dict.fromkeys(way.reads for way in first.figures.tries))
    tried = [row for one in records for row in _tried(one, points)]
    yield aligned(("layer", "BOS", *points, "fits"), tried)
    yield ""
    yield _reading(records, kind)
    yield _bos(records)
    yield from (f"note: {note}" for note in first.notes)
    yield ""
    yield from (f"layer {one.figures.layer} fails: {reason}" for one in records for reason in one.reasons)
    yield _verdict(records)


def _row(record: Record) -> tuple[str, ...]:
    one = record.figures
    return (
        str(one.layer),
        number(one.unexplained, 4),
        number(one.l0, 1),
        "-" if one.l0_published is None else f"{one.l0_published:g}",
        f"{one.dead:.1%}",
        *_loss(one.loss),
        record.verdict,
    )


def _loss(loss: Loss) -> tuple[str, str, str]:
    return number(loss.spliced), number(loss.zero), "-" if loss.recovered is None else f"{loss.recovered:.1%}"


def _together(record: Record) -> str:
    """The losses next to that of the model as it is."""
    spliced, zero, recovered = _loss(record.together)
    share = "" if recovered == "-" else f", {recovered} of the difference recovered"
    return (
        f"loss {number(record.together.original)} of the model as it is ({record.text.loss_tokens:,} tokens, nats a"
        f" token); with layers {runs(record.layers)} replaced at once {spliced}, with zero there {zero}{share}"
    )


def _tried(record: Record, points: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A row for each rule about the BOS that was tried: what is left unexplained at each point."""
    one = record.figures
    for bos in dict.fromkeys(way.bos for way in one.tries):
        left = {way.reads: way.unexplained for way in one.tries if way.bos == bos}
        own = " or ".join(fitting(one, bos))
        yield (str(one.layer), "on" if bos else "off", *(f"{left[point]:.4g}" for point in points), own)


def _reading(records: Sequence[Record], kind: str) -> str:
    """Which convention fits, and in how many layers."""
    declared = records[0].reads
    if kind == "sae":
        return f"reads {declared}: an SAE reads what it writes, so there is no other convention to try"
    tried = {way.reads for one in records for way in one.figures.tries}
    if len(tried) == 1:
        return f"reads {declared}: this architecture has no other of the three conventions"
    fits = Counter(" or ".join(fitting(one.figures, one.text.bos)) for one in records)
    counted = ", ".join(f"{points} in {n} of {len(records)} layers" for points, n in fits.most_common())
    return f"reads {declared}, it says; what fits: {counted}"


def _bos(records: Sequence[Record]) -> str:
    declared = records[0].reads
    pairs = [{way.bos: way.unexplained for way in one.figures.tries if way.reads == declared} for one in records]
    if len(pairs[0]) == 1:
        return "BOS: this tokenizer has none"
    better = sum(pair[True] < pair[False] for pair in pairs)
    return f"BOS: on leaves less unexplained in {better} of {len(pairs)} layers, off in {len(pairs) - better}"


def _verdict(records: Sequence[Record]) -> str:
    failed = [one.figures.layer for one in records if one.verdict == "fail"]
    if not failed:
        return f"gate: pass ({len(records)} layers)"
    return f"gate: fail (layers {runs(failed)} of {runs(one.figures.layer for one in records)})"
