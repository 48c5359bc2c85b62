"""Policy x environment -> trajectories, with the exact tokens of every turn.

All episodes are played at once. Each round is one `engine.generate` call over the episodes that wait for the policy,
then one environment step each, all of them together. A slow tool delays its own episode only; a failing one marks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from workbench._async import run as run_anywhere
from workbench.envs.base import Environment, Task
from workbench.policy.base import Generation, Policy, Settings
from workbench.rollout.episode import (
    GATHER_S,
    Episode,
    Table,
    begin,
    has_room,
    take_turn,
    trajectory_of,
    turn_limit,
    turn_seed,
)
from workbench.rollouts import Rollouts
from workbench.trajectory import Trajectory

Report = Callable[[int, int, str], None]
"""Called as (episodes over, episodes in all, what is going on)."""

QUIET_S = 2.0  # a rollout that takes no longer than this shows no progress bar


def play(
    policy: Policy,
    env: Environment,
    tasks: Sequence[Task],
    *,
    size: int = 4,
    settings: Settings | None = None,
    seed: int = 0,
    max_turns: int | None = None,
    run: str = "run",
    step: int = 0,
    progress: Report | None = None,
    step_timeout_s: float = 30.0,
    gather_s: float | None = GATHER_S,
) -> Rollouts:
    """Play every task `size` times and return the trajectories; works in a notebook, where a loop already runs.

    Args: see `play_async`.
    """
    return run_anywhere(
        play_async(
            policy,
            env,
            tasks,
            size=size,
            settings=settings,
            seed=seed,
            max_turns=max_turns,
            run=run,
            step=step,
            progress=progress,
            step_timeout_s=step_timeout_s,
            gather_s=gather_s,
        )
    )


async def play_async(
    policy: Policy,
    env: Environment,
    tasks: Sequence[Task],
    *,
    size: int = 4,
    settings: Settings | None = None,
    seed: int = 0,
    max_turns: int | None = None,
    run: str = "run",
    step: int = 0,
    progress: Report | None = None,
    step_timeout_s: float = 30.0,
    gather_s: float | None = GATHER_S,
) -> Rollouts:
    """Play every task `size` times and return the trajectories, task by task.

    Args:
        policy: engine and renderer.
        env: the world; every episode plays in its own `env.fresh()`.
        tasks: what to play; their ids must differ.
        size: rollouts of a task: the group.
        settings: how to sample; without stop ids the renderer's are used.
        seed: sample `s` of a task takes turn `k` with `seed_for(seed, step, task id, s, k)` and nothing else.
        max_turns: turns of an episode; None is what the world says (`env.max_turns`), or 4. Where both are known the
            smaller counts. An episode that reaches it is truncated and its outcome is 0.0.
        run, step: first parts of the trajectories' ids.
        progress: called as (episodes over, episodes in all, text); None shows a bar after two seconds.
        step_timeout_s: an environment step that takes longer ends its episode.
        gather_s: how long a round waits for steps that are still running before it goes on without them. None waits for
            all: then who shares a forward pass, and so the last bits, does not depend on which tool was faster.

    Returns:
        `len(tasks) * size` trajectories. Where the environment failed, the turn is not trainable and says why, the
        trajectory's stop reason begins with "error: " and its outcome is unknown. An episode that has grown longer than
        the model can read is truncated ("max_tokens"), with outcome 0.0.

    Raises:
        ValueError: a task occurs twice, or a number is not positive.
    """
    _check(tasks, size, max_turns)
    table = Table(policy, settings or Settings(), turn_limit(env, max_turns), seed, step, step_timeout_s, gather_s)
    episodes = [
        begin(table, env.fresh(), task, sample, f"{run}/{step}/{task.id}/{sample}")
        for task in tasks
        for sample in range(size)
    ]
    return Rollouts(await play_on(table, episodes, progress))


async def play_on(table: Table, episodes: list[Episode], progress: Report | None) -> tuple[Trajectory, ...]:
    """Play episodes that have begun until all of them are over; return their trajectories in the same order."""
    report, close = (progress, lambda: None) if progress else _bar(len(episodes))
    try:
        await _play_all(table, episodes, report)
    finally:
        close()
    return tuple(trajectory_of(table, episode) for episode in episodes)


async def _play_all(table: Table, episodes: list[Episode], report: Report) -> None:
    """Play until every episode is over: generate for those that wait, step them, gather what is ready."""
    waiting = [e for e in episodes if e.live]
    stepping: dict[asyncio.Task[None], Episode] = {}
    try:
        while waiting or stepping:
            if waiting:
                report(sum(not e.live for e in episodes), len(episodes), f"{len(waiting)} episodes take a turn")
                for episode, generation in zip(waiting, await _generate(table, waiting), strict=True):
                    stepping[asyncio.create_task(take_turn(table, episode, generation))] = episode
            ready = await _ready(stepping, table.gather_s)
            stepped = [stepping.pop(t) for t in ready]
            waiting = [episode for episode in stepped if episode.live and has_room(table, episode)]
            waiting.sort(key=lambda e: e.id)  # the order of a batch must not depend on which tool was faster
            report(sum(not e.live for e in episodes), len(episodes), f"{len(stepping)} tools still busy")
    finally:
        for task in stepping:
            task.cancel()


async def _ready(stepping: dict[asyncio.Task[None], Episode], gather_s: float | None) -> list[asyncio.Task[None]]:
    """Return the steps that are finished: all of them if they are quick, else at least one."""
    finished, _ = await asyncio.wait(stepping, timeout=gather_s)
    if not finished:
        finished, _ = await asyncio.wait(stepping, return_when=asyncio.FIRST_COMPLETED)
    for task in finished:
        task.result()  # a failing environment has marked its episode; what is raised here is a fault of this file
    return list(finished)


async def _generate(table: Table, episodes: list[Episode]) -> list[Generation]:
    prompts = [e.context for e in episodes]
    return await table.policy.engine.generate(prompts, table.settings, [turn_seed(table, e) for e in episodes])


def _check(tasks: Sequence[Task], size: int, max_turns: int | None) -> None:
    ids = [task.id for task in tasks]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"tasks: {twice!r} occurs twice; raise `size` to play a task more often")
    if size < 1 or (max_turns is not None and max_turns < 1):
        raise ValueError(f"expected size and max_turns of at least 1, got {size} and {max_turns}")


def _bar(total: int) -> tuple[Report, Callable[[], None]]:
    """Return a progress bar on standard error that appears after two seconds, and the call that closes it."""
    from tqdm import tqdm

    bar = tqdm(total=total, desc="rollout", unit="episode", delay=QUIET_S, leave=False)

    def report(done: int, total: int, text: str) -> None:
        bar.set_postfix_str(text, refresh=False)
        bar.update(done - bar.n)

    return report, bar.close
