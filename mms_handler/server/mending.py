"""Load models again that lost their processes; MMS does not.

A model that lacks a worker, and has no listener to fork one, is registered with MMS again.  If that
fails, it is tried again later.  Clients get 503 for the model until it is loaded.
"""

from __future__ import annotations

import logging
import time
from typing import Callable

from mms_handler.errors import HandlerError
from mms_handler.server import model_processes
from mms_handler.server.registry import Mending, Model, Registry
from mms_handler.server.watch import WorkerDeaths

log = logging.getLogger(__name__)

#: Seconds between attempts to mend a model: 1, 2, 4 and so on, and never more than this.
_MAX_DELAY_S = 8


class Mender:
    """Mends the models of a registry, whenever one thread calls it."""

    def __init__(
        self,
        registry: Registry,
        deaths: WorkerDeaths,
        attempts: int,
        lost: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Give a model up after ``attempts`` failed attempts beside the first one.

        Args:
            registry: the models.
            deaths: counts the loss of a model's processes as one death.
            attempts: 0 or more.
            lost: called with each model whose listener is gone, before it is loaded again.
        """
        self._lost = lost
        self._registry, self._deaths, self._attempts = registry, deaths, attempts

    def mend(self) -> dict[str, str]:
        """Try to load the models for which it is time.

        Returns:
            The models that could not be loaded in too many attempts, with the reasons.  Until they
            are unloaded, they are tried again.
        """
        reasons = {}
        for name, model in self._registry.models().items():
            # A model that is changed meanwhile is looked at next time.
            if self._is_due(name, model):
                with self._registry.unchanged(name, model) as unchanged:
                    if unchanged:
                        reasons[name] = self._mend(name, model)
        return {name: reason for name, reason in reasons.items() if reason}

    def _is_due(self, name: str, model: Model) -> bool:
        if model.mending:
            return time.monotonic() >= model.mending.next_s
        if not model.listener or model_processes.is_alive(
            model.listener
        ):  # its workers alone can go on serving
            return False
        return len(self._registry.processes(name)) < model.serving.workers

    def _mend(self, name: str, model: Model) -> str | None:
        """Try to load a model again; the reason, if it is given up."""
        if not model.mending:
            self._deaths.add(name)
            self._lost(name)
            if name in self._deaths.above_limit():
                return None  # it is given up for that at once
        failures = model.mending.failures if model.mending else 0
        try:
            # Clients get 503 for it from now on, until it is loaded, perhaps by a later call.
            self._registry.replace(name, model._replace(mending=Mending(failures, 0)))
            self._registry.load_again(name, model)
        except HandlerError as exc:
            delay_s = min(2**failures, _MAX_DELAY_S)
            mending = Mending(failures + 1, time.monotonic() + delay_s)
            self._registry.replace(name, model._replace(mending=mending))
            if failures >= self._attempts:
                return str(exc)
            log.warning("%s; trying again in %d s", exc, delay_s)
        return None
