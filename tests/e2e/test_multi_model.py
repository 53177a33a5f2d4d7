"""A multi-model endpoint, called as SageMaker calls it: one port, models come and go."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Iterator

import psutil
import pytest
from running_mms import EXAMPLES, Serving, free_ports, wait_for

from mms_handler import client

RIGHT = b"[[4.9999918937683105]]"

NAMED = """\
import sibling

def model_fn(model_dir):
    return sibling.NAME

def transform_fn(model, data, content_type, accept):
    return model, "text/plain"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Has the base directory of the endpoint, and its log."""
    return tmp_path_factory.mktemp("endpoint")


@pytest.fixture
def base(folder) -> Iterator[Path]:
    """The base directory, without a model."""
    yield folder / "ml"
    shutil.rmtree(folder / "ml", ignore_errors=True)


@pytest.fixture(scope="module")
def endpoint(folder) -> Iterator[Serving]:
    env = {
        **os.environ,
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BASE_DIR": str(folder / "ml"),
    }
    with Serving(free_ports(), env=env, log=folder / "log") as serving:
        yield serving


@pytest.fixture
def serving(endpoint, base) -> Iterator[Serving]:
    """The endpoint without a model; the test's own are unloaded after it."""
    yield endpoint
    for model in call(endpoint, "GET", "/models")[1]["models"]:
        assert call(endpoint, "DELETE", f"/models/{model['modelName']}")[0] == 200


def put(base: Path, identity: str, source: Path) -> str:
    """Where SageMaker puts a model, and the address that it gives."""
    folder = base / "models" / identity / "model"
    shutil.copytree(source, folder)
    return str(folder)


def named(base: Path, identity: str) -> str:
    folder = base / "models" / identity / "model" / "code"
    folder.mkdir(parents=True)
    (folder / "inference.py").write_text(NAMED)
    (folder / "sibling.py").write_text(f"NAME = {identity!r}\n")
    return str(folder.parent)


def call(serving, method, path, body=None, **how):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    answer = client.call(method, f"{serving.inference}{path}", data, headers, timeout_s=120)
    return answer.status, json.loads(answer.body)


def load(serving, name, url):
    return call(serving, "POST", "/models", {"model_name": name, "url": url})[0]


def invoke(serving, name, body=b"[[1,2]]"):
    answer = client.invoke(f"{serving.inference}/models/{name}/invoke", body)
    return answer.status, answer.body


def test_the_five_calls(serving, base):
    """Load, list, get, invoke and unload, and what SageMaker goes by when they fail."""
    linear = put(base, "a1", EXAMPLES / "linear")
    assert (
        serving.said == f"models can be registered: http://0.0.0.0:{serving.inference[17:]}/models"
    )
    assert serving.ping() == 200  # ready, with no model yet
    assert load(serving, "m", linear) == 200
    assert load(serving, "m", linear) == 409
    assert load(serving, "n", str(base / "models" / "no" / "model")) == 404
    assert load(serving, "n", "/etc") == 404
    one = {"modelName": "m", "modelUrl": linear}
    assert call(serving, "GET", "/models") == (200, {"models": [one]})
    status, found = call(serving, "GET", "/models/m")
    assert (status, {key: found[key] for key in one}) == (200, one)
    assert call(serving, "GET", "/models/n")[0] == 404
    assert invoke(serving, "m") == (200, RIGHT)
    assert invoke(serving, "n")[0] == 404
    assert call(serving, "DELETE", "/models/m")[0] == 200
    assert call(serving, "DELETE", "/models/m")[0] == 404
    assert invoke(serving, "m")[0] == 404
    assert serving.ping() == 200


def test_models_know_nothing_of_each_other(serving, base):
    """Each has its own code/, whatever its files are called; one that breaks hurts no other."""
    assert [load(serving, name, named(base, name)) for name in ("x", "y")] == [200, 200]
    broken = base / "models" / "z" / "model"
    (broken / "code").mkdir(parents=True)
    (broken / "code" / "inference.py").write_text("import no_such_module\n")
    status, answer = call(serving, "POST", "/models", {"model_name": "z", "url": str(broken)})
    assert status == 500
    assert "No module named 'no_such_module' (code/inference.py, line 1)" in answer["message"]
    assert (invoke(serving, "x"), invoke(serving, "y")) == ((200, b"x"), (200, b"y"))
    (broken / "code" / "inference.py").write_text(NAMED.replace("sibling.NAME", "'mended'"))
    (broken / "code" / "sibling.py").write_text("")
    assert load(serving, "z", str(broken)) == 200
    assert invoke(serving, "z") == (200, b"mended")


def test_unloading_gives_the_memory_back(serving, base):
    """When the answer comes, the model's processes and files are gone."""
    assert load(serving, "m", put(base, "a1", EXAMPLES / "linear")) == 200
    (folder,) = serving.folders
    family = serving.java().children(recursive=True)
    assert len(family) == 2  # the listener and one worker
    assert (folder / "store" / "m").is_dir()
    assert call(serving, "DELETE", "/models/m")[0] == 200
    assert not any(one.is_running() for one in family)
    assert serving.java().children(recursive=True) == []
    assert list((folder / "store").iterdir()) == []


def test_a_model_that_does_not_fit_is_507(ports, base, tmp_path):
    """It is not tried; after another has gone it is loaded."""
    env = {
        **os.environ,
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BASE_DIR": str(base),
        "MMS_HANDLER_MEMORY_MB": "380",
        "MMS_HANDLER_HEAP_MB": "64",
    }
    with Serving(ports, env=env, log=tmp_path / "log") as serving:
        url = put(base, "a1", EXAMPLES / "linear")
        assert load(serving, "one", url) == 200
        status, answer = call(serving, "POST", "/models", {"model_name": "two", "url": url})
        assert status == 507
        assert "two needs about 220 MB, " in answer["message"]
        assert [one["modelName"] for one in call(serving, "GET", "/models")[1]["models"]] == ["one"]
        assert invoke(serving, "one") == (200, RIGHT)
        assert call(serving, "DELETE", "/models/one")[0] == 200
        assert load(serving, "two", url) == 200
        assert invoke(serving, "two") == (200, RIGHT)


def test_many_models_in_turn(ports, base, tmp_path, request):
    """More than fit: each is loaded, after others went where 507 asks for it, and called."""
    env = {
        **os.environ,
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BASE_DIR": str(base),
        "MMS_HANDLER_MEMORY_MB": "700",
        "MMS_HANDLER_HEAP_MB": "64",
    }
    count = request.config.getoption("--models")
    loaded: list[str] = []
    evicted = 0
    with Serving(ports, env=env, log=tmp_path / "log") as serving:
        used = []
        for number in [*range(count), 0, 1]:  # the first two were evicted, and come again
            name = f"m{number}"
            folder = base / "models" / name / "model"
            url = str(folder) if folder.is_dir() else named(base, name)
            while (status := load(serving, name, url)) == 507:
                assert call(serving, "DELETE", f"/models/{loaded.pop(0)}")[0] == 200
                evicted += 1
            assert status == 200
            loaded.append(name)
            assert invoke(serving, name) == (200, name.encode())
            used.append(sum(one.memory_info().rss for one in _family(serving)))
        assert evicted == count + 2 - len(loaded)
        listed = call(serving, "GET", "/models")[1]["models"]
        assert sorted(one["modelName"] for one in listed) == sorted(loaded)
        assert [invoke(serving, name)[1].decode() for name in loaded] == loaded
        (folder,) = serving.folders
        assert len(list((folder / "store").iterdir())) == len(loaded)
        # no leak: what all processes have at the end is what they had when memory was first full
        full = len(loaded)
        assert used[-1] < 1.2 * max(used[full - 1 : full + 3])
        wait_for(lambda: len(list((folder / "tmp").glob("*-std*"))) <= 2 * len(loaded), 5)


def _family(serving: Serving) -> list[psutil.Process]:
    return psutil.Process(serving.process.pid).children(recursive=True)
