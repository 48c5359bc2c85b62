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
# # IGPO: did this turn make the right answer likelier?
#
# **After every turn, ask the policy itself how probable it finds the right answer. What a turn adds to that belief is
# its reward.**
#
# The policy never sees the right answer; only the probe does. So an agent that searches well is paid at the turn at
# which it found something, and not only at the end, and also where every rollout of a question failed.
#
# *Information Gain-based Policy Optimization*, 2025. Before this one: [GRPO](grpo.ipynb). What is said here of numbers
# is computed here; a stored number comes with the command that made it.
#
# **Use it when** the right answer is short and known, and outcomes alone say little because most rollouts fail. It
# costs at most a call of the policy a turn. **Not when** searches mostly lower the policy's belief: then it pays for
# giving up (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
import math

from IPython.display import display

from workbench import envs, evidence, policy, recipes
from workbench.policy import Settings
from workbench.recipes import igpo, igpo_released
from workbench.rollout import play
from workbench.teach import method_curves, method_told, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import igpo as check
from workbench.view import CreditMap, Ribbons

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
paper = igpo()
released = igpo_released(kl=0.0, entropy=0.0)

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, released, policy=player)

# %% [markdown]
# ## 2. The equation
#
# Let $\tau_t$ be the mean log-probability of the tokens of the right answer after turn $t$, and $\tau_0$ the same
# after the prompt alone. Turn $T$ answers; it has no gain, and earns the outcome $R$ instead:
#
# $$r_t = e^{\tau_t} - e^{\tau_{t-1}} \quad (t < T), \qquad r_T = R$$
#
# All rewards of all rollouts of a question go into **one pool**; $\mu$ and $\sigma$ are its mean and spread. Then each
# turn is credited with what follows it, itself included:
#
# $$\hat r_t = \frac{r_t - \mu}{\sigma}, \qquad A_t = \hat r_t + \gamma A_{t+1}$$
#
# All tokens of a turn carry $A_t$, in the loss of GRPO.
#
# The recipe is a value and draws itself. From left to right: two signals are laid into one row of rewards (`mix`),
# compared within the question (`zscore`), summed from the end (`reward_to_go`), and copied to tokens.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Three rollouts of one question. The numbers are beliefs $e^{\tau}$: after the prompt, then after each search.

# %%
start = [0.10, 0.10, 0.10]
after = [[0.10, 0.60], [0.40], []]  # the third rollout answers at once
outcome = [1.0, 0.0, 0.0]
page.table(
    ["rollout", "belief", "outcome"], [[i, ", ".join(map(str, [start[i], *after[i]])), outcome[i]] for i in range(3)]
)

# %%
first = predict("The first search of rollout 0 found nothing. Will its credit be +, 0 or -?", None)

# %%
rewards = []
for before, row, end in zip(start, after, outcome, strict=True):
    beliefs = [before, *row]
    rewards.append([b - a for a, b in zip(beliefs, row, strict=False)] + [end])

pool = [r for row in rewards for r in row]
mu = sum(pool) / len(pool)
sigma = (sum((r - mu) ** 2 for r in pool) / len(pool)) ** 0.5
print("rewards:", [[round(r, 2) for r in row] for row in rewards])
print(f"pool of {len(pool)}: mean {mu:.3f}, spread {sigma:.3f}")

credit = []
for row in rewards:
    follows, back = 0.0, []
    for r in reversed(row):
        follows = (r - mu) / sigma + follows  # gamma is 1
        back.append(follows)
    credit.append(back[::-1])

# %% [markdown]
# Beside the library's recipe, on the same numbers:

# %%
logs = [[*(math.log(b) for b in row), None] for row in after]
small = page.hand(
    ["q", "q", "q"],
    turn={"gold_logprob": logs},
    rollout={"gold_logprob_start": [math.log(b) for b in start], "outcome": outcome},
)
display(page.agrees(credit, paper, small))
first.reveal("+" if credit[0][0] > 0 else "-")

# %% [markdown]
# The useless search is praised: its own reward is below the mean of the pool, but a useful search and a right answer
# follow it, and with $\gamma = 1$ it is credited with those in full. That is what a sum over the future does. The
# *difference* to the next turn, $A_t - A_{t+1} = \hat r_t$, is what the turn itself did.
#
# ## 4. On real rollouts
#
# A world in which every search narrows a list, so that belief moves at every turn. `tiny` plays 6 questions, 4
# rollouts each; then the probe is asked.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="igpo")
recipes_used = [recipes.grpo(kl=0.0), paper, released]
rollouts = evidence.collect(rollouts, evidence.for_recipe(recipes_used, rollouts, policy=player))
batch = rollouts.batch()
print(questions[0].question)
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, paper)

# %% [markdown]
# A rollout that was solved, stage by stage. Read it from the top: what the probe says, the gain of each turn, the
# outcome at the last one, the comparison, the sum.

# %%
solved = next(t for t in rollouts if t.outcome == 1.0 and len(t.turns) > 2)
Ribbons(rollouts, solved.id, paper)

# %% [markdown]
# The same rollout in GRPO's eyes and in IGPO's. GRPO has one number for all turns.

# %%
CreditMap(rollouts, solved.id, [recipes.grpo(kl=0.0), paper])

# %% [markdown]
# What the recipe promises beyond what all of them do, checked on these rollouts:

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **It can pay for giving up.** Gains and outcomes share a pool. If most searches of a question lower the belief (a
# small model filters by the wrong clue), the mean of the pool is below 0, and then an answer that is *wrong* (reward
# 0) stands above the mean. Built to show it: nobody is right, one rollout answers at once, the others search and do
# harm.

# %%
early = predict("All three answers are wrong. What sign has the credit of answering at once?", None)

# %%
harm = page.hand(
    ["q"] * 3,
    turn={"gold_logprob": [[None], [math.log(0.05), None], [math.log(0.06), math.log(0.02), None]]},
    rollout={"gold_logprob_start": [math.log(0.2)] * 3, "outcome": [0.0, 0.0, 0.0]},
)
said = page.turns(paper, harm)
did = ["answers at once", "one harmful search, then answers", "two harmful searches, then answers"]
display(page.table(["rollout", "what it did", "credit by turn"], [[i, did[i], page.line(said[i])] for i in range(3)]))
early.reveal("+" if said[0][0] > 0 else "-")

# %% [markdown]
# At the first turn giving up is praised and both searches are blamed, although nobody was right. A policy that learns
# from this learns to search less. Does it happen? On the rollouts above:

# %%
alone = page.turns(igpo(gamma=0.0), batch)  # each turn's own reward, in the pool's units
wrong = [i for i, t in enumerate(rollouts) if t.outcome == 0.0]
praised = sum((alone[i][-1] or 0.0) > 0 for i in wrong)
page.markdown(
    f"The last turn of **{praised} of {len(wrong)}** wrong rollouts has a reward above the mean of its question. What "
    "it led to when methods were trained in this world: [the comparison](../compare/training.ipynb), section 7."
)

# %% [markdown]
# **It believes the policy.** The probe measures the policy's own belief. A policy that is sure of a wrong answer gives
# no gain to the search that would have shown it. And where the right answer is still very unlikely, differences of
# probabilities vanish. Rollout 0 finds nothing; rollout 1 makes the answer a hundred times likelier.

# %%
faint = page.hand(
    ["q"] * 2,
    turn={"gold_logprob": [[math.log(1e-6), None], [math.log(1e-4), None]]},
    rollout={"gold_logprob_start": [math.log(1e-6)] * 2, "outcome": [1.0, 0.0]},
)
forms = [igpo(gamma=0.0), igpo(gamma=0.0, gain="logprob", norm="separate")]
both = [page.turns(form, faint) for form in forms]
page.table(
    ["rollout", "its search, in probabilities", "in log-probabilities, pools apart"],
    [[i, *(page.number(rows[i][0]) for rows in both)] for i in range(2)],
)

# %% [markdown]
# In probabilities the two searches are worth the same; logarithms tell them apart.
#
# ## 6. The paper and its code
#
# The released script (February 2026) is another method in three respects: **logarithms** for probabilities, gains and
# outcomes in **separate pools**, and a turn whose gain is **exactly 0** is no turn: its tokens take the credit of the
# next one. An earlier release compares at equal *token position* and ignores $\gamma$ (`igpo_released_2025`).

# %%
page.side_by_side(batch, paper, released, trajectory=batch.trajectories.index(solved.id))

# %% [markdown]
# The vanishing turn, by itself: a search that changes nothing, between two that do.

# %%
still = page.hand(
    ["q"] * 2,
    turn={"gold_logprob": [[math.log(0.3), math.log(0.3), math.log(0.6), None], [math.log(0.1), None]]},
    rollout={"gold_logprob_start": [math.log(0.2)] * 2, "outcome": [1.0, 0.0]},
)
page.side_by_side(still, igpo(gain="logprob", norm="separate"), released)

# %% [markdown]
# Turn 1 carries the credit of turn 2 in the release, and the statistics of the pool are those of one gain fewer.
#
# ## 7. How it learned
#
# Two forms of it beside GRPO: the paper's (`igpo`), and separate pools of log-probability (`igpo_separate`), each on
# five seeds.

# %%
method_curves.beside_grpo(["igpo", "igpo_separate"], base="grpo")

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Does its credit find the search that helped? Stored, on more rollouts of the chain world:

# %%
method_told.which_turn(["igpo", "igpo (separate)"])

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, paper)

# %% [markdown]
# **What its authors report**, of another model at another scale: Qwen2.5-7B-Instruct on seven question answering sets,
# average 60.2, against 53.9 for DeepResearcher and 47.2 for GiGPO (their table; not checked here). Others who ran it
# as a baseline report less than GRPO on multi-hop questions (44.88 against 46.02, A²TGPO's table).
#
# ## 8. Exercise: write it
#
# About 20 minutes. Beliefs are probabilities here, so there is no logarithm to take. The check knows the usual ways to
# go wrong, most of them from released code, and shows a batch on which yours goes wrong.


# %% tags=["exercise"]
def turn_credit(start, after, outcome, group, gamma):
    """Return the credit of every turn, a row a rollout; the last turn of each row is the answer.

    start: belief in the right answer after the prompt, one a rollout.  after: beliefs after each search, a row a
    rollout (maybe empty).  outcome: one a rollout.  group: the question of each.  gamma: discount a turn.
    """
    # SOLUTION 1: rewards, one pool a question, sums from the end
    rows = [
        [b - a for a, b in zip([s, *row], row, strict=False)] + [end]
        for s, row, end in zip(start, after, outcome, strict=True)
    ]
    credit = []
    for row, g in zip(rows, group, strict=True):
        pool = [r for other, h in zip(rows, group, strict=True) if h == g for r in other]
        mu = sum(pool) / len(pool)
        sigma = (sum((r - mu) ** 2 for r in pool) / len(pool)) ** 0.5 if max(pool) > min(pool) else 1.0
        follows, back = 0.0, []
        for r in reversed(row):
            follows = (r - mu) / sigma + gamma * follows
            back.append(follows)
        credit.append(back[::-1])
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. This is what a wrong one is told; here, the logarithms of the released
# script:

# %%
check.ex(check.made(of=math.log))

# %% [markdown]
# ## 9. Where to go on
#
# - [A²TGPO](a2tgpo.ipynb): the same probe, but a turn is compared with the *same turn* of the other rollouts.
# - [DR-Venus](dr_venus.ipynb): the same gain at chosen tools only, with penalties for malformed turns.
# - [GiGPO](gigpo.ipynb): turn credit without a probe, from states that were met twice.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
