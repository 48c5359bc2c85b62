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
# # All methods: what they need, what they answer, where they disagree
#
# Every method here answers one question, *which turn earned the reward?*, and each needs something to answer it with.
# First the list, ordered by what is needed. Then all of them **on the same rollouts**: who agrees with whom, where they
# part, and why.
#
# New here? Begin with the [start notebook](start.ipynb), then
# [GRPO from the numbers up](../tutorials/101_from_one_rollout_to_grpo.ipynb), then [IGPO](methods/igpo.ipynb).

# %% tags=["parameters"]
SEED = 3

# %%
from textwrap import fill

import torch
from IPython.display import display

from workbench import compare, envs, policy
from workbench.policy import Settings
from workbench.rollout import play
from workbench.teach import method_index as index
from workbench.teach import method_page as page
from workbench.view import CreditMap, Overview

# %% [markdown]
# ## 1. By what they need
#
# From what every rollout carries to what has to be asked of a model. A method stands where the dearest thing it reads
# stands. The words are those of the catalogue (`workbench methods`).

# %%
index.ordered()

# %% [markdown]
# ## 2. By what they answer

# %%
index.questions()

# %% [markdown]
# ## 3. One set of rollouts
#
# Sixteen questions, four rollouts each, of `tiny` in a world in which every search narrows a list; the world knows
# which searches help. All evidence that this policy and this world can give is collected once.

# %%
env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")
questions = env.tasks("test", 16, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="all")
rollouts, methods, lacking = index.collected(rollouts, player)
batch = rollouts.batch()
credits = compare.credits_of(list(methods.values()), batch)
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
print(fill(f"{len(methods)} methods can be computed on them: {', '.join(methods)}", 100))
page.table(["not here", "because these rollouts lack"], sorted(lacking.items()))

# %% [markdown]
# ## 4. Who agrees with whom
#
# Rank correlation of credit over all turns: 1 is the same order of turns, 0 no relation, below 0 the opposite. Methods
# that agree stand beside each other.

# %%
index.matrix(credits)

# %% [markdown]
# Inside a question, methods that compare outcomes alone give all turns the same order: they differ in size, and only
# between questions. As soon as a method looks at something else, it is another method. The least agreement within each
# kind of need, and the pairs that agree least of all (no method in more than two):

# %%
kinds = {name: index.group_of(recipe) for name, recipe in methods.items()}
rows = []
for need in dict.fromkeys(kinds.values()):
    inside = {name: credits[name] for name in kinds if kinds[name] == need}
    if len(inside) > 1:
        worst = index.least_alike(inside, 1)
        rows.append([need, len(inside), *(f"{value:+.2f} (`{a}`, `{b}`)" for value, a, b in worst)])
page.table(["need", "methods", "least agreement inside"], rows)

# %%
pairs = index.least_alike(credits)
page.table(["one", "other", "rank correlation"], [[f"`{a}`", f"`{b}`", f"{value:+.2f}"] for value, a, b in pairs])

# %% [markdown]
# ## 5. Why: what each thinks of a kind of turn
#
# The oracle of this world says which searches bring the answer closer, and whether an answer came too early. Mean
# credit of each kind of turn, in units of the method's own mean size of credit:

# %%
index.by_kind(rollouts, batch, credits)

# %% [markdown]
# Read it by columns. A method that cannot tell a search that helps from one that does not has the same number in the
# first two. A method with a larger number for *answer too early* than for *search that helps* pays for giving up. The
# numbers are of a few dozen rollouts of one small policy: they show what the formulas look at, not which one trains
# better; for that see [the comparison by training](compare/training.ipynb).
#
# ## 6. Where two of them part
#
# The pair that agrees least, on the rollout on which their shares of credit are furthest apart:

# %%
_, one, other = pairs[0]
worst = compare.disagreement(credits[one], credits[other], batch)[0]
chosen = rollouts[worst.trajectory]
print(f"{one} and {other} on {chosen.id}, outcome {chosen.outcome:g}: {worst.score:.2f} apart (1 is the opposite)")
CreditMap(rollouts, chosen.id, [methods[one], methods[other]])

# %% [markdown]
# And the turn on which most methods take a different side:

# %%
signs = torch.stack([torch.where(c.known, c.values, torch.zeros_like(c.values)).sign() for c in credits.values()])
split = torch.minimum((signs > 0).sum(0), (signs < 0).sum(0))
turn = int(split.argmax())
rollout = rollouts[int(batch.turn_trajectory[turn])]
place = int(batch.turn_index[turn])
sides = {side: [n for n, s in zip(credits, signs[:, turn].tolist(), strict=True) if s == side] for side in (1, -1, 0)}
print(f"{rollout.id}, turn {place}: {rollout.turns[place].action.text.strip()!r}; outcome {rollout.outcome:g}")
words = {1: "praise it", -1: "blame it", 0: "say nothing"}
display(page.table(["", "methods"], [[words[s], ", ".join(f"`{n}`" for n in names)] for s, names in sides.items()]))

# %% [markdown]
# The questions that were sometimes solved and sometimes not, for three methods that need different things. Only here
# has GRPO anything to say; on all others its row would be zeros:

# %%
mixed = rollouts[[t.id for g in rollouts.groups if len({t.outcome for t in g}) > 1 for t in g]]
Overview(mixed, [methods[name] for name in ("grpo", "matchtir", "igpo") if name in methods])

# %% [markdown]
# ## Where to go on
#
# - Each method's notebook says at its top when to use it; then by hand, on real rollouts, where it fails, how it
#   learned, paper against code, an exercise.
# - [All methods beside GRPO](compare/all_methods.ipynb), by training.
# - [Six ways to look at credit](views.ipynb), live; [training](train.ipynb); the
#   [glossary](../tutorials/glossary.md) of what a training reports.
# - A method of your own is a chain of stages: `CONTRIBUTING.md` shows one.
