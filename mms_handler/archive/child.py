"""Run a hidden command of this package in a separate process, and read its report."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mms_handler.quiet import quiet_stderr


def run(command: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run ``mms-handler COMMAND FOLDER REPORT ARGUMENTS`` and return the report.

    The process loads the model in ``folder`` as a worker does.  Its output goes to standard error,
    without MXNet's lines about its engine.

    Args:
        command: ``inspect`` or ``quantize``.
        folder: an unpacked model; the process's working directory.
        arguments: the command's other arguments.

    Returns:
        The JSON object that the command wrote to REPORT; if it wrote none, ``error`` alone.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        report = Path(scratch) / "report.json"
        with quiet_stderr() as output:
            process = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "mms_handler",
                    command,
                    str(folder),
                    str(report),
                    *arguments,
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        if not report.exists():
            return {"error": f"the process that loaded the model {ending(process.returncode)}"}
        result: dict[str, Any] = json.loads(report.read_text())
        return result


def ending(code: int) -> str:
    """How a process ended, from its exit code, for a sentence."""
    if code >= 0:
        return f"ended with {code}"
    memory = ", perhaps by the system for memory" if code == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{memory}"
