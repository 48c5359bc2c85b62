"""Files for Slurm and Kubernetes: they parse, and use options that this version of Ray has."""

from __future__ import annotations

import re
import subprocess

import pytest

from workbench.runs import Scale
from workbench.scale.templates import kubernetes, slurm

SCALE = Scale("cuda", nodes=2, learners=8, rollouts=8, engine="vllm", address="auto")


def test_a_batch_script_is_valid_shell_and_asks_for_what_the_scale_needs():
    text = slurm(SCALE, "my run/train.py")
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).returncode == 0
    assert "#SBATCH --nodes=2\n" in text and "#SBATCH --gpus-per-node=8\n" in text
    assert "--min-nodes 2 --num-gpus=8 -- python" in text and "export RAY_ADDRESS=" in text


def test_the_script_runs_one_command_on_every_machine(tmp_path):
    """Played with stand-ins for Slurm and Ray: what the last line would run."""
    for name, said in (
        ("scontrol", "echo n1; echo n2"),
        ("srun", 'case "$*" in *hostname*) echo "10.0.0.1 fe80::1";; *) "${@:3}";; esac'),
    ):
        (tmp_path / name).write_text(f"#!/bin/bash\n{said}\n")
    (tmp_path / "ray").write_text('#!/bin/bash\nprintf "%s|" "$@"\n')
    for file in tmp_path.iterdir():
        file.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "n[1-2]"}
    done = subprocess.run(["bash"], input=slurm(SCALE, "my run/t.py"), env=env, text=True, capture_output=True)
    assert done.stdout == ("symmetric-run|--address|10.0.0.1:6379|--min-nodes|2|--num-gpus=8|--|python|my run/t.py|"), (
        done.stderr
    )


def test_ray_has_these_options():
    pytest.importorskip("ray")
    from ray.scripts.symmetric_run import symmetric_run

    options = {name for option in symmetric_run.params for name in option.opts}
    used = re.findall(r"--[a-z-]+", slurm(SCALE, "t.py").split("symmetric-run")[1].split(" -- ")[0])
    assert set(used) - {"--num-gpus"} <= options  # what follows is handed on to `ray start`
    from ray.scripts.scripts import start

    assert "--num-gpus" in {name for option in start.params for name in option.opts}


def test_a_rayjob_is_valid_yaml_and_has_the_machines():
    yaml = pytest.importorskip("yaml")
    found = yaml.safe_load(kubernetes(SCALE, "/work/train.py", "me/workbench:1", "shared", ray="2.60.0"))
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    spec = found["spec"]
    assert spec["entrypoint"] == "python /work/train.py" and spec["shutdownAfterJobFinishes"] is True
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 2
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "8"}} and container["image"] == "me/workbench:1"
    head = spec["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"] == {"num-gpus": "0"} and head["template"]["spec"]["containers"][0]["resources"] == {}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/work", "/dev/shm"}


def test_machines_with_too_few_gpus_are_refused():
    with pytest.raises(ValueError, match="asks for 16 GPUs, and 2 machines of 4 have 8: raise nodes"):
        slurm(SCALE, "t.py", gpus_per_node=4)
