"""Static, self-contained HTML, made from payloads alone."""

from workbench.view.html.credit_map import credit_map
from workbench.view.html.transcript import transcript

__all__ = ["credit_map", "transcript"]
