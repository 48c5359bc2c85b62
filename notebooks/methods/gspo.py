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
# # GSPO: one importance ratio a rollout
#
# **GRPO's credit, but what is clipped is the rollout: its ratio is the geometric mean of the ratios of its tokens.**
#
# What is rewarded is the whole rollout; so, GSPO's authors say, that is what an importance ratio should be of. With
# one update a batch the ratio is 1 and nothing differs; it matters from the second update on.
#
# **Use it when** a batch is used for several updates and the ratios of tokens run wild. It costs nothing. **Not when**
# each batch is used once: then it is GRPO.

# %% tags=["parameters"]
SEED = 5

# %%
import math

from IPython.display import display

from workbench import envs, evidence, policy
from workbench.evidence.scoring import SampledLogprobs
from workbench.losses import importance_ratio
from workbench.policy import Settings
from workbench.recipes import grpo, gspo
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import gspo as check
from workbench.train.policy_gradient import Plan, one_step, start
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = gspo()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $$s_i = \exp\Big( \frac{1}{n_i} \sum_t (\log p_t - \log p^{old}_t) \Big), \qquad
# \ell_{i,t} = \max\big( -A_i s_i,\; -A_i\, \text{clip}(s_i,\, 1 - 3 \cdot 10^{-4},\, 1 + 4 \cdot 10^{-4}) \big)$$
#
# $p_t$ is the probability of token $t$ now, $p^{old}_t$ when it was sampled, $n_i$ the number of tokens of the rollout
# and $\ell_{i,t}$ the loss of one. The credit $A_i$ is GRPO's. The clip is some 500 times narrower than a token's,
# because a mean over tokens moves less than each of them.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Credit first: it is GRPO's to the digit. Then what differs: two rollouts after an update.

# %%
outcome = [1.0, 0.0, 0.0]
mean = sum(outcome) / 3
spread = (sum((r - mean) ** 2 for r in outcome) / 2) ** 0.5
small = page.hand(["q"] * 3, rollout={"outcome": outcome}, turns=[1] * 3)
page.agrees([[(r - mean) / spread] for r in outcome], paper, small)

# %%
moved = [[0.30, -0.28, -0.0193], [0.002, 0.003, 0.001]]  # log p new - log p old of each token
stopped = predict(
    "Whose ratio of the rollout is further from 1: that with tokens at 1.35 and 0.76, or the calm one?", None
)

# %%
rows = []
for name, gaps in zip(("wild tokens", "calm tokens"), moved, strict=True):
    tokens, whole = [math.exp(g) for g in gaps], math.exp(sum(gaps) / len(gaps))
    outside = sum(not 0.8 <= r <= 1.2 for r in tokens)
    said = "outside" if not 1 - 3e-4 <= whole <= 1 + 4e-4 else "inside"
    rows.append([name, ", ".join(f"{r:.3f}" for r in tokens), f"{outside} of 3", whole, said])
display(
    page.table(
        ["rollout", "ratios of tokens", "outside GRPO's clip", "geometric mean", "GSPO's clip"],
        [[*row[:3], f"{row[3]:.5f}", row[4]] for row in rows],
    )
)
stopped.reveal("the calm one" if abs(rows[1][3] - 1) > abs(rows[0][3] - 1) else "wild tokens")

# %% [markdown]
# The two disagree about both rollouts. GRPO (clip 0.8 to 1.2) minds two tokens of the first; as a whole it hardly
# moved, for one token rose and another fell. GSPO minds the second, whose tokens all moved a little the same way.
#
# ## 4. On real rollouts
#
# Play, make one update, and ask how far each token and each rollout moved. First the credit, which is GRPO's:

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="gspo")
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns")
page.cost(rollouts, paper)

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), paper])

# %% [markdown]
# Then the update. Ratios of the same tokens, once each by itself and once as the mean of its rollout:

# %%
learner = start(player, paper, Plan(steps=1, groups=4, size=4, rate=2e-4, seed=SEED))
done = one_step(learner, env, paper, Plan(steps=1, groups=4, size=4, rate=2e-4, seed=SEED), 0)
scored = evidence.collect(done.used, [SampledLogprobs(learner.policy, column="logprob_new")]).batch()
old, new = scored["logprob_old"].values.double(), scored["logprob_new"].values.double()
of_token, of_rollout = importance_ratio(new, old), importance_ratio(new, old, scored.up("token", "trajectory"))
rows = []
for name, ratio, low, high in (("token, GRPO", of_token, 0.2, 0.2), ("rollout, GSPO", of_rollout, 3e-4, 4e-4)):
    outside = ((ratio < 1 - low) | (ratio > 1 + high)).double().mean()
    rows.append([name, f"{ratio.min():.4f} to {ratio.max():.4f}", f"{1 - low:g} to {1 + high:g}", f"{outside:.0%}"])
page.table(["ratio of a", "after one update", "its clip", "tokens outside"], rows)

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **It cannot see turns, twice.** Credit is one number a rollout, and so is the ratio. Built to show both ways to go
# wrong, on rollouts of ten tokens: one token doubled, and all ten are outside; one doubled and one halved, and none is.

# %%
ways = {
    "one doubled": [math.log(2.0)] + [0.0] * 9,
    "one doubled, one halved": [math.log(2.0), -math.log(2.0)] + [0.0] * 8,
}
rows = []
for way, gaps in ways.items():
    whole = math.exp(sum(gaps) / len(gaps))
    by_token = sum(not 0.8 <= math.exp(g) <= 1.2 for g in gaps)
    by_rollout = 0 if 1 - 3e-4 <= whole <= 1 + 4e-4 else len(gaps)
    rows.append([way, f"{whole:.4f}", by_token, by_rollout])
page.table(["of ten tokens", "ratio of the rollout", "outside GRPO's clip", "outside GSPO's"], rows)

# %% [markdown]
# **Clips are all or nothing.** A rollout that moved too far the way its credit pushes it loses the gradient of all its
# tokens; with a narrow clip that is much of a batch (the table of section 4).
#
# **A collapsed question** gives nothing, as in GRPO.
#
# ## 6. The paper and its code
#
# What runs here is GSPO-token: the *value* of the ratio is the rollout's, the gradient goes through each token's own
# log-probability. Where all tokens of a rollout share one advantage, as here, both gradients are equal. verl caps the
# mean log-ratio at 10 and lets a rollout without siblings keep its outcome:

# %%
lone = page.hand(["a", "a", "b"], rollout={"outcome": [1.0, 0.0, 1.0]}, turns=[1, 1, 1])
page.side_by_side(lone, grpo(kl=0.0), paper, trajectory=2)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["gspo"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**: stable training of mixture-of-experts models where token ratios were not; not checked
# here. As a baseline in A²TGPO's table: 45.69 against GRPO's 46.02 on multi-hop questions.
#
# ## 8. Exercise: the loss of every token
#
# About 15 minutes. The advantage is given; write the ratio and the clip.


# %% tags=["exercise"]
def token_losses(new, old, advantage, low, high):
    """Return the loss of each token, a row a rollout, before any average.

    new, old: a row of log-probs a rollout.  advantage: one a rollout.  low, high: half-widths of the clip.
    """
    # SOLUTION 1: the geometric mean of the ratios, then the larger of two losses
    out = []
    for a, b, x in zip(new, old, advantage, strict=True):
        s = math.exp((sum(a) - sum(b)) / len(a))
        loss = max(-x * s, -x * min(max(s, 1 - low), 1 + high))
        out.append([loss] * len(a))
    return out
    # END SOLUTION


check.ex(token_losses)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, the product of the ratios:

# %%
check.ex(check.made(check.product))

# %% [markdown]
# ## 9. Where to go on
#
# - [GRPO](grpo.ipynb): a ratio for each token. [A²TGPO](a2tgpo.ipynb): a ratio for each turn, and a clip as wide
#   as the turn was useful.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
