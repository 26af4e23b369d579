"""A run that is killed and started again gives the tables of one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.intervention.world import write_transcoders
from tests.project import Project, make_project, tables


@pytest.fixture(scope="module")
def project(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    transcoders = write_transcoders(tmp_path_factory.mktemp("transcoders"), "jumprelu", n_layers=3, d_model=32)
    return make_project(tmp_path_factory.mktemp("project"), tiny_folder("llama"), transcoders)


def start(project: Project, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.execution.slowed", "run", str(project.experiment)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--results", str(project.results), *more],
        env=environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error.decode()


def kill_while_running(project: Project, rng: random.Random) -> int:
    """Kill a run after it has journalled a random number of further lines; gives back how many lines there are."""
    process = start(project)
    goal = lines(project) + rng.randint(1, 4)  # few enough that twenty kills come before the end
    while process.poll() is None and lines(project) < goal:
        time.sleep(0.005)
    time.sleep(rng.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    return lines(project)


def runs(project: Project) -> set[Path]:
    return set((project.results / "tiny").glob("2*"))


def lines(project: Project) -> int:
    """Of the newest run's journal."""
    journal = max(runs(project)) / "journal.jsonl" if runs(project) else None
    return journal.read_bytes().count(b"\n") if journal is not None and journal.exists() else 0


def killed_again_and_again(project: Project, kills: int, seed: int) -> None:
    finish(start(project, "--fresh"))
    expected = tables(project.run())
    rng = random.Random(seed)
    before = runs(project)
    process = start(project, "--fresh")
    while not runs(project) - before:
        assert process.poll() is None, "it ended before it had a run folder"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for _ in range(kills - 1):
        kill_while_running(project, rng)
    finish(start(project))
    (run,) = runs(project) - before
    assert project.run() == run.resolve()
    for name, table in tables(run).items():
        pd.testing.assert_frame_equal(table, expected[name], check_exact=True)


def test_a_run_that_is_killed_three_times_gives_the_same_tables(project: Project) -> None:
    killed_again_and_again(project, kills=3, seed=0)


def test_an_interrupted_run_says_so_and_is_resumed(project: Project) -> None:
    import json

    before = runs(project)
    process = start(project, "--fresh")
    while not (new := runs(project) - before) or lines(project) < 1:
        assert process.poll() is None, "it ended before a trial had finished"
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    (newest,) = new
    assert process.returncode == 130
    assert json.loads((newest / "manifest.json").read_text())["status"] == "interrupted"
    finish(start(project))
    manifest = json.loads((newest / "manifest.json").read_text())
    assert manifest["status"] == "complete" and project.run() == newest.resolve()
