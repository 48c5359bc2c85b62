"""`workbench credit`: a recipe by its name, the evidence it needs, a table of turns."""

from __future__ import annotations

import argparse
import csv
import difflib
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from workbench.cli.saying import Problem, print_table

if TYPE_CHECKING:
    from workbench.rollouts import Rollouts


def arguments(one: argparse.ArgumentParser) -> None:
    """Add the arguments of `credit`."""
    one.add_argument("file")
    one.add_argument("--recipe", required=True, help="grpo, igpo, matchtir ...")
    one.add_argument("--param", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the recipe")
    one.add_argument("--policy", help="for recipes whose evidence needs a model, e.g. smollm2")
    one.add_argument("--csv", metavar="OUT")
    one.add_argument("--parquet", metavar="OUT")


def recipe_functions() -> dict[str, Callable[..., Any]]:
    """List the public functions of `workbench.recipes` that return a recipe, by name."""
    from workbench import recipes

    found = {name: f for name, f in vars(recipes).items() if inspect.isfunction(f) and not name.startswith("_")}
    return {name: f for name, f in found.items() if "Recipe" in str(inspect.signature(f).return_annotation)}


def make_recipe(name: str, settings: Sequence[str]) -> Any:
    """Make a recipe from its name and `key=value` settings.

    Raises:
        Problem: no such recipe or parameter; says which there are.
    """
    functions = recipe_functions()
    if name not in functions:
        near = difflib.get_close_matches(name, functions, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(functions))}"
        raise Problem(f"no recipe {name!r}; {hint}")
    allowed, given = inspect.signature(functions[name]).parameters, {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in allowed:
            raise Problem(f"--param {setting}: expected key=value with a key of {name}: {', '.join(allowed) or 'none'}")
        try:
            given[key] = json.loads(text)
        except ValueError:
            given[key] = text
    return functions[name](**given)


def credit(options: argparse.Namespace) -> int:
    """Compute the credit of every turn by one recipe; print it or write it to a file."""
    import workbench.store

    recipe = make_recipe(options.recipe, options.param)
    rollouts = with_evidence(workbench.store.read(options.file), [recipe], options.policy)
    table = credit_table(rollouts, recipe)
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
    if options.parquet:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table(table), options.parquet)
    for path in filter(None, (options.csv, options.parquet)):
        print(f"{path}: {len(table['credit'])} turns")
    if not (options.csv or options.parquet):
        print_table(tuple(table), [[_cell(value) for value in row] for row in zip(*table.values(), strict=True)])
    unknown = sum(value is None for value in table["credit"])
    if unknown:
        print(f"{unknown} of {len(table['credit'])} turns have unknown credit (null, empty in CSV)", file=sys.stderr)
    return 0


def with_evidence(rollouts: Rollouts, recipes: Sequence[Any], policy: Any) -> Rollouts:
    """Fill the columns that recipes need and the rollouts do not have.

    Args:
        policy: a policy or its name, for what needs a model; None leaves that to an error that says so.
    """
    from workbench import evidence
    from workbench.policy import load

    # What was recorded stays, also where it is unknown for some: a score made here would be on another scale.
    recorded = {name for name, column in rollouts.batch().columns.items() if bool(column.known.any())}
    if all(name in recorded for recipe in recipes for name in recipe.chain.needs):
        return rollouts
    player = load(policy) if isinstance(policy, str) else policy
    try:
        providers = evidence.for_recipe(recipes, rollouts, policy=player)
    except evidence.MissingEvidence as error:
        needy = ", ".join(recipe.name for recipe in recipes)
        what = f"{needy} needs {', '.join(error.columns)}, which these rollouts do not have"
        raise Problem(what if player else f"{what}; a policy may make it: --policy smollm2") from error
    missing = [provider for provider in providers if not recorded & set(provider.provides)]
    return evidence.collect(rollouts, missing) if missing else rollouts


def credit_table(rollouts: Rollouts, recipe: Any) -> dict[str, list[Any]]:
    """Return the credit of every turn as columns; unknown is None."""
    batch = rollouts.batch()
    values = recipe.credit(batch, to="turn")
    owners = [rollouts.trajectories[n] for n in batch.turn_trajectory.tolist()]
    pairs = zip(values.values.tolist(), values.known.tolist(), strict=True)
    return {
        "trajectory": [t.id for t in owners],
        "group": [t.group for t in owners],
        "turn": batch.turn_index.tolist(),
        "credit": [value if known else None for value, known in pairs],
    }


def _cell(value: Any) -> str:
    return "unknown" if value is None else f"{value:+.4f}" if isinstance(value, float) else str(value)
