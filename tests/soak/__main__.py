"""Serve at 70 % of capacity for an hour, check every answer, and watch what the server uses.

python -m tests.soak [--minutes M] [--rate R] [--picture FILE.svg]

The capacity is measured first, by the same clients without pauses.  The exit code is 1 if an answer
was wrong or missing, or if memory, descriptors or threads grew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Sequence

import psutil

from benchmarks import environments
from tests.chaos.load import Load, Result
from tests.chaos.serving import Server, write_models

ROOT = Path(__file__).parents[2]

#: Clients; half of them keep their connection.
CLIENTS = 8

#: The part of the capacity that is sent.
PART = 0.7

#: Seconds for which the capacity is measured, after as many to warm up.
MEASURE_S = 10

#: Growth that is still none: from the second tenth of the time to the last, as parts and in units.
GROWTH = {"pss_mb": (0.05, 10), "descriptors": (0, 8), "threads": (0, 4)}


class Sample(NamedTuple):
    """One stretch of time, and what the server's processes use together at its end.

    Fields:
        cores: processors that were busy with the server and the clients during the stretch.
    """

    minute: float
    rate: float
    cores: float
    p50_ms: float
    p99_ms: float
    longest_ms: float
    failed: int
    rss_mb: float
    pss_mb: float
    descriptors: int
    threads: int


def cpu_s(server: Server) -> float:
    """CPU time of the server's processes and of this one, which has the clients, so far."""
    total_s = time.process_time()
    for process in server.alive():
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total_s += times.user + times.system
    return total_s


def take_sample(
    server: Server, result: Result, start_s: float, length_s: float, cores: float
) -> Sample:
    """Look at the processes."""
    rss = pss = descriptors = threads = 0
    for process in server.alive():
        with contextlib.suppress(psutil.Error), process.oneshot():
            memory = process.memory_full_info()
            rss, pss = rss + memory.rss, pss + memory.pss
            descriptors += process.num_fds()
            threads += process.num_threads()
    return Sample(
        round((time.monotonic() - start_s) / 60, 2),
        round(len(result.waits_s) / length_s, 1),
        round(cores, 2),
        *(round(1e3 * result.wait_s(part), 2) for part in (0.5, 0.99, 1)),
        len(result.waits_s) - result.kinds["good"],
        round(rss / 2**20, 1),
        round(pss / 2**20, 1),
        descriptors,
        threads,
    )


def capacity(server: Server) -> float:
    """Good answers a second when each client sends its next request at once."""
    with Load(server.ports[0], 30, CLIENTS, rate=1e6) as load:
        time.sleep(MEASURE_S)
        load.take()
        time.sleep(MEASURE_S)
        return load.take().kinds["good"] / MEASURE_S


def soak(server: Server, rate: float, minutes: float) -> tuple[list[Sample], Counter[str]]:
    """Send ``rate`` requests a second; returns the samples, and the failures."""
    count = max(20, min(360, int(minutes * 6)))
    length_s = 60 * minutes / count
    samples: list[Sample] = []
    failures: Counter[str] = Counter()
    start_s, before_s = time.monotonic(), cpu_s(server)
    with Load(server.ports[0], 30, CLIENTS, rate / CLIENTS) as load:
        for number in range(1, count + 1):
            time.sleep(max(0, start_s + number * length_s - time.monotonic()))
            result = load.take()
            failures += result.failures
            server.note_family()
            now_s = cpu_s(server)
            cores, before_s = (now_s - before_s) / length_s, now_s
            samples.append(take_sample(server, result, start_s, length_s, cores))
    return samples, failures


def growths(samples: Sequence[Sample]) -> list[str]:
    """What has grown from the second tenth of the time to the last, in words."""
    tenth = len(samples) // 10
    lines = []
    for field, (part, units) in GROWTH.items():
        values = [getattr(sample, field) for sample in samples]
        early, late = max(values[tenth : 2 * tenth]), min(values[-tenth:])
        if late > early * (1 + part) + units:
            lines.append(f"{field} grew from {early} to {late}")
    return lines


def table(samples: Sequence[Sample]) -> str:
    """A row for every tenth of the time."""
    lines = [
        "| minute | requests/s | cores | median, ms | 99 %, ms | longest, ms | not good "
        "| RSS, MB | PSS, MB | descriptors | threads |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    tenth = len(samples) // 10
    for number in range(tenth, len(samples) + 1, tenth):
        group = samples[number - tenth : number]
        last = group[-1]._replace(
            rate=round(sum(sample.rate for sample in group) / tenth, 1),
            cores=round(sum(sample.cores for sample in group) / tenth, 2),
            p50_ms=sorted(sample.p50_ms for sample in group)[tenth // 2],
            p99_ms=max(sample.p99_ms for sample in group),
            longest_ms=max(sample.longest_ms for sample in group),
            failed=sum(sample.failed for sample in group),
        )
        lines.append(f"| {' | '.join(map(str, last))} |")
    return "\n".join(lines)


def draw(samples: Sequence[Sample], picture: Path) -> None:
    """Draw the picture, in the environment of the benchmarks that has matplotlib."""
    folder = ROOT / "benchmarks" / ".venvs"
    environments.make(folder, ["plots"])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([sample._asdict() for sample in samples], file)
        file.flush()
        picture.parent.mkdir(parents=True, exist_ok=True)
        command = [environments.python(folder / "plots"), "-m", "tests.soak.plots", file.name]
        subprocess.run([*map(str, command), str(picture)], check=True, cwd=ROOT)


def main(arguments: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        write_models(folder / "store")
        server = Server(folder / "server", folder / "store", timeout_s=60, optimize="on")
        try:
            server.start(limit_s=120)
            limit = capacity(server)
            rate = min(PART * limit, arguments.rate)
            print(
                f"{rate:.0f} requests a second for {arguments.minutes:g} minutes; capacity "
                f"{limit:.0f}\n",
                flush=True,
            )
            samples, failures = soak(server, rate, arguments.minutes)
        finally:
            server.end()
    print(table(samples))
    if arguments.picture:
        draw(samples, arguments.picture)
    complaints = [*growths(samples), *(f"{count} x {text}" for text, count in failures.items())]
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.soak")
    parser.add_argument("--minutes", type=float, default=60, help="how long (default: 60)")
    help = "requests a second at most (default: as many as 70 %% of capacity)"
    parser.add_argument("--rate", type=float, default=float("inf"), help=help)
    parser.add_argument("--picture", type=Path, help="file of the picture, an SVG")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the server
    sys.exit(main(parser.parse_args()))
