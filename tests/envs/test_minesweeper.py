"""Minesweeper: exact risks against all layouts there are, values, play."""

from __future__ import annotations

import random
from itertools import combinations

import numpy
import pytest

from workbench.envs.mines import FLAG, HIDDEN, MINE, neighbours, posterior
from workbench.envs.minesweeper import (
    CERTAIN_FLAG,
    LEAST_RISK,
    OTHER,
    OTHER_FLAG,
    SAFE,
    Minesweeper,
    move_worth,
)
from workbench.trajectory import Message, ToolCall


def all_layouts(rows, columns, mines):
    """Every way to lay the mines [layouts, cells], and the number each cell would show."""
    cells = rows * columns
    chosen = list(combinations(range(cells), mines))
    laid = numpy.zeros((len(chosen), cells), dtype=numpy.int8)
    for n, where in enumerate(chosen):
        laid[n, list(where)] = 1
    board = laid.reshape(-1, rows, columns)
    wide = numpy.pad(board, ((0, 0), (1, 1), (1, 1)))
    around = sum(wide[:, 1 + r : 1 + r + rows, 1 + c : 1 + c + columns] for r in (-1, 0, 1) for c in (-1, 0, 1)) - board
    return laid, around.reshape(-1, cells)


@pytest.mark.parametrize(
    ("rows", "columns", "mines", "count"),
    [(4, 4, 3, 1000), (3, 5, 4, 1000), pytest.param(5, 5, 5, 1000, marks=pytest.mark.slow), (2, 6, 5, 300)],
)
def test_risks_agree_with_all_layouts_on_random_positions(rows, columns, mines, count):
    laid, numbers = all_layouts(rows, columns, mines)
    rng = random.Random(rows)
    for _ in range(count):
        n = rng.randrange(len(laid))
        safe = [cell for cell in range(rows * columns) if not laid[n, cell]]
        open_ = rng.sample(safe, rng.randint(0, len(safe) - 1))
        signs = [rng.choice([HIDDEN, HIDDEN, FLAG]) for _ in range(rows * columns)]
        fits = numpy.ones(len(laid), dtype=bool)
        for cell in open_:
            signs[cell] = str(numbers[n, cell])
            fits &= (laid[:, cell] == 0) & (numbers[:, cell] == numbers[n, cell])
        got = posterior("".join(signs), rows, columns, mines)
        share = laid[fits].mean(axis=0)
        assert all((got[cell] is None) == (cell in open_) for cell in range(rows * columns))
        for cell in set(range(rows * columns)) - set(open_):
            assert got[cell] == pytest.approx(share[cell], abs=1e-12), "".join(signs)
            assert (got[cell] == 0.0) == (share[cell] == 0.0) and (got[cell] == 1.0) == (share[cell] == 1.0)


def by_layouts(tool, cell, mined, fitting):
    """What the card of VPR says a move is worth, by in how many of the layouts that fit each hidden cell is a mine."""
    if tool == "flag":
        return 1.0 if mined[cell] == fitting else -1.0
    if mined[cell] == 0:
        return 2.0
    return 1.0 if mined[cell] == min(mined.values()) else 0.0


@pytest.mark.parametrize(("rows", "columns", "mines"), [(4, 4, 3), pytest.param(5, 5, 5, marks=pytest.mark.slow)])
def test_the_oracle_judges_every_move_of_a_thousand_positions_as_the_layouts_do(rows, columns, mines):
    laid, numbers = all_layouts(rows, columns, mines)
    env, rng, met = Minesweeper(rows, columns, mines), random.Random(3), {}
    for _ in range(1000):
        n = rng.randrange(len(laid))
        safe = [cell for cell in range(rows * columns) if not laid[n, cell]]
        open_ = rng.sample(safe, rng.randint(1, len(safe) - 1))
        signs = [rng.choice([HIDDEN, HIDDEN, FLAG]) for _ in range(rows * columns)]
        fits = numpy.ones(len(laid), dtype=bool)
        for cell in open_:
            signs[cell] = str(numbers[n, cell])
            fits &= (laid[:, cell] == 0) & (numbers[:, cell] == numbers[n, cell])
        total, per_cell = int(fits.sum()), laid[fits].sum(axis=0, dtype=int)
        mined = {cell: int(per_cell[cell]) for cell in range(rows * columns) if cell not in open_}
        risks = env.risks("".join(signs))
        for tool in ("reveal", "flag"):
            for cell in mined:
                expected = by_layouts(tool, cell, mined, total)
                assert move_worth(tool, cell, risks) == expected, ("".join(signs), tool, cell)
                met[tool, expected] = met.get((tool, expected), 0) + 1
    assert len(met) == 5 and min(met.values()) > 100


def test_a_board_that_cannot_be():
    for view, mines in (("9##", 1), ("2##", 1), ("0##", 2), ("01#", 3), ("11#", 2), ("100", 1)):
        with pytest.raises(ValueError, match="no position"):
            posterior(view, 1, 3, mines)
    assert neighbours(3, 3)[4] == (0, 1, 2, 3, 5, 6, 7, 8)


def move(env, tool, row, column):
    call = ToolCall("c", tool, arguments={"cell": f"{row} {column}"})
    return env.respond(Message("a", "assistant", calls=(call,)))


def at(mines, start, rows=3, columns=4):
    env = Minesweeper(rows, columns, len(mines))
    task = env.tasks("train", 1)[0]
    env.reset(type(task)(task.id, "", {}, {"mines": mines, "start": start}))
    return env


def test_values_by_hand():
    env = at([2, 10], 0)  # mines at (1, 3) and (3, 3)
    assert env.view(env.progress.position) == "0 1 # # / 0 2 # # / 0 1 # #"
    risks = env.risks(env.progress.position)
    flag_sure = [cell for cell, risk in enumerate(risks) if risk == 1.0]
    safe = [cell for cell, risk in enumerate(risks) if risk == 0.0]
    assert flag_sure == [2, 10] and 6 in safe and 3 in safe
    assert env.judge(env.call("flag", 1, 3)).value == CERTAIN_FLAG
    assert env.judge(env.call("flag", 1, 4)).value == OTHER_FLAG
    assert env.judge(env.call("reveal", 2, 3)).value == SAFE
    assert env.judge(env.call("reveal", 1, 3)).value == OTHER and not env.judge(env.call("reveal", 1, 3)).on_path


def test_a_guess_of_the_least_risk_is_right_even_where_it_loses():
    env = at([3], 0, rows=2, columns=2)  # every hidden cell alike
    assert env.risks(env.progress.position) == (None, pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3))
    lost = move(env, "reveal", 2, 2)
    assert lost.done and lost.outcome == 0.0 and lost.messages[0].text == "boom : 1 # / # *"
    assert lost.columns["oracle_value"] == LEAST_RISK and lost.columns["oracle_on_path"]
    assert lost.columns["oracle_risk"] == pytest.approx(1 / 3)


def test_refusals_flags_and_winning():
    env = at([2, 10], 0)
    assert "not hidden" in move(env, "reveal", 1, 1).messages[0].text
    assert (
        "1 to 3" in move(env, "reveal", 4, 1).messages[0].text and "1 to 4" in move(env, "flag", 1, 9).messages[0].text
    )
    assert "F" in move(env, "flag", 1, 3).messages[0].text
    assert "not hidden" in move(env, "flag", 1, 3).messages[0].text
    before = env.risks(env.progress.position)
    assert before[2] == 1.0  # the flag tells nothing: the risk is the same
    while not env.progress.done:
        cell = env.best()["arguments"]["cell"].split()
        reply = move(env, "reveal", *cell)
    assert reply.outcome == 1.0 and reply.messages[0].text.startswith("all found : ")
    env = at([2, 10], 0)
    move(env, "flag", 2, 3)
    assert move(env, "reveal", 2, 3).columns["oracle_value"] == SAFE  # a wrong flag does not bind


def test_the_oracle_never_reveals_a_mine_where_it_need_not_guess():
    env, guessed, won = Minesweeper(4, 4, 3), 0, 0
    for task in env.tasks("test", 40):
        env.reset(task)
        while not env.progress.done:
            reply = move(env, "reveal", *env.best()["arguments"]["cell"].split())
            guessed += reply.columns["oracle_value"] == LEAST_RISK
            assert reply.outcome != 0.0 or reply.columns["oracle_value"] == LEAST_RISK
        won += env.progress.outcome
    assert guessed > 0 and won > 20


def test_what_is_no_board_and_knobs_out_of_range():
    env = at([2, 10], 0)
    task = env.task
    for data in ({"mines": [2], "start": 0}, {"mines": [2, 99], "start": 0}, {"mines": [2, 10], "start": 2}):
        with pytest.raises(ValueError, match="mines"):
            env.reset(type(task)(task.id, "", {}, data))
    for position in ("#" * 11, "3" + "#" * 11, "##" + MINE * 10):
        with pytest.raises(ValueError, match="no position"):
            env.check_position(task, position)
    for knobs in ({"rows": 1}, {"columns": 9}, {"mines": 24}, {"mines": 0}):
        with pytest.raises(ValueError, match=next(iter(knobs))):
            Minesweeper(**knobs)


def test_on_a_large_board_the_risks_sum_to_the_mines():
    """Too many layouts to list (C(64, 30) is 1.6e18); the mean number of mines is known all the same."""
    rng, around = random.Random(0), neighbours(8, 8)
    for mines in (8, 20, 30, 40):
        for _ in range(8):
            laid = set(rng.sample(range(64), mines))
            signs = [HIDDEN] * 64
            for cell in rng.sample([cell for cell in range(64) if cell not in laid], 12):
                signs[cell] = str(len(laid & set(around[cell])))
            risks = [risk for risk in posterior("".join(signs), 8, 8, mines) if risk is not None]
            assert sum(risks) == pytest.approx(mines) and len(risks) == 52 and 0 <= min(risks) <= max(risks) <= 1
