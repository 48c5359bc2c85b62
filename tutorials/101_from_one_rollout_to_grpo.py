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
# # 101: from one rollout by hand to GRPO
#
# **GRPO is four small steps from a reward to a number to minimise: compare, copy, clip, average.** You do each by hand
# on real numbers, then write it, then put the four together and find that you have written the library's GRPO.
#
# **You will be able to**
#
# - say which tokens of an agent's rollout are trained, and with what weight;
# - compute GRPO's credit and loss of any token with a pocket calculator;
# - say what GRPO cannot see, and recognise it in a run.
#
# **Needs** Python and the idea of a gradient; 60 to 90 minutes with the exercises, seconds to run; 1 GB of memory, no
# GPU, no network. The rollouts are stored ones of SmolLM2-135M, the same as in the
# [start notebook](../notebooks/start.ipynb).
#
# Cells that begin with `predict` ask for a guess **before** the number. Put yours in the place of `None`. Guess wrong:
# that is how it sticks.

# %% tags=["parameters"]
STORED = "../datasets/start"  # rollouts on disk
SEED = 0

# %%
import math

import pandas as pd
import torch
from IPython.display import display

import workbench
from workbench import compare, envs, evidence, policy, recipes
from workbench.evidence.scoring import SampledLogprobs
from workbench.teach import lesson101 as check
from workbench.teach import predict
from workbench.train.policy_gradient import Plan, one_step, start
from workbench.view import CreditMap

rollouts = workbench.read(STORED)
four = rollouts.groups[0]  # four rollouts of one question
lost, won = four[0], four[1]
grpo, batch = recipes.grpo(kl=0.0), rollouts.batch()

# %% [markdown]
# ## 1. One rollout
#
# The model writes a line, `Search:` or `Answer:`; a search engine answers with a line `Result:`. A line of the model
# and what came back is a **turn**. At the end the answer is right (outcome 1) or wrong (0).

# %%
lost

# %% [markdown]
# The model never saw lines. It saw **tokens**, one row of them, of three origins: the *prompt* (with three worked
# examples before the question), what the model *sampled*, and what the tool wrote, the *observation*.

# %%
share = predict("What share of this rollout's tokens was chosen by the model? (0 to 1)", None)

# %%
tokens = pd.DataFrame(
    [
        {"turn": span.turn, "origin": span.origin, "token": piece, "log p": logprob}
        for span in lost.sequences[0].spans
        for piece, logprob in zip(span.pieces, span.logprobs or [None] * len(span), strict=True)
    ]
)
prompt = int((tokens["origin"] == "prompt").sum())
print(f"{len(tokens)} tokens, the first {prompt} of them the prompt; the others:")
shown = tokens["log p"].map(lambda x: "" if pd.isna(x) else f"{x:.3f}")
display(tokens.assign(token=tokens["token"].map(repr), **{"log p": shown})[prompt:])
sampled = tokens[tokens["origin"] == "sampled"]
share.reveal(round(len(sampled) / len(tokens), 3))

# %% [markdown]
# `log p` is the logarithm of the probability that the model gave the token when it sampled it, the one number per token
# that we keep. Log-probs of successive tokens **add**: the sum over a turn is the log-probability of the whole line.
#
# By hand, for the last turn (four tokens, read them off above): add them, and take the exponential.

# %%
last = sampled[sampled["turn"] == sampled["turn"].max()]
line, total = "".join(last["token"]).strip(), last["log p"].sum()
print(f"{' + '.join(f'({x:.3f})' for x in last['log p'])} = {total:.3f}")
print(f"p({line!r}) = exp({total:.3f}) = {math.exp(total):.2f}")

# %% [markdown]
# More likely than not the model answers with the *country* although the result in front of it holds the *number* that
# was asked for. Training should make that line rarer. How much rarer, and what of the other lines?
#
# ## 2. A group of four
#
# One outcome says little: 0 may be bad luck, or the question too hard. So the same question is played several times.
# The rollouts of one question are a **group**.

# %%
four_outcomes = [t.outcome for t in four]
pd.DataFrame([{"rollout": i, "last line": t.turns[-1].action.text, "outcome": t.outcome} for i, t in enumerate(four)])

# %% [markdown]
# **The idea in one formula.** Better than the others of the group is praise, worse is blame, in units of the group's
# spread. The credit of rollout $i$, its *advantage*, is its z-score:
#
# $$A_i = \frac{R_i - \bar R}{s + \epsilon}, \qquad \bar R = \frac{1}{G} \sum_j R_j, \qquad
# s = \sqrt{\frac{1}{G - 1} \sum_j (R_j - \bar R)^2}$$
#
# with $\epsilon = 10^{-6}$. By hand: the mean of 0, 1, 0, 0; the four differences; their squares; a third of the sum
# ($G - 1 = 3$); its root.

# %%
credit_of_four = predict("The advantages of the four (a list of four numbers)", None)

# %%
mean = sum(four_outcomes) / 4
squares = [(r - mean) ** 2 for r in four_outcomes]
spread = math.sqrt(sum(squares) / 3)
print(f"mean {mean}, squares {squares}, spread {spread}")
credit_of_four.reveal([round((r - mean) / spread, 3) for r in four_outcomes])

# %% [markdown]
# One success among three failures weighs three times as much as each failure, and the four sum to zero.
#
# ### Exercise 1: the advantage of every rollout of a batch
#
# About 15 minutes. A batch holds several questions, in any order, and groups need not be of one size. Two conventions:
# a rollout that is alone with its question gets 0 (nobody was compared), and so do all rollouts of a group whose
# outcomes are all equal (nobody is better). Not everything that is passed in has to be used.


# %% tags=["exercise"]
def advantage(outcome, group, tokens):
    """Return the advantage of each rollout, a list of floats.

    outcome: a float a rollout.  group: the question of each rollout, a name.  tokens: how many each sampled.
    """
    # SOLUTION 1: the z-score of each outcome in its group
    out = []
    for r, g in zip(outcome, group, strict=True):
        peers = [x for x, h in zip(outcome, group, strict=True) if h == g]
        if len(peers) == 1 or max(peers) == min(peers):
            out.append(0.0)
            continue
        center = sum(peers) / len(peers)
        spread = math.sqrt(sum((x - center) ** 2 for x in peers) / (len(peers) - 1))
        out.append((r - center) / (spread + 1e-6))
    return out
    # END SOLUTION


check.ex1(advantage)

# %% [markdown]
# Stuck? `check.hint("ex1", 1)`, then 2, then 3. The check shows a batch on which a wrong solution goes wrong, and says
# which mistake it looks like; it has met a few.
#
# ## 3. From the rollout to its tokens
#
# A gradient is taken of tokens. GRPO's answer to *which token earned it* is the simplest there is: **every token that
# the model sampled gets the advantage of its rollout.** The prompt and the observations get nothing: nobody chose them.
#
# ### Exercise 2: credit to tokens
#
# About 5 minutes.


# %% tags=["exercise"]
def to_tokens(advantage, origin):
    """Return the credit of each token: a list of floats a rollout, as long as its list of origins.

    advantage: a float a rollout.  origin: a list of "prompt", "sampled" or "observation" a rollout.
    """
    # SOLUTION 2: the rollout's advantage on the tokens that were sampled
    return [[a * (o == "sampled") for o in row] for a, row in zip(advantage, origin, strict=True)]
    # END SOLUTION


check.ex2(to_tokens)

# %% [markdown]
# ## 4. The loss of one token
#
# Credit says in which direction; the loss makes it a step. After an update the model gives the token another
# probability. The **ratio** says how far it moved since it was sampled, and the loss is minus credit times ratio:
#
# $$r = \frac{p_\text{new}}{p_\text{old}} = e^{\log p_\text{new} - \log p_\text{old}}, \qquad
# \ell = \max\left(-A\,r,\; -A\,\text{clip}(r,\, 1 - 0.2,\, 1 + 0.2)\right)$$
#
# The clip is a brake. Without it, one batch could push a praised token as far as it likes. Below, the token that went
# wrong, $A = -0.5$, and the line that went right, $A = 1.5$, at a few ratios.

# %%
brake = predict("A praised token (A = 1.5) has fallen to r = 0.7. Does the clip stop the gradient? (yes or no)", None)

# %%
LOW = HIGH = 0.2
rows = []
for A in (1.5, -0.5):
    for r in (0.7, 0.9, 1.0, 1.1, 1.3):
        plain, clipped = -A * r, -A * min(max(r, 1 - LOW), 1 + HIGH)
        stopped = clipped > plain  # then the loss does not depend on r any more
        rows.append(
            {"A": A, "r": r, "-A r": plain, "clipped": clipped, "loss": max(plain, clipped), "stopped": stopped}
        )
table = pd.DataFrame(rows)
display(table.round(2))
brake.reveal("yes" if table.query("A == 1.5 and r == 0.7")["stopped"].item() else "no")

# %% [markdown]
# Only two of the ten stop: praise that has risen far enough, and blame that has fallen far enough. What moved the
# *wrong* way is always pulled back; that is what the maximum is for.
#
# ### Exercise 3: the loss of every token
#
# About 10 minutes. One rollout's sampled tokens. A ratio for each; mind which of the two losses counts.


# %% tags=["exercise"]
def token_losses(new, old, credit, low, high):
    """Return the clipped loss of each token, a list of floats.

    new, old: log-probs of the sampled tokens.  credit: of each token.  low, high: half-widths of the clip.
    """
    # SOLUTION 3: the larger of the plain and the clipped loss
    ratios = [math.exp(a - b) for a, b in zip(new, old, strict=True)]
    return [max(-a * r, -a * min(max(r, 1 - low), 1 + high)) for r, a in zip(ratios, credit, strict=True)]
    # END SOLUTION


check.ex3(token_losses)

# %% [markdown]
# ## 5. One number
#
# An optimiser wants one number. GRPO takes the mean over the trained tokens of a rollout, then the mean over
# rollouts. In memory a batch is a rectangle: short rollouts are filled up with *padding*, observations stand in
# between, and a *mask* says what is trained (1) and what is not (0). Both are traps.
#
# ### Exercise 4: the mean that GRPO takes
#
# About 5 minutes. A rollout without a single trained token does not count at all.


# %% tags=["exercise"]
def aggregate(loss, mask):
    """Return one float. loss: rows of losses, one a rollout, all of one width.  mask: rows of 1 and 0."""
    # SOLUTION 4: the mean over rollouts of the mean over their trained tokens
    kept = [[x for x, m in zip(row, keep, strict=True) if m] for row, keep in zip(loss, mask, strict=True)]
    means = [sum(row) / len(row) for row in kept if row]
    return sum(means) / len(means)
    # END SOLUTION


check.ex4(aggregate)

# %% [markdown]
# ## 6. That was GRPO
#
# Your four functions on all the stored rollouts, beside the library's recipe, which is a value and prints as its
# formula.

# %% tags=["exercise"]
display(grpo)
library = grpo.credit(batch, to="token").values
origins = [[s.origin for s in t.sequences[0].spans for _ in s.ids] for t in rollouts]
lengths = [row.count("sampled") for row in origins]
credits = to_tokens(advantage([t.outcome for t in rollouts], [t.group for t in rollouts], lengths), origins)
mine = [
    x for row, kinds in zip(credits, origins, strict=True) for x, o in zip(row, kinds, strict=True) if o == "sampled"
]
apart = (torch.tensor(mine, dtype=torch.float64) - library).abs().max()
print(f"{len(mine)} tokens; largest difference to the library: {apart:.0e}")
for verdict in check.everything(advantage, to_tokens, token_losses, aggregate):
    print(verdict)

# %% [markdown]
# ### One update
#
# The same on a model that learns here and now: `tiny`, a million parameters, in a world of made-up facts. Four
# questions, four rollouts each, **one** step of the optimiser.

# %%
before = predict("The loss of the whole batch just before the update, when new = old", None)
praised = predict("After it, the share of praised tokens that became likelier (0 to 1)", None)

# %%
world = envs.load("chain")
plan = Plan(steps=1, groups=4, size=4, rate=1e-4, seed=SEED)
learner = start(policy.load("tiny", tools=world.tools), grpo, plan)
done = one_step(learner, world, grpo, plan, 0)
moved = evidence.collect(done.used, [SampledLogprobs(learner.policy, column="logprob_new")]).batch()
old, new = moved["logprob_old"].values.double(), moved["logprob_new"].values.double()
A = done.credits["credit"].values
ratio = torch.exp(new - old)
print(f"outcomes by question: {[[t.outcome for t in g] for g in done.used.groups]}")
change = pd.DataFrame(
    {
        "tokens": [int(kind.sum()) for kind in (A > 0, A < 0, A == 0)],
        "mean ratio": [ratio[kind].mean().item() for kind in (A > 0, A < 0, A == 0)],
        "became likelier": [(ratio[kind] > 1).double().mean().item() for kind in (A > 0, A < 0, A == 0)],
    },
    index=["praised", "blamed", "neither"],
)
display(change.round(3))
praised.reveal(round((ratio[A > 0] > 1).double().mean().item(), 2), tolerance=0.1)

# %% tags=["exercise"]
rollout_of = moved.up("token", "trajectory")
width = int(torch.bincount(rollout_of).max())


def rows_of(values):
    """Values of tokens as padded rows, one a rollout."""
    rows = [values[rollout_of == i].tolist() for i in range(moved.count("trajectory"))]
    return [row + [0.0] * (width - len(row)) for row in rows]


mask = rows_of(torch.ones_like(A))
losses = [
    aggregate(rows_of(torch.tensor(token_losses(x.tolist(), old.tolist(), A.tolist(), 0.2, 0.2))), mask)
    for x in (old, new)
]
losses = [round(loss, 4) + 0.0 for loss in losses]
print(f"loss before {losses[0]}, after {losses[1]}")
before.reveal(losses[0], tolerance=0.001)

# %% [markdown]
# Not every praised token rose, nor did every blamed one fall: all of them share one set of weights, and some stand in
# praised and in blamed rollouts alike.
#
# The loss before the update is zero whatever the outcomes were: it is minus the mean advantage. **The value of this
# loss says nothing about how good the model is**; only its gradient does. Watch the outcome, not the loss.
#
# ## 7. Where it breaks
#
# **A collapsed group.** All rollouts of a question fail, or all succeed: every advantage is zero, and the question
# teaches nothing, however unlike the rollouts were.

# %%
causes = compare.cause_of_collapse(batch)
dead = rollouts.groups[next(i for i, cause in enumerate(causes) if cause != "varied")]
print(f"{sum(cause != 'varied' for cause in causes)} of {len(causes)} groups have collapsed. One of them:")
print(dead[0].prompt[0].parts[0].text)
pd.DataFrame(
    [{"rollout": i} | {f"turn {k}": turn.action.text for k, turn in enumerate(t.turns)} for i, t in enumerate(dead)]
)

# %% [markdown]
# **The same credit for every turn.** The lost and the won rollout of section 2 begin with the same two lines, letter
# for letter, and find the same facts. Only the last line differs.

# %%
twins = predict("How many of the first two turns, alike in both, get the same credit in both? (0, 1 or 2)", None)

# %%
by_turn = grpo.credit(batch, to="turn").values
where = {t.id: [k for k, i in enumerate(batch.turn_trajectory.tolist()) if batch.trajectories[i] == t.id] for t in four}
side = pd.DataFrame(
    [
        {
            "turn": k,
            "lost": lost.turns[k].action.text,
            "credit (lost)": by_turn[where[lost.id][k]].item(),
            "won": won.turns[k].action.text,
            "credit (won)": by_turn[where[won.id][k]].item(),
        }
        for k in range(len(lost.turns))
    ]
)
display(side.round(2))
alike = side[:2]
display(twins.reveal(int((alike["credit (lost)"] - alike["credit (won)"]).abs().lt(0.01).sum()), tolerance=0))
CreditMap(rollouts, lost.id, [grpo])

# %% [markdown]
# The same line in the same state is blamed here and praised there: the search that found the fact is blamed for the
# answer that ignored it. Over many rollouts such credit averages out; in one batch it is noise. The map shows it in
# colour: one shade of blame over all turns of the lost rollout.
#
# ## What to inspect in training
#
# | watch | why |
# |---|---|
# | share of collapsed groups, and their cause | they cost as much to sample as others and teach nothing |
# | ratio on the first pass over a batch | must be 1; else sampler and learner disagree about the policy |
# | share of clipped tokens | near 0 the clip idles; large, the policy left its data |
# | outcome, never the loss | see section 6 |
#
# The [glossary](glossary.md) defines every number that a training reports; `glossary("collapsed")` from
# `workbench.train` says it here.
#
# ## Compared with
#
# The [start notebook](../notebooks/start.ipynb) lays GRPO beside three methods that tell turns apart, on these very
# rollouts: MatchTIR (does a tool call match a reference?), IGPO and A²TGPO (did a turn make the right answer
# likelier?). Change one line of the four and you have another method: leave out the spread (Dr. GRPO), average over
# all tokens (DAPO), take one ratio a sequence (GSPO).
#
# ## Summary
#
# 1. **Compare**: an outcome with those of its group; equal outcomes say nothing.
# 2. **Copy**: onto every sampled token, onto nothing else.
# 3. **Clip**: the pessimistic one of two losses; what moved the wrong way is pulled back.
# 4. **Average**: over tokens within a rollout, then over rollouts; padding is not there.
#
# ## References
#
# - Shao et al. 2024, *DeepSeekMath*, [arXiv:2402.03300](https://arxiv.org/abs/2402.03300), Eqs. 3-4, sec. 4.1.2 (GRPO);
#   in the code: `workbench/recipes/outcome.py`, function `grpo`.
# - Schulman et al. 2017, [arXiv:1707.06347](https://arxiv.org/abs/1707.06347), Eq. 7 (the clip); in the code:
#   `workbench/losses.py`, functions `importance_ratio` and `clipped_surrogate`.
# - Liu et al. 2025, [arXiv:2503.20783](https://arxiv.org/abs/2503.20783) (Dr. GRPO); Yu et al. 2025,
#   [arXiv:2503.14476](https://arxiv.org/abs/2503.14476) (DAPO); Zheng et al. 2025,
#   [arXiv:2507.18071](https://arxiv.org/abs/2507.18071) (GSPO).
