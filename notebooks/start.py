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
# The model sees a prompt in plain text: three worked examples, then the question. It writes one line a turn, `Search:` or
# `Answer:`; the line `Result:` comes back from a search engine over the world's sentences. Nothing constrains what it
# writes: a line that is neither is answered by an error message.

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
rollouts.to_frame().head(6)

# %% [markdown]
# **How often is it right, and how many groups have collapsed?** A group is the rollouts of one question. If all of them
# succeed, or all fail, nobody is better than the others: a method that only knows outcomes has nothing to say.


# %%
def collapsed(rollouts):
    """Groups whose outcomes are all equal."""
    return [group for group in rollouts.groups if len({t.outcome for t in group}) == 1]


def share(count, total):
    low, high = compare.wilson(count, total)
    return f"{count} of {total} ({count / total:.0%}, 95% interval {low:.0%} to {high:.0%})"


dead = collapsed(rollouts)
if len(dead) == len(rollouts.groups):
    STORED = "../datasets/start"
    display(Markdown(f"**Every group collapsed on this machine**; going on with the stored rollouts of `{STORED}`."))
    rollouts = workbench.read(STORED)
    dead = collapsed(rollouts)

right = sum(t.outcome == 1.0 for t in rollouts)
batch = rollouts.batch()
malformed = int(batch["malformed"].values.sum()) if "malformed" in batch.columns else 0
display(
    Markdown(
        f"- right: {share(right, len(rollouts))}\n"
        f"- collapsed groups: {share(len(dead), len(rollouts.groups))}, "
        f"of which {sum(t.outcome == 1.0 for t in (g[0] for g in dead))} all right\n"
        f"- malformed lines: {share(malformed, batch.count('turn'))}\n"
        f"- turns that needed constrained decoding: 0 (nothing was constrained)"
    )
)

# %% [markdown]
# ## 3. Evidence
#
# Methods differ in what they look at. Whatever needs a model, a reference or a tool is *evidence*: computed once, stored
# as a named column with where it came from. IGPO and A²TGPO ask the policy how likely it finds the right answer after
# every turn (the probe sees the right answer; the policy never does). MatchTIR compares tool calls with a reference.

# %%
methods = [recipes.grpo(kl=0.0), recipes.matchtir(), recipes.igpo(), recipes.a2tgpo()]
rollouts = evidence.collect(rollouts, evidence.for_recipe(methods, rollouts, policy=player))
rollouts.to_frame()[["trajectory", "turn", "action", "gold_logprob", "match_turn_reward", "outcome"]].head(8)

# %% [markdown]
# ## 4. Four credit maps
#
# **Blue is praise, orange is blame**, one scale for all four. Each cell is a turn. `0` is a known zero; an empty mark is
# unknown: the two are not the same thing.

# %%
overview = Overview(rollouts, methods)
overview

# %% [markdown]
# ### Where they disagree most
#
# The rule: among all rollouts, the one whose turns GRPO and IGPO rank and scale most differently: the largest mean
# absolute difference of their credits per turn, each divided by its root mean square over all turns.


# %%
def unit_scale(recipe):
    """A recipe's turn credits, divided by their root mean square."""
    credit = recipe.credit(rollouts.batch(), to="turn")
    return credit.values / credit.values[credit.known].square().mean().sqrt().clamp_min(1e-12)


batch = rollouts.batch()
grpo, igpo = unit_scale(methods[0]), unit_scale(methods[2])
distance = torch.zeros(len(rollouts)).double().index_add_(0, batch.turn_trajectory, (grpo - igpo).abs())
distance = distance / torch.bincount(batch.turn_trajectory, minlength=len(rollouts)).clamp_min(1)
chosen = rollouts[int(distance.argmax())]
print(f"{chosen.id}: mean difference {float(distance.max()):.2f}, outcome {chosen.outcome}")

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
# `trace` gives every stage's values. Read it from the top: the probe's log-probability, the gain of each turn, the outcome
# at the last turn, all of them compared within the question, and summed from the end.

# %%
ribbons = Ribbons(rollouts, chosen.id, igpo_recipe)
ribbons

# %% [markdown]
# ## 6. What is seen
#
# In words, from the numbers above.


# %%
def turn_values(recipe):
    credit = recipe.credit(batch, to="turn")
    return {t.id: credit.values[batch.turn_trajectory == n].tolist() for n, t in enumerate(rollouts)}


values = {m.name: turn_values(m) for m in methods}
silent = {name: sum(all(v == 0 for v in row) for row in rows.values()) for name, rows in values.items()}
flat = {name: sum(max(row) - min(row) < 1e-9 for row in rows.values()) for name, rows in values.items()}
gain = igpo_recipe.trace(batch)[2].credit
here = (batch.turn_trajectory == rollouts.trajectories.index(chosen)) & gain.known
gains = ", ".join(f"{v:+.2f}" for v in gain.values[here].tolist())
in_dead = {t.id for g in dead for t in g}
spoken = sum(any(abs(v) > 1e-9 for v in values["igpo"][i]) for i in in_dead)

signs = torch.stack([m.credit(batch, to="turn").values for m in methods])
opposed = int(((signs.sign().max(0).values - signs.sign().min(0).values) == 2).sum())

display(
    Markdown(
        f"""
- **GRPO gives every turn of a rollout the same credit** ({flat["grpo"]} of {len(rollouts)} rollouts are flat), and
  says nothing about {silent["grpo"]} of them: those of the {len(dead)} collapsed groups.
- **IGPO still speaks in collapsed groups**: about {spoken} of their {len(in_dead)} rollouts. Whether what it says is
  worth learning from is another question: it is the policy's own belief that is measured.
- **On the rollout they disagree about most** (`{chosen.id}`, outcome {chosen.outcome:g}) the probability of the right
  answer changed by {gains or "nothing that was probed"} turn by turn; GRPO gives each of its turns
  {values["grpo"][chosen.id][0]:+.2f}, IGPO {", ".join(f"{v:+.2f}" for v in values["igpo"][chosen.id])}.
- **The four do not even agree on the sign**: {opposed} of {batch.count("turn")} turns are praised by one method and
  blamed by another.
- With {len(rollouts)} rollouts of one small model this shows *how* the methods differ, not which one trains better.
"""
    )
)

# %% [markdown]
# ## 7. Your own rollouts
#
# This line opens a file: a folder of ours, chat messages in JSON lines, or TRL's completions. What it could not keep, it
# says. Put in your own path; everything above works on it (without token ids, turn by turn).

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
