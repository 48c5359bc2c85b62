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
# # Hindsight credit: now that it ended well, was this move to be expected?
#
# **Knowing how a rollout ended, ask how likely each of its turns is. A turn that has become likelier helped to bring
# the end about, and earns a share of it; one that is as likely as before earns nothing.**
#
# With the true probabilities this *is* the advantage, as section 3 shows. Here they are not known: the policy is told
# the right answer and asked again, and section 5 shows what that costs. *Hindsight Credit Assignment*, 2019. Before
# this one: [PBSD](pbsd.ipynb), which reads the same two numbers and uses them with more care.
#
# **Use it when** what a policy does *where it ended well* can be learned or counted (section 3). Told the answer, it
# costs two calls of the policy a rollout. **Not when** a small policy is told the answer in its prompt: that is another
# question (section 5).

# %% tags=["parameters"]
SEED = 1

# %%
import math
from collections import Counter
from dataclasses import replace
from random import Random

import torch
from IPython.display import display

import workbench
from workbench import envs, evidence, policy
from workbench.credit import chain, read, total
from workbench.policy import Settings
from workbench.recipes import grpo, hindsight
from workbench.recipes.weighed import turn_evidence
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.teach import method_curves, method_told, predict
from workbench.teach import method_page as page
from workbench.teach.methods import hindsight as check
from workbench.view import CreditMap, Ribbons

gazetteer = envs.load("gazetteer")
player = policy.load("smollm2", shots=gazetteer.shots, tools=gazetteer.tools)
ours = hindsight()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(ours, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $\pi$ is the probability of turn $y_t$ where it was written, $h$ the probability of the same turn there *among
# rollouts that end with the return* $Z$:
#
# $$A_t = \Big(1 - \frac{\pi(y_t \mid x_t)}{h(y_t \mid x_t, Z)}\Big)\, Z$$
#
# By Bayes' rule $\pi / h = P(Z \mid x_t) / P(Z \mid x_t, y_t)$, so that the mean of $A_t$ over ends is
# $Q(x_t, y_t) - V(x_t)$. Here $Z = R$, $h$ is the same policy told the right answer, and the log-ratio of a turn is
# kept within a bound:
#
# $$l_t = \text{clip}\Big(\sum_{j \in t} \log h(y_j) - \log \pi(y_j),\ -1,\ 1\Big), \qquad A_t = (1 - e^{-l_t})\,R$$

# %%
ours

# %% [markdown]
# ## 3. By hand
#
# One decision with two moves, and what usually becomes of each. Nothing has to be estimated, so $h$ is exact.

# %%
pi = {"usual": 0.75, "rare": 0.25}
right_after = {"usual": 0.2, "rare": 0.8}
common = predict("The usual move was made, and it ended well. Is its credit +, 0 or -?", None)

# %%
right = sum(pi[m] * right_after[m] for m in pi)
h = {m: pi[m] * right_after[m] / right for m in pi}
share = {m: 1 - pi[m] / h[m] for m in pi}
page.table(
    ["move", "pi", "right after it", "h", "1 - pi / h", "times how often right", "Q - V"],
    [
        [
            m,
            pi[m],
            right_after[m],
            f"{h[m]:.3f}",
            page.number(share[m]),
            page.number(right_after[m] * share[m]),
            page.number(right_after[m] - right),
        ]
        for m in pi
    ],
)

# %% [markdown]
# The last two columns are the theorem. And among rollouts that ended well, praise and blame balance:

# %%
print(f"mean of 1 - pi / h under h: {sum(h[m] * share[m] for m in pi):.0e}")

# %% [markdown]
# Four rollouts of it through the library, a turn of one token each:

# %%
made = [("usual", 1.0), ("usual", 0.0), ("rare", 1.0), ("rare", 0.0)]
mine = [[share[move] * end] for move, end in made]

small = page.hand(["q"] * 4, None, {"outcome": [end for _, end in made]}, turns=[1] * 4, tokens=[[1]] * 4)
for name, p in (("logprob_plain", pi), ("logprob_informed", h)):
    logs = [math.log(p[move]) for move, _ in made]
    small = small.with_column(name, "token", torch.tensor(logs, dtype=torch.float64))
display(page.agrees(mine, ours, small))
common.reveal("-" if mine[0][0] < 0 else "+")

# %% [markdown]
# It ended well *in spite of* the usual move. And failures say nothing at all: their return is 0.
#
# ## 4. On real rollouts
#
# SmolLM2 with a search tool, stored rollouts of two questions that were sometimes solved. The same model scores its
# own tokens again, told the answer: two passes a rollout.

# %%
stored = workbench.read("../../datasets/start")
varied = [g for g in stored.groups if len({t.outcome for t in g}) > 1][:2]
rollouts = Rollouts(tuple(t for g in varied for t in g))
rollouts = evidence.collect(rollouts, evidence.for_recipe([ours], rollouts, policy=player))
batch = rollouts.batch()
page.cost(rollouts, ours)

# %%
ratio = page.rows_of(turn_evidence("sum")(None, batch), batch)
credit = page.turns(ours, batch)
lines = {
    (t.outcome, *(turn.action.text.strip() for turn in t.turns)): (page.line(e), page.line(c))
    for t, e, c in zip(rollouts, ratio, credit, strict=True)
}
page.table(
    ["outcome", "turns", "log h - log pi", "credit"],
    [[key[0], " / ".join(key[1:]), *said] for key, said in lines.items()],
)

# %% [markdown]
# On the question of the currency the search for the country *just found* is likelier in hindsight, and is praised.
# Nearly everything else becomes less likely, and so right rollouts are mostly blamed. One of them, stage by stage, and
# beside GRPO:

# %%
solved = next(t for t in reversed(rollouts.trajectories) if t.outcome == 1.0)
Ribbons(rollouts, solved.id, ours)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), ours])

# %%
page.promises(ours, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **Being told is not hindsight.** $h$ should say what a policy that does *not* know the answer did, where it ended
# well. A policy that knows it has no need to search. One question of the chain world, played 128 times by `tiny`: there
# the true $h$ of the first move can be counted.

# %%
told_well = predict("Do the counted and the told log-ratio of the search that helps have the same sign?", None)

# %%
env = envs.load("chain", hops=2)
tiny = policy.load("tiny@chain")
many = play(tiny, env, env.tasks("test", 1, seed=SEED), size=128, settings=Settings(max_new_tokens=24), seed=SEED)
first = {t.id: t.turns[0].action.text.strip() for t in many}
played, ended_well = Counter(first.values()), Counter(first[t.id] for t in many if t.outcome == 1.0)
moves = [move for move, _ in played.most_common(5)] + [next(move for move in played if move.startswith("Answer"))]
examples = Rollouts(tuple(next(t for t in many if first[t.id] == move) for move in moves))
examples = evidence.collect(examples, evidence.for_recipe([ours], examples, policy=tiny))
told = [row[0] for row in page.rows_of(turn_evidence("sum")(None, examples.batch()), examples.batch())]

rows, counted = [], []
for move, said in zip(moves, told, strict=True):
    p, q = played[move] / len(many), ended_well[move] / sum(ended_well.values())
    counted.append(math.log(q / p) if q else None)
    rows.append(
        [
            move,
            played[move],
            ended_well[move],
            page.number(counted[-1], 2) if q else "never right",
            page.number(said, 2),
        ]
    )
print(many.trajectories[0].extra["question"])
display(page.table(["first move", "played", "then right", "log h - log pi, counted", "told"], rows))
told_well.reveal("yes" if counted[0] * told[0] > 0 else "no")

# %% [markdown]
# Told, it would rather answer at once. The search that most rollouts begin with, and should, is then punished in every
# rollout that ends well.
#
# **Noise is blame.** $1 - e^{-l}$ bends down: a policy whose log-ratios are noise around 0 is blamed on average, the
# more the more noise. Mean credit of a turn in a right rollout, $l$ normal with mean 0:

# %%
draw = Random(SEED)
normal = [draw.gauss(0.0, 1.0) for _ in range(20_000)]
bounds = {"bound 1": 1.0, "bound 0.5": 0.5, "hardly any (5)": 5.0}
page.table(
    ["spread of l", *bounds],
    [
        [
            s,
            *(
                page.number(sum(check.factor(check.kept(s * z, b), b) for z in normal) / len(normal))
                for b in bounds.values()
            ),
        ]
        for s in (0.1, 0.3, 1.0, 2.0)
    ],
)

# %% [markdown]
# **A sure turn cannot be praised.** No probability exceeds 1, so that the most a turn can earn is $1 - \pi$. The least,
# with the bound, is always the same.

# %%
page.table(
    ["pi of the turn", "most it can earn", "least"],
    [[p, page.number(min(1 - p, 1 - math.exp(-1))), page.number(1 - math.exp(1))] for p in (0.1, 0.5, 0.9, 0.99)],
)

# %% [markdown]
# With the true $h$ this is as it should be: where there was no choice, there is no credit. With another $h$ only the
# blame is left. On the rollouts of section 4:

# %%
sure = page.rows_of(chain(read("logprob_plain", "token"), total("turn"))(None, batch), batch)
right_turns = [
    (math.exp(p), c)
    for t, ps, cs in zip(rollouts, sure, credit, strict=True)
    if t.outcome == 1.0
    for p, c in zip(ps, cs, strict=True)
]
silent = sum(len(t.turns) for t in rollouts if t.outcome == 0.0)
blamed, summed = sum(c < 0 for _, c in right_turns), sum(c for _, c in right_turns)
likely = sum(p > 0.5 for p, _ in right_turns)
page.markdown(
    f"{len(right_turns)} turns of right rollouts, {likely} of them with a probability above 0.5: **{blamed} are "
    f"blamed**, and credit sums to {page.number(summed, 2)}. The {silent} turns of wrong rollouts get 0: **nothing is "
    "learned from failure**."
)

# %% [markdown]
# ## 6. The paper and its code
#
# The class that the authors released was read. What differs, and beside it the nearest method for language agents:
# HCAPO, [arXiv:2603.08754](https://arxiv.org/abs/2603.08754), of which the abstract and a reader's notes were read.
#
# | | HCA, released | HCAPO | here |
# |---|---|---|---|
# | $h$ is | learned, in bins of the return | the policy, told of success | the policy, told the answer |
# | ratio of a turn | of one action | mean over tokens | sum over tokens |
# | kept small by | nothing | clip | bound of the log-ratio |
# | return | from this step on, discounted | not known to us | the outcome |
# | beside it | nothing | GRPO's advantage | nothing |
#
# HCA has a second form, which asks how likely a move is given a *later state* in the place of the end. It is not here.
# How much does the bound, which is ours, decide?

# %%
page.side_by_side(
    batch,
    ours,
    replace(hindsight(bound=0.25), name="hindsight, bound 0.25"),
    replace(hindsight(bound=20.0), name="hindsight, hardly any bound"),
    trajectory=batch.trajectories.index(solved.id),
)

# %% [markdown]
# One turn that is unlikely once the answer is known outweighs all others without it.
#
# ## 7. How it learned

# %%
method_curves.beside_grpo(["hindsight"])

# %% [markdown]
# Live, from the warm start of `tiny`:

# %%
method_curves.continue_live(tiny, env, ours)

# %% [markdown]
# Does its credit find the search that helped? Stored, before any training:

# %%
method_told.which_turn("hindsight", beside=("earlier is better", "grpo", "pbsd"))

# %% [markdown]
# **What its authors report**: that it solves small problems made to show its strengths ("illustrative tasks"; we have
# no figure). HCAPO reports success rates 7.7 % higher than GRPO's on WebShop and 13.8 % on ALFWorld, with
# Qwen2.5-7B-Instruct (its abstract; not checked here).
#
# ## 8. Exercise: write it
#
# About 15 minutes.


# %% tags=["exercise"]
def turn_credit(plain, told, outcome, group, bound):
    """Return the credit of every turn, a row a rollout.

    plain, told: a row a rollout of lists, one a turn, of its tokens' log-probs, without and with the answer known.
    outcome: one a rollout.  group: the question of each.  bound: of the log-ratio of a turn.
    """
    # SOLUTION 1: 1 - pi / h of each turn, times the outcome
    credit = []
    for p, q, r in zip(plain, told, outcome, strict=True):
        row = []
        for before, after in zip(p, q, strict=True):
            ratio = min(max(sum(after) - sum(before), -bound), bound)
            row.append(r * (1 - math.exp(-ratio)))
        credit.append(row)
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, the mean over tokens:

# %%
check.ex(check.made(check.of_turns(check.mean)))

# %% [markdown]
# ## 9. Where to go on
#
# - [PBSD](pbsd.ipynb): the same two scores; they only weigh GRPO's advantage, near 1.
# - [RUDDER](rudder.ipynb): the end predicted from the turns, rather than the turns from the end.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(ours)
