"""The value that says where a run runs: what can never be meant is refused, with what to give."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from workbench.runs import Scale

BAD = [
    ({"device": "gpu"}, r"Scale.device: expected one of \('cpu', 'cuda'\), got 'gpu'"),
    ({"engine": "sglang"}, r"Scale.engine: expected one of \('hf', 'vllm'\)"),
    ({"nodes": 0}, "Scale.nodes: expected a whole number of at least 1, got 0"),
    ({"learners": 0}, "Scale.learners"),
    ({"learners": True}, "Scale.learners: expected a whole number of at least 1, got True"),
    ({"learners": 2.0}, "Scale.learners"),
    ({"rollouts": -1}, "Scale.rollouts: expected a whole number of at least 0, got -1"),
    ({"tensor_parallel": 0}, "Scale.tensor_parallel"),
    ({"tensor_parallel": 2}, "add engine='vllm'"),
    ({"asynchronous": -1}, "Scale.asynchronous"),
    ({"asynchronous": 1}, "asynchronous=1 with rollouts=0"),
    ({"address": " "}, "Scale.address"),
    ({"address": 6379}, "Scale.address"),
]


@pytest.mark.parametrize(("asked", "said"), BAD, ids=[str(asked) for asked, _ in BAD])
def test_what_can_never_be_meant_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        Scale(**asked)


def test_local_is_one_process_of_any_device():
    assert Scale().local and Scale("cuda").local
    others = ({"nodes": 2}, {"learners": 2}, {"rollouts": 1}, {"engine": "vllm"}, {"address": "auto"})
    assert not any(Scale(**other).local for other in others)


def test_devices_are_one_a_learner_and_as_many_as_an_engine_is_cut_over():
    assert Scale().devices == 1
    assert Scale("cuda", 2, 4, 3, "vllm", 2).devices == 4 + 3 * 2
    assert Scale(learners=2).devices == 2 + 1 and Scale(engine="vllm").engines == 1 and Scale().engines == 0


def test_it_is_a_value():
    scale = Scale("cuda", learners=2, rollouts=1, engine="vllm", asynchronous=1)
    assert pickle.loads(pickle.dumps(scale)) == scale and hash(scale) == hash(pickle.loads(pickle.dumps(scale)))


def test_it_needs_the_standard_library_only():
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, workbench.runs; print({'torch', 'ray', 'numpy', 'pandas'} & set(sys.modules))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "set()", found.stdout
