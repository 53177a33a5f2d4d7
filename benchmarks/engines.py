"""Measure what a model's ONNX twin is worth: workers that answer from it, beside MXNet's.

python -m benchmarks.engines       prints a table

Starts and memory are of a worker's process without a server: from its first instruction until it
has answered its sample, and after a hundred answers more.  Rates are of ``serve`` with defaults;
both engines are served at the same time and measured in turn.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

import mxnet as mx
import numpy as np

from benchmarks import closed_loop, report
from benchmarks.plan import rotated
from benchmarks.reading import Traffic
from mms_handler import models, serve

ENGINES = ("auto", "mxnet")
NAMES = {"auto": "ONNX twin", "mxnet": "MXNet"}

CLIENTS = (1, 32)

STARTS, ROUNDS, SECONDS, WARM_S = 5, 3, 2, 1

#: Loads a folder as a worker does, and prints its memory.
WORKER = """
import gc, sys, time
from pathlib import Path
from mms_handler import numpy_import
numpy_import.postpone()
from mms_handler import settings
from mms_handler.worker.loading import load
from mms_handler.worker.mms import memory
from mms_handler.worker.request import request_without_mms
from mms_handler.worker.trials import context_of
import psutil

context = context_of(Path(sys.argv[1]))
loaded = load(context, settings.current())
process = psutil.Process()
print(time.time() - float(sys.argv[4]), sum(process.cpu_times()[:2]))
gc.collect()
gc.freeze()
memory.trim()
memory.unmap_files()
body = Path(sys.argv[2]).read_bytes()
for _ in range(100):
    loaded.pipeline.answer([request_without_mms(context, body, sys.argv[3], "", "r")])
info = process.memory_full_info()
print(info.pss / 1e6, info.uss / 1e6)
"""


class Case(NamedTuple):
    """A model that is packed with its twin."""

    name: str
    archive: Path
    folder: Path  # unpacked
    body: Path
    content_type: str


def main() -> None:
    """Measure, and print two tables."""
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        cases = [_mlp(Path(work)), _mobilenet(Path(work))]
        alone = ("start, ms", "its CPU time, ms", "PSS, MB", "USS, MB")
        rates = [f"{clients} client{'s' * (clients > 1)}, 1/s" for clients in CLIENTS]
        rows = [row for case in cases for row in _rows(case)]
        print(report.table(("", *alone, *rates), rows))


def _rows(case: Case) -> list[list[str]]:
    workers: Dict[str, List[List[float]]] = defaultdict(list)
    for number in range(STARTS):
        for engine in rotated(ENGINES, number):
            workers[engine].append(_worker(case, engine))
    rates = _rates(case)
    return [
        [
            f"{case.name}, {NAMES[engine]}",
            *(report.spread(list(values)) for values in zip(*workers[engine])),
            *(report.spread(rates[engine, clients]) for clients in CLIENTS),
        ]
        for engine in ENGINES
    ]


def _worker(case: Case, engine: str) -> list[float]:
    """A worker's start and its processor time, in milliseconds; its PSS and USS in MB."""
    env = {**os.environ, "MMS_HANDLER_ENGINE": engine, "OMP_NUM_THREADS": "1"}
    start = str(time.time())
    command = [sys.executable, "-c", WORKER, case.folder, case.body, case.content_type, start]
    process = subprocess.run(command, env=env, capture_output=True, check=True, text=True)
    started_s, cpu_s, pss_mb, uss_mb = map(float, process.stdout.split())
    return [1e3 * started_s, 1e3 * cpu_s, pss_mb, uss_mb]


def _rates(case: Case) -> dict[tuple[str, int], list[float]]:
    """Good answers a second, by engine and number of clients; a value for each round."""
    traffic = Traffic(case.content_type, (case.body,), None)
    rates: Dict[Tuple[str, int], List[float]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        urls = {engine: stack.enter_context(_serving(case, engine)) for engine in ENGINES}
        for clients in CLIENTS:
            for url in urls.values():
                closed_loop.measure(url, traffic, clients, WARM_S)
            for number in range(ROUNDS):
                for engine in rotated(ENGINES, number):
                    reading = closed_loop.measure(urls[engine], traffic, clients, SECONDS)
                    if reading.errors:
                        raise RuntimeError(f"{case.name}, {engine}: {reading.errors} errors")
                    rates[engine, clients].append(reading.rate)
    return rates


@contextlib.contextmanager
def _serving(case: Case, engine: str) -> Iterator[str]:
    os.environ["MMS_HANDLER_ENGINE"] = engine
    port = 8300 + 10 * ENGINES.index(engine)
    with serve(case.archive, port=port, management_port=port + 1):
        yield f"http://127.0.0.1:{port}/predictions/{case.name}"


# --- models ----------------------------------------------------------------------------------


def _mlp(work: Path) -> Case:
    symbol = mx.sym.var("data")
    for hidden in (128, 64):
        symbol = mx.sym.relu(mx.sym.FullyConnected(symbol, num_hidden=hidden))
    symbol = mx.sym.softmax(mx.sym.FullyConnected(symbol, num_hidden=10))
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (1, 784))], for_training=False)
    module.init_params(mx.init.Xavier())
    models.save(module, work / "mlp")
    row = np.random.RandomState(0).uniform(0, 1, (1, 784)).astype(np.float32)
    body = work / "row.json"
    body.write_text(json.dumps(row.tolist()))
    return _packed(work, "mlp", body, "application/json")


def _mobilenet(work: Path) -> Case:
    net = mx.gluon.model_zoo.vision.mobilenet_v2_1_0()
    net.initialize(mx.init.Xavier())
    photo = np.random.RandomState(0).uniform(0, 1, (1, 3, 224, 224)).astype(np.float32)
    net(mx.nd.array(photo))
    models.save(net, work / "mobilenet", [photo.shape])
    out = io.BytesIO()
    np.save(out, photo)
    body = work / "photo.npy"
    body.write_bytes(out.getvalue())
    return _packed(work, "mobilenet", body, "application/x-npy")


def _packed(work: Path, name: str, body: Path, content_type: str) -> Case:
    from mms_handler import archive

    command = [sys.executable, "-m", "mms_handler", "archive", work / name, "--engine", "onnx"]
    options = ["--sample", body, "--model-store", work / "store"]
    subprocess.run(list(map(str, [*command, *options])), check=True)
    target = work / "store" / f"{name}.mar"
    archive.unpack(target, work / "unpacked" / name)
    return Case(name, target, work / "unpacked" / name, body, content_type)


if __name__ == "__main__":
    main()
