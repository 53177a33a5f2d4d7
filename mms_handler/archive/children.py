"""Ask a process of its own, which loads a model as a worker does, and read its report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def reported(folder: Path, command: str, report: Path, *words: str) -> dict[str, Any]:
    """What a hidden command of ours says of the model in ``folder``, or how its process ended.

    Args:
        folder: with a model; where the process runs.
        command: it writes JSON to ``report``.
        report: nothing yet.
        words: what the command takes beside both.
    """
    done = subprocess.run(
        [sys.executable, "-m", "mms_handler", command, str(folder), str(report), *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        check=False,
    )
    if not report.exists():
        return {"error": f"the process that loaded it ended with {done.returncode}"}
    found: dict[str, Any] = json.loads(report.read_text())
    return found
