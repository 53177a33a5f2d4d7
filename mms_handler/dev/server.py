"""One model, served while its files are edited: a new worker that has loaded replaces the old."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping

from mms_handler.dev import open_inference, watch
from mms_handler.dev.http import refusal, serving
from mms_handler.dev.page import Page
from mms_handler.dev.worker import Reply, Worker
from mms_handler.errors import HandlerError, LoadError, ServerError, SettingsError, Unavailable
from mms_handler.request_ids import HEADER
from mms_handler.server import access, sockets
from mms_handler.server.sources import name_of
from mms_handler.settings import Settings

#: Seconds between two looks at the files; an edit is loaded when two looks have found the same.
_LOOK_S = 0.2


class DevServer:
    """A model's worker, and the one that replaces it.

    Attributes:
        name: the model's.
        url: of its predictions.
        page: for people.
    """

    def __init__(
        self, path: Path, script: Path | None, settings: Settings, log: Callable[[str], None]
    ) -> None:
        """Start the first worker; ``log`` is called with lines for the person who edits."""
        self.name = name_of(path)
        self.url = f"http://{settings.host}:{settings.port}/predictions/{self.name}"
        self._path, self._script, self._log = path, script, log
        self.page = Page(self.name, path, lambda: self._failure)
        self._watched = [path, *([script.parent] if script else [])]
        self._files = watch.snapshot(self._watched)
        self._worker: Worker | None = None
        self._failure: HandlerError | None = None
        self._looking = threading.Lock()
        self._lock = threading.Lock()  # a worker answers one request at a time
        self.reload([])

    def reload(self, names: list[str]) -> None:
        """Load the model again, and let the new worker answer if that succeeds."""
        subject = f"{', '.join(names)} changed; " if names else ""
        try:
            worker = Worker(self._path, self._script)
        except (LoadError, ServerError) as exc:
            self._failure = exc
            state = "the last version goes on" if self._worker else "waiting for an edit"
            lines = [getattr(exc, "traceback", ""), f"{subject}it does not load, {state}: {exc}"]
            self._log("\n".join(filter(None, lines)))
            return
        with self._lock:
            old, self._worker, self._failure = self._worker, worker, None
        if old:
            old.end()
            self._log(f"{subject}loaded again in {worker.load_s:.1f} s")

    def look(self) -> None:
        """Reload if files have changed since the last look, when nothing changes them any more."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        files = watch.snapshot(self._watched)
        if files == self._files:
            return
        while True:
            time.sleep(_LOOK_S)
            later = watch.snapshot(self._watched)
            if later == files:
                break
            files = later
        names = watch.changed(self._files, files)
        self._files = files
        self.reload(names)

    def ready(self) -> bool:
        return self._worker is not None

    def described(self, path: str, accept: str, known_tag: str | None) -> Reply | None:
        """The reply for a path that is read; None if there is no such path.

        Args:
            path: of the request.
            accept: the request's Accept.
            known_tag: of what the client has, if it has it.
        """
        worker = self._worker
        reply = open_inference.answer(path, self.name, worker.described if worker else None)
        return reply or self.page.answer(path, accept, known_tag, self.ready())

    def answer(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """The reply of the worker that has loaded last, after a look at the files.

        If the files do not load as they are now, a header says why; without any worker, the reply
        is that, with the traceback.
        """
        return self.page.counts.counted(lambda: self._answer(body, headers))

    def _answer(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        self.look()
        identity = headers[HEADER]
        with self._lock:
            worker, failure = self._worker, self._failure
            if worker is None:
                refused = Unavailable(f"the model does not load: {failure}")
                traceback = getattr(failure, "traceback", "")
                return refusal(refused, traceback=traceback, request_id=identity)
            try:
                reply = worker.answer(body, headers)
            except ServerError as exc:
                self._worker, self._failure = None, exc
                self._files = {}  # so that the next look starts another one
                refused = Unavailable(f"{exc}; another one is starting")
                return refusal(refused, request_id=identity)
        if failure is None:
            return reply
        text = str(failure).encode("ascii", "replace").decode()
        return reply._replace(headers={**reply.headers, "X-Does-Not-Load": text})

    def end(self) -> None:
        worker, self._worker = self._worker, None
        if worker:
            worker.end()


@contextlib.contextmanager
def serve(
    path: Path, script: Path | None, settings: Settings, log: Callable[[str], None]
) -> Iterator[DevServer]:
    """Serve a model for the length of a block; ``look`` at its files now and then in it.

    Args:
        path: a folder with a model, or a ``.mar``.
        script: a script to use where it lies; None: the model's own.
        settings: host, port, allowed_hosts and max_body_bytes are used.
        log: called with lines for the person who edits.

    Raises:
        SettingsError: the host is another than this machine's own.
        ServerError: the port is in use.
        ArchiveError: the name of ``path`` is not a valid model name.
    """
    if not access.is_loopback(settings.host):
        raise SettingsError(
            f"--dev serves this machine alone, but the host is {settings.host}; leave --host out"
        )
    sockets.check_port(settings.host, settings.port)
    dev = DevServer(path, script, settings, log)
    server = serving(
        (settings.host, settings.port),
        dev.name,
        access.Access.by(settings, access.Tokens()),
        dev.answer,
        dev.described,
        dev.ready,
        settings.max_body_bytes,
    )
    threading.Thread(target=server.serve_forever).start()
    try:
        yield dev
    finally:
        server.shutdown()
        server.server_close()
        dev.end()
