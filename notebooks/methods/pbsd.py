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
# # PBSD: would one who knows the answer have done this, too?
#
# **Score every turn twice with the same policy: as it was sampled, and with the right answer written into the prompt.
# A turn that becomes likelier supports the answer. In a good rollout it is praised more; in a bad one, what
# undermines the answer is blamed more.**
#
# By Bayes' rule the log-ratio of a rollout is how much it raised the probability of the answer, and it splits over
# turns. The map from evidence to weight is **our reconstruction**: no code is public and the full text was not read.
#
# **Use it when** right answers are known in training and the policy can read one out of its prompt. It costs two passes
# over a rollout. **Not when** most questions are failed by all rollouts: it only weighs the outcome, and there is none
# to weigh.

# %% tags=["parameters"]
SEED = 5

# %%
import math
from dataclasses import replace

import torch
from IPython.display import display

import workbench
from workbench import envs, evidence, policy
from workbench.policy import Settings
from workbench.recipes import grpo, pbsd
from workbench.recipes.weighed import tilted_weight, turn_evidence
from workbench.rollout import play
from workbench.rollouts import Rollouts
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import pbsd as check
from workbench.train.tally import kinds
from workbench.view import CreditMap, Ribbons

gazetteer = envs.load("gazetteer")
player = policy.load("smollm2", shots=gazetteer.shots, tools=gazetteer.tools)
paper = pbsd()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# Turn $t$ has $n_t$ tokens; $e_t$ is how much likelier they become, on average, when the answer $a$ stands behind the
# question $q$. Here $\beta = 1$.
#
# $$e_t = \frac{1}{n_t} \sum_{j \in t} \big( \log p(y_j \mid q, a, \cdot) - \log p(y_j \mid q, \cdot) \big), \qquad
# w_t = \text{clip}\big( e^{\beta\, \text{sign}(A_i)\, e_t},\; 0.8,\; 1.2 \big), \qquad A_t = A_i\, w_t$$
#
# The sign of GRPO's advantage $A_i$ never flips, and 0 stays 0.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Three rollouts of one question, two turns each; the log-probabilities of every token, twice. (The worked example that
# the library is tested against.)

# %%
plain = [[[-0.9, -1.1], [-0.3, -0.5, -0.4]], [[-0.8, -0.7], [-0.6, -0.9]], [[-0.7], [-0.5, -1.0]]]
informed = [[[-0.5, -1.0], [-0.3, -0.2, -0.4]], [[-1.2, -0.9], [-0.6, -0.5]], [[-0.7], [-0.8, -1.1]]]  # told the answer
outcome = [1.0, 0.0, 1.0]
undermines = predict(
    "Rollout 1 is wrong; its first turn became less likely. Is it blamed more or less than its second?", None
)

# %%
middle = sum(outcome) / 3
spread = (sum((r - middle) ** 2 for r in outcome) / 2) ** 0.5  # of a sample
mine, steps = [[], [], []], []
for i, r in enumerate(outcome):
    a = (r - middle) / spread
    for t, (p, q) in enumerate(zip(plain[i], informed[i], strict=True)):
        e = (sum(q) - sum(p)) / len(p)
        tilt = math.exp(e if a > 0 else -e)  # beta is 1
        mine[i].append(a * min(max(tilt, 0.8), 1.2))
        steps.append([i, t, page.number(a), page.number(e, 2), f"{tilt:.3f}", f"{min(max(tilt, 0.8), 1.2):.3f}"])
display(page.table(["rollout", "turn", "A of GRPO", "evidence", "its exponential", "clipped: the weight"], steps))

sizes = [[len(turn) for turn in row] for row in plain]
small = page.hand(["q"] * 3, None, {"outcome": outcome}, turns=[2] * 3, tokens=sizes)
for name, rows in (("logprob_plain", plain), ("logprob_informed", informed)):
    flat = [x for row in rows for turn in row for x in turn]
    small = small.with_column(name, "token", torch.tensor(flat, dtype=torch.float64))
display(page.agrees(mine, paper, small))
undermines.reveal("more" if abs(mine[1][0]) > abs(mine[1][1]) else "less")

# %% [markdown]
# ## 4. On real rollouts
#
# SmolLM2 with a search tool, stored rollouts of two questions that were sometimes solved. The same model scores its
# own tokens again, told the answer.

# %%
stored = workbench.read("../../datasets/start")
varied = [g for g in stored.groups if len({t.outcome for t in g}) > 1][:2]
rollouts = Rollouts(tuple(t for g in varied for t in g))
rollouts = evidence.collect(rollouts, evidence.for_recipe([paper], rollouts, policy=player))
batch = rollouts.batch()
page.cost(rollouts, paper)

# %%
evidence_of = page.rows_of(turn_evidence("mean")(None, batch), batch)
lines = {}
for t, e in zip(rollouts, evidence_of, strict=True):
    lines[t.outcome, " / ".join(turn.action.text.strip() for turn in t.turns)] = ", ".join(f"{x:+.2f}" for x in e)
page.table(["outcome", "turns", "evidence by turn"], [[*key, e] for key, e in lines.items()])

# %% [markdown]
# On the question of the currency, a model that was told the answer finds the search for the country *just found*
# likelier, and a repeated search less likely. Nearly everything else becomes a little less likely, too: with the answer
# in the prompt, why search?

# %%
solved = next(t for t in reversed(rollouts.trajectories) if t.outcome == 1.0)
Ribbons(rollouts, solved.id, paper)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), paper])

# %%
page.promises(paper, batch)

# %% [markdown]
# The evidence of the turns of a rollout adds up to that of the rollout: an identity, checked on these rollouts.

# %%
ratio = batch["logprob_informed"].values.double() - batch["logprob_plain"].values.double()
owner = batch.up("token", "trajectory")
whole = torch.zeros(len(rollouts), dtype=torch.float64).index_add(0, owner, ratio)
per_turn = turn_evidence("sum")(None, batch)
split = torch.zeros_like(whole).index_add(0, batch.turn_trajectory, per_turn.values)
print(f"largest gap between the sum over turns and the rollout: {(whole - split).abs().max():.0e}")

# %% [markdown]
# ## 5. Where it fails
#
# **A policy that cannot use the answer gives noise.** `tiny` was never shown an answer in its prompt. In its own
# world its evidence hardly tells a search that helps from one that does not (the world's oracle knows which do):

# %%
env = envs.load("facet", items=8, clues=2)
small_player = policy.load("tiny@facet")
played = play(
    small_player, env, env.tasks("test", 6, seed=SEED), size=4, settings=Settings(max_new_tokens=24), seed=SEED
)
played = evidence.collect(played, evidence.for_recipe([paper], played, policy=small_player))
said = page.rows_of(turn_evidence("mean")(None, played.batch()), played.batch())
kind = [kinds(t) for t in played]
rows = []
for word, name in (("search that helps", "useful"), ("search that does not", "useless")):
    found = [e for es, ks in zip(said, kind, strict=True) for e, k in zip(es, ks, strict=True) if k == name]
    rows.append([word, len(found), f"{sum(found) / len(found):+.3f}"])
page.table(["tiny, kind of turn", "turns", "mean evidence"], rows)

# %% [markdown]
# **Whoever says the answer is praised, whether it was found or not.** Told the answer, a policy finds nothing likelier
# than to say it. Built to show it: three ways to go on right behind the question, read by SmolLM2 with and without
# the hint. The weight is that in a rollout with a good end.

# %%
asked = "Question: What is the currency of the country whose capital is Philipsburg?"
codec = player.renderer.codec
rows = []
for way in ("Search: currency of Sint Maarten", "Answer: Guilder", "As given, the answer is Guilder."):
    ids, said = codec.encode(f"{way}\n"), []
    for lead in (codec.encode(f"{asked}\n"), codec.encode(f"{asked} (The answer is Guilder.)\n")):
        said += [one.logprobs.mean() for one in player.engine.score([lead + ids], [(len(lead), len(lead + ids))])]
    e = float(said[1] - said[0])
    rows.append([way, page.number(e, 2), f"{min(max(math.exp(e), 0.8), 1.2):.2f}"])
page.table(["goes on with", "evidence", "weight"], rows)

# %% [markdown]
# A guess that nothing led to, and words that betray the prompt, have the largest weight there is; the search that is
# needed has the least. In a rollout that ended well the answer turn outweighs the turns that found the answer. (On the
# stored rollouts above it does not: behind two results, this model is as sure of the answer without being told.)
# `pbsd(answer=False)` leaves the last turn unweighed.
#
# **Length.** With `evidence="sum"` a long turn has more of it, and most weights sit at an end of the clip, where one
# turn is like another:

# %%
rows = []
for form, width in (("mean", 0.2), ("sum", 0.2), ("sum", 0.5)):
    recipe = pbsd(evidence=form, width=width)
    weights = tilted_weight(form, 1.0, width)(None, batch)
    at_end = ((weights.values - 1).abs() >= width - 1e-9).double().mean()
    rows.append([form, width, f"{at_end:.0%}"])
page.table(["evidence", "width of the clip", "weights at an end of it"], rows)

# %% [markdown]
# **A collapsed question stays collapsed**: where the outcomes are equal, there is nothing to weigh.
#
# ## 6. The paper and its code
#
# There is no code. What the abstract settles: the log-ratio, that it splits over turns, and that it *reweighs* the
# outcome. Ours: the mean over tokens, the exponential, the clip and all constants. How much do our choices matter
# here?

# %%
page.side_by_side(
    batch,
    paper,
    replace(pbsd(evidence="sum", width=0.5), name="pbsd, sums"),
    replace(pbsd(beta=3.0), name="pbsd, beta 3"),
    trajectory=batch.trajectories.index(solved.id),
)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["pbsd"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of `tiny` in section 5, before any training:

# %%
method_why.seen_from_grpo(played, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(small_player, env, paper)

# %% [markdown]
# **What its authors report**: consistent gains within and outside the training domains (abstract; their tables were
# not obtained).
#
# ## 8. Exercise: write it
#
# About 20 minutes.


# %% tags=["exercise"]
def turn_credit(plain, informed, outcome, group, beta, width):
    """Return the credit of every turn, a row a rollout.

    plain, informed: a row a rollout of lists, one a turn: log-probs of its tokens without the answer, and with it.
    outcome: one a rollout.  group: the question of each; a rollout alone with its question keeps its outcome.
    beta, width: of the weight, which stays within 1 - width and 1 + width.
    """
    # SOLUTION 1: evidence of each turn, its weight, times the z-score
    credit = []
    for i, g in enumerate(group):
        peers = [r for r, h in zip(outcome, group, strict=True) if h == g]
        middle = sum(peers) / len(peers)
        squares = sum((r - middle) ** 2 for r in peers)
        equal = max(peers) == min(peers)
        a = (
            outcome[i]
            if len(peers) == 1
            else 0.0
            if equal
            else (outcome[i] - middle) / (squares / (len(peers) - 1)) ** 0.5
        )
        sign = (a > 0) - (a < 0)
        row = []
        for p, q in zip(plain[i], informed[i], strict=True):
            e = (sum(q) - sum(p)) / len(p)
            row.append(a * min(max(math.exp(beta * sign * e), 1 - width), 1 + width))
        credit.append(row)
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, the sign forgotten:

# %%
check.ex(check.made(weigh=check.unsigned))

# %% [markdown]
# ## 9. Where to go on
#
# - [AEM](aem.ipynb) weighs turns by how sure the policy was; [IGPO](igpo.ipynb) asks for the belief after each turn.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
