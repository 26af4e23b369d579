"""The decode steps of a batch under its edits: as its rows need them, or of shapes that stay, replayed on a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import Cache

from steer.execution.passes import Engine
from steer.intervention.hooks import Editing
from steer.intervention.reference import Hooks, Wanted
from steer.intervention.watch import Watch
from steer.model.cache import FixedCache

Step = Callable[[], Float[Tensor, "rows d_vocab"]]
FEW = 4  # tokens; not measured


@dataclass
class SteeredDecoder:
    """A decode step with the batch's edits; `shadow`, where baseline units need it, reads the same tokens unedited.

    `column` is the next one. It is a tensor, and the caches are fixed, where the same step is to be replayed.
    """

    engine: Engine
    editing: Editing
    cache: Cache
    watch: Watch
    shadow: Cache | None
    column: int | Int[Tensor, "1"]
    hooks: Hooks = field(default_factory=list)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """The hooks are there from step to step; beside a shadow they come and go."""
        self.hooks = [*self.editing.hooks(), *self.watch.hooks()]
        with self.engine.model.hooked(self.hooks) if self.shadow is None else nullcontext():
            yield

    def step(self, ids: Int[Tensor, "batch 1"], mask: Bool[Tensor, "batch context"]) -> Float[Tensor, "batch d_vocab"]:
        columns = slice(self.column, self.column + 1) if isinstance(self.column, int) else self.column
        model = self.engine.model
        self.editing.begun()
        self.editing.at(columns)
        self.watch.at(columns)
        if self.shadow is not None:
            reference, hooks = self.engine.capture(Wanted(reads=frozenset(self.editing.slots)))
            with model.hooked(hooks):
                model.forward_pass(ids, mask, self.shadow)
            self.editing.measure_levels(reference.reads)
        with model.hooked(self.hooks) if self.shadow is not None else nullcontext():
            logits = model.forward_pass(ids, mask, self.cache)[:, 0]
        self.column += 1  # a tensor stays where it is
        return logits

    def keep(self, kept: Int[Tensor, " rows"]) -> None:
        self.cache.batch_select_indices(kept)
        if self.shadow is not None:
            self.shadow.batch_select_indices(kept)
        self.editing.keep(kept)
        self.watch.keep(kept)

    def dismiss(self, which: Bool[Tensor, " rows"]) -> None:
        """These rows stay, but what they go on to do is nobody's."""
        self.editing.dismiss(which)
        self.watch.dismiss(which)


class Recorder(Protocol):
    """What can do a step again without its Python, on the memory that the step had."""

    def rehearsed(self, step: Step) -> Float[Tensor, "rows d_vocab"]:
        """What a step gives that is run as it is, so that all that is made on first use is there to be recorded."""
        ...

    def recorded(self, step: Step) -> Step:
        """The step, not run, as one that can be replayed."""
        ...


@dataclass(frozen=True)
class CudaGraphs:
    """Steps as CUDA graphs, rehearsed and recorded on a stream beside the current one; each has memory of its own."""

    beside: torch.cuda.Stream

    @classmethod
    @cache  # memory that was used on a stream is of use to this stream alone
    def on(cls, device: torch.device) -> CudaGraphs:
        return cls(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]

    def rehearsed(self, step: Step) -> Float[Tensor, "rows d_vocab"]:
        current = torch.cuda.current_stream(self.beside.device)
        self.beside.wait_stream(current)
        with torch.cuda.stream(self.beside):
            logits = step()
        current.wait_stream(self.beside)
        return logits

    def recorded(self, step: Step) -> Step:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.beside):
            logits = step()

        def replayed() -> Float[Tensor, "rows d_vocab"]:
            graph.replay()
            return logits

        return replayed


@dataclass
class GraphedDecoder:
    """The steps of a `SteeredDecoder` with shapes that stay: one is run, the next is recorded, and then it is replayed.

    What differs between steps is in tensors that stay where they are: ids, mask, column, keys and values; edits and
    records are looked up at the column on the device. Rows that are done stay, too, and what they do is nobody's, until
    fewer than half are left: then these go on as a smaller batch, which is recorded anew. So no step does more than
    twice what its rows need, and a batch of n rows is recorded at most 1 + log2 n times.
    Logits are good until the next step.
    """

    steered: SteeredDecoder
    recorder: Recorder
    ids: Int[Tensor, "rows 1"]
    mask: Bool[Tensor, "rows context"]
    column: Int[Tensor, "1"]  # the decoder's and its caches'
    going: Int[Tensor, " going"]  # the rows that are not done
    runs: Generator[Step, None, None] = field(init=False)

    def __post_init__(self) -> None:
        self.runs = self._runs()

    @classmethod
    def of(
        cls, steered: SteeredDecoder, mask: Bool[Tensor, "rows pos"], steps: int, recorder: Recorder
    ) -> GraphedDecoder:
        """From a decoder that begins, behind prompts of this mask, with room for as many steps in its caches."""
        rows, width = mask.shape
        column = torch.full((1,), width, device=mask.device)
        fixed = partial(FixedCache, column=column, context=width + steps)
        shadow = None if steered.shadow is None else fixed(steered.shadow)
        return cls(
            replace(steered, cache=fixed(steered.cache), shadow=shadow, column=column),
            recorder,
            torch.zeros(rows, 1, dtype=torch.long, device=mask.device),
            torch.cat([mask, mask.new_zeros(rows, steps)], 1),
            column,
            torch.arange(rows, device=mask.device),
        )

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """The hooks are there; what was recorded, and its memory, goes with them."""
        try:
            with self.steered.hooked():
                yield
        finally:
            self.runs.close()

    def step(self, ids: Int[Tensor, "batch 1"], mask: Bool[Tensor, "batch context"]) -> Float[Tensor, "batch d_vocab"]:
        """The mask is what this decoder's own says up to the column."""
        self.ids[self.going] = ids
        logits = next(self.runs)()
        return logits if len(self.going) == len(self.ids) else logits[self.going]

    def keep(self, kept: Int[Tensor, " rows"]) -> None:
        self.going = self.going[kept]
        if 2 * len(self.going) < len(self.ids):
            self.steered.keep(self.going)
            self.ids, self.mask = self.ids[self.going], self.mask[self.going]
            self.going, self.runs = torch.arange(len(self.going), device=self.going.device), self._runs()
        else:
            done = torch.ones_like(self.ids[:, 0], dtype=torch.bool)
            self.steered.dismiss(done.index_fill(0, self.going, False))

    def _runs(self) -> Generator[Step, None, None]:
        """What the next step is, and the ones after it."""
        yield partial(self.recorder.rehearsed, self._step)
        fired = self.steered.editing.fired
        before = Counter(fired)
        replayed = self.recorder.recorded(self._step)
        fires = fired - before
        yield replayed
        while True:
            fired.update(fires)  # hooks are Python, which is not replayed
            yield replayed

    def _step(self) -> Float[Tensor, "rows d_vocab"]:
        self.mask.index_fill_(1, self.column, True)
        return self.steered.step(self.ids, self.mask)


def capturable(engine: Engine, editing: Editing, watch: Watch, steps: int) -> bool:
    """Whether the decode steps of a batch are replayed as a CUDA graph. They are, if all of this holds:

    - more than `FEW` tokens are asked for, because recording a step is taken to cost what running it costs;
    - shortcuts are on, and the whole model is on one CUDA device, with the encoders of its features;
    - a step on a cache of fixed length gives what the model's own gives (`LanguageModel.replayable`): full attention
      and sliding windows, no routed experts, nothing for which the host waits;
    - no feature that is edited or watched competes with others (TopK, group-max): these are read block by block.

    Units of the baseline, pushes, features of any op, prompts of any lengths and rows that end early are no hindrance.
    """
    model, device = engine.model, engine.model.device
    encoders = [*(slots.encoder for slots in editing.slots.values()), *watch.encoders.values()]
    return (
        steps > FEW
        and engine.shortcuts
        and device.type == "cuda"
        and {parameter.device for parameter in model.hf.parameters()} == {device}
        and all(one.competition is None and one.W_enc.device == device for one in encoders)
        and model.replayable
    )
