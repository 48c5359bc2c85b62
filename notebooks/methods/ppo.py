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
# # PPO over tokens: what did this token change about how it will end?
#
# **A value head guesses before every token how the rollout will end. A token is credited with how far the guess rose
# after it, and with what rises later, fading by $\gamma\lambda$ a token.**
#
# The textbook for language models, from one reply to many turns: the policy's tokens are the steps, one behind the
# other, and what tools write between them is no step at all. *Proximal Policy Optimization Algorithms*, 2017. Before
# this one: [PPO over turns](ppo_turn.ipynb), where a whole turn is one step.
#
# **Use it when** a question is played once only, or a reply is so long that its tokens need credit of their own. It
# costs a value head, read in the pass that is made anyway. **Not when** a run is short: siblings are a baseline at
# once, and a head has to be taught (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
import torch
from IPython.display import display

from workbench import envs, policy
from workbench.policy import Settings
from workbench.recipes import grpo, ppo, ppo_turn, reinforce
from workbench.rollout import play
from workbench.teach import critics, method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import ppo as check
from workbench.train.plan import Plan, start
from workbench.train.policy_gradient import learn
from workbench.train.values import with_values
from workbench.view import CreditMap, Ribbons

env = envs.load("chain", hops=2)
player = policy.load("tiny@chain-misread")  # a million parameters; reads some words as others
paper = ppo()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $t$ counts the tokens the policy sampled. $V_t$ is the guess before token $t$; the outcome $R$ is earned at the last.
#
# $$\delta_t = r_t + \gamma V_{t+1} - V_t, \qquad A_t = \delta_t + \gamma\lambda A_{t+1}, \qquad y_t = A_t + V_t$$
#
# The policy's loss is clipped and uses $A$, centred and scaled over the tokens of the batch; the head is taught $y$ at
# every token:
#
# $$L = -\,\text{mean}_t \min\big(\rho_t A_t,\; \text{clip}(\rho_t, 1-\epsilon, 1+\epsilon)\,A_t\big)
# + c\;\text{mean}_t\, (V_t - y_t)^2, \qquad \rho_t = p_t / p_t^{old}$$
#
# $\rho_t$ is how much likelier the token became since it was sampled, $\epsilon$ how far that may go (0.2), $c$ the
# weight of the head's lesson (0.5).

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Two turns of two tokens; between them the tool says five. The rollout was right.

# %%
value = [[0.4, 0.4], [0.8, 0.9]]  # before each token of the policy
gamma, lam = 1.0, 0.5
later = predict(
    "The guess jumps from 0.4 to 0.8 when the tool has replied. Which token is credited with that, 0 to 3?", None
)

# %%
flat = [v for row in value for v in row]
surprise = [r + gamma * after - now for r, after, now in zip([0.0, 0.0, 0.0, 1.0], [*flat[1:], 0.0], flat, strict=True)]
follows, back = 0.0, []
for d in reversed(surprise):
    follows = d + gamma * lam * follows
    back.append(follows)
tokens = back[::-1]
print("surprises of tokens:", [round(d, 2) for d in surprise])
print("credit of tokens:   ", [round(a, 3) for a in tokens])

small = page.hand(["q"], None, {"outcome": [1.0]}, turns=[2], tokens=[[2, 2]])
small = small.with_column("value", "token", torch.tensor(flat, dtype=torch.float64))
by_turn = [[sum(tokens[:2]) / 2, sum(tokens[2:]) / 2]]  # what a turn has is the mean of its tokens
display(page.agrees(by_turn, ppo(gamma=gamma, lam=lam, whiten=False), small))
later.reveal(max(range(4), key=lambda t: surprise[t]))

# %% [markdown]
# The last token of the first turn: it sent the call, and the next state is the one that has read the reply.
#
# ## 4. On real rollouts
#
# The same world and policy as for [PPO over turns](ppo_turn.ipynb). A head is fitted to the outcomes of other rollouts,
# at every token.

# %%
settings = Settings(max_new_tokens=24)
others = play(player, env, env.tasks("train", 24, seed=1), size=4, settings=settings, seed=1, run="fit")
learner = critics.fit(start(player, paper, Plan()), others, at="token")

questions = env.tasks("test", 12, seed=SEED)
played = play(player, env, questions, size=4, settings=settings, seed=SEED, run="ppo")
rollouts = with_values(played, learner, paper, Plan())
batch = rollouts.batch()
guess = batch["value"].values
came = batch.down(batch["outcome"].values.double(), "trajectory", "token")
print(f"{len(rollouts)} rollouts, {batch.count('token')} sampled tokens, {sum(t.outcome == 1 for t in rollouts)} right")
print(f"explained variance of outcomes, before every token: {critics.explained(guess, came):.0%}")
page.cost(rollouts, paper)

# %% [markdown]
# Credit of one token is what it changed. In a rollout that was solved, the text is coloured token by token:

# %%
solved = [i for i, t in enumerate(rollouts) if t.outcome == 1.0 and len(t.turns) > 2]
spread_of = [
    float(guess[batch.up("token", "trajectory") == i].max() - guess[batch.up("token", "trajectory") == i].min())
    for i in solved
]
place = solved[spread_of.index(max(spread_of))]
shown = rollouts[place]
Ribbons(rollouts, shown.id, paper)

# %%
CreditMap(rollouts, shown.id, [grpo(kl=0.0), paper])

# %%
page.promises(paper, batch)

# %% [markdown]
# **What $\lambda$ means here.** A surprise $n$ steps on counts $(\gamma\lambda)^n$. How much of the outcome's surprise
# reaches the first token of a rollout, on average, depends on what a step is:

# %%
sampled = torch.bincount(batch.up("token", "trajectory")).double()
turns = torch.bincount(batch.turn_trajectory).double()
first_at = [int(batch.token_position[batch.up("token", "trajectory") == i].min()) for i in range(len(rollouts))]
last_at = [int(batch.token_position[batch.up("token", "trajectory") == i].max()) for i in range(len(rollouts))]
in_text = torch.tensor([b - a + 1 for a, b in zip(first_at, last_at, strict=True)]).double()
units = {"a turn": turns, "a token of the policy": sampled, "any token, the tool's too": in_text}
lams = (0.99, 0.95, 0.9)
page.table(
    ["a step is", "steps of a rollout", *(f"lambda {x}" for x in lams)],
    [[word, f"{n.mean():.1f}", *(f"{float((x ** (n - 1)).mean()):.2f}" for x in lams)] for word, n in units.items()],
)

# %% [markdown]
# The same number is three settings. These rollouts are tiny; for an agent that writes 20 turns of 200 tokens:

# %%
page.table(
    ["lambda", "a step is a turn", "a step is a token"],
    [[x, f"{x**19:.2g}", f"{x**3999:.2g}"] for x in (0.9999, 0.999, 0.99, 0.95)],
)

# %% [markdown]
# What fades is the *outcome*; a head that is right carries it on from state to state, and nothing is lost. At the
# beginning no head is right, which is why $\lambda = 1$ is the default here.
#
# ## 5. Where it fails
#
# **A fresh head.** With $V = 0$ and $\gamma = \lambda = 1$ every token has the outcome: it is REINFORCE, centred over
# the batch. With $\lambda < 1$ only the end of a rollout learns:

# %%
fresh = batch.with_column("value", "token", torch.zeros(batch.count("token"), dtype=torch.float64))
plain = reinforce().credit(fresh).values
gap = float((ppo(whiten=False).credit(fresh).values - plain).abs().max())
print(f"largest difference to REINFORCE with a fresh head, lambda 1: {gap:.1g}")
rows = []
for word, b in (("0 everywhere", fresh), ("as fitted", batch)):
    for x in (1.0, 0.95, 0.8):
        told = page.turns(ppo(lam=x, whiten=False), b)
        sizes = [[abs(row[-1 - left]) for row in told if len(row) > left] for left in range(3)]
        rows.append([word, x, *(f"{sum(here) / len(here):.3f}" for here in sizes)])
page.table(["values", "lambda", "the last turn", "one before", "two before"], rows)

# %% [markdown]
# *What's Behind PPO's Collapse in Long-CoT?* (arXiv:2503.01491, abstract) names both as the causes of PPO's failures
# with long texts: a head that begins wrong, and an outcome that decays on its way.
#
# **The tool's tokens are counted as steps.** They stand in the same sequence, and a trainer that scans the sequence
# scans them too. Built to show it: one call, a reply of 20 tokens, an answer; values 0.5 throughout, $\lambda = 0.9$.

# %%
ours = [[True, True, *[False] * 20, True, True]]
flat_values = [[0.5] * 24]
call = predict(
    "The rollout was right. How large is the credit of the call's first token, if replies are no steps?", None
)

# %%
ways = {
    "right": check.right,
    "a step each, values and all": check.made(check.all_tokens),
    "no values, but time": check.made(check.time_passes),
    "the scan ends there": check.made(check.cut_at_the_tool),
}
told = {word: way(flat_values, ours, [1.0], 1.0, 0.9)[0] for word, way in ways.items()}
display(
    page.table(
        ["the tool's tokens", "the call", "the answer"],
        [[word, page.line(row[:2], 3), page.line(row[-2:], 3)] for word, row in told.items()],
    )
)
call.reveal(round(told["right"][0], 3))

# %% [markdown]
# The call learns a small part of what it should, or that it was a mistake. Each was a bug of a trainer: verl masked
# observations in GAE in July 2025 ([2337](https://github.com/verl-project/verl/pull/2337)), miles a year later
# ([1827](https://github.com/radixark/miles/pull/1827)), and returns that ended at observations were found in August
# 2026 ([7278](https://github.com/verl-project/verl/issues/7278)).
#
# **The head moves the policy.** Where head and policy share their layers, the value loss changes both. Here the value
# loss alone is trained on a few rollouts, nothing is asked of the policy; how far do its log-probs move?

# %%
drifted = []
for trunk in ("shared", "detached"):
    plan = Plan(value_trunk=trunk, rate=1e-3, epochs=4)
    only = critics.values_only(paper)
    taught = start(policy.load("tiny@chain-misread"), only, plan)
    seen = with_values(others[:40], taught, only, plan).batch()
    learn(taught, only, plan, seen, only.credits(seen))
    now = with_values(played, taught, only, plan).batch()["value"].values
    drifted.append([trunk, f"{critics.explained(now, came):+.2f}", f"{critics.drift(taught, batch, plan):.3f}"])
page.table(["trunk", "explained variance afterwards", "mean change of a token's log-prob"], drifted)

# %% [markdown]
# `Plan(value_trunk="detached")` leaves the policy alone; the head then has to make do with what the layers say anyway.
# A shared trunk can learn to say more, at this price: one reason why the value loss has a small weight.
#
# ## 6. The paper and its code
#
# - The paper plays many short segments and makes several epochs of small updates on each; a step here is one batch,
#   `Plan(epochs=...)` updates on all of it.
# - An **entropy bonus** is in the paper and not here.
# - **Whitening**, $\gamma = \lambda = 1$ and one outcome at the end are what trainers of language models do; the paper
#   has $\lambda = 0.95$ and rewards at every step.
# - `value_clip` limits how far a value gains by moving, as many codes do; it is off by default.
# - `kl_reward` puts a KL to a reference into the reward of every token, as in the first language models so trained.
#
# What whitening does to the credit of one rollout, before and after:

# %%
raw, white = (page.turns(r, batch)[place] for r in (ppo(whiten=False), paper))
over_turns = page.turns(ppo_turn(), with_values(played, learner, ppo_turn(), Plan()).batch())[place]
page.table(
    ["turn", "raw", "whitened", "`ppo_turn`, the same head"],
    [[t, *(page.number(row[t]) for row in (raw, white, over_turns))] for t in range(len(raw))],
)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["ppo"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# That is the head of section 4, fitted to the outcomes of other rollouts beforehand. In a run the head begins at 0 and
# is taught by the same rollouts as the policy: until it has learned something, credit is that of section 5.
#
# Live, from the same warm start, with a fresh head:

# %%
method_curves.continue_live(policy.load("tiny@chain-misread"), env, paper)

# %% [markdown]
# **What its authors report**: no language models; the paper is of 2017, on robots and games. Later papers use it as a
# baseline with critics of their own, and with settings that decide the result.
#
# ## 8. Exercise: write it
#
# About 15 minutes; the advantage before it is centred and scaled.


# %% tags=["exercise"]
def token_weight(value, ours, outcome, gamma, lam):
    """Return the advantage of every token, a row a rollout; 0 for tokens the tool wrote.

    value: of the state before each token, a row a rollout.  ours: did the policy write it?  outcome: one a rollout.
    """
    # SOLUTION 1: the policy's tokens one behind the other, surprises summed from the end
    credit = []
    for row, mine, end in zip(value, ours, outcome, strict=True):
        out, follows, after, earned = [0.0] * len(row), 0.0, 0.0, end
        for t in reversed(range(len(row))):
            if mine[t]:
                follows = earned + gamma * after - row[t] + gamma * lam * follows
                out[t], after, earned = follows, row[t], 0.0
        credit.append(out)
    return credit
    # END SOLUTION


check.ex(token_weight)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, one for which the tool's tokens are
# steps:

# %%
check.ex(check.made(check.all_tokens))

# %% [markdown]
# ## 9. Where to go on
#
# - [PPO over turns](ppo_turn.ipynb): one value and one step a turn.
# - [Bi-level GAE](bilevel_gae.ipynb): turns outside, tokens inside.
# - [REINFORCE](reinforce.ipynb) is what is left without a head; [GRPO](grpo.ipynb) has siblings in its place.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
