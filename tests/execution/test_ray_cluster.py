"""A cluster that somebody else started, with a token, is joined by each kind of address, used, and left as it was."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from steer.errors import RunError
from steer.execution.journal import entries
from steer.execution.manifest import read_manifest
from steer.execution.ray_address import Entry, entry
from tests.execution.drivers import Session, begin, eventually, stop_in_mid_run
from tests.execution.lab import Lab, make_lab, rows_of
from tests.project import EXPERIMENT, Project, make_project, tables

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'steer[ray]'")


@dataclass(frozen=True)
class Cluster:
    """Two nodes of one core; `environ` is that of a driver that has its token."""

    nodes: tuple[Session, ...]
    address: str
    client: str
    environ: dict[str, str]

    def lines(self) -> list[str]:
        return [line for node in self.nodes for line in node.members().values()]

    def is_as_it_was(self) -> bool:
        """All its nodes are there, and no actor is."""
        lines = self.lines()
        return sum("raylet/raylet" in line for line in lines) == 2 and not any("ray::Worker" in line for line in lines)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as name:  # a short path
        folder = Path(name)
        (folder / "token").write_text(secrets.token_hex())
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environ |= {"RAY_TMPDIR": name, "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
        client, nodes = free_port(), list[Session]()
        head = ("--head", "--port=0", f"--ray-client-server-port={client}", "--include-dashboard=false")
        try:
            start_node(nodes, folder, environ, *head)
            address = (folder / "ray" / "ray_current_cluster").read_text()
            start_node(nodes, folder, environ, f"--address={address}")
            made = Cluster(tuple(nodes), address, f"ray://127.0.0.1:{client}", environ)
            eventually(lambda: listens(made))
            yield made
        finally:
            for node in nodes:
                node.end()


def start_node(nodes: list[Session], folder: Path, environ: dict[str, str], *arguments: str) -> None:
    """A node of one core, as a user starts it; on the ports that are free, since it is not alone on its machine."""
    ray = ("ray.scripts.scripts", "start", "--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats")
    ports = ("--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0")
    more = {"RAY_AUTH_MODE": "token", "GRPC_ENABLE_FORK_SUPPORT": "0"}
    nodes.append(begin(folder / "said", *ray, *ports, *arguments, environ=environ | more))
    assert nodes[-1].code() == 0, nodes[-1].said.read_text()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]  # type: ignore[no-any-return]


def listens(cluster: Cluster) -> bool:
    """The server of clients comes up after `ray start` has ended."""
    try:
        return entry(cluster.client, cluster.environ).mode == "token"
    except RunError:
        return False


@pytest.fixture(scope="module")
def lab(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("cluster"), tiny_folder)


@pytest.fixture(scope="module")
def project(lab: Lab) -> Project:
    return make_project(lab.folder.with_name("joined"), lab.model, lab.transcoders, EXPERIMENT)


def test_a_cluster_is_entered_with_its_token_and_with_no_other(cluster: Cluster) -> None:
    for address in (cluster.address, cluster.client):
        assert entry(address, cluster.environ) == Entry(address, "token")
        with pytest.raises(RunError, match="asks for a token, and none was found here"):
            entry(address, {"HOME": "/nowhere"})
        with pytest.raises(RunError, match="asks for a token, and the one in RAY_AUTH_TOKEN is not it"):
            entry(address, {"RAY_AUTH_TOKEN": "wrong"})
    assert entry("auto", cluster.environ) == Entry(cluster.address, "token")


def test_runs_by_each_kind_of_address_are_stopped_and_resumed_and_end_in_the_tables_of_one_process(
    cluster: Cluster, lab: Lab, project: Project
) -> None:
    command = ("tests.execution.slowed", "run", project.experiment, "--engine", "ray", "--workers", "1")
    results = project.results / "0"
    begun = begin(
        project.folder / "stopped", *command, "--address", cluster.client, "--results", results, environ=cluster.environ
    )
    assert stop_in_mid_run(begun, results, signal.SIGINT) == 130, begun.said.read_text()
    (stopped,) = (results / "tiny").glob("2*")
    assert read_manifest(stopped)["status"] == "interrupted"
    eventually(cluster.is_as_it_was)

    both = (f"{cluster.client}=1", "auto=2")  # which is HOST:PORT, as the test above has it
    arguments = ("tests.execution.joining", project.experiment, project.results, *both)
    joined = begin(project.folder / "joined", *arguments, environ=cluster.environ)
    assert joined.code() == 0, joined.said.read_text()
    eventually(cluster.is_as_it_was)
    with rows_of(7):
        expected = tables(lab.run(EXPERIMENT).folder)
    for run in (stopped, *(project.results / "1" / "tiny").glob("2*")):
        ids = [one.trial_id for one in entries(run / "journal.jsonl")]
        assert len(ids) == len(set(ids)) == len(expected["trials"])
        for name, table in tables(run).items():
            pd.testing.assert_frame_equal(table, expected[name], atol=1e-4)
    assert len(list((project.results / "1" / "tiny").glob("2*"))) == 1
