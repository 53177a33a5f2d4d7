"""Where the outputs of a job go: a folder, or a place in S3."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Sequence

from mms_handler.archive import s3
from mms_handler.errors import TransformError
from mms_handler.transform.inputs import STATE, Input, s3_client


class Outputs:
    """The outputs of a job, by its inputs."""

    def __init__(self, place: str, suffix: str) -> None:
        """Name the place.

        Args:
            place: a folder, or the s3:// address of one.
            suffix: of each output: its name is its input's and this.
        """
        self._place, self._suffix = place.rstrip("/"), suffix

    def name(self, source: Input) -> str:
        """The name of an input's output, after the folder."""
        return source.name + self._suffix

    def existing(self, inputs: Sequence[Input]) -> list[Input]:
        """The inputs whose outputs are there."""
        if not self._place.startswith("s3://"):
            return [each for each in inputs if (Path(self._place) / self.name(each)).exists()]
        keys = {each.key for each in s3.listed(f"{self._place}/", s3_client())}
        prefix = self._place.partition("://")[2].partition("/")[2]
        parent = f"{prefix}/" if prefix else ""
        return [each for each in inputs if parent + self.name(each) in keys]

    def deliver(self, source: Input, output: Path, errors: Path | None) -> None:
        """Put a whole output in its place, and its errors beside it.

        A file is moved there, so that it is whole as soon as it has its name.

        Raises:
            TransformError: a file has the name of a folder that is needed.
            OSError, ArchiveError: it cannot be written there.
        """
        target = f"{self._place}/{self.name(source)}"
        if self._place.startswith("s3://"):
            if errors:
                s3.upload_large(errors, f"{target}.errors", s3_client())
            s3.upload_large(output, target, s3_client())
            return
        try:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as exc:
            raise TransformError(
                f"the output {target} needs a folder where {exc.filename} is a file; remove that, "
                "and run the same command again, which goes on from here"
            ) from exc
        if errors:
            os.replace(errors, f"{target}.errors")
        os.replace(output, target)


def state_folder(output: str, state: Path | None, cache: Path) -> Path:
    """The folder for the state of a job: in its output folder, or as set; for S3 in the cache."""
    if state:
        return state
    if not output.startswith("s3://"):
        return Path(output) / STATE
    return cache / "transform" / hashlib.sha256(output.rstrip("/").encode()).hexdigest()[:24]


def check_writable(place: str) -> None:
    """Make the folder.

    Raises:
        TransformError: it is a file, or cannot be made or written to.
    """
    if place.startswith("s3://"):
        s3.check_boto3(place)
        return
    try:
        with contextlib.suppress(FileExistsError):
            Path(place).mkdir(parents=True)
    except OSError as exc:
        raise TransformError(
            f"--output {place} cannot be made: {exc.strerror}; name another folder"
        ) from exc
    if not Path(place).is_dir():
        raise TransformError(f"--output {place} is a file; name a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise TransformError(
            f"--output {place} cannot be written to; name another folder, or let this user write "
            "to it"
        )
