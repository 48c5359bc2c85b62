"""Policy gradient for any recipe: rollouts -> evidence -> credit -> objective -> step.

`python -m workbench.train.policy_gradient --recipe grpo --policy tiny --env chain --out DIR`

No random number is carried from step to step: tasks come from (seed, step), samples from (seed, step, task, sample,
turn). A step is a function of the weights and the optimiser's state, so `Learner` is all a checkpoint has to hold.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from workbench.batch import Batch
from workbench.credit import Credit
from workbench.envs.base import Environment
from workbench.evidence import Evidence, collect, for_recipe
from workbench.evidence.scoring import SampledLogprobs
from workbench.measure import BOUNDS, alarms, credited, kept, lag_of, played
from workbench.objective import cap_of
from workbench.policy.base import Policy
from workbench.recipes import Recipe
from workbench.rollouts import Rollouts
from workbench.train.checkpoint import save_head
from workbench.train.collector import older_objects_left_alone
from workbench.train.interrupt import after_step
from workbench.train.keep import joined
from workbench.train.learn import accumulate, clipped_norm, remember
from workbench.train.optim import set_rate
from workbench.train.plan import Learner, Plan, start
from workbench.train.ranks import own
from workbench.train.record import Report, bar, open_log, save
from workbench.train.reference import forget
from workbench.train.rounds import Player, check_world, player_of, round_of
from workbench.train.seen import mean_of, measure, timed
from workbench.train.trees import parts_of
from workbench.train.values import Guess, with_values

__all__ = ["Done", "Learner", "Plan", "learn", "one_step", "round_of", "start", "train", "with_evidence"]

Update = Callable[[Learner, Recipe, Plan, Batch, Mapping[str, Credit]], dict[str, Any]]
"""Who learns; arguments as of `learn`."""


class Done(NamedTuple):
    """A step that was made: what was sampled, what the update saw of it, the credit of that, and the metrics."""

    played: Rollouts
    used: Rollouts
    credits: Mapping[str, Credit]
    metrics: dict[str, Any]


# ---------------------------------------------------------------------------------------------------- the loop


def train(
    policy: Policy,
    env: Environment,
    recipe: Recipe,
    plan: Plan,
    out: str | Path | None = None,
    progress: Report | None = None,
    evidence: Sequence[Evidence] | None = None,
) -> tuple[Policy, list[dict[str, Any]]]:
    """Train a policy in a world by a recipe.

    The same weights, world, recipe, plan and number of threads give the same numbers, bit for bit on a CPU (all but
    the seconds). An interrupt from the keyboard stops after the step and saves.

    Args:
        policy: plays and learns; its engine holds a model in this process. Trained in place.
        env: the world; tasks of its split "train" are played.
        recipe: the method.
        plan: how.
        out: folder for `metrics.jsonl` (a line a step) and the weights as safetensors, of the value head too, where
            there is one; None keeps nothing.
        progress: called after each step; None shows a bar after two seconds.
        evidence: providers that win over those the recipe's columns have by default.

    Returns:
        (policy with the trained weights; metrics: one dict a step, see `workbench.train.glossary()`).

    Raises:
        TypeError: the recipe tries candidates in every state, and the world cannot go back to one.
        FloatingPointError: a loss or gradient is not finite; names step and term. The weights are those of the last
            good step, and are saved if there is an `out`.
    """
    check_world(recipe, env)
    learner, given = start(policy, recipe, plan, evidence or ()), tuple(evidence or ())
    report, close = (progress, lambda: None) if progress else bar(plan.steps, recipe.name)
    metrics: list[dict[str, Any]] = []
    log, before = open_log(out), tuple[str, ...]()
    try:
        with after_step() as asked_to_stop, older_objects_left_alone():
            for step in range(plan.steps):
                row = one_step(learner, env, recipe, plan, step, given).metrics
                metrics.append(row)
                log(row)
                before = _warn(step, row["alarms"], before)
                report(step + 1, plan.steps, f"outcome {_short(row['outcome'])}, dead {_short(row['dead_groups'])}")
                if asked_to_stop():
                    break
                if out is not None and plan.save_every and (step + 1) % plan.save_every == 0:
                    _save(Path(out) / f"step-{step + 1}", learner, plan, metrics)
    finally:
        close()
        if out is not None and metrics:
            _save(Path(out), learner, plan, metrics)
    return policy, metrics


def one_step(
    learner: Learner,
    env: Environment,
    recipe: Recipe,
    plan: Plan,
    step: int,
    evidence: Sequence[Evidence] = (),
    *,
    player: Player | None = None,
    update: Update | None = None,
    guess: Guess | None = None,
) -> Done:
    """Make one step of a run: play, credit, learn, measure.

    Args:
        learner, env, recipe, plan, evidence: of the run.
        step: its number, from 0.
        player: where the rollouts of a round come from; None plays them now, as the recipe has it (`player_of`).
        update: who learns; None is this process (`learn`).
        guess: who says the values of a value head; None is this process (`workbench.train.values.values_of`).
    """
    player, update = player or player_of(recipe), update or learn
    if learner.reference is not None:
        forget(learner.reference)  # what it kept of earlier steps would reach the last bits
    seconds = dict.fromkeys(("rollout", "evidence", "credit", "learn"), 0.0)
    every, live, rounds, exhausted = Rollouts(()), Rollouts(()), 0, False
    for rounds in range(1 + (plan.refills if recipe.refill else 0)):
        with _timed(seconds, "rollout"):
            missing = plan.groups - len(live.groups)
            new = player(learner.policy, env, plan, step, rounds, missing, {g.id for g in every.groups})
            every = Rollouts((*every, *new))
        if rounds and not len(new):
            rounds, exhausted = rounds - 1, True  # the round before is all there is
            break
        with _timed(seconds, "evidence"):
            # of new groups only: what was asked before stays, and a provider that remembers sees a group once
            used = joined(live, with_evidence(new, learner, recipe, plan, evidence, guess))
            batch = used.batch(step)
        with _timed(seconds, "credit"):
            credits = recipe.credits(batch)
        stays = kept(batch, credits["credit"])[batch.trajectory_group].tolist()
        if not recipe.refill or all(stays) or rounds == plan.refills:
            break
        live = used[stays] if any(stays) else Rollouts(())
    row = {"step": step, "rate": plan.rate_at(step), "rounds": rounds + 1}
    row["lag"] = lag_of(every, learner.policy.engine.version)
    row |= played(every) | credited(batch, credits["credit"])
    with _timed(seconds, "learn"):
        row |= update(learner, recipe, plan, batch, credits)
    row["alarms"] = alarms(every, row, learner.dtype, exhausted)
    counts = dict.fromkeys(seconds, batch.count("token")) | {"rollout": every.batch().count("token")}
    return Done(every, used, credits, row | timed(seconds, counts))


def learn(learner: Learner, recipe: Recipe, plan: Plan, batch: Batch, credits: Mapping[str, Credit]) -> dict[str, Any]:
    """Update the weights on a batch, `epochs` times; measure what the passes saw."""
    student, objective, ranks = learner.student, recipe.objective, learner.ranks
    weights = objective.weights(batch, credits["credit"])
    counted = torch.stack([w != 0 for w in weights.values()]).any(0)
    parts = parts_of(learner.model, batch, counted, plan.micro_tokens, plan.pack)
    if plan.epochs > 1 and cap_of(objective) is not None:
        raise ValueError(f"{recipe.name}: a truncated correction is for one update a batch, got epochs={plan.epochs}")
    trainable = [p for p in student.parameters() if p.requires_grad]
    head = [] if learner.head is None else list(learner.head.parameters())
    put_back = remember(trainable, learner.optimiser) if plan.epochs > 1 else None
    apart = [[p for p in trainable if not any(p is q for q in head)], *([head] if head else [])]
    passes, norms, made = [], [], 0
    try:
        for _ in range(plan.epochs if parts else 0):
            passes.append(accumulate(student, objective, batch, credits, weights, parts, plan.temperature, ranks))
            norms.append([clipped_norm(some, plan.clip) for some in apart])
            set_rate(learner.optimiser, plan.rate_at(batch.step))
            if ranks.any(any(p.grad is not None and bool(own(p.grad).any()) for p in trainable)):
                learner.optimiser.step()
                made += 1
            # else nothing speaks: a step would still move the weights, by the optimiser's momentum and weight decay
            learner.optimiser.zero_grad(set_to_none=True)
    except FloatingPointError as error:
        if put_back is not None:  # else the only update was not made yet
            put_back()
        learner.optimiser.zero_grad(set_to_none=True)
        problem = f"step {batch.step}, update {len(norms) + 1} of {plan.epochs}: {error}"
        kept_are = "weights and optimiser are those before the step"
        raise FloatingPointError(f"{problem}; {kept_are}; lower the rate") from error
    finally:
        learner.policy.engine.load(None)  # the weights changed in place: what was cached of the old ones is void
    return {
        "updates": made,
        "updates_skipped": plan.epochs - made,
        "loss": mean_of([p.loss for p in passes]),
        **{f"loss_{term.name}": mean_of([p.terms[term.name] for p in passes]) for term in objective.terms},
        "clip_share": mean_of([p.clip_share for p in passes]),
        "gradient_norm": mean_of([norm[0] for norm in norms]),
        "gradient_norm_value": mean_of([norm[1] for norm in norms]) if head else None,
        **measure([p.seen for p in passes], batch, BOUNDS[learner.dtype].gap, cap_of(objective)),
        "padding": 1 - sum(p.real for p in parts) / max(sum(p.ids.numel() for p in parts), 1),
    }


# ----------------------------------------------------------------------------------------------- parts of a step


def with_evidence(
    rollouts: Rollouts,
    learner: Learner,
    recipe: Recipe,
    plan: Plan,
    given: Sequence[Evidence] = (),
    guess: Guess | None = None,
) -> Rollouts:
    """Fill the columns a recipe trains on: by the providers given, the reference, the value head, then default ones."""
    ours = [SampledLogprobs(learner.reference, "logprob_ref", plan.temperature)] if learner.reference else []
    rollouts = with_values(collect(rollouts, [*given, *ours]), learner, recipe, plan, guess)
    default = for_recipe(
        recipe,
        rollouts,
        policy=learner.policy,
        reference=learner.reference,
        temperature=plan.temperature,
        training=True,
    )
    return collect(rollouts, default)


def _save(folder: Path, learner: Learner, plan: Plan, metrics: Sequence[dict[str, Any]]) -> None:
    save(learner.model, folder, plan, metrics)
    save_head(folder / "value_head.safetensors", learner)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - began


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _warn(step: int, now: Mapping[str, str], before: Sequence[str]) -> tuple[str, ...]:
    for kind, text in now.items():
        if kind not in before:  # said once, until it went away
            warnings.warn(f"step {step}: {text}", RuntimeWarning, stacklevel=3)
    return tuple(now)


if __name__ == "__main__":
    from workbench.train.command import main

    raise SystemExit(main())
