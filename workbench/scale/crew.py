"""The crew of a run that is shared out: this process plays the episodes and credits them, others sample and learn.

    driver (this process)      the loop of `workbench.train.policy_gradient`, worlds, evidence, credit, the run's files
    learners (Ray Train)       FSDP2: the same `learn`, each rank on its share of the parts; what a value head guesses
    players (Ray actors)       engines: what the driver's episodes ask for

After each step the learners write whole weights, all players take them in place, and a fixed sequence is scored by the
learners and by every player: where they disagree the run stops and says so.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from workbench import store
from workbench.batch import Batch
from workbench.envs.base import Environment
from workbench.evidence import Evidence
from workbench.measure import lag_of
from workbench.policy.agreement import LENGTH, probe_sequence, require_agreement
from workbench.policy.base import Policy
from workbench.recipes import Recipe
from workbench.rollouts import Rollouts
from workbench.runs import Scale
from workbench.scale import sharing
from workbench.scale.ahead import Ahead
from workbench.scale.arrival import require_room, room_watched
from workbench.scale.cluster import joined
from workbench.scale.learners import Learners
from workbench.scale.players import Player, Players
from workbench.seeds import seed_for
from workbench.train import checkpoint
from workbench.train.plan import Learner, Plan, check_outputs, guesses_values, holds_on, made_ready
from workbench.train.policy_gradient import Done, one_step
from workbench.train.rounds import player_of
from workbench.train.shipping import unpack
from workbench.train.student import head_for
from workbench.train.worker import Crew, Job, compare_start, export


def check_recipe(recipe: Recipe, evidence: Sequence[Evidence], scale: Scale) -> None:
    """Refuse what a crew in several processes cannot do, whatever the machine.

    Raises:
        NotImplementedError: says what is asked for.
    """
    if scale.asynchronous > 1:
        raise NotImplementedError(
            f"asynchronous={scale.asynchronous}: players play one step ahead at most; give 1 or 0"
        )
    check_outputs(recipe)
    if recipe.objective.rule is not None:
        rule = type(recipe.objective.rule).__name__
        raise NotImplementedError(
            f"{recipe.name}: the gradient rule {rule} looks at the whole gradient of each term, and every learner has "
            "a share of it only. To keep the rule leave `scale` out: one process has all of it. To keep `scale` add "
            "the terms up by their weights instead: "
            "dataclasses.replace(recipe, objective=dataclasses.replace(recipe.objective, rule=None))"
        )


class ScaledCrew(Crew):
    """Makes the steps of a run on a Ray cluster; see `workbench.train.worker.Crew`."""

    def __init__(self, job: Job):
        self.job = job
        self.scale = unpack(job.config["scale"], job.path / "code")
        # whole and idle: what weights are named and exported by; nothing here trains it
        model = made_ready(job.policy, job.plan)
        autocast = getattr(torch, job.plan.autocast) if job.plan.autocast else None
        head = head_for(model, job.plan.value_trunk) if guesses_values(job.recipe, job.evidence) else None
        self.learner = Learner(job.policy, model, None, head=head, autocast=autocast)  # type: ignore[arg-type]
        self.heard: dict[str, list[float]] = {}  # what the players said of the probe last
        self.ahead = Ahead() if self.scale.asynchronous else None
        with ExitStack() as opened:
            with signals_kept():
                self.exchange = opened.enter_context(joined(self.scale, job.path))
            require_room(self.scale, job, self.exchange)
            self.open = opened.pop_all()
        self.open.enter_context(room_watched(self.scale, job))
        self.learners = Learners(job.path, self.scale, self.exchange / "records", guesses=head is not None)
        self.open.callback(self.learners.end)

    def restore(self) -> tuple[int, tuple[str, ...]]:
        """Start players with the weights of the last checkpoint."""
        notes = compare_start(self.job, self.learner)
        path, state, passed_over = checkpoint.newest_good(self.job.path / "checkpoints")
        step = self.learners.begun()
        if step != state.get("step", 0):
            raise RuntimeError(f"learners began at step {step}, the last checkpoint is {path}; resume once more")
        version = state.get("version", self.learner.policy.engine.version)
        players = self._players(self.scale.engines, str(self._weights(version)), version)
        self.players, self.probe = players, _probe(self.learner, players.positions)
        self.learner = replace(self.learner, policy=replace(self.learner.policy, engine=players))
        if holds_on(self.job.recipe, self.job.evidence):
            self.learner = replace(self.learner, reference=self._reference())
        if state:
            checkpoint.remind(state, self.learner, self.job.evidence)
        self._agree()
        return step, (*notes, *passed_over)

    def step(self, step: int) -> Done:
        """Make a step, then bring its weights to the players."""
        job, began = self.job, time.perf_counter()
        seed = seed_for("process", job.plan.seed, step)
        random.seed(seed)
        torch.manual_seed(seed)
        done = one_step(
            self.learner,
            job.env,
            job.recipe,
            job.plan,
            step,
            job.evidence,
            player=self.round_of,
            update=self._update,
            guess=self.learners.values,
        )
        if done.metrics["lag"] > self.scale.asynchronous:
            raise RuntimeError(
                f"step {step}: rollouts are {done.metrics['lag']} updates old, allowed are {self.scale.asynchronous}"
            )
        synced = time.perf_counter()
        self.sync()
        now = time.perf_counter()
        row = done.metrics
        spent = sum(row[f"seconds_{name}"] for name in ("rollout", "evidence", "credit", "learn")) + now - synced
        more = {"seconds_sync": round(now - synced, 4), "seconds_idle": round(max(now - began - spent, 0.0), 4)}
        return done._replace(metrics={**row, **more, "seconds": round(now - began, 4)})

    def _update(self, learner: Learner, recipe: Recipe, plan: Plan, batch: Batch, credits: Any) -> dict[str, Any]:
        """Learn; in an asynchronous run the players begin the next step meanwhile, with the weights they have."""
        self._begin_next(batch.step + 1)
        return self.learners.learn(learner, recipe, plan, batch, credits)

    def round_of(
        self, policy: Policy, env: Environment, plan: Plan, step: int, rounds: int, groups: int, seen: set[str]
    ) -> Rollouts:
        """Return a round's rollouts: what was played ahead, or else `_played`; arguments as of the local one."""
        found = self.ahead.taken(step) if self.ahead and not rounds else None
        return found or self._played(policy, env, plan, step, rounds, groups, seen)

    def _played(
        self, policy: Policy, env: Environment, plan: Plan, step: int, rounds: int, groups: int, seen: set[str]
    ) -> Rollouts:
        """Play a round, or take what was played of it before the driver died."""
        folder = self.pending / f"step-{step:08d}-{rounds}"
        if folder.exists() and lag_of(kept := store.read(folder), policy.engine.version) <= self.scale.asynchronous:
            return kept
        shutil.rmtree(folder, ignore_errors=True)
        play, part = player_of(self.job.recipe), folder.with_name(f".{folder.name}.part")
        found = play(policy, env, plan, step, rounds, groups, seen)
        store.write(part, found, overwrite=True)
        part.replace(folder)
        return found

    def _begin_next(self, step: int) -> None:
        """Let the players play the next step's first round while this step learns."""
        if self.ahead and step < self.job.plan.steps:
            given = (self.learner.policy, self.job.env, self.job.plan, step, 0, self.job.plan.groups, set())
            self.ahead.begin(step, lambda: self._played(*given))

    @property
    def pending(self) -> Path:
        """Folder of rollouts that no checkpoint has learned from yet."""
        return self.job.path / "pending"

    def sync(self) -> None:
        """Bring the learners' weights to all players, in place; they must agree from then on."""
        if self.ahead:
            self.ahead.wait()  # all tokens of a rollout are of one version
        folder = self._weights(self.players.version + 1)
        self.players.load(folder)
        for old in self.exchange.glob("version-*"):
            if old != folder:
                shutil.rmtree(old)
        self._agree()

    def save(self, step: int) -> None:
        """Write a checkpoint after `step` steps, each learner its share."""
        folder = self.job.path / "checkpoints"
        checkpoint.publish(folder, step, self.players.version, self.job.evidence, self.learners.save)
        self.learners.saved()
        for played in self.pending.glob("step-*"):
            if int(played.name.split("-")[1]) < step:
                shutil.rmtree(played)

    def export(self) -> None:
        """Write whole weights for `policy.load`, and the value head beside them where there is one."""
        path, _, _ = checkpoint.newest_good(self.job.path / "checkpoints")
        if path is not None:
            sharing.load_weights(path, self.learner.model, self.learner.head)
        export(self.job.path / "weights", self.learner)
        checkpoint.save_head(self.job.path / "value_head.safetensors", self.learner)

    def close(self, error: BaseException | None = None) -> None:
        """End learners, players and a cluster of our own; after an error what Ray wrote is kept in `ray-logs`."""
        self.open.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)

    # -- parts ---------------------------------------------------------------------------------------------

    def _weights(self, version: int) -> Path:
        """Have the learners write whole weights into a folder that engines read."""
        folder = self.exchange / f"version-{version:08d}"
        folder.mkdir()
        _bare(self.learner.model).config.save_pretrained(str(folder))
        self.learners.ask("weights", str(folder))
        return folder

    def _players(self, count: int, folder: str, version: int, engine: str = "") -> Players:
        """Start engines and wait until they are up."""
        import ray

        scale, path = self.scale, str(self.job.path.resolve())
        options: dict[str, Any] = {"engine": engine or scale.engine, "device": scale.device}
        if options["engine"] == "vllm":
            dtype = str(self.learner.model.dtype).removeprefix("torch.")
            options |= {"dtype": dtype, "tensor_parallel": scale.tensor_parallel}
        gpus = options.get("tensor_parallel", 1) if scale.device == "cuda" else 0
        actor = ray.remote(Player).options(num_cpus=1, num_gpus=gpus)
        made = Players(lambda folder, version: actor.remote(path, folder, version, options), count, folder, version)
        self.open.callback(made.close)
        made.ready()
        return made

    def _reference(self) -> Policy:
        """Return the policy as it began, in a process of its own: a KL holds on to it."""
        policy = self.learner.policy
        return Policy(f"{policy.name} at the start", self._players(1, "", 0, "hf"), policy.renderer)

    def _agree(self) -> None:
        """Stop where a player and the learners say other things of the same tokens."""
        before, self.heard = self.heard, self.players.probe(self.probe)
        said = self.learners.ask("probe", self.probe)
        dtype = self.learner.model.dtype
        require_agreement(said, self.heard, dtype, before=before or None, version=self.players.version)


@contextmanager
def signals_kept() -> Iterator[None]:
    """Put back who is told of SIGTERM and SIGINT: `ray.init` takes SIGTERM, and would end a run in mid-step."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, told in before.items():
            signal.signal(number, told)


def _probe(learner: Learner, positions: int | None) -> list[int]:
    """Draw the sequence that learners and players are compared on."""
    tokenizer = getattr(getattr(learner.policy.renderer, "codec", None), "tokenizer", None)
    size = learner.model.get_input_embeddings().weight.shape[0]
    vocabulary = size if tokenizer is None else min(size, len(tokenizer))
    special = getattr(tokenizer, "all_special_ids", ())
    return probe_sequence(vocabulary, length=min(LENGTH, (positions or LENGTH) - 1), special=special)


def _bare(model: Any) -> Any:
    """Return the model of transformers beneath adapters."""
    return model.get_base_model() if hasattr(model, "peft_config") else model
