"""The page of serve --ui in Chromium, as a person uses it, with mouse and with keyboard."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any, Iterator

import page_server
import pytest
from browser import chromium, draw, started
from PIL import Image
from running_mms import EXAMPLES, free_ports

from mms_handler import server
from mms_handler.settings import Settings

pytest.importorskip("playwright", reason="the browser is driven by Playwright, an extra of tests")
pytestmark = pytest.mark.skipif(
    chromium() is None, reason="no Chromium: apt-get install chromium-headless-shell"
)

TOKEN = "for-inference.0123456789"


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    with page_server.running(tmp_path_factory.mktemp("page")) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as browser:
        yield browser


@pytest.fixture
def opened(browser, url) -> Iterator[Any]:
    """Open the page in a context of its own; no script fails in it, and nothing is refused."""
    contexts, problems = [], []

    def opened(address=url, width=1200, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if told(line) else None)
        page.on("request", lambda request: problems.append(request.url) if away(request) else None)
        page.goto(address)
        return page

    def told(line):
        # The browser says so of each reply that is an error; the page says more.
        return line.type == "error" and "Failed to load resource" not in line.text

    def away(request):
        return not request.url.startswith(("http://127.0.0.1:", "blob:"))

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def choose(page, name):
    """Choose a model of the list, once it has loaded or cannot be."""
    card = page.locator("#models > li", has=page.get_by_role("button", name=name, exact=True))
    card.get_by_text(re.compile("^(ready|failed)")).wait_for()
    page.get_by_role("button", name=name, exact=True).click()
    page.locator("#try-name", has_text=name).wait_for()


def status(page) -> str:
    """What is said of the reply, once there is one."""
    said = page.locator("#reply-status")
    said.filter(has_not_text=re.compile("^(Nothing|waiting)")).wait_for()
    return said.inner_text()


def best(page) -> str:
    """The place of the longest bar."""
    return page.inner_text("#bars .best th")


def test_json(opened):
    """The sample is in the form; its reply has a bar for each score."""
    page = opened()
    choose(page, "digits")
    assert page.inner_text("#inputs") == "Input: data (N, 64)"
    assert len(json.loads(page.input_value("#json"))[0]) == 64
    page.click("#send")
    assert re.match(r"200 OK · [\d.]+ ms · \d+ bytes · version 1", status(page))
    assert page.locator("#bars tbody tr").count() == 10
    assert best(page) == "6"
    page.click("#tab-table")
    assert page.locator("#table tbody td").count() == 10
    page.click("#tab-text")
    assert len(json.loads(page.inner_text("#text"))[0]) == 10


def test_csv(opened):
    """A row on each line; words of a reply are a table."""
    page = opened()
    choose(page, "gluon_blocks")
    page.click("#tab-csv")
    page.fill("#csv", "5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n")
    page.click("#send")
    assert status(page).startswith("200 OK")
    assert page.locator("#tab-bars").is_hidden()
    assert page.locator("#table td").all_inner_texts() == ["setosa", "virginica"]


def picture(colour, kind="PNG") -> str:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


DROP = """(drop, body) => {
    const bytes = Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], "green.png", { type: "image/png" }));
    for (const kind of ["dragenter", "dragover", "drop"]) {
        const options = { dataTransfer: data, bubbles: true, cancelable: true };
        drop.dispatchEvent(new DragEvent(kind, options));
    }
}"""


def test_a_dropped_picture(opened):
    """It is shown, and sent as it is."""
    page = opened()
    choose(page, "colours")
    page.click("#tab-picture")
    page.click("#send")
    assert page.inner_text("#reply-status") == "Choose a picture first."
    page.locator("#drop").evaluate(DROP, picture((0, 255, 0)))
    assert page.inner_text("#picture-name") == "green.png, image/png, 1 kB"
    page.click("#send")
    page.locator("#bars .best").wait_for()
    assert best(page) == "1"
    assert "--data-binary '@green.png'" in page.inner_text("#curl")
    body = base64.b64decode(picture((0, 0, 255), "JPEG"))
    page.set_input_files("#file", {"name": "b.jpg", "mimeType": "image/jpeg", "buffer": body})
    page.click("#send")
    page.locator("#bars .best th", has_text="2").wait_for()


@pytest.mark.parametrize("digit", ["0", "3", "4"])
def test_a_drawn_digit(opened, digit):
    """The example recognises it."""
    page = opened()
    choose(page, "digits")
    page.click("#tab-draw")
    draw(page, digit)
    page.click("#send")
    assert status(page).startswith("200 OK")
    assert best(page) == digit
    page.click("#clear")
    assert page.locator("#seen").evaluate("canvas => canvas.width") == 8


def test_a_model_that_cannot_be_loaded(opened):
    """Its reason is there, without what the exception says; other models are served."""
    page = opened()
    card = page.locator("#models > li", has_text="broken")
    card.get_by_text("failed").wait_for()
    line = "failed: model_fn: ValueError (code/inference.py, line 2) · version 1"
    assert card.locator("ul").inner_text() == line
    assert "a secret" not in page.content()
    choose(page, "broken")
    page.fill("#json", "[1]")
    page.click("#send")
    assert "Model not found: broken" in status(page)


def test_a_wrong_body(opened):
    """The editor says that it is no JSON, and the server what it wants."""
    page = opened()
    choose(page, "digits")
    page.fill("#json", "[[1, 2")
    assert page.inner_text("#json-note").startswith("This is no JSON: ")
    page.click("#send")
    assert status(page).startswith("400 ")
    page.fill("#json", "[[1, 2]]")
    assert page.inner_text("#json-note") == ""
    page.click("#send")
    said = page.locator("#reply-status")
    said.filter(has_text="the model takes (N, 64), the body has (1, 2)").wait_for()
    page.click("#reset")
    assert len(json.loads(page.input_value("#json"))[0]) == 64


def test_live_figures(opened):
    """Rate and latency follow the requests within seconds."""
    page = opened()
    choose(page, "digits")
    page.click("#send")
    status(page)
    card = page.locator("#models > li", has_text="digits")
    assert "1 of 1 worker" in card.inner_text()
    card.filter(has_text=re.compile(r"p99 [0-9.]+ m?s")).wait_for()


def test_the_same_request(opened, tmp_path):
    """What is shown for curl, Python and mms-handler gets the same reply."""
    import subprocess
    import sys

    page = opened()
    choose(page, "digits")
    page.click("#send")
    status(page)
    page.click("#tab-text")
    reply = json.loads(page.inner_text("#text"))
    texts = {}
    for name in ("curl", "python", "invoke"):
        page.click(f"#tab-{name}")
        texts[name] = page.inner_text(f"#{name}")
    assert texts["invoke"].startswith("printf %s '[[")
    binaries = str(page_server.BIN)
    env = {"PATH": f"{binaries}:/usr/bin:/bin"}
    commands = [
        ["bash", "-c", texts["curl"].replace("curl ", "curl -s ", 1)],
        [sys.executable, "-c", texts["python"]],
        ["bash", "-c", texts["invoke"]],
    ]
    for command in commands:
        ended = subprocess.run(command, capture_output=True, env=env, cwd=tmp_path, check=True)
        assert json.loads(ended.stdout) == reply


def test_a_selected_command_stays_selected(opened):
    """The page asks the server once a second, and leaves the command alone."""
    page = opened()
    choose(page, "digits")
    page.locator("#curl").evaluate("pre => getSelection().selectAllChildren(pre)")
    with page.expect_response("**/ui/models.json"):
        pass
    with page.expect_response("**/ui/models.json"):
        pass
    assert page.evaluate("String(getSelection())").startswith("curl 'http://127.0.0.1:")


def test_by_keyboard_alone(opened):
    """From the top of the page to a reply: each stop has a name, and the focus can be seen."""
    page = opened()
    page.locator("#models > li").nth(3).wait_for()
    keys = page.keyboard
    names = []
    active = """() => {
        const it = document.activeElement;
        const style = getComputedStyle(it);
        const label = it.labels?.[0]?.innerText ?? it.getAttribute("aria-label") ?? it.innerText;
        return [label.trim(), style.outlineStyle + getComputedStyle(it, "::after").outlineStyle];
    }"""
    for _ in range(9):
        keys.press("Tab")
        name, outline = page.evaluate(active)
        names.append(name)
        assert "solid" in outline or "auto" in outline, name
    assert names == [
        "Skip to the request",
        "broken",
        "colours",
        "digits",
        "gluon_blocks",
        "Reply as",
        "JSON",
        "Body, as JSON",
        "Send",
    ]
    page.locator("#models button", has_text="digits").focus()
    keys.press("Enter")
    page.locator("#try-name", has_text="digits").wait_for()
    page.locator("#tab-json").focus()
    for _ in range(3):
        keys.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-draw"
    keys.press("Tab")  # to the canvas: a line downwards
    assert page.evaluate("document.activeElement.id") == "canvas"
    for key in ["ArrowUp"] * 12 + ["Space"] + ["ArrowDown"] * 24 + ["Space"]:
        keys.press(key)
    keys.press("Control+Enter")
    assert status(page).startswith("200 OK")
    page.locator("#tab-bars").focus()
    keys.press("End")
    assert page.evaluate("document.activeElement.id") == "tab-text"


def test_a_telephone(opened):
    """Nothing is wider than 360 pixels, also of a model that cannot be loaded."""
    page = opened(width=360)
    choose(page, "digits")
    page.click("#send")
    status(page)
    for tab in ("#tab-csv", "#tab-picture", "#tab-draw", "#tab-table", "#tab-python", "#tab-text"):
        page.click(tab)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, tab
    choose(page, "broken")
    page.click("#send")
    assert "Model not found: broken" in status(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_colours(opened):
    """They follow the browser's."""
    backs = {
        scheme: opened(color_scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert backs == {"light": "rgb(244, 246, 249)", "dark": "rgb(19, 22, 26)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(opened, scheme):
    """axe-core finds nothing to mend, in any of the tabs."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(color_scheme=scheme)
    page.locator("#models > li", has_text="broken").get_by_text("failed").wait_for()
    choose(page, "digits")
    page.click("#send")
    status(page)
    for tab in ("#tab-json", "#tab-csv", "#tab-picture", "#tab-draw", "#tab-table", "#tab-text"):
        page.click(tab)
        results = axe.run(page).response["violations"]
        assert [(each["id"], [n["html"] for n in each["nodes"]]) for each in results] == [], tab


def test_a_token(opened, tmp_path):
    """The page asks for it, says when it is wrong, and keeps it nowhere."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"inference {TOKEN}\n")
    tokens.chmod(0o600)
    port, management = free_ports()
    settings = Settings(
        port=port, management_port=management, workers=1, ui=True, token_file=str(tokens)
    )
    with server.serve([EXAMPLES / "linear"], settings, log=lambda line: None) as running:
        page = opened(f"{running.url}/ui/")
        page.locator("#token-dialog[open]").wait_for()
        page.fill("#token", TOKEN[:-1])
        page.keyboard.press("Enter")
        page.get_by_text("The server does not take this token.").wait_for()
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        choose(page, "linear")
        page.click("#send")
        assert status(page).startswith("200 OK")
        assert TOKEN not in page.content()
        assert '"Authorization: Bearer $TOKEN"' in page.inner_text("#curl")
        assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        assert page.context.cookies() == []
        page.click("#change-token")
        page.locator("#token-dialog[open]").wait_for()
        assert page.inner_text("#token-wrong") == ""
        page.click("#token-cancel")
        page.click("#send")  # with the token as before
        page.locator("#reply-status.good").wait_for()
