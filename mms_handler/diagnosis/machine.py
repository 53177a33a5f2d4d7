"""Look at this machine: ports, folders, descriptors, memory, disk and clock."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path

import psutil

from mms_handler import client, settings
from mms_handler.diagnosis.finding import Finding, ok, problem, warning
from mms_handler.errors import ServerError
from mms_handler.server import sizing, sockets
from mms_handler.server.machine import available_bytes, this_machine
from mms_handler.settings import Settings

_MB = 2**20

#: Descriptors that the front end and serve need beside one for each connection (docs/serving.md).
_DESCRIPTORS = 96

#: Free space in bytes, below which a model may not fit; below a tenth of it nothing does.
_DISK_BYTES = 1_000 * _MB

#: Seconds in which a server must answer to be one.
_PING_S = 2

#: The artifacts of a model for which it is said how many workers fit.
_SMALL_MODEL_BYTES = 10 * _MB


def client_port(current: Settings) -> Finding:
    """The port for clients."""
    return _port("port", current.host, current.port, "--port or SAGEMAKER_BIND_TO_PORT")


def management_port(current: Settings) -> Finding:
    """The port of the management API."""
    options = "--management-port or MMS_HANDLER_MANAGEMENT_PORT"
    return _port("management port", "127.0.0.1", current.management_port, options)


def _port(name: str, host: str, port: int, options: str) -> Finding:
    try:
        sockets.check_port(host, port)
    except ServerError as exc:
        with contextlib.suppress(ServerError):
            client.call("GET", f"http://127.0.0.1:{port}/ping", timeout_s=_PING_S)
            text = f"a server answers on {port}{_listener(port)}"
            return warning(name, text, f"stop it, or choose another port with {options}")
        return problem(name, f"{exc}{_listener(port)}", f"choose another one with {options}")
    return ok(name, f"{port} of {host} is free")


def _listener(port: int) -> str:
    """The process that listens on a port, for a sentence; "" if it cannot be seen."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if listens and connection.pid:
                return f", {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


def temporary_folder(_: Settings) -> Finding:
    """The folder for sockets and unpacked models."""
    try:
        folder = Path(tempfile.gettempdir())
    except OSError as exc:  # none of the usual folders can be written
        return problem("temporary folder", str(exc), "set TMPDIR to a folder that you can write")
    advice = "set TMPDIR to another folder"
    try:
        with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
            sockets.check_paths(Path(scratch))
    except (OSError, ServerError) as exc:
        return problem("temporary folder", str(exc), advice)
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return problem(
            "temporary folder", f"{folder} is mounted noexec: no program may run", advice
        )
    return ok("temporary folder", f"{folder} can be written, and programs in it run")


def cache_folder(current: Settings) -> Finding:
    """The folder for the requirements of scripts."""
    folder = settings.cache_folder(current)
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            return ok("cache folder", str(folder))
    except OSError as exc:
        advice = "set MMS_HANDLER_CACHE_DIR to a folder that you can write"
        return problem("cache folder", f"{parent} cannot be written: {exc.strerror}", advice)


def descriptors(current: Settings) -> Finding:
    """Open files and connections of one process."""
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= current.max_connections + _DESCRIPTORS:
        return ok("descriptors", "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,}")
    room = max(0, limit - _DESCRIPTORS)
    text = f"{limit:,}, which is enough for {room:,} connections"
    advice = (
        f"raise the limit: ulimit -n {current.max_connections + _DESCRIPTORS} (at most {hard:,})"
    )
    return (warning if room >= 100 else problem)("descriptors", text, advice)


def memory(current: Settings) -> Finding:
    """Cores and memory, as far as control groups allow."""
    try:
        machine, free_bytes = this_machine(), available_bytes()
    except ServerError as exc:
        return problem("memory", str(exc), "set MMS_HANDLER_MEMORY_MB")
    text = (
        f"{machine.cpus:g} cores and {machine.memory_bytes // _MB:,} MB, "
        f"of which {free_bytes // _MB:,} MB are free"
    )
    if machine.memory_bytes < psutil.virtual_memory().total:
        text += "; a control group limits them"
    try:
        plan = sizing.plan(machine, current, [_SMALL_MODEL_BYTES])
    except ServerError as exc:
        return problem("memory", text, f"{exc}, or give it more memory")
    needed_bytes = plan.reserved_bytes + sizing.estimate(_SMALL_MODEL_BYTES)
    if free_bytes < needed_bytes:
        advice = f"free some: Java and one worker of a small model need {needed_bytes // _MB:,} MB"
        return warning("memory", text, advice)
    return ok("memory", f"{text}; {plan.workers} workers of a small model fit")


def disk(_: Settings) -> Finding:
    """Free space where models are unpacked, and where archives and models are written."""
    free = {str(folder): shutil.disk_usage(folder).free for folder in _disk_folders()}
    text = ", ".join(f"{count // _MB:,} MB free in {folder}" for folder, count in free.items())
    free_bytes = min(free.values())
    if free_bytes >= _DISK_BYTES:
        return ok("disk", text)
    advice = "make room: models are unpacked there while they are served"
    return (warning if free_bytes >= _DISK_BYTES // 10 else problem)("disk", text, advice)


def _disk_folders() -> list[Path]:
    folders = [Path(tempfile.gettempdir()), Path.cwd()]
    devices = {folder.stat().st_dev: folder for folder in reversed(folders)}
    return list(devices.values())


def clock(_: Settings) -> Finding:
    """The clock must be right for TLS and for S3: a signature is valid for a quarter of an hour."""
    now = time.time()
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    installed = _installed_at()
    if installed and now < installed:
        date = time.strftime("%Y-%m-%d %H:%M", time.gmtime(installed))
        advice = "set it: certificates and S3 signatures are refused otherwise"
        return problem("clock", f"{text}, but this package was installed at {date}", advice)
    return ok("clock", text)


def _installed_at() -> float | None:
    """When this package was installed, by its files' time."""
    with contextlib.suppress(metadata.PackageNotFoundError, OSError):
        for file in metadata.files("mms_handler") or ():
            if file.name in ("METADATA", "RECORD", "PKG-INFO"):
                return os.stat(str(file.locate())).st_mtime
    return None
