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
# # SIOP: credit for every turn, and nobody knows the right answer
#
# **The rollouts of a question give answers. Those that say the same form a cluster. A turn is paid for making its
# own rollout's answer likelier in the eyes of a frozen scorer, the more so the more rollouts agree on it.**
#
# [IGPO](igpo.ipynb) asks about the right answer; here no right answer is read, no judge is called, and the policy that
# is trained is not asked either. *Self-Induced Outcome Potential*, 2026.
#
# **Use it when** right answers are not known and most rollouts that agree are right. It costs a call of a frozen scorer
# a turn, and a comparison of answers. **Not when** the popular answer is often wrong: it is made more popular (section
# 5).

# %% tags=["parameters"]
SEED = 5

# %%
import math
from dataclasses import replace

from IPython.display import display

from workbench import envs, evidence, policy
from workbench.credit import read
from workbench.evidence.clusters import cluster_answers
from workbench.policy import Settings
from workbench.recipes import grpo, siop, siop_released
from workbench.recipes.siop import target
from workbench.rollout import play
from workbench.teach import method_curves, method_told, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import siop as check
from workbench.train.tally import kinds
from workbench.view import CreditMap, Ribbons

env = envs.load("chain", hops=2)
player = policy.load("tiny@chain")  # a million parameters, at its shipped warm start
scorer = policy.load("tiny@chain")  # the frozen scorer: the same weights, which nothing here trains
paper = siop(kl=0.0)
released = siop_released(kl=0.0)

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, released, policy=scorer)

# %% [markdown]
# ## 2. The equation
#
# Cluster $c$ holds the share $m_c$ of the answers given; $\rho_c$ in $[0, 1]$ says how well what the tools returned
# supports it. Every cluster is a target, worth
#
# $$q_c = \text{softmax}_c\,(\log m_c + \eta\,\rho_c)$$
#
# $p_t$ is the frozen scorer's probability of the cluster's answers after action $t$. A rollout of cluster $c$ earns
#
# $$r_t = q_c\,(\log p_t - \log p_{t-1}), \qquad r_T = \ldots + (1 - \lambda)\,q_c$$
#
# A rollout of one turn has the last term alone. All $r$ of a question are normalised in one pool, then summed from the
# end: $A_t = \hat r_t + \gamma A_{t+1}$. As released, $p_t$ has not read what came back from action $t$: what a search
# found shows one turn later.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Four rollouts of one question answer Paris, "paris, france", Lyon and nothing. The first two are one cluster, with two
# ways to say it. A line a turn, the prompt first: the scorer's mean log-probability of each way to say the rollout's
# *own* answer. (The worked example that the library is tested against.)

# %%
cluster = [0, 0, 1, None]
support = [0.9, 0.1, 0.8, 0.1]
logprobs = [
    [(-2.0, -2.5), (-1.5, -2.2), (-0.8, -1.0), (-0.3, -0.6)],
    [(-2.0, -2.5), (-2.1, -2.4), (-1.2, -1.0)],
    [(-3.0,), (-2.0,), (-2.2,)],
    [],
]
silent = predict("What is the credit of the rollout that gave no answer: below 0, 0 or unknown?", None)

# %%
belief = [[sum(map(math.exp, ways)) / len(ways) for ways in row] for row in logprobs]
mass = [2 / 3 * math.exp((0.9 + 0.1) / 2), 1 / 3 * math.exp(0.8)]  # share of the answers, tilted by the mean support
q = [m / sum(mass) for m in mass]
rewards = []
for c, row in zip(cluster[:3], belief, strict=False):
    logs = [math.log(p) for p in row]
    earned = [q[c] * (b - a) for a, b in zip(logs, logs[1:], strict=False)]
    earned[-1] += (1 - 0.5) * q[c]  # lambda is 0.5
    rewards.append(earned)
print(f"q of the two clusters: {q[0]:.3f}, {q[1]:.3f}; rewards: {[page.line(row, 3) for row in rewards]}")


def summed(rows):
    """Normalise all rewards in one pool, then sum each row from the end; gamma is 1."""
    pool = [r for row in rows for r in row]
    mean = sum(pool) / len(pool)
    spread = (sum((r - mean) ** 2 for r in pool) / (len(pool) - 1)) ** 0.5  # of a sample
    return [[sum((r - mean) / spread for r in row[t:]) for t in range(len(row))] for row in rows]


small = page.hand(
    ["q"] * 4,
    {"cluster_prob": [*(row[1:] for row in belief[:3]), [None, None]]},
    {
        "answer_cluster": cluster,
        "cluster_support": support,
        "cluster_prob_start": [*(row[0] for row in belief[:3]), None],
    },
)
display(page.agrees([*summed(rewards), [None, None]], paper, small))
silent.reveal("unknown" if page.turns(paper, small)[3][0] is None else "a number")

# %% [markdown]
# In the release a rollout without an answer has reward 0 at every turn, and goes into the pool with it:

# %%
page.agrees(summed([*rewards, [0.0, 0.0]]), released, small)

# %% [markdown]
# Support tilts the vote, it does not decide it: the answer of one rollout, well supported, stays below that of two. And
# who gave no answer has the largest blame of all, because 0 is below the mean: section 6.
#
# ## 4. On real rollouts
#
# A world in which an answer is two lookups away. `tiny` plays 4 questions, 4 rollouts each. Answers are clustered,
# and the frozen scorer says after each turn how likely it finds them.

# %%
questions = env.tasks("test", 4, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=32), seed=SEED, run="siop")
recipes_used = [paper, released, grpo(kl=0.0)]
rollouts = evidence.collect(rollouts, evidence.for_recipe(recipes_used, rollouts, reference=scorer))
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, paper)

# %% [markdown]
# How answers were compared is written into the columns:

# %%
how = batch["answer_cluster"].provenance.parameters
told = f'`cluster_by="{how["cluster_by"]}"`, model `{how["model"]}`'
page.markdown(f"{told}. The paper compares by entailment (`nli`).")

# %% [markdown]
# What the group agrees on, question by question. The last column is what SIOP never sees.


# %%
def answer(t):
    said = [call.arguments["text"] for turn in t.turns for call in turn.calls if call.name == "answer"]
    return said[-1] if said else "no answer"


worth = target(1.0)(None, batch).tolist()
place = {name: i for i, name in enumerate(batch.trajectories)}
lines = []
for group, task in zip(rollouts.groups, questions, strict=True):
    told = [f"{answer(t)} ({page.number(worth[place[t.id]], 2)})" for t in group]
    lines.append([task.question, ", ".join(told), task.gold["answer"]])
page.table(["question", "answer of each rollout (its q)", "right"], lines)

# %% [markdown]
# One rollout, stage by stage, and in the eyes of GRPO, which was told the outcome.

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and len(t.turns) > 3)
Ribbons(rollouts, solved.id, paper)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), paper])

# %%
page.promises(paper, batch)

# %% [markdown]
# Does the credit, which reads no outcome, agree with outcomes here?

# %%
ends = {True: [], False: []}
for t, row in zip(rollouts, page.turns(paper, batch), strict=True):
    if row[0] is not None:
        ends[t.outcome == 1.0].append(row[0])
words = {"right": ends[True], "wrong": ends[False]}
page.table(
    ["rollouts", "how many", "mean credit of the first turn"],
    [[word, len(found), page.number(sum(found) / len(found))] for word, found in words.items()],
)

# %% [markdown]
# ## 5. Where it fails
#
# **A wrong majority is reinforced.** Built to show it: three rollouts agree on a wrong answer, one is right, and the
# scorer grows sure of all alike.

# %%
popular = predict("Who is praised at the first turn: the three who are wrong, or the one who is right?", None)

# %%
wrong = page.hand(
    ["q"] * 4,
    {"cluster_prob": [[0.2, 0.6]] * 4},
    {
        "answer_cluster": [0, 0, 0, 1],
        "cluster_support": [0.5] * 4,
        "cluster_prob_start": [0.1] * 4,
        "outcome": [0.0, 0.0, 0.0, 1.0],
    },
)
said = [page.turns(recipe, wrong) for recipe in (paper, grpo(kl=0.0))]
who = ["wrong, with two others", "right, alone"]
display(
    page.table(
        ["rollout", "`siop`", "`grpo`"],
        [[w, *(page.line(rows[i]) for rows in said)] for i, w in zip((0, 3), who, strict=True)],
    )
)
popular.reveal("the three who are wrong" if said[0][0][0] > said[0][3][0] else "the one who is right")

# %% [markdown]
# **Where nobody agrees, it still pays.** With as many answers as rollouts only support tells the $q$ apart, and the
# normalisation takes out how small they all are: what is left is mostly how sure the scorer grew of each rollout's
# *own* answer. On the rollouts above:

# %%
credit = page.turns(paper, batch)
lines = []
for group, task in zip(rollouts.groups, questions, strict=True):
    given = [answer(t) for t in group if answer(t) != "no answer"]
    nobody = [t for t in group if t.outcome == 0.0 and credit[place[t.id]][-1] is not None]
    praised = sum((credit[place[t.id]][-1] or 0.0) > 0 for t in nobody)
    lines.append([task.question, f"{len(set(given))} of {len(given)}", f"{praised} of {len(nobody)}"])
page.table(["question", "different answers", "wrong rollouts whose last turn is praised"], lines)

# %% [markdown]
# **The order of rollouts decides clusters.** An answer joins the first cluster whose *first member* says the same.
# With a relation that is not transitive (here: two texts share a word), the same three answers cluster in two ways:


# %%
class ShareAWord:
    def same(self, question, first, others):
        return [bool(set(first.split()) & set(one.split())) for one in others]


orders = [["red fox", "red hen", "blue hen"], ["red hen", "blue hen", "red fox"]]
rows = [[", ".join(order), cluster_answers(order, ShareAWord())] for order in orders]
page.table(["answers in this order", "cluster of each"], rows)

# %% [markdown]
# **A scorer that is missing.** In the release every log-probability is then 0, only $(1-\lambda)\,q_c$ is left, and
# nobody is told. Here it is an error:

# %%
try:
    evidence.for_recipe(paper, policy=player)  # the policy that plays is no frozen scorer
except evidence.MissingEvidence as missing:
    print(missing)

# %% [markdown]
# **What a search found is paid to the turn behind it.** The belief after a turn is asked before the tool has replied.
# Does the credit still tell the search that helped? Measured against the oracle of this world:

# %%
method_told.which_turn("siop")

# %% [markdown]
# Below one half inside a rollout. How much the scorer's belief moved when a search was made, and one turn later:

# %%
asked = page.rows_of(read("cluster_prob", "turn")(None, batch), batch)
before = batch["cluster_prob_start"].values.tolist()
rows = []
for word, name in (("search that helps", "useful"), ("search that does not", "useless")):
    own, later = [], []
    for t, first, row in zip(rollouts, before, asked, strict=True):
        logs = [] if row[0] is None else [math.log(p) for p in (first, *row)]
        found = [k for k, kind in enumerate(kinds(t)) if kind == name and logs]
        own += [logs[k + 1] - logs[k] for k in found]
        later += [logs[k + 2] - logs[k + 1] for k in found if k + 2 < len(logs)]
    rows.append([word, len(own), *(page.number(sum(x) / len(x)) for x in (own, later))])
page.table(["kind of turn", "turns", "change of log p at its own turn", "at the next turn"], rows)

# %% [markdown]
# When it is made, neither kind of search moves the belief. One turn later both do, those that helped more; but then it
# is paid to whatever turn stands there.
#
# ## 6. The paper and its code
#
# In the release every turn of a rollout without an answer has the reward 0 and is compared with the others. 0 is not
# neutral: where the mean of the question is above it, it is blame, and summed to the end the more blame the earlier
# the turn. The others gain by it, for the mean is lower. A rollout without an answer, in both:

# %%
speechless = next(t for t in rollouts if answer(t) == "no answer")
page.side_by_side(batch, paper, released, trajectory=place[speechless.id])

# %% [markdown]
# The ablations of the authors, on the rollout drawn above: no support; only the share of the cluster; a majority vote.

# %%
page.side_by_side(
    batch,
    paper,
    replace(siop(eta=0.0, kl=0.0), name="siop, no support"),
    replace(siop(reward="frequency", kl=0.0), name="siop, share alone"),
    replace(siop(reward="majority", kl=0.0), name="siop, majority vote"),
    trajectory=place[solved.id],
)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["siop"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start; what is not trained is the scorer:

# %%
method_curves.continue_live(policy.load("tiny@chain"), env, siop(), updates=2)

# %% [markdown]
# **What its authors report**, by the abstract: better on average than label-free outcome rewards on seven search
# question sets, and near an outcome reward that knows the right answer. Their table was not read; not checked here.
#
# ## 8. Exercise: write it
#
# About 25 minutes. $\eta$ is 1 and $\lambda$ is 0.5. No belief is 0, so there is no $\epsilon$ to add.


# %% tags=["exercise"]
def turn_credit(cluster, support, start, after, group, gamma):
    """Return the credit of every turn, a row a rollout; 0 at every turn of a rollout without an answer.

    cluster: number of each rollout's answer cluster in its question, None without an answer.
    support: one a rollout, None where no tool response was seen.
    start: belief in the own answer after the prompt.  after: a row of beliefs a rollout, one a turn.
    group: the question of each.  gamma: discount a turn.
    """
    # SOLUTION 1: q of each cluster, rewards, one pool a question, sums from the end
    mass, rows = {}, []
    for g, c in {(g, c) for g, c in zip(group, cluster, strict=True) if c is not None}:
        mine = [s for s, h, d in zip(support, group, cluster, strict=True) if (h, d) == (g, c)]
        seen = [s for s in mine if s is not None]
        mass[g, c] = len(mine) * math.exp(sum(seen) / len(seen) if seen else 0.0)
    for g, c, before, row in zip(group, cluster, start, after, strict=True):
        if c is None:
            rows.append(None)
            continue
        q = mass[g, c] / sum(m for (h, _), m in mass.items() if h == g)
        logs = [math.log(p) for p in (before, *row)]
        earned = [q * (b - a) for a, b in zip(logs, logs[1:], strict=False)] if len(row) > 1 else [0.0]
        earned[-1] += 0.5 * q
        rows.append(earned)
    credit = []
    for g, row, turns in zip(group, rows, after, strict=True):
        if row is None:
            credit.append([0.0] * len(turns))
            continue
        pool = [r for other, h in zip(rows, group, strict=True) if h == g and other is not None for r in other]
        mu = sum(pool) / len(pool)
        spread = (sum((r - mu) ** 2 for r in pool) / (len(pool) - 1)) ** 0.5 if max(pool) > min(pool) else 1.0
        follows, back = 0.0, []
        for r in reversed(row):
            follows = (r - mu) / spread + gamma * follows
            back.append(follows)
        credit.append(back[::-1])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, the reward 0 of the release for who gave
# no answer:

# %%
check.ex(check.made(blamed=True))

# %% [markdown]
# ## 9. Where to go on
#
# - [IGPO](igpo.ipynb): the same differences towards the right answer, asked of the policy that is trained.
# - [SPAE](spae.ipynb): sampled answers of the policy itself beside the right one.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
