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
# # DAPO: leave out what teaches nothing
#
# **GRPO, with four changes: questions whose outcomes are all equal are left out and others sampled in their place; the
# clip is wider above than below; the mean is over all tokens; and answers that are too long lose a little.**
#
# **Use it when** many questions are always or never solved, and sampling is cheap. It costs rollouts that are thrown
# away. **Not when** there is a reward of turns: it could learn from the questions that are left out (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
from IPython.display import display

from workbench import compare, envs, policy
from workbench.policy import Settings
from workbench.recipes import dapo, grpo
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import dapo as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = dapo()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $$A_i = \frac{R_i - \bar R}{s + \epsilon} \;\text{ if the outcomes of the question differ, else left out}, \qquad
# \text{loss} = \frac{\sum_i \sum_t \ell_{i,t}}{\sum_i n_i}, \qquad r \in [1 - 0.2,\, 1 + 0.28]$$
#
# $R_i$ is the outcome of rollout $i$, $\bar R$ and $s$ mean and spread over its question; $\ell_{i,t}$ is the clipped
# loss of token $t$, $n_i$ the number of tokens, $r$ the ratio of a token's new probability to its old one.
#
# Left out is not 0: what is left out is not in the denominator either. `refill` tells a loop to sample again.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Three questions: one varied, one always solved, one never.

# %%
outcome = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]
question = ["a", "a", "b", "b", "c", "c"]
tokens = [10, 30, 10, 10, 10, 10]
solved_twice = predict("Question b is solved both times. What is its credit: a number, or unknown?", None)


# %%
def advantage(r, peers):
    if max(peers) == min(peers):
        return None  # left out
    mean = sum(peers) / len(peers)
    return (r - mean) / (sum((x - mean) ** 2 for x in peers) / (len(peers) - 1)) ** 0.5


groups = {q: [r for r, p in zip(outcome, question, strict=True) if p == q] for q in question}
mine = [advantage(r, groups[q]) for r, q in zip(outcome, question, strict=True)]
small = page.hand(question, rollout={"outcome": outcome}, turns=[1] * 6, tokens=[[n] for n in tokens])
display(page.agrees([[a] for a in mine], paper, small))
solved_twice.reveal("unknown" if mine[2] is None else "a number")

# %% [markdown]
# GRPO gives the last four a known 0. DAPO gives them no credit at all: in the drawn recipe that is `drop`, and the
# reason is kept. In the loss the difference is the denominator. What one token is multiplied with:

# %%
rows = []
for recipe in (grpo(kl=0.0), paper):
    told = recipe.credit(small, to="token")
    weight = recipe.objective.terms[0].aggregate(small, told.known)
    rows.append([f"`{recipe.name}`", *(page.number(float(told.values[k] * weight[k]), 4) for k in (0, 39, 40))])
page.table(["", "right, 10 tokens", "wrong, 30 tokens", "a token of question b"], rows)

# %% [markdown]
# Two things at once: the four silent rollouts no longer make the step smaller, and every token weighs alike, so that a
# long rollout weighs more as a whole.
#
# The clip, for a token that is praised: how likely may it become before its gradient stops?

# %%
page.table(
    ["probability before", "GRPO, up to", "DAPO, up to"],
    [[p, f"{p * 1.2:.3f}", f"{p * 1.28:.3f}"] for p in (0.01, 0.1, 0.5)],
)

# %% [markdown]
# A ratio leaves an unlikely token little room either way; the wider clip gives it some more.
#
# ## 4. On real rollouts
#
# `tiny` answers 6 questions, 4 rollouts each, by searching a list.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="dapo")
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns")
page.outcomes(rollouts)

# %%
page.cost(rollouts, paper)

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %% [markdown]
# A rollout of a question that nobody solved: a known 0 in GRPO, left out here. The count below the map says which.

# %%
silent = next(t for g in rollouts.groups for t in g if max(x.outcome for x in g) == 0.0)
CreditMap(rollouts, silent.id, [grpo(kl=0.0), paper])

# %%
credit = paper.credit(batch, to="turn")
why = ", ".join(credit.reasons) or "nothing left out"
page.markdown(f"Of {len(credit)} turns {int(credit.known.sum())} have credit. Why the others have none: {why}.")

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **Resampling costs what it saves.** If most questions collapse, a step samples many for one that counts; the share
# left out is what is paid for and thrown away. For a success rate $p$ and groups of $G$, a question is left out with
# probability $p^G + (1-p)^G$:

# %%
rows = [[f"{p:.0%}", *(f"{compare.forecast(p, size):.0%}" for size in (4, 8, 16))] for p in (0.05, 0.2, 0.5, 0.9)]
page.table(["success rate", "left out, groups of 4", "of 8", "of 16"], rows)

# %% [markdown]
# **The filter looks at outcomes alone.** A method that rewards turns could still learn from a question that nobody
# solved; with this filter in front of it, it never sees one.
#
# **Long rollouts decide.** With one mean over all tokens a rollout of 200 has ten times the say of one of 20. Built to
# show it: the sum of what the tokens of a rollout are multiplied with.

# %%
uneven = page.hand(["q"] * 2, rollout={"outcome": [0.0, 1.0]}, turns=[1, 1], tokens=[[200], [20]])
rows = []
for recipe in (grpo(kl=0.0), paper):
    told = recipe.credit(uneven, to="token")
    say = told.values * recipe.objective.terms[0].aggregate(uneven, told.known)
    rows.append([f"`{recipe.name}`", page.number(float(say[:200].sum())), page.number(float(say[200:].sum()))])
page.table(["", "the wrong one, 200 tokens", "the right one, 20 tokens"], rows)

# %% [markdown]
# ## 6. The paper and its code
#
# What runs here is the paper's; the long-answer penalty is off unless a length is given. With one, on two right
# answers of 10 and 60 tokens and a wrong one:

# %%
lengths = page.hand(["q"] * 3, rollout={"outcome": [1.0, 1.0, 0.0]}, turns=[1] * 3, tokens=[[10], [60], [10]])
without, charged = page.turns(paper, lengths), page.turns(dapo(max_length=64, cache=32), lengths)
page.table(
    ["rollout", "tokens", "without the penalty", "with (at most 64, the last 32 penalised)"],
    [[i, n, page.number(without[i][0]), page.number(charged[i][0])] for i, n in enumerate((10, 60, 10))],
)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["dapo"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**: 50 points on AIME 2024 with Qwen2.5-32B, one turn; not checked here. As a baseline in
# A²TGPO's table: 46.65 against GRPO's 46.02 on multi-hop questions.
#
# ## 8. Exercise: the weight of every token
#
# About 15 minutes. A rollout that is left out weighs 0; mind the denominator of the others.


# %% tags=["exercise"]
def token_weight(outcome, group, tokens):
    """Return the weight of each token of each rollout: one number a rollout.

    outcome: one a rollout.  group: the question of each.  tokens: how many each sampled.
    """
    # SOLUTION 1: which questions are in; z-scores; one mean over the tokens that are in
    pools = {g: [x for x, h in zip(outcome, group, strict=True) if h == g] for g in group}
    inside = [max(pools[g]) > min(pools[g]) for g in group]
    total = sum(n for n, ok in zip(tokens, inside, strict=True) if ok)
    weights = []
    for r, g, ok in zip(outcome, group, inside, strict=True):
        mean = sum(pools[g]) / len(pools[g])
        squares = sum((x - mean) ** 2 for x in pools[g])
        weights.append((r - mean) / (squares / (len(pools[g]) - 1)) ** 0.5 / total if ok else 0.0)
    return weights
    # END SOLUTION


check.ex(token_weight)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, one that counts what was left out:

# %%
wrong = next(m for m in check.ex.misconceptions if m.name == "equal outcomes counted")
check.ex(wrong.wrong)

# %% [markdown]
# ## 9. Where to go on
#
# - [GRPO](grpo.ipynb), [Dr. GRPO](dr_grpo.ipynb); [SPAE](spae.ipynb) builds on DAPO's loss.
# - `CollapseBoard` in the [views notebook](../views.ipynb) shows which questions teach nothing, and why.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
