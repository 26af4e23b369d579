"""`steer discover examples`: where features fire most strongly, the token marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steer.discovery.block import Found, features_block
from steer.discovery.contexts import AFTER, BEFORE, Contexts, contexts, documents_of, windows
from steer.discovery.inputs import feature_of
from steer.discovery.promoted import promoted_tokens
from steer.errors import UsageError
from steer.execution.passes import Engine
from steer.transcoder.transcoder import Example


def show_examples(
    engine: Engine, written: Sequence[str], text: Path | None, top: int, name: str, command: str
) -> Found:
    """Contexts from a text, or those that were stored beside the weights. UsageError, TranscoderError."""
    features = list(dict.fromkeys(feature_of(one, engine.transcoders) for one in written))
    if text is None:
        found = {feature: (_stored(engine, *feature)[:top], "stored beside the weights") for feature in features}
    else:
        tokens = engine.model.tokens
        read = list(windows(documents_of(text, tokens), tokens, engine.model.n_ctx))
        found = {
            feature: (kept.examples, _frequency(kept, text))
            for feature, kept in contexts(engine, read, features, top).items()
        }
    promoted = promoted_tokens(engine)
    lines = [
        line
        for (layer, index), (examples, source) in found.items()
        for line in (f"feature {layer}/{index}, promotes {promoted(layer, index)}; {source}", *map(_line, examples))
    ]
    block = features_block({name: [f"{layer}/{index}" for layer, index in features]}, command)
    return Found("\n".join(lines), block)


def _stored(engine: Engine, layer: int, index: int) -> list[Example]:
    if engine.transcoders.layout.examples is None:
        raise UsageError(f"{engine.transcoders.name} has no examples beside its weights: give --text FILE")
    return engine.transcoders.examples(layer, index)


def _frequency(kept: Contexts, text: Path) -> str:
    return f"fires at {kept.fires:,} of {kept.tokens:,} tokens of {text}"


def _line(example: Example) -> str:
    """The activation at the peak, and the text around it, the peak in [[brackets]]."""
    words = [word.replace("\n", "⏎") for word in example.tokens]
    before = "".join(words[max(0, example.peak - BEFORE) : example.peak])
    after = "".join(words[example.peak + 1 : example.peak + 1 + AFTER])
    return f"{example.activations[example.peak]:9.3f}  {before}[[{words[example.peak]}]]{after}"
