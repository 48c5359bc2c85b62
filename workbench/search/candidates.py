"""Several candidates in every state: the policy proposes, an oracle judges, the best is played and the game goes on.

    state 0: candidates a, b, c, d   -> judged, b is played
    state 1: candidates a, b, c, d   -> judged, a is played      ... until the episode is over

Each candidate is a trajectory of one turn; those of a later state are branches of the one that was played before them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench._async import run as run_anywhere
from workbench.envs.base import Environment, Task
from workbench.policy.base import Policy, Settings
from workbench.recipes.candidates import Ties
from workbench.recipes.judged import committed
from workbench.rollout.episode import (
    Episode,
    Fork,
    Table,
    begin,
    has_room,
    take_turn,
    trajectory_of,
    turn_limit,
    turn_seed,
)
from workbench.rollouts import Rollouts
from workbench.seeds import seed_for
from workbench.trajectory import Prefix

PLAYED = "candidate: played"
NOT_PLAYED = "candidate: not played"
"""Why a candidate ends that did not end the episode."""


@dataclass(frozen=True)
class _Choice:
    """How candidates are drawn and chosen: how many a state, by which column, ties, seed."""

    count: int
    oracle: str
    ties: Ties
    seed: int


def play_candidates(
    policy: Policy,
    env: Environment,
    tasks: Sequence[Task],
    *,
    count: int = 4,
    size: int = 1,
    oracle: str = "oracle_value",
    ties: Ties = "first",
    settings: Settings | None = None,
    seed: int = 0,
    max_turns: int | None = None,
    run: str = "run",
    step: int = 0,
    step_timeout_s: float = 30.0,
) -> Rollouts:
    """Draw `count` candidates in every state, play on the one the oracle likes best; works in a notebook, too.

    Args:
        policy: proposes.
        env: a world that records the oracle's value of each turn.
        tasks: what to play; their ids must differ.
        count: K, candidates a state, at least 2.
        size: how often a task is played so.
        oracle: the turn's number that decides.
        ties: "first" takes the first of the best, "random" any of them, decided by the seed.
        settings, seed, max_turns, run, step, step_timeout_s: as in `workbench.rollout.play`.

    Returns:
        every candidate, one turn each, in the order they were drawn. Candidates of a state have the same `state` and
        are siblings. The outcome is known of the last turn of an episode only; a candidate that was not played has
        none, nor has one that was played on. `line` returns the turns that were played.

    Raises:
        ValueError: a number is too small, a task occurs twice, or no candidate of a state has the oracle's number.

    Source: VPR (arXiv:2605.10325), second released variant: K = 4, the best is committed. Its documentation breaks ties
        at random, its code takes the first.
    """
    names = [task.id for task in tasks]
    if count < 2 or size < 1 or len(set(names)) < len(names):
        raise ValueError(f"expected count >= 2, size >= 1 and tasks that differ; got {count}, {size} and {names}")
    if ties not in ("first", "random"):
        raise ValueError(f"ties: expected 'first' or 'random', got {ties!r}")
    limit = turn_limit(env, max_turns)
    table = Table(policy, settings or Settings(), limit, seed, step, step_timeout_s, gather_s=None)
    starts = [
        [
            begin(table, env.fresh(), task, sample, f"{run}/{step}/{task.id}/{sample}")
            for sample in range(tree * count, (tree + 1) * count)
        ]
        for task in tasks
        for tree in range(size)
    ]
    choice = _Choice(count, oracle, ties, seed)
    grown = run_anywhere(_grow(table, starts, choice))
    return Rollouts(tuple(trajectory_of(table, episode) for episode in grown))


def line(rollouts: Rollouts, last: str) -> tuple[str, ...]:
    """Return the ids of the candidates that were played up to one, from the first state on.

    Args:
        rollouts: of `play_candidates`.
        last: id of a candidate, e.g. of one with a known outcome.
    """
    ids = [last]
    while (parent := rollouts[ids[0]].parent) is not None:
        ids.insert(0, parent[0])
    return tuple(ids)


def equal_share(rollouts: Rollouts, oracle: str = "oracle_value") -> float | None:
    """Return the share of states whose candidates the oracle likes all the same; None where no state was judged.

    Args:
        rollouts: of `play_candidates`.
        oracle: the turn's number.
    """
    values: dict[tuple[str, str | None], set[float]] = {}
    for t in rollouts:
        for turn in t.turns:
            if (value := turn.rewards.get(oracle)) is not None:
                values.setdefault((t.group, turn.state_key), set()).add(value)
    return sum(len(found) == 1 for found in values.values()) / len(values) if values else None


async def _grow(table: Table, states: list[list[Episode]], choice: _Choice) -> list[Episode]:
    """Judge the candidates of all states at once, then go on from the chosen ones, until no episode is left."""
    made: list[Episode] = []
    while states:
        await _one_turn(table, [e for candidates in states for e in candidates])
        made += [e for candidates in states for e in candidates]
        states = [after for candidates in states if (after := _next(table, candidates, choice))]
    return made


async def _one_turn(table: Table, episodes: list[Episode]) -> None:
    """Let every live episode take one turn."""
    waiting = [e for e in episodes if e.live]
    if waiting:
        prompts, seeds = [e.context for e in waiting], [turn_seed(table, e) for e in waiting]
        said = await table.policy.engine.generate(prompts, table.settings, seeds)
        await asyncio.gather(*(take_turn(table, e, one) for e, one in zip(waiting, said, strict=True)))


def _next(table: Table, candidates: list[Episode], choice: _Choice) -> list[Episode]:
    """Choose one, end the others, and return the candidates of the state it leads to; none if the episode is over."""
    chosen = choose(candidates, choice)
    goes_on = chosen is not None and chosen.live and has_room(table, chosen)
    for episode in candidates:
        if episode.live:
            episode.stop_reason = PLAYED if episode is chosen else NOT_PLAYED
    return _candidates_after(chosen, choice.count) if chosen is not None and goes_on else []


def _candidates_after(chosen: Episode, count: int) -> list[Episode]:
    """Begin candidates in the state an episode has come to, each in a world of its own."""
    prefix = Prefix(chosen.id, len(chosen.sequences) - 1, len(chosen.context))
    fork = Fork((chosen.id, 0), prefix, tuple(chosen.context), chosen.messages, chosen.turns_taken)
    begun = []
    for number in range(count):
        world = chosen.env.fresh()
        world.restore(chosen.env.snapshot())
        begun.append(Episode(f"{chosen.id}.1.{number}", chosen.task, number, world, sequences=[[]], fork=fork))
    return begun


def choose(candidates: Sequence[Episode], choice: _Choice) -> Episode | None:
    """Return the candidate to play on; None where no turn could be taken.

    Raises:
        ValueError: turns were taken, but the world recorded no such number for any.
    """
    taken = [e for e in candidates if e.turns]
    judged = [(e, value) for e in taken if (value := e.turns[-1].rewards.get(choice.oracle)) is not None]
    if not judged:
        failed = next((e.stop_reason for e in candidates if e.stop_reason.startswith("error")), "")
        if taken and not failed:
            known = sorted({name for e in taken for name in e.turns[-1].rewards})
            raise ValueError(
                f"{candidates[0].id}: no turn has a number {choice.oracle!r} to choose a candidate by; this world "
                f"records {known}. Name one of these that judges actions (`oracle=`), or take a world with an oracle"
            )
        return None
    values = torch.tensor([value for _, value in judged], dtype=torch.float64)
    first = int(committed(values, torch.zeros(len(judged), dtype=torch.int64))[0])
    if choice.ties == "random":
        best = [n for n, (_, value) in enumerate(judged) if value == judged[first][1]]
        first = random.Random(seed_for(choice.seed, "tie", candidates[0].id)).choice(best)
    return judged[first][0]
