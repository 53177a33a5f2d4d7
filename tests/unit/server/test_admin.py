"""admin: routes, fields and statuses of the management API, over real HTTP."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from mms_handler import client
from mms_handler.errors import NameTaken, NoSuchModel, OutOfResources
from mms_handler.server import admin
from mms_handler.server.registry import Serving
from mms_handler.server.sources import Source, Sources

DEFAULTS = Serving(workers=1, batch_size=1, max_batch_delay_ms=1, timeout_s=60)


class FakeRegistry:
    """Records the calls of the API; the real registry needs a front end (tests/e2e)."""

    def __init__(self):
        self.models, self.calls, self.refusal = {}, [], None

    def check_free(self, name):
        if self.refusal:
            raise self.refusal

    def names(self):
        return sorted(self.models)

    def model(self, name):
        return self.models[name]

    def describe(self, name):
        if name not in self.models:
            raise NoSuchModel(f"no model is called {name}")
        return {"modelName": name}

    def register(self, *arguments):
        self.calls.append(arguments)

    def scale(self, *arguments):
        self.calls.append(arguments)

    def unregister(self, *arguments):
        self.calls.append(arguments)
        1 / len(self.models)  # a bug while there are no models


class Entry:
    url = "/opt/ml/models/x/model"


@pytest.fixture
def store(tmp_path):
    (tmp_path / "iris").mkdir()
    (tmp_path / "iris" / "net.params").write_bytes(b"four")
    (tmp_path.parent / "secret").mkdir(exist_ok=True)
    return tmp_path


@pytest.fixture
def registry():
    return FakeRegistry()


@pytest.fixture
def ask(registry, store):
    api = admin.Api(registry, Sources([store], (), store), DEFAULTS)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(admin.listening(api, 0))

        def ask(method, path, body=None):
            body = json.dumps(body).encode() if isinstance(body, dict) else body
            answer = client.call(method, f"http://127.0.0.1:{port}{path}", body)
            return answer.status, json.loads(answer.body)

        yield ask


def test_register(ask, registry, store):
    """A name and a url are enough; the rest has defaults."""
    assert ask("POST", "/models", {"model_name": "i", "url": "iris"}) == (
        200,
        {"status": 'Model "i" registered'},
    )
    assert registry.calls == [(Source("i", store / "iris", 4, "iris"), DEFAULTS)]


def test_register_with_mms_fields(ask, registry, store):
    """MMS's fields work in the query; the url may be an absolute path inside the store."""
    path = f"/models?model_name=i&url={store}/iris&initial_workers=2&batch_size=8"
    assert ask("POST", f"{path}&max_batch_delay=5&response_timeout=9&synchronous=true")[0] == 200
    source = Source("i", store / "iris", 4, f"{store}/iris")
    assert registry.calls == [(source, Serving(2, 8, 5, 9))]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        pytest.param(b"{", 400, "the body is not JSON", id="broken JSON"),
        pytest.param(b"null", 400, "the body must be a JSON object; it is a NoneType", id="null"),
        pytest.param(b"[]", 400, "the body must be a JSON object; it is a list", id="a list"),
        pytest.param(b"", 400, "model_name is missing", id="an empty body"),
        pytest.param({"model_name": "i"}, 400, "url is missing", id="no url"),
        pytest.param(
            {"model_name": 7, "url": "iris"},
            400,
            "model_name is missing",
            id="a name that is a number",
        ),
        pytest.param(
            {"model_name": "", "url": "iris"}, 400, "model_name is missing", id="an empty name"
        ),
        pytest.param(
            {"model_name": "i", "url": "iris", "batch_size": -3},
            400,
            "batch_size: -3 is not a whole number, 0 or more",
            id="a negative batch size",
        ),
        pytest.param(
            {"model_name": "i", "url": "iris", "response_timeout": 61},
            400,
            "response_timeout: 61 s is too long; the limit is 60 s",
            id="longer than the workers' timeout",
        ),
        pytest.param(
            {"model_name": "i", "url": "no"},
            404,
            "there is no no in the",
            id="a url that does not exist",
        ),
        pytest.param(
            {"model_name": "i", "url": "../secret"},
            404,
            "there is no ../s",
            id="a url outside the store",
        ),
        pytest.param(
            {"model_name": "i", "url": "/etc"},
            404,
            "there is no /etc",
            id="an absolute path outside the store",
        ),
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
def test_invalid_registrations(ask, registry, body, status, words):
    """Each gets a message about its fault, and nothing is registered."""
    answer_status, answer = ask("POST", "/models", body)
    assert (answer_status, answer["code"]) == (status, status)
    assert words in answer["message"]
    assert registry.calls == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(NameTaken("i"), 409), (OutOfResources("i"), 507), (NoSuchModel("i"), 404)],
)
def test_statuses_of_refusals(ask, registry, error, status):
    """SageMaker relies on these statuses."""
    registry.refusal = error
    body = {"model_name": "i", "url": "iris"}
    assert ask("POST", "/models", body) == (
        status,
        {"code": status, "type": type(error).__name__, "message": "i"},
    )


def test_list_in_pages(ask, registry):
    """Models are sorted by name; there is a token only if there are more."""
    registry.models = {name: Entry() for name in "cab"}
    url = "/opt/ml/models/x/model"
    page = {"models": [{"modelName": n, "modelUrl": url} for n in "ab"], "nextPageToken": "2"}
    assert ask("GET", "/models?limit=2") == (200, page)
    last = {"models": [{"modelName": "c", "modelUrl": url}]}
    assert ask("GET", "/models?limit=2&next_page_token=2") == (200, last)
    assert ask("GET", "/models?next_page_token=9") == (200, {"models": []})


def test_describe_scale_and_unregister(ask, registry):
    """A model's name may have characters that a URL quotes."""
    registry.models = {"a b": Entry()}
    assert ask("GET", "/models/a%20b") == (200, {"modelName": "a b"})
    assert ask("GET", "/models/c")[0] == 404
    assert ask("PUT", "/models/a%20b?min_worker=3")[0] == 200
    assert ask("DELETE", "/models/a%20b")[0] == 200
    assert registry.calls == [("a b", 3), ("a b",)]


def test_no_workers(ask, registry):
    """MMS ends the listener with the last worker, and the model could never get another one."""
    registry.models = {"i": Entry()}
    status, answer = ask("PUT", "/models/i?min_worker=0")
    assert (status, answer["message"]) == (
        400,
        "min_worker is 0: ask for 1 or more, or unregister the model",
    )
    assert registry.calls == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/ping"), ("DELETE", "/models"), ("PUT", "/models/a/b")],
)
def test_unknown_routes(ask, method, path):
    """A route that the API does not have gets 404."""
    assert ask(method, path)[0] == 404


def test_the_text_of_a_bug_stays_in_the_log(ask):
    """The client gets only the exception's type."""
    status, answer = ask("DELETE", "/models/x")
    assert (status, answer["type"]) == (500, "ZeroDivisionError")
    assert "division" not in answer["message"]


def test_a_long_body_is_not_read(ask):
    """A registration has a few hundred bytes."""
    status, answer = ask("POST", "/models", b" " * 100_000)
    assert (status, answer["message"]) == (
        400,
        "Content-Length is 100000: send a body of at most 65536 bytes",
    )


def test_sources_are_inside_their_folders(tmp_path):
    """A link that leads out of the store is not followed."""
    (tmp_path / "store").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    sources = Sources([tmp_path / "store"], (), tmp_path)
    with pytest.raises(NoSuchModel, match="there is no link in the model store"), sources.open(
        "m", "link"
    ):
        Path()
