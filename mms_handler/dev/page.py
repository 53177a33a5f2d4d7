"""The page for people on the server of ``serve --dev``, and what it shows of the model."""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import json
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Mapping

from mms_handler import archive
from mms_handler.dev.worker import Reply
from mms_handler.errors import ArchiveError, HandlerError
from mms_handler.server import page, page_models

#: Upper bounds of the buckets of times, in seconds, as the gate has them (Histogram.java).
_MILLIS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1e3, 2.5e3, 5e3, 10e3, 30e3, 60e3)
_BOUNDS = tuple(millis / 1e3 for millis in _MILLIS)


class Counts:
    """How many requests were answered, with which status and how fast.  Any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statuses: Counter[str] = Counter()
        self._buckets = [0] * (len(_BOUNDS) + 1)

    def counted(self, answer: Callable[[], Reply]) -> Reply:
        """Call ``answer``, and count its reply."""
        start_s = time.monotonic()
        reply = answer()
        seconds = time.monotonic() - start_s
        with self._lock:
            self._statuses[str(reply.status)] += 1
            self._buckets[bisect.bisect_left(_BOUNDS, seconds)] += 1
        return reply

    def fields(self) -> dict[str, Any]:
        """The counts as the page reads them."""
        with self._lock:
            return {"statuses": dict(self._statuses), "buckets": list(self._buckets)}


class Page:
    """Answers GET requests for what ``page`` lists."""

    def __init__(self, name: str, path: Path, failure: Callable[[], HandlerError | None]) -> None:
        """Show a model.

        Args:
            name: the model's.
            path: its files.
            failure: says why these do not load as they are now; None if they do.
        """
        self.counts = Counts()
        self._name, self._path, self._failure = name, path, failure
        self._resources = page.resources(ui=True, dev=True)

    def answer(self, path: str, accept: str, known_tag: str | None, ready: bool) -> Reply | None:
        """The reply for a path, without a body if the client has it; None if it is not listed.

        Args:
            path: of the request.
            accept: the request's Accept.
            known_tag: of what the client has, if it has it.
            ready: whether the model has a worker.
        """
        there = [each for each in self._resources if each.path == path]
        if not there:
            return None
        accepted = [each for each in there if each.media_type() in accept]
        resource = (accepted or there)[0]
        if resource.kind == page.MOVED:
            return Reply(307, resource.headers, b"")
        body = self._body(resource, ready)
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers = {**resource.headers, "ETag": tag}
        return Reply(304, headers, b"") if tag == known_tag else Reply(200, headers, body)

    def _body(self, resource: page.Resource, ready: bool) -> bytes:
        if resource.kind == page.COUNTS:
            return self._live(ready)
        if resource.kind == page.CHANGING:
            return self._models(ready)
        return resource.body

    def _live(self, ready: bool) -> bytes:
        model = {"model": self._name, "version": "", "alive": int(ready), "wanted": 1, "waiting": 0}
        counted = {**model, **self.counts.fields()}
        now_ms = int(time.monotonic() * 1000)
        return json.dumps({"ms": now_ms, "bounds": _BOUNDS, "models": [counted]}).encode()

    def _models(self, ready: bool) -> bytes:
        failure = self._failure()
        version = {"version": "", "state": "ready" if ready else "failed", "share": 100}
        if failure:
            version["reason"] = str(failure)
        model = {"name": self._name, "versions": [{**version, **_facts(self._path)}]}
        return page_models.document([model], dev=True)


def _facts(path: Path) -> Mapping[str, Any]:
    """As ``page_models.facts``, for a folder or an archive."""
    if path.suffix == ".mar":
        with contextlib.suppress(ArchiveError, OSError, KeyError, zipfile.BadZipFile):
            packed = archive.manifest_of(path).sample
            if packed:
                with zipfile.ZipFile(path) as mar:
                    return {"sample": page_models.sample(packed, mar.read(packed.name))}
    return page_models.facts(path) if path.is_dir() else {}
