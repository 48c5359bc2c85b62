"""The `workbench` command: open the lab, look at rollouts, compute credit, play episodes, examine the machine.

Everything heavy is imported inside the verb that needs it, so that `workbench --help` answers at once.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.rollouts import Rollouts

PACKAGE = Path(__file__).resolve().parent


class Problem(Exception):
    """What went wrong, in one sentence for the reader."""


# ---------------------------------------------------------------------------------------------------- lab


def lab(options: argparse.Namespace) -> int:
    """Build the notebooks and open JupyterLab on the start notebook."""
    clone = PACKAGE.parent
    if options.folder is None and (clone / "notebooks" / "start.py").exists():
        start = build_notebooks(clone / "notebooks", clone)
    else:
        shipped = PACKAGE / "_shipped"  # an installed wheel carries notebooks and their data here
        whole = shipped if shipped.exists() else clone
        folder = Path(options.folder or "credit-workbench").resolve()
        for data in (path for path in (whole / "datasets").rglob("*") if path.is_file() and path.suffix != ".pyc"):
            copy = folder / data.relative_to(whole)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(data, copy)
        start = build_notebooks(whole / "notebooks", folder)
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # in a container one often is
    print(f"Opening {start}", flush=True)
    try:
        return subprocess.run([sys.executable, "-m", "jupyter", "lab", str(start), *root, *options.jupyter]).returncode
    except KeyboardInterrupt:
        return 0


def build_notebooks(sources: Path, folder: Path) -> Path:
    """Build the notebooks of all sources in `folder/notebooks`, never over a changed one; return the start notebook."""
    from workbench import notebook

    made = notebook.build_all(sources, folder / "notebooks", folder / ".cache" / "notebooks.json")
    if "start" not in made:
        raise Problem(f"there is no start notebook in {sources}; is this a whole clone?")
    return made["start"].path


# ------------------------------------------------------------------------------------------------ methods


def methods(options: argparse.Namespace) -> int:
    """List the systems of the catalogue."""
    from workbench import catalogue

    rows = list(catalogue.METHODS)
    kinds = sorted({word for row in rows for word in _kinds(row)})
    if options.kind:
        rows = [row for row in rows if options.kind in _kinds(row)]
        if not rows:
            raise Problem(f"no system of kind {options.kind!r}; kinds: {', '.join(kinds)}")
    if options.json:
        print(json.dumps([{name: _plain(value) for name, value in asdict(row).items()} for row in rows], indent=1))
        return 0
    lines = [(str(row.number), row.name, ", ".join(_kinds(row)), str(row.status), _names(row.recipes)) for row in rows]
    print_table(("#", "system", "kind", "status", "recipes"), lines)
    print(f"{len(rows)} systems")
    return 0


def _kinds(row: Any) -> tuple[str, ...]:
    return (row.kind,) if isinstance(row.kind, str) else tuple(row.kind)


def _plain(value: Any) -> Any:
    """Turn a catalogue value into JSON: a function becomes its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    return getattr(value, "__name__", None) or (value if isinstance(value, (str, int, float, bool)) else None)


def _names(values: Iterable[Any]) -> str:
    return ", ".join(value if isinstance(value, str) else getattr(value, "__name__", str(value)) for value in values)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


# ------------------------------------------------------------------------------------------- read and show


def read(options: argparse.Namespace) -> int:
    """Say what a file holds, and what its reader could not keep."""
    import workbench.store

    rollouts, report = workbench.store.read_with_report(options.file)
    summary = {"format": report.format, **describe(rollouts)}
    if options.json:
        print(json.dumps({**summary, "notes": list(rollouts.notes)}, indent=1))
    else:
        print_summary(summary)
        for note in rollouts.notes:
            print(f"note: {note}")
    return 0


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print names and values in two columns."""
    for name, value in summary.items():
        print(f"{name.replace('_', ' '):26}{'unknown' if value is None else value}")


def describe(rollouts: Rollouts) -> dict[str, Any]:
    """Count what is in rollouts; None is unknown.

    Returns:
        "collapsed_groups" counts groups of two or more whose known outcomes are all equal.
    """
    outcomes = [t.outcome for t in rollouts if t.outcome is not None]
    groups = [[t.outcome for t in group] for group in rollouts.groups]
    several = [known for known in groups if len(known) > 1 and None not in known]
    return {
        "trajectories": len(rollouts),
        "groups": len(groups),
        "turns": sum(len(t.turns) for t in rollouts),
        "sampled_tokens": sum(len(s) for t in rollouts for k in range(len(t.turns)) for s in t.sampled(k)),
        "trajectories_with_tokens": sum(t.has_tokens for t in rollouts),
        "tool_calls": sum(len(turn.calls) for t in rollouts for turn in t.turns),
        "outcomes_known": len(outcomes),
        "mean_outcome": sum(outcomes) / len(outcomes) if outcomes else None,
        "collapsed_groups": f"{sum(len(set(known)) == 1 for known in several)} of {len(several)}" if several else None,
        "columns": ", ".join(sorted(rollouts.columns)) or "none",
    }


def show(options: argparse.Namespace) -> int:
    """Write one offline HTML page of a file of rollouts."""
    import workbench.store
    from workbench import show as door

    print(door.html_page(workbench.store.read(options.file), options.html))
    return 0


# ------------------------------------------------------------------------------------------------- credit


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

    player = load(policy) if isinstance(policy, str) else policy
    try:
        providers = evidence.for_recipe(recipes, rollouts, policy=player)
    except evidence.MissingEvidence as error:
        hint = "" if player else "; what needs a policy is made with --policy, e.g. --policy smollm2"
        raise Problem(f"{error}{hint}") from error
    recorded = {name for name, column in rollouts.batch().columns.items() if bool(column.known.any())}
    # What was recorded stays, also where it is unknown for some: a score made here would be on another scale.
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


# ------------------------------------------------------------------------------------------------ rollout


def rollout(options: argparse.Namespace) -> int:
    """Let a policy play tasks of a world; write the rollouts to a folder."""
    import workbench.store
    from workbench import envs, policy
    from workbench.policy.base import Settings
    from workbench.rollout import play

    if Path(options.out).exists():
        raise Problem(f"{options.out} is there already; name another folder with --out")
    recipes = [make_recipe(name, ()) for name in filter(None, options.evidence.split(","))]
    knobs = {} if options.hops is None else {"hops": options.hops}
    world = envs.load(options.env or ("chain" if options.policy.startswith("tiny") else "gazetteer"), **knobs)
    player = policy.load(options.policy, shots=getattr(world, "shots", ()), tools=world.tools)
    played = play(
        player,
        world,
        world.tasks(options.split, options.groups, options.seed),
        size=options.size,
        settings=Settings(temperature=options.temperature, max_new_tokens=options.max_new_tokens),
        seed=options.seed,
        max_turns=options.max_turns,
        progress=lambda done, total, text: print(f"  {done}/{total} episodes over, {text}", file=sys.stderr),
    )
    workbench.store.write(options.out, played)  # first: evidence that cannot be had must not cost the rollouts
    if recipes:
        workbench.store.write_column(options.out, with_evidence(played, recipes, player))
    print_summary({**describe(played), "written to": options.out})
    return 0


def doctor(options: argparse.Namespace) -> int:
    """Examine the installation."""
    from workbench import doctor as examiner

    return examiner.main(["--json"] if options.json else [])


# ------------------------------------------------------------------------------------------------- parser


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    top = argparse.ArgumentParser(prog="workbench", description="Which turn earned the reward?")
    top.add_argument("--debug", action="store_true", help="show where an error came from")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        text = (run.__doc__ or "").splitlines()[0]
        added = verbs.add_parser(run.__name__, help=text, description=text)
        added.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        added.set_defaults(run=run)
        return added

    one = verb(lab)
    one.add_argument(
        "--folder", help="where notebooks and their data go (a clone uses its own; else credit-workbench/)"
    )
    one.add_argument("jupyter", nargs="*", help="arguments for JupyterLab, after --")
    one = verb(methods)
    one.add_argument(
        "--kind", help="only this kind: recipe, evidence, objective, schedule, transform, search, probe ..."
    )
    one.add_argument("--json", action="store_true")
    one = verb(read)
    one.add_argument("file", help="our folder, chat JSONL, or TRL completions parquet")
    one.add_argument("--json", action="store_true")
    one = verb(show)
    one.add_argument("file")
    one.add_argument("--html", required=True, metavar="OUT", help="page to write")
    one = verb(credit)
    one.add_argument("file")
    one.add_argument("--recipe", required=True, help="grpo, igpo, matchtir ...")
    one.add_argument("--param", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the recipe")
    one.add_argument("--policy", help="for recipes whose evidence needs a model, e.g. smollm2")
    one.add_argument("--csv", metavar="OUT")
    one.add_argument("--parquet", metavar="OUT")
    _add_rollout(verb(rollout))
    one = verb(doctor)
    one.add_argument("--json", action="store_true")
    return top


def _add_rollout(one: argparse.ArgumentParser) -> None:
    one.add_argument("--policy", default="smollm2", help="smollm2, tiny, scripted, or a Hugging Face id or path")
    one.add_argument("--env", help="the world: gazetteer (the default), or chain (the default of tiny)")
    one.add_argument("--split", default="train", choices=("train", "test"))
    one.add_argument("--hops", type=int, help="searches a question takes (the world's default)")
    one.add_argument("--groups", type=int, default=8, help="tasks")
    one.add_argument("--size", type=int, default=4, help="rollouts of each task")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--temperature", type=float, default=0.7)
    one.add_argument("--max-new-tokens", type=int, default=32)
    one.add_argument("--max-turns", type=int)
    one.add_argument("--evidence", default="", metavar="RECIPES", help="also fill what these need, e.g. igpo,matchtir")
    one.add_argument("--out", required=True, help="folder to write")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status. Errors are one readable line unless `--debug`."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:
        if options.debug:
            raise
        print(f"workbench {options.verb}: {explain(error)}", file=sys.stderr)
        return 1


def explain(error: Exception) -> str:
    """Put an error in one line."""
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("workbench"):
        return f"the package {error.name} is not installed; `make setup` installs what the lab needs"
    text = " ".join(str(error).split()) or type(error).__name__
    known = isinstance(error, (Problem, ValueError, OSError))
    return text if known else f"{type(error).__name__}: {text} (--debug shows where)"


if __name__ == "__main__":
    sys.exit(main())
