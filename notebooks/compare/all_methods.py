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
        f"else. In the chain world belief moves at the last search, in the facet world at every turn."
        f"{' Left out, and why:' if left else ''}"
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
head = ["world", "scatter, points", "told when alone, points", "told first of all, points", "seeds for 5 points"]
page.table(head, rows)

# %% [markdown]
# *Not told apart* therefore does not mean *equal*. It means that a difference as large as papers report (a few points)
# would mostly have been missed here, and that one run more or less could turn many a ranking around. The same
# arithmetic holds for three seeds of a large model: `workbench.train.seeds.needed(effect, spread)` gives it for yours.
#
# ## 4. Made again
#
# Among so many methods some look different by chance, and those that look best look better than they are. So every
# pair whose p was below 0.05 *before* the correction was run again on ten fresh seeds, at the rate it had, with GRPO
# beside it: nothing was chosen by these runs. Here a correction is due only for the pairs that are made again.
#
#     python -m workbench.train.sweep --again datasets/results/training --out datasets/results/training/again

# %%
fresh = sweep.read(RESULTS / "again")
asked = {w: [m for m, d in differences[w].items() if d.p is not None and d.p < 0.05] for w in WORLDS}
again = {w: {d.method: d for d in compared.against(fresh, w) if d.method in asked[w]} for w in WORLDS}


def held(first, then):
    """Did the first impression hold?"""
    if not then.told:
        return "not told apart"
    return "**yes**" if (then.mean.mean > 0) == (first.mean.mean > 0) else "**the opposite**"


rows = [
    [w, f"`{m}`", points(differences[w][m].mean), points(d.mean), d.mean.seeds, f"{d.adjusted:.2g}"]
    + [held(differences[w][m], d)]
    for w in WORLDS
    for m, d in sorted(again[w].items(), key=lambda pair: -pair[1].mean.mean)
]
display(page.table(["world", "method", "first, five seeds", "again", "seeds", "corrected p", "holds"], rows))
missing = [f"`{m}` on {w}" for w in WORLDS for m in asked[w] if m not in again[w]]
shrunk = sum(abs(d.mean.mean) < abs(differences[w][m].mean.mean) for w in WORLDS for m, d in again[w].items())
page.markdown(
    f"{sum(row[-1] == '**yes**' for row in rows)} of {len(rows)} first impressions hold; {shrunk} of {len(rows)} are "
    f"smaller the second time." + (f" Not made again: {', '.join(missing)}." if missing else "")
)

# %% [markdown]
# ## 5. Families
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
# ## 6. Do the two worlds agree?
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
# ## 7. Does sharper credit teach faster?
#
# The hope behind process credit: a method that tells a useful search from a useless one teaches more. The world's
# oracle knows which searches help. Across: credit of useful searches minus credit of useless ones over the **first**
# quarter of training, in units of the method's mean |credit| (before policies part, so that it is cause and not
# effect). Up: what was gained over GRPO at the end.


# %%
def measured(measure, title, size=False):
    """A measure of each method's credit against what it gained, a panel a world; rank correlations of it (its size)."""
    panels, found = [], {}
    for w in WORLDS:
        value = across.by_method(runs, w, ["grpo", *differences[w]], measure)
        gained = {m: gain[w].get(m, 0.0) for m in value}
        found[w] = across.ranks([abs(v) if size else v for v in value.values()], list(gained.values()))
        ends = {m for by in (value, gained) for m in (*sorted(by, key=by.get)[:2], *sorted(by, key=by.get)[-2:])}
        of = "rank correlation of its size" if size else "rank correlation"
        said = f"{of} {found[w].value:+.2f}, p {found[w].p:.2g}" if found[w] else "too few methods"
        panels.append(dots.Panel(w, tuple(dots.Dot(m, value[m], gained[m], m in ends) for m in value), said))
    display(dots.bundle(panels, title, "minus GRPO, points"), raw=True)
    return found


def said_of(found, more, less):
    """What rank correlations say."""
    return "\n".join(
        f"- **{w}**: "
        + (
            "too few methods."
            if r is None
            else f"{more if r.value > 0 else less}: rank correlation {r.value:+.2f}, p {r.p:.2g}"
            + ("." if r.p < 0.05 else ", **no more than by chance**.")
        )
        for w, r in found.items()
    )


sharp = measured(across.told_turns, "useful minus useless search, in units of mean |credit|")

# %%
page.markdown(said_of(sharp, "sharper credit goes with more learned", "sharper credit goes with less learned"))

# %% [markdown]
# Credit can be sharp and still teach a wrong thing: to **give up**, or to **go on for ever**. How much more a method
# pays for an early answer than for going on from the same place, compared with what the outcome alone says of the same
# turns (as in section 7 of [methods compared by training](training.ipynb)): above 0 it pays for stopping, below 0 for
# going on. Either is a bias, so the rank correlation is that of its size.

# %%
stops = measured(across.stopping_bias, "pays for stopping, beyond the outcome, in units of mean |credit|", size=True)

# %%
page.markdown(
    said_of(stops, "a larger bias goes with more learned", "a larger bias, to either side, goes with less learned")
    + "\n\nEach p takes methods for independent, which they are not: several share a formula. A correlation over "
    "methods is no experiment, either; it says where one would look."
)

# %% [markdown]
# ## 8. What does it cost?
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
# ## 9. In a world of its own
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
# ## 10. What follows, and what does not
#
# * A method whose page says *not told apart* may still be the right one elsewhere: belief, critics and oracles help
#   most where outcomes are rare and episodes long. Here episodes have a few turns and a million parameters learn them.
# * One start a world: seeds vary tasks and samples, not the habit that is to be unlearned.
# * Only the rate was tuned, on one seed; every other number is the paper's or the released code's default.
# * One update a step, no KL term: clips and trust regions, part of what some of these methods are about, never act.
# * Section 2 is the test, section 4 its confirmation. Sections 5 to 8 were looked at after the runs were there: they
#   suggest, they do not prove.
#
# Each method's own page says why: [the index of methods](../index.ipynb).
