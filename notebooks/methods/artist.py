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
# # ARTIST: one reward for the answer, the form and the calls
#
# **A rollout is paid for a right answer, for keeping the form, and for the share of its tool calls that worked. What
# the tools wrote is not learned.**
#
# When to call a tool is to be learned from the outcome alone; the two small terms keep the calls well formed until
# answers come. Nothing is decided per turn. *Agentic Reasoning and Tool Integration for LLMs via Reinforcement
# Learning*, 2025. Before this one: [GRPO](grpo.ipynb).
#
# **Use it when** answers can be checked and a call that fails says so. It costs no model. **Not when** a call that
# works is easy to make and useless: it is paid, too (section 5).

# %% tags=["parameters"]
SEED = 3

# %%
from IPython.display import display

from workbench import envs, evidence, policy
from workbench.policy import Settings
from workbench.recipes import artist, artist_calls, grpo
from workbench.recipes.artist import answer_reward
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import artist as check
from workbench.view import CreditMap, Ribbons

env = envs.load("toolbox", changes=1)
player = policy.load("tiny@toolbox", tools=env.tools)  # a million parameters, at its shipped start
paper = artist(kl=0.0)
calling = artist_calls(kl=0.0)

# %% [markdown]
# ## 1. Quick facts
#
# Two forms: for questions with an answer (left), and for function calling, where a gold trace and a goal are known.

# %%
page.facts(paper, calling, policy=player)

# %% [markdown]
# ## 2. The equation
#
# $$R = 2\,[\text{right}] + F + \frac{\text{calls that worked}}{\text{calls}}, \qquad
# R_{\text{calling}} = \tfrac12\,\frac{\text{matched state}}{\text{state}}
# + \tfrac12\,\frac{\text{matched calls}}{\text{gold calls}} + \tfrac{1}{10} F$$
#
# $F$ is 1 if the form is kept throughout, 0.5 if only the answer can be read, else 0. $A$ is the z-score of $R$ among
# the rollouts of the question, for all tokens the policy wrote. The sizes of $F$, and 0 for a rollout without calls,
# are our reading.

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Three rollouts of a question, all in good form. The third is right and calls nothing.

# %%
told = [1.0, 0.0, 1.0]
form = [1.0, 1.0, 1.0]
calls = [[True, True, True, False], [True, False], []]
silent = predict("Two are right. Is the credit of the one that called nothing higher, equal or lower?", None)

# %%
rewards = [2 * r + f + (sum(c) / len(c) if c else 0.0) for r, f, c in zip(told, form, calls, strict=True)]
mean = sum(rewards) / 3
spread = (sum((r - mean) ** 2 for r in rewards) / 3) ** 0.5
print("R:", rewards)

turns = [5, 3, 1]
mine = [[(r - mean) / spread] * n for r, n in zip(rewards, turns, strict=True)]
columns = {"outcome": told, "format_score": form, "tool_success": [check.share(c) for c in calls]}
small = page.hand(["q"] * 3, None, columns, turns=turns)
display(page.agrees(mine, paper, small))
silent.reveal("higher" if mine[2][0] > mine[0][0] else "lower" if mine[2][0] < mine[0][0] else "equal")

# %% [markdown]
# ## 4. On real rollouts
#
# A small store: one change is asked for, then what a thing holds. The policy was started on scripted plays that are
# wrong now and then (another number, a thing that is not there) and have one habit: they often put in what was to be
# taken out.

# %%
requests = env.tasks("test", 4, seed=SEED)
rollouts = play(player, env, requests, size=4, settings=Settings(max_new_tokens=32), seed=SEED, run="artist")
plain = grpo(kl=0.0)
rollouts = evidence.collect(rollouts, evidence.for_recipe([paper, calling, plain], rollouts))
batch = rollouts.batch()
page.cost(rollouts, paper)

# %%
worth = answer_reward(2.0)(None, batch).tolist()
by_artist, by_grpo = (page.turns(recipe, batch) for recipe in (paper, plain))
known = {name: batch[name].values.tolist() for name in ("tool_success", "format_score")}
has_calls = batch["tool_success"].known.tolist()
asked = {t.id: "" if n else t.prompt[-1].text for g in rollouts.groups for n, t in enumerate(g)}  # once a request
page.table(
    ["request", "what it wrote", "right", "form", "calls that worked", "R", "credit"],
    [
        [
            asked[t.id],
            " / ".join(turn.action.text or "(nothing)" for turn in t.turns),
            t.outcome,
            known["format_score"][i],
            f"{known['tool_success'][i]:.2f}" if has_calls[i] else "no calls",
            page.number(worth[i], 2),
            page.number(by_artist[i][0], 2),
        ]
        for i, t in enumerate(rollouts)
    ],
)

# %%
right = [i for i, t in enumerate(rollouts) if t.outcome == 1.0]
wrong = [i for i, t in enumerate(rollouts) if t.outcome == 0.0]
mixed = sum(len({t.outcome for t in group}) > 1 for group in rollouts.groups)
moved = [sum(any(row) for row in rows) for rows in (by_grpo, by_artist)]
page.markdown(
    f"{len(right)} of {len(rollouts)} rollouts are right; {mixed} of {len(rollouts.groups)} requests have both kinds. "
    f"Rollouts with credit other than 0: {moved[0]} by GRPO on the outcome, {moved[1]} by ARTIST. ARTIST praises "
    f"**{sum(by_artist[i][0] > 0 for i in wrong)}** of {len(wrong)} wrong rollouts and blames "
    f"**{sum(by_artist[i][0] < 0 for i in right)}** of {len(right)} right ones."
)

# %% [markdown]
# Where all are right, or all wrong, form and calls decide, and a call that works need not be one that was asked for:
# to put in what was to be taken out works, too. The rollout on which GRPO and ARTIST part most, stage by stage:

# %%
apart = max(range(len(rollouts)), key=lambda i: abs(by_artist[i][0] - by_grpo[i][0]))
chosen = rollouts.trajectories[apart]
Ribbons(rollouts, chosen.id, paper)

# %%
CreditMap(rollouts, chosen.id, [plain, paper])

# %% [markdown]
# What the tools wrote is in no loss: the tokens of the batch are those the policy sampled.

# %%
page.markdown(f"{batch.count('token')} tokens of {batch.count('turn')} turns carry credit; observations carry none.")

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **A useless call pays.** Without calls the share is undefined; here it is 0, so that any call that works adds 1.
# Built to show it: both are right, one counts something nobody asked for.

# %%
idle = predict(
    "Which of two right rollouts is praised: the one that answers at once, or the one with a useless call?", None
)

# %%
ways = {"answers at once": [], "one useless call, then answers": [True]}
pair = page.hand(
    ["q"] * 2,
    None,
    {"outcome": [1.0, 1.0], "format_score": [1.0, 1.0], "tool_success": [check.share(c) for c in ways.values()]},
    turns=[1, 2],
)
rows = page.turns(paper, pair)
display(page.table(["rollout", "credit of its turns"], [[w, page.line(r)] for w, r in zip(ways, rows, strict=True)]))
idle.reveal("the useless call" if rows[1][0] > rows[0][0] else "at once")

# %% [markdown]
# **Wrong in good form is worth as much as right in bad form.** And the more calls that work surround one that fails,
# the less the failure costs:

# %%
cases = {
    "right, form broken, no call": (1.0, 0.0, []),
    "wrong, good form, one call that works": (0.0, 1.0, [True]),
    "wrong, good form, one of two calls works": (0.0, 1.0, [True, False]),
    "the same, and six more useless calls": (0.0, 1.0, [True, False, *[True] * 6]),
}
page.table(["rollout", "R"], [[word, page.number(check.reward(*case))] for word, case in cases.items()])

# %% [markdown]
# **Nothing says which call helped.** Every turn of a rollout has the same credit, the failed call of a good rollout,
# too. [MatchTIR](matchtir.ipynb) compares call by call. On the rollouts above, where the world knows which turn made
# the next call of the gold trace:

# %%
steps = [
    (turn.rewards["on_trace"], c)
    for t, row in zip(rollouts, by_artist, strict=True)
    for turn, c in zip(t.turns, row, strict=True)
]
page.table(
    ["turn", "praised", "blamed"],
    [
        [word, sum(c > 0 for on, c in steps if on == value), sum(c < 0 for on, c in steps if on == value)]
        for word, value in (("made the next call of the trace", 1.0), ("did not", 0.0))
    ],
)

# %% [markdown]
# ## 6. The paper and its code
#
# There is no public code. The two forms on the rollouts above. For function calling the form is said to be worth 0.1
# at most; with the size it has for questions it would outweigh the rest:

# %%
both = [page.turns(one, batch) for one in (calling, artist_calls(form=1.0, kl=0.0))]
page.table(
    ["rollout", "`artist`", "`artist_calls`, form at most 0.1", "`artist_calls`, form at most 1"],
    [[i, *(page.number(rows[i][0], 2) for rows in (by_artist, *both))] for i in range(len(rollouts))],
)

# %% [markdown]
# One rollout by `artist`, by `artist_calls`, and by GRPO on the outcome:

# %%
page.side_by_side(batch, paper, calling, plain, trajectory=apart)

# %% [markdown]
# ## 7. How it learned
#
# In a tool world of one change. What is counted is the right answer: `artist_calls` is paid for state and calls.

# %%
method_curves.beside_grpo(["artist", "artist_calls"])

# %% [markdown]
# Why? What it changes in GRPO's credit, on the rollouts of section 4, before any training:

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same start:

# %%
method_curves.continue_live(player, env, paper)

# %% [markdown]
# **What its authors report**, with Qwen2.5-7B and 14B-Instruct on mathematics and function calling: up to 22 points
# above the base model, and about twice its score on tau-bench for 7B. Not checked here.
#
# ## 8. Exercise: write it
#
# About 10 minutes.


# %% tags=["exercise"]
def turn_credit(right, form, calls, group):
    """Return the credit of each rollout: what every turn of it carries.

    right: 1.0 or 0.0, one a rollout.  form: its form score.  calls: a row a rollout, did each call work; maybe empty.
    group: the question of each.  Alone with a question, or among equals: 0.
    """
    # SOLUTION 1: a reward of three terms, one comparison
    rewards = [2 * r + f + (sum(c) / len(c) if c else 0.0) for r, f, c in zip(right, form, calls, strict=True)]
    credit = []
    for reward, g in zip(rewards, group, strict=True):
        pool = [r for r, h in zip(rewards, group, strict=True) if h == g]
        mean = sum(pool) / len(pool)
        spread = (sum((r - mean) ** 2 for r in pool) / len(pool)) ** 0.5
        credit.append((reward - mean) / spread if max(pool) - min(pool) > 1e-12 else 0.0)
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, full marks for not calling:

# %%
check.ex(check.with_calls(lambda made: sum(made) / len(made) if made else 1.0))

# %% [markdown]
# ## 9. Where to go on
#
# - [GRPO](grpo.ipynb): the comparison used here. [MatchTIR](matchtir.ipynb): calls against a gold trace, turn by turn.
# - [UFO](ufo.ipynb): another reward of rules for a whole rollout.
# - [All methods](../index.ipynb) by what they need and answer, and the [glossary](../../tutorials/glossary.md)
#   of what a training reports.
#
# ## References

# %%
page.references(paper)
