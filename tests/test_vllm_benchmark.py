"""The code of `benchmarks/vllm_engine.py`, on next to nothing: no figure is made here."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import vllm_engine

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = vllm_engine.main(["--device", "cuda", "--threads", "1"])
    assert found["result"] == "unmeasured: no GPU" and "rows" not in found


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_both_engines_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    import vllm_engine

    small = ["--policy", "tiny", "--world", "chain", "--at", "4", "--rounds", "1", "--threads", "1"]
    found = vllm_engine.main(small)
    assert found["gap"] < 1e-4 and set(found["starts"]) == {"import vllm", "hf", "vllm"}
    (row,) = found["rows"]
    assert all(len(row[name]) == 2 and row[name][0]["sampled"] > 0 for name in ("hf", "vllm"))
    assert "by work" in capsys.readouterr().out
