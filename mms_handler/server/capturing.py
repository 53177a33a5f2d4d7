"""Where captured predictions go: into a folder, or from there to a bucket.

The gate writes them (java/mms_handler/Capture.java), and finishes a file each minute.  Nothing
here is on the way of a request.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from pathlib import Path
from typing import Iterator

from mms_handler import periodic
from mms_handler.archive import s3
from mms_handler.errors import ArchiveError, ServerError
from mms_handler.server import left_captures

log = logging.getLogger(__name__)

#: Seconds between two looks at the folder, and the most between two tries after a failure.
_EVERY_S, _MAX_WAIT_S = 1, 60

#: Seconds for the last files when the server ends.
_LAST_S = 10


@contextlib.contextmanager
def folder_for(place: str) -> Iterator[str]:
    """A folder for the gate to write into, for the length of a ``with`` block.

    What a server has captured for the same place that was killed is finished first.
    After the block, in which the gate must have ended, the last files are uploaded if ``place`` is
    an address.

    Args:
        place: a folder, which is made if need be; or s3://bucket/folder.

    Raises:
        ServerError: the folder cannot be written.
        ArchiveError: ``place`` is an address, and boto3 is not installed.
    """
    if "://" not in place:
        folder = _writable(Path(place).absolute())
        left_captures.finish(folder)
        yield str(folder)
        return
    s3.check_boto3(place)
    with tempfile.TemporaryDirectory(prefix=left_captures.PREFIX) as temporary, left_captures.owned(
        Path(temporary), place
    ):
        folder = Path(temporary)
        left_captures.adopt(folder, place)
        uploads = Uploads(folder, place)
        try:
            with periodic.repeated(uploads.look, _EVERY_S):
                yield str(folder)
        finally:  # a server ends by an exception
            uploads.end(_LAST_S)


def _writable(folder: Path) -> Path:
    """``folder``, which only its owner may read if it is made here.

    Raises:
        ServerError: no file can be written in it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x" * 4096)
            probe.flush()
    except OSError as exc:
        raise ServerError(
            f"predictions cannot be captured in {folder}: {exc.strerror}; name another folder with "
            "--capture"
        ) from exc
    return folder


class Uploads:
    """Uploads finished files, and removes those that are uploaded."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url.rstrip("/")
        self._failures = 0
        self._next_s = 0.0

    def look(self) -> None:
        """Upload what is finished, unless the last upload has failed a short time ago."""
        if time.monotonic() < self._next_s:
            return
        for file in sorted(self._folder.glob("*.jsonl")):
            if not self._upload(file):
                return

    def end(self, limit_s: float) -> None:
        """Upload what is left, within ``limit_s`` seconds; say what is lost."""
        deadline, self._next_s = time.monotonic() + limit_s, 0.0
        while time.monotonic() < deadline and any(self._folder.glob("*.jsonl")):
            self.look()
            time.sleep(0.1)
        if remaining := len(list(self._folder.glob("*.jsonl"))):
            log.error(
                "files of captured predictions that are lost: %d, for %s", remaining, self._url
            )

    def _upload(self, file: Path) -> bool:
        """Upload a file; False if it must be tried again."""
        try:
            s3.upload(file, f"{self._url}/{_hour(file)}/{file.name}")
            file.unlink()
        except FileNotFoundError:  # the gate has removed it, to make room
            return True
        except (ArchiveError, OSError) as exc:
            self._failures += 1
            self._next_s = time.monotonic() + min(2**self._failures, _MAX_WAIT_S)
            if self._failures == 1:
                log.warning("captured predictions wait: %s; it is tried again", exc)
            return False
        if self._failures:
            log.info("captured predictions are uploaded again")
        self._failures = 0
        return True


def _hour(file: Path) -> str:
    """The folders of a file's hour, as SageMaker has them: yyyy/mm/dd/hh."""
    time_of_file = file.name[len("capture-") :]
    return "/".join((time_of_file[:4], time_of_file[4:6], time_of_file[6:8], time_of_file[9:11]))
