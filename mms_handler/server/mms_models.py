"""The models as MMS has them: registered there, with their processes and files.

It completes what MMS leaves half done: a name that stays after a failed load, workers that outlive
their model, files of a model that is gone.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import psutil

from mms_handler import client, manifest, names, worker_files
from mms_handler.archive import samples
from mms_handler.errors import HandlerError, OutOfResources, ServerError
from mms_handler.periodic import repeated
from mms_handler.server import machine, model_processes, sizing
from mms_handler.server.front_end import FrontEnd
from mms_handler.server.store import Store
from mms_handler.server.watch import WorkerDeaths
from mms_handler.settings import Settings
from mms_handler.settings.defaults import DEFAULT_BATCH_SIZE

log = logging.getLogger(__name__)

#: Seconds between lines of the log about a load.
_REPORT_S = 10


class Serving(NamedTuple):
    """How a model is served.

    Fields:
        workers: processes with the model loaded.
        batch_size: requests that a worker may get together; None: as many as its handler takes.
        timeout_s: for one batch, and for loading.
    """

    workers: int
    batch_size: int | None
    timeout_s: int

    @classmethod
    def by_default(cls, settings: Settings) -> Serving:
        return cls(
            settings.workers or 1,
            settings.batch_size,
            settings.timeout_s,
        )


class MmsModels:
    """Registers models of the store with MMS, and removes them there.

    It does not know which models a server has; one thread at a time may change a model.
    """

    def __init__(
        self, front_end: FrontEnd, store: Store, deaths: WorkerDeaths, settings: Settings
    ) -> None:
        """Use a front end that has no model yet, with an empty store that nothing else writes to.

        Args:
            front_end: the front end.
            store: the models' files.
            deaths: follows the models that are registered.
            settings: how long a sample and the last requests of a model may take.
        """
        self._front_end, self._store, self._deaths = front_end, store, deaths
        self._timeout_s, self._drain_s = settings.timeout_s, settings.drain_s

    def describe(self, name: str) -> dict[str, Any]:
        """MMS's description of a model; one without workers if MMS has no such model."""
        answer = client.describe(self._front_end.management_url, name)
        if answer.status != 200:  # it is being mended
            return {"workers": []}
        return client.description(answer)

    def load_error(self, name: str) -> str:
        """Why a worker of a model could not load it within the last minute; "" if none failed."""
        return worker_files.read_load_error(self._store.folder(name))

    def batch_size(self, name: str, serving: Serving) -> int:
        """How many requests a worker of a model may get together.

        Other handlers than ours get one unless more are asked for, as in MMS: many know no more.
        """
        plain = manifest.foreign_handler(self._store.folder(name))
        return serving.batch_size or (1 if plain else DEFAULT_BATCH_SIZE)

    def tuned(self, name: str) -> manifest.Tuned | None:
        """The settings that a model of the store was tuned to, if it was."""
        packed = manifest.read_folder(self._store.folder(name))
        return packed.tuned if packed else None

    def processes(self, name: str) -> list[psutil.Process]:
        """The listener and the workers of a model."""
        return model_processes.of_model(self._front_end.process.pid, name)

    def worker_bytes(self, name: str, workers: int) -> int:
        """The memory that another worker of a model needs, judging by what it uses now.

        A worker that is forked needs what the others do not share, and at least what any worker
        has of its own once it has answered (``sizing``).

        Args:
            name: the model's.
            workers: how many it has.
        """
        processes = self.processes(name)
        server = next(filter(model_processes.is_fork_server, processes), None)
        if server is None:
            return max(1, machine.used_bytes(processes) // workers)
        forked = model_processes.forked(processes)
        return max(sizing.FORK_BYTES, *map(machine.private_bytes, forked))

    def load(self, name: str, serving: Serving) -> psutil.Process:
        """Register a model of the store; all its workers have loaded it afterwards.

        Returns:
            Its listener.

        Raises:
            OutOfResources: the workers do not fit.
            ServerError: it cannot be loaded; says why.
        """
        worker_files.forget_load(self._store.folder(name))
        url, start_s = self._front_end.management_url, time.monotonic()
        parameters = {**serving._asdict(), "batch_size": self.batch_size(name, serving)}
        with self._reporting(name):
            answer = client.register(url, name, name, **parameters)
        if answer.status != 200:
            # MMS leaves workers that still load, and the listener of a model that needs too much.
            model_processes.kill(self.processes(name))
            late = time.monotonic() - start_s >= serving.timeout_s and not self.load_error(name)
            if late and answer.status != OutOfResources.status:
                raise ServerError(
                    f"{names.shown(name)} did not load within {serving.timeout_s} s (--timeout-s): "
                    f"{self.load_phase(name)}"
                )
            raise self._refusal(name, f"{names.shown(name)} cannot be served", answer)
        self._deaths.follow(name)
        listener = model_processes.listener(self._front_end.process.pid, name)
        if listener is None:
            raise ServerError(
                f"{names.shown(name)} cannot be served: its processes ended right after the load"
            )
        return listener

    def unload(self, name: str) -> None:
        """End a model's processes; its files stay."""
        self._end(name)
        self._deaths.forget(name)

    def load_phase(self, name: str) -> str:
        """What a model's workers are doing while they load it."""
        phase = worker_files.read_load_phase(self._store.folder(name))
        if phase is None:
            return "its workers are starting"
        return f"it has been in {phase[0]} for {phase[1]:.0f} s"

    @contextlib.contextmanager
    def _reporting(self, name: str) -> Iterator[None]:
        """Log every ten seconds of a ``with`` block that a model is loading, and its phase."""
        start_s = time.monotonic()

        def report() -> None:
            seconds, phase = time.monotonic() - start_s, self.load_phase(name)
            log.info("%s is loading, %.0f s: %s", names.shown(name), seconds, phase)

        with repeated(report, _REPORT_S):
            yield

    def _refusal(self, name: str, subject: str, answer: client.Answer) -> HandlerError:
        """The error for workers that MMS could not start; a worker may have written the reason."""
        reason = self.load_error(name) or answer.message().replace(name, names.shown(name))
        if answer.status == OutOfResources.status:
            return OutOfResources(f"{subject}: {reason}")
        return ServerError(f"{subject}: {reason}")

    def answer_sample(self, name: str, folder: Path) -> None:
        """Let a loaded model answer the sample in its folder, if there is one.

        Raises:
            ServerError: it answers with an error, and did not when it was packed.  A row of zeros
                that ``convert`` made was never tried, and a script may not read it.
        """
        request = samples.packed(folder)
        if request is None:
            return
        sample = request.entry
        url = f"{self._front_end.inference_url}/predictions/{name}"
        answer = client.invoke(
            url, request.body, sample.content_type, sample.accept, self._timeout_s
        )
        if answer.status >= 400 and not request.generated:
            raise ServerError(
                f"{names.shown(name)} cannot be served: it answers its own sample with "
                f"{answer.status}: {answer.message()}"
            )

    def scale(self, name: str, serving: Serving, workers: int) -> None:
        """Give a model that is served as ``serving`` says another number of workers.

        Raises:
            OutOfResources, ServerError: MMS could not start them; the model has as many as before.
        """
        url = self._front_end.management_url
        answer = client.scale(url, name, workers, serving.timeout_s)
        if answer.status != 200:
            subject = f"could not start {workers} workers for {names.shown(name)}"
            error = self._refusal(name, subject, answer)
            client.scale(url, name, serving.workers, serving.timeout_s)
            raise error

    def load_again(self, name: str, serving: Serving) -> psutil.Process:
        """Register a model with MMS again, from its files in the store; returns its new listener.

        Raises:
            HandlerError: it cannot be loaded.
        """
        self._end(name)
        return self.load(name, serving)

    def remove(self, name: str) -> None:
        """Unregister a model; its processes and files are gone when this returns."""
        self._end(name)
        self._store.remove(name)
        self._deaths.forget(name)

    def _end(self, name: str) -> None:
        processes = self.processes(name)
        url = self._front_end.management_url
        client.unregister(url, name)  # 404 if MMS already did
        model_processes.wait_for_end(processes, self._drain_s)
        front_end = self._front_end
        model_processes.remove_sockets(front_end.process.pid, front_end.folder / "tmp")
