"""gate_options: what the gate is told when Java starts."""

from __future__ import annotations

import dataclasses

from mms_handler.server import gate_options
from mms_handler.server.access import Tokens
from mms_handler.settings import Settings

TOKEN = "0123456789abcdef0123456789abcdef"


def gate(tmp_path, settings: Settings, **tokens: str) -> dict[str, str]:
    options = gate_options.options(settings, Tokens(**tokens), tmp_path, [])
    assert all(option.startswith("-Dmms_handler.") for option in options)
    return dict(option[len("-Dmms_handler.") :].split("=", 1) for option in options)


def test_the_gates_options(tmp_path):
    """What is not set is left out."""
    settings = Settings(
        host="0.0.0.0",
        port=1,
        drain_s=2,
        keep_alive_s=3,
        header_timeout_s=4,
        body_timeout_s=5,
        max_connections=6,
        access_log="errors",
        log_level="debug",
    )
    options = {
        "gate": "0.0.0.0:1",
        "ready_file": str(tmp_path / "ready"),
        "drain_s": "2",
        "keep_alive_s": "3",
        "head_s": "4",
        "body_s": "5",
        "max_connections": "6",
        "access_log": "errors",
        "plane": "true",
        "told_file": str(tmp_path / "told"),
        "log_level": "info",
        "traces": "full",
    }
    assert gate(tmp_path, settings) == options
    assert list(tmp_path.iterdir()) == []
    more = dataclasses.replace(
        settings,
        allowed_hosts=("a", "b:1"),
        max_requests=7,
        max_worker_mb=8,
        capture="/captured",
        capture_share=0.25,
        capture_types=("text/csv", "image/png"),
        client_rate=0.5,
        client_burst=2,
        client_concurrency=3,
        trusted_proxies=4,
        multi_model=True,
        management_port=9,
    )
    assert gate(tmp_path, more, management=TOKEN) == {
        **options,
        "allowed_hosts": "a,b:1",
        "max_requests": "7",
        "max_worker_mb": "8",
        "capture": "/captured",
        "capture_share": "0.25",
        "capture_max_mb": "1000",
        "capture_types": "text/csv,image/png",
        "client_rate": "0.5",
        "client_burst": "2",
        "client_concurrency": "3",
        "proxies": "4",
        "admin_port": "9",
        "multi_model": "true",
        "token_file": str(tmp_path / "tokens"),
    }
    assert (tmp_path / "tokens").read_text() == f"management {TOKEN}\n"


def test_the_gate_tells_how_long_requests_wait_if_there_are_traces(tmp_path, monkeypatch):
    """In a header, which costs a little."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert gate(tmp_path, Settings())["tells_queue"] == "true"
