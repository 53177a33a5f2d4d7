"""Plan how many workers and threads, and how much memory for Java, fit into a machine.

The figures below were measured.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

from mms_handler.errors import ServerError
from mms_handler.server.machine import Machine
from mms_handler.settings import Settings

_MB = 2**20

#: A worker with a tiny model uses 182 MB, of which 95 are not shared.  Most scripts import more.
_WORKER_BYTES = 220 * _MB
#: A Module holds its parameters as loaded, as bound, and from its first prediction on as MKLDNN
#: orders them: 100 MB of parameters became 297.  A Block's became 200.
_COPIES = 3
#: What a worker that is forked has of its own at least once it has answered, with Java's threads
#: for it: 8 MB for a tiny model, 30 for ResNet-50, and more after large requests.
FORK_BYTES = 32 * _MB
#: What requests take at most for each byte that their arrays may have, and for each byte that a
#: text may have (docs/reliability.md).
_REQUEST_COPIES, _TEXT_COPIES = 3, 29
#: What a worker's parser keeps for each byte of its largest body, and of what bodies (parsers.py).
_PARSER_COPIES, _PARSER_BODY_BYTES = 14, 2**23
#: The listener of a model, from which its workers are forked.
_LISTENER_BYTES = 20 * _MB
#: Java without bodies, and serve itself.
_JAVA_MB, _SERVE_MB = 100, 50
#: Java's heap at its start.  Its own choice, a 64th of the memory, it fills with garbage before it
#: collects for the first time; what is alive takes 9 MB (docs/performance.md, "The defaults").
_FIRST_HEAP_MB = 16
#: netty asks the system for chunks of 8 KB times two to this power.
_CHUNK_ORDER = 7
#: The part of the memory that stays unplanned, for scripts, page cache and peaks.
_SPARE = 0.1

#: Models of at least this size gain from a second thread.  Tiny models become up to forty times
#: slower with one.
_LARGE_BYTES = 8 * _MB

#: The numbers of bodies for which the heap has room at least and at most.  The least number is
#: lower for bodies that together exceed _BODIES_MB, as in SageMaker's batch jobs.
_MIN_BODIES, _MAX_BODIES = 8, 64
_BODIES_MB = 100


class Plan(NamedTuple):
    """What to start.

    Fields:
        workers: per model.
        threads: per worker.
        heap_mb: Java's heap.
        direct_mb: Java's memory for bodies in transit.
        processors: the number of processors that Java assumes.
        reserved_bytes: memory that is not for workers.
        machine: the machine for which this was planned.
        warnings: about settings that do not fit the machine.
    """

    workers: int
    threads: int
    heap_mb: int
    direct_mb: int
    processors: int
    reserved_bytes: int
    machine: Machine
    warnings: tuple[str, ...]


def plan(machine: Machine, settings: Settings, models_bytes: Sequence[int]) -> Plan:
    """Plan what fits.  Values that are set stay as they are; one that does not fit gives a warning.

    Args:
        machine: its cores and its memory.
        settings: workers, threads, heap_mb and memory_bytes, each of which may be None; and the
            limits of bodies.
        models_bytes: the size of each model's artifacts; empty if models come later.

    Returns:
        A worker with one thread for each core.  If memory or a setting allows fewer workers, large
        models get more threads instead.  Models that come later get one worker each.

    Raises:
        ServerError: not one worker of each model fits, and no number of workers is set.
    """
    machine = Machine(machine.cpus, settings.memory_bytes or machine.memory_bytes)
    cores, models = max(1, int(machine.cpus)), len(models_bytes)
    java = _plan_java(machine, settings)
    spare_bytes = models * _LISTENER_BYTES + int(machine.memory_bytes * _SPARE)
    reserved_bytes = java.reserved_bytes + spare_bytes
    free_bytes = machine.memory_bytes - reserved_bytes
    need, limit, workers, threads = _fit(cores, free_bytes, settings, models_bytes)
    if not limit and not settings.workers:
        raise ServerError(
            f"not one worker of each model fits: they need about {_mb(need.bytes_of(1))}, and Java "
            f"and spare memory {_mb(reserved_bytes)}, of {_mb(machine.memory_bytes)} in all; "
            "set SAGEMAKER_MODEL_SERVER_WORKERS=1 to try it anyway"
        )
    warnings = []
    busy = workers * max(1, models) * threads
    if busy > cores and (settings.workers or settings.threads):
        warnings.append(f"{busy} threads share {cores} cores")
    if models and workers > limit:
        warnings.append(f"workers per model that fit into the memory: {limit}")
    elif models and need.bytes_of(workers) + workers * need.requests_bytes > free_bytes:
        warnings.append(
            f"the largest requests may take {_mb(request_bytes(settings))} in each worker, which "
            "do not fit; a lower max-body-bytes refuses them"
        )
    return Plan(
        workers=workers,
        threads=threads,
        heap_mb=java.heap_mb,
        direct_mb=java.direct_mb,
        processors=math.ceil(machine.cpus),
        reserved_bytes=reserved_bytes,
        machine=machine,
        warnings=tuple(warnings),
    )


def _fit(
    cores: int, free_bytes: int, settings: Settings, models_bytes: Sequence[int]
) -> tuple[_Need, int, int, int]:
    """As many workers as fit into memory and have a core for each of their threads.

    Returns:
        What they need, how many of each model fit, how many there are, and the threads of each.
    """
    models = max(1, len(models_bytes))
    for forked in (True, False) if settings.fork != "off" else (False,):
        need = _Need.of(models_bytes, settings, forked)
        limit = need.workers_within(free_bytes) if models_bytes else 1
        share = cores // ((settings.threads or 1) * models)
        workers = settings.workers or max(1, min(limit, share))
        threads = settings.threads or threads_of(cores, workers, models_bytes)
        if threads == 1:  # with more, they are not forked
            break
    return need, limit, workers, threads


class _Need(NamedTuple):
    """What a number of workers of each model needs.

    Fields:
        shared_bytes: of all workers together: what those have that forked them.
        own_bytes: of one worker of each model.
        requests_bytes: what the requests of these may take.
    """

    shared_bytes: int
    own_bytes: int
    requests_bytes: int

    @classmethod
    def of(cls, models_bytes: Sequence[int], settings: Settings, forked: bool) -> _Need:
        loaded_bytes = sum(map(estimate, models_bytes))
        requests_bytes = len(models_bytes) * request_bytes(settings)
        if not forked:
            return cls(0, loaded_bytes, requests_bytes)
        # Without a sample each worker orders the parameters for itself.
        own_bytes = len(models_bytes) * FORK_BYTES + sum(models_bytes)
        return cls(loaded_bytes - sum(models_bytes), own_bytes, requests_bytes)

    def bytes_of(self, workers: int) -> int:
        return self.shared_bytes + workers * self.own_bytes

    def workers_within(self, memory_bytes: int) -> int:
        """How many workers of each model fit; 0 or more.

        One is better than none, and most requests are small: it counts if it fits without them.
        """
        room_bytes = memory_bytes - self.shared_bytes
        workers = room_bytes // (self.own_bytes + self.requests_bytes)
        return max(workers, min(1, room_bytes // self.own_bytes), 0)


def threads_of(cores: int, workers: int, models_bytes: Sequence[int]) -> int:
    """The threads of each worker of models: large ones share the cores, others use one each."""
    if not models_bytes or min(models_bytes) < _LARGE_BYTES:
        return 1
    return max(1, cores // (workers * len(models_bytes)))


class _Java(NamedTuple):
    heap_mb: int
    direct_mb: int
    reserved_bytes: int  # for Java and for serve


def _plan_java(machine: Machine, settings: Settings) -> _Java:
    """Plan Java's memory.

    A body takes twice its size, both of the heap and of direct memory.  With this plan, eight
    bodies of 6.5 MB at once were all answered.  With direct memory for fewer bodies, or half the
    heap, some were not.
    """
    body_mb = math.ceil(max(settings.max_body_bytes, settings.max_response_bytes) / _MB)
    min_bodies = max(1, min(_MIN_BODIES, _BODIES_MB // body_mb))
    min_mb, max_mb = (32 + 2 * body_mb * bodies for bodies in (min_bodies, _MAX_BODIES))
    heap_mb = settings.heap_mb or min(max_mb, max(min_mb, machine.memory_bytes // _MB // 16))
    reserved_mb = heap_mb + 2 * body_mb * min_bodies + _JAVA_MB + _SERVE_MB
    return _Java(heap_mb, max(heap_mb, 8 * body_mb), reserved_mb * _MB)


def estimate(artifacts_bytes: int) -> int:
    """The memory in bytes of a worker that has loaded a model and predicted.

    Args:
        artifacts_bytes: the size of the model's files.
    """
    return _WORKER_BYTES + _COPIES * artifacts_bytes


def request_bytes(settings: Settings) -> int:
    """The memory that a worker's requests may take beside what ``estimate`` gives, in bytes."""
    body_bytes = settings.max_body_bytes
    parser_bytes = _PARSER_COPIES * min(body_bytes, _PARSER_BODY_BYTES)
    array_bytes = _REQUEST_COPIES * settings.max_array_bytes
    return max(array_bytes + parser_bytes, _TEXT_COPIES * body_bytes)


def java_options(plan: Plan) -> list[str]:
    """Java's command-line options for a plan."""
    return [
        f"-Xmx{plan.heap_mb}m",
        f"-Xms{min(_FIRST_HEAP_MB, plan.heap_mb)}m",
        f"-XX:MaxDirectMemorySize={plan.direct_mb}m",
        f"-XX:ActiveProcessorCount={plan.processors}",
        *_netty_options(max(1, plan.processors // 4)),
    ]


def _netty_options(loops: int) -> list[str]:
    """One pool of buffers for each of the gate's event loops (Gate.java); MMS's own share them."""
    names = {"numDirectArenas": loops, "numHeapArenas": 1, "maxOrder": _CHUNK_ORDER}
    return [f"-Dio.netty.allocator.{name}={number}" for name, number in names.items()]


def summary(plan: Plan) -> str:
    """The plan in one line, for the log."""
    line = (
        f"workers per model: {plan.workers}, threads per worker: {plan.threads}, Java heap: "
        f"{plan.heap_mb} MB, for {plan.machine.cpus:g} cores and {_mb(plan.machine.memory_bytes)}"
    )
    return "; ".join([line, *(f"warning: {warning}" for warning in plan.warnings)])


def _mb(count: int) -> str:
    return f"{count // _MB:,} MB"
