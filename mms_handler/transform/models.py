"""The model of a job: where it is, what it is called by, and how many processes can have it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Iterator, NamedTuple

from mms_handler import archive
from mms_handler.errors import TransformError
from mms_handler.server import machine, sizing
from mms_handler.settings import Settings

_CHUNK_BYTES = 2**20

#: What a process's parts may take beside its model: the largest part with its arrays.
_PART_BYTES = 120 * 2**20

#: Of this machine's memory, for the system and for what runs beside.
_SPARE = 0.1


class Unpacked(NamedTuple):
    """A model as a folder.

    Attributes:
        folder: the model_dir.
        script: a script that is not in it; None: its own.
        checksum: changes when a file of the model or the script does.
        size_bytes: of its files.
    """

    folder: Path
    script: Path | None
    checksum: str
    size_bytes: int


@contextlib.contextmanager
def unpacked(place: str, script: Path | None) -> Iterator[Unpacked]:
    """Yield a model for the length of a ``with`` block.

    Args:
        place: a folder, an archive, or the address of one in S3.
        script: a script, or a folder with one, to use instead of the model's own.

    Raises:
        ArchiveError: it cannot be fetched, or is not safe.
        TransformError: it does not exist.
        ScriptError: ``script`` is not a script.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-transform-") as name:
        scratch, path = Path(name), Path(place)
        if place.startswith("s3://"):
            (scratch / "fetched").mkdir()
            path = archive.fetch(place, scratch / "fetched", [place])
        if not path.exists():
            raise TransformError(f"{place} does not exist; pass a folder, an archive or a URL")
        script = archive.script_at(script) if script else None
        folder = path.resolve()
        if path.is_file():
            folder = archive.unpack_any(path, scratch)[0]
        files = [folder, *([script.parent] if script else [])]
        yield Unpacked(folder, script, _checksum(files), archive.size(folder))


def _checksum(folders: list[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder)
            if "__pycache__" in name.parts or not file.is_file():
                continue
            digest.update(os.fsencode(name) + b"\0%d\0" % file.stat().st_size)
            with file.open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    digest.update(chunk)
    return digest.hexdigest()


def memory_bytes(size_bytes: int) -> int:
    """What a process takes that has a model, whose files have ``size_bytes``, and its parts."""
    return sizing.estimate(size_bytes) + _PART_BYTES


def crew(settings: Settings, size_bytes: int, workers: int | None) -> tuple[int, int]:
    """How many processes are to have a model, and how many threads each is to use.

    Args:
        settings: with the numbers of workers and threads, which may be None.
        size_bytes: of the model's files.
        workers: as asked for; None: as many as memory and cores allow.
    """
    here = machine.this_machine()
    cores = max(1, int(here.cpus))
    limit_bytes = settings.memory_bytes or here.memory_bytes
    free_bytes = min(limit_bytes, machine.available_bytes()) - int(limit_bytes * _SPARE)
    fitting = free_bytes // memory_bytes(size_bytes)
    count = workers or settings.workers or max(1, min(cores // (settings.threads or 1), fitting))
    return count, settings.threads or sizing.threads_of(cores, count, [size_bytes])
