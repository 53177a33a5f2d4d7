"""What is measured: the models, bodies, clients and systems, and the targets."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.servers import System, int8, litserve, mms_handler, no_op, peer

#: What the tables call mms_handler, and the prefix of the peer's names.  The peer is measured with
#: several settings, of which the best one counts.
OURS, PEER = "ours", "peer"

INT8 = "ours, int8"

#: A plain folder without a sample: no faster way is tried when its model is loaded.
FOLDER = "ours, no sample"

_SYSTEMS = (
    mms_handler(OURS),
    mms_handler(FOLDER, path=lambda place: place.model),
    mms_handler(INT8, path=int8, tolerance=0.2),
    peer(1, 2),
    peer(2, 1),
    no_op(2),
    litserve("LitServe, 2 workers", 2, 1),
    litserve("LitServe, batches", 1, 16),
)

SYSTEMS: dict[str, System] = {system.name: system for system in _SYSTEMS}

PEERS = tuple(name for name in SYSTEMS if name.startswith(PEER))


class Scenario(NamedTuple):
    """A closed loop: ``clients`` clients send one kind of body to each system."""

    name: str
    title: str
    model: str
    rows: int
    kind: str
    clients: int
    others: tuple[str, ...] = ()  # systems to measure besides ours and the peer
    raw: bool = False  # whether to measure MXNet without a server too

    def systems(self) -> tuple[str, ...]:
        return (OURS, *PEERS, *self.others)

    def is_image(self) -> bool:
        """Return whether the bodies are images, whose requests take long."""
        return self.model in ("mobilenet", "resnet18")


_FLOOR, _TWO, _BATCHES = "MMS alone", "LitServe, 2 workers", "LitServe, batches"

CLOSED = (
    Scenario("linear-100", "linear Module, 100 rows, JSON, 8 clients", "linear", 100, "json", 8),
    Scenario(
        "mnist-32", "MNIST Module, row of 784, JSON, 32 clients", "mnist", 1, "json", 32, (_FLOOR,)
    ),
    Scenario("mnist-100", "MNIST Module, 100 rows, JSON, 8 clients", "mnist", 100, "json", 8),
    Scenario("mlp-32", "Gluon MLP 784, JSON, 32 clients", "mlp", 1, "json", 32, (_FLOOR, _BATCHES)),
    Scenario("mlp-1", "Gluon MLP 784, JSON, 1 client", "mlp", 1, "json", 1, (_FLOOR, _TWO)),
    Scenario("mobilenet-json", "MobileNetV2, image as JSON, 8 clients", "mobilenet", 1, "json", 8),
    Scenario(
        "mobilenet-npy",
        "MobileNetV2, image as NPY, 8 clients",
        "mobilenet",
        1,
        "npy",
        8,
        (FOLDER, _TWO),
    ),
    Scenario(
        *("resnet18-npy", "ResNet-18, image as NPY, 8 clients", "resnet18", 1, "npy", 8),
        (INT8, _TWO),
        raw=True,
    ),
)

#: Closed loops that are also run as open loops.  Requests arrive at OPEN_PART of the closed rate of
#: the peer's best setting, and for ours also at that part of its own.
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


RAW = tuple(
    Raw(f"MXNet {backend}, {workers} x {threads}", workers, threads, backend)
    for backend in ("plain", "fused")
    for workers, threads in ((1, 2), (2, 1))
)

DECODED = ("json", "csv", "npy")

#: Models whose loading is measured without a server.
LOADED = {"resnet50module": "ResNet-50 as a Module", "resnet50": "ResNet-50 as a Block"}

FOUR_WORKERS = "resnet50"

STARTED = "mnist"


class Target(NamedTuple):
    """A target for ours: the ratio of a metric to the best peer's, at or beyond a limit."""

    scenario: str
    metric: str
    sense: str  # ">=" or "<="
    limit: float
    peer: str = PEER  # prefix of the names to compare with; empty: the limit is for the metric
    system: str = OURS


TARGETS = (
    Target("mnist-32", "rate", ">=", 8),
    Target("linear-100", "rate", ">=", 60),
    Target("mnist-100", "rate", ">=", 60),
    Target("mlp-32", "rate", ">=", 8),
    Target("mlp-1", "p50_ms", "<=", 0.35),
    Target("mobilenet-json", "rate", ">=", 6),
    Target("mobilenet-npy", "rate", ">=", 4),
    Target("resnet18-npy", "rate", ">=", 0.9, "MXNet"),
    Target("resnet18-npy", "rate", ">=", 1.4),
    Target("resnet18-npy", "rate", ">=", 1.7, system=INT8),
    Target("python", "over_us", "<=", 150, ""),
    Target("decode-json", "rate", ">=", 12),
    Target("decode-csv", "rate", ">=", 50),
    Target("decode-npy", "rate", ">=", 1, "numpy"),
    Target("load-resnet50module", "load_ms", "<=", 0.6),
    Target("load-resnet50module", "peak_mb", "<=", 0.7),
    Target("load-resnet50", "load_ms", "<=", 0.6),
    Target("load-resnet50", "peak_mb", "<=", 0.7),
    Target("start", "first_s", "<=", 1),
)
