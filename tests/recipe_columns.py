"""At which level a recipe reads a column: asked of the code, so that a later recipe need not be named in a test."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from workbench.credit import Chain, Combine, Node, Stage
from workbench.credit.rules import ANY
from workbench.credit.signal import STANDARD_LEVELS
from workbench.evidence.table import CALLED, TABLE, Sources
from workbench.policy import load
from workbench.recipes import Recipe


@cache
def makers() -> dict[str, tuple[str, str]]:
    """Every column that a provider gives -> its level and the provider's name."""
    asked = load("tiny")
    made = [row.make(Sources(policy=asked, reference=asked)) for row in TABLE]
    return {name: (level, one.name) for one in made for name, level in one.provides.items()}


def stages(node: Node) -> Iterator[Stage]:
    """Every stage of a chain, those inside combinations too."""
    for one in node.stages if isinstance(node, Chain) else node.branches if isinstance(node, Combine) else ():
        yield from stages(one)
    if isinstance(node, Stage):
        yield node


def level_of(column: str, recipe: Recipe | None = None) -> str:
    """What a recipe says where it reads a column, else what its provider says, else the convention; turns at last."""
    for one in stages(recipe.chain) if recipe else ():
        said = dict(one.params)
        if one.name == "read" and said["column"] == column and "level" in said:
            return str(said["level"])
    if column in makers():
        return makers()[column][0]
    if column.endswith("_start"):
        return "trajectory"
    if column in ("value", "token_reward"):  # the learner's head, and a column of one's own: neither says where
        return "token"
    standard = STANDARD_LEVELS.get(column, ANY)
    return "turn" if standard == ANY or column.startswith(CALLED) else standard
