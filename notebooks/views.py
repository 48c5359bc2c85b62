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
# # Six ways to look at credit
#
# Every view is a picture first: it stays when the kernel is gone, in a mail, on paper. `.live()` makes it answer the
# mouse and the keys (each view lists its keys at its end), `.to_html(path)` writes one file that needs no network and
# no kernel, `.to_frame()` gives what is on the screen as a table.
#
# The rollouts: a policy of a million parameters that searches among items by their properties. It was warm-started
# only, so it is right about as often as a guess. That is where credit has work to do.

# %%
from functools import partial

from workbench import compare, envs, evidence, policy, recipes, search
from workbench.policy import Settings
from workbench.recompute import turned
from workbench.rollout import play
from workbench.view import CollapseBoard, CreditMap, Link, Recompute, TurnHeat

env, player = envs.load("facet", items=8, clues=2), policy.load("tiny@facet")
tasks = env.tasks("test", 10, seed=0)
rollouts = play(player, env, tasks, size=6, settings=Settings(max_new_tokens=24), seed=0, run="views")
methods = [recipes.grpo(kl=0.0), recipes.gigpo(reward=None), recipes.igpo(), recipes.a2tgpo()]
rollouts = evidence.collect(rollouts, evidence.for_recipe(methods, rollouts, policy=player))
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {batch['outcome'].values.mean():.0%} right")

# %% [markdown]
# ## All rollouts at once
#
# `TurnHeat`: a row is a rollout, a cell a turn. Sort by disagreement to see where methods part; drag to select; click a
# cell to open the rollout. A `Link` carries the selection to other views, and to Python.

# %%
link = Link()
heat = TurnHeat(rollouts, methods, sort="rank")
heat.live(link=link)

# %% [markdown]
# What was selected is a value: ids, turns, and an expression for `frame.query(...)`. Nothing is selected until you do.

# %%
link.selection

# %% [markdown]
# The rollouts on which the methods agree least, as a table:

# %%
heat.apart(most=5)

# %% [markdown]
# ## One rollout
#
# `CreditMap`: what the policy wrote, washed in the credit of a method; a bar per turn and method beside it. `[` and `]`
# change the method, `j` and `k` walk the turns. The ledger at the end says whether a method's credit sums to what it
# promises. **re-roll** plays a turn again from its exact prefix: what it was worth, with its interval, beside what each
# method claims.

# %%
mixed = compare.disagreement(*(recipe.credit(batch, "turn") for recipe in methods[1:3]), batch)[0]
chosen = CreditMap(rollouts, mixed.trajectory, methods)
chosen.live(link=link, reroll=partial(search.reroll, policy=player, env=env))

# %% [markdown]
# ## What if
#
# `Recompute`: turn a knob that several methods share, or edit a reward, and all methods are computed again while the
# hand moves. The changed methods are values, too: `view.recipes`, or in code:

# %%
Recompute(rollouts, methods, mixed.trajectory).live()

# %%
print(turned(recipes.gigpo(reward=None), {"gamma": 0.5}))

# %% [markdown]
# ## Why nothing is learned
#
# `CollapseBoard` of one batch is an autopsy: which groups have no credit, why, what would help, and how likely that
# was. Of a run (`CollapseBoard(run)`) it shows the same for every step, and opens the groups behind it.

# %%
CollapseBoard(rollouts, methods).live()

# %% [markdown]
# ## And in time
#
# `Curves` draws seeds, their mean and its interval; [the comparison of methods](compare/training.ipynb) is made of
# such curves. `run.monitor()` watches a run and stops it; [training](train.ipynb) shows it.
