"""admin: routes, fields and statuses of the management API, over real HTTP."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from mms_handler import client
from mms_handler.errors import NameTaken, NoSuchModel, OutOfResources
from mms_handler.server import admin
from mms_handler.server.registry import Wanted
from mms_handler.server.sources import Sources

USUAL = Wanted(workers=1, batch_size=1, max_batch_delay_ms=1, timeout_s=60)


class Models:
    """Takes what the API asks for; the real one needs a front end (tests/e2e)."""

    def __init__(self):
        self.known, self.calls, self.refusal = {}, [], None

    def check_free(self, name):
        if self.refusal:
            raise self.refusal

    def names(self):
        return sorted(self.known)

    def model(self, name):
        return self.known[name]

    def describe(self, name):
        if name not in self.known:
            raise NoSuchModel(f"no model is called {name}")
        return {"modelName": name}

    def register(self, *given):
        self.calls.append(given)

    def scale(self, *given):
        self.calls.append(given)

    def unregister(self, *given):
        self.calls.append(given)
        1 / len(self.known)  # a bug, where there are none


class Entry:
    url = "/opt/ml/models/x/model"


@pytest.fixture
def store(tmp_path):
    (tmp_path / "iris").mkdir()
    (tmp_path.parent / "secret").mkdir(exist_ok=True)
    return tmp_path


@pytest.fixture
def models():
    return Models()


@pytest.fixture
def ask(models, store):
    api = admin.Api(models, Sources([store], (), store), USUAL)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(admin.serving(api, 0))

        def ask(method, path, body=None):
            body = json.dumps(body).encode() if isinstance(body, dict) else body
            answer = client.call(method, f"http://127.0.0.1:{port}{path}", body)
            return answer.status, json.loads(answer.body)

        yield ask


def test_register(ask, models, store):
    """A name and an address are enough; the rest is as usual."""
    assert ask("POST", "/models", {"model_name": "i", "url": "iris"}) == (
        200,
        {"status": 'Model "i" registered'},
    )
    assert models.calls == [("i", "iris", store / "iris", USUAL)]


def test_register_as_mms_is_asked(ask, models, store):
    """MMS's fields in the query; an absolute path inside the store."""
    path = f"/models?model_name=i&url={store}/iris&initial_workers=2&batch_size=8"
    assert ask("POST", f"{path}&max_batch_delay=5&response_timeout=9&synchronous=true")[0] == 200
    assert models.calls == [("i", f"{store}/iris", store / "iris", Wanted(2, 8, 5, 9))]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        pytest.param(b"{", 400, "the body is not JSON", id="broken JSON"),
        pytest.param(b"null", 400, "a JSON object was wanted, a NoneType came", id="null"),
        pytest.param(b"[]", 400, "a JSON object was wanted, a list came", id="a list"),
        pytest.param(b"", 400, "model_name is missing", id="nothing"),
        pytest.param({"model_name": "i"}, 400, "url is missing", id="no url"),
        pytest.param({"model_name": 7, "url": "iris"}, 400, "model_name is missing", id="a number"),
        pytest.param({"model_name": "", "url": "iris"}, 400, "model_name is missing", id="empty"),
        pytest.param(
            {"model_name": "i", "url": "iris", "batch_size": -3},
            400,
            "batch_size: -3 is not a whole number, 0 or more",
            id="a batch below zero",
        ),
        pytest.param(
            {"model_name": "i", "url": "iris", "response_timeout": 61},
            400,
            "response_timeout: at most 60 s",
            id="more time than the workers have",
        ),
        pytest.param(
            {"model_name": "i", "url": "no"}, 404, "there is no no in the", id="not there"
        ),
        pytest.param(
            {"model_name": "i", "url": "../secret"}, 404, "there is no ../s", id="outside"
        ),
        pytest.param({"model_name": "i", "url": "/etc"}, 404, "there is no /etc", id="absolute"),
        pytest.param(
            {"model_name": "i", "url": "."}, 404, "there is no . in", id="the store itself"
        ),
        pytest.param(
            {"model_name": "i", "url": "http://127.0.0.1:1/x.mar"},
            400,
            "MMS_HANDLER_ALLOWED_URLS",
            id="an address that is not allowed",
        ),
    ],
)
def test_what_cannot_be_registered(ask, models, body, status, told):
    """Each says what came and what was wanted, and nothing is registered."""
    found, answer = ask("POST", "/models", body)
    assert (found, answer["code"]) == (status, status)
    assert told in answer["message"]
    assert models.calls == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(NameTaken("i"), 409), (OutOfResources("i"), 507), (NoSuchModel("i"), 404)],
)
def test_statuses_of_refusals(ask, models, error, status):
    """SageMaker goes by these numbers."""
    models.refusal = error
    body = {"model_name": "i", "url": "iris"}
    assert ask("POST", "/models", body) == (
        status,
        {"code": status, "type": type(error).__name__, "message": "i"},
    )


def test_list_in_pages(ask, models):
    """Sorted by name; a token only where there is more."""
    models.known = {name: Entry() for name in "cab"}
    url = "/opt/ml/models/x/model"
    page = {"models": [{"modelName": n, "modelUrl": url} for n in "ab"], "nextPageToken": "2"}
    assert ask("GET", "/models?limit=2") == (200, page)
    last = {"models": [{"modelName": "c", "modelUrl": url}]}
    assert ask("GET", "/models?limit=2&next_page_token=2") == (200, last)
    assert ask("GET", "/models?next_page_token=9") == (200, {"models": []})


def test_describe_scale_and_unregister(ask, models):
    """One model, by its name, whatever characters it has."""
    models.known = {"a b": Entry()}
    assert ask("GET", "/models/a%20b") == (200, {"modelName": "a b"})
    assert ask("GET", "/models/c")[0] == 404
    assert ask("PUT", "/models/a%20b?min_worker=3")[0] == 200
    assert ask("DELETE", "/models/a%20b")[0] == 200
    assert models.calls == [("a b", 3), ("a b",)]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/ping"), ("DELETE", "/models"), ("PUT", "/models/a/b")],
)
def test_there_is_nothing_else(ask, method, path):
    """What the API does not have is 404."""
    assert ask(method, path)[0] == 404


def test_a_bug_is_not_told(ask, models):
    """Whoever asked gets the type of it; the text is in the log."""
    status, answer = ask("DELETE", "/models/x")
    assert (status, answer["type"]) == (500, "ZeroDivisionError")
    assert "division" not in answer["message"]


def test_a_body_too_long_is_not_read(ask):
    """A registration has a few hundred bytes."""
    status, answer = ask("POST", "/models", b" " * 100_000)
    assert (status, answer["message"]) == (
        400,
        "a body of up to 65536 bytes was wanted, with its Content-Length",
    )


def test_sources_are_files_in_their_folders(tmp_path):
    """A link that leads out of the store leads nowhere."""
    (tmp_path / "store").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    sources = Sources([tmp_path / "store"], (), tmp_path)
    with pytest.raises(NoSuchModel, match="there is no link in the model store"), sources.found(
        "link"
    ):
        Path()
