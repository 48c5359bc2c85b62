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
    "values": {"recipe": "ppo", "value_rate": 10.0},
    "values of turns, adapters, two updates": {"recipe": "ppo_turn", "lora": True, "epochs": 2, "pack": "rows"},
    "values beside the model": {"recipe": "ppo", "value_trunk": "detached", "micro_tokens": 10**6},
}
HEADS = [name for name, case in CASES.items() if "recipe" in case]


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
    """A recipe, a plan, a policy that is the same in every process, and rollouts of it for three updates."""
    from small_worlds import Bandit, gambler

    from workbench import recipes
    from workbench.train.lora import Lora
    from workbench.train.plan import Plan
    from workbench.train.policy_gradient import round_of

    case = dict(case)
    recipe = getattr(recipes, case.pop("recipe", "reinforce"))()
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
    policy, world = gambler(), Bandit(pulls=2)
    played = [round_of(policy, world, plan, step, 0, plan.groups, set()) for step in range(plan.steps)]
    return recipe, plan, policy, played


def _learned(learner, recipe, plan, played, steps, guess=None):
    """Make updates; a row of metrics each, with what the value head said of the batch before."""
    from workbench.train.policy_gradient import learn
    from workbench.train.values import with_values

    rows = []
    for step in steps:
        rollouts = with_values(played[step], learner, recipe, plan, guess)
        batch = rollouts.batch(step)
        said = [column.values.tolist() for column in rollouts.columns.values()]
        rows.append({**learn(learner, recipe, plan, batch, recipe.credits(batch)), "said": sum(said, [])})
    return rows


def _head(learner):
    """The weights of its value head; nothing where there is none."""
    return {} if learner.head is None else {name: p.detach().clone() for name, p in learner.head.named_parameters()}


def _on_rank(rank, world, port, folder, out):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    from workbench.scale import sharing
    from workbench.train.optim import adamw
    from workbench.train.plan import Learner, guesses_values, made_ready
    from workbench.train.student import head_for

    found = {}
    for name, case in CASES.items():
        recipe, plan, policy, played = _world(case)
        model = made_ready(policy, plan)
        autocast = getattr(torch, plan.autocast) if plan.autocast else None
        head = head_for(model, plan.value_trunk) if guesses_values(recipe) else None
        sharing.shard(model, "cpu", autocast)
        optimiser = adamw(model, plan.betas, plan.weight_decay, head, plan.value_rate)
        learner = Learner(policy, model, optimiser, head=head, autocast=autocast, ranks=sharing.Together())
        rows = _learned(learner, recipe, plan, played, (0, 1), sharing.guessed)
        sharing.save(Path(folder) / name, learner)
        rows += _learned(learner, recipe, plan, played, (2,), sharing.guessed)
        heads = sharing.Together().gather([_head(learner)])
        assert all(torch.equal(heads[0][n], one[n]) for one in heads for n in one)  # to the bit, or they would part
        found[name] = rows, sharing.whole_weights(model), heads[0]
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

    recipe, plan, policy, played = _world(CASES[name])
    learner = start(policy, recipe, plan)
    alone = _learned(learner, recipe, plan, played, range(3))
    rows, weights, head = together[0][name]
    rough = bool(plan.autocast)
    values = ("loss_value", "gradient_norm_value", "said") if name in HEADS else ()
    for one, two in zip(alone, rows, strict=True):
        assert one["gradient_norm"] > 1e-3 and one["updates"] == plan.epochs
        for key in ("loss", "gradient_norm", "entropy", "clip_share", "ratio_gap", "updates", "kl_before", *values):
            close = {"rel": 0.1, "abs": 0.02} if rough else {"rel": 1e-4, "abs": 1e-6}
            assert two[key] == pytest.approx(one[key], **close), key
        assert two["gradient_by_turn"] == pytest.approx(one["gradient_by_turn"], rel=0.05 if rough else 1e-4)
    assert all(torch.allclose(head[key], w, atol=2e-5) for key, w in _head(learner).items())
    assert not values or (any(alone[2]["said"]) and alone[2]["gradient_norm_value"] > 1e-3)
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


@pytest.mark.parametrize("name", ["full", "adapters", *HEADS[:2]])
def test_what_two_ranks_saved_one_process_goes_on_with(name, together, tmp_path):
    """Weights and moments of the optimiser: the third update is that of an uninterrupted training."""
    import torch.distributed as dist

    from workbench.scale import sharing
    from workbench.train.plan import start

    recipe, plan, policy, played = _world(CASES[name])
    learner = start(policy, recipe, plan)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        sharing.load(together[2] / name, learner)
    finally:
        dist.destroy_process_group()
    assert learner.optimiser.state
    (row,) = _learned(learner, recipe, plan, played, (2,))
    for key in ("loss", "said"):
        assert row[key] == pytest.approx(together[0][name][0][2][key], rel=1e-4, abs=1e-6)
    assert all(torch.allclose(together[0][name][2][key], w, atol=2e-5) for key, w in _head(learner).items())
    whole = learner.model.merge_and_unload() if plan.lora else learner.model
    assert all(torch.allclose(whole.state_dict()[k], w, atol=2e-5) for k, w in together[0][name][1].items())


def test_a_checkpoint_becomes_weights_without_any_rank(together):
    from workbench.scale.sharing import load_weights
    from workbench.train.plan import made_ready
    from workbench.train.student import head_for

    _, plan, policy, _ = _world(CASES["values"])
    model = made_ready(policy, plan)
    head, before = head_for(model), {name: w.clone() for name, w in model.state_dict().items()}
    load_weights(together[2] / "values", model, head)
    assert any(not torch.equal(w, before[name]) for name, w in model.state_dict().items())
    assert head.linear.weight.any() and head.linear.bias.any()
