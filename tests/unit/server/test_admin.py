"""admin: routes, fields and statuses of the management API, over real HTTP."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from pathlib import Path

import pytest
from local_mms import wait_until

import mms_handler
from mms_handler import client
from mms_handler.errors import (
    ArchiveError,
    NameTaken,
    NoSuchModel,
    OutOfResources,
    ServerError,
    Unavailable,
)
from mms_handler.names import check_name
from mms_handler.server import admin, admin_http, later
from mms_handler.server.access import Access
from mms_handler.server.mms_models import Serving
from mms_handler.server.sources import Source, Sources

DEFAULTS = Serving(workers=1, batch_size=1, timeout_s=60)


class FakeVersions:
    """Records the calls of the API; the real ones need a front end (tests/e2e)."""

    def __init__(self):
        self.entries, self.calls, self.refusal, self.names = {}, [], None, []

    @contextlib.contextmanager
    def reserved(self, name, url, replace=False):
        if self.refusal:
            raise self.refusal
        self.names.append(name)
        try:
            yield
        finally:
            self.names.remove(name)

    def list(self):
        names = sorted(self.entries)
        return [{"modelName": name, "modelUrl": self.entries[name].url} for name in names]

    def find(self, name, version=""):
        if name not in self.entries:
            raise NoSuchModel(f"Model not found: {name}")
        return name

    def serving(self, name):
        return self.entries[name].serving if name in self.entries else None

    def describe(self, name, version=""):
        self.find(name)
        return {"modelName": name}

    def load(self, source, serving, version="", share=None):
        more = {"version": version, "share": share} if version or share is not None else {}
        self.calls.append((source, serving, *more.items()))
        return version or "2"

    def scale(self, name, min_workers, max_workers, version=""):
        self.calls.append((name, min_workers, max_workers, *filter(None, [version])))

    def __getattr__(self, name):
        if name not in ("serve", "share", "roll_back", "unload"):
            raise AttributeError(name)
        return lambda *arguments: self.calls.append((name, *arguments))

    def unregister(self, *arguments):
        self.calls.append(arguments)
        1 / len(self.entries)  # a bug while there are no models


METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")


class Entry:
    url = "/opt/ml/models/x/model"
    serving = Serving(3, 4, 60)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "iris").mkdir()
    (tmp_path / "iris" / "net.params").write_bytes(b"four")
    (tmp_path / "a b.tar.gz").touch()
    (tmp_path.parent / "secret").mkdir(exist_ok=True)
    return tmp_path


@pytest.fixture
def versions():
    return FakeVersions()


@pytest.fixture
def ask(versions, store):
    sources = Sources([store], ("http://127.0.0.1:1/allowed",), store)
    api = admin.Api(versions, sources, DEFAULTS, later.LaterChanges())
    with contextlib.ExitStack() as stack:
        access = Access("", (), any_public_host=False)
        port = stack.enter_context(admin_http.listening(api, access, 0))

        def ask(method, path, body=None):
            body = json.dumps(body).encode() if isinstance(body, dict) else body
            answer = client.call(method, f"http://127.0.0.1:{port}{path}", body)
            return answer.status, json.loads(answer.body)

        ask.port = port
        yield ask


def test_register(ask, versions, store):
    """A name and a url are enough; the rest has defaults."""
    assert ask("POST", "/models", {"model_name": "i", "url": "iris"}) == (
        200,
        {"status": 'Model "i" registered'},
    )
    assert versions.calls == [(Source("i", store / "iris", 4, "iris"), DEFAULTS)]


def test_register_with_mms_fields(ask, versions, store):
    """MMS's fields work in the query; the url may be an absolute path inside the store.

    ``max_batch_delay`` is not read.
    """
    path = f"/models?model_name=i&url={store}/iris&initial_workers=2&batch_size=8"
    assert ask("POST", f"{path}&max_batch_delay=5&response_timeout=9&synchronous=true") == (
        200,
        {"status": "Workers scaled"},
    )
    source = Source("i", store / "iris", 4, f"{store}/iris")
    assert versions.calls == [(source, Serving(2, 8, 9))]


@pytest.mark.parametrize("synchronous", ["true", "false"])
def test_register_without_workers(ask, versions, store, synchronous):
    """Nothing is loaded, so there is nothing to do later, as in MMS."""
    path = f"/models?model_name=i&url=iris&initial_workers=0&synchronous={synchronous}"
    assert ask("POST", path) == (200, {"status": 'Model "i" registered'})
    assert versions.calls == [
        (Source("i", store / "iris", 4, "iris"), DEFAULTS._replace(workers=0))
    ]


@pytest.mark.parametrize("fields", [{}, {"model_name": ""}])
def test_register_without_a_name(ask, versions, store, fields):
    """The model says how it is called; a text that is empty is no name, as in MMS."""
    status = {"status": 'Model "iris" registered'}
    assert ask("POST", "/models", {"url": "iris", **fields}) == (200, status)
    assert versions.calls == [(Source("iris", store / "iris", 4, "iris"), DEFAULTS)]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        pytest.param(b"{", 400, "the body is not JSON", id="broken JSON"),
        pytest.param(b"null", 400, "the body must be a JSON object; it is a NoneType", id="null"),
        pytest.param(b"[]", 400, "the body must be a JSON object; it is a list", id="a list"),
        pytest.param(b"", 400, "Parameter url is required.", id="an empty body"),
        pytest.param({"model_name": "i"}, 400, "Parameter url is required.", id="no url"),
        pytest.param(
            {"model_name": 7, "url": "iris"},
            400,
            "model_name: 7 is not a text",
            id="a name that is a number",
        ),
        pytest.param(
            {"url": "iris", "runtime": "perl"},
            400,
            "Invalid RuntimeType value: perl",
            id="another runtime",
        ),
        pytest.param({"url": ["iris"]}, 400, "url: ['iris'] is not a text", id="a list as url"),
        pytest.param({"url": "a b.tar.gz"}, 400, "model_name is missing, and", id="no name"),
        pytest.param(
            {"model_name": "i", "url": "iris", "batch_size": -3},
            400,
            "batch_size: -3 is not a whole number from 0 to 2147483647",
            id="a negative batch size",
        ),
        pytest.param(
            {"model_name": "i", "url": "iris", "response_timeout": 61},
            400,
            "response_timeout: 61 s is too long; the limit is 60 s",
            id="longer than the workers' timeout",
        ),
        pytest.param(
            {"model_name": "i", "url": "no", "batch_size": -3},
            400,
            "batch_size: -3 is not a whole number from 0 to 2147483647",
            id="a number, before the url is looked at",
        ),
        pytest.param(
            {"model_name": "i", "url": "no"},
            404,
            "Model not found in model store: no",
            id="a url that does not exist",
        ),
        pytest.param(
            {"model_name": "i", "url": "../secret"},
            404,
            "Relative path is not allowed in url: ../secret",
            id="a url outside the store",
        ),
        pytest.param(
            {"model_name": "i", "url": "/etc"},
            404,
            "Model not found in model store: /etc",
            id="an absolute path outside the store",
        ),
        pytest.param(
            {"model_name": "i", "url": "."},
            404,
            "Model not found in model store: .",
            id="the store itself",
        ),
        pytest.param(
            {"model_name": "i", "url": "http://127.0.0.1:1/x.mar"},
            400,
            "MMS_HANDLER_ALLOWED_URLS",
            id="an address that is not allowed",
        ),
    ],
)
def test_invalid_registrations(ask, versions, body, status, words):
    """Each gets a message about its fault, and nothing is registered."""
    answer_status, answer = ask("POST", "/models", body)
    assert (answer_status, answer["code"]) == (status, status)
    assert words in answer["message"]
    assert versions.calls == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "is nested too", id="deep objects"),
        pytest.param(b'{"a":' + b"[" * 60_000, "is nested too deeply", id="deep lists, cut off"),
        pytest.param(
            b'{"model_name":"i","url":"iris","batch_size":%s}' % (b"9" * 4_000),
            "is not a whole number from 0 to 2147483647",
            id="a number of 4,000 digits",
        ),
        pytest.param(
            b'{"model_name":"i","url":"iris","batch_size":"%s"}' % (b"9" * 5_000),
            "is not a whole number from 0 to 2147483647",
            id="a text of 5,000 digits",
        ),
        pytest.param(
            b'{"model_name":"i","url":"iris","initial_workers":2147483648}',
            "initial_workers: 2147483648 is not a whole number from 0 to 2147483647",
            id="more than MMS's int",
        ),
        pytest.param(
            b'{"model_name":"i","url":"iris","batch_size":1.5}',
            "batch_size: 1.5 is not a whole number",
            id="a fraction",
        ),
        pytest.param(
            b'{"model_name":"i","url":"iris","batch_size":%s}' % (b"[" * 300 + b"]" * 300),
            "is not a whole number",
            id="nested lists for a number",
        ),
    ],
)
def test_bodies_that_are_made_to_break(ask, versions, body, words):
    """Each gets 400 and a message of a sensible length."""
    status, answer = ask("POST", "/models", body)
    assert (status, answer["code"]) == (400, 400)
    assert words in answer["message"]
    assert len(answer["message"]) < 200
    assert versions.calls == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        pytest.param("/models?limit=" + "9" * 4_000, 400, id="4,000 digits"),
        pytest.param("/models/" + "n" * 300, 404, id="a name of 300 letters"),
        pytest.param("/models/%FF%00", 404, id="a name that is no text"),
    ],
)
def test_addresses_that_are_made_to_break(ask, path, status):
    """None is an internal error."""
    assert ask("GET", path)[0] == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param({"model_name": "n" * 300}, 400, id="a name of 300 letters"),
        pytest.param({"url": "u" * 5_000}, 404, id="a url of 5,000 letters"),
        pytest.param({"url": "a\0b"}, 404, id="a url with a zero"),
        pytest.param({"url": "\ud800"}, 404, id="a url with half a letter"),
        pytest.param({"url": "loop"}, 404, id="links that lead to each other"),
    ],
)
def test_names_and_urls_that_no_file_has(store, fields, status):
    """The path does not exist; no error of the system reaches the client."""
    (store / "loop").symlink_to(store / "loop")
    versions = FakeVersions()
    versions.reserved = lambda name, *_: contextlib.nullcontext(check_name(name))
    api = admin.Api(versions, Sources([store], (), store), DEFAULTS, later.LaterChanges())
    with admin_http.listening(api, Access("", (), any_public_host=False), 0) as port:
        body = json.dumps({"model_name": "i", "url": "iris", **fields}).encode()
        answer = client.call("POST", f"http://127.0.0.1:{port}/models", body)
    assert answer.status == status
    assert versions.calls == []


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_is_507(ask, versions, wrapped):
    """So SageMaker unloads another model; the system's own words stay here."""

    def load(*arguments):
        with open("/dev/full", "wb", buffering=0) as full:
            try:
                full.write(b"a model")
            except OSError as exc:
                if wrapped:
                    raise ArchiveError("the archive cannot be unpacked") from exc
                raise

    versions.load = load
    status, answer = ask("POST", "/models", {"model_name": "i", "url": "iris"})
    assert (status, answer["type"]) == (507, "OutOfResources")
    assert answer["message"] == "the server's disk is full; unregister a model first"


def test_another_error_of_the_system_is_a_bug(ask, versions):
    """Its path is no client's business."""

    def load(*arguments):
        raise PermissionError(13, "Permission denied", "/opt/secret")

    versions.load = load
    status, answer = ask("POST", "/models", {"model_name": "i", "url": "iris"})
    assert (status, answer["type"]) == (500, "PermissionError")
    assert answer["message"] == "internal error; the server's log has the cause"


# --- connections ---

HEAD = b"POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"


def _raw(port, text):
    """The whole answer to a request that is written as it is."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


@pytest.mark.parametrize("sent", [b"", b"GET /mod", HEAD.partition(b"Content")[0]])
def test_a_client_that_leaves_within_the_head(ask, caplog, sent):
    """Gets no answer, and is no bug: the log has nothing of it."""
    with socket.create_connection(("127.0.0.1", ask.port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert ask("GET", "/models")[0] == 200
    assert caplog.messages == []


def test_connections_one_after_another(ask):
    """Each that has ended makes room for another, however many there are."""
    for _ in range(120):
        with socket.create_connection(("127.0.0.1", ask.port), timeout=20) as connection:
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(100) == b""


def test_a_client_that_has_read_its_refusal(monkeypatch):
    """What it still sent is dropped, and it is not waited for once it closes."""
    monkeypatch.setattr(admin_http, "_LINGER_S", 600)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"the rest of a body")
        lingering = threading.Thread(target=admin_http._linger, args=(ours,), daemon=True)
        lingering.start()
        assert theirs.recv(1) == b""
        theirs.close()
        lingering.join(20)
        assert not lingering.is_alive()


def test_a_deadline_that_has_passed():
    """Nothing more is read, even if there is something."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"late")
        reader = admin_http._TimedReader(ours)
        with pytest.raises(socket.timeout, match="timed out"):
            reader.readinto(bytearray(4))
        reader.deadline = time.monotonic() + 60
        assert reader.readable()
        assert reader.readinto(bytearray(4)) == 4


def test_the_time_to_write(monkeypatch):
    """A client that takes its answer has the whole time for it, however late its request came."""
    monkeypatch.setattr(admin_http, "_IDLE_S", 600)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = admin_http._TimedReader(ours)
        reader.deadline = time.monotonic() + 20
        theirs.sendall(b"last")
        reader.readinto(bytearray(4))
        assert ours.gettimeout() == 600


def test_a_client_that_sends_on_reads_its_refusal(ask, monkeypatch):
    """A close with unread bytes would be a reset, which destroys the answer."""
    monkeypatch.setattr(admin_http, "_LINGER_S", 20)
    body = b" " * 20_000_000  # more than the system's buffers hold
    head = HEAD.replace(b" 100\r", f" {len(body)}\r".encode())
    assert _raw(ask.port, head + b"\r\n" + body).startswith("HTTP/1.1 400 ")


def test_a_connection_that_is_closed_says_so(ask):
    """Java kept such connections for its next request, and lost it: "Unexpected end of file"."""
    head = b"GET /models HTTP/1.1\r\nHost: localhost\r\n"
    answer = _raw(ask.port, head + b"Connection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 200 ")
    assert "\r\nConnection: close\r\n" in answer
    first, second = _raw(ask.port, head + b"\r\n" + head + b"Connection: close\r\n\r\n").split(
        "HTTP/1.1 200 OK"
    )[1:]
    assert "Connection" not in first
    assert "\r\nConnection: close\r\n" in second
    fields, body = first.split("\r\n\r\n")  # the client knows where the first answer ends
    assert f"\r\nContent-Length: {len(body)}\r\n" in f"{fields}\r\n"


def test_idle_connections(ask):
    """There are at most 100; a further one is told to come back, and can when one has gone."""
    idle = [socket.create_connection(("127.0.0.1", ask.port)) for _ in range(100)]
    try:
        head = b"GET /models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = _raw(ask.port, b"")
        assert answer.startswith("HTTP/1.1 503 ")
        assert "\r\nRetry-After: 1\r\n" in answer
        idle.pop().close()
        deadline = time.monotonic() + 5
        while not _raw(ask.port, head).startswith("HTTP/1.1 200 "):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        for connection in idle:
            connection.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"POST /mo", 0, id="first line"),
        pytest.param(HEAD, 408, id="head"),
        pytest.param(HEAD + b"\r\n", 408, id="body"),
    ],
)
def test_a_request_that_comes_in_single_bytes(ask, monkeypatch, sent, status):
    """No pause is long, but it never ends: it is cut, and its place is free."""
    monkeypatch.setattr(admin_http, "_REQUEST_S", 0.5)
    with socket.create_connection(("127.0.0.1", ask.port), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        connection.settimeout(0.05)
        deadline = time.monotonic() + 20
        with contextlib.suppress(ConnectionError):
            while True:
                assert time.monotonic() < deadline
                try:
                    if not (more := connection.recv(65_536)):
                        break
                    received += more
                except socket.timeout:
                    connection.sendall(b"x")
    assert received.startswith(f"HTTP/1.1 {status} ".encode() if status else b"")
    assert bool(received) == bool(status)


def test_half_an_address(ask):
    """It is a bad request, not an internal error."""
    head = b"GET http://[ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert _raw(ask.port, head).startswith("HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "headers",
    [
        "Transfer-Encoding: chunked",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: +2",
        "Content-Length: " + "9" * 5_000,
    ],
)
def test_a_body_of_unknown_length(ask, headers):
    """What follows could be read as another request: one refusal, and the connection is closed."""
    rest = b"{}GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = _raw(
        ask.port,
        f"POST /models HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode() + rest,
    )
    assert answer.startswith("HTTP/1.1 400 ")
    assert answer.count("HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(NameTaken("i"), 409), (OutOfResources("i"), 507), (NoSuchModel("i"), 404)],
)
def test_statuses_of_refusals(ask, versions, error, status):
    """SageMaker relies on these statuses."""
    versions.refusal = error
    body = {"model_name": "i", "url": "iris"}
    assert ask("POST", "/models", body) == (
        status,
        {"code": status, "type": type(error).__name__, "message": "i"},
    )


# --- synchronous=false ---


def _ended(versions) -> bool:
    return not versions.names


@pytest.mark.parametrize("value", ["false", False, "FALSE"])
def test_a_registration_that_is_not_waited_for(ask, versions, store, value):
    """The answer comes before the load has begun; the name is taken until the load has ended."""
    begun, go = threading.Event(), threading.Event()

    def load(*arguments):
        begun.set()
        assert go.wait(30)
        versions.calls.append(arguments[:2])

    versions.load = load
    body = {"model_name": "i", "url": "iris", "initial_workers": 2, "synchronous": value}
    assert ask("POST", "/models", body) == (202, {"status": "Processing worker updates..."})
    assert begun.wait(30)
    assert (versions.names, versions.calls) == (["i"], [])
    go.set()
    wait_until(lambda: _ended(versions))
    assert versions.calls == [
        (Source("i", store / "iris", 4, "iris"), DEFAULTS._replace(workers=2))
    ]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"url": "gone"}, 404),
        ({"url": "http://127.0.0.1:1/elsewhere/i.mar"}, 400),
        ({"batch_size": -1}, 400),
        ({"model_name": "", "url": "http://127.0.0.1:1/allowed/i.mar"}, 400),
    ],
)
def test_what_is_wrong_at_once_is_said_at_once(ask, versions, fields, status):
    """Only what takes long is done later.  Without a name, an archive has to be fetched for it."""
    body = {"model_name": "i", "url": "iris", "synchronous": False, **fields}
    assert ask("POST", "/models", body)[0] == status
    assert (versions.names, versions.calls) == ([], [])


def test_synchronous_is_true_or_false(ask, versions):
    """MMS takes anything else for false."""
    for method, path in (("POST", "/models?url=iris&"), ("PUT", "/models/i?")):
        versions.entries = {"i": Entry()}
        status, answer = ask(method, f"{path}synchronous=no")
        assert (status, answer["message"]) == (400, "synchronous: 'no' is not true or false")
    assert versions.calls == []


def test_a_failure_that_nobody_waits_for(ask, versions, caplog):
    """It is in the log, with its reason; the name is free again."""
    body = {"model_name": "i", "synchronous": False}
    url = "http://127.0.0.1:1/allowed/i.mar"
    assert ask("POST", "/models", {**body, "url": url})[0] == 202
    wait_until(lambda: _ended(versions) and caplog.messages)
    versions.load = lambda *_: 1 / 0
    assert ask("POST", "/models", {**body, "url": "iris"})[0] == 202
    wait_until(lambda: _ended(versions) and len(caplog.messages) == 2)
    assert caplog.messages[0].startswith(f"registering i failed: {url} cannot be downloaded")
    assert caplog.messages[1] == "registering i failed"
    assert "ZeroDivisionError" in caplog.text


def test_scaling_that_is_not_waited_for(ask, versions):
    """A model that does not exist is 404 at once."""
    assert ask("PUT", "/models/i?min_worker=2&synchronous=false")[0] == 404
    versions.entries = {"i": Entry()}
    assert ask("PUT", "/models/i?min_worker=2&synchronous=false") == (
        202,
        {"status": "Processing worker updates..."},
    )
    wait_until(lambda: versions.calls == [("i", 2, 2)])


def test_too_many_changes(ask, versions):
    """Further ones are refused; their names stay free."""
    go = threading.Event()
    versions.load = lambda *_: go.wait(30)
    path = "/models?url=iris&synchronous=false&model_name="
    try:
        for number in range(100):
            assert ask("POST", f"{path}i{number}")[0] == 202
        status, answer = ask("POST", f"{path}more")
        assert (status, answer["type"]) == (503, "Unavailable")
        assert answer["message"] == "100 changes are being carried out; try again later"
        assert len(versions.names) == 100
    finally:
        go.set()
    wait_until(lambda: ask("POST", f"{path}more")[0] == 202)


def test_changes_at_the_end_of_the_server(caplog):
    """None begins, and those that fail for it say nothing."""
    changes, go, over = later.LaterChanges(), threading.Event(), threading.Event()
    held = contextlib.ExitStack()
    held.callback(over.set)

    def change():
        assert go.wait(30)
        raise ServerError("no answer")

    changes.start("it", change, held)
    changes.end()
    with pytest.raises(Unavailable, match="^the server ends$"):
        changes.start("more", change, held)
    go.set()
    assert over.wait(30)
    assert caplog.messages == []


def test_a_system_without_threads(monkeypatch):
    """The change is refused, and what it held is free."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    held, closed = contextlib.ExitStack(), []
    held.callback(closed.append, True)
    with pytest.raises(Unavailable, match="^the server cannot start a thread; try again later$"):
        later.LaterChanges().start("it", closed.clear, held)
    assert closed == [True]


def test_list_in_pages(ask, versions):
    """Models are sorted by name; there is a token only if there are more."""
    versions.entries = {name: Entry() for name in "cab"}
    url = "/opt/ml/models/x/model"
    page = {"models": [{"modelName": n, "modelUrl": url} for n in "ab"], "nextPageToken": "2"}
    assert ask("GET", "/models?limit=2") == (200, page)
    last = {"models": [{"modelName": "c", "modelUrl": url}]}
    assert ask("GET", "/models?limit=2&next_page_token=2") == (200, last)
    assert ask("GET", "/models?next_page_token=9") == (200, {"models": []})


def test_describe_scale_and_unregister(ask, versions):
    """A model's name may have characters that a URL quotes."""
    versions.entries = {"a b": Entry()}
    assert ask("GET", "/models/a%20b") == (200, {"modelName": "a b"})
    assert ask("GET", "/models/c")[0] == 404
    scaled, gone = ("Workers scaled", 'Model "a b" unregistered')
    assert ask("PUT", "/models/a%20b?min_worker=3") == (200, {"status": scaled})
    assert ask("DELETE", "/models/a%20b") == (200, {"status": gone})
    assert versions.calls == [("a b", 3, 3), ("a b",)]


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ("", (1, 1)),
        ("min_worker=2", (2, 2)),
        ("max_worker=2", (1, 2)),
        ("min_worker=2&max_worker=3", (2, 3)),
        ("min_worker=0&max_worker=3", (0, 3)),
    ],
)
def test_numbers_of_workers(ask, versions, query, limits):
    """As in MMS, one worker is the least, and the least is the most, unless the request differs."""
    assert ask("PUT", f"/models/i?{query}") == (200, {"status": "Workers scaled"})
    assert versions.calls == [("i", *limits)]


def test_a_version_in_place_of_another(ask, versions, store):
    """It is served as the other one is, unless the request differs; the reply has its version."""
    versions.entries = {"i": Entry()}
    source = Source("i", store / "iris", 4, "iris")
    fields = {"model_name": "i", "url": "iris", "replace": True}
    registered = 'Model "i" registered'
    assert ask("POST", "/models", fields) == (200, {"status": registered, "modelVersion": "2"})
    more = {"version": "7", "share": 0, "batch_size": 9}
    status = (200, {"status": registered, "modelVersion": "7"})
    assert ask("POST", "/models", {**fields, **more}) == status
    assert versions.calls == [
        (source, Serving(3, 4, 60)),
        (source, Serving(3, 9, 60), ("version", "7"), ("share", 0)),
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": "a b"}, "a b"),
        ({"share": 5}, "share is for a version that replaces another: add replace=true"),
        ({"share": 101, "replace": True}, "share: 101 is more than 100 percent"),
        ({"share": "x", "replace": True}, "share: 'x' is not a whole number from 0 to"),
        ({"initial_workers": 0, "replace": True}, "needs a worker: set initial_workers"),
    ],
)
def test_a_version_that_cannot_take_the_place(ask, versions, fields, words):
    versions.entries = {"i": Entry()}
    status, answer = ask("POST", "/models", {"model_name": "i", "url": "iris", **fields})
    assert (status, versions.calls) == (400, [])
    assert words in answer["message"]


def test_the_share_of_a_version(ask, versions):
    """0 is a share, too.  A model as a whole has none, so this scales it."""
    assert [ask("PUT", f"/models/i/2?share={share}") for share in (100, 0)] == [
        (200, {"status": 'Version "2" of model "i" gets 100 percent of the requests'}),
        (200, {"status": 'Version "2" of model "i" gets 0 percent of the requests'}),
    ]
    status, answer = ask("PUT", "/models/i/2?share=101")
    assert (status, answer["message"]) == (400, "share: 101 is more than 100 percent")
    assert ask("PUT", "/models/i?share=5") == (200, {"status": "Workers scaled"})
    assert versions.calls == [("share", "i", "2", 100), ("share", "i", "2", 0), ("i", 1, 1)]


def test_what_is_done_with_one_version(ask, versions):
    """It is served, unloaded, scaled, or what was before it is served again."""
    assert ask("PUT", "/models/i/2/set-default") == (
        200,
        {"status": 'Version "2" of model "i" is served'},
    )
    assert ask("DELETE", "/models/i/2") == (
        200,
        {"status": 'Version "2" of model "i" unregistered'},
    )
    assert ask("PUT", "/models/i/2?min_worker=3") == (200, {"status": "Workers scaled"})
    assert ask("POST", "/models/i/rollback")[0] == 200
    assert versions.calls == [
        ("serve", "i", "2"),
        ("unload", "i", "2"),
        ("i", 3, 3, "2"),
        ("roll_back", "i"),
    ]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("min_worker=3&max_worker=2", "max_worker cannot be less than min_worker."),
        ("max_worker=0", "max_worker cannot be less than min_worker."),
        ("max_worker=x", "max_worker: 'x' is not a whole number from 0 to 2147483647"),
        # MMS ends the listener with the last worker, and the model could never get another one.
        ("min_worker=0", "no worker would be left: ask for 1 or more, or unregister the model"),
    ],
)
def test_numbers_that_no_model_can_have(ask, versions, query, words):
    """Nothing is changed."""
    status, answer = ask("PUT", f"/models/i?{query}")
    assert (status, answer["message"]) == (400, words)
    assert versions.calls == []


@pytest.mark.parametrize(
    "path", ["/ping", "/models/a/b/c", "/models/a/b/set-default/c", "/model", "/*"]
)
@pytest.mark.parametrize("method", METHODS)
def test_unknown_paths(ask, method, path):
    """A path that the API does not have gets 404, with MMS's text."""
    answer = client.call(method, f"http://127.0.0.1:{ask.port}{path}")
    assert answer.status == 404
    text = b"Requested resource is not found, please refer to API document."
    assert method == "HEAD" or text in answer.body


def _described(ask) -> dict[str, dict]:
    """The operations by path and method, as OPTIONS / has them."""
    status, description = ask("OPTIONS", "/")
    assert (status, description["openapi"]) == (200, "3.0.1")
    return {
        path: {method.upper(): operation for method, operation in operations.items()}
        for path, operations in description["paths"].items()
    }


def test_the_description_has_all_routes(ask, versions):
    """What it has is answered; what it does not have gets 405, with what there is."""
    versions.entries = {"i": Entry()}
    described = _described(ask)
    assert sorted(described) == [
        "/",
        "/models",
        "/models/{model_name}",
        "/models/{model_name}/rollback",
        "/models/{model_name}/{model_version}",
        "/models/{model_name}/{model_version}/set-default",
    ]
    for path, operations in described.items():
        place = path.replace("{model_name}", "i").replace("{model_version}", "1")
        url = f"http://127.0.0.1:{ask.port}{place}"
        for method in METHODS:
            if path.endswith("/rollback") and method != "POST":
                continue  # a version may be called so
            answer = client.call(method, url)
            if method in operations:
                assert answer.status in (200, 400)
                assert str(answer.status) in operations[method]["responses"]
                assert "allow" not in answer.headers
                continue
            assert (method, answer.status) == (method, 405)
            assert answer.headers["allow"] == ", ".join(operations)
            text = b"Requested method is not allowed, please refer to API document."
            assert method == "HEAD" or text in answer.body


class Asked(dict):
    """Fields that remember which of them were read."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.names = set()

    def get(self, name, default=None):
        self.names.add(name)
        return super().get(name, default)


@pytest.mark.parametrize(
    ("method", "path", "url"),
    [
        ("GET", "/models", "/models"),
        ("POST", "/models", "/models"),
        ("GET", "/models/{model_name}", "/models/i"),
        ("PUT", "/models/{model_name}", "/models/i"),
        ("DELETE", "/models/{model_name}", "/models/i"),
        ("POST", "/models/{model_name}/rollback", "/models/i/rollback"),
        ("GET", "/models/{model_name}/{model_version}", "/models/i/1"),
        ("PUT", "/models/{model_name}/{model_version}", "/models/i/1"),
        ("DELETE", "/models/{model_name}/{model_version}", "/models/i/1"),
        ("PUT", "/models/{model_name}/{model_version}/set-default", "/models/i/1/set-default"),
    ],
)
def test_the_description_has_all_fields(ask, versions, store, method, path, url):
    """Those that are read, and no others."""
    versions.entries = {"i": Entry()}
    fields = Asked({"url": "iris"} if method == "POST" else {})
    api = admin.Api(versions, Sources([store], (), store), DEFAULTS, later.LaterChanges())
    assert api.answer(method, url, fields).status == 200
    operation = _described(ask)[path][method]
    names = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
    assert names == fields.names
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert set(schema["properties"]) == names


#: Each operation with its statuses and the types of its fields; * where a body may have them.
DESCRIBED = """
OPTIONS /                    apiDescription   200 401 403
GET     /models              listModels       200 400 401 403  limit:integer next_page_token:string
POST    /models              registerModel    200 202 400 401 403 404 409 500 503 507  * url:string
        model_name:string runtime:string initial_workers:integer batch_size:integer
        response_timeout:integer version:string replace:boolean share:integer
        synchronous:boolean
GET     /models/{model_name} describeModel    200 401 403 404
PUT     /models/{model_name} setAutoScale     200 202 400 401 403 404 500 503 507  *
        min_worker:integer max_worker:integer synchronous:boolean
DELETE  /models/{model_name} unregisterModel  200 401 403 404 500 503
POST    /models/{model_name}/rollback         rollBack           200 401 403 404 409 503
GET     /models/{model_name}/{model_version}  describeVersion    200 401 403 404
PUT     /models/{model_name}/{model_version}  changeVersion      200 202
        400 401 403 404 409 500 503 507  * share:integer min_worker:integer max_worker:integer
        synchronous:boolean
DELETE  /models/{model_name}/{model_version}  unregisterVersion  200 401 403 404 409 500 503
PUT     /models/{model_name}/{model_version}/set-default  setDefault  200 401 403 404 409 503
"""


def test_the_description_is_openapi(ask):
    """As 3.0.1 has it: parameters of a query and of the path, a body, and each status's body."""
    in_json = {"application/json"}
    words = []
    for path, methods in _described(ask).items():
        for method, operation in methods.items():
            words += [method, path, operation["operationId"], *operation["responses"]]
            for status, response in operation["responses"].items():
                assert response["description"]
                assert response["content"].keys() == in_json
                schema = response["content"]["application/json"]["schema"]
                assert schema.pop("required", None) == (
                    ["code", "type", "message"] if int(status) >= 400 else None
                )
                assert schema == {"type": "object"}
            parameters = operation["parameters"]
            for name in re.findall("{(.*?)}", path):
                named = {"in": "path", "name": name, "required": True}
                assert parameters.pop(0) == {**named, "schema": {"type": "string"}}
            fields = {each["name"]: each["schema"]["type"] for each in parameters}
            assert all(each["in"] == "query" and each["description"] for each in parameters)
            if "requestBody" in operation:
                words.append("*")
                content = operation["requestBody"]["content"]
                assert content.keys() == in_json
                schema = content["application/json"]["schema"]
                assert schema["type"] == "object"
                properties = schema["properties"]
                assert {name: each["type"] for name, each in properties.items()} == fields
                assert [each["description"] for each in properties.values()] == [
                    each["description"] for each in parameters
                ]
            words += [f"{name}:{kind}" for name, kind in fields.items()]
    assert words == DESCRIBED.split()


def test_the_descriptions_version(ask):
    """It is the package's."""
    assert ask("OPTIONS", "/")[1]["info"] == {
        "title": "Management API of mms_handler",
        "version": mms_handler.__version__,
    }


def test_head_is_refused_without_a_body(ask):
    """A body behind it would be read as the answer to the next request."""
    head = b"HEAD /models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = _raw(ask.port, head)
    assert answer.startswith("HTTP/1.1 405 ")
    assert answer.endswith("\r\n\r\n")


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
        "Content-Length is 100000: send a body with a Content-Length of at most 65536 bytes",
    )


def test_sources_are_inside_their_folders(tmp_path):
    """A link that leads out of the store is not followed."""
    (tmp_path / "store").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    sources = Sources([tmp_path / "store"], (), tmp_path)
    with pytest.raises(NoSuchModel, match="^Model not found in model store: link$"), sources.open(
        "m", "link"
    ):
        Path()
