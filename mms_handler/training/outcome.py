"""How a job ended, for SageMaker: BASE/output/success, empty, or BASE/output/failure."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Iterator

from mms_handler.errors import HandlerError, cause

log = logging.getLogger(__name__)


@contextlib.contextmanager
def recorded(base_dir: Path) -> Iterator[None]:
    """Remove both files; after the ``with`` block write success, or failure if it raised.

    The first line of the failure file is the reason, because SageMaker shows the first 1,024
    characters.  A block in this one may have recorded its own failure, which then stays.

    Args:
        base_dir: a folder like /opt/ml.
    """
    output_dir = base_dir / "output"
    success, failure = output_dir / "success", output_dir / "failure"
    output_dir.mkdir(parents=True, exist_ok=True)
    for path in (success, failure):
        _remove(path)
    try:
        yield
        success.touch()
    except BaseException as exc:
        _remove(success)
        if not failure.exists() or failure.stat().st_size == 0:
            _write(failure, exc)
        raise


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _write(failure: Path, exc: BaseException) -> None:
    """Write the reason, then the rest.  If the disk is full, the log has the reason."""
    known = isinstance(exc, (HandlerError, OSError))
    reason = str(exc) if known else cause(exc, str(failure.parent))
    try:
        with failure.open("w", buffering=1) as file:
            file.write(f"{reason}\n")
            file.write(getattr(exc, "details", ""))
    except OSError as trouble:
        log.error("%s; %s could not be written: %s", reason, failure, trouble)
