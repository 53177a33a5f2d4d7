"""Transform on a Ray cluster of this machine with one, two and four workers, and without Ray.

A head and two nodes of two CPUs each are processes of this machine, which share its cores: the
figures show what Ray adds, and no more than these cores can do.  The time to load is in none: a
job is timed from its first done part on.

    python -m benchmarks.ray_workers [--records 6000] [--rounds 2]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ContextManager, Iterator

import numpy as np

from benchmarks.report import table
from mms_handler.transform import Options, transform
from mms_handler.transform.ray_cluster import on_ray
from mms_handler.transform.run import Ready, Target, local

WORKERS = (1, 2, 4)

OPTIONS = Options(
    split_type="Line", assemble_with="Line", content_type="text/csv", accept="text/csv"
)

#: Numbers of a record, which takes 9 KB, and units of each layer.
INPUTS, UNITS, LAYERS = 1024, 2048, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=6000, help="of the input (default: 6000)")
    parser.add_argument("--rounds", type=int, default=2, help="of each (default: 2)")
    arguments = parser.parse_args()
    os.environ.update(
        OMP_NUM_THREADS="1",
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
        RAY_USAGE_STATS_ENABLED="0",
    )
    with tempfile.TemporaryDirectory(prefix="ray-") as name:
        folder = Path(name)
        os.environ["TMPDIR"] = name
        export(folder / "model")
        write(folder / "rows.csv", arguments.records)
        with cluster(folder) as address:
            rate_of(folder, 4, address)  # Ray's own processes have started then
            cases = [(count, place) for count in WORKERS for place in ("", address)]
            rounds = [[rate_of(folder, *case) for case in cases] for _ in range(arguments.rounds)]
    best = [f"{max(rates):,.0f}" for rates in zip(*rounds)]
    rows = [(str(count), *best[2 * n : 2 * n + 2]) for n, count in enumerate(WORKERS)]
    print(table(("workers", "this machine, rows/s", "Ray, rows/s"), rows))


def export(folder: Path) -> None:
    """Write a network of several layers with random parameters, in a process of its own."""
    script = f"""
import sys, pathlib, mxnet as mx
net = mx.gluon.nn.HybridSequential()
net.add(*[mx.gluon.nn.Dense({UNITS}, activation="relu") for _ in range({LAYERS})])
net.add(mx.gluon.nn.Dense(4))
net.initialize(mx.init.Xavier())
net.hybridize()
net(mx.nd.zeros((1, {INPUTS})))
pathlib.Path(sys.argv[1]).mkdir()
net.export(sys.argv[1] + "/model")
"""
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True)


def write(file: Path, records: int) -> None:
    """Write the records, of which only the first few differ."""
    rows = np.random.RandomState(0).uniform(-1, 1, (16, INPUTS))
    lines = [",".join(f"{value:.5f}" for value in row) + "\n" for row in rows]
    with file.open("w") as stream:
        stream.writelines(lines[number % len(lines)] for number in range(records))


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Yield the address of a head without CPUs, and two nodes with two each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false"]
    head += [f"--temp-dir={folder}/ray", "--num-cpus=0"]
    started = []
    try:
        for words in (head, *([f"--address={address}", "--num-cpus=2"] for _ in range(2))):
            ray = Path(sys.executable).with_name("ray")
            common = ["--block", "--memory=4000000000", "--object-store-memory=200000000"]
            log = (folder / f"log-{len(started)}").open("w")
            started.append(subprocess.Popen([ray, "start", *words, *common], stdout=log))
            while "Ray runtime started" not in Path(log.name).read_text():
                assert started[-1].poll() is None
                time.sleep(0.2)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def rate_of(folder: Path, workers: int, address: str) -> float:
    """Records a second of a job; ``address`` is "" for this machine."""
    model = str(folder / "model")
    if address:
        return rate(on_ray(model, OPTIONS, address, workers=workers), folder)
    return rate(local(model, OPTIONS, workers=workers), folder)


def rate(ready: ContextManager[Ready], folder: Path) -> float:
    """Records a second of a job, from its first done part on."""
    times: list[tuple[float, int]] = []

    @contextlib.contextmanager
    def timed() -> Iterator[Ready]:
        with ready as found:

            def execute(parts: Any) -> Iterator[Any]:
                for done in found.execute(parts):
                    times.append((time.perf_counter(), done.records))
                    yield done

            yield found._replace(execute=execute)

    report = transform(timed(), Target(str(folder / "rows.csv"), str(folder / "out")), OPTIONS)
    assert report.complete
    assert not report.error_count
    shutil.rmtree(folder / "out")
    return sum(records for _, records in times[1:]) / (times[-1][0] - times[0][0])


if __name__ == "__main__":
    main()
