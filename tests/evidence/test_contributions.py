"""Shapley values, ablations and predicted returns: by hand, and on rollouts of the tiny policy."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch

from workbench import recipes
from workbench.envs.chain import Chain
from workbench.evidence import Cache, Meter, collect, for_recipe
from workbench.evidence.ablation import ObservationDrop, ReplayDrop, without
from workbench.evidence.base import run_sync
from workbench.evidence.coalitions import (
    ShapleyTurns,
    every_set,
    exact_shares,
    pieces,
    sampled_shares,
    sets_of,
    some_orders,
)
from workbench.evidence.predicted import ReturnPredictor, fit, folds_of, hashed_words
from workbench.policy import load
from workbench.policy.base import Policy, Settings
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Part, RecordError, Trajectory, Turn


@pytest.fixture(scope="module")
def player() -> Policy:
    return load("tiny")


@pytest.fixture(scope="module")
def rollouts(player: Policy) -> Rollouts:
    env = Chain()
    return play(player, env, env.tasks("train", 1), size=4, settings=Settings(max_new_tokens=32), gather_s=None)


# --------------------------------------------------------------------------------------------------------- shapley


def game(players: int, seed: int) -> dict[int, float]:
    draw = random.Random(seed)
    return {mask: draw.random() for mask in every_set(players)}


def test_exact_shares_are_the_mean_over_all_orders() -> None:
    for players in (1, 2, 4):
        worth = game(players, players)
        orders = list(itertools.permutations(range(players)))
        mean = [
            sum(
                worth[m | 1 << i] - worth[m]
                for order in orders
                for m, one in zip(sets_of(order), order, strict=False)
                if one == i
            )
            / len(orders)
            for i in range(players)
        ]
        found = [share.value for share in exact_shares(players, worth)]
        assert found == pytest.approx(mean)
        assert sum(found) == pytest.approx(worth[(1 << players) - 1] - worth[0])  # efficiency
    assert exact_shares(0, {0: 0.3}) == []


def test_a_player_that_changes_nothing_gets_nothing_and_equals_share() -> None:
    worth = {mask: float(mask & 0b11 != 0) for mask in every_set(3)}  # 0 or 1 suffices, 2 is idle
    assert [share.value for share in exact_shares(3, worth)] == pytest.approx([0.5, 0.5, 0.0])


def test_sampled_shares_add_up_and_their_intervals_cover() -> None:
    players, covered = 6, 0
    worth = game(players, 0)
    true = [share.value for share in exact_shares(players, worth)]
    for seed in range(40):
        orders = some_orders(players, 24, seed)
        found = sampled_shares(orders, worth)
        assert sum(share.value for share in found) == pytest.approx(worth[63] - worth[0])
        covered += sum(abs(share.value - t) <= share.error for share, t in zip(found, true, strict=True))
    assert covered / (40 * players) > 0.85  # 12 pairs: a normal interval covers a little less than 95 %
    assert some_orders(5, 8, 3) == some_orders(5, 8, 3) != some_orders(5, 8, 4)


def test_shapley_of_real_rollouts_is_efficient(player: Policy, rollouts: Rollouts) -> None:
    probe = ShapleyTurns(player)
    batch = collect(rollouts, [probe], cache=Cache()).batch()
    for number, t in enumerate(rollouts):
        parts = pieces(t)
        assert parts is not None
        lead, turns = parts
        ids, (start, stop) = probe.probe.answers(t)[0]
        ends = []
        for seen in (lead, (*lead, *(i for turn in turns for i in turn))):
            with torch.inference_mode():
                logits = player.engine.model(torch.tensor([[*seen, *ids]])).logits[0].float()  # type: ignore[attr-defined]
            logprobs = torch.log_softmax(logits, -1)
            ends.append(sum(float(logprobs[len(seen) + i - 1, ids[i]]) for i in range(start, stop)) / (stop - start))
        own = batch.turn_trajectory == number
        values, known = batch["shapley"].values[own], batch["shapley"].known[own]
        assert known.tolist() == [True] * (len(t.turns) - 1) + [False]
        assert float(values[known].sum()) == pytest.approx(math.exp(ends[1]) - math.exp(ends[0]), abs=1e-4)


def test_many_turns_are_sampled_with_intervals(player: Policy, rollouts: Rollouts) -> None:
    exact = collect(rollouts, [ShapleyTurns(player)], cache=Cache()).batch()
    sampled = collect(rollouts, [ShapleyTurns(player, exact=0, orders=8)], cache=Cache()).batch()
    known = exact["shapley"].known
    assert bool((exact["shapley_error"].values[known] == 0).all())
    assert bool((sampled["shapley_error"].values[known] > 0).any())
    owner, n = exact.turn_trajectory[known], exact.count("trajectory")
    sums = [torch.zeros(n).double().index_add_(0, owner, b["shapley"].values[known]) for b in (exact, sampled)]
    assert torch.allclose(*sums, atol=1e-4)
    again = collect(rollouts, [ShapleyTurns(player, exact=0, orders=8)], cache=Cache()).batch()
    assert torch.equal(again["shapley"].values, sampled["shapley"].values)


def test_what_coalitions_are_worth_can_be_asked_for(player: Policy, rollouts: Rollouts) -> None:
    probe = ShapleyTurns(player)
    t = max(rollouts, key=lambda one: len(one.turns))
    n = len(t.turns) - 1
    worth = probe.worths(t)
    assert list(worth) == every_set(n)
    batch = collect(Rollouts((t,)), [probe], cache=Cache()).batch()
    assert [one.value for one in exact_shares(n, worth)] == pytest.approx(
        batch["shapley"].values[:n].tolist(), abs=1e-5
    )
    ends, meter = [0, (1 << n) - 1], Meter()
    assert probe.worths(t, ends, meter) == pytest.approx({mask: worth[mask] for mask in ends}, abs=1e-5)
    assert meter.calls == 2 and meter.tokens > 0
    with pytest.raises(RecordError, match="no coalition of its turns can be scored"):
        probe.worths(replace(t, gold={}))


@pytest.mark.parametrize("wrong", [{"exact": 20}, {"orders": 3}, {"orders": 2}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int], player: Policy) -> None:
    with pytest.raises(ValueError, match="expected exact in"):
        ShapleyTurns(player, **wrong)


# -------------------------------------------------------------------------------------------------------- ablation


def test_the_drop_is_two_forward_passes(player: Policy, rollouts: Rollouts) -> None:
    t = max(rollouts, key=lambda one: len(one.turns))
    batch = collect(Rollouts((t,)), [ObservationDrop(player)], cache=Cache()).batch()
    sums = []
    for turn in (None, 1):
        row = without(t, turn)
        assert row is not None
        ids, (start, stop) = row
        with torch.inference_mode():
            logprobs = torch.log_softmax(player.engine.model(torch.tensor([list(ids)])).logits[0].float(), -1)  # type: ignore[attr-defined]
        sums.append(sum(float(logprobs[i - 1, ids[i]]) for i in range(start, stop)))
    assert float(batch["ablation_drop"].values[1]) == pytest.approx(sums[0] - sums[1], abs=1e-3)
    assert not bool(batch["ablation_drop"].known[-1])
    missing = [len(s) for s in t.sequences[0].spans if s.turn == 1 and s.origin == "observation"]
    whole, cut = without(t, None), without(t, 1)
    assert whole is not None and cut is not None and len(whole[0]) - len(cut[0]) == sum(missing) > 0


def test_replayed_without_a_turn(rollouts: Rollouts) -> None:
    batch = collect(rollouts, [ReplayDrop(Chain())], cache=Cache()).batch()
    ends = batch.last("turn", "trajectory")
    known = batch["ablation_drop"].known
    assert not bool(known[ends].any())  # without the answer the episode does not end
    answered = torch.tensor([not t.truncated for t in rollouts])[batch.turn_trajectory]
    inner = torch.ones(len(known), dtype=torch.bool)
    inner[ends] = False
    assert bool(known[inner & answered].all())
    assert bool((batch["ablation_drop"].values[known] == 0).all())  # looking something up changes nothing there


def test_a_world_that_does_not_come_back_is_an_error(rollouts: Rollouts) -> None:
    told = [replace(t, outcome=1.0 - (t.outcome or 0.0), truncated=False) for t in rollouts]
    with pytest.raises(RecordError, match="is it the same world"):
        collect(Rollouts(tuple(told)), [ReplayDrop(Chain())], cache=Cache())


# ------------------------------------------------------------------------------------------------------ prediction


def test_a_predictor_finds_the_turn_that_decides() -> None:
    """Outcome 1 if the word "key" was found; it may come at any turn."""
    draw, rows, outcomes, places = random.Random(0), [], [], []
    for _ in range(48):
        words = [draw.choice(["red", "blue", "green"]) for _ in range(4)]
        place = draw.choice([None, 0, 1, 2, 3])
        if place is not None:
            words[place] = "key"
        said = [Turn(Message(str(i), "assistant", (Part("text", word),))) for i, word in enumerate(words)]
        rows.append(torch.stack([hashed_words(turn, 16) for turn in said]))
        outcomes.append(float(place is not None))
        places.append(place)
    model = fit(rows, outcomes, 8, 200, 0)
    with torch.inference_mode():
        found = model(torch.stack(rows))
    hits = [int((row[1:] - row[:-1]).argmax()) == place for row, place in zip(found, places, strict=True) if place]
    assert sum(hits) / len(hits) > 0.9
    assert torch.equal(found, fit(rows, outcomes, 8, 200, 0)(torch.stack(rows)).detach())


def test_predictions_of_real_rollouts_telescope(rollouts: Rollouts) -> None:
    recipe = recipes.rudder()
    found = collect(rollouts, for_recipe(recipe, rollouts), cache=Cache())
    batch = found.batch()
    credit = recipe.credit(batch, to="turn")
    sums = torch.zeros(len(rollouts)).double().index_add_(0, batch.turn_trajectory, credit.values)
    assert bool(credit.known.all())
    expected = batch["outcome"].values - batch["return_pred_start"].values
    assert torch.allclose(sums, expected.double(), atol=1e-6)
    assert batch["return_pred"].provenance.model != ""


def test_a_predictor_that_was_fitted_stays_and_one_without_outcomes_is_refused(rollouts: Rollouts) -> None:
    first = ReturnPredictor(steps=5).fit(rollouts)
    before = first.model
    collect(rollouts[:2], [first], cache=Cache())
    assert first.model == before
    unknown = Rollouts(tuple(replace(t, outcome=None) for t in rollouts))
    with pytest.raises(RecordError, match="no rollout with turns has a known outcome"):
        collect(unknown, [ReturnPredictor()], cache=Cache())


def keys(questions: int, size: int = 2) -> Rollouts:
    """Stories of four turns: the outcome is 1 if the word "key" was found, at whichever turn."""
    draw, made = random.Random(0), []
    for q in range(questions):
        for i in range(size):
            said = [draw.choice(["red", "blue", "green"]) for _ in range(4)]
            place = draw.choice([None, 0, 1, 2, 3])
            if place is not None:
                said[place] = "key"
            turns = [Turn(Message(f"{q}.{i}.{k}", "assistant", (Part("text", word),))) for k, word in enumerate(said)]
            made.append(Trajectory(f"{q}/{i}", f"q{q}", turns=tuple(turns), outcome=float(place is not None)))
    return Rollouts(tuple(made))


def with_outcomes(rollouts: Rollouts, group: str, outcome: float | None) -> Rollouts:
    return Rollouts(tuple(replace(t, outcome=outcome) if t.group == group else t for t in rollouts))


def test_folds_cut_no_question_in_two_and_are_of_equal_size() -> None:
    rollouts = keys(11)
    folds = folds_of(rollouts, 4, 0)
    assert set(folds) == {f"q{q}" for q in range(11)}
    assert sorted(Counter(folds.values()).values()) == [2, 3, 3, 3]
    backwards = Rollouts(tuple(reversed(sorted(rollouts, key=lambda t: (t.group, -int(t.id[-1]))))))
    assert folds_of(backwards, 4, 0) == folds != folds_of(rollouts, 4, 1)
    assert folds_of(with_outcomes(rollouts, "q3", 0.5), 4, 0) == folds  # who is left out does not hang on how it ended
    twin = Rollouts((*rollouts, *(replace(t, id=f"again/{t.id}", group="twin") for t in rollouts if t.group == "q5")))
    found = folds_of(twin, 11, 0)
    assert found["twin"] == found["q5"]  # else the network that credits the one would know the other


def test_a_cross_fitted_prediction_does_not_know_the_outcomes_of_its_question() -> None:
    rollouts = keys(8)
    other = with_outcomes(rollouts, "q3", 1.0 - (rollouts["3/0"].outcome or 0.0))
    for folds, the_same in ((4, True), (0, False)):
        both = [collect(r, [ReturnPredictor(steps=20, folds=folds)], cache=Cache()).batch() for r in (rollouts, other)]
        own = both[0].turn_trajectory // 2 == 3
        one, two = (b["return_pred"].values for b in both)
        assert torch.equal(one[own], two[own]) is the_same
        assert not torch.equal(one[~own], two[~own])  # the others' do
    assert both[0]["return_pred"].provenance.sees == ("group", "future") and ReturnPredictor(folds=2).sees == ()


def test_cross_fitted_it_finds_the_turn_that_decides_in_stories_it_was_not_fitted_to() -> None:
    rollouts = keys(24)
    batch = collect(rollouts, [ReturnPredictor(folds=3)], cache=Cache()).batch()
    credit = recipes.rudder(residual=False).credit(batch, to="turn").values.reshape(-1, 4)
    places = [[turn.action.text for turn in t.turns] for t in rollouts]
    hits = [int(c.argmax()) == said.index("key") for c, said in zip(credit, places, strict=True) if "key" in said]
    assert len(hits) > 30 and sum(hits) / len(hits) > 0.9


def test_folds_that_cannot_be_are_refused() -> None:
    rollouts = keys(3)
    with pytest.raises(RecordError, match=r"folds=4 needs as many questions with a known outcome, got 3 \(of 3 groups"):
        collect(rollouts, [ReturnPredictor(folds=4)], cache=Cache())
    with pytest.raises(RecordError, match="folds=3 .* got 2"):  # one that teaches nothing cannot be left out alone
        collect(with_outcomes(rollouts, "q1", None), [ReturnPredictor(folds=3)], cache=Cache())
    with pytest.raises(RecordError, match="got 1 .* take fewer folds"):
        collect(keys(1), [ReturnPredictor(folds=2)], cache=Cache())
    for folds in (1, -2):
        with pytest.raises(ValueError, match="expected folds of 0"):
            ReturnPredictor(folds=folds)
    with pytest.raises(ValueError, match="expected no folds"):
        ReturnPredictor(folds=2).fit(rollouts)
    with pytest.raises(ValueError, match="not fitted for group 'q0'"):
        run_sync(ReturnPredictor(folds=2).compute(rollouts.groups[0], Meter()))


def test_a_question_without_outcomes_is_predicted_by_what_the_others_taught() -> None:
    rollouts = with_outcomes(keys(6), "q2", None)
    batch = collect(rollouts, [ReturnPredictor(steps=5, folds=3)], cache=Cache()).batch()
    assert bool(batch["return_pred"].known.all()) and len(batch["return_pred"].provenance.model) == 16
    credit = recipes.rudder().credit(batch, to="turn")
    assert bool(credit.known.all())


@pytest.mark.parametrize(
    "recipe",
    [
        recipes.mt_grpo(reward="match_reward"),
        recipes.potential_shaping(),
        recipes.progress_share(),
        recipes.turn_ablation(),
        recipes.hindsight(),
        recipes.shapley(),
        recipes.rudder(),
    ],
    ids=lambda recipe: recipe.name,
)
def test_it_runs_on_a_real_policy(recipe: recipes.Recipe, player: Policy, rollouts: Rollouts) -> None:
    found = collect(rollouts, for_recipe(recipe, rollouts, policy=player), cache=Cache())
    credit = recipe.credit(found.batch(), to="turn")
    assert bool(credit.known.any()) and bool(torch.isfinite(credit.values[credit.known]).all())
    assert float(credit.values[credit.known].abs().max()) > 0
