"""Traps of returns and credit: what a turn is, what time is, who is compared with whom, and what is unknown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from small_worlds import Bandit, gambler
from trap_worlds import Told, batch_of, message, played, quiet, story

from workbench import recipes
from workbench.batch import Batch
from workbench.compare import cause_of_collapse
from workbench.credit import center as centred
from workbench.credit import chain, gae, place, read, reward_to_go, spread, task, task_and_turn, zscore
from workbench.credit.normalise import ALONE
from workbench.evidence import Values
from workbench.measure import credited, kept
from workbench.measure import played as measured
from workbench.objective import clipped
from workbench.recipes import Recipe
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.trajectory import RecordError, Turn

LONG = [[-1.0], [-1.0] * 3, [-1.0] * 2]  # three turns of one, three and two tokens


# ------------------------------------------------------------------------------------------------ time and place


@pytest.mark.parametrize("gap", [1, 40])
def test_return_scan_is_not_reset_by_observations(gap: int) -> None:
    """What stands between two turns neither ends a return nor discounts it, whatever its length."""
    batch = batch_of(story("a", LONG, gap=gap, outcome=8.0), story("b", LONG[:1], gap=gap, outcome=0.0))
    turns = chain(read("outcome"), place("turn"), reward_to_go(0.5))(None, batch)
    assert turns.tolist() == [2.0, 4.0, 8.0, 0.0]
    tokens = chain(read("outcome"), place("token"), reward_to_go(0.5))(None, batch)
    assert tokens.tolist() == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 0.0]
    valued = batch.with_column("value", "token", [1.0] * 7)
    advantage = chain(read("outcome"), place("token"), gae(1.0, 1.0))(None, valued)
    assert advantage.tolist() == [7.0] * 6 + [-1.0]  # with gamma and lambda 1: the return minus the value


def test_return_steps_over_what_is_unknown() -> None:
    """A turn without a reward is no step of time, and ends nothing."""
    batch = batch_of(story("a", LONG, rewards=[1.0, None, 4.0]))
    got = chain(read("turn_reward"), reward_to_go(0.5))(None, batch)
    assert got.tolist() == [3.0, None, 4.0]
    valued = batch.with_column("value", "turn", [0.0, 0.0, 0.0])
    assert chain(read("turn_reward"), gae(0.5, 1.0))(None, valued).tolist() == [3.0, None, 4.0]


@pytest.mark.parametrize("level", ["turn", "token"])
def test_reward_on_a_masked_last_token(level: str) -> None:
    """The outcome arrives at the last turn that may be trained: without discounting, too, nothing of it is lost."""
    batch = batch_of(story("a", LONG, skip=[2], outcome=8.0), story("b", LONG, outcome=4.0))
    recipe = Recipe("last", chain(read("outcome"), place(level), reward_to_go(0.0), spread("token")), clipped())
    credit = recipe.credit(batch)
    share = (lambda n: [8.0] * n) if level == "turn" else (lambda n: [0.0] * (n - 1) + [8.0])
    assert credit.tolist()[:6] == [0.0, *share(3), None, None]
    assert credit.values[credit.known].unique().tolist() == [0.0, 4.0, 8.0]


def test_turn_boundary_is_not_where_a_reward_is() -> None:
    """A turn that earns 0 is a turn: it has its own credit, and its place counts."""
    batch = batch_of(story("a", LONG, rewards=[0.0, 0.0, 1.0]), story("b", LONG, rewards=[0.0, 1.0, 0.0]))
    assert batch.count("turn") == 6 and bool(batch["turn_reward"].known.all())
    recipe = Recipe("own", chain(read("turn_reward"), spread("token")), clipped())
    assert recipe.credit(batch).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    later = chain(read("turn_reward"), reward_to_go(0.5))(None, batch)
    assert later.tolist() == [0.25, 0.5, 1.0, 0.5, 1.0, 0.0]


@pytest.mark.parametrize("make", [recipes.gigpo, recipes.matchtir], ids=lambda f: f.__name__)
def test_gamma_is_per_turn(make: Callable[..., Recipe]) -> None:
    """A long turn is one step of time: credit does not depend on how many tokens say it."""
    few, many = [[-1.0]] * 3, [[-1.0] * 7, [-1.0] * 2, [-1.0] * 5]
    rewards = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    found = []
    for lengths in (few, many):
        stories = [story(str(n), lengths, rewards=r, outcome=r[-1]) for n, r in enumerate(rewards)]
        batch = batch_of(*stories).with_column("match_turn_reward", "turn", sum(rewards, []))
        found.append(make(gamma=0.5).credit(batch, to="turn").tolist())
    assert found[0] == found[1]
    batch = batch_of(story("a", many, outcome=8.0))
    assert chain(read("outcome"), place("turn"), reward_to_go(0.5), spread("token"))(None, batch).tolist() == (
        [2.0] * 7 + [4.0] * 2 + [8.0] * 5
    )


# -------------------------------------------------------------------------------------------- who is compared


STOPS, GOES_WELL, GOES_BADLY = (0.0,), (-0.2, 1.0), (-0.2, 0.0)
CHANCE = {STOPS: 0.5, GOES_WELL: 0.25, GOES_BADLY: 0.25}


def push(credit: Callable[[Batch], torch.Tensor]) -> float:
    """Expected push of the first turn towards going on, over all groups of two episodes, exactly.

    Going on costs 0.2 and earns 1 half of the time: it is worth 0.3 more than stopping.
    """
    total = 0.0
    for pair in itertools.product(CHANCE, repeat=2):
        stories = [
            story(str(n), [[-1.0]] * len(rewards), rewards=rewards, outcome=sum(rewards))
            for n, rewards in enumerate(pair)
        ]
        batch = batch_of(*stories).with_column("match_turn_reward", "turn", [r for one in pair for r in one])
        first = credit(batch)[batch.turn_index == 0]
        signs = [-1.0 if rewards == STOPS else 1.0 for rewards in pair]
        total += math.prod(CHANCE[r] for r in pair) * sum(s * c for s, c in zip(signs, first.tolist(), strict=True))
    return total


def test_baseline_per_turn_index_is_biased_by_stopping() -> None:
    """Centred before they are summed, later turns take their own mean from who goes on: stopping seems to pay.

    Returns first, then compared among turns that have as many before them, is right.
    """
    centre = centred(task_and_turn, leave_one_out=True, singleton="keep")
    assert push(lambda b: chain(read("turn_reward"), reward_to_go(1.0), centre)(None, b).values) == pytest.approx(
        push(lambda b: chain(read("turn_reward"), reward_to_go(1.0))(None, b).values), abs=1e-12
    )
    biased = centred(task_and_turn)
    assert push(lambda b: chain(read("turn_reward"), biased, reward_to_go(1.0))(None, b).values) < 0
    for recipe in (recipes.gigpo(gamma=1.0, norm="mean"), recipes.matchtir(gamma=1.0)):
        turn_part = recipe.chain.stages[0].branches[1]  # type: ignore[attr-defined]
        assert push(lambda b, part=turn_part: part(None, b).values) > 0, recipe.name


def test_long_episodes_count_once_in_the_statistics_of_a_group() -> None:
    """Mean and spread are over episodes, not over their turns; and in the loss an episode weighs as an episode."""
    batch = batch_of(
        story("a", [[-1.0]] * 9, outcome=1.0), story("b", LONG, outcome=0.0), story("c", LONG, outcome=0.5)
    )
    for recipe in (recipes.grpo(kl=0), recipes.gigpo(turn_weight=0.0, reward=None)):
        a, b, c = (recipe.credit(batch, to="turn").values[i].item() for i in (0, 9, 12))
        assert (a, b, c) == pytest.approx((1.0, -1.0, 0.0), abs=1e-5), recipe.name
    weights = recipes.grpo(kl=0).objective.weights(batch, recipes.grpo(kl=0).credit(batch))["policy"]
    owner = batch.up("token", "trajectory")
    assert [weights[owner == n].sum().item() for n in range(3)] == pytest.approx([1 / 3] * 3)


def test_broadcast_of_a_masked_vector() -> None:
    """An episode's number goes to each of its turns by that turn's own mask, not by the mask of the last one."""
    stories = [story("a", LONG, skip=[2]), story("b", LONG, skip=[0], outcome=0.0)]
    credit = recipes.grpo(kl=0).credit(batch_of(*stories))
    z = math.sqrt(0.5)
    assert credit.known.tolist() == [True] * 4 + [False] * 3 + [True] * 5
    assert credit.values[credit.known].tolist() == pytest.approx([z] * 4 + [-z] * 5, abs=1e-5)


def test_group_key_is_the_task() -> None:
    """Two tasks may ask the same words; one task has one group; a group of one is said, and teaches nothing."""
    _, rollouts = played(pulls=2, tasks=3, size=4)
    assert [len(group) for group in rollouts.groups] == [4, 4, 4]
    assert len({t.extra["question"] for t in rollouts}) == 1
    env = Bandit()
    with pytest.raises(ValueError, match="occurs twice; raise `size`"):
        play(gambler(), env, env.tasks("train", 1) * 2, size=2, progress=quiet)
    mixed = batch_of(*(story(f"{g}{o}", LONG, group=g, outcome=o) for g, o in (("x", 1.0), ("x", 0.0), ("y", 1.0))))
    credit = recipes.grpo(kl=0).credit(mixed, to="trajectory")
    assert credit.values[2] == 0.0 and credit.values[0] > 0.5
    assert cause_of_collapse(mixed) == ["varied", "single survivor"]
    assert recipes.rloo("drop").credit(mixed).counts()[ALONE] == 6
    assert recipes.rloo("keep").credit(mixed, to="trajectory").values[2] == 1.0  # only where it is asked for


def test_groups_without_spread() -> None:
    """Equal outcomes give exactly 0, not rounding noise; the KL of such a group still counts; the spread is n - 1."""
    equal = batch_of(*(story(str(n), LONG, outcome=0.1) for n in range(3)))
    for recipe in (recipes.grpo(kl=0, eps=1e-20), recipes.grpo(kl=0, ddof=0, eps=0.0), recipes.rloo()):
        credit = recipe.credit(equal)
        assert bool(credit.known.all()) and not bool(credit.values.any()), recipe.name
    kl = recipes.grpo().objective.weights(equal, recipes.grpo(kl=0).credit(equal))["kl"]
    assert kl.sum().item() == pytest.approx(1.0)
    assert not bool(recipes.dapo().credit(equal).known.any())
    almost = batch_of(*(story(str(n), LONG, outcome=x) for n, x in enumerate((0.3, 0.1 + 0.2, 0.3, 0.3))))
    assert recipes.grpo(kl=0).credit(almost).values.abs().max() < 1e-9  # a difference of rounding is no advantage
    assert not bool(chain(read("outcome"), zscore(task, least=1e-6))(None, almost).values.abs().max() > 1e-9)
    eight = batch_of(*(story(str(n), LONG, outcome=float(n < 4)) for n in range(8)))
    sample, population = (recipes.grpo(kl=0, ddof=d).credit(eight).values[0].item() for d in (1, 0))
    assert (sample, population) == pytest.approx((0.5 / math.sqrt(8 / 7 / 4), 1.0), abs=1e-5)
    assert recipes.grpo(kl=0).credit(eight).values[0].item() == sample


def test_variance_of_shaping_only() -> None:
    """A group that failed throughout has failed, however its other rewards differ: filters look at outcomes."""
    lengths = ([[-1.0] * 2], [[-1.0] * 9], [[-1.0] * 5])
    batch = batch_of(*(story(str(n), s, outcome=0.0, rewards=[0.1 * n]) for n, s in enumerate(lengths)))
    assert cause_of_collapse(batch) == ["all failed"]
    shaped = recipes.dapo(max_length=8, cache=8)  # its penalty differs between these three
    credit = shaped.credit(batch)
    assert not bool(credit.known.any()) and not bool(kept(batch, credit).any())
    assert credit.counts()["all outcomes of the group equal"] == 16
    row = credited(batch, credit)
    assert (row["groups_dropped"], row["shaping_only"], row["shaping_only_causes"]) == (1, 0.0, {})
    row = credited(
        batch, Recipe("shaped", chain(read("turn_reward"), centred(task), spread("token")), clipped()).credit(batch)
    )
    assert (row["dead_groups"], row["shaping_only"], row["shaping_only_causes"]) == (0.0, 1.0, {"all failed": 1})


# ------------------------------------------------------------------------------------------------ what is unknown


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rewards_that_are_not_finite(bad: float) -> None:
    """They are refused where they come in; a world that gives one spoils its own episode only."""
    with pytest.raises(RecordError, match="expected a finite number or None"):
        story("a", LONG, outcome=bad)
    with pytest.raises(RecordError, match="expected a finite number or None"):
        story("a", LONG, rewards=[0.0, bad, 0.0])
    good = batch_of(story("a", LONG))
    with pytest.raises(ValueError, match="give known=False where a value is unknown"):
        good.with_column("judged", "turn", [0.0, bad, 0.0])
    hidden = good.with_column("outcome", "trajectory", torch.tensor([bad]), [False])
    assert not bool(recipes.reinforce().credit(hidden).known.any())
    env = Told((bad,))
    t, other = (play(gambler(), e, e.tasks("train", 1), size=1, progress=quiet)[0] for e in (env, Bandit()))
    assert t.outcome is None and t.stop_reason.startswith("error") and not t.turns[-1].trainable
    assert other.outcome is not None


def test_rewards_that_are_missing() -> None:
    """Unknown outcomes are in no mean; one survivor has nobody to be compared with, and that is said."""
    outcomes = [1.0, 0.0, None, None]
    batch = batch_of(*(story(str(n), LONG[:1], outcome=x) for n, x in enumerate(outcomes)))
    z = 0.5 / (math.sqrt(0.5) + 1e-6)
    assert recipes.grpo(kl=0).credit(batch).tolist() == [pytest.approx(z), pytest.approx(-z), None, None]
    row = measured_outcome(outcomes)
    assert (row["outcome"], row["outcome_n"]) == (0.5, 2)
    lone = batch_of(*(story(str(n), LONG[:1], outcome=x) for n, x in enumerate([1.0, None, None])))
    assert recipes.grpo(kl=0).credit(lone).tolist() == [0.0, None, None]
    assert recipes.grpo_released().credit(lone).tolist() == [pytest.approx(1.0, abs=1e-5), None, None]  # on request
    assert cause_of_collapse(lone) == ["single survivor"]


def measured_outcome(outcomes: list[float | None]) -> dict[str, object]:
    return measured(Rollouts(tuple(story(str(n), LONG[:1], outcome=x) for n, x in enumerate(outcomes))))


def test_unknown_is_not_zero() -> None:
    """Credit 0 is an opinion and counts in the loss; unknown is none and does not, and both are told apart."""
    batch = batch_of(story("a", LONG, rewards=[0.0, None, 1.0]))
    assert batch["turn_reward"].known.tolist() == [True, False, True]
    recipe = Recipe("own", chain(read("turn_reward"), spread("token")), clipped())
    credit = recipe.credit(batch)
    assert credit.tolist() == [0.0, None, None, None, 1.0, 1.0]
    assert credit.counts() == {"known": 3, "zero": 1, "unknown": 3}
    assert recipe.objective.weights(batch, credit)["policy"].tolist() == pytest.approx([1 / 3, 0, 0, 0, 1 / 3, 1 / 3])
    row = credited(batch, credit)
    assert (row["tokens_known"], row["tokens_unknown"]) == (3, 3)
    assert Values.of([0.0, None]).known.tolist() == [True, False]
    assert Turn(message("a", "assistant", "x")).reward is None
