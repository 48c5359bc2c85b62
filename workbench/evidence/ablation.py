"""What is lost without a turn: its observation cut out of the text, or the world played again without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from workbench.envs.base import Environment, Task
from workbench.evidence.base import Meter, Provider, Reads, Sees, Values
from workbench.evidence.contexts import Tokens
from workbench.evidence.scoring import model_hash
from workbench.policy.base import Policy
from workbench.policy.scoring import check_scores
from workbench.policy.token_tree import Range
from workbench.rollout.episode import step_world
from workbench.seeds import seed_for
from workbench.trajectory import Group, RecordError, Trajectory


def without(trajectory: Trajectory, turn: int | None) -> tuple[Tokens, Range] | None:
    """Return the tokens of the last turn's sequence with a turn's observation left out, and where the last turn stands.

    Args:
        trajectory: no branch.
        turn: whose observation; None leaves nothing out.

    Returns:
        ids and [start, stop) of the tokens the last turn sampled; None without tokens, or if it sampled none.
    """
    end = len(trajectory.turns) - 1
    for sequence in trajectory.sequences if trajectory.parent is None else ():
        if not any(span.turn == end and span.origin == "sampled" for span in sequence.spans):
            continue
        ids: list[int] = []
        start = stop = 0
        for span in sequence.spans:
            if span.turn == end and span.origin == "sampled":
                start, stop = (start if stop else len(ids)), len(ids) + len(span)
            if not (span.turn == turn and span.origin == "observation"):
                ids += span.ids
        return tuple(ids[:stop]), (start, stop)
    return None


@dataclass(frozen=True)
class ObservationDrop(Provider):
    """Ask how much less likely a rollout's own last turn is with one observation gone: `ablation_drop`, in nats.

        drop_t = log p(last turn | everything) - log p(last turn | everything but what came back from turn t)

    Unknown for the last turn, for a turn from which nothing came back, for branches and without tokens. An answer that
    was guessed depends on nothing: all its drops are near 0.

    Args:
        policy: who scores.

    Source: none found for agents' turns; erasure as in Li, Monroe and Jurafsky 2016, arXiv:1612.08220.
    """

    policy: Policy = field(metadata={"key": False})
    provides: ClassVar[Mapping[str, str]] = {"ablation_drop": "turn"}
    sees: ClassVar[tuple[Sees, ...]] = ("future",)
    reads: ClassVar[tuple[Reads, ...]] = ("tokens",)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The fields, and who scores."""
        return {**super().parameters, "policy": self.policy.name, "how": "observation"}

    @property
    def model(self) -> str:
        """Hash of the scoring policy's weights."""
        return model_hash(self.policy)

    @property
    def policy_version(self) -> int:
        """Version of the scoring policy's weights."""
        return self.policy.engine.version

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Score each last turn once, and once more for each observation."""
        return {"ablation_drop": Values.of(drop for t in group for drop in self._drops(t, meter))}

    def _drops(self, trajectory: Trajectory, meter: Meter) -> list[float | None]:
        whole = without(trajectory, None)
        drops: list[float | None] = [None] * len(trajectory.turns)
        if whole is None:
            return drops
        asked = {k: without(trajectory, k) for k in range(len(trajectory.turns) - 1)}
        rows = {k: row for k, row in asked.items() if row is not None and row != whole}
        given = [whole, *rows.values()]
        spans = [span for _, span in given]
        scores = check_scores(self.policy.name, self.policy.engine.score([ids for ids, _ in given], spans), spans)
        meter.count(calls=len(given), tokens=sum(len(ids) for ids, _ in given))
        full, *others = (float(one.logprobs.double().sum()) for one in scores)
        for k, value in zip(rows, others, strict=True):
            drops[k] = full - value
        return drops


@dataclass(frozen=True)
class ReplayDrop(Provider):
    """Play a rollout's actions again in a fresh world without one turn: `ablation_drop`, in units of the outcome.

        drop_t = R - R of the same actions without turn t

    No model is asked: later actions stay as they were, so in a world where actions only read, nothing but the answer
    counts. Unknown where the world did not end without the turn, and for branches.

    Args:
        env: the world it was played in.
        timeout_s: of one step.

    Raises (collecting):
        RecordError: with all turns the world does not come to the recorded outcome.
    """

    env: Environment = field(metadata={"key": False})
    timeout_s: float = 30.0
    provides: ClassVar[Mapping[str, str]] = {"ablation_drop": "turn"}
    sees: ClassVar[tuple[Sees, ...]] = ("future", "gold")
    reads: ClassVar[tuple[Reads, ...]] = ("messages", "gold", "results")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The fields, and the world."""
        return {**super().parameters, "how": "replay", "env": repr(self.env)}

    async def compute(self, group: Group, meter: Meter) -> Mapping[str, Values]:
        """Replay each rollout once, and once more for each turn."""
        return {"ablation_drop": Values.of([drop for t in group for drop in await self._drops(t, meter)])}

    async def _drops(self, trajectory: Trajectory, meter: Meter) -> list[float | None]:
        if trajectory.parent is not None or trajectory.outcome is None:
            return [None] * len(trajectory.turns)
        again = await self._outcome(trajectory, None)
        if again != trajectory.outcome and not trajectory.truncated:
            problem = f"played again it ends with {again}, recorded was {trajectory.outcome}; is it the same world?"
            raise RecordError(problem, trajectory=trajectory.id, field="outcome")
        left = [await self._outcome(trajectory, k) for k in range(len(trajectory.turns))]
        meter.count(calls=len(left) + 1)
        return [None if value is None else trajectory.outcome - value for value in left]

    async def _outcome(self, trajectory: Trajectory, skip: int | None) -> float | None:
        made = trajectory.extra
        if "task" not in made:
            problem = "does not say what was played (`extra['task']`), so the world cannot be restored"
            raise RecordError(problem, trajectory=trajectory.id, field="extra")
        world = self.env.fresh()
        question = str(made.get("question", trajectory.prompt[-1].text if trajectory.prompt else ""))
        seed = seed_for(made.get("seed", 0), made.get("step", 0), trajectory.group, made.get("sample", 0))
        world.reset(Task(trajectory.group, question, trajectory.gold, made["task"]), seed)
        for number, turn in enumerate(trajectory.turns):
            if number == skip:
                continue
            reply = await step_world(world, turn.action, self.timeout_s)
            if reply.done:
                return reply.outcome
        return None
