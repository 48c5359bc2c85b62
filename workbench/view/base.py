"""What every view is: a static picture first, then live with a kernel, or one offline file without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.view.html.parts import PAGE_BYTES
from workbench.view.link import Link
from workbench.view.reprs import Picture

if TYPE_CHECKING:
    import pandas as pd

    from workbench.view.widget import Answer, Live


class View:
    """Shows itself, becomes live, a page, a frame, a PNG.

    A view with interaction names its `kind` (the module `widgets/<kind>.js`), gives `interactive()`, and may give
    `frame(state)` and `answers()`. See `widgets/README.md`.
    """

    title = "View"
    kind = ""  # module of the interactive layer; "" for a view that is static only

    def picture(self, *, wide: bool = False) -> Picture:
        """Return payload and maker of the static layer; `wide` asks for all that a page has room for."""
        raise NotImplementedError

    def interactive(self) -> dict[str, Any]:
        """Return the payload of the interactive layer: JSON-able, with numpy arrays where there are many numbers."""
        raise NotImplementedError(f"{type(self).__name__} has no interactive layer")

    def for_page(self) -> dict[str, Any]:
        """Return the payload of the interactive layer for a file, where no kernel answers."""
        return self.interactive()

    def frame(self, state: Mapping[str, Any]) -> pd.DataFrame:
        """Return what is on screen when the controls stand as in `state` ({} is how the view opens)."""
        raise NotImplementedError

    def answers(self) -> Mapping[str, Answer]:
        """Return what the page may ask of the kernel, by name."""
        return {}

    # -- the same for all ----------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        """How the controls stand: small and JSON-able; a live view writes it."""
        return self.__dict__.setdefault("_state", {})

    @property
    def payload(self) -> dict[str, Any]:
        """The JSON-able data of the static picture."""
        return self.picture().data

    def html(self, budget: int = PAGE_BYTES) -> str:
        """Return the static HTML as a fragment of at most `budget` bytes."""
        picture = self.picture(wide=True)
        return str(picture.make(picture.data, budget))

    def live(self, *, link: Link | None = None) -> Live:
        """Return the view with its kernel; as the last line of a cell it shows itself.

        Args:
            link: views of one link share their selection; by default a link of its own.

        Raises:
            TypeError: this view is static only.
            ImportError: anywidget is missing.
        """
        from workbench.view.widget import Live

        if not self.kind:
            raise TypeError(f"{type(self).__name__} has no interactive layer; it displays itself")
        return Live(self, link or Link())

    def to_html(self, path: str | Path, title: str | None = None, lead: str = "") -> Path:
        """Write one offline HTML file, interactive where a browser runs its script; return its path."""
        from workbench.view.maps import write_page

        return write_page(path, title or self.title, [self], lead)

    def to_frame(self) -> pd.DataFrame:
        """Return what is on screen, after filters, as a data frame."""
        return self.frame(self.state)

    def png(self, path: str | Path, *, theme: str = "light", width: int = 1160) -> Path:
        """Write a picture of the view as a PNG; return its path.

        Args:
            path: where; folders are made.
            theme: "light" or "dark".
            width: of the page, in CSS pixels; a dot is half of one.

        Raises:
            RuntimeError: Playwright or a Chromium is missing; says what to install.
        """
        from workbench.view.shots import picture_of

        return picture_of(self, Path(path), theme, width)

    def __repr__(self) -> str:
        return self.picture().bundle()["text/plain"]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return self.picture().bundle()
