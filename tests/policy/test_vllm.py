"""The vLLM engine: the conformance checks of all engines, and what only it promises.

A start takes seconds (the import of vLLM most of them), so all tests share one engine; a test that loads other weights
loads the first ones again.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import conformance
import pytest
import torch
from conformance import Case, generate, settings_of
from conftest import make_model
from test_engines import STOPS, plain_of, prompts_for

from workbench.policy import Engine, Settings
from workbench.policy.vllm import VLLMEngine

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    return make_model(hidden_size=64, head_dim=32, num_attention_heads=2, num_key_value_heads=1), make_model(
        1, hidden_size=64, head_dim=32, num_attention_heads=2, num_key_value_heads=1
    )


@pytest.fixture(scope="module")
def folder(models: Any, tmp_path_factory: Any) -> Path:
    path = tmp_path_factory.mktemp("a model")
    models[0].save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[VLLMEngine]:
    made = VLLMEngine(folder, memory_gb=0.05, version=3)
    yield made
    made.close()


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
