"""Load on servers, interleaved: each round asks every system once, each round in another order.

for each model:  start every system ─▶ warm up ─▶ rounds of closed loops ─▶ rounds of open ones
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
from typing import Callable, Iterator, NamedTuple, Sequence

from benchmarks import closed_loop, open_loop, scenarios
from benchmarks.plan import Plan, turned
from benchmarks.probing import Probe, probing
from benchmarks.processes import NotServing
from benchmarks.reading import Reading, Traffic
from benchmarks.results import Results
from benchmarks.sampling import Samples, beside
from benchmarks.scenarios import OURS, PEERS, RAW, SYSTEMS, Raw, Scenario
from benchmarks.servers import Server


class Load(NamedTuple):
    """One system in one scenario, and what puts it under load for some seconds."""

    scenario: str  # as the results call it
    system: str
    seconds: int
    measure: Callable[[int], Reading]


def run(plan: Plan, results: Results) -> None:
    """Measure every scenario, model by model."""
    for model in dict.fromkeys(scenario.model for scenario in scenarios.CLOSED):
        group = [scenario for scenario in scenarios.CLOSED if scenario.model == model]
        with contextlib.ExitStack() as stack:
            plan.say(f"{model}: starting")
            running = _running(stack, group, plan, results)
            closed = list(_closed(group, running, stack, plan))
            for load in closed if plan.warm_s else ():
                _try(load, plan.warm_s, plan, results)
            _rounds(closed, plan, results)
            _rounds(list(_open(group, running, plan, results)), plan, results)


def _rounds(loads: Sequence[Load], plan: Plan, results: Results) -> None:
    for number in range(plan.rounds if loads else 0):
        for load in turned(loads, number):
            reading = _try(load, load.seconds, plan, results)
            if reading:
                results.add(load.scenario, load.system, reading._asdict())
                plan.say(f"{load.scenario}, round {number + 1}, {load.system}: {_told(reading)}")


def _try(load: Load, seconds: int, plan: Plan, results: Results) -> Reading | None:
    """What was found; that nothing could be is noted, and the run goes on."""
    try:
        return load.measure(seconds)
    except subprocess.CalledProcessError as exc:  # the server is gone
        reason = (exc.stderr or exc.stdout).decode(errors="replace").strip()[-200:]
        results.is_absent(load.scenario, load.system, reason)
        plan.say(f"{load.scenario}: {load.system} was not measured: {reason}")
        return None


def _told(reading: Reading) -> str:
    return (
        f"{reading.rate:,.1f} a second, p50 {reading.p50_ms:.2f} ms, {reading.errors} errors, "
        f"{reading.wrong} of {reading.checked} bodies wrong"
    )


# --- servers ---


def _running(
    stack: contextlib.ExitStack, group: Sequence[Scenario], plan: Plan, results: Results
) -> dict[str, Server]:
    """Every system that a group needs, ready; they start side by side."""
    kinds = {name: scenario.kind for scenario in group[::-1] for name in scenario.systems()}
    started = {
        name: stack.enter_context(plan.serving(SYSTEMS[name], group[0].model, kind))
        for name, kind in kinds.items()
    }
    faults = {name: _fault(server, group, plan) for name, server in started.items()}
    for name, fault in faults.items():
        if fault:
            results.is_absent(group[0].model, name, fault.rpartition("\n")[2][:200])
            plan.say(f"{group[0].model}: {name} is not measured:\n{fault}")
    return {name: server for name, server in started.items() if not faults[name]}


def _fault(server: Server, group: Sequence[Scenario], plan: Plan) -> str:
    """Why a server is not measured: it does not start, or it does not answer what MXNet does."""
    try:
        server.wait()
    except NotServing as exc:
        return str(exc).strip()
    for scenario in group:
        samples = _samples(server, _traffic(scenario, plan))
        if server.system.name in scenario.systems() and not samples.take():
            return f"{scenario.name}: its first answer is not MXNet's"
    return ""


def _traffic(scenario: Scenario, plan: Plan) -> Traffic:
    return plan.traffic(scenario.model, scenario.rows, scenario.kind)


def _seconds(scenario: Scenario, plan: Plan) -> int:
    return plan.image_seconds if scenario.is_image() else plan.seconds


def _samples(server: Server, sent: Traffic) -> Samples:
    return Samples(server.url, sent, server.system.tolerance)


def _sampled(server: Server, sent: Traffic, measure: Callable[[], Reading]) -> Reading:
    """What ``measure`` finds, and what the answers of a client beside it were."""
    samples = _samples(server, sent)
    with beside(samples):
        reading = measure()
    server.rest()
    return reading._replace(checked=samples.checked, wrong=samples.wrong)


# --- closed loops ---


def _closed(
    group: Sequence[Scenario], running: dict[str, Server], stack: contextlib.ExitStack, plan: Plan
) -> Iterator[Load]:
    for scenario in group:
        sent, seconds = _traffic(scenario, plan), _seconds(scenario, plan)
        for name in scenario.systems():
            if name in running:
                measure = _over_http(running[name], sent, scenario.clients)
                yield Load(scenario.name, name, seconds, measure)
        for raw in RAW if scenario.raw else ():
            measure = _in_process(raw, plan.model(scenario.model), sent, stack, plan)
            yield Load(scenario.name, raw.name, seconds, measure)


def _over_http(server: Server, sent: Traffic, clients: int) -> Callable[[int], Reading]:
    return lambda seconds: _sampled(
        server, sent, lambda: closed_loop.measure(server.url, sent, clients, seconds)
    )


def _in_process(
    raw: Raw, model: object, sent: Traffic, stack: contextlib.ExitStack, plan: Plan
) -> Callable[[int], Reading]:
    """The first body through MXNet in as many processes as the system has workers."""
    words, env = (model, sent.files[0], raw.how), {"OMP_NUM_THREADS": str(raw.threads)}
    probes = [
        stack.enter_context(probing(plan.python, "raw", *words, work=plan.work, env=env))
        for _ in range(raw.workers)
    ]
    return lambda seconds: _together(probes, seconds)


def _together(probes: Sequence[Probe], seconds: int) -> Reading:
    for probe in probes:
        probe.start(seconds)
    found = [probe.found() for probe in probes]
    return Reading(
        sum(one["rate"] for one in found),
        max(one["p50_ms"] for one in found),
        max(one["p99_ms"] for one in found),
        errors=0,
    )


# --- open loops ---


def _open(
    group: Sequence[Scenario], running: dict[str, Server], plan: Plan, results: Results
) -> Iterator[Load]:
    """Arrivals at a part of what the peer's best did closed; then, ours alone, of what ours did."""
    for scenario in (one for one in group if one.name in scenarios.OPEN):
        closed = {name: _median_rate(results, scenario.name, name) for name in running}
        best = max(PEERS, key=lambda name: closed.get(name, 0.0))
        for name, part_of in ((OURS, best), (best, best), (OURS, OURS)):
            rate = _arrivals(closed.get(part_of, 0.0))
            if name in running and rate:
                yield _arriving(scenario, running[name], rate, plan)


def _median_rate(results: Results, scenario: str, system: str) -> float:
    return statistics.median(results.column(scenario, system, "rate") or [0.0])


def _arrivals(closed: float) -> float:
    """A part of a closed loop's rate, in two digits."""
    return float(f"{min(closed * scenarios.OPEN_PART, scenarios.OPEN_MOST):.2g}")


def _arriving(scenario: Scenario, server: Server, rate: float, plan: Plan) -> Load:
    sent, name = _traffic(scenario, plan), f"{server.system.name} at {rate:,.0f}"
    return Load(
        f"{scenario.name}-open",
        name,
        _seconds(scenario, plan),
        lambda seconds: _sampled(
            server, sent, lambda: open_loop.measure(server.url, sent, rate, seconds)
        ),
    )
