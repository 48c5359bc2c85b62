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
# # SPAE: has the answer been found already?
#
# **After every step let the policy answer a few times, briefly. How right and how sure it is gives a potential. Steps
# towards it are rewarded; once it is full, the outcome counts less: what is checked again and again earned nothing.**
#
# Outcome rewards see neither endless checking nor a right answer that was given up. Potential and probe are the
# authors'; how they enter the advantage is **our reading of notes by others**, since the training code is not public.
#
# **Use it when** a policy thinks at length, goes on checking what it has found, and right answers are known. It costs
# several short samples after every step (section 4). **Not when** rollouts have a few short turns: nothing is ever
# found *early*.

# %% tags=["parameters"]
SEED = 5

# %%
import math
from dataclasses import replace

import torch
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.policy import Settings
from workbench.recipes import grpo, spae
from workbench.recipes.steps import probe_scores
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import spae as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = spae()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# *Acc*, accuracy: the mean probability of the right answer's tokens, when the policy is made to answer now. *Conf*,
# confidence: $e^{-H}$, where $H$ is the mean entropy of the answers that it samples now. The potential of step $k$ is
#
# $$\Phi = \frac32\,\text{Acc} \cdot \text{Conf} + \frac12\,\text{Acc} - \text{Conf}$$
#
# $$A_k = (R_i - \bar R)\,f_k + \xi\,g_k, \qquad f_k = 1 - \alpha\,(1 - e^{-C_k}), \qquad
# g_k = e^{\text{minmax}(\Phi_k - \Phi_{k-1})} - \text{mean}_\text{batch}$$
#
# $R_i - \bar R$ is the outcome minus the mean of the question. $f_k$ is the *penalty*: $C_k$ counts the earlier steps
# with $\Phi > 0.9$, so that a step behind a found answer keeps less of the outcome, down to $1 - \alpha$. $g_k$ is the
# *shaping*: minmax puts the changes of all steps of the batch between 0 and 1. $\alpha = \xi = 0.5$. At the end
# everything is standardised over the tokens of the batch.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# The corners of the potential first.


# %%
def potential(acc, conf):
    return 1.5 * acc * conf + 0.5 * acc - conf


corners = [["right and sure", 1, 1], ["right, unsure", 1, 0], ["wrong, unsure", 0, 0], ["wrong and sure", 0, 1]]
page.table(["", "Acc", "Conf", "potential"], [[*row, potential(*row[1:])] for row in corners])

# %% [markdown]
# Then three rollouts of one question, with the potentials of the worked example that the library is tested against.
# Rollout 0 has the answer after its third step, and checks it in a fourth.

# %%
acc = [[0.2, 1.0, 1.0, 1.0], [0.4, 0.0, 0.0], [0.0, 0.8]]
conf = [[0.0, 0.0, 0.9, 0.94], [0.0, 0.3, 0.0], [0.0, 0.0]]
outcome = [1.0, 0.0, 1.0]
tokens = [[2, 3, 2, 1], [2, 2, 2], [3, 2]]  # of each step
checking = predict(
    "Rollout 0: how much credit has the check, as a share of the step before it: all, half, a tenth?", None
)

# %%
phi = [[potential(a, c) for a, c in zip(p, q, strict=True)] for p, q in zip(acc, conf, strict=True)]
change = [[0.0] + [b - a for a, b in zip(row, row[1:], strict=False)] for row in phi]
every = [x for row in change for x in row]
g = [[math.exp((x - min(every)) / (max(every) - min(every))) for x in row] for row in change]
middle = sum(x for row in g for x in row) / len(every)
centred = [r - sum(outcome) / 3 for r in outcome]
raw, shares = [], []
for a, row, steps in zip(centred, phi, g, strict=True):
    before = [sum(x > 0.9 for x in row[:k]) for k in range(len(row))]
    shares.append([1 - 0.5 * (1 - math.exp(-n)) for n in before])
    raw.append([a * f + 0.5 * (x - middle) for f, x in zip(shares[-1], steps, strict=True)])
flat = [x for row, sizes in zip(raw, tokens, strict=True) for x, n in zip(row, sizes, strict=True) for _ in range(n)]
mean = sum(flat) / len(flat)
spread = (sum((x - mean) ** 2 for x in flat) / len(flat)) ** 0.5
mine = [[(x - mean) / spread for x in row] for row in raw]

evidence_by_hand = {"step_accuracy": acc, "step_confidence": conf}
small = page.hand(["q"] * 3, evidence_by_hand, {"outcome": outcome}, tokens=tokens)
display(page.agrees(mine, paper, small))
checking.reveal(f"{mine[0][3] / mine[0][2]:.0%}")

# %% [markdown]
# What went into it, step by step. The check made hardly any progress, and its share $f$ of the outcome is smaller. A
# first step has no step before it: its change counts as 0.

# %%
page.table(
    ["rollout", "step", "potential", "its change", "f", "g"],
    [
        [i, k, *(page.number(x, 2) for x in (phi[i][k], change[i][k], shares[i][k], g[i][k] - middle))]
        for i, row in enumerate(phi)
        for k in range(len(row))
    ],
)

# %% [markdown]
# ## 4. On real rollouts
#
# A step is a turn here: these turns are a line each. Where a policy thinks at length, `spae(step="token")` takes the
# paragraphs of its thoughts as steps, as published (`thought_ends` cuts them). Five short probes after every step, and
# the right answer scored once more.

# %%
questions = env.tasks("test", 4, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="spae")
rollouts = evidence.collect(rollouts, evidence.for_recipe([paper, grpo(kl=0.0)], rollouts, policy=player))
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, paper)

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), paper])

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **It protects whoever gives up a right answer.** $f$ shrinks blame as it shrinks praise. Built to show it: two wrong
# rollouts, one of which had the answer and threw it away in its last step.

# %%
abandoned = page.hand(
    ["q"] * 3,
    {
        "step_accuracy": [[0.5, 0.99, 0.1], [0.5, 0.3, 0.1], [0.5, 0.6, 0.99]],
        "step_confidence": [[0.5, 0.99, 0.9], [0.5, 0.5, 0.9], [0.5, 0.7, 0.99]],
    },
    {"outcome": [0.0, 0.0, 1.0]},
    tokens=[[1, 1, 1]] * 3,
)
without_shaping = replace(spae(xi=0.0), name="spae, outcome term alone")
said = [page.turns(recipe, abandoned) for recipe in (paper, without_shaping)]
page.table(
    ["rollout", "spae", "its outcome term alone"],
    [
        [word, *(page.line(rows[i]) for rows in said)]
        for i, word in enumerate(("had it, gave it up", "never had it", "right"))
    ],
)

# %% [markdown]
# In the outcome term the step that gave the answer up is blamed *less* than the last step of a rollout that never had
# it. The shaping term makes up for it, if its weight is large enough.
#
# **One odd step moves all others.** The scaling of $g$ takes the least and the largest change of the batch. Rollout 0
# of section 3, as it is, and with another question in the batch in which a right answer was thrown away:

# %%
odd = page.hand(
    [*["q"] * 3, "p", "p"],
    {"step_accuracy": [*acc, [0.99, 0.1], [0.5, 0.5]], "step_confidence": [*conf, [0.99, 0.9], [0.5, 0.5]]},
    {"outcome": [*outcome, 0.0, 1.0]},
    tokens=[*tokens, [1, 1], [1, 1]],
)
rows = [["by itself", page.line(mine[0])], ["beside the other question", page.line(page.turns(paper, odd)[0])]]
page.table(["rollout 0", "credit of its steps"], rows)

# %% [markdown]
# ## 6. The paper and its code
#
# What is public is a probe script, and it is not the paper: it divides a *product* of probabilities by the length of
# the answer, where the paper takes a mean. Equal for one token only:

# %%
rows = []
for name, logs in (("one token", [-0.1]), ("three tokens", [-0.1, -0.2, -0.1])):
    entropies = [torch.tensor([0.2] * len(logs))]
    scores = [probe_scores([torch.tensor(logs)], entropies, variant) for variant in ("paper", "released")]
    rows.append([name, *(f"{acc:.3f}, {conf:.3f}" for acc, conf in scores)])
page.table(["answer of", "accuracy, confidence: paper", "released script"], rows)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["spae"])

# %% [markdown]
# What to expect of it: what it changes in GRPO's credit, on the rollouts of section 4, before any training.

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper, updates=2)

# %% [markdown]
# **What its authors report**, mathematics with R1-Distill-Qwen-7B: 63.86 at 6,825 tokens against DAPO's 62.73 at
# 8,213; without the saturation 63.98 at 7,517, without the difference term 62.47. Not checked here.
#
# ## 8. Exercise: write it
#
# About 25 minutes. $\alpha$ and $\xi$ are 0.5, full is 0.9.


# %% tags=["exercise"]
def turn_credit(accuracy, confidence, outcome, group):
    """Return the credit of every step, a row a rollout.

    accuracy, confidence: a row of numbers a rollout, one a step.  outcome: one a rollout.
    group: the question of each.  Every step is one token.
    """
    # SOLUTION 1: potential, penalty, shaping, standardised over the batch
    phi = [
        [1.5 * a * c + 0.5 * a - c for a, c in zip(p, q, strict=True)]
        for p, q in zip(accuracy, confidence, strict=True)
    ]
    change = [[0.0] + [b - a for a, b in zip(row, row[1:], strict=False)] for row in phi]
    every = [x for row in change for x in row]
    low, wide = min(every), max(every) - min(every)
    g = [[math.exp((x - low) / wide if wide else 0.0) for x in row] for row in change]
    middle = sum(x for row in g for x in row) / len(every)
    raw = []
    for row, steps, r, q in zip(phi, g, outcome, group, strict=True):
        peers = [x for x, h in zip(outcome, group, strict=True) if h == q]
        a = r - sum(peers) / len(peers) if len(peers) > 1 else 0.0
        counts = [sum(x > 0.9 for x in row[:k]) for k in range(len(row))]
        raw.append(
            [a * (1 - 0.5 * (1 - math.exp(-n))) + 0.5 * (x - middle) for n, x in zip(counts, steps, strict=True)]
        )
    flat = [x for row in raw for x in row]
    mean = sum(flat) / len(flat)
    spread = (sum((x - mean) ** 2 for x in flat) / len(flat)) ** 0.5
    return [[(x - mean) / spread for x in row] for row in raw]
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, a penalty that also hits the step that
# found the answer:

# %%
check.ex(check.made(count=check.so_far))

# %% [markdown]
# ## 9. Where to go on
#
# - [GRPO-VPS](grpo_vps.ipynb): pieces and a plain probability. [DAPO](dapo.ipynb): the loss SPAE's authors build on.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
