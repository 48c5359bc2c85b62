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
# # Dr. GRPO: GRPO without two divisions
#
# **GRPO divides the advantage by the spread of the question, and the loss by the length of the rollout. Both bias
# what is learned. Leave both out.**
#
# **Use it when** wrong answers grow longer and longer. It costs nothing. **Not when** the constant is left to the
# trainer: then the longest rollout sets the size of the step (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
from IPython.display import display

from workbench import envs, policy
from workbench.policy import Settings
from workbench.recipes import dr_grpo, dr_grpo_released, grpo
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import dr_grpo as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = dr_grpo(max_tokens=64)
released = dr_grpo_released(max_tokens=64)

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, released, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $$A_i = R_i - \bar R, \qquad \text{loss} = \frac{1}{C} \sum_i \sum_t \ell_{i,t}, \qquad C \text{ a constant}$$
#
# $R_i$ is the outcome of rollout $i$, $\bar R$ the mean over its question, $\ell_{i,t}$ the clipped loss of token $t$.
# Nothing is divided by a spread, and nothing by a length.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Two wrong rollouts of one question, one short and one long, beside a right one. How much does each of their tokens
# weigh?

# %%
outcome, tokens = [1.0, 0.0, 0.0], [10, 10, 40]
longer = predict("GRPO: is a token of the long wrong rollout blamed more or less than one of the short one?", None)

# %%
mean = sum(outcome) / 3
mine = [r - mean for r in outcome]
small = page.hand(["q"] * 3, rollout={"outcome": outcome}, turns=[1] * 3, tokens=[[n] for n in tokens])
display(page.agrees([[a] for a in mine], paper, small))

spread = (sum(a * a for a in mine) / 2) ** 0.5
rows = [[n, f"{a / 64:+.4f}", f"{a / spread / (3 * n):+.4f}"] for a, n in zip(mine, tokens, strict=True)]
display(page.table(["tokens of the rollout", "weight of a token, Dr. GRPO (C = 64)", "GRPO"], rows))
token = [abs(a) / n for a, n in zip(mine, tokens, strict=True)]
longer.reveal("less" if token[2] < token[1] else "more")

# %% [markdown]
# In GRPO a long wrong rollout gets off lightly, token by token: that, its authors say, is how wrong answers grow long.
# With a constant a wrong token is blamed the same wherever it stands.
#
# ## 4. On real rollouts
#
# `tiny` answers 6 questions, 4 rollouts each, by searching a list.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="dr_grpo")
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns")
page.outcomes(rollouts)

# %%
page.cost(rollouts, paper)

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %%
CreditMap(rollouts, solved.id, [paper, grpo(kl=0.0)])

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **The constant is a learning rate in disguise.** The recipe's is `max_tokens`; halve it and the step doubles. Where
# it is not set, verl takes the padded width of the batch, which is no constant: the longest rollout of every batch
# decides the size of the step. Built to show it, the same rollouts beside a longer and a longer one:

# %%
rows = []
for longest in (40, 400):
    sizes = [10, 10, longest]
    rows.append([longest, f"{mine[0] / 64:+.5f}", f"{mine[0] / max(sizes):+.5f}"])
page.table(["tokens of the longest rollout", "weight of a token of rollout 0, constant 64", "padded width"], rows)

# %% [markdown]
# Ten times the padding is a tenth of the step, for the same rollout.
#
# **It cannot see turns** and gets nothing from a collapsed question, as GRPO.
#
# ## 6. The paper and its code
#
# In verl it is GRPO with `norm_adv_by_std_in_grpo=False`. There a rollout without siblings keeps its raw outcome; in
# the paper's form it gets 0:

# %%
lone = page.hand(["a", "a", "b"], rollout={"outcome": [1.0, 0.0, 1.0]}, turns=[1, 1, 1])
page.side_by_side(lone, paper, released, trajectory=2)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["dr_grpo"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start, with the number of tokens of a batch as the constant's order of size:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, dr_grpo(max_tokens=200))

# %% [markdown]
# **What its authors report**: answers that stop growing at no loss of accuracy, in mathematics; not checked here.
#
# ## 8. Exercise: the weight of every token
#
# About 5 minutes, if you know GRPO's. The constant is 64.


# %% tags=["exercise"]
def token_weight(outcome, group, tokens):
    """Return the weight of each token of each rollout: one number a rollout.

    outcome: one a rollout.  group: the question of each; a rollout alone with its question gets 0.  tokens: how many
    each sampled.
    """
    # SOLUTION 1: outcome minus the mean of the question, over the constant
    means = {g: [x for x, h in zip(outcome, group, strict=True) if h == g] for g in group}
    return [(r - sum(means[g]) / len(means[g])) / 64 for r, g in zip(outcome, group, strict=True)]
    # END SOLUTION


check.ex(token_weight)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, verl's padded width:

# %%
wrong = next(m for m in check.ex.misconceptions if m.name == "padding counts")
check.ex(wrong.wrong)

# %% [markdown]
# ## 9. Where to go on
#
# - [GRPO](grpo.ipynb), [RLOO](rloo.ipynb) (the same advantage times G / (G - 1)), [DAPO](dapo.ipynb) (another
#   average).
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
