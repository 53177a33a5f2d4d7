"""Batch transform on a Ray cluster of several nodes, one of which is lost: make test-ray."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from tests.cluster.nodes import BIN, Cluster

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed"),
]

#: Adds up a row's numbers.  Notes each request, and waits in it for the file "go".
SCRIPT = """
import os, time, uuid
from pathlib import Path

FOLDER = Path({folder!r})

def model_fn(model_dir):
    return os.getpid()

def transform_fn(model, data, content_type, accept):
    text = data if isinstance(data, str) else data.decode()
    (FOLDER / f"{{model}}-{{uuid.uuid4()}}").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.01)
    rows = [sum(map(float, line.split(","))) for line in text.splitlines()]
    return "".join(f"{{row}}\\n" for row in rows), "text/csv"
"""

OPTIONS = (
    *("--split-type", "Line", "--strategy", "MultiRecord", "--max-payload-mb", "1"),
    *("--assemble-with", "Line", "--content-type", "text/csv", "--accept", "text/csv"),
)

DEADLINE_S = 120


@pytest.fixture(scope="module")
def cluster():
    """Sockets' names must be short, so its folder is not pytest's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        with Cluster(Path(folder), port) as started:
            yield started
        assert not left(folder)


def left(folder):
    """The processes that have the folder in their command, or as their folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if folder in " ".join(process.cmdline()) and process.pid != os.getpid():
                found.append(process)
    return found


@pytest.fixture
def model(tmp_path):
    """A model whose requests wait, and the folder where it notes them."""
    notes, folder = tmp_path / "notes", tmp_path / "model"
    notes.mkdir()
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(SCRIPT.format(folder=str(notes)))
    return folder, notes


@pytest.fixture
def rows(tmp_path):
    """8 MB of rows, so eight parts, with bad ones at two places."""
    path = tmp_path / "rows.csv"
    lines = [f"{number},{number / 7:.6f},0.25\n" for number in range(360_000)]
    lines[5] = lines[200_000] = "1,2,oops\n"
    path.write_text("".join(lines))
    return path


def start(cluster, model, rows, output, *more):
    command = [BIN / "mms-handler", "transform", model, "--input", rows, "--output", output]
    command += [*OPTIONS, "--json", output.with_suffix(".json"), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*map(str, command)], env=cluster.env, text=True, **pipes)


def wait_for(condition, job):
    """Wait for something that happens while a job runs, or after it; fail with what it said."""
    deadline = time.monotonic() + DEADLINE_S
    running = job.poll() is None
    while not condition():
        if time.monotonic() > deadline or (running and job.poll() is not None):
            job.kill()
            pytest.fail(f"the job ended with {job.wait()}: {job.communicate()}")
        time.sleep(0.05)


def workers(notes):
    """The processes that have noted requests."""
    return {int(note.name.partition("-")[0]) for note in notes.iterdir() if note.name != "go"}


def report(output):
    """The report without its times."""
    read = json.loads(output.with_suffix(".json").read_text())
    return {name: value for name, value in read.items() if "second" not in name}


def test_a_node_is_lost(cluster, model, rows, tmp_path):
    """Its parts go to the other nodes; output, errors and report are those of this machine."""
    folder, notes = model
    nodes = cluster.add(3)
    job = start(cluster, folder, rows, tmp_path / "ray", "--ray", cluster.address)
    try:
        wait_for(lambda: len(workers(notes)) >= 3, job)  # more if one was replaced
        cluster.kill(nodes[1])
        wait_for(lambda: sum(map(psutil.pid_exists, workers(notes))) == 2, job)
        (notes / "go").touch()
        output, errors = job.communicate(timeout=DEADLINE_S)
    finally:
        job.kill()
    assert job.returncode == 3, errors
    assert "360,000, 2 of them with an error" in output

    local = start(cluster, folder, rows, tmp_path / "local", "--workers", "1")
    local.communicate(timeout=DEADLINE_S)
    for name in ("rows.csv.out", "rows.csv.out.errors"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    assert report(tmp_path / "ray") == report(tmp_path / "local")
    lines = (tmp_path / "ray" / "rows.csv.out").read_text().splitlines()
    assert lines[7] == str(7 + 1.0 + 0.25)
    assert '""record"": 200001' in lines[200_000]
    assert len(lines) == 360_000


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_is_stopped(cluster, model, rows, tmp_path, how):
    """Its actors end, and the same command goes on with it."""
    folder, notes = model
    job = start(cluster, folder, rows, tmp_path / "ray", "--ray", cluster.address)
    try:
        wait_for(lambda: len(workers(notes)) >= 2, job)  # more if one was replaced
        job.send_signal(how)
        _, errors = job.communicate(timeout=DEADLINE_S)
        wait_for(lambda: not any(map(psutil.pid_exists, workers(notes))), job)
    finally:
        job.kill()
    assert job.returncode == {signal.SIGKILL: -9}.get(how, 130), errors
    (notes / "go").touch()
    again = start(cluster, folder, rows, tmp_path / "ray", "--ray", cluster.address)
    output, errors = again.communicate(timeout=DEADLINE_S)
    assert again.returncode == 3, errors
    assert "360,000, 2 of them with an error" in output


def test_a_model_that_does_not_load(cluster, model, rows, tmp_path):
    """The reason is the script's, as on this machine."""
    folder, _ = model
    script = folder / "code" / "inference.py"
    script.write_text(script.read_text().replace("return os.getpid()", "raise ValueError('gone')"))
    said = []
    for where in (["--ray", cluster.address], []):
        job = start(cluster, folder, rows, tmp_path / "out", *where)
        said.append(job.communicate(timeout=DEADLINE_S)[1].splitlines()[-1])
        assert job.returncode == 1
    assert said[0] == said[1]
    assert "ValueError: gone (code/inference.py, line 8)" in said[0]


def test_there_is_no_room(cluster, model, rows, tmp_path):
    """Each node has one CPU."""
    folder, _ = model
    env = {**cluster.env, "OMP_NUM_THREADS": "2"}
    command = [
        BIN / "mms-handler",
        "transform",
        folder,
        "--input",
        rows,
        "--output",
        tmp_path / "o",
    ]
    command += [*OPTIONS, "--ray", cluster.address]
    done = subprocess.run([*map(str, command)], env=env, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "of the Ray cluster has 2 CPU and " in done.stderr
