"""A small graph of named nodes: tokens below, features in their layers, the logit difference on top."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from steer.discovery.attribution import Attribution, Edge, Node, Trace, token_id

LOGIT = "logit"
Name = Callable[[int, int], str]


@dataclass(frozen=True)
class Asked:
    """The prompt, and the token behind it that is to be explained."""

    prompt: str
    target: str
    foil: str | None

    def __str__(self) -> str:
        return repr(self.target) + (f" rather than {self.foil!r}" if self.foil else "")


@dataclass(frozen=True)
class Graph:
    """Nodes and edges of one prompt; `tokens` are its tokens in order, `layers` the model's number of layers.

    `names` says of every feature which tokens it promotes.
    """

    asked: Asked
    tokens: tuple[str, ...]
    layers: int
    attribution: Attribution
    nodes: tuple[Node, ...]
    token_nodes: tuple[int, ...]
    edges: tuple[Edge, ...]
    names: Mapping[str, str]


def graph(asked: Asked, tokens: Sequence[str], layers: int, found: Attribution, traced: Trace, name: Name) -> Graph:
    """The best nodes with their edges to the logit, and what was traced of them."""
    nodes = {node.id: node for node in (*traced.parents, *found.nodes)}  # a best node's score is that on the logit
    into = tuple(Edge(node.id, LOGIT, node.score) for node in found.nodes)
    used = {edge.source for edge in traced.edges}
    return Graph(
        asked=asked,
        tokens=tuple(tokens),
        layers=layers,
        attribution=found,
        nodes=tuple(nodes.values()),
        token_nodes=tuple(p for p in range(len(tokens)) if token_id(p) in used),
        edges=(*into, *traced.edges),
        names={node.feature: name(node.layer, node.index) for node in nodes.values()},
    )


def as_json(graph: Graph) -> str:
    """The graph as a JSON object; weights and scores in logits into `logit`, in pre-activation into a feature."""
    best = {node.id for node in graph.attribution.nodes}
    nodes = [
        {"id": LOGIT, "kind": "logit", "target": graph.asked.target, "foil": graph.asked.foil},
        *(_feature(node, graph, node.id in best) for node in graph.nodes),
        *({"id": token_id(p), "kind": "token", "position": p, "token": graph.tokens[p]} for p in graph.token_nodes),
    ]
    content = {
        "prompt": graph.asked.prompt,
        "tokens": graph.tokens,
        "logit_difference": {**asdict(graph.attribution.shares), "biases": graph.attribution.shares.biases},
        "nodes": nodes,
        "edges": [{"from": edge.source, "to": edge.target, "weight": edge.weight} for edge in graph.edges],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _feature(node: Node, graph: Graph, best: bool) -> Mapping[str, object]:
    return {
        "id": node.id,
        "kind": "feature",
        "feature": node.feature,
        "promotes": graph.names[node.feature],
        "position": node.position,
        "token": graph.tokens[node.position],
        "activation": node.activation,
        "score": node.score if best else None,  # an upstream node's own edge to the logit is not among the best
    }
