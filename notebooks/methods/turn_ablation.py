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
# # Turn ablation: what would be lost without this turn?
#
# **Take out what came back from a turn and let the policy score its own answer once more. How much less likely the
# answer is now, is what the turn was worth.**
#
# No right answer, no judge and no second rollout is needed: one forward pass a turn. The outcome is not needed
# either, and that is its weakness. This is an old idea of explaining networks, put to turns here; we found no method
# of training that rests on it. Before this one: [GRPO](grpo.ipynb).
#
# **Use it when** you ask what an answer leans on, right or wrong. It costs a pass of the policy a turn. **Not when** it
# is all a policy learns from: who copies a wrong number is praised for the search that found it (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.credit import Credit
from workbench.evidence.ablation import ReplayDrop
from workbench.policy import Settings
from workbench.recipes import grpo, turn_ablation
from workbench.rollout import play
from workbench.teach import method_curves, method_told, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import turn_ablation as check
from workbench.view import CreditMap, Ribbons

env = envs.load("chain", hops=2)
player = policy.load("tiny@chain-misread")  # a million parameters; reads some words as others
ablation = turn_ablation()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(ablation, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $y$ are the tokens of the last turn, $o_t$ is what came back from turn $t$, and $x$ is all that stands before $y$:
#
# $$d_t = \log p(y \mid x) - \log p(y \mid x \text{ without } o_t), \qquad A_t = \frac{d_t - \mu}{\sigma}$$
#
# $\mu$ and $\sigma$ are taken over all turns of the question. The turn's own words stay, and so do all later turns,
# word for word. The last turn has no $d_t$: it is what is scored.

# %%
ablation

# %% [markdown]
# ## 3. By hand
#
# Two rollouts of a question. First the log-probability of the answer behind everything, then without each search.

# %%
whole = [-0.2, -1.2]
without = [[-0.3, -4.2], [-1.1, -1.3, -2.7]]
needless = predict("Without rollout 0's first search the answer is hardly less likely. Is its credit +, 0 or -?", None)

# %%
drops = [[w - x for x in row] for w, row in zip(whole, without, strict=True)]
pool = [d for row in drops for d in row]
mean = sum(pool) / len(pool)
spread = (sum((d - mean) ** 2 for d in pool) / (len(pool) - 1)) ** 0.5
print("drops:", [page.line(row) for row in drops], f"mean {mean:.2f}, spread {spread:.2f}")

mine = [[(d - mean) / spread for d in row] + [None] for row in drops]
small = page.hand(["q", "q"], {"ablation_drop": [[*row, None] for row in drops]})
display(page.agrees(mine, ablation, small))
needless.reveal("-" if mine[0][0] < 0 else "+")

# %% [markdown]
# A turn that is not missed is blamed, because most turns are missed more. The turn that answers is unknown: it gets
# no credit, and stays out of the loss.
#
# ## 4. On real rollouts
#
# A chain of two lookups: the first names the thing to ask for in the second, which has the number that is the answer.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="ablation")
rollouts = evidence.collect(rollouts, evidence.for_recipe([ablation, grpo(kl=0.0)], rollouts, policy=player))
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, ablation)

# %% [markdown]
# Every rollout is scored once as it is, and once more for each turn that something came back from: as many passes as
# turns. Each pass reads nearly the whole rollout, so the tokens grow with the square of its length.

# %%
solved = next(t for g in rollouts.groups for t in g if t.outcome == 1.0 and min(x.outcome for x in g) == 0.0)
Ribbons(rollouts, solved.id, ablation)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), ablation])

# %%
page.promises(ablation, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **Two turns that say the same get nothing, both.** Each is spared by the other. Built to show it, and scored by a
# model that can read: SmolLM2 with 135 million parameters. It searches twice and finds the same, then it answers.

# %%
reader = policy.load("smollm2")
asked = "Question: what is the code of the red box?\n"
search, result = "Search: code of the red box\n", "Result: the code of the red box is 4 7\n"
left = {"nothing": (1, 1), "first result": (0, 1), "second result": (1, 0), "both results": (0, 0)}
together = predict("Both results gone cost how much more than the two ablations together: 1, 2, or over 5 times?", None)

# %%
texts = [asked + search + result * first + search + result * second + "Answer:" for first, second in left.values()]
answer = reader.renderer.codec.encode(" 4 7")
seen = [reader.renderer.codec.encode(text) for text in texts]
scored = reader.engine.score([ids + answer for ids in seen], [(len(ids), len(ids) + len(answer)) for ids in seen])
found = {word: float(one.logprobs.sum()) for word, one in zip(left, scored, strict=True)}
drop = {word: found["nothing"] - value for word, value in found.items()}
display(
    page.table(
        ["taken out", "log-probability of the answer", "drop"],
        [[word, page.number(found[word]), page.number(drop[word])] for word in left],
    )
)
times = drop["both results"] / (drop["first result"] + drop["second result"])
together.reveal(f"{times:.0f} times")

# %% [markdown]
# Each ablation asks what is lost *beside all the rest*, and beside its twin a turn is never missed. The cure is to
# ask for every set of turns, as Shapley values do: equals share what both bring. From the four numbers above:

# %%
alone = {"first": drop["both results"] - drop["second result"], "second": drop["both results"] - drop["first result"]}
fair = [(drop[f"{n} result"] + alone[n]) / 2 for n in alone]
rows = [["ablation", drop["first result"], drop["second result"]], ["Shapley", *fair]]
page.table(["", "first search", "second search", "sum"], [[n, *map(page.number, (a, b, a + b))] for n, a, b in rows])

# %% [markdown]
# **It measures the policy that is asked.** `tiny` repeats itself, too, and copies its answer from the result just
# before it. The rollout of section 4 once more:

# %%
column = page.rows_of(Credit(batch["ablation_drop"].values, "turn", batch["ablation_drop"].known), batch)
credit = page.turns(ablation, batch)
place = batch.trajectories.index(solved.id)
page.table(
    ["turn", "said", "came back", "drop", "credit"],
    [
        [k, turn.action.text, " ".join(m.text for m in turn.observations), page.number(d), page.number(a)]
        for k, (turn, d, a) in enumerate(zip(solved.turns, column[place], credit[place], strict=True))
    ],
)

# %% [markdown]
# Where two turns are the same, SmolLM2 spares both; `tiny` reads the later one, so that one has everything: equal
# turns, opposite credit.
#
# **What a later turn carries on is not missed.** The second search asks for the thing that the first one named. Take
# the first result away, and the name still stands in the second question. All rollouts that went straight to the
# right answer:

# %%
straight = [row[:-1] for t, row in zip(rollouts, column, strict=True) if t.outcome == 1.0 and len(t.turns) == 3]
page.table(
    ["search", "drop, mean", "least", "largest"],
    [
        [word, *(page.number(f([row[k] for row in straight])) for f in (lambda v: sum(v) / len(v), min, max))]
        for k, word in enumerate(("first: names what to ask next", "second: has the answer"))
    ],
)

# %% [markdown]
# Only the second is missed, although without the first it could not have been asked. Taking out an observation is not
# taking out its consequences.
#
# **It praises what the answer leans on, also where the answer is wrong.** The outcome is not read at all:

# %%
answered = [(t, row) for t, row in zip(rollouts, credit, strict=True) if not t.truncated and len(row) > 1]
rows = []
for word, end in (("right", 1.0), ("wrong", 0.0)):
    ends = [row[-2] for t, row in answered if t.outcome == end]
    rows.append([word, len(ends), page.number(sum(ends) / len(ends)), f"{sum(x > 0 for x in ends)} of {len(ends)}"])
page.table(["answer", "rollouts", "credit of the last search, mean", "praised"], rows)

# %% [markdown]
# The wrong one that is praised most, beside a sibling that was right:

# %%
misled, most = max(((t, row[-2]) for t, row in answered if t.outcome == 0.0), key=lambda pair: pair[1])
sibling, its = next((t, row[-2]) for t, row in answered if t.outcome == 1.0 and t.group == misled.group)
print(misled.prompt[-1].text)
page.table(
    ["its last search found", "it answered", "outcome", "credit of that search"],
    [
        [t.turns[-2].observations[0].text, t.turns[-1].calls[0].arguments["text"], t.outcome, page.number(x)]
        for t, x in ((misled, most), (sibling, its))
    ],
)

# %% [markdown]
# The search that found a wrong number is praised as much as one that found the right number, because the answer copied
# it.
#
# **Does it tell the turn that helped?** Measured against the oracle of this world:

# %%
method_told.which_turn("turn_ablation")

# %% [markdown]
# ## 6. Two ways to take a turn out
#
# There is no paper to compare with. The idea is that of erasing words or units of a network and seeing what changes;
# its authors take the *relative* change of a score (by their abstract), here it is the difference of logarithms.
#
# The other reading of "without this turn": play the same actions in a fresh world, leaving one out. It costs no model
# call, and its unit is the outcome:

# %%
played = evidence.collect(rollouts, [ReplayDrop(env)])
replay = played.columns["ablation_drop"]
known = [x for x, there in zip(replay.values.tolist(), replay.known.tolist(), strict=True) if there]
moved = sum(x != 0 for x in known)
page.markdown(
    f"Known for {len(known)} of {len(replay.known)} turns: without its answer a rollout does not end. "
    f"Different from 0: **{moved}**. Rollouts played again: {replay.provenance.calls}; calls of the model: 0."
)

# %% [markdown]
# In a world where actions only read, nothing but the answer changes the outcome. Replay tells something where actions
# change things, and then later actions may no longer be possible.
#
# ## 7. How it learned

# %%
method_curves.beside_grpo(["turn_ablation"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, ablation)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@chain-misread"), env, ablation)

# %% [markdown]
# **What its authors report**: there are none of this method, so there is no figure. The nearest relative we know,
# Causal Agent Replay (2026, [arXiv:2606.08275](https://arxiv.org/abs/2606.08275), abstract read), explains failures
# instead of training: it lets the policy *play on* from a changed step, and goes over to Shapley values where steps
# interact.
#
# ## 8. Exercise: write it
#
# About 10 minutes.


# %% tags=["exercise"]
def turn_credit(whole, without, group):
    """Return the credit of every turn that something came back from, a row a rollout.

    whole: log-probability of each rollout's answer behind everything.  without: a row a rollout: the same without what
    came back from each turn; None where nothing came back.  group: the question of each.
    Leave turns with None out of the rows that you return.
    """
    # SOLUTION 1: drops, one pool a question
    drops = [[w - x for x in row if x is not None] for w, row in zip(whole, without, strict=True)]
    credit = []
    for row, g in zip(drops, group, strict=True):
        pool = [d for other, h in zip(drops, group, strict=True) if h == g for d in other]
        mean = sum(pool) / len(pool)
        squares = sum((d - mean) ** 2 for d in pool)
        spread = (squares / (len(pool) - 1)) ** 0.5 if max(pool) > min(pool) else 1.0
        credit.append([(d - mean) / spread for d in row])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, a turn that was never asked, counted
# as 0:

# %%
check.ex(check.made(then=check.zeros))

# %% [markdown]
# ## 9. Where to go on
#
# - [Shapley over turns](shapley.ipynb): the same question asked of every set of turns.
# - [PBSD](pbsd.ipynb): what changes when the policy is *told* something; here it is what changes when it forgets.
# - [IGPO](igpo.ipynb): belief in the right answer after each turn; there the first of two equal turns gets all.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(ablation)
