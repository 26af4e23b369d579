"""When Python looks for garbage: not while libraries, models and plans are loaded, and then no more among these."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Inside, nothing is collected: imports and plans make a million objects that stay, and looking through them again
    and again takes a quarter of the time that importing torch and transformers takes."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


@contextmanager
def settled() -> Iterator[None]:
    """Inside, the objects that there are already are passed over; a tenth of a run went into looking through them."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
