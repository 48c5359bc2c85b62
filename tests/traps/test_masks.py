"""Traps of masks: which tokens are trained, what they are conditioned on, and that nothing else is looked at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_worlds import llama
from trap_worlds import Table, Told, batch_of, played, quiet, story

from workbench.batch import Batch
from workbench.credit import Credit, chain, read, spread, zscore
from workbench.credit import batch as everything
from workbench.losses import (
    CrossEntropyLoss,
    EntropyLoss,
    KLLoss,
    LogProbLoss,
    Loss,
    PolicyLoss,
    ValueLoss,
    token_mean,
    trajectory_mean,
)
from workbench.objective import Objective, Term
from workbench.policy.base import Policy
from workbench.policy.hf import HFEngine
from workbench.policy.renderers import ChatTemplate, PlainText
from workbench.policy.scripted import ScriptedEngine
from workbench.recipes import grpo, reinforce
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.train import sft
from workbench.train.learn import accumulate
from workbench.train.parts import cut, score
from workbench.train.student import Student, head_for
from workbench.train.trees import cut_trees
from workbench.trajectory import Example
from workbench.transforms import imitate


def all_parts(batch: Batch, pack: str = "rows") -> Any:
    """Every token of a batch, in one pass: side by side, or as one tree."""
    every = torch.ones(batch.count("token"), dtype=torch.bool)
    return cut(batch, every, 10**6) if pack == "rows" else cut_trees(batch, every, 10**6, 1e9)


def alone(model: Any, batch: Batch, token: int) -> torch.Tensor:
    """Log-prob of a token by a pass over what stands before it, and nothing else."""
    ids, place = batch.sequences[int(batch.token_sequence[token])], int(batch.token_position[token])
    return model(input_ids=ids[None, :place]).logits[0, -1].log_softmax(-1)[ids[place]]  # type: ignore[index]


@pytest.mark.parametrize("kind", ["plain", "chat"])
def test_role_is_not_provenance(kind: str, tokenizer: Any) -> None:
    """An assistant's message in the prompt was not sampled, and neither was what a script was made to say."""
    renderer = PlainText(tokenizer) if kind == "plain" else ChatTemplate(tokenizer)
    env = Told((1.0,), history=(("user", "red ?"), ("assistant", "Search: red box"), ("user", "blue cat")))
    line = [*renderer.encode("Answer: 4"), renderer.stop_ids[0]]
    policy = Policy("script", ScriptedEngine([line]), renderer)
    (t,) = play(policy, env, env.tasks("train", 1), size=1, progress=quiet)
    batch = Rollouts((t,)).batch()
    ids = batch.sequences[0]
    assert ids[batch.token_position].tolist() == line  # type: ignore[index]
    (example,) = imitate([t], ("sampled",))
    assert [i for i, w in zip(example.ids, example.weights, strict=True) if w] == line
    spans = [replace(s, origin="forced", logprobs=None) if s.origin == "sampled" else s for s in t.sequences[0].spans]
    forced = replace(t, sequences=(replace(t.sequences[0], spans=tuple(spans)),))
    assert Rollouts((forced,)).batch().count("token") == 0
    assert imitate([forced], ("sampled",)) == []


def test_turns_that_must_not_be_trained() -> None:
    """Another agent's turn is context: no credit, no pass, no example weight."""
    both = batch_of(story("a", [[-1.0], [-1.0, -1.0]], skip=[0]), story("b", [[-1.0], [-1.0]], outcome=0.0))
    known = reinforce().credit(both).known
    assert known.tolist() == [False, True, True, True, True]
    (example,) = imitate([story("a", [[-1.0], [-1.0]], skip=[0])], ("sampled",))
    assert example.weights == (0.0, 0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize("pack", ["rows", "tree"])
def test_loss_mask_is_no_attention_mask(pack: str) -> None:
    """What is not trained is still read: the log-prob of a token depends on the observation before it."""
    policy, rollouts = played(pulls=3)
    batch, model = rollouts.batch(), policy.engine.model
    (part,) = all_parts(batch, pack)
    found, _ = score(model, part, 1.0)
    by_hand = torch.stack([alone(model, batch, t) for t in range(batch.count("token"))])
    assert torch.allclose(found, by_hand, atol=1e-5)
    read = [ids.clone() for ids in batch.sequences]  # type: ignore[union-attr]
    for ids in read:
        ids[2] = (ids[2] + 1) % 3  # the first observation
    (other,) = all_parts(replace(batch, sequences=tuple(read)), pack)
    late = batch.token_position[part.tokens] > 2
    assert (score(model, other, 1.0)[0] - found)[late].abs().min() > 1e-4
    ids = torch.tensor([5, 6, 7])
    example = Example((5, 6, 7), (0.0, 0.0, 1.0))
    small = llama(9)
    loss, _ = sft.backward(small, [example], 4)
    assert loss == pytest.approx(-small(input_ids=ids[None, :2]).logits[0, -1].log_softmax(-1)[7].item(), abs=1e-5)


@pytest.mark.parametrize("pack", ["rows", "tree"])
def test_padding_is_known_by_length(pack: str) -> None:
    """Token 0 is a token like any other: in a prompt, as an action, at the end."""
    stories = (story("a", [[-1.0] * 2]), story("b", [[-1.0] * 5]))
    batch, model = batch_of(*stories), llama(12)
    zero = tuple(torch.where(ids % 3 == 1, 0, ids) for ids in batch.sequences)  # type: ignore[operator]
    batch = replace(batch, sequences=zero)
    assert any(0 in ids for ids in zero)
    (part,) = all_parts(batch, pack)
    found, _ = score(model, part, 1.0)
    by_hand = torch.stack([alone(model, batch, t) for t in range(batch.count("token"))])
    assert torch.allclose(found, by_hand, atol=1e-5)
    engine = HFEngine(model)
    rows = [z[: int(n)].tolist() for z, n in zip(zero, (3, 6), strict=True)]
    scores = torch.cat([s.logprobs for s in engine.score(rows, [(1, 3), (1, 6)])])
    assert torch.allclose(scores, by_hand, atol=1e-5)
    examples = [Example((0, 0, 3), (0.0, 1.0, 1.0)), Example((4, 0, 0, 0, 5), (0.0, 0.0, 1.0, 1.0, 1.0))]
    together, _ = sft.backward(model, examples, 2)
    nll = 0.0
    for example in examples:
        ids = torch.tensor(example.ids)
        learned = [n for n, weight in enumerate(example.weights) if weight]
        nll -= sum(model(input_ids=ids[None, :n]).logits[0, -1].log_softmax(-1)[ids[n]].item() for n in learned)
    assert together == pytest.approx(nll / 5, abs=1e-5)


LOSSES: dict[str, Loss] = {
    "token ratio": PolicyLoss(0.2, 0.2),
    "turn ratio": PolicyLoss(0.2, 0.2, "turn", through="unit"),
    "sequence ratio": PolicyLoss(0.2, 0.2, "sequence"),
    "sequence ratio, gradient through it": PolicyLoss(0.2, 0.2, "sequence", through="unit"),
    "score function": LogProbLoss(),
    "k1": KLLoss("k1"),
    "k2": KLLoss("k2"),
    "k3": KLLoss("k3"),
    "entropy": EntropyLoss(),
    "value": ValueLoss("returns"),
    "cross-entropy": CrossEntropyLoss(),
}


@pytest.mark.parametrize("over", ["credited", "trainable"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("aggregate", [token_mean, trajectory_mean], ids=repr)
def test_loss_path_that_forgets_the_mask(name: str, over: Any, aggregate: Any) -> None:
    """Whatever the model says of a token that must not be trained: no term and no gradient changes."""
    data = batch_of(story("a", [[-1.0], [-0.5, -2.0]], skip=[0]), story("b", [[-1.0, -0.3], [-1.5]], skip=[1]))
    data = data.with_column("logprob_ref", "token", [-0.7] * 6)
    out = torch.tensor([True, False, False, False, False, True])
    objective = Objective((Term("t", LOSSES[name], 1.0, aggregate, over),))
    credit = Credit(torch.tensor([5.0, 1.0, -1.0, 2.0, 0.5, 5.0], dtype=torch.float64), "token", ~out)

    def look(shift: float) -> tuple[float, torch.Tensor]:
        says = [torch.full((6,), -0.8) + 0.1 * torch.arange(6) + shift * out for _ in range(3)]
        says = [one.requires_grad_() for one in says]
        outputs = {"entropy": says[1], "value": says[2]}
        result = objective(says[0], data, credit, {"returns": credit}, outputs=outputs)
        result.loss.backward()
        return result.loss.item(), torch.stack([torch.zeros(6) if x.grad is None else x.grad for x in says])

    (loss, gradient), (other, moved) = look(0.0), look(-0.7)
    assert loss == other and torch.equal(gradient, moved)
    assert not bool(gradient[:, out].any()) and bool(gradient[:, ~out].any())


def test_only_logits_before_sampled_tokens_are_looked_at() -> None:
    """From the model's side: every other logit may be anything."""
    policy, rollouts = played(pulls=3)
    batch = rollouts.batch().with_column("outcome", "trajectory", [1.0, 0.0] * 4)
    recipe = grpo(kl=0)
    objective = Objective((*recipe.objective.terms, Term("entropy", EntropyLoss(), 0.1)))
    credits = recipe.credits(batch)
    weights = objective.weights(batch, credits["credit"])
    (part,) = all_parts(batch)
    table = Table(policy.engine.model(input_ids=part.ids).logits)
    asked = torch.zeros(part.ids.shape, dtype=torch.bool)
    asked[part.rows, batch.token_position[part.tokens] - 1] = True
    first = accumulate(table, objective, batch, credits, weights, [part], 1.0)
    moved = table.logits.grad.abs().sum(-1) > 0  # type: ignore[union-attr]
    assert torch.equal(moved, asked)
    with torch.no_grad():
        table.logits[~asked] += 7.0
    assert accumulate(table, objective, batch, credits, weights, [part], 1.0).loss == first.loss


def test_mask_is_neither_shifted_nor_inverted() -> None:
    """Ids 1, 2, 3 ...: turn 0 says 2 and 3, turn 1 says 5; a token is predicted by the logits one place before it."""
    batch = batch_of(story("a", [[-1.0, -1.0], [-1.0]]))
    assert batch.token_position.tolist() == [1, 2, 4]
    (part,) = all_parts(batch)
    logits = torch.zeros(1, 5, 9)
    for place, token, logprob in ((0, 2, 3.0), (1, 3, 4.0), (3, 5, 5.0)):
        logits[0, place, token] = logprob
    found, _ = score(Table(logits), part, 1.0)
    assert torch.allclose(found, torch.stack([logits[0, p].log_softmax(-1)[t] for p, t in ((0, 2), (1, 3), (3, 5))]))
    weights = token_mean(batch, torch.tensor([True, False, True]))
    assert weights.tolist() == [0.5, 0.0, 0.5]
    nll, hits = sft.weighted_nll(logits, torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[0.0, 1.0, 1.0, 0.0, 1.0]]))
    assert nll.item() == pytest.approx(-found.sum().item(), abs=1e-5) and hits.item() == 3


@pytest.mark.parametrize("pack", ["rows", "tree"])
def test_value_of_a_state_does_not_see_the_action(pack: str) -> None:
    """A baseline that knows what was done takes its credit away: V is of what stands before the token."""
    batch, model = batch_of(story("a", [[-1.0] * 3, [-1.0] * 2])), llama(12)
    student = Student(model, head_for(model))
    torch.nn.init.normal_(student.head.linear.weight, generator=torch.Generator().manual_seed(0))
    last = int(batch.token_position[-1])
    other = batch.sequences[0].clone()  # type: ignore[union-attr]
    other[last] += 1
    found = []
    for ids in (batch.sequences[0], other):
        (part,) = all_parts(replace(batch, sequences=(ids,)), pack)
        found.append(score(student, part, 1.0)[1]["value"].detach())
    assert torch.equal(*found) and len(set(found[0].tolist())) == 5
    hidden = model(input_ids=batch.sequences[0][None], output_hidden_states=True).hidden_states[-1]  # type: ignore[index]
    assert torch.allclose(found[0], student.head(hidden[0, batch.token_position - 1]), atol=1e-5)


def test_whitening_over_observations() -> None:
    """Mean and spread are over what was acted and is known; longer observations change nothing."""
    recipe = chain(read("outcome"), spread("token"), zscore(everything, ddof=0, eps=0.0))

    def whitened(gap: int) -> Credit:
        stories = [story("a", [[-1.0], [-1.0]], gap=gap), story("b", [[-1.0]], outcome=0.0, gap=gap)]
        return recipe(None, batch_of(*stories, story("c", [[-1.0, -1.0]], outcome=None)))

    short, long = whitened(1), whitened(30)
    assert short.tolist() == long.tolist()
    x = short.values[short.known]
    assert len(x) == 3 and short.known.tolist() == [True] * 3 + [False] * 2
    assert x.mean().item() == pytest.approx(0.0, abs=1e-12) and (x**2).mean().item() == pytest.approx(1.0)
