"""Files on this machine: list a folder's, write one whole or not at all, save a download."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Callable, Iterable, Iterator

from mms_handler.errors import ArchiveError


def check_free(target: Path, force: bool) -> None:
    """Check that ``target`` may be written.

    Raises:
        ArchiveError: it exists, and ``force`` is False.
    """
    if target.exists() and not force:
        raise ArchiveError(f"{target} already exists; --force replaces it")


@contextlib.contextmanager
def replacing(target: Path, force: bool) -> Iterator[Path]:
    """Yield a path to write to.  It becomes ``target`` when the ``with`` block succeeds.

    Raises:
        ArchiveError: ``target`` exists, and ``force`` is False.
    """
    check_free(target, force)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def walk(folder: Path, keep: Callable[[Path], bool] = lambda path: True) -> dict[str, Path]:
    """The files in ``folder`` that pass ``keep``, by their names relative to it, sorted.

    Args:
        folder: the top.
        keep: called for each file and folder; a folder that does not pass is not entered.

    Raises:
        ArchiveError: there is a link, or something that is neither a file nor a folder.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not keep(path):
            continue
        if path.is_symlink():
            raise ArchiveError(f"{path} is a link; replace it with the file itself")
        if path.is_dir():
            deeper = walk(path, keep)
            files.update({f"{path.name}/{name}": file for name, file in deeper.items()})
        elif path.is_file():
            files[path.name] = path
        else:
            raise ArchiveError(f"{path} is neither a file nor a folder")
    return files


def save(
    chunks: Iterable[bytes],
    target: Path,
    source: str,
    max_bytes: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
) -> None:
    """Write a download to ``target``.

    Args:
        chunks: the download.
        target: the file to write.
        source: where it comes from, for messages.
        max_bytes: the largest download allowed; None for any.
        progress: called with the size of each chunk in bytes; if the download fails, with the
            negative sum.

    Raises:
        ArchiveError: ``source`` has more than ``max_bytes``.
    """
    written = 0
    try:
        with target.open("wb") as file:
            for chunk in chunks:
                if max_bytes is not None and written + len(chunk) > max_bytes:
                    raise ArchiveError(f"{source} has more than {max_bytes:,} bytes")
                file.write(chunk)
                written += len(chunk)
                progress(len(chunk))
    except BaseException:
        progress(-written)
        raise
