"""What the command init does, as a function."""

from __future__ import annotations

import os
from pathlib import Path

from mms_handler import project


def init(folder: str | os.PathLike[str], kind: str = "gluon") -> list[str]:
    """Write a project that trains, answers and can be packed as it is.

    Args:
        folder: it must not exist, or be empty; its name is the model's.
        kind: "gluon", "module", or "transform", for a script with a transform_fn.

    Returns:
        The commands to run in the folder, in their order.

    Raises:
        ArchiveError: the folder's name is not a valid model name.
        ProjectError: the folder has files, or the kind is unknown.
    """
    return project.create(Path(folder), kind)
