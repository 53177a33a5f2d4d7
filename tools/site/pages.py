"""The pages of the site, and their places in it.

A file of the site is named by its path in the repository, so a relative link means in the site
what it means in a plain view of the repository.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any, Iterator

ROOT = Path(__file__).parents[2]
INDEX = "docs/README.md"


def navigation(index: str) -> list[dict[str, Any]]:
    """The navigation, as mkdocs takes it, from the list of documentation.

    Args:
        index: the text of docs/README.md: headings of two levels, and items that begin with a link
            to a page.

    Returns:
        Titles with paths, or with lists of the same.
    """
    sections: list[dict[str, Any]] = [{"Contents": INDEX}]
    pages = sections
    for level, heading, title, target in re.findall(
        r"^(###?) (.+)|^\* \[([^]]+)\]\(([^)#]+)\)", index, re.MULTILINE
    ):
        if heading:
            above = next(iter(sections[-1].values())) if level == "###" else sections
            pages = []
            above.append({heading: pages})
        else:
            pages.append({title: posixpath.normpath(f"docs/{target}")})
    return sections


def paths(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The paths of a navigation, in its order."""
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else paths(value)


def address(path: str) -> str:
    """Where a file of the repository is in the site: docs/ at its top, docs/README.md first."""
    if path == INDEX:
        return "index.html"
    path = path[len("docs/") :] if path.startswith("docs/") else path
    return f"{path[: -len('.md')].lower()}.html" if path.endswith(".md") else path


def linked(page: str) -> Iterator[str]:
    """The files of the repository that a page links to."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)", text):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(page), target))
        if (ROOT / path).is_file():
            yield path
