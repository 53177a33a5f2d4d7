"""The documentation as text: its links lead somewhere, and every page can be found."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Iterator

import click
import pytest

import mms_handler
from mms_handler.cli import group

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def links(page: Path) -> list[str]:
    """The relative targets of a page's links, outside code blocks."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return set(plain)


@pytest.mark.parametrize("page", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_every_link_leads_somewhere(page):
    """To a file or folder that exists, and to a heading in it."""
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def test_the_index_names_every_page():
    """docs/README.md leads to each page beside it and in folders."""
    docs = ROOT / "docs"
    named = {target.partition("#")[0] for target in links(docs / "README.md")}
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {"README.md"}
    assert pages <= named


def texts_of_the_code() -> str:
    """Every text in the package, a line each; what an f-string fills in is \\0."""
    lines = []
    for path in (ROOT / "mms_handler").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "\0" for part in node.values
                ]
                lines.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                lines.append(node.value)
    return "\n".join([*lines, (ROOT / "Makefile").read_text()])


#: Parts of the shown messages that are not ours: the phase of a load, and the system's words.
JOINED = r"^(model_dir|script|model_fn|functions|requirements): |\w+Error: |Address already in use"


def test_troubleshooting_quotes_the_codes_messages():
    """About twenty messages; each piece between two ellipses is in the code as it is quoted."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text().replace("\n", " ")
    entries = re.findall(r"\*\*(.+?)\*\* · ", page)
    assert len(entries) >= 20
    texts = texts_of_the_code()
    for message in re.findall(r"`([^`]+)`", " ".join(entries)):
        pieces = re.sub(JOINED, "…", message).split("…")
        for piece in pieces:
            assert piece.strip(" ;:,?.") in texts, message


def test_every_test_that_a_page_names_exists():
    """As PATH::NAME."""
    named = {name for page in PAGES for name in re.findall(r"`(tests/\S+?::\w+)", page.read_text())}
    assert len(named) >= 20
    for name in named:
        path, _, function = name.partition("::")
        assert f"\ndef {function}(" in (ROOT / path).read_text(), name


def test_a_part_of_an_example_is_in_its_file():
    """A block of Python that begins with an example's path."""
    named = []
    for page in PAGES:
        for block in re.findall(
            r"```python\n# (docs/examples/.+?)```", page.read_text(), re.DOTALL
        ):
            name, _, source = block.partition("\n")
            assert source in (ROOT / name).read_text(), f"{page.name}: {name}"
            named.append(name)
    assert len(named) >= 3


def test_signatures_in_the_page_of_the_api():
    """Each has the names of the function's parameters, in their order."""
    page = (ROOT / "docs" / "api.md").read_text()
    management = page.index("## Management")
    named = set()
    for found in re.finditer(r"`(model\.)?(\w+)\(([^)`]+)\)`", page):
        of_model, name, text = found.groups()
        place = mms_handler.Model if of_model else mms_handler
        if found.start() > management and hasattr(mms_handler.Management, name):
            place = mms_handler.Management
        names = [part.split("=")[0].strip(" *") for part in text.split(",")]
        parameters = [each for each in inspect.signature(getattr(place, name)).parameters]
        assert [each for each in names if each] == [each for each in parameters if each != "self"]
        named.add(name)
    assert {"load", "answer", "check", "train", "pack", "serve", "swap", "init"} <= named


def commands(command: click.Command, name: str = "mms-handler") -> Iterator[tuple[str, set[str]]]:
    """Each command's name, and its options."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from commands(below, f"{name} {below.name}")
    else:
        yield name, {"--help"}.union(*(param.opts for param in command.params))


def test_every_option_that_a_page_names_exists():
    """Of the command before it, wherever a command is written out."""
    options = dict(commands(group))
    longest_first = "|".join(sorted(options, key=len, reverse=True))
    named = []
    for page in PAGES:
        for name, rest in re.findall(rf"\b({longest_first})\b([^`\n|]*)", page.read_text()):
            used = set(re.findall(r"(?<= )--[a-z][\w-]*", rest))
            assert used <= options[name], f"{page.name}: {name}{rest}"
            named += used
    assert len(named) >= 100
