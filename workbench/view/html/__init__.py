"""Static, self-contained HTML, made from payloads alone."""

from workbench.view.html.cards import card
from workbench.view.html.credit_map import credit_map
from workbench.view.html.gallery import gallery
from workbench.view.html.heat import turn_heat
from workbench.view.html.recipe import chain, objective, recipe
from workbench.view.html.ribbons import ribbons
from workbench.view.html.tables import group_overview, method_table
from workbench.view.html.transcript import message, message_alone, transcript, turn

__all__ = [
    "card",
    "chain",
    "credit_map",
    "gallery",
    "group_overview",
    "message",
    "message_alone",
    "method_table",
    "objective",
    "recipe",
    "ribbons",
    "transcript",
    "turn",
    "turn_heat",
]
