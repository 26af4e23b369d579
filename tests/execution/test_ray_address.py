"""A cluster is asked for what it wants before Ray is imported, and whatever keeps a driver out is said in one line."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from steer.errors import RunError
from steer.execution import ray_address
from steer.execution.ray_address import Entry, entry

grpc = pytest.importorskip("grpc", reason="grpcio is not installed: pip install 'steer[ray]'")

GCS = "/ray.rpc.NodeInfoGcsService/GetClusterId"
CLIENT = "/ray.rpc.RayletDriver/ClusterInfo"


@dataclass
class Cluster:
    """A server that knows Ray's first calls, and wants this token where it is not None."""

    token: str | None = None
    calls: tuple[str, ...] = (GCS, CLIENT)
    heard: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method not in self.calls:
            return None
        shown = dict(details.invocation_metadata).get("authorization")
        self.heard.append((details.method, shown))

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if self.token is not None and shown != f"Bearer {self.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


Serve = Callable[..., Cluster]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers = []

    def start(*given: object) -> Cluster:
        cluster = Cluster(*given)  # type: ignore[arg-type]
        servers.append(grpc.server(ThreadPoolExecutor(1), handlers=(cluster,)))
        cluster.port = servers[-1].add_insecure_port("127.0.0.1:0")
        servers[-1].start()
        return cluster

    yield start
    for server in servers:
        server.stop(None)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has a token from elsewhere."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("home\n")
    return {"HOME": str(tmp_path)}


@pytest.mark.parametrize(("kind", "call"), [("", GCS), ("ray://", CLIENT)])
def test_a_cluster_that_asks_for_no_token_is_shown_none(
    serve: Serve, home: dict[str, str], kind: str, call: str
) -> None:
    cluster = serve()
    address = f"{kind}127.0.0.1:{cluster.port}"
    assert entry(address, home) == Entry(address, "disabled")
    assert cluster.heard == [(call, None)]


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_a_cluster_that_asks_for_one_is_shown_what_ray_would_find(
    serve: Serve, home: dict[str, str], tmp_path: Path, kind: str
) -> None:
    (tmp_path / "other").write_text(" other\n")
    by_path = home | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}
    by_name = by_path | {"RAY_AUTH_TOKEN": "named"}
    for environ, token in ((home, "home"), (by_path, "other"), (by_name, "named")):
        address = f"{kind}127.0.0.1:{serve(token).port}"
        assert (
            entry(address, environ) == Entry(address, "token") == entry(address, environ | {"RAY_AUTH_MODE": "token"})
        )


@pytest.mark.parametrize(
    ("wanted", "environ", "why"),
    [
        ("x", {"HOME": "/nowhere"}, "asks for a token, and none was found here: set RAY_AUTH_TOKEN, or"),
        ("x", {"RAY_AUTH_TOKEN": "y"}, "asks for a token, and the one in RAY_AUTH_TOKEN is not it: set RAY_AUTH_TOKEN"),
        ("x", {"RAY_AUTH_TOKEN_PATH": "/"}, "the token in / cannot be read"),
        ("x", {"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "disabled"}, "but RAY_AUTH_MODE is disabled here: unset it"),
        (None, {"RAY_AUTH_MODE": "token"}, "asks for no token, but RAY_AUTH_MODE is token here: unset it"),
        ("x", {"RAY_USE_TLS": "1"}, "with RAY_USE_TLS RAY_TLS_CA_CERT, RAY_TLS_SERVER_KEY, RAY_TLS_SERVER_CERT name"),
    ],
)  # fmt: skip
def test_who_is_not_let_in_is_told_what_to_set(
    serve: Serve, wanted: str | None, environ: dict[str, str], why: str
) -> None:
    with pytest.raises(RunError) as error:
        entry(f"127.0.0.1:{serve(wanted).port}", environ)
    assert why in str(error.value) and "\n" not in str(error.value)
    assert error.value.exit_code == 3


@pytest.mark.parametrize("kind", ["", "ray://"])
def test_where_no_cluster_answers_it_is_said_at_once(serve: Serve, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = serve(None, (CLIENT,) if not kind else (GCS,))
    with pytest.raises(RunError, match=f"no Ray at {kind}127.0.0.1:{other.port}: the port is not .*may be meant"):
        entry(f"{kind}127.0.0.1:{other.port}", {})
    with pytest.raises(RunError, match=f"no Ray at {kind}127.0.0.1:1: .*refused"):
        entry(f"{kind}127.0.0.1:1", {})
    monkeypatch.setattr(ray_address, "SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{kind}127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RunError, match=f"no Ray at {address}: (no answer|.*timed out)"):
            entry(address, {})


@pytest.mark.parametrize("address", ["head", "ray://", "head:x", ":6379", ""])
def test_what_is_no_address_is_refused_with_the_kinds_there_are(address: str) -> None:
    with pytest.raises(RunError, match="expected HOST:PORT, ray://HOST:PORT or auto"):
        entry(address, {})


def test_auto_is_what_the_environment_names_or_the_cluster_that_was_started_last(serve: Serve, tmp_path: Path) -> None:
    cluster = f"127.0.0.1:{serve().port}"
    environ = {"RAY_TMPDIR": str(tmp_path)}
    with pytest.raises(RunError, match="no Ray at auto: RAY_ADDRESS is not set, and `ray start` has left no"):
        entry("auto", environ)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(cluster + "\n")
    assert entry("auto", environ).address == cluster
    assert entry("auto", environ | {"RAY_ADDRESS": f"ray://{cluster}"}).address == f"ray://{cluster}"


def test_a_proxy_of_the_environment_is_passed_by(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    address = f"127.0.0.1:{serve().port}"
    assert entry(address, {}) == Entry(address, "disabled")
