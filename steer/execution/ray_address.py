"""Which Ray cluster an address means and whether it asks for a token; all of it asked before Ray is imported.

Ray reads RAY_AUTH_MODE once, when it is imported, and an address that is given never switches it to `token`, though
`ray start` does so wherever it finds a token. A driver whose mode is not its cluster's is refused after 20 to 30
seconds, or gets in and loses its actors. So the cluster itself is asked, with the first call that Ray would make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from steer.errors import RunError

if TYPE_CHECKING:
    import grpc

SECONDS = 10.0
"""How long a cluster may take to answer. Ray itself would go on trying for half a minute to many minutes."""
MODE = "RAY_AUTH_MODE"
CLIENT = "ray://"
CLIENT_PORT = 10001
HOW = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to its file; on the cluster `ray get-auth-token` prints it"


@dataclass(frozen=True)
class Entry:
    """How to get into a cluster: the `address` for `ray.init`, and the `mode` that RAY_AUTH_MODE must have."""

    address: str
    mode: str


@dataclass(frozen=True)
class Door:
    """A port HOST:PORT of a cluster, and the call with which Ray begins there."""

    target: str
    call: str
    request: bytes


@dataclass(frozen=True)
class Token:
    """What a cluster is shown, and where it was found."""

    text: str
    source: str


def entry(address: str, environ: Mapping[str, str]) -> Entry:
    """Where `address` (HOST:PORT, ray://HOST:PORT or auto) leads. RunError: nobody answers, or nobody is let in."""
    if find_spec("grpc") is None:
        raise RunError("--engine ray: --address needs grpcio; pip install 'steer[ray]' brings it")
    where = _found(address, environ)
    return Entry(where, _mode(_door(where), where, environ))


def _found(address: str, environ: Mapping[str, str]) -> str:
    """`auto` is what RAY_ADDRESS says, or else the cluster that `ray start` began last on this machine."""
    if address != "auto":
        return address
    if named := environ.get("RAY_ADDRESS"):
        return named
    temporary = environ.get("RAY_TMPDIR") or environ.get("TMPDIR") or "/tmp"
    noted = Path(temporary) / "ray" / "ray_current_cluster"
    try:
        return noted.read_text().strip()
    except FileNotFoundError:
        raise _not_there(address, f"RAY_ADDRESS is not set, and `ray start` has left no {noted}") from None


def _door(address: str) -> Door:
    at, client = address.removeprefix(CLIENT), address.startswith(CLIENT)
    host, colon, port = at.rpartition(":")
    if client and (not colon or at.endswith("]")):
        host, port = at, str(CLIENT_PORT)
    if not host or not port.isdigit():
        raise _not_there(address, "expected HOST:PORT, ray://HOST:PORT or auto")
    if client:
        return Door(f"{host}:{port}", "/ray.rpc.RayletDriver/ClusterInfo", b"\x08\x06")  # its `type` is PING
    return Door(f"{host}:{port}", "/ray.rpc.NodeInfoGcsService/GetClusterId", b"")


def _mode(door: Door, address: str, environ: Mapping[str, str]) -> str:
    """The cluster's mode, where this process can be of the same one."""
    asks, mine = not _lets_in(door, address, None, environ), environ.get(MODE, "").lower()
    if not asks and mine == "token":
        raise RunError(f"--engine ray: the cluster at {address} asks for no token, but {MODE} is token here: unset it")
    if not asks:
        return "disabled"
    wish = f"--engine ray: the cluster at {address} asks for a token"
    if mine == "disabled":
        raise RunError(f"{wish}, but {MODE} is disabled here: unset it")
    token = _token(environ)
    if token is None:
        raise RunError(f"{wish}, and none was found here: {HOW}")
    if not _lets_in(door, address, token, environ):
        raise RunError(f"{wish}, and the one in {token.source} is not it: {HOW}")
    return "token"


def _token(environ: Mapping[str, str]) -> Token | None:
    """The token that Ray would find, in the order in which it looks."""
    if named := environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(named, "RAY_AUTH_TOKEN")
    given = environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path(environ.get("HOME", "")) / ".ray" / "auth_token"
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"--engine ray: the token in {path} cannot be read: {error}") from error
    return Token(text, str(path)) if text else None


def _lets_in(door: Door, address: str, token: Token | None, environ: Mapping[str, str]) -> bool:
    """Whether this token, or none, will do. RunError where no cluster answers."""
    import grpc

    shown = (("authorization", f"Bearer {token.text}"),) if token else ()
    with _channel(door.target, environ) as channel:
        try:
            channel.unary_unary(door.call)(door.request, timeout=SECONDS, metadata=shown)
        except grpc.RpcError as error:
            match error.code():
                case grpc.StatusCode.UNAUTHENTICATED:
                    return False
                case grpc.StatusCode.UNAVAILABLE:
                    raise _not_there(address, error.details().rpartition(": ")[2].strip("]")) from error
                case grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise _not_there(address, f"no answer within {SECONDS:g} seconds") from error
                case grpc.StatusCode.UNIMPLEMENTED:
                    raise _not_there(address, _other_port(address)) from error
    return True  # whatever else it may have to say, it has listened


def _other_port(address: str) -> str:
    if address.startswith(CLIENT):
        return f"the port is not a Ray client server's (usually {CLIENT_PORT}); HOST:PORT without ray:// may be meant"
    return f"the port is not that of `ray start` (usually 6379); ray://HOST:{CLIENT_PORT} may be meant"


def _channel(target: str, environ: Mapping[str, str]) -> grpc.Channel:
    """As Ray opens one: past any proxy, and with its certificates where it is to use TLS."""
    import grpc

    options = (("grpc.enable_http_proxy", int(_on("RAY_grpc_enable_http_proxy", environ))),)
    if not _on("RAY_USE_TLS", environ):
        return grpc.insecure_channel(target, options)
    names = ("RAY_TLS_CA_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_SERVER_CERT")
    try:
        ca, key, chain = (Path(environ[name]).read_bytes() for name in names)
    except (KeyError, OSError) as error:
        raise RunError(f"--engine ray: with RAY_USE_TLS {', '.join(names)} name files: {error!r}") from error
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(ca, key, chain), options)


def _on(name: str, environ: Mapping[str, str]) -> bool:
    return environ.get(name, "0").lower() in ("1", "true")


def _not_there(address: str, why: str) -> RunError:
    return RunError(f"--engine ray: no Ray at {address}: {why}")
