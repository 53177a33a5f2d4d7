"""Chromium without a window, for the tests of the page and its screenshots."""

from __future__ import annotations

import contextlib
import shutil
from typing import Any, Iterator

#: What Debian and others call it.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The path of a Chromium; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def started() -> Iterator[Any]:
    """Playwright's browser for the length of a ``with`` block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A container's user is root, for which Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


#: How a person draws digits: a stroke through points of a square of 280.
STROKES = {
    "0": "140,40 90,60 70,140 90,220 140,240 190,220 210,140 190,60 140,40",
    "3": "80,60 140,40 190,75 170,120 120,135 175,150 200,195 150,240 80,220",
    "4": "170,240 170,40 70,165 215,165",
}


def draw(page: Any, digit: str) -> None:
    """Draw a digit on the page's canvas with the mouse."""
    box = page.locator("#canvas").bounding_box()
    points = [tuple(map(int, point.split(","))) for point in STROKES[digit].split()]
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=6 if number else 1)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
