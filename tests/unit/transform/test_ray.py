"""transform.ray_*: what needs no cluster of several nodes; tests/cluster has one."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from mms_handler.errors import TransformError
from mms_handler.settings import Settings
from mms_handler.transform.models import Unpacked
from mms_handler.transform.part import Options
from mms_handler.transform.ray_actor import ModelActor, Packed
from mms_handler.transform.ray_cluster import Need, on_ray, room, variables

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
GB = 2**30

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed")


def node(alive=True, **resources):
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "count"),
    [
        ([node(CPU=4.0, memory=8.0 * GB)], 4),
        ([node(CPU=4.0, memory=3.9 * GB)], 3),
        ([node(CPU=4.0, memory=8.0 * GB), node(CPU=1.0, memory=GB), node(memory=9 * GB)], 5),
        ([node(CPU=4.0, memory=8.0 * GB), node(False, CPU=4.0, memory=8.0 * GB)], 4),
    ],
)
def test_room_for_actors(nodes, count):
    """An actor is on one node, with its CPU and memory."""
    assert room(nodes, Need(1, GB)) == count


def test_room_for_actors_with_threads():
    assert room([node(CPU=7.0, memory=8.0 * GB)], Need(2, GB)) == 3


@pytest.mark.parametrize("nodes", [[], [node(CPU=1.0, memory=9.0 * GB)], [node(CPU=9, memory=1e6)]])
def test_no_room(nodes):
    with pytest.raises(TransformError) as raised:
        room(nodes, Need(2, GB))
    assert str(raised.value).startswith(
        f"none of the {len(nodes)} nodes of the Ray cluster has 2 CPU and 1024 MB of memory"
    )


def test_what_a_node_is_told():
    """Settings that decide replies, and no other: a token file is this machine's."""
    current = Settings(optimize="off", predict_order="array", token_file="/secret", workers=3)
    assert variables(current, Need(2, GB)) == {
        "MMS_HANDLER_OPTIMIZE": "off",
        "MMS_HANDLER_PREDICT_ORDER": "array",
        "OMP_NUM_THREADS": "2",
    }


def connect(address):
    with on_ray(str(ROOT / "model_archives" / "linear"), Options(), address):
        raise AssertionError("there is no cluster")


@needs_ray
@pytest.mark.parametrize("address", ["nonsense", "http://host:80", "host:", ":6379", "host:port"])
def test_what_is_no_address(address):
    with pytest.raises(TransformError) as raised:
        connect(address)
    assert str(raised.value) == (
        f"--ray takes HOST:PORT, auto, ray://HOST:PORT or local, not {address!r}"
    )


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_where_nothing_listens(address):
    """Ray itself would try for minutes."""
    with pytest.raises(TransformError, match=f"no Ray cluster answers at {address}: .* refused"):
        connect(address)


def test_without_ray(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(TransformError, match=r"--ray needs Ray, .* 'mms_handler\[ray\]'"):
        connect("auto")


def test_packed_files_are_unpacked(tmp_path):
    """All of the model and of the script's folder, but for caches of Python."""
    model, script = tmp_path / "model", tmp_path / "elsewhere" / "inference.py"
    for path in (model / "a" / "weights", model / "code" / "__pycache__" / "x.pyc", script):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (model / "link").symlink_to(script)
    folder, found = Packed(Unpacked(model, script, "", 0)).unpack(tmp_path / "there")
    assert found is not None
    assert found.read_text() == "inference.py"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"a/weights", "link"}
    assert Packed(Unpacked(model, None, "", 0)).unpack(tmp_path / "two")[1] is None


def test_another_version_on_a_node(monkeypatch):
    """Its predictions could be written differently."""
    model = Unpacked(ROOT / "model_archives" / "linear", None, "", 0)
    monkeypatch.setitem(vars(sys.modules["__main__"]), "__file__", "a file")
    actor = ModelActor(Packed(model), Options(), {})
    with pytest.raises(TransformError, match="a node of the Ray cluster has mms_handler 0.1.0"):
        actor.load("0.0.1")
    actor.close()


@pytest.fixture
def short():
    """A folder with a short name, as sockets need."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield folder


def _commands():
    """The command lines of all processes."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            yield " ".join(process.cmdline())


@needs_ray
def test_a_cluster_of_one_node(tmp_path, short):
    """It starts and ends with the job; output and report are those without Ray."""
    rows = tmp_path / "rows.csv"
    rows.write_text("".join(f"{number},{number % 7}\n" for number in range(5000)) + "1,oops\n3,4")
    env = {**os.environ, "HOME": str(tmp_path), "TMPDIR": short}
    for name, where in (
        ("ray", ["--ray", "local", "--workers", "1"]),
        ("local", ["--workers", "1"]),
    ):
        command = [BIN / "mms-handler", "transform", ROOT / "model_archives" / "linear", *where]
        command += ["--input", rows, "--output", tmp_path / name, "--workers", "1"]
        command += ["--split-type", "Line", "--assemble-with", "Line", "--accept", "text/csv"]
        command += ["--json", tmp_path / f"{name}.json"]
        done = subprocess.run([*map(str, command)], env=env, stderr=subprocess.PIPE, text=True,
                              timeout=240)  # fmt: skip
        assert done.returncode == 3, done.stderr
    reports = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("ray", "local")]
    for report in reports:
        assert report.pop("seconds") > 0
        assert report.pop("records_per_second") > 0
    assert reports[0] == reports[1]
    for name in ("rows.csv.out", "rows.csv.out.errors"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    assert len((tmp_path / "ray" / "rows.csv.out").read_text().splitlines()) == 5002
    assert not list(Path(short).glob("mms-handler-transform-*"))
    assert not [command for command in _commands() if short in command]
