"""Evidence of the turn-level methods on rollouts of the tiny policy, and against plain forward passes of its model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from workbench import catalogue, recipes
from workbench.envs.chain import Chain
from workbench.evidence import BadFormat, Cache, Called, MissingEvidence, TokenEntropy, collect, for_recipe
from workbench.evidence.gold import GoldProbe
from workbench.evidence.informed import InformedLogprobs
from workbench.evidence.probes import StepProbe, ThoughtProbe
from workbench.evidence.segments import SegmentProbe, contexts
from workbench.policy import load
from workbench.policy.base import Policy, Scores, Settings
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.trajectory import RecordError

METHODS = ("DR-Venus", "GRPO-VPS", "SPAE", "PBSD", "AEM", "VPR", "Mini-o3")
NAMES = [name for method in METHODS for name in catalogue.find(method).recipes]


@pytest.fixture(scope="module")
def player() -> Policy:
    return load("tiny")


@pytest.fixture(scope="module")
def rollouts(player: Policy) -> Rollouts:
    env = Chain()
    return play(player, env, env.tasks("train", 2), size=3, settings=Settings(max_new_tokens=32), gather_s=None)


def ready(rollouts: Rollouts, *providers: Any) -> Any:
    return collect(rollouts, providers, cache=Cache()).batch()


def logits(player: Policy, ids: Any) -> torch.Tensor:
    """Log-probs of what comes next, at every place of one sequence."""
    with torch.inference_mode():
        return torch.log_softmax(player.engine.model(torch.tensor([list(ids)])).logits[0].float(), -1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_run_runs_on_a_real_policy(name: str, player: Policy, rollouts: Rollouts) -> None:
    """`for_recipe` alone finds all that the credit reads; every turn that has a credit has a finite one."""
    recipe = getattr(recipes, name)()
    found = collect(rollouts, for_recipe(recipe, rollouts, policy=player), cache=Cache())
    credit = recipe.credit(found.batch(), to="turn")
    assert bool(credit.known.any()) and bool(torch.isfinite(credit.values[credit.known]).all())
    if name not in ("vpr_states", "mini_o3", "mini_o3_released"):  # these leave turns out on purpose
        assert bool(credit.known.all())
    for column in recipe.chain.needs:  # nothing stands for a number but what was recorded or measured
        assert found.batch()[column].provenance.provider != "given"


def test_a_recipe_whose_evidence_is_not_here_says_what_is_missing(player: Policy, rollouts: Rollouts) -> None:
    for row in catalogue.ALL:
        for name in row.recipes if row.status == "recipe only" else ():
            assert row.missing
            with pytest.raises(MissingEvidence, match="nothing at hand makes the columns"):
                for_recipe(getattr(recipes, name)(), rollouts, policy=player)


def test_evidence_of_a_model_asks_for_a_policy(rollouts: Rollouts) -> None:
    for name in ("aem", "pbsd", "grpo_vps", "spae"):
        with pytest.raises(MissingEvidence, match="policy=policy"):
            for_recipe(getattr(recipes, name)(), rollouts)


def test_entropies_are_those_of_the_whole_vocabulary(player: Policy, rollouts: Rollouts) -> None:
    batch = ready(rollouts, TokenEntropy(player))
    column = batch["token_entropy"]
    logp = logits(player, rollouts[0].sequences[0].ids)
    mine = (batch.up("token", "trajectory") == 0) & (batch.token_sequence == 0)
    at = batch.token_position[mine] - 1
    expected = -(logp[at].exp() * logp[at]).sum(-1)
    assert torch.allclose(column.values[mine].float(), expected, atol=1e-4)
    assert column.known.all() and column.provenance.sees == ()


def test_an_engine_without_entropies_is_an_error_not_zeros(player: Policy, rollouts: Rollouts) -> None:
    class Bare:
        version = 0

        def score(self, sequences: Any, spans: Any, **_: Any) -> list[Scores]:
            return [Scores(torch.zeros(stop - start)) for start, stop in spans]

    bare = replace(player, engine=Bare())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gives no entropies"):
        ready(rollouts, TokenEntropy(bare))


def test_told_log_probs_stand_behind_the_same_question_with_the_answer(player: Policy, rollouts: Rollouts) -> None:
    batch = ready(rollouts, InformedLogprobs(player))
    t = rollouts[0]
    assert torch.allclose(batch["logprob_plain"].values, batch["logprob_old"].values.float(), atol=1e-4)
    told = InformedLogprobs(player).told(t, rollouts.groups[0], t.sequences[0].ids)
    assert told is not None
    text = player.renderer.pieces(told)
    assert f"(The answer is {t.gold['answer']}.)" in "".join(text)
    behind = len(told) - len(t.sequences[0].ids)
    mine = batch.up("token", "trajectory") == 0
    at = batch.token_position[mine] + behind
    ids = torch.tensor(told)
    expected = logits(player, told)[at - 1, ids[at]]
    assert torch.allclose(batch["logprob_informed"].values[mine].float(), expected, atol=1e-4)
    assert (batch["logprob_informed"].values - batch["logprob_plain"].values).abs().max() > 0.01


def test_prompts_of_another_renderer_and_tasks_without_gold(player: Policy, rollouts: Rollouts) -> None:
    class Other:
        stop_ids = ()

        pieces = player.renderer.pieces  # the same words

        def prompt(self, messages: Any, tools: Any) -> Any:
            return 2 * player.renderer.prompt(messages, tools)

    with pytest.raises(RecordError, match="do not begin with the prompt"):
        ready(rollouts, InformedLogprobs(replace(player, renderer=Other())))  # type: ignore[arg-type]
    blind = Rollouts((replace(rollouts[0], gold={}), *rollouts.trajectories[1:]))
    batch = ready(blind, InformedLogprobs(player), SegmentProbe(player))
    without = batch.up("token", "trajectory") == 0
    for name in ("logprob_informed", "logprob_plain"):
        assert bool((batch[name].known == ~without).all())
    assert not batch["segment_gold_logprob"].known[without].any()
    credit = recipes.grpo_vps().credit(batch, to="trajectory")
    assert credit.known.tolist() == [False] + [True] * (len(blind) - 1)


def test_segment_probes_stand_where_the_next_token_would(player: Policy, rollouts: Rollouts) -> None:
    """At the last token the probe is the gold probe's after the last turn; within a turn it is a plain pass."""
    batch = ready(rollouts, SegmentProbe(player, cuts=2, least=0.2), GoldProbe(player, after_last=True))
    column, ends = batch["segment_gold_logprob"], batch.last("token", "trajectory")
    last_turn = batch.last("turn", "trajectory")
    assert torch.allclose(column.values[ends], batch["gold_logprob"].values[last_turn], atol=1e-4)
    start, gold_start = batch["segment_gold_logprob_start"].values, batch["gold_logprob_start"].values
    assert torch.allclose(start, gold_start, atol=1e-4)
    inside = [int(i) for i in torch.nonzero(column.known).flatten() if int(i) not in ends.tolist()]
    assert inside, "no rollout was cut inside"
    token = inside[0]
    owner = int(batch.up("token", "trajectory")[token])
    first = int((batch.up("token", "trajectory") < owner).sum())
    seen = contexts(rollouts[owner], rollouts)[token - first + 1]
    ids, (begin, stop) = GoldProbe(player).answers(rollouts[owner])[0]
    logp = logits(player, [*seen, *ids])
    places = torch.arange(len(seen) + begin, len(seen) + stop)
    expected = logp[places - 1, torch.tensor(ids[begin:stop])].double().mean()
    assert float(column.values[token]) == pytest.approx(float(expected), abs=1e-4)


def test_raw_gains_of_segments_sum_to_end_minus_start(player: Policy, rollouts: Rollouts) -> None:
    batch = ready(rollouts, SegmentProbe(player, cuts=2, least=0.2))
    gains = recipes.steps.segment_gain()(None, batch)
    owner = batch.up("token", "trajectory")
    for n, end in enumerate(batch.last("token", "trajectory").tolist()):
        mine = gains.known & (owner == n)
        p_end = math.exp(float(batch["segment_gold_logprob"].values[end]))
        p_start = math.exp(float(batch["segment_gold_logprob_start"].values[n]))
        assert float(gains.values[mine].sum()) == pytest.approx(p_end - p_start)


def test_short_probes_are_repeatable_and_bounded(player: Policy, rollouts: Rollouts) -> None:
    one, again, other = (ready(rollouts, StepProbe(player, count=2, max_tokens=4, seed=s)) for s in (0, 0, 1))
    for name in ("step_accuracy", "step_confidence"):
        values = one[name].values
        assert bool(one[name].known.all()) and float(values.min()) >= 0 and float(values.max()) <= 1
        assert torch.allclose(values, again[name].values, atol=1e-6)
    assert not torch.equal(one["step_confidence"].values, other["step_confidence"].values)
    assert torch.allclose(one["step_accuracy"].values, other["step_accuracy"].values, atol=1e-5)  # forced, not sampled


def test_probes_inside_a_turn_end_with_those_after_it(player: Policy, rollouts: Rollouts) -> None:
    settings: dict[str, Any] = {"count": 2, "max_tokens": 4}
    batch = ready(rollouts, StepProbe(player, **settings), ThoughtProbe(player, ends=":", **settings))
    own = [s.ids for t in rollouts for s in t.sequences[0].spans if s.origin == "sampled"]
    pieces = [piece for ids in own for piece in player.renderer.pieces(ids)]
    ends = batch.last("token", "turn")
    for name in ("accuracy", "confidence"):
        column = batch[f"thought_{name}"]
        assert torch.allclose(column.values[ends], batch[f"step_{name}"].values.to(column.values.dtype), atol=1e-5)
        expected = [piece.endswith(":") or j in ends.tolist() for j, piece in enumerate(pieces)]
        assert column.known.tolist() == expected and sum(expected) > len(ends)
    again = ready(rollouts, ThoughtProbe(player, **settings))
    assert torch.equal(torch.nonzero(again["thought_accuracy"].known).flatten(), ends)  # these turns have no paragraphs
    credit = recipes.spae(step="token").credit(batch)
    assert bool(credit.known.all()) and credit.values.unique().numel() > batch.count("turn") / 2


def test_form_and_calls_are_read_off_the_turns(rollouts: Rollouts) -> None:
    batch = ready(rollouts, BadFormat(), Called("search"))
    turns = [(turn, k + 1 == len(t.turns)) for t in rollouts for k, turn in enumerate(t.turns)]
    for (turn, last), bad, called in zip(turns, batch["bad_format"].values, batch["called_search"].values, strict=True):
        names = [call.name for call in turn.calls if call.error is None]
        assert bool(called) == ("search" in names)
        assert bool(bad) == ("answer" not in names if last else len(names) != 1)


def test_a_tool_filter_finds_its_evidence(player: Policy, rollouts: Rollouts) -> None:
    recipe = recipes.dr_venus(tool="search")
    found = collect(rollouts, for_recipe(recipe, rollouts, policy=player), cache=Cache())
    assert bool(recipe.credit(found.batch(), to="turn").known.all())
