"""A worker's process, as the server sees it: it has loaded, or it says why it has not."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Mapping, NamedTuple

from mms_handler import media
from mms_handler.errors import LoadError, ServerError
from mms_handler.server.api_parts import Described

#: The version of the model that is edited, for clients that ask for one.
VERSION = "1"

#: Seconds that a worker gets to end by itself.
_END_S = 2


class Reply(NamedTuple):
    """What a client gets."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def failure(status: int, kind: str, message: str, **more: str) -> Reply:
    """The reply for an error, with more fields."""
    fault = {"code": status, "type": kind, "message": message, **more}
    body = json.dumps(fault, ensure_ascii=False).encode()
    return Reply(status, {"content-type": media.JSON}, body)


class Worker:
    """A process with one loaded model; one request at a time.

    Attributes:
        load_s: seconds that the load took.
        described: what the model takes and gives.
    """

    def __init__(self, path: Path, script: Path | None) -> None:
        """Start the process and wait until it has loaded the model.

        Raises:
            LoadError: the model does not load, with the script's traceback.
        """
        parent, child = socket.socketpair()
        words = ["dev-worker", str(path), str(child.fileno())]
        if script:
            words += ["--script", str(script)]
        with child:
            # Standard input is the terminal: a breakpoint reads it.  -B: a .pyc file of a script
            # would count as new after an edit of the same size in the same second.
            self._process = subprocess.Popen(
                [sys.executable, "-B", "-m", "mms_handler", *words], pass_fds=[child.fileno()]
            )
        self._connection = Connection(parent.detach())
        try:
            self.load_s: float
            self.described: Described
            self.load_s, self.described = self._receive()
        except BaseException:
            self.end()
            raise

    def answer(self, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Let the process answer a request.

        Raises:
            ServerError: it ended meanwhile.
        """
        with contextlib.suppress(OSError):  # what can be received has the reason
            self._connection.send((body, dict(headers)))
        reply: Reply = self._receive()
        return reply

    def _receive(self) -> Any:
        try:
            result = self._connection.recv()
        except (EOFError, OSError):
            code = self._process.wait(_END_S)
            raise ServerError(f"the worker ended with {code}") from None
        if isinstance(result, LoadError):
            raise result
        return result

    def end(self) -> None:
        """End the process: when it has nothing to do, or after a moment."""
        self._connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
            return
        self._process.kill()
        self._process.wait()


def connection_of(descriptor: int) -> Connection:
    """The worker's end of its connection."""
    os.set_inheritable(descriptor, False)  # a script's children must not hold it open
    return Connection(descriptor)
