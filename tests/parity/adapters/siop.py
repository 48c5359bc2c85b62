"""SIOP: clusters and their targets, process rewards, turn advantages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from adapters.common import Case, Unsupported, choose, flat, lengths, ragged, repeat, turns_of

from workbench.batch import Batch
from workbench.credit import read
from workbench.evidence.clusters import cluster_answers, mixture_probability, references
from workbench.recipes.siop import broadcast_credit, process_reward, siop_released, target, turn_credit


class Given:
    """A stand-in for an NLI model: answers are the same if the case lists them in one class."""

    def __init__(self, classes: Sequence[Sequence[str]]):
        self.of = {text: number for number, texts in enumerate(classes) for text in texts}

    def same(self, question: str, first: str, others: Sequence[str]) -> list[bool]:
        return [self.of.get(one, one) == self.of.get(first, first) for one in others]


def _clustered(answers: list[str | None], classes: list[list[str]]) -> tuple[Batch, list[int | None]]:
    found = cluster_answers([(a or "").strip() or None for a in answers], Given(classes))  # type: ignore[arg-type]
    return turns_of([1] * len(answers), ["q"] * len(answers)).with_column("answer_cluster", "trajectory", found), found


def _plain(values: list[float | None]) -> list[float]:
    return [v or 0.0 for v in values]  # the release writes 0 where there is no answer


def clusters(case: Case) -> dict[str, Any]:
    inputs, p = case["inputs"], case["params"]
    choose("strict", {True: 1, False: 1}, p.get("strict", True))
    batch, found = _clustered(inputs["answers"], inputs["bidirectional_entailment_classes"])
    judged = inputs.get("tool_responses_entailment_to_own_reference") or [[] for _ in found]
    means = [sum(r) / len(r) if r and c is not None else None for r, c in zip(judged, found, strict=True)]
    batch = batch.with_column("cluster_support", "trajectory", means)
    told = references(inputs["answers"], found, p.get("num_refs", 3))
    eta = p.get("eta", 1.0)
    q = _plain(target(eta)(None, batch).tolist())
    return {
        "m": _plain(target(0.0)(None, batch).tolist()),
        "q_eta0": _plain(target(0.0)(None, batch).tolist()),
        "q_eta1": q,
        f"q_eta{eta:g}": q,
        "q": q,
        "reference": [refs[0] if refs else "" for refs in told],
        "reference_set": [list(refs) for refs in told],
        "cluster": found,
    }


def rewards(case: Case) -> dict[str, Any]:
    inputs, p = case["inputs"], case["params"]
    rows = [[mixture_probability(refs) for refs in row] for row in inputs["ref_mean_logp_by_turn_then_ref"]]
    there = [i for i, row in enumerate(rows) if len(row) > 1]
    sizes = [len(rows[i]) - 1 for i in there]
    batch = turns_of(sizes, ["q"] * len(there))
    batch = batch.with_column("cluster_prob", "turn", torch.tensor(flat([rows[i][1:] for i in there])).double())
    batch = batch.with_column("cluster_prob_start", "trajectory", [rows[i][0] for i in there])
    batch = batch.with_column("q", "trajectory", [inputs["q_c"][i] for i in there])
    node = process_reward(read("q", "trajectory"), p.get("lambda", 0.5), p.get("eps", 1e-8), lone=True)
    paid = ragged(node(None, batch).tolist(), sizes)
    return {"rewards": [paid[there.index(i)] if i in there else [] for i in range(len(rows))]}


def single_turn_rewards(case: Case) -> dict[str, Any]:
    inputs, p = case["inputs"], case["params"]
    if any(turns > 1 for turns in inputs["assistant_turns"]) or p.get("eta", 0.0) != 0.0:
        raise Unsupported("only rollouts of one turn, without support, have rewards without a scorer")
    classes = inputs.get("bidirectional_entailment_classes") or []
    batch, found = _clustered(inputs["answers"], classes)
    batch = batch.with_column("cluster_prob", "turn", [None] * len(found))
    batch = batch.with_column("cluster_prob_start", "trajectory", [None] * len(found))
    paid = process_reward(target(0.0), p.get("lambda", 0.5), p.get("eps", 1e-8))(None, batch).tolist()
    return {"rewards": [[] if cluster is None else [r] for r, cluster in zip(paid, found, strict=True)]}


def turn_advantages(case: Case) -> dict[str, Any]:
    inputs, p = case["inputs"], case["params"]
    sizes = lengths(inputs["turn_rewards"])
    owner = repeat(range(len(sizes)), sizes)
    batch = Batch.of_maps(owner, inputs["groups"], list(range(len(owner))))
    batch = batch.with_column("reward", "turn", torch.tensor(flat(inputs["turn_rewards"])).double())
    mode = choose("mode", {"turn": False, "process": False, "broadcast": True}, p.get("mode", "turn"))
    signal = read("reward", "turn")
    node = broadcast_credit(signal) if mode else turn_credit(signal, p.get("gamma", 1.0))
    assert siop_released().chain.stages[-3:] == turn_credit(signal, 1.0).stages[-3:]  # the recipe's own tail
    return {"turn_advantages": ragged(node(None, batch).tolist(), sizes)}
