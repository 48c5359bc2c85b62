"""Pure functions from the data to JSON-able payloads; every picture is one."""

from workbench.view.payload.formula import objective, recipe, tree
from workbench.view.payload.live_map import live_map, unit_rows
from workbench.view.payload.maps import credit_map, group_overview, method_table, position, ribbons, turn_frame
from workbench.view.payload.records import message, transcript, turn
from workbench.view.payload.run import look, runs, training_credit

__all__ = [
    "credit_map",
    "group_overview",
    "live_map",
    "look",
    "message",
    "method_table",
    "objective",
    "position",
    "recipe",
    "ribbons",
    "runs",
    "training_credit",
    "transcript",
    "tree",
    "turn",
    "turn_frame",
    "unit_rows",
]
