"""Actors with the model, on the nodes of a Ray cluster; those that are lost are replaced.

    threads of the executor ─part─▶ the actor with the fewest parts ─done part─▶ the same thread

An actor is in the pool when it has loaded the model.  Parts do not wait for one that has no node:
if nodes are lost, the actors that are left do the work, until there is room for others again.
"""

from __future__ import annotations

import contextlib
import re
import threading
from typing import Any, Callable

from mms_handler import __version__
from mms_handler.errors import HandlerError, TransformError
from mms_handler.transform.part import DonePart, Part

#: Parts of an actor: one that it processes, and one that is on its way meanwhile.
PARTS = 2

#: A part that so many actors are lost with ends the job, and so do so many that do not start while
#: none has.
_MAX_LOSSES = 8

#: How the last line of a traceback begins.
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception)\b")

#: Characters of what Ray says.
_MAX_TEXT = 300

#: Seconds between looks at whether the job was stopped, and those to end an actor in.
_LOOK_S, _END_S = 0.2, 5


class _Lost(Exception):
    """An actor is gone, or its node; the text says what Ray knows."""


class _Entry:
    """An actor, and how many parts it has."""

    def __init__(self, actor: Any) -> None:
        self.actor, self.parts = actor, 0


class Pool:
    """The actors of a job."""

    def __init__(self, ray: Any, start: Callable[[], Any], count: int) -> None:
        """Start ``count`` actors; ``start`` makes one."""
        self._ray, self._start = ray, start
        self._changed = threading.Condition()
        self._actors: list[Any] = []  # all that may run
        self._ready: list[_Entry] = []
        self._losses = 0  # of actors that did not start, in turn
        self._failure: HandlerError | None = None
        self._stopped = threading.Event()
        for _ in range(count):
            self._add()

    def process(self, part: Part, stopped: threading.Event) -> DonePart:
        """Process a part on an actor; on another one if that is lost.

        Raises:
            HandlerError: the model does not load, or the job cannot go on, or is stopped.
        """
        reason = ""
        for _ in range(_MAX_LOSSES):
            entry = self._take(stopped)
            try:
                done: DonePart = self._result(entry.actor.process.remote(part), stopped)
                return done
            except _Lost as exc:
                reason = str(exc)
                self._replace(entry)
            finally:
                self._give_back(entry)
        raise TransformError(
            f"{_MAX_LOSSES} actors were lost with {part.input}, from record {part.first} on; of "
            f"the last one, Ray says: {reason}"
        )

    def close(self) -> None:
        """End the actors."""
        with self._changed:
            self._stopped.set()
            actors, ready = self._actors, [entry.actor for entry in self._ready]
        with contextlib.suppress(Exception):
            ends = [actor.close.remote() for actor in ready]  # others may never run
            self._ray.wait(ends, num_returns=len(ends), timeout=_END_S)
        for actor in actors:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)

    def _take(self, stopped: threading.Event) -> _Entry:
        """The actor with the fewest parts, once there is one with room."""
        with self._changed:
            while True:
                self._check(stopped)
                entry = min(self._ready, key=lambda each: each.parts, default=None)
                if entry and entry.parts < PARTS:
                    entry.parts += 1
                    return entry
                self._changed.wait(_LOOK_S)

    def _give_back(self, entry: _Entry) -> None:
        with self._changed:
            entry.parts -= 1
            self._changed.notify_all()

    def _check(self, stopped: threading.Event) -> None:
        if self._failure:
            raise self._failure
        if stopped.is_set():
            raise TransformError("the job was stopped")

    def _result(self, ref: Any, stopped: threading.Event) -> Any:
        """What a method returned.

        Raises:
            HandlerError: what it raised.
            _Lost: it did not return.
        """
        exceptions = self._ray.exceptions
        try:
            while not self._ray.wait([ref], timeout=_LOOK_S)[0]:
                self._check(stopped)
            return self._ray.get(ref)
        except exceptions.RayTaskError as exc:
            if isinstance(exc.cause, HandlerError):
                raise exc.cause from None
            raise TransformError(f"a node of the Ray cluster failed: {brief(exc.cause)}") from exc
        except exceptions.RayError as exc:
            raise _Lost(brief(exc)) from exc

    # --- actors ---

    def _add(self) -> None:
        threading.Thread(target=self._load, daemon=True, name="transform-load").start()

    def _load(self) -> None:
        """Start an actor, and another one if it is lost; it is in the pool once it is loaded."""
        while not self._failure and not self._stopped.is_set():
            try:
                actor = self._started()
                self._result(actor.load.remote(__version__), self._stopped)
            except _Lost as exc:
                self._count_loss(exc)
            except HandlerError as exc:
                self._fail(exc)
            except Exception as exc:  # Ray's own, such as of resources that no node can have
                self._fail(TransformError(f"no actor can be started on Ray: {brief(exc)}"))
            else:
                with self._changed:
                    self._losses = 0
                    self._ready.append(_Entry(actor))
                    self._changed.notify_all()
                return

    def _started(self) -> Any:
        with self._changed:
            self._check(self._stopped)
            actor = self._start()
            self._actors.append(actor)
            return actor

    def _replace(self, entry: _Entry) -> None:
        with self._changed:
            if entry not in self._ready:
                return  # by the thread with its other part
            self._ready.remove(entry)
        self._add()

    def _count_loss(self, exc: _Lost) -> None:
        with self._changed:
            self._losses += 1
            if self._losses >= _MAX_LOSSES and not self._ready:
                self._fail(
                    TransformError(
                        f"no actor starts on the Ray cluster; of the last one, Ray says: {exc}"
                    )
                )

    def _fail(self, exc: HandlerError) -> None:
        with self._changed:
            self._failure = self._failure or exc
            self._changed.notify_all()


class RayWorker:
    """One of the executor's workers, all of which share the pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._stopped = pool, threading.Event()

    def process(self, part: Part) -> DonePart:
        """Process a part.

        Raises:
            HandlerError: the job cannot go on.
        """
        return self._pool.process(part, self._stopped)

    def close(self) -> None:
        """Do not wait for a part any longer; the actors end with the pool."""
        self._stopped.set()


def brief(exc: BaseException) -> str:
    """An exception of Ray in one line: of a text with a traceback, what that ends with."""
    lines = str(exc).strip().splitlines()
    if any(line.startswith("Traceback ") for line in lines):
        ends = [place for place, line in enumerate(lines) if _EXCEPTION.match(line)]
        lines = lines[ends[-1] :] if ends else lines
    text = " ".join(" ".join(lines).split()) or type(exc).__name__
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."
