"""Run a hidden command of this package in a separate process, and read its report."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def run(command: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run ``mms-handler COMMAND FOLDER REPORT ARGUMENTS`` and return the report.

    The process loads the model in ``folder`` as a worker does.  Its output goes to standard error.

    Args:
        command: ``inspect`` or ``quantize``.
        folder: an unpacked model; the process's working directory.
        arguments: the command's other arguments.

    Returns:
        The JSON object that the command wrote to REPORT; if it wrote none, ``error`` alone.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        report = Path(scratch) / "report.json"
        process = subprocess.run(
            [sys.executable, "-m", "mms_handler", command, str(folder), str(report), *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            check=False,
        )
        if not report.exists():
            return {"error": f"the process that loaded the model ended with {process.returncode}"}
        result: dict[str, Any] = json.loads(report.read_text())
        return result
