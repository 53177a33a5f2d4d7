"""What a worker's process runs: load a model, then answer one request after another."""

from __future__ import annotations

import bdb
import sys
from pathlib import Path
from typing import Any, Callable, Mapping

from mms_handler import api, media
from mms_handler.dev.worker import VERSION, Reply, connection_of, failure
from mms_handler.errors import HandlerError, LoadError
from mms_handler.manifest import Sample
from mms_handler.request_ids import HEADER
from mms_handler.server.api_parts import Described
from mms_handler.server.sources import name_of


def run(
    path: Path, script: Path | None, descriptor: int, flush: Callable[[], None] = lambda: None
) -> None:
    """Answer requests until the server closes the connection.

    Args:
        path: the model.
        script: its script, if that is elsewhere.
        descriptor: of the connection.
        flush: called before each reply, so that what the script printed is on the terminal.
    """
    connection = connection_of(descriptor)
    try:
        model = api.load(path, script=script)
    except HandlerError as exc:
        connection.send(LoadError(str(exc), getattr(exc, "traceback", "")))
        return
    except KeyboardInterrupt:  # of the terminal, for the server
        return
    connection.send((sum(model.load_s.values()), _described(model, name_of(path))))
    while True:
        try:
            body, headers = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            reply = _answer(model, body, headers)
            flush()
            connection.send(reply)
        except (bdb.BdbQuit, KeyboardInterrupt):
            return  # the person at the debugger has ended it


def _described(model: Any, name: str) -> Described:
    """The model for the descriptions of the server; its sample may be zeros in its shapes."""
    sample, body = None, b""
    if model.sample:
        body, content_type, accept = model.sample
        sample = Sample("sample", content_type, accept)
    return Described(name, VERSION, model.schema, sample, body)


def _answer(model: Any, body: bytes, headers: Mapping[str, str]) -> Reply:
    """The reply of the real server; that of a bug has the script's traceback."""
    content_type = headers.get("content-type") or media.JSON
    accept = headers.get("accept", "")
    try:
        answer = model.answer(body, content_type, accept, headers=headers, raises=True)
        return Reply(*answer)
    except bdb.BdbQuit:
        raise
    except Exception as exc:
        status, reason, traceback = model.failure(exc)
        more = {"request_id": headers[HEADER]}
        sys.stderr.write(f"request {headers[HEADER]}: {status} {reason}\n")
        if traceback:
            sys.stderr.write(f"{traceback}\n")
            more["traceback"] = traceback
        return failure(status, type(exc).__name__, reason, **more)
