"""The models of a running server, each with one or more versions.

Each version is loaded as a model of its own in MMS (``registry``).  Here they are changed, a model
by one thread at a time; after each change the gate is told (``publication``).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Sequence

from mms_handler import names
from mms_handler.errors import (
    Conflict,
    HandlerError,
    NameTaken,
    NoSuchModel,
    ServerError,
    Unavailable,
)
from mms_handler.server.changes import Change
from mms_handler.server.failures import Failures
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.mms_models import Serving
from mms_handler.server.publication import Publication
from mms_handler.server.registry import Registry
from mms_handler.server.sources import Source
from mms_handler.server.state import State
from mms_handler.server.store import Store
from mms_handler.server.traffic import Traffic
from mms_handler.server.watch import WorkerDeaths
from mms_handler.settings import Settings

log = logging.getLogger(__name__)

#: Seconds between two looks at the requests of a version that gets no more of them.
_LOOK_S = 0.02


class Versions:
    """The only way to change which models and versions there are.  Safe to call from any thread.

    Attributes:
        registry: the versions, as MMS has them.
        failures: why models and versions are not there.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        store: Store,
        settings: Settings,
        deaths: WorkerDeaths,
        expected: Sequence[str] = (),
    ) -> None:
        """Take charge of a front end.

        Args:
            front_end: the front end; it has no model yet.
            store: an empty store that nothing else writes to.
            settings: for the registry; and whether the server is for many models.
            deaths: counts the deaths of the versions' workers.
            expected: the models that are about to be registered.  If there are such, /invocations
                can mean no other one.
        """
        self.registry = Registry(front_end, store, settings, deaths, self._republish)
        self.failures = Failures()
        self._front_end, self._store = front_end, store
        self._startup = frozenset(expected)
        self._expected = set(expected)
        self._traffic: dict[str, Traffic] = {}
        self._loads: dict[str, int] = {}  # of each model that there is
        self._changes: dict[str, Change] = {}
        self._leaving: set[str] = set()  # MMS's names of versions that are about to be unloaded
        self._lock = threading.Condition()
        self._publication = Publication(front_end, store, settings.multi_model, expected)

    # --- asking ---

    def names(self) -> list[str]:
        """The models."""
        with self._lock:
            return sorted(self._traffic)

    def state(self) -> State:
        """The models as they are now."""
        with self._lock:
            return State(
                self.registry.models(),
                dict(self._traffic),
                dict(self._changes),
                frozenset(self._expected),
                frozenset(self._leaving),
            )

    def list(self) -> list[dict[str, Any]]:
        """Name, version and url of each model, as it is served."""
        return self.state().listing()

    def find(self, name: str, version: str = "") -> str:
        """MMS's name of a version of a model, as ``State.find``."""
        return self.state().find(name, version)

    def serving(self, name: str) -> Serving | None:
        """How a model is served; None if there is no such model."""
        return self.state().serving(name)

    def describe(self, name: str, version: str = "") -> dict[str, Any]:
        """A model as it is served, with a line for each version; or one version.

        Raises:
            NoSuchModel: there is none.
        """
        state = self.state()
        change = state.changes.get(name)
        if change and state.is_being_registered(name):
            loading = change.describe(self._folder(name, change))
            return {"modelName": name, **loading, "workers": []}
        mms_name = self.find(name, version)
        description = self.registry.describe(mms_name)
        if "loadedAtStartup" in description:  # MMS was started without models
            description["loadedAtStartup"] = mms_name in self._startup
        if not version and name in state.traffic:
            described = state.describe(name)
            if change and change.version and change.mms_name not in state.models:
                loading = change.describe(self._folder(name, change))
                described.append({**loading, "state": "loading", "share": 0})
            description["versions"] = described
        return description

    def loading(self) -> str:
        """Which model is being loaded, for how long, and in which phase; "" if none is."""
        for name, change in self.state().changes.items():
            if change.url:
                return change.sentence(name, self._folder(name, change))
        return ""

    def _folder(self, name: str, change: Change) -> Path:
        return self._store.folder(change.mms_name or name)

    # --- loading ---

    @contextlib.contextmanager
    def reserved(self, name: str, url: str, replace: bool = False) -> Iterator[None]:
        """Keep other changes from a model while a version is loaded from ``url``.

        Args:
            name: the model's; none has it, unless ``replace``.
            url: where the version comes from.
            replace: whether it may be a version of a model that there is.

        Raises:
            ArchiveError: it cannot name a model.
            NameTaken: a model has that name, or is about to get it, or is not quite gone.
            Conflict: the model is being changed.
        """
        names.check_name(name)
        with self._lock:
            if not replace and name in {*self._traffic, *self._changes}:
                raise NameTaken(f"Model {name} is already registered.")
        with self._changing(name, url):
            try:
                yield
            finally:
                self._expected.discard(name)

    def register(self, source: Source, serving: Serving) -> None:
        """Serve a new model; it answers requests when this returns.

        Raises:
            ArchiveError, NameTaken: as ``reserved``.
            HandlerError: as ``load``.
        """
        with self.reserved(source.name, source.url):
            self.load(source, serving)

    def load(
        self, source: Source, serving: Serving, version: str = "", share: int | None = None
    ) -> str:
        """Load a version of a model that is ``reserved``; it is served when this returns.

        The version that was served until now has answered its requests then.  It is kept, and all
        that came before it is unloaded.

        Args:
            source: the version.
            serving: how it is served.
            version: by default the manifest's, or the next number.
            share: the percentage of the requests that it gets beside the version that is served.

        Returns:
            The version.

        Raises:
            Conflict: the model has a version of this name.
            HandlerError: as ``Registry.load``; what there was is served as before.
        """
        name = source.name
        with self._lock:
            old = self._traffic.get(name)
        version = self._new_version(name, version or source.version)
        mms_name = names.in_mms(name, version) if old else name
        new = Traffic(mms_name)
        if old:
            new = old.serving(mms_name) if share is None else old.sharing(mms_name, share)
        with self._lock:
            change = self._changes[name]._replace(version=version, mms_name=mms_name)
            self._changes[name] = change
        self._republish()
        self._load(mms_name, version, source, serving)
        try:
            self._route(name, new)
        except ServerError:
            self.registry.unload(mms_name)
            raise
        self._loads[name] = self._loads.get(name, 0) + 1
        if old and share is None:
            self._drain(old.served)
        self._unload_others(name, new, mms_name)
        return version

    def _load(self, mms_name: str, version: str, source: Source, serving: Serving) -> None:
        """As ``Registry.load``; a failure is remembered until a load of this model succeeds."""
        try:
            self.registry.load(mms_name, version, source, serving)
        except HandlerError as exc:
            self.failures.note(source.name, version, str(exc))
            raise
        self.failures.forget(source.name)

    def _new_version(self, name: str, version: str) -> str:
        """The name for a new version of a model, by default the next number."""
        there = [model.version for model in self.state().versions(name).values()]
        if not version:
            numbers = [int(each) for each in there if each.isdecimal()]
            return str(1 + max([self._loads.get(name, 0), *numbers]))
        if version in there:
            raise Conflict(
                f"{name} has a version {version}: give the new one another name with version=NAME"
            )
        return version

    # --- changing the traffic ---

    def serve(self, name: str, version: str) -> None:
        """Let a version answer all requests for its model; the served one is kept.

        Raises:
            NoSuchModel: there is no such version.
            Conflict: it has no workers, or the model is being changed.
            Unavailable: it is being mended.
        """
        with self._changing(name):
            self._serve(name, self.find(name, version))

    def roll_back(self, name: str) -> str:
        """Serve the version again that was served before; returns it.

        Raises:
            HandlerError: as ``serve``.
            Conflict: there is none.
        """
        with self._changing(name):
            self.find(name)
            previous = self._traffic[name].previous
            if previous is None:
                raise Conflict(
                    f"{name} has no version that was served before; to end a share, set it to 0"
                )
            self._serve(name, previous)
            return self.registry.model(previous).version

    def _serve(self, name: str, mms_name: str) -> None:
        self._check_ready(mms_name)
        new = self._traffic[name].serving(mms_name)
        self._route(name, new)
        self._unload_others(name, new, mms_name)

    def share(self, name: str, version: str, percent: int) -> None:
        """Let a version answer this percentage of the requests for its model.

        Raises:
            HandlerError: as ``serve``.
            Conflict: it is served.
            BadInput: the percentages of all versions would be more than 100.
        """
        with self._changing(name):
            mms_name = self.find(name, version)
            if percent:
                self._check_ready(mms_name)
            self._route(name, self._traffic[name].sharing(mms_name, percent))

    def _check_ready(self, mms_name: str) -> None:
        model = self.registry.model(mms_name)
        if model.mending:
            raise Unavailable(f"version {model.version} of {model.name} is being loaded again")
        if not model.listener:
            raise Conflict(
                f"version {model.version} of {model.name} has no workers: scale it first"
            )

    def scale(
        self, name: str, min_workers: int, max_workers: int | None = None, version: str = ""
    ) -> None:
        """Set a version's number of workers (``Registry.scale``), by default the served one's."""
        self.registry.scale(self.find(name, version), min_workers, max_workers)

    # --- unloading ---

    def unregister(self, name: str, wait: bool = True) -> None:
        """Unload all versions of a model; nobody gets its name before their files are gone.

        Args:
            name: the model's.
            wait: until another change has ended.

        Raises:
            NoSuchModel: there is none of that name.
            Conflict: the model is being changed, and ``wait`` is false.
        """
        self.find(name)
        with self._changing(name, wait=wait):
            with self._lock:
                if self._traffic.pop(name, None) is None:  # another thread was faster
                    raise NoSuchModel(f"Model not found: {name}")
                self._loads.pop(name, None)
            with contextlib.ExitStack() as rest:  # whichever of it fails
                for mms_name in self.state().versions(name):
                    rest.callback(self.registry.unload, mms_name)
                self._publish()

    def unload(self, name: str, version: str) -> None:
        """Unload one version of a model, or the model with its only version.

        Raises:
            NoSuchModel: there is none.
            Conflict: it is served and there are others, or the model is being changed.
        """
        mms_name = self.find(name, version)
        if mms_name == self.find(name) and len(self.state().versions(name)) == 1:
            self.unregister(name)
            return
        with self._changing(name):
            mms_name = self.find(name, version)
            if mms_name == self._traffic[name].served:
                raise Conflict(
                    f"version {version} of {name} is served: serve another one first, or "
                    f"unregister {name}"
                )
            self._unload(name, mms_name)

    def is_served(self, mms_name: str) -> bool:
        """Whether a version is the served one of its model."""
        with self._lock:
            traffic = self._traffic.get(names.of_model(mms_name))
        return traffic is not None and traffic.served == mms_name

    def give_up(self, mms_name: str) -> None:
        """Unload a version; its model, too, if it is served.

        Raises:
            NoSuchModel: there is no such version.
            Conflict: the model is being changed.
        """
        name = self.registry.model(mms_name).name
        if self.is_served(mms_name):
            self.unregister(name, wait=False)
            return
        with self._changing(name):
            self._unload(name, mms_name, drain=False)  # it would answer nothing

    def _unload_others(self, name: str, traffic: Traffic, newest: str) -> None:
        """Unload the versions of a model that are not kept."""
        for mms_name in self.state().versions(name):
            if mms_name != newest and not traffic.is_needed(mms_name):
                self._unload(name, mms_name)

    def _unload(self, name: str, mms_name: str, drain: bool = True) -> None:
        """Unload a version that is not served, by default once its requests are answered."""
        self._leaving.add(mms_name)
        try:
            self._route(name, self._traffic[name].without(mms_name))
            if drain:
                self._drain(mms_name)
            self.registry.unload(mms_name)
        finally:
            self._leaving.discard(mms_name)

    def _drain(self, mms_name: str) -> None:
        """Wait until a version that gets no more requests has answered those that it has."""
        limit_s = self.registry.model(mms_name).serving.timeout_s
        deadline = time.monotonic() + limit_s
        while self._front_end.in_flight(mms_name):
            if time.monotonic() > deadline:
                log.warning("%s has requests after %d s", names.shown(mms_name), limit_s)
                return
            time.sleep(_LOOK_S)

    # --- changes and their publication ---

    @contextlib.contextmanager
    def _changing(self, name: str, url: str = "", wait: bool = False) -> Iterator[None]:
        """Keep other changes from a model.

        Args:
            name: the model's.
            url: from which a version is loaded, if one is.
            wait: until another change has ended.

        Raises:
            Conflict: the model is being changed, and ``wait`` is false.
        """
        with self._lock:
            while name in self._changes:
                if not wait:
                    raise Conflict(f"{name} is being changed; try again when that is done")
                self._lock.wait()
            self._changes[name] = Change(time.monotonic(), url)
        try:
            yield
        finally:
            with self._lock:
                del self._changes[name]
                self._lock.notify_all()
            self._republish()

    def _route(self, name: str, traffic: Traffic) -> None:
        """Let requests go as ``traffic`` says; if that fails, they go as before."""
        with self._lock:
            old = self._traffic.get(name)
            self._traffic[name] = traffic
        try:
            self._publish()
        except ServerError:
            with self._lock:
                self._traffic.pop(name)
                if old:
                    self._traffic[name] = old
            raise

    def _republish(self) -> None:
        """Tell the gate; if it does not take the table now, it will with the next change."""
        with contextlib.suppress(ServerError):
            self._publish()

    def _publish(self) -> None:
        """Tell the gate which versions there are.

        Raises:
            ServerError: Java does not answer.
        """
        self._publication.publish(self.state)
