"""Settings: environment variables and options, with their types, units and defaults.

Nothing else in the package reads the environment.  Each setting is declared once, in ``table``.
Reading it, handing it to a child process, its command-line option and its row in
docs/settings.md all follow from that declaration.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import sys
from typing import Mapping, NamedTuple

from mms_handler.errors import SettingsError
from mms_handler.settings import names, table
from mms_handler.settings.cache import cache_folder, make_private
from mms_handler.settings.defaults import MMS_BODY_BYTES
from mms_handler.settings.setting import Setting
from mms_handler.settings.table import TABLE, Settings

__all__ = [
    "MMS_BODY_BYTES",
    "TABLE",
    "Effective",
    "Setting",
    "Settings",
    "cache_folder",
    "current",
    "effective",
    "environment",
    "export",
    "export_defaults",
    "forbid_telemetry",
    "hidden_removed",
    "is_set",
    "make_private",
    "path_of_programs",
    "source_date_s",
]

#: Digits of a time in seconds: up to the year 5138.
_MAX_TIME_DIGITS = 11


class Effective(NamedTuple):
    """Settings, and the origin of each field: a variable, "option --name" or "default"."""

    settings: Settings
    origins: dict[str, str]

    def hosting(self) -> Effective:
        """The settings of ``serve`` without PATHS: it listens on 0.0.0.0 unless a host is set.

        Containers run that command.  The environment does not show whether this is a container:
        no variable of SageMaker's is set in all of them.  With PATHS a person tries models on a
        machine that others may reach, so the default is 127.0.0.1.
        """
        if self.origins["host"] != "default":
            return self
        settings = dataclasses.replace(self.settings, host="0.0.0.0")
        return Effective(settings, {**self.origins, "host": "serve without PATHS"})


def effective(env: Mapping[str, str], options: Mapping[str, object]) -> Effective:
    """Read the settings of a command: ``options``, by field, override the variables of ``env``.

    Only commands check the names of variables; a worker's environment also has those that MMS sets.

    Raises:
        SettingsError: a variable has an invalid value, or is named like a setting but is not one.
    """
    names.check(env, TABLE)
    values, origins = table.read(env, options)
    return Effective(Settings(**values), origins)


def current() -> Settings:
    """Read the settings of this process."""
    return Settings.from_env(os.environ)


def is_set(field: str) -> bool:
    """Whether a variable of this process sets a field of Settings."""
    return any(os.environ.get(variable) for variable in TABLE[field].variables)


def environment(settings: Settings | None = None) -> dict[str, str]:
    """A copy of this process's environment for a child, from which it will read ``settings``.

    Without ``settings``, the child reads this process's.
    """
    env = dict(os.environ)
    if settings is None:
        return env
    parent = Settings.from_env(env)
    stale = [
        variable
        for field, setting in TABLE.items()
        if getattr(parent, field) != getattr(settings, field)
        for variable in setting.variables
    ]
    for variable in [*stale, *names.PASSED_ON.values()]:
        env.pop(variable, None)
    return {**env, **settings.variables()}


def traces() -> bool:
    """Whether spans of requests are to be sent somewhere, by OpenTelemetry's own variables."""
    ends = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return any(map(os.environ.get, ends)) and not disabled


def source_date_s() -> int | None:
    """The time that SOURCE_DATE_EPOCH gives to what is built, in seconds since 1970, if it is set.

    Raises:
        SettingsError: it is not a time.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isdecimal() or len(text) > _MAX_TIME_DIGITS:
        raise SettingsError(
            f"SOURCE_DATE_EPOCH: {text[:60]!r} is not a time in whole seconds since 1970"
        )
    return int(text)


def path_of_programs(path: str | None) -> str:
    """PATH with this interpreter's folder first, so that ``python`` and ``pip`` are its own.

    They are without it only where the virtual environment is activated.

    Args:
        path: PATH until now.
    """
    folder = os.path.dirname(sys.executable)
    folders = (path or os.defpath).split(os.pathsep)
    return os.pathsep.join([folder, *(other for other in folders if other != folder)])


def hidden_removed(env: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """``env`` without the variables that ``hide_env`` names; those that set ``settings`` stay."""
    visible = {
        name: value
        for name, value in env.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in settings.hide_env)
    }
    return {**visible, **settings.variables()}


def export(name: str, value: str) -> None:
    """Set a variable for what this process imports and starts from now on."""
    os.environ[name] = value


def export_defaults(values: Mapping[str, str]) -> None:
    """Set the variables that are not set yet, for what this process imports and starts."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


def forbid_telemetry() -> None:
    """Let ONNX Runtime upload nothing, in this process and in what it starts.

    From 1.32 on its import starts two threads that send its use to Microsoft, and writes to the
    home folder, unless this variable is set by then.  A user's own value stays: 0 allows it.
    """
    export_defaults({"ORT_DISABLE_TELEMETRY": "1"})
