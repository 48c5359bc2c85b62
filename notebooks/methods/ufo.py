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
# # UFO: try again, but not with the same answer
#
# **A wrong answer is met with "try again" and nothing else. A right one is worth the less the later it comes, and
# saying the same again costs.**
#
# A policy trained on single answers repeats itself when it is told to try again. Here the user's fixed words are part
# of the world, and what is special about the method is the reward of a rollout. It decides nothing per turn. *A Simple
# "Try Again" Can Elicit Multi-Turn LLM Reasoning*, 2025. Before this one: [GRPO](grpo.ipynb).
#
# **Use it when** a question may be tried again and the world says only "wrong". It costs no call of the policy. **Not
# when** you must know which turn helped: all turns of a rollout get the same.

# %% tags=["parameters"]
SEED = 3

# %%
from statistics import stdev

from IPython.display import display

from workbench import envs, evidence, policy
from workbench.policy import Settings
from workbench.recipes import grpo, ufo, ufo_released
from workbench.recipes.ufo import feedback, retry_reward, same_form
from workbench.rollout import play
from workbench.teach import method_curves, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import ufo as check
from workbench.view import CreditMap, Ribbons

# A policy that never heard "try again" understands the question asked anew; the released words are below.
env = envs.load("retry", world="chain", attempts=4, knobs={"hops": 1}, say="{question}")
player = policy.load("tiny@chain", tools=env.tools)  # a million parameters, at its shipped warm start
paper = ufo(host="grpo", entropy=0.0)
released = ufo_released(host="grpo", entropy=0.0, share=1.0)  # which questions it trains on: section 6

# %% [markdown]
# ## 1. Quick facts
#
# Left, as published: PPO with a value head, which has to be trained beside the policy. Right, as on this page: the same
# reward, compared within the question as GRPO does, so that the reward can be seen by itself.

# %%
page.facts(ufo(), paper, policy=player)

# %%
page.table(
    ["answer", "tried", "what the user says", "over"],
    [[word, n, *feedback(word == "right", n)] for word, n in (("wrong", 1), ("right", 2), ("wrong", 5))],
)

# %% [markdown]
# ## 2. The equation
#
# A rollout gives $T$ answers, $E$ of them different (white space and capitals aside). If try $t$, counted from 0, is
# right:
#
# $$R = \gamma^t\,[\text{right}] - \lambda\,\Big(1 - \frac{E}{T}\Big) - c \cdot (\text{tries that could not be read})$$
#
# with $\gamma = \lambda = 0.5$ and $c = 0.1$. A turn that calls another tool is no try. The whole of $R$ arrives at
# the end; PPO discounts nothing here, so that the return of every token is $R$ (less the KL that follows).

# %%
paper

# %% [markdown]
# ## 3. By hand
#
# Three rollouts of a question whose right answer is 7.

# %%
answers = [["3", "3 ", "7"], ["7"], ["3", "5", "9"]]
late = predict("Rollout 0 is right in the end. Is its credit +, 0 or -?", None)

# %%
rewards = []
for said in answers:
    words = ["".join(word.split()).lower() for word in said]
    worth = 0.5 ** words.index("7") if "7" in words else 0.0
    rewards.append(worth - 0.5 * (1 - len(set(words)) / len(words)))
print("R:", [round(r, 4) for r in rewards])

mean = sum(rewards) / 3
spread = (sum((r - mean) ** 2 for r in rewards) / 2) ** 0.5
mine = [[(r - mean) / spread] * len(said) for r, said in zip(rewards, answers, strict=True)]

small = page.hand(["q"] * 3, check.columns(answers, ["7"] * 3))
display(page.agrees(mine, paper, small))
late.reveal("+" if mine[0][0] > 0 else "-")

# %% [markdown]
# Success at the third try, after a repeat, is hardly worth more than three different failures; the sibling that was
# right at once sets the mean.
#
# ## 4. On real rollouts
#
# One fact to look up, four answers at most. The evidence reads tries off the rollouts; no model is asked.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="ufo")
rollouts = evidence.collect(rollouts, evidence.for_recipe([paper, released, grpo(kl=0.0)], rollouts))
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, paper)

# %% [markdown]
# What they said, and what it is worth before and after the comparison:


# %%
def said_by(t):
    return [call.arguments["text"] for turn in t.turns for call in turn.calls if call.name == "answer"]


worth = retry_reward(0.5, 0.5, 0.1, "turns")(None, batch).tolist()
credit = page.turns(paper, batch)
page.table(
    ["question", "right answer", "answers", "R", "credit of each turn"],
    [
        [t.group, t.gold["answer"], ", ".join(said_by(t)), page.number(r), page.number(row[0], 2)]
        for t, r, row in zip(rollouts, worth, credit, strict=True)
    ],
)

# %%
forms = [[same_form(word) for word in said_by(t)] for t in rollouts]
repeated = sum(len(words) - len(set(words)) for words in forms)
second = [t for t in rollouts if t.outcome == 1.0 and len(said_by(t)) > 1]
page.markdown(
    f"{repeated} of {sum(map(len, forms))} answers repeat an earlier one of their rollout; {len(second)} rollouts are "
    "right at a later try than the first."
)

# %% [markdown]
# A rollout that needed more than one try, stage by stage, and beside GRPO on the plain outcome:

# %%
solved = second[0]
Ribbons(rollouts, solved.id, paper)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), paper])

# %%
page.promises(paper, batch)

# %% [markdown]
# ## 5. Where it fails
#
# **A late success can be worth less than failing.** Built to show it: four equal answers, then the right one, beside
# five different wrong ones.

# %%
fifth = predict("Which of the two rollouts is praised?", None)

# %%
stubborn = [["3", "3", "3", "3", "7"], ["1", "2", "3", "4", "5"]]
both = page.hand(["q"] * 2, check.columns(stubborn, ["7"] * 2))
value = retry_reward(0.5, 0.5, 0.1, "turns")(None, both).tolist()
rows = page.turns(paper, both)
display(
    page.table(
        ["answers", "R", "credit"],
        [
            [", ".join(s), page.number(r, 4), page.number(row[0])]
            for s, r, row in zip(stubborn, value, rows, strict=True)
        ],
    )
)
fifth.reveal("the wrong one" if rows[1][0] > rows[0][0] else "the right one")

# %% [markdown]
# **Guessing is free, and so is silence.** Different wrong answers cost nothing, and searching without ever answering
# costs nothing: where nobody is right, all of these are equal, and nobody learns.

# %%
idle = {
    "five different guesses": ["1", "2", "3", "4", "5"],
    "one guess": ["1"],
    "searched, never answered": [None, None],
}
nobody = page.hand(["q"] * 3, check.columns(list(idle.values()), ["7"] * 3))
page.table(
    ["rollout", "credit of its turns"],
    [[word, page.line(row)] for word, row in zip(idle, page.turns(paper, nobody), strict=True)],
)

# %% [markdown]
# **Different is a matter of spelling.** The same wrong number, said in other ways, is no repeat:

# %%
spelled = [["3", "3", "3"], ["3", " 3 ", "3"], ["3", "3.0", "three"]]
ways = page.hand(["q"] * 3, check.columns(spelled, ["7"] * 3))
page.table(
    ["answers", "R"],
    [
        [repr(s), page.number(r)]
        for s, r in zip(spelled, retry_reward(0.5, 0.5, 0.1, "turns")(None, ways).tolist(), strict=True)
    ],
)

# %% [markdown]
# ## 6. The paper and its code
#
# In the release only answers that could be *read* count as tries; the paper's $t$ is the turn. Two rollouts: nothing
# readable and then right; right at once.

# %%
garbled = page.hand(["q"] * 2, check.columns([["", "7"], ["7"]], ["7"] * 2))
page.table(
    ["answers", "R, paper", "R, release"],
    [
        [word, *(page.number(x, 2) for x in pair)]
        for word, *pair in zip(
            ("unreadable, 7", "7"),
            *(retry_reward(0.5, 0.5, 0.1, counted)(None, garbled).tolist() for counted in ("turns", "answers")),
            strict=True,
        )
    ],
)

# %% [markdown]
# On the rollouts above every answer could be read, so that nothing differs:

# %%
page.side_by_side(batch, paper, released, trajectory=batch.trajectories.index(solved.id))

# %% [markdown]
# The release also throws away most of what it plays: of the eight questions of a batch it trains on the two whose
# rewards differ most (`share=0.25`). Of the questions above:

# %%
choosing = ufo_released(host="grpo", entropy=0.0)
paid = retry_reward(0.5, 0.5, 0.1, "answers")(None, batch).tolist()
trained = choosing.credit(batch, to="trajectory").known.tolist()
rows = {t.group: ([], []) for t in rollouts}
for t, r, known in zip(rollouts, paid, trained, strict=True):
    rows[t.group][0].append(r)
    rows[t.group][1].append(known)
page.table(
    ["question", "spread of R", "trained on"],
    [[name, page.number(stdev(rs), 2), "yes" if all(known) else "no"] for name, (rs, known) in rows.items()],
)

# %% [markdown]
# Three more of the release that are not in the reward: its prompt also shows the numeric reward to the model, so that
# what the user says is not all it hears; after the last wrong answer the world says "Correct!" (see the table of
# section 1; the policy does not see it); an empty answer stops it with an error, which is a try that could not be read
# here.
#
# ## 7. How it learned

# %%
method_curves.beside_grpo(["ufo"])

# %% [markdown]
# What to expect of it: what it changes in GRPO's credit, on the rollouts of section 4, before any training.

# %%
method_why.seen_from_grpo(rollouts, paper)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@chain", tools=env.tools), env, paper, updates=2)

# %% [markdown]
# **What its authors report**, with Qwen2.5-3B-Instruct: success within five tries on MMQ-Math from 52.3 to 88.5;
# MMLU-Pro 48.3 to 60.9; answers that do not repeat 79.7 % to 92.8 %. Not checked here.
#
# ## 8. Exercise: write it
#
# About 15 minutes.


# %% tags=["exercise"]
def turn_credit(answers, gold, gamma, repeat, invalid):
    """Return the reward of each rollout: what every turn of it stands for before it is compared.

    answers: a row a rollout, one a turn: a text; "" could not be read; None: the turn called another tool.
    gold: the right answer of each rollout's question.  gamma: decay a try.  repeat, invalid: the two charges.
    """
    # SOLUTION 1: decay, repetition, what could not be read
    rewards = []
    for said, right in zip(answers, gold, strict=True):
        attempts = ["".join(word.split()).lower() for word in said if word is not None]
        words = [word for word in attempts if word]
        wanted = "".join(right.split()).lower()
        worth = gamma ** attempts.index(wanted) if wanted in attempts else 0.0
        again = 1 - len(set(words)) / len(words) if words else 0.0
        rewards.append(worth - repeat * again - invalid * attempts.count(""))
    return rewards
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, the release's count of tries:

# %%
check.ex(check.made(check.per_valid))

# %% [markdown]
# ## 9. Where to go on
#
# - [GRPO](grpo.ipynb): the comparison used here. [Mini-o3](mini_o3.ipynb): rollouts that hit the limit of turns.
# - [AEM](aem.ipynb): one reward a rollout, and yet a weight for every turn.
# - [All methods](../index.ipynb) by what they need and answer, and the [glossary](../../tutorials/glossary.md)
#   of what a training reports.
#
# ## References

# %%
page.references(paper)
