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
# # VPR: what does an oracle say of this move?
#
# **Where an exact oracle can judge an action, reward every action with its verdict. Verdicts are compared at the same
# turn or in the same state, and the outcome is not needed at all.**
#
# An oracle is a game search, a constraint solver, a posterior. It judges the move, not the end of the game: a good move
# in a game that was lost later is praised.

# %% tags=["parameters"]
SEED = 5

# %%
import torch
from IPython.display import display

from workbench import compare, envs, evidence, policy
from workbench.credit import Credit
from workbench.policy import Settings
from workbench.recipes import grpo, vpr_states, vpr_turns
from workbench.rollout import play
from workbench.search import play_candidates
from workbench.teach import method_curves, predict
from workbench.teach import method_page as page
from workbench.teach.methods import vpr as check
from workbench.view import CreditMap, Ribbons

env = envs.load("tictactoe")
player = policy.load("tiny@tictactoe", tools=env.tools)  # a million parameters, at its shipped start
paper = vpr_turns(oracle="oracle_value", kl=0.0)
by_state = vpr_states(oracle="oracle_value", kl=0.0)

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(paper, by_state, policy=player)

# %% [markdown]
# ## 2. The equation
#
# With the oracle's grade $V(s, a)$ of an action, over **all rollouts of the batch** that reached turn $t$ (first
# variant):
#
# $$A_t = \frac{V_t - \mu_t}{\sigma_t}$$
#
# $\sigma$ is the population's spread. Where fewer than four rollouts got that far, mean and spread are those of the
# whole batch. Nothing is summed, nothing discounted. The second variant compares within a *state*:

# %%
paper

# %%
by_state

# %% [markdown]
# ## 3. By hand
#
# Four games; grades of the first and the second move, as the oracle gives them (2 the best there is, -2 not a move).

# %%
grades = [[2.0, 0.0], [0.0, 2.0], [2.0, 2.0], [-2.0, 0.0]]
illegal = predict("Game 3 began with an illegal move. Is its second move (grade 0) blamed for that?", None)

# %%
mine = [[], [], [], []]
for t in (0, 1):
    column = [row[t] for row in grades]
    mean = sum(column) / 4
    spread = (sum((x - mean) ** 2 for x in column) / 4) ** 0.5
    for i, x in enumerate(column):
        mine[i].append((x - mean) / spread)

small = page.hand(["a", "a", "b", "b"], {"oracle_value": grades})
display(page.agrees(mine, paper, small))
illegal.reveal("no" if abs(mine[3][1] - mine[0][1]) < 1e-9 else "yes")

# %% [markdown]
# Its second move has the credit of any second move of that grade: game 0's is the same.
#
# ## 4. On real rollouts
#
# Tic-Tac-Toe against an exact opponent; `tiny` plays from its shipped start. The world records the grade of every
# move.

# %%
questions = env.tasks("test", 8, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="vpr")
rollouts = evidence.collect(rollouts, evidence.for_recipe([paper, by_state], rollouts, policy=player))
batch = rollouts.batch()
mean = sum(t.outcome for t in rollouts) / len(rollouts)
print(f"{len(rollouts)} games, {batch.count('turn')} moves, mean outcome {mean:.2f}")
page.cost(rollouts, paper)

# %%
value = batch["oracle_value"]
table = page.rows_of(Credit(value.values.double(), "turn", value.known), batch)
mixed = max(range(len(rollouts)), key=lambda i: (len(set(table[i])), len(table[i])))
Ribbons(rollouts, rollouts[mixed].id, paper)

# %%
CreditMap(rollouts, rollouts[mixed].id, [grpo(kl=0.0), paper, by_state])

# %%
page.promises(vpr_turns(kl=0.0), batch)  # as it comes: with the column that all worlds with an oracle record

# %% [markdown]
# Good moves of lost games, and bad moves of games that were not lost: how often does GRPO say the opposite?

# %%
said = {r.name: page.turns(r, batch) for r in (grpo(kl=0.0), paper)}
pairs = [(a, b) for p, q in zip(said["grpo"], said["vpr_turns"], strict=True) for a, b in zip(p, q, strict=True)]
spoken = [(a, b) for a, b in pairs if a and b]
page.markdown(
    f"Of {len(pairs)} moves GRPO credits {sum(a != 0 for a, _ in pairs)}; where both say something, they have opposite "
    f"signs on **{sum(a * b < 0 for a, b in spoken)} of {len(spoken)}**."
)

# %% [markdown]
# **A world without an opponent.** Nothing need be searched: in a Sudoku the oracle counts how the grid can still be
# completed. 2 is the only digit that a cell can take, 1 a right one in a cell with fewest left, 0.5 another right one;
# -1 leaves no solution, or is in the row, column or box already; -2 is no free cell, or no placement at all. The grids
# have 4x4 cells, three of them free at first; another `tiny` plays, from a start of its own:

# %%
grids = envs.load("sudoku", empty=3)
solver = policy.load("tiny@sudoku", tools=grids.tools)
puzzles = grids.tasks("test", 8, seed=SEED)
filled = play(solver, grids, puzzles, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="sudoku")
page.outcomes(filled)

# %%
both = zip(*(page.turns(recipe, filled.batch()) for recipe in (grpo(kl=0.0), paper)), strict=True)
placed = [
    (t.outcome, turn.rewards["oracle_value"], by_outcome, by_oracle)
    for t, pair in zip(filled, both, strict=True)
    for turn, by_outcome, by_oracle in zip(t.turns, *pair, strict=True)
]
rows = []
for grade in sorted({grade for _, grade, _, _ in placed}, reverse=True):
    there = [credits for _, same, *credits in placed if same == grade]
    signs = [f"{sum(x > 0 for x in xs)} / {sum(x < 0 for x in xs)}" for xs in zip(*there, strict=True)]
    rows.append([f"{grade:g}", len(there), *signs])
page.table(["grade", "placements", "GRPO: praised / blamed", "VPR: praised / blamed"], rows)

# %%
sound = [(a, b) for solved, grade, a, b in placed if not solved and grade > 0]
page.markdown(
    f"In the {sum(not t.outcome for t in filled)} grids that were not solved, {len(sound)} placements are right. GRPO "
    f"blames {sum(a < 0 for a, _ in sound)} of them and praises {sum(a > 0 for a, _ in sound)}; VPR praises "
    f"**{sum(b > 0 for _, b in sound)}**."
)

# %% [markdown]
# ## 5. Where it fails
#
# **The first variant compares different states** that merely share a turn number. Built to show it: in one position
# every move loses, in the other every move wins; the best move of the lost position is blamed.

# %%
positions = page.hand(["lost", "lost", "won", "won"], {"oracle_value": [[0.0], [-1.0], [2.0], [1.0]]}).with_column(
    "state", "turn", torch.tensor([0, 0, 1, 1])
)
page.table(
    ["position, move", "vpr_turns", "vpr_states"],
    [
        [word, *(page.number(page.turns(r, positions)[i][0]) for r in (paper, by_state))]
        for i, word in enumerate(
            ("lost, the best there is", "lost, a worse one", "won, the best there is", "won, a worse one")
        )
    ],
)

# %% [markdown]
# Compared in its state, it is praised.
#
# **An oracle that errs.** With a reliability below 1 it gives wrong grades, and nothing in the method notices. The
# same games with an oracle that is right only so often:

# %%
true = paper.credit(batch, to="turn")
rows = []
for reliability in (1.0, 0.8, 0.5):
    rng = torch.Generator().manual_seed(SEED)
    wrong = torch.rand(len(value.values), generator=rng) > reliability
    shuffled = value.values[torch.randperm(len(value.values), generator=rng)]
    noisy = batch.with_column("oracle_value", "turn", torch.where(wrong, shuffled, value.values), value.known)
    found = compare.agreement(true, paper.credit(noisy, to="turn"))
    rows.append([f"{reliability:.0%}", f"{found:+.2f}"])
page.table(["grades that are right (the others are of another move)", "rank correlation with true credit"], rows)

# %% [markdown]
# **The last turns of the longest games** fall back to the statistics of the whole batch, and their scale jumps:

# %%
reached = [sum(len(row) > t for row in table) for t in range(max(map(len, table)))]
rows = []
for t, games in enumerate(reached):
    grades = [row[t] for row in table if len(row) > t]
    spread = torch.tensor(grades, dtype=torch.float64).std(unbiased=False)
    rows.append([t, games, f"{spread:.2f}", "this turn's" if games >= 4 else "**the batch's**"])
page.table(["turn", "games that reached it", "spread of its grades", "compared with"], rows)

# %% [markdown]
# ## 6. The paper and its code
#
# Both variants are the release's (read as text, not run): the paper's comparison at equal turn, and the newer one by
# state. For that, four candidate moves are drawn in every state and the best is played; `train` and `launch` do so with
# this recipe (`candidates=4`). On the games above it can only compare games that met in a state. A state in which all
# moves have one grade leaves the loss. How much is left of each?

# %%
drawn = play_candidates(
    player, env, questions[:4], count=4, oracle="oracle_value", settings=Settings(max_new_tokens=24), seed=SEED
)
display(page.side_by_side(batch, paper, by_state, trajectory=mixed))
page.table(
    ["moves", "how many", "with credit by state"],
    [
        [word, len(credit), f"{float(credit.known.double().mean()):.0%}"]
        for word, credit in (
            ("of games that met in a state", by_state.credit(batch, to="turn")),
            ("drawn in every state", by_state.credit(drawn.batch(), to="turn")),
        )
    ],
)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["vpr_turns"])

# %% [markdown]
# Live, from the same start:

# %%
method_curves.continue_live(policy.load("tiny@tictactoe", tools=env.tools), env, paper)

# %% [markdown]
# **What its authors report** (Qwen3-4B, first variant, against training by outcome): return in Tic-Tac-Toe as first
# player -0.09, not -0.18; success in Sudoku 56 %, not 48 %, and in Minesweeper 10 %, not 4 %. General reasoning is at
# 62.2 to 62.6, the base model at 60.9. Not checked here.
#
# ## 8. Exercise: write it
#
# About 15 minutes; the first variant.


# %% tags=["exercise"]
def turn_credit(value, group, fewest):
    """Return the credit of every turn, a row a rollout.

    value: the oracle's grade, a row a rollout.  group: the question of each.
    fewest: turns that fewer rollouts than this reached take the statistics of the whole batch.
    """

    # SOLUTION 1: z-scores by turn over the batch
    def z(x, pool):
        mean = sum(pool) / len(pool)
        square = sum((y - mean) ** 2 for y in pool) / len(pool)
        return 0.0 if max(pool) == min(pool) else (x - mean) / square**0.5

    every = [x for row in value for x in row]
    credit = []
    for row in value:
        line = []
        for t, x in enumerate(row):
            here = [other[t] for other in value if t < len(other)]
            line.append(z(x, here if len(here) >= fewest else every))
        credit.append(line)
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2. What a wrong one is told; here, siblings in the place of the batch:

# %%
check.ex(check.made(check.of_turn, few=None))

# %% [markdown]
# ## 9. Where to go on
#
# - [GiGPO](gigpo.ipynb) compares visits of a state by what followed.
# - [MatchTIR](matchtir.ipynb) has a reference in the place of an oracle.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(paper)
