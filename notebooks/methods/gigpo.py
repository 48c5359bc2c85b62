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
# # GiGPO: was this a better move than others made from the same state?
#
# **Rollouts of one question pass through the same states. Compare what followed each visit of a state, and add that to
# the comparison of whole rollouts.**
#
# Turn credit that costs no model call: the group is already there, one only has to notice that two rollouts stood in
# the same place and went on differently.
#
# **Use it when** states repeat word for word, as in games, households and shops. It costs nothing. **Not when**
# observations are free text: then every state is new, and this is GRPO (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
from collections import Counter

import torch
from IPython.display import display

from workbench import envs, policy
from workbench.policy import Settings
from workbench.recipes import gigpo, gigpo_released, grpo, grpo_released
from workbench.rollout import play
from workbench.teach import method_curves, method_told, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import gigpo as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = gigpo(reward=None)  # this world pays at the end alone
released = gigpo_released(reward=None, kl=0.0)

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, released, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $$G_t = r_t + \gamma G_{t+1}, \qquad
# A_t = \underbrace{z(R_i)}_{\text{rollouts of the question}} + \; \omega \underbrace{z_{\,s_t}(G_t)}_{\text{visits of
# state } s_t}$$
#
# A state that was met once has nothing to be compared with: its second term is 0. Where a world pays only at the end,
# the reward of the last turn is the outcome.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Two rollouts of one question. Both begin in state *start*; only the first one reaches *list of one*.

# %%
state = [["start", "list of one"], ["start", "list of four"]]
outcome = [1.0, 0.0]
gamma = 0.95
shared = predict("Rollout 0: whose credit is larger, the first turn's or the last turn's?", None)

# %%
whole = [1 / 2**0.5, -1 / 2**0.5]  # the z-score of 1 and 0
first_return = [gamma * 1.0, 0.0]  # what follows the visit of "start"
mean = sum(first_return) / 2
spread = (sum((g - mean) ** 2 for g in first_return) / 1) ** 0.5
mine = [[whole[i] + (first_return[i] - mean) / spread, whole[i]] for i in range(2)]

codes = torch.tensor([0, 1, 0, 2])
small = page.hand(["q", "q"], rollout={"outcome": outcome}, turns=[2, 2]).with_column("state", "turn", codes)
display(page.agrees(mine, paper, small))
shared.reveal("the first turn's" if mine[0][0] > mine[0][1] else "the last turn's")

# %% [markdown]
# The first turn is where the two part, and the turn term says so. The last turns stood in states of their own: all
# they get is GRPO's number.
#
# ## 4. On real rollouts
#
# The world names its states: the question and the items listed now, however one got there.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=6, settings=Settings(max_new_tokens=24), seed=SEED, run="gigpo")
batch = rollouts.batch()
met = Counter(batch["state"].values.tolist())
alone = sum(met[s] == 1 for s in batch["state"].values.tolist())
print(f"{batch.count('turn')} turns in {len(met)} states; {alone} turns stood in a state that was met once")
page.cost(rollouts, paper)

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %% [markdown]
# The upper branch is GRPO's number, the same for all turns. The lower one compares what followed each visit of a state,
# and is 0 where a state was met once. Beside GRPO:

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), paper])

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **States that never repeat.** A counter or a time stamp in the observation, and every state is new. Then the turn
# term is 0 everywhere and GiGPO is GRPO. Here the states of all turns are numbered anew:

# %%
fresh = batch.with_column("state", "turn", torch.arange(batch.count("turn")))
alone_said = page.turns(paper, fresh)
grpo_said = page.turns(grpo_released(), fresh)
gap = max(abs(a - b) for p, q in zip(alone_said, grpo_said, strict=True) for a, b in zip(p, q, strict=True))
page.markdown(f"Largest difference to GRPO as verl runs it, over all turns: **{gap:.1g}**.")

# %% [markdown]
# **A state visited twice by one rollout** is compared with itself. Going in a circle and then succeeding looks like
# this:

# %%
circle = page.hand(["q", "q"], rollout={"outcome": [1.0, 0.0]}, turns=[4, 2])
circle = circle.with_column("state", "turn", torch.tensor([0, 1, 0, 2, 0, 3]))
page.table(["rollout", "credit by turn"], [[i, page.line(row)] for i, row in enumerate(page.turns(paper, circle))])

# %% [markdown]
# The first turn of rollout 0 walked into the circle, the third one out of it. Both are praised against *start*; the
# third a little more, and only because of the discount.
#
# **A collapsed question** gives nothing where the world pays only at the end: all returns are equal, too.
#
# ## 6. The paper and its code
#
# The release takes the statistics of the *episode* term over step rows, so that long rollouts count more in the mean
# (the paper's Eq. 3 counts each rollout once), and by default divides by no spread. It also takes 0.1 off the reward
# of an invalid action.

# %%
place = batch.trajectories.index(solved.id)
page.side_by_side(batch, gigpo(reward=None, norm="mean"), released, trajectory=place)

# %% [markdown]
# What is left of the difference is the mean over steps: the long, failed rollouts pull it down.
#
# ## 7. How it learned
#
# In stored runs the worlds paid only at the end.

# %%
method_curves.beside_grpo(["gigpo"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Does its credit find the search that helped? Stored, on more rollouts of the chain world:

# %%
method_told.which_turn("gigpo")

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**: ALFWorld 86.7 (1.5B) and 90.8 (7B), WebShop success 67.4 and 75.2; worlds with states
# that repeat word for word. Not checked here. In IGPO's table it has 47.2 on question answering, where states rarely
# repeat.
#
# ## 8. Exercise: write it
#
# About 20 minutes. Rewards are given for every turn here.


# %% tags=["exercise"]
def turn_credit(reward, state, outcome, group, gamma):
    """Return the credit of every turn, a row a rollout.

    reward: a row of numbers a rollout.  state: a row of names.  outcome: one a rollout.  group: the question of each.
    A rollout alone with its question has an episode term equal to its outcome.
    """

    # SOLUTION 1: returns, z-scores by state, plus the z-score of the outcome
    def z(x, pool, lone):
        if len(pool) == 1:
            return lone
        mean = sum(pool) / len(pool)
        squares = sum((y - mean) ** 2 for y in pool)
        return 0.0 if max(pool) == min(pool) else (x - mean) / (squares / (len(pool) - 1)) ** 0.5

    returns = []
    for row in reward:
        back, follows = [], 0.0
        for r in reversed(row):
            follows = r + gamma * follows
            back.append(follows)
        returns.append(back[::-1])
    visits = {}
    for i, row in enumerate(state):
        for t, s in enumerate(row):
            visits.setdefault((group[i], s), []).append(returns[i][t])
    credit = []
    for i, g in enumerate(group):
        whole = z(outcome[i], [r for r, h in zip(outcome, group, strict=True) if h == g], outcome[i])
        credit.append([whole + z(x, visits[g, s], 0.0) for x, s in zip(returns[i], state[i], strict=True)])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, the release's episode term:

# %%
check.ex(check.made(episode=check.over_steps))

# %% [markdown]
# ## 9. Where to go on
#
# - [MatchTIR](matchtir.ipynb) compares turns at the same *place*; [VPR](vpr.ipynb) asks an oracle.
# - [IGPO](igpo.ipynb): turn credit where no state repeats, at the price of a probe.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
