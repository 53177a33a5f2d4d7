"""Why models and versions are not there: the latest reasons, for the page."""

from __future__ import annotations

import threading

#: How many are remembered.
_MOST = 20


class Failures:
    """The reasons by model and version.  Safe to use from any thread."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, str], str] = {}  # the latest last
        self._lock = threading.Lock()

    def latest(self) -> dict[tuple[str, str], str]:
        """The reasons, the latest last."""
        with self._lock:
            return dict(self._reasons)

    def note(self, name: str, version: str, reason: str) -> None:
        """Take note of why a model, or a version of it, is not served."""
        with self._lock:
            self._reasons.pop((name, version), None)
            self._reasons[name, version] = reason
            for oldest in [*self._reasons][:-_MOST]:
                del self._reasons[oldest]

    def forget(self, name: str) -> None:
        """Forget what was noted of a model: it has been loaded since."""
        with self._lock:
            for key in [key for key in self._reasons if key[0] == name]:
                del self._reasons[key]
