"""When does a layer fail the gate? Every bound on one page, with its reason; no torch.

UNEXPLAINED  1     at 1 the transcoder explains as much as one constant vector would
CLEARLY      0.9   another way to read fits better only if it leaves less than 0.9 of the variance that the declared
                   one leaves. Both are measured on the same tokens, so chance hardly parts them; true mistakes are
                   factors (on the wrong tensor Gemma Scope leaves 10^5 times as much), and where a norm's gain is
                   near 1 two tensors are nearly one and neither is wrong
L0_FACTOR    1.5   L0 depends on the text; the wrong tensor or another variant moves it by factors of 3 to 50
NATS         0.01  losses that differ by less are taken as equal, on a few thousand tokens
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from steer.gate.records import Figures, Loss, Try

UNEXPLAINED = 1.0
CLEARLY = 0.9
L0_FACTOR = 1.5
NATS = 0.01


def failures(found: Figures, reads: str, bos: bool, bos_published: bool | None) -> Iterator[str]:
    """Why a layer fails; nothing where it passes.

    `reads` is what the transcoder says that it reads, `bos` whether the runs of this model have a BOS in front, and
    `bos_published` whether its authors trained it with one (None: they do not say).
    """
    if not found.unexplained < UNEXPLAINED:
        yield f"unexplained variance {_number(found.unexplained)}: one constant vector would explain as much"
    own = _of(found.tries, reads, bos)
    better = min((one for one in found.tries if one.bos == bos), key=_left, default=None)
    if own and better and _clearly(better, own):
        yield (
            f"it says that it reads {reads} (unexplained {_number(own.unexplained)}), and {better.reads} fits"
            f" ({_number(better.unexplained)})"
        )
    said, other = _of(found.tries, reads, bos_published), _of(found.tries, reads, not bos_published)
    if bos_published is not None and said and other and _clearly(other, said):
        yield f"published as trained {_bos(bos_published)} BOS, and {_bos(not bos_published)} it fits better"
    if found.l0_published and not 1 / L0_FACTOR <= found.l0 / found.l0_published <= L0_FACTOR:
        yield f"L0 {found.l0:.1f}, published {found.l0_published:g}: more than a factor {L0_FACTOR} apart"
    if worse_than_nothing(found.loss):
        yield f"in the place of what is written, loss {found.loss.spliced:.3f}; zero there costs {found.loss.zero:.3f}"


def worse_than_nothing(loss: Loss) -> bool:
    """Whether the model would rather have zeros than what the transcoder says."""
    return not loss.spliced <= max(loss.zero, loss.original + NATS)


def bos_note(found: Sequence[Figures], reads: str, bos: bool) -> str | None:
    """What to tell where most layers fit clearly better with the other rule about the BOS than the runs have."""
    pairs = [(_of(one.tries, reads, bos), _of(one.tries, reads, not bos)) for one in found]
    better = sum(bool(own and other and _clearly(other, own)) for own, other in pairs)
    if 2 * better <= len(pairs):
        return None
    return (
        f"{better} of {len(pairs)} layers fit better {_bos(not bos)} BOS, and this model's prompts are read"
        f" {_bos(bos)} one" + ("" if bos else ": write it in front of yours")
    )


def fitting(found: Figures, bos: bool) -> tuple[str, ...]:
    """The points that fit: the best of those tried, and those that are not clearly worse."""
    tries = [one for one in found.tries if one.bos == bos]
    best = min(tries, key=_left)
    return tuple(one.reads for one in tries if not _clearly(best, one))


def _clearly(better: Try, worse: Try) -> bool:
    return _left(better) < CLEARLY * _left(worse)


def _left(one: Try) -> float:
    """What is left unexplained; what is no number is worse than all."""
    return one.unexplained if math.isfinite(one.unexplained) else math.inf


def _of(tries: Sequence[Try], reads: str, bos: bool | None) -> Try | None:
    return next((one for one in tries if (one.reads, one.bos) == (reads, bos)), None)


def _bos(bos: bool) -> str:
    return "with" if bos else "without"


def _number(value: float) -> str:
    return f"{value:.3g}"
