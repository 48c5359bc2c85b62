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
# # RLOO: was it better than the others, itself left out?
#
# **Play a question several times. Compare each outcome with the mean of the *others*. Divide by nothing.**
#
# A baseline that contains the rollout itself takes back a part of what it is compared with. Leave it out, and the
# gradient is unbiased: the baseline does not depend on what was sampled. That is all of RLOO.
#
# **Use it when** outcomes are all there is and a question can be played several times. It costs nothing but the
# rollouts. **Not when** questions pay on different scales, or when you must know which turn helped (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
from IPython.display import display

from workbench import envs, policy
from workbench.policy import Settings
from workbench.recipes import grpo, reinforce, rloo, rloo_released
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import rloo as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = rloo()
released = rloo_released()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, released, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $$A_i = R_i - \frac{1}{G-1} \sum_{j \ne i} R_j = \frac{G}{G-1} \left( R_i - \bar R \right)$$
#
# Every token of the rollout carries $A_i$; the loss is the mean over rollouts of the *sum* over tokens of
# $-A_i \log p$. There is no spread, no clip and no ratio.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Three rollouts of question a, one of them right, and two of question b: one right, one half right.

# %%
outcome = [1.0, 0.0, 0.0, 1.0, 0.5]
question = ["a", "a", "a", "b", "b"]
first = predict("The advantage of rollout 0: one success, two failures beside it", None)

# %%
mine = []
for i, (r, q) in enumerate(zip(outcome, question, strict=True)):
    others = [x for k, (x, p) in enumerate(zip(outcome, question, strict=True)) if p == q and k != i]
    mine.append(r - sum(others) / len(others))

small = page.hand(question, rollout={"outcome": outcome}, turns=[1] * 5)
display(page.agrees([[a] for a in mine], paper, small))
first.reveal(mine[0])

# %% [markdown]
# Rollouts 0 and 3 are both right. One stands beside two zeros and gets 1, the other beside a half and gets a half:
# without a spread the *size* of a difference counts. To GRPO all pairs that differ are alike. Rollout 3:

# %%
page.side_by_side(small, paper, grpo(kl=0.0), trajectory=3)

# %% [markdown]
# ## 4. On real rollouts
#
# `tiny` answers 6 questions, 4 rollouts each, by searching a list.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="rloo")
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns")
page.outcomes(rollouts)

# %%
page.cost(rollouts, paper)

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %% [markdown]
# Three methods that know only outcomes, on that rollout. They differ in size, not in what they can see:

# %%
CreditMap(rollouts, solved.id, [reinforce(), paper, grpo(kl=0.0)])

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **What GRPO cannot see, it cannot see either**: one number for all turns, nothing from a collapsed question.
#
# **The size of the reward is the size of the step.** GRPO does not care whether success pays 1 or 100. Built to show
# it:

# %%
rows = []
for pay in (1.0, 10.0):
    paid = page.hand(["q"] * 3, rollout={"outcome": [pay, 0.0, 0.0]}, turns=[1] * 3)
    rows.append([pay, *(page.number(page.turns(r, paid)[0][0]) for r in (paper, grpo(kl=0.0)))])
page.table(["success pays", "RLOO", "GRPO"], rows)

# %% [markdown]
# **Long rollouts weigh more.** The loss sums over tokens, so that of two rollouts with the same advantage the longer
# one moves the policy further. That is what the gradient of the expected outcome is, and also why its gradients are
# large. The two failed rollouts of the question above that differ most in length:

# %%
tokens = batch.up("token", "trajectory").bincount().tolist()
advantage = [row[0] for row in page.turns(paper, batch)]
failed = [i for i, t in enumerate(rollouts) if t.group == solved.group and t.outcome == 0.0]
page.table(
    ["rollout", "tokens", "A of each", "all its tokens together"],
    [
        [rollouts[i].id, tokens[i], page.number(advantage[i]), page.number(advantage[i] * tokens[i], 1)]
        for i in (f(failed, key=tokens.__getitem__) for f in (min, max))
    ],
)

# %% [markdown]
# ## 6. The paper and its code
#
# The paper has no lone rollouts. verl's `rloo` hands a rollout without siblings its **raw outcome**; its own
# `rloo_vectorized` gives the same rollout 0. The two agree everywhere else, and no test there has a group of one.
# verl also runs it with a clipped ratio.

# %%
ends, who = [1.0, 0.0, 0.0, 1.0, 0.5, 0.5, 0.7], list("aaaabbc")  # the worked example that the library is tested with
lone = page.hand(who, rollout={"outcome": ends}, turns=[1] * 7)
told = [[row[0] for row in page.turns(r, lone)] for r in (paper, released, grpo(kl=0.0))]
page.table(
    ["question", "outcome", "`rloo`", "`rloo_released`", "`grpo`"],
    [[q, r, *map(page.number, numbers)] for q, r, *numbers in zip(who, ends, *told, strict=True)],
)

# %% [markdown]
# The lone rollout, last, is pushed with its full outcome by the release and not at all by the paper's form. Tasks that
# were cut short (a crashed world, a time limit) leave such groups behind.
#
# ## 7. How it learned

# %%
method_curves.beside_grpo(["rloo"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**: summaries and dialogue with models of 6.9 and 7 billion parameters, RLOO ahead of PPO
# and of REINFORCE with a mean baseline, one turn each; not checked here.
#
# ## 8. Exercise: the weight of every token
#
# About 10 minutes. What is each token multiplied with in the update? One number a rollout.


# %% tags=["exercise"]
def token_weight(outcome, group, tokens):
    """Return the weight of each token of each rollout: one number a rollout.

    outcome: one a rollout.  group: the question of each; a rollout alone with its question gets 0.  tokens: how many
    each sampled.
    """
    # SOLUTION 1: outcome minus the mean of the others, over the number of rollouts
    weights = []
    for i, (r, g) in enumerate(zip(outcome, group, strict=True)):
        others = [x for k, (x, h) in enumerate(zip(outcome, group, strict=True)) if h == g and k != i]
        weights.append((r - sum(others) / len(others)) / len(outcome) if others else 0.0)
    return weights
    # END SOLUTION


check.ex(token_weight)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, verl's lone rollout:

# %%
wrong = next(m for m in check.ex.misconceptions if m.name == "lone rollout keeps its outcome")
check.ex(wrong.wrong)

# %% [markdown]
# ## 9. Where to go on
#
# - [REINFORCE](reinforce.ipynb): without any baseline. [GRPO](grpo.ipynb): with a spread and a clip.
# - [Dr. GRPO](dr_grpo.ipynb): nearly this, from the other side.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
