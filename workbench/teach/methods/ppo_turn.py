"""PPO over turns: what came, against what a value head expected at the turn's beginning."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from workbench.recipes import ppo_turn
from workbench.teach.checking import Args, Exercise, Misconception, Property, Solution, Values
from workbench.teach.method_page import hand, turns
from workbench.teach.methods import _gae as g
from workbench.teach.table import Table
from workbench.teach.turn_parts import Rows, hints


def truth(reward: list[list[float]], value: list[list[float]], gamma: float, lam: float) -> Rows:
    """Return the advantage of every turn, by the library's recipe, before it is whitened."""
    names = [f"q{i}" for i in range(len(reward))]
    columns: dict[str, Rows] = {"turn_reward": [[*row] for row in reward], "turn_value": [[*row] for row in value]}
    batch = hand(names, columns, tokens=[[1] * len(row) for row in reward])
    return turns(ppo_turn(gamma=gamma, lam=lam, whiten=False, reward="turn_reward"), batch)


def made(scan: g.Scan = g.gae, after: Callable[[list[list[float]]], list[list[float]]] = lambda rows: rows) -> Solution:
    """Return a solution made of a scan a rollout, and of what is done to all of them; the defaults are right."""

    def solution(reward: list[list[float]], value: list[list[float]], gamma: float, lam: float) -> list[list[float]]:
        return after([scan(r, v, gamma, lam) for r, v in zip(reward, value, strict=True)])

    return solution


right = made()


def runs_on(reward: list[list[float]], value: list[list[float]], gamma: float, lam: float) -> list[list[float]]:
    """One scan over the batch, from the end of the last rollout to the beginning of the first."""
    flat = iter(g.gae([r for row in reward for r in row], [v for row in value for v in row], gamma, lam))
    return [[next(flat) for _ in row] for row in reward]


def without_the_lucky(rows: list[list[float]]) -> list[list[float]]:
    """Forget what is below 0."""
    return [[max(x, 0.0) for x in row] for row in rows]


def cases(rng: Random) -> list[Args]:
    """One turn; two; rewards on the way; then any."""
    out: list[Args] = [
        ([[1.0], [0.0]], [[0.25], [0.5]], 0.9, 0.5),
        ([[0.0, 1.0], [0.0, 0.0]], [[0.5, 0.75], [0.5, 0.25]], 0.9, 0.5),
    ]
    for _ in range(12):
        sizes = [rng.randint(1, 4) for _ in range(3)]
        reward = [[*(rng.choice((0.0, 0.0, 0.5, -0.25)) for _ in range(n - 1)), rng.choice((0.0, 1.0))] for n in sizes]
        value = [[rng.choice((0.125, 0.25, 0.5, 0.75, 0.875, -0.125)) for _ in range(n)] for n in sizes]
        out.append((reward, value, rng.choice((0.9, 0.8)), rng.choice((0.5, 0.25))))
    return out


def shown(args: Args, got: Values, want: Values) -> Table:
    """Show a case: reward and value of each turn."""
    reward, value, gamma, lam = args
    caption = f"Rollouts, a line a turn; gamma = {gamma:g}, lambda = {lam:g}."
    return g.step_table(caption, "turn", [("value before", value), ("reward", reward)], got, want)


def _no_surprise(args: Args, got: Values, solution: Solution) -> bool:
    reward, _, gamma, lam = args
    known = [g.gae(row, [0.0] * len(row), gamma, 1.0) for row in reward]  # what is really still to come
    return all(abs(float(x)) < 1e-3 for row in solution(reward, known, gamma, lam) for x in row)


def _rollouts_apart(args: Args, got: Values, solution: Solution) -> bool:
    reward, value, gamma, lam = args
    alone = solution(reward[:1], value[:1], gamma, lam)[0]
    return all(abs(float(a) - float(b)) < 1e-3 for a, b in zip(alone, got[0], strict=True))


ex = Exercise(
    "ex",
    "the advantage of every turn",
    cases,
    truth,
    (
        Misconception(
            "a value after the end",
            "You take the last value for that of the state after the end. The episode is over there: nothing is to "
            "come, V is 0. With another number a failure is praised for having been promising.",
            made(g.past_the_end),
        ),
        Misconception(
            "returns",
            "You return A + V, which is what the value head is taught; the policy learns from A alone.",
            made(g.returns),
        ),
        Misconception(
            "no lambda",
            "You sum all that follows in full (lambda = 1): the values are a baseline, and never stand for the future.",
            made(g.no_lambda),
        ),
        Misconception(
            "one step only",
            "You stop after the next value (lambda = 0): as long as the values are wrong, no outcome reaches an early "
            "turn.",
            made(g.one_step),
        ),
        Misconception(
            "lambda without gamma",
            "You let later surprises fade by lambda alone; they fade by gamma times lambda.",
            made(g.lambda_alone),
        ),
        Misconception(
            "next value in full",
            "You forget gamma on the next value: a state that is worth v in the next turn is worth gamma v now.",
            made(g.next_undiscounted),
        ),
        Misconception(
            "sums backwards",
            "You sum the surprises that came before a turn. It is responsible for those that follow.",
            made(g.backwards),
        ),
        Misconception(
            "upside down",
            "You subtract the next value and add the present one: turns that lead to good states are blamed.",
            made(g.upside_down),
        ),
        Misconception(
            "a turn late",
            "You compare with the value before the turn before; each turn is judged for what the previous one did.",
            made(g.a_step_late),
        ),
        Misconception(
            "no values",
            "You leave the values out. That is a discounted sum: every rollout of an easy question is praised.",
            made(g.valueless),
        ),
        Misconception(
            "value as a baseline only",
            "You let the rewards fade by gamma lambda and subtract the value. What lambda takes from rewards, the next "
            "values must give back; else a lambda below 1 is a second discount.",
            made(g.baseline_only),
        ),
        Misconception(
            "all rewards at the end",
            "You add up the rewards and put them at the last turn: an early reward is then discounted for nothing.",
            made(g.all_at_the_end),
        ),
        Misconception(
            "scan runs on",
            "You scan the batch in one go: the last turn of a rollout takes from the first turn of the next one.",
            runs_on,
        ),
        Misconception(
            "whitened",
            "You centre and scale over the batch. The loss does that afterwards; the value head's targets are made "
            "from the raw advantage.",
            made(after=g.whitened),
        ),
        Misconception(
            "never blamed",
            "You cut off what is below 0. A turn after which less came than was expected is blamed.",
            made(after=without_the_lucky),
        ),
    ),
    (
        Property("where the values are what is really still to come, nothing is a surprise", _no_surprise),
        Property("other rollouts of the batch do not matter", _rollouts_apart),
    ),
    shown,
    (
        "First the surprise of each turn: what it earned, plus what the next state is worth, minus what this one was.",
        "After the last turn the worth of the next state is 0. Then walk from the end.",
        "A_k = d_k + gamma lambda A_{k+1}, rollout by rollout.",
    ),
)

hint = hints(ex)
