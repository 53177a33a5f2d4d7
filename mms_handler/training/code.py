"""The user's code, from where SageMaker says it is, into the code folder.

s3:// ──download──▶ archive ──unpack──┐
folder, file, file:// ──copy──────────┴──▶ code_dir/.mms-handler-xxxx ──rename──▶ code_dir

A code folder that is not empty is whole: what was fetched only half is never there under its name.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, Callable
from urllib.parse import unquote, urlsplit

from mms_handler.errors import TrainingError

#: What a folder is called while it is filled; one that is found was left by a process that died.
_STAGE = ".mms-handler-"
_ATTEMPTS = 5  # at a download whose connection breaks; requests that fail are botocore's to repeat
_CHUNK = 2**18  # bytes


def fetch(
    submit_directory: str,
    code_dir: Path,
    *,
    region: str | None = None,
    progress: Callable[[int], None] | None = None,
    replace: bool = False,
) -> Path:
    """The code is in ``code_dir``.

    Args:
        submit_directory: a folder, a tar archive or a file, by path or ``file://``;
            or ``s3://bucket/key`` of an archive or file.
        code_dir: made if it is not there; one that has files is left as it is.
        region: the bucket's; None leaves it to boto3.
        progress: told the bytes of a download as they come, less than 0 for those that a
            broken connection makes it fetch again.
        replace: fetch in any case, over files of the same name; the others stay.

    Returns:
        ``code_dir``.

    Raises:
        TrainingError: it is not there, cannot be read, or is an archive that is not safe.

    Source: CONTRACT A4.
    """
    if _is_filled(code_dir) and not replace:
        return code_dir
    try:
        code_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_STAGE, dir=code_dir) as scratch:
            stage = Path(scratch) / "code"
            stage.mkdir()
            _stage(_local(submit_directory, Path(scratch), region, progress), stage, code_dir)
            _put(stage, code_dir)
    except OSError as exc:
        raise TrainingError(f"the code {submit_directory} cannot be fetched: {exc}") from exc
    return code_dir


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(not p.name.startswith(_STAGE) for p in folder.iterdir())


def _local(
    source: str, scratch: Path, region: str | None, progress: Callable[[int], None] | None
) -> Path:
    """``source`` as a path on this machine, downloaded if it is elsewhere."""
    scheme, found, rest = source.partition("://")
    if not found:
        return Path(source)
    if scheme.lower() == "s3":
        return _download(source, scratch, region, progress or (lambda count: None))
    if scheme.lower() == "file" and rest.partition("/")[0] in ("", "localhost"):
        return Path("/" + unquote(rest.partition("/")[2]))
    raise TrainingError(
        f"the code {source} cannot be fetched: wanted s3://bucket/key.tar.gz, file:///folder, "
        "or the path of a folder, a tar.gz or a file"
    )


def _stage(source: Path, stage: Path, code_dir: Path) -> None:
    """Fill ``stage`` with what is in a folder or an archive, or with a file."""
    if source.is_dir():
        _copy_folder(source, stage, code_dir)
    elif not source.is_file():
        raise TrainingError(f"there is no code {source}")
    elif tarfile.is_tarfile(source):
        _unpack(source, stage)
    elif source.name.lower().endswith((".tar.gz", ".tgz", ".tar")):
        raise TrainingError(f"{source.name} is not a tar archive")
    else:
        shutil.copy(source, stage / source.name)


def _copy_folder(source: Path, stage: Path, code_dir: Path) -> None:
    if source.resolve() == code_dir.resolve():
        return
    if source.resolve() in code_dir.resolve().parents:
        raise TrainingError(f"the code {source} has the code folder {code_dir} within it")
    ignored = shutil.ignore_patterns("__pycache__", ".git")
    try:
        shutil.copytree(source, stage, ignore=ignored, dirs_exist_ok=True)
    except shutil.Error as exc:  # its text is a list of triples
        name, _, why = exc.args[0][0]
        raise TrainingError(f"{name} cannot be copied: {why}") from exc


def _put(stage: Path, folder: Path) -> None:
    """Move what is in ``stage`` into ``folder``, over what is called the same."""
    for path in sorted(stage.iterdir()):
        target = folder / path.name
        if path.is_dir() and target.is_dir():
            _put(path, target)
        else:
            os.replace(path, target)


# --- archives --------------------------------------------------------------------------------


def _unpack(path: Path, folder: Path) -> None:
    """Unpack a tar archive, if every entry of it is safe."""
    try:
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            for member in members:
                _check_member(member)
            for member in members:
                _write_member(archive, member, folder / member.name)
    except TrainingError:
        raise
    except Exception as exc:  # zlib's, lzma's and EOFError too: what is broken decides
        raise TrainingError(f"{path.name} cannot be unpacked: {exc}") from exc


def _check_member(member: tarfile.TarInfo) -> None:
    name = Path(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        raise TrainingError(f"the entry {member.name!r} leads out of the archive's folder")
    if member.issym() or member.islnk():
        raise TrainingError(f"the entry {member.name!r} is a link; put the file itself there")
    if not (member.isreg() or member.isdir()):
        raise TrainingError(f"the entry {member.name!r} is neither a file nor a folder")


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write one entry; of its mode only whether it may be run is kept."""
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    data = archive.extractfile(member)
    assert data is not None  # a regular file has some
    with data, target.open("wb") as out:
        shutil.copyfileobj(data, out)
    target.chmod(0o755 if member.mode & 0o100 else 0o644)


# --- S3 --------------------------------------------------------------------------------------


def _download(url: str, scratch: Path, region: str | None, progress: Callable[[int], None]) -> Path:
    """Download an object; a connection that breaks is tried again."""
    parts = urlsplit(url)
    bucket, key = parts.netloc, url.partition("://")[2].partition("/")[2]  # a key may have ? and #
    if not bucket or not key or key.endswith("/"):
        raise TrainingError(f"{url} names no object: wanted s3://bucket/key.tar.gz")
    target = scratch / Path(key).name
    client, broken, failed = _client(url, region)
    for attempt in range(_ATTEMPTS):
        try:
            _copy_object(client, bucket, key, target, progress)
            return target
        except broken as exc:
            if attempt == _ATTEMPTS - 1:
                raise TrainingError(f"{url} cannot be downloaded: {exc}") from exc
            time.sleep(0.1 * 2**attempt)
        except failed as exc:
            raise TrainingError(f"{url} cannot be downloaded: {exc}") from exc
    raise AssertionError("the last attempt returns or raises")


def _client(
    url: str, region: str | None
) -> tuple[Any, tuple[type[BaseException], ...], tuple[type[BaseException], ...]]:
    """S3's client, what it raises when a connection breaks, and all else that it raises."""
    try:
        import boto3
        from botocore import exceptions
        from botocore.config import Config
    except ImportError as exc:
        raise TrainingError(
            f"{url} needs boto3, which is not installed: pip install 'mms_handler[s3]'"
        ) from exc
    config = Config(retries={"mode": "standard", "max_attempts": _ATTEMPTS})
    broken = (exceptions.HTTPClientError, exceptions.IncompleteReadError)
    failed = (exceptions.BotoCoreError, exceptions.ClientError)
    session = boto3.session.Session()  # the default one keeps the credentials it first found
    return session.client("s3", region_name=region, config=config), broken, failed


def _copy_object(
    client: Any, bucket: str, key: str, target: Path, progress: Callable[[int], None]
) -> None:
    """Write an object to ``target``; what was told of an attempt that breaks is taken back."""
    told = 0
    try:
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        with target.open("wb") as file:
            for chunk in body.iter_chunks(_CHUNK):
                file.write(chunk)
                told += len(chunk)
                progress(len(chunk))
    except BaseException:
        progress(-told)
        raise
