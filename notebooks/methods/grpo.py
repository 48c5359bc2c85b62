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
# # GRPO: was this rollout better than its siblings?
#
# **Play a question several times. A rollout is praised by how much its outcome is above the mean of all rollouts of
# that question, in units of their spread. Every token of it gets that one number.**
#
# It needs nothing but outcomes, and no model beside the policy. All other methods here are measured against it.
# From the numbers up, with exercises: [tutorial 101](../../tutorials/101_from_one_rollout_to_grpo.ipynb).
#
# **Use it when** an answer can be checked and a question played several times. It costs nothing beside, and is the
# first thing to try. **Not when** nearly all rollouts of a question succeed, or nearly none (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
from collections import Counter

from IPython.display import display

from workbench import compare, envs, policy
from workbench.policy import Settings
from workbench.recipes import dr_grpo, grpo, grpo_released
from workbench.rollout import play
from workbench.teach import method_curves, predict
from workbench.teach import method_page as page
from workbench.teach.methods import grpo as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = grpo(kl=0.0)  # without the KL term, which needs a reference policy
released = grpo_released()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(grpo(), released, policy=player)

# %% [markdown]
# ## 2. The equation
#
# Rollout $i$ of a question with $G$ rollouts has the outcome $R_i$:
#
# $$A_i = \frac{R_i - \bar R}{s + \epsilon}, \qquad \bar R = \frac{1}{G} \sum_j R_j, \qquad
# s = \sqrt{\frac{1}{G-1} \sum_j (R_j - \bar R)^2}$$
#
# $\epsilon$ is tiny and keeps the division defined. Every sampled token of the rollout carries $A_i$. The loss clips
# the ratio of new to old probability, takes the mean over the tokens of a rollout, then over rollouts, and may add a
# KL term that holds on to a reference policy.
#
# The recipe is a value and draws itself: read the outcome, compare it within the question, copy it to tokens.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Two questions. The second one nobody solves.

# %%
outcome = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
question = ["a", "a", "a", "a", "b", "b"]
success = predict("The one success among four: its advantage, to one decimal", None)


# %%
def advantage(r, peers):
    mean = sum(peers) / len(peers)
    squares = sum((x - mean) ** 2 for x in peers)
    return 0.0 if squares == 0 else (r - mean) / (squares / (len(peers) - 1)) ** 0.5


groups = {q: [r for r, p in zip(outcome, question, strict=True) if p == q] for q in set(question)}
mine = [advantage(r, groups[q]) for r, q in zip(outcome, question, strict=True)]
small = page.hand(question, rollout={"outcome": outcome}, turns=[1] * 6)
display(page.agrees([[a] for a in mine], paper, small))
success.reveal(round(mine[0], 1))

# %% [markdown]
# The success weighs as much as the three failures together: the advantages of a question sum to zero. Question b gets
# nothing at all.
#
# ## 4. On real rollouts
#
# `tiny` answers 6 questions, 4 rollouts each, by searching a list.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="grpo")
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns")
page.outcomes(rollouts)

# %%
page.cost(rollouts, paper)

# %% [markdown]
# A question whose outcomes differ, and its rollout that succeeded, stage by stage:

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %%
CreditMap(rollouts, solved.id, [paper])

# %% [markdown]
# What it promises, checked on these rollouts:

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **Collapse.** Where all outcomes of a question are equal, there is no credit, however unlike the rollouts were.

# %%
causes = compare.cause_of_collapse(batch)
collapsed = compare.collapse(batch)
page.markdown(
    f"**{sum(c != 'varied' for c in causes)} of {len(causes)} questions** have collapsed here "
    f"({', '.join(f'{n} {cause}' for cause, n in Counter(causes).items())}). Were all questions equally hard, "
    f"{collapsed.forecast:.0%} would be expected."
)

# %% [markdown]
# **One number for all turns.** Two rollouts take the same first search; one goes on well, the other does not. Built to
# show it: the first turn is the same action in the same state, and GRPO praises it here and blames it there.

# %%
twins = page.hand(["q"] * 2, rollout={"outcome": [1.0, 0.0]}, turns=[3, 3])
page.table(["rollout", "credit by turn"], [[i, page.line(row)] for i, row in enumerate(page.turns(paper, twins))])

# %% [markdown]
# **The spread decides how much a question counts.** One success among eight, and four among eight: which question
# moves the policy more?

# %%
more = predict("Which question has the larger sum of |advantage|: 1 of 8 solved, or 4 of 8?", None)

# %%
rows = []
for solved_of_8 in (1, 2, 4):
    outcomes = [1.0] * solved_of_8 + [0.0] * (8 - solved_of_8)
    eight = page.hand(["q"] * 8, rollout={"outcome": outcomes}, turns=[1] * 8)
    sizes = [sum(abs(row[0]) for row in page.turns(r, eight)) for r in (paper, dr_grpo(max_tokens=8))]
    rows.append([solved_of_8, *sizes])
cells = [[f"{n} of 8", *(f"{size:.2f}" for size in sizes)] for n, *sizes in rows]
display(page.table(["solved", "sum of |A|, GRPO", "without the spread (Dr. GRPO)"], cells))
display(more.reveal("4 of 8" if rows[2][1] > rows[0][1] else "1 of 8"))
page.markdown(
    f"A question that is hard (1 of 8) moves the policy {rows[0][1] / rows[2][1]:.0%} as much as one in the middle; "
    f"without the spread it would be {rows[0][2] / rows[2][2]:.0%}."
)

# %% [markdown]
# The spread evens questions out. Whether hard questions *should* weigh more is the quarrel between GRPO and
# [Dr. GRPO](dr_grpo.ipynb).
#
# ## 6. The paper and its code
#
# The paper does not say which spread. verl, which most methods here are built on, takes the sample's, lets a rollout
# **without siblings keep its raw outcome** (mean 0, spread 1), clips blame a second time, and averages over **all
# tokens** of the batch. On the rollouts above credit is the same; on a lone rollout it is not:

# %%
display(page.side_by_side(batch, paper, released, trajectory=batch.trajectories.index(solved.id)))
lone = page.hand(["a", "a", "b"], rollout={"outcome": [1.0, 0.0, 1.0]}, turns=[1, 1, 1])
page.side_by_side(lone, paper, released, trajectory=2)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["grpo"])

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**: DeepSeekMath 7B on GSM8K and MATH, a mathematics setting without turns or tools; not
# checked here. As a baseline in turn-level papers it is rarely far behind: 46.02 against A²TGPO's 48.06 on multi-hop
# questions, 31.32 against MatchTIR's 36.07 on tool use (their tables).
#
# ## 8. Exercise: the weight of every token
#
# About 15 minutes. In the first update the policy has not moved, so the loss of a token is minus its advantage, and
# all that counts is **what each token is multiplied with**: the advantage of its rollout times what the mean over the
# batch weighs it with. All tokens of a rollout weigh the same, so one number a rollout is enough.


# %% tags=["exercise"]
def token_weight(outcome, group, tokens):
    """Return the weight of each token of each rollout: one number a rollout.

    outcome: one a rollout.  group: the question of each.  tokens: how many each sampled.
    """
    # SOLUTION 1: advantage, over rollouts times tokens
    weights = []
    for r, g, n in zip(outcome, group, tokens, strict=True):
        peers = [x for x, h in zip(outcome, group, strict=True) if h == g]
        equal = max(peers) == min(peers)
        mean = sum(peers) / len(peers)
        spread = 1.0 if equal else (sum((x - mean) ** 2 for x in peers) / (len(peers) - 1)) ** 0.5
        weights.append(0.0 if equal else (r - mean) / spread / (len(outcome) * n))
    return weights
    # END SOLUTION


check.ex(token_weight)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, one that takes the mean over all
# tokens:

# %%
wrong = next(m for m in check.ex.misconceptions if m.name == "mean over all tokens")
check.ex(wrong.wrong)

# %% [markdown]
# ## 9. Where to go on
#
# - [RLOO](rloo.ipynb) and [REINFORCE](reinforce.ipynb): less of the same. [Dr. GRPO](dr_grpo.ipynb) and
#   [DAPO](dapo.ipynb): what others changed in it.
# - [GiGPO](gigpo.ipynb): the twins above, compared in the state they share.
# - [IGPO](igpo.ipynb): a reward for every turn, also where a question collapsed.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
