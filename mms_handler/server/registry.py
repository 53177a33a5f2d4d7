"""The models that MMS has: loaded, scaled, loaded again, unloaded.

Each is a version of a model of ``versions``, and has a name of its own (``names``).  This module
keeps changes of one of them apart, and memory from others while one is loaded.  ``mms_models``
makes the changes.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, Iterator, NamedTuple

import psutil

from mms_handler import names, schema, worker_files
from mms_handler.errors import NoSuchModel, Unavailable
from mms_handler.server import documents, sizing
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.memory import Memory
from mms_handler.server.mms_models import MmsModels, Serving
from mms_handler.server.sources import Source
from mms_handler.server.store import Store
from mms_handler.server.watch import WorkerDeaths
from mms_handler.settings import Settings


class Mending(NamedTuple):
    """A model that lost its processes and is not served until it can be loaded again.

    Fields:
        failures: how often loading it has failed.
        next_s: monotonic time of the next attempt.
    """

    failures: int
    next_s: float


class Model(NamedTuple):
    """A version of a model.

    Fields:
        name: the model's, for clients.
        version: of the model.
        url: where it came from, as it was given.
        serving: how it is served; with 0 workers it is not loaded, and MMS does not know it.
        size_bytes: the size of its files.
        listener: the process that forks its workers; MMS starts no second one if it dies.  None if
            the model is not loaded.
        change: held while it is scaled, mended or unloaded.
        mending: None while it is served.
        signer: who signed it; "" for nobody.
    """

    name: str
    version: str
    url: str
    serving: Serving
    size_bytes: int
    listener: psutil.Process | None
    change: threading.Lock
    mending: Mending | None = None
    signer: str = ""


class Registry:
    """The only way to load and unload models.  Safe to call from several threads.

    Names are MMS's.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        store: Store,
        settings: Settings,
        deaths: WorkerDeaths,
        changed: Callable[[], None],
    ) -> None:
        """Take charge of the models of a front end.

        Args:
            front_end: the front end; it has no model yet.
            store: an empty store that nothing else writes to.
            settings: the memory to plan with, and how long a sample and a drain may take.
            deaths: counts the deaths of the models' workers.
            changed: called when a model can be asked that could not, or the other way round.
        """
        self._mms = MmsModels(front_end, store, deaths, settings)
        self._memory = Memory(front_end.process, settings.memory_bytes)
        self._store, self._request_bytes = store, sizing.request_bytes(settings)
        self._changed = changed
        self._models: dict[str, Model] = {}
        self._lock = threading.Lock()

    # --- asking ---

    def models(self) -> dict[str, Model]:
        """All models by name, as they are now."""
        with self._lock:
            return dict(self._models)

    def model(self, name: str) -> Model:
        """The model called ``name``.

        Raises:
            NoSuchModel: there is none.
        """
        with self._lock:
            if name in self._models:
                return self._models[name]
        raise NoSuchModel(f"Model not found: {names.shown(name)}")

    def describe(self, name: str) -> dict[str, Any]:
        """MMS's description of a model, under the name that clients know.

        Raises:
            NoSuchModel: there is none.
        """
        model = self.model(name)
        if model.listener:
            description = self._mms.describe(name)
        else:
            description = {
                "minWorkers": 0,
                "maxWorkers": 0,
                "batchSize": self._mms.batch_size(name, model.serving),
                "workers": [],
            }
        for_clients: dict[str, Any] = {
            "modelName": model.name,
            "modelVersion": model.version,
            "modelUrl": model.url,
            "maxBatchDelay": 0,
        }
        if model.signer:
            for_clients["signedBy"] = model.signer
        if tuned := self._mms.tuned(name):
            for_clients["tuned"] = {"cpus": tuned.cpus, **tuned.settings()}
        if engine := worker_files.read_engine(self._store.folder(name)):
            for_clients["engine"] = engine
        arrays = documents.schema_in(self._store.folder(name))
        described = schema.encode(arrays) if any(arrays) else {}
        return {**description, **for_clients, **described}

    def load_error(self, name: str) -> str:
        """Why a worker of a model could not load it within the last minute; "" if none failed."""
        return self._mms.load_error(name)

    def processes(self, name: str) -> list[psutil.Process]:
        """The listener and the workers of a model."""
        return self._mms.processes(name)

    # --- loading and unloading ---

    def load(self, name: str, version: str, source: Source, serving: Serving) -> None:
        """Load a model under a name that none has; it answers requests when this returns.

        With 0 workers it is only there to be scaled.

        Raises:
            OutOfResources: the memory is not enough; nothing was started.
            ArchiveError: it is not safe, or broken.
            ServerError: it cannot be loaded, or cannot answer its sample; says why.
        """
        model = Model(
            source.name,
            version,
            source.url,
            serving,
            source.size_bytes,
            None,
            threading.Lock(),
            signer=source.signer,
        )
        with self._first_of(name, model, serving) as first:
            self._store.put(name, source)
            with _undone(self._mms.remove, name):
                if first.workers:
                    model = self._loaded(name, model, first)
        with _undone(self._mms.remove, name):
            self.replace(name, self._with_others(name, model, serving))

    @contextlib.contextmanager
    def _first_of(self, name: str, model: Model, serving: Serving) -> Iterator[Serving]:
        """Reserve memory, judging by a model's files, for the workers that are loaded first.

        Those are all, or one if all need not fit: it shows what the others need, which may share
        most of it.

        Raises:
            OutOfResources: not even one fits.
        """
        worker_bytes, first = sizing.estimate(model.size_bytes), serving
        if serving.workers * worker_bytes > self._memory.unreserved_bytes():
            first = serving._replace(workers=min(1, serving.workers))
        with self._memory.reserved(names.shown(name), first.workers * worker_bytes):
            yield first

    def _loaded(self, name: str, model: Model, first: Serving) -> Model:
        """A model after its first workers have loaded it and answered its sample."""
        listener = self._mms.load(name, first)
        self._mms.answer_sample(name, self._store.folder(name))
        return model._replace(serving=first, listener=listener)

    def _with_others(self, name: str, model: Model, serving: Serving) -> Model:
        """A model after it has got the workers that were not loaded first.

        Raises:
            OutOfResources: the memory is not enough.
        """
        if serving.workers > model.serving.workers:
            with self._memory_for(name, model, serving.workers):
                self._mms.scale(name, model.serving, serving.workers)
        return model._replace(serving=serving)

    def _memory_for(
        self, name: str, model: Model, workers: int
    ) -> contextlib.AbstractContextManager[None]:
        """Reserve the memory for so many workers of a model, judging by those that it has."""
        had = model.serving.workers
        more = max(0, workers - had)
        subject = f"{names.shown(name)} with {more} more worker{'s' if more > 1 else ''}"
        return self._memory.reserved(subject, more * self._mms.worker_bytes(name, had))

    def unload(self, name: str) -> None:
        """Unload a model; its processes and files are gone when this returns.

        Raises:
            NoSuchModel: there is none of that name.
        """
        with self.model(name).change:
            self.model(name)  # another thread may have unloaded it meanwhile
            with self._lock:
                del self._models[name]
            self._mms.remove(name)

    # --- scaling ---

    def scale(self, name: str, min_workers: int, max_workers: int | None = None) -> None:
        """Serve a model with the workers that it has, but no fewer and no more than these numbers.

        Requests that surplus workers are answering are finished first, for as long as one may take.

        Args:
            name: the model's.
            min_workers: if it has fewer, it gets so many.
            max_workers: if it has more, it keeps so many; None for ``min_workers``.

        Raises:
            NoSuchModel: there is none of that name.
            OutOfResources: the memory is not enough; nothing has changed.
            Unavailable: the model is being mended.
            ServerError: they could not be started; the model has the workers that it had.
        """
        with self.model(name).change:
            model = self.model(name)  # it may have been changed or unloaded meanwhile
            if model.mending:
                raise Unavailable(
                    f"{names.shown(name)} is being loaded again after its processes ended"
                )
            limit = min_workers if max_workers is None else max_workers
            workers = max(min_workers, min(model.serving.workers, limit))
            if not model.serving.workers:
                self._load_first(name, model, workers)
                return
            with self._memory_for(name, model, workers):
                self._set_workers(name, model, workers)

    def _load_first(self, name: str, model: Model, workers: int) -> None:
        """Load a model that is registered without workers."""
        if not workers:
            return
        serving = model.serving._replace(workers=workers)
        with self._first_of(name, model, serving) as first, _undone(self._mms.unload, name):
            model = self._loaded(name, model, first)
        with _undone(self._mms.unload, name):
            self.replace(name, self._with_others(name, model, serving))

    def scale_to_fit(self, name: str, limit: int) -> None:
        """Serve a model that has one worker with as many as memory allows, up to ``limit``."""
        with self.model(name).change:
            model = self.model(name)
            # The first worker's requests need memory too.
            free_bytes = max(0, self._memory.free_bytes() - self._request_bytes)
            worker_bytes = self._mms.worker_bytes(name, 1)
            fitting = free_bytes // (worker_bytes + self._request_bytes)
            self._set_workers(name, model, 1 + min(limit - 1, fitting))

    def _set_workers(self, name: str, model: Model, workers: int) -> None:
        self._mms.scale(name, model.serving, workers)
        self.replace(name, model._replace(serving=model.serving._replace(workers=workers)))

    # --- for whoever holds a model's ``change`` ---

    @contextlib.contextmanager
    def unchanged(self, name: str, model: Model) -> Iterator[bool]:
        """Hold a model's ``change``; yields False if the model is or was being changed."""
        if not model.change.acquire(blocking=False):
            yield False
            return
        try:
            yield self.models().get(name) is model
        finally:
            model.change.release()

    def load_again(self, name: str, model: Model) -> None:
        """Register a model with MMS again; it is served from then on.

        Raises:
            HandlerError: it cannot be loaded.
        """
        listener = self._mms.load_again(name, model.serving)
        self.replace(name, model._replace(listener=listener, mending=None))

    def replace(self, name: str, model: Model) -> None:
        """Note that a model is served in another way now, or is not served for a while."""
        with self._lock:
            self._models[name] = model
        self._changed()


@contextlib.contextmanager
def _undone(undo: Callable[[str], None], name: str) -> Iterator[None]:
    """Undo for a model what the ``with`` block has begun, if it fails."""
    try:
        yield
    except BaseException:
        undo(name)
        raise
