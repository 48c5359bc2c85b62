"""Exercises of the tutorial 501: what a GPU must hold to learn, and what a step takes when its halves overlap.

What is right is computed by the planner: a solution that passes does what the planner does.
"""

from __future__ import annotations

from random import Random

from workbench.scale.pipeline import step_seconds
from workbench.teach.checking import Args, Exercise, Hint, Misconception, Property, Solution, Values
from workbench.teach.table import Table

# ------------------------------------------------------------------------------------------- 1: what a GPU must hold


def state_gb(weights: float, trained: float, gpus: int, size: int) -> float:
    """Return the GB of weights, gradients and Adam's moments on each GPU: size (weights + 3 trained) / gpus."""
    return size * (weights + 3 * trained) / gpus


def state_cases(rng: Random) -> list[Args]:
    """One idea a case: all weights on one GPU; on two; adapters; then any."""
    few = [(1.0, 1.0, 1, 4), (2.0, 2.0, 2, 4), (7.0, 0.1, 1, 2), (7.0, 0.1, 4, 2)]
    more = []
    for _ in range(8):
        weights = rng.choice([0.5, 1.5, 7.0, 32.0, 70.0])
        share = rng.choice([1.0, 0.02, 0.1])
        more.append((weights, weights * share, rng.choice([1, 2, 8, 64]), rng.choice([2, 4])))
    return few + more


def state_rows(args: Args, got: Values, want: Values) -> Table:
    """Show a case in one line."""
    weights, trained, gpus, size = args
    row = (f"{weights:g}", f"{trained:g}", str(gpus), str(size), "" if got is None else f"{got:.4g}", f"{want:.4g}")
    head = ("billion weights", "billion trained", "GPUs", "bytes a number", "yours (GB)", "right (GB)")
    return Table("One learner.", head, (row,), frozenset({0}))


ex1 = Exercise(
    "ex1",
    "GB of weights, gradients and Adam's moments on each GPU",
    state_cases,
    state_gb,
    (
        Misconception(
            "weights alone",
            "You count the weights. That is what playing needs; learning also keeps a gradient and two moments for "
            "every weight that is trained.",
            lambda w, t, g, b: b * w / g,
        ),
        Misconception(
            "one moment",
            "You count one number of the optimiser for each trained weight. Adam keeps two: the mean of the gradient "
            "and that of its square.",
            lambda w, t, g, b: b * (w + 2 * t) / g,
        ),
        Misconception(
            "everything is trained",
            "You give every weight a gradient and moments. With adapters only theirs are trained; that is their point.",
            lambda w, t, g, b: b * 4 * w / g,
        ),
        Misconception(
            "every GPU holds all",
            "You let each GPU hold everything. FSDP cuts weights, gradients and moments over the GPUs.",
            lambda w, t, g, b: b * (w + 3 * t),
        ),
        Misconception(
            "only the weights are cut",
            "You cut the weights over the GPUs and leave gradients and moments whole. FSDP cuts all of them.",
            lambda w, t, g, b: b * (w / g + 3 * t),
        ),
    ),
    (Property("twice the GPUs hold half each", lambda a, got, f: abs(f(a[0], a[1], 2 * a[2], a[3]) - got / 2) < 1e-3),),
    state_rows,
    (
        "Write down, for one weight that is trained, every number a learner keeps: there are four.",
        "A weight that is frozen is one number. All of them are cut over the GPUs.",
        "bytes x (weights + 3 x trained) / GPUs, and the case without adapters is trained = weights.",
    ),
)

# ------------------------------------------------------------------------------------------ 2: halves that overlap


def step_s(rollout: float, learn: float, sync: float, delay: int) -> float:
    """Return the seconds of a step in the long run, as the planner's pipeline has them."""
    return float(step_seconds([rollout] * 40, [learn] * 40, sync, delay))


def step_cases(rng: Random) -> list[Args]:
    """Synchronous; one step off with the longer half on either side; equal halves; then any."""
    few = [(10.0, 4.0, 1.0, 0), (10.0, 4.0, 1.0, 1), (4.0, 10.0, 1.0, 1), (6.0, 6.0, 2.0, 1), (10.0, 4.0, 0.0, 1)]
    return few + [
        (float(rng.randint(1, 60)), float(rng.randint(1, 60)), float(rng.randint(0, 9)), rng.randint(0, 1))
        for _ in range(10)
    ]


def step_rows(args: Args, got: Values, want: Values) -> Table:
    """Show a case in one line."""
    row = (*(f"{x:g}" for x in args), "" if got is None else f"{got:.4g}", f"{want:.4g}")
    return Table("One step, in the long run.", ("rollout", "learn", "sync", "delay", "yours", "right"), (row,))


ex2 = Exercise(
    "ex2",
    "seconds of a step, with and without a step of delay",
    step_cases,
    step_s,
    (
        Misconception(
            "nothing overlaps",
            "You add rollout and learning although a delay is allowed: then engines play step k + 1 while learners "
            "work on step k.",
            lambda r, u, s, d: r + u + s,
        ),
        Misconception(
            "everything overlaps",
            "You let both halves overlap without a delay. The next rollout needs the new weights, so it waits.",
            lambda r, u, s, d: max(r, u) + s,
        ),
        Misconception(
            "weights come for nothing",
            "You leave out the new weights. Engines stop while they take them, in every step.",
            lambda r, u, s, d: r + u if d == 0 else max(r, u),
        ),
        Misconception(
            "half of both",
            "You halve the sum. Two halves that overlap take as long as the longer one; half the sum only if they "
            "are equal.",
            lambda r, u, s, d: r + u + s if d == 0 else (r + u) / 2 + s,
        ),
    ),
    (Property("a delay never makes a step longer", lambda a, got, f: f(a[0], a[1], a[2], 1) <= f(*a[:3], 0) + 1e-9),),
    step_rows,
    (
        "Draw two lines, engines and learners, and put three steps on them: who waits for whom?",
        "Without a delay there is one line in truth. With one, the longer half has no gaps.",
        "delay 0: rollout + learn + sync. delay 1: the longer of the two, + sync.",
    ),
)

EXERCISES = {"ex1": ex1, "ex2": ex2}


def hint(name: str, level: int = 1) -> Hint:
    """Return a hint for "ex1" or "ex2"; each level, 1 to 3, says more."""
    return EXERCISES[name].hint(level)


def everything(first: Solution, second: Solution, seed: int = 0) -> None:
    """Check both solutions.

    Raises:
        AssertionError: one is rejected; says why.
        NotImplementedError: one is a stub still.
    """
    verdicts = [one(solution, seed) for one, solution in zip(EXERCISES.values(), (first, second), strict=True)]
    if wrong := [repr(verdict) for verdict in verdicts if not verdict]:
        raise AssertionError("\n\n".join(wrong))
