"""Branching: other continuations of a turn, from its exact tokens and the restored world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench._async import run as run_anywhere
from workbench.envs.base import Environment, Task
from workbench.policy.base import Policy, Settings
from workbench.rollout.episode import Episode, Fork, Table, step_world, turn_limit
from workbench.rollout.rounds import Report, play_on
from workbench.rollouts import Rollouts, full_ids
from workbench.seeds import seed_for
from workbench.trajectory import Message, Prefix, RecordError, Trajectory, Turn

Place = tuple[str, int]
"""(trajectory id, index of one of its own turns): the continuations are sampled in place of that turn."""


def branch(
    rollouts: Rollouts,
    policy: Policy,
    env: Environment,
    trajectory: str | Trajectory,
    turn: int,
    n: int,
    settings: Settings | None = None,
    seed: int = 0,
    *,
    snapshot: Mapping[str, Any] | None = None,
    max_turns: int | None = None,
    progress: Report | None = None,
    step_timeout_s: float = 30.0,
) -> Rollouts:
    """Sample `n` other continuations in place of a turn; works in a notebook, where a loop already runs.

    Args:
        rollouts: hold the trajectory and its ancestors, with their tokens.
        policy: who goes on; need not be who played.
        env: the world it was played in.
        trajectory: which one, or its id.
        turn: index among its own turns; 0 is the first after the prompt (or after the branching point of a branch).
        n: continuations, at least 1.
        settings: how to sample; None is as that turn was sampled.
        seed: with a branch's id decides all it samples: a branch depends neither on `n` nor on other branches.
        snapshot: of the world before that turn; None plays the recorded actions again and checks what they bring.
        max_turns: turns of an episode, those before the turn included; None is as it was played.
        progress, step_timeout_s: as in `workbench.rollout.play`.

    Returns:
        the trajectory's ancestors, the trajectory itself (what it did is one of the n + 1 continuations) and `n`
        branches `<id>.<turn>.<k>` of the same group, without columns. A branch owns what it sampled; the tokens before
        are its ancestors' (`Sequence.prefix`). Where `rollouts` hold branches of that turn already, `k` goes on.

    Raises:
        RecordError: there is no such turn, it has no tokens, or the world did not come back to the same state.
    """
    name = trajectory if isinstance(trajectory, str) else trajectory.id
    snapshots = {} if snapshot is None else {(name, turn): snapshot}
    return branch_many(
        rollouts,
        policy,
        env,
        [(name, turn)],
        n,
        settings,
        seed,
        snapshots=snapshots,
        max_turns=max_turns,
        progress=progress,
        step_timeout_s=step_timeout_s,
    )


def branch_many(
    rollouts: Rollouts,
    policy: Policy,
    env: Environment,
    places: Sequence[Place],
    n: int,
    settings: Settings | None = None,
    seed: int = 0,
    *,
    snapshots: Mapping[Place, Mapping[str, Any]] | None = None,
    max_turns: int | None = None,
    progress: Report | None = None,
    step_timeout_s: float = 30.0,
) -> Rollouts:
    """Sample `n` other continuations at each of several places, all at once.

    Args: see `branch`; `places` differ, and share the settings they were sampled with unless `settings` are given.

    Returns:
        every trajectory that is branched and its ancestors, once each, then the branches, place by place.
    """
    if n < 1 or not places or len(set(places)) < len(places):
        raise ValueError(f"expected n of at least 1 and places that differ, got n = {n} and {list(places)}")
    found = [_turn_at(rollouts, *place) for place in places]
    table = Table(
        policy,
        settings or _settings_of(places, found),
        turn_limit(env, max_turns or _limit_of(rollouts, places)),
        seed,
        step=0,
        timeout_s=step_timeout_s,
        gather_s=None,  # who shares a forward pass, and so the last bits, must not depend on how fast a tool was
    )

    async def grow() -> tuple[Trajectory, ...]:
        episodes: list[Episode] = []
        for place in places:
            snapshot = (snapshots or {}).get(place) or await _snapshot(rollouts, env, *place, step_timeout_s)
            episodes += _fork(rollouts, env, place, n, snapshot)
        return await play_on(table, episodes, progress)

    kept = {t.id: t for name, _ in places for t in _lineage(rollouts, rollouts[name])}
    return Rollouts((*kept.values(), *run_anywhere(grow())))


def _fork(rollouts: Rollouts, env: Environment, place: Place, n: int, snapshot: Mapping[str, Any]) -> list[Episode]:
    """Begin `n` branches at a place, each in a world of its own."""
    name, turn = place
    t = rollouts[name]
    path = _turns_before(rollouts, t, turn)
    prefix = _prefix(t, turn)
    before = (*t.path(rollouts.by_id).prompt, *(message for earlier in path for message in earlier.messages))
    ids = full_ids(rollouts, t, prefix.sequence)[: prefix.length]
    fork = Fork((name, turn - 1), prefix, ids, before, len(path))
    begun = []
    for number in range(_first_free(rollouts, place), _first_free(rollouts, place) + n):
        world = env.fresh()
        world.restore(snapshot)
        begun.append(Episode(f"{name}.{turn}.{number}", _task(rollouts, t), number, world, sequences=[[]], fork=fork))
    return begun


def _prefix(t: Trajectory, turn: int) -> Prefix:
    """Return where the tokens before a turn are: the sequence it was sampled in, up to its first token."""
    for number, sequence in enumerate(t.sequences):
        at = sequence.prefix.length if sequence.prefix else 0
        for span in sequence.spans:
            if span.turn == turn and span.origin == "sampled":
                return Prefix(t.id, number, at)
            at += len(span)
    problem = "has no sampled tokens, so no continuation can begin where it did; branch rollouts with tokens"
    raise RecordError(problem, trajectory=t.id, turn=turn, field="sequences")


def _first_free(rollouts: Rollouts, place: Place) -> int:
    """Return the number of the next branch of a place."""
    stem = f"{place[0]}.{place[1]}."
    ends = [name.removeprefix(stem) for name in rollouts.by_id if name.startswith(stem)]
    return max((int(end) + 1 for end in ends if end.isdecimal()), default=0)


# ---------------------------------------------------------------------------------------------- the world, again


async def _snapshot(rollouts: Rollouts, env: Environment, name: str, turn: int, timeout_s: float) -> Mapping[str, Any]:
    """Play the actions before a turn again; return the world's snapshot if everything came back as recorded."""
    t = rollouts[name]
    made = (_lineage(rollouts, t)[0]).extra
    if "task" not in made:
        problem = "does not say what was played (`extra['task']`), so the world cannot be restored; pass a snapshot"
        raise RecordError(problem, trajectory=t.id, field="extra")
    world = env.fresh()
    seed = seed_for(made.get("seed", 0), made.get("step", 0), t.group, made.get("sample", 0))
    world.reset(_task(rollouts, t), seed)
    path = _turns_before(rollouts, t, turn)
    for number, earlier in enumerate(path):
        _same(t, number, "state_key", earlier.state_key, world.state_key)
        reply = await step_world(world, earlier.action, timeout_s)
        _same(t, number, "observations", _texts(earlier.observations), _texts(reply.messages))
    _same(t, len(path), "state_key", t.turns[turn].state_key, world.state_key)
    return world.snapshot()


def _texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


def _same(t: Trajectory, turn: int, field: str, recorded: Any, now: Any) -> None:
    if recorded is not None and recorded != now:
        problem = (
            f"the world did not come back: recorded {str(recorded)[:80]!r}, played again {str(now)[:80]!r}; is it the "
            "same world with the same knobs? Pass a snapshot if it draws at random"
        )
        raise RecordError(problem, trajectory=t.id, turn=turn, field=field)


def _task(rollouts: Rollouts, t: Trajectory) -> Task:
    root = _lineage(rollouts, t)[0]
    question = root.extra.get("question", root.prompt[-1].text if root.prompt else "")
    return Task(t.group, str(question), t.gold, root.extra.get("task", {}))


# ------------------------------------------------------------------------------------------------------- lineage


def _lineage(rollouts: Rollouts, t: Trajectory) -> tuple[Trajectory, ...]:
    """Return the ancestors of a trajectory from its root on, and itself."""
    line = [t]
    while line[0].parent is not None:
        above = rollouts.by_id.get(line[0].parent[0])
        if above is None:
            problem = f"its parent {line[0].parent[0]!r} is not here; read both together"
            raise RecordError(problem, trajectory=line[0].id, field="parent")
        line.insert(0, above)
    return tuple(line)


def _turn_at(rollouts: Rollouts, name: str, turn: int) -> Turn:
    t = rollouts[name]
    if not 0 <= turn < len(t.turns):
        raise RecordError(f"expected one of its {len(t.turns)} own turns, got {turn}", trajectory=name, field="turn")
    return t.turns[turn]


def _turns_before(rollouts: Rollouts, t: Trajectory, turn: int) -> tuple[Turn, ...]:
    """Return all turns before a trajectory's own turn, those of its ancestors included."""
    whole = t.path(rollouts.by_id).turns
    return whole[: len(whole) - len(t.turns) + turn]


def _limit_of(rollouts: Rollouts, places: Sequence[Place]) -> int | None:
    """Return the turn limit the trajectories were played with, where they say so."""
    said = {rollouts[name].extra.get("max_turns") for name, _ in places} - {None}
    if len(said) > 1:
        raise ValueError(f"the trajectories were played with different turn limits {sorted(said)}; pass max_turns")
    return said.pop() if said else None


def _settings_of(places: Sequence[Place], turns: Sequence[Turn]) -> Settings:
    """Return how the turns were sampled; the default where they do not say."""
    names = ("temperature", "top_p", "max_new_tokens")
    known = [{name: turn.sampling[name] for name in names if name in turn.sampling} for turn in turns]
    other = next((place for place, said in zip(places, known, strict=True) if said != known[0]), None)
    if other is not None:
        raise ValueError(f"{places[0]} and {other} were sampled with different settings; pass `settings`")
    return Settings(**known[0])
