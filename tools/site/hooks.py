"""What mkdocs calls while it builds the site: see mkdocs.yml."""

from __future__ import annotations

import inspect
import itertools
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import mms_handler  # noqa: E402
from mms_handler import errors  # noqa: E402
from tools.site import commands, history, pages  # noqa: E402


def python_page() -> str:
    """The public names, and the errors that they raise, each from its docstring."""
    names = []
    for name in sorted(mms_handler.__all__, key=str.lower):
        made = "Args:" in (getattr(mms_handler, name).__init__.__doc__ or "")  # by users
        option = f"\n    options:\n      merge_init_into_class: {str(made).lower()}"
        names.append(f"::: mms_handler.{name}{option}")
    lead = "[Use it from Python](api.md) shows how these work together."
    raised = [
        f"::: mms_handler.errors.{name}\n    options:\n      heading_level: 3"
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.HandlerError)
    ]
    return "\n\n".join(["# Python API", lead, *names, "## Errors", *raised])


#: The pages that no file has: title, path, text.  They are the last ones of the section Reference.
GENERATED = (
    ("Commands", "docs/commands.md", commands.page),
    ("Python API", "docs/python.md", python_page),
)


def on_config(config: Any) -> None:
    """Name the version, make the navigation, and look up the dates."""
    config.site_name = f"mms_handler {mms_handler.__version__}"
    config.nav = pages.navigation((ROOT / pages.INDEX).read_text())
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    reference += [{title: path} for title, path, _ in GENERATED]
    config.extra["last_changes"] = history.last_changes(ROOT)


def on_files(files: Files, config: Any) -> Files:
    """Name files by their paths in the repository, and add those that pages link to."""
    listed = set(pages.paths(config.nav))
    site = Files(file for file in files if file.src_dir != config.docs_dir)
    paths = [f"docs/{file.src_uri}" for file in files if file.src_dir == config.docs_dir]
    for path in paths:  # which grows
        if path not in site.src_uris:
            level = InclusionLevel.INCLUDED
            if path not in listed and not path.startswith("docs/"):
                level = InclusionLevel.NOT_IN_NAV
            place = {"dest_uri": pages.address(path), "inclusion": level}
            site.append(File(path, str(ROOT), config.site_dir, False, **place))
            paths += pages.linked(path) if path.endswith(".md") else ()
    for _, path, text in GENERATED:
        page = File.generated(config, path, content=text())
        page.dest_uri = pages.address(path)
        site.append(page)
    icon = (ROOT / "mms_handler" / "ui" / "icon.svg").read_text()
    site.append(File.generated(config, "assets/icon.svg", content=icon))
    return site


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Show when a page was last changed; let the search find each decision.

    A decision begins with its date and its sentence in bold letters, which become a heading.  The
    list of pages needs no navigation beside it.
    """
    path = page.file.src_uri
    if path == pages.INDEX:
        page.meta["hide"] = ["navigation"]
    if day := config.extra["last_changes"].get(path):
        page.meta["revision_date"] = f"Last changed on {day}"
    if path == "docs/decisions.md":
        bold = r"^\*\*(\d{4}-\d\d-\d\d)\. ([^*]+?)\.?\*\*"
        markdown = re.sub(bold, _headed, markdown, flags=re.MULTILINE)
    return markdown


def _headed(decision: re.Match[str]) -> str:
    day, sentence = decision.groups()
    return f"## {' '.join(sentence.split())}\n\n{day}."


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Let each table be scrolled; break a variable's name in it only after an underscore.

    A table of three columns of text or more is a list of cards on a narrow screen, see site.css.
    """

    def wrapped(found: re.Match[str]) -> str:
        table = re.sub(r"(?<=\w)_(?=\w[^<>]*</code>)", "_<wbr>", found[0])
        table = re.sub(r"<code>(?=--[\w-]+</code>)", '<code class="option">', table)
        names = re.findall(r"<th>(.*?)</th>", table)  # those of numbers have a style
        if len(names) < 3:
            return f'<div class="table" tabindex="0">{table}</div>'
        plain = (re.sub(r"<[^>]+>", "", name) for name in names)
        cells = itertools.cycle([f'<td data-name="{name}">' if name else "<td>" for name in plain])
        table = re.sub("<td>", lambda _: next(cells), table)
        return f'<div class="table cards" tabindex="0">{table}</div>'

    return re.sub(r"<table>.*?</table>", wrapped, html, flags=re.DOTALL)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Give the search's dialog its name, which the theme forgets."""
    return output.replace('role="dialog">', 'role="dialog" aria-label="Search">', 1)
