"""The processes that learn: a group that Ray Train starts and, when one dies, starts again from the last checkpoint.

Rank side: every rank makes the same steps as a local run, by the same `workbench.train.policy_gradient.learn`, on its
share of the parts. Driver side: `Learners` hands a batch over, waits, and after a death has the batches since the last
checkpoint learned again, so that no rollout is lost and nobody above notices but by the time it took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.recipes import Recipe
from workbench.runs import Run, Scale, sync_path
from workbench.scale.post import Answer, Post
from workbench.train.checkpoint import newest_good, sha256_of
from workbench.train.optim import adamw
from workbench.train.plan import Learner, Plan, made_ready
from workbench.train.policy_gradient import learn
from workbench.train.shipping import unpack
from workbench.train.student import head_for

RESTARTS = 3  # deaths of learners in one run of the driver that are mended; more is no accident
LOOK_S = 2.0  # how often a waiting driver looks whether there are learners at all

# ---------------------------------------------------------------------------------------------- on every rank


def work_on_rank(config: dict[str, Any]) -> None:
    """Do what the post asks for until it asks to end; what Ray Train runs on every rank.

    Args:
        config: "path" of the run, "post", "device", "guesses": is there a value head?
    """
    import ray
    import torch.distributed as dist

    post, device = config["post"], config["device"]
    learner, step = learner_on_rank(Path(config["path"]), device, config["guesses"])
    era = [ray.get(post.begin.remote(step)) if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(era, device=torch.device(device))
    number, made = 0, Jobs(learner, Path(config["path"]))
    while True:
        name, *given = ray.get(post.take.remote(era[0], number))
        if name == "end":
            return
        try:
            answer = Answer("done", getattr(made, name)(*given))
        except FloatingPointError as error:  # raised by all ranks alike, and the weights are those from before
            answer = Answer("failed", str(error))
        if dist.get_rank() == 0:
            ray.get(post.answer.remote(era[0], number, answer))
        number += 1


def learner_on_rank(path: Path, device: str, guesses: bool) -> tuple[Learner, int]:
    """Make the learner of this rank, as it was at the last checkpoint; return it and the steps done until then.

    Its value head, where it `guesses`, is whole on every rank: it is one row of numbers.
    """
    import ray.train.torch
    import torch.distributed as dist

    from workbench.scale import sharing

    config = Run(path).config
    torch.set_num_threads(config["threads"])
    policy, plan = (unpack(config[name], path / "code") for name in ("policy", "plan"))
    autocast = getattr(torch, plan.autocast) if plan.autocast else None
    if device == "cuda":  # Ray shows all GPUs of a machine to each of its learners
        torch.cuda.set_device(ray.train.torch.get_device())
    model = made_ready(policy, plan)
    model.to(device)
    head = head_for(model, plan.value_trunk) if guesses else None
    sharing.shard(model, device, autocast)
    optimiser = adamw(model, plan.betas, plan.weight_decay, head, plan.value_rate)
    learner = Learner(policy, model, optimiser, head=head, autocast=autocast, ranks=sharing.Together(device))
    found = [newest_good(path / "checkpoints")[:2] if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(found, device=torch.device(device))
    checkpoint, state = found[0]
    if checkpoint is not None:
        sharing.load(checkpoint, learner)
    return learner, state.get("step", 0)


class Jobs:
    """What a rank can be asked for; all ranks do each of them together."""

    def __init__(self, learner: Learner, path: Path):
        self.learner, config = learner, Run(path).config
        self.recipe, self.plan = (unpack(config[name], path / "code") for name in ("recipe", "plan"))

    def learn(self, content: Any) -> dict[str, Any]:
        """Make the updates of a step; return its metrics."""
        import ray

        batch, credits = ray.get(content)
        return learn(self.learner, self.recipe, self.plan, batch, credits)

    def values(self, content: Any) -> Tensor:
        """Return what the value head says of the state before each token of a batch."""
        import ray

        from workbench.scale.sharing import guessed

        return guessed(self.learner, ray.get(content), self.plan)

    def weights(self, folder: str) -> None:
        """Write whole weights, adapters merged, into a folder."""
        from safetensors.torch import save_file

        from workbench.scale.sharing import whole_weights

        found = whole_weights(self.learner.model)
        if found:
            save_file({k: w.contiguous() for k, w in found.items()}, f"{folder}/model.safetensors", {"format": "pt"})

    def probe(self, ids: list[int]) -> list[float]:
        """Return what the learners say of the last tokens of a fixed sequence."""
        from workbench.policy.agreement import learner_logprobs

        said = learner_logprobs(self.learner.model, ids)
        self.learner.model.reshard()  # no backward pass does it here
        return said

    def save(self, folder: str) -> None:
        """Write what a step changes; see `workbench.scale.sharing`."""
        from workbench.scale import sharing

        sharing.save(Path(folder), self.learner)


# ------------------------------------------------------------------------------------------------ at the driver


class Learners:
    """The learners, as the driver of a run sees them.

    Args:
        path: of the run.
        scale: how many, and on what.
        storage: a folder for Ray Train's own records.
        guesses: with a value head.
    """

    def __init__(self, path: Path, scale: Scale, storage: Path, guesses: bool = False):
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.path, self.scale, self.storage, self.guesses = path, scale, storage, guesses
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        post = ray.remote(Post).options(num_cpus=0, max_concurrency=1000, scheduling_strategy=here)
        self.post = post.remote()  # beside the driver: no other machine takes it away
        self.era, self.waited_s = 0, 0.0
        self.since: list[Any] = []  # batches since the last checkpoint: learned again if a learner dies
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._fit, name="learners", daemon=True)
        self.thread.start()

    def _fit(self) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        cuda = self.scale.device == "cuda"
        needs = {"CPU": 1.0, "GPU": 1.0} if cuda else {"CPU": 1.0}
        given = {"post": self.post, "device": self.scale.device, "guesses": self.guesses}
        try:
            TorchTrainer(
                work_on_rank,
                train_loop_config={"path": str(self.path.resolve()), **given},
                torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
                scaling_config=ScalingConfig(num_workers=self.scale.learners, use_gpu=cuda, resources_per_worker=needs),
                run_config=RunConfig(
                    name="learners",
                    storage_path=str(self.storage),
                    failure_config=FailureConfig(max_failures=RESTARTS),
                ),
            ).fit()
        except BaseException as error:  # told to whoever waits, see `_get`
            self.error = error

    def begun(self) -> int:
        """Wait until a group of learners is at work; return the steps done at the checkpoint it began from."""
        self.era, step = self._get(self.post.begun.remote(self.era))
        return step

    def learn(
        self, learner: Learner, recipe: Recipe, plan: Plan, batch: Batch, credits: Mapping[str, Credit]
    ) -> dict[str, Any]:
        """Have the learners make the updates of a step: an `Update` of `workbench.train.policy_gradient`."""
        import ray

        content = ray.put((batch, dict(credits)))
        row = self.ask("learn", content)
        self.since.append(content)
        return row

    def values(self, learner: Learner, batch: Batch, plan: Plan) -> Tensor:
        """Return the values of states: a `Guess` of `workbench.train.values`, by the weights the learners have now."""
        import ray

        return self.ask("values", ray.put(batch))

    def save(self, folder: Path) -> dict[str, str]:
        """Have them write a checkpoint; return the sha256 of its files, which are on the disk."""
        self.ask("save", str(folder.resolve()))
        files = sorted(one for one in folder.rglob("*") if one.is_file())
        for one in files:
            sync_path(one)
        return {str(one.relative_to(folder)): sha256_of(one) for one in files}

    def saved(self) -> None:
        """The checkpoint has its name: what was learned until now need not be learned again."""
        self.since = []

    def ask(self, name: str, *given: Any) -> Any:
        """Have all learners do something; return what the first of them answers.

        Raises:
            FloatingPointError: a number was not finite; their weights are those from before.
            RuntimeError: they died too often.
        """
        while True:
            answer = self._once(name, *given)
            if answer.state == "done":
                return answer.value
            if answer.state == "failed":
                raise FloatingPointError(answer.value)
            self._catch_up()

    def _once(self, name: str, *given: Any) -> Answer:
        number = self._get(self.post.give.remote(self.era, (name, *given)))
        return Answer(*self._get(self.post.answer_of.remote(self.era, number)))

    def _catch_up(self) -> None:
        """Bring a new group of learners to where the last one was."""
        print("a learner died; a new group begins at the last checkpoint", flush=True)
        while True:
            self.begun()
            if all(self._once("learn", content).state != "over" for content in self.since):
                print(f"and has learned {len(self.since)} batches again", flush=True)
                return

    def _get(self, ref: Any) -> Any:
        """Wait for a call of the post for as long as there is a group of learners, or is to be one."""
        import ray

        began = time.perf_counter()
        try:
            while True:
                ready, _ = ray.wait([ref], timeout=LOOK_S)
                if ready:
                    return ray.get(ref)
                if not self.thread.is_alive():
                    raise RuntimeError(why_over(self.error))
        finally:
            self.waited_s += time.perf_counter() - began

    def end(self) -> None:
        """Let them go."""
        if self.thread.is_alive() and self.error is None:
            self.post.give.remote(self.era, ("end",))
            self.thread.join(timeout=20)


def why_over(error: BaseException | None) -> str:
    """Say why there are no learners any more, from what Ray Train says."""
    if error is None:
        return "the learners ended by themselves"
    causes = getattr(error, "worker_failures", None) or {}
    said = next((f"{type(one).__name__}: {one}" for one in causes.values()), str(error))
    return f"the learners died more than {RESTARTS} times, the last time by: {' '.join(said.split())[-600:]}"
