"""A script's exception as its author reads it: the script's frames, and the files they edit.

The server serves a copy of a folder, and check an unpacked archive.  Who made the copy writes a
file into it that says where its files came from.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import json
import logging
import os
import traceback
from pathlib import Path
from typing import Iterable, Iterator, Mapping

from mms_handler.causes import name_in_folders

log = logging.getLogger(__name__)

#: The file of a copied model_dir that says where its files came from: JSON, path by path.
SOURCES = "MAR-INF/sources"


def write_sources(model_dir: Path, sources: Mapping[str, str | os.PathLike[str]]) -> None:
    """Say where the files of a copied or unpacked model_dir came from.

    Args:
        model_dir: the copy.
        sources: paths by the name of a file or folder in the copy; "" is the copy itself.
    """
    path = model_dir / SOURCES
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({name: str(source) for name, source in sources.items()}))


def script_traceback(exc: BaseException, *folders: str) -> str:
    """The traceback of ``exc`` from the script's first line on.

    The frames of this package and of MMS are left out, because the mistake is not there; unless
    the exception has never been in the script, or the level of the log is debug.  Paths are the
    ones that the author edits.

    Args:
        exc: raised by a script, or by us on its behalf.
        folders: the model_dir, and the script's own folder if that is elsewhere.

    Returns:
        Lines as Python prints them, the last one without its end.
    """
    formatted = traceback.TracebackException.from_exception(exc)
    causes = list(_causes(formatted))
    files = [frame.filename for cause in causes for frame in cause.stack]
    files += [cause.filename for cause in causes if getattr(cause, "filename", None)]
    debugging = log.isEnabledFor(logging.DEBUG)
    if not debugging and any(name_in_folders(file, folders) for file in files):
        for cause in causes:
            cause.stack[:] = _from_script(cause.stack, folders)
    sources = _read_sources(Path(folders[0]))
    for cause in causes:
        for frame in cause.stack:
            frame.line  # noqa: B018  # is read from the file now, while its name is the real one
            frame.filename = _source(frame.filename, folders[0], sources)
        if getattr(cause, "filename", None):  # a SyntaxError's
            cause.filename = _source(cause.filename, folders[0], sources)
    return as_edited("".join(formatted.format()).rstrip("\n"), folders[0])


def as_edited(text: str, model_dir: str) -> str:
    """A text about a copied model_dir, with the path of the original instead of the copy's."""
    source = _read_sources(Path(model_dir)).get("")
    return text.replace(model_dir, source) if source else text


def _causes(formatted: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    """An exception, and those that led to it."""
    yield formatted
    for cause in (formatted.__cause__, formatted.__context__):
        if cause is not None:
            yield from _causes(cause)


def _from_script(
    stack: Iterable[traceback.FrameSummary], folders: Iterable[str]
) -> list[traceback.FrameSummary]:
    """The frames from the first one in the script on, without ours; all but ours if none is."""
    frames = [frame for frame in stack if not frame.filename.startswith(_our_folders())]
    first = (i for i, frame in enumerate(frames) if name_in_folders(frame.filename, folders))
    return frames[next(first, 0) :]


@functools.lru_cache(maxsize=None)
def _our_folders() -> tuple[str, ...]:
    """The folders of this package and of MMS, and what imports or parses a file."""
    mms = importlib.util.find_spec("mms")
    places = list((mms and mms.submodule_search_locations) or ())
    folders = [str(Path(__file__).parents[1]), *places]
    return (*(folder + os.sep for folder in folders), "<frozen importlib", ast.__file__)


def _read_sources(model_dir: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        sources = json.loads((model_dir / SOURCES).read_text())
        return {str(name): str(source) for name, source in sources.items()}
    return {}


def _source(filename: str, model_dir: str, sources: Mapping[str, str]) -> str:
    """The path of the file that the author edits."""
    name = name_in_folders(filename, [model_dir])
    if name is None:
        return filename
    for prefix in sorted(sources, key=len, reverse=True):
        if not prefix or name == prefix or name.startswith(f"{prefix}/"):
            return os.path.join(sources[prefix], name[len(prefix) :].lstrip("/")).rstrip("/")
    return os.path.realpath(filename)
