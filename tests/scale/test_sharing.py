"""Several ranks and one process make the same updates: two real processes, gloo, FSDP2 on the CPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from workbench.scale.sharing import dealt, without_adapters

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))  # `import small_worlds`

CASES = {
    "full": {},
    "adapters": {"lora": True},
    "layers compute again": {"checkpointing": True},
    "adapters, layers compute again": {"lora": True, "checkpointing": True},
    "rows": {"pack": "rows", "micro_tokens": 128},
    "one part": {"micro_tokens": 10**6},
    "lower precision": {"autocast": "bfloat16"},
}


def test_hands_are_alike_and_nothing_is_lost():
    sizes = [7, 1, 9, 4, 4, 2, 8]
    hands = dealt(sizes, 3)
    assert sorted(i for hand in hands for i in hand) == list(range(len(sizes)))
    assert max(map(len, hands)) - min(map(len, hands)) <= 1
    sums = [sum(sizes[i] for i in hand) for hand in hands]
    assert max(sums) - min(sums) <= max(sizes)
    assert dealt([], 2) == [[], []]


def test_merged_adapters_are_those_peft_merges():
    from small_worlds import llama

    from workbench.scale.sharing import scaling_of
    from workbench.train.lora import Lora, add_lora

    model = add_lora(llama(40), Lora(rank=3, alpha=5.0))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.normal_(generator=torch.Generator().manual_seed(1))
    ours = without_adapters(dict(model.state_dict()), scaling_of(model))
    theirs = model.merge_and_unload().state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


# ------------------------------------------------------------------------------------------ learning together


def _world(case):
    """A recipe, a plan, and batches of rollouts of a policy that is the same in every process."""
    from small_worlds import Bandit, gambler

    from workbench import recipes
    from workbench.train.lora import Lora
    from workbench.train.plan import Plan
    from workbench.train.policy_gradient import round_of

    case = dict(case)
    lora = Lora(rank=2) if case.pop("lora", False) else None
    plan = Plan(
        **{
            "steps": 3,
            "groups": 3,
            "size": 4,
            "rate": 1e-2,
            "max_new_tokens": 1,
            "micro_tokens": 16,
            "lora": lora,
            **case,
        }
    )
    recipe, policy = recipes.reinforce(), gambler()
    batches = []
    for step in range(plan.steps):
        rollouts = round_of(policy, Bandit(pulls=2), plan, step, 0, plan.groups, set())
        batch = rollouts.batch(step)
        batches.append((batch, recipe.credits(batch)))
    return recipe, plan, policy, batches


def _on_rank(rank, world, port, folder, out):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    from workbench.scale import sharing
    from workbench.train.optim import adamw
    from workbench.train.plan import Learner, made_ready
    from workbench.train.policy_gradient import learn

    found = {}
    for name, case in CASES.items():
        recipe, plan, policy, batches = _world(case)
        model = made_ready(policy, plan)
        autocast = getattr(torch, plan.autocast) if plan.autocast else None
        sharing.shard(model, "cpu", autocast)
        optimiser = adamw(model, plan.betas, plan.weight_decay)
        learner = Learner(policy, model, optimiser, autocast=autocast, ranks=sharing.Together())
        rows = [learn(learner, recipe, plan, *each) for each in batches[:2]]
        sharing.save(Path(folder) / name, learner)
        rows += [learn(learner, recipe, plan, *each) for each in batches[2:]]
        found[name] = rows, sharing.whole_weights(model)
    problem = None
    try:
        sharing.Together().agree("a term is nan" if rank == 1 else None)
    except FloatingPointError as error:
        problem = str(error)
    if rank == 0:
        torch.save((found, problem), out)
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two ranks found in each case, and the folder of their checkpoints after two of three batches."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(_on_rank, (2, port, str(folder), str(folder / "found.pt")), nprocs=2)
    return *torch.load(folder / "found.pt", weights_only=False), folder


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_make_the_updates_of_one_process(name, together):
    """Losses, norms, what was seen and the weights after three updates; sums over ranks, not means."""
    from workbench.train.plan import start
    from workbench.train.policy_gradient import learn

    recipe, plan, policy, batches = _world(CASES[name])
    learner = start(policy, recipe, plan)
    alone = [learn(learner, recipe, plan, *each) for each in batches]
    rows, weights = together[0][name]
    rough = bool(plan.autocast)
    for one, two in zip(alone, rows, strict=True):
        assert one["gradient_norm"] > 1e-3 and one["updates"] == 1
        for key in ("loss", "gradient_norm", "entropy", "clip_share", "ratio_gap", "updates", "kl_before"):
            close = {"rel": 0.1, "abs": 0.02} if rough else {"rel": 1e-4, "abs": 1e-6}
            assert two[key] == pytest.approx(one[key], **close), key
        assert two["gradient_by_turn"] == pytest.approx(one["gradient_by_turn"], rel=0.05 if rough else 1e-4)
    model = learner.model
    plain = model.merge_and_unload() if plan.lora else model
    own = dict(plain.state_dict())
    for key, w in weights.items():
        assert w.dtype == torch.float32 and (rough or torch.allclose(own[key], w, atol=2e-5)), key
    missing = set(own) - set(weights)
    assert all(
        any(own[name] is own[k] or own[name].data_ptr() == own[k].data_ptr() for k in weights) for name in missing
    )


def test_a_problem_of_one_rank_is_one_of_all(together):
    assert together[1] == "a term is nan"


@pytest.mark.parametrize("name", ["full", "adapters"])
def test_what_two_ranks_saved_one_process_goes_on_with(name, together, tmp_path):
    """Weights and moments of the optimiser: the third update is that of an uninterrupted training."""
    import torch.distributed as dist

    from workbench.scale import sharing
    from workbench.train.plan import start
    from workbench.train.policy_gradient import learn

    recipe, plan, policy, batches = _world(CASES[name])
    learner = start(policy, recipe, plan)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        sharing.load(together[2] / name, learner)
    finally:
        dist.destroy_process_group()
    assert learner.optimiser.state
    row = learn(learner, recipe, plan, *batches[2])
    assert row["loss"] == pytest.approx(together[0][name][0][2]["loss"], rel=1e-4, abs=1e-6)
    whole = learner.model.merge_and_unload() if plan.lora else learner.model
    assert all(torch.allclose(whole.state_dict()[k], w, atol=2e-5) for k, w in together[0][name][1].items())


def test_a_checkpoint_becomes_weights_without_any_rank(together):
    from workbench.scale.sharing import load_weights
    from workbench.train.plan import made_ready

    _, plan, policy, _ = _world(CASES["full"])
    model = made_ready(policy, plan)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    load_weights(together[2] / "full", model)
    assert any(not torch.equal(w, before[name]) for name, w in model.state_dict().items())
