"""The model of a job on a node of a Ray cluster: its files go there packed, and it loads there."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Mapping

from mms_handler import __version__
from mms_handler.errors import TransformError
from mms_handler.transform.handover import Files
from mms_handler.transform.local import LocalWorker
from mms_handler.transform.models import Unpacked
from mms_handler.transform.part import DonePart, Options, Part
from mms_handler.transform.process import Setup

_MODEL, _SCRIPT = "model", "script"


class Packed:
    """The files of a model and of its script, to be sent."""

    def __init__(self, model: Unpacked) -> None:
        self._script = f"{_SCRIPT}/{model.script.name}" if model.script else ""
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w", dereference=True) as tar:
            tar.add(model.folder, _MODEL, filter=_without_caches)
            if model.script:
                tar.add(model.script.parent, _SCRIPT, filter=_without_caches)
        self._files = written.getvalue()

    def unpack(self, folder: Path) -> tuple[Path, Path | None]:
        """Write the files; return the model's folder, and the script if it is not in there."""
        with tarfile.open(fileobj=io.BytesIO(self._files)) as tar:
            tar.extractall(folder)  # the job's own files, as its driver packed them
        return folder / _MODEL, folder / self._script if self._script else None


def _without_caches(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in Path(entry.name).parts else entry


class ModelActor:
    """A LocalWorker on a node.  Ray makes it, and calls one method at a time."""

    def __init__(self, packed: Packed, options: Options, variables: Mapping[str, str]) -> None:
        """Unpack the model; ``variables`` are those of the environment that it loads in."""
        # A new process would run the file of Ray's own main module first, which imports Ray.
        vars(sys.modules["__main__"]).pop("__file__", None)
        self._scratch = tempfile.TemporaryDirectory(prefix="mms-handler-transform-")
        folder, script = packed.unpack(Path(self._scratch.name))
        self._setup = Setup(folder, script, options, variables, os.getpid())
        self._worker: LocalWorker | None = None
        self._files = Files()

    def load(self, version: str) -> None:
        """Load the model; ``version`` is that of the driver's mms_handler.

        Raises:
            LoadError: it does not load.
            TransformError: this node has another version of mms_handler.
        """
        if version != __version__:
            raise TransformError(
                f"a node of the Ray cluster has mms_handler {__version__}, and this machine "
                f"{version}; install the same version on all"
            )
        self._worker = LocalWorker(self._setup, self._files)

    def process(self, part: Part) -> DonePart:
        """Process a part.

        Raises:
            HandlerError: the job cannot go on.
        """
        assert self._worker
        return self._worker.process(self._files.ready(part))

    def close(self) -> None:
        """End the model's process, and remove its files."""
        if self._worker:
            self._worker.close()
        self._scratch.cleanup()
