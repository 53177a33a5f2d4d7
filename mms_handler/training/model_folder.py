"""The model's folder, which is empty when a script starts, as on SageMaker.

What an earlier run of ours left there is not mixed with the new model.  Files of anybody else are
neither packed nor removed unnoticed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Iterator

from mms_handler.errors import TrainingError

#: How many names a message lists.
_MAX_NAMES = 5


def check(folder: Path) -> None:
    """Check that all files in a model's folder were left there by an earlier run.

    Hidden files do not count: they are not packed.

    Raises:
        TrainingError: there are others.
    """
    recorded = _recorded(folder)
    if recorded is None:  # that run was killed, so nobody knows what it left
        return
    others = [name for name, state in _states(folder).items() if recorded.get(name) != state]
    if others:
        names = ", ".join([*others[:_MAX_NAMES], *(["..."] if len(others) > _MAX_NAMES else [])])
        raise TrainingError(
            f"the model's folder {folder} has files that no training left there: {names}; move "
            "them away, choose another --model-dir, or let --force remove them"
        )


@contextlib.contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """Empty a model's folder for a ``with`` block, and record which files the block leaves there.

    If the block raises and leaves no file, the earlier ones are there again.
    """
    earlier = _beside(folder, "earlier")
    shutil.rmtree(earlier, ignore_errors=True)  # of a run that was killed
    _record(folder, None)
    _move(folder, earlier)
    try:
        yield
    except BaseException:
        if not _visible(folder):
            _move(earlier, folder)
        raise
    finally:
        _record(folder, _states(folder))
        shutil.rmtree(earlier, ignore_errors=True)


def _visible(folder: Path) -> list[Path]:
    """The files and folders in ``folder`` that are not hidden."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _move(source: Path, target: Path) -> None:
    for path in _visible(source):
        target.mkdir(exist_ok=True)
        shutil.move(str(path), str(target / path.name))


def _states(folder: Path) -> dict[str, list[int]]:
    """The size and the time of each visible file, by its name relative to ``folder``."""
    states = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(parent, name)
            state = path.lstat()
            states[path.relative_to(folder).as_posix()] = [state.st_size, state.st_mtime_ns]
    return states


def _beside(folder: Path, name: str) -> Path:
    """A hidden file or folder beside a model's folder."""
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}-{name}")


def _record(folder: Path, states: dict[str, list[int]] | None) -> None:
    """Write which files a run left, or None while it runs.

    Where that cannot be written, the next run asks for --force.
    """
    with contextlib.suppress(OSError):
        _beside(folder, "files.json").write_text(json.dumps(states))


def _recorded(folder: Path) -> dict[str, list[int]] | None:
    """What ``_record`` wrote; empty if it wrote nothing."""
    with contextlib.suppress(OSError, ValueError):
        states = json.loads(_beside(folder, "files.json").read_text())
        return states if states is None or isinstance(states, dict) else {}
    return {}
