"""Documents -> padded batches of whole documents, each row starting with `<bos>`."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from tokenizers import Tokenizer
from torch import Tensor

from steer.model.pocket.tokenizer import EOS, PAD

POOL = 2048


def encoded(tokenizer: Tokenizer, documents: Iterable[str]) -> list[list[int]]:
    """Token ids of each document, from `<bos>` to `<eos>`."""
    end = tokenizer.token_to_id(EOS)
    return [[*encoding.ids, end] for encoding in tokenizer.encode_batch(list(documents))]


def padded(rows: list[list[int]], pad: int) -> Tensor:
    """Rows filled up on the right; causal attention then needs no mask."""
    width = max(map(len, rows))
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


def by_length(rows: list[list[int]], batch_tokens: int) -> list[list[list[int]]]:
    """Rows of about equal length together, so that almost nothing is padding."""
    groups: list[list[list[int]]] = [[]]
    for row in sorted(rows, key=len):
        if len(row) * (len(groups[-1]) + 1) > batch_tokens and groups[-1]:
            groups.append([])
        groups[-1].append(row)
    return groups


def batches(tokenizer: Tokenizer, documents: Iterator[str], batch_tokens: int, seed: int) -> Iterator[Tensor]:
    """Batches `[batch pos]` of at most about `batch_tokens` tokens, shuffled within a pool, until the documents end."""
    rng = random.Random(seed)
    pad = tokenizer.token_to_id(PAD)
    while pool := encoded(tokenizer, islice(documents, POOL)):
        groups = by_length(pool, batch_tokens)
        rng.shuffle(groups)
        yield from (padded(group, pad) for group in groups)
