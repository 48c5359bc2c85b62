"""Bad input to every recipe: missing and unknown columns, a group of one, a rollout without turns. No silent zero."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import torch
from recipe_columns import level_of

from workbench import axioms, catalogue, recipes
from workbench.batch import Batch
from workbench.compare import cause_of_collapse
from workbench.measure import living
from workbench.recipes import Recipe

NAMES = [name for name in recipes.__all__ if name != "Recipe"]
FLAGS = {"answer_cluster", "state", "bad_format", "try_valid", "try_correct", "try_repeated", "try_broken"}


def recipe_of(name: str) -> Recipe:
    made = getattr(recipes, name)()
    assert isinstance(made, Recipe)
    return made


def filled(
    recipe: Recipe, owner: Sequence[int], groups: Sequence[str], hidden: Sequence[str] = (), seed: int = 0
) -> Batch:
    """Two tokens a turn and every column the credit reads; those hidden are there and known for nobody."""
    batch = Batch.of_maps(owner, groups, [k for k in range(len(owner)) for _ in range(2)])
    draw = torch.Generator().manual_seed(seed)
    for name in recipe.chain.needs:
        level = level_of(name, recipe)
        n = batch.count(level)
        values = torch.rand(n, generator=draw).double()
        if name in FLAGS:
            values = torch.randint(0, 2, (n,), generator=draw)
        values = torch.zeros(n) if name == "truncated" else values
        values = torch.arange(n) if name == "state" and len(groups) == 1 else values  # nobody comes back
        batch = batch.with_column(name, level, values, torch.full((n,), name not in hidden))
    return batch


OWNER, GROUPS = [0, 0, 0, 1, 1, 2, 2, 2], ["a", "a", "a"]


@pytest.mark.parametrize("name", NAMES)
def test_all_missing_columns_are_named_at_once_with_what_to_do(name: str) -> None:
    recipe = recipe_of(name)
    with pytest.raises(ValueError, match="needs columns") as error:
        recipe.credit(Batch.of_maps([0, 1], ["a", "a"], [0, 1]).select([0, 1]))
    said = str(error.value)
    assert name in said and "evidence.collect" in said
    standard = ("outcome", "turn_reward", "state", "truncated", "logprob_old")  # of every set of rollouts
    assert all(f"'{column}'" in said for column in recipe.chain.needs if column not in standard)


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_is_known_there_is_no_credit(name: str) -> None:
    recipe = recipe_of(name)
    credit = recipe.credit(filled(recipe, OWNER, GROUPS, recipe.chain.needs))
    assert not bool(credit.known.any()), f"{name} gives {credit.tolist()} to tokens of which nothing is known"


GOLD = ("gold_logprob", "gold_logprob_start")
DO_WITHOUT: dict[str, tuple[str, ...]] = {
    "a2tgpo": GOLD,  # the outcome's term is left
    "a2tgpo_released": GOLD,
    "artist": ("tool_success",),  # no calls: its term is 0 and said to be
    "dr_venus": (*GOLD, "bad_format", "outcome"),  # gains without an outcome, the outcome without gains
    "gigpo": ("state",),  # alone in its state
    "gigpo_released": ("state",),
    "grpo_vps": ("segment_gold_logprob_start",),  # later pieces
    "igpo": (*GOLD, "outcome"),
    "igpo_released": (*GOLD, "outcome"),
    "mapo": ("state_distance_start",),  # later turns
    "mini_o3": ("truncated",),  # nobody was cut off
    "mini_o3_released": ("truncated",),
    "mt_grpo": ("turn_reward",),  # the answer, for the outcome
    "mt_grpo_released": ("turn_reward",),  # what is unknown counts as 0
    "potential_shaping": GOLD,  # turns that have a known one before them
    "rudder": ("return_pred_start", "outcome"),
    "siop": ("cluster_prob", "cluster_prob_start", "cluster_support"),  # the end of the reward; no support counts as 0
    "siop_released": ("cluster_prob", "cluster_prob_start", "cluster_support"),
}
"""Columns without which a recipe still has credit for some turns. One that is not here says so in its catalogue row, by
`unknown_policy(COLUMN, known)` or `next`."""


def declared(name: str) -> tuple[str, ...]:
    """Columns that a recipe's row says it can do without."""
    row = next(row for row in catalogue.ALL if name in row.recipes)
    says = [re.fullmatch(r"unknown_policy\((\w+), (known|next)\)", one) for one in axioms.claimed(row.axioms, name)]
    return tuple(found.group(1) for found in says if found)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_recipe_can_do_without_is_on_the_list(name: str) -> None:
    recipe = recipe_of(name)
    able = []
    for column in recipe.chain.needs:
        credit = recipe.credit(filled(recipe, OWNER, GROUPS, [column]))
        assert bool(torch.isfinite(credit.values[credit.known]).all())
        able += [column] if bool(credit.known.any()) else []
    if name in DO_WITHOUT:
        assert sorted(able) == sorted(DO_WITHOUT[name])
    assert set(able) <= {*DO_WITHOUT.get(name, ()), *declared(name)}, f"{name}: say so in its row, or give no credit"


LONE: dict[str, str] = dict.fromkeys(("dapo", "vpr_states"), "unknown") | dict.fromkeys(
    (
        *("artist", "artist_calls", "dr_grpo", "grpo", "progress_share", "rloo", "igpo_released", "igpo_released_2025"),
        *("a2tgpo", "a2tgpo_released", "dr_venus", "gigpo_released", "potential_shaping", "mt_grpo"),
        "mt_grpo_released",
    ),
    "zero",
)
"""What a rollout alone in its task gets, where its recipe compares rollouts; the others have something of its own."""


@pytest.mark.parametrize("name", NAMES)
def test_a_group_of_one_is_credited_or_counted_as_dead(name: str) -> None:
    """Whatever a recipe makes of a lone rollout, all zeros or nothing at all are told by the probe of collapse."""
    recipe = recipe_of(name)
    batch = filled(recipe, [0, 0], ["alone"])
    credit = recipe.credit(batch)
    assert bool(torch.isfinite(credit.values[credit.known]).all())
    counts = credit.counts()
    kind = "unknown" if not counts["known"] else "zero" if counts["zero"] == counts["known"] else "own"
    assert living(batch, credit).tolist() == [kind == "own"]
    assert kind == "unknown" or bool(credit.known.all())
    if name in LONE:
        assert kind == LONE[name]
    if "outcome" in recipe.chain.needs:
        assert cause_of_collapse(batch) == ["single survivor"]


@pytest.mark.parametrize("name", NAMES)
def test_a_rollout_without_a_turn_disturbs_nobody(name: str) -> None:
    """It broke before its first turn: it is in the group, has no token to train, and every other credit is a number."""
    recipe = recipe_of(name)
    credit = recipe.credit(filled(recipe, [0, 0, 2, 2, 2], ["a", "a", "a"]))
    assert len(credit) == 10 and bool(torch.isfinite(credit.values[credit.known]).all())


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_is_no_error(name: str) -> None:
    recipe = recipe_of(name)
    assert len(recipe.credit(filled(recipe, [], []))) == 0


@pytest.mark.parametrize(
    ("made", "columns", "said"),
    [
        # log(p + 0) of a belief of 0; a belief below 0; a parameter that is no number
        ({"eps": 0.0}, {}, r"siop: .*trajectory '1', turn 3 is (nan|-?inf) after difference\('cluster_prob_start'"),
        ({}, {"cluster_prob": [0.5] * 3 + [-0.3] + [0.5] * 4}, r"trajectory '1', turn 3 is nan after difference"),
        ({"gamma": float("nan")}, {}, r"trajectory '0', turn 0 is nan after reward_to_go\(nan\)"),
    ],
)
def test_a_credit_that_is_no_number_is_an_error_that_says_where_it_began(
    made: dict[str, float], columns: dict[str, list[float]], said: str
) -> None:
    recipe = recipes.siop(**made)  # type: ignore[arg-type]
    batch = filled(recipe, OWNER, GROUPS)
    beliefs = {"cluster_prob": [0.5] * 3 + [0.0] + [0.5] * 4} | columns
    for name, values in beliefs.items():
        batch = batch.with_column(name, "turn", values)
    for ask in (lambda: recipe.credit(batch), lambda: recipe.credit(batch, to="turn"), lambda: recipe.credits(batch)):
        with pytest.raises(ValueError, match=said):
            ask()
