"""Every contender that is installed, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from benchmarks.contenders import bridge, by_hand, ours, with_nnsight, with_pyvene
from benchmarks.contenders.contender import Contender
from benchmarks.workloads import Workload
from benchmarks.world import World

Maker = Callable[[World, Workload], Contender]


def installed() -> dict[str, Maker]:
    """In the order in which they take turns."""
    makers: dict[str, Maker] = {
        by_hand.PLAIN: by_hand.plain,
        by_hand.HOOKS: by_hand.hooks,
        by_hand.ON_ONEDNN: by_hand.hooks_on_onednn,
        bridge.ONE_ROW: partial(bridge.bridge, whole=False),
        bridge.WHOLE: partial(bridge.bridge, whole=True),
    }
    if find_spec("nnsight"):
        makers[with_nnsight.NAME] = with_nnsight.nnsight
    if find_spec("pyvene"):
        makers[with_pyvene.NAME] = with_pyvene.pyvene
    return {**makers, ours.ON_PYTORCH: ours.ours_on_pytorch, ours.NAME: ours.ours}
