"""Cold starts give the right logits; here in this process, where nothing is cold."""

from __future__ import annotations

import os

import pytest

from benchmarks.cold import child, start
from benchmarks.reference import TOLERANCE, Reference
from benchmarks.workloads import Clamp
from benchmarks.world import World

CLAMPS = (Clamp(0, 3, 5.0), Clamp(1, 7, 5.0))


@pytest.mark.parametrize("who", ["by_hand", "bridge", "ours"])
def test_the_first_steered_logits_are_the_references(world: World, who: str) -> None:
    given, steps = start.given(world, CLAMPS), []
    logits = getattr(child, who)(given, steps.append)
    expected = Reference(world).logits(given["ids"], CLAMPS)[-1]
    assert len(logits) >= 10 and len(steps) >= 2
    assert max(abs(value - float(expected[int(token)])) for token, value in logits.items()) < TOLERANCE / 10


def test_every_name_has_its_child() -> None:
    assert {who for who in start.NAMES if callable(getattr(child, who))} == set(start.NAMES)


def test_anonymous_memory_is_read_of_a_process_that_runs_and_of_none() -> None:
    assert start.anonymous_mb(os.getpid()) > 10
    assert start.anonymous_mb(2**22 + 1) == 0.0
