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
# # PPO over turns: did it stand better after this turn than before?
#
# **A value head guesses before every turn how the rollout will end. A turn is credited with what it earned and with how
# far the guess rose; a turn is one action.**
#
# It compares with an expectation, not with siblings: one rollout a question is enough, and turns of one rollout get
# different credit even where the world pays only at the end. The price is that the expectation has to be learned.
# *Turn-PPO: Turn-Level Advantage Estimation with PPO*, 2025, after PPO (2017). Before this one:
# [REINFORCE](reinforce.ipynb).
#
# **Use it when** a question is played once only and a rollout has several turns. It costs a value head, read in the
# pass that is made anyway. **Not when** a run is short: siblings are a baseline at once, a head has to be taught
# (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
from IPython.display import display

from workbench import envs, policy
from workbench.credit import Credit
from workbench.policy import Settings
from workbench.recipes import grpo, ppo_turn
from workbench.rollout import play
from workbench.teach import critics, method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import ppo_turn as check
from workbench.train.plan import Plan, start
from workbench.train.values import with_values
from workbench.view import CreditMap, Ribbons

env = envs.load("chain", hops=2)
player = policy.load("tiny@chain-misread")  # a million parameters; reads some words as others
paper = ppo_turn()
by_turn = ppo_turn(ratio="turn")

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $V_k$ is the guess before turn $k$'s first token, when the tool has replied; $r_k$ what the turn earned (here: the
# outcome, at the last turn). After the end there is nothing to come: $V = 0$.
#
# $$\delta_k = r_k + \gamma V_{k+1} - V_k, \qquad A_k = \delta_k + \gamma\lambda A_{k+1}, \qquad y_k = A_k + V_k$$
#
# $\delta_k$ is the *surprise* of a turn. $\lambda$ says how far later surprises are counted back: at $\lambda = 0$ a
# turn has its own alone, at $\lambda = 1$ all that follow, and the sum telescopes to *what came minus what was
# expected*. The policy learns from $A$, centred and scaled over the batch; the head is taught $y$, at the first token
# of each turn.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# One rollout of three turns that ended well. The first search seemed a bad idea, the second a very good one.

# %%
value, reward = [0.4, 0.2, 0.7], [0.0, 0.0, 1.0]
gamma, lam = 1.0, 0.5
first = predict("The first turn lowered the guess from 0.4 to 0.2. At lambda = 0.5, is its credit + or -?", None)

# %%
surprise = [r + gamma * after - now for r, after, now in zip(reward, [*value[1:], 0.0], value, strict=True)]
print("surprises:", [round(d, 2) for d in surprise])
follows, back = 0.0, []
for d in reversed(surprise):
    follows = d + gamma * lam * follows
    back.append(follows)
mine = back[::-1]

one = page.hand(["q"], {"turn_value": [value]}, {"outcome": [1.0]}, tokens=[[1, 1, 1]])
display(page.agrees([mine], ppo_turn(gamma=gamma, lam=lam, whiten=False), one))
first.reveal("+" if mine[0] > 0 else "-")

# %% [markdown]
# The same rollout for other $\lambda$:

# %%
page.table(
    ["lambda", "credit by turn"],
    [[x, page.line(page.turns(ppo_turn(lam=x, whiten=False), one)[0])] for x in (0.0, 0.5, 0.9, 1.0)],
)

# %% [markdown]
# From top to bottom the first turn goes from blame to praise: at 0 the head is believed, at 1 the outcome is.
#
# ## 4. On real rollouts
#
# A chain of two lookups, for a policy that misreads some words. First a head is fitted to the outcomes of other
# rollouts. (A run trains it by small steps beside the policy; with the layers below held as they are, the best head is
# a least-squares problem, and solved at once.)

# %%
settings = Settings(max_new_tokens=24)
others = play(player, env, env.tasks("train", 24, seed=1), size=4, settings=settings, seed=1, run="fit")
learner = critics.fit(start(player, paper, Plan()), others, at="turn")

questions = env.tasks("test", 12, seed=SEED)
played = play(player, env, questions, size=4, settings=settings, seed=SEED, run="ppo_turn")
rollouts = with_values(played, learner, paper, Plan())
batch = rollouts.batch()
guess = batch["turn_value"].values
came = batch.down(batch["outcome"].values.double(), "trajectory", "turn")
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, paper)

# %%
page.markdown(
    f"On these rollouts, which it has not seen, the guess before each turn explains **"
    f"{critics.explained(guess, came):.0%}** of the variance of outcomes. That is little, and usual for a young head."
)

# %% [markdown]
# A rollout in which the guess moved most, stage by stage:

# %%
column = batch["turn_value"]
guesses = page.rows_of(Credit(column.values.double(), "turn", column.known), batch)
solved = [i for i, t in enumerate(rollouts) if t.outcome == 1.0 and len(t.turns) > 2]
place = max(solved, key=lambda i: max(guesses[i]) - guesses[i][0])
shown = rollouts[place]
Ribbons(rollouts, shown.id, paper)

# %%
CreditMap(rollouts, shown.id, [grpo(kl=0.0), paper])

# %% [markdown]
# A turn that went as expected stands near 0, or below it once the batch is centred (section 5).
#
# **At a turn's boundary.** The tool's words are in the context when the next guess is made, so the surprise of a turn
# holds what the tool answered, good luck and bad luck with it. They are no action: they get no credit, and however long
# they are, one turn is one step of time.

# %%
raw = {lam: page.turns(ppo_turn(lam=lam, whiten=False), batch)[place] for lam in (0.0, 0.5, 1.0)}
rows = []
for t, turn in enumerate(shown.turns):
    said = " ".join(message.text for message in turn.observations)
    told = [f"{row[t]:+.2f}" for row in (guesses[place], *raw.values())]
    rows.append([t, turn.action.text.strip(), said or "-", *told])
head = ["turn", "the policy", "the tool", "V before", "surprise (lambda 0)"]
page.table([*head, *(f"lambda {lam:g}" for lam in raw if lam)], rows)

# %% [markdown]
# Where a search went astray the guess falls at once, and where one found the number it jumps. With $\lambda = 1$, as in
# the ribbon above, all of them are praised, because it ended well; the smaller $\lambda$, the more it is the guess that
# speaks.

# %%
page.promises(paper, batch)

# %% [markdown]
# How far back does an outcome reach? The mean size of the credit (not whitened), by how many turns were still to come:

# %%
zero = batch.with_column("turn_value", "turn", column.values * 0)


def sizes(b, lam):
    """The mean size of a turn's credit, by turns from the end."""
    told = page.turns(ppo_turn(lam=lam, whiten=False), b)
    out = []
    for left in range(3):
        here = [abs(row[-1 - left]) for row in told if len(row) > left]
        out.append(page.number(sum(here) / len(here)).lstrip("+"))
    return out


rows = [
    [word, lam, *sizes(b, lam)]
    for word, b in (("0 everywhere", zero), ("as fitted", batch))
    for lam in (1.0, 0.9, 0.5, 0.0)
]
page.table(["values", "lambda", "the last turn", "one before", "two before"], rows)

# %% [markdown]
# ## 5. Where it fails
#
# **At the start there is no expectation.** A fresh head says 0. The upper half of the table is what it does then: at
# $\lambda = 1$ every turn has the outcome, the same for all turns of a rollout, which is REINFORCE; at a small
# $\lambda$ the outcome fades on the way, and at 0 only the last turn learns anything. Values that explain nothing make
# PPO a plain sum, and a large $\lambda$ the safe choice; it is the default here.
#
# **Its mean is the batch's.** GRPO says nothing about a question that is always solved; nor does a head that knows that
# it is. A head that does not know makes the easy question look good and the hard one bad. Built to show it: question
# *a* is always solved, question *b* never.

# %%
easy = predict(
    "Values 0 everywhere. What is the credit of a rollout of the question that is always solved: +, 0 or -?", None
)

# %%
ends = {"outcome": [1.0, 1.0, 0.0, 0.0]}
fresh = page.hand(list("aabb"), {"turn_value": [[0.0]] * 4}, ends, tokens=[[1]] * 4)
knows = page.hand(list("aabb"), {"turn_value": [[1.0], [1.0], [0.0], [0.0]]}, ends, tokens=[[1]] * 4)
told = [page.turns(r, b) for r, b in ((paper, fresh), (paper, knows), (grpo(kl=0.0), fresh))]
display(
    page.table(
        ["rollout", "question", "outcome", "a fresh head", "a head that knows", "GRPO"],
        [[i, "aabb"[i], ends["outcome"][i], *(page.line(t[i]) for t in told)] for i in range(4)],
    )
)
easy.reveal("+" if told[0][0][0] > 0 else "0")

# %% [markdown]
# The same centring takes the praise from what went as expected. On the rollouts above:

# %%
raw, white = (page.turns(r, batch) for r in (ppo_turn(whiten=False), paper))
pairs = [(a, b) for p, q in zip(raw, white, strict=True) for a, b in zip(p, q, strict=True)]
turned = sum(a > 0 > b for a, b in pairs), sum(a < 0 < b for a, b in pairs)
page.markdown(
    f"**{turned[0]} of {len(pairs)}** turns after which more came than was expected are blamed once the batch is "
    f"centred, and {turned[1]} the other way round."
)

# %% [markdown]
# **A head that is wrong is believed** where $\lambda$ is small. Here it thinks that a list of one item is a dead end
# (it has only seen rollouts that failed there). The search that found the item is blamed, although the rollout was
# right:

# %%
wrong = page.hand(["q"], {"turn_value": [[0.5, 0.1]]}, {"outcome": [1.0]}, tokens=[[1, 1]])
page.table(
    ["lambda", "the search", "the answer"],
    [
        [x, *(page.number(c, 2) for c in page.turns(ppo_turn(lam=x, whiten=False), wrong)[0])]
        for x in (0.0, 0.2, 0.5, 1.0)
    ],
)

# %% [markdown]
# ## 6. The paper and its code
#
# PPO and GAE are textbooks. Of Turn-PPO we know the abstract and second-hand accounts: the state is the history with
# the turn's query, the action the whole reply, values stand at turns, and the ratio is clipped a turn. We saw no code.
#
# - `ppo_turn(ratio="turn")` clips a turn's ratio, the geometric mean of its tokens'; the default clips token by token.
# - Another paper (ST-PPO, arXiv:2511.20718) calls *Turn-PPO* a change of the ratio alone.
# - Released systems differ in **where the value of a turn stands**. Here it is the state before its first token; code
#   for [two-level estimates](bilevel_gae.ipynb) reads it at the turn's last one, when the action is taken already.
#
# Both clips have the same credit; what differs is what an update may do with it:

# %%
terms = {"token": paper, "turn": by_turn}
page.table(["ratio", "policy loss"], [[word, f"`{r.objective.terms[0].loss!r}`"] for word, r in terms.items()])

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["ppo_turn"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# That is the head of section 4, fitted to the outcomes of other rollouts beforehand. In a run the head begins at 0 and
# is taught by the same rollouts as the policy: until it has learned something, credit is that of section 5.
#
# Live, from the same warm start, with a fresh head:

# %%
method_curves.continue_live(policy.load("tiny@chain-misread"), env, paper)

# %% [markdown]
# **What its authors report** (abstract): PPO more robust than GRPO over many turns, and turns as steps effective on
# WebShop and Sokoban. We have no figure of theirs to repeat.
#
# ## 8. Exercise: write it
#
# About 15 minutes; the advantage before it is centred and scaled.


# %% tags=["exercise"]
def turn_credit(reward, value, gamma, lam):
    """Return the advantage of every turn, a row a rollout.

    reward: of each turn, a row a rollout; the outcome is in the last.  value: of the state before each turn.
    """
    # SOLUTION 1: surprises, summed from the end
    credit = []
    for earned, guesses in zip(reward, value, strict=True):
        follows, back = 0.0, []
        for r, after, now in reversed(list(zip(earned, [*guesses[1:], 0.0], guesses, strict=True))):
            follows = r + gamma * after - now + gamma * lam * follows
            back.append(follows)
        credit.append(back[::-1])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, one that gives the end a value:

# %%
past = next(m for m in check.ex.misconceptions if m.name == "a value after the end")
check.ex(past.wrong)

# %% [markdown]
# ## 9. Where to go on
#
# - [PPO over tokens](ppo.ipynb): the same with a token as the step of time, and what $\lambda$ then means.
# - [Bi-level GAE](bilevel_gae.ipynb): both, one inside the other.
# - [VPR](vpr.ipynb) has an oracle where this has a head; [IGPO](igpo.ipynb) asks the policy.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
