"""Supervised fine-tuning: the mask, the denominator, determinism, adapters, interrupts, errors."""

from __future__ import annotations

import hashlib
import json
import signal
from dataclasses import replace

import pytest
import torch

from workbench.train.batches import check, chosen, learned, pad
from workbench.train.lora import Lora
from workbench.train.optim import adamw, rate_at
from workbench.train.sft import Plan, backward, main, train, weighted_nll
from workbench.trajectory import Example, RecordError

PLAN = Plan(steps=6, batch=4, micro_batch=2, warmup=2, rate=1e-2, seed=5)


def gradient(model, examples, micro_batch):
    model.zero_grad()
    loss, _ = backward(model, examples, micro_batch)
    return loss, torch.cat([p.grad.flatten() for p in model.parameters()])


# ------------------------------------------------------------------------------------------------ the loss


def test_loss_by_hand():
    logits = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]], [[0.0, 3.0], [1.0, 1.0], [9.0, 9.0]]])
    ids = torch.tensor([[0, 1, 0], [1, 1, 0]])
    nll, hits = weighted_nll(logits, ids, torch.tensor([[0.0, 1.0, 0.5], [0.0, 2.0, 0.0]]))
    log_half, second = torch.tensor(0.5).log(), torch.tensor([2.0, 0.0]).log_softmax(0)[0]
    third = torch.tensor([0.0, 3.0]).log_softmax(0)[1]
    assert torch.allclose(nll, torch.stack([-log_half - 0.5 * second, -2 * third]))
    assert hits.tolist() == [1.0, 1.0]  # of equal logits the first counts as the most likely


def test_a_label_without_weight_changes_nothing_and_one_with_weight_does():
    """Logits are held: what the model reads is not in question here, only what it is asked to say."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 6, 9, generator=generator)
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    weights = torch.tensor([[0.0, 0.0, 1.0, 0.0, 1.0, 0.0]])
    before = weighted_nll(logits, ids, weights)[0]
    for place in range(6):
        other = ids.clone()
        other[0, place] = 8
        same = torch.equal(weighted_nll(logits, other, weights)[0], before)
        assert same == (weights[0, place] == 0), place


def test_logits_that_predict_nothing_weighted_get_no_gradient():
    logits = torch.zeros(1, 5, 7, requires_grad=True)
    weights = torch.tensor([[0.0, 0.0, 1.0, 0.0, 1.0]])
    weighted_nll(logits, torch.tensor([[1, 2, 3, 4, 5]]), weights)[0].sum().backward()
    assert logits.grad.abs().sum(-1)[0].gt(0).tolist() == [False, True, False, True, False]


def test_tokens_behind_the_last_weight_do_not_matter_and_context_does(make):
    model = make()
    example = Example((1, 2, 3, 4, 5), (0.0, 0.0, 0.0, 1.0, 0.0))
    loss = backward(model, [example], 1)[0]
    assert backward(model, [replace(example, ids=(1, 2, 3, 4, 9))], 1)[0] == loss
    assert backward(model, [replace(example, ids=(1, 9, 3, 4, 5))], 1)[0] != loss


@pytest.mark.parametrize("micro_batch", [1, 2, 5, 12])
def test_micro_batches_give_the_same_gradient(make, examples, micro_batch):
    model = make().double()
    whole, micro = gradient(model, examples, 100), gradient(model, examples, micro_batch)
    assert whole[0] == pytest.approx(micro[0], rel=1e-6)  # the loss itself is float32
    assert torch.allclose(whole[1], micro[1], rtol=1e-5, atol=1e-8)


def test_the_denominator_is_the_whole_batch(make, examples):
    """A batch is the mean over its tokens, not the mean of the means of its examples."""
    model = make()
    parts = [backward(model, [e], 1)[0] * learned([e]) for e in examples]
    assert backward(model, examples, 3)[0] == pytest.approx(sum(parts) / learned(examples), rel=1e-5)


def test_padding_changes_nothing(make, examples):
    model = make().eval()
    short, long = sorted(examples, key=lambda e: len(e.ids))[:: len(examples) - 1]
    alone, beside = pad([short]), pad([short, long])
    assert alone.ids.shape[1] < beside.ids.shape[1]
    with torch.no_grad():
        first = weighted_nll(model(input_ids=alone.ids).logits, *alone)[0]
        second = weighted_nll(model(input_ids=beside.ids).logits, *beside)[0]
    assert torch.allclose(first[0], second[0], atol=1e-6)


# ------------------------------------------------------------------------------------------------ the loop


def without_time(metrics):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in metrics]


@pytest.mark.parametrize("lora", [None, Lora(rank=2, dropout=0.25)])
def test_two_runs_are_equal_bit_for_bit(make, examples, lora, tmp_path):
    def run(name: str, callers_seed: int, plan: Plan = PLAN):
        model = make(attention_dropout=0.1)
        torch.manual_seed(callers_seed)  # what the caller's generator does is not ours
        return without_time(train(model, examples, plan, tmp_path / name, lora=lora)[1])

    assert run("a", 1) == run("b", 2)
    name = "adapter_model.safetensors" if lora else "model.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert run("c", 1, replace(PLAN, seed=6)) != run("a", 1)


def test_the_callers_random_numbers_do_not_move(make, examples):
    model = make()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(model, examples, PLAN, lora=Lora(rank=2))
    assert torch.equal(torch.rand(2), expected)


def test_it_learns_what_has_a_weight(make, examples):
    metrics = train(make(), examples, replace(PLAN, steps=60, batch=12, micro_batch=12))[1]
    assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]
    assert metrics[-1]["right"] > 0.8


def test_adapters_train_and_the_rest_stays(make, examples, tmp_path):
    model, before = make(), make().state_dict()
    adapted, metrics = train(model, examples, replace(PLAN, steps=20), tmp_path, lora=Lora(rank=4))
    assert metrics[-1]["loss"] < metrics[0]["loss"]
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    state = adapted.state_dict()
    for name, value in before.items():
        home = [n for n in state if n.replace("base_model.model.", "").replace("base_layer.", "") == name]
        assert len(home) == 1 and torch.equal(state[home[0]], value), name
    assert (tmp_path / "adapter_model.safetensors").is_file()


def test_saved_adapters_give_the_same_logits(make, examples, tmp_path):
    from peft import PeftModel

    adapted, _ = train(make(), examples, PLAN, tmp_path, lora=Lora(rank=4))
    again = PeftModel.from_pretrained(make(), str(tmp_path)).eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        assert torch.equal(adapted(input_ids=ids).logits, again(input_ids=ids).logits)
        assert not torch.allclose(adapted(input_ids=ids).logits, make().eval()(input_ids=ids).logits)


def test_what_is_written(make, examples, tmp_path):
    from transformers import AutoModelForCausalLM

    model, metrics = train(make(), examples, replace(PLAN, save_every=4), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == metrics and [line["step"] for line in lines] == list(range(6))
    assert (tmp_path / "step-4" / "model.safetensors").is_file()
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["steps_done"], record["stopped_early"], record["plan"]["seed"]) == (6, False, 5)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    assert not model.training


def test_an_interrupt_stops_after_the_step_and_saves(make, examples, tmp_path):
    handler = signal.getsignal(signal.SIGINT)

    def press(done: int, steps: int, text: str) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    _, metrics = train(make(), examples, PLAN, tmp_path, progress=press)
    assert len(metrics) == 3
    assert (tmp_path / "model.safetensors").is_file()
    assert json.loads((tmp_path / "run.json").read_text())["stopped_early"] is True
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_interrupt_is_at_once(make, examples, tmp_path):
    def press_twice(done: int, steps: int, text: str) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(make(), examples, PLAN, tmp_path, progress=press_twice)


def test_the_first_update_is_adamws(make, examples):
    """One step against torch's own AdamW, written out."""
    model, twin = make(), make()
    plan = replace(PLAN, steps=1, batch=12, micro_batch=12, warmup=0, clip=0.0, weight_decay=0.0)
    train(model, examples, plan)
    twin.train()
    loss, _ = gradient(twin, examples, 12)
    optimiser = torch.optim.AdamW(twin.parameters(), lr=plan.rate, betas=plan.betas, weight_decay=0.0)
    optimiser.step()
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4), name


# ------------------------------------------------------------------------------------------ order and rate


def test_every_epoch_sees_every_example_once():
    seen = [i for step in range(6) for i in chosen(9, 6, step, seed=4)]
    epochs = [seen[start : start + 9] for start in range(0, 36, 9)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_batch_may_be_larger_than_an_epoch():
    assert sorted(chosen(2, 6, 0, seed=0)) == [0, 0, 0, 1, 1, 1]


def test_rate_rises_then_falls():
    rates = [rate_at(s, 100, 2.0, 10, floor=0.25) for s in range(101)]
    assert rates[9] == rates[10] == 2.0
    assert rates[100] == pytest.approx(0.5)
    assert all(a < b for a, b in zip(rates[:9], rates[1:10], strict=True))
    assert all(a > b for a, b in zip(rates[10:100], rates[11:], strict=True))


def test_only_matrices_decay(make):
    matrices, vectors = adamw(make(), (0.9, 0.99), 0.1).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim == 2 for p in matrices["params"]) and len(vectors["params"]) == 5


# -------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ids": (1, 2, 50)}, "token id 50"),
        ({"weights": (0.0, 0.0, 0.0)}, "no token has a weight"),
        ({"weights": (1.0, 0.0, 1.0)}, "first token"),
        ({"ids": (1,) * 65, "weights": (0.0,) * 64 + (1.0,)}, "65 tokens, the model has 64 positions"),
    ],
)
def test_errors_name_the_example(make, examples, change, words):
    good = Example((1, 2, 3), (0.0, 0.0, 1.0), source=("run/0/task/3", 2))
    with pytest.raises(RecordError, match=words) as caught:
        train(make(), [*examples, replace(good, **change)], PLAN)
    assert "example 12" in str(caught.value) and "'run/0/task/3', turn 2" in str(caught.value)


def test_no_examples(make):
    with pytest.raises(ValueError, match="at least one example"):
        check([], make().config)


def test_a_loss_that_is_no_number_names_the_example(make, examples):
    model = make()
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    with pytest.raises(FloatingPointError, match="trajectory 't"):
        train(model, examples, PLAN)


def test_nothing_to_train(make, examples):
    model = make().requires_grad_(False)
    with pytest.raises(ValueError, match="requires a gradient"):
        train(model, examples, PLAN)


@pytest.mark.parametrize("name", ["steps", "batch", "micro_batch"])
def test_a_plan_is_checked(name):
    with pytest.raises(ValueError, match=name):
        Plan(**{name: 0})


# --------------------------------------------------------------------------------------------- the command


def test_the_command_makes_a_policy_that_loads(tmp_path):
    from workbench import policy

    words = ["--out", str(tmp_path), "--demonstrations", "6", "--steps", "2", "--batch", "3"]
    assert main(words) == 0
    player = policy.load(tmp_path)
    (generation,) = player.engine.sample([player.renderer.encode("Question: what\n")], policy.Settings(), [0])
    assert generation.token_ids
    assert player.renderer.encode("Search: owner of red box\n")[0] == 260  # its own tokenizer came along


def test_the_demonstrations_are_those_the_shipped_warm_start_was_made_on():
    """If this changes, the command in `datasets/tiny/README.md` no longer makes the shipped weights: say so there."""
    from workbench.policy import tiny_tokenizer
    from workbench.train.warm_start import demonstrations

    made = demonstrations("chain", tiny_tokenizer.load(), 12, 0.4, 0, (1, 2, 3))
    told = repr([(e.ids, [int(w) for w in e.weights]) for e in made])
    assert hashlib.sha256(told.encode()).hexdigest()[:16] == "2716a0628d8e5131"


def test_a_world_without_a_script(tmp_path):
    with pytest.raises(ValueError, match="no scripted player"):
        main(["--world", "gazetteer", "--out", str(tmp_path)])
