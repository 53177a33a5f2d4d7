"""The models of a running server: checked, registered, confirmed, unregistered.

What MMS leaves half done, this ends: a name that stays after a failed load, workers that
outlive their model, files of a model that is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import psutil

from mms_handler import archive, client, manifest
from mms_handler.errors import (
    HandlerError,
    NameTaken,
    NoSuchModel,
    OutOfResources,
    ServerError,
)
from mms_handler.server import machine, sizing
from mms_handler.server.front_end import Output
from mms_handler.server.store import Store
from mms_handler.server.watch import Watch
from mms_handler.settings import Settings

#: Seconds that the processes of an unregistered model may take to be gone.
_GONE_S = 10


class Wanted(NamedTuple):
    """How a model is to be served; MMS's names for it are in its management API."""

    workers: int
    batch_size: int
    max_batch_delay_ms: int
    timeout_s: int


class Model(NamedTuple):
    """A registered model."""

    url: str  # where it came from, as it was asked for
    wanted: Wanted
    listener: psutil.Process  # forks the workers; MMS starts no other one should it die


class Registry:
    """Every way in and out for models.  May be used from several threads."""

    def __init__(
        self,
        urls: tuple[str, str],
        store: Store,
        chosen: Settings,
        output: Output,
        java: psutil.Process,
        watch: Watch,
    ) -> None:
        """Take charge of the models of a front end.

        Args:
            urls: of MMS's inference and management APIs.
            store: where models are put; nobody else's.
            chosen: limits, and how models are served unless a registration says otherwise.
            output: what the front end prints; the reason of a failed load is found there.
            java: the front end's process; the models' are in its group.
            watch: is told of workers that are started on purpose.
        """
        self._inference, self._management = urls
        self._store, self._chosen, self._output = store, chosen, output
        self._java, self._watch = java, watch
        self._models: dict[str, Model] = {}
        self._coming: dict[str, int] = {}  # bytes wanted by those being registered
        self._lock = threading.Lock()

    # --- asking ---

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._models)

    def model(self, name: str) -> Model:
        """The model called ``name``.

        Raises:
            NoSuchModel: there is none.
        """
        with self._lock:
            if name not in self._models:
                raise NoSuchModel(f"no model is called {name}")
            return self._models[name]

    def describe(self, name: str) -> dict[str, Any]:
        """What MMS says of a model, with the address that it was registered with."""
        url = self.model(name).url
        found = json.loads(client.describe(self._management, name).body)
        (found,) = found if isinstance(found, list) else [found]
        return {**found, "modelUrl": url}

    # --- registering ---

    def check_free(self, name: str) -> None:
        """Do nothing if ``name`` can be registered.

        Raises:
            ArchiveError: it cannot name a model.
            NameTaken: a model is called so.
        """
        manifest.check_name(name)
        with self._lock:
            self._check_free(name)

    def _check_free(self, name: str) -> None:
        if name in self._models or name in self._coming:
            raise NameTaken(f"a model called {name} is registered, or about to be")

    def register(self, name: str, url: str, path: Path, wanted: Wanted) -> None:
        """Serve the model at ``path`` as ``name``; it answers when this returns.

        Raises:
            NameTaken: a model is called so.
            OutOfResources: it does not fit into the memory there is, so it was not tried.
            ArchiveError: it is unsafe or broken.
            ServerError: it does not load, or does not answer its sample; says why.
        """
        size_bytes = archive.size(path)
        with self._claimed(name, size_bytes, wanted.workers):
            folder = self._store.put(path, name)
            try:
                self._load(name, wanted)
                self._confirm(name, folder)
                listener = self._listener(name)
            except BaseException:
                self._remove(name)
                raise
            with self._lock:
                self._models[name] = Model(url, wanted, listener)

    @contextlib.contextmanager
    def _claimed(self, name: str, size_bytes: int, workers: int) -> Iterator[None]:
        """Keep the name and the memory of a model while it is being registered."""
        need = workers * sizing.estimate(size_bytes)
        with self._lock:
            self._check_free(name)
            free = self._free() - sum(self._coming.values())
            if need > free:
                raise OutOfResources(
                    f"{name} needs about {need >> 20} MB, {max(free, 0) >> 20} MB are free"
                )
            self._coming[name] = need
        try:
            yield
        finally:
            with self._lock:
                del self._coming[name]

    def _free(self) -> int:
        """Bytes that may still be used: of the memory planned with, and of what is there."""
        free = machine.available_bytes()
        planned = self._chosen.memory_bytes
        return (
            min(free, planned - machine.used_bytes([self._java, *self._family()]))
            if planned
            else free
        )

    def _load(self, name: str, wanted: Wanted) -> None:
        self._watch.expect(name, wanted.workers)
        answer = client.register(self._management, name, name, **wanted._asdict())
        if answer.status == 200:
            return
        reason = self._output.find(f"cannot load model {name}: ") or answer.message()
        if answer.status == OutOfResources.status:
            raise OutOfResources(f"{name} cannot be served: {reason}")
        raise ServerError(f"{name} cannot be served: {reason}")

    def _confirm(self, name: str, folder: Path) -> None:
        """Let the model answer the sample that was packed with it, if one was."""
        packed = manifest.read_sample(folder)
        if packed is None:
            return
        sample, body = packed
        url = f"{self._inference}/predictions/{name}"
        answer = client.invoke(
            url, body, sample.content_type, sample.accept, self._chosen.timeout_s
        )
        if answer.status >= 400:
            raise ServerError(
                f"{name} cannot be served: it answers its own sample with {answer.status}: "
                f"{answer.message()}"
            )

    # --- changing ---

    def scale(self, name: str, workers: int) -> None:
        """Serve a model with so many workers.

        Raises:
            NoSuchModel: there is none of the name.
            ServerError: MMS could not start them.
        """
        model = self.model(name)
        self._watch.expect(name, max(0, workers - model.wanted.workers))
        answer = client.scale(self._management, name, workers, model.wanted.timeout_s)
        if answer.status != 200:
            raise ServerError(f"{name} has not got {workers} workers: {answer.message()}")
        with self._lock:
            if name in self._models:  # it may have been unregistered meanwhile
                wanted = self._models[name].wanted._replace(workers=workers)
                self._models[name] = self._models[name]._replace(wanted=wanted)

    def fitting(self, name: str, most: int) -> int:
        """How many workers a model can have, up to ``most``, from what its own now use."""
        one = max(1, machine.used_bytes(self.processes(name)))
        return 1 + min(most - 1, max(0, self._free()) // one)

    def unregister(self, name: str) -> None:
        """Unregister a model; when this returns, its processes and files are gone.

        Raises:
            NoSuchModel: there is none of the name.
        """
        with self._lock:
            if self._models.pop(name, None) is None:
                raise NoSuchModel(f"no model is called {name}")
        self._remove(name)

    def _remove(self, name: str) -> None:
        self._end(name)
        self._store.remove(name)
        self._watch.forget(name)

    def _end(self, name: str) -> None:
        family = self.processes(name)
        client.unregister(self._management, name)  # 404 where MMS has done so itself
        _wait_for_end(family)

    def processes(self, name: str) -> list[psutil.Process]:
        """A model's listener and workers."""
        return [one for one in self._family() if _serves(one, name)]

    def _family(self) -> list[psutil.Process]:
        """Java's process group: an orphaned worker is no descendant of it any more."""
        return [one for one in psutil.process_iter() if _group(one) == self._java.pid != one.pid]

    def _listener(self, name: str) -> psutil.Process:
        for one in self._family():
            with contextlib.suppress(psutil.Error):
                if one.ppid() == self._java.pid and _serves(one, name):
                    return one
        raise ServerError(f"{name} cannot be served: its processes ended at once")

    def mend(self) -> dict[str, str]:
        """Start again the models that lack a worker and a listener to fork one; MMS does not.

        Workers that live on without a listener are left to serve.

        Returns:
            The models that do not load any more, each with the reason; they are unregistered.
        """
        with self._lock:
            orphaned = [name for name, model in self._models.items() if not _lives(model.listener)]
        reasons = {name: self._restart(name) for name in orphaned if self._lacks_workers(name)}
        return {name: reason for name, reason in reasons.items() if reason}

    def _lacks_workers(self, name: str) -> bool:
        with contextlib.suppress(NoSuchModel):
            return len(self.processes(name)) < self.model(name).wanted.workers
        return False

    def _restart(self, name: str) -> str:
        """Register a model anew, from the files in the store; or say why that cannot be."""
        with self._lock:
            model = self._models.pop(name, None)
            if model is None:  # unregistered meanwhile
                return ""
            self._coming[name] = 0  # the name stays taken
        try:
            self._end(name)
            self._load(name, model.wanted)
            model = model._replace(listener=self._listener(name))
        except HandlerError as exc:
            self._remove(name)
            return str(exc)
        else:
            with self._lock:
                self._models[name] = model
            return ""
        finally:
            with self._lock:
                del self._coming[name]


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _group(process: psutil.Process) -> int:
    with contextlib.suppress(OSError):
        return os.getpgid(process.pid)
    return 0


def _serves(process: psutil.Process, name: str) -> bool:
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        return "--model-name" in words and words[words.index("--model-name") + 1] == name
    return False


def _wait_for_end(family: list[psutil.Process]) -> None:
    """MMS kills a model's processes without waiting; what is left of them is killed here."""
    _, alive = psutil.wait_procs(family, _GONE_S)
    for one in alive:
        with contextlib.suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(alive, _GONE_S)
