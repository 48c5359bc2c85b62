"""Recipes with a signal a turn, against slow references and cases by hand: what the worked examples do not reach."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch

from workbench import recipes
from workbench.batch import Batch
from workbench.recipes import aem, dr_venus, grpo_released, grpo_vps, mapo, mini_o3, pbsd, spae, vpr_states, vpr_turns
from workbench.recipes.steps import entropy_segments, probe_scores, thought_ends
from workbench.recipes.venus import tool_gain
from workbench.recipes.weighed import entropy_weight, turn_entropy

Gains = list[list[float | None]]


# ---------------------------------------------------------------------------------------------------------- DR-Venus


def venus_batch(gains: Gains, outcome: list[float], groups: list[str], bad: list[list[int]] | None = None) -> Batch:
    """Gains of the turns before the answer; None is not scored. A start of 0, so that a gain is a difference."""
    sizes = [len(row) + 1 for row in gains]
    batch = Batch.of_maps([i for i, n in enumerate(sizes) for _ in range(n)], groups)
    sums = [[None if g is None else s for g, s in zip(r, accumulate(g or 0.0 for g in r), strict=True)] for r in gains]
    batch = batch.with_column("gold_logprob", "turn", [x for row in sums for x in (*row, None)])
    batch = batch.with_column("gold_logprob_start", "trajectory", [0.0] * len(gains))
    batch = batch.with_column("outcome", "trajectory", outcome)
    return batch.with_column("bad_format", "turn", [x for row in bad or [[0] * n for n in sizes] for x in row])


def z(values: dict[Any, float], group: dict[Any, str]) -> dict[Any, float]:
    out = {}
    for unit, value in values.items():
        pool = [v for u, v in values.items() if group[u] == group[unit]]
        mean = sum(pool) / len(pool)
        spread = math.sqrt(sum((v - mean) ** 2 for v in pool) / len(pool) + 1e-8) if len(pool) > 1 else 1.0
        out[unit] = 0.0 if max(pool) == min(pool) else (value - mean) / (spread + 1e-6)
    return out


def venus_reference(gains: Gains, outcome: list[float], groups: list[str], p: dict[str, Any]) -> list[list[float]]:
    """DR-Venus number by number, from the method's description."""
    raw = {(i, t): g for i, row in enumerate(gains) for t, g in enumerate(row) if g is not None}
    ends = {(i, len(row)): outcome[i] for i, row in enumerate(gains)}
    group = {u: groups[u[0]] for u in (*raw, *ends)}
    if p["norm"] == "joint":
        both = z({**raw, **ends}, group)
        gain, end = {u: both[u] for u in raw}, {u: both[u] for u in ends}
    else:
        gain, end = z(raw, group), z(ends, group)
    if p["norm"] == "scaled_separate":
        size = [sum(map(abs, x.values())) / len(x) for x in (gain, end)]
        s = min(10.0, max(0.3, size[1]) / (size[0] + 1e-6))
        gain = {u: s * v for u, v in gain.items()}
    if p["norm"] == "raw_ig":
        for u, value in raw.items():
            pool = [v for w, v in raw.items() if group[w] == group[u]]
            mean = sum(pool) / len(pool)
            spread = math.sqrt(sum((v - mean) ** 2 for v in pool) / len(pool) + 1e-8) if len(pool) > 1 else 1.0
            gain[u] = p["weight"] * value / (spread + 1e-6) + end[u[0], len(gains[u[0]])]
    else:
        gain = {u: p["weight"] * v for u, v in gain.items()}
    rewards, out = {**gain, **end}, []
    for i, row in enumerate(gains):
        there = [t for t in range(len(row) + 1) if (i, t) in rewards]
        gamma = p["least"] ** (1 / len(there)) if p["least"] else p["gamma"]
        gamma = 0.0 if p["norm"] == "raw_ig" else gamma
        values, running = [0.0] * (len(row) + 1), 0.0
        for t in range(len(row), -1, -1):
            running = rewards[i, t] + gamma * running if t in there else running
            values[t] = running
        out.append(values)
    return out


@pytest.mark.parametrize("norm", ["joint", "separate", "scaled_separate", "raw_ig"])
@pytest.mark.parametrize("least", [0.0, 0.2])
def test_dr_venus_is_its_description(norm: Any, least: float) -> None:
    for seed in range(6):
        draw = random.Random(seed)
        groups = ["a"] * 3 + ["b"] * 2 + ["lone"]
        rows: Gains = [[draw.choice([None, 0.0, 0.25, 0.5, -1.0]) for _ in range(draw.randrange(5))] for _ in groups]
        outcome = [float(draw.randrange(2)) for _ in groups]
        p = {"norm": norm, "least": least, "gamma": 0.9, "weight": 0.7}
        recipe = dr_venus(gamma=0.9, norm=norm, penalty=0.0, gain_weight=0.7, least_weight=least)
        got = recipe.credit(venus_batch(rows, outcome, groups), to="turn").tolist()
        expected = [x for row in venus_reference(rows, outcome, groups, p) for x in row]
        assert got == pytest.approx(expected, abs=1e-6), f"seed {seed}"


def test_a_broken_turn_is_punished_in_the_pool_and_a_broken_answer_loses_its_outcome() -> None:
    gains, bad = [[0.5, 0.1], [0.2, 0.4]], [[0, 1, 0], [0, 0, 1]]
    got = dr_venus(norm="separate").credit(venus_batch(gains, [1.0, 1.0], ["g", "g"], bad), to="turn").tolist()
    # the broken turn's gain is -1 instead of 0.1, the broken answer's outcome -1 instead of 1
    p = {"norm": "separate", "least": 0.0, "gamma": 0.95, "weight": 1.0}
    expected = venus_reference([[0.5, -1.0], [0.2, 0.4]], [1.0, -1.0], ["g", "g"], p)
    assert got == pytest.approx([x for row in expected for x in row], abs=1e-6)


def test_gains_live_where_all_outcomes_are_equal() -> None:
    batch = venus_batch([[0.5, 0.1], [0.2, 0.4]], [1.0, 1.0], ["g", "g"])
    assert dr_venus(penalty=0.0).credit(batch, to="turn").values.abs().max() > 0.1
    assert dr_venus(penalty=0.0, floor=0.0).credit(batch, to="turn").values.abs().max() == 0.0


def test_only_the_tools_turns_are_scored() -> None:
    batch = venus_batch([[0.5, 0.1, 0.2]], [1.0], ["g"]).with_column("called_visit", "turn", [1, 0, 1, 0])
    recipe = dr_venus(norm="raw_ig", tool="visit", penalty=0.0, gain_weight=1.0)
    assert "called_visit" in recipe.needs
    credit = recipe.credit(batch, to="turn").tolist()
    assert credit[1] == credit[2] != credit[0]  # turn 1 is not scored and takes turn 2's


def test_every_kth_turn_is_scored_against_the_last_scored_one() -> None:
    gains: Gains = [[0.5, 0.1, 0.2, 0.4, -0.3], [0.2, 0.4], [0.3]]
    batch = venus_batch(gains, [1.0, 0.0, 1.0], ["g"] * 3)
    # turns 2 and 4, counted from 1; what lies between two of them is in the second one's gain
    merged: Gains = [[None, 0.6, None, 0.6, None], [None, 0.6], [None]]
    p = {"norm": "scaled_separate", "least": 0.0, "gamma": 0.95, "weight": 1.0}
    expected = [x for row in venus_reference(merged, [1.0, 0.0, 1.0], ["g"] * 3, p) for x in row]
    assert dr_venus(every_turn=2).credit(batch, to="turn").tolist() == pytest.approx(expected, abs=1e-6)
    # with a filter both must hold: of the visits (turns 1, 3, 4) the fourth turn alone is an even one
    visits = batch.with_column("called_visit", "turn", [1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0])
    gain = tool_gain("visit", 2).trace(visits)[-1].credit
    assert [t for t, known in enumerate(gain.known.tolist()) if known] == [3] and gain.tolist()[3] == pytest.approx(1.2)
    assert dr_venus(every_turn=1) == dr_venus()


def test_late_gains_are_diminished_before_the_pools_and_losses_are_not() -> None:
    gains: Gains = [[0.5, None, 0.6, -0.3], [0.2, 0.4]]
    batch = venus_batch(gains, [1.0, 0.0], ["g", "g"])
    # the release: 1 + i rate, i the turn's place from 0 among all turns, scored or not
    less: Gains = [[0.5, None, 0.6 / 2.0, -0.3], [0.2, 0.4 / 1.5]]
    p = {"norm": "scaled_separate", "least": 0.0, "gamma": 0.95, "weight": 1.0}
    expected = [x for row in venus_reference(less, [1.0, 0.0], ["g", "g"], p) for x in row]
    assert dr_venus(diminish=0.5).credit(batch, to="turn").tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("norm", ["joint", "separate", "scaled_separate", "raw_ig"])
def test_while_the_gate_is_shut_outcomes_count_alone_without_penalties(norm: Any) -> None:
    gains, bad = [[0.5, 0.1], [0.2], [0.3]], [[0, 1, 0], [0, 1], [0, 0]]
    batch, recipe = venus_batch(gains, [1.0, 1.0, 0.0], ["g"] * 3, bad), dr_venus(norm=norm, warm_up=True)
    shut = recipe.credit(batch.with_column("gains_on", "trajectory", [0.0] * 3), to="turn").tolist()
    right, wrong = math.sqrt(0.5), -math.sqrt(2.0)  # z of (1, 1, 0), the population's spread; the same on every turn
    assert shut == pytest.approx([right] * 5 + [wrong] * 2, abs=1e-5)
    at_work = recipe.credit(batch.with_column("gains_on", "trajectory", [1.0] * 3), to="turn").tolist()
    assert at_work == dr_venus(norm=norm).credit(batch, to="turn").tolist() != shut
    assert "gains_on" in recipe.needs and "gains_on" not in dr_venus().needs


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (dr_venus, {"least_weight": 1.5}),
        (dr_venus, {"least_weight": -0.5}),
        (dr_venus, {"penalty": -1.0}),
        (dr_venus, {"floor": float("nan")}),
        (dr_venus, {"most": -1.0}),
        (dr_venus, {"diminish": -1.0}),
        (dr_venus, {"every_turn": 1.5}),
        (recipes.siop, {"lam": 1.5}),
        (recipes.siop_released, {"lam": -0.1}),
        (recipes.vpr_turns, {"fewest": 0}),
        (pbsd, {"width": -0.2}),
        (pbsd, {"mixed": 2.0}),
        (recipes.spae, {"alpha": 2.0}),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_name(make: Any, wrong: dict[str, float]) -> None:
    name = next(iter(wrong))
    with pytest.raises(ValueError, match="every: expected a whole" if name == "every_turn" else f"expected {name} "):
        make(**wrong)


def test_what_a_mode_is_not_is_said() -> None:
    with pytest.raises(ValueError, match="scaled_separate"):
        dr_venus(norm="jiont")  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------- inside a response


def test_segments_hold_equal_shares_of_cuts() -> None:
    draw = torch.Generator().manual_seed(0)
    for count in (1, 2, 3, 5):
        entropy = torch.rand(60, generator=draw)
        of, cuts = entropy_segments(entropy, 0.5, count), entropy >= 0.5
        assert of.tolist() == sorted(of.tolist()) and int(of.max()) + 1 == count
        shares = [int(cuts[of == m].sum()) for m in range(count)]
        assert max(shares) - min(shares) <= 1
    few = entropy_segments(torch.tensor([0.1, 0.9, 0.1]), 0.5, 4)
    assert few.tolist() == [0, 1, 1]  # fewer cuts than segments: each starts one
    assert entropy_segments(torch.zeros(3), 0.5, 2).tolist() == [0, 0, 0]


def segment_batch(known: list[float | None]) -> Batch:
    batch = Batch.of_maps([0, 1], ["g", "g"], [0] * len(known) + [1])
    batch = batch.with_column(
        "segment_gold_logprob", "token", [None if x is None else math.log(x) for x in known] + [-1]
    )
    batch = batch.with_column("segment_gold_logprob_start", "trajectory", [math.log(0.1), -1.0])
    return batch.with_column("outcome", "trajectory", [1.0, 0.0])


def test_a_segment_shares_its_gain_and_gains_telescope() -> None:
    batch = segment_batch([None, 0.25, None, None, 0.6])
    plain, both = (grpo_vps(alpha).credit(batch).values[:5] for alpha in (0.0, 1.0))
    assert (both - plain).tolist() == pytest.approx([0.15, 0.15, 0.35, 0.35, 0.35])
    assert grpo_vps(process="pooled").credit(batch).values[:5].tolist() != pytest.approx(both.tolist())


def test_tokens_behind_the_last_probe_have_no_credit() -> None:
    assert grpo_vps().credit(segment_batch([None, 0.25, None])).known.tolist() == [True, True, False, True]


def test_probe_variants_agree_for_answers_of_one_token_only() -> None:
    one = [torch.tensor([-0.3]), torch.tensor([-0.1])]
    assert probe_scores(one, [-x for x in one]) == pytest.approx(probe_scores(one, [-x for x in one], "released"))
    two = [torch.tensor([-0.3, -0.2])]
    assert probe_scores(two, [-two[0]])[0] > probe_scores(two, [-two[0]], "released")[0]


def spae_batch(accuracy: list[float | None], confidence: list[float]) -> Batch:
    batch = Batch.of_maps([0] * len(accuracy) + [1], ["g", "g"], list(range(len(accuracy) + 1)))
    batch = batch.with_column("step_accuracy", "turn", [*accuracy, 0.0])
    batch = batch.with_column("step_confidence", "turn", [*confidence, 0.0])
    return batch.with_column("outcome", "trajectory", [1.0, 0.0])


def test_going_on_after_the_answer_stood_earns_less() -> None:
    credit = spae(xi=0.0).credit(spae_batch([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]), to="turn").values
    assert credit[0] > credit[1] > credit[2]
    assert spae(alpha=0.0, xi=0.0).credit(spae_batch([1.0] * 3, [1.0] * 3), to="turn").values[:3].unique().numel() == 1


def test_a_step_that_was_not_probed_has_no_credit() -> None:
    credit = spae().credit(spae_batch([0.5, None, 1.0], [0.5, 0.5, 1.0]), to="turn")
    assert credit.known.tolist() == [True, False, True, True]


def test_steps_inside_a_turn_are_the_same_however_they_are_written_down() -> None:
    """The worked example of the method: once as a unit of tokens, once as values at the last token of each step."""
    phi, sizes = [[0.1, 0.5, 0.95, 0.97], [0.2, -0.3, 0.0], [0.0, 0.4]], [[3, 2, 1, 4], [2, 2, 3], [1, 5]]
    flat, count = [x for row in phi for x in row], [n for row in sizes for n in row]
    steps = [k for k, n in enumerate(count) for _ in range(n)]
    # rollout 0 has two turns, of two steps each
    turn_of = [0] * 5 + [1] * 5 + [2] * 7 + [3] * 6
    batch = Batch.of_maps([0, 0, 1, 2], ["q"] * 3, turn_of).with_column("outcome", "trajectory", [1.0, 0.0, 1.0])
    batch = batch.with_unit("step", "token", steps).with_column("phi", "step", flat)
    ends = [flat[k] if steps[j + 1 : j + 2] != [k] else None for j, k in enumerate(steps)]
    batch = batch.with_column("phi_at_ends", "token", ends)
    unit, token = (spae(potential=name, step=level) for name, level in (("phi", "step"), ("phi_at_ends", "token")))
    assert token.credit(batch).known.all()
    assert torch.allclose(unit.credit(batch).values, token.credit(batch).values, atol=1e-12)
    assert set(spae(step="token").needs) >= {"thought_accuracy", "thought_confidence", "outcome"}


def test_a_thought_is_cut_where_its_paragraphs_end() -> None:
    assert thought_ends([]) == [] and thought_ends(["a"]) == [0]
    assert thought_ends(["a", ".", "\n", "\n", "b.\n\n"]) == [3, 4]  # an end of several tokens; one that ends the turn
    assert thought_ends(["a", ".\n\n", "</th", "ink>", "b.\n\n", "c"]) == [1, 5]  # so is the close of the thought
    assert thought_ends(["a.\n\nb", "c"]) == [1] and thought_ends(["a,\n\n", "b"], ends="\n\n") == [0, 1]


# ----------------------------------------------------------------------------------------------------- weights of turns


def pbsd_batch(informed: list[float], outcome: tuple[float, float]) -> Batch:
    batch = Batch.of_maps([0, 0, 1], ["g", "g"], [0, 1, 1, 2]).with_column("outcome", "trajectory", list(outcome))
    batch = batch.with_column("logprob_informed", "token", informed)
    return batch.with_column("logprob_plain", "token", [-1.0] * 4)


def test_pbsd_never_flips_a_sign_and_is_grpo_without_evidence() -> None:
    for outcome in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        base = grpo_released().credit(pbsd_batch([-1.0] * 4, outcome), to="turn").values
        told = pbsd(evidence="sum", width=0.5).credit(pbsd_batch([-9.0, -0.1, -0.1, -2.0], outcome), to="turn").values
        assert (told.sign() == base.sign()).all() and (told != base).any() == (outcome[0] != outcome[1])
        assert pbsd().credit(pbsd_batch([-1.0] * 4, outcome), to="turn").values.tolist() == base.tolist()
        assert pbsd(mixed=0.0).credit(pbsd_batch([-9.0] * 4, outcome), to="turn").values.tolist() == base.tolist()


def test_a_supported_turn_gains_more_when_right_and_loses_less_when_wrong() -> None:
    informed = [-0.5, -1.5, -1.5, -1.0]
    right = pbsd().credit(pbsd_batch(informed, (1.0, 0.0)), to="turn").values
    wrong = pbsd().credit(pbsd_batch(informed, (0.0, 1.0)), to="turn").values
    assert right[0] > right[1] > 0 and 0 > wrong[0] > wrong[1]


def test_the_answer_may_be_left_unweighed_and_weights_divided_by_their_mean() -> None:
    """Rollout 0: a turn of weight exp(0.1), an answer of weight exp(-0.1); rollout 1: an answer alone."""
    batch = pbsd_batch([-0.9, -1.1, -1.1, -0.9], (1.0, 0.0))
    a = grpo_released().credit(batch, to="turn").tolist()
    up, down = math.exp(0.1), math.exp(-0.1)
    # the wrong rollout's evidence is for the answer: it weighs less there
    assert pbsd().credit(batch, to="turn").tolist() == pytest.approx([a[0] * up, a[1] * down, a[2] * down])
    assert pbsd(answer=False).credit(batch, to="turn").tolist() == pytest.approx([a[0] * up, a[1], a[2]])
    mean = (up + down) / 2
    expected = [a[0] * up / mean, a[1] * down / mean, a[2]]
    assert pbsd(balanced=True).credit(batch, to="turn").tolist() == pytest.approx(expected)
    unknown = batch.with_column("logprob_informed", "token", [None, -1.1, -1.1, -0.9])
    for recipe in (pbsd(answer=False), pbsd(balanced=True)):
        assert [x is None for x in recipe.credit(unknown, to="turn").tolist()] == [True, False, False]


def test_aem_weights_have_mean_one_over_turns_not_tokens() -> None:
    batch = Batch.of_maps([0, 0, 1], ["g", "g"], [0] * 6 + [1, 2]).with_column("outcome", "trajectory", [1.0, 0.0])
    batch = batch.with_column("token_entropy", "token", [2.0] * 6 + [0.1, 0.7])
    alpha = entropy_weight(turn_entropy(), 1.0, 0.1)(None, batch).values
    assert float(alpha.mean()) == pytest.approx(1.0) and alpha[1] > alpha[2] > alpha[0]
    sure = aem().credit(batch, to="turn").values
    assert sure[1] > sure[0] > 0 > sure[2]


def hosted_batch() -> Batch:
    """Two tasks of two rollouts each, of two turns and one; what a critic says of a token, and entropies, are drawn."""
    batch = Batch.of_maps([0, 0, 1, 2, 2, 3], ["a", "a", "b", "b"], [0, 0, 0, 1, 2, 2, 3, 3, 4, 5])
    draw = torch.Generator().manual_seed(1)
    for column in ("token_entropy", "value", "logprob_old", "logprob_ref"):
        sign = 1 if column == "token_entropy" else -1
        batch = batch.with_column(column, "token", sign * torch.rand(10, generator=draw, dtype=torch.float64))
    batch = batch.with_column("outcome", "trajectory", [1.0, 0.0, 1.0, 1.0])
    batch = batch.with_column("turn_reward", "turn", [0.0, 1.0, 0.0, 0.5, 0.5, 0.25])
    return batch.with_column("state", "turn", [0, 1, 0, 0, 1, 0])


HOSTS = [recipes.grpo_released(), recipes.dapo(), recipes.gspo(), recipes.rloo(), recipes.gigpo(), recipes.ppo()]


@pytest.mark.parametrize("host", HOSTS, ids=lambda one: one.name)
def test_aem_weighs_whatever_its_host_says_and_keeps_all_else_of_it(host: recipes.Recipe) -> None:
    batch, recipe = hosted_batch(), aem(rate=2.0, host=host)
    alpha = entropy_weight(turn_entropy(), 2.0, 0.1)(None, batch).values[batch.token_turn]
    base, got = host.credits(batch), recipe.credits(batch)
    before, after = base.pop("credit"), got.pop("credit")
    torch.testing.assert_close(after.values[after.known], (alpha * before.values)[after.known])
    assert torch.equal(after.known, before.known) and after.reasons == before.reasons
    assert not torch.allclose(after.values, before.values)
    assert {name: one.tolist() for name, one in got.items()} == {name: one.tolist() for name, one in base.items()}
    assert recipe == replace(host, name=f"aem_{host.name}", chain=recipe.chain)
    plain = recipe.credit(batch, to="turn")  # a turn has the mean of its tokens, for every host
    assert plain.level == "turn" and plain.known.any()


def test_aem_is_grpo_unless_a_host_is_named() -> None:
    batch = hosted_batch()
    assert aem().credit(batch).tolist() == aem(host=grpo_released()).credit(batch).tolist()
    assert repr(aem(rate=2.0).chain).endswith("> zscore(task, singleton='keep') > spread('turn')]) > spread('token')")
    with pytest.raises(ValueError, match="low, high and kl are GRPO's; give them to the host"):
        aem(host=recipes.dapo(), kl=0.1)
    with pytest.raises(TypeError, match=r"recipes.dapo\(\) for `host`, got 'dapo'"):
        aem(host="dapo")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- judged, masked


def test_vpr_turns_compare_across_tasks_and_fall_back_where_few_are_left() -> None:
    batch = Batch.of_maps([0, 0, 1, 2, 3], ["a", "a", "b", "b"]).with_column("v", "turn", [1.0, 5.0, 0.0, 1.0, 0.0])
    credit = vpr_turns("v").credit(batch, to="turn").values
    assert credit[[0, 2, 3, 4]].tolist() == pytest.approx([1.0, -1.0, 1.0, -1.0])
    mean = 7 / 5
    spread = math.sqrt(sum((v - mean) ** 2 for v in (1, 5, 0, 1, 0)) / 5)
    assert float(credit[1]) == pytest.approx((5 - mean) / spread)


def test_vpr_states_leave_equal_and_lone_states_out() -> None:
    batch = Batch.of_maps([0, 1, 2, 3, 4], ["a"] * 5).with_column("v", "turn", [1.0, 0.0, 1.0, 1.0, 0.0])
    batch = batch.with_column("state", "turn", torch.tensor([7, 7, 8, 8, 9]))
    for how in ("group_whiten", "mean_then_batch_whiten"):
        credit = vpr_states("v", how).credit(batch, to="turn")  # type: ignore[arg-type]
        assert credit.tolist() == pytest.approx([1.0, -1.0, None, None, None])


def test_mapo_scopes_and_sources_differ_where_they_should() -> None:
    batch = Batch.of_maps([0, 0, 1, 1, 2], ["a", "a", "b"])
    batch = batch.with_column("state_distance", "turn", [3.0, 1.0, 4.0, 0.5, 2.0])
    batch = batch.with_column("state_distance_start", "trajectory", [4.0, 4.0, 9.0])
    now, wide, late = (
        mapo(alpha=0.0, beta=1.0, **how).credit(batch, to="turn").tolist()  # type: ignore[arg-type]
        for how in ({}, {"scope": "batch"}, {"source": "return"})
    )
    assert now[4] == 0.0 and wide[4] > 1.0  # alone in its task, not in the batch
    assert late[2] == late[3] and now[2] < now[3]  # all of the second rollout's way lies behind its first turn


def test_mini_o3_counts_what_it_masks() -> None:
    batch = Batch.of_maps([0, 1, 2], ["g"] * 3, [0, 1, 2]).with_column("outcome", "trajectory", [1.0, 0.0, 0.0])
    batch = batch.with_column("truncated", "trajectory", [False, False, True])
    masked, plain = (mini_o3(over=over).credit(batch, to="trajectory") for over in ("truncated", None))
    assert masked.known.tolist() == [True, True, False] and plain.known.all()
    assert masked.values[:2].tolist() == plain.values[:2].tolist()
    assert masked.counts()["cut off by a limit"] == 1
