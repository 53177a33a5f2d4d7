"""The reference of the command line as Markdown, from the commands themselves."""

from __future__ import annotations

import html
import inspect
import re
from typing import Iterator

import click

from mms_handler.cli import group

#: Characters that Markdown would read as more than text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]#])")


def page() -> str:
    """Each command below a heading of its own, in the order of the alphabet."""
    lead = (
        "`mms-handler COMMAND --help` prints the same. Exit codes are 0 for success, 1 for a "
        "failure with one line about it, and 2 for wrong usage."
    )
    sections = (section for context in _commands(_context(group)) for section in _sections(context))
    return "\n\n".join(["# Commands", lead, *sections])


def _context(command: click.Command, parent: click.Context | None = None) -> click.Context:
    return click.Context(
        command, info_name=command.name if parent else "mms-handler", parent=parent
    )


def _commands(context: click.Context) -> Iterator[click.Context]:
    """The commands that people run, of all groups."""
    command = context.command
    if not isinstance(command, click.Group):
        yield context
        return
    for _, below in sorted(command.commands.items()):
        if not below.hidden:
            yield from _commands(_context(below, context))


def _sections(context: click.Context) -> Iterator[str]:
    command = context.command
    yield f"## {context.command_path.partition(' ')[2]}"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```\n{usage}\n```"
    yield from map(_paragraph, re.split(r"\n{2,}", inspect.cleandoc(command.help or "")))
    for param in command.params:
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record:
            yield f"`{record[0]}`\n:   {_escaped(record[1])}"
    lines = inspect.cleandoc(command.epilog or "").splitlines()
    if examples := [line.strip() for line in lines if line.startswith("  ")]:
        yield "\n".join(["```sh", *examples, "```"])


def _paragraph(text: str) -> str:
    """A paragraph of a help text; one that begins with a backspace keeps its lines."""
    if text.startswith("\b"):
        return f"```\n{inspect.cleandoc(text[1:])}\n```"
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", html.escape(text, quote=False))
