"""The workers' processes: what is hidden from them, and what happens if one more cannot start."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Iterator

import mms
import pytest
from running_mms import Serving, free_ports, wait_for

from mms_handler import client

SCRIPT = """\
import json
import os
import pathlib

if pathlib.Path({flag!r}).exists():
    raise ValueError("the weights are gone")

IMPORTED = dict(os.environ)

def model_fn(model_dir):
    return dict(os.environ)

def transform_fn(model, data, content_type, accept):
    own = {{"imported": IMPORTED, "loaded": model, "asked": dict(os.environ)}}
    parent = pathlib.Path(f"/proc/{{os.getppid()}}")
    own["listener"] = (parent / "environ").read_text()
    java = (parent / "stat").read_text().rpartition(")")[2].split()[1]
    own["java"] = pathlib.Path(f"/proc/{{java}}/environ").read_text()
    return json.dumps(own), "application/json"
"""

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "hidden-1",
    "AWS_SESSION_TOKEN": "hidden-2",
    "DB_PASSWORD": "hidden-3",
    "MMS_HANDLER_ALLOWED_URLS": "https://user:hidden-4@models.example/",
}
PLAIN = {"AWS": "seen-1", "aws_region": "seen-2", "DB_PASSWORDS": "seen-3", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "m" / "code").mkdir(parents=True)
    script = SCRIPT.format(flag=str(folder / "broken"))
    (folder / "m" / "code" / "inference.py").write_text(script)
    return folder


CLASS = "io/netty/util/Version.class"
NATIVE = "META-INF/native/libnetty_transport_native_epoll_"  # of each kind of processor


@pytest.fixture(scope="module")
def jars(tmp_path_factory) -> Path:
    """A jar as of another netty: with one of its classes, and another native library."""
    folder = tmp_path_factory.mktemp("jars")
    frontend = Path(mms.__file__).parent / "frontend"
    with zipfile.ZipFile(frontend / "model-server.jar") as old, zipfile.ZipFile(
        folder / "newer.jar", "w"
    ) as new:
        new.writestr(CLASS, old.read(CLASS))
        for name in old.namelist():
            if name.startswith(NATIVE):
                new.writestr(name, old.read(name) + b"newer")
    return folder


@pytest.fixture(scope="module")
def serving(folder, jars) -> Iterator[Serving]:
    """A model with one worker; some variables are hidden from it, and Java uses another jar."""
    hidden = ("--hide-env", "AWS_*,DB_PASSWOR?", "--hide-env", "OMP_*")
    flags = (
        "--workers",
        "1",
        *hidden,
        "--java-jars",
        os.path.relpath(jars),
        "--memory-mb",
        "1500",
        "--heap-mb",
        "64",
    )
    env = {**os.environ, **SECRETS, **PLAIN, "MMS_HANDLER_FORK": "off"}  # each worker loads
    with Serving(free_ports(), folder / "m", *flags, env=env, log=folder / "log") as serving:
        yield serving


def test_variables_are_hidden_from_scripts(serving):
    """Neither a worker nor its listener nor Java has them.  What serve itself sets stays."""
    answer = serving.ask("m")
    assert answer.status == 200
    assert "hidden-" not in answer.body.decode()
    own = json.loads(answer.body)
    for moment in ("imported", "loaded", "asked"):
        assert {name: own[moment].get(name) for name in PLAIN} == PLAIN
    assert "PATH" in own["asked"]


def test_other_jars_come_first(serving, jars):
    """Even if they have a native library that MMS has too: netty would refuse both."""
    assert str(jars / "newer.jar") in [file.path for file in serving.java().open_files()]
    maps = [region.path for region in serving.java().memory_maps()]
    assert any("netty_transport_native_epoll" in path for path in maps)


def state(serving: Serving) -> tuple:
    """All that must not change: processes, the number of workers, readiness."""
    listener, workers = serving.of_model("m")
    description = client.call("GET", f"{serving.management}/models/m")
    numbers = json.loads(description.body)
    pids = (listener.pid, *(worker.pid for worker in workers))
    return pids, numbers["minWorkers"], numbers["maxWorkers"], serving.ping()


def test_workers_for_which_memory_is_missing_change_nothing(serving):
    """507, and the one worker goes on answering."""
    old = state(serving)
    answer = client.call("PUT", f"{serving.management}/models/m?min_worker=100")
    assert answer.status == 507
    assert "99 more workers needs about " in answer.message()
    assert state(serving) == old
    assert serving.ask("m").status == 200


def test_workers_that_cannot_load_change_nothing(serving, folder):
    """The reason is in the answer, and the one worker goes on answering."""
    old = state(serving)
    (folder / "broken").touch()
    answer = client.call("PUT", f"{serving.management}/models/m?min_worker=2", timeout_s=60)
    assert answer.status == 500
    assert "could not start 2 workers for m: " in answer.message()
    assert "ValueError: the weights are gone" in answer.message()
    assert state(serving)[1:] == old[1:]
    assert serving.ask("m").status == 200
    wait_for(lambda: state(serving) == old, 20)
    (folder / "broken").unlink()
    answer = client.call("PUT", f"{serving.management}/models/m?min_worker=2", timeout_s=60)
    assert answer.status == 200
    wait_for(lambda: len(state(serving)[0]) == 3, 20)  # MMS tries the one that failed once more
