from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from steer.collecting import paused, settled


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("context", [paused, settled])
def test_python_collects_as_before_afterwards_also_where_something_failed(
    context: Callable[[], AbstractContextManager[None]],
) -> None:
    with pytest.raises(ValueError, match="no"), context():
        raise ValueError("no")
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)


def test_a_pause_within_a_pause_does_not_end_it() -> None:
    with paused():
        with paused():
            pass
        assert not gc.isenabled()
