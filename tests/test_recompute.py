"""Knobs of recipes: a turned recipe is the recipe made with that parameter; a remembered step is a computed one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from workbench import recipes
from workbench.batch import Batch
from workbench.credit import chain, linear, peers, read, reward_to_go, spread
from workbench.recipes import Recipe
from workbench.recompute import KNOBS, Edit, Memory, edited, knobs, recompute, turned
from workbench.segments import backward_scan


@pytest.fixture
def batch() -> Batch:
    lengths = torch.tensor([3, 1, 4, 2, 2, 5, 1, 3])
    turns, n = int(lengths.sum()), len(lengths)
    random = torch.Generator().manual_seed(3)
    made = Batch.of_maps(torch.arange(n).repeat_interleave(lengths), torch.arange(n) // 4, torch.arange(turns))
    made = made.with_column("outcome", "trajectory", torch.tensor([1.0, 0, 0, 1, 0, 0, 1, 0]))
    for name in ("turn_reward", "match_turn_reward"):
        made = made.with_column(name, "turn", torch.rand(turns, generator=random).double())
    made = made.with_column("state", "turn", torch.arange(turns) % 3)
    gold = -torch.rand(turns, generator=random).double()
    made = made.with_column("gold_logprob", "turn", gold, torch.arange(turns) != 4)
    return made.with_column("gold_logprob_start", "trajectory", torch.full((n,), -2.0).double())


METHODS = [recipes.grpo(), recipes.gigpo(), recipes.matchtir(), recipes.igpo(), recipes.a2tgpo(), recipes.rloo()]


@pytest.mark.parametrize(
    ("one", "settings", "other"),
    [
        (recipes.gigpo(), {"gamma": 0.4}, recipes.gigpo(gamma=0.4)),
        (recipes.matchtir(), {"gamma": 0.1}, recipes.matchtir(gamma=0.1)),
        (recipes.igpo(), {"gamma": 0.7}, recipes.igpo(gamma=0.7)),
        (recipes.grpo(), {"ddof": 0}, recipes.grpo(ddof=0)),
        (recipes.rloo(), {"singleton": "drop"}, recipes.rloo(singleton="drop")),
        (recipes.grpo(), {"gamma": 0.3}, recipes.grpo()),
    ],
)
def test_turning_a_knob_makes_the_recipe_that_the_function_makes(one: Recipe, settings: dict, other: Recipe) -> None:
    got = turned(one, settings).chain
    assert got == other.chain
    assert repr(got) == repr(other.chain)


def test_clip_bounds_turns_and_tokens_alike(batch: Batch) -> None:
    recipe = turned(recipes.gigpo(), {"clip": 0.25})
    turns = recipe.credit(batch, "turn")
    assert turns.values.abs().max() == 0.25
    assert torch.equal(recipe.credit(batch, "token").values, turns.values[batch.token_turn])
    with pytest.raises(ValueError, match="above 0"):
        turned(recipes.gigpo(), {"clip": 0.0})


def test_a_schedule_is_no_slider(batch: Batch) -> None:
    signal = chain(read("turn_reward", "turn"), reward_to_go(linear(0.0, 1.0, 10)), spread("token"))
    recipe = Recipe("mine", signal, recipes.grpo().objective)
    assert "gamma" not in knobs(recipe)
    assert turned(recipe, {"gamma": 0.5}) is recipe


def test_unknown_knobs_are_named() -> None:
    with pytest.raises(KeyError, match=r"gama.*'gamma'"):
        turned(recipes.grpo(), {"gama": 0.5})


@pytest.mark.parametrize("recipe", METHODS, ids=lambda r: r.name)
def test_every_knob_a_recipe_has_moves_something_or_says_why_not(recipe: Recipe, batch: Batch) -> None:
    for knob in KNOBS:
        if knob.name not in knobs(recipe):
            continue
        for value in knob.choices.values() if knob.choices else (knob.low + knob.step, knob.high):
            got = recompute([recipe], Memory(batch), {knob.name: value})
            assert set(got.credits) | set(got.problems) == {recipe.name}
            assert all(problem for problem in got.problems.values())


def test_a_long_drag_gives_what_one_step_gives_and_forgets_the_rest(batch: Batch) -> None:
    memory, sizes = Memory(batch), []
    for gamma in torch.linspace(0, 1, 9).tolist():
        dragged = recompute(METHODS, memory, {"gamma": gamma})
        sizes.append(len(memory.done))
    fresh = recompute(METHODS, Memory(batch), {"gamma": 1.0})
    for name, credit in fresh.credits.items():
        assert torch.equal(dragged.credits[name].values, credit.values)
        assert torch.equal(dragged.credits[name].known, credit.known)
    assert sizes[-1] <= sizes[0]


def test_a_method_that_cannot_be_turned_so_leaves_the_others_alone(batch: Batch) -> None:
    got = recompute(METHODS, Memory(batch), {"peers": peers.task_and_turn})
    assert "grpo" in got.problems and "turns" in got.problems["grpo"]
    assert "matchtir" in {*got.credits, *got.problems} and "igpo" in got.credits


def test_an_edit_changes_one_unit_and_none_is_unknown(batch: Batch) -> None:
    after = edited(batch, [Edit("turn_reward", 0, 5.0), Edit("turn_reward", 1, None), Edit("turn_reward", 0, 9.0)])
    assert after["turn_reward"].values[0] == 9.0
    assert not after["turn_reward"].known[1]
    assert after["turn_reward"].provenance.provider == "given, edited"
    assert torch.equal(after["turn_reward"].values[2:], batch["turn_reward"].values[2:])
    assert batch["turn_reward"].known.all() and batch["turn_reward"].values[0] != 9.0
    moved = recompute([recipes.gigpo()], Memory(after)).credits["gigpo"]
    assert not torch.equal(moved.values, recipes.gigpo().credit(batch, "turn").values)


def test_an_edit_of_nothing_is_an_error(batch: Batch) -> None:
    with pytest.raises(KeyError, match="turn_rewrad"):
        edited(batch, [Edit("turn_rewrad", 0, 1.0)])
    with pytest.raises(IndexError, match="turn 99"):
        edited(batch, [Edit("turn_reward", 99, 1.0)])


def test_two_batches_do_not_share_peer_keys(batch: Batch) -> None:
    recipe = recipes.gigpo()
    first = recipe.credit(batch, "turn")
    other = batch.with_column("state", "turn", torch.zeros_like(batch["state"].values))
    assert not torch.equal(first.values, recipe.credit(other, "turn").values)
    assert torch.equal(first.values, recipe.credit(replace(batch), "turn").values)


def scan_by_loop(x: torch.Tensor, key: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """`y_k = x_k + factor_k * y_{k+1}`, one unit after the other."""
    y = x.tolist()
    for k in range(len(y) - 2, -1, -1):
        if key[k] == key[k + 1]:
            y[k] = y[k] + factor[k].item() * y[k + 1]
    return torch.tensor(y, dtype=x.dtype)


@pytest.mark.parametrize("lengths", [[4] * 6, [3, 1, 4, 2, 5, 1], [1], [40, 1, 1, 1, 1, 1], [7]], ids=str)
def test_a_scan_is_the_loop_to_the_last_bit_whatever_way_it_is_laid_out(lengths: list[int]) -> None:
    random = torch.Generator().manual_seed(1)
    key = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    x = torch.randn(len(key), generator=random).double().requires_grad_()
    one = torch.tensor(0.3, dtype=torch.float64)
    for factor in (torch.rand(len(key), generator=random).double(), torch.zeros_like(x), one.expand(len(key))):
        y = backward_scan(x, key, factor)
        assert torch.equal(y, scan_by_loop(x.detach(), key, factor))
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert torch.isfinite(gradient).all() and gradient[0] == 1
    assert len(backward_scan(x[:0], key[:0], x[:0])) == 0
