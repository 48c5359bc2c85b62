"""Policy x environment -> trajectories, with the exact tokens of every turn.

All episodes are played at once. Each round is one `engine.generate` call over the episodes that wait for the policy,
then one environment step each, all of them together. A slow tool delays its own episode only; a failing one marks it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workbench._async import in_thread
from workbench._async import run as run_anywhere
from workbench.envs.base import Environment, Step, Task
from workbench.policy.base import Generation, Policy, Settings
from workbench.rollouts import Rollouts
from workbench.seeds import seed_for
from workbench.trajectory import Message, Origin, Span, Trajectory, Turn
from workbench.trajectory import Sequence as TokenSequence

Report = Callable[[int, int, str], None]
"""Called as (episodes over, episodes in all, what is going on)."""

DEFAULT_TURNS = 4  # for a world that does not say how many turns an episode may take
GATHER_S = 0.2  # how long a round waits for steps that are still running before it goes on without them
QUIET_S = 2.0  # a rollout that takes no longer than this shows no progress bar


@dataclass
class Episode:
    """One rollout while it is played: what would have to be kept to go on later, and nothing else.

    Args:
        id: id of its trajectory, `run/step/task/sample`.
        task, sample: what is played, and which rollout of its group it is.
        env: the world, in the state the next action is taken in.
        prompt: messages before the first turn.
        turns: turns taken.
        sequences: token spans, one list a forward pass; the last one is being extended.
        outcome, truncated, stop_reason: how it ended; an episode without a stop reason is live.
    """

    id: str
    task: Task
    sample: int
    env: Environment
    prompt: tuple[Message, ...] = ()
    turns: list[Turn] = field(default_factory=list)
    sequences: list[list[Span]] = field(default_factory=list)
    outcome: float | None = None
    truncated: bool = False
    stop_reason: str = ""

    @property
    def live(self) -> bool:
        """True until the episode is over."""
        return self.stop_reason == ""

    @property
    def context(self) -> list[int]:
        """The tokens the next turn is sampled after."""
        return [token for span in self.sequences[-1] for token in span.ids]

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything said so far."""
        return (*self.prompt, *(message for turn in self.turns for message in turn.messages))


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

    Returns:
        `len(tasks) * size` trajectories. Where the environment failed, the turn is not trainable and says why, the
        trajectory's stop reason begins with "error: " and its outcome is unknown.

    Raises:
        ValueError: a task occurs twice, or a number is not positive.
    """
    _check(tasks, size, max_turns)
    known_limits = [n for n in (max_turns, getattr(env, "max_turns", None)) if n]
    table = _Table(
        policy=policy,
        settings=_with_stop_ids(settings or Settings(), policy),
        limit=min(known_limits, default=DEFAULT_TURNS),
        seed=seed,
        step=step,
        timeout_s=step_timeout_s,
    )
    episodes = [
        _begin(table, env.fresh(), task, sample, f"{run}/{step}/{task.id}/{sample}")
        for task in tasks
        for sample in range(size)
    ]
    report, close = (progress, lambda: None) if progress else _bar(len(episodes))
    try:
        await _play_all(table, episodes, report)
    finally:
        close()
    return Rollouts(tuple(_trajectory(table, episode) for episode in episodes))


# --------------------------------------------------------------------------------------------------- rounds


@dataclass(frozen=True)
class _Table:
    """What all episodes of one rollout share."""

    policy: Policy
    settings: Settings
    limit: int
    seed: int
    step: int
    timeout_s: float


async def _play_all(table: _Table, episodes: list[Episode], report: Report) -> None:
    """Play until every episode is over: generate for those that wait, step them, gather what is ready."""
    waiting = [e for e in episodes if e.live]
    stepping: dict[asyncio.Task[None], Episode] = {}
    try:
        while waiting or stepping:
            if waiting:
                report(sum(not e.live for e in episodes), len(episodes), f"{len(waiting)} episodes take a turn")
                for episode, generation in zip(waiting, await _generate(table, waiting), strict=True):
                    stepping[asyncio.create_task(_take_turn(table, episode, generation))] = episode
            ready = await _ready(stepping)
            waiting = [episode for episode in (stepping.pop(t) for t in ready) if episode.live]
            waiting.sort(key=lambda e: e.id)  # the order of a batch must not depend on which tool was faster
            report(sum(not e.live for e in episodes), len(episodes), f"{len(stepping)} tools still busy")
    finally:
        for task in stepping:
            task.cancel()


async def _ready(stepping: dict[asyncio.Task[None], Episode]) -> list[asyncio.Task[None]]:
    """Return the steps that are finished: all of them if they are quick, else at least one."""
    finished, _ = await asyncio.wait(stepping, timeout=GATHER_S)
    if not finished:
        finished, _ = await asyncio.wait(stepping, return_when=asyncio.FIRST_COMPLETED)
    for task in finished:
        task.result()  # a failing environment has marked its episode; what is raised here is a fault of this file
    return list(finished)


async def _generate(table: _Table, episodes: list[Episode]) -> list[Generation]:
    prompts = [e.context for e in episodes]
    return await table.policy.engine.generate(prompts, table.settings, [_turn_seed(table, e) for e in episodes])


def _turn_seed(table: _Table, episode: Episode) -> int:
    return seed_for(table.seed, table.step, episode.task.id, episode.sample, len(episode.turns))


# ------------------------------------------------------------------------------------------------ one episode


def _begin(table: _Table, env: Environment, task: Task, sample: int, name: str) -> Episode:
    """Reset the world and render the prompt; a world that cannot begin marks its episode."""
    try:
        prompt = tuple(env.reset(task, seed_for(table.seed, table.step, task.id, sample)))
    except Exception as error:
        return Episode(name, task, sample, env, stop_reason=f"error: reset failed: {_named(error)}")
    spans = list(table.policy.renderer.prompt(prompt, env.tools))
    return Episode(name, task, sample, env, prompt, sequences=[spans])


async def _take_turn(table: _Table, episode: Episode, generation: Generation) -> None:
    """Read what was generated, step the world, append turn and tokens."""
    renderer, number = table.policy.renderer, len(episode.turns)
    turn = Turn(
        action=renderer.parse(generation.token_ids, f"turn{number}"),
        policy=table.policy.name,
        policy_version=(generation.policy_version, generation.policy_version),
        sampling={
            "temperature": table.settings.temperature,
            "top_p": table.settings.top_p,
            "max_new_tokens": table.settings.max_new_tokens,
            "seed": _turn_seed(table, episode),
        },
        stop_reason=generation.stop_reason,
    )
    episode.sequences[-1].append(_sampled(table, turn.action, generation, number))
    try:
        turn = replace(turn, state_key=episode.env.state_key)
        reply = await _step(episode.env, turn.action, table.timeout_s)
        whole = _answered(turn, reply)
        Trajectory(episode.id, episode.task.id, prompt=episode.prompt, turns=(*episode.turns, whole))  # is it sound?
    except Exception as error:  # whatever a tool does or returns, the other episodes go on
        why = f"the step failed: {_named(error)}"
        episode.turns.append(replace(turn, trainable=False, why_not=why))
        episode.stop_reason = f"error: {why}"
        return
    episode.turns.append(whole)
    _end_or_go_on(table, episode, reply, closed=generation.stop_reason == "stop")


def _end_or_go_on(table: _Table, episode: Episode, reply: Step, *, closed: bool) -> None:
    if reply.done:
        episode.outcome, episode.truncated, episode.stop_reason = reply.outcome, reply.truncated, "done"
    elif reply.truncated or len(episode.turns) >= table.limit:
        outcome = 0.0 if reply.outcome is None else reply.outcome
        episode.outcome, episode.truncated, episode.stop_reason = outcome, True, "max_turns"
    if reply.messages:
        _observe(table, episode, closed=closed)


def _observe(table: _Table, episode: Episode, *, closed: bool) -> None:
    """Append the tokens of the last observations, or begin a new sequence where the prompt is rendered anew."""
    renderer, number = table.policy.renderer, len(episode.turns) - 1
    if renderer.prefix_preserving:
        spans = renderer.observation(episode.turns[-1].observations, number, closed=closed)
        episode.sequences[-1].extend(span for span in spans if len(span))
        return
    if not episode.live:
        return
    spans = list(renderer.prompt(episode.messages, episode.env.tools))
    kept = episode.context
    if [token for span in spans for token in span.ids][: len(kept)] == kept:
        episode.sequences[-1].extend(_tail(spans, len(kept), number))
    else:
        episode.sequences.append([_as_context(span) for span in spans])


def _tail(spans: list[Span], start: int, turn: int) -> list[Span]:
    """Return what follows the first `start` tokens, as observation of `turn`."""
    out, at = [], 0
    for span in spans:
        skip = min(max(start - at, 0), len(span))
        at += len(span)
        if skip < len(span):
            pieces = None if span.pieces is None else span.pieces[skip:]
            origin: Origin = "template" if span.origin == "template" else "observation"
            out.append(Span(span.ids[skip:], origin, turn, span.message, pieces=pieces))
    return out


def _as_context(span: Span) -> Span:
    """Return a re-rendered span as context: before any turn of its sequence, never sampled."""
    origin: Origin = span.origin if span.origin == "template" else "prompt"
    return Span(span.ids, origin, -1, span.message, pieces=span.pieces)


def _sampled(table: _Table, action: Message, generation: Generation, turn: int) -> Span:
    pieces = table.policy.renderer.pieces(generation.token_ids)
    return Span(generation.token_ids, "sampled", turn, action.id, logprobs=generation.logprobs, pieces=pieces)


def _answered(turn: Turn, reply: Step) -> Turn:
    """Return the turn with what came back. Numbers become rewards of the turn (true 1, false 0), texts `extra`."""
    numbers = {k: v if v is None else float(v) for k, v in reply.columns.items() if not isinstance(v, str)}
    texts = {name: value for name, value in reply.columns.items() if isinstance(value, str)}
    return replace(turn, observations=reply.messages, reward=reply.reward, rewards=numbers, extra=texts)


def _trajectory(table: _Table, episode: Episode) -> Trajectory:
    return Trajectory(
        id=episode.id,
        group=episode.task.id,
        prompt=episode.prompt,
        turns=tuple(episode.turns),
        sequences=tuple(TokenSequence(tuple(spans)) for spans in episode.sequences),
        outcome=episode.outcome,
        gold=episode.task.gold,
        truncated=episode.truncated,
        stop_reason=episode.stop_reason,
        extra={"task": dict(episode.task.data), "seed": table.seed, "step": table.step, "sample": episode.sample},
    )


# ------------------------------------------------------------------------------------------------ small parts


async def _step(env: Environment, action: Message, timeout_s: float) -> Step:
    """Step a world, written synchronously or not; a plain function runs in a thread, so that it blocks nobody."""
    step: Any = env.step
    made = step(action) if inspect.iscoroutinefunction(step) else in_thread(lambda: step(action))
    try:
        return await asyncio.wait_for(made, timeout_s)
    except TimeoutError:
        raise TimeoutError(f"no reply within {timeout_s:g} s") from None


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _with_stop_ids(settings: Settings, policy: Policy) -> Settings:
    return settings if settings.stop_ids else replace(settings, stop_ids=policy.renderer.stop_ids)


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
