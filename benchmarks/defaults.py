"""Measure what each default is worth: serve as it is, beside serve with one default changed.

python -m benchmarks.defaults       prints a table
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Tuple

from benchmarks import closed_loop, report
from benchmarks.plan import Plan, rotated
from benchmarks.reading import Reading
from benchmarks.scenarios import CLOSED, CORE_OFF, Scenario
from benchmarks.servers import Server, System, mms_handler

#: The JVM's own choice on a machine with at least two cores and 2 GB.
_JVM = "-XX:TieredStopAtLevel=4 -XX:-UseSerialGC -XX:+UseG1GC"

VARIANTS: tuple[System, ...] = (
    mms_handler("the defaults"),
    mms_handler("the JVM's own choice of compilers and collector", _JAVA_OPTIONS=_JVM),
    mms_handler(
        "two netty threads for each core", "--netty-threads", f"{2 * (os.cpu_count() or 1)}"
    ),
    mms_handler("no batches", "--batch-size", "1"),
    mms_handler("batches of up to 8", "--batch-size", "8"),
    mms_handler("one worker with one thread", "--workers", "1", "--threads", "1"),
    mms_handler("one worker with two threads", "--workers", "1", "--threads", "2"),
    mms_handler("no compiled core", **CORE_OFF),
    mms_handler("graphs as the script made them", MMS_HANDLER_OPTIMIZE="off"),
)

SCENARIOS = ("mlp-1", "mnist-32", "mobilenet-npy")

ROUNDS, SECONDS = 3, 3


#: Readings by scenario and variant.
Readings = Dict[Tuple[str, str], List[Reading]]


def main() -> None:
    """Measure, and print a table with the medians of all rounds."""
    readings: Readings = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        plan = Plan.standalone(Path(work), ROUNDS, SECONDS)
        for scenario in CLOSED:
            if scenario.name in SCENARIOS:
                _measure(scenario, plan, readings)
    metrics = ("answers per second", "p50 ms")
    head = ("", *(f"{name}: {metric}" for name in SCENARIOS for metric in metrics))
    print(report.table(head, [_row(system.name, readings) for system in VARIANTS]))


def _measure(scenario: Scenario, plan: Plan, readings: Readings) -> None:
    traffic = plan.traffic(scenario.model, scenario.rows, scenario.kind)
    with contextlib.ExitStack() as stack:
        servers: list[Server] = []
        for system in VARIANTS:  # together they would disturb the search for faster graphs
            servers.append(stack.enter_context(plan.serving(system, scenario.model)))
            servers[-1].wait()
        for server in servers:
            closed_loop.measure(server.url, traffic, scenario.clients, plan.warm_s)
            server.rest()
        for number in range(plan.rounds):
            for server in rotated(servers, number):
                reading = closed_loop.measure(server.url, traffic, scenario.clients, plan.seconds)
                server.rest()
                plan.log(f"{scenario.name}, round {number + 1}, {server.system.name}: {reading}")
                readings[scenario.name, server.system.name].append(reading)


def _row(system: str, readings: Readings) -> list[str]:
    row = [system]
    for name in SCENARIOS:
        rounds = readings[name, system]
        row += [report.spread([reading.rate for reading in rounds])]
        row += [report.spread([reading.p50_ms for reading in rounds])]
    return row


if __name__ == "__main__":
    main()
