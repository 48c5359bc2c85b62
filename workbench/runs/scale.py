"""Where and on how much a run runs: a plain value that says what is asked, and refuses what can never be meant."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

Device = Literal["cpu", "cuda"]
Engine = Literal["hf", "vllm"]


@dataclass(frozen=True)
class Scale:
    """Where and on how much a run runs. What no machine could do is refused here; what this one can, elsewhere.

    Args:
        device: "cpu" or "cuda".
        nodes: machines, at least 1.
        learners: processes that learn, in all, at least 1. On "cuda" one GPU each.
        rollouts: engines that only play, in all; 0: one process plays and learns, and beside several learners one
            engine plays for all of them.
        engine: "hf" or "vllm".
        tensor_parallel: GPUs that one vLLM engine is cut over.
        address: of an existing Ray cluster; None starts one on this machine. "host:port" or "auto" (what `ray start`
            started here): the driver is a process of this machine, which is one of the cluster's. "http://host:8265":
            the driver is a job of the cluster, and this machine need not be part of it. The run's folder must be on
            storage that all of them see under the same name.
        asynchronous: how many steps old the weights of a sampler may be; 0 waits for each update.

    Raises:
        ValueError: a field, or two fields together, that can never be meant; says what to give.

    Example:
        >>> Scale().local, Scale(learners=2).local
        (True, False)
        >>> Scale("cuda", learners=4, rollouts=2, engine="vllm", tensor_parallel=2).devices
        8
        >>> print(Scale(learners=2))
        Scale(learners=2)
    """

    device: Device = "cpu"
    nodes: int = 1
    learners: int = 1
    rollouts: int = 0
    engine: Engine = "hf"
    tensor_parallel: int = 1
    address: str | None = None
    asynchronous: int = 0

    def __post_init__(self) -> None:
        for name, known in (("device", get_args(Device)), ("engine", get_args(Engine))):
            if getattr(self, name) not in known:
                raise ValueError(f"Scale.{name}: expected one of {known}, got {getattr(self, name)!r}")
        for name, least in (("nodes", 1), ("learners", 1), ("rollouts", 0), ("tensor_parallel", 1)):
            _check_whole(name, getattr(self, name), least)
        _check_whole("asynchronous", self.asynchronous, 0)
        if self.address is not None and (not isinstance(self.address, str) or not self.address.strip()):
            raise ValueError(
                f"Scale.address: expected 'auto', 'host:port', 'http://host:8265' or None, got {self.address!r}"
            )
        self._check_together()

    def _check_together(self) -> None:
        """Refuse fields that exclude each other."""
        if self.tensor_parallel > 1 and self.engine != "vllm":
            raise ValueError(
                f"Scale.tensor_parallel={self.tensor_parallel}: only a vLLM engine is cut over devices; add "
                "engine='vllm', or leave tensor_parallel at 1 (learners share the weights by FSDP2 anyway)"
            )
        if self.asynchronous and not self.rollouts:
            raise ValueError(
                f"Scale.asynchronous={self.asynchronous} with rollouts=0: an engine that plays ahead is one of its "
                "own; give rollouts=1 or more, or asynchronous=0"
            )

    def __str__(self) -> str:
        given = ((one.name, getattr(self, one.name)) for one in fields(self) if getattr(self, one.name) != one.default)
        return f"Scale({', '.join(f'{name}={value!r}' for name, value in given)})"

    @property
    def local(self) -> bool:
        """One process on this machine, which plays and learns?"""
        return self == Scale(device=self.device)

    @property
    def by_job(self) -> bool:
        """Is its driver a job of a cluster's job server, rather than a process of this machine?"""
        return self.address is not None and self.address.lower().startswith(("http://", "https://"))

    @property
    def engines(self) -> int:
        """Engines that are processes of their own; 0 where one process plays and learns."""
        return 0 if self.local else max(self.rollouts, 1)

    @property
    def devices(self) -> int:
        """Devices that are held for the whole run: one a learner, `tensor_parallel` an engine."""
        return self.learners + self.engines * self.tensor_parallel


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"Scale.{name}: expected a whole number of at least {least}, got {value!r}")
