"""The models of a running server: registered, scaled, restarted, unregistered.

It completes what MMS leaves half done: a name that stays after a failed load, workers that outlive
their model, files of a model that is gone.
"""

from __future__ import annotations

import contextlib
import json
import threading
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
)
from mms_handler.server import machine, model_processes, sizing
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.sources import Source
from mms_handler.server.store import Store
from mms_handler.server.watch import WorkerDeaths
from mms_handler.settings import Settings


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
    """

    url: str
    serving: Serving
    listener: psutil.Process


class Registry:
    """The only way to add and remove models.  Safe to call from several threads."""

    def __init__(
        self, front_end: FrontEnd, store: Store, settings: Settings, deaths: WorkerDeaths
    ) -> None:
        """Take charge of the models of a front end.

        Args:
            front_end: the front end; it has no model yet.
            store: an empty store that nothing else writes to.
            settings: the memory to plan with, and how long a sample may take.
            deaths: hears of workers that are started on purpose.
        """
        self._front_end, self._store = front_end, store
        self._settings, self._deaths = settings, deaths
        self._models: dict[str, Model] = {}
        self._reserved: dict[str, int] = {}  # bytes for each model that is being registered
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
        answer = json.loads(client.describe(self._front_end.management_url, name).body)
        (description,) = answer if isinstance(answer, list) else [answer]
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
        if name in self._models or name in self._reserved:
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
        with self._memory_reserved(name, serving.workers * sizing.estimate(source.size_bytes)):
            folder = self._store.put(source)
            try:
                self._load(name, serving)
                self._answer_sample(name, folder)
                listener = self._listener(name)
            except BaseException:
                self._remove(name)
                raise
            with self._lock:
                self._models[name] = Model(source.url, serving, listener)

    @contextlib.contextmanager
    def _memory_reserved(self, name: str, need_bytes: int) -> Iterator[None]:
        """Reserve the name and the memory of a model while it is being registered."""
        with self._lock:
            self._check_free(name)
            free_bytes = self._free_bytes() - sum(self._reserved.values())
            if need_bytes > free_bytes:
                raise OutOfResources(
                    f"{name} needs about {need_bytes >> 20} MB, but only "
                    f"{max(free_bytes, 0) >> 20} MB are free; unregister another model first"
                )
            self._reserved[name] = need_bytes
        try:
            yield
        finally:
            with self._lock:
                del self._reserved[name]

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
        self._deaths.expect(name, serving.workers)
        url = self._front_end.management_url
        answer = client.register(url, name, name, **serving._asdict())
        if answer.status == 200:
            return
        reason = self._front_end.log.text_after(f"cannot load model {name}: ") or answer.message()
        if answer.status == OutOfResources.status:
            raise OutOfResources(f"{name} cannot be served: {reason}")
        raise ServerError(f"{name} cannot be served: {reason}")

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

        Raises:
            NoSuchModel: there is none of that name.
            ServerError: MMS could not start them.
        """
        serving = self.model(name).serving
        self._deaths.expect(name, max(0, workers - serving.workers))
        url = self._front_end.management_url
        answer = client.scale(url, name, workers, serving.timeout_s)
        if answer.status != 200:
            raise ServerError(f"could not start {workers} workers for {name}: {answer.message()}")
        with self._lock:
            model = self._models.get(name)  # it may have been unregistered meanwhile
            if model:
                serving = model.serving._replace(workers=workers)
                self._models[name] = model._replace(serving=serving)

    def workers_that_fit(self, name: str, limit: int) -> int:
        """How many workers memory allows, judging by what this model's use now; 1 to ``limit``."""
        worker_bytes = max(1, machine.used_bytes(self._processes(name)))
        return 1 + min(limit - 1, max(0, self._free_bytes()) // worker_bytes)

    def unregister(self, name: str) -> None:
        """Unregister a model; its processes and files are gone when this returns.

        Raises:
            NoSuchModel: there is none of that name.
        """
        with self._lock:
            if self._models.pop(name, None) is None:
                raise NoSuchModel(f"no model is called {name}")
        self._remove(name)

    def _remove(self, name: str) -> None:
        self._end(name)
        self._store.remove(name)
        self._deaths.forget(name)

    def _end(self, name: str) -> None:
        processes = self._processes(name)
        client.unregister(self._front_end.management_url, name)  # 404 if MMS already did
        model_processes.wait_for_end(processes)

    def _processes(self, name: str) -> list[psutil.Process]:
        return model_processes.of_model(self._front_end.process.pid, name)

    # --- mending ---

    def mend(self) -> dict[str, str]:
        """Register again the models that lack a worker and have no listener to fork one.

        MMS does not.  If only the listener is gone, the workers go on serving.

        Returns:
            The models that can no longer be loaded, with the reasons.  They are unregistered.
        """
        with self._lock:
            orphaned = [
                name
                for name, model in self._models.items()
                if not model_processes.is_alive(model.listener)
            ]
        reasons = {name: self._restart(name) for name in orphaned if self._lacks_workers(name)}
        return {name: reason for name, reason in reasons.items() if reason}

    def _lacks_workers(self, name: str) -> bool:
        with contextlib.suppress(NoSuchModel):
            return len(self._processes(name)) < self.model(name).serving.workers
        return False

    def _restart(self, name: str) -> str:
        """Register a model again, with its files in the store; "", or the reason why it failed."""
        with self._lock:
            model = self._models.pop(name, None)
            if model is None:  # unregistered meanwhile
                return ""
            self._reserved[name] = 0  # keeps the name taken
        try:
            self._end(name)
            self._load(name, model.serving)
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
                del self._reserved[name]
