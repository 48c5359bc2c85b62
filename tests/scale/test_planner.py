"""Predictions for machines that are not here: rates from data sheets by hand, splits that fit, a table."""

from __future__ import annotations

import pytest

from workbench.runs import Scale
from workbench.scale import planner
from workbench.scale.footprint import Training
from workbench.scale.machine import Gpu, Machine
from workbench.scale.rates import (
    Cluster,
    cluster_of,
    device,
    engine_rates,
    exchanged_bytes,
    learner_rates,
    measured,
    passes_flops,
    stored,
    sync_s,
)
from workbench.scale.shapes import preset
from workbench.scale.simulate import Work

USE = {
    "learn": 0.5,
    "read": 0.5,
    "bandwidth": 0.5,
    "link": 0.5,
    "host_step_s": 0.01,
    "collective_s": 1e-5,
    "sync_bytes_per_s": 1e9,
    "sync_fixed_s": 1.0,
}
SMALL = Work(groups=8, size=4, turns=3, tokens=100, observation=100, tool=0.2)
N7 = 7615616512


def test_an_engine_reads_its_weights_in_every_step():
    found = engine_rates(preset("7b"), device("h100"), 1, 0, USE)
    assert found.step == pytest.approx(2 * N7 / (3.35e12 * 0.5) + 0.01)
    assert found.token == pytest.approx(57344 / (3.35e12 * 0.5))
    body = 2 * 28 * (3584 * (28 + 8) * 128 + 28 * 128 * 3584 + 3 * 3584 * 18944)
    assert found.row == pytest.approx((body + 2 * 152064 * 3584) / (989e12 * 0.5))
    assert found.read == pytest.approx(body / (989e12 * 0.5))


def test_an_engine_over_two_gpus_reads_half_and_pays_for_exchange():
    one, two = (engine_rates(preset("7b"), device("h100"), n, 0, USE) for n in (1, 2))
    assert two.step == pytest.approx((one.step - 0.01) / 2 + 0.01 + 2 * 28 * 1e-5)
    assert two.row == pytest.approx(one.row / 2 + 2 * 28 * 3584 * 2 * 2 * 0.5 / (450e9 * 0.5))


def test_passes_of_a_token():
    assert passes_flops(Training()) == 4 and passes_flops(Training(checkpointing=False)) == 3
    assert passes_flops(Training(lora_rank=8)) == 3


def test_bytes_exchanged_a_pass():
    assert exchanged_bytes(preset("7b"), Training()) == 0
    assert exchanged_bytes(preset("7b"), Training(learners=4)) == 0.75 * 8 * N7
    assert exchanged_bytes(preset("7b"), Training(learners=4, lora_rank=8)) == 0.75 * 4 * N7


def test_exchange_is_paid_for_as_far_as_it_does_not_overlap():
    shape, gpu = preset("7b"), device("h100")
    small = learner_rates(shape, gpu, Training(learners=8, micro_tokens=16), 0, USE)
    exchange = exchanged_bytes(shape, Training(learners=8)) / (450e9 * 0.5)
    assert small.pass_ == pytest.approx(exchange - 16 * small.token)
    assert learner_rates(shape, gpu, Training(learners=8, micro_tokens=32768), 0, USE).pass_ == 0
    across = learner_rates(shape, gpu, Training(learners=16, micro_tokens=16), 0, USE)
    assert across.pass_ > 8 * small.pass_  # 16 learners are in two machines: their network is slower


def test_weights_are_written_and_read_once():
    assert sync_s(preset("7b"), USE) == pytest.approx(1 + 4 * N7 / 1e9)


def test_every_assumed_rate_names_its_source():
    assumed = stored()["assumed"]
    assert "not measured here" in assumed["said"] and assumed["utilisation"]["source"]
    for one in assumed["devices"].values():
        assert "data sheet" in one["source"]


def test_every_measured_rate_names_its_command_and_machine():
    for row in stored()["measured"]:
        found, record = measured(row["name"])
        assert record["command"].startswith("python benchmarks/scale.py") and record["machine"]["cores"]
        assert found.said.startswith("measured: ") and found.engine.step >= 0 and found.learner.token > 0
    with pytest.raises(ValueError, match="no measured rates of 'nobody'"):
        measured("nobody")


def test_gpus_that_no_sheet_names_are_said_to_be_taken_for_others():
    h100 = cluster_of(Machine(8, None, (Gpu("NVIDIA H100 80GB HBM3", 85e9),) * 2))
    assert h100.device.name.startswith("H100") and h100.device.memory == 80e9 and h100.gpus == 2
    other = cluster_of(Machine(8, None, (Gpu("Quadro", 24e9),)))
    assert "for want of one of Quadro" in other.said and other.device.memory == 24e9


# ---------------------------------------------------------------------------------------------------------- splits


def test_what_does_not_fit_is_no_prediction():
    one = Scale("cuda", learners=1, rollouts=1, engine="vllm")
    assert planner.predict(preset("7b"), SMALL, Cluster(device("h100"), 2), one) is None
    lora = Training(lora_rank=16, weight_bytes=2)
    assert planner.predict(preset("7b"), SMALL, Cluster(device("h100"), 2), one, lora) is not None


def test_a_prediction_adds_up():
    scale = Scale("cuda", learners=4, rollouts=4, engine="vllm")
    found = planner.predict(preset("7b"), SMALL, Cluster(device("h100"), 8), scale)
    assert found.step_s == pytest.approx(found.rollout_s + found.learn_s + found.other_s)
    assert found.gpu_hours == pytest.approx(8 * found.step_s / 3600)
    assert 0 < found.idle_engines < 1 and 0 < found.idle_learners < 1
    assert found.idle == pytest.approx((found.idle_engines + found.idle_learners) / 2)
    assert found.idle_learners == pytest.approx(1 - (found.learn_s + found.other_s - 2 - 4 * N7 / 2e9) / found.step_s)


def test_rates_can_be_given():
    from workbench.scale.rates import EngineRates, LearnerRates, Rates

    slow = Rates(EngineRates(1.0, 0, 0, 0), LearnerRates(100.0, 0, 0, 0), said="measured: by hand")
    scale = Scale("cuda", learners=4, rollouts=4, engine="vllm")
    found = planner.predict(preset("7b"), SMALL, Cluster(device("h100"), 8), scale, rates_of=lambda *_: slow)
    assert found.learn_s == 100 and found.said == "measured: by hand"
    assert found.step_s == found.rollout_s + 100


def test_the_best_split_is_no_slower_than_any_that_was_looked_at():
    cluster, shape = Cluster(device("h100"), 8), preset("1.5b")
    best = planner.best(shape, SMALL, cluster)
    tried = [planner.predict(shape, SMALL, cluster, s) for s in planner.splits(shape, cluster)]
    least = min(one.step_s for one in tried if one)
    assert best.step_s == pytest.approx(least, rel=0.02)  # chosen by one step, then looked at closely
    assert best.scale.devices <= 8


def test_splits_use_the_whole_cluster_and_divide_the_heads():
    for scale in planner.splits(preset("7b"), Cluster(device("h100"), 16)):
        assert scale.devices == 16 and scale.nodes == 2 and 28 % scale.tensor_parallel == 0


def test_a_table_has_a_row_for_every_cluster_and_says_what_does_not_fit():
    table = planner.plan("70b", [8, 64], work=SMALL)
    assert list(table["gpus"]) == [8, 8, 64, 64] and list(table["delay"]) == [0, 1, 0, 1]
    assert table["note"][0].startswith("does not fit: a learner among 7 needs ")
    assert table["learners"].isna().tolist() == [True, True, False, False]
    assert table["step_s"][3] <= table["step_s"][2] and table["gpu_hours"][2] > 0


def test_the_picture_of_a_table_is_hours_busy_and_idle():
    table = planner.plan("70b", [8, 64], work=SMALL)
    found = planner.picture(table)
    assert found.labels == ("70b, 64 GPUs, delay 0", "70b, 64 GPUs, delay 1")
    hours = [busy + idle for busy, idle in zip(found.parts["busy"], found.parts["idle"], strict=True)]
    assert hours == pytest.approx(list(table["gpu_hours"][2:]))
    assert [sum(pair) for pair in zip(*planner.picture(table, share=True).parts.values(), strict=True)] == [1, 1]


def test_work_can_grow_with_the_cluster():
    table = planner.plan("1.5b", [8, 16], work=SMALL, asynchronous=(0,), groups_per_gpu=1.0)
    assert list(table["groups"]) == [8, 16]
    assert table["tokens_per_gpu_s"][1] > 0.5 * table["tokens_per_gpu_s"][0]


def test_the_table_is_the_same_every_time():
    first, second = (planner.plan("0.5b", [4], work=SMALL) for _ in range(2))
    assert first.equals(second)
