"""How many workers, with how many threads, and how much Java, fit into a machine.

The figures it works with were measured; see _WORKER_BYTES.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

from mms_handler.errors import ServerError
from mms_handler.server.machine import Machine
from mms_handler.settings import Settings

_MB = 2**20

#: A worker with a tiny model has 182 MB, of which 95 are its own; most scripts import more.
_WORKER_BYTES = 220 * _MB
#: Of its artifacts a Module holds the parameters as loaded, as bound, and as MKLDNN orders them
#: when it first predicts: 100 MB of them made 297; a Block's made 200.
_COPIES = 3
#: The process of each model that workers are forked from.
_LISTENER_BYTES = 20 * _MB
#: Java without bodies, and serve itself.
_JAVA_MB, _SERVE_MB = 100, 50
#: The part of the memory that nothing is planned for: scripts, page cache, peaks.
_SPARE = 0.1

#: Artifacts from which a second thread is a gain; tiny models are up to forty times slower with it.
_LARGE_BYTES = 8 * _MB

#: Bodies that the front end holds at once: at least the first, at most the second number.  As
#: SageMaker's batch jobs have it, fewer where that many come to more than 100 MB.
_BODIES = (8, 64)
_BODIES_MB = 100


class Plan(NamedTuple):
    """What to start.

    Fields:
        workers: of each model.
        threads: of each worker.
        heap_mb: Java's.
        direct_mb: Java's memory for bodies on their way.
        processors: that Java reckons with.
        reserved_bytes: what is not for workers.
        machine: that all this is for.
        warnings: what was chosen and does not fit.
    """

    workers: int
    threads: int
    heap_mb: int
    direct_mb: int
    processors: int
    reserved_bytes: int
    machine: Machine
    warnings: tuple[str, ...]


def plan(machine: Machine, chosen: Settings, models: Sequence[int]) -> Plan:
    """What fits; what was chosen stays, with a warning where it does not fit.

    Args:
        machine: what there is.
        chosen: workers, threads, heap_mb and memory_bytes, where they are not None; the limits
            of bodies.
        models: the size of each model's artifacts, in bytes; none where models come later.

    Returns:
        Workers for every core, of one thread each.  Where memory, or a choice, allows fewer
        workers, the others' threads are theirs, if the models are large.  Models that come
        later get one worker each.

    Raises:
        ServerError: not one worker of each model fits, and nobody chose a number.
    """
    machine = Machine(machine.cpus, chosen.memory_bytes or machine.memory_bytes)
    cores = max(1, int(machine.cpus))
    java = _java(machine, chosen)
    spare = len(models) * _LISTENER_BYTES + int(machine.memory_bytes * _SPARE)
    reserved = java.reserved_bytes + spare
    all_bytes = sum(map(estimate, models))
    fit = workers_that_fit(machine, reserved, all_bytes) if models else 1
    if not fit and not chosen.workers:
        raise ServerError(_too_small(machine, reserved, all_bytes))
    workers = chosen.workers or _share(cores, len(models), chosen.threads or 1, fit)
    threads = chosen.threads or _threads(cores, workers, models)
    warnings = []
    busy = workers * max(1, len(models)) * threads
    if busy > cores and (chosen.workers or chosen.threads):
        warnings.append(f"{busy} threads share {cores} cores")
    if models and workers > fit:
        warnings.append(f"workers of each model that fit into the memory: {fit}")
    return Plan(
        workers=workers,
        threads=threads,
        heap_mb=java.heap_mb,
        direct_mb=java.direct_mb,
        processors=math.ceil(machine.cpus),
        reserved_bytes=reserved,
        machine=machine,
        warnings=tuple(warnings),
    )


def _share(cores: int, models: int, threads: int, fit: int) -> int:
    """Workers of each model so that all together have a core for each thread."""
    return max(1, min(fit, cores // (threads * max(1, models))))


def _threads(cores: int, workers: int, models: Sequence[int]) -> int:
    if not models or min(models) < _LARGE_BYTES:
        return 1
    return max(1, cores // (workers * len(models)))


class _Java(NamedTuple):
    heap_mb: int
    direct_mb: int
    reserved_bytes: int  # with what serve needs


def _java(machine: Machine, chosen: Settings) -> _Java:
    """What Java gets.

    A body takes twice its size of either.  Eight of 6.5 MB at once were all answered so; with
    less direct memory than eight of them, or half the heap, some were not.
    """
    body_mb = math.ceil(max(chosen.max_body_bytes, chosen.max_response_bytes) / _MB)
    fewest = max(1, min(_BODIES[0], _BODIES_MB // body_mb))
    least, most = (32 + 2 * body_mb * count for count in (fewest, _BODIES[1]))
    heap_mb = chosen.heap_mb or min(most, max(least, machine.memory_bytes // _MB // 16))
    reserved_mb = heap_mb + 2 * body_mb * fewest + _JAVA_MB + _SERVE_MB
    return _Java(heap_mb, max(heap_mb, 8 * body_mb), reserved_mb * _MB)


def _too_small(machine: Machine, reserved: int, all_bytes: int) -> str:
    return (
        f"not one worker of each model fits: they need about {_mb(all_bytes)}, Java and what is "
        f"kept free {_mb(reserved)}, and there are {_mb(machine.memory_bytes)}; "
        "SAGEMAKER_MODEL_SERVER_WORKERS=1 tries it all the same"
    )


def estimate(artifacts_bytes: int) -> int:
    """The memory of a worker that has loaded a model and predicted, in bytes.

    Args:
        artifacts_bytes: what the model's files come to.
    """
    return _WORKER_BYTES + _COPIES * artifacts_bytes


def workers_that_fit(machine: Machine, reserved_bytes: int, worker_bytes: int) -> int:
    """How many times ``worker_bytes`` there is beside what is reserved; 0 or more."""
    return max(0, machine.memory_bytes - reserved_bytes) // worker_bytes


def java_options(plan: Plan) -> list[str]:
    """The plan's half for Java, as words of its command line."""
    return [
        f"-Xmx{plan.heap_mb}m",
        f"-XX:MaxDirectMemorySize={plan.direct_mb}m",
        f"-XX:ActiveProcessorCount={plan.processors}",
    ]


def line(plan: Plan) -> str:
    """The plan for the log."""
    said = (
        f"workers of each model: {plan.workers}, threads of each: {plan.threads}, Java's heap: "
        f"{plan.heap_mb} MB, for {plan.machine.cpus:g} cores and {_mb(plan.machine.memory_bytes)}"
    )
    return "; ".join([said, *(f"warning: {warning}" for warning in plan.warnings)])


def _mb(count: int) -> str:
    return f"{count // _MB:,} MB"
