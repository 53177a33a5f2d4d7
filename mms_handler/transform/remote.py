"""A worker that asks a server: each record, or each payload, is a request to a URL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Sequence

from mms_handler import client, media
from mms_handler.errors import ServerError, TransformError
from mms_handler.transform.answering import Answering, Failure, Query
from mms_handler.transform.part import DonePart, Options, Part
from mms_handler.worker.reply import Reply

#: How often a request is sent that gets no answer, or one of _LATER; and the pauses between, in s.
_PAUSES_S = (0.5, 2, 5)

#: Statuses that mean: try again later.
_LATER = (429, 502, 503, 504)


class Server:
    """A model that is served at a URL.

    At most ``max_concurrent`` requests are sent at a time, by all workers together.
    """

    def __init__(self, url: str, max_concurrent: int, timeout_s: float, token: str) -> None:
        """``token`` is "" if the server needs none."""
        self.url, self._timeout_s, self._token = url, timeout_s, token
        self.pool = ThreadPoolExecutor(max_concurrent, "transform-request")

    def worker(self, options: Options) -> RemoteWorker:
        """A worker that asks this server."""
        return RemoteWorker(self, options)

    def invoke(self, body: bytes, content_type: str, accept: str) -> client.Answer:
        """Send one request.

        Raises:
            ServerError: no answer came.
        """
        accept = accept or "*/*"
        return client.invoke(self.url, body, content_type, accept, self._timeout_s, self._token)

    def close(self) -> None:
        """Send no further requests."""
        self.pool.shutdown(wait=False)


class RemoteWorker:
    """Processes parts by a server's answers."""

    def __init__(self, server: Server, options: Options) -> None:
        self._server, self._answering = server, Answering(options, self._ask)
        self._closed = threading.Event()

    def process(self, part: Part) -> DonePart:
        """Process a part.

        Raises:
            TransformError: the server does not answer.
        """
        return self._answering.process(part)

    def close(self) -> None:
        """Send no further requests."""
        self._closed.set()

    def _ask(self, query: Query) -> Sequence[Reply | Failure]:
        submit, types = self._server.pool.submit, (query.content_type, query.accept)
        futures = [submit(self._ask_one, body, *types) for body in query.bodies]
        try:
            return [future.result() for future in futures]
        except BaseException:
            self._closed.set()  # so that those that wait end at once
            raise

    def _ask_one(self, body: bytes, content_type: str, accept: str) -> Reply | Failure:
        for pause_s in (*_PAUSES_S, None):
            if self._closed.is_set():
                raise TransformError("the job was stopped")
            try:
                answer = self._server.invoke(body, content_type, accept)
            except ServerError as exc:
                if pause_s is None:
                    raise TransformError(
                        f"{exc}; see to the server, and run the same command again, which goes on "
                        "from here"
                    ) from exc
            else:
                if answer.status not in _LATER or pause_s is None:
                    return _reply(answer)
            self._closed.wait(pause_s)
        raise AssertionError


def _reply(answer: client.Answer) -> Reply | Failure:
    if 200 <= answer.status < 300:
        return Reply(answer.body, answer.content_type or media.JSON, answer.status)
    return Failure(answer.status, answer.message() or f"the server sent {answer.status}")
