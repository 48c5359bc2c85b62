"""What a cluster that was joined cannot hold is said with numbers; Ray would wait for it."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from workbench import recipes
from workbench.runs import Run, Scale, write_json
from workbench.scale import arrival, room
from workbench.scale.choose import CannotScale
from workbench.scale.machine import Gpu
from workbench.scale.room import Node, in_use, missing


def node(cpus=4, gpus=0, used=0, name="10.0.0.1"):
    return Node(name, {"CPU": cpus, "GPU": gpus}, {"CPU": cpus - used, "GPU": gpus})


TWO = Scale(learners=2, rollouts=1)


def test_enough_is_enough():
    for nodes in ([node(3)], [node(1), node(2)]):
        assert not [*missing(TWO, False, nodes), *in_use(TWO, False, nodes)]


def test_too_few_processors():
    (one,) = missing(TWO, True, [node(2), node(1, name="10.0.0.2")])
    assert one.startswith(
        "it asks for 4 CPUs (2 for learners and 1 for engines and 1 for the reference of a KL), and the cluster has 3 "
        "on 2 machines; lower learners or rollouts"
    )


def test_too_few_machines_and_gpus():
    few, gpus = missing(
        Scale("cuda", nodes=3, learners=4, rollouts=2, engine="vllm", tensor_parallel=2),
        False,
        [node(16, 4), node(16, 3, name="10.0.0.2")],
    )
    assert "nodes=3, and the cluster has 2 (10.0.0.1, 10.0.0.2)" in few
    assert "8 GPUs (4 for learners and 2 x 2 for engines), and the cluster has 7 on 2 machines" in gpus


def test_an_engine_is_on_one_machine():
    scale = Scale("cuda", learners=1, rollouts=1, engine="vllm", tensor_parallel=4)
    (one,) = missing(scale, False, [node(8, 3), node(8, 2)])
    assert "tensor_parallel=4: an engine is on one machine, and no machine of the cluster has more than 3 GPUs" in one
    assert not [*missing(scale, False, [node(8, 4), node(8, 1)])]


def test_what_others_use():
    (one,) = in_use(TWO, False, [node(4, used=2)])
    assert "asks for 3 CPUs" in one and "of the 4 of the cluster others use 2 now" in one and "ray status" in one


def test_others_are_waited_for_and_then_it_is_refused(monkeypatch):
    """A driver that was killed a moment ago still holds what it had."""
    free = iter([4, 4, 1])
    monkeypatch.setattr(arrival, "nodes", lambda: [node(4, used=next(free))])
    monkeypatch.setattr(arrival, "FREE_S", 60.0)
    monkeypatch.setattr(arrival.time, "sleep", lambda seconds: None)
    arrival.wait_for_room(TWO, False)
    monkeypatch.setattr(arrival, "nodes", lambda: [node(4, used=4)])
    monkeypatch.setattr(arrival, "FREE_S", 0.0)
    with pytest.raises(CannotScale, match="others use 4 now"):
        arrival.wait_for_room(TWO, False)


def test_a_cluster_is_as_good_as_its_smallest_gpu():
    small, large = Gpu("T4", 16e9), Gpu("H100", 80e9)
    found = arrival.machine_of([node(8, 1), node(16, 1)], [large, small])
    assert (found.cpus, found.nodes, found.gpus, found.name) == (24, 2, (small, small), "the cluster")
    assert arrival.machine_of([node(8, 1)], []).gpu_memory == float("inf")


def test_a_machine_says_what_is_wrong_with_the_folder(tmp_path):
    run, exchange = tmp_path / "run", tmp_path / "run" / "exchange"
    assert arrival.seen_here(str(run), str(exchange), "a")[0] == "it is not there"
    exchange.mkdir(parents=True)
    assert arrival.seen_here(str(run), str(exchange), "a")[0] == "it is not there"
    (run / "launch.json").write_text("{}")
    assert arrival.seen_here(str(run), str(exchange), "a")[0] == "" and (exchange / "a").exists()
    assert "cannot be written" in arrival.seen_here(str(run), str(exchange), "no/such")[0]


def test_what_a_run_starts():
    assert room.parts_of(TWO) == (("learners", 2, 1, 0), ("engines", 1, 1, 0))
    assert room.parts_of(Scale("cuda", learners=2), True)[-1] == ("the reference of a KL", 1, 1, 1)


def test_machines_that_are_lost_are_waited_for_and_then_the_run_has_failed(tmp_path, monkeypatch, capsys):
    """A run whose machines come back in time goes on; Ray says nothing of either."""
    write_json(tmp_path / "launch.json", {"steps": 9})
    write_json(tmp_path / "status.json", {"state": "running", "step": 4, "steps": 9})
    job, ended = SimpleNamespace(recipe=recipes.grpo(kl=0.0), evidence=(), path=tmp_path), threading.Event()

    there = iter([[node(4)], [node(1)], [node(4)], *[[node(1)]] * 10**6])
    monkeypatch.setattr(arrival, "nodes", lambda: next(there))
    monkeypatch.setattr(arrival, "WATCH_S", 0.001)
    monkeypatch.setattr(arrival, "GONE_S", 0.05)
    monkeypatch.setattr(arrival.os, "_exit", lambda status: ended.set())
    with arrival.room_watched(replace(TWO, address="auto", nodes=2), job):  # one is enough, if it has room
        assert ended.wait(60)
    status = Run(tmp_path).status
    assert (status.state, status.step) == ("failed", 4) and "resume(" in status.reason
    assert "3 CPUs" in status.reason and "the cluster has 1 on 1 machine" in status.reason
    assert capsys.readouterr().out.count("waiting for machines") == 2


def test_a_cluster_of_ones_own_is_not_watched(monkeypatch):
    monkeypatch.setattr(arrival, "WATCH_S", 0.0)
    monkeypatch.setattr(arrival, "nodes", lambda: pytest.fail("looked"))
    before = set(threading.enumerate())
    with arrival.room_watched(TWO, SimpleNamespace(recipe=recipes.grpo(), evidence=(), path=None)):
        assert set(threading.enumerate()) <= before
