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
# # Mini-o3: do not punish a rollout for running out of turns
#
# **A rollout that hit the limit of turns has outcome 0, but it did not fail: it was stopped. Count it when rollouts
# are compared, and leave it out of the loss.**
#
# A limit in training is a matter of cost. Blame what it cuts off, and the policy learns to answer early; then it can
# never use more turns than it was trained with.
#
# **Use it when** rollouts are cut off by a limit that was set to save time. It costs nothing. **Not when** what is cut
# off repeats itself: it goes unpunished (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
import torch
from IPython.display import display

from workbench import envs, policy
from workbench.policy import Settings
from workbench.recipes import grpo, mini_o3, mini_o3_released
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import mini_o3 as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = mini_o3()
released = mini_o3_released()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, released, policy=player)

# %% [markdown]
# ## 2. The equation
#
# With $M_i = 1$ for a rollout that ended by itself and 0 for one that was cut off:
#
# $$A_i = M_i\,\frac{R_i - \bar R}{s + \epsilon}, \qquad
# \text{loss} = \frac{\sum_i M_i\, \overline{\ell_i}}{\sum_i M_i}$$
#
# $\bar R$ and $s$, mean and spread, are over **all** rollouts of the question, those cut off included;
# $\overline{\ell_i}$ is the mean loss of the tokens of rollout $i$.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Four rollouts: right, wrong, and two that ran out of turns.

# %%
outcome, cut = [1.0, 0.0, 0.0, 0.0], [False, False, True, True]
stopped = predict("The wrong answer: -0.50 in GRPO. And here?", None)

# %%
mean = sum(outcome) / 4
spread = (sum((r - mean) ** 2 for r in outcome) / 3) ** 0.5
mine = [None if c else (r - mean) / spread for r, c in zip(outcome, cut, strict=True)]
small = page.hand(["q"] * 4, rollout={"outcome": outcome}, turns=[1] * 4)
small = small.with_column("truncated", "trajectory", torch.tensor(cut))
display(page.agrees([[a] for a in mine], paper, small))
stopped.reveal(round(mine[1], 2))

# %% [markdown]
# The same. What changes is that rollouts 2 and 3 are not in the loss at all: not with 0, but not there.
#
# ## 4. On real rollouts
#
# A world in which every search narrows a list, and `tiny`, which often runs out of turns. How often, and is it blamed
# for that?

# %%
questions = env.tasks("test", 8, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="mini_o3")
batch = rollouts.batch()
over = int(batch["truncated"].values.sum())
print(f"{len(rollouts)} rollouts, {over} cut off by the limit of {env.max_turns} turns")
credits = {r.name: r.credit(batch, to="turn") for r in (grpo(kl=0.0), paper)}
page.table(
    ["method", "turns with credit", "blamed", "left out, because"],
    [
        [f"`{name}`", int(c.known.sum()), int((c.known & (c.values < 0)).sum()), ", ".join(c.reasons) or "-"]
        for name, c in credits.items()
    ],
)

# %%
page.cost(rollouts, paper)

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, paper)

# %% [markdown]
# A rollout that was cut off, of a question that was solved if there is one: blamed by GRPO, not trained here.

# %%
mixed = [t for g in rollouts.groups if len({x.outcome for x in g}) > 1 for t in g if t.truncated]
stopped_one = [*mixed, *(t for t in rollouts if t.truncated)][0]
CreditMap(rollouts, stopped_one.id, [grpo(kl=0.0), paper])

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **Wrong answers become better than nothing.** Zeros of rollouts that were cut off stay in the mean and lower it. A
# wrong answer that was finished has the mean nearer to itself, and is blamed less, the more siblings were cut off.
# Built to show it, with one right and one wrong answer:

# %%
rows = []
for cuts in (0, 2, 6):
    outcomes = [1.0, 0.0] + [0.0] * cuts
    many = page.hand(["q"] * len(outcomes), rollout={"outcome": outcomes}, turns=[1] * len(outcomes))
    many = many.with_column("truncated", "trajectory", torch.tensor([False, False] + [True] * cuts))
    told = page.turns(paper, many)
    rows.append([cuts, page.number(told[0][0]), page.number(told[1][0])])
page.table(["siblings cut off", "the right answer", "the wrong answer"], rows)

# %% [markdown]
# **Babble goes unpunished.** A rollout that repeats itself until it is cut off is left out, too. If that is what the
# limit cuts, masking protects it. On the rollouts of section 4:

# %%
rows = []
for word, wanted in (("ended by itself", False), ("cut off", True)):
    found = [[turn.action.text.strip() for turn in t.turns] for t in rollouts if t.truncated == wanted]
    again = sum(len(set(said)) < len(said) for said in found)
    rows.append([word, len(found), again, "nothing" if wanted else "what GRPO gives it"])
page.table(["rollout", "how many", "of them repeat a turn", "credit here"], rows)

# %% [markdown]
# **A question whose rollouts were all cut off** teaches nothing. The release rejects questions whose *finished*
# rollouts have equal outcomes; that is a matter of sampling and not done here.
#
# ## 6. The paper and its code
#
# The paper divides by the number of rollouts that ended; the release takes the mean over the tokens that are left,
# plus 1e-6. Credit is the same; the weight of a token in the loss is not:

# %%
sizes = [[10], [40], [20], [20]]
unlike = page.hand(["q"] * 4, rollout={"outcome": outcome}, turns=[1] * 4, tokens=sizes)
unlike = unlike.with_column("truncated", "trajectory", torch.tensor(cut))
rows = []
for recipe in (paper, released):
    known = recipe.credit(unlike, to="token").known
    weight = recipe.objective.terms[0].aggregate(unlike, known)
    ends = torch.cumsum(torch.tensor(sizes).flatten(), 0) - 1
    rows.append([f"`{recipe.name}`", *(f"{w:.4f}" for w in weight[ends].tolist())])
page.table(["", "right, 10 tokens", "wrong, 40 tokens", "cut off", "cut off"], rows)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["mini_o3"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**, on visual search with Qwen2.5-VL-7B: on the hard part of VisualProbe 44.4 with the mask
# and 35.8 without; and tens of turns at test after training with six. Not checked here: no world here has pictures.
#
# ## 8. Exercise: the weight of every token
#
# About 15 minutes. As GRPO's, with one more column.


# %% tags=["exercise"]
def token_weight(outcome, cut, group, tokens):
    """Return the weight of each token of each rollout: one number a rollout.

    outcome: one a rollout.  cut: 1 if a limit cut it off, else 0.  tokens: how many each sampled.
    group: the question of each; a rollout alone with its question keeps its outcome.
    """
    # SOLUTION 1: compare all, then leave out those cut off
    left = sum(1 for c in cut if not c)
    weights = []
    for r, c, g, n in zip(outcome, cut, group, tokens, strict=True):
        peers = [x for x, h in zip(outcome, group, strict=True) if h == g]
        mean = sum(peers) / len(peers)
        squares = sum((x - mean) ** 2 for x in peers)
        alone, equal = len(peers) == 1, max(peers) == min(peers)
        a = r if alone else 0.0 if equal else (r - mean) / (squares / (len(peers) - 1)) ** 0.5
        weights.append(0.0 if c else a / (left * n))
    return weights
    # END SOLUTION


check.ex(token_weight)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, the mistake of taking them out too early:

# %%
wrong = next(m for m in check.ex.misconceptions if m.name == "left out of the statistics")
check.ex(wrong.wrong)

# %% [markdown]
# ## 9. Where to go on
#
# - [DAPO](dapo.ipynb) leaves out whole questions; [GRPO](grpo.ipynb) nothing.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
