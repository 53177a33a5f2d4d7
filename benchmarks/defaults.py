"""What each default of ours is worth: serve as it is beside serve with one of them changed.

python -m benchmarks.defaults       prints a table
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Tuple

from benchmarks import closed_loop, packing, report
from benchmarks.plan import Plan, turned
from benchmarks.reading import Reading
from benchmarks.scenarios import CLOSED, Scenario
from benchmarks.servers import Server, System, ours

#: What the JVM would choose by itself on a machine with two cores and 2 GB, or more.
_JVM = "-XX:TieredStopAtLevel=4 -XX:-UseSerialGC -XX:+UseG1GC"

VARIANTS: tuple[System, ...] = (
    ours("as it is"),
    ours("the JVM's own choice of compilers and collector", _JAVA_OPTIONS=_JVM),
    ours("one thread of netty", "--netty-threads", "1"),
    ours("one request at a time", "--batch-size", "1"),
    ours("up to 8 requests at once", "--batch-size", "8"),
    ours("5 ms for the rest of a batch", "--max-batch-delay-ms", "5"),
    ours("one worker of one thread", "--workers", "1", "--threads", "1"),
    ours("one worker of two threads", "--workers", "1", "--threads", "2"),
    ours("graphs as the script made them", MMS_HANDLER_OPTIMIZE="off"),
)

SCENARIOS = ("mlp-1", "mnist-32", "mobilenet-npy")

ROUNDS, SECONDS, WARM_S = 3, 3, 3


#: Readings by scenario and variant.
Readings = Dict[Tuple[str, str], List[Reading]]


def main() -> None:
    """Measure, and print a table with the medians of all rounds."""
    found: Readings = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        python, say = Path(sys.executable), lambda line: print(line, file=sys.stderr)
        environments = Path(__file__).parent / ".venvs"
        amounts = (ROUNDS, SECONDS, SECONDS, WARM_S)
        plan = Plan(*amounts, packing.models(), Path(work), environments, python, say)
        for scenario in (one for one in CLOSED if one.name in SCENARIOS):
            _measure(scenario, plan, found)
    head = ("", *(f"{name}: {what}" for name in SCENARIOS for what in ("a second", "p50 ms")))
    print(report.table(head, [_row(system.name, found) for system in VARIANTS]))


def _measure(scenario: Scenario, plan: Plan, found: Readings) -> None:
    sent = plan.traffic(scenario.model, scenario.rows, scenario.kind)
    with contextlib.ExitStack() as stack:
        servers: list[Server] = [
            stack.enter_context(plan.serving(system, scenario.model, scenario.kind))
            for system in VARIANTS
        ]
        for server in servers:
            server.wait()
        for server in servers:
            closed_loop.measure(server.url, sent, scenario.clients, plan.warm_s)
            server.rest()
        for number in range(plan.rounds):
            for server in turned(servers, number):
                reading = closed_loop.measure(server.url, sent, scenario.clients, plan.seconds)
                server.rest()
                plan.say(f"{scenario.name}, round {number + 1}, {server.system.name}: {reading}")
                found[scenario.name, server.system.name].append(reading)


def _row(system: str, found: Readings) -> list[str]:
    row = [system]
    for name in SCENARIOS:
        readings = found[name, system]
        row += [report.spread([one.rate for one in readings])]
        row += [report.spread([one.p50_ms for one in readings])]
    return row


if __name__ == "__main__":
    main()
