"""A round of candidates for a training step: several actions in every state, the best played on (second VPR)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from workbench.envs.base import Environment
from workbench.policy.base import Policy, Settings
from workbench.rollouts import Rollouts
from workbench.search.candidates import Ties, equal_share, play_candidates
from workbench.seeds import seed_for
from workbench.train.plan import Plan


@dataclass(frozen=True)
class Candidates:
    """Where a step's rollouts come from: `one_step(..., player=Candidates())` instead of whole episodes.

        learner = start(policy, vpr_states(oracle="oracle_value"), plan)
        for step in range(plan.steps):
            one_step(learner, env, recipe, plan, step, player=Candidates())

    A task of the plan is played `plan.size` / `count` times, at least once, with `count` candidates in every state: the
    first state costs as many samples as a group of whole episodes, each later one as many again.

    Args:
        count: K, candidates a state, at least 2.
        oracle: the turn's number that decides which one is played on.
        ties: see `play_candidates`.
        skip_at: where at least this share of the states has candidates of one value only, nothing of the round is
            trained on (its turns say so); above 1 never. The release has 0.93.

    Example:
        >>> Candidates(count=4)
        Candidates(count=4, oracle='oracle_value', ties='first', skip_at=0.93)
    """

    count: int = 4
    oracle: str = "oracle_value"
    ties: Ties = "first"
    skip_at: float = 0.93

    def __call__(
        self, policy: Policy, env: Environment, plan: Plan, step: int, rounds: int, groups: int, seen: set[str]
    ) -> Rollouts:
        """Play a round; a function of the weights and these numbers, and of nothing else."""
        drawn = env.tasks("train", groups, seed_for("tasks", plan.seed, step, rounds) % 10**9)
        made = play_candidates(
            policy,
            env,
            [task for task in drawn if task.id not in seen],
            count=self.count,
            size=max(1, plan.size // self.count),
            oracle=self.oracle,
            ties=self.ties,
            settings=Settings(temperature=plan.temperature, max_new_tokens=plan.max_new_tokens),
            seed=plan.seed,
            step=step,
        )
        equal = equal_share(made, self.oracle)
        return untrainable(made, equal) if equal is not None and equal >= self.skip_at else made


def untrainable(rollouts: Rollouts, equal: float) -> Rollouts:
    """Return the rollouts with turns that must not be trained on, and the reason."""
    why = f"candidates are alike in {equal:.0%} of the states"
    return Rollouts(
        tuple(
            replace(t, turns=tuple(replace(turn, trainable=False, why_not=turn.why_not or why) for turn in t.turns))
            for t in rollouts
        )
    )
