"""The exercises of 101: right solutions pass, wrong ones are named, and what is shown tells them from the truth."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from random import Random

import pytest
import torch

from workbench import notebook as nb
from workbench.teach import exercises, predict
from workbench.teach import lesson101 as check
from workbench.teach.checking import same, values
from workbench.teach.variants import without_solution

SOURCE = Path(__file__).resolve().parents[2] / "tutorials" / "101_from_one_rollout_to_grpo.py"

# --------------------------------------------------------- solutions, written as readers write them, not as we do


def z_torch(outcome, group, tokens, unbiased=True, lone=0.0, guard=True, eps=1e-6, everyone=False, divide=True):
    """A reader's z-score in torch, with the choices that go wrong."""
    r = torch.tensor(outcome, dtype=torch.float64)
    out = torch.zeros_like(r)
    for name in set(group):
        mine = torch.tensor([g == name for g in group])
        peers = r if everyone else r[mine]
        if len(peers) == 1:
            out[mine] = r[mine] * lone
        elif guard and bool((peers == peers[0]).all()):
            out[mine] = 0.0
        else:
            spread = peers.std(unbiased=unbiased) + eps if divide else 1.0
            out[mine] = (r[mine] - peers.mean()) / spread
    return out


def z_plain(outcome, group, tokens):
    result = {}
    for name in dict.fromkeys(group):
        rows = [i for i, g in enumerate(group) if g == name]
        mu = statistics.fmean(outcome[i] for i in rows)
        sd = statistics.stdev([outcome[i] for i in rows]) if len(rows) > 1 else 0.0
        for i in rows:
            result[i] = 0.0 if sd < 1e-9 else (outcome[i] - mu) / (sd + 1e-4)  # TRL's eps passes, too
    return [result[i] for i in range(len(outcome))]


def noise_loop(outcome, group, tokens):
    """Sums by hand, and asks whether the spread is zero: rounding says it is not."""
    out = []
    for r, g in zip(outcome, group, strict=True):
        peers = [x for x, h in zip(outcome, group, strict=True) if h == g]
        mu = 0.0
        for x in peers:
            mu += x
        mu /= len(peers)
        var = sum((x - mu) * (x - mu) for x in peers) / (len(peers) - 1) if len(peers) > 1 else 0.0
        out.append(0.0 if var == 0.0 else (r - mu) / var**0.5)
    return out


def noise_as_nan(outcome, group, tokens):
    """0 / 0 for a group of equal outcomes."""
    alone = torch.tensor([group.count(g) == 1 for g in group])
    return torch.where(alone, 0.0, z_torch(outcome, group, tokens, guard=False, eps=0.0))


def z_over_tokens(outcome, group, tokens):
    out = []
    for i, g in enumerate(group):
        flat = torch.tensor(
            [r for r, h, n in zip(outcome, group, tokens, strict=True) if h == g for _ in range(n)]
        ).double()
        flatline = len(set(flat.tolist())) == 1
        out.append(0.0 if flatline else ((outcome[i] - flat.mean()) / (flat.std() + 1e-6)).item())
    return out


def spread_numpyish(advantage, origin):
    return [torch.tensor([float(o == "sampled") for o in row]) * a for a, row in zip(advantage, origin, strict=True)]


def spread_all(advantage, origin):
    out = []
    for a, row in zip(advantage, origin, strict=True):
        start = row.index("sampled")
        out.append([0.0] * start + [a] * (len(row) - start))
    return out


def spread_thin(advantage, origin):
    return [
        [a / sum(o == "sampled" for o in row) * (o == "sampled") for o in row]
        for a, row in zip(advantage, origin, strict=True)
    ]


def spread_last(advantage, origin):
    out = [[0.0] * len(row) for row in origin]
    for i, row in enumerate(origin):
        out[i][len(row) - 1 - row[::-1].index("sampled")] = advantage[i]
    return out


def loss_torch(new, old, credit, low, high):
    r, a = (torch.tensor(new) - torch.tensor(old)).exp(), torch.tensor(credit)
    return -torch.minimum(a * r, a * r.clamp(1 - low, 1 + high))


def loss_by_sign(new, old, credit, low, high):
    r = [math.exp(n - o) for n, o in zip(new, old, strict=True)]
    return [-a * (min(x, 1 + high) if a > 0 else max(x, 1 - low)) for x, a in zip(r, credit, strict=True)]


def loss_min(new, old, credit, low, high):
    r, a = (torch.tensor(new) - torch.tensor(old)).exp(), torch.tensor(credit)
    return torch.minimum(-a * r, -a * r.clamp(1 - low, 1 + high))


def loss_wrong_side(new, old, credit, low, high):
    r = [math.exp(n - o) for n, o in zip(new, old, strict=True)]
    return [-a * (max(x, 1 - low) if a > 0 else min(x, 1 + high)) for x, a in zip(r, credit, strict=True)]


def loss_clip_only(new, old, credit, low, high):
    return [-a * min(max(math.exp(n - o), 1 - low), 1 + high) for n, o, a in zip(new, old, credit, strict=True)]


def loss_summed(new, old, credit, low, high):
    r = sum(math.exp(n) for n in new) / sum(math.exp(o) for o in old)
    return [max(-a * r, -a * max(min(r, 1 + high), 1 - low)) for a in credit]


def loss_product(new, old, credit, low, high):
    r = math.prod(math.exp(n - o) for n, o in zip(new, old, strict=True))
    return [max(-a * r, -a * max(min(r, 1 + high), 1 - low)) for a in credit]


def mean_torch(loss, mask):
    x, m = torch.tensor(loss), torch.tensor(mask, dtype=torch.float32)
    n = m.sum(1)
    return ((x * m).sum(1) / n.clamp(min=1)).sum() / (n > 0).sum()


def mean_loop(loss, mask):
    means = [
        statistics.fmean(x for x, m in zip(a, b, strict=True) if m) for a, b in zip(loss, mask, strict=True) if any(b)
    ]
    return statistics.fmean(means)


def mean_padded(loss, mask):
    return (torch.tensor(loss) * torch.tensor(mask)).mean(1).mean()


def mean_tokens(loss, mask):
    x, m = torch.tensor(loss), torch.tensor(mask)
    return (x * m).sum() / m.sum()


def mean_empty(loss, mask):
    x, m = torch.tensor(loss), torch.tensor(mask)
    return ((x * m).sum(1) / m.sum(1).clamp(min=1)).mean()


RIGHT = [
    (check.ex1, z_torch),
    (check.ex1, z_plain),
    (check.ex2, spread_numpyish),
    (check.ex3, loss_torch),
    (check.ex3, loss_by_sign),
    (check.ex4, mean_torch),
    (check.ex4, mean_loop),
]
WRONG = {
    "population spread": (check.ex1, lambda *a: z_torch(*a, unbiased=False)),
    "batch statistics": (check.ex1, lambda *a: z_torch(*a, everyone=True)),
    "noise divided by noise": (check.ex1, noise_loop),
    "lone rollout keeps its outcome": (check.ex1, lambda *a: z_torch(*a, lone=1.0)),
    "statistics over tokens": (check.ex1, z_over_tokens),
    "no spread": (check.ex1, lambda *a: z_torch(*a, divide=False)),
    "observations credited": (check.ex2, spread_all),
    "shared over the tokens": (check.ex2, spread_thin),
    "last token only": (check.ex2, spread_last),
    "min for max": (check.ex3, loss_min),
    "clip alone": (check.ex3, loss_clip_only),
    "probabilities summed": (check.ex3, loss_summed),
    "one ratio for the sequence": (check.ex3, loss_product),
    "ratio upside down": (check.ex3, lambda n, o, a, lo, hi: loss_torch(o, n, a, lo, hi)),
    "padding counts": (check.ex4, mean_padded),
    "mean over all tokens": (check.ex4, mean_tokens),
    "empty rollout counts": (check.ex4, mean_empty),
}
SEEDS = (0, 1, 2)

# ------------------------------------------------------------------------------------------------ the checker


@pytest.mark.parametrize(("exercise", "solution"), RIGHT)
def test_right_solutions_pass(exercise, solution):
    for seed in SEEDS:
        assert exercise(solution, seed), exercise(solution, seed)


def test_every_misconception_has_a_wrong_solution_here():
    named = [m.name for one in check.EXERCISES.values() for m in one.misconceptions]
    assert len(named) >= 10
    assert sorted(named) == sorted(WRONG)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_solution_is_named_and_its_counterexample_tells_it_apart(name):
    exercise, solution = WRONG[name]
    for seed in SEEDS:
        verdict = exercise(solution, seed)
        assert not verdict
        assert verdict.misconception.name == name
        shown = verdict.counterexample
        assert not same(values(solution(*shown.args)), values(exercise.truth(*shown.args)))
        others = [m.name for m in exercise.misconceptions if m.name != name]
        assert not [m for m in others if _named(exercise, m).explains(shown.args, shown.got, shown.want)]
        for right in (s for one, s in RIGHT if one is exercise):
            assert same(values(right(*shown.args)), shown.want)  # a right solution does not stumble on it


def _named(exercise, name):
    return next(m for m in exercise.misconceptions if m.name == name)


@pytest.mark.parametrize("name", WRONG)
def test_the_known_wrong_solution_is_named_too(name):
    exercise = WRONG[name][0]
    assert exercise(_named(exercise, name).wrong).misconception.name == name


def test_a_group_of_equal_outcomes_that_becomes_nan_is_the_same_misconception():
    assert check.ex1(noise_as_nan).misconception.name == "noise divided by noise"


def test_clipping_each_sign_at_the_other_side_is_min_for_max():
    assert check.ex3(loss_wrong_side).misconception.name == "min for max"


def test_of_two_mistakes_at_once_one_is_named():
    verdict = check.ex1(lambda *a: z_torch(*a, unbiased=False, lone=1.0))
    assert verdict.misconception.name in ("population spread", "lone rollout keeps its outcome")


def test_an_unknown_mistake_is_rejected_without_a_name():
    verdict = check.ex1(lambda outcome, group, tokens: [3.0 * x for x in z_torch(outcome, group, tokens)])
    assert not verdict
    assert verdict.misconception is None
    assert verdict.counterexample.args == check.ex1.cases(Random(0))[0]  # the smallest
    assert "none of the misconceptions known here" in repr(verdict)


@pytest.mark.parametrize(
    ("solution", "said"),
    [
        (lambda outcome, group, tokens: outcome[:1], "Expected 3 numbers, your function returned 1 numbers"),
        (lambda outcome, group, tokens: None, "is a `return` missing?"),
        (lambda outcome, group, tokens: 1 / 0, "raised ZeroDivisionError"),
        (
            lambda outcome, group, tokens: [outcome.sort() or x for x in z_torch(outcome, group, tokens)],
            "changed the lists",
        ),
    ],
)
def test_what_cannot_be_compared_is_said(solution, said):
    verdict = check.ex1(solution)
    assert not verdict
    assert said in repr(verdict)


def test_a_stub_stays_a_stub():
    def stub(*args):
        raise NotImplementedError("Exercise 1: ...")

    with pytest.raises(NotImplementedError, match="Exercise 1"):
        check.ex1(stub)


def test_everything_wants_all_four():
    right = (z_torch, spread_numpyish, loss_torch, mean_torch)
    assert len(check.everything(*right)) == 4
    with pytest.raises(AssertionError, match=r"seed 7(.|\n)*ex4: not yet(.|\n)*padding counts"):
        check.everything(*right[:3], mean_padded, seed=7)


def test_the_cases_are_made_from_the_seed():
    for one in check.EXERCISES.values():
        assert one.cases(Random(3)) == one.cases(Random(3)) != one.cases(Random(4))


def test_properties_hold_for_the_truth_and_break_for_wrong_solutions():
    assert "the advantages of a question sum to zero" in check.ex1(z_over_tokens).broken
    assert "tokens that were not sampled get 0" in check.ex2(spread_all).broken
    assert any("pessimistic" in says for says in check.ex3(loss_min).broken)
    assert "more padding, or other values in it, changes nothing" in check.ex4(mean_padded).broken
    for one in check.EXERCISES.values():
        for args in one.cases(Random(0)):
            for prop in one.properties:
                assert prop.holds(args, values(one.truth(*args)), one.truth), prop.says


def test_hints_climb_and_end():
    assert "Hint 1 of 3" in repr(check.hint("ex1", 1))
    with pytest.raises(ValueError, match="hints go from 1 to 3, got 4"):
        check.hint("ex1", 4)
    with pytest.raises(ValueError, match="expected one of ex1, ex2, ex3, ex4, got 'ex9'"):
        check.hint("ex9")


def test_nothing_a_reader_is_told_is_code():
    told = [h for one in check.EXERCISES.values() for h in one.hints]
    told += [m.says for one in check.EXERCISES.values() for m in one.misconceptions]
    assert not [
        text for text in told if any(mark in text for mark in ("def ", "return ", "lambda", "**", "==", "zip("))
    ]


def test_what_a_solution_says_is_shown_as_text():
    def hostile(*args):
        raise RuntimeError("<script>window.hit=1</script>")

    page = check.ex1(hostile)._repr_mimebundle_()["text/html"]
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("guess", "answer", "right"),
    [(0.25, 0.26, True), (0.5, 0.26, False), (None, 1, None), ("No ", "no", True), ([1, 2], [1, 2.01], True)]
    + [([1], [1, 2], False), ("x", 1, False)],
)
def test_a_prediction_is_compared(guess, answer, right):
    assert predict("?", guess).reveal(answer).right is right


# ------------------------------------------------------------------------------------------------ the notebook


def test_both_variants_come_from_one_source():
    solved = nb.read_source(SOURCE)
    open_ones = exercises(solved)
    assert len(solved.cells) <= 40
    stubs = [c for c in open_ones.cells if c.cell_type == "code" and "raise NotImplementedError" in c.source]
    assert len(stubs) == 4
    for before, after in zip(solved.cells, open_ones.cells, strict=True):
        if after.cell_type == "code":
            compile(after.source, "cell", "exec")
            assert "SOLUTION" not in after.source
            tagged = "exercise" in before.metadata.get("tags", [])
            assert ("raises-exception" in after.metadata.get("tags", [])) == tagged


def test_a_tutorial_is_built_for_readers_and_with_its_solutions(tmp_path):
    nb.build_tutorials(SOURCE.parent, tmp_path / "built", tmp_path / "ledger.json", say=lambda line: None)
    reader, solved = (tmp_path / "built" / f"{SOURCE.stem}{end}" for end in (".ipynb", ".solution.ipynb"))
    assert "raise NotImplementedError" in reader.read_text("utf-8")
    assert "SOLUTION" not in reader.read_text("utf-8")
    assert "# END SOLUTION" in solved.read_text("utf-8")


def test_an_open_fence_is_refused():
    with pytest.raises(ValueError, match="expected '# SOLUTION 1"):
        without_solution("# SOLUTION 1: x\n3")


def test_the_exercise_variant_fails_only_at_tagged_cells_and_only_as_a_stub(monkeypatch):
    monkeypatch.chdir(SOURCE.parent)
    failed = run(exercises(nb.read_source(SOURCE)))
    assert len(failed) == 6  # four exercises, and two cells that put them together
    for cell, error in failed:
        assert "exercise" in cell.metadata.get("tags", []), (cell.source, error)
        assert isinstance(error, NotImplementedError)
        assert str(error).startswith("Exercise ")


def run(notebook):
    """Run the code cells in this process, going on after errors; return the cells that failed."""
    names, failed = {"__name__": "notebook"}, []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            try:
                exec(compile(cell.source, "cell", "exec"), names)
            except Exception as error:  # every kind is looked at by the caller
                failed.append((cell, error))
    return failed
