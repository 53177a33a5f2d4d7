"""Serve models for the length of a ``with`` block, and watch over them.

places ──▶ Source ──▶ Versions ──▶ Registry ──▶ Store, MmsModels ──▶ front end ──▶ workers
POST /models ──▶ Api ──▶ Versions ──▶ the gate's table
                      Mender ──▶ Registry     WorkerDeaths ◀── the plug-in's counts
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import subprocess
from pathlib import Path
from typing import Callable, Iterator, Sequence

from mms_handler import archive
from mms_handler.errors import Conflict, HandlerError, NoSuchModel, ServerError
from mms_handler.names import of_model, version_in
from mms_handler.server import (
    access,
    admin,
    admin_http,
    capturing,
    front_end,
    page,
    page_models,
    sizing,
    sockets,
    tuned,
)
from mms_handler.server.access import Access, Tokens, read_tokens
from mms_handler.server.deaths import EndedWorkers
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.later import LaterChanges
from mms_handler.server.log import Log
from mms_handler.server.machine import this_machine
from mms_handler.server.mending import Mender
from mms_handler.server.mms_models import Serving
from mms_handler.server.process_log import ProcessLog
from mms_handler.server.sources import Source, Sources, allowed_folders, opened
from mms_handler.server.stopped import StoppedWorkers
from mms_handler.server.store import Store
from mms_handler.server.submitted import submitted_code
from mms_handler.server.told import Told
from mms_handler.server.versions import Versions
from mms_handler.server.watch import WINDOW_S, WorkerDeaths
from mms_handler.settings import Settings

log = logging.getLogger(__name__)


class Server:
    """A running front end with all its models loaded.

    Attributes:
        url: the address of the port for clients.
    """

    def __init__(
        self,
        front: FrontEnd,
        store: Store,
        versions: Versions,
        deaths: WorkerDeaths,
        settings: Settings,
    ) -> None:
        """Made by ``serve``."""
        self.url = f"http://{settings.host}:{settings.port}"
        self.process, self.versions = front.process, versions
        self._worker_restarts, self._listener_exit = front.worker_restarts, front.listener_exit
        self._told = Told(front.tell, store.folder)
        self._mender = Mender(versions.registry, deaths, settings.restarts, self._lose)
        self._stopped = StoppedWorkers(front.process.pid)
        self._ended = EndedWorkers(front.process.pid, store.folder)
        self._ended.look()  # a worker may die before the first check
        self._deaths, self._restarts = deaths, settings.restarts
        self._keep_going = settings.keep_going or settings.multi_model

    def predictions_url(self, name: str) -> str:
        """The address to which a model's requests go."""
        return f"{self.url}/predictions/{name}"

    def wait(self) -> None:
        """Watch over the models until the server ends.

        Raises:
            ServerError: Java ended, or a model's workers died too often.
        """
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.5)
                raise ServerError(f"MMS ended unexpectedly with exit code {code}")
            self._check_models()

    def _check_models(self) -> None:
        self._stopped.look()
        self._ended.look()
        for name, new in self._deaths.read(self._restarts_by_name).items():
            recent, title = self._deaths.within_window(name), self.versions.state().title(name)
            for sentence in self._ended.sentences(name, title, new, recent):
                log.warning("%s", sentence)
        for name in self._deaths.above_limit():
            reason = self.versions.registry.load_error(name)
            title = self.versions.state().title(name)
            died = f"the workers of {title} died more than {self._restarts} times in {WINDOW_S} s"
            self._give_up(name, f"{died}: {reason}" if reason else died)
        for name, reason in self._mender.mend().items():
            self._give_up(name, reason)

        self._told.tell(self.versions.registry.models(), self._ended.causes)

    def _lose(self, name: str) -> None:
        """Say, and count, how a model's listener ended."""
        title = self.versions.state().title(name)
        log.warning("%s", self._ended.listener_sentence(name, title, self._listener_exit(name)))

    def _restarts_by_name(self) -> dict[str, int]:
        """The plug-in's counts, by MMS's names."""
        counts = self._worker_restarts()
        models = self.versions.registry.models()
        return {key: counts.get((model.name, model.version), 0) for key, model in models.items()}

    def _give_up(self, name: str, reason: str) -> None:
        """End the server, or go on without a version if it can do without.

        Raises:
            ServerError: it cannot.
        """
        if self.versions.is_served(name) and not self._keep_going:
            raise ServerError(reason)
        title, failure = self.versions.state().title(name), None
        try:
            self.versions.give_up(name)
        except (NoSuchModel, Conflict):  # a client has just unregistered it, or is changing it
            return
        except ServerError as exc:
            failure = exc
        self.versions.failures.note(of_model(name), version_in(name), reason)
        log.error("%s; it is unregistered", reason)
        if failure:
            log.error("%s may still have processes: %s", title, failure)


@contextlib.contextmanager
def serve(
    places: Sequence[str | Path],
    settings: Settings,
    *,
    log: Callable[[str], None],
    ready_s: float = 60,
    script: Path | None = None,
    colours: bool = False,
    starting: Callable[[Callable[[], str]], None] = lambda loading: None,
    use_tuned: bool = True,
) -> Iterator[Server]:
    """Serve models for the length of a ``with`` block.

    Args:
        places: archives, model.tar.gz files and folders, or addresses of such, which are fetched;
            each model is named after its file.
        settings: ports, workers, batches, limits.
        log: called with each record of the log, in the format that the settings say; may not raise.
        ready_s: seconds that the front end may take to listen, before any model is loaded.
        script: a script, or its folder, that replaces the one of the models, which are folders.
        colours: whether text of the log may have colours.
        starting: called before the models are loaded, with a function that says which one is being
            loaded and for how long, or "" if none is.
        use_tuned: whether the settings count to which an archive was tuned.

    Yields:
        The server, once every model is loaded.  No process of it is left after the block.

    Raises:
        ArchiveError: a place has no archive or model folder, or it is not safe.
        ServerError: no Java, a port in use, MMS ended, or a model cannot be loaded.
    """
    records = Log(log, settings.log_format, settings.log_level, colours)
    with records.following(), _serve(
        places, settings, records, ready_s, script, starting, use_tuned
    ) as server:
        yield server


@contextlib.contextmanager
def _serve(
    places: Sequence[str | Path],
    settings: Settings,
    records: Log,
    ready_s: float,
    script: Path | None,
    starting: Callable[[Callable[[], str]], None],
    use_tuned: bool,
) -> Iterator[Server]:
    """As ``serve``."""
    tokens = Tokens()
    if settings.token_file:
        tokens = read_tokens(Path(settings.token_file))
        if warning := access.warning(Path(settings.token_file)):
            log.warning("%s", warning)
    if warning := access.exposure_warning(settings, tokens):
        log.warning("%s", warning)
    keys = archive.required(settings)
    sockets.check_port(settings.host, settings.port)
    sockets.check_port("127.0.0.1", settings.management_port)
    deaths = WorkerDeaths(settings.restarts)
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(contextlib.ExitStack())
        if script is None and keys is None:
            script = files.enter_context(submitted_code(places, settings, log.info))
        sources = check_distinct(
            [
                files.enter_context(opened(place, script, settings.allowed_urls, log.info, keys))
                for place in places
            ]
        )
        if use_tuned:
            settings = tuned.settings_for(settings, sources, this_machine())
        serving = Serving.by_default(settings)
        plan = sizing.plan(this_machine(), settings, [source.size_bytes for source in sources])
        log.info("%s", sizing.summary(plan))
        names = [source.name for source in sources]
        front_settings = settings
        if settings.capture:
            captured = stack.enter_context(capturing.folder_for(settings.capture))
            front_settings = dataclasses.replace(settings, capture=captured)
            share = f"{100 * settings.capture_share:g} %"
            log.info("%s of the predictions are captured into %s", share, settings.capture)
        front = stack.enter_context(
            front_end.started(
                front_settings,
                tokens,
                plan,
                ProcessLog(records.put, records.put_access),
                ready_s,
                names,
            )
        )
        store = Store(front.folder / "store", settings.program)
        versions = Versions(front, store, settings, deaths, names)
        allowed = Sources(
            allowed_folders(settings),
            settings.allowed_urls,
            front.folder,
            functools.partial(archive.required, settings),
        )
        later = LaterChanges()
        stack.callback(later.end)  # before the requests in flight, which do not need them
        if settings.ui:
            models = page_models.PageModels(versions, store, front.folder / page.MODELS_FILE)
            stack.enter_context(models.kept())
        api = admin.Api(versions, allowed, serving, later)
        stack.enter_context(
            admin_http.listening(api, Access.by(settings, tokens), settings.management_port)
        )
        starting(versions.loading)
        for source in sources:
            try:
                versions.register(source, serving)
                if settings.workers is None and plan.workers > 1:
                    versions.registry.scale_to_fit(source.name, plan.workers)
            except HandlerError as exc:
                if not settings.keep_going:
                    raise
                log.error("%s; serving the other models without it", exc)
        files.close()  # the store has them now
        front.open_gate(ready_s)
        stack.enter_context(front.keep_class_data())
        yield Server(front, store, versions, deaths, settings)


def check_distinct(sources: Sequence[Source]) -> Sequence[Source]:
    """``sources``, if no two of them have the same name.

    Raises:
        ServerError: two have.
    """
    urls: dict[str, str] = {}
    for source in sources:
        if source.name in urls:
            raise ServerError(
                f"{urls[source.name]} and {source.url} are both called {source.name}; rename one"
            )
        urls[source.name] = source.url
    return sources
