"""How rates are fitted, and what a step of one process is made of: by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench.scale.pipeline import local_step, tokens_once
from workbench.scale.rates import EngineRates, LearnerRates, Rates
from workbench.scale.simulate import Episode, Turn

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def scaling(monkeypatch):
    """The module of the benchmark that fits rates."""
    monkeypatch.syspath_prepend(str(FOLDER))
    from halves import scaling

    return scaling


def test_a_fit_finds_the_rates_that_made_the_times(scaling):
    true = EngineRates(step=2e-3, row=1e-4, token=1e-6, read=3e-5, call=5e-3)
    cells = [(b, p, n) for b in (1, 8, 32) for p in (10, 100) for n in (1, 5, 20)]
    timed = [
        (b, p, n, true.call + b * p * true.read + (n - 1) * true.decode_s(b, b * (p + n / 2))) for b, p, n in cells
    ]
    found, error = scaling.engine_fit(timed)
    assert found.__dict__ == pytest.approx(true.__dict__, rel=1e-6) and error < 1e-9


def test_no_rate_is_below_zero(scaling):
    x = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert scaling.fitted(x, np.array([3.0, 2.0, 1.0])).min() >= 0


def test_a_local_step_adds_up_by_hand():
    engine = EngineRates(step=0.01, row=0.0, token=0.0, read=0.001, call=0.1)
    learner = LearnerRates(step=1.0, pass_=0.5, token=0.01, head=0.02)
    rates = Rates(engine, learner, credit=0.001, turn=0.2, merged=0.5)
    two = [Episode(0, 100, (Turn(100, 10, 0.0),)), Episode(0, 100, (Turn(1, 20, 0.0),))]
    assert tokens_once(two) == 130
    found = local_step(two, rates, 50)
    assert found["rollout"] == pytest.approx(0.1 + 0.101 + 20 * 0.01 + 2 * 0.2)
    assert found["credit"] == pytest.approx(0.03)
    assert found["learn"] == pytest.approx(1.0 + 2 * 0.5 + 65 * 0.01 + 30 * 0.02)
    assert found["step"] == pytest.approx(found["rollout"] + found["credit"] + found["learn"])


def test_steps_are_measured_and_compared(scaling):
    import torch

    torch.set_num_threads(1)
    made = scaling.steps([(1, 2, 4)], repeats=1)
    assert len(made) == 1 and made[0].passes >= 1 and made[0].tokens > made[0].scored > 0
    rates = Rates(EngineRates(1e-3, 0, 0, 1e-5), LearnerRates(0, 0, 1e-4, 0))
    (row,) = scaling.compared(made, rates, made)
    assert (row["hops"], row["groups"], row["size"]) == (1, 2, 4) and row["step"] > 0
    assert row["step_known_error"] == pytest.approx(row["step_known"] / row["step"] - 1, abs=2e-3)
    assert 0 < scaling.merged_share(made) <= 1 and scaling.credit_rate(made) > 0


def test_without_a_gpu_nothing_is_measured_on_one(monkeypatch, scaling, capsys):
    import scale
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = scale.main(["players", "--device", "cuda"])
    assert found["result"] == "unmeasured: no GPU" and "rows" not in found
