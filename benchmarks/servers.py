"""Start each system: mms_handler, the peer, MMS with a no-op handler, what people write by hand."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple

import psutil

from benchmarks import environments, packing
from benchmarks.processes import cpu_seconds, family, free_ports, running, used_since, wait_for

#: One thread for MXNet's engine, which the peer's serving.py sets.
_ENGINE = {
    "MXNET_CPU_WORKER_NTHREADS": "1",
    "MXNET_CPU_PRIORITY_NTHREADS": "1",
    "MXNET_KVSTORE_REDUCTION_NTHREADS": "1",
}


class Place(NamedTuple):
    """Where one server runs: its model, folder and ports."""

    model: Path
    folder: Path
    port: int
    management_port: int
    environments: Path

    def python(self, name: str) -> Path:
        return environments.python(self.environments / name)


class System(NamedTuple):
    """One way to serve a model."""

    name: str
    command: Callable[[Place], list[object]]  # it may write into place.folder first
    env: Callable[[Place], Mapping[str, str]]
    ready: Callable[[Place], bool]  # whether all workers are ready
    path: str = "/invocations"
    tolerance: float = 1e-3  # of a right answer: Traffic.right


class Server(NamedTuple):
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    system: System
    place: Place
    start: float  # time.monotonic() when its command was run

    def wait(self) -> None:
        """Return when every worker is ready.

        Raises:
            NotServing: with the end of its output.
        """
        wait_for(lambda: self.system.ready(self.place), self.process, self.place.folder)

    def processes(self) -> list[psutil.Process]:
        return family(self.process.pid)

    def rest(self) -> None:
        """Return when the server is idle, or after ten seconds.

        A load that stops leaves requests behind, which a slow system computes for a second or two.
        The next system must not be measured during that time.
        """
        for _ in range(50):
            before = cpu_seconds(self.processes())
            time.sleep(0.2)
            if used_since(before, self.processes()) < 0.05:
                return


@contextlib.contextmanager
def serving(system: System, model: Path, work: Path, environments: Path) -> Iterator[Server]:
    """Run a system for the length of a ``with`` block; it may not be ready at once."""
    folder = work / f"{time.time_ns()}"
    place = Place(model, folder, *free_ports(), environments)
    folder.mkdir(parents=True)
    command, env = system.command(place), system.env(place)
    url, start = f"http://127.0.0.1:{place.port}{system.path}", time.monotonic()
    with running(command, folder, env) as process:
        yield Server(url, process, system, place, start)


# --- mms_handler ---


def archive(place: Place) -> Path:
    """Return the model's archive, with a sample."""
    return packing.packed(place.model, place.folder.parent)


def int8(place: Place) -> Path:
    """Return the model's archive with an int8 graph."""
    return packing.packed_int8(place.model, place.folder.parent)


def mms_handler(
    name: str,
    *options: str,
    path: Callable[[Place], Path] = archive,
    tolerance: float = 1e-3,
    **env: str,
) -> System:
    """``mms-handler serve`` of the Python that runs the benchmarks.

    Args:
        name: the name in the tables.
        options: options of the command; every other setting has its default.
        path: returns what to serve.
        tolerance: of a right answer: Traffic.right.
        env: additional environment variables.
    """
    return System(
        name,
        lambda place: [
            *(packing.COMMAND, "serve", path(place), "--port", place.port),
            *("--management-port", place.management_port, *options),
        ],
        lambda place: env,
        lambda place: b" is ready: " in _output(place),
        tolerance=tolerance,
    )


# --- MMS under its own command: the peer, and MMS alone ---


def peer(workers: int, threads: int) -> System:
    """sagemaker-mxnet-inference, set up as its own ``serve`` does it, except for the ports."""
    return System(
        f"peer, {workers} x {threads}",
        lambda place: _mms(place, place.model, _PEER, workers),
        lambda place: {
            **_ENGINE,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": str(place.model / "code"),
        },
        _loaded(workers),
    )


def no_op(name: str, workers: int) -> System:
    """MMS, set up as for the peer but without an access log, and a handler that does nothing."""
    return System(
        name,
        lambda place: _mms(place, no_op_model(place.folder), NO_OP, workers),
        lambda place: {},
        _loaded(workers),
        tolerance=float("inf"),
    )


def no_op_under_serve(name: str) -> System:
    """The same handler under ``mms-handler serve``: an archive of a handler that is not ours."""

    def path(place: Place) -> Path:
        return _archived(place, no_op_model(place.folder), NO_OP, "default") / "model.mar"

    env = {"MMS_DECODE_INPUT_REQUEST": "false"}  # as _PROPERTIES has it for MMS alone
    return mms_handler(name, path=path, tolerance=float("inf"), **env)


_PEER = "sagemaker_mxnet_serving_container.handler_service"

# The configuration of sagemaker_inference 1.6.1 (etc/default-mms.properties, model_server.py).
_PROPERTIES = """\
enable_envvars_config=true
decode_input_request=false
load_models=ALL
default_response_timeout=60
default_workers_per_model={workers}
inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management_port}
vmargs=-XX:-UseContainerSupport
"""

NO_OP = "no_op:handle"

_NO_OP_SCRIPT = '''\
"""Answer every request with ten zeros."""


def handle(data, context):
    return [str([[0.0] * 10])] * len(data or [])
'''


def _mms(place: Place, model: Path, handler: str, workers: int) -> list[object]:
    """Write the archive and the configuration, and return the command."""
    folder, bin_folder = place.folder, place.python("peer").parent
    store = _archived(place, model, handler, "no-archive")
    properties = _PROPERTIES.format(workers=workers, **place._asdict())
    (folder / "mms.properties").write_text(properties)
    log_config = _log_config(bin_folder.parent).read_text()
    if handler == NO_OP:
        log_config = log_config.replace('"ACCESS_LOG" level="info"', '"ACCESS_LOG" level="off"')
    (folder / "log4j2.xml").write_text(log_config)
    return [
        *(bin_folder / "multi-model-server", "--start", "--foreground"),
        *("--model-store", store, "--mms-config", folder / "mms.properties"),
        *("--log-config", folder / "log4j2.xml"),
    ]


def _archived(place: Place, model: Path, handler: str, form: str) -> Path:
    """Pack a model for MMS with its own tool, and return the folder with the archive."""
    store = place.folder / "store"
    store.mkdir()
    command: list[object] = [
        *(place.python("peer").with_name("model-archiver"), "--model-name", "model"),
        *("--handler", handler, "--model-path", model),
        *("--export-path", store, "--archive-format", form),
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return store


def _log_config(environment: Path) -> Path:
    return next(environment.glob("lib/*/site-packages/sagemaker_inference/etc/log4j2.xml"))


def no_op_model(folder: Path) -> Path:
    """Write a handler that answers a constant, and return the folder with it."""
    model = folder / "no_op"
    model.mkdir(exist_ok=True)
    (model / "no_op.py").write_text(_NO_OP_SCRIPT)
    return model


def _loaded(workers: int) -> Callable[[Place], bool]:
    """Return a check of the log that all workers have loaded the model.

    MMS 1.1.11's GET /models/model says READY of workers that are still loading.
    """
    return lambda place: _output(place).count(b"Model model loaded") >= workers


def _output(place: Place) -> bytes:
    return (place.folder / "log").read_bytes()


# --- LitServe ---


def litserve(name: str, workers: int, batch: int) -> System:
    """LitServe around the script's Block, with one thread per worker; for bodies of JSON."""
    program = Path(__file__).parent / "probes" / "litserving.py"
    return System(
        name,
        lambda place: [
            *(place.python("litserve"), program, place.model),
            *(place.port, workers, batch),
        ],
        lambda place: {"OMP_NUM_THREADS": "1"},
        lambda place: _get(f"http://127.0.0.1:{place.port}/health") == b"ok",
        path="/predict",
    )


# --- what people write by hand ---


def granian(name: str) -> System:
    return _by_hand(
        name,
        lambda place: [
            *("granian", "--interface", "rsgi", "--workers", 2, "--port", place.port),
            *("--no-ws", "--log-level", "warning", "benchmarks.byhand.in_granian:app"),
        ],
    )


def fastapi(name: str) -> System:
    return _by_hand(
        name,
        lambda place: [
            *("uvicorn", "benchmarks.byhand.in_fastapi:app", "--workers", 2, "--port", place.port),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
        ],
    )


def robyn(name: str) -> System:
    return _by_hand(
        name,
        lambda place: [
            *("benchmarks.byhand.in_robyn", place.port, "--processes", 2, "--workers", 1),
            *("--log-level", "WARN"),
        ],
    )


def mosec(name: str, batch: int) -> System:
    return _by_hand(
        name,
        lambda place: [
            *("benchmarks.byhand.in_mosec", "--port", place.port, "--address", "127.0.0.1"),
            *("--path", place.folder / "mosec", "--log-level", "warning"),
        ],
        path="/inference",
        BATCH=str(batch),
    )


def _by_hand(
    name: str,
    arguments: Callable[[Place], list[object]],
    path: str = "/invocations",
    **env: str,
) -> System:
    """A program of benchmarks.byhand, in two processes with one thread each."""
    return System(
        name,
        lambda place: [place.python("byhand"), "-m", *arguments(place)],
        lambda place: {
            "ORT_DISABLE_TELEMETRY": "1",
            "MODEL": str(packing.onnx(place.model, place.python("byhand"))),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            **env,
        },
        lambda place: _listens(place.port),
        path,
    )


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _get(url: str) -> bytes:
    """Return the body of an answer with status 200, else nothing."""
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=5)) as client:
        try:
            client.request("GET", parts.path)
            answer = client.getresponse()
            return answer.read() if answer.status == 200 else b""
        except (OSError, http.client.HTTPException):
            return b""
