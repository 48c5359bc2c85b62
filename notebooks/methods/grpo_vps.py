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
# # GRPO-VPS: which piece of the response made the right answer likelier?
#
# **Cut a response where the policy was unsure. At each cut, ask how probable the right answer is. Every piece earns
# the change, added to GRPO's advantage.**
#
# Like [IGPO](igpo.ipynb), but inside a response: cuts are made at tokens of high entropy, so a piece is a stretch
# between two decisions. Segments and probe are the paper's; the formulas were not read and no code is public, so
# **the weight, the normalisation and the loss are our reading**.
#
# **Use it when** a response is one long text and its answer can be probed for. It costs a call of the policy a piece.
# **Not when** the policy is sure of most of what it writes: then a rollout is one piece (section 4).

# %% tags=["parameters"]
SEED = 5

# %%
import math
from dataclasses import replace

import torch
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.evidence.segments import SegmentProbe
from workbench.policy import Settings
from workbench.recipes import grpo, grpo_vps
from workbench.recipes.steps import segment_gain
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import grpo_vps as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = grpo_vps()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# Tokens of high entropy are candidate cuts; the response is split into pieces that hold equally many. With $p_m$ the
# probability of the right answer at the beginning of piece $m$:
#
# $$A_{i,m} = \frac{R_i - \bar R}{s + \epsilon} + \alpha\,(p_{m+1} - p_m)$$
#
# Raw: the pieces of a rollout sum to $p_{end} - p_{start}$. No sum over later pieces, no discount.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Two rollouts of two pieces.

# %%
belief = [[0.10, 0.25, 0.60], [0.10, 0.30, 0.05]]
outcome = [1.0, 0.0]
bad = predict("Rollout 1 is wrong. Its first piece raised the belief by 0.2. Is its credit above or below 0?", None)

# %%
advantage = [1 / 2**0.5, -1 / 2**0.5]
mine = [[a + (q - p) for p, q in zip(row, row[1:], strict=False)] for a, row in zip(advantage, belief, strict=True)]

small = page.hand(
    ["q", "q"],
    None,
    {"outcome": outcome, "segment_gold_logprob_start": [math.log(row[0]) for row in belief]},
    turns=[2, 2],  # a piece is a turn of one token here
    tokens=[[1, 1], [1, 1]],
)
after = torch.tensor([math.log(p) for row in belief for p in row[1:]], dtype=torch.float64)
small = small.with_column("segment_gold_logprob", "token", after)
display(page.agrees(mine, paper, small))
bad.reveal("above" if mine[1][0] > 0 else "below")

# %% [markdown]
# GRPO's part is a z-score, the change of a probability mostly far below 1. So a good piece of a bad rollout is blamed
# a little less, not praised.
#
# ## 4. On real rollouts
#
# Cuts are made where `tiny` hesitates, by the entropy of its own distributions. It is sure of most tokens, and with the
# defaults most rollouts are one piece. Here every token of more than 0.2 nats is a cut.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="grpo_vps")
rollouts = evidence.collect(rollouts, [SegmentProbe(player, cuts=1, least=0.2)])
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, paper)

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %% [markdown]
# Here credit is of tokens, not of turns: look for a change of colour inside a turn of the text.

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), paper])

# %%
page.promises(paper, batch)

# %%
column = batch["segment_gold_logprob"]
owner = batch.up("token", "trajectory")
pieces = torch.zeros(len(rollouts), dtype=torch.int64).index_add(0, owner, column.known.long()).double()
gains = segment_gain()(None, batch)
sums = torch.zeros(len(rollouts), dtype=torch.float64)
sums = sums.index_add(0, owner, torch.where(gains.known, gains.values, 0.0))
outer = grpo(kl=0.0).credit(batch).values
page.markdown(
    f"{pieces.mean():.1f} pieces a rollout on average, in {batch.count('turn') / len(rollouts):.1f} turns. The changes "
    f"of a rollout sum to between {sums.min():+.2f} and {sums.max():+.2f}; GRPO's part is between {outer.min():+.2f} "
    f"and {outer.max():+.2f}."
)

# %% [markdown]
# ## 5. Where it fails
#
# **Two scales in one sum.** The change of a probability is a few hundredths, an advantage is one or two. Does the
# process term ever turn a sign? On these rollouts, by weight:

# %%
base = grpo(kl=0.0).credit(batch)
rows = []
for alpha in (0.5, 1.0, 4.0):
    credit = grpo_vps(alpha=alpha).credit(batch)
    turned = ((credit.values.sign() != base.values.sign()) & (base.values != 0)).sum()
    alone = ((credit.values != 0) & (base.values == 0)).sum()
    rows.append([alpha, int(turned), int((base.values != 0).sum()), int(alone)])
head = ["alpha", "tokens whose sign turned", "of tokens with an advantage", "tokens with credit from changes alone"]
page.table(head, rows)

# %% [markdown]
# **Collapsed questions are not silent.** A question nobody solved has credit, by belief alone: the last column. That
# is meant, and it is also credit from a policy that solved nothing.
#
# **Restating pays.** A piece that writes the known answer down once more raises its probability, and earns that. Built
# to show it: both rollouts are right and found the answer alike; the second goes on to say it again.

# %%
again = predict(
    "Both are right. Whose credit sums to more: that of the one who stops, or of the one who goes on?", None
)

# %%
belief = [[0.10, 0.60], [0.10, 0.60, 0.95]]
twice = page.hand(
    ["q", "q"],
    None,
    {"outcome": [1.0, 1.0], "segment_gold_logprob_start": [math.log(row[0]) for row in belief]},
    turns=[1, 2],
    tokens=[[1], [1, 1]],
)
after = torch.tensor([math.log(p) for row in belief for p in row[1:]], dtype=torch.float64)
said = page.turns(paper, twice.with_column("segment_gold_logprob", "token", after))
rows = [[word, page.line(row), page.number(sum(row))] for word, row in zip(("stops", "goes on"), said, strict=True)]
display(page.table(["rollout", "credit of its pieces", "sum"], rows))
again.reveal("goes on" if sum(said[1]) > sum(said[0]) else "stops")

# %% [markdown]
# ## 6. The paper and its code
#
# There is no code. Confirmed by the abstract and by notes: cuts, probe, differences, a weight. Ours: all else. How
# much does the reading of the normalisation matter?

# %%
place = batch.trajectories.index(solved.id)
page.side_by_side(batch, paper, replace(grpo_vps(process="pooled"), name="grpo_vps, z-scores"), trajectory=place)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["grpo_vps"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**: up to +2.6 points of accuracy and -13.7 % of length in mathematics, +2.4 and -4 % on
# general tasks, against GRPO. Not checked here.
#
# ## 8. Exercise: write it
#
# About 10 minutes. The pieces are cut; the beliefs at their ends are given.


# %% tags=["exercise"]
def turn_credit(belief, outcome, group, alpha):
    """Return the credit of every piece, a row a rollout.

    belief: a row a rollout: at the beginning, then after each piece.  outcome: one a rollout.
    group: the question of each; a rollout alone with its question keeps its outcome.  alpha: weight of the changes.
    """
    # SOLUTION 1: the z-score of the outcome plus the weighed change
    credit = []
    for row, r, g in zip(belief, outcome, group, strict=True):
        peers = [x for x, h in zip(outcome, group, strict=True) if h == g]
        mean = sum(peers) / len(peers)
        squares = sum((x - mean) ** 2 for x in peers)
        equal = max(peers) == min(peers)
        a = r if len(peers) == 1 else 0.0 if equal else (r - mean) / (squares / (len(peers) - 1)) ** 0.5
        credit.append([a + alpha * (q - p) for p, q in zip(row, row[1:], strict=False)])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, the belief in the place of its change:

# %%
check.ex(check.made(check.levels))

# %% [markdown]
# ## 9. Where to go on
#
# - [SPAE](spae.ipynb): a potential that also asks how sure the policy is. [AEM](aem.ipynb): entropy as a weight.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
