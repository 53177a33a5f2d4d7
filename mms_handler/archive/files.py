"""Files: those of a folder, one that is there whole or not at all, one that is downloaded."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Callable, Iterable, Iterator

from mms_handler.errors import ArchiveError


def check_free(target: Path, force: bool) -> None:
    """Do nothing if ``target`` may be written.

    Raises:
        ArchiveError: it is there, and nobody said that it may be replaced.
    """
    if target.exists() and not force:
        raise ArchiveError(f"{target} is there already; --force replaces it")


@contextlib.contextmanager
def whole(target: Path, force: bool) -> Iterator[Path]:
    """Where to write ``target``: it gets its name when the ``with`` block ends well.

    Raises:
        ArchiveError: it is there, and ``force`` does not say that it may be replaced.
    """
    check_free(target, force)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def walk(folder: Path, kept: Callable[[Path], bool] = lambda path: True) -> dict[str, Path]:
    """The files in ``folder`` by their names relative to it, sorted, but for what is not kept.

    Raises:
        ArchiveError: it has a link, or what is neither a file nor a folder.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not kept(path):
            continue
        if path.is_symlink():
            raise ArchiveError(f"{path} is a link; put the file itself there")
        if path.is_dir():
            found.update({f"{path.name}/{name}": one for name, one in walk(path, kept).items()})
        elif path.is_file():
            found[path.name] = path
        else:
            raise ArchiveError(f"{path} is neither a file nor a folder")
    return found


def save(
    chunks: Iterable[bytes],
    target: Path,
    source: str,
    max_bytes: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> None:
    """Write a download; what ``progress`` was told of one that breaks is taken back.

    Raises:
        ArchiveError: ``source`` has more than ``max_bytes``.
    """
    told = 0
    try:
        with target.open("wb") as file:
            for chunk in chunks:
                if max_bytes is not None and told + len(chunk) > max_bytes:
                    raise ArchiveError(f"{source} has more than {max_bytes:,} bytes")
                file.write(chunk)
                told += len(chunk)
                progress(len(chunk))
    except BaseException:
        progress(-told)
        raise
