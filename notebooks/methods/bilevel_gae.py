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
# # Bi-level GAE: what was this turn worth, and which of its tokens decided that?
#
# **First GAE over turns gives every turn a target. Then GAE over the tokens inside the turn carries the target to them.
# Each level has its own $\gamma$ and $\lambda$.**
#
# PPO over tokens lets an outcome fade on its way through thousands of tokens; PPO over turns gives all tokens of a turn
# one number. Here the outcome crosses turns in a few large steps, and tokens still differ. From RAGEN's code (2025);
# VAGEN's paper (2025) builds on it. Before this one: [PPO over turns](ppo_turn.ipynb) and [PPO over tokens](ppo.ipynb).
#
# **Use it when** a value head is trained anyway, and rollouts have many long turns. It costs no call beyond the head's.
# **Not when** the head knows little, as a fresh one does, or all four numbers are 1 (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
import torch
from IPython.display import display

from workbench import envs, policy
from workbench.policy import Settings
from workbench.recipes import bilevel_gae, grpo, ppo, ppo_turn
from workbench.rollout import play
from workbench.teach import critics, method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import bilevel_gae as check
from workbench.train.plan import Plan, start
from workbench.train.values import with_values
from workbench.view import CreditMap, Ribbons

env = envs.load("chain", hops=2)
player = policy.load("tiny@chain-misread")  # a million parameters; reads some words as others
paper = bilevel_gae()
clocks = {"gamma_turn": 1.0, "lam_turn": 0.9, "gamma": 1.0, "lam": 0.9}
fading = bilevel_gae(**clocks)

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $V_k$ is the guess before turn $k$'s first token, $V_{k,j}$ the one before its token $j$; one head makes both.
#
# $$\delta_k = r_k + \gamma_T V_{k+1} - V_k, \qquad A_k = \delta_k + \gamma_T\lambda_T A_{k+1}
# \qquad \text{(turns)}$$
#
# $$r_{k,j} = \begin{cases} A_k + V_k & \text{at the turn's last token} \\ 0 & \text{elsewhere} \end{cases}, \qquad
# A_{k,j} = r_{k,j} + \gamma V_{k,j+1} - V_{k,j} + \gamma\lambda A_{k,j+1} \qquad \text{(tokens of turn } k)$$
#
# The inner pass ends at the turn's end: the target $A_k + V_k$ holds all that comes later. In the drawing, `place` puts
# it on the last token, and the second `gae` runs within the turn.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Two turns of two tokens; the rollout was right.

# %%
tokens = [[0.4, 0.5], [0.8, 0.9]]  # the guess before each token
reward = [0.0, 1.0]
gamma_turn, lam_turn, gamma, lam = 1.0, 0.5, 1.0, 0.5
inner = predict(
    "The first turn's target is 0.9, its first token's value 0.4. Is the token's credit 0.5 at lambda 0.5? (yes, no)",
    None,
)


# %%
def gae(earned, guesses, gamma, lam):
    follows, back = 0.0, []
    for r, after, now in reversed(list(zip(earned, [*guesses[1:], 0.0], guesses, strict=True))):
        follows = r + gamma * after - now + gamma * lam * follows
        back.append(follows)
    return back[::-1]


starts = [row[0] for row in tokens]
outer = gae(reward, starts, gamma_turn, lam_turn)
targets = [a + v for a, v in zip(outer, starts, strict=True)]
credit = [gae([0.0, aim], row, gamma, lam) for aim, row in zip(targets, tokens, strict=True)]
print("advantages of turns:", [round(a, 3) for a in outer], " targets:", [round(x, 3) for x in targets])
print("credit of tokens:   ", [[round(a, 3) for a in row] for row in credit])

small = page.hand(["q"], {"turn_value": [starts]}, {"outcome": [1.0]}, tokens=[[2, 2]])
small = small.with_column("value", "token", torch.tensor([v for row in tokens for v in row], dtype=torch.float64))
recipe = bilevel_gae(gamma_turn, lam_turn, gamma, lam, whiten=False)
display(page.agrees([[sum(row) / 2 for row in credit]], recipe, small))  # what a turn has is the mean of its tokens
inner.reveal("yes" if abs(credit[0][0] - 0.5) < 1e-6 else "no")

# %% [markdown]
# At $\lambda = 1$ inside the turn it would be: target minus guess. At 0.5 the first token keeps its own step, to the
# guess before the second token, and half of what came after.
#
# ## 4. On real rollouts
#
# World, policy and fitted head as for [PPO over tokens](ppo.ipynb); the head's guess before a turn's first token is the
# turn's value.

# %%
settings = Settings(max_new_tokens=24)
others = play(player, env, env.tasks("train", 24, seed=1), size=4, settings=settings, seed=1, run="fit")
learner = critics.fit(start(player, paper, Plan()), others, at="token")

questions = env.tasks("test", 12, seed=SEED)
played = play(player, env, questions, size=4, settings=settings, seed=SEED, run="bilevel_gae")
rollouts = with_values(played, learner, paper, Plan())
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
for name in ("turn_value", "value"):
    came = batch.down(batch["outcome"].values.double(), "trajectory", batch[name].level)
    print(f"{name}: explains {critics.explained(batch[name].values, came):.0%} of the variance of outcomes")
page.cost(rollouts, paper)

# %%
guess = batch["value"].values
of = batch.up("token", "trajectory")
solved = [i for i, t in enumerate(rollouts) if t.outcome == 1.0 and len(t.turns) > 2]
place = max(solved, key=lambda i: float(guess[of == i].max() - guess[of == i].min()))
shown = rollouts[place]
Ribbons(rollouts, shown.id, fading)

# %%
CreditMap(rollouts, shown.id, [grpo(kl=0.0), ppo_turn(lam=0.9), ppo(lam=0.9), fading])

# %%
page.promises(paper, batch)

# %% [markdown]
# **How far back does an outcome reach?** With no values yet, so that only $\lambda$ decides; the mean size of a turn's
# credit (not whitened), every $\lambda$ 0.9:

# %%
fresh = batch.with_column("value", "token", torch.zeros(batch.count("token"), dtype=torch.float64))
fresh = fresh.with_column("turn_value", "turn", torch.zeros(batch.count("turn"), dtype=torch.float64))
forms = {
    "PPO over tokens": ppo(lam=0.9, whiten=False),
    "PPO over turns": ppo_turn(lam=0.9, whiten=False),
    "bi-level": bilevel_gae(**clocks, whiten=False),
}
rows = []
for word, form in forms.items():
    told = page.turns(form, fresh)
    sizes = [[abs(row[-1 - left]) for row in told if len(row) > left] for left in range(3)]
    rows.append([word, *(f"{sum(here) / len(here):.3f}" for here in sizes)])
page.table(["", "the last turn", "one before", "two before"], rows)

# %% [markdown]
# Between turns it fades like turns, inside a turn like tokens.
#
# ## 5. Where it fails
#
# **With all four numbers 1 it is PPO over tokens.** The outer pass adds $V_k$, the inner takes token values away, and
# in between everything cancels. So do the defaults here, and a run that leaves the outer pair at 1 compares nothing:

# %%
same = predict("Largest difference between bilevel_gae() and ppo() on these rollouts?", None)

# %%
gap = float((paper.credit(batch).values - ppo().credit(batch).values).abs().max())
rows = []
for outer_lam in (1.0, 0.9, 0.5):
    for inner_lam in (1.0, 0.9):
        here = bilevel_gae(lam_turn=outer_lam, lam=inner_lam, whiten=False).credit(batch).values
        plain = ppo(whiten=False).credit(batch).values
        rows.append([outer_lam, inner_lam, f"{float((here - plain).abs().max()):.2g}"])
display(page.table(["lambda of turns", "lambda of tokens", "largest difference to PPO over tokens, lambda 1"], rows))
same.reveal(round(gap, 6))

# %% [markdown]
# **Inside a turn the first tokens fade.** A turn of seven tokens whose values are 0.5 throughout, with a target of 1.
# The last token, a line break, has the credit in full, though the words before it made the call:

# %%
seven = page.hand(["q"], {"turn_value": [[0.5]]}, {"outcome": [1.0]}, tokens=[[7]])
seven = seven.with_column("value", "token", torch.full((7,), 0.5, dtype=torch.float64))
page.table(
    ["lambda of tokens", "credit of the seven tokens"],
    [[x, page.line(bilevel_gae(lam=x, whiten=False).credit(seven).tolist())] for x in (1.0, 0.9, 0.7, 0.0)],
)

# %% [markdown]
# **A discount a turn is a price of turns.** $\gamma_T < 1$ is what makes the two passes differ in published settings.
# It also makes a long right rollout worth less than a short one, whatever its turns were good for. Two rollouts, both
# right, no values:

# %%
long = page.hand(["q"] * 2, {"turn_value": [[0.0] * 2, [0.0] * 5]}, {"outcome": [1.0, 1.0]}, tokens=[[1] * 2, [1] * 5])
long = long.with_column("value", "token", torch.zeros(7, dtype=torch.float64))
page.table(
    ["gamma of turns", "right after 2 turns", "right after 5 turns"],
    [[x, *(page.line(row) for row in page.turns(bilevel_gae(gamma_turn=x, whiten=False), long))] for x in (1.0, 0.95)],
)

# %% [markdown]
# ## 6. The paper and its code
#
# RAGEN's estimator (read as text) differs in three things; VAGEN's legacy documentation ships it with
# $\gamma_T = 0.95$.
#
# - **Turns end where a reward is not 0.** A turn that earned exactly 0 is no turn; its tokens belong to the next one
#   that earned something. As we read it, a rollout whose last reward is 0 has no end at all, and the scan looks for a
#   token behind the last.
# - **The value of a turn is that before its last token**, when the action is all but taken. With all numbers 1 that
#   cancels; else a turn is compared with a guess that knows what it did.
# - One $\lambda$ serves both passes.
#
# On the same rollouts, each $\lambda$ 0.9, with the outcome at the end: all turns but the last earned 0, so that the
# release takes each rollout for one turn.

# %%
values = batch["value"].values.tolist()
nested, ends = [], []
for i, t in enumerate(rollouts):
    own = [k for k, n in enumerate(batch.turn_trajectory.tolist()) if n == i]
    nested.append([[values[j] for j, turn in enumerate(batch.token_turn.tolist()) if turn == k] for k in own])
    ends.append([0.0] * (len(own) - 1) + [t.outcome])
given = tuple(clocks.values())
ways = {
    "turns are data, first token": check.right,
    "turns are data, last token": check.made(anchor=-1),
    "as released": check.released,
}
told = {word: way(ends, nested, *given)[place] for word, way in ways.items()}
sizes = [len(row) for row in nested[place]]
cuts = [sum(sizes[:t]) for t in range(len(sizes) + 1)]
page.table(
    ["turn", *told],
    [
        [t, *(page.number(sum(row[cuts[t] : cuts[t + 1]]) / sizes[t]) for row in told.values())]
        for t in range(len(sizes))
    ],
)

# %% [markdown]
# (Mean credit of a turn's tokens, not whitened.) In the last column the outcome fades through all tokens of the
# rollout, which is what the method is there to avoid: it needs a reward that is not 0 in every turn, such as a small
# price, to see turns at all.
#
# ## 7. How it learned
#
# In stored runs turns are discounted by 0.95, as in RAGEN's own runs, and the other three numbers are 1: with all four
# 1 it would be PPO over tokens (section 5, first table).

# %%
method_curves.beside_grpo(["bilevel_gae"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start, with a fresh head:

# %%
method_curves.continue_live(policy.load("tiny@chain-misread"), env, fading)

# %% [markdown]
# **What its authors report**: VAGEN's abstract credits it, with a reward for the agent's words on what it sees, for
# what a model of 3B parameters reaches. What we could read has no figure for the estimate alone.
#
# ## 8. Exercise: write it
#
# About 25 minutes; the advantage before it is centred and scaled.


# %% tags=["exercise"]
def token_weight(reward, value, gamma_turn, lam_turn, gamma, lam):
    """Return the advantage of every token, a row a rollout, turn after turn.

    reward: of each turn, a row a rollout.  value: before every token: a row a rollout, in it a row a turn.
    """

    # SOLUTION 1: one scan over turns, then one inside each
    def gae(earned, guesses, gamma, lam):
        follows, back = 0.0, []
        for r, after, now in reversed(list(zip(earned, [*guesses[1:], 0.0], guesses, strict=True))):
            follows = r + gamma * after - now + gamma * lam * follows
            back.append(follows)
        return back[::-1]

    credit = []
    for earned, turns in zip(reward, value, strict=True):
        starts = [tokens[0] for tokens in turns]
        outer = gae(earned, starts, gamma_turn, lam_turn)
        row = []
        for a, v, tokens in zip(outer, starts, turns, strict=True):
            row += gae([0.0] * (len(tokens) - 1) + [a + v], tokens, gamma, lam)
        credit.append(row)
    return credit
    # END SOLUTION


check.ex(token_weight)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, the released way to find turns:

# %%
check.ex(check.released)

# %% [markdown]
# ## 9. Where to go on
#
# - [PPO over turns](ppo_turn.ipynb) and [PPO over tokens](ppo.ipynb): each level by itself.
# - [MT-GRPO](mt_grpo.ipynb): rewards of turns without a head.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
