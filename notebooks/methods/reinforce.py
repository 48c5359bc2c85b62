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
# # REINFORCE: how well did it end?
#
# **Weigh every token of a rollout by the rollout's outcome. Nobody is compared with anybody.**
#
# The oldest method, and the gradient of the expected outcome itself: everything else subtracts something from it or
# shares it out. A success is praised for as much as it is worth; a failure, with outcome 0, is not touched.
#
# **Use it when** a question is played once only, or as the line that others have to beat. It costs nothing but the
# rollouts. **Not when** many rollouts succeed: then most of what it learns from is noise (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
import random
import statistics

from IPython.display import display

from workbench import envs, policy
from workbench.policy import Settings
from workbench.recipes import grpo, reinforce, rloo
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import reinforce as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = reinforce()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $$\nabla J = \mathbb{E} \left[ R_i \sum_t \nabla \log p_t \right], \qquad A_{i,t} = R_i$$
#
# The loss is the mean over rollouts of the sum over tokens of $-R_i \log p_t$.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Outcomes 1 and 0 for two rollouts of one question, 1 and 1 for another.

# %%
outcome = [1.0, 0.0, 1.0, 1.0]
easy = predict("Question b is solved every time. What is the advantage of its rollouts?", None)

# %%
small = page.hand(["a", "a", "b", "b"], rollout={"outcome": outcome}, turns=[1] * 4)
display(page.agrees([[r] for r in outcome], paper, small))
easy.reveal(outcome[2])

# %% [markdown]
# Both rollouts of the easy question are praised in full, although there is nothing to learn from them. On average that
# cancels: praising everything that is sampled moves nothing. In one batch it does not cancel; it is noise.
#
# ## 4. On real rollouts
#
# `tiny` answers 6 questions, 4 rollouts each, by searching a list.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="reinforce")
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns")
page.outcomes(rollouts)

# %%
page.cost(rollouts, paper)

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %% [markdown]
# A rollout of the same question that failed, beside two methods that subtract a baseline: they blame it, REINFORCE does
# not touch it.

# %%
failed = next(t for g in rollouts.groups if solved in tuple(g) for t in g if t.outcome == 0.0)
CreditMap(rollouts, failed.id, [paper, rloo(), grpo(kl=0.0)])

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **It cannot blame.** A rollout with outcome 0 has no weight. What it did is only made rarer by making other things
# likelier. Pay -1 for failure and 0 for success, the same task to any method with a baseline, and it learns from
# failures alone:

# %%
rows = []
for success, failure in ((1.0, 0.0), (0.0, -1.0)):
    paid = page.hand(["q"] * 3, rollout={"outcome": [success, failure, failure]}, turns=[1] * 3)
    told = [page.line([row[0] for row in page.turns(r, paid)]) for r in (paper, rloo(), grpo(kl=0.0))]
    rows.append([f"{success:g} and {failure:g}", *told])
page.table(["success and failure pay", "REINFORCE", "RLOO", "GRPO"], rows)

# %% [markdown]
# **Noise, the more the easier the questions.** How much does an update vary between batches that are alike? Draw the
# outcomes of 8 rollouts many times, give each rollout a coin for its direction, as a stand-in for how one token's
# gradient points, and look at the variance of the sum. The direction is pure noise here: a perfect method would have 0.

# %%
rng = random.Random(SEED)
rows = []
for chance in (0.2, 0.5, 0.8):
    outcomes = [[float(rng.random() < chance) for _ in range(8)] for _ in range(400)]
    coins = [rng.choice((-1, 1)) for _ in range(3200)]
    batches = [str(number) for number in range(400) for _ in range(8)]
    drawn = page.hand(batches, rollout={"outcome": [r for one in outcomes for r in one]}, turns=[1] * 3200)
    varied = []
    for recipe in (paper, rloo()):
        moved = [row[0] * c for row, c in zip(page.turns(recipe, drawn), coins, strict=True)]
        varied.append(statistics.pvariance([sum(moved[k : k + 8]) / 8 for k in range(0, 3200, 8)]))
    rows.append([f"{chance:.0%}", *(f"{v:.3f}" for v in varied), f"{1 - varied[1] / varied[0]:.0%}"])
page.table(["rollouts that are right", "variance: REINFORCE", "RLOO", "removed by the baseline"], rows)

# %% [markdown]
# Where most rollouts are right, the baseline removes most of the noise; where most are wrong it has little to remove,
# since a failure weighs nothing anyway. For most of the stored runs below most
# rollouts fail: there a baseline has little to gain.
#
# ## 6. The paper and its code
#
# The paper is a textbook: there is no release to differ from. What is called REINFORCE in libraries usually has a
# baseline (REINFORCE++, ReMax, `reinforce_plus_plus_baseline`); check before comparing.
#
# ## 7. How it learned

# %%
method_curves.beside_grpo(["reinforce"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**: no language models; the paper is of 1992. RLOO's authors report it behind RLOO on
# summaries and dialogue; not checked here.
#
# ## 8. Exercise: the weight of every token
#
# About 5 minutes. Simple to write, and simple to get wrong by doing more than it does.


# %% tags=["exercise"]
def token_weight(outcome, group, tokens):
    """Return the weight of each token of each rollout: one number a rollout.

    outcome: one a rollout.  group: the question of each.  tokens: how many each sampled.
    """
    # SOLUTION 1: the outcome, over the number of rollouts
    return [r / len(outcome) for r in outcome]
    # END SOLUTION


check.ex(token_weight)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, one that averages over tokens:

# %%
wrong = next(m for m in check.ex.misconceptions if m.name == "mean over all tokens")
check.ex(wrong.wrong)

# %% [markdown]
# ## 9. Where to go on
#
# - [RLOO](rloo.ipynb) subtracts the mean of the others; [GRPO](grpo.ipynb) divides by the spread, too.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
