"""Put servers under load in interleaved rounds: each measures every system, in another order.

for each model:  start every system ─▶ warm up ─▶ rounds of closed loops ─▶ of open ones ─▶ memory
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
from typing import Callable, Iterator, NamedTuple, Sequence

from benchmarks import closed_loop, open_loop, scenarios
from benchmarks.plan import Plan, Step, rotated
from benchmarks.probing import Probe, probing
from benchmarks.processes import NotServing, cpu_seconds, pss_mb, used_since
from benchmarks.reading import Reading, Traffic
from benchmarks.results import Results
from benchmarks.sampling import Samples, in_background
from benchmarks.scenarios import OURS, PEER, RAW, SYSTEMS, Raw, Scenario
from benchmarks.servers import Server


class Load(NamedTuple):
    """One system in one scenario, and a function that puts it under load for some seconds."""

    scenario: str  # its name in the results
    system: str
    seconds: int
    measure: Callable[[int], Reading]


#: Seconds that a measurement takes besides the load: until the server rests, and the last sample.
_AROUND_S, _AROUND_IMAGES_S = 0.6, 1.0


def models() -> Iterator[str]:
    """Return the models; those of one scenario after the other are measured together."""
    yield from dict.fromkeys(scenario.model for scenario in scenarios.CLOSED)


def step(model: str, plan: Plan) -> Step:
    """Return how long it takes to measure the scenarios of one model."""
    group = _group(model)
    closed_s = opened_s = warm_s = 0.0
    for scenario in group:
        count = _count(scenario)
        around_s = _AROUND_IMAGES_S if scenario.is_image() else _AROUND_S
        load_s = _seconds(scenario, plan) + around_s
        closed_s += count * load_s
        opened_s += 2 * load_s if scenario.name in scenarios.OPEN else 0
        warm_s += count * (plan.warm_s + around_s)
    systems = {name for scenario in group for name in scenario.systems}
    start_s = 6 if group[0].is_image() else 2  # of each system, its archive included
    return Step(model, 4 + start_s * len(systems) + warm_s, closed_s + opened_s)


def _count(scenario: Scenario) -> int:
    return len(scenario.systems) + len(RAW) * scenario.raw


def _group(model: str) -> list[Scenario]:
    return [scenario for scenario in scenarios.CLOSED if scenario.model == model]


def run(model: str, plan: Plan, results: Results) -> None:
    """Measure the scenarios of one model."""
    group = _group(model)
    with contextlib.ExitStack() as stack:
        plan.log(f"{model}: starting")
        running = _running(stack, group, plan, results)
        closed = list(_closed(group, running, stack, plan))
        for load in closed:
            _try(load, plan.warm_s, plan, results)
        _rounds(closed, plan, results)
        _rounds(list(_open(group, running, plan, results)), plan, results)
        if model == scenarios.MEASURED:
            for name, server in running.items():
                results.add(f"memory-{model}", name, {"all_mb": pss_mb(server.processes())})


def _rounds(loads: Sequence[Load], plan: Plan, results: Results) -> None:
    for number in range(plan.rounds if loads else 0):
        for load in rotated(loads, number):
            reading = _try(load, load.seconds, plan, results)
            if reading:
                results.add(load.scenario, load.system, reading._asdict())
                plan.log(f"{load.scenario}, round {number + 1}, {load.system}: {_summary(reading)}")


def _try(load: Load, seconds: int, plan: Plan, results: Results) -> Reading | None:
    """Measure.  If the server is gone, note why in the results and return None."""
    try:
        return load.measure(seconds)
    except subprocess.CalledProcessError as exc:
        reason = (exc.stderr or exc.stdout).decode(errors="replace").strip()[-200:]
        results.is_absent(load.scenario, load.system, reason)
        plan.log(f"{load.scenario}: {load.system} could not be measured: {reason}")
        return None


def _summary(reading: Reading) -> str:
    return (
        f"{reading.rate:,.1f} answers per second, p50 {reading.p50_ms:.2f} ms, "
        f"{reading.errors} errors, {reading.wrong} of {reading.checked} bodies wrong"
    )


# --- servers ---


def _running(
    stack: contextlib.ExitStack, group: Sequence[Scenario], plan: Plan, results: Results
) -> dict[str, Server]:
    """Start all systems that a group needs at the same time, and return those that are ready."""
    names = dict.fromkeys(name for scenario in group for name in scenario.systems)
    servers = {
        name: stack.enter_context(plan.serving(SYSTEMS[name], group[0].model)) for name in names
    }
    faults = {name: _fault(server, group, plan) for name, server in servers.items()}
    for name, fault in faults.items():
        if fault:
            results.is_absent(group[0].model, name, fault.rpartition("\n")[2][:200])
            plan.log(f"{group[0].model}: {name} is not measured:\n{fault}")
    return {name: server for name, server in servers.items() if not faults[name]}


def _fault(server: Server, group: Sequence[Scenario], plan: Plan) -> str:
    """Return why a server cannot be measured, or "": it did not start, or its answer is wrong."""
    try:
        server.wait()
    except NotServing as exc:
        return str(exc).strip()
    for scenario in group:
        samples = _samples(server, _traffic(scenario, plan))
        if server.system.name in scenario.systems and not samples.take():
            return f"{scenario.name}: the first answer differs from MXNet's"
    return ""


def _traffic(scenario: Scenario, plan: Plan) -> Traffic:
    return plan.traffic(scenario.model, scenario.rows, scenario.kind)


def _seconds(scenario: Scenario, plan: Plan) -> int:
    return plan.image_seconds if scenario.is_image() else plan.seconds


def _samples(server: Server, traffic: Traffic) -> Samples:
    return Samples(server.url, traffic, server.system.tolerance)


def _sampled(server: Server, traffic: Traffic, measure: Callable[[], Reading]) -> Reading:
    """Measure while one more client checks answers; return the reading with its counts."""
    samples = _samples(server, traffic)
    before = cpu_seconds(server.processes())
    with in_background(samples):
        reading = measure()
    server.rest()
    used_us = 1e6 * used_since(before, server.processes())
    return reading._replace(
        checked=samples.checked,
        wrong=samples.wrong,
        cpu_us=used_us / max(1.0, reading.rate * reading.seconds + samples.checked),
    )


# --- closed loops ---


def _closed(
    group: Sequence[Scenario], running: dict[str, Server], stack: contextlib.ExitStack, plan: Plan
) -> Iterator[Load]:
    for scenario in group:
        traffic, seconds = _traffic(scenario, plan), _seconds(scenario, plan)
        for name in scenario.systems:
            if name in running:
                measure = _over_http(running[name], traffic, scenario.clients)
                yield Load(scenario.name, name, seconds, measure)
        for raw in RAW if scenario.raw else ():
            measure = _in_process(raw, plan.model(scenario.model), traffic, stack, plan)
            yield Load(scenario.name, raw.name, seconds, measure)


def _over_http(server: Server, traffic: Traffic, clients: int) -> Callable[[int], Reading]:
    return lambda seconds: _sampled(
        server, traffic, lambda: closed_loop.measure(server.url, traffic, clients, seconds)
    )


def _in_process(
    raw: Raw, model: object, traffic: Traffic, stack: contextlib.ExitStack, plan: Plan
) -> Callable[[int], Reading]:
    """Run the first body through MXNet without a server, in ``raw.workers`` processes at once."""
    arguments = (model, traffic.files[0], raw.backend)
    env = {"OMP_NUM_THREADS": str(raw.threads)}
    probes = [
        stack.enter_context(probing(plan.python, "raw", *arguments, work=plan.work, env=env))
        for _ in range(raw.workers)
    ]
    return lambda seconds: _at_once(probes, seconds)


def _at_once(probes: Sequence[Probe], seconds: int) -> Reading:
    for probe in probes:
        probe.start(seconds)
    results = [probe.result() for probe in probes]
    return Reading(
        sum(result["rate"] for result in results),
        max(result["p50_ms"] for result in results),
        max(result["p99_ms"] for result in results),
        errors=0,
        seconds=seconds,
    )


# --- open loops ---


def _open(
    group: Sequence[Scenario], running: dict[str, Server], plan: Plan, results: Results
) -> Iterator[Load]:
    """Run ours and the peer at a part of the closed rate of the peer's best setting."""
    for scenario in group:
        if scenario.name not in scenarios.OPEN:
            continue
        peers = [name for name in running if name.startswith(PEER)]
        closed = {name: _median_rate(results, scenario.name, name) for name in peers}
        best = max(peers, key=lambda name: closed[name], default="")
        rate = _arrivals(closed.get(best, 0.0))
        for name in (OURS, best):
            if name in running and rate:
                yield _arriving(scenario, running[name], rate, plan)


def _median_rate(results: Results, scenario: str, system: str) -> float:
    return statistics.median(results.column(scenario, system, "rate") or [0.0])


def _arrivals(closed: float) -> float:
    """Return a part of a closed loop's rate, rounded to two digits."""
    return float(f"{min(closed * scenarios.OPEN_PART, scenarios.OPEN_LIMIT):.2g}")


def _arriving(scenario: Scenario, server: Server, rate: float, plan: Plan) -> Load:
    traffic = _traffic(scenario, plan)
    return Load(
        f"{scenario.name}-open",
        server.system.name,
        _seconds(scenario, plan),
        lambda seconds: _sampled(
            server, traffic, lambda: open_loop.measure(server.url, traffic, rate, seconds)
        ),
    )
