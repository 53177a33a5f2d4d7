"""Files in a model's MAR-INF in which its workers tell ``serve`` how they are.

A worker's log has the same, but a script may have printed what is read there.  These files lie in
serve's private store.  A worker writes them only if ``serve`` started it.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Mapping

#: Why the model cannot be loaded.
LOAD_ERROR = "MAR-INF/load-error"

#: The phase of loading that began last.
LOAD_PHASE = "MAR-INF/load-phase"

#: How long each phase of the latest load took: a line each, the seconds after a tab.
LOAD_TIMES = "MAR-INF/load-times"

#: The inputs and outputs of the model, as JSON.
SCHEMA = "MAR-INF/schema.json"

#: What computes the model's predictions: "onnx" or "mxnet".
ENGINE = "MAR-INF/engine"

#: The ids of a worker's requests; its process id is appended.
_REQUESTS = "MAR-INF/requests-"

#: What was learned from a request, as JSON; what stands for its shapes is appended.  The file is
#: empty while a worker tries.
_LEARNED = "MAR-INF/learned-"

#: Characters of a text that are read; causes.MAX_TEXT and the place in the script are fewer.
_MAX_LENGTH = 4_000


def forget_load(folder: Path) -> None:
    """Remove what workers wrote about earlier loads of the model in ``folder``."""
    for name in (LOAD_ERROR, LOAD_PHASE, LOAD_TIMES, ENGINE):
        (folder / name).unlink(missing_ok=True)


def write_load_error(folder: Path, reason: str) -> None:
    """Write why the model in ``folder`` cannot be loaded; a full disk only loses the reason."""
    _write(folder / LOAD_ERROR, reason)


def write_load_phase(folder: Path, phase: str) -> None:
    """Write which phase of loading the model in ``folder`` begins."""
    _write(folder / LOAD_PHASE, phase)


def write_load_times(folder: Path, seconds: Mapping[str, float]) -> None:
    """Write how long each phase took of the load of the model in ``folder``."""
    lines = (f"{phase}\t{took_s:.6f}\n" for phase, took_s in seconds.items())
    _write(folder / LOAD_TIMES, "".join(lines))


def write_schema(folder: Path, text: str) -> None:
    """Write what the model in ``folder`` takes and gives, as JSON."""
    _write(folder / SCHEMA, text)


def read_schema(folder: Path) -> str:
    """What a worker wrote about the model's inputs and outputs; "" if none did."""
    with contextlib.suppress(OSError):
        return (folder / SCHEMA).read_text("utf-8", "replace")
    return ""


def write_engine(folder: Path, engine: str) -> None:
    """Write what computes the predictions of the model in ``folder``."""
    _write(folder / ENGINE, engine)


def read_engine(folder: Path) -> str:
    """What computes a model's predictions, as a worker wrote it; "" if none did."""
    return _read(folder / ENGINE)[0]


def _write(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}-{os.getpid()}")  # another worker may write as well
        partial.write_text(text, "utf-8", "backslashreplace")
        os.replace(partial, path)


def read_load_error(folder: Path, within_s: float = 60) -> str:
    """Why a worker could not load the model within the last seconds; "" if no worker wrote it."""
    text, seconds = _read(folder / LOAD_ERROR)
    return text if seconds <= within_s else ""


def read_load_phase(folder: Path) -> tuple[str, float] | None:
    """The phase of loading that a worker began last, and for how many seconds it has lasted."""
    text, seconds = _read(folder / LOAD_PHASE)
    return (text, seconds) if text else None


def read_load_times(folder: Path) -> dict[str, float]:
    """How long each phase took of the latest load that succeeded; {} if it is not known."""
    pairs = (line.partition("\t") for line in _read(folder / LOAD_TIMES)[0].splitlines())
    try:
        return {phase: float(seconds) for phase, _, seconds in pairs if phase.isidentifier()}
    except ValueError:
        return {}


def _read(path: Path) -> tuple[str, float]:
    """A file's text, and how many seconds ago it was written; "" if it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_LENGTH), time.time() - path.stat().st_mtime
    except OSError:
        return "", 0


def claim_learning(folder: Path, shapes: str, limit: int, within_s: float) -> bool:
    """Whether this worker shall learn from a request of ``shapes``, a part of a file's name.

    Only one worker learns at a time, for ``within_s`` seconds at most; from requests of each
    shape once, and of ``limit`` shapes.
    """
    path = folder / f"{_LEARNED}{shapes}"
    others = [other.stat() for other in path.parent.glob(f"{Path(_LEARNED).name}*")]
    tries = any(not other.st_size and time.time() - other.st_mtime < within_s for other in others)
    if tries or len(others) >= limit:
        return False
    try:
        path.parent.mkdir(exist_ok=True)
        path.open("x").close()
    except OSError:
        return False
    return True


def write_learned(folder: Path, shapes: str, text: str) -> None:
    """Write what was learned from a request of ``shapes``."""
    _write(folder / f"{_LEARNED}{shapes}", text)


def written_ns(folder: Path) -> int:
    """When a file of a model was last made or replaced; 0 if none was."""
    with contextlib.suppress(OSError):
        return (folder / _LEARNED).parent.stat().st_mtime_ns
    return 0


def read_learned(folder: Path) -> dict[str, str]:
    """What was learned, by the requests' shapes; "" for what a worker still tries."""
    place = folder / _LEARNED
    paths = sorted(place.parent.glob(f"{place.name}*"))
    return {path.name[len(place.name) :]: path.read_text() for path in paths}


def requests_path(folder: Path, pid: int) -> Path:
    """The file with the ids of a worker's requests, a line each, ended by a zero."""
    return folder / f"{_REQUESTS}{pid}"


def with_requests(folder: Path) -> list[int]:
    """The process ids of the workers that have such a file, those that have ended among them."""
    names = [path.name for path in requests_path(folder, 0).parent.glob(f"{Path(_REQUESTS).name}*")]
    return [int(name.rpartition("-")[2]) for name in names]


def take_requests(folder: Path, pid: int) -> list[str]:
    """The ids of the requests that a worker had when it ended.  Its file is removed."""
    path = requests_path(folder, pid)
    try:
        text = path.read_bytes().partition(b"\0")[0].decode("ascii", "replace")
        path.unlink()
    except OSError:
        return []
    return text.split("\n") if text else []
