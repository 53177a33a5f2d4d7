"""Measure what needs no load: a worker's Python, loading, memory, replaced workers, start-up.

Python, replaced workers: every system runs, and one is measured at a time
loading: a new process each time
start: a new server each time
memory: one server with four workers
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, NamedTuple, Sequence

import psutil

from benchmarks import batches, closed_loop, packing, scenarios, servers
from benchmarks.batches import OUR_HANDLER, SERVE_ENV
from benchmarks.plan import Plan, Step, rotated
from benchmarks.probing import probing
from benchmarks.processes import NotServing, pss_mb, wait_for
from benchmarks.results import Results
from benchmarks.sampling import Samples
from benchmarks.scenarios import APART, FORK_OFF, OURS, PEER, SYSTEMS
from benchmarks.servers import Server

SAMPLED = "ours, with a sample"
PEER_HANDLER = "sagemaker_mxnet_serving_container.handler_service"


class Worker(NamedTuple):
    """A system's worker, to be run without a server: its Python, handler and environment."""

    name: str
    python: Path
    handler: str
    env: Mapping[str, str]


def steps() -> Iterator[tuple[Step, Callable[[Plan, Results], None]]]:
    """Return everything that needs no load, with the time that it takes."""
    yield Step("python", 25, 6 * len(scenarios.BATCHES)), _python
    yield Step("restart", 12, 6), _restarting
    yield Step("start", 1, 9), _starting
    yield Step("memory", 50, 0.1), _memory
    for model in scenarios.LOADED:
        yield Step(f"load-{model}", 1, 10), functools.partial(_loading, model)
    yield Step("codecs", 60, 0.1), _codecs


def _python(plan: Plan, results: Results) -> None:
    """Measure the processor time of a worker for each request of a batch."""
    for model, requests in scenarios.BATCHES:
        name = f"python-{model}-{requests}"
        batches.measure(name, batches.Case(model, 1, "json", requests), 0.7, plan, results)
    plan.log("python: measured")


def _both(plan: Plan, model: str) -> tuple[Worker, Worker]:
    code = {"PYTHONPATH": str(plan.model(model) / "code")}
    return (
        # The environment of serve: mms_handler/worker/loading.py imports mxnet only there.
        Worker(OURS, plan.python, OUR_HANDLER, SERVE_ENV),
        Worker(PEER, plan.peer_python(), PEER_HANDLER, code),
    )


def _loading(model: str, plan: Plan, results: Results) -> None:
    """Load one model into a fresh process; ours also from an archive, whose sample it answers."""
    body = plan.traffic(model, 1, "npy").files[0]
    handler, peer = ((worker, plan.model(model)) for worker in _both(plan, model))
    sampled = (handler[0]._replace(name=SAMPLED), packing.unpacked(plan.model(model), plan.work))
    for number in range(plan.rounds):
        for worker, folder in rotated([handler, peer, sampled], number):
            arguments = (worker.python, "loading", worker.handler, folder, body)
            with probing(*arguments, work=plan.work, env=worker.env) as probe:
                results.add(f"load-{model}", worker.name, probe.measure(0))
    plan.log(f"load-{model}: measured")


def _memory(plan: Plan, results: Results) -> None:
    """Measure the memory of four workers after each has answered."""
    traffic = plan.traffic(scenarios.FOUR_WORKERS, 1, "npy")
    options = ("--workers", "4", "--threads", "1")
    systems = (
        servers.mms_handler(OURS, *options),
        servers.mms_handler(APART, *options, **FORK_OFF),
        servers.peer(4, 1),
    )
    for system in systems:
        try:
            with plan.serving(system, scenarios.FOUR_WORKERS) as server:
                server.wait()
                closed_loop.measure(server.url, traffic, 8, 2)
                results.add("memory", system.name, _memory_of(server.processes()))
        except NotServing as exc:
            results.is_absent("memory", system.name, str(exc)[-200:])
    plan.log("memory: measured")


def _memory_of(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """Return the memory of Java, of the command, and of the workers, which are all the others."""
    java = next(process for process in processes if process.name() == "java")
    command = [process for process in processes if process in java.parents()]
    workers = [process for process in processes if process not in (java, *command)]
    return {
        "workers_mb": pss_mb(workers),
        "java_mb": pss_mb([java]),
        "all_mb": pss_mb(processes),
    }


def _restarting(plan: Plan, results: Results) -> None:
    """Kill the only worker, and measure how long it takes until another one answers."""
    options, env = ("--workers", "1"), {"MMS_HANDLER_MAX_RESTARTS": "100"}
    systems = (
        servers.mms_handler(OURS, *options, **env),
        servers.mms_handler(APART, *options, **env, **FORK_OFF),
    )
    traffic = plan.traffic(scenarios.STARTED, 1, "json")
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(plan.serving(system, scenarios.STARTED)) for system in systems
        ]
        running = [server for server in started if _is_ready(server, results)]
        for number in range(plan.rounds):
            for server in rotated(running, number):
                samples = Samples(server.url, traffic, server.system.tolerance)
                wait_for(samples.take, server.process, server.place.folder)
                server.rest()
                worker, start = _worker(server), time.monotonic()
                worker.kill()
                wait_for(samples.take, server.process, server.place.folder, pause_s=0.005)
                results.add("restart", server.system.name, {"s": time.monotonic() - start})
    plan.log("restart: measured")


def _is_ready(server: Server, results: Results) -> bool:
    """Wait for a server; one that does not start is noted."""
    try:
        server.wait()
    except NotServing as exc:
        results.is_absent("restart", server.system.name, str(exc).strip()[-200:])
        return False
    return True


def _worker(server: Server) -> psutil.Process:
    """Return the only worker: of MMS's Python processes, the one from which no other descends."""
    (worker,) = (
        process
        for process in server.processes()
        if process.status() != psutil.STATUS_ZOMBIE
        and "model_service_worker.py" in " ".join(process.cmdline())
        and not process.children()
    )
    return worker


def _starting(plan: Plan, results: Results) -> None:
    """Measure the time from the command to the first right answer."""
    systems = [SYSTEMS[name] for name in (OURS, *scenarios.STARTED_PEERS)]
    traffic = plan.traffic(scenarios.STARTED, 1, "json")
    for number in range(plan.rounds):
        for system in rotated(systems, number):
            with plan.serving(system, scenarios.STARTED) as server:
                samples = Samples(server.url, traffic, system.tolerance)
                wait_for(samples.take, server.process, server.place.folder)
                results.add("start", system.name, {"first_s": time.monotonic() - server.start})
    plan.log("start: measured")


def _codecs(plan: Plan, results: Results) -> None:
    """Keep the table of benchmarks.codecs, which times every codec in both directions."""
    process = subprocess.run(
        [plan.python, "-m", "benchmarks.codecs", str(plan.rounds)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        check=True,
    )
    results.tables["codecs"] = process.stdout.decode().strip()
    plan.log("codecs: measured")
