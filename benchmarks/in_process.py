"""What is measured without load: decoding, a worker's Python, loading, memory, the start.

decoding, Python: one probe a system, asked once a round      loading: a new process each time
start: a new server each time                                 memory: one server with four workers
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

import psutil

from benchmarks import closed_loop, packing, scenarios, servers
from benchmarks.plan import Plan, turned
from benchmarks.probing import probing
from benchmarks.processes import NotServing, pss_mb, wait_for
from benchmarks.results import Results
from benchmarks.sampling import Samples
from benchmarks.scenarios import OURS, PEER, SYSTEMS

OUR_HANDLER = "mms_handler.service:handle"
SAMPLED = "ours, with a sample"
PEER_HANDLER = "sagemaker_mxnet_serving_container.handler_service"


_OF_SERVE = {"MXNET_ENGINE_TYPE": "NaiveEngine", "MMS_HANDLER_SUPERVISED": "true"}


class Whose(NamedTuple):
    """A system in process: its Python, its handler, and what its workers' environment has."""

    name: str
    python: Path
    handler: str
    env: Mapping[str, str]


def run(plan: Plan, results: Results) -> None:
    """Measure everything that is no load."""
    for kind in scenarios.DECODED:
        _decoding(kind, plan, results)
    _python(plan, results)
    for model in scenarios.LOADED:
        _loading(model, plan, results)
    _memory(plan, results)
    _starting(plan, results)
    _codecs(plan, results)


def _both(plan: Plan, model: str) -> tuple[Whose, Whose]:
    code = {"PYTHONPATH": str(plan.model(model) / "code")}
    return (
        # as its workers run (mms_handler/worker/loading.py), where mxnet is imported only then
        Whose(OURS, plan.python, OUR_HANDLER, _OF_SERVE),
        Whose(PEER, plan.peer_python(), PEER_HANDLER, code),
    )


def _decoding(kind: str, plan: Plan, results: Results) -> None:
    """An image of 150,528 numbers to an array."""
    image = plan.traffic("mobilenet", 1, "npy").files[0]
    whose = {OURS: plan.python, PEER: plan.peer_python()}
    if kind == "npy":
        whose["numpy"] = plan.python
    with contextlib.ExitStack() as stack:
        probes = {
            name: stack.enter_context(
                probing(python, "decoding", name, kind, image, work=plan.work, env={})
            )
            for name, python in whose.items()
        }
        for number in range(plan.rounds):
            for name, probe in turned(list(probes.items()), number):
                us = probe.measure(0.5)["us"]
                results.add(f"decode-{kind}", name, {"ms": us / 1e3, "rate": 1e6 / us})
    plan.say(f"decode-{kind}: measured")


def _python(plan: Plan, results: Results) -> None:
    """MMS's Service with each handler around a Block that costs nothing."""
    words = (plan.model("constant"), plan.traffic("constant", 1, "json").files[0])
    no_op = Whose("no-op", plan.python, "benchmarks.probes.working:nothing", {})
    with contextlib.ExitStack() as stack:
        probes = [
            (
                one.name,
                stack.enter_context(
                    probing(
                        *(one.python, "working", one.handler, *words),
                        work=plan.work,
                        env=one.env,
                    )
                ),
            )
            for one in (no_op, *_both(plan, "constant"))
        ]
        for number in range(plan.rounds):
            found = {name: probe.measure(1)["us"] for name, probe in turned(probes, number)}
            for name, us in found.items():
                results.add("python", name, {"us": us, "over_us": us - found["no-op"]})
    plan.say("python: measured")


def _loading(model: str, plan: Plan, results: Results) -> None:
    """One model into a fresh process; ours also as an archive with a sample, which it answers."""
    body = plan.traffic(model, 1, "npy").files[0]
    mine, peers = ((one, plan.model(model)) for one in _both(plan, model))
    sampled = (mine[0]._replace(name=SAMPLED), packing.unpacked(plan.model(model), plan.work))
    for number in range(plan.rounds):
        for one, folder in turned([mine, peers, sampled], number):
            words = (one.python, "loading", one.handler, folder, body)
            with probing(*words, work=plan.work, env=one.env) as probe:
                results.add(f"load-{model}", one.name, probe.measure(0))
    plan.say(f"load-{model}: measured")


def _memory(plan: Plan, results: Results) -> None:
    """Four workers that have each answered."""
    sent = plan.traffic(scenarios.FOUR_WORKERS, 1, "npy")
    systems = (servers.ours(OURS, "--workers", "4", "--threads", "1"), servers.peer(4, 1))
    for system in systems:
        try:
            with plan.serving(system, scenarios.FOUR_WORKERS) as server:
                server.wait()
                closed_loop.measure(server.url, sent, 8, 2)
                name = PEER if system.name.startswith(PEER) else OURS
                results.add("memory", name, _memory_of(server.processes()))
        except NotServing as exc:
            results.is_absent("memory", system.name, str(exc)[-200:])
    plan.say("memory: measured")


def _memory_of(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """The workers are the Pythons below Java, with those that they come of."""
    java = next(one for one in processes if one.name() == "java")
    return {
        "workers_mb": pss_mb(java.children(recursive=True)),
        "java_mb": pss_mb([java]),
        "all_mb": pss_mb(processes),
    }


def _starting(plan: Plan, results: Results) -> None:
    """From the command to the first good answer."""
    systems = [SYSTEMS[name] for name in (OURS, *scenarios.PEERS)]
    sent = plan.traffic(scenarios.STARTED, 1, "json")
    for number in range(plan.rounds):
        for system in turned(systems, number):
            with plan.serving(system, scenarios.STARTED) as server:
                samples = Samples(server.url, sent, system.tolerance)
                wait_for(samples.take, server.process, server.place.folder)
                results.add("start", system.name, {"first_s": time.monotonic() - server.begun})
    plan.say("start: measured")


def _codecs(plan: Plan, results: Results) -> None:
    """The table of benchmarks.codecs, which times every codec both ways."""
    done = subprocess.run(
        [plan.python, "-m", "benchmarks.codecs", str(plan.rounds)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        check=True,
    )
    results.tables["codecs"] = done.stdout.decode().strip()
    plan.say("codecs: measured")
