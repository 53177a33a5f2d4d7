"""A server of models: MMS's front end, the models it serves, and what watches over both.

paths ──▶ Registry ──▶ Store ──▶ front end ──▶ workers         POST /models ──▶ Api ──▶ Registry
                        Watch ◀── what they print
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Callable, Iterator, Sequence

import psutil

from mms_handler import archive, client, settings
from mms_handler.errors import HandlerError, NoSuchModel, ServerError
from mms_handler.server import admin, front_end, machine, sizing
from mms_handler.server.front_end import Output
from mms_handler.server.java import java_variables
from mms_handler.server.properties import properties
from mms_handler.server.registry import Registry, Wanted
from mms_handler.server.sources import Sources
from mms_handler.server.store import Store, name_of
from mms_handler.server.watch import Watch
from mms_handler.settings import Settings

__all__ = ["Server", "java_variables", "properties", "running"]

log = logging.getLogger(__name__)


class Server:
    """A running front end whose models are all loaded."""

    def __init__(
        self,
        inference_url: str,
        process: subprocess.Popen[bytes],
        models: Registry,
        watch: Watch,
        chosen: Settings,
    ) -> None:
        """Made by ``running``."""
        self.inference_url, self.process, self.models = inference_url, process, models
        self._watch, self._keep_going = watch, chosen.keep_going or chosen.multi_model

    def predictions(self, name: str) -> str:
        return f"{self.inference_url}/predictions/{name}"

    def wait(self) -> None:
        """Watch over the server until it ends.

        Raises:
            ServerError: Java ended, or a model's workers died too often.
        """
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(0.5)
                raise ServerError(f"MMS ended by itself, with {code}")
            self._look_after_models()

    def _look_after_models(self) -> None:
        for name, reason in self._watch.too_many().items():
            died = f"the workers of {name} died again and again"
            self._give_up(f"{died}: {reason}" if reason else died)
            with contextlib.suppress(NoSuchModel):  # somebody was faster
                self.models.unregister(name)
        for reason in self.models.mend().values():
            self._give_up(reason)

    def _give_up(self, told: str) -> None:
        """End, or go on without a model, which is unregistered."""
        if not self._keep_going:
            raise ServerError(told)
        log.error("%s; it is unregistered", told)


@contextlib.contextmanager
def running(
    paths: Sequence[Path],
    chosen: Settings,
    *,
    log: Callable[[str], None],
    ready_s: float = 60,
) -> Iterator[Server]:
    """Serve models for the length of a ``with`` block.

    Args:
        paths: archives, model.tar.gz files, and folders; a model has its file's name.
        chosen: ports, workers, batches, limits.
        log: gets each line that MMS and the workers print.
        ready_s: how long the front end may take to listen, before any model is loaded.

    Yields:
        The server, when every model is loaded.  Afterwards no process of it is left.

    Raises:
        ArchiveError: a path is no archive and no folder that makes one, or not safe.
        ServerError: no Java, a port in use, MMS ended, or a model that cannot load.
    """
    for host, port in ((chosen.host, chosen.port), ("127.0.0.1", chosen.management_port)):
        _check_free(host, port)
    named = _named(paths)
    sizes = [archive.size(path) for path in paths]
    plan = sizing.plan(machine.this_machine(), chosen, sizes)
    log(sizing.line(plan))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mms-handler-")))
        _check_length(folder)
        watch = Watch(chosen.restarts)
        output = Output(log, watch.see)
        process = stack.enter_context(_front_end(folder, chosen, plan, output))
        front_end.wait_until(lambda: _listens(folder), process, output, ready_s)
        models = Registry(
            (f"{_inference(folder)}:", f"{_management(folder)}:"),
            Store(folder / "store", chosen.program),
            chosen,
            output,
            psutil.Process(process.pid),
            watch,
        )
        usual = Wanted(
            chosen.workers or 1, chosen.max_batch_size, chosen.max_batch_delay_ms, chosen.timeout_s
        )
        api = admin.Api(models, Sources(_folders(chosen), chosen.allowed_urls, folder), usual)
        stack.enter_context(admin.serving(api, chosen.management_port))
        for name, path in named.items():
            _register(models, name, path, usual, plan, chosen, log)
        (folder / "ready").touch()
        ping = f"{_inference(folder)}:/ping"  # looks for that file, and which models there are
        front_end.wait_until(
            lambda: client.call("GET", ping).status == 200, process, output, ready_s
        )
        yield Server(f"http://{chosen.host}:{chosen.port}", process, models, watch, chosen)


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise ServerError(f"port {port} of {host} cannot be used: {exc.strerror}") from exc


#: Bytes of a Unix socket's path, the last is a zero (unix(7)).
_SOCKET_BYTES = 108


def _check_length(folder: Path) -> None:
    """MMS takes a minute to fail where its sockets' names are too long."""
    longest = folder / "tmp" / ".mms.sock.99999"
    if len(os.fsencode(longest)) >= _SOCKET_BYTES:
        raise ServerError(
            f"the path of the folder for temporary files, {folder.parent}, is too long for "
            "sockets; set TMPDIR to a shorter one"
        )


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        name = name_of(path)
        if name in named:
            raise ServerError(f"two models are called {name}")
        named[name] = path
    return named


# MMS's own addresses are sockets in a folder that only we can enter: its inference API behind our
# gate, which counts and drains, its management API behind ours, which checks.


def _inference(folder: Path) -> str:
    return f"unix:{folder / 'inference'}"


def _management(folder: Path) -> str:
    return f"unix:{folder / 'management'}"


def _listens(folder: Path) -> bool:
    with contextlib.suppress(ServerError):
        return client.call("GET", f"{_management(folder)}:/models", timeout_s=2).status == 200
    return False


def _front_end(
    folder: Path, chosen: Settings, plan: sizing.Plan, output: Output
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    private = dataclasses.replace(
        chosen, model_store=str(folder / "store"), threads=plan.threads, supervised=True
    )
    env = settings.environment(private)
    addresses = (
        f"inference_address={_inference(folder)}\nmanagement_address={_management(folder)}\n"
    )
    gate = {
        "gate": f"{chosen.host}:{chosen.port}",
        "ready_file": str(folder / "ready"),
        "drain_s": str(chosen.drain_s),
    }
    if chosen.multi_model:
        gate.update(admin_port=str(chosen.management_port), multi_model="true")
    return front_end.started(
        folder,
        properties(private) + addresses,  # of two lines with one key the last counts
        [
            *sizing.java_options(plan),
            *(f"-Dmms_handler.{key}={value}" for key, value in gate.items()),
        ],
        {**env, **java_variables(env)},
        output,
        chosen.drain_s,
    )


def _folders(chosen: Settings) -> list[Path]:
    """Where the management API takes models from."""
    folders = [Path(chosen.model_store)]
    if chosen.multi_model:
        folders.append(Path(chosen.base_dir or "/opt/ml") / "models")
    return folders


def _register(
    models: Registry,
    name: str,
    path: Path,
    usual: Wanted,
    plan: sizing.Plan,
    chosen: Settings,
    log: Callable[[str], None],
) -> None:
    """Register a model; where the number of workers is ours to choose, as many as fit."""
    try:
        models.register(name, str(path), path, usual)
        if chosen.workers is None and plan.workers > 1:
            models.scale(name, models.fitting(name, plan.workers))
    except HandlerError as exc:
        if not chosen.keep_going:
            raise
        log(f"{exc}; going on without it")
