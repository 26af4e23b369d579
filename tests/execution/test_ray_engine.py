"""Ray actors write the tables of one process, also where some are lost, do not start, or the driver is stopped."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest

from steer import pipeline
from steer.errors import ModelError, RunError
from steer.execution.journal import entries
from steer.execution.manifest import read_manifest
from tests.execution.drivers import begin, eventually, stop_in_mid_run
from tests.execution.lab import Lab, Ran, make_lab, rows_of, without_plots
from tests.project import EXPERIMENT, SMALL, make_project, tables
from tests.test_pipeline import steer

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'steer[ray]'")

from steer.execution import memory, ray_engine  # noqa: E402
from steer.execution.ray_engine import Cluster, Opening, RayEngine  # noqa: E402

ROWS = 13


@dataclass
class Crew:
    """An engine of two actors, with what it told; `marks` is a folder in which the actors leave their process ids."""

    engine: RayEngine
    said: list[str]
    marks: Path
    opened: Callable[..., Any] = field(default=lambda opening, marks, loaded: opening(loaded))

    def __call__(self, opening: Opening) -> Any:
        return self.engine(partial(self.opened, opening, self.marks))


def marked(opening: Opening, marks: Path, loaded: Any) -> Any:
    """Opens as asked, and says which process it was."""
    session = opening(loaded)
    (marks / str(os.getpid())).touch()
    return session


def failing_once(opening: Opening, marks: Path, loaded: Any) -> Any:
    """One of the actors cannot load the model."""
    try:
        (marks / "failed").touch(exist_ok=False)
    except FileExistsError:
        return opening(loaded)
    raise ModelError("no memory for the model")


def failing_always(opening: Opening, marks: Path, loaded: Any) -> Any:
    raise ModelError("no memory for the model")


def deadly(opening: Opening, marks: Path, loaded: Any) -> Any:
    """The process ends in the middle of every batch that it gets."""
    memory.run_in_memory = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    return opening(loaded)


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        made = RayEngine(Cluster(workers=2), lambda note: None)
        yield made
        made.close()
        assert not ray.is_initialized()


@pytest.fixture
def crew(engine: RayEngine, tmp_path: Path) -> Iterator[Crew]:
    said: list[str] = []
    engine.told = said.append
    yield Crew(engine, said, tmp_path)


@pytest.fixture(scope="module")
def lab(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("ray"), tiny_folder)


@pytest.fixture(scope="module")
def expected(lab: Lab) -> dict[str, pd.DataFrame]:
    """The tables of a run in this process."""
    with rows_of(ROWS):
        return tables(lab.run(EXPERIMENT).folder)


def run(lab: Lab, crew: Any, text: str = EXPERIMENT, **more: Any) -> Ran:
    with rows_of(ROWS):
        return lab.run(text, fresh=more.pop("fresh", True), engine=crew, **more)


def the_same(ran: Ran, expected: dict[str, pd.DataFrame]) -> None:
    ids = [entry.trial_id for entry in entries(ran.folder / "journal.jsonl")]
    assert len(ids) == len(set(ids)) == len(expected["trials"])
    for name, table in tables(ran.folder).items():
        pd.testing.assert_frame_equal(table, expected[name], check_exact=True)


def test_two_actors_write_the_tables_of_one_process(lab: Lab, crew: Crew, expected: dict[str, pd.DataFrame]) -> None:
    crew.opened = marked
    finished: list[int] = []
    ran = run(lab, crew, progress=finished.append)
    the_same(ran, expected)
    assert sum(finished) == ran.counts["planned"] == ran.counts["run"] and ran.exit_code == 0
    opened = {path.name for path in crew.marks.iterdir()} - {str(os.getpid())}
    assert 1 <= len(opened) <= 2 and crew.said == []  # on a busy machine all may be done before the second is up


def test_what_is_cached_needs_no_actor(lab: Lab, crew: Crew, expected: dict[str, pd.DataFrame]) -> None:
    crew.opened = failing_always
    again = run(lab, crew, fresh=False)
    assert again.counts["cached"] == again.counts["planned"]


def test_the_trials_of_an_actor_that_is_killed_are_run_once_more_and_are_in_the_tables_once(
    lab: Lab, crew: Crew, expected: dict[str, pd.DataFrame]
) -> None:
    crew.opened = marked
    killed: list[int] = []

    def kill_one(n: int) -> None:
        if n and not killed:
            killed.append(min(int(path.name) for path in crew.marks.iterdir()))
            os.kill(killed[0], signal.SIGKILL)

    ran = run(lab, crew, progress=kill_one)
    the_same(ran, expected)
    assert killed and any("a worker was lost, and its" in said for said in crew.said)


def test_where_one_actor_does_not_start_the_other_does_all(
    lab: Lab, crew: Crew, expected: dict[str, pd.DataFrame]
) -> None:
    crew.opened = failing_once
    the_same(run(lab, crew), expected)
    assert crew.said == ["a worker did not start: no memory for the model"]


def test_a_batch_that_kills_every_actor_fails_and_the_run_ends(lab: Lab, crew: Crew) -> None:
    crew.opened = deadly
    with mock.patch.object(ray_engine, "LOSSES", 2):
        ran = lab.run(SMALL, fresh=True, engine=crew)
    assert ran.exit_code == 3 and ran.counts["failed"] == ran.counts["planned"]
    problems = read_manifest(ran.folder)["problems"]
    assert "2 workers were lost while they ran its batch" in problems[0]


def test_a_cluster_that_is_lost_ends_the_run_with_the_reason(lab: Lab, crew: Crew) -> None:
    with (
        mock.patch("ray.wait", side_effect=ConnectionError("Failed to reconnect")),
        pytest.raises(RunError, match="the cluster was lost: Failed to reconnect"),
    ):
        run(lab, crew, SMALL)


def test_what_is_left_of_a_lost_cluster_is_not_ended_for_that_would_start_a_ray() -> None:
    with mock.patch("ray.is_initialized", lambda: False), mock.patch("ray.kill") as kill:
        ray_engine._end(object())
    kill.assert_not_called()


def test_where_no_actor_starts_the_run_says_why_and_can_be_resumed(lab: Lab, crew: Crew) -> None:
    crew.opened = failing_always
    with pytest.raises(RunError, match="no worker is left: one did not start: no memory for the model") as error:
        run(lab, crew, SMALL)
    assert error.value.exit_code == 3
    newest = max((lab.results / "tiny").glob("2*"))
    assert read_manifest(newest)["status"] == "started"
    assert run(lab, None, SMALL, fresh=False).folder == newest


def test_more_workers_than_there_is_room_for_are_refused(lab: Lab, crew: Crew) -> None:
    larger = RayEngine(Cluster(workers=3), crew.said.append)
    with pytest.raises(RunError, match="3 workers with a core each do not fit on 2 cores and 0 GPUs"):
        run(lab, larger, SMALL)
    on_gpus = RayEngine(Cluster(num_gpus=0.5), crew.said.append)
    with pytest.raises(RunError, match="no workers with a core and 0.5 GPUs each do not fit"):
        run(lab, on_gpus, SMALL)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_at_which_nobody_listens_ends_the_run_at_once(lab: Lab, address: str) -> None:
    engine = RayEngine(Cluster(address=address), lambda note: None)
    with (
        mock.patch("ray.is_initialized", lambda: False),
        pytest.raises(RunError, match=f"no Ray at {address}: .*refused"),
    ):
        run(lab, engine, SMALL)


def test_a_driver_on_a_machine_that_is_no_node_of_the_cluster_is_told_so(lab: Lab) -> None:
    error = ConnectionError("Failed to connect")
    error.__cause__ = RuntimeError("No node info found")
    with (
        mock.patch("ray.is_initialized", lambda: False),
        mock.patch.object(ray_engine, "_entered", str),
        mock.patch.object(ray_engine, "_init", side_effect=error),
        pytest.raises(RunError, match=r"Failed to connect: No node info found \(a driver joins by HOST:PORT on a node"),
    ):
        run(lab, RayEngine(Cluster(address="head:6379"), print), SMALL)


# --- as a command ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--engine", "slurm"), "not one of local, ray"),
        (("--workers", "2"), "are for --engine ray"),
        (("--shard", "4/3"), "expected i/n"),
        (("--shard", "1/2", "--update-snapshots", "new"), "a shard has no verdicts"),
    ],
)
def test_what_does_not_go_together_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    assert steer("run", tmp_path / "x.yaml", *arguments) == 2
    assert why in capsys.readouterr().err


def test_a_server_of_a_ray_client_that_did_not_start_is_asked_for_once_more(crew: Crew) -> None:
    refusal = ConnectionAbortedError("Initialization failure from server:\nTraceback\nRuntimeError: it died")
    with mock.patch("ray.init", side_effect=[refusal, None]) as init:
        ray_engine._init({"address": "ray://head"}, crew.said.append)
    assert init.call_count == 2
    assert "asked once more: Initialization failure from server: RuntimeError: it died" in crew.said[0]


def test_without_ray_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("steer.cli.find_spec", lambda name: None)
    assert steer("run", tmp_path / "x.yaml", "--engine", "ray") == 2
    assert "pip install 'steer[ray]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.torture)]
)
def test_a_driver_that_is_stopped_is_resumed_and_leaves_no_process_but_agents_of_ray(
    lab: Lab, engine: RayEngine, number: int, code: int, expected: dict[str, pd.DataFrame]
) -> None:
    project = make_project(lab.folder.with_name(f"stopped{number}"), lab.model, lab.transcoders, EXPERIMENT)
    command = ("tests.execution.slowed", "run", project.experiment, "--results", project.results)
    driver = begin(project.folder / "said", *command, "--engine", "ray", "--workers", "1")
    assert stop_in_mid_run(driver, project.results, number) == code, driver.said.read_text()
    (stopped,) = (project.results / "tiny").glob("2*")
    assert read_manifest(stopped)["status"] == ("interrupted" if code == 130 else "started")
    eventually(lambda: all("Agent" in line for line in driver.members().values()))  # they may take a minute more
    driver.end()
    with rows_of(7), without_plots():
        finished = pipeline.run(
            pipeline.prepare(project.experiment),
            project.results,
            command=["steer"],
            progress=lambda n: None,
            loaded=lab.loaded,
        )
    assert finished.folder == stopped and 0 < finished.counts["cached"] < finished.counts["planned"]
    assert len(tables(stopped)["trials"]) == tables(stopped)["trials"].trial_id.nunique() == len(expected["trials"])
