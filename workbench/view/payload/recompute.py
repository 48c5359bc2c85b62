"""What the panel of knobs shows: which method has which knob with which value, rewards that can be edited, the code."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from workbench import recipes as made_by
from workbench.batch import Batch
from workbench.recipes.base import Recipe
from workbench.recompute import KNOBS, Edit, Knob, knobs

KNOB = {knob.name: knob for knob in KNOBS}


def panel(recipes: Mapping[str, Recipe]) -> list[dict[str, Any]]:
    """Return the knobs that some recipe has, in the order a screen shows them.

    Returns:
        per knob `name`, `title`, `says`, `choices` (names; empty for a number), `low`, `high`, `step`, `own` (method
        and its values in words, for those that have it), `without` (methods that lack it) and `start`, where a slider
        stands while nothing is turned.
    """
    own = {name: knobs(recipe) for name, recipe in recipes.items()}
    return [_knob(knob, own) for knob in KNOBS if any(knob.name in has for has in own.values())]


def _knob(knob: Knob, own: Mapping[str, Mapping[str, tuple[Any, ...]]]) -> dict[str, Any]:
    values = {name: has[knob.name] for name, has in own.items() if knob.name in has}
    numbers = [] if knob.choices else [float(v) for of in values.values() for v in of]
    return {
        "name": knob.name,
        "title": knob.title,
        "says": knob.says,
        "choices": list(knob.choices),
        "low": knob.low,
        "high": knob.high,
        "step": knob.step,
        "own": [[name, ", ".join(map(_said, of)) or "no bound"] for name, of in values.items()],
        "without": [name for name in own if name not in values],
        "start": min(knob.high, max(knob.low, numbers[0])) if numbers else knob.high,
    }


def _said(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(getattr(value, "__name__", value))


def settings_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of knobs from how a page says them: choices by name, numbers.

    Raises:
        KeyError: no such knob, or no such choice.
        ValueError: a number outside of the knob's range.

    Example:
        >>> settings_of({"gamma": 0.5, "peers": "same_state", "ddof": "0", "clip": None})
        {'gamma': 0.5, 'peers': same_state, 'ddof': 0}
    """
    out = {}
    for name, value in said.items():
        if name not in KNOB:
            raise KeyError(f"no knob {name!r}; there are {list(KNOB)}")
        if value is None:
            continue
        knob = KNOB[name]
        if knob.choices and str(value) not in knob.choices:
            raise KeyError(f"{name}: no choice {value!r}; there are {list(knob.choices)}")
        out[name] = knob.choices[str(value)] if knob.choices else float(value)
        if not knob.choices and not knob.low <= out[name] <= knob.high:
            raise ValueError(f"{name}: expected a number from {knob.low:g} to {knob.high:g}, got {value!r}")
    return out


# ------------------------------------------------------------------------------------------------------------ rewards


def editable(recipes: Sequence[Recipe], batch: Batch) -> list[str]:
    """Return the columns of numbers by turn or trajectory that some recipe reads, those of trajectories first."""
    needs = dict.fromkeys(name for recipe in recipes for name in recipe.chain.needs if name in batch.columns)
    fit = [n for n in needs if batch[n].values.dim() == 1 and batch[n].values.is_floating_point()]
    return [name for level in ("trajectory", "turn") for name in fit if batch[name].level == level]


def rewards(names: Sequence[str], batch: Batch, n: int, turns: range) -> list[dict[str, Any]]:
    """Return per column its `name`, `level`, the first `unit` of trajectory `n`, and its values (None if unknown)."""
    out = []
    for name in names:
        column = batch[name]
        units = turns if column.level == "turn" else range(n, n + 1)
        of = slice(units.start, units.stop)
        pairs = zip(column.values[of].tolist(), column.known[of].tolist(), strict=True)
        known = [v if k else None for v, k in pairs]
        out.append({"name": name, "level": column.level, "unit": units.start, "values": known})
    return out


def listed(edits: Sequence[Edit], batch: Batch) -> list[dict[str, Any]]:
    """Return per edit the `trajectory` and `turn` (None for one of the trajectory), its `column`, `before`, `after`."""
    out = []
    for edit in edits:
        column = batch[edit.column]
        n = int(batch.turn_trajectory[edit.unit]) if column.level == "turn" else edit.unit
        out.append(
            {
                "trajectory": batch.trajectories[n],
                "turn": int(batch.turn_index[edit.unit]) if column.level == "turn" else None,
                "column": edit.column,
                "before": column.values[edit.unit].item() if bool(column.known[edit.unit]) else None,
                "after": edit.value,
            }
        )
    return out


# --------------------------------------------------------------------------------------------------------------- code


def code(
    recipes: Mapping[str, Recipe], settings: Mapping[str, Any], edits: Sequence[Edit], left: Collection[str] = ()
) -> str:
    """Return Python that makes the recipes as they are turned, and the batch as it is edited; those `left` are as made.

    Example:
        >>> from workbench.recipes import gigpo
        >>> print(code({"gigpo": gigpo(gamma=0.9)}, {"gamma": 0.5}, ()))
        from workbench import recipes
        from workbench.recompute import turned
        <BLANKLINE>
        methods = {
            'gigpo': turned(recipes.gigpo(gamma=0.9), {'gamma': 0.5}),
        }
    """
    lines = [f"    {name!r}: {_turn(r, {} if name in left else settings)}," for name, r in recipes.items()]
    every = "".join(lines)
    tools = ["Edit", "edited"] * bool(edits) + ["turned"] * ("turned(" in every)
    head = ["from workbench import recipes"]
    head += ["from workbench.credit import peers"] * ("peers." in every)
    head += [f"from workbench.recompute import {', '.join(tools)}"] * bool(tools)
    out = [*head, "", *["# given: the recipes this view was made with"] * ("given[" in every)]
    out += ["methods = {", *lines, "}"]
    if edits:
        rows = [f"    Edit({e.column!r}, {e.unit}, {e.value!r})," for e in edits]
        out += ["batch = edited(rollouts.batch(), [", *rows, "])"]
    return "\n".join(out)


def _turn(recipe: Recipe, settings: Mapping[str, Any]) -> str:
    has = knobs(recipe)
    said = {k: f"peers.{v.name}" if k == "peers" else repr(v) for k, v in settings.items() if k in has}
    made = call(recipe)
    return f"turned({made}, {{{', '.join(f'{k!r}: {v}' for k, v in said.items())}}})" if said else made


def call(recipe: Recipe) -> str:
    """Return the call that makes a recipe, as far as it is one of ours with its knobs; else how to find it."""
    for name in made_by.__all__:
        make = getattr(made_by, name)
        if name == "Recipe" or make.__module__ == Recipe.__module__:
            continue
        takes = inspect.signature(make).parameters
        own = {k: v[0] for k, v in knobs(recipe).items() if k in takes and len(v) == 1 and k != "clip"}
        changed = {k: v for k, v in own.items() if v != takes[k].default}
        try:
            if make(**changed).chain == recipe.chain:
                return f"recipes.{name}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"
        except (TypeError, ValueError):
            continue
    return f"given[{recipe.name!r}]"
