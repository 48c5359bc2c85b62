"""The vLLM engine: the conformance checks of all engines, and what only it promises.

A start takes seconds (the import of vLLM most of them), so all tests share one engine; a test that loads other weights
loads the first ones again.
"""

from __future__ import annotations

import asyncio
import copy
import random
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import conformance
import numpy as np
import pytest
import torch
from conformance import Case, generate, settings_of
from conftest import make_model
from test_engines import STOPS, plain_of, prompts_for

from workbench.policy import Engine, Settings, vllm_core, vllm_weights
from workbench.policy.agreement import (
    Disagreement,
    engine_logprobs,
    learner_logprobs,
    probe_sequence,
    require_agreement,
)
from workbench.policy.sampling import log_distribution
from workbench.policy.vllm import VLLMEngine
from workbench.policy.vllm_core import VLLMMissing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),  # importing it takes seconds
]
SHAPE = {"hidden_size": 64, "head_dim": 32, "num_attention_heads": 2, "num_key_value_heads": 1}
"""Heads of at least 32, as vLLM's attention on a CPU wants them."""


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    return make_model(**SHAPE), make_model(1, **SHAPE)


@pytest.fixture(scope="module")
def folder(models: Any, tmp_path_factory: Any) -> Path:
    path = tmp_path_factory.mktemp("a model")
    models[0].save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def started(folder: Path) -> Iterator[tuple[VLLMEngine, list[bool]]]:
    """The engine, and whether its start left this process as it was."""
    import_module("llvmlite.binding")  # loaded by the retriever of some worlds; an engine starts all the same
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    made = VLLMEngine(folder, memory_gb=0.05, version=3)
    found = torch.rand(1), np.random.rand(), random.random()
    yield made, [expected == found, torch.set_num_threads is set_threads, torch.get_num_threads() == threads]
    made.close()


@pytest.fixture
def engine(started: tuple[VLLMEngine, list[bool]]) -> VLLMEngine:
    return started[0]


@pytest.fixture
def case(engine: VLLMEngine, models: Any) -> Case:
    return Case(engine, prompts_for(400), STOPS, plain_of(models[0]), models[1].state_dict())


@pytest.mark.parametrize(
    "changes", [{"temperature": 1.0}, {"temperature": 0.6}, {"temperature": 1.7, "top_p": 0.9, "stop_ids": ()}]
)
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


def test_versions(case: Case, models: Any) -> None:
    conformance.versions_follow_the_weights(case, plain_of(models[1]))
    case.engine.load(models[0].state_dict())


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_scores(case: Case, temperature: float) -> None:
    conformance.scores_are_those_of_a_plain_forward(case, temperature)
    generate(case, settings_of(case))  # now with cached prefixes
    conformance.scores_are_those_of_a_plain_forward(case, temperature)


# -- what only the vLLM engine promises --------------------------------------------------------------------------


def count_steps(engine: VLLMEngine) -> list[int]:
    """Record how many requests are under way at each step from now on."""
    seen: list[int] = []

    def watch(core: Any) -> None:
        step = type(core).step

        def counted() -> Any:
            seen.append(core.get_num_unfinished_requests())
            return step(core)

        core.step = counted

    engine._pump.alone(watch)
    return seen


def test_a_start_changes_nothing_in_the_process(started: tuple[VLLMEngine, list[bool]]) -> None:
    assert started[1] == [True, True, True]
    assert isinstance(started[0], Engine)


def test_many_episodes_share_a_batch(engine: VLLMEngine) -> None:
    steps = count_steps(engine)

    async def play() -> list[Any]:
        one = Settings(max_new_tokens=60)
        return await asyncio.gather(*(engine.generate([[5, 6, 7 + n]], one, [n]) for n in range(12)))

    together = asyncio.run(play())
    assert len(steps) < 12 * 60 / 2 and max(steps) > 6
    alone = engine.sample([[5, 6, 7 + n] for n in range(12)], Settings(max_new_tokens=60), range(12))
    assert [made.token_ids for (made,) in together] == [made.token_ids for made in alone]


def test_prefixes_are_cached(engine: VLLMEngine) -> None:
    prompt = [9] * 70 + [3, 4]
    engine.sample([prompt], Settings(max_new_tokens=1), [0])
    asked = engine._requests([prompt], Settings(max_new_tokens=1), [0])
    assert engine._pump.ask(asked).result(60)[0][0].num_cached_tokens == 64


def test_a_cancelled_episode_leaves_the_batch(engine: VLLMEngine) -> None:
    steps = count_steps(engine)

    async def give_up() -> None:
        task = asyncio.create_task(engine.generate([[5]], Settings(max_new_tokens=400), [0]))
        while len(steps) < 2:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(give_up())
    assert engine._pump.alone(lambda core: core.get_num_unfinished_requests()) == 0
    assert len(steps) < 400


def test_weights_that_come_while_tokens_are_sampled_wait(engine: VLLMEngine, models: Any) -> None:
    steps, before, made = count_steps(engine), engine.version, []
    prompt, long = list(range(3, 50)), Settings(max_new_tokens=300)
    player = threading.Thread(target=lambda: made.extend(engine.sample([prompt], long, [1])))
    player.start()
    while len(steps) < 2:
        threading.Event().wait(0.001)
    assert engine.load(models[1].state_dict()) == before + 1
    player.join(60)
    (late,) = engine.sample([prompt], long, [1])
    assert (made[0].policy_version, late.policy_version) == (before, before + 1)
    for generation, model in ((made[0], models[0]), (late, models[1])):
        assert worst(plain_of(model), prompt, generation, long) < 1e-4
    engine.load(models[0].state_dict())


def worst(plain: Callable[[Any], torch.Tensor], prompt: list[int], made: Any, settings: Settings) -> float:
    """Return the largest |log of the ratio| of a sample: what a trainer sees at step 0."""
    logits = plain([*prompt, *made.token_ids])[len(prompt) - 1 : -1]
    logp = log_distribution(logits, settings.temperature, settings.top_p)
    ids = torch.tensor(made.token_ids)
    return (logp[torch.arange(len(ids)), ids] - torch.tensor(made.logprobs)).abs().max().item()


def moved(model: Any, by: float = 1e-3) -> Any:
    """Return a model after a small update: every weight moved by `by`, up or down."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for n, parameter in enumerate(other.parameters()):
            drawn = torch.rand(parameter.shape, generator=torch.Generator().manual_seed(n))
            parameter.add_(by * torch.sign(drawn - 0.5))
    return other


def test_weights_are_copied_and_a_folder_will_do(engine: VLLMEngine, models: Any, tmp_path: Path) -> None:
    other = moved(models[0])
    other.save_pretrained(tmp_path)
    given = {name: value.clone() for name, value in other.state_dict().items()}
    probe = probe_sequence(400)
    for weights in (given, tmp_path):
        before = engine.version
        assert engine.load(weights) == before + 1
        for value in given.values():
            value.zero_()  # the learner goes on with its own
        require_agreement(learner_logprobs(other, probe), {"a": engine_logprobs(engine, probe)}, torch.float32)
        engine.load(models[0].state_dict())


def test_weights_of_another_model_are_refused_and_change_nothing(
    engine: VLLMEngine, models: Any, tmp_path: Any
) -> None:
    whole, before = models[0].state_dict(), engine.version
    with pytest.raises(ValueError, match=r"1 missing \(first \['model.norm.weight'\]\).*merge adapters"):
        engine.load({name: value for name, value in whole.items() if name != "model.norm.weight"})
    with pytest.raises(ValueError, match="1 unknown .*'lora.a'"):
        engine.load(whole | {"lora.a": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"expected shape \(64,\), got \(1,\)"):
        engine.load(whole | {"model.norm.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="differ, but the config ties them"):
        engine.load(whole | {"lm_head.weight": whole["lm_head.weight"] + 1})
    with pytest.raises(FileNotFoundError, match="safetensors"):
        engine.load(tmp_path)
    with pytest.raises(ValueError, match="a state dict or the path"):
        engine.load(None)  # type: ignore[arg-type]
    assert engine.version == before
    assert worst(plain_of(models[0]), [5, 6], engine.sample([[5, 6]], Settings(), [0])[0], Settings()) < 1e-4


# -- planted faults: each is seen by the probe, and by the ratio at step 0 ---------------------------------------


def stale_head(engine: VLLMEngine, monkeypatch: Any) -> None:
    monkeypatch.setattr(vllm_weights, "refresh_heads", lambda core: None)


def missed_reset(engine: VLLMEngine, monkeypatch: Any) -> None:
    monkeypatch.setattr(vllm_weights, "forget_prefixes", lambda core: None)


def raw_logprobs(engine: VLLMEngine, monkeypatch: Any) -> None:
    def set_mode(core: Any) -> None:
        sampler = core.model_executor.driver_worker.worker.model_runner.sampler
        for part in (sampler, sampler.topk_topp_sampler):
            monkeypatch.setattr(part, "logprobs_mode", "raw_logprobs")

    engine._pump.alone(set_mode)


def nothing_wrong(engine: VLLMEngine, monkeypatch: Any) -> None:
    pass


@pytest.mark.parametrize("fault", [nothing_wrong, stale_head, missed_reset, raw_logprobs])
def test_planted_faults_are_seen(engine: VLLMEngine, models: Any, monkeypatch: Any, fault: Any) -> None:
    learner, probe = moved(models[0]), probe_sequence(400)
    prompts, settings = [list(range(3, 80)), list(range(90, 200))], Settings(temperature=0.8, max_new_tokens=24)
    engine.sample(prompts, settings, [0, 1])  # a step before the update: these prefixes are cached
    before = engine_logprobs(engine, probe)
    fault(engine, monkeypatch)
    engine.load(learner.state_dict())
    after, made = engine_logprobs(engine, probe), engine.sample(prompts, settings, [2, 3])
    monkeypatch.undo()
    engine.load(models[0].state_dict())

    ratio = max(worst(plain_of(learner), p, g, settings) for p, g in zip(prompts, made, strict=True))
    told = {"engine 0": after}
    if fault is nothing_wrong:
        require_agreement(learner_logprobs(learner, probe), told, torch.float32)
        assert ratio < 1e-4
    else:
        with pytest.raises(Disagreement, match="engine 0 is off by"):
            require_agreement(learner_logprobs(learner, probe), told, torch.float32, before={"engine 0": before})
        assert ratio > 1e-3


# -- errors ------------------------------------------------------------------------------------------------------


def test_errors_say_what_to_do(engine: VLLMEngine) -> None:
    with pytest.raises(ValueError, match="2 prompts, 1 seeds"):
        engine.sample([[1], [2]], Settings(), [0])
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        engine.sample([[1], []], Settings(), [0, 1])
    with pytest.raises(ValueError, match=r"prompt 0 has 500 tokens.*512 positions of this engine.*model reads 512"):
        engine.sample([[1] * 500], Settings(max_new_tokens=64), [0])
    with pytest.raises(ValueError, match="prompt 0: expected token ids from 0 to 399, got 1 to 400.*another tokenizer"):
        engine.sample([[1, 400]], Settings(), [0])
    with pytest.raises(ValueError, match="seed in"):
        engine.sample([[1]], Settings(), [-1])
    with pytest.raises(ValueError, match=r"sequence 0: expected 1 <= start <= stop <= 3, got \(0, 2\)"):
        engine.score([[1, 2, 3]], [(0, 2)])
    with pytest.raises(ValueError, match="sequence 0: token 519 is to be scored.*512 tokens"):
        engine.score([[1] * 520], [(510, 520)])
    with pytest.raises(ValueError, match="temperature > 0"):
        engine.score([[1, 2, 3]], [(1, 2)], temperature=0)
    assert engine.sample([], Settings(), []) == [] == engine.score([], [])
    assert engine.score([[1, 2, 3]], [(2, 2)], top_k=3)[0].top_ids.shape == (0, 3)
    assert engine.sample([[1]], Settings(max_new_tokens=0), [0])[0].token_ids == ()


def test_a_sequence_may_fill_the_engine(engine: VLLMEngine, models: Any) -> None:
    full = [3 + n % 390 for n in range(512)]
    (made,) = engine.sample([full[:500]], Settings(max_new_tokens=12), [0])
    assert len(made.token_ids) == 12
    (scores,) = engine.score([full], [(1, 512)])
    expected = log_distribution(plain_of(models[0])(full)[:-1])[torch.arange(511), torch.tensor(full[1:])]
    torch.testing.assert_close(scores.logprobs, expected, atol=1e-4, rtol=0)


def test_starts_that_cannot_be(engine: VLLMEngine, folder: Path) -> None:
    with pytest.raises(VLLMMissing, match="device 'cuda', the one installed works on 'cpu'.*make setup-all"):
        VLLMEngine(folder, device="cuda")
    with pytest.raises(RuntimeError, match="torch.distributed group of 1.*in a process of its own"):
        VLLMEngine(folder)


def test_another_engine_starts_once_the_first_is_closed(engine: VLLMEngine, folder: Path, models: Any) -> None:
    """It ends the shared engine, so it comes last; the other has room for two of its sixteen samples at once."""
    engine.close()
    block = 2 * 3 * 32 * 4 * vllm_core.BLOCK
    engine = VLLMEngine(folder, max_length=120, memory_gb=(5 + 4) * block / 1e9)
    prompts, settings = [[3 + n] * 20 for n in range(16)], Settings(max_new_tokens=100)
    crowded = engine.sample(prompts, settings, range(16))
    for n in (0, 7, 15):
        assert engine.sample([prompts[n]], settings, [n])[0].token_ids == crowded[n].token_ids
        assert worst(plain_of(models[0]), prompts[n], crowded[n], settings) < 1e-4
    engine.close()
    with pytest.raises(RuntimeError, match=r"no longer there \(it was closed\)"):
        engine.sample([[1]], Settings(), [0])
