"""What is timed: prompts, and rows that each set one feature of one layer to one value at every position, or nothing.

A prompt's baseline is a row like the others: every contender gives it, because an effect is a difference from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.world import SPECIAL, World, word
from steer.model.tokens import Tokens

Ids = tuple[int, ...]
PROMPTS = 16
LENGTHS = (12, 40)
"""The shortest and the longest prompt of a sweep, in tokens; the others lie evenly between them."""
DECODED = 40
"""Rows that are continued together by hand, in the order of length; the fastest of 20, 40 and 80.

Where nothing is continued that is one prompt's rows, which need no padding (of one, two and four prompts').
"""
ASKED = (
    "Who are you?",
    "Hello! How are you today?",
    "What should I cook tonight?",
    "Can you help me with something?",
    "Tell me about your day.",
    "What is the capital of France?",
    "What do you like to do when it is raining outside?",
    "I am a little sad today. Can you say something nice to me?",
)
"""What `pocket` is asked."""


@dataclass(frozen=True)
class Clamp:
    """Sets one feature to a value at every position."""

    layer: int
    index: int
    value: float


@dataclass(frozen=True)
class Row:
    """One prompt under one clamp, or as it is."""

    prompt: int
    clamp: Clamp | None = None

    @property
    def clamps(self) -> tuple[Clamp, ...]:
        return (self.clamp,) if self.clamp else ()


@dataclass(frozen=True)
class Workload:
    """Rows, prompt by prompt, baselines first; `batches` is how somebody who works by hand puts them together."""

    name: str
    title: str
    prompts: tuple[Ids, ...]
    texts: tuple[str, ...]
    rows: tuple[Row, ...]
    batches: tuple[tuple[int, ...], ...]
    new_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens read and generated, over all rows."""
        return sum(len(self.prompts[row.prompt]) + self.new_tokens for row in self.rows)


def random_prompts(vocabulary: int, lengths: Sequence[int], seed: int = 0) -> tuple[tuple[Ids, ...], tuple[str, ...]]:
    """Prompts of these many tokens, the BOS among them."""
    random = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(len(SPECIAL), vocabulary, (length - 1,), generator=random).tolist() for length in lengths]
    return tuple((0, *ids) for ids in drawn), tuple(" ".join(map(word, ids)) for ids in drawn)


def spread(n: int, ends: tuple[int, int] = LENGTHS) -> list[int]:
    """n lengths, evenly between two; a single one lies in the middle."""
    return [round(length) for length in torch.linspace(*ends, n).tolist()] if n > 1 else [sum(ends) // 2]


def pocket_prompts(world: World, n: int = PROMPTS) -> tuple[tuple[Ids, ...], tuple[str, ...]]:
    """Questions to `pocket`, each by itself and then behind another one; from the second lap on with a number."""
    texts = tuple(map(_asked, range(n)))
    tokens = Tokens.open(world.model)
    return tuple(tokens.encode(text).ids for text in texts), texts


def _asked(i: int) -> str:
    lap, place = divmod(i, 2 * len(ASKED))
    number, asked = f"{lap}. " if lap else "", ASKED[place // 2]
    turns = [asked] if place % 2 == 0 else [ASKED[-1 - place // 2], asked]
    return "\nAssistant: Yes.\nUser: ".join([f"User: {number}{turns[0]}", *turns[1:]]) + "\nAssistant:"


def prompts_of(world: World, n: int = PROMPTS) -> tuple[tuple[Ids, ...], tuple[str, ...]]:
    """The prompts of a sweep on one model or the other."""
    return pocket_prompts(world, n) if world.name == "pocket" else random_prompts(world.config.vocab_size, spread(n))


def sweep(world: World, name: str, title: str, n: int, doses: Sequence[float], new_tokens: int = 0) -> Workload:
    """One feature of a layer in the middle, clamped to each dose."""
    prompts, texts = prompts_of(world, n)
    layer = world.config.num_hidden_layers // 2
    clamps = [Clamp(layer, 411 % world.features, dose) for dose in doses]
    rows = tuple(Row(p, clamp) for p in range(n) for clamp in (None, *clamps))
    by_length = sorted(range(len(rows)), key=lambda r: len(prompts[rows[r].prompt]))
    batches = parts(by_length, DECODED) if new_tokens else parts(range(len(rows)), 1 + len(doses))
    return Workload(name, title, prompts, texts, rows, batches, new_tokens)


def parts(rows: Sequence[int], size: int) -> tuple[tuple[int, ...], ...]:
    """Batches of one size, in this order."""
    return tuple(tuple(rows[start : start + size]) for start in range(0, len(rows), size))


def screening(world: World, name: str, title: str, length: int, n: int) -> Workload:
    """Each of n features that fire on one prompt set to zero; evenly many in every layer, which make a batch."""
    (ids,), texts = random_prompts(world.config.vocab_size, (length,), seed=1)
    layers = range(world.config.num_hidden_layers)
    firing = firing_features(world, ids)
    shares = [len(range(layer, n, len(layers))) for layer in layers]
    clamps = [Clamp(at, index, 0.0) for at in layers for index in evenly(firing[at], shares[at])]
    rows = (Row(0), *(Row(0, clamp) for clamp in clamps))
    batches = [tuple(r for r, row in enumerate(rows) if row.clamp and row.clamp.layer == layer) for layer in layers]
    return Workload(name, title, (ids,), texts, rows, ((0, *batches[0]), *batches[1:]))


def evenly(values: Sequence[int], n: int) -> list[int]:
    """n of the values, evenly spread over them."""
    if n > len(values):
        raise ValueError(f"only {len(values)} of {n} features fire")
    return [values[i * len(values) // n] for i in range(n)]


def firing_features(world: World, ids: Ids) -> list[list[int]]:
    """The features of each layer that fire somewhere in a prompt."""
    return [(acts > 0).any(0).nonzero()[:, 0].tolist() for acts in activations(world, ids)]


def activations(world: World, ids: Ids) -> list[torch.Tensor]:
    """What every feature does at every token of a prompt, [pos d_transcoder] a layer."""
    model, reads = world.hf(), []
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda _, args: reads.append(args[0][0])) for layer in model.model.layers
    ]
    with torch.inference_mode():
        model(torch.tensor([ids], device=world.device))
    for hook in hooks:
        hook.remove()
    return [world.rows(layer).activations(x) for layer, x in enumerate(reads)]


W1 = "W1"
W2 = "W2"
W3 = "W3"
POCKET_SWEEP = "pocket-W1"
POCKET_GENERATION = "pocket-W2"
DOSES = tuple(step / 2 for step in range(1, 17))
FEW = (2.0, 4.0, 6.0, 8.0)


def workload(name: str, world: World) -> Workload:
    """The rows of a comparison."""
    match name:
        case "W1" | "pocket-W1":
            return sweep(
                world, name, f"dose sweep, {PROMPTS} prompts x {len(DOSES)} doses, last logits", PROMPTS, DOSES
            )
        case "W2" | "pocket-W2":
            title = f"steered greedy generation, {PROMPTS} prompts x {len(FEW)} doses x 32 tokens"
            return sweep(world, name, title, PROMPTS, FEW, new_tokens=32)
        case "W3":
            return screening(world, name, "screening, one prompt of 24 tokens, 512 features ablated", 24, 512)
    raise ValueError(f"no comparison is called {name!r}")
