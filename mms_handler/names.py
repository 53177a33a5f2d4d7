"""The names of models and versions: MMS has each version as a model of its own."""

from __future__ import annotations

import re

from mms_handler.errors import ArchiveError, BadInput

#: Names that MMS can address in a URL and that are safe on a worker's command line (not ``-rf``).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

#: Letters of the longest name.  A file name may have 255 bytes, and suffixes are appended.
_MAX_NAME = 200

#: A version has the letters of a model's name, and fewer of them: the names of both make a file's.
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,49}")

#: What the system calls the process from which a model's workers are forked: 15 letters at most.
FORK_SERVER = "mms-fork-server"

#: No model's name has it.  In a URL, a label and a command line it stands for itself.
_SEPARATOR = "~"


def check_name(name: str) -> str:
    """Return ``name`` if it is a valid model name.

    Raises:
        ArchiveError: it is not; lists the valid characters.
    """
    if len(name) > _MAX_NAME:
        raise ArchiveError(
            f"the model name {name[:20]!r}... has {len(name)} characters; use at most {_MAX_NAME}"
        )
    if not _NAME.fullmatch(name):
        raise ArchiveError(
            f"{name!r} is not a valid model name: use letters, digits, '_', '.' and '-', "
            "and start with a letter or digit"
        )
    return name


def is_version(text: str) -> bool:
    """Whether a version may be called so."""
    return bool(_VERSION.fullmatch(text))


def check_version(text: str) -> str:
    """Return ``text`` if a version may be called so.

    Raises:
        BadInput: it may not; says what may be.
    """
    if not is_version(text):
        raise BadInput(
            f"{text[:60]!r} is no version: use up to 50 letters, digits, '_', '.' and '-', and "
            "start with a letter or digit"
        )
    return text


def in_mms(name: str, version: str) -> str:
    """MMS's name of a version.  The first version of a model has the model's."""
    return f"{name}{_SEPARATOR}{version}"


def of_model(mms_name: str) -> str:
    """The name of the model of which MMS has a version under this name."""
    return mms_name.partition(_SEPARATOR)[0]


def version_in(mms_name: str) -> str:
    """The version in MMS's name; "" in that of the first one."""
    return mms_name.partition(_SEPARATOR)[2]


def shown(mms_name: str) -> str:
    """What people read in place of MMS's name: "iris", or "iris version 2"."""
    return mms_name.replace(_SEPARATOR, " version ")
