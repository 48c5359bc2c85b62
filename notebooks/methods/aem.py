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
# # AEM: how sure was the policy of this turn?
#
# **GRPO's advantage, weighed turn by turn: what the policy did without hesitation gets more of it, praise or blame;
# what it was unsure of gets less.**
#
# No judge, no reference, no probe: the only evidence is the entropy of the policy's own distributions. Sure and wrong
# is blamed most; that is meant to make the policy explore where it is stuck.
#
# **Use it when** there is nothing but outcomes, and one more pass over the policy's own tokens is cheap. **Not when**
# most questions are always or never solved: a weight times 0 is 0.

# %% tags=["parameters"]
SEED = 5

# %%
import math
from dataclasses import replace

import torch
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.policy import Settings
from workbench.recipes import aem, dapo, grpo, rloo
from workbench.recipes.weighed import turn_entropy
from workbench.rollout import play
from workbench.teach import method_curves, method_told, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import aem as check
from workbench.train.tally import kinds
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = aem()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $H_t$ is the mean entropy over the tokens of turn $t$, in nats. Over **all turns of all rollouts of the question**:
#
# $$h_t = \frac{H_t - \min H}{\max H - \min H}, \qquad
# \alpha_t = \frac{e^{-\lambda h_t}}{\text{mean}\; e^{-\lambda h}}, \qquad A_t = \alpha_t\, A^{GRPO}_i$$
#
# $A^{GRPO}_i$ is the advantage of the rollout that the turn belongs to, and $\lambda$ is 1. Where
# $\max H - \min H < 0.1$, every weight is 1. The mean weight is 1 over turns, so the update stays as large.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# One right rollout of two turns, one wrong of three; the numbers are mean entropies.

# %%
entropy = [[0.4, 1.2], [0.1, 0.9, 0.6]]
outcome = [1.0, 0.0]
sure = predict("Which of the five turns moves the policy most? (rollout, turn)", None)

# %%
flat = [h for row in entropy for h in row]
low, high = min(flat), max(flat)
e = [[math.exp(-(h - low) / (high - low)) for h in row] for row in entropy]  # lambda is 1
mean = sum(x for row in e for x in row) / len(flat)
advantage = [1 / 2**0.5, -1 / 2**0.5]
mine = [[a * x / mean for x in row] for a, row in zip(advantage, e, strict=True)]

small = page.hand(["q", "q"], None, {"outcome": outcome}, turns=[2, 3], tokens=[[1, 1], [1, 1, 1]])
small = small.with_column("token_entropy", "token", torch.tensor(flat, dtype=torch.float64))
display(page.agrees(mine, paper, small))
most = max(((abs(a), (i, t)) for i, row in enumerate(mine) for t, a in enumerate(row)))[1]
sure.reveal(list(most))

# %% [markdown]
# The first turn of the *wrong* rollout: the policy was sure, and wrong.
#
# ## 4. On real rollouts
#
# A world in which every search narrows a list. `tiny` plays 6 questions, 4 rollouts each; the entropies take one more
# pass over its own tokens.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="aem")
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
# How sure is it of what, in this world? The oracle says which searches bring the answer closer.

# %%
entropy_of = page.rows_of(turn_entropy()(None, batch), batch)
kind = [kinds(t) for t in rollouts]
rows = []
for word, name in (
    ("search that helps", "useful"),
    ("search that does not", "useless"),
    ("answer, too early", "early"),
    ("answer, in time", "due"),
):
    values = [h for hs, ks in zip(entropy_of, kind, strict=True) for h, k in zip(hs, ks, strict=True) if k == name]
    rows.append([word, len(values), f"{sum(values) / len(values):.3f}" if values else "-"])
page.table(["kind of turn", "turns", "mean entropy, nats"], rows)

# %% [markdown]
# ## 5. Where it fails
#
# **Sure is not the same as important.** Every rollout of a world may begin with the same search. The policy is sure of
# it, so it carries most of the credit, although it tells no rollout from another. Built to show it:

# %%
routine = page.hand(["q", "q"], None, {"outcome": outcome}, turns=[2, 2], tokens=[[1, 1], [1, 1]])
routine = routine.with_column("token_entropy", "token", torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64))
rows = [[i, *map(page.number, row)] for i, row in enumerate(page.turns(paper, routine))]
page.table(["rollout", "credit of the routine turn", "of the deciding turn"], rows)

# %% [markdown]
# **A collapsed question stays collapsed**: an advantage of 0 times any weight is 0.
#
# **The threshold is a cliff.** Entropies that differ by 0.099 nats count alike; by 0.101 nats the surest turn weighs
# $e$ times the unsurest:

# %%
rows = []
for wide in (0.099, 0.101):
    edge = page.hand(["q", "q"], None, {"outcome": outcome}, turns=[1, 1], tokens=[[1], [1]])
    edge = edge.with_column("token_entropy", "token", torch.tensor([0.0, wide], dtype=torch.float64))
    rows.append([wide, *(page.number(row[0]) for row in page.turns(paper, edge))])
page.table(["range of entropies", "the sure one", "the unsure one"], rows)

# %% [markdown]
# ## 6. The paper and its code
#
# No official code was found. The formulas are from two reading notes that agree; a public summary that calls it an
# entropy *bonus* is wrong. What can be computed is what the ablations ask: with another $\lambda$, or its sign
# flipped.

# %%
page.side_by_side(
    batch,
    paper,
    replace(aem(rate=2.0), name="aem, lambda 2"),
    replace(aem(rate=-1.0), name="aem, sign flipped"),
    trajectory=batch.trajectories.index(solved.id),
)

# %% [markdown]
# The weights do not ask what they weigh. Its authors also put them on DAPO and GSPO; here any recipe can be the host,
# and keeps its own loss and way of sampling:

# %%
hosted = [aem(host=host) for host in (dapo(), rloo())]
page.side_by_side(batch, paper, *hosted, trajectory=batch.trajectories.index(solved.id))

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["aem"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Does its credit find the search that helped? Stored, on more rollouts of the chain world:

# %%
method_told.which_turn("aem")

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**, with a model of 1.5B and three seeds: on ALFWorld GRPO goes from 68.0 to 76.8 and DAPO
# from 88.5 to 94.5; success on WebShop from 65.0 to 70.6; 1.1 % more time. Not checked here.
#
# ## 8. Exercise: write it
#
# About 20 minutes.


# %% tags=["exercise"]
def turn_credit(entropy, outcome, group, rate):
    """Return the credit of every turn, a row a rollout.

    entropy: a row a rollout of lists, one a turn, of its tokens' entropies.  outcome: one a rollout.
    group: the question of each; a rollout alone with its question keeps its outcome.  rate: lambda.
    """
    # SOLUTION 1: mean entropies, scaled within the question; weights of mean 1; times the z-score
    means = [[sum(turn) / len(turn) for turn in row] for row in entropy]
    credit = []
    for i, g in enumerate(group):
        mine = [k for k, h in enumerate(group) if h == g]
        pool = [x for k in mine for x in means[k]]
        low, wide = min(pool), max(pool) - min(pool)
        if wide < 0.1:
            weight = [1.0] * len(means[i])
        else:
            every = [math.exp(-rate * (x - low) / wide) for x in pool]
            average = sum(every) / len(every)
            weight = [math.exp(-rate * (x - low) / wide) / average for x in means[i]]
        peers = [outcome[k] for k in mine]
        middle = sum(peers) / len(peers)
        squares = sum((r - middle) ** 2 for r in peers)
        equal = max(peers) == min(peers)
        a = (
            outcome[i]
            if len(peers) == 1
            else 0.0
            if equal
            else (outcome[i] - middle) / (squares / (len(peers) - 1)) ** 0.5
        )
        credit.append([a * w for w in weight])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, unsure turns weighed more:

# %%
check.ex(check.made(curve=check.rising))

# %% [markdown]
# ## 9. Where to go on
#
# - [PBSD](pbsd.ipynb) weighs turns by what knowing the answer says of them; [GRPO-VPS](grpo_vps.ipynb) cuts where the
#   policy is unsure.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
