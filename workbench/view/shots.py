"""A PNG of a view, taken by a Chromium that is on the machine already."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
TALLEST = 8_000
SETTLES_MS = 250  # until what came into view is washed


def chromium() -> str:
    """Return the path of a Chromium.

    Raises:
        RuntimeError: there is none.
    """
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise RuntimeError("a PNG needs a Chromium on the PATH (Debian: apt-get install chromium fonts-dejavu)")
    return program


def picture_of(view: Any, path: Path, theme: str, width: int) -> Path:
    """Write a view's page to a file, open it, and take its picture."""
    if theme not in ("light", "dark"):
        raise ValueError(f"theme: expected 'light' or 'dark', got {theme!r}")
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError as error:
        raise RuntimeError("a PNG needs Playwright: pip install 'credit-workbench[browser]'") from error
    program = chromium()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = view.to_html(Path(folder) / "view.html")
        # In a thread of its own: Playwright refuses to run where an event loop runs, as in every notebook.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_shoot, program, page, path, theme, width).result()
    return path


def _shoot(program: str, page: Path, path: Path, theme: Any, width: int) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program, args=["--no-sandbox"])
        size = {"width": width, "height": 900}
        tab = browser.new_page(color_scheme=theme, viewport=size, device_scale_factor=2)  # type: ignore[arg-type]
        tab.goto(page.as_uri())
        if view_has_script(tab):
            tab.wait_for_selector("html[data-drawn]", state="attached")
        # All of it on screen at once: a browser draws nothing of what is far below.
        tall = min(int(tab.evaluate("document.documentElement.scrollHeight")), TALLEST)
        tab.set_viewport_size({"width": width, "height": max(tall, 200)})
        tab.wait_for_timeout(SETTLES_MS)
        tab.screenshot(path=str(path), full_page=True)
        browser.close()


def view_has_script(tab: Any) -> bool:
    """True if the page draws an interactive layer."""
    return bool(tab.evaluate("document.querySelector('script.cw-data') !== null"))
