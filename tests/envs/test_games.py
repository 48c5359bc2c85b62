"""What every board game owes the agent and the user: refusals as texts, errors by name, snapshots, replays."""

from __future__ import annotations

import json
import random

import pytest

from workbench import policy, recipes, rollout
from workbench.envs import Environment, load
from workbench.envs.games import INVALID
from workbench.policy import Settings, tiny_tokenizer
from workbench.policy.renderers import PlainText
from workbench.trajectory import Message, ToolCall

GAMES = [
    ("tictactoe", {}),
    ("sudoku", {}),
    ("sudoku", {"size": 9, "empty": 12}),
    ("minesweeper", {}),
]
HOSTILE = ["", "one", "99", "-1", "٣ ٣ ٣", "1 " * 500, "1;2;3", "<script>", None, 3, ["1"], "0", "0 0", "0 0 0"]


def said(env, name, arguments=None, error=None):
    call = ToolCall("c", name, arguments=arguments, error=error)
    return env.respond(Message("a", "assistant", calls=(call,)))


def played(env, call):
    return said(env, call["name"], call["arguments"])


@pytest.fixture(params=GAMES, ids=str)
def env(request):
    name, knobs = request.param
    return load(name, **knobs)


def test_it_keeps_the_contract(env):
    assert isinstance(env, Environment)
    assert env.state_key == "" and env.tools
    with pytest.raises(RuntimeError, match="reset"):
        _ = env.task


def test_tasks_are_drawn_by_seed_and_splits_share_none(env):
    train = env.tasks("train", 12, 0)
    assert train == env.tasks("train", 12, 0) and train[:5] == env.tasks("train", 5, 0)
    assert train != env.tasks("train", 12, 1) and len({t.id for t in train}) == 12
    key = [json.dumps({k: v for k, v in t.data.items() if k != "split"}, sort_keys=True) for t in train]
    test = [
        json.dumps({k: v for k, v in t.data.items() if k != "split"}, sort_keys=True) for t in env.tasks("test", 12)
    ]
    assert len(set(key)) > 8 and not set(key) & set(test)
    with pytest.raises(ValueError, match="split"):
        env.tasks("dev", 1)


def test_what_is_no_call_is_answered_and_changes_nothing(env):
    env.reset(env.tasks("train", 1)[0])
    before, name = env.progress.position, env.tools[0].name
    argument = env.ARGUMENT
    answers = []
    for text in HOSTILE:
        here = env.fresh()
        here.restore(env.snapshot())
        answers.append(said(here, name, {argument: text}))
        assert here.progress.position == before
    for arguments, error in ((None, "cannot read"), ({}, None), ({"other": "1"}, None)):
        here = env.fresh()
        here.restore(env.snapshot())
        answers.append(said(here, name, arguments, error))
    here = env.fresh()
    here.restore(env.snapshot())
    answers.append(said(here, "dance", {argument: "1"}))
    here.restore(env.snapshot())
    answers.append(here.respond(Message("a", "assistant", "hello")))
    for reply in answers:
        assert reply.columns["illegal"] and reply.columns["oracle_value"] == INVALID
        assert not reply.columns["oracle_on_path"] and not reply.done and reply.outcome is None
        assert reply.messages[0].text.startswith("error : ") and env.view(before) in reply.messages[0].text


def test_only_the_first_call_of_a_turn_is_played(env):
    env.reset(env.tasks("train", 1)[0])
    call = env.best()
    two = tuple(ToolCall(f"c{n}", call["name"], arguments=call["arguments"]) for n in range(2))
    reply = env.respond(Message("a", "assistant", calls=two))
    assert reply.columns["malformed"] and reply.columns["oracle_on_path"]
    assert [m.answers for m in reply.messages] == ["c0", "c1"] and "one call" in reply.messages[1].text


def test_snapshots_are_json_and_bring_the_same_future(env):
    task = env.tasks("train", 3)[2]
    env.reset(task)
    played(env, env.best())
    if env.progress.done:
        pytest.skip("one move ended it")
    kept = json.loads(json.dumps(env.snapshot()))
    other = env.fresh()
    other.restore(kept)
    assert other.state_key == env.state_key
    call = env.best()
    assert played(other, call) == played(env, call) and other.progress == env.progress


def test_a_judged_call_is_worth_what_it_is_worth_when_made_and_changes_nothing(env):
    for task in env.tasks("train", 4):
        env.reset(task)
        rng = random.Random(0)
        while not env.progress.done and env.progress.turn < env.max_turns:
            call, before = rng.choice(env.legal()), env.state_key
            judged = env.judge(call)
            assert env.state_key == before
            made = played(env, call)
            assert made.columns["oracle_value"] == judged.value and made.columns["oracle_on_path"] == judged.on_path
    with pytest.raises(ValueError, match="expected a call such as"):
        env.reset(env.tasks("train", 1)[0])
        env.judge({"name": "dance", "arguments": {}})


def test_the_oracles_move_is_on_the_path_and_no_move_is_worth_more(env):
    for task in env.tasks("test", 6):
        env.reset(task)
        while not env.progress.done and env.progress.turn < env.max_turns:
            known = env.oracle()
            assert env.judge(known["best"]).on_path
            assert env.judge(known["best"]).value == max(value for _, value in known["values"])
            played(env, known["best"])


def test_a_finished_game_takes_no_move_and_wrong_tasks_and_positions_are_errors(env):
    task = env.tasks("train", 1)[0]
    env.reset(task)
    with pytest.raises(ValueError, match="position"):
        env.restore({**env.snapshot(), "progress": {"position": "nonsense", "turn": 0, "done": False, "outcome": None}})
    with pytest.raises(ValueError, match=task.id):
        env.reset(type(task)(task.id, "q", {}, {}))
    env.reset(task)
    kept = env.snapshot()
    env.restore({**kept, "progress": {**kept["progress"], "done": True, "outcome": 0.0}})
    with pytest.raises(RuntimeError, match="over"):
        played(env, env.best())


def test_demonstrations_err_as_often_as_asked(env):
    tasks = env.tasks("train", 10)
    for rate, found in ((0.0, lambda n, m: m == 0), (1.0, lambda n, m: m == n)):
        turns = [t for task in tasks for t in env.imperfect_demonstration(task, random.Random(task.id), rate).turns]
        assert found(len(turns), sum(bool(turn.extra["mistake"]) for turn in turns))
    clean = [turn for t in tasks for turn in env.imperfect_demonstration(t, random.Random(0), 0.0).turns]
    assert all(turn.rewards["oracle_on_path"] == 1.0 for turn in clean)


def test_worked_examples_are_of_a_split_of_their_own(env):
    text = PlainText(tiny_tokenizer.load(), env.shots, env.tools).shots_text()
    assert text.count("Question: ") == 2 == text.rstrip().count("\n\n") + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "knobs"), [("sudoku", {"empty": 3}), ("minesweeper", {"rows": 3, "columns": 3, "mines": 2})]
)
def test_a_real_model_plays_and_is_credited_turn_by_turn(name, knobs):
    """In plain text with worked examples; how well it plays is no matter of this test."""
    env = load(name, **knobs)
    model = policy.load("smollm2", shots=env.shots, tools=env.tools)
    settings = Settings(temperature=0.0, max_new_tokens=10)
    played = rollout.play(model, env, env.tasks("test", 2), size=1, settings=settings, max_turns=2)
    batch = played.batch()
    assert all(t.stop_reason in ("done", "max_turns") for t in played)
    assert float(batch["malformed"].values.mean()) < 1.0, "not one line was a call"
    credit = recipes.vpr_turns(oracle="oracle_value", kl=0.0, fewest=2).credit(batch)
    assert bool(credit.known.all()) and len(credit.values) == batch.count("token")
