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
# # MatchTIR: did this turn call the right tool with the right arguments?
#
# **Match the tool calls of a rollout with a reference trace. Each turn is rewarded by how well its call fits; compare
# rollouts, and compare turns at the same place.**
#
# It needs a reference: which calls solve the task. Then it needs no model at all to say which turn was useful.
#
# **Use it when** a reference trace is known and there is hardly another way to the goal. It costs no model. **Not
# when** tasks can be solved in many ways: all but one earn nothing (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
import torch
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.credit import Credit
from workbench.evidence import matching
from workbench.policy import Settings
from workbench.recipes import grpo, matchtir, matchtir_released
from workbench.rollout import play
from workbench.teach import method_curves, method_told, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import matchtir as check
from workbench.view import CreditMap, Ribbons

env = envs.load("chain")
player = policy.load("tiny@chain-misread")  # a million parameters; reads some words as others
paper = matchtir()
released = matchtir_released(kl=0.0, entropy=0.0)

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, released, policy=player)

# %% [markdown]
# ## 2. The equation
#
# A call $p$ of the same tool as a gold call $g$ is similar to it by the names of its arguments and by their values:
#
# $$S(p, g) = \frac{1 + J(\text{names}) + \#\{k : p_k = g_k\}}{2 + |g|}$$
#
# Calls are matched with gold calls, each at most once. The reward $r_t$ of a turn is the similarity of its call to the
# one it was matched with, 0 if none; the answering turn gets its F1 with the right answer. Then
#
# $$A_t = z\Big(\sum_t r_t\Big) + z_{\,t}(G_t), \qquad G_t = r_t + \gamma G_{t+1}, \qquad \gamma = 0.9$$
#
# The first term compares rollouts of the question, the second turns of the question at the same place $t$.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Two rollouts: one makes both gold calls and answers right; the other repeats its first call and answers wrong.

# %%
reward = [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
gamma = 0.9
repeated = predict("Both first turns earned the same reward. Do they get the same credit? (yes or no)", None)


# %%
def z(x, pool):
    mean = sum(pool) / len(pool)
    squares = sum((y - mean) ** 2 for y in pool)
    return 0.0 if squares == 0 else (x - mean) / (squares / (len(pool) - 1)) ** 0.5


returns = []
for row in reward:
    follows, back = 0.0, []
    for r in reversed(row):
        follows = r + gamma * follows
        back.append(follows)
    returns.append(back[::-1])

totals = [sum(row) for row in reward]
mine = [[z(totals[i], totals) + z(returns[i][t], [row[t] for row in returns]) for t in range(3)] for i in range(2)]
small = page.hand(["q", "q"], {"match_turn_reward": reward})
display(page.agrees(mine, paper, small))
repeated.reveal("no" if abs(mine[0][0] - mine[1][0]) > 0.01 else "yes")

# %% [markdown]
# With two rollouts every z-score is $\pm 0.71$, so all of rollout 0 is praised and all of rollout 1 blamed, its right
# first call included. Turn credit needs siblings that differ turn by turn.
#
# ## 4. On real rollouts
#
# A chain of lookups: the reference trace is the chain itself. `tiny` starts with a habit of misreading some words.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="matchtir")
rollouts = evidence.collect(rollouts, evidence.for_recipe([paper, grpo(kl=0.0)], rollouts, policy=player))
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, paper)

# %%
column = batch["match_turn_reward"]
rewards = page.rows_of(Credit(column.values, "turn", column.known), batch)
partly = max(range(len(rollouts)), key=lambda i: len({*rewards[i]}))
Ribbons(rollouts, rollouts[partly].id, paper)

# %%
mates = [i for i, t in enumerate(rollouts) if t.group == rollouts[partly].group]
others = ", ".join(f"{sum(rewards[i]):.2f}" for i in mates if i != partly)
credit = page.turns(paper, batch)[partly]
idle = [c for r, c in zip(rewards[partly], credit, strict=True) if r == 0.0]
page.markdown(
    f"Outcomes of this question: {', '.join(f'{rollouts[i].outcome:g}' for i in mates)}. The turns of this rollout "
    f"earned {sum(rewards[partly]):.2f} together, those of its siblings {others}. {len(idle)} of its turns earned "
    f"nothing, and **{sum(c > 0 for c in idle)} of these are praised**: the sum of the rollout counts for all of them."
)

# %% [markdown]
# Beside GRPO, which has nothing to say where all outcomes are equal:

# %%
CreditMap(rollouts, rollouts[partly].id, [grpo(kl=0.0), paper])

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **Greedy is not optimal.** The release's routine is called `hungarian_assignment` and is greedy: the best pair first,
# whatever is left then. Two calls of `search` against two gold calls:

# %%
gold = [matching.GoldCall("search", {"x": 1, "y": 2}), matching.GoldCall("search", {"x": 1})]
made = [matching.GoldCall("search", {"x": 1, "y": 2}), matching.GoldCall("search", {"y": 2})]
table = torch.tensor([[matching.similarity(p, g) for g in gold] for p in made])
rows = []
for how in ("greedy", "optimal", "transport"):
    paid = matching.call_rewards(table, how)
    rows.append([how, *(f"{x:.3f}" for x in paid), f"{sum(paid):.3f}"])
page.table(["matching", "first call", "second call", "sum"], rows)

# %% [markdown]
# **Values are compared as they are.** `"7"` is not `7`:

# %%
number = matching.GoldCall("lookup", {"id": 7})
text = matching.GoldCall("lookup", {"id": "7"})
calls = [[str(call.arguments), f"{matching.similarity(call, number):.2f}"] for call in (number, text)]
page.table(["call", "similarity to id = 7"], calls)

# %% [markdown]
# **A turn without a peer is on another scale.** The longest rollout of a question has turns nobody else has. They keep
# their raw return, between 0 and a few units, beside z-scores:

# %%
deep = page.hand(["q", "q"], {"match_turn_reward": [[0.5, 0.5, 0.0, 0.0, 0.0, 1.0], [0.5, 0.5]]})
page.table(["rollout", "credit by turn"], [[i, page.line(row)] for i, row in enumerate(page.turns(paper, deep))])

# %% [markdown]
# Turns 2 to 5 of rollout 0 are praised more the nearer they are to the end, although nobody was compared.
#
# **Another way to the answer earns nothing.** The reference knows one way. Built to show it: both rollouts are right,
# the first by the two searches of the reference, the second by one call of another tool.

# %%
trace = [matching.GoldCall("search", {"of": "tree"}), matching.GoldCall("search", {"of": "bird"})]
ways = {
    "two searches": [matching.GoldCall("search", {"of": "tree"}), matching.GoldCall("search", {"of": "bird"})],
    "one lookup": [matching.GoldCall("lookup", {"path": "tree.bird"})],
}
paid = []
for calls in ways.values():
    alike = torch.tensor([[matching.similarity(p, g) for g in trace] for p in calls])
    paid.append([*matching.call_rewards(alike, "greedy"), 1.0])  # the answer is right: F1 is 1
both = page.turns(paper, page.hand(["q"] * 2, {"match_turn_reward": paid}))
page.table(
    ["rollout", "rewards of its turns", "credit by turn"],
    [[way, page.line(r), page.line(c)] for way, r, c in zip(ways, paid, both, strict=True)],
)

# %% [markdown]
# The shorter way is blamed for being another.
#
# ## 6. The paper and its code
#
# The paper's figure adds the two terms, the release averages them. It scales everything by one half:

# %%
page.side_by_side(batch, paper, released, trajectory=partly)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["matchtir"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Does its credit find the search that helped? Stored, on more rollouts of the chain world:

# %%
method_told.which_turn("matchtir", beside=("earlier is better", "grpo", "shapley"))

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@chain-misread"), env, paper)

# %% [markdown]
# **What its authors report**, on tool use (average of FTRL, BFCL and ToolHop): 36.07 at 4B against GRPO's 31.32,
# 39.92 at 8B against 34.92; matching by transport is behind (34.45, 38.54). Not checked here.
#
# ## 8. Exercise: write it
#
# About 15 minutes. The matching is done; the rewards of the turns are given.


# %% tags=["exercise"]
def turn_credit(reward, group, gamma):
    """Return the credit of every turn, a row a rollout.

    reward: a row of numbers a rollout.  group: the question of each.  gamma: discount a turn.  What has no peer keeps
    its raw number.
    """

    # SOLUTION 1: sums of rollouts and returns of turns, each compared
    def z(x, pool):
        if len(pool) == 1:
            return x
        mean = sum(pool) / len(pool)
        squares = sum((y - mean) ** 2 for y in pool)
        return 0.0 if max(pool) == min(pool) else (x - mean) / (squares / (len(pool) - 1)) ** 0.5

    returns = []
    for row in reward:
        back, follows = [], 0.0
        for r in reversed(row):
            follows = r + gamma * follows
            back.append(follows)
        returns.append(back[::-1])
    credit = []
    for i, g in enumerate(group):
        mine = [k for k, h in enumerate(group) if h == g]
        whole = z(sum(reward[i]), [sum(reward[k]) for k in mine])
        same = [[returns[k][t] for k in mine if t < len(returns[k])] for t in range(len(returns[i]))]
        credit.append([whole + z(x, pool) for x, pool in zip(returns[i], same, strict=True)])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, the release's average:

# %%
check.ex(check.made(weights=(0.5, 0.5)))

# %% [markdown]
# ## 9. Where to go on
#
# - [GiGPO](gigpo.ipynb): compare turns in the same state, without a reference trace.
# - [Mini-o3](mini_o3.ipynb) and others know outcomes only; the [index](../index.ipynb) lays all beside each other.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
