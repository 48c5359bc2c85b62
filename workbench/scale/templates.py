"""Files that start a run on a cluster by Ray's own ways: a batch script for Slurm, a RayJob for Kubernetes.

Both start a cluster for one run: the script launches with `address="auto"` and waits. On a cluster that stays, from a
machine that is none of its own, no file is needed: `address="http://HEAD:8265"` makes the run a job of it.

Text to start from: names of partitions, images and volumes differ from place to place. Neither was run here: there is
neither Slurm nor Kubernetes; the options of `ray symmetric-run` are those of the version this package is tried with.

Source: Ray's user guides "Deploying on Slurm" (`ray symmetric-run`, from Ray 2.49) and "RayJob Quickstart" (KubeRay).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

from workbench.runs import Scale

PORT = 6379  # Ray's own; another one where several jobs may share a machine


def slurm(scale: Scale, script: str, gpus_per_node: int = 8, hours: int = 12, name: str = "workbench") -> str:
    """Return a batch script: Slurm gives whole machines, Ray starts on all of them and runs the script on the first.

    The script finds the cluster by `Scale(address="auto")`, and must wait for its run: when it ends, Ray ends.

    Args:
        scale: how many machines and GPUs.
        script: Python file that launches and waits, on a file system all machines see.
        gpus_per_node: of a machine.
        hours: the job may take; a run that is cut off goes on with `workbench resume`.
        name: of the job.

    Raises:
        ValueError: the machines have fewer GPUs than the scale asks for.

    Example:
        >>> print(slurm(Scale("cuda", 2, 8, 8, "vllm"), "train.py").splitlines()[3])
        #SBATCH --nodes=2
    """
    _check(scale, gpus_per_node)
    start = (
        f'ray symmetric-run --address "$RAY_ADDRESS" --min-nodes {scale.nodes} --num-gpus={gpus_per_node} -- '
        f"python {shlex.quote(script)}"
    )
    return "\n".join(
        (
            "#!/bin/bash",
            f"#SBATCH --job-name={name}",
            "#SBATCH --exclusive",
            f"#SBATCH --nodes={scale.nodes}",
            "#SBATCH --ntasks-per-node=1",
            f"#SBATCH --gpus-per-node={gpus_per_node}",
            f"#SBATCH --time={hours}:00:00",
            "",
            'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            'address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | cut -d " " -f 1)',
            f'export RAY_ADDRESS="$address:{PORT}"',
            "",
            f"srun --nodes={scale.nodes} --ntasks={scale.nodes} bash -c {shlex.quote(start)}",
            "",
        )
    )


def kubernetes(
    scale: Scale, script: str, image: str, volume: str, gpus_per_node: int = 8, name: str = "workbench", ray: str = ""
) -> str:
    """Return a RayJob: KubeRay starts a cluster, runs the script on its head, and takes the cluster away afterwards.

    Args:
        scale: how many machines and GPUs.
        script: Python file that launches and waits, on the volume.
        image: with this package, Ray and vLLM.
        volume: claim of a volume that all pods see at /work; runs are written there.
        gpus_per_node: of a machine.
        name: of the job.
        ray: version of Ray in the image; "" is the one installed here.

    Raises:
        ValueError: the machines have fewer GPUs than the scale asks for.
    """
    _check(scale, gpus_per_node)
    container = _container(image, volume)
    return f"""apiVersion: ray.io/v1
kind: RayJob
metadata:
  name: {name}
spec:
  entrypoint: python {shlex.quote(script)}
  shutdownAfterJobFinishes: true
  rayClusterSpec:
    rayVersion: "{ray or _version()}"
    headGroupSpec:
      rayStartParams:
        num-gpus: "0"
      template:
        spec:
{container("head", 0)}
    workerGroupSpecs:
      - groupName: gpus
        replicas: {scale.nodes}
        minReplicas: {scale.nodes}
        maxReplicas: {scale.nodes}
        rayStartParams: {{}}
        template:
          spec:
{_deeper(container("worker", gpus_per_node))}
"""


def _container(image: str, volume: str) -> Callable[[str, int], str]:
    def of(name: str, gpus: int) -> str:
        limits = f'\n              limits:\n                nvidia.com/gpu: "{gpus}"' if gpus else " {}"
        return f"""          containers:
          - name: {name}
            image: {image}
            resources:{limits}
            volumeMounts:
              - name: work
                mountPath: /work
              - name: memory
                mountPath: /dev/shm
          volumes:
          - name: work
            persistentVolumeClaim:
              claimName: {volume}
          - name: memory
            emptyDir:
              medium: Memory"""

    return of


def _deeper(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _check(scale: Scale, gpus_per_node: int) -> None:
    if scale.device == "cuda" and scale.devices > scale.nodes * gpus_per_node:
        raise ValueError(
            f"{scale} asks for {scale.devices} GPUs, and {scale.nodes} machines of {gpus_per_node} have "
            f"{scale.nodes * gpus_per_node}: raise nodes"
        )


def _version() -> str:
    from workbench.scale.machine import version_of

    return version_of("ray") or "2.60.0"
