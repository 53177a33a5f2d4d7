"""Look at what this machine has for training and serving: what was found, and what to do."""

from __future__ import annotations

from typing import Callable, Sequence

from mms_handler import settings
from mms_handler.diagnosis import machine, software
from mms_handler.diagnosis.finding import Finding, ok, problem, warning
from mms_handler.errors import SettingsError
from mms_handler.settings import Settings

__all__ = ["Finding", "diagnose", "ok", "problem", "warning"]

_CHECKS: Sequence[Callable[[Settings], Finding]] = (
    software.python,
    software.numpy,
    software.mxnet,
    software.mms,
    software.java,
    software.core,
    machine.client_port,
    machine.management_port,
    machine.temporary_folder,
    machine.cache_folder,
    machine.descriptors,
    machine.memory,
    machine.disk,
    machine.clock,
)


def diagnose() -> list[Finding]:
    """Look at everything once.  Nothing is changed; a small Java and a Python are started."""
    try:
        current = settings.current()
    except SettingsError as exc:
        current = Settings()
        return [
            problem("settings", str(exc), "correct the variable, or unset it"),
            *(check(current) for check in _CHECKS),
        ]
    return [ok("settings", "every variable has a valid value"), *(c(current) for c in _CHECKS)]
