"""What a person sees of a job while it runs, and what is known of its metrics at the end.

job's processes ──▶ Output ──▶ Hosts, Live ──▶ terminal or log
                          └─▶ Observer ──▶ curves ──▶ report
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

from mms_handler.terminal import STDERR, STDOUT, Live, LogStream
from mms_handler.training.metrics import Definition, rank, read_definitions
from mms_handler.training.observer import Curve, Observer, check_writable
from mms_handler.training.output import Output, Plain, Screen
from mms_handler.training.plots import check_can_plot, plot
from mms_handler.training.screen import Hosts


class Watching(NamedTuple):
    """How a job is watched.

    ``report`` gets the metrics when the job has ended, however it ended.
    """

    report: Callable[[list[Curve]], None]
    definitions: Sequence[Definition] = ()  # without any, the usual patterns count
    file: Path | None = None  # gets each value as a JSON line, while the job runs
    live: bool = False  # on a terminal, show the progress in its last line


def watching(
    *,
    file: Path | None = None,
    definitions: Path | None = None,
    picture: Path | None = None,
    report: Callable[[list[Curve]], None] = lambda curves: None,
    live: bool = False,
) -> Watching:
    """How to watch a job, once it is checked that this is possible.

    Args:
        file: gets each value as a JSON line.
        definitions: a JSON file of SageMaker's metric definitions.
        picture: gets the learning curve.
        report: is called with the metrics when the job has ended.
        live: whether to show the progress on a terminal.

    Raises:
        TrainingError: a file cannot be read or written, or there is no matplotlib.
    """
    if picture:
        check_can_plot(picture)
    if file:
        check_writable(file)

    def at_the_end(curves: list[Curve]) -> None:
        report(curves)
        if picture:
            plot(curves, picture)

    return Watching(
        at_the_end, read_definitions(definitions) if definitions else (), file=file, live=live
    )


@contextlib.contextmanager
def shown(
    hosts: Sequence[str], watching: Watching | None, *, named: bool = False
) -> Iterator[Output]:
    """Pass on the output of a job for the length of a ``with`` block, and watch its metrics.

    Args:
        hosts: whose output this process passes on.
        watching: None: only pass it on.
        named: put each host's name before its lines.
    """
    terminals = [descriptor for descriptor in (STDERR, STDOUT) if os.isatty(descriptor)]
    escapes, colour = _terminal_abilities() if terminals else (False, False)
    with contextlib.ExitStack() as stack:
        observer = None
        screen: Screen = Plain()
        hold: Callable[[str, bytes], None] = lambda host, line: None  # noqa: E731
        if watching:
            observer = Observer(hosts, watching.definitions, watching.file)
            stack.callback(lambda: watching.report(observer.curves))
            stack.enter_context(observer.running())
        if observer and watching and watching.live and STDERR in terminals and escapes:
            progress = Progress(observer)
            live = Live(progress.line, terminals)
            stack.enter_context(live.shown())
            stack.enter_context(_log_above(live))
            screen, hold = live, live.hold
        if named:
            screen = Hosts(hosts, screen, colour=colour, hold=hold)
        observe = observer.feed if observer else None
        yield Output(screen, observe, terminal=not named)


def _terminal_abilities() -> tuple[bool, bool]:
    """Whether the terminal understands escape sequences, and whether its person wants colours."""
    from rich.console import Console

    console = Console(stderr=True)
    escapes = console.color_system is not None and not console.is_dumb_terminal
    return escapes, escapes and not console.no_color


@contextlib.contextmanager
def _log_above(live: Live) -> Iterator[None]:
    """Let the lines that this process logs to standard error go above the live line."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]
    for handler in handlers:
        handler.setStream(LogStream(live))
    try:
        yield
    finally:
        for handler in handlers:
            handler.setStream(sys.stderr)


class Progress:
    """The text of the live line: the time that has passed, and each host's epoch and metrics."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._started_at = time.monotonic()

    def line(self) -> str:
        passed = datetime.timedelta(seconds=int(time.monotonic() - self._started_at))
        newest = self._observer.newest
        texts = {host: " ".join(_words(values)).strip() for host, values in newest.items()}
        hosts = [
            f"{host} {text}" if len(newest) > 1 else text for host, text in texts.items() if text
        ]
        return "  ".join([str(passed), " | ".join(hosts)])


def _words(values: Mapping[str, Any]) -> Iterator[str]:
    if values.get("epoch") is not None:
        yield f"epoch {values['epoch']} "
    metrics = values.get("values", {})
    for name in sorted(metrics, key=rank):
        yield f"{name} {metrics[name]:.4g} "
