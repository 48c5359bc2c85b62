"""Pure functions from the data to JSON-able payloads; every picture is one."""

from workbench.view.payload.formula import objective, recipe, tree
from workbench.view.payload.maps import credit_map, group_overview, method_table, position, ribbons, turn_frame
from workbench.view.payload.records import message, transcript, turn

__all__ = [
    "credit_map",
    "group_overview",
    "message",
    "method_table",
    "objective",
    "position",
    "recipe",
    "ribbons",
    "transcript",
    "tree",
    "turn",
    "turn_frame",
]
