"""The graph as a picture: positions from left to right, layers from bottom to top, an edge as wide as its weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from steer.discovery.attribution import Edge, Node, token_id
from steer.discovery.graph import LOGIT, Graph
from steer.errors import UsageError
from steer.files import write_atomic
from steer.report.figure import DIRECTION, INK, MUTED, TARGET, new_figure, styled, titled
from steer.report.visible import shortened

SUFFIXES = (".svg", ".png")
APART = 1.1  # between features of one layer and position, in columns
WIDEST = 4.0  # points of the strongest edge; edges into the logit and into features have a scale each


def require_picture(path: Path) -> None:
    """UsageError unless the name says SVG or PNG."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--picture {path}: expected a name that ends in {' or '.join(SUFFIXES)}")


def save_picture(graph: Graph, path: Path) -> None:
    """Draws the graph into an SVG or PNG file."""
    places, columns = _places(graph)
    with styled():
        figure = new_figure(max(7.2, 0.75 * columns[-1][1] + 2), 1.6 + 0.95 * (graph.layers + 2))
        axes = figure.add_subplot()
        _draw_edges(axes, graph.edges, places)
        _draw_nodes(axes, graph, places)
        _label(axes, graph, columns)
        plot = titled(figure, f"What puts {graph.asked} behind the prompt?", "", path.stem)
    write_atomic(path, plot.svg if path.suffix == ".svg" else plot.png)


def _places(graph: Graph) -> tuple[dict[str, tuple[float, float]], list[tuple[int, float]]]:
    """Where every node stands, and the middle of each position's column; positions without a node have none."""
    cells: dict[tuple[int, int], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        cells[node.position, node.layer].append(node)
    last = len(graph.tokens) - 1
    used = sorted({*graph.token_nodes, last, *(position for position, _ in cells)})
    places: dict[str, tuple[float, float]] = {}
    columns: list[tuple[int, float]] = []
    edge = 0.0
    for position in used:
        width = max([len(nodes) for (p, _), nodes in cells.items() if p == position], default=1) * APART
        middle = edge + width / 2
        columns.append((position, middle))
        places[token_id(position)] = (middle, -1.0)
        for (p, layer), nodes in cells.items():
            if p == position:
                places |= {
                    n.id: (middle + (i - (len(nodes) - 1) / 2) * APART, float(layer)) for i, n in enumerate(nodes)
                }
        edge += width + 0.4
    places[LOGIT] = (columns[-1][1], float(graph.layers))
    return places, columns


def _draw_edges(axes: Axes, edges: Sequence[Edge], places: dict[str, tuple[float, float]]) -> None:
    for group in ([e for e in edges if e.target == LOGIT], [e for e in edges if e.target != LOGIT]):
        largest = max((abs(edge.weight) for edge in group), default=1.0)
        for edge in group:
            (x0, y0), (x1, y1) = places[edge.source], places[edge.target]
            share = abs(edge.weight) / largest
            colour = TARGET if edge.weight > 0 else DIRECTION
            axes.plot(
                [x0, x1], [y0, y1], color=colour, linewidth=0.3 + WIDEST * share, alpha=0.25 + 0.5 * share, zorder=1
            )


def _draw_nodes(axes: Axes, graph: Graph, places: dict[str, tuple[float, float]]) -> None:
    for node in graph.nodes:
        x, y = places[node.id]
        axes.plot(x, y, "o", color=INK, markersize=5, zorder=2)
        label = f"{node.feature}\n{shortened(graph.names[node.feature], 11)}"
        axes.annotate(label, (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=7.5, zorder=3)
    for position in graph.token_nodes:
        axes.plot(*places[token_id(position)], "s", color=MUTED, markersize=5, zorder=2)
    x, y = places[LOGIT]
    axes.plot(x, y, "D", color=INK, markersize=7, zorder=2)
    axes.annotate(
        shortened(graph.asked.target), (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=9, zorder=3
    )


def _label(axes: Axes, graph: Graph, columns: Sequence[tuple[int, float]]) -> None:
    names = [f"{shortened(graph.tokens[position], 12)}\n{position}" for position, _ in columns]
    axes.set_xticks([middle for _, middle in columns], labels=names, fontsize=8)
    layers = [*range(-1, graph.layers + 1)]
    axes.set_yticks(
        layers, labels=["tokens", *(f"layer {layer}" for layer in range(graph.layers)), "logit"], fontsize=8
    )
    axes.set_title(
        "blue adds, orange takes away; edges into the logit and into features have a scale each",
        fontsize=9,
        color=MUTED,
    )
    axes.grid(False)
    axes.margins(0.05, 0.1)
