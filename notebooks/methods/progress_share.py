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
# # Progress share: which turn carried the rollout to its end?
#
# **Split the outcome over the turns, more to those that made more progress. A turn is credited with what is still to
# come, beside the same turn of its siblings.**
#
# After *SPA-RL* (2025), where a network learns the contributions. Here progress is any column that has a number for
# each turn, by default how well its calls match a reference trace, so that the way of splitting can be seen by
# itself. Before this one: [GRPO](grpo.ipynb) and [MatchTIR](matchtir.ipynb), which reads the same column.
#
# **Use it when** turns should share the outcome, and no more than the outcome. It costs no call of the policy. **Not
# when** most rollouts fail, or the first turn decides: a failure has nothing to share, and at the first turn it is the
# outcome alone (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
import math

import torch
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.credit import Credit
from workbench.evidence.predicted import hashed_words
from workbench.policy import Settings
from workbench.recipes import dr_grpo, grpo, progress_share
from workbench.rollout import play
from workbench.teach import method_curves, method_told, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import progress_share as check
from workbench.view import CreditMap, Ribbons

env = envs.load("chain", hops=2)
player = policy.load("tiny@chain-misread")  # a million parameters; reads some words as others
share = progress_share()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(share, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $p_t$ is the progress of turn $t$, $R$ the outcome of its rollout, $\tau$ a temperature:
#
# $$r_t = R\,\frac{e^{p_t/\tau}}{\sum_k e^{p_k/\tau}}, \qquad G_t = r_t + G_{t+1}, \qquad
# A_t = G_t - \text{mean of } G_t \text{ over the siblings}$$
#
# The parts of a rollout add up to its outcome, whatever $p$ says. A small $\tau$ gives nearly all to the best turn, a
# large one the same to each.

# %%
share

# %% [markdown]
# ## 3. By hand
#
# Three rollouts of a question, $\tau = 1$. Two are right: one makes its progress in the first turn, one in the last.

# %%
progress = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0]]
outcome = [1.0, 1.0, 0.0]
start = predict(
    "Rollout 0 made all its progress at once. Has its first turn more credit than rollout 1's? (yes, no)", None
)

# %%
parts = [[r * math.exp(p) / sum(map(math.exp, row)) for p in row] for row, r in zip(progress, outcome, strict=True)]
left = [[sum(row[t:]) for t in range(len(row))] for row in parts]
print("parts:   ", [page.line(row) for row in parts])
print("to come: ", [page.line(row) for row in left])

mine = []
for row in left:
    same = [[other[t] for other in left if t < len(other)] for t in range(len(row))]
    mine.append([x - sum(peers) / len(peers) for x, peers in zip(row, same, strict=True)])
small = page.hand(["q"] * 3, {"match_reward": progress}, {"outcome": outcome})
display(page.agrees(mine, share, small))
start.reveal("yes" if mine[0][0] > mine[1][0] else "no")

# %% [markdown]
# At the first turn all of the outcome is still to come, so progress cannot show there. It shows from the second turn
# on: rollout 0 has less left to earn than rollout 1.
#
# ## 4. On real rollouts
#
# A chain of two lookups; the reference trace is the chain itself. No model is asked for the evidence.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="share")
rollouts = evidence.collect(rollouts, evidence.for_recipe([share, grpo(kl=0.0)], rollouts, policy=player))
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, share)

# %%
# a right rollout with failed siblings, one of whose searches matches in full
column = page.rows_of(Credit(batch["match_reward"].values, "turn", batch["match_reward"].known), batch)
mixed = [g for g in rollouts.groups if 0 < sum(t.outcome for t in g) < len(g)]
right = [i for i, t in enumerate(rollouts) if t.outcome == 1.0 and any(t in g for g in mixed)]
solved = rollouts[max(right, key=lambda i: (max(column[i]), len(column[i])))]
Ribbons(rollouts, solved.id, share)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), share])

# %%
page.promises(share, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **The first turn never hears of progress.** The parts add up to the outcome, so what is to come at the first turn is
# the outcome. On the rollouts above, beside the outcome minus the mean of its question (Dr. GRPO):

# %%
said, plain = page.turns(share, batch), page.turns(dr_grpo(), batch)
gap = max(abs(a[0] - b[0]) for a, b in zip(said, plain, strict=True))
later = max(abs(x - y) for a, b in zip(said, plain, strict=True) for x, y in zip(a[1:], b[1:], strict=True))
page.markdown(f"Largest difference at first turns: **{gap:.1g}**; at later ones: {later:.2f}.")

# %% [markdown]
# **A fast start is held against what follows.** Built to show it: two right rollouts, whose last two turns are the
# same. One found everything in its first turn, the other nothing.

# %%
fast = page.hand(["q"] * 2, {"match_reward": [[2.0, 0.5, 0.0], [0.0, 0.5, 0.0]]}, {"outcome": [1.0, 1.0]})
words = ("progress in the first turn", "none in the first turn")
page.table(
    ["rollout", "credit by turn"], [[w, page.line(row)] for w, row in zip(words, page.turns(share, fast), strict=True)]
)

# %% [markdown]
# The second turns did the same, and one is blamed: its rollout has less left to earn.
#
# **A good turn of a failed rollout earns nothing.** There is no outcome to split: each turn gets minus the mean of
# what was still to come at that turn, and most was to come at the first. All failed rollouts that have a right
# sibling:

# %%
inside = {t.id for g in mixed for t in g if t.outcome == 0.0}
failed = [(p, a) for t, p, a in zip(rollouts, column, said, strict=True) if t.id in inside]
rows = []
for k in range(3):
    there = [(p[k], a[k]) for p, a in failed if k < len(p)]
    full = [a for p, a in there if p == 1.0]
    mean = sum(a for _, a in there) / len(there)
    blamed = f"{sum(a < 0 for a in full)} of {len(full)}" if full else "-"
    rows.append([k, len(there), page.number(mean), len(full), blamed])
page.table(["turn", "rollouts", "credit, mean", "full matches", "full matches that are blamed"], rows)

# %% [markdown]
# **A wrong measure of progress is not noticed.** The sum is right for every $p$. The column used here says 0 of the
# turn that answers, because an answer matches no call, so the answer has the smallest part of what it earned. Mean
# part of each kind of turn, over right rollouts:

# %%
parts = {"search that matches in full": [], "other search": [], "answer": []}
for t, row in zip(rollouts, column, strict=True):
    if t.outcome == 1.0:
        mass = [math.exp(p) for p in row]
        for k, m in enumerate(mass):
            kind = "answer" if k == len(row) - 1 else "search that matches in full" if row[k] == 1.0 else "other search"
            parts[kind].append(m / sum(mass))
page.table(
    ["kind of turn", "turns", "part of the outcome, mean"],
    [[k, len(v), f"{sum(v) / len(v):.3f}"] for k, v in parts.items()],
)

# %% [markdown]
# **Does it tell the turn that helped?** Measured against the oracle of this world:

# %%
method_told.which_turn("progress_share")

# %% [markdown]
# Below chance within a rollout: in failed rollouts the first turn is blamed most, and the first search is most often
# a right one.
#
# ## 6. The paper and its code
#
# In the paper (abstract and released code read, its body not) contributions are **learned**. A network that begins as
# the policy has one linear head, read at the last token of each turn; the *sum over the turns* is fitted to the
# outcome. Then PPO is run on contributions plus a *grounding* signal: 0.5 for an action that the world could carry
# out. No softmax, no siblings. In small, with the words of a turn instead of a network, fitted to half of the
# questions:

# %%
width = 64
words = [torch.stack([hashed_words(turn, width) for turn in t.turns]) for t in rollouts]
sums, ends = torch.stack([w.sum(0) for w in words]), torch.tensor([t.outcome for t in rollouts])
half = torch.tensor([t.group in {q.id for q in questions[:3]} for t in rollouts])
ridge = sums[half].T @ sums[half] + torch.eye(2 * width)
head = torch.linalg.solve(ridge, sums[half].T @ ends[half])
error = [(sums[part] @ head - ends[part]).pow(2).mean().item() for part in (half, ~half)]
guess = (ends[~half] - ends[half].mean()).pow(2).mean().item()
page.table(
    ["questions", "mean squared error of the sum", "of always saying the mean"],
    [
        ["fitted to", f"{error[0]:.3f}", f"{ends[half].var(unbiased=False).item():.3f}"],
        ["others", f"{error[1]:.3f}", f"{guess:.3f}"],
    ],
)

# %% [markdown]
# A fitted split adds up only as well as it was fitted; the softmax adds up always. What each says of the rollout
# above, beside what the **released** script for WebShop hands to PPO: it writes over the learned contributions (in
# the version we read) and gives every turn one number, the outcome minus the mean of the other rollouts, plus the
# grounding.

# %%
place = batch.trajectories.index(solved.id)
mass = [math.exp(p) for p in column[place]]
siblings = [t.outcome for t in rollouts if t.group == solved.group and t.id != solved.id]
ahead = solved.outcome - sum(siblings) / len(siblings)
learned = (words[place] @ head).tolist()
grounded = [0.5 * (not turn.rewards.get("malformed")) for turn in solved.turns]
page.table(
    ["turn", "part, here", "contribution, fitted", "reward, released script"],
    [
        [k, page.number(m / sum(mass)), page.number(c), page.number(ahead + g)]
        for k, (m, c, g) in enumerate(zip(mass, learned, grounded, strict=True))
    ],
)

# %% [markdown]
# So there are three readings of one idea: parts of the outcome by a measure, contributions that a network found, and,
# as released for one of its worlds, a comparison of whole rollouts.
#
# ## 7. How it learned

# %%
method_curves.beside_grpo(["progress_share"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, share)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@chain-misread"), env, share)

# %% [markdown]
# **What its authors report** of SPA-RL (abstract): on WebShop, ALFWorld and VirtualHome on average 2.5 % more success
# and 1.9 % more grounded actions than the best method before. Not checked here, and of their method, not of this one.
#
# ## 8. Exercise: write it
#
# About 15 minutes.


# %% tags=["exercise"]
def turn_credit(progress, outcome, group, temperature):
    """Return the credit of every turn, a row a rollout.

    progress: a row of numbers a rollout, one a turn.  outcome: one a rollout.  group: the question of each.
    temperature: of the split.  A turn that no sibling got to has credit 0.
    """
    # SOLUTION 1: parts, what is to come, compared at the same turn
    left = []
    for row, r in zip(progress, outcome, strict=True):
        mass = [math.exp(p / temperature) for p in row]
        parts = [r * m / sum(mass) for m in mass]
        left.append([sum(parts[t:]) for t in range(len(parts))])
    credit = []
    for row, g in zip(left, group, strict=True):
        mine = [other for other, h in zip(left, group, strict=True) if h == g]
        same = [[other[t] for other in mine if t < len(other)] for t in range(len(row))]
        credit.append([x - sum(peers) / len(peers) for x, peers in zip(row, same, strict=True)])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, a split in proportion to progress:

# %%
check.ex(check.made(check.proportion))

# %% [markdown]
# ## 9. Where to go on
#
# - [MatchTIR](matchtir.ipynb): the same column as rewards, which a failed rollout keeps.
# - [Shapley over turns](shapley.ipynb): parts that add up, because of what they are and not because they are divided.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(share)
