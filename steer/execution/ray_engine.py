"""Batches run by Ray actors, each of which holds the model once; the driver keeps the journal.

An actor has one batch at a time and gives back all of it or nothing. One that is lost (killed, or its machine is gone)
takes nothing with it but that batch, which another actor runs again, and a new actor comes in its place. One that
cannot start is not tried again: the others go on without it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch

from steer.errors import RunError
from steer.execution.baselines import awaited
from steer.execution.batch_run import Baselines, BatchResult, Session
from steer.execution.batches import Batch
from steer.execution.execute import Parts, Runner
from steer.execution.loaded import Loaded
from steer.execution.memory import run_in_memory
from steer.execution.outcome import Outcome
from steer.execution.trial_key import Environment

LOSSES = 3
"""How many actors a batch may lose before its trials count as failed: it may be what kills them."""
KNOCK_SECONDS = 10.0
OBJECT_STORE = 2**28  # bytes on this machine: batches and outcomes are small
Opening = Callable[[Loaded], Session]


class Worker:
    """In the process of an actor: what is loaded, and the session of the experiment under way."""

    def __init__(self) -> None:
        self.loaded = Loaded()
        self.session: Session | None = None

    def open(self, opening: Opening) -> Environment:
        """Load what an experiment needs; what its numbers will depend on."""
        torch.set_num_threads(1)  # Ray gave this actor one core
        self.session = None
        self.session = opening(self.loaded)
        return self.session.environment

    def run(self, batch: Batch, baselines: Baselines) -> list[tuple[int, BatchResult]]:
        """The batch in as large parts as fit: how many of its trials, and their results."""
        assert self.session is not None, "opened before it gets a batch"
        parts = []
        for part, result in run_in_memory(batch, self.session, baselines):
            for trial, outcome in zip(part.trials, result.outcomes, strict=True):
                if trial.condition == "baseline":
                    baselines[trial.prompt.id, trial.seed] = outcome
            parts.append((len(part.trials), result))
        return parts


@dataclass(frozen=True)
class Cluster:
    """Where actors run and how many: `address` None is a Ray of this machine's own, `workers` None as many as fit."""

    address: str | None = None
    workers: int | None = None
    num_gpus: float = 0.0


@dataclass
class RayEngine:
    """The actors of one command; they stay, with their models, from one experiment to the next.

    Ray is connected to, or started, when the first batch is to run; a Ray that this process uses already will do.
    `told` hears what a reader of the log should know: actors that were lost or did not start.
    """

    cluster: Cluster
    told: Callable[[str], None]
    idle: list[Any] = field(default_factory=list)
    connected: bool = False

    def __call__(self, opening: Opening) -> Runner:
        return partial(self._run, opening)

    def _run(self, opening: Opening, batches: Sequence[Batch], session: Session, baselines: Baselines) -> Parts:
        if not batches:
            return
        self._connect()
        crew = _Crew(self._room(), self.cluster.num_gpus, opening, session.environment, self.told, self.idle)
        try:
            yield from crew.run(deque(batches), baselines)
        finally:
            self.idle = crew.dismissed()

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # an actor without a GPU sees none
        before = signal.getsignal(signal.SIGTERM)
        try:
            _knock(self.cluster.address)
            ray.init(**self._options(), logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:  # Ray raises what it likes, a bare Exception among it
            where = self.cluster.address or "this machine"
            raise RunError(f"--engine ray: no Ray at {where}: {_first_line(error)}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray's own handler would end the run without a word
        self.connected = True

    def _options(self) -> dict[str, Any]:
        if self.cluster.address is not None:
            return {"address": self.cluster.address}
        cores = self.cluster.workers or os.cpu_count() or 1
        return {
            "address": "local",
            "num_cpus": cores,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE,
        }

    def _room(self) -> int:
        """How many actors there are to be. RunError where not one fits, or fewer than were asked for."""
        import ray

        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cores, gpus = int(there.get("CPU", 0)), there.get("GPU", 0.0)
        fit = min(cores, int(gpus / self.cluster.num_gpus)) if self.cluster.num_gpus else cores
        wanted = self.cluster.workers or fit
        if wanted > fit or fit == 0:
            each = f"a core and {self.cluster.num_gpus:g} GPUs" if self.cluster.num_gpus else "a core"
            raise RunError(
                f"--engine ray: {wanted or 'no'} workers with {each} each do not fit on {cores} cores and {gpus:g} GPUs"
            )
        return wanted

    def close(self) -> None:
        """End the actors, and the Ray that was started for them."""
        if self.connected or self.idle:
            import ray

            for actor in self.idle:
                ray.kill(actor)
            self.idle = []
            if self.connected:
                ray.shutdown()
                self.connected = False


@dataclass
class _Crew:
    """The actors that work on one experiment; `under_way` has what each is doing: a batch, or None while it starts."""

    room: int
    num_gpus: float
    opening: Opening
    environment: Environment
    told: Callable[[str], None]
    present: list[Any]
    idle: list[Any] = field(default_factory=list)
    under_way: dict[Any, tuple[Any, Batch | None]] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)

    def run(self, waiting: deque[Batch], baselines: Baselines) -> Parts:
        """Every batch once, in the order in which they come back."""
        self._start(min(self.room, len(waiting)))
        while waiting or any(batch for _, batch in self.under_way.values()):
            self._give(waiting, baselines)
            actor, batch, ref = self._next()
            yield from self._taken(actor, batch, ref, waiting)

    def dismissed(self) -> list[Any]:
        """The actors that are free for another experiment; the busy ones are ended."""
        import ray

        for actor, _ in self.under_way.values():
            ray.kill(actor)
        return [*self.idle, *self.present]

    @cached_property
    def _opening_ref(self) -> Any:
        import ray

        return ray.put(self.opening)

    def _start(self, n: int) -> None:
        for _ in range(n):
            self._open(self.present.pop() if self.present else self._new())

    def _new(self) -> Any:
        import ray

        return ray.remote(Worker).options(num_cpus=1, num_gpus=self.num_gpus, max_restarts=0).remote()

    def _open(self, actor: Any) -> None:
        self.under_way[actor.open.remote(self._opening_ref)] = actor, None

    def _give(self, waiting: deque[Batch], baselines: Baselines) -> None:
        """To every actor that is idle the first batch whose baselines are known."""
        while self.idle and (batch := _ready(waiting, baselines)):
            waiting.remove(batch)
            known = {where: baselines[where] for where in awaited(batch)}
            actor = self.idle.pop()
            self.under_way[actor.run.remote(batch, known)] = actor, batch

    def _next(self) -> tuple[Any, Batch | None, Any]:
        """The actor that is the first to have done something."""
        import ray

        if not self.under_way:
            assert self.refusals, "a batch waits for a baseline that no batch brings"
            raise RunError("--engine ray: no worker is left: " + "; ".join(dict.fromkeys(self.refusals)))
        (ref,), _ = ray.wait(list(self.under_way), num_returns=1)
        return *self.under_way.pop(ref), ref

    def _taken(self, actor: Any, batch: Batch | None, ref: Any, waiting: deque[Batch]) -> Parts:
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            found = ray.get(ref)
        except RayTaskError as error:
            if batch is not None:
                raise (error.cause or error) from error
            self._refuse(actor, _first_line(error.cause or error))
        except RayError as error:
            yield from self._lost(actor, batch, _first_line(error), waiting)
        else:
            if batch is None:
                self._welcome(actor, found)
            else:
                self.idle.append(actor)
                yield from _parts(batch, found)

    def _welcome(self, actor: Any, environment: Environment) -> None:
        """An actor whose numbers would be others than the driver's is sent away."""
        differing = [name for name, mine in vars(self.environment).items() if getattr(environment, name) != mine]
        if differing:
            self._refuse(actor, f"its {', '.join(differing)} differ from the driver's")
        else:
            self.idle.append(actor)

    def _refuse(self, actor: Any, why: str) -> None:
        import ray

        ray.kill(actor)
        self.refusals.append(f"one did not start: {why}")
        self.told(f"a worker did not start: {why}")

    def _lost(self, actor: Any, batch: Batch | None, why: str, waiting: deque[Batch]) -> Parts:
        """Its batch is run again, at once; after `LOSSES` times its trials have failed."""
        import ray

        ray.kill(actor)
        if batch is None:
            self._refuse(actor, why)
            return
        self.told(f"a worker was lost, and its {len(batch.trials)} trials run again: {why}")
        self._open(self._new())
        first = batch.trials[0].id
        self.losses[first] += 1
        if self.losses[first] < LOSSES:
            waiting.appendleft(batch)
        else:
            yield batch, _failed(batch, f"{LOSSES} workers were lost while they ran its batch, the last: {why}")


def _knock(address: str | None) -> None:
    """OSError where nobody listens at an address with a port: Ray itself would go on trying for many minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _ready(waiting: Sequence[Batch], baselines: Mapping[Any, Outcome]) -> Batch | None:
    return next((batch for batch in waiting if awaited(batch) <= baselines.keys()), None)


def _parts(batch: Batch, found: Sequence[tuple[int, BatchResult]]) -> Iterator[tuple[Batch, BatchResult]]:
    """The trials do not travel back with their results."""
    trials = iter(batch.trials)
    for size, result in found:
        yield Batch(tuple(next(trials) for _ in range(size))), result


def _failed(batch: Batch, why: str) -> BatchResult:
    return BatchResult(tuple(Outcome.failed(trial.id, why) for trial in batch.trials), {}, frozenset())


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
