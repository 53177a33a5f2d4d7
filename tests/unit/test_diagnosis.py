"""diagnosis: what doctor finds on this machine, and on one where something is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time

import pytest

import mms_handler
from mms_handler.diagnosis import machine, software
from mms_handler.settings import Settings

NAMES = [
    *("settings", "python", "numpy", "mxnet", "mms", "java", "port", "management port"),
    *("temporary folder", "cache folder", "descriptors", "memory", "disk", "clock"),
]


def doctor(*options, **env):
    """The command's exit code and its lines."""
    done = subprocess.run(
        [sys.executable, "-m", "mms_handler", "doctor", *options],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.fixture
def busy():
    """A port on which this process listens, but says nothing; the settings take it."""
    with socket.socket() as listener:
        for port in range(20_000 + os.getpid() % 10_000, 32_767):
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                break
        listener.listen()
        yield listener.getsockname()[1]


def test_everything_is_looked_at():
    """The software of the tests is as it should be."""
    findings = mms_handler.doctor()
    assert [finding.name for finding in findings] == NAMES
    states = {finding.name: finding for finding in findings}
    for name in ("settings", "python", "numpy", "mxnet", "mms", "java", "clock"):
        assert states[name].state == "ok", states[name]
    for finding in findings:
        assert bool(finding.advice) == (finding.state != "ok"), finding


def test_a_problem_is_an_exit_code(busy):
    """As lines, the last of which names what is in the way; and as JSON."""
    env = {"SAGEMAKER_BIND_TO_PORT": "http", "MMS_HANDLER_MEMORY_MB": "20000"}
    code, output = doctor(**env)
    assert code == 1
    lines = output.splitlines()
    assert lines[0].startswith("problem  settings          SAGEMAKER_BIND_TO_PORT: 'http' is not")
    assert lines[0].endswith("; correct the variable, or unset it")
    assert lines[-1].startswith("error: in the way: settings")
    code, output = doctor("--json", MMS_HANDLER_MANAGEMENT_PORT=str(busy))
    report = json.loads(output)
    assert (code, report["ok"]) == (1, False)
    assert [finding["name"] for finding in report["findings"]] == NAMES
    assert [f["state"] for f in report["findings"] if f["name"] == "management port"] == ["problem"]


# --- software --------------------------------------------------------------------------------


def test_a_numpy_that_is_too_new(tmp_path, monkeypatch):
    (tmp_path / "numpy-1.26.4.dist-info").mkdir()
    (tmp_path / "numpy-1.26.4.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 1.26.4\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = software.numpy(Settings())
    assert (finding.state, finding.text) == ("problem", "1.26.4")
    assert finding.advice.endswith("pip install 'numpy<1.24'")


def test_an_mxnet_that_lacks_a_library(tmp_path, monkeypatch):
    """The last line of the import is told, and which library to install."""
    reason = "libgfortran.so.4: cannot open shared object file"
    (tmp_path / "mxnet.py").write_text(f"raise OSError({reason!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = software.mxnet(Settings())
    assert finding.state == "problem"
    assert finding.text == f"it cannot be imported: OSError: {reason}"
    assert finding.advice == "install the system's package that has libgfortran.so.4"


@pytest.mark.parametrize(
    ("program", "state", "text"),
    [
        ("echo 'java version \"1.7.0_80\"' >&2", "problem", "7.0_80, "),
        ("echo 'openjdk version \"17.0.1\"' >&2", "ok", "17.0.1, "),
        ("echo broken >&2; exit 1", "problem", " does not run: broken"),
    ],
)
def test_javas(tmp_path, monkeypatch, program, state, text):
    """The one of JAVA_HOME is run."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    finding = software.java(Settings())
    assert finding.state == state
    assert text in finding.text
    assert f"{tmp_path}/bin/java" in finding.text


# --- the machine -----------------------------------------------------------------------------


def test_a_port_in_use(busy):
    """It names the process, and the options that choose another."""
    finding = machine._port("port", "127.0.0.1", busy, "--port")
    assert finding.state == "problem"
    assert f"port {busy} of 127.0.0.1 cannot be used: Address already in use" in finding.text
    assert f"(process {os.getpid()})" in finding.text
    assert finding.advice == "choose another one with --port"


def test_a_port_with_a_server():
    """It may be the one that people want."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.handle_request).start()
    with server:
        finding = machine._port("port", "127.0.0.1", server.server_port, "--port")
    assert finding.state == "warning"
    assert finding.text.startswith(f"a server answers on {server.server_port}")


def test_a_temporary_folder_whose_name_is_too_long(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    finding = machine.temporary_folder(Settings())
    assert finding.state == "problem"
    assert "is too long for sockets" in finding.text


def test_descriptors(monkeypatch):
    """Fewer than connections need is a warning, very few a problem."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (250, limits[1]))
        finding = machine.descriptors(Settings())
        assert (finding.state, finding.text) == (
            "warning",
            "250, which is enough for 154 connections",
        )
        assert finding.advice.startswith("raise the limit: ulimit -n 1120 ")
        resource.setrlimit(resource.RLIMIT_NOFILE, (150, limits[1]))
        assert machine.descriptors(Settings()).state == "problem"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_too_little_memory():
    """The advice is what serve would say."""
    finding = machine.memory(dataclasses.replace(Settings(), memory_bytes=200 * 2**20))
    assert finding.state == "problem"
    assert finding.advice.startswith("not one worker of each model fits")


def test_a_cache_folder_that_cannot_be_made():
    finding = machine.cache_folder(dataclasses.replace(Settings(), cache_dir="/proc/cache"))
    assert finding.state == "problem"
    assert finding.text.startswith("/proc cannot be written: ")


def test_a_clock_that_is_wrong(monkeypatch):
    """It is before this package was installed."""
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    finding = machine.clock(Settings())
    assert finding.state == "problem"
    assert finding.text.startswith("1970-01-02 00:00:00 UTC, but this package was installed at 20")
