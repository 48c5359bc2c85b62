"""The benchmark's own arithmetic, on next to nothing: no figure is made here."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch


def test_pairs_within_rollouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    import which_turn

    credit = torch.tensor([2.0, 1.0, 1.0, 5.0, 0.0, 9.0])
    on = torch.tensor([True, False, True, True, False, False])
    owner = torch.tensor([0, 0, 0, 1, 1, 1])
    known = torch.tensor([True, True, True, True, True, False])
    # rollout 0: 2 > 1 won, 1 = 1 half; rollout 1: 5 > 0 won, the 9 is not known
    assert which_turn.pairs_won(credit, known, on, owner) == (2.5 / 3, 3)
    assert which_turn.pairs_won(credit, ~known, on, owner)[1] == 0
    mean, half = which_turn.interval([0.4, 0.6])
    assert mean == pytest.approx(0.5) and half == pytest.approx(12.706 * math.sqrt(0.02 / 2))
