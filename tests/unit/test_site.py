"""The site that make docs builds: whole, without a warning, and as a person opens it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
from browser import chromium, started
from click.testing import CliRunner

import mms_handler
from mms_handler.cli import group
from tools.site import history, pages

ROOT = Path(__file__).parents[2]


# --- without a build -------------------------------------------------------------------------


def test_the_navigation_follows_the_list():
    """Headings of two levels; a page is the first link of an item."""
    index = """# Documentation

Not [this](intro.md).

## Tutorial

* [Try it](../README.md): see [this](scripts.md).

## Guides

### Serve

* [Serve](serving.md), and [more](serving.md#more)
* [Elsewhere](serving.md#more)
* [Move](migration/torchserve.md)

## Reference
"""
    assert pages.navigation(index) == [
        {"Contents": "docs/README.md"},
        {"Tutorial": [{"Try it": "README.md"}]},
        {
            "Guides": [
                {"Serve": [{"Serve": "docs/serving.md"}, {"Move": "docs/migration/torchserve.md"}]}
            ]
        },
        {"Reference": []},
    ]


def test_every_page_has_a_place_in_the_navigation():
    """An item of docs/README.md begins with a link to it, without an anchor."""
    listed = list(pages.paths(pages.navigation((ROOT / "docs" / "README.md").read_text())))
    every = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert every - set(listed) == set(), "docs/README.md needs an item for these"
    assert len(listed) == len(set(listed)), "a page has two places"


def git(folder: Path, *words: str, day: str = "") -> None:
    moment = f"{day}T12:00:00Z"
    env = {**os.environ, "GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment}
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(("git", *who, *words), cwd=folder, env=env if day else None, check=True)


def test_when_files_were_last_changed(tmp_path):
    """By their last commits; nothing is said in a shallow clone, in a copy and without git."""
    folder = tmp_path / "whole"
    folder.mkdir()
    git(folder, "init", "-q")
    for day, name in (("2026-01-02", "a b.md"), ("2026-03-04", "é.md"), ("2026-05-06", "a b.md")):
        (folder / name).write_text(day)
        git(folder, "add", ".")
        git(folder, "commit", "-qm", day, day=day)
    (folder / "new.md").touch()
    assert history.last_changes(folder) == {"a b.md": "2026-05-06", "é.md": "2026-03-04"}
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{folder}", "shallow")
    assert history.last_changes(tmp_path / "shallow") == {}
    (folder / "unpacked").mkdir()
    assert history.last_changes(folder / "unpacked") == {}
    assert history.last_changes(tmp_path) == {}


def test_without_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert history.last_changes(ROOT) == {}


# --- as files --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder that the command of make docs wrote: a warning ends it, unless it is --quiet."""
    pytest.importorskip("mkdocs", reason="mkdocs needs Python 3.10 or newer")
    folder = tmp_path_factory.mktemp("site")
    (words,) = re.findall(r"python (-m mkdocs .+)", (ROOT / "Makefile").read_text())
    assert words.split() == ["-m", "mkdocs", "build", "--strict"]
    command = (sys.executable, *words.split(), "--site-dir", str(folder))
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout, done.stdout
    return folder


def text(page: Path) -> str:
    """What is read of a page, without its tags."""
    content = page.read_text().partition('<article class="md-content__inner')[2]
    plain = re.sub(r"<[^>]+>", "", content.partition("</article>")[0])
    return plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_a_page_tells_its_version_and_its_last_change(site):
    page = (site / "settings.html").read_text()
    assert f"<title>Settings - mms_handler {mms_handler.__version__}</title>" in page
    day = history.last_changes(ROOT).get("docs/settings.md")
    assert re.findall(r"Last changed on (\S+)", page) == ([day] if day else [])


@pytest.mark.parametrize("command", ["serve", "archive", "models swap"])
def test_the_reference_has_every_option(site, command):
    """Each that --help prints, and the example commands."""
    printed = CliRunner().invoke(group, [*command.split(), "--help"]).output
    options = re.findall(r"^ +(--[\w-]+)", printed, re.MULTILINE)
    examples = re.findall(r"^ +(mms-handler .+)", printed, re.MULTILINE)
    section = text(site / "commands.html").partition(f"mms-handler {command} [OPTIONS]")[2]
    section = section.partition(" [OPTIONS]")[0]
    assert len(options) >= 3
    assert len(examples) >= 1
    for line in {*options, *examples} - {"--help"}:
        assert line in section


def test_the_reference_has_no_hidden_command(site):
    """train-host and others are for the package itself."""
    headings = re.findall(r'<h2 id="([\w-]+)"', (site / "commands.html").read_text())
    assert {"serve", "train", "models-swap"} <= set(headings)
    assert [name for name in headings if re.match(r"(train|dev)-", name)] == []


def test_the_reference_has_every_public_name(site):
    """From its docstring; and the errors."""
    page = site / "python.html"
    headings = re.findall(r'<h2 id="mms_handler\.(\w+)"', page.read_text())
    assert sorted(headings) == sorted(mms_handler.__all__)
    assert "Load a model in this process" in text(page)
    assert "Management(\n    port: int | None = None," in text(page)  # users make it, but no Model
    assert "Model(" not in text(page)
    assert 'id="mms_handler.errors.LoadError"' in page.read_text()


def test_each_decision_has_a_heading(site):
    """So that the search finds it; in the file it is bold."""
    source = (ROOT / "docs" / "decisions.md").read_text()
    headings = re.findall(r"<h2 id=", (site / "decisions.html").read_text())
    assert len(headings) == len(re.findall(r"^\*\*2", source, re.MULTILINE)) > 100


# --- in a browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(site) -> Iterator[Any]:
    """Open a page as a file; no script fails in it, and it asks no host for anything."""
    pytest.importorskip("playwright", reason="the browser is driven by Playwright")
    if chromium() is None:
        pytest.skip("no Chromium: apt-get install chromium-headless-shell")
    problems: list[str] = []
    with started() as browser:

        def opened(width: int, scheme: str = "light") -> Any:
            context = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme
            )
            page = context.new_page()
            page.set_default_timeout(30_000)
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "console",
                lambda line: problems.append(line.text) if line.type == "error" else None,
            )
            page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
            page.on(
                "request",
                lambda request: (
                    None
                    if request.url.startswith((f"file://{site}/", "data:", "about:"))
                    else problems.append(f"away: {request.url}")
                ),
            )
            return page

        yield opened
    assert problems == []


@pytest.mark.parametrize(("width", "names"), [(360, "*"), (1300, "s*")])
def test_no_page_is_wider_than_the_screen(site, opened, width, names):
    """Tables and blocks of code are scrolled by themselves."""
    page = opened(width)
    wide = []
    for path in sorted(set(site.rglob(f"{names}.html")) - {site / "404.html"}):  # for servers
        page.goto(f"file://{path}", wait_until="load")
        root = "document.documentElement"
        if page.evaluate(f"{root}.scrollWidth > {root}.clientWidth"):
            wide.append(path.name)
    assert wide == []


@pytest.mark.parametrize("width", [360, 1300])
def test_what_a_setting_does_is_in_sight(site, opened, width):
    """It is the last of five columns; on a narrow screen each row is a card."""
    page = opened(width)
    page.goto(f"file://{site}/settings.html")
    box = page.get_by_text("Time for running requests to finish").bounding_box()
    assert box["x"] >= 0
    assert box["width"] >= 150
    assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("width", [360, 1300])
def test_search(site, opened, width):
    """It finds a setting, without a server, and leads to it."""
    page = opened(width)
    page.goto(f"file://{site}/index.html")
    page.click("label.md-header__button[for=__search]" if width == 360 else ".md-search__input")
    page.get_by_text("Type to start searching").wait_for()  # the index is read
    page.get_by_role("textbox", name="Search").press_sequentially("MMS_HANDLER_DRAIN_SECONDS")
    page.locator(".md-search-result__link[href*='settings.html']").first.click()
    page.wait_for_url("**/settings.html*")
    assert page.locator("h1").inner_text().startswith("Settings")


@pytest.mark.parametrize(
    ("width", "scheme", "name"), [(1300, "light", "settings"), (360, "dark", "scripts")]
)
def test_accessibility(site, opened, width, scheme, name):
    """axe-core finds no serious fault."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = opened(width, scheme)
    page.goto(f"file://{site}/{name}.html")
    # It would ask for style sheets by XMLHttpRequest, which has no files.
    found = axe.run(page, options={"preload": False}).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [n["html"] for n in each["nodes"]]) for each in serious] == []


def test_what_is_copied_are_commands(site, opened):
    """Neither the prompt nor the output."""
    page = opened(1300)
    page.goto(f"file://{site}/tutorial.html")
    code = page.locator("code", has_text="invoke fruit/1")
    code.evaluate("code => code.setAttribute('data-md-copying', '')")  # as its button does
    lines = [line for line in code.inner_text().splitlines() if line]
    assert lines == [
        "mms-handler models swap fruit model_archives/fruit-2.mar",
        "mms-handler invoke fruit sample.csv",
        "mms-handler invoke fruit/1 sample.csv",
    ]
