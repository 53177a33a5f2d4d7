"""Send captured predictions to a server: in their order, by one client or several."""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.parse
from typing import Iterable, Iterator, NamedTuple

from mms_handler.client import Answer
from mms_handler.errors import ArchiveError, ServerError
from mms_handler.replay.captured import Captured
from mms_handler.replay.report import Report

#: Paths of a model or of its version, for bodies and for tensors.
_PREDICTIONS = re.compile(r"^/predictions/([^/]+)(?:/([^/]+))?/?$")
_INFER = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")


class Target(NamedTuple):
    """Where predictions are sent.

    Fields:
        url: http://host:port of a server, or of one of its models with a path.
        model: the predictions of this model alone are sent; "" for all.
        token: the server's for inference; "" for none.
        timeout_s: seconds to wait for each part of a reply.
    """

    url: str
    model: str = ""
    token: str = ""
    timeout_s: float = 60

    def path(self, captured: Captured) -> str:
        """The path for a prediction: the URL's own, else that of the model of then.

        Tensors of the Open Inference Protocol go to the path that it has for the same model.

        Raises:
            ArchiveError: the URL is a path that takes the bodies of another protocol.
        """
        parts = urllib.parse.urlsplit(self.url)
        if not parts.path.strip("/"):
            model = urllib.parse.quote(captured.model or self.model, safe="")
            if captured.tensors:
                return f"/v2/models/{model}/infer"
            return f"/predictions/{model}" if model else "/invocations"
        path = parts.path
        if captured.tensors:
            path = _PREDICTIONS.sub(_tensor_path, path)
        if captured.tensors != bool(_INFER.fullmatch(path)):
            kind = "tensors of the Open Inference Protocol" if captured.tensors else "other bodies"
            raise ArchiveError(
                f"the capture has {kind}, which {self.url} does not take; give the server's "
                "address without a path"
            )
        return path + (f"?{parts.query}" if parts.query else "")


def _tensor_path(predictions: re.Match[str]) -> str:
    model, version = predictions.groups()
    return f"/v2/models/{model}{f'/versions/{version}' if version else ''}/infer"


def replay(
    predictions: Iterable[Captured],
    target: Target,
    report: Report,
    *,
    clients: int = 1,
    spaced: bool = False,
) -> None:
    """Send predictions again and add what comes to ``report``.

    Args:
        predictions: in the order in which they are sent.
        target: the server.
        report: to add to.
        clients: how many are under way at one time.
        spaced: whether each is sent as long after the first as it came then.

    Raises:
        ArchiveError: the predictions are of several models, and the target is one.
        ServerError: the URL is none of http or https.
    """
    _check_url(target.url)
    queue = _Queue(_chosen(predictions, target), spaced)
    errors: list[Exception] = []

    def work() -> None:
        client = _Client(target)
        try:
            for captured in queue:
                client.send(captured, report, queue.lock)
        except Exception as exc:
            errors.append(exc)
            queue.end()
        finally:
            client.close()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _check_url(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServerError(f"{url} is not the address of a server: expected http://host:port")


def _chosen(predictions: Iterable[Captured], target: Target) -> Iterator[Captured]:
    """The predictions of the target's model, or of the only one."""
    is_one = bool(urllib.parse.urlsplit(target.url).path.strip("/"))
    first = None
    for captured in predictions:
        if target.model and captured.model not in ("", target.model):
            continue
        first = captured.model if first is None else first
        if is_one and captured.model != first:
            raise ArchiveError(
                f"the predictions are of {first or 'an unknown model'} and of {captured.model}; "
                "choose those of one model with --model"
            )
        yield captured


class _Queue:
    """Hands predictions to several threads, each at its time."""

    def __init__(self, predictions: Iterator[Captured], spaced: bool) -> None:
        self._predictions, self._spaced = predictions, spaced
        self.lock = threading.Lock()
        self._first: tuple[float, float] | None = None
        self._ended = False

    def __iter__(self) -> Iterator[Captured]:
        while True:
            with self.lock:
                captured = None if self._ended else next(self._predictions, None)
                if captured is None:
                    return
                now = time.monotonic()
                self._first = self._first or (now, captured.time_s)
            start, first_s = self._first
            if self._spaced:
                time.sleep(max(0.0, start + captured.time_s - first_s - now))
            yield captured

    def end(self) -> None:
        with self.lock:
            self._ended = True


class _Client:
    """Sends one prediction after the other on one connection."""

    def __init__(self, target: Target) -> None:
        parts = urllib.parse.urlsplit(target.url)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self._target = target
        self._connection = kinds[parts.scheme](
            parts.hostname or "", parts.port, timeout=target.timeout_s
        )

    def send(self, captured: Captured, report: Report, lock: threading.Lock) -> None:
        """Send a prediction, and add its reply to ``report``."""
        try:
            start = time.monotonic()
            answer = self._answer(captured)
            latency_s = time.monotonic() - start
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            with lock:
                report.lost(captured, str(exc) or type(exc).__name__)
            return
        with lock:
            report.add(captured, answer, latency_s)

    def _answer(self, captured: Captured) -> Answer:
        """The reply; a connection that was idle for too long is opened again."""
        reused = self._connection.sock is not None
        try:
            return self._ask(captured)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()
            if not reused:
                raise
            return self._ask(captured)

    def _ask(self, captured: Captured) -> Answer:
        headers = dict(captured.headers)
        if self._target.token:
            headers["Authorization"] = f"Bearer {self._target.token}"
        path = self._target.path(captured)
        self._connection.request("POST", path, captured.body, headers)
        response = self._connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())

    def close(self) -> None:
        self._connection.close()
