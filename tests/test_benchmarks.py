"""The benchmarks' own code, on next to nothing: no figure is made here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FOLDER))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_gpu_trainer_makes_real_updates_on_its_small_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_trainer
    from halves import machine

    monkeypatch.setattr(machine, "RESULTS", tmp_path)
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    small = ["--policy", "0.5b", "--device", "cpu", "--tiny-config", "--dtype", "float32"]
    found = gpu_trainer.main([*small, "--steps", "2", "--groups", "2", "--size", "4", "--keep", "x"])
    assert found["updates"] == 2  # of three steps, the first is not counted
    assert found["result"].endswith("no figure")
    assert set(found["seconds"]) == {"rollout", "evidence", "credit", "learn"}
    assert 0 < found["sampled"] < found["read"]
    assert found["ratio_gap"] < 1e-3
    assert json.loads((tmp_path / "x.json").read_text())["updates"] == 2


def test_gpu_trainer_s_noise_has_outcomes_that_differ() -> None:
    import gpu_trainer

    small = ["--policy", "0.5b", "--device", "cpu", "--tiny-config", "--dtype", "float32", "--recipe", "grpo"]
    found = gpu_trainer.main([*small, "--steps", "1", "--groups", "2", "--size", "4"])
    assert found["updates"] == 1  # GRPO learns from differing outcomes alone


def test_gpu_trainer_says_that_nothing_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_trainer

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = gpu_trainer.main(["--policy", "smollm2"])
    assert found["result"] == "unmeasured: no GPU"
    assert "updates" not in found


def test_gpu_trainer_has_half_a_billion_parameters() -> None:
    import gpu_trainer
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(gpu_trainer.config(49152, tiny=False))
    assert 0.45e9 < sum(p.numel() for p in model.parameters()) < 0.6e9


def test_trl_is_missed_with_the_command_that_brings_it(tmp_path: Path) -> None:
    import trainer_vs_trl

    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho \"['trl']\"\n")
    program.chmod(0o755)
    said = trainer_vs_trl.without_trl(str(program))
    assert said is not None and "make setup-all" in said and "trl" in said


def test_a_trial_that_failed_is_not_chosen() -> None:
    import trainer_vs_trl

    def one(cpu: float) -> dict[str, Any]:
        return {"cpu": cpu, "seconds": 2 * cpu, "played": {"episodes": 64}}

    assert trainer_vs_trl.quickest({"a": one(2.0), "b": {"left out": "why"}, "c": one(1.0)}) == "c"
    with pytest.raises(RuntimeError, match="no trial"):
        trainer_vs_trl.quickest({"b": {"left out": "why"}})


def test_ratios_are_of_rates() -> None:
    import trainer_vs_trl

    def one(seconds: float, cpu: float) -> dict[str, Any]:
        memory, spent = {"peak": 5.0}, {"rollout": seconds / 2, "rest": seconds / 2}
        return {"seconds": seconds, "cpu": cpu, "played": {"episodes": 64}, "memory_mb": memory, "spent": spent}

    said = trainer_vs_trl.summary([{"here": one(1.0, 1.0), "trl": one(3.0, 4.0)}])
    assert said["clock"]["median"] == 3.0 and said["cpu"]["median"] == 4.0
    assert said["share_of_the_clock"]["trl"] == {"rollout": 0.5, "rest": 0.5}


def test_the_text_route_reads_a_line_as_the_world_does() -> None:
    from halves.common import WORLD, tasks_of
    from halves.routes import _answered, _line

    from workbench.policy import tiny_tokenizer

    tokenizer = tiny_tokenizer.load()
    env, task = WORLD.fresh(), tasks_of(0)[0]
    env.reset(task)
    query = task.gold["calls"][0]["arguments"]["query"]
    ids = tokenizer(f"Search: {query}\nSearch")["input_ids"]
    line = _line(ids, tokenizer("\n")["input_ids"][0])
    assert tokenizer.decode(line) == f"Search: {query}\n"  # what was sampled behind the end of a turn is no part of it
    assert tokenizer.decode(_answered(tokenizer, env, line)) == f"Result: {task.gold['documents'][0]}\n"
    assert _answered(tokenizer, env, tokenizer(f"Answer: {task.gold['answer']}\n")["input_ids"]) == []
    assert env.progress.outcome == 1.0
