"""MMS's Java process: started in a private folder, asked, drained and ended.

serve ──▶ java ──▶ listener ──▶ worker                    one process group
  └── pipe ──▶ guard: ends the group when the pipe closes

Clients reach MMS's inference API through the gate, our plug-in in the same process: it counts
requests and drains.  They reach its management API through ``admin``, which checks.  MMS itself
listens on two Unix sockets in the private folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import re
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Callable, ContextManager, Iterator, NamedTuple, Sequence

from mms_handler import client, processes
from mms_handler.archive import files
from mms_handler.errors import ServerError
from mms_handler.server import class_data, gate_options, gpus, java, page, sizing, sockets
from mms_handler.server.access import Tokens
from mms_handler.server.process_log import ProcessLog
from mms_handler.server.properties import config_properties
from mms_handler.settings import Settings, environment, hidden_removed, path_of_programs

logger = logging.getLogger(__name__)

#: Seconds that Java may take to end once no request is in flight.
_END_S = 3

#: A line of /metrics.  The names of models and versions need no escapes.
_RESTARTS = re.compile(
    r'^mms_handler_worker_restarts_total\{model="([^"]*)",version="([^"]*)"\} (\d+)$', re.M
)

#: Bytes of a query that ``set_routes`` makes, without what it appends.
_MAX_QUERY = 3_900


class FrontEnd(NamedTuple):
    """A front end that has been started.

    Fields:
        folder: private; holds the sockets, MMS's configuration and the model store.
        process: Java.  The processes of the models are in its process group.
        log: what they all print.
        inference_url: of the gate's private socket, where models have MMS's names.
        management_url: of MMS's own management API.
        keep_class_data: writes Java's class data during a ``with`` block (class_data.py).
    """

    folder: Path
    process: subprocess.Popen[bytes]
    log: ProcessLog
    inference_url: str
    management_url: str
    keep_class_data: Callable[[], ContextManager[None]] = contextlib.nullcontext

    def wait_until(self, ready: Callable[[], bool], limit_s: float) -> None:
        """Return as soon as ``ready()`` is true.

        Raises:
            ServerError: MMS ended, with the reason it printed, or ``limit_s`` seconds went by.
        """
        deadline = time.monotonic() + limit_s
        while not ready():
            if self.process.poll() is not None:
                raise ServerError(f"MMS ended before it was ready: {self._reason()}")
            if time.monotonic() > deadline:
                raise ServerError(f"MMS was not ready within {limit_s:g} s; see its output above")
            time.sleep(0.05)

    def _reason(self) -> str:
        for words in ("Caused by: ", "ERROR", "cannot be used: ", "Error: "):
            reason = self.log.text_after(words, within_s=0.5)
            if reason:
                return reason.strip()
        return "see its output above"

    def listens(self) -> bool:
        """Whether MMS's management API answers."""
        with contextlib.suppress(ServerError):
            return client.call("GET", f"{self.management_url}/models", timeout_s=2).status == 200
        return False

    def open_gate(self, limit_s: float) -> None:
        """Let /ping say that the server is ready; return when it does.

        The plug-in looks for a file, and at the models that are registered.
        """
        gate_options.ready_file(self.folder).touch()
        ping = f"{self.inference_url}/ping"
        self.wait_until(lambda: client.call("GET", ping).status == 200, limit_s)

    def set_routes(self, table: Sequence[str]) -> None:
        """Replace the gate's table (``routes``); requests go by the new one when this returns.

        One call at a time.

        Raises:
            ServerError: Java does not answer, or does not take it.
        """
        queries = [urllib.parse.urlencode({"line": line}) for line in table]
        parts = [[queries[0]]]
        for query in queries[1:]:  # MMS takes request lines of 4096 bytes
            if sum(map(len, [*parts[-1], query])) + len(parts[-1]) > _MAX_QUERY:
                parts.append(["append=true"])
            parts[-1].append(query)
        for number, part in enumerate(parts, 1):
            query = "&".join([*part, *(["more=true"] if number < len(parts) else [])])
            answer = client.call("POST", f"{self.management_url}/routes?{query}")
            if answer.status != 200:
                raise ServerError(f"the gate does not take its routes: {answer.message()}")

    def in_flight(self, name: str) -> int:
        """How many requests a model of MMS has, those that wait for a worker among them."""
        answer = client.call("GET", f"{self.management_url}/routes")
        counts = dict(line.split() for line in answer.body.decode().splitlines())
        return int(counts.get(name, 0))

    def listener_exit(self, name: str) -> int | None:
        """How the listener of a model of MMS has ended, which only Java can see.

        Returns:
            Its exit code, or 128 and the number of a signal; None if that is unknown.
        """
        query = urllib.parse.urlencode({"listener": name})
        try:
            answer = client.call("GET", f"{self.management_url}/routes?{query}", timeout_s=2)
        except ServerError:
            return None
        text = answer.body.decode()
        return int(text) if answer.status == 200 and text else None

    def tell(self, text: str) -> None:
        """Replace what the plug-in has from us in /metrics (Told.java)."""
        with files.replacing(gate_options.told_file(self.folder), force=True) as partial:
            partial.write_text(text)

    def worker_restarts(self) -> dict[tuple[str, str], int]:
        """How often MMS started a process again, by model and version.

        It is empty while Java does not answer.

        The plug-in counts it (Workers.java).  It is asked on MMS's own socket, where no client is.
        """
        try:
            url = f"{self.inference_url}/metrics?name[]=mms_handler_worker_restarts_total"
            answer = client.call("GET", url, timeout_s=2)
        except ServerError:
            return {}
        text = answer.body.decode() if answer.status == 200 else ""
        return {(name, version): int(n) for name, version, n in _RESTARTS.findall(text)}


@contextlib.contextmanager
def started(
    settings: Settings,
    tokens: Tokens,
    plan: sizing.Plan,
    log: ProcessLog,
    ready_s: float,
    expected: Sequence[str] = (),
) -> Iterator[FrontEnd]:
    """Run Java for the length of a ``with`` block; it listens when the block begins.

    Clients get 503 for the ``expected`` models until ``set_routes`` says more.

    After the block requests in flight may finish, for ``drain_s`` seconds; a second Ctrl-C or
    SIGTERM does not wait for them.  Then no process is left, and the folder is removed.  Each
    server has a folder for temporary files of its own: two in one would steal each other's sockets.

    Raises:
        ServerError: no Java, MMS ended, or it did not listen within ``ready_s`` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as private_folder:
        folder, temp = Path(private_folder), Path(private_folder) / "tmp"
        sockets.check_paths(folder)
        private = dataclasses.replace(
            settings,
            token_file=None,
            allowed_urls=(),
            model_store=str(folder / "store"),
            threads=plan.threads,
            supervised=True,
        )
        env = environment(private)
        path = f"{java.programs(folder)}:{path_of_programs(env.get('PATH'))}"
        env.update(java.java_variables(env), PATH=path)
        data = class_data.of(env, folder, settings)
        options = [
            *data.options(),
            *sizing.java_options(plan),
            *gate_options.options(settings, tokens, folder, expected),
            f"-Dmms_handler.pages={page.write(folder, page.resources(ui=settings.ui))}",
        ]
        command = java.command(env, folder, options, settings.java_jars)
        inference, management = f"unix:{folder / 'inference'}", f"unix:{folder / 'management'}"
        addresses = f"inference_address={inference}\nmanagement_address={management}\n"
        # Of two lines with one key MMS takes the second.
        lines = config_properties(private) + addresses + _gpu_line(private, env["PATH"])
        (folder / "config.properties").write_text(lines)
        temp.mkdir()
        with processes.group(
            command,
            env={
                **hidden_removed(env, private),
                "TEMP": str(temp),
                "TMPDIR": str(temp),
                "PYTHONUNBUFFERED": "1",
            },
            cwd=folder,
            folder=folder,
            limit_s=1,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            assert process.stdout is not None
            log.follow(process.stdout)
            front = FrontEnd(
                folder,
                process,
                log,
                f"unix:{temp / 'gate'}:",
                f"{management}:",
                functools.partial(data.written, env),
            )
            try:
                front.wait_until(front.listens, ready_s)
                log.forget()
                yield front
            finally:
                _drain(process, settings.drain_s)


def _gpu_line(settings: Settings, path: str) -> str:
    """MMS's setting that lets models be served on CPUs where MXNet cannot use the GPUs."""
    if "number_of_gpu" in dict(settings.passed_on) or not gpus.are_useless(path):
        return ""
    logger.warning(
        "the installed MXNet is built for CPUs, so this machine's GPUs are not used; mxnet-cu112 "
        "is the build for GPUs"
    )
    return "number_of_gpu=0\n"


def _drain(process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Ask Java alone to end: the gate refuses new requests and waits for those in flight."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(limit_s + _END_S)
