"""What the notebooks of all methods have in common, so that each says only what is special to its method.

    facts            what it asks and reads, who makes that, what asks a model, at which level it decides, its axioms
    outcomes         what the rollouts of each question came to
    hand, agrees     a batch of numbers one can check, and a hand computation beside the library's
    cost             what its evidence cost on these rollouts, which a policy sampled, in calls and tokens of the model
    promises         the invariants its row in the catalogue declares, checked on these rollouts
    side_by_side     its paper beside its released code, turn by turn
    references       where it comes from

Learning curves and a live continuation are in `method_curves`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from workbench import axioms, catalogue, evidence
from workbench.batch import Batch
from workbench.batch.columns import GIVEN
from workbench.credit import Credit
from workbench.policy.base import Policy
from workbench.recipes import Recipe
from workbench.recipes.base import _above_tokens
from workbench.rollouts import Rollouts

Rows = Sequence[Sequence[float | None]]
NOISE = 1e-6
"""Credit that is no larger has no sign: it is what float32 leaves of a difference of equal numbers."""
LEVELS = {"trajectory": "rollout"}
"""Words for a reader: what the code calls a trajectory is a rollout in the notebooks."""
VALUES = ("value", "turn_value")
"""Columns that the learner's own value head gives; no provider does."""


def markdown(text: str) -> Any:
    """Return text that a notebook shows as Markdown."""
    from IPython.display import Markdown

    return Markdown(text)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Any:
    """Return a table of Markdown: columns of numbers stand to the right; a bar in a cell does not break it.

    Example:
        >>> print("\\n".join(table(["a", "b"], [[1, "x|y"]]).data.splitlines()[1:]))
        | ---: | --- |
        | 1 | x\\|y |
    """
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in (head, *rows)]
    sides = ["---:" if _numbers(column) else "---" for column in zip(*cells[1:], strict=True)] or ["---"] * len(head)
    return markdown("\n".join("| " + " | ".join(line) + " |" for line in (cells[0], sides, *cells[1:])))


NUMBER = re.compile(r"(\*\*)?[+\-±]? ?\d[\d.,]*(e[+-]?\d+)?%?( ± \d[\d.]*)?(\*\*)?")
SAME = "with the one above"
NONE = ("", "?", "-", SAME)
"""What stands in a column of numbers where there is none."""


def _numbers(column: Sequence[str]) -> bool:
    """Are there numbers in a column, and nothing else but what stands for none?"""
    said = [cell for cell in column if cell not in NONE]
    return bool(said) and all(NUMBER.fullmatch(cell) for cell in said)


def outcomes(rollouts: Rollouts) -> Any:
    """List the questions and the outcomes of their rollouts."""
    asked = [(next(iter(g)), g) for g in rollouts.groups]
    lines = [[first.prompt[-1].text, " ".join(f"{t.outcome:g}" for t in g)] for first, g in asked]
    return table(["question", "outcomes of its rollouts"], lines)


def row_of(recipe: Recipe) -> catalogue.Method:
    """Return the catalogue's row of a recipe.

    Raises:
        LookupError: no row names it.
    """
    found = next((row for row in catalogue.ALL if recipe.name in row.recipes), None)
    if found is None:
        raise LookupError(f"{recipe.name}: no row of the catalogue names this recipe; add it to one's `recipes`")
    return found


# ------------------------------------------------------------------------------------------------- quick facts


def facts(*recipes: Recipe, policy: Policy | None = None) -> Any:
    """Say what recipes need and do, a column a recipe: read off the recipes and the catalogue.

    Args:
        recipes: of one method; the paper's first.
        policy: whose beliefs would be asked; without one, what needs a model is named as missing.
    """
    card = row_of(recipes[0]).card
    lines: list[list[str]] = [
        ["asks", *(_question(recipe) for recipe in recipes)],
        ["reads", *(", ".join(f"`{name}`" for name in recipe.needs) for recipe in recipes)],
        ["made by", *(_makers(recipe, policy) for recipe in recipes)],
        ["calls of a model", *(_calls(recipe, policy) for recipe in recipes)],
        ["decides per", *(_level(recipe) for recipe in recipes)],
        ["loss", *(_loss(recipe) for recipe in recipes)],
        ["axioms", *(_axioms(recipe) for recipe in recipes)],
        ["this account rests on", card.source, *[""] * (len(recipes) - 1)],
        ["our reading", card.reconstruction or "nothing", *[""] * (len(recipes) - 1)],
    ]
    if row_of(recipes[0]).missing:
        lines.append(["not here yet", row_of(recipes[0]).missing, *[""] * (len(recipes) - 1)])
    return table(["", *(f"`{recipe.name}`" for recipe in recipes)], lines)


def _makers(recipe: Recipe, policy: Policy | None) -> str:
    """Name the providers of a recipe's columns, and what they look at beside the past."""
    try:
        providers = evidence.for_recipe(recipe, policy=policy, reference=policy, training=True)
    except evidence.MissingEvidence as missing:
        guessed = [name for name in missing.columns if name in VALUES]
        others = [name for name in missing.columns if name not in VALUES]
        said = [f"a value head, trained beside the policy: {', '.join(guessed)}"] * bool(guessed)
        return "; ".join([*said, *[f"the world or you: {', '.join(others)}"] * bool(others)])
    said = [f"{p.name}{' (sees ' + ', '.join(p.sees) + ')' if p.sees else ''}" for p in providers]
    return "; ".join(said) if said else "the rollouts themselves carry it"


def _question(recipe: Recipe) -> str:
    """Say what a recipe asks, in the words of the index of methods."""
    from workbench.teach.method_index import ANSWERS, group_of  # here, because that file imports this one

    return group_of(recipe, ANSWERS)


def _calls(recipe: Recipe, policy: Policy | None) -> str:
    """Say whether a recipe's columns ask a model; what that cost on the page's rollouts is counted by `cost`."""
    try:
        providers = evidence.for_recipe(recipe, policy=policy, reference=policy, training=True)
    except evidence.MissingEvidence as missing:
        return "one pass of the head" if set(missing.columns) <= set(VALUES) else "depends on who makes its columns"
    asking = [p for p in providers if type(p).model is not evidence.Provider.model]
    credit = [p.name for p in asking if set(p.provides) & set(recipe.chain.needs)]
    said = [f"by {', '.join(credit)}: counted in section 4"] if credit else []
    said += ["one pass of the reference, for the KL term"] if len(credit) < len(asking) else []
    return "; ".join(said) or "none"


def _axioms(recipe: Recipe) -> str:
    """Say how many invariants a recipe declares; `promises` names and checks them."""
    declared = len(axioms.claimed(row_of(recipe).axioms, recipe.name))
    return f"{declared} beside the {len(axioms.COMMON)} of every recipe: checked in section 4"


def _level(recipe: Recipe) -> str:
    """Say at which level credit is decided, before it is copied to tokens."""
    level = _above_tokens(recipe.chain).level_out(None)
    return LEVELS.get(str(level), str(level))


def _loss(recipe: Recipe) -> str:
    """Write the objective: every term with its loss and how it averages."""
    return f"`{recipe.objective!r}`"


# -------------------------------------------------------------------------------------------------- by hand


def hand(
    group: Sequence[str],
    turn: Mapping[str, Rows] | None = None,
    rollout: Mapping[str, Sequence[float | None]] | None = None,
    turns: Sequence[int] | None = None,
    tokens: Sequence[Sequence[int]] | None = None,
) -> Batch:
    """Build a batch of numbers that one can follow with a pencil.

    Args:
        group: the question of each rollout.
        turn: column to a row of numbers a rollout; None is unknown.
        rollout: column to a number a rollout.
        turns: of each rollout, where no turn column says how many.
        tokens: of each turn of each rollout; without them credit ends at turns.

    Example:
        >>> batch = hand(["a", "a"], {"turn_reward": [[1.0, None], [0.0]]}, {"outcome": [1.0, 0.0]})
        >>> batch.count("turn"), batch["turn_reward"].known.tolist()
        (3, [True, False, True])
    """
    turn = turn or {}
    sizes = list(turns) if turns is not None else [len(row) for row in next(iter(turn.values()))]
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    flat = None if tokens is None else [n for row in tokens for n in row]
    token_turn = None if flat is None else torch.repeat_interleave(torch.arange(len(flat)), torch.tensor(flat))
    batch = Batch.of_maps(owner, list(group), token_turn)
    for name, rows in turn.items():
        batch = _with(batch, name, "turn", [x for row in rows for x in row])
    for name, values in (rollout or {}).items():
        batch = _with(batch, name, "trajectory", values)
    return batch


def _with(batch: Batch, name: str, level: Any, values: Sequence[float | None]) -> Batch:
    known = torch.tensor([v is not None for v in values])
    numbers = torch.tensor([0.0 if v is None else float(v) for v in values], dtype=torch.float64)
    return batch.with_column(name, level, numbers, known)


def rows_of(credit: Credit, batch: Batch) -> list[list[float | None]]:
    """Return credit of turns (or of rollouts) as a row a rollout; None is unknown."""
    owner = batch.up(credit.level, "trajectory").tolist()
    out: list[list[float | None]] = [[] for _ in range(batch.count("trajectory"))]
    for i, value in zip(owner, credit.tolist(), strict=True):
        out[i].append(value)
    return out


def turns(recipe: Recipe, batch: Batch) -> list[list[float | None]]:
    """Return a recipe's credit of every turn, a row a rollout; None is unknown."""
    return rows_of(recipe.credit(batch, to="turn"), batch)


def agrees(mine: Rows, recipe: Recipe, batch: Batch, tolerance: float = 1e-4) -> Any:
    """Lay a hand computation beside the library's credit, turn by turn.

    Args:
        mine: credit of turns, a row a rollout; None is unknown.
        recipe, batch: whose credit it should be.
        tolerance: of the largest difference; the eps of a spread is smaller than that.

    Raises:
        AssertionError: they differ; says where.
    """
    library = turns(recipe, batch)
    lines, gap = [], 0.0
    for i, (ours, theirs) in enumerate(zip(mine, library, strict=True)):
        for t, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            apart = float(a is not b) if a is None or b is None else abs(a - b)
            assert apart <= tolerance, f"rollout {i}, turn {t}: by hand {a}, {recipe.name} says {b}"
            gap = max(gap, apart)
            lines.append([i, batch.groups[int(batch.trajectory_group[i])], t, number(a), number(b)])
    head = ["rollout", "question", "turn", "by hand", f"`{recipe.name}`"]
    shown = table(head, lines)
    said = f"Largest difference: {gap:.0e}." if gap else "No difference."
    return markdown(f"{shown.data}\n\n{said}")


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with its sign; "?" is unknown.

    Example:
        >>> number(0.5), number(1e-12), number(None), number(-1e-7)
        ('+0.500', '0', '?', '-1e-07')
    """
    if value is None:
        return "?"
    if abs(value) < 1e-9:  # what rounding leaves
        return "0"
    return f"{value:+.{digits}f}" if abs(value) >= 10**-digits else f"{value:+.0e}"


def line(row: Sequence[float | None], digits: int = 2) -> str:
    """Write a row of credit in one line.

    Example:
        >>> line([0.5, None, -1.0])
        '+0.50, ?, -1.00'
    """
    return ", ".join(number(value, digits) for value in row)


# ------------------------------------------------------------------------------------------- on real rollouts


def cost(rollouts: Rollouts, recipe: Recipe) -> Any:
    """Say what the columns of a recipe cost on these rollouts, as their provenance tells.

    Every notebook of a method calls it on the rollouts it shows, and so none can show numbers nobody measured.

    Raises:
        ValueError: a turn that no policy sampled (scripted play), or a column of its credit that is missing, known for
            nobody, or written in by hand.
    """
    _check_measured(rollouts, recipe)
    turns = sum(len(t.turns) for t in rollouts)
    lines, seen = [], set()
    for name in recipe.needs:
        column = rollouts.batch().columns.get(name)
        if column is None:
            continue
        p = column.provenance
        once = (p.provider, p.calls, p.tokens)
        calls = [SAME, "", ""] if once in seen and p.calls else [p.calls, f"{p.calls / turns:.2f}", p.tokens]
        seen.add(once)
        known = f"{int(column.known.sum())} of {len(column.known)} {LEVELS.get(column.level, column.level)}s"
        lines.append([f"`{name}`", p.provider, known, *calls])
    return table(["column", "made by", "known for", "calls of the model", "calls a turn", "tokens through it"], lines)


def _check_measured(rollouts: Rollouts, recipe: Recipe) -> None:
    """Refuse play that no policy sampled, and columns that neither the rollouts nor a provider gave."""
    batch = rollouts.batch()
    recipe.check(batch, recipe.chain.needs)
    played = [t for t in rollouts if t.turns]
    unsampled = [t.id for t in played if not all(turn.policy for turn in t.turns)]
    drawn = batch["logprob_old"].known  # a script is no distribution: what it says has no log-probs
    if not played or unsampled or not len(drawn) or not bool(drawn.all()):
        named = f", {unsampled[0]!r} among them" if unsampled else ""
        raise ValueError(
            f"{recipe.name}: expected rollouts that a policy sampled, got turns without a policy or log-probs{named}; "
            "play(policy.load('tiny@...'), env, ...) samples some"
        )
    for name in recipe.chain.needs:
        column = batch[name]
        if column.provenance.provider == GIVEN.provider:
            problem = "was written in by hand; evidence.collect measures it, or say with `provenance=` what did"
        elif len(column.known) and not bool(column.known.any()):
            problem = f"is known for no {column.level}"
        else:
            continue
        raise ValueError(f"{recipe.name}: column {name!r} {problem}")


def promises(recipe: Recipe, batch: Batch) -> Any:
    """Check the invariants that a recipe's row in the catalogue declares, beyond those all recipes keep.

    Raises:
        AssertionError: one does not hold on these rollouts; says which and where.
    """
    declared = axioms.claimed(row_of(recipe).axioms, recipe.name)
    found = axioms.check(recipe, batch, declared)
    broken = {name: verdict.why for name, verdict in found.items() if not verdict.holds}
    assert not broken, f"{recipe.name} breaks what it declares: {broken}"
    lines = [[f"`{name}`", axioms.named(name).says, "holds"] for name in declared]
    common = f"The {len(axioms.COMMON)} that every recipe keeps hold here, too."
    if not lines:
        return markdown(f"It declares none of its own. {common}")
    return markdown(f"{table(['declares', 'that is', 'on these rollouts'], lines).data}\n\n{common}")


def side_by_side(batch: Batch, *recipes: Recipe, trajectory: int = 0) -> Any:
    """Lay the turn credit of recipes beside each other: one rollout in numbers, the whole batch in a sentence."""
    credits = {recipe.name: recipe.credit(batch, to="turn") for recipe in recipes}
    rows = {name: rows_of(credit, batch)[trajectory] for name, credit in credits.items()}
    names = list(credits)
    lines = [[t, *(number(rows[name][t]) for name in names)] for t in range(len(rows[names[0]]))]
    shown = table(["turn", *(f"`{name}`" for name in names)], lines)
    first = credits[names[0]]
    said = [_apart(name, first, credits[name], names[0]) for name in names[1:]]
    return markdown(f"{shown.data}\n\n" + "\n".join(said))


def _apart(name: str, first: Credit, other: Credit, base: str) -> str:
    both = first.known & other.known
    mine, theirs = (torch.where(x.abs() > NOISE, x, 0.0).sign() for x in (first.values[both], other.values[both]))
    signs = mine != theirs
    gap = float((first.values[both] - other.values[both]).abs().max()) if bool(both.any()) else 0.0
    return (
        f"- `{name}` against `{base}`, over the {int(both.sum())} turns known to both: largest difference {gap:.3g}; "
        f"the sign differs on {int(signs.sum()) or 'none'}."
    )


# ------------------------------------------------------------------------------------------------- references


def references(recipe: Recipe) -> Any:
    """Say where a method is published, what is known of its code, and where it stands here."""
    import workbench.recipes

    row = row_of(recipe)
    paper = f"*{row.card.title}* ({row.card.year})"
    link = f", [arXiv:{row.card.arxiv}]({row.card.link})" if row.card.arxiv else ""
    code = [
        f"`{name}` in `{inspect.getmodule(getattr(workbench.recipes, name)).__name__.replace('.', '/')}.py`"  # type: ignore[union-attr]
        for name in row.recipes
    ]
    lines = [f"- {paper}{link}. What is said of it here rests on: {row.card.source}."]
    lines += [f"- Released code that was read: [{row.card.code}]({row.card.code_link})."] * bool(row.card.code)
    lines += [f"- Our reading, because no source settles it: {row.card.reconstruction}."] * bool(
        row.card.reconstruction
    )
    lines += [f"- In the code: {', '.join(code)}; row {row.number} of the catalogue (`workbench methods`)."]
    lines += [f"- Worked numbers it is tested against: {', '.join(f'`{name}`' for name in row.parity)}."] * bool(
        row.parity
    )
    return markdown("\n".join(lines))
