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
# # Which turn earned the reward?
#
# A small language model answers questions by searching. Sometimes it is right. Training needs to know more than that:
# *which of its turns* made it right, or wrong. Here are 32 real rollouts of a real model, and what four published
# methods say about every turn of them.
#
# | method | asks | compared with |
# |---|---|---|
# | **GRPO** | was the answer right? | the other rollouts of the question |
# | **MatchTIR** | do the tool calls match a reference? | the question's rollouts, and their turns at the same place |
# | **IGPO** | did the turn make the right answer more likely? | all turns of the question |
# | **A²TGPO** | the same | the same turn of the question's other rollouts |
#
# Run it from top to bottom (*Run → Run All Cells*); it takes a minute or two on a laptop.

# %%
import torch
from IPython.display import Markdown, display

import workbench
from workbench import compare, envs, evidence, policy, recipes
from workbench.policy import Settings
from workbench.rollout import play
from workbench.view import CreditMap, Overview, Ribbons

# %% [markdown]
# ## 1. A policy and its world
#
# **This line changes both.** `("smollm2", "gazetteer")` is SmolLM2-135M-Instruct, a real pretrained model, answering
# two-hop questions about countries. `("tiny", "chain")` is a one-million-parameter model in a generated world whose
# facts are new in every task.

# %% tags=["parameters"]
POLICY, WORLD = "smollm2", "gazetteer"
QUESTIONS, ROLLOUTS, SEED, TEMPERATURE = 8, 4, 0, 0.7

# %%
env = envs.load(WORLD)
player = policy.load(POLICY, shots=getattr(env, "shots", ()), tools=env.tools)
questions = env.tasks("test", QUESTIONS, seed=SEED)
for question in questions:
    print(f"{question.question:75} {question.gold['answer']}")

# %% [markdown]
# The model sees a prompt in plain text: three worked examples, then the question. It writes one line a turn, `Search:`
# or `Answer:`; the line `Result:` comes back from a search engine over the world's sentences. Nothing constrains what
# it writes: a line that is neither is answered by an error message.

# %%
temperature = 1.0 if POLICY.startswith("tiny") else TEMPERATURE
settings = Settings(temperature=temperature, max_new_tokens=24)
rollouts = play(player, env, questions, size=ROLLOUTS, settings=settings, seed=SEED, run="start")
rollouts

# %% [markdown]
# ## 2. What happened
#
# One of them, turn by turn. `rollouts[0]` is a trajectory: it slices, searches, compares and becomes a table.

# %%
rollouts[0]

# %%
rollouts.to_frame()[["trajectory", "turn", "action", "observation", "tokens", "outcome"]].head(6)

# %% [markdown]
# **How often is it right, and how many groups have collapsed?** A group is the rollouts of one question. If all of them
# succeed, or all fail, nobody is better than the others: a method that only knows outcomes has nothing to say.

# %%
batch = rollouts.batch()
causes = compare.cause_of_collapse(batch)
if "varied" not in causes:
    STORED = "../datasets/start"
    display(Markdown(f"**Every group collapsed on this machine**; going on with the stored rollouts of `{STORED}`."))
    rollouts, env = workbench.read(STORED), envs.load("gazetteer")
    player = policy.load("smollm2", shots=env.shots, tools=env.tools)
    batch = rollouts.batch()
    causes = compare.cause_of_collapse(batch)


def share(count, total):
    p, low, high = compare.wilson(int(count), total)
    return f"{int(count)} of {total} ({p:.0%}, 95% interval {low:.0%} to {high:.0%})"


dead = len(causes) - causes.count("varied")
why = ", ".join(f"{causes.count(cause)} {cause}" for cause in sorted(set(causes) - {"varied"})) or "none"
display(
    Markdown(
        f"- right: {share(sum(t.outcome == 1.0 for t in rollouts), len(rollouts))}\n"
        f"- collapsed groups: {share(dead, len(causes))}: {why}; were all questions equally hard, "
        f"{compare.collapse(batch).forecast:.0%} would be expected\n"
        f"- malformed lines: {share(batch['malformed'].values.sum(), batch.count('turn'))}\n"
        f"- turns that needed constrained decoding: 0 (nothing was constrained)"
    )
)

# %% [markdown]
# ## 3. Evidence
#
# Methods differ in what they look at. Whatever needs a model, a reference or a tool is *evidence*: computed once,
# stored as a named column with where it came from. IGPO and A²TGPO ask the policy how likely it finds the right answer
# after every turn (the probe sees the right answer; the policy never does). MatchTIR compares tool calls with a
# reference.

# %%
methods = [recipes.grpo(kl=0.0), recipes.matchtir(), recipes.igpo(), recipes.a2tgpo()]
rollouts = evidence.collect(rollouts, evidence.for_recipe(methods, rollouts, policy=player))
batch = rollouts.batch()
rollouts.to_frame()[["trajectory", "turn", "action", "gold_logprob", "match_turn_reward", "outcome"]].head(8)

# %% [markdown]
# ## 4. Four credit maps
#
# **Blue is praise, orange is blame**, one scale for all four. Each cell is a turn. `0` is a known zero, `?` is unknown:
# the two are not the same thing.

# %%
overview = Overview(rollouts, methods)
overview

# %% [markdown]
# ### Where they disagree most
#
# The rule: each method shares out its credit over the turns of a rollout; the rollout on which the shares of GRPO and
# IGPO are furthest apart (half the sum of absolute differences: 0 is the same map up to its size, 1 the opposite).

# %%
credits = compare.credits_of(methods, batch)
worst = compare.disagreement(credits["grpo"], credits["igpo"], batch)[0]
chosen = rollouts[worst.trajectory]
print(
    f"{chosen.id}: {worst.score:.2f} apart, other signs on {worst.signs:.0%} of its turns, outcome {chosen.outcome:g}"
)

# %% [markdown]
# The four, pair by pair, over all turns: rank correlation of their credits (1 is the same order).

# %%
compare.agreement_matrix(credits).round(2)

# %%
credit_map = CreditMap(rollouts, chosen.id, methods)
credit_map

# %% [markdown]
# ## 5. One recipe, stage by stage
#
# A method is a value: a chain of small stages and a loss. It prints as its formula.

# %%
igpo_recipe = methods[2]
print(igpo_recipe)
igpo_recipe

# %% [markdown]
# `trace` gives every stage's values. Read it from the top: the probe's log-probability, the gain of each turn, the
# outcome at the last turn, all of them compared within the question, and summed from the end.

# %%
ribbons = Ribbons(rollouts, chosen.id, igpo_recipe)
ribbons

# %% [markdown]
# ## 6. What is seen
#
# In words, from the numbers above.


# %%
def of(name, trajectory):
    """A method's turn credits on one rollout."""
    mine = batch.turn_trajectory == batch.trajectories.index(trajectory)
    return [v for v, m in zip(credits[name].tolist(), mine.tolist(), strict=True) if m]


def listed(values):
    return ", ".join("unknown" if v is None else f"{v:+.2f}" for v in values)


ids = batch.trajectories
in_flat = [t for t, g in zip(ids, batch.trajectory_group.tolist(), strict=True) if causes[g] != "varied"]
same = sum(len(set(of("grpo", t))) == 1 for t in ids)
silent = sum(not any(of("grpo", t)) for t in ids)
spoken = sum(any(abs(v or 0) > 1e-9 for v in of("igpo", t)) for t in in_flat)
signs = torch.stack([c.values.sign() for c in credits.values()])
opposed = int((signs.amax(0) - signs.amin(0) == 2).sum())
wrong = [t.id for t in rollouts if t.outcome == 0.0]
praised = sum((of("igpo", t)[-1] or 0) > 0 for t in wrong)

display(
    Markdown(
        f"""
- **GRPO gives every turn of a rollout the same credit** ({same} of {len(ids)} rollouts), and none at all to
  {silent} of them: those of the {dead} collapsed groups.
- **IGPO still speaks in collapsed groups**: about {spoken} of their {len(in_flat)} rollouts. Whether that is worth
  learning from is another question: what it measures is the policy's own belief. Gains and outcomes share one pool, so
  an outcome of 0 beats the average gain wherever searching lowered the probability of the right answer: here the last
  turn of {praised} of the {len(wrong)} wrong rollouts is *praised*.
- **On the rollout those two disagree about most** (`{chosen.id}`, outcome {chosen.outcome:g}) GRPO says
  {listed(of("grpo", chosen.id))} turn by turn, and IGPO {listed(of("igpo", chosen.id))}.
- **The four do not even agree on the sign**: {opposed} of {batch.count("turn")} turns are praised by one and blamed
  by another.
- With {len(ids)} rollouts of one small model this shows *how* the methods differ, not which one trains better.
"""
    )
)

# %% [markdown]
# ## 7. Your own rollouts
#
# This line opens a file: a folder of ours, chat messages in JSON lines, or TRL's completions. What it could not keep,
# it says. Put in your own path; everything above works on it (without token ids, turn by turn).

# %%
mine = workbench.read("../datasets/examples/chat.jsonl")
display(mine)
for note in mine.notes:
    print("-", note)

# %%
CreditMap(mine, 0, [recipes.grpo(kl=0.0), recipes.reinforce()])

# %% [markdown]
# ## Where to go on
#
# - `workbench methods` lists all systems the workbench covers and which of them run today.
# - `recipes.igpo(gamma=0.9)` is another method; so is one of your own: a chain of stages (`workbench.credit`).
# - `credit_map.to_html("map.html")` writes one file that opens anywhere, offline.
# - `workbench doctor` says what works on this machine.
