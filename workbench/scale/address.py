"""The address of a Ray cluster: what is wrong with it, found within seconds and without loading Ray."""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CONNECT_S = 3.0  # so that a request fails in under ten seconds, whatever does not answer
PORTS = {"http": 8265, "https": 443, "": 6379}
CLUSTER_FILE = (
    "ray_current_cluster"  # `ray start` writes the address of what it started into the folder of its sessions
)


def problem_with_address(address: str, timeout_s: float = CONNECT_S) -> str | None:
    """Say what is wrong with the address of a Ray cluster; None if something answers there.

    Args:
        address: "auto", "host:port" or "http://host:port".
        timeout_s: how long to wait for each answer.
    """
    if address.startswith("ray://"):
        return (
            f"address={address!r} is that of Ray's client, which no run is driven through; give "
            "'http://HEAD:8265' (a job of the cluster), or 'HEAD:6379' on one of its machines"
        )
    if address == "auto":
        there = address_of_auto()
        if there is None:
            return (
                "address='auto': no Ray cluster was started here; `ray start --head` starts one, or leave address out "
                "and the run starts its own"
            )
        address = there
    host, port = host_and_port(address)
    if host is None or port is None:
        return f"address={address!r}: expected 'auto', 'host:port' such as '10.0.0.1:6379', or 'http://host:8265'"
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            plain = "://" in address or os.environ.get("RAY_USE_TLS") == "1" or _speaks_http2(connection)
    except OSError as error:
        return (
            f"address={address!r}: nothing answers at {host} port {port} within {timeout_s:g} s ({error}); is the "
            "cluster up (`ray status` there), and is this its port? 6379 is Ray's own, 8265 that of jobs (http://)"
        )
    if "://" in address:
        return _problem_with_server(address, timeout_s)
    if not plain:
        return (
            f"address={address!r}: what answers there is no Ray; 6379 is Ray's own port unless `ray start --port` said "
            "otherwise; the port of the dashboard, 8265, is given as 'http://HEAD:8265'"
        )
    if not raylet_runs_here():
        return (
            f"address={address!r}: this machine is none of a Ray cluster (no raylet runs here), so it cannot join one; "
            "give 'http://HEAD:8265', which makes the run a job of the cluster, or call `ray start --address=HEAD:6379`"
        )
    return None


def _speaks_http2(connection: socket.socket) -> bool:
    """Does the other side greet as gRPC does, which Ray's own port speaks?

    Source: RFC 9113, section 3.4: after the client's preface both sides begin with a SETTINGS frame (type 4).
    """
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    try:
        frame = connection.recv(9, socket.MSG_WAITALL)
    except OSError:  # no answer in time, or hung up
        return False
    return len(frame) == 9 and frame[3] == 4


def _problem_with_server(address: str, timeout_s: float) -> str | None:
    """Say what is wrong with a server of jobs; None if it says which Ray it is, or wants a token first."""
    where = f"{address.rstrip('/')}/api/version"
    try:
        with urllib.request.urlopen(where, timeout=timeout_s) as answer:
            told = json.loads(answer.read(1 << 16))
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            told = f"status {error.code}"
        elif os.environ.get("RAY_AUTH_MODE") == "token":
            return None  # Ray's client has the token, and says so if it is not the one
        else:
            return (
                f"address={address!r}: the cluster wants a token; set RAY_AUTH_MODE=token, and have it in "
                "RAY_AUTH_TOKEN or ~/.ray/auth_token (`ray get-auth-token` on the head prints it)"
            )
    except (OSError, ValueError, http.client.HTTPException) as error:
        told = f"{type(error).__name__}: {error}"
    if isinstance(told, dict) and "ray_version" in told:
        return None
    return (
        f"address={address!r}: what answers there is no job server of Ray ({str(told)[:100]}). That is part of the "
        "dashboard: port 8265 of the head, where Ray is installed with it (pip install 'ray[default]')"
    )


def raylet_runs_here(processes: str | Path = "/proc") -> bool:
    """Does this machine belong to some Ray cluster? Yes, where that cannot be seen."""
    if not Path(processes, "self").exists():
        return True
    for file in Path(processes).glob("[0-9]*/cmdline"):
        try:
            name = file.read_bytes().split(b"\0")[0]
        except OSError:  # it has ended
            continue
        if name.endswith(b"/raylet"):
            return True
    return False


def host_and_port(address: str) -> tuple[str | None, int | None]:
    """Split an address; a port that is left out is Ray's default for its kind.

    Example:
        >>> host_and_port("10.0.0.1:6379"), host_and_port("http://head"), host_and_port("head:x")
        (('10.0.0.1', 6379), ('head', 8265), (None, None))
    """
    scheme = address.split("://")[0] if "://" in address else ""
    try:
        parts = urlsplit(address if scheme else f"//{address}")
        return (parts.hostname, parts.port or PORTS[scheme]) if scheme in PORTS and parts.hostname else (None, None)
    except ValueError:  # a port that is no number
        return None, None


def address_of_auto(environment: Mapping[str, str] | None = None, folder: str | Path | None = None) -> str | None:
    """Return what "auto" stands for: `RAY_ADDRESS`, or what `ray start` wrote down here; None if there is neither."""
    env: Mapping[str, Any] = os.environ if environment is None else environment
    if env.get("RAY_ADDRESS") and env["RAY_ADDRESS"] != "auto":
        return env["RAY_ADDRESS"]
    file = Path(folder or env.get("RAY_TMPDIR") or "/tmp") / ("" if folder else "ray") / CLUSTER_FILE
    try:
        return file.read_text("utf-8").strip() or None
    except OSError:
        return None
