"""Searching from a turn: branches of a trajectory, and what a turn was worth by them."""

from workbench.search.branching import Place, branch, branch_many
from workbench.search.candidates import line, play_candidates
from workbench.search.values import TurnValue, Value, branch_value, certain, newcombe, reroll

__all__ = [
    "Place",
    "TurnValue",
    "Value",
    "branch",
    "branch_many",
    "branch_value",
    "certain",
    "line",
    "newcombe",
    "play_candidates",
    "reroll",
]
