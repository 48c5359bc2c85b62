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
# # DR-Venus: information gain for long browsing
#
# **[IGPO](igpo.ipynb) for a hundred turns: only turns that opened a page are scored, malformed turns are punished,
# and all gains of the batch are scaled to the size of the outcomes.**
#
# Made to train a 4B agent with ten thousand open examples. Every change answers a trouble of IGPO: noisy gains of
# turns that found nothing, gains and outcomes of unlike size, turns that break the format, long horizons.
#
# **Use it when** rollouts are long, only some tools can find anything, and turns break the format. It costs a call of
# the policy a scored turn. **Not when** batches are small: one number for the whole batch sets the size of all gains
# (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
from dataclasses import replace

from IPython.display import display

from workbench import envs, evidence, policy
from workbench.policy import Settings
from workbench.recipes import dr_venus, igpo_released
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import dr_venus as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = dr_venus(kl=0.0)

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(dr_venus(), policy=player)

# %% [markdown]
# ## 2. The equation
#
# A turn is scored if it called the tool; its gain is the difference of log-probability to the **last scored** turn. A
# malformed turn's gain, and a malformed answer's outcome, is **replaced by -1**. Gains and outcomes become z-scores,
# each in its own pool of the question, and gains get **one scale for the whole batch**:
#
# $$s = \min\Big(10,\; \frac{\max(0.3,\; \text{mean}\,|\hat R|)}{\text{mean}\,|\hat r|}\Big), \qquad
# A_t = s\,\hat r_t + \gamma A_{t+1} \;\text{ over the scored turns}, \qquad \gamma = 0.95$$
#
# $\hat r_t$ is the z-score of a gain, $\hat R$ that of an outcome; both means are over the whole batch. A turn without
# a score takes the credit of the next one and adds no discount.
#
# In the drawing below, most is the scale $s$: the same two z-scores once more, and the ratio of their mean sizes.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Two rollouts. Turn 1 of the first one called a tool that is not scored; the second one breaks the format at its first
# turn.

# %%
gains = [[0.8, None, 0.6], [0.7, 0.1]]
malformed = [[0, 0, 0, 0], [1, 0, 0]]
outcome, gamma = [1.0, 0.0], 0.95
found = predict("Rollout 1's first turn gained 0.7 and is malformed. Is it praised or blamed?", None)


# %%
def z(x, pool):
    mean = sum(pool) / len(pool)
    return (x - mean) / (sum((y - mean) ** 2 for y in pool) / len(pool)) ** 0.5


punished = []
for row, flags in zip(gains, malformed, strict=True):
    punished.append([-1.0 if b else g for g, b in zip(row, flags, strict=False)])
pool = [g for row in punished for g in row if g is not None]
hat = [[None if g is None else z(g, pool) for g in row] for row in punished]
ends = [z(r, outcome) for r in outcome]
size = sum(abs(x) for row in hat for x in row if x is not None) / len(pool)
s = min(10, max(0.3, sum(abs(x) for x in ends) / 2) / size)
print(f"gains after penalties: {punished}, scale {s:.3f}")
mine = []
for row, end in zip(hat, ends, strict=True):
    back = [end]
    for x in reversed(row):
        back.append(back[-1] if x is None else s * x + gamma * back[-1])
    mine.append(back[::-1])

beliefs = [[0.8, None, 1.4, None], [0.7, 0.8, None]]  # log-probabilities whose differences are the gains
small = page.hand(
    ["q", "q"],
    {"gold_logprob": beliefs, "bad_format": malformed},
    {"gold_logprob_start": [0.0, 0.0], "outcome": outcome},
)
display(page.agrees(mine, paper, small))
found.reveal("praised" if mine[1][0] > 0 else "blamed")

# %% [markdown]
# Turn 1 of rollout 0 has the credit of turn 2: without a score it is no step of the sum, and adds no discount.

# %% [markdown]
# ## 4. On real rollouts
#
# Every search is scored in this world. What is malformed here: a line that is neither a search nor an answer.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="dr_venus")
rollouts = evidence.collect(
    rollouts, evidence.for_recipe([paper, igpo_released(kl=0.0, entropy=0.0)], rollouts, policy=player)
)
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, paper)

# %% [markdown]
# Half of the drawing above is the scale, which is one number for the batch. Here it is, and the other stages with gains
# left as they are (`norm="separate"`):

# %%
scale = next(step.credit for step in paper.trace(batch) if "matching_scale" in step.label)
solved = next(t for t in rollouts if t.outcome == 1.0 and len(t.turns) > 2)
print(f"gains are multiplied by {float(scale.values[0]):.2f}")
Ribbons(rollouts, solved.id, dr_venus(norm="separate", kl=0.0))

# %%
CreditMap(rollouts, solved.id, [igpo_released(kl=0.0, entropy=0.0), paper])

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **Other questions move the scale.** It is one number for the batch, so a question's credit depends on which other
# questions happened to be sampled. Built to show it: the same two rollouts, alone and beside a question whose
# outcomes are equal.


# %%
def batch_of(others):
    """The question from above, and others on which every outcome is 1."""
    names = ["q", "q"] + ["other"] * others
    return page.hand(
        names,
        {
            "gold_logprob": beliefs + [[0.3 * (k + 1), None] for k in range(others)],
            "bad_format": malformed + [[0, 0]] * others,
        },
        {"gold_logprob_start": [0.0] * len(names), "outcome": outcome + [1.0] * others},
    )


page.table(
    ["beside it", "credit of rollout 0"],
    [[f"{n} solved rollouts", page.line(page.turns(paper, batch_of(n))[0])] for n in (0, 4, 12)],
)

# %% [markdown]
# **A penalty drowns the gains.** The -1 goes into the pool before the z-score. Where gains are a hundredth, one
# malformed turn is all that is left of the question:

# %%
tiny_gains = [[0.01, 0.03, None], [0.02, 0.03, None], [0.01, 0.05, None]]
rows = []
for word, flags in (("none malformed", [0, 0, 0]), ("one turn malformed", [1, 0, 0])):
    drowned = page.hand(
        ["q"] * 3,
        {"gold_logprob": tiny_gains, "bad_format": [flags, [0, 0, 0], [0, 0, 0]]},
        {"gold_logprob_start": [0.0] * 3, "outcome": [0.0, 0.0, 0.0]},
    )
    rows.append([word, *(page.line(row) for row in page.turns(paper, drowned)[1:])])
page.table(["", "credit of rollout 1", "of rollout 2"], rows)

# %% [markdown]
# **What the floor keeps alive may be noise.** Both rows above are of a question that nobody solved. Its outcomes say
# nothing, and yet there is credit: with all outcomes equal the gains still have a mean size of 0.3.
#
# ## 6. The paper and its code
#
# The recipe *is* the release (`norm="scaled_separate"` is what its script ships). Its other modes, on a real rollout.
# A comment in the script recommends `raw_ig` where rollouts get shorter; the script itself does not use it.

# %%
modes = ("separate", "joint", "raw_ig")
others = [replace(dr_venus(norm=norm, kl=0.0), name=f"dr_venus, {norm}") for norm in modes]
page.side_by_side(batch, paper, *others, trajectory=batch.trajectories.index(solved.id))

# %% [markdown]
# Three options that its script leaves off: score every second turn only (half the probes), let late gains count less,
# and a **warm-up**: outcomes alone until a running mean of them is high enough (`evidence.WarmUp`).

# %%
shut = batch.with_column("gains_on", "trajectory", [0.0] * batch.count("trajectory"))
options = [
    replace(dr_venus(kl=0.0, every_turn=2), name="every second turn"),
    replace(dr_venus(kl=0.0, diminish=0.5), name="late gains count less"),
    replace(dr_venus(kl=0.0, warm_up=True), name="during the warm-up"),
]
page.side_by_side(shut, paper, *options, trajectory=batch.trajectories.index(solved.id))

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["dr_venus"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**, for their model of 4B (not checked here):
#
# | | BrowseComp | BrowseComp-ZH | xBench-2505 | DeepSearchQA | GAIA-text |
# |---|---|---|---|---|---|
# | before this training | 26.8 | 35.7 | 69.0 | 37.7 | 65.4 |
# | after it | 29.1 | 37.7 | 74.7 | 39.6 | 64.4 |
#
# ## 8. Exercise: write it
#
# About 30 minutes; it has many small rules, and each has its place.


# %% tags=["exercise"]
def turn_credit(gain, bad, outcome, group, gamma):
    """Return the credit of every turn, a row a rollout; the last turn of each row is the answer.

    gain: a row a rollout, one entry a turn but the answer; None where the turn was not scored.
    bad: 1 where a turn (the last is the answer) is malformed, else 0.  outcome: one a rollout.
    group: the question of each.  gamma: discount a scored turn.
    """

    # SOLUTION 1: penalties, two pools, one scale, sums over scored turns
    def z(x, pool):
        mean = sum(pool) / len(pool)
        square = sum((y - mean) ** 2 for y in pool) / len(pool)
        return 0.0 if max(pool) == min(pool) else (x - mean) / square**0.5

    rows = []
    for row, flags in zip(gain, bad, strict=True):
        rows.append([-1.0 if b else g for g, b in zip(row, flags, strict=False)])
    ends = [-1.0 if flags[-1] else r for r, flags in zip(outcome, bad, strict=True)]
    hats, tops = [], []
    for row, r, g in zip(rows, ends, group, strict=True):
        mine = [k for k, h in enumerate(group) if h == g]
        pool = [x for k in mine for x in rows[k] if x is not None]
        hats.append([None if x is None else z(x, pool) for x in row])
        tops.append(z(r, [ends[k] for k in mine]))
    known = [abs(x) for row in hats for x in row if x is not None]
    size = sum(known) / len(known) if known else 0.0
    s = min(10, max(0.3, sum(abs(x) for x in tops) / len(tops)) / (size + 1e-6))
    credit = []
    for row, end in zip(hats, tops, strict=True):
        back = [end]
        for x in reversed(row):
            back.append(back[-1] if x is None else s * x + gamma * back[-1])
        credit.append(back[::-1])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, a scale for each question:

# %%
check.ex(check.made(scaled=check.of_question))

# %% [markdown]
# ## 9. Where to go on
#
# - [IGPO](igpo.ipynb): where it comes from. [A²TGPO](a2tgpo.ipynb): another cure for the same troubles.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
