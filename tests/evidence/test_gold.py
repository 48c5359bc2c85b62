from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch

from workbench.credit import delta
from workbench.evidence import Cache, collect, gold
from workbench.evidence.contexts import after_turn, before_turn
from workbench.evidence.gold import GoldProbe
from workbench.policy.base import Policy, Scores, Settings
from workbench.policy.hf import HFEngine
from workbench.policy.packed import reforward_logprobs
from workbench.rollouts import Rollouts
from workbench.trajectory import Message, Origin, Prefix, RecordError, Span, Trajectory, Turn
from workbench.trajectory import Sequence as Tokens

LEAD, STOP = 90, 91
PROMPT = (1, 2, 3, 4, 5)


class Numbers:
    """A renderer whose words are the numbers of their tokens; an answer stands between LEAD and STOP."""

    prefix_preserving = True
    stop_ids: ClassVar[tuple[int, ...]] = (STOP,)

    def answer_probe(self, answer: str) -> tuple[list[int], tuple[int, int]]:
        ids = [int(word) for word in answer.split()] if answer != "Paris" else [7]
        return [LEAD, *ids, STOP], (1, 1 + len(ids))

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(f"{i} " for i in ids)


def make_model(seed: int = 0) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=100, **sizes, **heads)).eval()


MODEL = make_model()


def policy(engine: Any = None) -> Policy:
    return Policy("numbers", engine or HFEngine(MODEL), Numbers())  # type: ignore[arg-type]


def span(ids: Sequence[int], origin: Origin, turn: int) -> Span:
    return Span(tuple(ids), origin, turn)


def turns(name: str, count: int) -> tuple[Turn, ...]:
    return tuple(Turn(Message(f"{name}.{k}", "assistant", f"{name} {k}")) for k in range(count))


def trajectory(name: str, count: int = 3, gold: dict[str, Any] | None = None, **settings: Any) -> Trajectory:
    """Turn k says 10k+first.. and sees 50+k; the last turn sees nothing."""
    spans = [span(PROMPT, "prompt", -1)]
    for k in range(count):
        spans.append(span([10 + 10 * k + ord(name[0]) % 7, 11 + k, STOP], "sampled", k))
        spans += [span([50 + k, 51], "observation", k)] if k < count - 1 else []
    gold = {"answer": "21 22"} if gold is None else gold
    base: dict[str, Any] = {"turns": turns(name, count), "sequences": (Tokens(tuple(spans)),), "gold": gold}
    return Trajectory(name, "g", prompt=(Message(f"{name}.q", "user", "?"),), **{**base, **settings})


def plain(context: Sequence[int], answer: Sequence[int] = (21, 22), model: Any = None) -> float:
    ids, start = [*context, LEAD, *answer], len(context) + 1
    return float(reforward_logprobs(model or MODEL, [ids], [(start, len(ids))])[0].double().mean())


def ids_until(t: Trajectory, turn: int) -> list[int]:
    return [i for s in t.sequences[0].spans if s.turn <= turn for i in s.ids]


def probe(rollouts: Rollouts, **settings: Any) -> Any:
    return collect(rollouts, [GoldProbe(policy(), **settings)], cache=Cache()).batch()


def test_every_turn_of_a_group_equals_a_forward_of_its_own() -> None:
    rollouts = Rollouts((trajectory("a"), trajectory("b", 2), trajectory("c", 1), trajectory("d", 4)))
    batch = probe(rollouts)
    column, start = batch["gold_logprob"], batch["gold_logprob_start"]
    assert column.known.tolist() == [k < n - 1 for n in (3, 2, 1, 4) for k in range(n)]  # not after the last turn
    expected = [plain(ids_until(t, k)) for t in rollouts for k in range(len(t))]
    for got, known, want in zip(column.values.tolist(), column.known.tolist(), expected, strict=True):
        assert not known or got == pytest.approx(want, abs=1e-5)
    assert start.values.tolist() == pytest.approx([plain(PROMPT)] * 4, abs=1e-5) and bool(start.known.all())


def test_gains_telescope() -> None:
    batch = probe(Rollouts((trajectory("a", 4), trajectory("b", 3))), after_last=True)
    gains = delta("gold_logprob", "gold_logprob_start")(None, batch)
    assert bool(gains.known.all())
    last = batch["gold_logprob"].values[torch.tensor([3, 6])]
    sums = torch.stack([gains.values[:4].sum(), gains.values[4:].sum()])
    assert torch.allclose(sums, last - batch["gold_logprob_start"].values)


def test_every_kth_turn_costs_its_own_probes_only_and_says_the_same() -> None:
    parent, length = trajectory("a", 5), len(ids_until(trajectory("a", 5), 1))
    own = (span([61, 62], "sampled", 0), span([63], "observation", 0), span([64], "sampled", 1))
    settings: dict[str, Any] = {"parent": ("a", 1), "gold": {"answer": "21 22"}, "turns": turns("a.b", 2)}
    rollouts = Rollouts((parent, Trajectory("a.b", "g", sequences=(Tokens(own, Prefix("a", 0, length)),), **settings)))
    whole, some = (probe(rollouts, every_turn=k)["gold_logprob"] for k in (1, 2))
    assert some.known.tolist() == [False, True, False, True, False, False, False]  # the branch begins with turn 3
    assert torch.allclose(some.values[some.known], whole.values[some.known], atol=1e-5)
    third = probe(rollouts, every_turn=3)["gold_logprob"]
    assert third.known.tolist() == [False, False, True, False, False, True, False]
    group, asked = rollouts.groups[0], [GoldProbe(policy(), every_turn=k) for k in (1, 2)]
    assert [len(one.probes(group)) for one in asked] == [5 + 2, 3 + 1]  # beside the turns, once before each rollout
    with pytest.raises(ValueError, match="every_turn"):
        GoldProbe(policy(), every_turn=0)


def test_after_the_last_turn() -> None:
    t = trajectory("a", 2)
    batch = probe(Rollouts((t,)), after_last=True)
    assert batch["gold_logprob"].values.tolist() == pytest.approx([plain(ids_until(t, k)) for k in (0, 1)], abs=1e-5)


def test_a_branch_starts_where_it_left_its_parent() -> None:
    parent = trajectory("a", 3)
    length = len(ids_until(parent, 0))
    own = (span([61, 62], "sampled", 0), span([63], "observation", 0), span([64], "sampled", 1))
    settings: dict[str, Any] = {"parent": ("a", 0), "gold": {"answer": "21 22"}, "turns": turns("a.b", 2)}
    branch = Trajectory("a.b", "g", sequences=(Tokens(own, Prefix("a", 0, length)),), **settings)
    batch = probe(Rollouts((parent, branch)))
    context = ids_until(parent, 0)
    assert batch["gold_logprob"].values[3].item() == pytest.approx(plain([*context, 61, 62, 63]), abs=1e-5)
    assert batch["gold_logprob_start"].values[1].item() == pytest.approx(plain(context), abs=1e-5)
    assert batch["gold_logprob"].known.tolist() == [True, True, False, True, False]


def test_a_new_sequence_is_what_the_next_turn_saw() -> None:
    first = Tokens((span(PROMPT, "prompt", -1), span([8, 9, 10], "sampled", 0), span([11], "observation", 0)))
    second = Tokens(  # the thought 9 is dropped, and a word of the answer is forced
        (span((*PROMPT, 8, 10, 11), "prompt", -1), span([12], "forced", 1), span([13], "sampled", 1))
    )
    t = trajectory("a", 2, sequences=(first, second))
    rollouts = Rollouts((t,))
    assert before_turn(t, 0, rollouts) == PROMPT
    assert after_turn(t, 0, rollouts) == (*PROMPT, 8, 10, 11)
    assert after_turn(t, 1, rollouts) == (*PROMPT, 8, 10, 11, 12, 13)


def test_aliases() -> None:
    t = trajectory("a", 2, {"answer": "21 22", "aliases": ["23", "24 25 26"]})
    each = [plain(ids_until(t, 0), answer) for answer in ((21, 22), (23,), (24, 25, 26))]
    got = {
        how: probe(Rollouts((t,)), aliases=how)["gold_logprob"].values[0].item() for how in ("first", "best", "mean")
    }
    expected = {"first": each[0], "best": max(each), "mean": sum(each) / 3}
    assert got == pytest.approx(expected, abs=1e-5)


def test_unknown_without_gold_or_tokens() -> None:
    members = (trajectory("a"), trajectory("b", gold={}), trajectory("c", sequences=()))
    batch = probe(Rollouts(members))
    assert batch["gold_logprob"].known.tolist() == [True, True] + [False] * 7
    assert batch["gold_logprob_start"].known.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sequences": ()}, "no trajectory has tokens"),
        ({"gold": {}}, "no trajectory has a gold answer"),
        ({"gold": {"answer": ""}}, "trajectory 'a'.*no tokens"),
    ],
)
def test_nothing_to_probe_is_an_error(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(RecordError, match=told):
        probe(Rollouts((trajectory("a", **settings),)))


def test_a_branch_without_its_parent_is_an_error() -> None:
    own = Tokens((span([61], "sampled", 0),), Prefix("a", 0, 5))
    branch = trajectory("b", 1, parent=("a", 0), sequences=(own,))
    with pytest.raises(RecordError, match="'b'.*read both together"):
        probe(Rollouts((branch,)))


def test_provenance_and_what_is_kept() -> None:
    engine, rollouts, cache = HFEngine(make_model()), Rollouts((trajectory("a"), trajectory("b"))), Cache()
    asked = GoldProbe(policy(engine))
    one = collect(rollouts, [asked], cache=cache).columns["gold_logprob"]
    source = one.provenance
    assert (source.provider, source.sees, source.policy_version, source.calls) == ("GoldProbe", ("gold",), 0, 5)
    assert source.parameters["form"] == "90 7 91 " and len(source.model) >= 16
    # prompt, 2 rollouts x 2 turns of 5 tokens, and behind each of the 5 places: the lead and all but the last token
    assert source.tokens == len(PROMPT) + 2 * 2 * 5 + 5 * 2
    collect(rollouts, [asked], cache=cache)
    assert len(cache) == 1
    engine.load(make_model(seed=1).state_dict())
    other = collect(rollouts, [asked], cache=cache).columns["gold_logprob"]
    assert len(cache) == 2 and other.provenance.model != source.model and other.provenance.policy_version == 1
    expected = plain(ids_until(rollouts[0], 0), model=engine.model)
    assert other.values[0].item() == pytest.approx(expected, abs=1e-5) != one.values[0].item()


def test_what_the_engine_knows_from_sampling_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gold, "FEWER", 1)  # these rollouts are so short that packing them costs little
    members = Rollouts(tuple(trajectory(name, 5) for name in "abcd"))
    cold = collect(members, [GoldProbe(policy())], cache=Cache()).columns["gold_logprob"]
    engine = HFEngine(MODEL)
    engine.sample([ids_until(t, k) for t in members for k in range(-1, 4)], Settings(max_new_tokens=1), [0] * 20)
    warm = collect(members, [GoldProbe(policy(engine))], cache=Cache()).columns["gold_logprob"]
    assert torch.allclose(warm.values, cold.values, atol=1e-5)
    assert cold.provenance.tokens == 5 + 4 * 4 * 5 + 17 * 2  # 17 different places
    assert warm.provenance.tokens == 17 * 3  # the lead and the answer, no token of any rollout


class Elsewhere:
    """An engine whose model is not at hand."""

    version = 3

    def score(self, sequences: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]], **_: Any) -> list[Scores]:
        return [Scores(logprobs) for logprobs in reforward_logprobs(MODEL, sequences, spans)]


def test_an_engine_elsewhere_scores_by_itself() -> None:
    rollouts = Rollouts((trajectory("a"),))
    there = collect(rollouts, [GoldProbe(policy(Elsewhere()))], cache=Cache()).batch()["gold_logprob"]
    assert torch.allclose(there.values, probe(rollouts)["gold_logprob"].values, atol=1e-5)
    assert there.provenance.model == "numbers@3"


def test_nan_is_an_error() -> None:
    model = make_model()
    asked = GoldProbe(policy(HFEngine(model)))
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0] = float("nan")
    with pytest.raises(FloatingPointError):
        collect(Rollouts((trajectory("a"),)), [asked], cache=Cache())


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="aliases"):
        GoldProbe(policy(), aliases="worst")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Policy"):
        GoldProbe(None)  # type: ignore[arg-type]
    assert replace(GoldProbe(policy()), limit=2).parameters == GoldProbe(policy()).parameters
