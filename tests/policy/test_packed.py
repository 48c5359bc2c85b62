from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.policy import packed
from workbench.policy.packed import branch_logprobs, check_packing, packed_logprobs, reforward_logprobs
from workbench.policy.token_tree import cut, pack, tree_mask

VOCAB = 100


def make_llama(seed: int = 0, **settings: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    rest: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2}
    return LlamaForCausalLM(LlamaConfig(**{"vocab_size": VOCAB, **sizes, **rest, **settings})).eval()


LLAMA = make_llama()


def tokens(seed: int, n: int) -> list[int]:
    return [random.Random(seed * 7919 + k).randrange(VOCAB) for k in range(n)]


def probed(trunk: list[int], places: list[int], answer: list[int]) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Force the answer at each place; all its tokens but the first (a label) are scored."""
    sequences = [[*trunk[:at], *answer] for at in places]
    return sequences, [(len(s) - len(answer) + (len(answer) > 1), len(s)) for s in sequences]


def group(count: int, prompt: int = 20, turn: int = 9, turns: int = 3) -> tuple[list[list[int]], list[tuple[int, int]]]:
    sequences, spans = [], []
    for member in range(count):
        trunk = tokens(0, prompt) + tokens(member + 1, turn * turns)
        own = probed(trunk, [prompt + turn * k for k in range(turns + 1)], tokens(99, 4))
        sequences += own[0]
        spans += own[1]
    return sequences, spans


def largest(ours: list[torch.Tensor], plain: list[torch.Tensor]) -> float:
    assert [len(one) for one in ours] == [len(one) for one in plain]
    return max(float((a - b).abs().max()) for a, b in zip(ours, plain, strict=True) if len(a))


CASES = {
    "one rollout": group(1),
    "a group": group(4),
    "one turn": group(3, turns=1),
    "one token": probed(tokens(5, 40), [10, 20, 30, 40], [7]),
    "the rollout says the answer itself": probed(tokens(5, 20) + [7, 8, 9], [10, 20], [7, 8, 9]),
    "nothing shared": ([tokens(k, 6 + k) for k in range(4)], [(1, 6 + k) for k in range(4)]),
    "two of the same, and one without a span": ([tokens(1, 9), tokens(1, 9), tokens(2, 5)], [(4, 9), (6, 8), (3, 3)]),
    "a branch of a branch": (
        [tokens(1, 30), tokens(1, 20) + tokens(2, 10), tokens(1, 20) + tokens(2, 5) + tokens(3, 9)],
        [(10, 30), (20, 30), (25, 34)],
    ),
}


@pytest.mark.parametrize("limit", [1, 2, 7, 32, 768])
@pytest.mark.parametrize("case", CASES)
def test_packed_equals_plain(case: str, limit: int) -> None:
    sequences, spans = CASES[case]
    ours = packed_logprobs(LLAMA, sequences, spans, limit=limit)
    assert largest(ours, reforward_logprobs(LLAMA, sequences, spans)) < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    sequences=st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=9), min_size=1, max_size=8),
    limit=st.integers(1, 12),
)
def test_any_forest(sequences: list[list[int]], limit: int) -> None:
    spans = [(1, len(s)) for s in sequences]
    ours = packed_logprobs(LLAMA, sequences, spans, limit=limit)
    assert largest(ours, reforward_logprobs(LLAMA, sequences, spans)) < 1e-5
    tree = pack(sequences, spans)
    assert len(tree) == len({tuple(s[:n]) for s in sequences for n in range(1, len(s))})  # every prefix once
    edges = cut(tree, limit)
    assert [a for a, _ in edges] == [0, *(b for _, b in edges)][:-1] and edges[-1][1] == len(tree)


def test_a_branch_leaves_its_trunk() -> None:
    trunk, answer = tokens(1, 30), tokens(2, 4)
    ours = branch_logprobs(LLAMA, trunk, [(12, answer, (1, 4)), (30, answer, (0, 2))])
    plain = reforward_logprobs(LLAMA, [trunk[:12] + answer, trunk + answer], [(13, 16), (30, 32)])
    assert largest(ours, plain) < 1e-5


def test_the_mask_shows_ancestors_only() -> None:
    #   5 6 7 8        positions 0 1 2 3
    #     \ 9          position 2
    tree = pack([[5, 6, 7, 8, 0], [5, 6, 9, 0]], [(4, 5), (3, 4)])
    assert tree.tokens.tolist() == [5, 6, 7, 8, 9] and tree.depth.tolist() == [0, 1, 2, 3, 2]
    seen = tree_mask(tree.end, torch.tensor([0, 1]), 3, 5, torch.float32)[0, 0] == 0
    assert seen.tolist() == [[True, True, True, False], [True, True, False, True]]


def test_keys_nobody_sees_any_more_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences, spans = group(6)
    width: list[int] = []

    def watched(*args: Any) -> torch.Tensor:
        mask = tree_mask(*args)
        width.append(mask.shape[-1])
        return mask

    monkeypatch.setattr(packed, "tree_mask", watched)
    packed_logprobs(LLAMA, sequences, spans, limit=16)
    assert len(width) > 5 and max(width) <= max(map(len, sequences)) + 16 < len(pack(sequences, spans))


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=64)).eval()


def gemma2(window: int = 64) -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(1)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": window}
    made = Gemma2ForCausalLM(Gemma2Config(vocab_size=VOCAB, final_logit_softcapping=2.0, **sizes, **heads))
    return made.eval()


def lora() -> Any:
    from peft import LoraConfig, get_peft_model

    made = get_peft_model(make_llama(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    return made.eval()


@pytest.mark.parametrize("make", [lambda: make_llama(attn_implementation="eager"), gpt2, gemma2, lora])
def test_other_models(make: Any) -> None:
    model, (sequences, spans) = make(), group(2)
    plain = reforward_logprobs(model, sequences, spans)
    for limit in (10, 768):
        assert largest(packed_logprobs(model, sequences, spans, limit=limit), plain) < 1e-5
    assert check_packing(model) < 1e-5


def test_an_adapter_counts() -> None:
    sequences, spans = group(1)
    assert largest(packed_logprobs(lora(), sequences, spans), packed_logprobs(LLAMA, sequences, spans)) > 0.01


def test_bfloat16_is_close() -> None:
    model, (sequences, spans) = make_llama().to(torch.bfloat16), group(3)
    ours = packed_logprobs(model, sequences, spans, limit=16)
    assert ours[0].dtype == torch.float32
    assert largest(ours, reforward_logprobs(model, sequences, spans)) < 0.2


def test_the_model_is_left_as_it_was() -> None:
    model, (sequences, spans) = make_llama(attention_dropout=0.5), group(2)
    model.train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (packed_logprobs(model, sequences, spans) for _ in range(2))
    assert largest(first, second) == 0  # no dropout
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not first[0].is_inference() and not first[0].requires_grad


def test_a_window_is_refused() -> None:
    sequences, spans = group(1)
    with pytest.raises(ValueError, match="sliding_attention.*reforward_logprobs"):
        packed_logprobs(gemma2(window=8), sequences, spans)


def test_a_model_that_packs_wrongly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "tree_mask", lambda *args: tree_mask(*args) * 0)
    with pytest.raises(ValueError, match="other log-probs in a packed pass"):
        check_packing(LLAMA)


def test_nan_never_comes_out() -> None:
    model, (sequences, spans) = make_llama(), group(1)
    with torch.no_grad():
        model.lm_head.weight[3] = float("nan")
    for score in (packed_logprobs, reforward_logprobs):
        with pytest.raises(FloatingPointError, match="sequence 0.*token 0"):
            score(model, sequences, spans)


@pytest.mark.parametrize(
    ("sequences", "spans", "told"),
    [
        ([[1, 2]], [(0, 2)], "no log-prob"),
        ([[1, 2]], [(1, 3)], "its length"),
        ([[1, 2]], [], "one span a sequence"),
        ([[1, VOCAB]], [(1, 2)], "token ids in"),
        ([[-1, 2]], [(1, 2)], "token ids in"),
    ],
)
def test_bad_input(sequences: list[list[int]], spans: list[tuple[int, int]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        packed_logprobs(LLAMA, sequences, spans)


def test_nothing_to_score() -> None:
    assert packed_logprobs(LLAMA, [], []) == []
    assert [len(one) for one in packed_logprobs(LLAMA, [[1, 2]], [(1, 1)])] == [0]
