"""What serve --dev does, and the hidden command that is its worker."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from mms_handler.cli.command import existing, group
from mms_handler.settings import Settings

#: Seconds between two looks at the files.
_LOOK_S = 0.2


def serve(path: Path, script: Path | None, settings: Settings) -> None:
    """Serve a model while it is edited, until Ctrl-C."""
    from mms_handler import archive, dev

    signal.signal(signal.SIGTERM, _interrupt)
    script = archive.script_at(script) if script else None
    with contextlib.suppress(KeyboardInterrupt), dev.serve(
        path.resolve(), script, settings, lambda line: click.echo(line, err=True)
    ) as server:
        click.echo(f"{server.name} is ready: {server.url}")
        click.echo("edits are loaded at once; Ctrl-C ends this", err=True)
        while True:
            time.sleep(_LOOK_S)
            server.look()
    click.echo("stopped")


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


@group.command("dev-worker", hidden=True)
@click.argument("path", type=existing)
@click.argument("descriptor", type=int)
@click.option("--script", type=existing)
def dev_worker(path: Path, descriptor: int, script: Path | None) -> None:
    """Be the worker of serve --dev: load PATH, and answer requests from a socket."""
    from mms_handler.dev import child
    from mms_handler.quiet import quiet_process

    child.run(path, script, descriptor, quiet_process())
