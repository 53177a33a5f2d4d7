"""How a job ended, for SageMaker: BASE/output/success, empty, or BASE/output/failure."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Iterator

from mms_handler.errors import HandlerError
from mms_handler.training.phases import as_job_failed, first_line, phase

log = logging.getLogger(__name__)


@contextlib.contextmanager
def recorded(base_dir: Path, host: str) -> Iterator[None]:
    """Remove both files; after the ``with`` block write success, or failure if it raised.

    The first line of the failure file names the host, the phase and the reason, because SageMaker
    shows the first 1,024 characters.  A block in this one may have recorded its own failure, which
    then stays.

    Args:
        base_dir: a folder like /opt/ml.
        host: the name of this host.

    Raises:
        JobFailed: the block raised an error that is written for people; the text is that line.
        BaseException: another one that the block raised.
    """
    output_dir = base_dir / "output"
    success, failure = output_dir / "success", output_dir / "failure"
    output_dir.mkdir(parents=True, exist_ok=True)
    for path in (success, failure):
        _remove(path)
    try:
        with phase("mms-handler"):
            yield
            success.touch()
    except BaseException as exc:
        _remove(success)
        line = first_line(host, exc)
        if not failure.exists() or failure.stat().st_size == 0:
            _write(failure, line, _details(exc))
        if isinstance(exc, (HandlerError, OSError)):
            raise as_job_failed(line, exc) from exc
        raise


def _details(exc: BaseException) -> str:
    """What follows the first line: the rest of the reason, and what else is known."""
    rest = str(exc).strip().splitlines()[1:]
    return "\n".join([*rest, getattr(exc, "details", "")])


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _write(failure: Path, line: str, details: str) -> None:
    """Write the reason, then the rest.  If the disk is full, the log has the reason."""
    try:
        with failure.open("w", buffering=1) as file:
            file.write(f"{line}\n")
            file.write(details)
    except OSError as trouble:
        log.error("%s; %s could not be written: %s", line, failure, trouble)
