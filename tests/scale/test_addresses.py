"""Addresses of clusters: what is wrong with one is said within seconds, by what answers there."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from workbench import envs, recipes
from workbench.runs import Scale
from workbench.scale import address, cluster
from workbench.scale.address import problem_with_address
from workbench.scale.choose import CannotScale
from workbench.train import launch
from workbench.train.plan import Plan


@contextmanager
def server(status: int, content: bytes, kind: str = "application/json"):
    """An HTTP server that answers all alike; yields its port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    there = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=there.serve_forever, daemon=True)
    thread.start()
    try:
        yield there.server_address[1]
    finally:
        there.shutdown()
        there.server_close()
        thread.join()


@contextmanager
def greeting(content: bytes):
    """A server that says the same to everybody who connects; yields its port."""
    import socket

    def answer():
        while True:
            try:
                other, _ = there.accept()
            except OSError:
                return
            with other, suppress(ConnectionError):
                other.sendall(content)
                other.recv(1000)

    there = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield there.getsockname()[1]
    finally:
        there.shutdown(socket.SHUT_RDWR)
        there.close()
        thread.join()


SETTINGS_FRAME = b"\0\0\0\4\0\0\0\0\0"


def test_a_server_of_jobs_says_which_ray_it_is():
    with server(200, b'{"version": "4", "ray_version": "2.60.0"}') as port:
        assert problem_with_address(f"http://127.0.0.1:{port}") is None
        assert problem_with_address(f"http://127.0.0.1:{port}/") is None


@pytest.mark.parametrize(
    ("status", "content"),
    [(200, b"<html>a wiki</html>"), (404, b"nothing"), (200, b"[]"), (200, b'{"version": "4"}'), (500, b"")],
)
def test_a_server_that_is_no_ray(status, content):
    with server(status, content) as port:
        said = problem_with_address(f"http://127.0.0.1:{port}")
    assert "what answers there is no job server of Ray" in said and "port 8265" in said and "ray[default]" in said


def test_http_where_nothing_answers_or_something_else_does(monkeypatch):
    import socket

    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        said = problem_with_address(f"http://127.0.0.1:{bound.getsockname()[1]}")
        assert "nothing answers at 127.0.0.1 port" in said and "8265 that of jobs" in said
    with greeting(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        assert "is no job server of Ray" in problem_with_address(f"http://127.0.0.1:{port}")


def test_a_server_that_never_answers_is_not_waited_for():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "is no job server of Ray" in problem_with_address(f"http://127.0.0.1:{port}", 0.2)
        assert "what answers there is no Ray" in problem_with_address(f"127.0.0.1:{port}", 0.2)


def test_a_cluster_that_wants_a_token(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with server(401, b"Unauthorized") as port:
        assert "wants a token; set RAY_AUTH_MODE=token" in problem_with_address(f"http://127.0.0.1:{port}")
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        assert problem_with_address(f"http://127.0.0.1:{port}") is None


def test_a_port_that_does_not_speak_as_ray_does(monkeypatch):
    monkeypatch.setattr(address, "raylet_runs_here", lambda: True)
    with server(200, b"hello") as port:
        said = problem_with_address(f"127.0.0.1:{port}")
        assert "what answers there is no Ray" in said and "'http://HEAD:8265'" in said
    with greeting(SETTINGS_FRAME) as port:
        assert problem_with_address(f"127.0.0.1:{port}") is None
        monkeypatch.setattr(address, "raylet_runs_here", lambda: False)
        said = problem_with_address(f"127.0.0.1:{port}")
        assert "this machine is none of a Ray cluster" in said and "'http://HEAD:8265'" in said


def test_a_raylet_is_known_by_its_name(tmp_path):
    assert address.raylet_runs_here(tmp_path)  # no such system: nobody can tell
    (tmp_path / "self").mkdir()
    for number, command in (("1", b"/bin/sh\0-c\0raylet\0"), ("2", b"/x/ray/core/src/ray/raylet/raylet\0--a=b\0")):
        (tmp_path / number).mkdir()
        assert not address.raylet_runs_here(tmp_path)
        (tmp_path / number / "cmdline").write_bytes(command)
    assert address.raylet_runs_here(tmp_path)


def test_the_client_of_ray_is_refused_with_what_to_give():
    said = problem_with_address("ray://head:10001")
    assert "'http://HEAD:8265'" in said and "'HEAD:6379'" in said


def test_who_drives_follows_from_the_address():
    assert Scale(address="http://head:8265").by_job and Scale(address="HTTPS://head").by_job
    assert not any(Scale(address=one).by_job for one in (None, "auto", "head:6379"))


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_wrong_address_is_refused_at_launch_and_leaves_no_folder(scheme, tmp_path):
    with server(200, b"<html>a wiki</html>") as there, pytest.raises(CannotScale, match="what answers there is no"):
        scale = Scale(learners=2, address=f"{scheme}127.0.0.1:{there}")
        launch(recipes.grpo(), envs.load("chain"), "tiny", Plan(steps=1), tmp_path / "run", scale=scale)
    assert not (tmp_path / "run").exists()


def test_a_cluster_of_ones_own_is_never_one_that_is_there(monkeypatch):
    """Without an address Ray joins what `ray start` last started on this machine, and refuses what a run asks of it."""
    ray, asked = pytest.importorskip("ray"), []
    monkeypatch.setattr(ray, "init", lambda *given, **more: asked.append((*given, more["num_cpus"])))
    cluster._start_here(Scale(learners=2), "/tmp/nowhere")
    assert asked == [("local", 5)]


@pytest.mark.parametrize(("there", "given"), [("http://h:8265", ("127.0.0.1:7",)), ("h:6379", ("h:6379",))])
def test_a_job_joins_the_cluster_that_runs_it(there, given, monkeypatch):
    """The address it was submitted to may be a way from elsewhere; what a job is given by Ray is not given twice."""
    ray, asked = pytest.importorskip("ray"), []
    monkeypatch.setattr(ray, "init", lambda *given, **more: asked.append((given, "runtime_env" in more)))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:7")
    cluster._join(Scale(learners=2, address=there))
    assert asked == [(given, there == "h:6379")]


def test_a_cluster_that_cannot_be_joined_says_what_to_do(monkeypatch):
    ray = pytest.importorskip("ray")

    def refuse(*given, **more):
        raise RuntimeError("Version mismatch: The cluster was started with:\n Ray: 2.9")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConnectionError, match="Version mismatch.*Ray: 2.9.*address='http://HEAD:8265'"):
        cluster._join(Scale(address="h:6379"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConnectionError, match="that of jobs, and this process is none"):
        cluster._join(Scale(address="http://h:8265"))
