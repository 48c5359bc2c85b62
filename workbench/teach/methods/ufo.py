"""UFO: what a rollout of several tries is worth: right, how late, and how often the same wrong answer was given."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

from workbench.evidence.retries import Try, tries
from workbench.recipes.ufo import retry_reward
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values, same, values
from workbench.teach.method_page import hand
from workbench.teach.table import Table, number
from workbench.teach.turn_parts import Rows, hints

Said = Sequence[str | None]
"""What a rollout answered, turn by turn; "" cannot be read, None: the turn called another tool."""
NO_TRY = Try(valid=False, correct=False, repeated=False, broken=False)


def columns(answers: Sequence[Said], gold: Sequence[str]) -> dict[str, Rows]:
    """Return the columns that the evidence reads off rollouts that said this.

    Args:
        answers: a row a rollout, one a turn.
        gold: the right answer of each rollout's question.

    Example:
        >>> columns([["3", "3 ", "7"]], ["7"])["try_repeated"]
        [[0.0, 1.0, 0.0]]
    """
    judged = [
        [NO_TRY if word is None else one for word, one in zip(row, tries(row, [right]), strict=True)]
        for row, right in zip(answers, gold, strict=True)
    ]
    names = ("valid", "correct", "repeated", "broken")
    return {f"try_{name}": [[float(getattr(one, name)) for one in row] for row in judged] for name in names}


def truth(
    answers: Sequence[Said], gold: Sequence[str], gamma: float, repeat: float, invalid: float
) -> list[float | None]:
    """Return the reward of each rollout, by the library."""
    batch = hand([f"q{i}" for i in range(len(answers))], columns(answers, gold))
    return retry_reward(gamma, repeat, invalid, "turns")(None, batch).tolist()


# ------------------------------------------------------------------------------------------------------- the parts


def plain(answer: str) -> str:
    """No white space, lower case."""
    return re.sub(r"\s+", "", answer).lower()


def per_try(said: Said, before: int) -> int:
    """Tries before, those that could not be read included."""
    return sum(word is not None for word in said[:before])


def per_valid(said: Said, before: int) -> int:
    """Tries before that could be read."""
    return sum(bool(word) for word in said[:before])


def per_turn(said: Said, before: int) -> int:
    """Turns before, whatever they did."""
    return before


def halves(gamma: float, t: int) -> float:
    """gamma^t"""
    return gamma**t


def share(words: Sequence[str], turns: int, tried: int) -> float:
    """1 - E / T."""
    return 1 - len(set(words)) / len(words) if words else 0.0


def count(words: Sequence[str], turns: int, tried: int) -> float:
    """T - E."""
    return float(len(words) - len(set(words)))


def different(words: Sequence[str], turns: int, tried: int) -> float:
    """E / T."""
    return len(set(words)) / len(words) if words else 0.0


def of_turns(words: Sequence[str], turns: int, tried: int) -> float:
    """1 - E / (turns)."""
    return 1 - len(set(words)) / turns


def of_tries(words: Sequence[str], turns: int, tried: int) -> float:
    """1 - E / (tries, those that could not be read included)."""
    return 1 - len(set(words)) / tried if tried else 0.0


def neighbours(words: Sequence[str], turns: int, tried: int) -> float:
    """Share of the answers that equal the one just before."""
    return sum(a == b for a, b in zip(words, words[1:], strict=False)) / len(words) if words else 0.0


def unreadable(said: Said) -> int:
    """Tries that could not be read."""
    return sum(word == "" for word in said)


def made(
    age: Callable[[Said, int], int] = per_try,
    decay: Callable[[float, int], float] = halves,
    charge: Callable[[Sequence[str], int, int], float] = share,
    form: Callable[[str], str] = plain,
    broken: Callable[[Said], int] = unreadable,
    forgiven: bool = False,
    failed: float = 0.0,
) -> Solution:
    """Return a solution made of these parts; the defaults are right.

    Args:
        age: what counts as time.
        decay: what a right answer of that age is worth.
        charge: what repeating costs, before its weight.
        form: what two answers must share to be the same.
        broken: tries that are charged as unreadable.
        forgiven: does a rollout that ends right pay nothing for repeating?
        failed: what a rollout that is never right is paid.
    """

    def one(said: Said, right: str, gamma: float, repeat: float, invalid: float) -> float:
        words = [form(word) for word in said if word]
        hit = next((t for t, word in enumerate(said) if word and form(word) == form(right)), None)
        worth = failed if hit is None else decay(gamma, age(said, hit))
        cost = 0.0 if forgiven and hit is not None else charge(words, len(said), sum(w is not None for w in said))
        return worth - repeat * cost - invalid * broken(said)

    def solution(
        answers: list[list[str | None]], gold: list[str], gamma: float, repeat: float, invalid: float
    ) -> list[float]:
        return [one(said, right, gamma, repeat, invalid) for said, right in zip(answers, gold, strict=True)]

    return solution


right = made()


# -------------------------------------------------------------------------------------------------------- the cases


def cases(rng: Random) -> list[Args]:
    """A repeat; a search; what cannot be read; only case or white space apart; then any."""
    shapes: list[list[list[str | None]]] = [
        [["3", "3", "7a"]],
        [["3", "5", "3"]],
        [[None, "3", "7A"]],
        [["", "3", "7a"]],
        [["", "7a"], ["", "", "3"]],
        [["3", "3 ", "7 a"]],
        [["b", "B", "7A"]],
    ]
    words = ["3", "3 ", "b", "B", "5 5", "55", "", "", None, None, "9"]
    for _ in range(10):
        rows: list[list[str | None]] = []
        for _ in range(rng.randint(2, 4)):
            said = [rng.choice(words) for _ in range(rng.randint(1, 5))]
            rows.append([*said, rng.choice(["7a", "7 a", "7A"])] if rng.random() < 0.5 else said)
        shapes.append(rows)
    return [(rows, ["7a"] * len(rows), rng.choice((0.5, 0.6)), rng.choice((0.5, 0.4)), 0.1) for rows in shapes]


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: what was said, a line a rollout."""
    answers, gold, gamma, repeat, invalid = args
    fits = isinstance(got, tuple) and len(got) == len(want)
    rows, bad = [], set()
    for i, (said, right_one) in enumerate(zip(answers, gold, strict=True)):
        told = ", ".join("(search)" if word is None else repr(word) for word in said)
        if fits and not same(got[i], want[i]):
            bad.add(i)
        rows.append((str(i), told, repr(right_one), number(got[i]) if fits else "", number(want[i])))
    caption = (
        f"gamma = {gamma:g}, repeat = {repeat:g}, invalid = {invalid:g}. '' cannot be read. Wrong lines are marked."
    )
    return Table(caption, ("rollout", "answers", "right answer", "yours", "right"), tuple(rows), frozenset(bad))


def _alone(args: Args, got: Values, solution: Solution) -> bool:
    answers, gold, *knobs = args
    each = [values(solution([a], [g], *knobs))[0] for a, g in zip(answers, gold, strict=True)]
    return same(got, tuple(each))


def _first(args: Args, got: Values, solution: Solution) -> bool:
    return same(values(solution([["7a"], [None, "7A"]], ["7a", "7a"], *args[2:])), (1.0, 1.0))


ex = Exercise(
    "ex",
    "the reward of every rollout",
    cases,
    truth,
    (
        Misconception(
            "only readable answers age",
            "You count earlier answers that could be read. So does the release; the paper's t is the turn, so that a "
            "try that could not be read ages the success, too.",
            made(per_valid),
        ),
        Misconception(
            "a search ages",
            "You count every earlier turn. A turn that calls another tool is no try: looking something up is free.",
            made(per_turn),
        ),
        Misconception(
            "tries from 1",
            "You count tries from 1: a right first answer would be worth gamma. t starts at 0.",
            made(decay=lambda gamma, t: gamma ** (t + 1)),
        ),
        Misconception(
            "no decay",
            "You pay 1 for a right answer whenever it comes. That is the plain outcome, and guessing on is free.",
            made(decay=lambda gamma, t: 1.0),
        ),
        Misconception(
            "linear decay",
            "You take gamma off for every try. It is a power: the fifth try is worth gamma^4, not less than nothing.",
            made(decay=lambda gamma, t: 1 - gamma * t),
        ),
        Misconception(
            "white space tells answers apart",
            "You keep white space: '3' and '3 ' would be two answers. It is removed, all of it.",
            made(form=str.lower),
        ),
        Misconception(
            "case tells answers apart",
            "You keep capitals: 'b' and 'B' would be two answers. Both are lower case before they are compared.",
            made(form=lambda word: re.sub(r"\s+", "", word)),
        ),
        Misconception(
            "number of repeats",
            "You charge for each repeat, T - E. It is the share of the answers, 1 - E / T, below 1 however many.",
            made(charge=count),
        ),
        Misconception(
            "different answers charged",
            "You charge E / T, the share of *different* answers. That fines exploring; 1 - E / T fines repeating.",
            made(charge=different),
        ),
        Misconception(
            "share of all turns",
            "You divide by the number of turns. T is the number of answers: a search is none.",
            made(charge=of_turns),
        ),
        Misconception(
            "unreadable answers repeat",
            "You count tries that could not be read in T. They are charged apart, by `invalid`, and are no answers.",
            made(charge=of_tries),
        ),
        Misconception(
            "neighbours only",
            "You charge an answer that equals the one just before it. An answer given long ago is repeated, too.",
            made(charge=neighbours),
        ),
        Misconception(
            "forgiven when right",
            "You drop the charge where the rollout ends right. It is charged all the same: a right fifth answer after "
            "four equal ones is worth less than 0.",
            made(forgiven=True),
        ),
        Misconception(
            "repeats are free",
            "You charge nothing for repeating. The same answer five times would cost no more than five different ones.",
            made(charge=lambda words, turns, tried: 0.0),
        ),
        Misconception(
            "invalid once",
            "You charge one unreadable try and no more. Each of them costs.",
            made(broken=lambda said: int("" in said)),
        ),
        Misconception(
            "invalid is free",
            "You charge nothing for what could not be read. Without a charge a policy may stay silent at no cost.",
            made(broken=lambda said: 0),
        ),
        Misconception(
            "a search is invalid",
            "You charge a turn that called another tool as if its answer could not be read. It gave none.",
            made(broken=lambda said: sum(not word for word in said)),
        ),
        Misconception(
            "never right is -1",
            "You pay -1 to a rollout that is never right. It is 0: different wrong answers cost nothing.",
            made(failed=-1.0),
        ),
    ),
    (
        Property("a rollout is judged by itself", _alone),
        Property("a right first try is worth 1, after a search, too", _first),
    ),
    shown,
    (
        "Three parts: what the right answer is worth, what repeating costs, what cannot be read costs.",
        "t counts the tries before the right one, readable or not; a search (None) is no try. T counts readable "
        "answers only.",
        "gamma ** t if right, minus repeat * (1 - E / T) with E the different answers after removing white space and "
        "capitals, minus invalid for each ''. Without any answer, 1 - E / T is 0.",
    ),
)

hint = hints(ex)
