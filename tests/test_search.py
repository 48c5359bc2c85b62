"""Branching: exact prefixes, restored worlds, branches of branches, each token once, values with intervals."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

import workbench.store
from workbench import recipes
from workbench.compare import wilson
from workbench.envs import load
from workbench.envs.base import Step, Task
from workbench.envs.chain import Chain
from workbench.policy import Policy, ScriptedEngine
from workbench.rollout import play
from workbench.rollouts import Rollouts, full_ids
from workbench.search import Value, branch, branch_many, branch_value, newcombe
from workbench.trajectory import Message, RecordError, Span, ToolCall


class Letters:
    """One token a character; `s ...` searches, `a ...` answers, a newline ends a turn."""

    stop_ids = (10,)

    def __init__(self, anew: bool = False):
        self.prefix_preserving = not anew

    def prompt(self, messages: Sequence[Message], tools: Sequence[object]) -> list[Span]:
        kept = messages if self.prefix_preserving else [m for m in messages if m.role != "assistant"]  # it forgets
        return [self._span(m, "prompt", -1) for m in kept]

    def observation(self, messages: Sequence[Message], turn: int, *, closed: bool) -> list[Span]:
        return [self._span(m, "observation", turn) for m in messages]

    def _span(self, message: Message, origin: str, turn: int) -> Span:
        return Span(tuple(map(ord, message.text + "\n")), origin, turn, message.id)  # type: ignore[arg-type]

    def parse(self, token_ids: Sequence[int], message_id: str) -> Message:
        name, _, value = "".join(map(chr, token_ids)).strip().partition(" ")
        tool, argument = {"s": ("search", "query"), "a": ("answer", "text")}[name]
        call = ToolCall(f"{message_id}.call", tool, arguments={argument: value})
        return Message(message_id, "assistant", f"{name} {value}", calls=(call,))  # type: ignore[arg-type]

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(map(chr, token_ids))


class Player:
    """Makes the next gold call, or by chance of its seed another; keeps the prompt of every seed."""

    def __init__(self, tasks: Sequence[Task], skill: float = 0.6):
        self.tasks, self.skill, self.prompts = tasks, skill, {}

    def __call__(self, prompt: Sequence[int], seed: int) -> list[int]:
        self.prompts[seed] = tuple(prompt)
        text, rng = "".join(map(chr, prompt)), random.Random(seed)
        task = next(task for task in self.tasks if text.startswith(task.question))
        lines = {d: f"s {c['arguments']['query']}" for c, d in zip(task.gold["calls"], task.gold["documents"])}  # noqa: B905
        left = [line for document, line in lines.items() if document not in text]
        good = left[0] if left else f"a {task.gold['answer']}"
        return [
            ord(c) for c in (good if rng.random() < self.skill else rng.choice(["a 9 9", "s zzz", "s code"])) + "\n"
        ]


def played(world: str = "chain", size: int = 3, anew: bool = False, skill: float = 0.6, **knobs):
    env = load(world, **knobs)
    tasks = env.tasks("train", 2)
    player = Player(tasks, skill)
    policy = Policy("scripted", ScriptedEngine(player), Letters(anew))
    return play(policy, env, tasks, size=size, seed=4, step=2), policy, env, player


def longest(rollouts: Rollouts):
    return max(rollouts, key=lambda t: len(t.turns))


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("world", ["chain", "facet", "known"])
def test_a_branch_begins_at_the_very_tokens_and_the_very_state(world, anew):
    rollouts, policy, env, player = played(world, anew=anew)
    t = longest(rollouts)
    assert len(t.turns) >= 4
    for turn, original in enumerate(t.turns):
        grown = branch(rollouts, policy, env, t.id, turn, 3, seed=1)
        assert [b.id for b in grown] == [t.id, *(f"{t.id}.{turn}.{k}" for k in range(3))]
        assert grown[0] == t and len(grown.groups) == 1
        for b in list(grown)[1:]:
            assert b.parent == (t.id, turn - 1) and b.prompt == () and b.gold == t.gold
            first = b.turns[0]
            assert first.state_key == original.state_key
            assert first.sampling["seed"] != original.sampling["seed"]
            assert {k: v for k, v in first.sampling.items() if k != "seed"} == {
                k: v for k, v in original.sampling.items() if k != "seed"
            }
            prefix = full_ids(grown, b, 0)[: b.sequences[0].prefix.length]
            assert prefix == player.prompts[first.sampling["seed"]] == player.prompts[original.sampling["seed"]]
            path = b.path(grown.by_id)
            assert path.turns[:turn] == t.turns[:turn] and path.prompt == t.prompt
            _replays(env, path)


def _replays(env, path):
    """A whole story, branch or not, is one that the world tells again."""
    world = env.fresh()
    world.reset(Task(path.group, "", path.gold, path.extra["task"]), 0)
    for turn in path.turns:
        assert world.state_key == turn.state_key
        reply = world.respond(turn.action)
        assert [m.text for m in reply.messages] == [m.text for m in turn.observations]
        assert {k: float(v) for k, v in reply.columns.items()} == dict(turn.rewards)
    assert path.outcome == (reply.outcome if reply.done else 0.0) and path.truncated == (not reply.done)
    assert len(path.turns) == env.max_turns if path.truncated else len(path.turns) <= env.max_turns


def test_the_last_possible_turn_can_be_branched_and_the_limit_counts_turns_before():
    rollouts, policy, env, _ = played(skill=0.0, size=12, max_turns=4)
    t = next(t for t in rollouts if t.truncated)
    grown = branch(rollouts, policy, env, t, env.max_turns - 1, 4)
    assert all(len(b.turns) == 1 for b in list(grown)[1:])
    short = branch(rollouts, policy, env, t, 1, 6, max_turns=2)
    assert all(len(b.turns) == 1 for b in list(short)[1:])
    assert any(b.truncated for b in list(short)[1:])


@pytest.mark.parametrize("anew", [False, True])
def test_a_branch_of_a_branch_at_its_first_turn_and_later(anew):
    rollouts, policy, env, player = played(anew=anew, skill=0.5)
    t = longest(rollouts)
    grown = branch(rollouts, policy, env, t.id, 1, 8)
    b = max(list(grown)[1:], key=lambda b: len(b.turns))
    assert len(b.turns) >= 2
    for turn in (0, 1):
        again = branch(grown, policy, env, b.id, turn, 2)
        assert [x.id for x in again] == [t.id, b.id, f"{b.id}.{turn}.0", f"{b.id}.{turn}.1"]
        for x in list(again)[2:]:
            prefix = full_ids(again, x, 0)[: x.sequences[0].prefix.length]
            assert prefix == player.prompts[b.turns[turn].sampling["seed"]]
            path = x.path(again.by_id)
            assert path.turns[: 1 + turn] == (*t.turns[:1], *b.turns[:turn])
            _replays(env, path)
        batch = again.batch()
        own = [k for k in range(batch.count("turn")) if batch.turn_trajectory[k] == 2]
        assert batch.turn_index[own[0]] == 1 + turn
        above = int(batch.turn_parent[own[0]])
        assert batch.trajectories[batch.turn_trajectory[above]] == (b.id if turn else t.id)


def test_credit_of_a_batch_with_branches_counts_each_sampled_token_once():
    rollouts, policy, env, _ = played(size=4)
    t = longest(rollouts)
    first = branch(rollouts, policy, env, t.id, 2, 3)
    second = branch(first, policy, env, first[1].id, 0, 2)
    whole = Rollouts((*rollouts, *(b for b in {**first.by_id, **second.by_id}.values() if b.parent)))
    batch = whole.batch()
    sampled = [len(s) for b in whole for seq in b.sequences for s in seq.spans if s.origin == "sampled"]
    assert batch.count("token") == sum(sampled)
    places = set()
    for number, b in enumerate(whole):
        for seq in b.sequences:  # where a token is stored: its trajectory, and its position in the forward pass
            at = seq.prefix.length if seq.prefix else 0
            for span in seq.spans:
                places |= {(number, at + i) for i in range(len(span)) if span.origin == "sampled"}
                at += len(span)
    held = {
        (int(batch.turn_trajectory[k]), int(p)) for k, p in zip(batch.token_turn, batch.token_position, strict=True)
    }
    assert held == places and len(held) == batch.count("token")
    for sequence, position, turn in zip(batch.token_sequence, batch.token_position, batch.token_turn, strict=True):
        assert len(batch.sequences[sequence]) > position and turn >= 0
    credit = recipes.grpo().credit(batch)
    assert len(credit.values) == sum(sampled) and bool(credit.known.all())
    own = batch.turn_trajectory[batch.token_turn]
    for number in range(len(whole)):
        assert len(set(credit.values[own == number].tolist())) == 1


def test_the_seed_decides_and_more_branches_begin_with_the_same_ones():
    rollouts, policy, env, _ = played()
    t = longest(rollouts)
    two, four = (branch(rollouts, policy, env, t.id, 1, n, seed=3) for n in (2, 4))
    assert list(four)[:3] == list(two) and branch(rollouts, policy, env, t.id, 1, 4, seed=3) == four
    other = branch(rollouts, policy, env, t.id, 1, 4, seed=5)
    assert [b.text for b in other] != [b.text for b in four]
    more = branch(two, policy, env, t.id, 1, 2, seed=3)
    assert list(more)[1:] == list(four)[3:]
    everywhere = branch_many(rollouts, policy, env, [(t.id, 0), (t.id, 1)], 3, seed=4)
    seeds = [turn.sampling["seed"] for b in (*rollouts, *list(everywhere)[1:]) for turn in b.turns]
    assert len(set(seeds)) == len(seeds)
    places = [(t.id, 1), (rollouts[0].id, 0)]
    both = branch_many(rollouts, policy, env, places, 2, seed=3)
    assert [both[b.id] for b in two] == list(two) and len(both) == len({t.id, rollouts[0].id}) + 4


def test_rollouts_read_from_a_folder_can_be_branched(tmp_path):
    rollouts, policy, env, _ = played()
    t = longest(rollouts)
    grown = branch(rollouts, policy, env, t.id, 2, 2)
    workbench.store.write(tmp_path / "grown", grown)
    read = workbench.store.read(tmp_path / "grown")
    assert list(read) == list(grown)
    assert list(branch(read, policy, env, t.id, 1, 2)) == list(branch(rollouts, policy, env, t.id, 1, 2))


def test_it_works_where_a_loop_already_runs():
    rollouts, policy, env, _ = played()

    async def cell():
        return branch(rollouts, policy, env, rollouts[0].id, 0, 1)

    assert len(asyncio.run(cell())) == 2


class Dice:
    """A world that draws at random: it cannot be played again, only restored."""

    tools, max_turns, throws = (), 3, 0

    def fresh(self):
        return Dice()

    def reset(self, task, seed):
        self.eyes, self.turn = 0, 0
        return (Message("q", "user", task.question),)

    @property
    def state_key(self):
        return f"{self.turn}|{self.eyes}"

    async def step(self, message):
        Dice.throws += 1
        self.eyes, self.turn = self.eyes + Dice.throws, self.turn + 1
        return Step((Message(f"{message.id}.0", "user", str(self.eyes)),))

    def snapshot(self):
        return {"eyes": self.eyes, "turn": self.turn}

    def restore(self, snapshot):
        self.eyes, self.turn = snapshot["eyes"], snapshot["turn"]


def test_a_world_that_does_not_come_back_is_refused_unless_there_is_a_snapshot():
    policy = Policy("p", ScriptedEngine(lambda prompt, seed: [ord(c) for c in "s x\n"]), Letters())
    rollouts = play(policy, Dice(), [Task("t", "throw")], size=1)
    name = rollouts[0].id
    with pytest.raises(RecordError, match=r"turn 0.*observations.*did not come back: recorded \"\['1'\]\".*snapshot"):
        branch(rollouts, policy, Dice(), name, 1, 2)
    world = Dice()
    world.restore({"eyes": int(rollouts[0].turns[0].observations[0].text), "turn": 1})
    grown = branch(rollouts, policy, Dice(), name, 1, 2, snapshot=world.snapshot())
    assert [b.turns[0].state_key for b in grown if b.parent] == ["1|1"] * 2


def test_what_cannot_be_branched_says_why():
    rollouts, policy, env, _ = played()
    t = longest(rollouts)
    for turn in (-1, len(t.turns)):
        with pytest.raises(RecordError, match="own turns"):
            branch(rollouts, policy, env, t.id, turn, 1)
    with pytest.raises(KeyError, match="no trajectory"):
        branch(rollouts, policy, env, "nobody", 0, 1)
    with pytest.raises(ValueError, match="at least 1"):
        branch(rollouts, policy, env, t.id, 0, 0)
    demonstration = env.imperfect_demonstration(env.tasks("train", 1)[0], random.Random(0), 0.0)
    with pytest.raises(RecordError, match=r"no sampled tokens|not say what was played"):
        branch(Rollouts((demonstration,)), policy, env, demonstration.id, 0, 1)
    grown = branch(rollouts, policy, env, t.id, 1, 1)
    orphan = Rollouts((grown[1],))
    with pytest.raises(RecordError, match="not here"):
        branch(orphan, policy, env, grown[1].id, 0, 1)


def test_the_value_of_a_turn_is_the_share_of_wins_before_and_after_it():
    rollouts, policy, env, _ = played(hops=2, skill=0.7, size=8)
    won = next(t for t in rollouts if t.outcome == 1.0 and len(t.turns) == 3)
    worth = branch_value(rollouts, policy, env, won.id, 1, 60, seed=2)
    grown = branch_many(rollouts, policy, env, [(won.id, 1), (won.id, 2)], 60, seed=2)
    wins = [int(sum(b.outcome for b in grown if b.parent == (won.id, at))) for at in (0, 1)]
    assert worth.before[:3] == wilson(wins[0], 60) and worth.after[:3] == wilson(wins[1], 60)
    assert worth.gain.share == pytest.approx((wins[1] - wins[0]) / 60) and worth.gain.low < worth.gain.share
    assert worth.before.known == 60 and worth.before.unknown == 0
    last = branch_value(rollouts, policy, env, won.id, 2, 20)
    assert last.after == (1.0, 1.0, 1.0, 1, 0) and last.before.known == 20
    assert last.gain.high == pytest.approx(1 - last.before.low)
    wrong = next(t for t in rollouts if t.outcome == 0.0 and not t.truncated and len(t.turns) > 1)
    assert branch_value(rollouts, policy, env, wrong, len(wrong.turns) - 1, 20).gain.share < 0


def test_the_interval_holds_the_true_value_as_often_as_it_says():
    """A one-turn guess that is right with chance 0.6: V before is 0.6, and most intervals hold it."""
    env = load("chain", hops=1, max_turns=1)
    task = env.tasks("train", 1)[0]
    said = [f"a {task.gold['answer']}\n", "a no\n"]
    engine = ScriptedEngine(lambda prompt, seed: [ord(c) for c in said[random.Random(seed).random() >= 0.6]])
    policy = Policy("guess", engine, Letters())
    rollouts = play(policy, env, [task], size=1)
    values = [branch_value(rollouts, policy, env, rollouts[0].id, 0, 30, seed=s).before for s in range(60)]
    assert sum(v.low <= 0.6 <= v.high for v in values) >= 54
    assert sum(v.mean for v in values) / 60 == pytest.approx(0.6, abs=0.04)


def test_unknown_outcomes_are_counted_apart_and_shares_only_get_intervals():
    gain = newcombe(Value(math.nan, 0.0, 1.0, 0, 3), Value(0.5, 0.2, 0.8, 10))
    assert math.isnan(gain.share) and gain[1:] == (-1.0, 1.0)
    rollouts, policy, env, _ = played(skill=1.0)
    t = rollouts[0]
    half = Odd(**vars(env))
    with pytest.raises(ValueError, match=r"got 0\.5"):
        branch_value(rollouts, policy, half, t.id, 1, 3)
    half.fails = True
    value = branch_value(rollouts, policy, half, t.id, 1, 3)
    assert value.before[1:] == value.after[1:] == (0.0, 1.0, 0, 3) and math.isnan(value.gain.share)


class Odd(Chain):
    """A chain world whose right answer is worth a half, or whose answers fail."""

    def __init__(self, fails: bool = False, **knobs):
        knobs = {name: knobs[name] for name in ("hops", "distractors", "seed", "max_turns", "limit")}
        super().__init__(**knobs)
        self.fails = fails

    def respond(self, message):
        reply = super().respond(message)
        if reply.done and self.fails:
            raise OSError("gone")
        return replace(reply, outcome=0.5 if reply.done else None)
