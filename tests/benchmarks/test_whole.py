"""A whole run is timed in full, and so is a sweep by its size."""

from __future__ import annotations

from benchmarks.scaling import one_run
from benchmarks.whole import DOSES, whole
from benchmarks.world import pocket


def test_the_time_in_the_model_is_part_of_the_time_in_all() -> None:
    found = whole(pocket(), prompts=2, controls=1)
    assert found.trials == 2 * (1 + len(DOSES) * 2)
    assert 0 < found.inside_wall_s < found.wall_s and found.passes >= 32
    assert 0 < found.share_inside < 1


def test_a_size_is_run_whole_and_its_peak_is_read() -> None:
    found = one_run(pocket(), 3)
    assert found["rows"] == 4 and found["cpu_s"] > 0 and found["peak_mb"] > 50
