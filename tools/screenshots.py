"""Make the pictures of docs/page.md anew, in Chromium."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import browser  # noqa: E402
import page_server  # noqa: E402

PICTURES = ROOT / "docs" / "page"


def save(page: Any, name: str) -> None:
    """Write what is seen, in a palette of colours: a picture of text needs no more."""
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    shot.quantize(256, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)
    print(f"docs/page/{name}.png  {(PICTURES / f'{name}.png').stat().st_size // 1000} kB")


def opened(chromium: Any, url: str, width: int, scheme: str, rounds: int = 1) -> Any:
    """The page with the model ``digits``, which was asked several times in each round."""
    size = {"width": width, "height": 700}
    page = chromium.new_context(viewport=size, color_scheme=scheme).new_page()
    page.goto(url)
    page.locator("#models > li", has_text="broken").get_by_text("failed").wait_for()
    page.get_by_role("button", name="digits", exact=True).click()
    for pause_ms in (300, 900, 200, 600, 1500, 400, 700, 1200) * rounds:
        page.click("#send")
        page.locator("#bars .best").wait_for()
        page.wait_for_timeout(pause_ms)
    return page


def main() -> None:
    if browser.chromium() is None:
        sys.exit("there is no Chromium: apt-get install chromium-headless-shell")
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, page_server.running(
        Path(folder)
    ) as url, browser.started() as chromium:
        page = opened(chromium, url, 1100, "light", rounds=5)
        save(page, "json")
        page.click("#tab-draw")
        browser.draw(page, "3")
        page.click("#send")
        page.locator("#bars .best th", has_text="3").wait_for()
        page.click("#tab-python")
        page.wait_for_timeout(1500)
        save(page, "draw")
        page = opened(chromium, url, 1100, "dark")
        page.click("#tab-table")
        page.fill("#json", "[[1, 2]]")
        page.click("#send")
        page.locator("#reply-status.bad").wait_for()
        page.click("#tab-invoke")
        save(page, "error-dark")
        page = opened(chromium, url, 360, "light")
        save(page, "telephone")


if __name__ == "__main__":
    main()
