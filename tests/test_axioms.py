"""The axiom table: every recipe against what it must satisfy and what its row claims; planted violations are caught."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from recipe_columns import level_of
from torch import Tensor

from workbench import axioms, recipes
from workbench.batch import Batch
from workbench.catalogue import ALL
from workbench.credit import (
    Credit,
    Node,
    Stage,
    apply,
    chain,
    delta,
    difference,
    fill,
    last,
    mix,
    read,
    reward_to_go,
    same_level,
    share,
    spread,
    stage,
    task,
    task_and_turn,
    zscore,
)
from workbench.credit import batch as everything
from workbench.objective import clipped
from workbench.recipes import Recipe

SEEDS = range(4)


def specimen(seed: int) -> Batch:
    """A ragged batch with every standard column: a lone trajectory, one-turn ones, ties, unknown evidence."""
    draw = torch.Generator().manual_seed(seed)

    def ints(high: int, n: int) -> Tensor:
        return torch.randint(0, high, (n,), generator=draw)

    lengths = [1, 3, 2, 4, 1, 2, 3, 2, 5]
    owner = [i for i, n in enumerate(lengths) for _ in range(n)]
    n, k = len(lengths), len(owner)
    batch = Batch.of_maps(owner, ["a"] * 4 + ["b"] * 4 + ["alone"], torch.arange(k).repeat_interleave(1 + ints(3, k)))
    t = batch.count("token")

    def some(count: int) -> Tensor:
        return torch.rand(count, generator=draw) < 0.85

    for name, level, values in (
        ("outcome", "trajectory", ints(3, n).double() / 2),
        ("gold_logprob_start", "trajectory", -3 * torch.rand(n, generator=draw).double()),
        ("turn_reward", "turn", ints(3, k).double()),
        ("match_turn_reward", "turn", torch.rand(k, generator=draw).double()),
        ("gold_logprob", "turn", -3 * torch.rand(k, generator=draw).double()),
        ("token_reward", "token", torch.rand(t, generator=draw).double()),
    ):
        known = torch.ones(len(values), dtype=torch.bool) if level == "trajectory" else some(len(values))
        batch = batch.with_column(name, level, values, known)
    batch = batch.with_column("state", "turn", ints(3, k)).with_column("bad_format", "turn", some(k).logical_not())
    for name, level, count in (
        ("state_distance", "turn", k),
        ("state_distance_start", "trajectory", n),
        ("oracle_on_path", "turn", k),
        ("step_accuracy", "turn", k),
        ("step_confidence", "turn", k),
        ("token_entropy", "token", t),
        ("logprob_informed", "token", t),
        ("logprob_plain", "token", t),
    ):
        known = some(count) | torch.tensor(level == "trajectory")
        batch = batch.with_column(name, level, torch.rand(count, generator=draw).double(), known)
    batch = batch.with_column("truncated", "trajectory", some(n).logical_not())
    ends = torch.rand(t, generator=draw) < 0.4  # probed at the ends of segments only
    batch = batch.with_column("segment_gold_logprob", "token", -torch.rand(t, generator=draw).double(), ends)
    batch = batch.with_column("segment_gold_logprob_start", "trajectory", -torch.rand(n, generator=draw).double())
    batch = batch.with_column("answer_cluster", "trajectory", ints(2, n), some(n))
    for name in ("try_valid", "try_correct", "try_repeated", "try_broken"):
        batch = batch.with_column(name, "turn", ints(2, k).double(), some(k))
    for name in ("tool_success", "format_score", "state_match", "call_match"):
        batch = batch.with_column(name, "trajectory", ints(4, n).double() / 3, some(n))
    for name in ("logprob_old", "logprob_ref"):
        batch = batch.with_column(name, "token", -torch.rand(t, generator=draw).double())
    for name, level, count in (
        ("cluster_support", "trajectory", n),
        ("cluster_prob", "turn", k),
        ("match_reward", "turn", k),
        ("ablation_drop", "turn", k),
        ("shapley", "turn", k),
        ("return_pred", "turn", k),
        ("return_pred_start", "trajectory", n),
        ("cluster_prob_start", "trajectory", n),
    ):
        batch = batch.with_column(name, level, torch.rand(count, generator=draw).double(), some(count))
    for name, level, count in (("value", "token", t), ("turn_value", "turn", k)):
        batch = batch.with_column(name, level, torch.rand(count, generator=draw).double(), some(count))
    for recipe in [getattr(recipes, name)() for row in ALL for name in row.recipes]:  # what a later one reads
        for name in [name for name in recipe.chain.needs if name not in batch.columns]:
            level = level_of(name, recipe)
            count = batch.count(level)
            batch = batch.with_column(name, level, torch.rand(count, generator=draw).double(), some(count))
    return batch


ROWS = [(row, name) for row in ALL for name in row.recipes]


def test_the_table_covers_every_recipe() -> None:
    assert {name for _, name in ROWS} == set(recipes.__all__) - {"Recipe"}


@pytest.mark.parametrize(("row", "name"), ROWS, ids=[name for _, name in ROWS])
def test_recipe_keeps_what_it_claims(row: Any, name: str) -> None:
    recipe: Recipe = getattr(recipes, name)()
    names = axioms.claimed(row.axioms, name)
    assert any(n.startswith("unknown_policy") for n in names), f"{name} declares nothing about unknown values"
    for seed in SEEDS:
        verdicts = axioms.check(recipe, specimen(seed), names)
        broken = {axiom: verdict.why for axiom, verdict in verdicts.items() if not verdict.holds}
        assert broken == {}, f"{name} on specimen {seed}"


def test_claims_name_recipes_of_their_row() -> None:
    for row in ALL:
        for name in row.axioms:
            head, _, tail = name.rpartition(": ")
            assert axioms.named(tail).name == tail and (not head or head in row.recipes), f"{row.name}: {name}"


# ------------------------------------------------------------------------------------------- violations are caught


def _recipe(*nodes: Node) -> Recipe:
    return Recipe("planted", chain(*nodes, spread("token")), clipped())


def _place_in_file(batch: Batch, x: Credit) -> Tensor:
    return x.values + torch.arange(len(x))


def _looks_everywhere(batch: Batch, x: Credit) -> Tensor:
    return x.values - x.values.max()


def _divides(batch: Batch, x: Credit) -> Tensor:
    return x.values / torch.zeros_like(x.values)


def _says_all_known(credit: Credit, batch: Batch) -> Credit:
    return replace(credit, known=torch.ones_like(credit.known), values=torch.where(credit.known, credit.values, 0.0))


def guess() -> Stage:
    return stage(guess, _says_all_known, same_level, {})


T = read("turn_reward")
Z = zscore(task)

PLANTED: list[tuple[axioms.Axiom, Recipe, str]] = [
    (axioms.finite, _recipe(apply(_divides, T)), "is (nan|inf)"),
    (axioms.permutation_equivariant, _recipe(apply(_place_in_file, read("outcome"))), "changes by"),
    (axioms.unknown_stays_unknown, _recipe(T, guess()), r"guess\(\) makes turn \d+ of trajectory '\d' known"),
    (axioms.ignores_unknown_values, _recipe(apply(_looks_everywhere, T)), "changes by"),
    (axioms.independent_of_other_tasks, _recipe(read("outcome"), zscore(everything)), "changes by"),
    (axioms.zero_on_constant_outcome, _recipe(read("outcome")), "has 0.1"),
    (axioms.zero_mean(task), _recipe(read("outcome")), "has mean"),
    (axioms.translation_invariant("outcome"), _recipe(read("outcome")), "changes by"),
    (axioms.scale_invariant("outcome"), _recipe(read("outcome")), "changes by"),
    (axioms.conserves("outcome"), _recipe(read("outcome"), spread("turn")), "misses its sum by"),
    (axioms.causal("match_turn_reward"), _recipe(read("match_turn_reward"), difference(0.0)), "changes by"),
    (axioms.unknown_policy("turn_reward", "unknown"), _recipe(T, fill(0.0)), "without turn_reward got 0.0"),
    (axioms.unknown_policy("gold_logprob", "next"), _recipe(delta("gold_logprob", 0.0)), "got None"),
    (axioms.unknown_policy("gold_logprob", "known"), _recipe(delta("gold_logprob", 0.0)), "got None"),
    (axioms.reduces_to(recipes.grpo(), axioms.states_met_once), recipes.rloo(), "changes by"),
]


def test_of_numbers_that_are_not_finite_nothing_else_is_asked() -> None:
    verdicts = axioms.check(_recipe(apply(_divides, T)), specimen(0), ("zero_mean(task)",))
    assert not any(v.holds for v in verdicts.values()) and verdicts["zero_mean(task)"].why == "not asked"
    assert "is " in verdicts["finite"].why and list(verdicts)[0] == "finite"


@pytest.mark.parametrize(("axiom", "recipe", "why"), PLANTED, ids=[axiom.name for axiom, _, _ in PLANTED])
def test_a_planted_violation_is_caught(axiom: axioms.Axiom, recipe: Recipe, why: str) -> None:
    verdicts = [axiom.check(recipe, specimen(seed)) for seed in SEEDS]
    broken = [verdict for verdict in verdicts if not verdict.holds]
    assert broken
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(broken[0].why)


KEPT: list[tuple[axioms.Axiom, Recipe]] = [
    (axioms.conserves("outcome"), _recipe(read("outcome"), share("gold_logprob"))),
    (axioms.conserves("outcome"), _recipe(read("outcome"), share("gold_logprob", temperature=0.1))),
    (axioms.causal("match_turn_reward"), _recipe(read("match_turn_reward"), reward_to_go(), zscore(task_and_turn))),
    (axioms.reduces_to(recipes.grpo_released(), axioms.states_met_once), recipes.gigpo()),
    (axioms.translation_invariant("gold_logprob", "gold_logprob_start"), recipes.igpo_released()),
    (
        axioms.unknown_policy("gold_logprob", "next"),
        _recipe(delta("gold_logprob", 0.0), Z, reward_to_go(), fill("next")),
    ),
    (axioms.unknown_policy("turn_reward", "known"), _recipe(mix(T, read("state"), unknown="skip"))),
]


@pytest.mark.parametrize(("axiom", "recipe"), KEPT, ids=[axiom.name for axiom, _ in KEPT])
def test_what_holds_is_found_to_hold(axiom: axioms.Axiom, recipe: Recipe) -> None:
    assert [axiom.check(recipe, specimen(seed)).why for seed in SEEDS] == [""] * len(SEEDS)


def test_axioms_without_tokens_and_unknown_names() -> None:
    b = specimen(0)
    bare = Batch.of_maps(b.turn_trajectory, b.trajectory_group.tolist())
    for name, c in b.columns.items():
        if c.level != "token":
            bare = bare.with_column(name, c.level, c.values, c.known)
    verdicts = axioms.check(recipes.gigpo(), bare, ("independent_of_other_tasks",))
    assert len(verdicts) == len(axioms.COMMON) + 1 and all(v.holds for v in verdicts.values())
    with pytest.raises(ValueError, match=r"no axiom 'beauty'; there are \['finite'"):
        axioms.check(recipes.grpo(), b, ("beauty",))
    for wrong in ("unknown_policy(outcome, perhaps)", "causal(a, b)", "scale_invariant(a, 3)", "causal", "finite()"):
        with pytest.raises(ValueError, match="no axiom"):
            axioms.named(wrong)
    assert all(axiom.says.endswith(".") and repr(axiom) == name for name, axiom in axioms.NAMED.items())
    assert last() == last()
