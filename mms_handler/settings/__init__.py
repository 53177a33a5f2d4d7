"""Every environment variable that means something to us, with its type, unit and default.

The only reader of the environment.  Each setting is declared once, in ``table``: reading,
handing on, the command's options and docs/settings.md follow from that.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Mapping, NamedTuple

from mms_handler.settings import names, table
from mms_handler.settings.table import MMS_BODY_BYTES, Setting, Settings, declared

__all__ = [
    "MMS_BODY_BYTES",
    "Effective",
    "Setting",
    "Settings",
    "cache_folder",
    "current",
    "declared",
    "effective",
    "environment",
    "export",
    "export_defaults",
]


class Effective(NamedTuple):
    """Settings, and by field where each came from: a variable, "option --name", "default"."""

    settings: Settings
    origins: dict[str, str]

    def hosting(self) -> Effective:
        """The same for ``serve`` without PATHS: unless told, clients come from everywhere.

        That command is a container's, and a container cannot be told by its environment: of
        SageMaker's variables none is in every one.  With PATHS a person tries something, on a
        machine that others may reach: then the address is loopback's.
        """
        if self.origins["host"] != "default":
            return self
        chosen = dataclasses.replace(self.settings, host="0.0.0.0")
        return Effective(chosen, {**self.origins, "host": "serve without PATHS"})


def effective(env: Mapping[str, str], given: Mapping[str, object]) -> Effective:
    """Settings of ``env``, but for those ``given``, by field; strict about names.

    For the command alone: a worker's environment has variables of MMS's own.

    Raises:
        SettingsError: a value means nothing, or no setting has a variable's name.
    """
    names.check(env, [variable for one in declared().values() for variable in one.variables])
    values, origins = table.read(env, given)
    return Effective(Settings(**values), origins)


def current() -> Settings:
    """The settings of this process."""
    return Settings.from_env(os.environ)


def environment(chosen: Settings | None = None) -> dict[str, str]:
    """A copy of this process's environment, for a child of it; one that reads ``chosen``."""
    env = dict(os.environ)
    if chosen is None:
        return env
    here = Settings.from_env(env)
    stale = [
        variable
        for field, setting in declared().items()
        if getattr(here, field) != getattr(chosen, field)
        for variable in setting.variables
    ]
    for variable in [*stale, *map(names.variable, names.PASSED_ON)]:
        env.pop(variable, None)
    return {**env, **chosen.variables()}


def cache_folder(chosen: Settings) -> Path:
    """Where what is installed for scripts is kept: as chosen, else in the user's own cache."""
    if chosen.cache_dir:
        return Path(chosen.cache_dir)
    home = os.path.expanduser("~")
    return Path(home, ".cache") / "mms_handler" if os.access(home, os.W_OK) else _temporary()


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"mms_handler-{os.getuid()}"


def export(name: str, value: str) -> None:
    """Set a variable for what this process imports and starts from here on."""
    os.environ[name] = value


def export_defaults(values: Mapping[str, str]) -> None:
    """Set those variables that are not set."""
    for name, value in values.items():
        os.environ.setdefault(name, value)
