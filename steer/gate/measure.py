"""The gate itself: what is measured of each layer, and the record that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import torch
from safetensors.torch import save
from torch import Tensor

from steer.execution.provenance import packages
from steer.files import make_folder, write_atomic
from steer.gate.passes import Losses, Pair, survey
from steer.gate.records import Figures, Loss, Record, Text, Try
from steer.gate.text import Documents, beginning, puts_bos, rows
from steer.gate.verdict import bos_note, failures
from steer.model.explained import Sums
from steer.model.hashes import model_hash
from steer.transcoder.canonical import READS
from steer.transcoder.hashes import layer_hash
from steer.transcoder.measured import statistics_of
from steer.transcoder.registry import Release

TRIED = 4_096  # tokens on which each way to read is tried: a wrong one is off by far more than these leave open

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Asked:
    """What is gated: the transcoder's id, which layers, on what text, how many tokens of it, and for each loss."""

    transcoder: str
    layers: tuple[int, ...]
    documents: Documents
    tokens: int
    loss_tokens: int


@dataclass(frozen=True)
class Gated:
    """What came out: a record a layer, and the totals that the statistics come from."""

    records: tuple[Record, ...]
    sums: dict[int, Sums]


def points(pair: Pair, layers: Sequence[int]) -> tuple[str, ...]:
    """The hook points that are tried: the three conventions that this architecture has; of an SAE its own."""
    own = pair.transcoders.reads
    others = () if pair.transcoders.kind == "sae" else READS
    there = [one for one in others if all(f"blocks.{layer}.{one}" in pair.model.hook_dict for layer in layers)]
    return tuple(dict.fromkeys((own, *there)))


def steps(n_layers: int) -> int:
    """How many times text is read: twice to try, once for the figures, and for the losses."""
    return 3 + 1 + 2 * (n_layers + 1)


def gated(pair: Pair, asked: Asked, release: Release | None, progress: Progress) -> Gated:
    """Measure and judge. UsageError where the text is too short."""
    tokens = pair.model.tokens
    bos = puts_bos(tokens)
    text = rows(asked.documents, tokens, bos, asked.tokens, pair.model.n_ctx)
    tries = _tries(pair, asked, progress)
    [sums] = survey(pair, text, asked.layers, [pair.transcoders.reads]).values()
    progress(1)
    loss_text = beginning(text, asked.loss_tokens)
    alone, together = _losses(Losses(pair, loss_text), asked.layers, progress)
    found = [_figures(layer, sums[layer], alone[layer], tries[layer], release) for layer in asked.layers]
    told = Text(asked.documents.name, asked.documents.sha256(), bos, text.tokens, loss_text.tokens)
    return Gated(_records(pair, asked.transcoder, found, told, together, release), sums)


def _tries(pair: Pair, asked: Asked, progress: Progress) -> dict[int, tuple[Try, ...]]:
    """The unexplained variance of every layer, reading at each point, with a BOS in front and without."""
    tokens, every = pair.model.tokens, points(pair, pair.sources(asked.layers))
    rules = [True, False] if tokens.bos_id is not None or puts_bos(tokens) else [False]
    found: dict[int, list[Try]] = {layer: [] for layer in asked.layers}
    for bos in rules:
        read = rows(asked.documents, tokens, bos, min(TRIED, asked.tokens), pair.model.n_ctx)
        for point, sums in survey(pair, read, asked.layers, every).items():
            for layer in asked.layers:
                found[layer].append(Try(point, bos, sums[layer].unexplained()))
        progress(2 // len(rules))
    return {layer: tuple(tries) for layer, tries in found.items()}


def _losses(losses: Losses, layers: Sequence[int], progress: Progress) -> tuple[dict[int, Loss], Loss]:
    """Each layer alone, and all of them together."""
    original = losses.original()
    progress(1)
    alone: dict[tuple[int, ...], Loss] = {}
    for some in (*((layer,) for layer in layers), tuple(layers)):
        if some not in alone:
            alone[some] = Loss(original, losses.spliced(some), losses.zero(some))
        progress(2)
    return {layer: alone[layer,] for layer in layers}, alone[tuple(layers)]


def _figures(layer: int, sums: Sums, loss: Loss, tries: tuple[Try, ...], release: Release | None) -> Figures:
    published = release.l0[layer] if release is not None and layer < len(release.l0) else None
    return Figures(layer, sums.unexplained(), sums.l0(), published, sums.dead(), loss, tries)


def _records(
    pair: Pair, transcoder: str, found: Sequence[Figures], text: Text, together: Loss, release: Release | None
) -> tuple[Record, ...]:
    transcoders, bos_published = pair.transcoders, None if release is None else release.bos
    note = bos_note(found, transcoders.reads, text.bos)
    assert pair.model.folder is not None
    model = model_hash(pair.model.folder)
    dtype = str(pair.model.dtype).removeprefix("torch.")
    environment = {**packages(), "dtype": dtype, "device": str(pair.model.device)}
    made = []
    for one in found:
        reasons = tuple(failures(one, transcoders.reads, text.bos, bos_published))
        made.append(
            Record(
                model=pair.model.name,
                model_hash=model,
                transcoder=transcoder,
                layer_hash=layer_hash(transcoders.layout, one.layer),
                reads=transcoders.reads,
                writes=transcoders.writes,
                text=text,
                figures=one,
                layers=tuple(each.layer for each in found),
                together=together,
                verdict="fail" if reasons else "pass",
                reasons=reasons,
                notes=() if note is None else (note,),
                created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                environment=environment,
            )
        )
    return tuple(made)


def keep_statistics(pair: Pair, record: Record, sums: Sums) -> None:
    """Put a layer's statistics where `Transcoders.statistics` finds them. ResultsError."""
    norms = pair.transcoders.decoder_norms(record.figures.layer).cpu()
    tensors: dict[str, Tensor] = {
        "max_act": sums.largest,
        "mean": sums.mean(),
        "density": sums.density(),
        "decoder_norm": norms,
    }
    path = statistics_of(record.model_hash, record.layer_hash)
    make_folder(path.parent)
    write_atomic(path, save({name: tensor[None].contiguous().to(torch.float32) for name, tensor in tensors.items()}))
