# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 501: from a laptop to many nodes
#
# **The run stays the same; what changes is who waits for whom.** You take one run from a laptop to one GPU, eight GPUs
# and many machines, and find out at each step what would not fit, what would stand idle, and what it would cost.
#
# **You will be able to**
#
# - say what a GPU must hold to learn, and make a model fit;
# - divide GPUs between learning and playing, and say what limits a step;
# - start the same run on Slurm or Kubernetes, and read where its time went.
#
# **Needs** [101](101_from_one_rollout_to_grpo.ipynb); about 45 minutes with the exercises, under a minute to run; no
# GPU, no network.
#
# **What is measured and what is not.** Cells marked *measured* ran here, or come from a stored result with its command.
# Cells marked *assumed* are predictions for GPUs this tutorial has not seen: data sheets times a stated utilisation.

# %% tags=["parameters"]
RESULTS = "../datasets/results/scale"  # stored measurements
STEPS = 4  # of the run on this laptop

# %%
import json
from pathlib import Path

import pandas as pd
from IPython.display import display

from workbench import envs, policy, recipes
from workbench.runs import Scale
from workbench.scale import choose
from workbench.scale.footprint import GIB, Training, learner_memory
from workbench.scale.machine import Gpu, Machine
from workbench.scale.picture import Bars
from workbench.scale.planner import picture, plan, splits
from workbench.scale.planner import predict as predict_split
from workbench.scale.rates import Cluster, device, stored
from workbench.scale.shapes import PRESETS, preset
from workbench.scale.simulate import Work
from workbench.scale.templates import kubernetes, slurm
from workbench.scale.wall import bars, cost, wall
from workbench.teach import lesson501 as check
from workbench.teach import predict
from workbench.train.policy_gradient import Plan, train

# %% [markdown]
# ## 1. One laptop (measured)
#
# A run is a recipe, a world, a policy and a plan. Here one process does everything, one thing after the other.

# %%
env = envs.load("chain", hops=2)
small = Plan(steps=STEPS, groups=4, size=8, max_new_tokens=24, seed=0)
_, rows = train(policy.load("tiny", tools=env.tools), env, recipes.grpo(kl=0.0), small, progress=lambda *_: None)
wall(rows).round(3)

# %%
bars(rows)

# %%
print(cost(rows))

# %% [markdown]
# Playing and learning share the step; credit is next to nothing. Whatever makes one of the two faster brings at most
# its own share.
#
# **How good is a prediction?** The planner below turns lengths and rates into seconds. Its rates of this package on one
# thread were measured on some steps, then used to predict others. What came out, as stored:

# %%
told = json.loads((Path(RESULTS) / "predict.json").read_text())
print(told["command"], "on", told["machine"]["processor"])
compared = pd.DataFrame(told["rows"])[
    ["hops", "groups", "size", "step", "step_known", "step_known_error", "step_drawn"]
]
display(compared.assign(step_drawn_error=[row["step_drawn_error"] for row in told["rows"]]))
error = told["mean_absolute_error"]
print(f"mean absolute error of a step: {error['step_known']:.0%} where the lengths are known, ", end="")
print(f"{error['step_drawn']:.0%} where they are drawn like those of other steps")

# %% [markdown]
# That is the error where the rates are known. On GPUs the rates themselves are assumed, so expect more. Compare rows of
# a table with each other before you believe any of them.
#
# ## 2. One GPU: what must it hold? (counted)
#
# For each weight that is trained a learner keeps four numbers: the weight, its gradient, and two moments of Adam.

# %%
guess = predict("GiB for these four of a model of 7.6 billion parameters in float32 (4 bytes a number)", None)

# %%
seven = learner_memory(preset("7b"), Training())
guess.reveal(round((seven.weights + seven.gradients + seven.optimiser) / GIB, 1))

# %% [markdown]
# ### Exercise 1: what each GPU holds
#
# About 10 minutes. Several learners cut weights, gradients and moments over their GPUs (FSDP). With adapters most
# weights are frozen: they have neither gradient nor moments.


# %% tags=["exercise"]
def state_gb(weights, trained, gpus, size):
    """Return the GB (1e9 bytes) of weights, gradients and Adam's moments on each GPU.

    weights, trained: billions, in all and of them trained.  gpus: that share them.  size: bytes a number.
    """
    # SOLUTION 1: bytes of all that is kept, over the GPUs
    return size * (weights + 3 * trained) / gpus
    # END SOLUTION


check.ex1(state_gb)

# %% [markdown]
# Stuck? `check.hint("ex1", 1)`, then 2, then 3.
#
# To this come what the backward pass needs of the layers (little, if layers compute it again: `checkpointing`), the
# logits, and with several learners the layers that are put together while they are used. All counted by the planner,
# for micro-batches of 8,192 tokens:

# %%
ways = {
    "all weights, float32": Training(),
    "all weights, 8 GPUs": Training(learners=8),
    "adapters, bfloat16": Training(lora_rank=16, weight_bytes=2),
    "adapters, 8 GPUs": Training(lora_rank=16, weight_bytes=2, learners=8),
}
needs = {
    way: {name: learner_memory(shape, how).total / GIB for name, shape in PRESETS.items()} for way, how in ways.items()
}
pd.DataFrame(needs).round(1)

# %% [markdown]
# A GPU with 80 GB has about 75 GiB. `scale="auto"` looks at machine and model and says what it chose. Pretend to have
# one such GPU (*assumed*: nothing here has one):

# %%
packages = {"torch": "2.13.0", "ray": "2.60.0", "vllm": "0.32.0"}
one = Machine(16, 128 * GIB, (Gpu("NVIDIA H100 80GB HBM3", 80e9),), packages)
print(choose.auto("smollm2", Plan(), env, machine=one))

# %% [markdown]
# And what cannot be is refused before anything starts, with numbers and the mend. On this machine, for real:

# %%
for asked in (
    Scale("cuda", learners=4, rollouts=2, engine="vllm", tensor_parallel=2),
    Scale(learners=2, address="localhost:1"),
):
    try:
        choose.check(asked, None, env, "smollm2", Plan(groups=1, size=2))
        print(asked, "could run here")
    except choose.CannotScale as error:
        print("\n  - ".join([f"{error.scale} cannot run:", *error.problems]), end="\n\n")

# %% [markdown]
# ## 3. Eight GPUs: who plays, who learns? (assumed)
#
# Engines play, learners learn. Synchronous training has them take turns: while engines play, learners wait, and the
# other way round. Divide eight GPUs between them, for a model of 7 billion parameters and this work:

# %%
work = Work(groups=64, size=8, prompt=512, turns=6, tokens=200, observation=300, tool=0.5)
eight = Cluster(device("h100"), 8)
print(work, device("h100").source, stored()["assumed"]["utilisation"]["source"], sep="\n\n")

# %%
best = predict("How many of the eight GPUs should learn, if each engine takes one GPU? (1 to 7)", None)

# %%
tried = [s for s in splits(preset("7b"), eight) if s.tensor_parallel == 1]
found = [(s, predict_split(preset("7b"), work, eight, s, steps=2)) for s in tried]
fits = [p for _, p in found if p]
Bars(
    "A step of 7b on eight GPUs, by who learns",
    tuple(f"{p.scale.learners} + {p.scale.rollouts}" for p in fits),
    {
        "rollout": [p.rollout_s for p in fits],
        "learn": [p.learn_s for p in fits],
        "sync, credit": [p.other_s for p in fits],
    },
    "seconds",
    "learners + engines; what does not fit is not drawn",
)

# %%
quick = min(fits, key=lambda p: p.step_s)
print(f"{quick.scale}: {quick.step_s:.0f} s, learners idle {quick.idle_learners:.0%}, engines {quick.idle_engines:.0%}")
print("does not fit:", ", ".join(f"{s.learners} + {s.rollouts}" for s, p in found if p is None) or "nothing")
best.reveal(quick.scale.learners)

# %% [markdown]
# Even the best split leaves more than half of the time of all GPUs unused: that is what taking turns means. The way out
# is a delay: engines play step $k + 1$ with the weights of step $k - 1$ while learners work on step $k$
# (`asynchronous=1`). What is learned from is then one update old, which importance weights correct. `auto` never
# chooses this for you, because it changes what is learned.
#
# ### Exercise 2: the seconds of a step
#
# About 10 minutes. All steps alike; engines and learners both stop while new weights are handed on.


# %% tags=["exercise"]
def step_seconds(rollout, learn, sync, delay):
    """Return the seconds of a step in the long run. delay: 0 or 1, how many steps old the weights may be."""
    # SOLUTION 2: a sum, or the longer half
    return (max(rollout, learn) if delay else rollout + learn) + sync
    # END SOLUTION


check.ex2(step_seconds)

# %% [markdown]
# Real steps are not all alike, which is why the planner plays them event by event: episodes of random length, tools
# that make them wait, and a long tail in which a few episodes keep the engines up.
#
# ## 4. Many nodes (assumed)
#
# The same work on ever more GPUs, with the best split of each size:

# %%
table = plan("7b", [8, 64, 512], work=work)
columns = ["gpus", "delay", "learners", "engines", "tensor_parallel", "rollout_s", "learn_s", "step_s", "idle", "tail"]
table[[*columns, "gpu_hours"]].round(2)

# %%
picture(table, share=True)

# %% [markdown]
# Eight times the GPUs do not make a step eight times shorter, and from some size on hardly shorter at all, while its
# price grows with the cluster. What is left of it is the longest episode, one token after the other, and no number of
# GPUs makes that shorter (`tail`: the share of the rollout after nine in ten episodes were over). More GPUs are worth
# it where the work grows with them:

# %%
grown = plan("7b", [8, 64], work=work, groups_per_gpu=4)
grown[["gpus", "delay", "groups", "learners", "engines", "step_s", "idle", "gpu_hours", "tokens_per_gpu_s"]].round(2)

# %% [markdown]
# The command prints the same tables: `workbench plan --model 7b --gpus 8 64 512`, for your own turns, tools and model.
#
# **From a cell** the run is the one of section 1 with one argument more. It is started in a process of its own, and
# what you hold is a handle: watch it, pause it, restart the kernel, attach again with `Run(path)`.
#
# ```python
# run = train.launch(recipes.igpo(), env, "Qwen/Qwen2.5-7B-Instruct", Plan(steps=200, groups=64, lora=Lora(16)),
#                    scale=Scale("cuda", learners=4, rollouts=4, engine="vllm"), dtype="bfloat16")
# run.watch(follow=True)
# ```
#
# On a CPU the same line runs with `Scale(learners=2, rollouts=1)`: Ray, two learners under FSDP2, one engine. It takes
# longer than one process, because they share two cores; it is there to try the path. Stored, where it was measured:

# %%
kept = json.loads((Path(RESULTS) / "scaled.json").read_text())
print(kept["command"], "| load before:", kept["machine"]["load_before"], "on", kept["machine"]["cores"], "cores")
display(pd.DataFrame(kept["rows"]).drop(columns="shares"))

# %% [markdown]
# `rollouts` 0 is one process. `told` is predicted from that row: the rollout by the share of each worker, learning
# divided by the learners. What is measured is longer by `error`: prompts and batches go from process to process, which
# the prediction leaves out, and on two cores two workers take turns with the driver. With steps of half a second that
# is a large part; with steps of minutes it is none. The file shows that the path works and what it costs, not how it
# scales. The same once more, in runs of their own:

# %%
for name in ("players", "learners"):
    kept = json.loads((Path(RESULTS) / f"{name}.json").read_text())
    display(pd.DataFrame(kept["rows"]))

# %% [markdown]
# ### A cluster that is there
#
# `address` says where, and with it who drives the run:
#
# | `address` | the driver is | needs |
# |---|---|---|
# | left out | a process here, with a Ray of its own on this machine | nothing |
# | `"auto"`, `"10.0.0.1:6379"` | a process here, which joins | this machine is one of the cluster's (`ray start`) |
# | `"http://10.0.0.1:8265"` | a job of the cluster, on its head | the cluster's job server (`ray[default]`) |
#
# The handle is the same: watch, pause, stop, resume, kill, `Run(path)` from a new kernel. All goes through the run's
# folder, which must be on storage that this machine and all of the cluster's see under the same name; that is tried
# first. What the cluster cannot hold fails the run within seconds, with numbers. A machine that dies takes no finished
# rollout with it: what ran there begins again on what is left, or on the next machine that joins.
#
# `ray start` on two machines, or twice on this one, is a cluster:
#
# ```sh
# ray start --head                        # says the address
# ray start --address=10.0.0.1:6379       # on each other machine
# ```
#
# ### Slurm
#
# Slurm gives whole machines; `ray symmetric-run` starts Ray on each and your script on the first. The script launches
# with `address="auto"` and waits. The run's folder must be on a file system that all machines see: weights go from
# learners to engines through it. (*Not run here*: there is no Slurm; the options are checked against Ray's.)

# %%
print(slurm(Scale("cuda", nodes=8, learners=32, rollouts=32, engine="vllm", address="auto"), "train_7b.py"))

# %% [markdown]
# `train_7b.py` ends in
#
# ```python
# run = train.launch(..., folder="/shared/runs/7b", scale=Scale("cuda", nodes=8, ..., address="auto"))
# run.wait()
# ```
#
# A job that was cut off goes on from its last checkpoint: submit it with `train.resume("/shared/runs/7b").wait()`.
#
# Is an allocation of Slurm up with Ray on it already? Then a notebook on the login node that sees `/shared` launches
# with `address="http://HEAD:8265"`: the driver is a job there, and neither the notebook nor its machine has to stay.
#
# ### Kubernetes
#
# With the KubeRay operator a `RayJob` starts a cluster, runs the script, and takes the cluster away. (*Not run here*.)
# On a `RayCluster` that stays, a notebook pod that mounts the same volume launches with
# `address="http://NAME-head-svc:8265"`.

# %%
scale = Scale("cuda", nodes=2, learners=8, rollouts=8, engine="vllm", address="auto")
print(kubernetes(scale, "/work/train_7b.py", image="registry.example/workbench:0.1", volume="runs"))

# %% [markdown]
# ## 5. Where did the time go?
#
# Every step of a run, local or scaled, says what its seconds went to. `wall(run)`, `bars(run)` and `cost(run)` read it
# from `metrics.jsonl`, while the run goes on too; `workbench wall RUN` prints it. Of a scaled run they also show
# `sync` (new weights to the engines) and what nobody worked in. Rows as a scaled run writes them, made up for the
# picture:

# %%
made_up = [
    {"step": k, "seconds_rollout": r, "seconds_evidence": 2.0, "seconds_credit": 0.1, "seconds_learn": 9.0}
    | {"seconds_sync": 4.0, "seconds_idle": 0.5, "seconds": r + 15.6}
    for k, r in enumerate((20.0, 24.0, 19.0, 41.0, 22.0))
]
print(cost(made_up, Scale("cuda", learners=4, rollouts=4, engine="vllm")))
bars(made_up)

# %% [markdown]
# Step 3 had one slow tool or one endless episode. Look at its rollouts before you buy GPUs.
#
# | what you see | what to try |
# |---|---|
# | rollout is most of the step, engines busy | more engines; shorter answers; prefix caching |
# | rollout is most of the step, engines idle | slow tools or a long tail: more episodes at once, a limit of turns |
# | learn is most of the step | more learners; adapters; larger micro-batches |
# | sync is most of the step | fewer, larger steps; a faster shared file system |
# | all GPUs half idle | a step of delay, with its correction watched |
#
# ## Summary
#
# 1. **Memory first**: four numbers a trained weight, cut over the learners; adapters make most of them go away.
# 2. **Then who waits**: taking turns leaves more than half unused; a delay wins it back, at a price in what is learned.
# 3. **Then the tail**: past some size the longest episode is the step. Grow the work with the cluster, or stop.
# 4. **Measure**: the numbers for GPUs above are assumed; `benchmarks/scale.py --device cuda` is there to replace them.
#
# ## References
#
# - Rajbhandari et al. 2020, *ZeRO*, [arXiv:1910.02054](https://arxiv.org/abs/1910.02054): what a learner holds, and how
#   it is cut; in the code: `workbench/scale/footprint.py`.
# - Korthikanti et al. 2022, [arXiv:2205.05198](https://arxiv.org/abs/2205.05198): activations, recomputed.
# - Ray: [Deploying on Slurm](https://docs.ray.io/en/latest/cluster/vms/user-guides/community/slurm.html),
#   [RayJob](https://docs.ray.io/en/latest/cluster/kubernetes/getting-started/rayjob-quick-start.html); in the code:
#   `workbench/scale/templates.py`.
