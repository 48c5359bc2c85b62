"""The live layer: one AnyWidget class for every kind of view, and what answers its questions in the kernel.

Numbers travel as bytes in `data` (the whole payload) and `live` (the latest change of it); no other trait holds data.
Questions of a view run in a thread of their own, so that a button can stop them.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from workbench.view.link import Link, Selection
from workbench.view.pack import pack
from workbench.view.sources import widget_script
from workbench.view.tags import Markup, el

if TYPE_CHECKING:
    import pandas as pd

    from workbench.view.base import View

Answer = Callable[[Mapping[str, Any], "Call"], dict[str, Any]]
"""(arguments from the page, the call) -> payload."""


class Stopped(Exception):
    """The reader pressed stop."""


class Call:
    """One question of a view, while it is being answered.

    Args:
        tell: sends progress to the page.
        refresh: sends the view's whole payload again, after an answer that changed what it shows.
    """

    def __init__(self, tell: Callable[[dict[str, Any]], None], refresh: Callable[[], None] = lambda: None):
        self._tell, self.refresh, self._stop = tell, refresh, threading.Event()

    def stop(self) -> None:
        """Ask the answer to end."""
        self._stop.set()

    @property
    def stopped(self) -> bool:
        """True once the reader pressed stop."""
        return self._stop.is_set()

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Tell the page how far it is.

        Raises:
            Stopped: the reader pressed stop.
        """
        if self.stopped:
            raise Stopped()
        self._tell({"done": done, "total": total, "text": text})


@lru_cache(maxsize=1)
def widget_class() -> type:
    """Return the one widget class.

    Raises:
        ImportError: anywidget is missing; says what to install.
    """
    try:
        import anywidget
        import traitlets
    except ImportError as error:
        raise ImportError("live views need anywidget: pip install 'credit-workbench[lab]'") from error

    class WorkbenchWidget(anywidget.AnyWidget):
        """A view of kind `kind`; its script is sent with it."""

        _esm = traitlets.Unicode().tag(sync=True)
        kind = traitlets.Unicode().tag(sync=True)
        name = traitlets.Unicode().tag(sync=True)
        title = traitlets.Unicode().tag(sync=True)
        link = traitlets.Unicode().tag(sync=True)
        data = traitlets.Bytes().tag(sync=True)
        live = traitlets.Bytes().tag(sync=True)
        state = traitlets.Dict().tag(sync=True)
        selection = traitlets.Dict().tag(sync=True)
        pushed = traitlets.Dict().tag(sync=True)

    return WorkbenchWidget


class Live:
    """A view with its kernel: its static picture, and the widget that takes its place where it is alive.

    A notebook stores both. Where the kernel is gone, or the notebook is not trusted, the picture stays.
    """

    def __init__(self, view: View, link: Link):
        self.view, self.link = view, link
        name = uuid.uuid4().hex[:12]
        self.widget: Any = widget_class()(
            _esm=widget_script((view.kind,)),
            kind=view.kind,
            name=name,
            title=view.title,
            link=link.name,
            data=pack(view.interactive()),
            live=pack({}),
            state=dict(view.state),
        )
        self.calls: dict[str, Call] = {}
        link.join(self.widget)
        self.widget.observe(lambda change: view.state.update(change["new"]), names="state")
        self.widget.on_msg(lambda _, content, buffers: self.heard(content))

    @property
    def selection(self) -> Selection:
        """What is selected in this view or a linked one."""
        return self.link.selection

    def to_frame(self) -> pd.DataFrame:
        """Return what is on screen."""
        return self.view.to_frame()

    def refresh(self) -> None:
        """Send the whole payload again."""
        self.widget.data = pack(self.view.interactive())

    def push(self, change: dict[str, Any]) -> None:
        """Send a change: the page hears it as "live"; the latest is kept for pages that open later."""
        self.widget.live = pack(change)

    def heard(self, content: Mapping[str, Any]) -> threading.Thread | None:
        """Begin to answer a message of the page; return the thread that does."""
        if "stop" in content:
            if (call := self.calls.get(content["stop"])) is not None:
                call.stop()
            return None
        name, identity = content.get("ask"), str(content.get("id"))
        call = Call(lambda said: self.widget.send({"id": identity, "progress": said}), self.refresh)
        self.calls[identity] = call
        work = threading.Thread(
            target=self._answer, args=(str(name), identity, content.get("args") or {}, call), daemon=True
        )
        work.start()
        return work

    def _answer(self, name: str, identity: str, args: Mapping[str, Any], call: Call) -> None:
        try:
            answers = self.view.answers()
            if name not in answers:
                raise KeyError(f"this view answers {sorted(answers)}, not {name!r}")
            self.widget.send({"id": identity}, buffers=[pack(answers[name](args, call))])
        except Stopped:
            self.widget.send({"id": identity, "error": "stopped"})
        except Exception as error:  # the page shows it, whatever it is: a thread has nobody else to tell
            self.widget.send({"id": identity, "error": f"{type(error).__name__}: {error}"})
        finally:
            self.calls.pop(identity, None)

    def bundle(self) -> dict[str, str]:
        """Return the static picture, marked so that the widget can hide it."""
        bundle = self.view.picture().bundle()
        return {**bundle, "text/html": marked(bundle["text/html"], str(self.widget.name))}

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.bundle(), raw=True)
        display(self.widget)


def marked(html: str, name: str) -> str:
    """Wrap the static HTML of a view under a class by which its widget finds it."""
    return str(el("div", Markup(html), attrs={"class": f"cw-static cw-of-{name}"}))
