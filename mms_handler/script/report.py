"""Why a script failed: what its process tells the one that supervises it.

script's process ──▶ {"line": ..., "details": ...} ──▶ supervise ──▶ BASE/output/failure
                 ├─▶ an empty file, which a full disk takes too: train and save have returned
                 └─▶ beside it: the phase it is in, and the stacks of its threads
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
from pathlib import Path
from typing import IO, Dict, NoReturn, Optional

#: The file with the stacks of a script's threads, and seconds between two of them.
STACKS = "stacks"
STACKS_S = 20

#: The file with the name of the phase that a script's process is in.
PHASE = "phase"

Report = Dict[str, Optional[str]]

_stacks: IO[str] | None = None  # faulthandler writes to its descriptor


def write_report(path: Path, line: str, details: str | None = None) -> None:
    """Write the reason of a failure, in one line, and what else is known of it.

    The first report stays: if one of several processes fails, the others fail because of it.
    If the file cannot be written, the line goes to standard error, whose end is the next best.
    """
    text = json.dumps({"line": line, "details": details})
    try:
        with contextlib.suppress(FileExistsError), path.open("x") as file:
            file.write(text)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        sys.stderr.write(f"{line}\n")


def read_report(path: Path | None) -> Report | None:
    """The report of a process that ended: its "line" and "details", empty if it succeeded.

    None if there is none: the process was killed, ended itself, or never made one.
    """
    if path is None or not path.exists():
        return None
    text = path.read_text()
    report: Report = json.loads(text) if text else {}
    return report


def enter_phase(folder: Path, name: str) -> None:
    """Note in a file of ``folder`` which phase this process is in, should it be killed."""
    with contextlib.suppress(OSError):  # a full disk
        (folder / PHASE).write_text(name)


def read_phase(report: Path | None) -> str:
    """The phase of the process with this report; "" if it never noted one."""
    try:
        return (report.parent / PHASE).read_text() if report else ""
    except OSError:
        return ""


def record_stacks(folder: Path) -> None:
    """Write the stacks of all threads to a file of ``folder`` now and then, also in native code."""
    global _stacks
    with contextlib.suppress(OSError):  # a full disk
        _stacks = (folder / STACKS).open("a")
        faulthandler.dump_traceback_later(STACKS_S, repeat=True, file=_stacks)


def end_now(code: int) -> NoReturn:
    """End this process without freeing the script's objects, whose destructors may hang."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, by the script or the reader
            stream.flush()
    os._exit(code)
