"""The phases of loading: each is timed, and what fails in it is a LoadError with its name."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterable, Iterator, NamedTuple

from mms_handler import causes, worker_files
from mms_handler.errors import HandlerError, LoadError
from mms_handler.script.frames import as_edited, script_traceback
from mms_handler.settings import Settings
from mms_handler.worker.mms import fork_server

log = logging.getLogger(__name__)


class Worker(NamedTuple):
    """What a worker loads, and where.

    Attributes:
        model_dir: folder with the artifacts and ``code/``.
        context: MMS's.
        settings: this process's.
        gpu_id: the GPU that MMS assigned; after ``start_mxnet`` the one used; None: the CPU.
        seconds: how long each phase has taken, by name.
        doubts: sentences about names in the script that are nearly those of the contract.
        gpus: how many GPUs MXNet can use.
        device: MXNet's device for ``gpu_id``; None until MXNet is imported.
        script: the script, if it is not in the model_dir.
    """

    model_dir: Path
    context: Any
    settings: Settings
    gpu_id: int | None
    seconds: dict[str, float]
    doubts: list[str]
    gpus: int = 0
    device: Any = None
    script: Path | None = None

    @property
    def folders(self) -> list[str]:
        """The folders of the script's files: the model_dir, and its own if that is elsewhere."""
        elsewhere = [str(self.script.parent)] if self.script else []
        return [str(self.model_dir), *elsewhere]


@contextmanager
def phase(name: str, worker: Worker) -> Iterator[None]:
    """A phase of loading.  An exception in it becomes a LoadError that names the phase."""
    start = time.monotonic()
    if worker.settings.supervised:
        worker_files.write_load_phase(worker.model_dir, name)
    try:
        yield
    except BaseException as exc:
        cause = as_edited(causes.cause(exc, *worker.folders), worker.folders[0])
        text = "; ".join([cause, *worker.doubts])
        is_ours = isinstance(exc, HandlerError)  # its text says it all
        traceback = "" if is_ours else script_traceback(exc, *worker.folders)
        raise LoadError(f"{name}: {text}", traceback) from exc
    finally:
        worker.seconds[name] = worker.seconds.get(name, 0) + time.monotonic() - start
    fork_server.end_phase(name)


def note(doubts: Iterable[str], worker: Worker) -> None:
    """Log sentences about a script, and keep them: they may be why a later phase fails."""
    for doubt in doubts:
        log.warning("%s", doubt)
        worker.doubts.append(doubt)
