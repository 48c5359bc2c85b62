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
# # Train, watch, leave, come back
#
# Training runs in a process of its own. The cell that starts it returns at once; restart the kernel, close the browser:
# it goes on. What you hold is a `Run`, a handle on a folder.

# %%
import tempfile
import time
from pathlib import Path

from workbench import envs, policy, recipes, runs
from workbench.runs import Run
from workbench.train import launch, resume
from workbench.train.plan import Plan

folder = Path(tempfile.mkdtemp()) / "first"  # leave it out, and the run goes to the first free runs/grpo-chain-001

# %%
plan = Plan(steps=20, groups=4, size=6)
run = launch(recipes.grpo(kl=0.0), envs.load("chain", hops=1), "tiny", plan, folder, keep_every=5)
run

# %% [markdown]
# ## Monitor
#
# A live view with buttons: pause and stop take effect after the step that is going on, with a checkpoint. Restart the
# kernel or reload the page, and `Run(path).monitor()` attaches again: all it knows stands in the folder. A click on a
# rollout opens its credit map, a click on a title says what is measured.

# %%
run.monitor()

# %% [markdown]
# ## Watch
#
# `run.watch()` draws once. With `follow=True` it stays and draws anew in the same place until the run ends. The stop
# button of the notebook ends the watching, never the run.

# %%
run.watch(follow=True, every_s=1.0)

# %% [markdown]
# ## Stop, and go on
#
# `run.pause()`, `run.stop()` and `run.kill()` do what they say; `resume(path)` goes on from the last checkpoint, to the
# same bits on a CPU. In a new kernel, `Run(path)` finds it again.

# %%
longer = Plan(steps=12, groups=4, size=6)
other = launch(recipes.reinforce(), envs.load("chain", hops=1), "tiny", longer, folder.parent / "second", keep_every=5)
while other.alive and other.status.step < 3:
    time.sleep(0.2)
other.stop()
print(other.wait(120).state, "after", other.status.step, "steps")

# %%
again = Run(other.path)  # as a new kernel would
resume(again.path)
print(again.wait(300).state, "after", again.status.step, "steps")
runs.list(folder.parent)

# %% [markdown]
# ## What it played, and what it learned
#
# Some steps keep all their rollouts, with the credit they taught with. They open like any others.

# %%
kept = run.rollouts()
taught = kept.batch()["in_update"]
print(f"{len(kept)} rollouts of the last step, {int(taught.values.sum())} of them entered the update")
run.credit_map(0)

# %%
trained = policy.load(run.weights)
print(trained.name.split("/")[-1], "is a policy like any other:", type(trained.engine).__name__)
