"""`steer features`: what is known about a feature, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from steer.errors import UsageError
from steer.experiment.feature_ids import written_feature
from steer.model.language_model import LanguageModel
from steer.transcoder.describe import Description, Promoted, describe
from steer.transcoder.transcoder import Example, Transcoders

CONTEXT = 12  # tokens of an example shown on each side of its peak


def describe_features(written: Sequence[str], model: str, transcoders: Path, examples: int) -> Iterator[str]:
    """A description of each feature, however written. UsageError for other text, TranscoderError for what is not."""
    places = [_feature(text) for text in written]
    language_model = LanguageModel.load(model)
    opened = Transcoders.open(transcoders, model=language_model.folder)
    gain, unembedding = language_model.final_gain(), language_model.unembedding()
    for layer, index in places:
        described = describe(opened, layer, index, gain, unembedding, language_model.tokens.token)
        yield "\n".join(_lines(described, examples))


def _feature(text: str) -> tuple[int, int]:
    read = written_feature(text)
    if read is None:
        raise UsageError(f"{text!r} is not a feature; expected layer/index, as in 3/411")
    return read.layer, read.index


def _lines(feature: Description, examples: int) -> Iterator[str]:
    yield f"feature {feature.layer}/{feature.index}  (reads {feature.reads}, writes {feature.writes})"
    if feature.statistics is None:
        yield "  no statistics (`steer gate` measures them)"
    else:
        s = feature.statistics
        yield f"  largest activation {s.max_act:.3f}, mean {s.mean:.5f}, density {s.density:.3%}"
        yield f"  |W_dec| {s.decoder_norm:.3f}"
    yield f"  promotes:   {_tokens(feature.promoted)}"
    yield f"  suppresses: {_tokens(feature.suppressed)}"
    if not feature.examples:
        yield "  no examples beside the weights"
    yield from (f"  {_example(example)}" for example in feature.examples[:examples])


def _tokens(promoted: Sequence[Promoted]) -> str:
    return ", ".join(f"{one.token!r} {one.logit:+.2f}" for one in promoted)


def _example(example: Example) -> str:
    """The text around the peak, the peak in [[brackets]]."""
    tokens = [token.replace("\n", "⏎") for token in example.tokens]
    before = "".join(tokens[max(0, example.peak - CONTEXT) : example.peak])
    after = "".join(tokens[example.peak + 1 : example.peak + 1 + CONTEXT])
    return f"{example.activations[example.peak]:7.3f}  {before}[[{tokens[example.peak]}]]{after}"
