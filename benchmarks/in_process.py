"""Measure what needs no load: decoding, a worker's Python, loading, memory, start-up.

decoding, Python: one probe per system, measured once a round
loading: a new process each time
start: a new server each time
memory: one server with four workers
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

import psutil

from benchmarks import closed_loop, packing, scenarios, servers
from benchmarks.plan import Plan, rotated
from benchmarks.probing import probing
from benchmarks.processes import NotServing, pss_mb, wait_for
from benchmarks.results import Results
from benchmarks.sampling import Samples
from benchmarks.scenarios import OURS, PEER, SYSTEMS

OUR_HANDLER = "mms_handler.service:handle"
SAMPLED = "ours, with a sample"
PEER_HANDLER = "sagemaker_mxnet_serving_container.handler_service"


#: What ``serve`` sets in its workers' environment.
SERVE_ENV = {"MXNET_ENGINE_TYPE": "NaiveEngine", "MMS_HANDLER_SUPERVISED": "true"}


class Worker(NamedTuple):
    """A system's worker, to be run without a server: its Python, handler and environment."""

    name: str
    python: Path
    handler: str
    env: Mapping[str, str]


def run(plan: Plan, results: Results) -> None:
    """Measure everything that needs no load."""
    for kind in scenarios.DECODED:
        _decoding(kind, plan, results)
    _python(plan, results)
    for model in scenarios.LOADED:
        _loading(model, plan, results)
    _memory(plan, results)
    _starting(plan, results)
    _codecs(plan, results)


def _both(plan: Plan, model: str) -> tuple[Worker, Worker]:
    code = {"PYTHONPATH": str(plan.model(model) / "code")}
    return (
        # The environment of serve: mms_handler/worker/loading.py imports mxnet only there.
        Worker(OURS, plan.python, OUR_HANDLER, SERVE_ENV),
        Worker(PEER, plan.peer_python(), PEER_HANDLER, code),
    )


def _decoding(kind: str, plan: Plan, results: Results) -> None:
    """Measure how long an image of 150,528 numbers takes to become an array."""
    image = plan.traffic("mobilenet", 1, "npy").files[0]
    pythons = {OURS: plan.python, PEER: plan.peer_python()}
    if kind == "npy":
        pythons["numpy"] = plan.python
    with contextlib.ExitStack() as stack:
        probes = {
            name: stack.enter_context(
                probing(python, "decoding", name, kind, image, work=plan.work, env={})
            )
            for name, python in pythons.items()
        }
        for number in range(plan.rounds):
            for name, probe in rotated(list(probes.items()), number):
                us = probe.measure(0.5)["us"]
                results.add(f"decode-{kind}", name, {"ms": us / 1e3, "rate": 1e6 / us})
    plan.log(f"decode-{kind}: measured")


def _python(plan: Plan, results: Results) -> None:
    """Measure MMS's Service with each handler, around a Block that does nothing."""
    arguments = (plan.model("constant"), plan.traffic("constant", 1, "json").files[0])
    no_op = Worker("no-op", plan.python, "benchmarks.probes.working:nothing", {})
    with contextlib.ExitStack() as stack:
        probes = [
            (
                worker.name,
                stack.enter_context(
                    probing(
                        *(worker.python, "working", worker.handler, *arguments),
                        work=plan.work,
                        env=worker.env,
                    )
                ),
            )
            for worker in (no_op, *_both(plan, "constant"))
        ]
        for number in range(plan.rounds):
            times = {name: probe.measure(1)["us"] for name, probe in rotated(probes, number)}
            for name, us in times.items():
                results.add("python", name, {"us": us, "over_us": us - times["no-op"]})
    plan.log("python: measured")


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
    systems = (servers.mms_handler(OURS, "--workers", "4", "--threads", "1"), servers.peer(4, 1))
    for system in systems:
        try:
            with plan.serving(system, scenarios.FOUR_WORKERS) as server:
                server.wait()
                closed_loop.measure(server.url, traffic, 8, 2)
                name = PEER if system.name.startswith(PEER) else OURS
                results.add("memory", name, _memory_of(server.processes()))
        except NotServing as exc:
            results.is_absent("memory", system.name, str(exc)[-200:])
    plan.log("memory: measured")


def _memory_of(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """Return the memory of Java, and of the workers, which are all the processes below it."""
    java = next(process for process in processes if process.name() == "java")
    return {
        "workers_mb": pss_mb(java.children(recursive=True)),
        "java_mb": pss_mb([java]),
        "all_mb": pss_mb(processes),
    }


def _starting(plan: Plan, results: Results) -> None:
    """Measure the time from the command to the first right answer."""
    systems = [SYSTEMS[name] for name in (OURS, *scenarios.PEERS)]
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
