"""The models of a running server: registered, scaled, restarted, unregistered.

It completes what MMS leaves half done: a name that stays after a failed load, workers that outlive
their model, files of a model that is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import psutil

from mms_handler import client, manifest
from mms_handler.errors import (
    HandlerError,
    NameTaken,
    NoSuchModel,
    OutOfResources,
    ServerError,
    Unavailable,
)
from mms_handler.server import machine, model_processes, sizing
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.sources import Source
from mms_handler.server.store import Store
from mms_handler.server.watch import WorkerDeaths
from mms_handler.settings import Settings

log = logging.getLogger(__name__)

#: Seconds between attempts to mend a model: 1, 2, 4 and so on, and never more than this.
_MAX_DELAY_S = 8


class Serving(NamedTuple):
    """How a model is served.

    Fields:
        workers: processes with the model loaded.
        batch_size: requests that a worker may get together.
        max_batch_delay_ms: how long the first request of a batch waits for others.
        timeout_s: for one batch, and for loading.
    """

    workers: int
    batch_size: int
    max_batch_delay_ms: int
    timeout_s: int

    @classmethod
    def by_default(cls, settings: Settings) -> Serving:
        return cls(
            settings.workers or 1,
            settings.max_batch_size,
            settings.max_batch_delay_ms,
            settings.timeout_s,
        )


class Model(NamedTuple):
    """A registered model.

    Fields:
        url: where it came from, as it was given.
        serving: how it is served.
        listener: the process that forks its workers; MMS starts no second one if it dies.
        change: held while it is scaled, mended or unregistered.
    """

    url: str
    serving: Serving
    listener: psutil.Process
    change: threading.Lock


class Mending(NamedTuple):
    """A model that lost its processes and is not served until it can be loaded again.

    Fields:
        attempts: how often loading it has failed.
        next_s: monotonic time of the next attempt.
    """

    attempts: int
    next_s: float


class Registry:
    """The only way to add and remove models.  Safe to call from several threads."""

    def __init__(
        self, front_end: FrontEnd, store: Store, settings: Settings, deaths: WorkerDeaths
    ) -> None:
        """Take charge of the models of a front end.

        Args:
            front_end: the front end; it has no model yet.
            store: an empty store that nothing else writes to.
            settings: the memory to plan with, how long a sample may take, how often to mend.
            deaths: counts the deaths of the models' workers.
        """
        self._front_end, self._store = front_end, store
        self._settings, self._deaths = settings, deaths
        self._models: dict[str, Model] = {}
        self._mending: dict[str, Mending] = {}
        self._changing: set[str] = set()  # names that are being registered or unregistered
        self._reserved: list[int] = []  # bytes for each change that starts workers
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
        """MMS's description of a model, with the url that it was registered with.

        Raises:
            NoSuchModel: there is none.
        """
        url = self.model(name).url
        answer = client.describe(self._front_end.management_url, name)
        if answer.status != 200:  # it is being mended
            return {"modelName": name, "modelUrl": url, "workers": []}
        descriptions = json.loads(answer.body)
        (description,) = descriptions if isinstance(descriptions, list) else [descriptions]
        return {**description, "modelUrl": url}

    # --- registering ---

    def check_free(self, name: str) -> None:
        """Do nothing if ``name`` can be registered.

        Raises:
            ArchiveError: it cannot name a model.
            NameTaken: a model has that name, or is about to get it.
        """
        manifest.check_name(name)
        with self._lock:
            self._check_free(name)

    def _check_free(self, name: str) -> None:
        if name in self._models or name in self._changing:
            raise NameTaken(f"a model called {name} is registered or being registered")

    def register(self, source: Source, serving: Serving) -> None:
        """Serve a model; it answers requests when this returns.

        Raises:
            NameTaken: a model has that name.
            OutOfResources: the memory is not enough; nothing was started.
            ArchiveError: it is not safe, or broken.
            ServerError: it cannot be loaded, or cannot answer its sample; says why.
        """
        name = source.name
        with self._name_reserved(name), self._memory_reserved(
            name, serving.workers * sizing.estimate(source.size_bytes)
        ):
            folder = self._store.put(source)
            try:
                self._load(name, serving)
                self._answer_sample(name, folder)
                listener = self._listener(name)
            except BaseException:
                self._remove(name)
                raise
            with self._lock:
                self._models[name] = Model(source.url, serving, listener, threading.Lock())

    @contextlib.contextmanager
    def _name_reserved(self, name: str) -> Iterator[None]:
        """Keep a name from others while its model is being registered or unregistered."""
        with self._lock:
            self._check_free(name)
            self._changing.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._changing.discard(name)

    @contextlib.contextmanager
    def _memory_reserved(self, subject: str, need_bytes: int) -> Iterator[None]:
        """Reserve the memory that ``subject`` needs, while its workers load."""
        with self._lock:
            free_bytes = self._free_bytes() - sum(self._reserved)
            if need_bytes > free_bytes:
                raise OutOfResources(
                    f"{subject} needs about {need_bytes >> 20} MB, but only "
                    f"{max(free_bytes, 0) >> 20} MB are free; unregister another model first"
                )
            self._reserved.append(need_bytes)
        try:
            yield
        finally:
            with self._lock:
                self._reserved.remove(need_bytes)

    def _free_bytes(self) -> int:
        """Memory that is left: of the machine, and of what ``memory_bytes`` allows in all."""
        free_bytes = machine.available_bytes()
        if not self._settings.memory_bytes:
            return free_bytes
        java = self._front_end.process
        used_bytes = machine.used_bytes([java, *model_processes.of_all_models(java.pid)])
        return min(free_bytes, self._settings.memory_bytes - used_bytes)

    def _load(self, name: str, serving: Serving) -> None:
        """Register the model of the store with MMS; all its workers have loaded it afterwards."""
        folder = self._store.folder(name)
        (folder / manifest.LOAD_ERROR).unlink(missing_ok=True)
        url = self._front_end.management_url
        answer = client.register(url, name, name, **serving._asdict())
        if answer.status != 200:
            raise self._refusal(name, f"{name} cannot be served", answer)
        self._deaths.follow(name)

    def _refusal(self, name: str, subject: str, answer: client.Answer) -> HandlerError:
        """The error for workers that MMS could not start; a worker may have written the reason."""
        reason = self.load_error(name) or answer.message()
        if answer.status == OutOfResources.status:
            return OutOfResources(f"{subject}: {reason}")
        return ServerError(f"{subject}: {reason}")

    def load_error(self, name: str) -> str:
        """Why a worker of a model could not load it within the last minute; "" if none failed."""
        return manifest.read_load_error(self._store.folder(name))

    def _answer_sample(self, name: str, folder: Path) -> None:
        """Let the model answer the sample that was packed with it, if there is one."""
        packed = manifest.read_sample(folder)
        if packed is None:
            return
        sample, body = packed
        url = f"{self._front_end.inference_url}/predictions/{name}"
        timeout_s = self._settings.timeout_s
        answer = client.invoke(url, body, sample.content_type, sample.accept, timeout_s)
        if answer.status >= 400:
            raise ServerError(
                f"{name} cannot be served: it answers its own sample with {answer.status}: "
                f"{answer.message()}"
            )

    def _listener(self, name: str) -> psutil.Process:
        listener = model_processes.listener(self._front_end.process.pid, name)
        if listener is None:
            raise ServerError(f"{name} cannot be served: its processes ended right after the load")
        return listener

    # --- changing ---

    def scale(self, name: str, workers: int) -> None:
        """Serve a model with this many workers.

        Requests that surplus workers are answering are finished first, for as long as one may take.

        Raises:
            NoSuchModel: there is none of that name.
            OutOfResources: the memory is not enough; nothing has changed.
            Unavailable: the model is being mended.
            ServerError: MMS could not start them; the model has the workers that it had.
        """
        with self.model(name).change:
            model = self.model(name)  # it may have been changed or unregistered meanwhile
            if name in self._mending:
                raise Unavailable(f"{name} is being loaded again after its processes ended")
            more = max(0, workers - model.serving.workers)
            subject = f"{name} with {more} more worker{'s' if more > 1 else ''}"
            with self._memory_reserved(subject, more * self._worker_bytes(name)):
                self._set_workers(name, workers)

    def scale_to_fit(self, name: str, limit: int) -> None:
        """Serve a model that has one worker with as many as memory allows, up to ``limit``."""
        with self.model(name).change:
            request_bytes = sizing.request_bytes(self._settings)
            free_bytes = max(0, self._free_bytes() - request_bytes)  # the first worker's requests
            fitting = free_bytes // (self._worker_bytes(name) + request_bytes)
            self._set_workers(name, 1 + min(limit - 1, fitting))

    def _worker_bytes(self, name: str) -> int:
        """The memory of one worker of a model, judging by what its workers use now."""
        used_bytes = machine.used_bytes(self._processes(name))
        return max(1, used_bytes // self.model(name).serving.workers)

    def _set_workers(self, name: str, workers: int) -> None:
        model = self.model(name)
        serving = model.serving._replace(workers=workers)
        url = self._front_end.management_url
        if workers < model.serving.workers:
            client.retire(url, name, model.serving.workers - workers, serving.timeout_s)
        answer = client.scale(url, name, workers, serving.timeout_s)
        if answer.status != 200:
            error = self._refusal(name, f"could not start {workers} workers for {name}", answer)
            client.scale(url, name, model.serving.workers, serving.timeout_s)
            raise error
        with self._lock:
            self._models[name] = model._replace(serving=serving)

    def _reload(self, name: str, model: Model) -> None:
        """Register a model with MMS again, from its files in the store.

        Raises:
            HandlerError: it cannot be loaded.
        """
        mending = self._front_end.mending_file(name)
        with contextlib.suppress(OSError):  # on a full disk, clients get MMS's 404
            mending.touch()
        self._end(name)
        self._load(name, model.serving)
        model = model._replace(listener=self._listener(name))
        with self._lock:
            self._models[name] = model
            self._mending.pop(name, None)
        mending.unlink(missing_ok=True)

    def unregister(self, name: str) -> None:
        """Unregister a model; its processes and files are gone when this returns.

        Raises:
            NoSuchModel: there is none of that name.
        """
        with self.model(name).change:
            self.model(name)  # another thread may have unregistered it meanwhile
            self._forget(name)

    def _forget(self, name: str) -> None:
        """Unregister a model whose ``change`` is held."""
        with self._lock:
            del self._models[name]
            self._changing.add(name)
        try:
            self._remove(name)
        finally:
            with self._lock:
                self._mending.pop(name, None)
                self._changing.discard(name)

    def _remove(self, name: str) -> None:
        self._end(name)
        self._store.remove(name)
        self._deaths.forget(name)
        self._front_end.mending_file(name).unlink(missing_ok=True)

    def _end(self, name: str) -> None:
        processes = self._processes(name)
        url = self._front_end.management_url
        client.retire(url, name, len(processes), self._settings.drain_s)
        client.unregister(url, name)  # 404 if MMS already did
        model_processes.wait_for_end(processes)
        front_end = self._front_end
        model_processes.remove_sockets(front_end.process.pid, front_end.folder / "tmp")

    def _processes(self, name: str) -> list[psutil.Process]:
        return model_processes.of_model(self._front_end.process.pid, name)

    # --- mending ---

    def end_stopped(self, name: str) -> None:
        """Kill the stopped workers of a model of which a worker has died.

        MMS gives up a stopped worker that does not answer, and starts another one.  A busy one is
        killed when MMS closes its connection.  One that was idle would stay, with all its memory.
        """
        model_processes.kill_stopped(self._processes(name))

    def mend(self) -> dict[str, str]:
        """Register again the models that lack a worker and have no listener to fork one.

        MMS does not.  If only the listener is gone, the workers go on serving.  A model that cannot
        be loaded is tried again later; clients get 503 for it until then.

        Returns:
            The models that could not be loaded in too many attempts, with the reasons.  They are
            unregistered.
        """
        with self._lock:
            models = dict(self._models)
        reasons = {}
        for name, model in models.items():
            # A model that is changed meanwhile is looked at next time.
            if self._is_due(name, model) and model.change.acquire(blocking=False):
                try:
                    reasons[name] = self._mend(name, model)
                finally:
                    model.change.release()
        return {name: reason for name, reason in reasons.items() if reason}

    def _is_due(self, name: str, model: Model) -> bool:
        mending = self._mending.get(name)
        if mending:
            return time.monotonic() >= mending.next_s
        if model_processes.is_alive(model.listener):
            return False
        return len(self._processes(name)) < model.serving.workers

    def _mend(self, name: str, model: Model) -> str:
        """Try to load a model again, whose ``change`` is held; the reason, if it is given up."""
        with self._lock:
            current = self._models.get(name)
        if current is not model:  # changed or unregistered meanwhile
            return ""
        if name not in self._mending:
            self._deaths.add(name)
        attempts = 1 + self._mending.get(name, Mending(0, 0)).attempts
        try:
            self._reload(name, model)
        except HandlerError as exc:
            if attempts > self._settings.restarts:
                with contextlib.suppress(ServerError):  # MMS may not answer
                    self._forget(name)
                return str(exc)
            delay_s = min(2 ** (attempts - 1), _MAX_DELAY_S)
            self._mending[name] = Mending(attempts, time.monotonic() + delay_s)
            log.warning("%s; trying again in %d s", exc, delay_s)
        return ""
