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
# # Shapley values: what is each turn's fair share of what was found?
#
# **Let the policy read the turns of a rollout in every possible order, and ask each time how much likelier the right
# answer became. A turn's credit is the mean of what it added.**
#
# It is the only way to share a sum that satisfies four plain demands, which are checked below. Its price is the number
# of orders. *A value for n-person games*, 1953, put to turns. Before this one: [IGPO](igpo.ipynb), which looks at one
# order only: the order of play.
#
# **Use it when** you study what a policy gets out of the turns it reads, on some rollouts. It costs many calls of the
# policy a turn (section 4). **Not when** you train for long, or when a turn matters because it led to the next one
# (section 5).

# %% tags=["parameters"]
SEED = 5

# %%
import math
from dataclasses import replace
from itertools import permutations
from random import Random

from IPython.display import display

from workbench import envs, evidence, policy
from workbench.credit import read
from workbench.evidence.coalitions import ShapleyTurns, exact_shares, pieces, sampled_shares, sets_of, some_orders
from workbench.evidence.gold import GoldProbe
from workbench.policy import Settings
from workbench.recipes import grpo, shapley
from workbench.rollout import play
from workbench.teach import method_curves, method_told, method_why, predict
from workbench.teach import method_page as page
from workbench.teach.methods import shapley as check
from workbench.train.tally import kinds
from workbench.view import CreditMap, Ribbons
from workbench.view.curves import Curve, Panel, bundle

env = envs.load("facet", items=8, clues=2)
player = policy.load("tiny@facet")  # a million parameters, at its shipped warm start
probe = ShapleyTurns(player, exact=10, orders=16)  # exact up to 10 turns, 16 sampled orders beyond
ours = shapley()

# %% [markdown]
# ## 1. Quick facts

# %%
page.facts(ours, policy=player)

# %% [markdown]
# ## 2. The equation
#
# The players are the $n$ turns before the last. $v(S)$ is how probable the policy finds the right answer when it has
# read the prompt and the turns in $S$, and no others:
#
# $$v(S) = \exp\Big(\text{mean}_j \log p(a_j \mid \text{prompt, turns in } S, a_{<j})\Big)$$
#
# The value of turn $t$ is what it adds, averaged over all $n!$ orders. A set of $|S|$ turns comes before $t$ in
# $|S|!\,(n-|S|-1)!$ of them, so that $2^n$ sets are enough:
#
# $$\phi_t = \sum_{S:\; t \notin S} \frac{|S|!\,(n-|S|-1)!}{n!}\,\big(v(S \cup t) - v(S)\big), \qquad A_t = \phi_t$$
#
# Nothing is compared with other rollouts, and the outcome is not read. The last turn answers: it is no player, and its
# credit is unknown.

# %%
ours

# %% [markdown]
# ## 3. By hand
#
# Three searches. The first two found the *same* clue, the third another one; both clues together settle it.

# %%
found = {(): 0.1, (0,): 0.3, (1,): 0.3, (0, 1): 0.3, (2,): 0.2, (0, 2): 0.9, (1, 2): 0.9, (0, 1, 2): 0.9}
worth = {sum(1 << turn for turn in members): v for members, v in found.items()}  # bit t says whether turn t is in
spared = predict("Without turn 0 nothing is lost: turn 1 says the same. Is the value of turn 0 +, 0 or -?", None)

# %%
lines, value = [], [0.0, 0.0, 0.0]
for order in permutations(range(3)):
    seen, adds = 0, [0.0, 0.0, 0.0]
    for turn in order:
        adds[turn] = worth[seen | 1 << turn] - worth[seen]
        seen |= 1 << turn
    value = [a + b / 6 for a, b in zip(value, adds, strict=True)]
    lines.append([", ".join(map(str, order)), *(page.number(x, 2) for x in adds)])
page.table(
    ["read in this order", "turn 0 adds", "turn 1 adds", "turn 2 adds"],
    [*lines, ["**mean**", *(f"**{page.number(x)}**" for x in value)]],
)

# %% [markdown]
# The library sums over sets with weights; on the same numbers:

# %%
shares = [one.value for one in exact_shares(3, worth)]
small = page.hand(["q"], {"shapley": [[*shares, None]]})
display(page.agrees([[*value, None]], ours, small))
spared.reveal("+" if value[0] > 0 else "0")

# %% [markdown]
# Three rules for the same rollout. The first two look at one place in the order each.

# %%
v = [worth[mask] for mask in range(8)]
rules = {
    "the order of play (IGPO's gains)": check.as_played(v),
    "what is lost without it (turn ablation)": check.left_out(v),
    "all orders (Shapley)": check.all_orders(v),
}
page.table(
    ["rule", "turn 0", "turn 1", "turn 2", "sum", "to share"],
    [
        [name, *(page.number(x) for x in row), page.number(sum(row)), page.number(v[-1] - v[0])]
        for name, row in rules.items()
    ],
)

# %% [markdown]
# **The four demands**, with these numbers. A fourth turn that never changes anything is added for the second, another
# game for the fourth.

# %%
idle = exact_shares(4, {mask: worth[mask & 0b111] for mask in range(16)})
other = {mask: 0.05 * mask.bit_count() ** 2 for mask in range(8)}
both = exact_shares(3, {mask: worth[mask] + other[mask] for mask in range(8)})
apart = [a + b.value for a, b in zip(shares, exact_shares(3, other), strict=True)]
page.table(
    ["demand", "that is", "here", "and"],
    [
        ["efficiency", "values sum to v(all) - v(nobody)", page.number(sum(shares)), page.number(v[-1] - v[0])],
        ["dummy", "who changes no set gets 0", page.number(idle[3].value), "0"],
        ["symmetry", "turns 0 and 1 add the same to every set", page.number(shares[0]), page.number(shares[1])],
        [
            "additivity",
            "two games at once: the sum of both (turn 2)",
            page.number(both[2].value),
            page.number(apart[2]),
        ],
    ],
)

# %% [markdown]
# ## 4. On real rollouts
#
# A world in which every search narrows a list. `tiny` plays 6 questions, 4 rollouts each.

# %%
questions = env.tasks("test", 6, seed=SEED)
rollouts = play(player, env, questions, size=4, settings=Settings(max_new_tokens=24), seed=SEED, run="shapley")
rollouts = evidence.collect(rollouts, [probe, GoldProbe(player)])
batch = rollouts.batch()
print(f"{len(rollouts)} rollouts, {batch.count('turn')} turns, {sum(t.outcome == 1 for t in rollouts)} right")
page.cost(rollouts, ours)

# %% [markdown]
# **What "a turn is absent" means.** Its call and what came back are cut from the text. The prompt stays, and so does
# every other turn, word for word, in its old place. Nothing is played again. One rollout, all its sets:

# %%
short = next(t for t in rollouts if t.outcome == 1.0 and len(t.turns) == 3)
lead, said = pieces(short)
shown = [" ".join("".join(player.renderer.pieces(ids)).split()) for ids in said]
print(" ".join("".join(player.renderer.pieces(lead)).split())[-120:])
game = probe.worths(short)
page.table(
    ["turns read", "what the policy reads after the prompt", "v"],
    [
        [
            ", ".join(str(t) for t in range(2) if mask >> t & 1) or "none",
            " ⏎ ".join(shown[t] for t in range(2) if mask >> t & 1),
            f"{v:.3f}",
        ]
        for mask, v in game.items()
    ],
)

# %% [markdown]
# A longer one, stage by stage, and beside GRPO, which has one number for all turns.

# %%
solved = max((t for t in rollouts if t.outcome == 1.0), key=lambda t: len(t.turns))
Ribbons(rollouts, solved.id, ours)

# %%
CreditMap(rollouts, solved.id, [grpo(kl=0.0), ours])

# %%
page.promises(ours, batch)

# %% [markdown]
# Efficiency on all of them. The sum of a rollout's values must be what the gold-answer probe, which knows nothing of
# coalitions, says of the whole: belief before the last turn, less belief after the prompt.

# %%
values = page.turns(ours, batch)
belief = page.rows_of(read("gold_logprob", "turn")(None, batch), batch)
start = batch["gold_logprob_start"].values.tolist()
gaps = [
    abs(sum(row[:-1]) - (math.exp(logs[-2]) - math.exp(before)))
    for row, logs, before in zip(values, belief, start, strict=True)
    if len(row) > 1
]
print(f"{len(gaps)} rollouts, largest gap {max(gaps):.0e}")

# %% [markdown]
# Which searches are paid? The world's oracle knows which ones brought the answer closer.

# %%
games = {t.id: list(probe.worths(t).values()) for t in rollouts}
rows = []
for word, name in (("search that helps", "useful"), ("search that does not", "useless")):
    place = [(t.id, k) for t in rollouts for k, kind in enumerate(kinds(t)[:-1]) if kind == name]
    means = [
        sum(rule(games[i])[k] for i, k in place) / len(place)
        for rule in (check.as_played, check.left_out, check.all_orders)
    ]
    rows.append([word, len(place), *(page.number(x) for x in means)])
page.table(["kind of turn", "turns", "order of play", "without it", "all orders"], rows)

# %% [markdown]
# How far the two lines are apart says how much of a good search this policy can *read*: the judge is the policy that
# is trained, and here it solves few questions. In the chain world, stored:

# %%
method_told.which_turn("shapley", beside=("earlier is better", "grpo", "igpo", "turn_ablation"))

# %% [markdown]
# **The price.** Exact values need every set, orders written out one by one $n!$ walks. A sampled order passes through
# $n + 1$ sets, of which the first and the last are common to all.

# %%
rows = []
for n in (2, 4, 6, 8, 10, 12, 20):
    sampled = min(2**n, 16 * (n - 1) + 2)
    rows.append([n, f"{2**n:,}", f"{math.factorial(n):,}", f"{sampled:,}"])
page.table(["turns before the last", "sets, 2^n", "orders, n!", "sets of 16 sampled orders, at most"], rows)

# %% [markdown]
# How good are sampled orders? Ten searches, and a reader who keeps every item that fits all clues it saw:
# $v(S) = 0.9 / \text{items left}$, lowered by a search that brings in doubt. 1,024 sets give the truth. The library
# makes each second order the reverse of the one before, which costs nothing and cancels much of the noise.

# %%
ten = check.game(Random(SEED), ["clue", "clue", "same", "idle", "clue", "harm", "clue", "idle", "clue", "same"])
truth = [one.value for one in exact_shares(10, dict(enumerate(ten)))]


def off(orders):
    """Mean error of a value, as a share of the largest value."""
    errors = [abs(a - b) for a, b in zip(check.over_orders(ten, orders), truth, strict=True)]
    return sum(errors) / 10 / max(truth)


def unpaired(count, seed):
    draw = Random(seed)
    return [draw.sample(range(10), 10) for _ in range(count)]


powers, draws = range(1, 9), range(30)
counts = [2**power for power in powers]
ways = {"orders drawn one by one": unpaired, "each with its reverse": lambda n, seed: some_orders(10, n, seed)}
curves = []
for look, (name, way) in enumerate(ways.items(), start=1):
    seen = [sorted(off(way(count, seed)) for seed in draws) for count in counts]
    mean = [sum(row) / len(row) for row in seen]
    curves.append(Curve(name, powers, mean, [row[1] for row in seen], [row[-2] for row in seen], look=look))
display(
    bundle(
        [Panel("ten turns", tuple(curves))],
        "sampled orders: 2 to this power",
        "mean error of a value, as a share of the largest",
        True,
    ),
    raw=True,
)
asked = [len({m for order in some_orders(10, n, 0) for m in sets_of(order)}) for n in counts]
page.table(
    ["sampled orders", *counts],
    [
        ["sets scored, of 1,024", *asked],
        *([f"mean error, {c.name}", *(f"{x:.1%}" for x in c.mean)] for c in curves),
    ],
)

# %% [markdown]
# The band holds 28 of 30 draws. The error falls with the root of the number of orders: a quarter of it takes sixteen
# times the orders. The library gives the half-width of a 95 % interval with each value (`shapley_error`).
#
# ## 5. Where it fails
#
# **A repeat is paid.** Symmetry is a demand on what is *read*; that the second search was useless when it was *made*
# does not count. In section 3 turn 1 repeated turn 0 and has the same value. IGPO's order of play gives the repeat 0.
#
# **Finding the way is not paid.** A set cuts text, and plays nothing again. Two searches: the first names the thing
# that the second must ask for, the second names the answer. Built to show it:

# %%
way = predict("Without the first search nobody could have made the second. What is the value of the first?", None)

# %%
lookup = exact_shares(2, {0b00: 0.1, 0b01: 0.1, 0b10: 0.9, 0b11: 0.9})  # who reads turn 1 knows the answer
display(page.table(["turn", "value"], [[k, page.number(one.value)] for k, one in enumerate(lookup)]))
way.reveal(page.number(lookup[0].value))

# %% [markdown]
# Does it happen? In a world of such chains, `tiny` at its warm start, rollouts that made both searches and no other:

# %%
chain, guide = envs.load("chain", hops=2), policy.load("tiny@chain")
brief = Settings(max_new_tokens=24)
played = play(guide, chain, chain.tasks("test", 6, seed=SEED), size=4, settings=brief, seed=SEED)
straight = [t for t in played if kinds(t) == ["useful", "useful", "due"]]
reader = ShapleyTurns(guide)
each = [list(reader.worths(t).values()) for t in straight]
first, second = zip(*(check.all_orders(v) for v in each), strict=True)
page.table(
    ["rollouts", "v(none)", "v(first)", "v(second)", "v(both)", "value of the first", "of the second"],
    [
        [
            len(each),
            *(f"{sum(v[k] for v in each) / len(each):.2f}" for k in range(4)),
            *(page.number(sum(x) / len(x)) for x in (first, second)),
        ]
    ],
)

# %% [markdown]
# Here the first search has a value, because `tiny` reads badly: with the second one alone it is less sure than with
# both. The better a policy reads, the less is left for whoever found the way. Asking what would have happened without
# a turn takes new rollouts from there.
#
# **Failure is praised, and answering is not taught.** The values say whether reading helped, not whether the rollout
# used it. On the rollouts of section 4:

# %%
wrong = [row for t, row in zip(rollouts, values, strict=True) if t.outcome == 0.0 and len(row) > 1]
praised = sum(sum(row[:-1]) > 0 for row in wrong)
page.markdown(
    f"**{praised} of {len(wrong)}** wrong rollouts that searched have values that sum to more than 0. All "
    f"{sum(row[-1] is None for row in values)} last turns are unknown and stay out of the loss: nothing is learned "
    "about how to answer, or when to stop."
)

# %% [markdown]
# **Few samples say little of a turn that matters little.** From the figure above, with 16 orders:

# %%
loose = sampled_shares(some_orders(10, 16, SEED), dict(enumerate(ten)))
was = ["clue", "clue", "same as 1", "idle", "clue", "doubt", "clue", "idle", "clue", "same as 8"]
lines = []
for k, (right, guess) in enumerate(zip(truth, loose, strict=True)):
    sign = "yes" if abs(guess.value) > guess.error else "is 0" if guess.error == 0 else "no"
    holds = "yes" if abs(right - guess.value) <= guess.error + 1e-9 else "**no**"
    lines.append([k, was[k], page.number(right), page.number(guess.value), f"± {guess.error:.3f}", sign, holds])
page.table(["turn", "what it did", "value", "16 orders", "95 %", "sign known?", "interval holds the value?"], lines)

# %% [markdown]
# Eight pairs of orders are few for an interval, too: it is narrower than it says.
#
# ## 6. The definition and ours
#
# Shapley's paper has players who may or may not join. **Our reading**: turns are the players, absent means "cut from
# what is read", and $v$ is the belief in the right answer. Others share an outcome among *agents*, not among turns
# (SHARP, [arXiv:2602.08335](https://arxiv.org/abs/2602.08335)). Two choices, on the rollout of section 4: few sampled
# orders in the place of all, and logarithms in the place of probabilities.

# %%
rough = evidence.collect(rollouts, [ShapleyTurns(player, exact=0, orders=4)]).batch()["shapley"]
in_logs = [x for t in rollouts for x in [*check.all_orders([math.log(p) for p in games[t.id]]), 0.0]]
wider = batch.with_column("sampled", "turn", rough.values, rough.known)
wider = wider.with_column("in_logs", "turn", rough.values.new_tensor(in_logs), rough.known)
page.side_by_side(
    wider,
    ours,
    replace(shapley("sampled"), name="shapley, 4 orders"),
    replace(shapley("in_logs"), name="shapley, log-probabilities"),
    trajectory=batch.trajectories.index(solved.id),
)

# %% [markdown]
# ## 7. How it learned

# %%
method_curves.beside_grpo(["shapley"])

# %% [markdown]
# What to expect of it: what it changes in GRPO's credit, on the rollouts of section 4, before any training.

# %%
method_why.seen_from_grpo(rollouts, ours)

# %% [markdown]
# Live, from the same warm start:

# %%
method_curves.continue_live(policy.load("tiny@facet"), env, ours)

# %% [markdown]
# **What its authors report**: nothing of the kind, for the paper is of 1953; and we know of no training run that
# credits turns this way. SHARP, which shares among agents, reports average improvements of 23.66 % over single-agent
# and 14.05 % over multi-agent approaches (its abstract; not checked here).
#
# ## 8. Exercise: write it
#
# About 20 minutes. The worth of every set is given; what is left is the sharing.


# %% tags=["exercise"]
def turn_credit(worth, group):
    """Return the Shapley value of every turn, a row a rollout; a rollout without turns has an empty row.

    worth: a list a rollout, v of every set of its turns. The place is a bit mask: worth[i][0] is v of no turn,
    worth[i][0b101] that of turns 0 and 2; a list of 2 to the n numbers has n turns.  group: the question of each.
    """
    # SOLUTION 1: what each turn adds, mean over all orders
    from itertools import permutations

    credit = []
    for v in worth:
        n = len(v).bit_length() - 1
        orders, row = list(permutations(range(n))), [0.0] * n
        for order in orders:
            seen = 0
            for turn in order:
                row[turn] += (v[seen | 1 << turn] - v[seen]) / len(orders)
                seen |= 1 << turn
        credit.append(row)
    return credit
    # END SOLUTION


check.ex(turn_credit)

# %% [markdown]
# Stuck? `check.hint("ex", 1)`, then 2, then 3. What a wrong one is told; here, every set weighed alike:

# %%
check.ex(check.made(check.every_set_alike))

# %% [markdown]
# ## 9. Where to go on
#
# - [IGPO](igpo.ipynb): the same beliefs, in the order of play, beside the outcome.
# - [SIOP](siop.ipynb): belief in the answer that a rollout gave itself, where no right answer is known.
# - [All methods](../index.ipynb) on one set of rollouts, and the [glossary](../../tutorials/glossary.md) of what a
#   training reports.
#
# ## References

# %%
page.references(ours)
