"""The inputs of a job: which files or objects there are, and their bytes from any place on."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import glob
import gzip
import io
import re
from pathlib import Path
from typing import Any, BinaryIO, Iterator, NamedTuple, Sequence

from mms_handler import media
from mms_handler.archive import s3
from mms_handler.errors import TransformError

#: The folder in a job's output folder where its state is, which is no input.
STATE = ".mms-handler-transform"

#: Bytes that are read at once.
_CHUNK_BYTES = 2**20

_WILD = re.compile(r"[*?[]")


@functools.lru_cache(maxsize=1)
def s3_client() -> Any:
    """The client for all of a job's objects.

    Raises:
        ArchiveError: boto3 is not installed, or not set up.
    """
    return s3.client("an s3:// address")


class Input(NamedTuple):
    """A file or an object.

    Attributes:
        name: its path or key after the folder that the job has, with slashes.
        place: its path, or its s3:// address.
        size_bytes: of the file.
        version: changes when it is changed: the time of its last change, or its ETag.
    """

    name: str
    place: str
    size_bytes: int
    version: str

    def content_type(self) -> str:
        """The type of its records, by its name; JSON if that says nothing."""
        return media.type_of_file(Path(re.sub(r"\.gz\Z", "", self.name, flags=re.IGNORECASE)))


def list_inputs(place: str) -> list[Input]:
    """The inputs at a place, in the order of their names.

    Args:
        place: a file, a folder, a pattern such as ``data/*.csv``; or an s3:// address of an
            object, of a folder, which ends with /, or with a pattern.

    Raises:
        TransformError: there is none, or it cannot be listed.
        ArchiveError: S3 refuses.
    """
    inputs = list(_objects(place) if place.startswith("s3://") else _files(place))
    if not inputs:
        raise TransformError(
            f"--input {place}: there is no such file, folder or object, or nothing in it"
        )
    return checked(inputs)


def checked(inputs: Sequence[Input]) -> list[Input]:
    """The inputs in the order of their names.

    Raises:
        TransformError: a name could not be an output's in the output folder.
    """
    for each in inputs:
        parts = each.name.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in each.name:
            raise TransformError(
                f"the input {each.place} has a name that is not safe as an output's: {each.name!r}"
            )
    return sorted(inputs)


def _files(place: str) -> Iterator[Input]:
    path = Path(place)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if name.parts[0] != STATE and file.is_file():
                yield file_input(file, name.as_posix())
    elif path.exists():
        yield file_input(path, path.name)
    elif _WILD.search(place):
        folder = Path(re.split(r"[^/]*[*?[]", place, maxsplit=1)[0] or ".")
        for match in glob.glob(place, recursive=True):
            if Path(match).is_file():
                yield file_input(Path(match), Path(match).relative_to(folder).as_posix())


def file_input(path: Path, name: str) -> Input:
    """A file that is there, with the name that its output is to have."""
    status = path.stat()
    return Input(name, str(path), status.st_size, str(status.st_mtime_ns))


def _objects(place: str) -> Iterator[Input]:
    s3.split(f"{place}/.")  # there is a bucket
    bucket, key = place[len("s3://") :].partition("/")[::2]
    wild = _WILD.search(key)
    folder = key[: key.rfind("/", 0, wild.start() if wild else None) + 1]
    prefix = f"s3://{bucket}/{key[: wild.start()] if wild else key}"
    for each in s3.listed(prefix, s3_client()):
        is_wanted = fnmatch.fnmatchcase(each.key, key) if wild else True
        if not wild and not key.endswith("/") and key:
            is_wanted = each.key == key
        if is_wanted and not each.key.endswith("/"):  # consoles make objects for folders
            yield object_input(bucket, each, each.key[len(folder) :])


def object_input(bucket: str, found: s3.Object, name: str) -> Input:
    """An object that is there, with the name that its output is to have."""
    return Input(name, f"s3://{bucket}/{found.key}", found.size_bytes, found.etag)


class Opened(NamedTuple):
    """An input that is read.

    Attributes:
        stream: its bytes, unpacked.
        raw: the file itself; ``tell`` is how much of it was read.
    """

    stream: BinaryIO
    raw: Any


@contextlib.contextmanager
def opened(source: Input, gzipped: bool, offset: int = 0) -> Iterator[Opened]:
    """Open an input for the length of a ``with`` block.

    Args:
        source: the input.
        gzipped: whether it is to be unpacked.
        offset: where to begin, in bytes of the unpacked input.

    Raises:
        OSError: the file cannot be read; also from ``stream``.
        ArchiveError: the object cannot be read; also from ``stream``.
        TransformError: it is not the version that was found.
    """
    with contextlib.closing(_raw(source, 0 if gzipped else offset)) as raw:
        stream: Any = io.BufferedReader(raw, _CHUNK_BYTES)
        if gzipped:
            stream = io.BufferedReader(gzip.GzipFile(fileobj=stream), _CHUNK_BYTES)
            while offset > 0:
                skipped = len(stream.read(min(offset, _CHUNK_BYTES)))
                offset = offset - skipped if skipped else 0
        yield Opened(stream, raw)
        check_unchanged(source)


def _raw(source: Input, offset: int) -> Any:
    if source.place.startswith("s3://"):
        return s3.Reader(source.place, source.version, s3_client(), offset)
    raw = io.FileIO(source.place)
    raw.seek(offset)
    return raw


def check_unchanged(source: Input) -> None:
    """Do nothing if a file is as it was found; S3 sees to that for its objects.

    Raises:
        TransformError: it has another size or another time of its last change.
    """
    if source.place.startswith("s3://"):
        return
    now = file_input(Path(source.place), source.name)
    if now != source:
        raise TransformError(
            f"{source.place} has changed since this job began: it had {source.size_bytes} bytes, "
            f"and has {now.size_bytes}; give --overwrite to begin anew"
        )


def check_outside(place: str, output: str) -> None:
    """Do nothing if the outputs will not be among the inputs.

    Raises:
        TransformError: they will be.
    """
    if output.startswith("s3://") != place.startswith("s3://"):
        return
    if output.startswith("s3://"):
        inside = place.endswith("/") and f"{output.rstrip('/')}/".startswith(place)
    else:
        folder = Path(place).resolve()
        inside = folder.is_dir() and folder in [
            Path(output).resolve(),
            *Path(output).resolve().parents,
        ]
    if inside:
        raise TransformError(
            f"--output {output} is in the input {place}, so that outputs would become inputs; "
            "name another folder"
        )


def total_bytes(inputs: Sequence[Input]) -> int:
    """The size of all inputs together."""
    return sum(each.size_bytes for each in inputs)
