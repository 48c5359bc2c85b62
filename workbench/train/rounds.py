"""How a round of a step is played: whole episodes, or the candidates in every state that a recipe asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from workbench.envs.base import Environment, Task
from workbench.policy.base import Policy, Settings
from workbench.recipes import Recipe
from workbench.recipes.candidates import Candidates
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.search.candidates import equal_share, play_candidates
from workbench.seeds import seed_for
from workbench.train.plan import Plan

Player = Callable[[Policy, Environment, Plan, int, int, int, set[str]], Rollouts]
"""Where the rollouts of a round come from; arguments as of `round_of`."""


def player_of(recipe: Recipe) -> Player:
    """Return what plays the rounds of a recipe."""
    return round_of if recipe.candidates is None else partial(round_of_candidates, recipe.candidates)


def check_world(recipe: Recipe, env: Environment) -> None:
    """Refuse a world in which the rounds of a recipe cannot be played.

    Raises:
        TypeError: candidates are to be tried in every state, and the world cannot go back to one.
    """
    lacking = [name for name in ("snapshot", "restore") if not callable(getattr(env, name, None))]
    if recipe.candidates is not None and lacking:
        raise TypeError(
            f"{recipe.name} tries {recipe.candidates.count} candidates in every state, so its world must be able to go "
            f"back to one: {type(env).__name__} has no {' and no '.join(lacking)} (see "
            "`workbench.envs.base.Environment`). Write them, or play whole episodes: `candidates=0` of the recipe"
        )


def round_of(
    policy: Policy, env: Environment, plan: Plan, step: int, rounds: int, groups: int, seen: set[str]
) -> Rollouts:
    """Play the tasks of a round: a function of the weights and these numbers, and of nothing else.

    Args:
        step: of the run.
        rounds: rounds of the step before this one; a recipe may ask for more where groups were dropped.
        groups: tasks to draw.
        seen: ids of tasks played in earlier rounds; they are not played again.
    """
    found = play(
        policy,
        env,
        _tasks(env, plan, step, rounds, groups, seen),
        size=plan.size,
        settings=_settings(plan),
        seed=plan.seed,
        step=step,
        progress=_quiet,
        gather_s=None,  # nothing may depend on which tool was faster
    )
    return _played(found, step, seen)


def round_of_candidates(
    how: Candidates, policy: Policy, env: Environment, plan: Plan, step: int, rounds: int, groups: int, seen: set[str]
) -> Rollouts:
    """Play the tasks of a round with candidates in every state; a function of the weights and these numbers, too.

    Args:
        how: many, judged by what, and when a round is not trained on.
        policy, env, plan, step, rounds, groups, seen: as in `round_of`.
    """
    made = play_candidates(
        policy,
        env,
        _tasks(env, plan, step, rounds, groups, seen),
        count=how.count,
        size=max(1, plan.size // how.count),
        oracle=how.oracle,
        ties=how.ties,
        settings=_settings(plan),
        seed=plan.seed,
        step=step,
    )
    equal = equal_share(_played(made, step, seen), how.oracle)
    return untrainable(made, equal) if equal is not None and equal >= how.skip_at else made


def untrainable(rollouts: Rollouts, equal: float) -> Rollouts:
    """Return the rollouts with turns that must not be trained on, and the reason."""
    why = f"candidates are alike in {equal:.0%} of the states"
    return Rollouts(
        tuple(
            replace(t, turns=tuple(replace(turn, trainable=False, why_not=turn.why_not or why) for turn in t.turns))
            for t in rollouts
        )
    )


# ------------------------------------------------------------------------------------------------- what both do


def _tasks(env: Environment, plan: Plan, step: int, rounds: int, groups: int, seen: set[str]) -> list[Task]:
    drawn = env.tasks("train", groups, seed_for("tasks", plan.seed, step, rounds) % 10**9)  # it stands in task ids
    tasks = [task for task in drawn if task.id not in seen]
    if not tasks and not seen:
        raise ValueError(f"{type(env).__name__} has no tasks in its split 'train'")
    return tasks


def _settings(plan: Plan) -> Settings:
    return Settings(temperature=plan.temperature, max_new_tokens=plan.max_new_tokens)


def _played(found: Rollouts, step: int, seen: set[str]) -> Rollouts:
    if not seen and not any(t.has_tokens for t in found):
        raise RuntimeError(f"step {step}: no rollout took a single turn ({found[0].stop_reason}); mend the world")
    return found


def _quiet(done: int, total: int, text: str) -> None:
    """Show nothing: the bar of the training is enough."""
