"""The one door to the views: how an object of a lower layer displays itself.

Everything below the views may call these functions; nothing below imports `workbench.view`. The import
happens when something is displayed, so that `import workbench` stays light.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def mimebundle(thing: Any) -> dict[str, str]:
    """Return the display bundle (`text/plain`, `text/html`) of any object the views know."""
    from workbench import view

    return view.mimebundle(thing)


def html_page(thing: Any, path: str | Path, **options: Any) -> Path:
    """Write one offline HTML file that shows `thing`; return its path."""
    from workbench import view

    return view.html_page(thing, path, **options)


def watch(run: Any, follow: bool = False, every_s: float = 2.0) -> None:
    """Show a run once, or until it ends; see `workbench.runs.Run.watch`."""
    from workbench import view

    view.watch(run, follow, every_s)


def monitor(run: Any, resume: Any = None) -> Any:
    """Return a live view of a run; see `workbench.runs.Run.monitor`."""
    from workbench import view

    return view.Monitor(run).live(resume=resume)


def credit_map(rollouts: Any, trajectory: int | str) -> Any:
    """Return the credit map of one of a run's rollouts; see `workbench.runs.Run.credit_map`."""
    from workbench import view

    return view.CreditMap(rollouts, trajectory, view.payload.training_credit(rollouts))


def chart_style() -> Any:
    """Return the colours, greys and MIME type that all charts share: `MIME`, `INK`, `GRID`, `HUES`."""
    from workbench import view

    return view.figure
