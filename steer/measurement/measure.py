"""From a measurement of the experiment file to its two numbers: one closed match over the kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from typing_extensions import assert_never

from steer.errors import RunError
from steer.experiment import spec
from steer.measurement import features, logits, text

Pieces = Callable[[str], Sequence[int]]
"""The tokens of a word as it stands in running text, without BOS."""


@runtime_checkable
class Completion(Protocol):
    """What was generated: tokens without the EOS, the text, and why it ended (`length`: it was cut)."""

    @property
    def ids(self) -> tuple[int, ...]: ...
    @property
    def text(self) -> str: ...
    @property
    def stop_reason(self) -> str: ...


@dataclass(frozen=True)
class Side:
    """What was recorded of a trial, or of its baseline, for one measurement; `needs` says which of these.

    `logits` and `activations` have one row for each of the measurement's positions, on a device that has float64 (not
    mps). `nll` is the completion's mean
    negative log-likelihood a token under the unsteered model, in nats, None where it is empty. `completion_kl` is the
    mean over the baseline's completion of `kl_per_token`, None where that is empty.
    """

    logits: Float[Tensor, "n d_vocab"] | None = None
    activations: Float[Tensor, "n members"] | None = None
    completion: Completion | None = None
    nll: float | None = None
    completion_kl: float | None = None


@dataclass(frozen=True)
class Needs:
    """What must be recorded for a measurement; logits and activations at `measurement.position`."""

    logits: bool = False
    activations: bool = False
    completion: bool = False
    nll: bool = False
    completion_kl: bool = False


class Measured(NamedTuple):
    """A measurement's two values; None where it is undefined, never NaN or infinite."""

    baseline: float | None
    intervened: float | None


def measure(measurement: spec.Measurement, intervened: Side, baseline: Side, pieces: Pieces) -> Measured:
    """The measurement on both sides; for a baseline trial give the same Side twice.

    On the baseline itself `kl` and `edit_distance` are 0 and `first_divergence` is undefined. Raises RunError where
    the measurement cannot be taken: a target of several tokens, or a pattern that does not end.
    """
    return Measured(
        baseline=_finite(_value(measurement, baseline, baseline, pieces)),
        intervened=_finite(_value(measurement, intervened, baseline, pieces)),
    )


def measure_rows(
    measurement: spec.Measurement,
    seen: Float[Tensor, "rows n width"],
    unedited: Float[Tensor, "n width"],
    pieces: Pieces,
) -> list[float | None]:
    """A measurement on logits or activations for many rows that read at the same positions of one prompt.

    The same numbers as `measure` gives row by row. A position without activations (the last token that is generated is
    never read) is left out. RunError as there.
    """
    values = _by_position(measurement, seen, unedited, pieces)
    if needs(measurement).logits:
        return [_finite(value) for value in _means(values)]
    return [_finite(_mean(row[~row.isnan()])) for row in values]


def needs(measurement: spec.Measurement) -> Needs:
    """What the runner must record on both sides."""
    match measurement:
        case spec.Kl(over="completion"):
            return Needs(completion=True, completion_kl=True)
        case spec.FeatureActivation() | spec.GroupActivation():
            return Needs(activations=True)
        case spec.AtPosition():
            return Needs(logits=True)
        case spec.Perplexity():
            return Needs(completion=True, nll=True)
        case _:
            return Needs(completion=True)


def targets(measurement: spec.Measurement, pieces: Pieces) -> tuple[int, ...]:
    """The token ids that a measurement names, targets first, for `logit_shifts`; empty for the others."""
    words = (*_many(getattr(measurement, "target", ())), *_many(getattr(measurement, "foil", ())))
    return _ids(words, pieces)


def _value(measurement: spec.Measurement, side: Side, baseline: Side, pieces: Pieces) -> float | None:
    match measurement:
        case spec.Kl(over="completion"):
            return 0.0 if side is baseline and _completion(side).ids else side.completion_kl
        case spec.FeatureActivation() | spec.GroupActivation():
            return _mean(_by_position(measurement, _activations(side), _activations(baseline), pieces))
        case spec.AtPosition():
            return _mean(_by_position(measurement, _logits(side), _logits(baseline), pieces))
        case spec.Contains(words=words, ignore_case=ignore_case):
            return float(text.contains(_completion(side).text, _many(words), ignore_case))
        case spec.Regex(pattern=pattern):
            return float(text.matches(_completion(side).text, pattern))
        case spec.EndsWith(words=words):
            return float(text.ends_with(_completion(side).text, _many(words)))
        case spec.LastWord(words=words, line=line):
            return float(text.last_word(_completion(side).text, _many(words), line))
        case spec.Repetition(n=n):
            return text.repetition(_completion(side).ids, n)
        case spec.Distinct(n=n):
            return text.distinct(_completion(side).ids, n)
        case spec.Perplexity():
            return _perplexity(side.nll)
        case spec.EditDistance():
            return text.edit_distance(_completion(side).ids, _completion(baseline).ids)
        case spec.FirstDivergence():
            index = text.first_divergence(_completion(side).ids, _completion(baseline).ids)
            return None if index is None else float(index)
        case spec.Length():
            return float(len(_completion(side).ids))
        case spec.StopRate():
            return float(_completion(side).stop_reason != "length")
        case _:
            assert_never(measurement)


def _by_position(
    measurement: spec.Measurement,
    seen: Float[Tensor, "*rows n width"],
    unedited: Float[Tensor, "n width"],
    pieces: Pieces,
) -> Float[Tensor, "*rows n"]:
    """What is measured on logits or activations, at each position."""
    match measurement:
        case spec.TokenProb(target=target):
            return logits.token_prob(seen, _ids(target, pieces))
        case spec.TokenLogprob(target=target):
            return logits.token_logprob(seen, _ids(target, pieces))
        case spec.TokenRank(target=target):
            return logits.token_rank(seen, _ids(target, pieces))
        case spec.IsTop(target=target):
            return logits.is_top(seen, _ids(target, pieces))
        case spec.TopK(target=target, k=k):
            return logits.in_top_k(seen, _ids(target, pieces), k)
        case spec.LogitDiff(target=target, foil=foil):
            return logits.logit_diff(seen, _ids(target, pieces), _ids(foil, pieces))
        case spec.Kl():
            return logits.kl_per_token(*_aligned(seen, unedited))
        case spec.Entropy():
            return logits.entropy(seen)
        case spec.FeatureActivation():
            return features.feature_activation(seen)
        case spec.GroupActivation():
            return features.group_activation(seen)
        case _:
            raise AssertionError(f"{measurement.type} is measured on completions")


def _perplexity(nll: float | None) -> float | None:
    """exp of the mean negative log-likelihood a token. Source: Jelinek et al. 1977."""
    return None if nll is None else math.exp(min(nll, 709.0))  # 709: the largest exponent of a float64


def _aligned(intervened: Tensor, unedited: Tensor) -> tuple[Tensor, Tensor]:
    """Both sides' logits, where they have the same positions; generated ones need not."""
    if intervened.shape[-2:] != unedited.shape:
        raise RunError(
            f"kl compares the same positions of the same tokens, but there are {len(unedited)} in the baseline and "
            f"{intervened.shape[-2]} in the intervened run; over generated text write `over: completion`"
        )
    return intervened, unedited


def _means(values: Float[Tensor, "rows n"]) -> list[float | None]:
    """`_mean` of each row."""
    return values.mean(dim=-1).tolist() if values.shape[-1] else [None] * len(values)


def _mean(values: Float[Tensor, " n"]) -> float | None:
    """The mean over positions; None where there are none (nothing was generated, say)."""
    return float(values.mean()) if len(values) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _ids(words: str | Sequence[str], pieces: Pieces) -> tuple[int, ...]:
    """One token for each word, equal ones once."""
    return tuple(dict.fromkeys(_single(word, pieces) for word in _many(words)))


def _single(word: str, pieces: Pieces) -> int:
    ids = pieces(word)
    if len(ids) != 1:
        raise RunError(f"target {word!r} is {len(ids)} tokens ({', '.join(map(str, ids))}); it must be one")
    return ids[0]


def _many(words: str | Sequence[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)


def _logits(side: Side) -> Tensor:
    assert side.logits is not None, "recorded because `needs` asks for it"
    return side.logits


def _activations(side: Side) -> Tensor:
    assert side.activations is not None, "recorded because `needs` asks for it"
    return side.activations


def _completion(side: Side) -> Completion:
    assert side.completion is not None, "recorded because `needs` asks for it"
    return side.completion
