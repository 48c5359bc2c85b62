"""Tic-Tac-Toe: the search against a table of all games worked out backwards, rivals, outcomes."""

from __future__ import annotations

import hashlib
import random
from itertools import product

import pytest
import torch

from workbench import policy, recipes, rollout
from workbench.envs.tictactoe import FREE, TicTacToe, free_cells, move_values, over, problem_of, put, value
from workbench.policy import Settings, tiny_tokenizer
from workbench.search import play_candidates
from workbench.train.warm_start import demonstrations
from workbench.trajectory import Message, ToolCall

GRID = [(r, c) for r in range(3) for c in range(3)]


def three(board: str, sign: str) -> bool:
    """Three of a sign in a row, a column or a diagonal, by coordinates."""
    mine = {place for place, found in zip(GRID, board, strict=True) if found == sign}
    rows = any(all((r, c) in mine for c in range(3)) for r in range(3))
    columns = any(all((r, c) in mine for r in range(3)) for c in range(3))
    return rows or columns or {(0, 0), (1, 1), (2, 2)} <= mine or {(0, 2), (1, 1), (2, 0)} <= mine


def table() -> dict[str, int]:
    """What every board is worth to x, from full boards backwards: no recursion, no turn counting by the code tested."""
    worth: dict[str, int] = {}
    for stones in range(9, -1, -1):
        xs, os = (stones + 1) // 2, stones // 2
        for signs in product("xo.", repeat=9):
            board = "".join(signs)
            if board.count("x") != xs or board.count("o") != os:
                continue
            if three(board, "x") or three(board, "o"):
                worth[board] = three(board, "x") - three(board, "o")
            elif stones == 9:
                worth[board] = 0
            else:
                sign, pick = ("x", max) if xs == os else ("o", min)
                nexts = [board[:i] + sign + board[i + 1 :] for i in range(9) if board[i] == "."]
                worth[board] = pick(worth[after] for after in nexts)
    return worth


def test_the_search_agrees_with_a_table_made_backwards_on_a_thousand_random_positions():
    worth, rng = table(), random.Random(0)
    seen = 0
    while seen < 1000:
        board = FREE * 9
        for _ in range(rng.randrange(9)):
            board = put(board, rng.choice(free_cells(board))) if not over(board) else board
        side = 1 if board.count("x") == board.count("o") else -1
        assert value(board) == side * worth[board], board
        if not over(board):
            sign = "x" if side == 1 else "o"
            by_table = {i: side * worth[board[:i] + sign + board[i + 1 :]] for i in range(9) if board[i] == "."}
            assert move_values(board) == by_table, board
        seen += 1


def play(env, cell):
    return env.respond(Message("a", "assistant", calls=(ToolCall("c", "play", arguments={"cell": str(cell)}),)))


def at(board, **knobs):
    env = TicTacToe(**knobs)
    task = env.tasks("train", 1)[0]
    env.reset(type(task)(task.id, "", {}, {"board": board, "rival": 0}))
    return env


def test_winning_losing_and_drawing():
    won = play(at("xx.oo...."), 3)
    assert (won.done, won.outcome, won.columns["oracle_value"], won.columns["oracle_on_path"]) == (True, 1.0, 1.0, True)
    assert won.messages[0].text == "you win : x x x / o o 6 / 7 8 9"
    lost = play(at("xx.oo....", skill=1.0), 9)
    assert (lost.done, lost.outcome, lost.columns["oracle_value"], lost.columns["oracle_on_path"]) == (
        True,
        0.0,
        -1,
        False,
    )
    assert play(at("xoxxoo.xo", draw=0.25), 7).outcome == 1.0
    assert play(at("xoxoxoox.", draw=0.25), 9).outcome == 1.0
    drawn = play(at("xoxxoxo.o", draw=0.25), 8)
    assert (drawn.outcome, drawn.columns["oracle_value"]) == (0.25, 0.0) and "a draw" in drawn.messages[0].text


def test_a_taken_cell_is_refused_and_the_game_goes_on():
    env = at("xx.oo....")
    reply = play(env, 1)
    assert "not free" in reply.messages[0].text and env.progress.position == "xx.oo...." and env.progress.turn == 1
    assert "1 to 9" in play(env, 10).messages[0].text
    assert play(env, 3).outcome == 1.0


def test_rivals_reply_alike_every_time_and_by_their_skill():
    best, any_ = TicTacToe(skill=1.0), TicTacToe(skill=0.0)
    board, lines = "xx..o....", set()
    assert {best.reply(board, rival) for rival in range(60)} == {2}
    for rival in range(60):
        assert any_.reply(board, rival) == any_.reply(board, rival)
        lines.add(any_.reply(board, rival))
    assert len(lines) == 6


def test_against_a_perfect_rival_the_oracle_never_does_worse_than_the_board_is_worth():
    env = TicTacToe(skill=1.0, opening=4)
    for task in env.tasks("train", 60):
        env.reset(task)
        while not env.progress.done:
            play(env, env.best()["arguments"]["cell"])
        assert env.progress.outcome == {1: 1.0, 0: 0.5, -1: 0.0}[task.gold["value"]], task


@pytest.mark.parametrize(
    "board", ["", "x" * 9, "oo.......", "xxxooo...", "xxxoo.o..", "x?.......", "xxxxx....", "xx......."]
)
def test_what_is_no_position(board):
    env = TicTacToe()
    task = env.tasks("train", 1)[0]
    assert problem_of(board)
    with pytest.raises(ValueError, match=r"position|over"):
        env.reset(type(task)(task.id, "", {}, {"board": board, "rival": 0}))


def test_knobs_out_of_range():
    for knobs in ({"opening": 7}, {"skill": 1.5}, {"draw": -1}):
        with pytest.raises(ValueError, match=next(iter(knobs))):
            TicTacToe(**knobs)
    tasks = TicTacToe(opening=0).tasks("train", 5)
    assert {task.data["board"] for task in tasks} == {FREE * 9}


# ------------------------------------------------------------------------------------------------- a real policy


def test_the_demonstrations_are_those_the_shipped_start_was_made_on():
    """If this changes, the command in `datasets/tiny/README.md` no longer makes the shipped weights: say so there."""
    made = demonstrations("tictactoe", tiny_tokenizer.load(), 12, 0.4, 0, (4,))
    told = repr([(e.ids, [int(w) for w in e.weights]) for e in made])
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == "da8108ab85fab745"


@pytest.fixture(scope="module")
def tiny():
    return policy.load("tiny@tictactoe", tools=TicTacToe().tools)


def test_tiny_plays_and_both_variants_of_vpr_credit_its_turns(tiny):
    """The card has the shares and their intervals; here wide margins around them."""
    env = TicTacToe()
    settings = Settings(max_new_tokens=16)
    played = rollout.play(tiny, env, env.tasks("test", 8), size=8, settings=settings)
    batch = played.batch()
    turns = batch.count("turn")
    assert 8 <= sum(t.outcome == 1.0 for t in played) <= 48
    assert float(batch["malformed"].values.sum()) < 0.05 * turns and float(batch["illegal"].values.sum()) < 0.4 * turns
    assert 0.3 < float(batch["oracle_on_path"].values.mean()) < 0.85
    credit = recipes.vpr_turns(oracle="oracle_value", kl=0.0).credit(batch)
    assert bool(credit.known.all()) and len(credit.values) == batch.count("token")
    first = batch.turn_index == 0
    reward = batch["oracle_value"].values[first]
    expected = (reward - reward.mean()) / (reward.std(correction=0) + 1e-8)
    by_turn = recipes.vpr_turns(oracle="oracle_value", kl=0.0).credit(batch, to="turn").values
    torch.testing.assert_close(by_turn[first], expected)

    drawn = play_candidates(tiny, env, env.tasks("test", 4), count=4, settings=settings)
    credit = recipes.vpr_states(oracle="oracle_value", kl=0.0).credit(drawn.batch(), to="turn")
    assert 0 < int(credit.known.sum()) < len(drawn)
    played_on = [t for t in drawn if t.stop_reason == "candidate: played"]
    assert len(played_on) > 4 and float(credit.values[credit.known].mean()) == pytest.approx(0, abs=1e-9)
