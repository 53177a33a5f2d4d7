"""A multi-model endpoint, called as by SageMaker: one port, and models come and go."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import psutil
import pytest
from running_mms import EXAMPLES, Serving, free_ports, is_alive, mms_handler, wait_for, words_of

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
    """Put a model where SageMaker puts it; gives the url that SageMaker sends."""
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
    """Load, list, get, invoke and unload, and the statuses that SageMaker relies on."""
    linear = put(base, "a1", EXAMPLES / "linear")
    url = f"http://0.0.0.0:{serving.inference[17:]}/models"
    assert serving.first_line == f"models can be registered: {url}"
    assert serving.ping() == 200  # ready without a model
    assert load(serving, "m", linear) == 200
    assert load(serving, "m", linear) == 409
    assert load(serving, "n", str(base / "models" / "no" / "model")) == 404
    assert load(serving, "n", "/etc") == 404
    entry = {"modelName": "m", "modelUrl": linear, "modelVersion": "1"}
    assert call(serving, "GET", "/models") == (200, {"models": [entry]})
    status, description = call(serving, "GET", "/models/m")
    assert (status, {key: description[key] for key in entry}) == (200, entry)
    assert call(serving, "GET", "/models/n")[0] == 404
    assert invoke(serving, "m") == (200, RIGHT)
    assert invoke(serving, "n")[0] == 404
    assert call(serving, "DELETE", "/models/m")[0] == 200
    assert call(serving, "DELETE", "/models/m")[0] == 404
    assert invoke(serving, "m")[0] == 404
    assert serving.ping() == 200
    for method, path, methods in (
        ("PUT", "/models", "GET, POST"),
        ("PATCH", "/models/m", "GET, PUT, DELETE"),
        ("OPTIONS", "/models/m", "GET, PUT, DELETE"),
    ):
        answer = client.call(method, f"{serving.inference}{path}")
        assert (answer.status, answer.headers["allow"]) == (405, methods)


def test_versions(serving, base):
    """All calls of the management API are on the one port; /invoke is still a prediction."""
    first, second = named(base, "v1"), named(base, "v2")
    assert load(serving, "m", first) == 200
    fields = {"model_name": "m", "url": second, "replace": True}
    assert call(serving, "POST", "/models", fields)[0] == 200
    assert invoke(serving, "m") == (200, b"v2")
    assert client.invoke(f"{serving.inference}/predictions/m/1", b"").body == b"v1"
    assert call(serving, "GET", "/models/m/1")[1]["modelUrl"] == first
    assert call(serving, "PUT", "/models/m/1/set-default")[0] == 200
    assert invoke(serving, "m") == (200, b"v1")
    assert call(serving, "POST", "/models/m/rollback")[0] == 200
    assert invoke(serving, "m") == (200, b"v2")
    assert call(serving, "DELETE", "/models/m/1")[0] == 200
    assert call(serving, "GET", "/models/m/1")[0] == 404
    assert invoke(serving, "m") == (200, b"v2")


def test_models_do_not_affect_each_other(serving, base):
    """Each has its own code/, even with equal file names; a broken one does not hurt the others."""
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


def test_unloading_frees_the_memory(serving, base):
    """When the answer comes, the model's processes and files are gone."""
    assert load(serving, "m", put(base, "a1", EXAMPLES / "linear")) == 200
    (folder,) = serving.folders
    family = serving.java().children(recursive=True)
    assert len(family) == 3  # the listener, the fork server and one worker
    assert (folder / "store" / "m").is_dir()
    assert call(serving, "DELETE", "/models/m")[0] == 200
    assert not any(map(is_alive, family))
    assert not any(map(is_alive, serving.java().children(recursive=True)))
    assert list((folder / "store").iterdir()) == []
    assert list((folder / "tmp").glob(".mms.sock.*")) == []


def test_a_model_that_cannot_load_leaves_no_socket(serving, base):
    """Its listener has ended before serve looks, so no process tells which socket was its."""
    folder = base / "models" / "broken" / "model" / "code"
    folder.mkdir(parents=True)
    (folder / "inference.py").write_text("import no_such_module\n")
    assert load(serving, "broken", str(folder.parent)) == 500
    (temp,) = serving.folders
    assert list((temp / "tmp").glob(".mms.sock.*")) == []


def test_management_calls_in_close_succession(serving):
    """Each gets its own answer.  One in some two hundred POSTs after a DELETE was lost."""
    statuses: Counter = Counter()

    def ask(name: str) -> None:
        for _ in range(40):
            for method, path, body in (
                ("DELETE", f"/models/{name}", None),
                ("POST", "/models", {"model_name": name, "url": "/nothing"}),
            ):
                statuses[method, call(serving, method, path, body)[0]] += 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, "abcdef"))
    assert statuses == {("DELETE", 404): 240, ("POST", 404): 240}


def test_a_public_port_needs_a_token(ports):
    """Everyone could load code otherwise; SageMaker's own command is trusted."""
    words = ("serve", "--multi-model", "--host", "0.0.0.0", "--port", ports[0])
    ended = mms_handler(*words, env={**os.environ, "MMS_HANDLER_TOKEN_FILE": ""})
    assert ended.returncode == 2
    assert b"everyone who reaches 0.0.0.0:" in ended.stderr


def test_a_container_whose_models_everyone_can_load_says_so(serving, folder):
    """SageMaker needs it so, and nothing shows that it is SageMaker."""
    log = (folder / "log").read_text()
    assert log.count("warning: everyone who reaches 0.0.0.0:") == 1
    assert log.count('set MMS_HANDLER_TOKEN_FILE to a file with a line "management TOKEN"') == 1


def test_who_may_manage_models(ports, tmp_path):
    """The public port passes on who asks: a page of another site, or who has the token."""
    tokens = tmp_path / "tokens"
    tokens.write_text("management 0123456789abcdef-secret\n")
    tokens.chmod(0o600)
    words = ("--multi-model", "--token-file", tokens)
    with Serving(ports, *words, log=tmp_path / "log") as serving:
        right = {"Authorization": "Bearer 0123456789abcdef-secret"}
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer 0123456789abcdef-wrong1"}, 401),
            (right, 404),
            ({**right, "Origin": "http://evil.example"}, 403),
            ({**right, "Host": f"evil.example:{ports[0]}"}, 403),
            ({**right, "Host": f"localhost:{ports[0]}"}, 404),
        ):
            for url in (serving.inference, serving.management):
                body = b'{"model_name": "m", "url": "/nothing"}'
                answer = client.call("POST", f"{url}/models", body, headers)
                assert (url, headers, answer.status) == (url, headers, status)
                if status == 401:
                    assert answer.headers["www-authenticate"].startswith("Bearer realm=")
        assert serving.ping() == 200
        assert b"secret" not in (tmp_path / "log").read_bytes()
        assert "secret" not in " ".join(word for p in serving.family for word in words_of(p))


def test_a_model_that_does_not_fit_is_507(ports, base, tmp_path):
    """It is not started; once another one is unloaded it can be loaded."""
    env = {
        **os.environ,
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BASE_DIR": str(base),
        "MMS_HANDLER_MEMORY_MB": "380",
        "MMS_HANDLER_HEAP_MB": "64",
    }
    with Serving(ports, env=env, log=tmp_path / "log") as serving:
        url = put(base, "a1", EXAMPLES / "linear")
        assert load(serving, "first", url) == 200
        status, answer = call(serving, "POST", "/models", {"model_name": "second", "url": url})
        assert status == 507
        assert "second needs about 220 MB, but only " in answer["message"]
        models = call(serving, "GET", "/models")[1]["models"]
        assert [entry["modelName"] for entry in models] == ["first"]
        assert invoke(serving, "first") == (200, RIGHT)
        assert call(serving, "DELETE", "/models/first")[0] == 200
        assert load(serving, "second", url) == 200
        assert invoke(serving, "second") == (200, RIGHT)


def test_workers_that_do_not_fit_are_507(ports, base, tmp_path):
    """Nothing has changed then: the model has its one worker and answers."""
    env = {
        **os.environ,
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BASE_DIR": str(base),
        "MMS_HANDLER_MEMORY_MB": "1500",
        "MMS_HANDLER_HEAP_MB": "64",
        "MMS_HANDLER_FORK": "off",  # as many forks would fit
    }
    with Serving(ports, env=env, log=tmp_path / "log") as serving:
        assert load(serving, "m", put(base, "a1", EXAMPLES / "linear")) == 200
        processes = serving.java().children(recursive=True)
        status, answer = call(serving, "PUT", "/models/m?min_worker=100")
        assert status == 507
        assert answer["message"].startswith("m with 99 more workers needs about ")
        assert serving.java().children(recursive=True) == processes
        assert call(serving, "GET", "/models/m")[1]["minWorkers"] == 1
        assert invoke(serving, "m") == (200, RIGHT)
        assert call(serving, "PUT", "/models/m?min_worker=2")[0] == 200
        assert call(serving, "GET", "/models/m")[1]["minWorkers"] == 2
        assert invoke(serving, "m") == (200, RIGHT)


def test_many_models_in_turn(ports, base, tmp_path, request):
    """With more models than fit, each is loaded and called; a 507 makes others go first."""
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
        used_bytes = []
        for number in [*range(count), 0, 1]:  # the first two were evicted and are loaded again
            name = f"m{number}"
            folder = base / "models" / name / "model"
            url = str(folder) if folder.is_dir() else named(base, name)
            while (status := load(serving, name, url)) == 507:
                assert call(serving, "DELETE", f"/models/{loaded.pop(0)}")[0] == 200
                evicted += 1
            assert status == 200
            loaded.append(name)
            assert invoke(serving, name) == (200, name.encode())
            family = psutil.Process(serving.process.pid).children(recursive=True)
            used_bytes.append(sum(process.memory_info().rss for process in family))
        assert evicted == count + 2 - len(loaded)
        listed = call(serving, "GET", "/models")[1]["models"]
        assert sorted(entry["modelName"] for entry in listed) == sorted(loaded)
        assert [invoke(serving, name)[1].decode() for name in loaded] == loaded
        (folder,) = serving.folders
        assert len(list((folder / "store").iterdir())) == len(loaded)
        # No leak: at the end all processes use what they used when the memory was first full.
        full = len(loaded)
        assert used_bytes[-1] < 1.2 * max(used_bytes[full - 1 : full + 3])
        wait_for(lambda: len(list((folder / "tmp").glob("*-std*"))) <= 2 * len(loaded), 5)
