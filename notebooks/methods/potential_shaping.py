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
# # Potential shaping: did this turn get closer, without changing what is best?
#
# **Give every state a number that says how close it is, and pay each turn for the change of that number. Whatever the
# numbers are, the best policy stays the best.**
#
# That is a theorem of 1999, and it needs two things which trainers like to break: the number is 0 once the episode is
# over, and nothing is normalised before the sum. Before this one: [Dr. GRPO](dr_grpo.ipynb) and [IGPO](igpo.ipynb),
# whose probe of the right answer is the potential here.
#
# **Use it when** a rough measure of "how close" is at hand and must not change which policy is best. With the probe it
# costs at most a call of the policy a turn. **Not when** you want to know which turn helped: a turn hears where it
# began, not what it changed (section 5).

# %% tags=["parameters"]
SEED = 6

# %%
from dataclasses import replace
from itertools import product

import torch
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.policy import Settings
from workbench.recipes import dr_grpo, grpo, potential_shaping
from workbench.rollout import play
from workbench.teach import method_curves, method_told, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import potential_shaping as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
shaping = potential_shaping()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(shaping, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $\Phi_t$ is the potential after turn $t$, $\Phi_0$ before the first, $\Phi_T = 0$ after the last. The outcome is the
# reward of the last turn:
#
# $$r'_t = r_t + \gamma\,\Phi_t - \Phi_{t-1}, \qquad G'_t = r'_t + \gamma\, G'_{t+1}, \qquad
# A_t = G'_t - \text{mean of } G'_t \text{ over the siblings}$$
#
# In the sum every potential cancels but one: $G'_t = G_t - \Phi_{t-1}$. What a turn did does not move $\Phi_{t-1}$;
# it says where the turn *began*, as a baseline does.

# %%
shaping

# %% [markdown]
# ## 3. By hand
#
# Two rollouts of a question, $\gamma = 1$. The potential is the log-probability of the right answer.

# %%
start = -2.0
after = [[-1.0, -0.5, -0.1], [-3.0, -2.5]]  # the last of each is not used: the episode is over
outcome = [1.0, 0.0]
nearer = predict(
    "Rollout 0 came closer at first, rollout 1 did not. Does that change their first turns' credit? (yes, no)", None
)

# %%
chains = [[start, *row[:-1], 0.0] for row in after]
paid = [[b - a for a, b in zip(chain, chain[1:], strict=False)] for chain in chains]
print("paid for the change:", [page.line(row) for row in paid], "sums:", [page.number(sum(row), 1) for row in paid])

to_come = []
for row, r in zip(paid, outcome, strict=True):
    rewards = [*row[:-1], row[-1] + r]
    to_come.append([sum(rewards[t:]) for t in range(len(rewards))])
mine = []
for row in to_come:
    same = [[other[t] for other in to_come if t < len(other)] for t in range(len(row))]
    mine.append([x - sum(peers) / len(peers) for x, peers in zip(row, same, strict=True)])

begun = {"gold_logprob_start": [start] * 2, "outcome": outcome}
small = page.hand(["q", "q"], {"gold_logprob": after}, begun)
display(page.agrees(mine, shaping, small))
plain = [r - sum(outcome) / 2 for r in outcome]
nearer.reveal("no" if all(abs(row[0] - a) < 1e-9 for row, a in zip(mine, plain, strict=True)) else "yes")

# %% [markdown]
# Both rollouts are paid the same in all, $-\Phi_0$, so the first turn gets what it gets without shaping. At the
# second turn rollout 1 is ahead although it failed: it began further away.
#
# **The promise, counted out.** Two turns, left or right each time, four ends. Best is left, left. The potential is
# wrong on purpose: it says that right is closer. All groups of three rollouts that an undecided policy can play are
# written down, and its expected push towards *left* is added up, at each place where it decides.

# %%
worth = {"LL": 1.0, "LR": 0.4, "RL": 0.5, "RR": 0.0}
close = {"": -2.0, "L": -3.0, "R": -0.5, "LL": -3.0, "LR": -2.0, "RL": -0.5, "RR": -0.2}
groups = list(product(worth, repeat=3))
played = [path for one in groups for path in one]
question = [str(number) for number, one in enumerate(groups) for _ in one]
ends = [worth[path] for path in played]
where = [close[""]] * len(played), [[close[path[0]], close[path]] for path in played], ends, question


def push(credit):
    """Expected push towards left at each place; a half is what log-probability moves by, for two equal choices."""
    total = dict.fromkeys(("", "L", "R"), 0.0)
    for path, row in zip(played, credit, strict=True):
        for t, a in enumerate(row):
            total[path[:t]] += a * (0.5 if path[t] == "L" else -0.5) / len(groups)
    return list(total.values())


flat = page.hand(
    question, {"gold_logprob": [[0.0, 0.0]] * len(played)}, {"gold_logprob_start": [0.0] * len(played), "outcome": ends}
)
bent = page.hand(question, {"gold_logprob": where[1]}, {"gold_logprob_start": where[0], "outcome": ends})
none, with_potential = push(page.turns(shaping, flat)), push(page.turns(shaping, bent))
places = ["first turn", "second, after left", "second, after right"]
page.table(
    ["push towards left", *places],
    [["no potential", *map(page.number, none)], ["misleading potential", *map(page.number, with_potential)]],
)

# %%
gap = max(abs(a - b) for a, b in zip(none, with_potential, strict=True))
page.markdown(
    f"Largest difference: **{gap:.0e}**. In a single group the two differ; over all {len(groups)} they push alike."
)

# %% [markdown]
# ## 4. On real rollouts
#
# Every search narrows a list, so the belief in the right answer moves at every turn. One probe before the first turn,
# one after each; a probe that siblings have in common is made once.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="shaping")
rollouts = evidence.collect(rollouts, evidence.for_recipe([shaping, grpo(kl=0.0)], rollouts, policy=player))
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, shaping)

# %% [markdown]
# The innermost rows are the potential, with 0 put at the end; then come its changes, the outcome added to them, the
# sum and the comparison.

# %%
mixed = [t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0]
solved = max(mixed, key=lambda t: len(t.turns))
Ribbons(rollouts, solved.id, shaping)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), shaping])

# %%
page.promises(shaping, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **Where the promise ends.** The same count, with the usual slips. A minus means that a policy which follows the push
# goes right, and ends at half of what it could have.

# %%
flips = predict(
    "Which slip turns the first decision around: the last potential kept, normalising first, or both?", None
)

# %%
slips = {
    "the recipe": check.made(),
    "last potential kept": check.made(end=check.kept),
    "last change left out, as in IGPO's rewards": check.made(end=check.unpaid),
    "each reward normalised at its turn, then summed": check.made(first=True, divide=True),
    "summed, then divided by the spread": check.made(divide=True),
    "the same without potential": check.made(f=check.nothing, divide=True),
}
pushes = {word: push(solution(*where, 1.0)) for word, solution in slips.items()}
display(page.table(["push towards left", *places], [[word, *map(page.number, row)] for word, row in pushes.items()]))
turned = [pushes[word][0] < 0 for word in ("last potential kept", "each reward normalised at its turn, then summed")]
flips.reveal("both" if all(turned) else "one of them" if any(turned) else "neither")

# %% [markdown]
# - **The last potential must be 0.** Kept, it pays for the place where a rollout ends. Left out, as where a method
#   pays gains of belief and the outcome in their stead at the answer, the hope at the end is never taken back.
# - **Normalising before the sum** divides the same $\Phi_1$ by one spread at the first turn and by another at the
#   second. It no longer cancels with itself.
# - **Dividing after the sum**, as GRPO does, leaves the first turn as it is without a potential. Later turns keep
#   their sign here, but the spread is now mostly that of the potential, and the outcome is small beside it.
#
# **On average nothing changes; in one group much does.** Two failed rollouts. The first search of one led astray:

# %%
astray = page.hand(
    ["q", "q"],
    {"gold_logprob": [[-6.0, -6.0, None], [-1.0, -1.0, None]]},
    {"gold_logprob_start": [-2.0] * 2, "outcome": [0.0, 0.0]},
)
words = ("led astray by its first search", "brought closer by its first search")
page.table(
    ["rollout", "credit by turn"],
    [[w, page.line(row)] for w, row in zip(words, page.turns(shaping, astray), strict=True)],
)

# %% [markdown]
# The search that did it gets 0, and whatever the rollout does next is praised, for having begun far away. It cancels
# over many rollouts, because another choice at that place would be praised as much. A potential that guesses what will
# follow makes credit smaller, as a baseline does; one on another scale adds noise. A log-probability has no floor, a
# probability lies between 0 and 1, as the outcome does:

# %%
belief = {"belief": "gold_logprob", "belief_start": "gold_logprob_start"}
for name, source in belief.items():
    c = batch[source]
    batch = batch.with_column(name, c.level, torch.where(c.known, c.values.exp(), 0.0), c.known)
rows = []
for word, recipe in (
    ("no potential (Dr. GRPO)", dr_grpo()),
    ("log-probability", shaping),
    ("probability", potential_shaping(potential="belief")),
):
    said = page.turns(recipe, batch)
    first, later = [row[0] for row in said], [x for row in said for x in row[1:]]
    rows.append([word, *(f"{sum(map(abs, v)) / len(v):.3f}" for v in (first, later))])
page.table(["potential", "mean size of credit, first turns", "later turns"], rows)

# %% [markdown]
# **Does it tell the turn that helped?** Measured against the oracle of the chain world:

# %%
method_told.which_turn("potential_shaping")

# %% [markdown]
# Not to be told from the outcome alone (`grpo`). The theorem promises that nothing is spoilt, not that anything is
# gained: a turn is not told what *it* changed, but only that it began where it did.
#
# ## 6. The theorem and this recipe
#
# - The theorem is about *which policy is best*, for every reward and every potential that is a function of the state
#   (abstract read, the proof from textbooks). What is kept here is the average push on the policy: $\Phi_{t-1}$ does
#   not depend on what turn $t$ does.
# - A group's mean stands in the place of a value. It contains the turn itself, so every push shrinks by $1 - 1/m$,
#   where $m$ siblings got so far; alone there, it is 0.
# - $\Phi$ is the policy's own belief and moves as it learns. Within one rollout it stands still, which is enough for
#   the sum; that the promise holds for moving potentials, too, was shown later (Devlin and Kudenko 2012).
# - Also shown in 1999: no *other* added reward keeps the promise in every world. Gains of a probe that are not taken
#   back at the end are such another reward.
#
# With a discount the rewards are others, and the sum is the same but for the discount of the outcome:

# %%
discounted = replace(potential_shaping(gamma=0.9), name="gamma = 0.9")
page.side_by_side(batch, shaping, discounted, trajectory=batch.trajectories.index(solved.id))

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["potential_shaping"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, shaping)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, shaping)

# %% [markdown]
# **What its authors report**: we have no figure. The abstract says that potentials made from distances and from
# subgoals can lead to substantial reductions in learning time; language models came later.
#
# ## 8. Exercise: write it
#
# About 15 minutes.


# %% tags=["exercise"]
def turn_credit(start, after, outcome, group, gamma):
    """Return the credit of every turn, a row a rollout.

    start: potential before the first turn, one a rollout.  after: a row a rollout: the potential found after each turn,
    the last one too.  outcome: one a rollout, paid at its last turn.  group: the question of each.  gamma: discount.
    A turn that no sibling got to has credit 0.
    """
    # SOLUTION 1: pay, sum, compare
    to_come = []
    for s, row, r in zip(start, after, outcome, strict=True):
        chain = [s, *row[:-1], 0.0]
        pay = [gamma * b - a for a, b in zip(chain, chain[1:], strict=False)]
        pay[-1] += r
        follows, back = 0.0, []
        for x in reversed(pay):
            follows = x + gamma * follows
            back.append(follows)
        to_come.append(back[::-1])
    credit = []
    for row, g in zip(to_come, group, strict=True):
        mine = [other for other, h in zip(to_come, group, strict=True) if h == g]
        same = [[other[t] for other in mine if t < len(other)] for t in range(len(row))]
        credit.append([x - sum(peers) / len(peers) for x, peers in zip(row, same, strict=True)])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, the last potential kept:

# %%
check.ex(check.made(end=check.kept))

# %% [markdown]
# ## 9. Where to go on
#
# - [IGPO](igpo.ipynb): the same probe, paid as gains and not taken back.
# - [SPAE](spae.ipynb) and [SIOP](siop.ipynb): potentials from accuracy and confidence, and from what the group says.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References
#
# - That the last potential must be 0: M. Grześ, *Reward shaping in episodic reinforcement learning* (AAMAS 2017).
# - Potentials that move while one learns: S. Devlin and D. Kudenko, *Dynamic potential-based reward shaping* (AAMAS
#   2012).
# - Shaping is a way of beginning from other values: E. Wiewiora, *Potential-based shaping and Q-value initialization
#   are equivalent* (2003), [arXiv:1106.5267](https://arxiv.org/abs/1106.5267).
#
# Of these the abstracts were read.

# %%
page.references(shaping)
