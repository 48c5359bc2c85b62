"""Every engine against the conformance checks; what is special about each."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import conformance
import pytest
import torch
from conformance import Case, generate, settings_of
from conftest import make_model

from workbench.policy import Engine, ScriptedEngine, Settings
from workbench.policy.hf import HFEngine, token_logprobs

STOPS = tuple(range(20, 60))


def prompts_for(vocab: int, head: int = 60) -> list[list[int]]:
    """Prompts of which most share a long head, two are equal, one has a single token, one stands alone."""
    rng = random.Random(0)
    some = lambda n: [rng.randrange(3, vocab) for _ in range(n)]  # noqa: E731
    shared, question = some(head), some(15)
    tails = [some(n) for n in (1, 4, 9)]
    return [
        *(shared + t for t in tails),
        shared + question,
        shared + question,
        shared + question + some(7),
        [5],
        some(33),
    ]


def plain_of(model: Any) -> Any:
    def plain(ids: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float()

    return plain


VARIANTS: dict[str, dict[str, Any]] = {
    "reuse": {},
    "plain": {"reuse": False},
    "tight": {"cache_bytes": 90_000, "max_tokens": 130},
    "tight trunk": {"cache_bytes": 120_000, "max_tokens": 130, "max_rows": 4},
    "small passes": {"max_tokens": 64},
}


@pytest.fixture(params=[*VARIANTS, "trunk", "fused", "tight trunk", "no trunk", "eager", "no groups"])
def case(request: Any, monkeypatch: Any) -> Case:
    settings: dict[str, Any] = {}
    if request.param == "eager":
        settings = {"attn_implementation": "eager"}
    if request.param == "no groups":
        settings = {"num_key_value_heads": 6, "tie_word_embeddings": False}
    if request.param == "no trunk":  # a model that does not let its attention be replaced
        monkeypatch.setattr("workbench.policy.hf.works_on", lambda model: False)
    model, other = make_model(**settings), make_model(1, **settings)
    engine = HFEngine(model, **VARIANTS.get(request.param, {}))
    assert engine.shares_trunk == (request.param not in ("plain", "no trunk"))
    if request.param == "fused":
        monkeypatch.setattr("workbench.policy.attention.LARGEST", 1)
    prompts = prompts_for(400)
    if request.param in ("trunk", "fused", "tight trunk", "no groups"):  # all begin alike: nothing but the shared head
        prompts = prompts[:6]
    made = Case(engine, prompts, STOPS, plain_of(model), other.state_dict())
    made.other = other  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize("changes", [{"temperature": 1.0}, {"temperature": 1.7, "top_p": 0.9, "stop_ids": ()}])
def test_logprobs(case: Case, changes: dict[str, Any]) -> None:
    conformance.logprobs_are_those_of_a_plain_forward(case, **changes)


def test_turns(case: Case) -> None:
    conformance.prompts_stay_and_later_turns_go_on(case)


def test_ends(case: Case) -> None:
    conformance.generations_end_where_they_should(case)


def test_batch_independence(case: Case) -> None:
    conformance.a_sample_does_not_depend_on_its_batch(case)


def test_seeds(case: Case) -> None:
    conformance.seeds_make_the_difference(case)


def test_greedy(case: Case) -> None:
    conformance.greedy_takes_the_most_likely(case)


def test_versions(case: Case) -> None:
    conformance.versions_follow_the_weights(case, plain_of(case.other))  # type: ignore[attr-defined]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_scores(case: Case, temperature: float) -> None:
    conformance.scores_are_those_of_a_plain_forward(case, temperature)
    generate(case, settings_of(case))  # now with something in the tree
    conformance.scores_are_those_of_a_plain_forward(case, temperature)


# -- what only the Hugging Face engine promises ---------------------------------------------------------------


def count_tokens(model: Any) -> list[int]:
    """Record how many token places each forward pass computes."""
    seen: list[int] = []
    model.register_forward_pre_hook(lambda m, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True)
    return seen


def test_reuse_changes_nothing_but_the_work() -> None:
    made, work = [], []
    for reuse in (True, False):
        model = make_model()
        engine = HFEngine(model, reuse=reuse)
        seen = count_tokens(model)
        case = Case(engine, [p for p in prompts_for(400) for _ in range(4)], STOPS, plain_of(model))
        first = generate(case, settings_of(case))
        grown = [[*p, *g.token_ids, 5, 6] for p, g in zip(case.prompts, first, strict=True)]
        made.append([g for g in [*first, *generate(case, settings_of(case), grown)]])
        work.append(sum(seen))
    assert [g.token_ids for g in made[0]] == [g.token_ids for g in made[1]]
    for a, b in zip(*made, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
    assert work[0] * 3 < work[1], work


def test_shared_prompt_is_computed_once() -> None:
    model = make_model()
    engine = HFEngine(model)
    seen = count_tokens(model)
    case = Case(engine, [[7] * 3 + list(range(3, 203))] * 16, ())
    generate(case, settings_of(case, max_new_tokens=1))
    assert sum(seen) == 203
    seen.clear()
    generate(case, settings_of(case, max_new_tokens=1))
    assert sum(seen) == 1  # all but the last token is known; the last gives the logits


def test_a_trunk_is_used_where_all_prompts_begin_alike(monkeypatch: Any) -> None:
    """Guards the cases above: without a trunk they would test nothing of it."""
    from workbench.policy import hf

    seen: list[int] = []
    attend = hf.attend_with
    monkeypatch.setattr(
        hf, "attend_with", lambda m, trunk: seen.append(trunk.tokens if trunk else 0) or attend(m, trunk)
    )
    engine = HFEngine(make_model())
    generate(Case(engine, prompts_for(400)[:6], ()), Settings(max_new_tokens=4))
    assert seen[0] == 0 and seen[-4:] == [60] * 4  # the stem alone, then the rows behind it


def test_the_tree_keeps_its_limit() -> None:
    engine = HFEngine(make_model(), cache_bytes=200_000)
    case = Case(engine, prompts_for(400), STOPS)
    for n in range(5):
        generate(case, settings_of(case), seeds=[n * 10 + k for k in range(len(case.prompts))])
        assert engine.tree.bytes <= 200_000
        assert engine.tree.bytes == sum(node.kv.bytes for node in all_nodes(engine.tree))


def all_nodes(tree: Any) -> list[Any]:
    found, todo = [], list(tree._root.children.values())
    while todo:
        node = todo.pop()
        found.append(node)
        todo.extend(node.children.values())
    return found


def test_mode_and_attention_of_the_model_come_back(model: Any) -> None:
    model.train()
    before = model.config._attn_implementation
    engine = HFEngine(model)
    generate(Case(engine, prompts_for(400), STOPS), Settings(max_new_tokens=3))
    assert model.training and model.config._attn_implementation == before
    assert all(p.grad is None for p in model.parameters())


def test_weights_changed_in_place(model: Any) -> None:
    engine = HFEngine(model)
    case = Case(engine, prompts_for(400), STOPS, plain_of(model))
    generate(case, settings_of(case))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert engine.load(None) == 1
    conformance.logprobs_are_those_of_a_plain_forward(case)


def test_load_takes_tied_weights_once_and_refuses_others(model: Any) -> None:
    engine = HFEngine(model)
    once = {name: value for name, value in make_model(1).state_dict().items() if name != "lm_head.weight"}
    assert engine.load(once) == 1
    with pytest.raises(ValueError, match="1 missing .*'model.norm.weight'"):
        engine.load({name: value for name, value in once.items() if name != "model.norm.weight"})
    with pytest.raises(ValueError, match="1 unknown .*'lora.a'"):
        engine.load(once | {"lora.a": torch.zeros(1)})
    assert engine.version == 1


def test_errors_say_what_to_do(model: Any) -> None:
    engine = HFEngine(model)
    with pytest.raises(ValueError, match="2 prompts, 1 seeds"):
        engine.sample([[1], [2]], Settings(), [0])
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        engine.sample([[1], []], Settings(), [0, 1])
    with pytest.raises(ValueError, match="prompt 0 has 500 tokens.*512 positions"):
        engine.sample([[1] * 500], Settings(max_new_tokens=64), [0])
    with pytest.raises(ValueError, match=r"sequence 0: expected 1 <= start <= stop <= 3, got \(0, 2\)"):
        engine.score([[1, 2, 3]], [(0, 2)])
    with pytest.raises(ValueError, match="temperature > 0"):
        engine.score([[1, 2, 3]], [(1, 2)], temperature=0)
    with pytest.raises(ValueError, match="seed in"):
        engine.sample([[1]], Settings(), [-1])
    assert engine.sample([], Settings(), []) == []
    assert engine.score([[1, 2, 3]], [(2, 2)])[0].logprobs.shape == (0,)


def test_another_callers_pass_is_not_answered_wrongly(model: Any) -> None:
    from workbench.policy.attention import attend_with

    with attend_with(model, None), pytest.raises(RuntimeError, match="an engine is sampling with this model"):
        model(input_ids=torch.tensor([[1, 2, 3]]))


def test_sliding_windows_are_refused() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=4,
    )  # fmt: skip
    with pytest.raises(NotImplementedError, match="full attention in every layer"):
        HFEngine(MistralForCausalLM(config))


def test_token_logprobs_has_gradients(model: Any) -> None:
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    found = token_logprobs(model, ids, mask, temperature=0.7)
    expected = torch.log_softmax(plain_of(model)([9, 10]) / 0.7, -1)[0, 10]
    assert found.shape == (2, 3) and found[1, 0].item() == pytest.approx(expected.item(), abs=1e-5)
    inside = token_logprobs(model, ids, mask, top_p=0.5)
    assert ((inside == -torch.inf) | (inside >= token_logprobs(model, ids, mask))).all()
    found[0].sum().backward()
    assert model.model.embed_tokens.weight.grad.abs().sum() > 0


def test_the_event_loop_goes_on_meanwhile(model: Any) -> None:
    engine = HFEngine(model)
    ticks: list[int] = []

    async def tick(done: asyncio.Event) -> None:
        while not done.is_set():
            ticks.append(1)
            await asyncio.sleep(0.001)

    async def both() -> None:
        done = asyncio.Event()
        other = asyncio.create_task(tick(done))
        await engine.generate(prompts_for(400), Settings(max_new_tokens=60), range(8))
        done.set()
        await other

    asyncio.run(both())
    assert len(ticks) > 3


# -- scripts ----------------------------------------------------------------------------------------------------


def scripted_case() -> Case:
    def script(prompt: Any, seed: int) -> list[int]:
        return [100 + seed % 7] * (5 if seed % 2 else 40) + [STOPS[0], 7]

    return Case(ScriptedEngine(script), prompts_for(400), STOPS)


def test_scripts_conform_where_they_can() -> None:
    conformance.prompts_stay_and_later_turns_go_on(scripted_case())
    conformance.generations_end_where_they_should(scripted_case())
    conformance.a_sample_does_not_depend_on_its_batch(scripted_case())
    conformance.versions_follow_the_weights(scripted_case(), None)


def test_a_script_has_no_probabilities() -> None:
    engine = ScriptedEngine([[1, 2], [3]])
    first, second = asyncio.run(engine.generate([[9], [9]], Settings(), [0, 1]))
    assert (first.token_ids, second.token_ids) == ((1, 2), (3,))
    assert first.logprobs == (None, None)
    assert isinstance(engine, Engine)
    with pytest.raises(NotImplementedError, match="cannot score"):
        engine.score([[1, 2]], [(1, 2)])
    with pytest.raises(IndexError, match="the script is over"):
        asyncio.run(engine.generate([[9]], Settings(), [0]))
