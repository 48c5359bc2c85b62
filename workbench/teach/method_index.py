"""All methods side by side: ordered by what they need, and laid over one fixed set of rollouts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from workbench import catalogue, compare, evidence, recipes
from workbench.batch import Batch
from workbench.credit import Credit
from workbench.evidence.table import source_of
from workbench.policy.base import Policy
from workbench.recipes import Recipe
from workbench.rollouts import Rollouts
from workbench.teach.method_page import LEVELS, number, table
from workbench.train.tally import Kind, kinds

NEEDS: Mapping[str, tuple[str, ...]] = {
    "the outcome alone": ("outcome", "truncated"),
    "states, or rewards of the world": ("state", "turn_reward"),
    "rules: a reference trace, formats, tries": ("match_turn_reward", "match_reward", "format_score", "try_correct"),
    "an oracle or a judge of states": ("oracle_on_path", "state_distance"),
    "the policy's own uncertainty": ("token_entropy",),
    "a probe of the right answer": ("gold_logprob", "segment_gold_logprob", "step_accuracy", "logprob_informed"),
    "answers of the group in place of the right one": ("cluster_prob",),
    "rollouts played or read anew, or a learned value": (
        "ablation_drop",
        "shapley",
        "return_pred",
        "value",
        "turn_value",
    ),
}
"""Groups of methods by the columns they read, from what is always there to what costs most. A method stands in the last
group it reads a column of; a column that is in none counts by who makes it (`SOURCES`)."""
SOURCES = {None: list(NEEDS)[1], False: list(NEEDS)[2], True: list(NEEDS)[-1]}
"""Group of a column that nobody has put anywhere: by no provider, by a rule, by one that asks a model."""


ANSWERS: Mapping[str, tuple[str, ...]] = {
    "Was this rollout better than its siblings?": ("outcome", "truncated"),
    "Was it better than expected, from here on?": ("value", "turn_value"),
    "Was it right, in good form, and did its calls work?": ("format_score",),
    "Was this a better move than others from the same state, or at the same place?": (
        "state",
        "turn_reward",
        "match_turn_reward",
        "oracle_on_path",
    ),
    "How far along the way to the goal is it?": ("match_reward",),
    "Did this turn make the right answer likelier?": ("gold_logprob", "segment_gold_logprob", "step_accuracy"),
    "Did this turn change what outcome is to be expected?": ("return_pred",),
    "Would one who knows the answer have done this, too?": ("logprob_informed",),
    "How sure was the policy of this turn?": ("token_entropy",),
    "Did this turn move the group towards what it ended up saying?": ("cluster_prob",),
    "Which try was right, and did the rollout repeat itself?": ("try_correct",),
    "How much closer did this reply bring the user, now and later?": ("state_distance",),
    "What would be missing without this turn?": ("ablation_drop", "shapley"),
}
"""What methods ask, by the columns they read. A method stands at the last question it reads a column of; one that asks
something else says so in its catalogue row (`asks`)."""
ELSE = "something else"


def group_of(recipe: Recipe, groups: Mapping[str, tuple[str, ...]] = NEEDS) -> str:
    """Return the last group a recipe reads a column of: what it needs most, or what it asks.

    Args:
        recipe: the method.
        groups: `NEEDS` or `ANSWERS`.

    Example:
        >>> group_of(recipes.rloo()), group_of(recipes.matchtir())
        ('the outcome alone', 'rules: a reference trace, formats, tries')
        >>> group_of(recipes.aem(), ANSWERS)
        'How sure was the policy of this turn?'
    """
    found = [name for name, columns in groups.items() if set(columns) & set(recipe.chain.needs)]
    if not found and groups is NEEDS:
        made = [source_of(column) for column in recipe.chain.needs]
        found = [group for source, group in SOURCES.items() if source in made]
    return found[-1] if found else ELSE


def every() -> dict[str, Recipe]:
    """Return the first recipe of every row of the catalogue that has one, with its defaults, by its name."""
    made = {}
    for row in catalogue.ALL:
        if row.recipes:
            made[row.recipes[0]] = getattr(recipes, row.recipes[0])()
    return made


def ordered() -> Any:
    """List every method that has a recipe: what it needs, what it asks, at which level it decides, its notebook."""
    rows = {row.recipes[0]: row for row in catalogue.ALL if row.recipes}
    lines = []
    for need in (*NEEDS, ELSE):
        for name, recipe in every().items():
            if group_of(recipe) == need:
                lines.append(
                    [f"**{need}**", _link(rows[name]), rows[name].card.summary, _level(recipe), _reads(recipe)]
                )
    for earlier, line in zip(lines[-2::-1], lines[:0:-1], strict=True):
        line[0] = "" if line[0] == earlier[0] else line[0]
    return table(["needs", "method", "the idea", "decides per", "reads"], lines)


def questions() -> Any:
    """List what methods ask, and who asks it."""
    rows = {row.recipes[0]: row for row in catalogue.ALL if row.recipes}
    asked: dict[str, list[str]] = {question: [] for question in ANSWERS}
    for name, recipe in every().items():
        asked.setdefault(question_of(rows[name], recipe), []).append(_link(rows[name]))
    return table(["the question", "methods"], [[q, ", ".join(names)] for q, names in asked.items() if names])


def question_of(row: catalogue.Method, recipe: Recipe) -> str:
    """Return what a method asks: as its row says, else by the columns it reads."""
    return row.asks or group_of(recipe, ANSWERS)


def _link(row: catalogue.Method) -> str:
    if row.notebook is None:
        return f"{row.name} (no notebook yet)"
    return f"[{row.name}]({row.notebook.removeprefix('notebooks/').removesuffix('.py')}.ipynb)"


def _level(recipe: Recipe) -> str:
    from workbench.recipes.base import _above_tokens

    level = str(_above_tokens(recipe.chain).level_out(None))
    return {**LEVELS, "?": "any"}.get(level, level)


def _reads(recipe: Recipe) -> str:
    return ", ".join(f"`{name}`" for name in recipe.chain.needs)


# --------------------------------------------------------------------------------------------- on the same rollouts


def collected(rollouts: Rollouts, policy: Policy) -> tuple[Rollouts, dict[str, Recipe], dict[str, str]]:
    """Collect the evidence of every recipe that this world and policy can give.

    Returns:
        rollouts with their columns; the recipes that can be computed on them; for each other one what it lacks.
    """
    used: dict[str, Recipe] = {}
    lacking: dict[str, str] = {}
    for name, recipe in every().items():
        try:
            asked = _outcome_as_reward(recipe)
            rollouts = evidence.collect(rollouts, evidence.for_recipe(asked, rollouts, policy=policy))
            asked.credit(rollouts.batch(), to="turn")
            used[name] = asked
        except (evidence.MissingEvidence, ValueError) as problem:
            missing = getattr(problem, "columns", ())
            lacking[name] = ", ".join(f"`{column}`" for column in missing) or str(problem).splitlines()[0]
    return rollouts, used, lacking


def _outcome_as_reward(recipe: Recipe) -> Recipe:
    """GiGPO without rewards of the world: the outcome arrives at the last turn."""
    made = getattr(recipes, recipe.name)
    return made(reward=None) if "turn_reward" in recipe.needs and _takes_none(made) else recipe


def _takes_none(made: Any) -> bool:
    known = inspect.signature(made).parameters.get("reward")
    return known is not None and "None" in str(known.annotation)


def matrix(credits: Mapping[str, Credit]) -> Any:
    """Return the agreement of every pair (rank correlation over turns), similar methods beside each other."""
    from html import escape

    from IPython.display import HTML

    found = compare.agreement_matrix(credits)
    order = _near(found.fillna(0.0).to_numpy().tolist())
    names = [list(credits)[i] for i in order]
    heads = "".join(f'<th scope="col" style="{UPRIGHT}">{escape(name)}</th>' for name in names)
    lines = [
        f'<tr><th scope="row" style="{CELL}text-align:right">{escape(one)}</th>'
        + "".join(f'<td style="{CELL}{_shade(value)}">{_short(value)}</td>' for value in found.loc[one, names])
        + "</tr>"
        for one in names
    ]
    rows = f"<thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return HTML(f'<div style="overflow-x:auto"><table style="border-collapse:collapse">{rows}</table></div>')


CELL = "padding:3px 4px;font-size:11px;text-align:center;min-width:26px;border:0;font-variant-numeric:tabular-nums;"
UPRIGHT = f"{CELL}writing-mode:vertical-rl;transform:rotate(180deg);text-align:left;white-space:nowrap"


def _short(value: float) -> str:
    """Write a correlation in three signs or less; "?" where there is none.

    Example:
        >>> _short(0.634), _short(-0.3), _short(0.999), _short(-0.001), _short(float("nan"))
        ('.63', '−.30', '1', '0', '?')
    """
    if value != value:
        return "?"
    text = f"{abs(value):.2f}".removeprefix("0")
    return {".00": "0", "1.00": "1"}.get(text, text) if value > 0 or text == ".00" else f"−{text}".replace("1.00", "1")


def _shade(value: float) -> str:
    """Blue for agreement, orange for its opposite; the number is there as well."""
    if not -1 <= value <= 1:
        return ""
    red = "213,94,0" if value < 0 else "0,114,178"
    return f"background-color:rgba({red},{0.6 * abs(value):.2f})"


def _near(agreement: Sequence[Sequence[float]]) -> list[int]:
    """Order methods so that each stands beside one like it: a walk from the first to the nearest that is left."""
    left, order = set(range(1, len(agreement))), [0]
    while left:
        order.append(max(sorted(left), key=lambda k: agreement[order[-1]][k]))
        left.remove(order[-1])
    return order


def least_alike(credits: Mapping[str, Credit], count: int = 6, often: int = 2) -> list[tuple[float, str, str]]:
    """Return the pairs that agree least, as (rank correlation, one, other).

    Args:
        credits: by method.
        count: of pairs, at most.
        often: in how many pairs a method may be: one that agrees with nobody would fill the list.
    """
    names = list(credits)
    pairs = [
        (value, a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if (value := compare.agreement(credits[a], credits[b])) is not None
    ]
    found: list[tuple[float, str, str]] = []
    for pair in sorted(pairs):
        if all(sum(name in one for one in found) < often for name in pair[1:]):
            found.append(pair)
    return found[:count]


KINDS: tuple[tuple[str, Kind], ...] = (
    ("search that helps", "useful"),
    ("search that does not", "useless"),
    ("answer too early", "early"),
    ("answer in time", "due"),
)


def by_kind(rollouts: Rollouts, batch: Batch, credits: Mapping[str, Credit]) -> Any:
    """Say what each method thinks of each kind of turn: the mean credit, in units of the method's mean |credit|."""
    kind = [k for t in rollouts for k in kinds(t)]
    lines = []
    for name, credit in credits.items():
        size = float(credit.values[credit.known].abs().mean()) or 1.0
        cells = [_mean(credit, kind, wanted, size) for _, wanted in KINDS]
        lines.append([f"`{name}`", *cells])
    counts = [str(sum(k == wanted for k in kind)) for _, wanted in KINDS]
    return table(["method", *(word for word, _ in KINDS)], [["*turns*", *counts], *lines])


def _mean(credit: Credit, kind: Sequence[str], wanted: str, size: float) -> str:
    values = [v for v, k in zip(credit.tolist(), kind, strict=True) if k == wanted and v is not None]
    return number(sum(values) / len(values) / size, 2) if values else "?"
