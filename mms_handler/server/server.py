"""Serve models for the length of a ``with`` block, and watch over them.

places ──▶ Source ──▶ Registry ──▶ Store, MmsModels ──▶ front end ──▶ workers
POST /models ──▶ Api ──▶ Registry ◀── Mender      WorkerDeaths ◀── the plug-in's counts
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
from pathlib import Path
from typing import Callable, Iterator, Sequence

from mms_handler.errors import HandlerError, NoSuchModel, ServerError
from mms_handler.server import access, admin, admin_http, front_end, sizing
from mms_handler.server.access import Access, Tokens, read_tokens
from mms_handler.server.deaths import EndedWorkers
from mms_handler.server.front_end import FrontEnd, ProcessLog
from mms_handler.server.later import LaterChanges
from mms_handler.server.machine import this_machine
from mms_handler.server.mending import Mender
from mms_handler.server.mms_models import Serving
from mms_handler.server.registry import Registry
from mms_handler.server.sources import Source, Sources, allowed_folders, opened
from mms_handler.server.stopped import StoppedWorkers
from mms_handler.server.store import Store
from mms_handler.server.watch import WINDOW_S, WorkerDeaths
from mms_handler.settings import Settings

log = logging.getLogger(__name__)


class Server:
    """A running front end with all its models loaded."""

    def __init__(
        self,
        front: FrontEnd,
        store: Store,
        registry: Registry,
        deaths: WorkerDeaths,
        settings: Settings,
    ) -> None:
        """Made by ``serve``."""
        self.url = f"http://{settings.host}:{settings.port}"
        self.process, self.registry = front.process, registry
        self._worker_restarts = front.worker_restarts
        self._mender = Mender(registry, deaths, settings.restarts)
        self._stopped = StoppedWorkers(front.process.pid)
        self._ended = EndedWorkers(front.process.pid, store.folder)
        self._ended.look()  # a worker may die before the first check
        self._deaths, self._restarts = deaths, settings.restarts
        self._keep_going = settings.keep_going or settings.multi_model

    def predictions_url(self, name: str) -> str:
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
        for name, new in self._deaths.read(self._worker_restarts).items():
            for sentence in self._ended.sentences(name, new, self._deaths.within_window(name)):
                log.warning("%s", sentence)
        for name in self._deaths.above_limit():
            reason = self.registry.load_error(name)
            died = f"the workers of {name} died more than {self._restarts} times in {WINDOW_S} s"
            self._give_up(f"{died}: {reason}" if reason else died)
            try:
                self.registry.unregister(name)
            except NoSuchModel:  # a client has just unregistered it
                pass
            except ServerError as exc:
                log.error("%s may still have processes: %s", name, exc)
        for reason in self._mender.mend().values():
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        """End the server, or only log that it goes on without a model."""
        if not self._keep_going:
            raise ServerError(reason)
        log.error("%s; it is unregistered", reason)


@contextlib.contextmanager
def serve(
    places: Sequence[str | Path],
    settings: Settings,
    *,
    log: Callable[[str], None],
    ready_s: float = 60,
    script: Path | None = None,
) -> Iterator[Server]:
    """Serve models for the length of a ``with`` block.

    Args:
        places: archives, model.tar.gz files and folders, or addresses of such, which are fetched;
            each model is named after its file.
        settings: ports, workers, batches, limits.
        log: called with each line that MMS and the workers print.
        ready_s: seconds that the front end may take to listen, before any model is loaded.
        script: a script, or its folder, that replaces the one of the models, which are folders.

    Yields:
        The server, once every model is loaded.  No process of it is left after the block.

    Raises:
        ArchiveError: a place has no archive or model folder, or it is not safe.
        ServerError: no Java, a port in use, MMS ended, or a model cannot be loaded.
    """
    tokens = Tokens()
    if settings.token_file:
        tokens = read_tokens(Path(settings.token_file))
        if warning := access.warning(Path(settings.token_file)):
            log(warning)
    if warning := access.exposure_warning(settings, tokens):
        log(warning)
    front_end.check_port(settings.host, settings.port)
    front_end.check_port("127.0.0.1", settings.management_port)
    deaths, serving = WorkerDeaths(settings.restarts), Serving.by_default(settings)
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(contextlib.ExitStack())
        sources = check_distinct(
            [
                files.enter_context(opened(place, script, settings.allowed_urls, log))
                for place in places
            ]
        )
        plan = sizing.plan(this_machine(), settings, [source.size_bytes for source in sources])
        log(sizing.summary(plan))
        names = [source.name for source in sources]
        front = stack.enter_context(
            front_end.started(settings, tokens, plan, ProcessLog(log), ready_s, names)
        )
        store = Store(front.folder / "store", settings.program)
        registry = Registry(front, store, settings, deaths)
        allowed = Sources(allowed_folders(settings), settings.allowed_urls, front.folder)
        later = LaterChanges()
        stack.callback(later.end)  # before the requests in flight, which do not need them
        api = admin.Api(registry, allowed, serving, later)
        stack.enter_context(
            admin_http.listening(api, Access.by(settings, tokens), settings.management_port)
        )
        for source in sources:
            try:
                registry.register(source, serving)
                if settings.workers is None and plan.workers > 1:
                    registry.scale_to_fit(source.name, plan.workers)
            except HandlerError as exc:
                if not settings.keep_going:
                    raise
                log(f"{exc}; serving the other models without it")
            finally:
                front.loading_file(source.name).unlink(missing_ok=True)
        files.close()  # the store has them now
        front.open_gate(ready_s)
        yield Server(front, store, registry, deaths, settings)


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
