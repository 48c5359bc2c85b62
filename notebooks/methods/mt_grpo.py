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
# # MT-GRPO: was this call better than the same call of its siblings?
#
# **Every tool call has a reward of its own. Compare it with what the other rollouts of the question earned at the same
# turn, and add that to GRPO's number.**
#
# The smallest step from GRPO to turn credit: one more z-score. *Reinforcing Multi-Turn Reasoning in LLM Agents via
# Turn-Level Credit Assignment*, 2025. Before this one: [GRPO](grpo.ipynb).
#
# **Use it when** something can say of every call whether it was good, and a call is good or bad by itself. It costs no
# call of the policy. **Not when** a call matters for what it makes possible later: it hears of its own reward alone
# (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.credit import chain, read
from workbench.policy import Settings
from workbench.recipes import grpo, matchtir, mt_grpo, mt_grpo_released
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import mt_grpo as check
from workbench.view import CreditMap, Ribbons

env = envs.load("chain")
player = policy.load("tiny@chain-misread")  # a million parameters; reads some words as others
paper = mt_grpo()
released = mt_grpo_released()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, released, policy=player)

# %% [markdown]
# ## 2. The equation
#
# Turn $t$ of rollout $i$ made a call that earned $r_{i,t}$; the rollout ended with outcome $R_i$; $w$ is a weight, here
# 1; $z$ subtracts the mean of the peers and divides by their spread:
#
# $$A_{i,t} = w\,\underbrace{z_{\,t}(r_{i,t})}_{\text{same turn of the question}} + \;
# \underbrace{z(R_i)}_{\text{rollouts of the question}}$$
#
# The turn that answers has no reward of its own: it has the second term alone. Nothing is summed over turns and nothing
# is discounted. In the drawing, the second row says just that: a 0 for the last turn, where no reward is known.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Three rollouts of one question. The first two make two calls, the third one; then they answer.

# %%
reward = [[1.0, 0.0, None], [1.0, 1.0, None], [0.0, None]]
outcome = [1.0, 0.0, 1.0]
good = predict("Rollout 1 made two good calls and answered wrong. Will its second call get +, 0 or -?", None)


# %%
def z(x, pool):
    if x is None or len(pool) < 2:
        return 0.0
    mean = sum(pool) / len(pool)
    return (x - mean) / (sum((y - mean) ** 2 for y in pool) / (len(pool) - 1)) ** 0.5


mine = []
for row, end in zip(reward, outcome, strict=True):
    at = [[other[t] for other in reward if t < len(other) and other[t] is not None] for t in range(len(row))]
    mine.append([z(x, at[t]) + z(end, outcome) for t, x in enumerate(row)])

small = page.hand(["q"] * 3, {"turn_reward": reward}, {"outcome": outcome})
calls = [row[0] for row in reward]
terms = z(1.0, calls), z(1.0, outcome)
print(f"Rollout 0, turn 0: 1 among {calls} is {terms[0]:+.3f}, 1 among {outcome} is {terms[1]:+.3f}: {sum(terms):+.3f}")
display(page.agrees(mine, paper, small))
good.reveal("+" if mine[1][1] > 0 else "-")

# %% [markdown]
# Its calls are blamed *less* than its answer, but blamed: the two terms are added, and the outcome weighs more. With a
# larger $w$ the good calls of a failed rollout would be praised.
#
# ## 4. On real rollouts
#
# A chain of lookups. The reward of a call is how well it matches the gold trace, as in [MatchTIR](matchtir.ipynb); the
# answer has none. `tiny` starts with a habit of misreading some words.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="mt_grpo")
rollouts = evidence.collect(rollouts, evidence.for_recipe([mt_grpo(reward="match_reward")], rollouts))
column = rollouts.batch()["match_reward"]
made = [turn for t in rollouts for turn in t.turns]
answers = [any(call.name == "answer" for call in turn.action.calls) for turn in made]
rewards = [None if answer else worth for answer, worth in zip(answers, column.values.tolist(), strict=True)]
rollouts = rollouts.with_column("turn_reward", "turn", rewards, provenance=column.provenance)
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, paper)

# %% [markdown]
# A failed rollout of a question that others solved, with a good call in it if there is one. Read it from the top: what
# the call earned, the comparison at the same turn, a 0 for the answer, the outcome's number, the sum.

# %%
earned = page.rows_of(chain(read("turn_reward", "turn"))(None, batch), batch)
mixed = [t for g in rollouts.groups if len({x.outcome for x in g}) > 1 for t in g if t.outcome == 0.0]
best = max(mixed, key=lambda t: (max(x or 0.0 for x in earned[batch.trajectories.index(t.id)]), len(t.turns)))
Ribbons(rollouts, best.id, paper)

# %%
CreditMap(rollouts, best.id, [grpo(kl=0.0), paper])

# %% [markdown]
# Does it tell good calls from bad ones where GRPO cannot? All calls of rollouts that failed, by what they earned:

# %%
said = {"GRPO": page.turns(grpo(kl=0.0), batch), "MT-GRPO": page.turns(paper, batch)}
rows = []
for word, lower, upper in (("no match", 0.0, 0.01), ("a part matches", 0.01, 0.99), ("the gold call", 0.99, 1.01)):
    at = [
        (i, t)
        for i, run in enumerate(rollouts)
        for t, x in enumerate(earned[i])
        if x is not None and lower <= x < upper and run.outcome == 0.0
    ]
    means = [page.number(sum(told[i][t] for i, t in at) / len(at)) if at else "-" for told in said.values()]
    same = sum(abs(said["GRPO"][i][t] - said["MT-GRPO"][i][t]) < 1e-3 for i, t in at)
    rows.append([word, len(at), *means, same])
page.table(["calls of failed rollouts", "how many", *(f"mean credit, {name}" for name in said), "own term is 0"], rows)

# %% [markdown]
# The last column counts the calls whose own term says nothing: nobody else got that far, or all siblings earned the
# same at that turn.

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **Making a call is worth nothing, whatever calls earn.** A call is compared with calls, so the mean credit of calling
# is 0. Whether one should make another call or answer now is then decided by the outcome alone: reward for calls is
# taken back, and so is a penalty. Built to show it: two rollouts answer at once, two make a call first; all are right.

# %%
going_on = predict("Each call costs 1 (reward -1). How much worse is calling than answering at once, in MT-GRPO?", None)

# %%
rows = []
for worth in (1.0, 0.2, -1.0):
    calls = page.hand(
        ["q"] * 4, {"turn_reward": [[worth, None], [worth, None], [None], [None]]}, {"outcome": [1.0, 1.0, 1.0, 1.0]}
    )
    told = [page.turns(r, calls) for r in (paper, released)]
    rows.append([worth, *(page.number(t[0][0] - t[2][0]) for t in told)])
gap = float(rows[-1][1])
display(page.table(["a call earns", "credit of calling minus answering: `mt_grpo`", "`mt_grpo_released`"], rows))
going_on.reveal(gap)

# %% [markdown]
# The release compares a rollout without a call by the sum of both rewards, and so does see it. That a baseline a turn
# number is biased wherever the policy decides when to stop was worked out in
# [verl's issue 7244](https://github.com/verl-project/verl/issues/7244): it acts like a hidden charge on each call,
# as large as the mean reward of a call; where calls cost, like a hidden bonus.
#
# **A call is not credited for what it makes possible.** Rollout 0 looks up a name that is worth nothing by itself, and
# then finds the answer with it; rollout 1 takes what it gets at once. Beside it, a method that compares what *followed*
# (the answers earn nothing here):

# %%
enabling = [[0.0, 1.0, 0.0], [0.5, 0.0, 0.0]]
later = page.hand(["q"] * 2, {"turn_reward": enabling, "match_turn_reward": enabling}, {"outcome": [1.0, 1.0]})
told = [page.turns(r, later) for r in (paper, matchtir())]
page.table(
    ["rollout", "reward", "MT-GRPO", "MatchTIR"], [[i, enabling[i], *(page.line(t[i]) for t in told)] for i in (0, 1)]
)

# %% [markdown]
# The look-up is blamed. MatchTIR compares sums of what follows and praises it.
#
# **Good call, bad end.** With two rollouts both terms are $\pm 0.71$, and where they disagree nothing is left:

# %%
torn = page.hand(["q"] * 2, {"turn_reward": [[1.0, None], [0.0, None]]}, {"outcome": [0.0, 1.0]})
page.table(["rollout", "credit by turn"], [[i, page.line(row)] for i, row in enumerate(page.turns(paper, torn))])

# %% [markdown]
# ## 6. The paper and its code
#
# The release (read as text) knows agents that make **one call and answer**:
#
# - a rollout has **one** turn reward: the tool ran, and the right answer stands in what it found. It counts up to the
#   first result; where that is, is found by where the token mask flips;
# - a rollout **without a call** gets the z-score of both rewards added, on all its tokens;
# - a second estimate, `"cumulative"`, gives the call the z-score of $r + \gamma R$ in the place of a sum of z-scores;
# - the loss is the mean over all tokens, and the spread has 1e-4 added to it.
#
# It sums over the calls of a rollout, which is harmless where there is one, and pays for making many where there are
# more. To compare each of several calls with the same turn is our extension. Accounts of a later version (its title
# says *Turn-Level Reward Design*; we could not read it) say that its form for more turns samples a tree of rollouts,
# and that it turns to PPO for that reason: see [PPO over turns](ppo_turn.ipynb).

# %%
place = batch.trajectories.index(best.id)
cumulative = mt_grpo_released(estimate="cumulative")
display(page.side_by_side(batch, paper, released, trajectory=place))
page.table(
    ["turn", "additive", "cumulative"],
    [
        [t, page.number(a), page.number(b)]
        for t, (a, b) in enumerate(
            zip(page.turns(released, batch)[place], page.turns(cumulative, batch)[place], strict=True)
        )
    ],
)

# %% [markdown]
# ## 7. How it learned
#
# In stored runs the reward of a turn is MatchTIR's, the answer's included.

# %%
method_curves.beside_grpo(["mt_grpo"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@chain-misread"), env, mt_grpo(reward="match_turn_reward"))

# %% [markdown]
# **What its authors report** (abstract of the first version; Qwen2.5-7B in its script, one search a question): every
# call ran, and half of the answers match exactly; baselines do not call the tool and match 20 to 30 %. Not checked
# here.
#
# ## 8. Exercise: write it
#
# About 15 minutes.


# %% tags=["exercise"]
def turn_credit(reward, outcome, group, weight):
    """Return the credit of every turn, a row a rollout.

    reward: of each turn, a row a rollout; None where a turn has no reward of its own (the answer).  outcome: one a
    rollout.  group: the question of each.  weight: of the turn's own term.
    """

    # SOLUTION 1: two z-scores, one at the same turn of the question, one over its rollouts
    def z(x, pool):
        if x is None or len(pool) < 2 or max(pool) == min(pool):
            return 0.0
        mean = sum(pool) / len(pool)
        return (x - mean) / (sum((y - mean) ** 2 for y in pool) / (len(pool) - 1)) ** 0.5

    credit = []
    for row, end, g in zip(reward, outcome, group, strict=True):
        mine = [other for other, h in zip(reward, group, strict=True) if h == g]
        whole = z(end, [r for r, h in zip(outcome, group, strict=True) if h == g])
        at = [[other[t] for other in mine if t < len(other) and other[t] is not None] for t in range(len(row))]
        credit.append([weight * z(x, at[t]) + whole for t, x in enumerate(row)])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, the release's one reward a rollout:

# %%
check.ex(check.released)

# %% [markdown]
# ## 9. Where to go on
#
# - [MatchTIR](matchtir.ipynb) has the same reward and compares what follows; [IGPO](igpo.ipynb) makes a reward where
#   the world gives none.
# - [PPO over turns](ppo_turn.ipynb) learns what a state is worth, and compares with that.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
