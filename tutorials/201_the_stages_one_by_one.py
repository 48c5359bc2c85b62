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
# # 201: the stages, one by one
#
# **Every method of credit here is a chain of small stages: read, compare, divide, sum, copy.** You move the credit map
# of one real rollout with one stage at a time, and end with a published method that you put together yourself.
#
# **You will be able to**
#
# - read the formula of a method and say what each stage does to a rollout;
# - say what a lone member, an equal group and an unknown value get, and where that is decided;
# - build a method from stages, and check what it promises.
#
# **Needs** [101](101_from_one_rollout_to_grpo.ipynb); an hour with the exercises, seconds to run; no GPU, no network.
# Cells that begin with `predict` ask for a guess before the number: put yours in the place of `None`.

# %% tags=["parameters"]
SEED = 3  # of the rollouts; what is said of single ones below is said of this seed

# %%
import pandas as pd
import torch
from IPython.display import display

from workbench import axioms, envs, policy, recipes, search
from workbench.credit import (
    backup,
    center,
    chain,
    clip,
    count_before,
    delta,
    equals,
    fill,
    gae,
    mix,
    place,
    read,
    reward_to_go,
    same_state,
    scale,
    spread,
    task,
    task_and_turn,
    zscore,
)
from workbench.objective import clipped
from workbench.policy import Settings
from workbench.rollout import play
from workbench.teach import lesson201 as check
from workbench.teach import predict
from workbench.view import CreditMap, Recompute

# %% [markdown]
# ## 1. The rollouts
#
# In this world one of eight items is meant. A search narrows the list of those that fit; a search for "code" starts the
# list anew; the answer is the code of an item. The player is `tiny`, a million parameters, at its shipped start. Four
# questions, five rollouts each.

# %%
env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")
questions = env.tasks("test", 4, seed=SEED)
rollouts = play(player, env, questions, size=5, settings=Settings(max_new_tokens=24), seed=SEED, run="stages")
batch = rollouts.batch()
pd.DataFrame(
    [{f"rollout {i}": f"{t.outcome:g} in {len(t.turns)} turns" for i, t in enumerate(g)} for g in rollouts.groups],
    index=[f"question {k}" for k in range(len(rollouts.groups))],
)

# %% [markdown]
# One rollout stays with us to the end: the longest right one of the question with most right answers. It was lucky.

# %%
group = max(rollouts.groups, key=lambda g: sum(t.outcome for t in g))
one = max((t for t in group if t.outcome == 1), key=lambda t: len(t.turns))
print(one.prompt[0].text)
pd.DataFrame(
    [
        {
            "turn": k,
            "model": t.action.text,
            "result": t.observations[0].text if t.observations else "",
            "best guess is right with": round(t.rewards["oracle_posterior"], 3),
        }
        for k, t in enumerate(one.turns)
    ]
)

# %% [markdown]
# The world knows what the searches so far tell: after the first one, the best guess is right with the chance in the
# last column. No model sees that number; we use it below as evidence.
#
# Two helpers: run stages on all rollouts, and lay the credit of our rollout's turns side by side.


# %%
def run(*stages):
    """The credit that stages give on all the rollouts."""
    return chain(*stages)(None, batch)


def by_turn(credit, rollout=one):
    """Credit of a rollout's turns (or its one number); None is unknown."""
    owner = batch.up(credit.level, "trajectory").tolist()
    n = batch.trajectories.index(rollout.id)
    return [x for x, i in zip(credit.tolist(), owner, strict=True) if i == n]


def number(x):
    """A number with its sign; ? is unknown."""
    return "?" if x is None else f"{x + 0.0:+.3f}"


def turns(rollout=one, **credits):
    """A column a credit, a line a turn of a rollout."""
    shown = {name: [number(x) for x in by_turn(c, rollout)] for name, c in credits.items()}
    return pd.DataFrame(shown, index=[f"turn {k}" for k in range(len(rollout.turns))])


def maps(full=1.5, **credits):
    """The credit map of our rollout; credit of `full` has full colour."""
    return CreditMap(rollouts, one.id, credits, scale=full)


# %% [markdown]
# ## 2. `read`, `spread`, `place`: which turns hear of it
#
# A chain begins by reading a column. The outcome is one number a rollout; to reach turns it is copied down (`spread`)
# or put on the last one (`place`).

# %%
heard = predict("The outcome is 1. What do the four turns sum to after spread('turn')?", None)

# %%
outcome = read("outcome")
copied, placed = run(outcome, spread("turn")), run(outcome, place("turn"))
display(turns(spread=copied, place=placed))
display(heard.reveal(sum(by_turn(copied)), tolerance=0))
maps(spread=copied, place=placed)

# %% [markdown]
# `spread` says the same of every turn, and a long rollout gets more of it in all. `place` keeps the sum, and is silent
# on all turns but one. Everything that follows is about doing better than these two.
#
# ## 3. `center`: compared with whom
#
# `center(peers)` subtracts the mean of the peers. `task` are the rollouts of the same question: ours is one of five,
# two of them right.

# %%
centred = predict("Our rollout's credit after center(task)", None)
alone_out = predict("And with leave_one_out=True: against the mean of the other four", None)

# %%
compared = run(outcome, center(task), spread("turn"))
others = run(outcome, center(task, leave_one_out=True), spread("turn"))
display(turns(plain=copied, center=compared, others=others))
display(centred.reveal(round(by_turn(compared)[0], 3), tolerance=0.001))
display(alone_out.reveal(round(by_turn(others)[0], 3), tolerance=0.001))
maps(center=compared, others=others)

# %% [markdown]
# In its own mean, a rollout competes with itself. Leaving it out makes all credit larger by the same factor,
# $G/(G-1)$, and unbiased: what it is compared with does not depend on what it did.
#
# **Who is alone?** Turns can be compared, too: with those at the same place (`task_and_turn`). Only one rollout of
# our question reached a fifth turn. Here turns are compared by the chance that the best guess is right after them.

# %%
longest = max(group, key=lambda t: len(t.turns))
rules = ("zero", "keep", "drop")
lone = {rule: run(read("oracle_posterior"), center(task_and_turn, singleton=rule)) for rule in rules}
display(turns(longest, **lone))
CreditMap(rollouts, longest.id, lone, scale=1.0)

# %% [markdown]
# The parameter `singleton` decides: nothing was compared, so 0; or the raw number passes; or the turn leaves the loss
# (`?`). Releases differ here without saying so. A raw number beside centred ones is on another scale.
#
# ### Exercise 1: against the others
#
# About 5 minutes.


# %% tags=["exercise"]
def against_others(outcome, group):
    """Return each outcome minus the mean of the OTHERS of its question, a list; 0 where there are none.

    outcome: a float a rollout.  group: the question of each, a name.
    """
    # SOLUTION 1: each outcome minus the mean of the others of its question
    out = []
    for i, (r, g) in enumerate(zip(outcome, group, strict=True)):
        rest = [x for j, (x, h) in enumerate(zip(outcome, group, strict=True)) if h == g and j != i]
        out.append(r - sum(rest) / len(rest) if rest else 0.0)
    return out
    # END SOLUTION


check.ex1(against_others)

# %% [markdown]
# Stuck? `check.hint("ex1", 1)`, then 2. And on the real outcomes, beside the stage:

# %% tags=["exercise"]
mine = against_others([t.outcome for t in rollouts], [t.group for t in rollouts])
library = run(outcome, center(task, leave_one_out=True)).tolist()
print(f"largest difference: {max(abs(a - b) for a, b in zip(mine, library, strict=True)):.0e}")

# %% [markdown]
# ## 4. `scale`: in units of the spread
#
# Divide by how far the peers lie apart. Two knobs that papers rarely print: `ddof` (divide the squares by $G - 1$ or by
# $G$) and `eps` (what is added to the root).

# %%
wider = predict("Which makes credit larger: ddof=0 or ddof=1? (0 or 1)", None)

# %%
ddof1 = run(outcome, center(task), scale(task, ddof=1), spread("turn"))
ddof0 = run(outcome, center(task), scale(task, ddof=0), spread("turn"))
soft = run(outcome, center(task), scale(task, eps=0.1), spread("turn"))
display(turns(center=compared, ddof1=ddof1, ddof0=ddof0, eps_a_tenth=soft))
display(wider.reveal(0 if by_turn(ddof0)[0] > by_turn(ddof1)[0] else 1, tolerance=0))
maps(center=compared, ddof1=ddof1)

# %% [markdown]
# What else moved? The questions. Divided by its spread, a question on which nearly all agree gains
# most:

# %%
before = run(outcome, center(task), spread("turn"))
largest = []
for k, peers in enumerate(rollouts.groups):
    of = [max(abs(by_turn(c, t)[0]) for t in peers) for c in (before, ddof1)]
    right = sum(t.outcome for t in peers)
    largest.append({"question": k, "right": f"{right:g} of {len(peers)}", "center": of[0], "center > scale": of[1]})
pd.DataFrame(largest).set_index("question").round(3)

# %% [markdown]
# Questions without a right rollout get nothing, before and after: equal peers are exactly 0, whatever they are divided
# by. `zscore` is both stages in one:

# %%
apart = (run(outcome, zscore(task), spread("turn")).values - ddof1.values).abs().max()
print(f"zscore(task) against center(task) > scale(task): largest difference {apart:.0e}")

# %% [markdown]
# ## 5. `clip`: a bound

# %%
bounded = run(outcome, zscore(task), clip(-1.0, 1.0), spread("turn"))
touched = (bounded.values != ddof1.values).sum().item()
sums = [sum(by_turn(c, t)[0] for t in group) for c in (ddof1, bounded)]
print(f"clip moved {touched} of {len(bounded)} turns")
print(f"our question's rollouts sum to {number(round(sums[0], 9))} before, to {number(sums[1])} after")
maps(zscore=ddof1, clip=bounded)

# %% [markdown]
# The bound cut praise but not blame: the question's credit no longer sums to zero.
#
# ## 6. `reward_to_go`: time
#
# Put the outcome where it arrived, then let it flow back: $y_t = x_t + \gamma\, y_{t+1}$.

# %%
first = predict(f"gamma = 0.9, the outcome 1 arrives at turn {len(one.turns) - 1}. What does turn 0 get?", None)

# %%
arrives = chain(outcome, place("turn"))
far, near = run(arrives, reward_to_go(0.9)), run(arrives, reward_to_go(0.5))
display(turns(place=placed, gamma_09=far, gamma_05=near))
display(first.reveal(round(by_turn(far)[0], 3), tolerance=0.001))
maps(gamma_09=far, gamma_05=near)

# %% [markdown]
# With $\gamma = 1$ this is `spread` again. A smaller one says: late turns earned it. That is a belief, not evidence:
#
# ## 7. `gae`: what was expected
#
# With a value for every turn, a turn is credited for the surprise: $d_t = x_t + \gamma V_{t+1} - V_t$, summed back with
# $\gamma\lambda$. Our value is what the world says of the best guess before the turn.

# %%
surprise = predict("lambda = 0: which turn gets nearly all of the credit? (0, 1, ...)", None)

# %%
known = "oracle_posterior_before"
step, long = run(arrives, gae(1.0, 0.0, value=known)), run(arrives, gae(1.0, 1.0, value=known))
values = [f"{t.rewards[known]:.3f}" for t in one.turns]
display(turns(place=placed, lambda_0=step, lambda_1=long).assign(value_before=values))
display(surprise.reveal(max(range(len(one.turns)), key=lambda k: by_turn(step)[k]), tolerance=0))
maps(gamma_1=run(arrives, reward_to_go(1.0)), lambda_0=step)

# %% [markdown]
# The first search helped a little, the next two told nothing, and the answer was a lucky guess: $\lambda = 0$ says
# where the luck was. With $\lambda = 1$ a turn gets the outcome minus its value, and nothing else:

# %%
by_hand = [1.0 - t.rewards[known] for t in one.turns]
print(f"largest difference: {max(abs(a - b) for a, b in zip(by_hand, by_turn(long), strict=True)):.0e}")

# %% [markdown]
# ## 8. `backup`: a tree
#
# Or go back and play on from a turn again. Four other continuations in the place of our second turn; each turn of the
# tree is then worth the mean (or the best) of what it led to.

# %%
tree = search.branch(rollouts, player, env, one.id, 1, 4, seed=SEED)
grown = tree.batch()
worth = {how: chain(outcome, spread("turn"), backup(how))(None, grown) for how in ("mean", "max")}
print(f"outcomes: ours {tree[0].outcome:g}, the branches {[t.outcome for t in tree[1:]]}")
CreditMap(tree, one.id, worth, scale=1.5)

# %% [markdown]
# The mean tells the first turn what it was worth, for the price of four more rollouts; the maximum believes the one
# that was lucky.
#
# ## 9. Evidence, and unknown
#
# `delta` reads a potential and takes differences: how much surer did each turn make the best guess? The prior is one in
# eight.

# %%
prior = 1 / env.items
surer = delta("oracle_posterior", initial=prior)
gain = run(surer)
ends = one.turns[-1].rewards["oracle_posterior"]
print(f"sum over the turns {sum(by_turn(gain)):.3f} = at the end {ends:.3f} - at the beginning {prior:.3f}")
display(turns(gain=gain))
maps(full=0.25, spread=ddof1, gain=gain)

# %% [markdown]
# **Unknown is not zero.** Suppose whoever says so gave no answer for our first turn. Twice: once the gap is kept, once
# somebody filled in 0.

# %%
column, at = batch["oracle_posterior"], batch.turn_trajectory.tolist().index(batch.trajectories.index(one.id))
seen = column.known.clone()
seen[at] = False
gap = batch.with_column("oracle_posterior", "turn", column.values, seen)
zeroed = torch.where(seen, column.values, torch.zeros(()))
silent = batch.with_column("oracle_posterior", "turn", zeroed.to(torch.float64))
blamed = predict(f"Somebody filled in 0. What does turn 0 get? (its true gain is {by_turn(gain)[0]:.3f})", None)

# %%
kept, wrong = chain(surer)(None, gap), chain(surer)(None, silent)
display(turns(true=gain, gap_kept=kept, filled=wrong))
display(blamed.reveal(round(by_turn(wrong)[0], 3), tolerance=0.001))
maps(full=0.25, gap_kept=kept, filled=wrong)

# %% [markdown]
# With the gap kept, the turn has no credit (`?`), stays out of the loss, and the next known turn takes what both
# gained: the sum still holds. The zero made a good turn the worst and praised a useless one.
#
# A gap counts in no mean either. Filled, it moves every peer:

# %%
among = {
    name: chain(node, center(task_and_turn))(None, gap)
    for name, node in (("gap kept", surer), ("gain filled with 0", chain(surer, fill(0.0))))
}
pd.DataFrame(
    {name: [number(by_turn(c, t)[0]) for t in group] for name, c in among.items()},
    index=[f"first turn of rollout {i}" for i in range(len(group))],
)

# %% [markdown]
# ### Exercise 2: what follows, with gaps
#
# About 10 minutes. `reward_to_go` steps over an unknown turn: no reward, and no discount step.


# %% tags=["exercise"]
def follows(reward, gamma):
    """Return what follows each KNOWN turn, a row a rollout; unknown turns are left out of the rows.

    reward: a row a rollout, a number a turn; None is unknown.  gamma: the discount of a step to the next known turn.
    """
    # SOLUTION 2: from the end of each rollout, reward plus gamma times what follows
    out = []
    for row in reward:
        later, back = 0.0, []
        for x in reversed([x for x in row if x is not None]):
            later = x + gamma * later
            back.append(later)
        out.append(back[::-1])
    return out
    # END SOLUTION


check.ex2(follows)

# %% [markdown]
# ## 10. `mix` and `count_before`: several voices
#
# Chains that end on one level can be added, each with a weight. Here the outcome's z-score, the gain, and a price for
# every earlier turn that, says the world, brought the answer no nearer (`count_before`).

# %%
voice = chain(outcome, zscore(task), spread("turn"))
wasted = chain(read("oracle_on_path"), count_before(equals(0.0)))
both, three = run(mix(voice, surer)), run(mix(voice, surer, wasted, weights=(1.0, 2.0, -0.1)))
display(turns(outcome=ddof1, gain=gain, idle_before=run(wasted), sum=both, weighted=three))
maps(outcome=ddof1, weighted=three)

# %% [markdown]
# And where one voice is silent? `unknown="any"` lets a turn be silent then, `"skip"` adds up those that speak. A
# choice; the second keeps the turn in the loss, with less behind it.

# %%
quiet = {how: chain(mix(voice, surer, unknown=how))(None, gap) for how in ("any", "skip")}
turns(**quiet)

# %% [markdown]
# ## 11. Down to the tokens
#
# A gradient is taken of tokens. `spread("token")` gives each token of a turn the turn's credit, so a long turn pulls
# harder; `place("token")` speaks to the last one alone.

# %%
all_tokens, last_token = run(voice, spread("token")), run(voice, place("token"))
sums = [sum(by_turn(c)) for c in (all_tokens, last_token, ddof1)]
print(f"{len(by_turn(all_tokens))} tokens sum to {sums[0]:.2f} with spread, to {sums[1]:.2f} with place")
print(f"the four turns sum to {sums[2]:.2f}")
maps(spread=all_tokens, place=last_token)

# %% [markdown]
# ## 12. The ledger: does it sum to what it promises?
#
# Some chains promise a sum: the turns of a rollout share its outcome (`conserves`), or the rollouts of a question sum
# to zero (`zero_mean`). Promises are checked on the rollouts, not believed.

# %%
promise = predict("Does the z-score still sum to zero after clip(-1, 1)? (yes or no)", None)

# %%
ledger = {
    "spread": chain(outcome, spread("turn")),
    "place": arrives,
    "place > reward_to_go(0.9)": chain(arrives, reward_to_go(0.9)),
    "center": chain(outcome, center(task), spread("turn")),
    "zscore": voice,
    "zscore > clip": chain(outcome, zscore(task), clip(-1.0, 1.0), spread("turn")),
}
rows = []
for name, node in ledger.items():
    method = recipes.Recipe(name, chain(node, spread("token")), clipped(0.2))
    whole, zero = (a.check(method, batch) for a in (axioms.conserves("outcome"), axioms.zero_mean(task)))
    total = sum(by_turn(run(node)))
    rows.append({"stages": name, "our turns sum to": total, "conserves": whole.holds, "zero mean": zero.holds})
display(pd.DataFrame(rows).set_index("stages").round(3))
promise.reveal("yes" if rows[-1]["zero mean"] else "no")

# %% [markdown]
# ## 13. A method of your own hands
#
# GiGPO says: compare the rollout with those of its question; compare what follows each turn with the other visits of
# the same state; add.
#
# $$A_t = z_\text{task}(R_i) + z_{s_t}(G_t), \qquad G_t = r_t + \gamma\, G_{t+1}$$
#
# ### Exercise 3: GiGPO from stages
#
# About 15 minutes. Rewards of turns are the column `turn_reward`. A rollout without peers keeps its outcome; a state
# that was met once says nothing.


# %% tags=["exercise"]
def my_gigpo(gamma):
    """Return stages that end on turns.  gamma: the discount of a turn."""
    # SOLUTION 3: two chains, mixed
    episode = chain(read("outcome"), zscore(task, singleton="keep"), spread("turn"))
    turn = chain(read("turn_reward"), reward_to_go(gamma), zscore(same_state))
    return mix(episode, turn)
    # END SOLUTION


check.ex3(my_gigpo)

# %% [markdown]
# Now on the real rollouts. This world pays at the end alone, so the reward of a turn is the outcome where it arrived.
# Is it the library's GiGPO, to the last bit?

# %% tags=["exercise"]
paid = batch.with_column("turn_reward", "turn", placed.values)
ours = chain(my_gigpo(0.95), spread("token"))(None, paid)
theirs = recipes.gigpo().credit(paid)
print(f"equal to the last bit, all {len(ours)} tokens: {torch.equal(ours.values, theirs.values)}")
recipes.gigpo()

# %% [markdown]
# The recipe is that chain and an objective. Without turn rewards, `gigpo(reward=None)` does the placing itself:

# %%
grpo, gigpo = recipes.grpo(kl=0.0), recipes.gigpo(reward=None)
print(gigpo)
single = predict("A state that was met once: what does its turn get beyond GRPO's number?", None)

# %%
said = {"grpo": grpo.credit(batch, to="turn"), "gigpo": gigpo.credit(batch, to="turn")}
states = batch["state"].values.tolist()
codes = [s for s, i in zip(states, batch.turn_trajectory.tolist(), strict=True) if batch.trajectories[i] == one.id]
visits = [states.count(code) for code in codes]
display(turns(**said).assign(state=[f"s{code}" for code in codes], visits_of_state=visits))
beyond = [b - a for a, b, n in zip(*map(by_turn, said.values()), visits, strict=True) if n == 1]
display(single.reveal(round(beyond[0], 3) if beyond else "no such turn here"))
CreditMap(rollouts, one.id, [grpo, gigpo])

# %% [markdown]
# Two turns of ours stood in one state: the search for "code" had started the list anew. What followed them is compared
# with what followed the others who stood there; the later one is nearer to the outcome, so it gets more. The first and
# the last turn are praised most, and the last one was a guess: GiGPO sees outcomes; section 7 was told what
# could be known.

# %% [markdown]
# Every number on the way is there: `trace` runs the same chain and keeps what each stage gave.

# %%
pd.DataFrame(
    [{"stage": "· " * s.depth + s.label, "level": s.credit.level, **s.credit.counts()} for s in gigpo.trace(batch)]
)

# %% [markdown]
# ## Go on: turn the knobs
#
# `Recompute` is the map with sliders: discount, peers, lone member, `ddof`, clip, and edits of any reward; the credit
# of all rollouts follows the hand. Without a kernel it is a picture; `.live()` makes it answer.

# %%
Recompute(rollouts, [grpo, gigpo], one.id)

# %% [markdown]
# ## Summary
#
# | stage | what it decides | what to ask |
# |---|---|---|
# | `read`, `delta` | the evidence | where is it unknown? |
# | `spread`, `place` | who hears of it | is the sum kept? |
# | `center`, `scale`, `zscore` | compared with whom | what gets a lone member, an equal group? which `ddof`? |
# | `reward_to_go`, `gae`, `backup` | time | what crosses a gap? |
# | `clip` | a bound | what balance does it break? |
# | `mix` | how voices add | what if one is silent? |
#
# Order is meaning: compare then sum is another method than sum then compare. Exercise 3 knows both.
#
# - [GiGPO](../notebooks/methods/gigpo.ipynb) and [MatchTIR](../notebooks/methods/matchtir.ipynb) in full: one is this
#   chain, the other compares turns at the same place. [All methods](../notebooks/index.ipynb) on one set of rollouts.
# - The [glossary](glossary.md) of what a training reports.
#
# ## References
#
# - Feng et al. 2025, [arXiv:2505.10978](https://arxiv.org/abs/2505.10978), Eqs. 3 and 5-8 (GiGPO); in the code:
#   `workbench/recipes/turns.py`.
# - Schulman et al. 2016, [arXiv:1506.02438](https://arxiv.org/abs/1506.02438), Eqs. 11-16 (GAE); in the code:
#   `workbench/credit/accumulate.py`.
# - Ahmadian et al. 2024, [arXiv:2402.14740](https://arxiv.org/abs/2402.14740) (leave one out); Shao et al. 2024,
#   [arXiv:2402.03300](https://arxiv.org/abs/2402.03300), sec. 4.1 (the group); in the code:
#   `workbench/credit/normalise.py`.
