"""One rollout while it is played: what the policy writes, what the world answers, and the tokens of both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Set
from dataclasses import dataclass, field, replace
from typing import Any

from workbench._async import in_thread
from workbench.envs.base import Environment, Step, Task
from workbench.policy.base import Generation, Policy, Settings
from workbench.seeds import seed_for
from workbench.trajectory import Message, Origin, Prefix, Span, Trajectory, Turn
from workbench.trajectory import Sequence as TokenSequence

DEFAULT_TURNS = 4  # for a world that does not say how many turns an episode may take
GATHER_S = 0.2  # how long a round waits for steps that are still running before it goes on without them


@dataclass(frozen=True)
class Fork:
    """Where an episode leaves another one: what it shares with it and does not own.

    Args:
        parent: (trajectory id, index of the last shared turn), as in `Trajectory`.
        prefix: where the tokens before its own are stored.
        ids: those tokens.
        before: everything said before.
        turns: turns taken before, those of all ancestors.
    """

    parent: tuple[str, int]
    prefix: Prefix
    ids: tuple[int, ...]
    before: tuple[Message, ...]
    turns: int


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
        fork: where it leaves another episode (a branch; it then has no prompt of its own); None begins at the prompt.
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
    fork: Fork | None = None

    @property
    def live(self) -> bool:
        """True until the episode is over."""
        return self.stop_reason == ""

    @property
    def context(self) -> list[int]:
        """The tokens the next turn is sampled after."""
        own = [token for span in self.sequences[-1] for token in span.ids]
        return [*self.fork.ids, *own] if self.fork and len(self.sequences) == 1 else own

    @property
    def messages(self) -> tuple[Message, ...]:
        """Everything said so far."""
        before = self.fork.before if self.fork else self.prompt
        return (*before, *(message for turn in self.turns for message in turn.messages))

    @property
    def turns_taken(self) -> int:
        """Turns since the task began, those of ancestors included."""
        return len(self.turns) + (self.fork.turns if self.fork else 0)


@dataclass(frozen=True)
class Table:
    """What all episodes of one rollout share.

    Args:
        policy: engine and renderer.
        settings: how to sample; without stop ids the renderer's are used.
        limit: turns of an episode.
        seed, step: of every random number.
        timeout_s: an environment step that takes longer ends its episode.
        gather_s: how long a round waits for steps that are still running; None waits for all.
    """

    policy: Policy
    settings: Settings
    limit: int
    seed: int
    step: int
    timeout_s: float
    gather_s: float | None = GATHER_S

    def __post_init__(self) -> None:
        if not self.settings.stop_ids:
            object.__setattr__(self, "settings", replace(self.settings, stop_ids=self.policy.renderer.stop_ids))


def turn_limit(env: Environment, asked: int | None) -> int:
    """Return how many turns an episode may take: what is asked and what the world says, the smaller; 4 by default."""
    return min((n for n in (asked, getattr(env, "max_turns", None)) if n), default=DEFAULT_TURNS)


def turn_seed(table: Table, episode: Episode) -> int:
    """Return the seed of an episode's next turn; a branch has seeds of its own, by its id."""
    if episode.fork:
        return seed_for(table.seed, "branch", episode.id, len(episode.turns))
    return seed_for(table.seed, table.step, episode.task.id, episode.sample, len(episode.turns))


# ------------------------------------------------------------------------------------------------ one episode


def begin(table: Table, env: Environment, task: Task, sample: int, name: str) -> Episode:
    """Reset the world and render the prompt; a world that cannot begin marks its episode."""
    try:
        prompt = tuple(env.reset(task, seed_for(table.seed, table.step, task.id, sample)))
    except Exception as error:
        return Episode(name, task, sample, env, stop_reason=f"error: reset failed: {_named(error)}")
    spans = list(table.policy.renderer.prompt(prompt, env.tools))
    return Episode(name, task, sample, env, prompt, sequences=[spans])


async def take_turn(table: Table, episode: Episode, generation: Generation) -> None:
    """Read what was generated, step the world, append turn and tokens."""
    renderer, number = table.policy.renderer, len(episode.turns)
    turn = Turn(
        action=renderer.parse(generation.token_ids, f"turn{episode.turns_taken}"),
        policy=table.policy.name,
        policy_version=(generation.policy_version, generation.policy_version),
        sampling={
            "temperature": table.settings.temperature,
            "top_p": table.settings.top_p,
            "max_new_tokens": table.settings.max_new_tokens,
            "seed": turn_seed(table, episode),
        },
        stop_reason=generation.stop_reason,
    )
    episode.sequences[-1].append(_sampled(table, turn.action, generation, number))
    try:
        turn = replace(turn, state_key=episode.env.state_key)
        reply = await step_world(episode.env, turn.action, table.timeout_s)
        whole = _answered(turn, reply)
        _check_sound(episode, whole, reply)
    except Exception as error:  # whatever a tool does or returns, the other episodes go on
        why = f"the step failed: {_named(error)}"
        episode.turns.append(replace(turn, trainable=False, why_not=why))
        episode.stop_reason = f"error: {why}"
        return
    episode.turns.append(whole)
    _end_or_go_on(table, episode, reply, closed=generation.stop_reason == "stop")


def _check_sound(episode: Episode, turn: Turn, reply: Step) -> None:
    parent = episode.fork.parent if episode.fork else None
    turns = (*episode.turns, turn)
    Trajectory(episode.id, episode.task.id, prompt=episode.prompt, turns=turns, parent=parent, outcome=reply.outcome)


def _end_or_go_on(table: Table, episode: Episode, reply: Step, *, closed: bool) -> None:
    if reply.done:
        episode.outcome, episode.truncated, episode.stop_reason = reply.outcome, reply.truncated, "done"
    elif reply.truncated or episode.turns_taken >= table.limit:
        outcome = 0.0 if reply.outcome is None else reply.outcome
        episode.outcome, episode.truncated, episode.stop_reason = outcome, True, "max_turns"
    if reply.messages:
        _observe(table, episode, closed=closed)


def has_room(table: Table, episode: Episode) -> bool:
    """Say whether the model can read an episode and its next turn; one that has grown too long is over, truncated.

    An engine may say how many tokens it can read (`positions`). A prompt that is too long before any turn was taken is
    no matter of one episode: the engine refuses it and says what to do.
    """
    limit = getattr(table.policy.engine, "positions", None)
    if limit is None or not episode.turns or len(episode.context) + table.settings.max_new_tokens <= limit:
        return True
    episode.outcome, episode.truncated, episode.stop_reason = 0.0, True, "max_tokens"
    return False


def _observe(table: Table, episode: Episode, *, closed: bool) -> None:
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
        own = {message.id for turn in episode.turns for message in turn.messages} | {m.id for m in episode.prompt}
        episode.sequences.append([_as_context(span, own) for span in spans])


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


def _as_context(span: Span, own: Set[str | None]) -> Span:
    """Return a re-rendered span as context: before any turn of its sequence, never sampled.

    A message that is not the episode's own (a branch renders its ancestors' too) is not named.
    """
    origin: Origin = span.origin if span.origin == "template" else "prompt"
    return Span(span.ids, origin, -1, span.message if span.message in own else None, pieces=span.pieces)


def _sampled(table: Table, action: Message, generation: Generation, turn: int) -> Span:
    pieces = table.policy.renderer.pieces(generation.token_ids)
    return Span(generation.token_ids, "sampled", turn, action.id, logprobs=generation.logprobs, pieces=pieces)


def _answered(turn: Turn, reply: Step) -> Turn:
    """Return the turn with what came back. Numbers become rewards of the turn (true 1, false 0), texts `extra`."""
    numbers = {k: v if v is None else float(v) for k, v in reply.columns.items() if not isinstance(v, str)}
    texts = {name: value for name, value in reply.columns.items() if isinstance(value, str)}
    return replace(turn, observations=reply.messages, reward=reply.reward, rewards=numbers, extra=texts)


def trajectory_of(table: Table, episode: Episode) -> Trajectory:
    """Return what was played. `extra` keeps what it takes to play it again: the task, the seeds, the turn limit."""
    fork, task = episode.fork, episode.task
    return Trajectory(
        id=episode.id,
        group=task.id,
        prompt=episode.prompt,
        turns=tuple(episode.turns),
        sequences=tuple(
            TokenSequence(tuple(spans), fork.prefix if fork and number == 0 else None)
            for number, spans in enumerate(episode.sequences)
        ),
        parent=fork.parent if fork else None,
        outcome=episode.outcome,
        gold=task.gold,
        truncated=episode.truncated,
        stop_reason=episode.stop_reason,
        extra={
            "task": dict(task.data),
            "question": task.question,
            "seed": table.seed,
            "step": table.step,
            "sample": episode.sample,
            "max_turns": table.limit,
        },
    )


# ------------------------------------------------------------------------------------------------ small parts


async def step_world(env: Environment, action: Message, timeout_s: float) -> Step:
    """Step a world, written synchronously or not; a plain function runs in a thread, so that it blocks nobody."""
    step: Any = env.step
    made = step(action) if inspect.iscoroutinefunction(step) else in_thread(lambda: step(action))
    try:
        return await asyncio.wait_for(made, timeout_s)
    except TimeoutError:
        raise TimeoutError(f"no reply within {timeout_s:g} s") from None


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
