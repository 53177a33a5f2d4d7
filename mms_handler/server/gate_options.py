"""The gate's options: what the plug-in reads from system properties when Java starts."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from mms_handler.server.access import Tokens
from mms_handler.settings import Settings, traces

#: What one client may ask for (java/mms_handler/Clients.java).
_CLIENT_LIMITS = ("client_rate", "client_burst", "client_concurrency")


def options(settings: Settings, tokens: Tokens, folder: Path, expected: Sequence[str]) -> list[str]:
    """What the plug-in reads from system properties (java/mms_handler/Plugin.java)."""
    values = {
        "gate": f"{settings.host}:{settings.port}",
        "ready_file": str(ready_file(folder)),
        "drain_s": str(settings.drain_s),
        "keep_alive_s": str(settings.keep_alive_s),
        "head_s": str(settings.header_timeout_s),
        "body_s": str(settings.body_timeout_s),
        "max_connections": str(settings.max_connections),
        "access_log": settings.access_log,
        "plane": "true",
        "told_file": str(told_file(folder)),
    }
    if traces():
        values["tells_queue"] = "true"
    if settings.log_level == "debug":  # of MMS's own log: see log4j2.xml
        values.update(log_level="info", traces="full")
    if settings.allowed_hosts:
        values["allowed_hosts"] = ",".join(settings.allowed_hosts)
    for name in ("max_requests", "max_worker_mb", *_CLIENT_LIMITS):
        if getattr(settings, name):
            values[name] = str(getattr(settings, name))
    if settings.capture:
        values["capture"] = settings.capture
        values["capture_share"] = repr(settings.capture_share)
        values["capture_max_mb"] = str(settings.capture_max_mb)
        if settings.capture_types:
            values["capture_types"] = ",".join(settings.capture_types)
    if settings.trusted_proxies:
        values["proxies"] = str(settings.trusted_proxies)
    if expected:
        values["startup_models"] = ",".join(expected)
    if settings.multi_model:
        values.update(admin_port=str(settings.management_port), multi_model="true")
    if tokens != Tokens():
        path = folder / "tokens"
        path.touch(0o600)
        path.write_text(tokens.text())
        values["token_file"] = str(path)
    return [f"-Dmms_handler.{name}={value}" for name, value in values.items()]


def ready_file(folder: Path) -> Path:
    """The file that says that the server is ready; the gate looks for it."""
    return folder / "ready"


def told_file(folder: Path) -> Path:
    """The file with what the plug-in has from us in /metrics."""
    return folder / "told"
