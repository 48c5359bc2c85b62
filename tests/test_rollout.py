"""Rollout: exact tokens, one seed a turn, slow and failing tools, sequences that are rendered anew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from workbench.envs.base import Step, Task
from workbench.envs.gazetteer import Gazetteer
from workbench.policy.base import Generation, Policy, Settings
from workbench.rollout import play, play_async
from workbench.seeds import seed_for
from workbench.trajectory import Message, Span, ToolCall


class Characters:
    """A trivial renderer: one token a character; `s ...` searches, `a ...` answers, a newline ends a turn."""

    stop_ids = (10,)

    def __init__(self, prefix_preserving: bool = True, forget: bool = False):
        self.prefix_preserving, self.forget = prefix_preserving, forget

    def _span(self, text: str, origin: str, turn: int, message: str | None) -> Span:
        return Span(tuple(map(ord, text)), origin, turn, message, pieces=tuple(text))  # type: ignore[arg-type]

    def prompt(self, messages: Sequence[Message], tools: Sequence[object]) -> list[Span]:
        kept = [m for m in messages if not (self.forget and m.role == "assistant")]
        return [self._span(m.text + "\n", "prompt", -1, m.id) for m in kept]

    def observation(self, messages: Sequence[Message], turn: int, *, closed: bool) -> list[Span]:
        closing = [] if closed else [self._span("\n", "inserted", turn, None)]
        return closing + [self._span(m.text + "\n", "observation", turn, m.id) for m in messages]

    def parse(self, token_ids: Sequence[int], message_id: str) -> Message:
        text = "".join(map(chr, token_ids)).removesuffix("\n")
        name, _, value = text.partition(" ")
        tools = {"s": ("search", "query"), "a": ("answer", "text")}
        if name not in tools:
            call = ToolCall(f"{message_id}.call", "", raw=text, error="expected s or a")
        else:
            call = ToolCall(f"{message_id}.call", tools[name][0], raw=text, arguments={tools[name][1]: value})
        return Message(message_id, "assistant", text, calls=(call,))  # type: ignore[arg-type]

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(map(chr, token_ids))


class Scripted:
    """Writes line k of a script, where k is the number of its own lines it has seen; keeps what it was asked."""

    version = 3

    def __init__(self, script: Sequence[str], closed: bool = True):
        self.script, self.closed, self.calls = script, closed, []

    async def generate(self, prompts, settings, seeds):
        self.calls.append((list(prompts), settings, list(seeds)))
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt):
        seen = sum("".join(map(chr, prompt)).count(marker) for marker in ("\ns ", "\nx "))
        ids = tuple(map(ord, self.script[seen] + "\n" * self.closed))
        return Generation(ids, (-0.5,) * len(ids), "stop" if self.closed else "length", self.version)


def policy_of(*script: str, renderer: Characters | None = None, closed: bool = True) -> Policy:
    return Policy("scripted", Scripted(script, closed), renderer or Characters())


def gold_script(task: Task) -> list[str]:
    lines = [f"s {call['arguments']['query']}" for call in task.gold["calls"][:-1]]
    return [*lines, f"a {task.gold['answer']}"]


@pytest.fixture
def world() -> Gazetteer:
    return Gazetteer(hops=2)


def test_gold_calls_win_and_every_token_is_accounted_for(world):
    task = world.tasks("test", 1)[0]
    policy = policy_of(*gold_script(task))
    rollouts = play(policy, world, [task], size=2, run="here", step=7)
    assert [t.id for t in rollouts] == [f"here/7/{task.id}/0", f"here/7/{task.id}/1"]
    t = rollouts[0]
    assert (t.outcome, t.truncated, t.stop_reason, len(t.turns)) == (1.0, False, "done", 3)
    assert len(t.sequences) == 1
    first, second, answer = gold_script(task)
    found = task.gold["documents"]
    expected = f"{task.question}\n{first}\n{found[0]}\n{second}\n{found[1]}\n{answer}\n"
    assert "".join(map(chr, t.sequences[0].ids)) == expected
    assert [(s.origin, s.turn) for s in t.sequences[0].spans] == [
        ("prompt", -1), ("sampled", 0), ("observation", 0), ("sampled", 1), ("observation", 1), ("sampled", 2),
    ]  # fmt: skip
    sampled = t.sampled(1)[0]
    assert sampled.logprobs == (-0.5,) * len(sampled) and "".join(sampled.pieces or ()) == second + "\n"
    assert t.turns[0].policy_version == (3, 3) and t.turns[0].rewards["malformed"] == 0.0
    assert t.turns[1].state_key == rollouts[1].turns[1].state_key != t.turns[0].state_key
    assert rollouts.batch().columns["outcome"].values.tolist() == [1.0, 1.0]


def test_each_prompt_is_what_was_seen_before_and_seeds_do_not_depend_on_the_batch(world):
    tasks = world.tasks("test", 3)
    policy = policy_of("s France", "s Paris", "a Euro")
    play(policy, world, tasks, size=2, seed=5, step=1)
    alone = policy_of("s France", "s Paris", "a Euro")
    play(alone, world, tasks[1:2], size=2, seed=5, step=1)
    for turn, (prompts, settings, seeds) in enumerate(policy.engine.calls):
        expected = [seed_for(5, 1, task.id, sample, turn) for task in tasks for sample in range(2)]
        assert sorted(seeds) == sorted(expected) and len(prompts) == 6
        assert settings.stop_ids == (10,)
        assert set(alone.engine.calls[turn][2]) <= set(seeds)
    assert len({seed for _, _, seeds in policy.engine.calls for seed in seeds}) == 18


def test_malformed_calls_stay_trainable_and_running_out_of_turns_is_a_zero(world):
    task = world.tasks("test", 1)[0]
    t = play(policy_of("x hm", "s", "s "), world, [task], size=1)[0]
    assert (t.outcome, t.truncated, t.stop_reason) == (0.0, True, "max_turns")
    assert [turn.rewards["malformed"] for turn in t.turns] == [1.0, 1.0, 1.0]
    assert all(turn.trainable for turn in t.turns)
    assert t.turns[0].observations[0].text == "error : use search or answer"
    assert t.turns[1].observations[0].text == "error : search needs a query"


def test_a_generation_without_its_stop_token_is_closed_by_an_inserted_one(world):
    task = world.tasks("test", 1)[0]
    t = play(policy_of("s Paris", "a Euro", closed=False), world, [task], size=1)[0]
    inserted = [s for s in t.sequences[0].spans if s.origin == "inserted"]
    assert [s.ids for s in inserted] == [(10,)] and t.turns[0].stop_reason == "length"


def test_a_prompt_that_does_not_extend_begins_a_new_sequence(world):
    task = world.tasks("test", 1)[0]
    forgetful = Characters(prefix_preserving=False, forget=True)
    policy = Policy("scripted", ByTurn(gold_script(task)), forgetful)
    t = play(policy, world, [task], size=1)[0]
    assert len(t.sequences) == 3 and t.outcome == 1.0
    last = t.sequences[2].spans
    assert [(s.origin, s.turn) for s in last] == [("prompt", -1)] * 3 + [("sampled", 2)]
    assert "".join(map(chr, t.sequences[2].ids)).startswith(f"{task.question}\n{task.gold['documents'][0]}\n")


def test_a_prompt_rendered_anew_that_does_extend_stays_in_its_sequence(world):
    task = world.tasks("test", 1)[0]
    anew = play(Policy("p", ByTurn(gold_script(task)), Characters(prefix_preserving=False)), world, [task], size=1)[0]
    kept = play(Policy("p", ByTurn(gold_script(task)), Characters()), world, [task], size=1)[0]
    assert len(anew.sequences) == 1
    assert anew.sequences[0] == kept.sequences[0]


class ByTurn(Scripted):
    """Writes line k in its k-th call."""

    async def generate(self, prompts, settings, seeds):
        self.calls.append((list(prompts), settings, list(seeds)))
        ids = tuple(map(ord, self.script[len(self.calls) - 1] + "\n"))
        return [Generation(ids, (-0.1,) * len(ids), "stop") for _ in prompts]


class Odd:
    """A world of one turn; what its step does is said by the task's question."""

    tools = ()
    state_key = "only"

    def fresh(self):
        return Odd()

    def reset(self, task, seed):
        self.kind = task.question
        if self.kind == "no reset":
            raise OSError("the world is closed")
        return (Message("q", "user", task.question),)

    async def step(self, message):
        if self.kind == "fails":
            raise RuntimeError("boom")
        if self.kind == "hangs":
            await asyncio.sleep(60)
        if self.kind == "slow":
            await asyncio.sleep(0.5)
        if self.kind == "same id":
            return Step((Message("q", "user", "again"),))
        if self.kind == "nan":
            return Step(columns={"x": float("nan")})
        if self.kind == "nan outcome":
            return Step(done=True, outcome=float("nan"))
        return Step((Message(f"{message.id}.0", "user", "more"),), columns={"word": "hm", "unknown": None, "n": 2})


class Plain(Odd):
    """The same world, its step an ordinary function."""

    def fresh(self):
        return Plain()

    def step(self, message):
        if self.kind == "hangs":
            time.sleep(60)
        return asyncio.run(Odd.step(self, message))


@pytest.mark.parametrize("world", [Odd(), Plain()])
def test_a_failing_slow_or_hanging_tool_touches_its_own_episode_only(world):
    kinds = ["good", "fails", "slow", "hangs", "nan", "nan outcome", "same id", "no reset"]
    tasks = [Task(kind.replace(" ", "-"), kind) for kind in kinds]
    policy = Policy("p", Repeats(), Characters())
    got = dict(zip(kinds, play(policy, world, tasks, size=1, max_turns=3, step_timeout_s=1.0), strict=True))
    assert (got["good"].outcome, len(got["good"].turns)) == (0.0, 3)
    assert (got["slow"].outcome, len(got["slow"].turns)) == (0.0, 3)
    assert got["good"].turns[0].rewards == {"unknown": None, "n": 2.0} and got["good"].turns[0].extra == {"word": "hm"}
    for kind, why in (
        ("fails", "boom"),
        ("hangs", "no reply within 1 s"),
        ("nan", "finite"),
        ("nan outcome", "finite"),
        ("same id", "used twice"),
    ):
        t = got[kind]
        assert t.outcome is None and t.stop_reason.startswith("error: ") and why in t.stop_reason
        assert not t.turns[-1].trainable and why in t.turns[-1].why_not
        assert t.sampled(0)
    assert got["no reset"].turns == () and "the world is closed" in got["no reset"].stop_reason
    # the good episode did not wait for the slow ones: its later turns were sampled in batches of their own
    assert len(policy.engine.calls[1][0]) == 1


def test_an_episode_that_outgrows_the_model_is_truncated_and_the_others_go_on():
    tasks = [Task("short", "?"), Task("long", "?" * 40)]
    policy = Policy("p", Repeats(), Characters())
    policy.engine.positions = 60  # of the longest sequence it can read
    short, long = play(policy, Odd(), tasks, size=1, max_turns=4, settings=Settings(max_new_tokens=8))
    assert (short.stop_reason, len(short.turns)) == ("max_turns", 4)
    assert (long.stop_reason, long.outcome, long.truncated) == ("max_tokens", 0.0, True)
    assert 0 < len(long.turns) < 4 and all(turn.trainable for turn in long.turns)
    assert max(len(p) for prompts, _, _ in policy.engine.calls for p in prompts) + 8 <= 60


class Repeats(Scripted):
    def __init__(self):
        super().__init__(["s x"])

    def _one(self, prompt):
        return Generation(tuple(map(ord, "s x\n")), (-0.1,) * 4, "stop")


def test_play_works_where_a_loop_already_runs(world):
    task = world.tasks("test", 1)[0]

    async def cell():
        return play(policy_of(*gold_script(task)), world, [task], size=1)

    assert asyncio.run(cell())[0].outcome == 1.0
    assert asyncio.run(play_async(policy_of(*gold_script(task)), world, [task], size=1))[0].outcome == 1.0


def test_progress_and_refusals(world):
    task = world.tasks("test", 1)[0]
    seen: list[tuple[int, int]] = []
    play(policy_of(*gold_script(task)), world, [task], progress=lambda done, total, text: seen.append((done, total)))
    assert seen[0] == (0, 4) and seen[-1] == (4, 4)
    with pytest.raises(ValueError, match="occurs twice"):
        play(policy_of("a x"), world, [task, task])
    with pytest.raises(ValueError, match="at least 1"):
        play(policy_of("a x"), world, [task], size=0)
    one = play(policy_of("s Paris", "s Paris"), world, [task], size=1, max_turns=1, settings=Settings(temperature=0.5))
    assert len(one[0].turns) == 1 and one[0].turns[0].sampling["temperature"] == 0.5
