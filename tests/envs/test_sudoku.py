"""Sudoku: the solver against all grids there are (4x4) and against trying everything (9x9); values; play."""

from __future__ import annotations

import random
from itertools import permutations, product

import pytest

from workbench.envs.sudoku import (
    FORCED,
    FREE,
    LEGAL,
    MOST_CONSTRAINED,
    WRONG,
    Sudoku,
    candidates,
    completable,
    drawn,
    free_cells,
    placement_value,
    puzzle,
    solutions,
)
from workbench.trajectory import Message, ToolCall


def units(size: int, box: int) -> list[list[int]]:
    rows = [[r * size + c for c in range(size)] for r in range(size)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    boxes = [
        [(r + i) * size + c + j for i in range(box) for j in range(box)]
        for r in range(0, size, box)
        for c in range(0, size, box)
    ]
    return rows + columns + boxes


FOUR, NINE = units(4, 2), units(9, 3)


def valid(grid: str, lines: list[list[int]]) -> bool:
    """No digit twice in a line; free cells do not count."""
    said = ([grid[i] for i in line if grid[i] != FREE] for line in lines)
    return all(len(set(one)) == len(one) for one in said)


def every_four() -> list[str]:
    """All full 4x4 grids, by trying every way to put four permutations below each other."""
    rows = ["".join(p) for p in permutations("1234")]
    halves = [a + b for a, b in product(rows, repeat=2) if valid(a + b + FREE * 8, FOUR)]
    return [a + b for a, b in product(halves, repeat=2) if valid(a + b, FOUR)]


def spoiled(grid: str, rng: random.Random, free: int, wrong: int, size: int) -> str:
    """Free some cells of a full grid and change some of the others, conflicts and all."""
    signs = list(grid)
    for cell in rng.sample(range(len(grid)), wrong):
        signs[cell] = str(rng.randint(1, size))
    for cell in rng.sample(range(len(grid)), free):
        signs[cell] = FREE
    return "".join(signs)


def test_four_by_four_agrees_with_the_list_of_all_grids_on_a_thousand_random_positions():
    whole, rng, counts = every_four(), random.Random(0), {0: 0, 1: 0, 2: 0}
    assert len(whole) == 288
    for _ in range(1000):
        grid = spoiled(rng.choice(whole), rng, rng.randrange(3, 13), rng.randrange(3), 4)
        fits = [g for g in whole if all(a in (FREE, b) for a, b in zip(grid, g, strict=True))]
        assert sorted(solutions(grid, 300)) == sorted(fits), grid
        assert completable(grid) == bool(fits) and len(solutions(grid)) == min(len(fits), 2)
        counts[min(len(fits), 2)] += 1
    assert min(counts.values()) > 100


@pytest.mark.parametrize("free", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_nine_by_nine_agrees_with_trying_everything_on_a_thousand_random_positions(free):
    """All ways to fill the free cells, valid or not, are tried."""
    rng, counts = random.Random(0), [0, 0]
    for number in range(1000):
        grid = spoiled(drawn(9, rng), rng, free, number % 3 // 2, 9)
        cells, found = free_cells(grid), []
        touched = [line for line in NINE if set(line) & set(cells)]
        if valid(grid, NINE):
            for digits in product("123456789", repeat=free):
                signs = list(grid)
                for cell, digit in zip(cells, digits, strict=True):
                    signs[cell] = digit
                if valid("".join(signs), touched):
                    found.append("".join(signs))
        assert sorted(solutions(grid, 1000)) == sorted(found), grid
        counts[bool(found)] += 1
    assert min(counts) > 50


def left_by_units(grid: str, lines: list[list[int]], size: int) -> dict[int, set[str]]:
    """The digits each free cell can take: those that stand in none of its lines."""
    digits = {str(n) for n in range(1, size + 1)}
    return {
        cell: digits - {grid[i] for line in lines if cell in line for i in line}
        for cell, sign in enumerate(grid)
        if sign == FREE
    }


def completions(grid: str, most: int = 2) -> int:
    """How many ways there are to fill the grid, counted to `most`: cell by cell as one reads, every digit tried."""
    rows, columns, boxes, free = [0] * 9, [0] * 9, [0] * 9, []
    for cell, sign in enumerate(grid):
        r, c = divmod(cell, 9)
        b = r // 3 * 3 + c // 3
        if sign == FREE:
            free.append((r, c, b))
            continue
        bit = 1 << int(sign)
        if (rows[r] | columns[c] | boxes[b]) & bit:
            return 0
        rows[r], columns[c], boxes[b] = rows[r] | bit, columns[c] | bit, boxes[b] | bit

    def fill(n: int, found: int) -> int:
        if n == len(free):
            return found + 1
        r, c, b = free[n]
        for digit in range(1, 10):
            bit = 1 << digit
            if found < most and not (rows[r] | columns[c] | boxes[b]) & bit:
                rows[r], columns[c], boxes[b] = rows[r] | bit, columns[c] | bit, boxes[b] | bit
                found = fill(n + 1, found)
                rows[r], columns[c], boxes[b] = rows[r] ^ bit, columns[c] ^ bit, boxes[b] ^ bit
        return found

    return fill(0, 0)


def worth(left: dict[int, set[str]], cell: int, alive: bool) -> float:
    """What the card of VPR says a placement is worth."""
    if not alive:
        return -1.0
    sizes = {len(digits) for digits in left.values()}
    return 2.0 if len(left[cell]) == 1 else 1.0 if len(left[cell]) == min(sizes) else 0.5


def test_the_oracle_of_four_by_four_judges_a_thousand_placements_as_the_list_of_all_grids_does():
    whole, rng, met = every_four(), random.Random(1), {}
    while sum(met.values()) < 1000:
        grid = spoiled(rng.choice(whole), rng, rng.randrange(3, 13), rng.randrange(2), 4)
        left = left_by_units(grid, FOUR, 4)
        open_ = [(cell, digit) for cell, digits in left.items() for digit in sorted(digits)]
        if not open_ or not valid(grid, FOUR):
            continue
        cell, digit = rng.choice(open_)
        after = grid[:cell] + digit + grid[cell + 1 :]
        alive = any(all(a in (FREE, b) for a, b in zip(after, g, strict=True)) for g in whole)
        expected = worth(left, cell, alive)
        assert placement_value(grid, cell, digit) == expected, (grid, cell, digit)
        met[expected] = met.get(expected, 0) + 1
    assert set(met) == {-1.0, 0.5, 1.0, 2.0} and min(met.values()) > 20


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_nine_by_nine_as_it_is_played_agrees_with_filling_it_as_one_reads(count):
    """Positions with 5 to 52 free cells, one in three with a wrong digit that conflicts with nothing."""
    rng, met, counts = random.Random(2), {}, [0, 0, 0]
    for number in range(count):
        full = drawn(9, rng)
        free = rng.sample(range(81), rng.randint(5, 52))
        grid = "".join(FREE if cell in free else sign for cell, sign in enumerate(full))
        left = left_by_units(grid, NINE, 9)
        other = [(cell, d) for cell, digits in left.items() for d in sorted(digits) if d != full[cell]]
        if number % 3 == 0 and other:
            cell, digit = rng.choice(other)
            grid = grid[:cell] + digit + grid[cell + 1 :]
            left = left_by_units(grid, NINE, 9)
        ways = completions(grid)
        assert len(solutions(grid, 2)) == ways and completable(grid) == bool(ways), grid
        counts[ways] += 1
        open_ = [(cell, digit) for cell, digits in left.items() for digit in sorted(digits)]
        if open_:
            cell, digit = rng.choice(open_)
            expected = worth(left, cell, bool(completions(grid[:cell] + digit + grid[cell + 1 :], 1)))
            assert placement_value(grid, cell, digit) == expected, (grid, cell, digit)
            met[expected] = met.get(expected, 0) + 1
    assert min(counts) > count / 10 and all(met.get(one, 0) > count / 20 for one in (-1.0, 0.5, 2.0))


@pytest.mark.parametrize(("size", "empty"), [(4, 6), (9, 30)])
def test_puzzles_have_one_solution_and_full_grids_are_valid(size, empty):
    rng = random.Random(1)
    for _ in range(5):
        full = drawn(size, rng)
        assert valid(full, FOUR if size == 4 else NINE) and FREE not in full
        grid = puzzle(full, empty, rng)
        assert len(free_cells(grid)) == empty and solutions(grid, 2) == [full]


def test_values_of_placements_by_hand():
    grid = "12.............4"  # the first row lacks 3 and 4, and 4 stands in its last column already
    assert placement_value(grid, 3, "3") == FORCED
    assert placement_value(grid, 2, "4") == LEGAL  # right, but the cell could take a 3 as well
    assert placement_value(grid, 2, "3") == WRONG  # conflicts with nothing, and leaves the last cell without a digit
    assert candidates("12..34..........", 2) == ["3", "4"]
    assert placement_value("12..34..........", 2, "3") == MOST_CONSTRAINED
    assert placement_value("12..34..........", 10, "1") == LEGAL and completable("12..34....1.....")
    assert placement_value("123.............", 3, "4") == FORCED
    assert placement_value("12.3...4........", 4, "3") == WRONG  # the grid was lost before: no turn mends it


def place(env, text):
    return env.respond(Message("a", "assistant", calls=(ToolCall("c", "place", arguments={"cell": text}),)))


def at(grid):
    env = Sudoku()
    task = env.tasks("train", 1)[0]
    env.reset(type(task)(task.id, "", {}, {"grid": grid}))
    return env


def test_solving_getting_stuck_and_refusals():
    env = at("12343412214343..")
    malformed = place(env, "one")
    assert malformed.columns["oracle_distance"] == 2 and malformed.columns["oracle_reachable"]  # known of every turn
    env = at("12343412214343..")
    assert "row, column or box" in place(env, "4 3 1").messages[0].text and env.progress.turn == 1
    assert place(env, "4 3 1").columns["oracle_value"] == WRONG
    assert "not free" in place(env, "1 1 1").messages[0].text
    assert "1 to 4" in place(env, "5 1 1").messages[0].text and "1 to 4" in place(env, "4 3 0").messages[0].text
    went = place(env, "4 3 2")
    assert not went.done and went.columns["oracle_value"] == FORCED and went.columns["oracle_distance"] == 1
    end = place(env, "4, 4, 1")
    assert end.done and end.outcome == 1.0 and end.messages[0].text.startswith("solved : 1 2 3 4")
    env = at("1.......2.......")  # 3 or 4 below each other fit; a wrong digit elsewhere kills it
    assert place(env, "1 2 2").columns["oracle_reachable"]


def test_a_wrong_digit_is_written_down_and_nothing_mends_it():
    env = Sudoku(empty=8)
    for task in env.tasks("train", 20):
        env.reset(task)
        wrong = [call for call in env.legal() if env.judge(call).value == WRONG]
        if not wrong:
            continue
        reply = place(env, wrong[0]["arguments"]["cell"])
        assert not reply.columns["oracle_reachable"] and reply.columns["oracle_distance"] == -1
        while not env.progress.done:
            later = place(env, env.legal()[0]["arguments"]["cell"])
            assert later.columns["oracle_value"] == WRONG and not later.columns["oracle_on_path"]
        assert env.progress.outcome == 0.0 and "stuck" in later.messages[0].text
        return
    pytest.fail("no task had a wrong placement without a conflict")


def test_the_gold_calls_solve_it_in_any_order_and_so_does_the_oracle():
    for env in (Sudoku(empty=8), Sudoku(size=9, empty=20)):
        for task in env.tasks("test", 3):
            env.reset(task)
            calls = list(task.gold["calls"])
            random.Random(0).shuffle(calls)
            for call in calls:
                reply = place(env, call["arguments"]["cell"])
                assert reply.columns["oracle_on_path"]
            assert reply.outcome == 1.0 and env.progress.position == task.gold["answer"]
            env.reset(task)
            while not env.progress.done:
                place(env, env.best()["arguments"]["cell"])
            assert env.progress.outcome == 1.0 and env.progress.turn == len(calls)


def test_what_is_no_grid_and_knobs_out_of_range():
    env = Sudoku()
    task = env.tasks("train", 1)[0]
    for grid in ("", "1" * 16, "5" + FREE * 15, FREE * 81, "11" + FREE * 14):
        with pytest.raises(ValueError, match="position"):
            env.reset(type(task)(task.id, "", {}, {"grid": grid}))
    for knobs in ({"size": 6}, {"empty": 12}, {"empty": -1}, {"size": 9, "empty": 60}):
        with pytest.raises(ValueError, match=list(knobs)[-1]):
            Sudoku(**knobs)
