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
# # RUDDER: at which turn did the outcome become foreseeable?
#
# **A small network reads a rollout turn by turn and predicts how it will end. Credit is given where its prediction
# changes, and what it still missed at the end goes to the last turn.**
#
# No model is asked and no right answer is needed: outcomes are enough. All depends on the network.
# *RUDDER: Return Decomposition for Delayed Rewards*, 2018. Before this one: [GRPO](grpo.ipynb), which gives the
# outcome to all turns alike.

# %% tags=["parameters"]
SEED = 5

# %%
from dataclasses import replace
from random import Random

import torch
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.credit import read
from workbench.evidence.predicted import ReturnPredictor, fit
from workbench.policy import Settings
from workbench.recipes import grpo, rudder
from workbench.rollout import play
from workbench.teach import method_curves, method_told, predict
from workbench.teach import method_page as page
from workbench.teach.methods import rudder as check
from workbench.train.tally import kinds
from workbench.view import CreditMap, Ribbons
from workbench.view.curves import Curve, Panel, bundle

env = envs.load("chain", hops=2)
player = policy.load("tiny@chain")  # a million parameters, at its shipped warm start
ours = rudder()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(ours)

# %% [markdown]
# ## 2. The equation
#
# $g_t$ is the outcome that a recurrent network predicts from the first $t$ turns, $g_0$ before any turn. It is fitted
# to the outcomes $R$ of the rollouts, at the end and, with half the weight, at every turn:
#
# $$\text{loss} = (g_T - R)^2 + \tfrac{1}{2}\,\text{mean}_t\,(g_t - R)^2$$
#
# Credit is the change of the prediction. The last turn has what was missed, too:
#
# $$A_t = g_t - g_{t-1}, \qquad A_T = (g_T - g_{T-1}) + (R - g_T)$$
#
# The sum over a rollout is $R - g_0$, however good the network is.

# %%
ours

# %% [markdown]
# ## 3. By hand
#
# Two rollouts of a question: predictions before the first turn and after each, and how they ended.

# %%
start = [0.3, 0.3]
after = [[0.3, 0.8, 0.9], [0.2, 0.1]]
outcome = [1.0, 0.0]
sure = predict("Had the network predicted 0.5 after rollout 0's last turn, not 0.9: would any credit change?", None)


# %%
def by_hand(after):
    rows = []
    for g, row, r in zip(start, after, outcome, strict=True):
        change = [b - a for a, b in zip([g, *row], row, strict=False)]
        change[-1] += r - row[-1]
        rows.append(change)
    return rows


mine = by_hand(after)
small = page.hand(["q", "q"], {"return_pred": after}, {"return_pred_start": start, "outcome": outcome})
display(page.agrees(mine, ours, small))
sure.reveal("no" if by_hand([[0.3, 0.8, 0.5], after[1]])[0] == mine[0] else "yes")

# %% [markdown]
# $g_T$ cancels: the last turn always gets $R - g_{T-1}$. And summed from the end the changes telescope to
# $R - g_{t-1}$, the outcome less a baseline: RUDDER and a baseline differ only in *where* the same sum arrives.
#
# **Where it shines**: an event that decides, at a turn of its own. Four boxes are opened; a key in one of them decides
# the outcome. The network is fitted to 64 such stories and asked about 200 others.


# %%
def boxes(rng):
    place = rng.choice([None, 0, 1, 2, 3])
    found = [("open a " + rng.choice(["red", "blue", "green"]) + " box", "nothing") for _ in range(4)]
    return [(did, "a key" if k == place else back) for k, (did, back) in enumerate(found)], place


def predictions(network, story):
    with torch.inference_mode():
        return network(check.seen_by_predictor(story).unsqueeze(0))[0].tolist()


rng = Random(SEED)
known, others = [boxes(rng) for _ in range(64)], [boxes(rng) for _ in range(200)]
network = fit(
    [check.seen_by_predictor(story) for story, _ in known], [float(k is not None) for _, k in known], 8, 120, 0
)
hits = []
for story, place in others:
    g = predictions(network, story)
    changes = [b - a for a, b in zip(g, g[1:], strict=False)]
    hits += [changes.index(max(changes)) == place] if place is not None else []
one = next(story for story, place in others if place == 2)
g = predictions(network, one)
share = f"**{sum(hits)} of {len(hits)}**"
display(page.markdown(f"The key's turn has the largest change in {share} stories that the network never saw."))
page.table(
    ["turn", "did", "came back", "predicted after it", "change"],
    [
        ["before", "", "", f"{g[0]:.2f}", ""],
        *(
            [k, *turn, f"{b:.2f}", page.number(b - a, 2)]
            for k, (turn, a, b) in enumerate(zip(one, g, g[1:], strict=False))
        ),
    ],
)

# %% [markdown]
# Finding nothing is news, too: with every empty box less is to be hoped for.
#
# ## 4. On real rollouts
#
# A world in which an answer is two lookups away. `tiny` plays 16 questions, 4 rollouts each; the network (a GRU on
# hashed words) is fitted to these 64 rollouts.

# %%
settings = Settings(max_new_tokens=24)
rollouts = play(player, env, env.tasks("test", 16, seed=SEED), size=4, settings=settings, seed=SEED, run="rudder")
rollouts = evidence.collect(rollouts, evidence.for_recipe([ours], rollouts))
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, ours)

# %% [markdown]
# The "calls" are of the small network, none of the policy. A rollout that was solved, stage by stage, and beside GRPO:

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and len(t.turns) > 3)
Ribbons(rollouts, solved.id, ours)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), ours])

# %%
page.promises(ours, batch)

# %% [markdown]
# Nothing is lost, on any of them:

# %%
credit = page.turns(ours, batch)
before = batch["return_pred_start"].values.tolist()
gaps = [abs(sum(row) - (t.outcome - g)) for t, row, g in zip(rollouts, credit, before, strict=True)]
print(f"largest gap between the credit of a rollout and R - g_0: {max(gaps):.0e}")

# %% [markdown]
# ## 5. Where it fails
#
# **It remembers.** Sixty-four rollouts of a few dozen words each are soon known by heart. The same world, 64 other
# rollouts, and the network after more and more steps of its fit; the library takes 120. A network that always says
# the mean is the line to beat.

# %%
heart = predict("After 120 steps: is the error on other rollouts below or above that of saying the mean?", None)

# %%
others = env.tasks("test", 16, seed=SEED + 1)
fresh = play(player, env, others, size=4, settings=settings, seed=SEED + 1, run="fresh")
steps = [0, 5, 10, 20, 40, 80, 120]


def error(rows, found):
    """Mean squared error of the last prediction before the answer."""
    wrong = [(row[-2] if len(row) > 1 else g, t.outcome) for t, row, g in zip(rows, *found, strict=True)]
    return sum((g - r) ** 2 for g, r in wrong) / len(wrong)


def predicted(network, rows):
    columns = evidence.collect(rows, [network]).batch()
    turns = page.rows_of(read("return_pred", "turn")(None, columns), columns)
    return turns, columns["return_pred_start"].values.tolist()


fits = [ReturnPredictor(steps=n).fit(rollouts) for n in steps]
own, unseen = ([error(rows, predicted(network, rows)) for network in fits] for rows in (rollouts, fresh))
share = sum(t.outcome for t in rollouts) / len(rollouts)
mean = sum((t.outcome - share) ** 2 for t in fresh) / len(fresh)
lines = (
    Curve("other rollouts", steps, unseen, look=1),
    Curve("those it was fitted to", steps, own, look=2),
    Curve("always saying the mean, other rollouts", steps, [mean] * len(steps), look=5),
)
panel = Panel("predicting the outcome before the last turn", lines)
display(bundle([panel], "steps of the fit", "mean squared error"), raw=True)
heart.reveal("above" if unseen[-1] > mean else "below")

# %% [markdown]
# What is redistributed is then mostly memory. A test of that: the same rollouts with *shuffled* outcomes, which nothing
# in them explains.

# %%
drawn = [t.outcome for t in rollouts]
Random(SEED).shuffle(drawn)
shuffled = type(rollouts)(tuple(replace(t, outcome=r) for t, r in zip(rollouts, drawn, strict=True)))
nonsense = ReturnPredictor().fit(shuffled)
rows = []
for name, network, on in (("true outcomes", fits[-1], rollouts), ("shuffled outcomes", nonsense, shuffled)):
    found = predicted(network, on)
    moves = [abs(b - a) for row, g in zip(*found, strict=True) for a, b in zip([g, *row], row[:-1], strict=False)]
    rows.append([name, f"{error(on, found):.3f}", f"{sum(moves) / len(moves):.3f}"])
page.table(["fitted to", "error on them", "mean size of credit before the last turn"], rows)

# %% [markdown]
# Nearly as good a fit, and as much credit, for nothing. Does it tell searches apart? By the world's oracle, on the
# rollouts it was fitted to and on the others:

# %%
elsewhere = evidence.collect(fresh, [fits[-1]])
rows = []
for word, name in (("search that helps", "useful"), ("search that does not", "useless")):
    cells = []
    for on in (rollouts, elsewhere):
        said = page.turns(ours, on.batch())
        mine = [
            a for t, row in zip(on, said, strict=True) for a, kind in zip(row, kinds(t), strict=True) if kind == name
        ]
        cells += [len(mine), page.number(sum(mine) / len(mine))]
    rows.append([word, *cells])
page.table(["kind of turn", "turns", "mean credit, fitted to them", "other turns", "mean credit, others"], rows)

# %%
method_told.which_turn("rudder", beside=("earlier is better", "grpo", "igpo"))

# %% [markdown]
# **Cross-fitting** takes the memory out: the questions are dealt out into folds, and a network that was fitted to the
# other folds predicts each (`evidence=[ReturnPredictor(folds=4)]`). How a question's rollouts ended is then seen only
# in what was missed, at the last turn. On the same rollouts, with their outcomes and with shuffled ones:

# %%
crossed = predict("Cross-fitted, how large is the error: that of the memory, or at least that of the mean?", None)

# %%
rows, errors = [], []
level = sum((t.outcome - share) ** 2 for t in rollouts) / len(rollouts)
for name, on in (("true outcomes", rollouts), ("shuffled outcomes", shuffled)):
    for way, provider in (("fitted to them", ReturnPredictor()), ("in 4 folds", ReturnPredictor(folds=4))):
        found = predicted(provider, on)
        moves = [abs(b - a) for row, g in zip(*found, strict=True) for a, b in zip([g, *row], row[:-1], strict=False)]
        errors.append(error(on, found))
        rows.append([name, way, f"{errors[-1]:.3f}", f"{sum(moves) / len(moves):.3f}"])
display(page.table(["outcomes", "network", "error", "mean size of credit before the last turn"], rows))
display(page.markdown(f"Always saying the mean of these rollouts has an error of {level:.3f}."))
crossed.reveal("that of the mean, or more" if errors[1] >= level else "below it")

# %% [markdown]
# The error is honest now. Is the credit better for it?

# %%
method_told.cross_fitting()

# %% [markdown]
# Honest, and no better at telling which search helped. The default was left as it is, and `folds` is there for more
# rollouts than these, or for a network that reads more than words.
#
# **It does not know the question.** The network reads turns, not the prompt, and nothing is compared within a question:
# $g_0$ is one number for all, and rollouts of a hard question are blamed for it.

# %%
hard = [g for g in rollouts.groups if all(t.outcome == 0.0 for t in g)]
sums = {page.number(sum(credit[batch.trajectories.index(t.id)])) for g in hard for t in g}
page.markdown(
    f"{len(set(before))} value of $g_0$ for {len(rollouts.groups)} questions. {len(hard)} of them were never "
    f"solved: the credit of each of their rollouts sums to {', '.join(sums)}, that is $-g_0$. GRPO gives them 0."
)

# %% [markdown]
# **It pays for news, not for deeds.** Credit goes to the turn at which the end shows, whoever brought it about. Built
# to show it: a chest holds gold or stones by the toss of a coin, and opening it is the same move in both.

# %%
coin = predict("Everybody makes the same second move. Will its credit be the same in all rollouts?", None)


# %%
def chest(rng):
    lucky = rng.random() < 0.5
    path = "walk left" if rng.random() < 0.5 else "walk right"
    return [(path, "a chest"), ("open the chest", "gold" if lucky else "stones"), ("go home", "home")], float(lucky)


rng = Random(SEED)
tosses = [chest(rng) for _ in range(256)]
network = fit([check.seen_by_predictor(story) for story, _ in tosses], [r for _, r in tosses], 8, 120, 0)
rows = {}
for story, r in tosses:
    g = predictions(network, story)
    rows[story[0][0], story[1][1]] = [*(f"{x:+.2f}" for x in check.made()([g[0]], [g[1:]], [r], ["q"])[0])]
display(
    page.table(
        ["path", "in the chest", "walking", "opening", "going home"],
        [[*key, *row] for key, row in sorted(rows.items())],
    )
)
coin.reveal("yes" if len({row[1] for row in rows.values()}) == 1 else "no")

# %% [markdown]
# A policy that learns from this is pushed towards, and away from, the same move. On average it cancels; in one batch
# it does not.
#
# ## 6. The paper and its code
#
# The authors' demonstration code was read, their tutorial in part, their Atari code not. What differs:
#
# | | authors' code | here |
# |---|---|---|
# | network | LSTM without forget and output gates, on changes of state and actions | GRU on hashed words of a turn |
# | fitted to | a buffer of past rollouts, until its loss is small | those it credits, or (`folds`) other questions |
# | before the first turn | $g_0 = 0$ | $g_0$ is fitted |
# | what was missed, $R - g_T$ | left out (demonstration) | at the last turn |
# | how parts are found | changes of the prediction; the paper also has integrated gradients | changes |
# | what becomes of it | a reward, from which values are learned | the credit itself |
#
# Code of others that follows the tutorial spreads what was missed over all turns. What these choices do to the rollout
# above:

# %%
place = batch.trajectories.index(solved.id)
g, begin = page.rows_of(read("return_pred", "turn")(None, batch), batch)[place], before[place]
forms = {
    "ours": check.made(),
    "nothing for what was missed": check.made(closing=check.nowhere),
    "g_0 = 0, nothing for it": check.made(check.from_zero, check.nowhere),
    "g_0 = 0, in equal parts": check.made(check.from_zero, check.in_parts),
}
said = {name: form([begin], [g], [1.0], ["q"])[0] for name, form in forms.items()}
page.table(
    ["form", *(f"turn {k}" for k in range(len(g))), "sum"],
    [[name, *(page.number(x) for x in row), page.number(sum(row))] for name, row in said.items()],
)

# %% [markdown]
# On all rollouts, with and without the rest:

# %%
page.side_by_side(
    batch, ours, replace(rudder(residual=False), name="rudder, nothing for what was missed"), trajectory=place
)

# %% [markdown]
# The network knows its rollouts by heart, so hardly anything is missed. With fewer steps more would be left to the end.
#
# ## 7. How it learned
#
# The stored runs are of the default, without cross-fitting.

# %%
method_curves.beside_grpo(["rudder"])

# %% [markdown]
# Live, from the same warm start; the network is fitted anew to the rollouts of each update:

# %%
method_curves.continue_live(policy.load("tiny@chain"), env, ours)

# %% [markdown]
# **What its authors report**, by the abstract: on artificial tasks with delayed rewards it is faster than Monte Carlo,
# and exponentially faster than TD($\lambda$), tree search and reward shaping. On top of PPO it has better scores at
# Atari games, most where rewards are delayed. We have no figure, and nothing of language agents.
#
# ## 8. Exercise: write it
#
# About 10 minutes. The predictions are given.


# %% tags=["exercise"]
def turn_credit(start, after, outcome, group):
    """Return the credit of every turn, a row a rollout.

    start: the outcome predicted before the first turn, one a rollout.  after: predictions after each turn, a row a
    rollout.  outcome: how each ended.  group: the question of each.
    """
    # SOLUTION 1: changes of the prediction, and the rest at the end
    credit = []
    for g, row, r in zip(start, after, outcome, strict=True):
        change = [b - a for a, b in zip([g, *row], row, strict=False)]
        change[-1] += r - row[-1]
        credit.append(change)
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, what was missed in equal parts:

# %%
check.ex(check.made(closing=check.in_parts))

# %% [markdown]
# ## 9. Where to go on
#
# - [IGPO](igpo.ipynb): the policy's own belief in the right answer in the place of a fitted prediction.
# - [Shapley values](shapley.ipynb): the mean over all orders, not only the order of play.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(ours)
