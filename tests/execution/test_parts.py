from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from steer.execution.parts import Part, parts

DEPTH, WIDTH = 6, 20
starts = st.lists(st.tuples(st.integers(0, DEPTH + 1), st.integers(0, WIDTH - 1)), min_size=1, max_size=40)


def divided(found: list[tuple[int, int]]) -> list[Part]:
    layers, columns = zip(*found, strict=True)
    return parts(layers, columns, DEPTH, WIDTH)


@settings(max_examples=60, deadline=None)
@given(starts)
def test_every_row_that_differs_is_in_one_part_that_starts_before_it_does(found: list[tuple[int, int]]) -> None:
    made = divided(found)
    assert sorted(row for part in made for row in part.rows) == [b for b, (layer, _) in enumerate(found) if layer <= DEPTH]
    for part in made:
        for row in part.rows:
            assert part.layer <= found[row][0] and part.column <= found[row][1]


@settings(max_examples=60, deadline=None)
@given(starts)
def test_parts_never_cost_more_than_one_pass_over_everything_or_one_for_each_start(found: list[tuple[int, int]]) -> None:
    running = [start for start in found if start[0] <= DEPTH]
    if running:
        cost = sum(part.cost(DEPTH, WIDTH) for part in divided(found))
        rows = tuple(range(len(running)))
        together = Part(rows, min(layer for layer, _ in running), min(column for _, column in running))
        apart = [Part(tuple(b for b in rows if running[b] == start), *start) for start in set(running)]
        assert cost <= max(together.cost(DEPTH, WIDTH), sum(part.cost(DEPTH, WIDTH) for part in apart))


def test_few_rows_join_their_neighbours_and_many_stay_apart() -> None:
    few = divided([(layer, 0) for layer in range(3)])
    many = divided([(layer, 0) for layer, _ in product(range(3), range(40))])
    assert [part.layer for part in few] == [0] and [part.layer for part in many] == [0, 1, 2]
