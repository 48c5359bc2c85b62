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
# # Every method beside GRPO
#
# **Does any way of sharing out credit beat GRPO here, how large would a difference have to be for five seeds to tell
# it, and what do those that learn more have in common?**
#
# Every recipe of this library that can be trained in these worlds was trained from the same start, on the same tasks
# and as many rollouts, at its own best of three rates. The runs are stored in `datasets/results/training`; all numbers
# below are computed from them when the page runs. [Methods compared by training](training.ipynb) looks at seven of
# them closely: curves, collapse, credit maps, and who learns to stop early.

# %%
from pathlib import Path

from IPython.display import display

from workbench.teach import method_index as index
from workbench.teach import method_page as page
from workbench.train import across, compared, seeds, sweep, sweep_cost
from workbench.view import dots, intervals

RESULTS = Path("../../datasets/results/training")
lines = sweep.read(RESULTS)
runs = compared.reported(lines)
WORLDS = list(sweep.WORLDS)
OWN = [w for w in sweep.OWN if compared.of(runs, w, "grpo")]
differences = {w: {d.method: d for d in compared.against(runs, w)} for w in (*WORLDS, *OWN)}
METHODS = [m for m in sweep.METHODS if any(m in differences[w] for w in WORLDS)]


def points(mean):
    """A difference of shares in points, with its interval."""
    return f"{100 * mean.mean:+.1f} [{100 * mean.low:+.1f}, {100 * mean.high:+.1f}]"


# %% [markdown]
# ## 1. What was run

# %%
one = runs[0]
shape = f"{one['steps']} steps x {one['groups']} tasks x {one['size']} rollouts"
rows = [
    [w, f"`{next(s['policy'] for s in sweep.starts(RESULTS) if s['world'] == w)}`", len(differences[w]) + 1]
    + [sum(x["world"] == w for x in runs), f"{sum(x['seconds'] for x in lines if x['world'] == w) / 3600:.1f}"]
    for w in (*WORLDS, *OWN)
]
display(page.table(["world", "start", "methods", "reported runs", "hours of one thread, with tuning"], rows))
left = [[w, f"`{m}`", why] for (w, m), why in sweep.LEFT_OUT.items()]
display(
    page.markdown(
        f"A run is {shape}; {len(sweep.SEEDS)} seeds each, and {len(sweep.RATES)} tuning runs that count for nothing "
        f"else. In the chain world belief moves at the last search, in the facet world at every turn. Not run: "
        f"{len(left)} pairs{':' if left else '.'}"
    )
)
if left:
    display(page.table(["world", "method", "why"], left))

# %% [markdown]
# ## 2. The whole field
#
# Tasks solved after training, minus GRPO's, in points; seed by seed, with the 95 % interval (Student's). A triangle:
# told apart from GRPO by the paired t-test, corrected for all methods of that world (Holm). A ring: not. The band in
# grey is the next section's: a true difference inside it is missed by five seeds more often than one time in five.

# %%
families = {}
for name in METHODS:
    families.setdefault(index.group_of(sweep.METHODS[name]), []).append(name)
families = {head: families[head] for head in [*index.NEEDS, index.ELSE] if head in families}


def estimate(d):
    """For the picture."""
    return intervals.Estimate(100 * d.mean.mean, 100 * d.mean.low, 100 * d.mean.high, d.told)


blur = {w: seeds.detectable(across.spread(runs, w), len(sweep.SEEDS)) for w in WORLDS}
panels = [intervals.Panel(w, {m: estimate(d) for m, d in differences[w].items()}, 100 * blur[w]) for w in WORLDS]
display(intervals.bundle(panels, families, "points of tasks solved, minus GRPO"), raw=True)


# %%
def listed(names):
    """Names in a sentence."""
    return ", ".join(f"`{n}`" for n in names) or "none"


def verdict(world):
    """Who is told apart from GRPO."""
    found = differences[world].values()
    better, worse = ([d.method for d in found if d.told and (d.mean.mean > 0) == up] for up in (True, False))
    alone = [d.method for d in found if not d.told and d.p is not None and d.p < 0.05]
    return (
        f"- **{world}**: better than GRPO: {listed(better)}; worse: {listed(worse)}; the other "
        f"{len(found) - len(better) - len(worse)} are not told apart. Below 0.05 alone, before the correction, but not "
        f"after it: {listed(alone)}."
    )


page.markdown("\n".join(verdict(w) for w in WORLDS))

# %% [markdown]
# ## 3. What five seeds can tell
#
# Seeds scatter, so a small difference drowns. Below, for the median scatter of the differences in each world: the
# smallest true difference that the test tells four times in five, alone and with the correction that the first of
# so many methods has to pass, and how many seeds a true difference of five points would take.

# %%
rows = []
for w in WORLDS:
    sd, many = across.spread(runs, w), len(differences[w])
    smallest = [seeds.detectable(sd, len(sweep.SEEDS), level) for level in (0.95, 1 - 0.05 / many)]
    rows.append([w, f"{100 * sd:.1f}", *(f"{100 * s:.1f}" for s in smallest), seeds.needed(0.05, sd)])
page.table(["world", "scatter, points", "told alone, points", "told as first of all", "seeds for 5 points"], rows)

# %% [markdown]
# *Not told apart* therefore does not mean *equal*. It means that a difference as large as papers report (a few points)
# would mostly have been missed here, and that one run more or less could turn many a ranking around. The same
# arithmetic holds for three seeds of a large model: `workbench.train.seeds.needed(effect, spread)` gives it for yours.
#
# ## 4. Families
#
# Methods of one kind of evidence together: the mean of their differences in each seed, and the interval over seeds.
# The mean of several methods scatters less than one; it says whether a *kind of knowledge* helped.

# %%
rows = [
    [head, listed(names), *("-" if (f := across.family(runs, w, names)) is None else points(f) for w in WORLDS)]
    for head, names in families.items()
    if [n for n in names if n != "grpo"]
]
page.table(["needs", "methods", *(f"{w}, points" for w in WORLDS)], rows)

# %% [markdown]
# ## 5. Do the two worlds agree?
#
# If a method were simply better, it would be so in both. Each dot is a method, named where it is far from 0.

# %%
gain = {w: {m: 100 * d.mean.mean for m, d in differences[w].items()} for w in (*WORLDS, *OWN)}
both = [m for m in METHODS if all(m in gain[w] for w in WORLDS)]
far = {m for w in WORLDS for m in sorted(both, key=lambda m: -abs(gain[w][m]))[:4]}
agreed = across.ranks(*([gain[w][m] for m in both] for w in WORLDS))
said = f"rank correlation {agreed.value:+.2f}, p {agreed.p:.2g}, {agreed.methods} methods" if agreed else "too few"
dot = tuple(dots.Dot(m, *(gain[w][m] for w in WORLDS), m in far) for m in both)
axes = [f"minus GRPO on {w}, points" for w in WORLDS]
display(dots.bundle([dots.Panel("Every method in both worlds", dot, said)], *axes), raw=True)

# %% [markdown]
# ## 6. Does sharper credit teach faster?
#
# The hope behind process credit: a method that tells a useful search from a useless one teaches more. The world's
# oracle knows which searches help. Across: credit of useful searches minus credit of useless ones over the **first**
# quarter of training, in units of the method's mean |credit| (before policies part, so that it is cause and not
# effect). Up: what was gained over GRPO at the end.

# %%
panels, verdicts = [], []
for w in WORLDS:
    sharp = {m: s for m in ("grpo", *differences[w]) if (s := across.told_by(runs, w, m)) is not None}
    gained = {m: gain[w].get(m, 0.0) for m in sharp}
    found = across.ranks(list(sharp.values()), list(gained.values()))
    ends = {m for by in (sharp, gained) for m in (*sorted(by, key=by.get)[:2], *sorted(by, key=by.get)[-2:])}
    said = f"rank correlation {found.value:+.2f}, p {found.p:.2g}" if found else "too few methods"
    panels.append(dots.Panel(w, tuple(dots.Dot(m, sharp[m], gained[m], m in ends) for m in sharp), said))
    verdicts.append((w, found, sharp["grpo"], sum(s > sharp["grpo"] for s in sharp.values()), len(sharp)))
display(dots.bundle(panels, "useful minus useless search, in units of mean |credit|", "minus GRPO, points"), raw=True)

# %%
page.markdown(
    "\n".join(
        f"- **{w}**: {above} of {many} methods tell useful from useless searches better than GRPO does ({own:+.2f}); "
        + (
            "over methods there is too little to correlate."
            if r is None
            else f"over methods sharper credit goes with {'more' if r.value > 0 else 'less'} learned, "
            f"{'and not by chance alone' if r.p < 0.05 else 'but no more than by chance'} "
            f"(rank correlation {r.value:+.2f}, p {r.p:.2g})."
        )
        for w, r, own, above, many in verdicts
    )
    + "\n\nThe p takes methods for independent, which they are not: several share a formula. A correlation over "
    "methods is no experiment, either; it says where one would look."
)

# %% [markdown]
# ## 7. What does it cost?
#
# Processor time of a step, evidence included, as a multiple of GRPO's (`python -m workbench.train.sweep_cost --out
# datasets/results/training`; one thread, side by side in one run), against what was gained. Right and low is dear for
# nothing.

# %%
costs = {(c["world"], c["method"]): c for c in sweep_cost.read(RESULTS)}
panels, rows = [], []
for w in WORLDS:
    measured = [m for m in differences[w] if (w, m) in costs]
    times = {m: costs[w, m]["seconds"] / costs[w, "grpo"]["seconds"] for m in measured}
    ends = {*sorted(times, key=times.get)[-4:], *sorted(measured, key=lambda m: gain[w][m])[-2:]}
    panels.append(dots.Panel(w, tuple(dots.Dot(m, times[m], gain[w][m], m in ends) for m in measured)))
    rows += [
        [w, f"`{m}`", f"{times[m]:.1f}", f"{costs[w, m]['calls']:,.0f}"] for m in sorted(times, key=times.get)[-5:]
    ]
display(dots.bundle(panels, "time of a step, times GRPO's", "minus GRPO, points"), raw=True)
display(page.table(["world", "the five dearest", "times GRPO's step", "model calls for evidence, a step"], rows[::-1]))

# %% [markdown]
# ## 8. In a world of its own
#
# Some methods read what the two worlds do not have: an oracle of moves, tries, a user's state, tools with a goal
# state. Each has its own world, with GRPO beside it.

# %%
rows = [
    [w, f"`{m}`", f"{compared.final(runs, w, 'grpo').mean:.0%}", f"{compared.final(runs, w, m).mean:.0%}"]
    + [points(d.mean), f"{d.adjusted:.2g}", "**yes**" if d.told else "no"]
    for w in OWN
    for m, d in differences[w].items()
]
page.table(["world", "method", "GRPO solves", "it solves", "minus GRPO, points", "corrected p", "told apart"], rows)

# %% [markdown]
# ## 9. What follows, and what does not
#
# * A method whose page says *not told apart* may still be the right one elsewhere: belief, critics and oracles help
#   most where outcomes are rare and episodes long. Here episodes have a few turns and a million parameters learn them.
# * One start a world: seeds vary tasks and samples, not the habit that is to be unlearned.
# * Only the rate was tuned, on one seed; every other number is the paper's or the released code's default.
# * One update a step, no KL term: clips and trust regions, part of what some of these methods are about, never act.
# * Section 2 is the test. Sections 4 to 7 were looked at after the runs were there: they suggest, they do not prove.
#
# Each method's own page says why: [the index of methods](../index.ipynb).
