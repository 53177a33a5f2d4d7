"""What is measured: the models, bodies, clients and systems, and the targets."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks import servers
from benchmarks.servers import System, mms_handler

#: What the tables call mms_handler, and the prefix of the peer's names.  The peer is measured with
#: several settings, of which the best one counts.
OURS, PEER = "ours", "peer"

INT8 = "ours, int8"

#: Without the compiled core: what pure Python does.
PLAIN, CORE_OFF = "ours, no core", {"MMS_HANDLER_CORE": "off"}

#: Each worker loads the model by itself, as all did before they were forked.
APART, FORK_OFF = "ours, not forked", {"MMS_HANDLER_FORK": "off"}

#: A plain folder without a sample: requests that succeed teach what a sample would have.
FOLDER = "ours, plain folder"

#: A handler that does nothing, under MMS with one or two workers, and under serve.
FLOOR, FLOOR_1, FLOOR_2 = "MMS alone", "MMS alone, 1", "MMS alone, 2"
GATE = "no-op under serve"
GRANIAN, FASTAPI, MOSEC, ROBYN = "granian", "FastAPI", "mosec, batches", "Robyn"
LITSERVE = "LitServe, batches"
_ONE_BY_TWO, _TWO_BY_ONE = "peer, 1 x 2", "peer, 2 x 1"

_SYSTEMS = (
    mms_handler(OURS),
    mms_handler(PLAIN, **CORE_OFF),
    mms_handler(FOLDER, path=lambda place: place.model),
    mms_handler(INT8, path=servers.int8, tolerance=0.2),
    servers.peer(1, 2),
    servers.peer(2, 1),
    servers.no_op(FLOOR_1, 1),
    servers.no_op(FLOOR_2, 2),
    servers.no_op_under_serve(GATE),
    servers.granian(GRANIAN),
    servers.fastapi(FASTAPI),
    servers.mosec(MOSEC, 32),
    servers.robyn(ROBYN),
    servers.litserve(LITSERVE, 1, 16),
)

SYSTEMS: dict[str, System] = {system.name: system for system in _SYSTEMS}


class Scenario(NamedTuple):
    """A closed loop: ``clients`` clients send one kind of body to each system."""

    name: str
    title: str
    model: str
    rows: int
    kind: str
    clients: int
    systems: tuple[str, ...]
    raw: bool = False  # whether to measure MXNet without a server too

    def is_image(self) -> bool:
        """Return whether the bodies are images, whose requests take long."""
        return self.model in ("mobilenet", "resnet18")


#: One client may be better off with a single worker; under load, two are always better.
_PEER, _PEERS = (_TWO_BY_ONE,), (_ONE_BY_TWO, _TWO_BY_ONE)
_BY_HAND = (GRANIAN, FASTAPI, MOSEC, ROBYN)

CLOSED = (
    Scenario(
        *("mnist-32", "MNIST Module, row of 784, JSON, 32 clients", "mnist", 1, "json", 32),
        (OURS, PLAIN, FLOOR_2, GATE, *_PEER),
    ),
    Scenario(
        *("mnist-1", "MNIST Module, row of 784, JSON, 1 client", "mnist", 1, "json", 1),
        (OURS, PLAIN, FLOOR_1, FLOOR_2, GATE, *_PEERS),
    ),
    Scenario(
        *("mlp-32", "Gluon MLP 784, JSON, 32 clients", "mlp", 1, "json", 32),
        (OURS, PLAIN, *_BY_HAND, FLOOR_2, *_PEER, LITSERVE),
    ),
    Scenario(
        *("mlp-1", "Gluon MLP 784, JSON, 1 client", "mlp", 1, "json", 1),
        (OURS, PLAIN, *_BY_HAND, FLOOR_1, FLOOR_2, *_PEERS),
    ),
    Scenario(
        *("mnist-100", "MNIST Module, 100 rows, JSON, 8 clients", "mnist", 100, "json", 8),
        (OURS, *_PEER),
    ),
    Scenario(
        *("linear-100", "linear Module, 100 rows, JSON, 8 clients", "linear", 100, "json", 8),
        (OURS, *_PEER),
    ),
    Scenario(
        *("mobilenet-json", "MobileNetV2, image as JSON, 8 clients", "mobilenet", 1, "json", 8),
        (OURS, *_PEER),
    ),
    Scenario(
        *("mobilenet-npy", "MobileNetV2, image as NPY, 8 clients", "mobilenet", 1, "npy", 8),
        (OURS, FOLDER, *_PEER),
    ),
    Scenario(
        *("resnet18-npy", "ResNet-18, image as NPY, 8 clients", "resnet18", 1, "npy", 8),
        (OURS, INT8, *_PEER),
        raw=True,
    ),
)

#: Closed loops that are also run as open loops, ours and the peer: requests arrive at OPEN_PART of
#: the closed rate of the peer's best setting.
OPEN = ("mnist-32", "mlp-32", "mobilenet-npy")
OPEN_PART = 0.7

#: Limit of arrivals per second: the client is written in Python and runs on the same cores.
OPEN_LIMIT = 1_500


class Raw(NamedTuple):
    """MXNet without a server, in ``workers`` processes with ``threads`` threads each."""

    name: str
    workers: int
    threads: int
    backend: str  # plain or fused


RAW = tuple(Raw(f"MXNet {backend}, 2 x 1", 2, 1, backend) for backend in ("plain", "fused"))

#: The worker's Python: model and requests of a batch, one row of JSON each.
BATCHES = (("mnist", 1), ("mnist", 32), ("mlp", 32))

#: Models whose loading is measured without a server.
LOADED = {"resnet50module": "ResNet-50 as a Module", "resnet50": "ResNet-50 as a Block"}

FOUR_WORKERS = "resnet50"

#: The memory of this model's servers is measured after their load.
MEASURED = "mlp"

STARTED, STARTED_PEERS = "mnist", _PEER

#: What was measured before requests went around MMS's queue and before workers were forked, on the
#: same two cores: the whole server with two workers of the MLP, in MB.
BEFORE = "ours, before"
RECORDED = {("memory-mlp", "all_mb"): 488.0}


class Target(NamedTuple):
    """A target for ours: the ratio of a metric to the best peer's, at or beyond a limit."""

    scenario: str
    metric: str
    sense: str  # ">=" or "<="
    limit: float
    peer: str = PEER  # prefix of the names to compare with; empty: the limit is for the metric
    system: str = OURS


def _one_row(model: str) -> tuple[Target, ...]:
    """The targets of one row of JSON, which are the same for the Module and the Block."""
    return (
        Target(f"{model}-32", "rate", ">=", 4, FLOOR),
        Target(f"{model}-32", "rate", ">=", 16),
        Target(f"{model}-32", "rate", ">=", 2, FLOOR, PLAIN),
        Target(f"{model}-1", "p50_ms", "<=", 0.6, FLOOR),
        Target(f"{model}-1", "p50_ms", "<=", 0.15),
    )


TARGETS = (
    *_one_row("mnist"),
    *_one_row("mlp"),
    Target("mlp-32", "rate", ">=", 1.5, GRANIAN),
    Target("mlp-32", "rate", ">=", 1.8, MOSEC),
    Target("mlp-32", "rate", ">=", 1.5, FASTAPI),
    Target("mlp-32", "rate", ">=", 1.2, ROBYN),
    Target("mlp-1", "p50_ms", "<=", 1, GRANIAN),
    Target("python-mnist-32", "us", "<=", 0.5, "MMS's reader"),
    Target("python-mlp-32", "us", "<=", 0.5, "MMS's reader"),
    Target("mnist-100", "rate", ">=", 20),
    Target("linear-100", "rate", ">=", 120),
    Target("resnet18-npy", "rate", ">=", 0.97, "MXNet"),
    Target("mobilenet-npy", "rate", ">=", 5.5),
    Target("mobilenet-json", "rate", ">=", 9),
    Target("mobilenet-npy", "rate", ">=", 0.95, OURS, FOLDER),
    Target("memory", "workers_mb", "<=", 0.4, APART),
    Target("restart", "s", "<=", 0.3, APART),
    Target("memory-mlp", "all_mb", "<=", 0.6, BEFORE),
    Target("start", "first_s", "<=", 0.8),
    *(Target(f"{name}-open", "p99_ms", "<=", 0.1) for name in OPEN),
)
