"""Which features put a logit where it is, and which features put those where they are: direct edges, one prompt.

A feature's score is activation * (decoder vector . gradient at the place the decoder vector is added), in units of what
the gradient is of. The scores of all features, what the MLPs wrote besides, the token embeddings and the biases add up
to it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from steer.discovery.frozen import Frozen, Gradients
from steer.transcoder.transcoder import Transcoders

PARENTS = 6  # edges that are kept into a traced feature at most
WEAK = 0.05  # of the strongest edge into it: what is weaker is left out


@dataclass(frozen=True)
class Objective:
    """logit(target) - logit(foil), or minus the mean of all logits where there is no foil."""

    target: int
    foil: int | None = None

    def of(self, logits: Float[Tensor, "... d_vocab"]) -> Float[Tensor, "..."]:
        return logits[..., self.target] - (logits.mean(-1) if self.foil is None else logits[..., self.foil])


@dataclass(frozen=True)
class Node:
    """A feature that is active at a position, and its score."""

    layer: int
    index: int
    position: int
    activation: float
    score: float

    @property
    def feature(self) -> str:
        return f"{self.layer}/{self.index}"

    @property
    def id(self) -> str:
        return f"{self.feature}@{self.position}"


@dataclass(frozen=True)
class Edge:
    """What one node adds to another directly: to its pre-activation, or to the logit difference."""

    source: str
    target: str
    weight: float


@dataclass(frozen=True)
class Active:
    """The features of a layer that are active in the prompt, with their activations and decoder vectors."""

    layer: int
    indices: tuple[int, ...]
    activations: Float[Tensor, "pos k"]
    decoder: Float[Tensor, "k d_model"]

    def scores(self, gradient: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos k"]:
        return self.activations * (gradient @ self.decoder.T)


@dataclass(frozen=True)
class Shares:
    """What a logit difference is made of; `errors` is what MLPs wrote that no feature stands for, `b_dec` included."""

    difference: float
    features: float
    errors: float
    embeddings: float

    @property
    def biases(self) -> float:
        return self.difference - self.features - self.errors - self.embeddings


@dataclass(frozen=True)
class Attribution:
    """The best nodes of a prompt by size of score, and the shares of its logit difference."""

    nodes: tuple[Node, ...]
    shares: Shares


def active_features(frozen: Frozen, transcoders: Transcoders, start: int) -> tuple[Active, ...]:
    """Every feature that is active at a position from `start` on (BOS is left out), layer by layer."""
    return tuple(_active(layer, x.detach(), transcoders, start) for layer, x in sorted(frozen.reads.items()))


def _active(layer: int, x: Float[Tensor, "pos d_model"], transcoders: Transcoders, start: int) -> Active:
    activations = transcoders.encode_all(layer, x)
    activations[:start] = 0
    indices = torch.nonzero((activations != 0).any(0)).flatten()
    numbers = tuple(indices.tolist())
    return Active(layer, numbers, activations[:, indices], transcoders.decoder(layer, numbers))


def attribute(frozen: Frozen, active: Sequence[Active], objective: Objective, top: int) -> Attribution:
    """One backward pass from the logit difference at the prompt's end."""
    difference = objective.of(frozen.logits)
    embedding, gradients = frozen.gradients(difference)
    nodes = scored(active, gradients)
    written = sum(float((out[0].detach().float() * gradients[layer]).sum()) for layer, out in frozen.written.items())
    features = sum(node.score for node in nodes)
    shares = Shares(
        difference=float(difference.detach()),
        features=features,
        errors=written - features,
        embeddings=float((frozen.embedding[0].detach().float() * embedding).sum()),
    )
    return Attribution(tuple(nodes[:top]), shares)


def scored(active: Sequence[Active], gradients: Gradients) -> list[Node]:
    """Every active feature at every position where it has a score, the largest first; ties in reading order."""
    found = [node for layer in active for node in _nodes(layer, layer.scores(gradients[layer.layer]))]
    return sorted(found, key=lambda node: (-abs(node.score), node.layer, node.index, node.position))


def _nodes(active: Active, scores: Float[Tensor, "pos k"]) -> list[Node]:
    where = torch.nonzero(scores).tolist()
    return [
        Node(active.layer, active.indices[k], p, float(active.activations[p, k]), float(scores[p, k])) for p, k in where
    ]


@dataclass(frozen=True)
class Trace:
    """One step back from some nodes: the edges into them, and the upstream nodes those come from."""

    edges: tuple[Edge, ...]
    parents: tuple[Node, ...]


def trace(
    frozen: Frozen, active: Sequence[Active], nodes: Sequence[Node], transcoders: Transcoders, start: int
) -> Trace:
    """The strongest edges into each node, from features and from token embeddings (`token@position`).

    An edge is the source's activation times its decoder vector on the linear path to the node's encoder vector; with
    the other features, errors, embeddings and biases they add up to the node's pre-activation.
    """
    found = [_edges_into(frozen, active, node, transcoders, start) for node in nodes]
    edges = tuple(edge for edges, _ in found for edge in edges)
    parents = {node.id: node for _, nodes in found for node in nodes}
    return Trace(edges, tuple(parents.values()))


def _edges_into(
    frozen: Frozen, active: Sequence[Active], node: Node, transcoders: Transcoders, start: int
) -> tuple[list[Edge], list[Node]]:
    [direction] = transcoders.encoder(node.layer, [node.index]).W_enc
    embedding, gradients = frozen.gradients(frozen.reads[node.layer][node.position] @ direction)
    features = {parent.id: parent for parent in scored(active[: node.layer], gradients)[:PARENTS]}
    tokens = (frozen.embedding[0].detach().float() * embedding).sum(-1).tolist()
    edges = [Edge(parent.id, node.id, parent.score) for parent in features.values()]
    edges += [Edge(token_id(p), node.id, weight) for p, weight in enumerate(tokens) if p >= start and weight]
    ranked = sorted(edges, key=lambda edge: -abs(edge.weight))[:PARENTS]
    kept = [edge for edge in ranked if abs(edge.weight) >= WEAK * abs(ranked[0].weight)]
    return kept, [features[edge.source] for edge in kept if edge.source in features]


def token_id(position: int) -> str:
    """The embedding of the token at a position, as a node."""
    return f"token@{position}"
