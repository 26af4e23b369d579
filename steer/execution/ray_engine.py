"""Batches run by Ray actors, each of which holds the model once; the driver keeps the journal.

An actor has one batch at a time and gives back all of it or nothing. One that is lost (killed, or its machine is gone)
takes nothing with it but that batch, which another actor runs again, and a new actor comes in its place. One that
cannot start is not tried again: the others go on without it.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from steer.errors import RunError
from steer.execution.baselines import awaited
from steer.execution.batch_run import Baselines, BatchResult, Session
from steer.execution.batches import Batch
from steer.execution.execute import Parts, Runner
from steer.execution.loaded import Loaded
from steer.execution.outcome import Outcome
from steer.execution.ray_address import MODE, entry
from steer.execution.ray_worker import Worker, packed
from steer.execution.trial_key import Environment

LOSSES = 3
"""How many actors a batch may lose before its trials count as failed: it may be what kills them."""
OBJECT_STORE = 2**28  # bytes on this machine: batches and outcomes are small
Opening = Callable[[Loaded], Session]


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
        except ConnectionError as error:
            raise RunError(f"--engine ray: the cluster was lost: {_first_line(error)}") from error
        finally:
            self.idle = crew.dismissed()

    def _connect(self) -> None:
        if "ray" in sys.modules and sys.modules["ray"].is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # an actor without a GPU sees none
        options = self._options()
        before = signal.getsignal(signal.SIGTERM)
        try:
            _init(options, self.told)
        except Exception as error:  # Ray raises what it likes, a bare Exception among it
            where = self.cluster.address or "this machine"
            raise RunError(f"--engine ray: no Ray at {where}: {_reasons(error)}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray's own handler would end the run without a word
        self.connected = True

    def _options(self) -> dict[str, Any]:
        if self.cluster.address is not None:
            return {"address": _entered(self.cluster.address)}
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
                _end(actor)
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
        for actor, _ in self.under_way.values():
            _end(actor)
        return [*self.idle, *self.present]

    @cached_property
    def _opening_ref(self) -> Any:
        import ray

        return ray.put(packed(self.opening))

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
            self.under_way[actor.run.remote(packed((batch, known)))] = actor, batch

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
            found = pickle.loads(ray.get(ref))
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
        _end(actor)
        self.refusals.append(f"one did not start: {why}")
        self.told(f"a worker did not start: {why}")

    def _lost(self, actor: Any, batch: Batch | None, why: str, waiting: deque[Batch]) -> Parts:
        """Its batch is run again, at once; after `LOSSES` times its trials have failed."""
        _end(actor)
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


def _init(options: Mapping[str, Any], told: Callable[[str], None]) -> None:
    """Join or start a Ray; a second time where the server that a ray:// cluster starts for each client did not start.

    Ray forks that server amid the threads of gRPC, of which some 7 in 100 do not survive (ray-project/ray#63202).
    """
    import ray

    try:
        ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    except ConnectionAbortedError as error:
        told(f"the cluster did not start a server for this client, and is asked once more: {_first_line(error)}")
        ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)


def _entered(address: str) -> str:
    """The address that Ray gets, with its mode set to the cluster's. RunError where it is too late for that."""
    found = entry(address, os.environ)
    if found.mode == "token" != os.environ.get(MODE) and "ray" in sys.modules:
        raise RunError(f"--engine ray: {address} asks for a token: set {MODE}=token before Ray is imported")
    os.environ[MODE] = found.mode
    return found.address


def _end(actor: Any) -> None:
    """Its process is killed. With a cluster that was lost it is gone, and a call would start another Ray."""
    import ray

    if ray.is_initialized():
        ray.kill(actor)


def _ready(waiting: Sequence[Batch], baselines: Mapping[Any, Outcome]) -> Batch | None:
    return next((batch for batch in waiting if awaited(batch) <= baselines.keys()), None)


def _parts(batch: Batch, found: Sequence[tuple[int, BatchResult]]) -> Iterator[tuple[Batch, BatchResult]]:
    """The trials do not travel back with their results."""
    trials = iter(batch.trials)
    for size, result in found:
        yield Batch(tuple(next(trials) for _ in range(size))), result


def _failed(batch: Batch, why: str) -> BatchResult:
    return BatchResult(tuple(Outcome.failed(trial.id, why) for trial in batch.trials), {}, frozenset())


def _reasons(error: BaseException) -> str:
    """Why there is no Ray. A cluster that has answered and yet is none for this driver has no node where it runs."""
    said = ": ".join(_first_line(one) for one in (error, error.__cause__) if one)
    if type(error) is ConnectionError:
        return f"{said} (a driver joins by HOST:PORT on a node of the cluster alone, elsewhere by ray://HOST:10001)"
    return said


def _first_line(error: BaseException) -> str:
    """Of an error in many lines; where the first only announces the others, the last of them with it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0]
