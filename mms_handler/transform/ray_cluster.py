"""Transform on a Ray cluster: this process reads, cuts and writes, and the nodes have the model."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import signal
import socket
import threading
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from mms_handler import settings
from mms_handler.errors import TransformError
from mms_handler.server import machine
from mms_handler.settings import Settings
from mms_handler.transform import executor, models
from mms_handler.transform.cutting import MAX_PART_BYTES
from mms_handler.transform.part import Options
from mms_handler.transform.ray_actor import ModelActor, Packed
from mms_handler.transform.ray_pool import PARTS, Pool, RayWorker, brief
from mms_handler.transform.run import Ready

#: Seconds in which a cluster's head must take a connection; Ray itself tries for minutes.
_CONNECT_S = 10


#: The settings that decide what a model replies.  Those of a machine, such as folders and memory,
#: are a node's own.
_SENT = (
    *("program", "accept", "first_dimension", "predict_order", "max_body_bytes"),
    *("max_array_bytes", "timeout_s", "optimize", "engine", "core"),
)


class Need(NamedTuple):
    """What an actor takes of its node."""

    cpus: int
    memory_bytes: int


@contextlib.contextmanager
def on_ray(
    model: str,
    options: Options,
    address: str,
    *,
    script: Path | None = None,
    workers: int | None = None,
) -> Iterator[Ready]:
    """Get ready to process parts on a Ray cluster.

    Args:
        model: a folder, an archive, or the s3:// address of one.
        options: of the job.
        address: of the cluster: HOST:PORT, auto on one of its nodes, ray://HOST:PORT for its
            server of clients, or local for a cluster of this machine that ends with the job.
        script: a script to use instead of the model's own.
        workers: how many actors have the model; None: as many as memory and CPUs allow.

    Raises:
        HandlerError: there is no such cluster, or it has no room; the model cannot be found, or is
            not safe.
    """
    with models.unpacked(model, script) as found_model, _connected(address) as ray:
        current = settings.current()
        need = Need(current.threads or 1, models.memory_bytes(found_model.size_bytes))
        count = workers or current.workers or room(ray.nodes(), need)
        packed = ray.put(Packed(found_model))
        with _pool(ray, need, count, packed, options, variables(current, need)) as pool:
            makers = [functools.partial(RayWorker, pool)] * min(count * PARTS, _parts_here())
            yield Ready(found_model.checksum, functools.partial(executor.processed, workers=makers))


def variables(current: Settings, need: Need) -> Mapping[str, str]:
    """The environment of a model on a node: what this machine has set, if it decides replies."""
    sent = Settings(**{name: getattr(current, name) for name in _SENT})
    return {**sent.variables(), "OMP_NUM_THREADS": str(need.cpus)}


def room(nodes: Sequence[Mapping[str, Any]], need: Need) -> int:
    """How many actors the nodes of a cluster, as ``ray.nodes()`` has them, can have.

    Raises:
        TransformError: none.
    """
    have = [node["Resources"] for node in nodes if node["Alive"]]
    count = sum(
        int(min(each.get("CPU", 0) // need.cpus, each.get("memory", 0) // need.memory_bytes))
        for each in have
    )
    if not count:
        raise TransformError(
            f"none of the {len(have)} nodes of the Ray cluster has {need.cpus} CPU and "
            f"{need.memory_bytes >> 20} MB of memory, which the model takes; --workers NUMBER "
            "waits until there are some"
        )
    return count


def _parts_here() -> int:
    """How many parts this process has memory for, before and after the model: half of it."""
    return max(1, machine.available_bytes() // 2 // (2 * MAX_PART_BYTES))


@contextlib.contextmanager
def _pool(
    ray: Any,
    need: Need,
    count: int,
    packed: Any,
    options: Options,
    variables: Mapping[str, str],
) -> Iterator[Pool]:
    actor = ray.remote(ModelActor).options(
        num_cpus=need.cpus, memory=need.memory_bytes, scheduling_strategy="SPREAD"
    )
    pool = Pool(ray, lambda: actor.remote(packed, options, variables), count)
    try:
        yield pool
    finally:
        pool.close()


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yield Ray, connected to a cluster.

    Raises:
        TransformError: it is not installed, or cannot be connected.
    """
    if importlib.util.find_spec("ray") is None:
        raise TransformError(
            "--ray needs Ray, which is not installed: pip install 'mms_handler[ray]'"
        )
    _check_answers(address)
    settings.export("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that is started here calls nobody
    import ray

    on_sigterm = signal.getsignal(signal.SIGTERM)
    more: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, logging_level=logging.ERROR, **more)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as exc:
        raise TransformError(f"no Ray cluster can be used at {address}: {_reason(exc)}") from exc
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # which Ray has replaced
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Check that something listens at an address, unless it is none of the network.

    Raises:
        TransformError: nothing does, or it is not an address.
    """
    if address in ("auto", "local"):
        return
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if scheme not in ("", "ray") or not host or not port.isdecimal():
        raise TransformError(
            f"--ray takes HOST:PORT, auto, ray://HOST:PORT or local, not {address!r}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as exc:
        raise TransformError(
            f"no Ray cluster answers at {address}: {exc}; see that its head runs, and that this "
            "machine may connect to it"
        ) from exc


def _reason(exc: BaseException) -> str:
    """What caused an exception in the first place, such as a token that the cluster wants."""
    while exc.__cause__ or exc.__context__:
        exc = exc.__cause__ or exc.__context__  # type: ignore[assignment]  # not None
    return brief(exc)
