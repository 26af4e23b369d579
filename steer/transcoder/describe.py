"""What is known about one feature: its statistics, where it fires, and which tokens its decoder vector promotes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from steer.transcoder.transcoder import Example, FeatureStatistics, Transcoders


@dataclass(frozen=True)
class Promoted:
    """A token and how much one unit of the decoder vector adds to its logit."""

    token_id: int
    token: str
    logit: float


@dataclass(frozen=True)
class Description:
    """One feature; `statistics` is None and `examples` empty where none were stored beside the weights."""

    layer: int
    index: int
    reads: str
    writes: str
    statistics: FeatureStatistics | None
    examples: tuple[Example, ...]
    promoted: tuple[Promoted, ...]
    suppressed: tuple[Promoted, ...]


def describe(
    transcoders: Transcoders,
    layer: int,
    index: int,
    norm_weight: Float[Tensor, " d_model"],
    unembedding: Float[Tensor, "d_vocab d_model"],
    token: Callable[[int], str],
    count: int = 10,
) -> Description:
    """The feature `layer/index` with its `count` most promoted and suppressed tokens.

    `norm_weight` is what the final norm multiplies by (for Gemma 1 + its stored weight); `token` writes a token id as
    text. Raises TranscoderError where there is no such feature.
    """
    [decoder_vector] = transcoders.direct(layer, [index])
    logits = direct_logits(decoder_vector.cpu(), norm_weight.cpu(), unembedding.cpu())
    return Description(
        layer=layer,
        index=index,
        reads=transcoders.reads,
        writes=transcoders.writes,
        statistics=transcoders.statistics_at(layer, index),
        examples=tuple(transcoders.examples(layer, index)),
        promoted=_extreme(logits, count, token, largest=True),
        suppressed=_extreme(logits, count, token, largest=False),
    )


def direct_logits(
    decoder_vector: Float[Tensor, " d_model"],
    norm_weight: Float[Tensor, " d_model"],
    unembedding: Float[Tensor, "d_vocab d_model"],
) -> Float[Tensor, " d_vocab"]:
    """What a decoder vector alone does to the logits ("logit lens"): unembedding @ (decoder_vector * norm_weight).

    Up to a positive factor (the norm's denominator), and blind to what later layers make of it. Source:
    nostalgebraist 2020, "interpreting GPT: the logit lens". In float32.
    """
    return unembedding.float() @ (decoder_vector.float() * norm_weight.float())


def _extreme(
    logits: Float[Tensor, " d_vocab"], count: int, token: Callable[[int], str], largest: bool
) -> tuple[Promoted, ...]:
    top = torch.topk(logits, min(count, len(logits)), largest=largest)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return tuple(Promoted(token_id, token(token_id), logit) for token_id, logit in pairs)
