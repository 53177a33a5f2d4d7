"""What the command doctor does, as a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mms_handler.diagnosis import Finding


def doctor() -> list[Finding]:
    """Look at what this machine has for training and serving.

    Nothing is changed.  A Java and a Python are started for a moment.

    Returns:
        What was found: each with ``name``, ``state`` ("ok", "warning" or "problem"), ``text`` and
        ``advice``.  A problem stands in the way of serving.
    """
    from mms_handler.diagnosis import diagnose

    return diagnose()
