from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from steer.execution.parts import PASS, Part, parts, pieces

DEPTH, WIDTH = 6, 20
Start = tuple[int, int]
starts = st.lists(st.tuples(st.integers(0, DEPTH + 1), st.integers(0, WIDTH - 1)), min_size=1, max_size=40)


def divided(found: list[Start], joining: bool = True) -> list[Part]:
    layers, columns = zip(*found, strict=True)
    return parts(layers, columns, DEPTH, WIDTH, joining)


@settings(max_examples=60, deadline=None)
@given(starts, st.booleans())
def test_every_row_that_runs_comes_in_once_no_later_than_it_has_to(found: list[Start], joining: bool) -> None:
    made = divided(found, joining)
    assert sorted(row for part in made for row in part.rows) == [
        b for b, start in enumerate(found) if start[0] <= DEPTH
    ]
    for part in made:
        assert [layer for layer, _ in part.joins] == sorted({layer for layer, _ in part.joins})
        assert joining or len(part.joins) == 1
        for layer, rows in part.joins:
            assert all(layer <= found[row][0] and part.column <= found[row][1] for row in rows)


def cost(run: list[Start]) -> int:
    """Of rows that come in where they have to."""
    column = min(column for _, column in run)
    deepest = max(DEPTH - layer for layer, _ in run)
    return PASS * deepest + sum((DEPTH - layer) * (WIDTH - column) for layer, _ in run)


def every_division(rows: list[Start]) -> Iterator[int]:
    """The costs of all ways to divide rows, in the order of their columns, into runs."""
    for cuts in product([False, True], repeat=len(rows) - 1):
        runs = [[rows[0]]]
        for row, divide in zip(rows[1:], cuts, strict=True):
            runs.append([row]) if divide else runs[-1].append(row)
        yield sum(map(cost, runs))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, DEPTH), st.integers(0, WIDTH - 1)), min_size=1, max_size=8))
def test_no_other_division_costs_less(found: list[Start]) -> None:
    made = [cost([found[row] for row in part.rows]) for part in divided(found)]
    assert sum(made) == min(every_division(sorted(found, key=lambda start: start[1])))


def test_few_rows_come_in_early_and_many_where_they_have_to() -> None:
    [few] = divided([(layer, 0) for layer in range(2)])
    [many] = divided([(layer, 0) for layer, _ in product(range(3), range(40))])
    assert few.joins == ((0, (0, 1)),)
    assert [(layer, len(rows)) for layer, rows in many.joins] == [(0, 40), (1, 40), (2, 40)]


@settings(max_examples=60, deadline=None)
@given(starts, st.integers(1, 200))
def test_pieces_are_the_part_in_its_order_and_no_larger_than_they_may_be(found: list[Start], most: int) -> None:
    for part in divided(found):
        pieced = list(pieces(part, WIDTH, most))
        assert [row for piece in pieced for row in piece.rows] == list(part.rows)
        assert {piece.column for piece in pieced} == {part.column}
        entering = {row: layer for layer, rows in part.joins for row in rows}
        assert all(entering[row] == layer for piece in pieced for layer, rows in piece.joins for row in rows)
        sizes = [len(piece.rows) for piece in pieced]
        assert all(n == 1 or n * (WIDTH - part.column) <= most for n in sizes) and max(sizes) - min(sizes) <= 1


def test_rows_that_only_give_logits_are_a_part_by_themselves() -> None:
    *running, answering = divided([(0, 3), (DEPTH, 0), (2, 3), (DEPTH, 7)])
    assert [part.rows for part in running] == [(0, 2)]
    assert answering == Part(0, ((DEPTH, (1, 3)),))
