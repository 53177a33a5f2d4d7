"""How each system is started: ours, the peer, MMS with a handler of no operation, LitServe."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple

import psutil

from benchmarks import environments, packing
from benchmarks.processes import cpu_seconds, family, free_ports, started, wait_for

#: One thread of MXNet's own engine, as the peer's serving.py sets it.
_ENGINE = {
    "MXNET_CPU_WORKER_NTHREADS": "1",
    "MXNET_CPU_PRIORITY_NTHREADS": "1",
    "MXNET_KVSTORE_REDUCTION_NTHREADS": "1",
}


class Place(NamedTuple):
    """Where one server runs: the model it serves, a folder of its own, its port, and another."""

    model: Path
    folder: Path
    port: int
    management_port: int
    environments: Path
    kind: str = "json"  # of the bodies: LitServe's API is written for one

    def python(self, name: str) -> Path:
        return environments.python(self.environments / name)


class System(NamedTuple):
    """One way to serve a model."""

    name: str
    command: Callable[[Place], list[object]]  # it may write into place.folder first
    env: Callable[[Place], Mapping[str, str]]
    ready: Callable[[Place], bool]  # whether all its workers are
    path: str = "/invocations"
    tolerance: float = 1e-3  # of what is right: Traffic.right


class Server(NamedTuple):
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    system: System
    place: Place
    begun: float  # of time.monotonic()

    def wait(self) -> None:
        """Return when every worker is ready.

        Raises:
            NotServing: with the end of what it printed.
        """
        wait_for(lambda: self.system.ready(self.place), self.process, self.place.folder)

    def processes(self) -> list[psutil.Process]:
        return family(self.process.pid)

    def rest(self) -> None:
        """Return when it does nothing any more, or after ten seconds.

        Who stops asking leaves requests behind, which a slow system computes for a second or two;
        the next one would be measured beside that.
        """
        for _ in range(50):
            before = cpu_seconds(self.processes())
            time.sleep(0.2)
            if cpu_seconds(self.processes()) - before < 0.05:
                return


@contextlib.contextmanager
def serving(
    system: System, model: Path, work: Path, environments: Path, kind: str = "json"
) -> Iterator[Server]:
    """Start a system around a model; it may not be ready yet.  Afterwards it is gone."""
    folder = work / f"{time.time_ns()}"
    place = Place(model, folder, *free_ports(), environments, kind)
    folder.mkdir(parents=True)
    command, env = system.command(place), system.env(place)
    url, begun = f"http://127.0.0.1:{place.port}{system.path}", time.monotonic()
    with started(command, folder, env) as process:
        yield Server(url, process, system, place, begun)


# --- ours ---


def archive(place: Place) -> Path:
    return packing.packed(place.model, place.folder.parent)


def int8(place: Place) -> Path:
    return packing.packed_int8(place.model, place.folder.parent)


def ours(
    name: str,
    *options: str,
    path: Callable[[Place], Path] = archive,
    tolerance: float = 1e-3,
    **env: str,
) -> System:
    """``mms-handler serve`` of the Python that runs this, with its defaults but for ``options``.

    Args:
        name: in the tables.
        options: of the command.
        path: what is served.
        tolerance: of what is right: Traffic.right.
        env: variables beside those it has.
    """
    return System(
        name,
        lambda place: [
            *(packing.COMMAND, "serve", path(place), "--port", place.port),
            *("--management-port", place.management_port, *options),
        ],
        lambda place: env,
        lambda place: b" is ready: " in _printed(place),
        tolerance=tolerance,
    )


# --- MMS under its own command: the peer, and the floor ---


def peer(workers: int, threads: int) -> System:
    """sagemaker-mxnet-inference as its own ``serve`` starts it, but for the ports."""
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


def no_op(workers: int) -> System:
    """MMS as the peer sets it up, with a handler that answers at once."""
    return System(
        "MMS alone",
        lambda place: _mms(place, _no_op_model(place.folder), "no_op:handle", workers),
        lambda place: {},
        _loaded(workers),
        tolerance=float("inf"),
    )


_PEER = "sagemaker_mxnet_serving_container.handler_service"

# What sagemaker_inference 1.6.1 writes (etc/default-mms.properties, model_server.py).
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

_NO_OP = '''\
"""Every request gets ten zeros."""


def handle(data, context):
    return [str([[0.0] * 10])] * len(data or [])
'''


def _mms(place: Place, model: Path, handler: str, workers: int) -> list[object]:
    """The command; the archive and the configuration are written for it."""
    folder, bin_folder = place.folder, place.python("peer").parent
    (folder / "store").mkdir()
    archiver: list[str | Path] = [
        bin_folder / "model-archiver",
        "--model-name",
        "model",
        "--handler",
        handler,
    ]
    where: list[str | Path] = ["--model-path", model, "--export-path", folder / "store"]
    subprocess.run(
        [*archiver, *where, "--archive-format", "no-archive"], check=True, capture_output=True
    )
    chosen = place._asdict()
    (folder / "mms.properties").write_text(_PROPERTIES.format(workers=workers, **chosen))
    return [
        *(bin_folder / "multi-model-server", "--start", "--foreground"),
        *("--model-store", folder / "store", "--mms-config", folder / "mms.properties"),
        *("--log-config", _log_config(bin_folder.parent)),
    ]


def _log_config(environment: Path) -> Path:
    return next(environment.glob("lib/*/site-packages/sagemaker_inference/etc/log4j2.xml"))


def _no_op_model(folder: Path) -> Path:
    model = folder / "no_op"
    model.mkdir()
    (model / "no_op.py").write_text(_NO_OP)
    return model


def _loaded(workers: int) -> Callable[[Place], bool]:
    """By the log: GET /models/model of MMS 1.1.11 says READY of workers that are still loading."""
    return lambda place: _printed(place).count(b"Model model loaded") >= workers


def _printed(place: Place) -> bytes:
    return (place.folder / "log").read_bytes()


# --- LitServe ---


def litserve(name: str, workers: int, batch: int) -> System:
    """LitServe around the script's Block; one thread a worker."""
    program = Path(__file__).parent / "probes" / "litserving.py"
    return System(
        name,
        lambda place: [
            *(place.python("litserve"), program, place.model),
            *(place.port, place.kind, workers, batch),
        ],
        lambda place: {"OMP_NUM_THREADS": "1"},
        lambda place: _get(f"http://127.0.0.1:{place.port}/health") == b"ok",
        path="/predict",
    )


def _get(url: str) -> bytes:
    """The body of a 200, else nothing."""
    parts = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=5)) as client:
        try:
            client.request("GET", parts.path)
            answer = client.getresponse()
            return answer.read() if answer.status == 200 else b""
        except (OSError, http.client.HTTPException):
            return b""
