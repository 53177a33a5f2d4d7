"""A change of a model that is under way, and how far the load of a version has come."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from mms_handler import worker_files


class Change(NamedTuple):
    """A change of a model that is under way.

    Fields:
        start_s: monotonic time of its beginning.
        url: from which a version is loaded; "" if none is.
        version: that is loaded; "" until it is known.
        mms_name: of that version.
    """

    start_s: float
    url: str = ""
    version: str = ""
    mms_name: str = ""

    def describe(self, folder: Path) -> dict[str, Any]:
        """The version that is loaded, as the management API shows it.

        Args:
            folder: of the version in the store; it need not exist yet.
        """
        written = worker_files.read_load_phase(folder)
        phase, seconds = written or ("starting", time.monotonic() - self.start_s)
        return {
            **({"modelVersion": self.version} if self.version else {}),
            "modelUrl": self.url,
            "status": "LOADING",
            "phase": phase,
            "phaseSeconds": int(seconds),
        }

    def sentence(self, name: str, folder: Path) -> str:
        """Which model is being loaded, for how long, and in which phase; arguments as above."""
        phase = self.describe(folder)
        seconds = time.monotonic() - self.start_s
        return f"{name} is loading, {seconds:.0f} s: {phase['phase']} for {phase['phaseSeconds']} s"
