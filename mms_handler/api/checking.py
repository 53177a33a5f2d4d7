"""What the command check does, as a function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mms_handler.archive import Report


def check(
    path: str | os.PathLike[str],
    *,
    script: str | os.PathLike[str] | None = None,
    sample: str | os.PathLike[str] | None = None,
    content_type: str | None = None,
    accept: str | None = None,
) -> Report:
    """Load a model in a separate process, let it answer a request, and report both.

    Args:
        path: a folder with a model and perhaps ``code/``, a ``.mar``, a model.tar.gz, or a script
            that has no model yet.
        script: a script, or a folder with one, to use where it lies instead of the model's own.
        sample: a file with a request; None: the packed sample, if there is one.
        content_type: the request's; None: the packed one's, or from the file's suffix.
        accept: the request's Accept; None: the packed one's, or ``*/*``.

    Returns:
        What is known about the model.  ``failure`` says why it cannot be served, or is None.

    Raises:
        ArchiveError: ``path`` is not one of these, or is an archive that is not safe.
        ScriptError: ``script`` is not a script, or several files could be it.
    """
    from mms_handler import archive
    from mms_handler.training import choose_mode

    model, elsewhere = Path(path), Path(script) if script else None
    report = archive.check(model, Path(sample) if sample else None, content_type, accept, elsewhere)
    if model.suffix != ".py" or not report.details:
        return report
    mode = choose_mode(model, {})
    details = [*report.details, ("train", f"{mode.name} mode: {mode.reason}")]
    advice = f"; to train one: mms-handler train --entry-point {path}" if mode.legacy else ""
    return report._replace(details=details, failure=f"{report.failure}{advice}")
