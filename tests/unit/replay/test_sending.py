"""sending: to which path a captured prediction goes, in which order, and what is counted of it."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time

import pytest

from mms_handler.errors import ArchiveError, ServerError
from mms_handler.replay import Captured, Report, Target, replay

SERVER = "http://127.0.0.1:8080"


def captured(*, tensors: bool, model: str = "iris") -> Captured:
    return Captured("1", 0.0, model, b"", {}, 200, None, b"", "", tensors)


@pytest.mark.parametrize(
    ("url", "of_a_body", "of_tensors"),
    [
        pytest.param("", "/predictions/iris", "/v2/models/iris/infer", id="server"),
        pytest.param("/", "/predictions/iris", "/v2/models/iris/infer", id="server with a slash"),
        pytest.param(
            "/predictions/new", "/predictions/new", "/v2/models/new/infer", id="another model"
        ),
        pytest.param(
            "/predictions/new/2?a=b",
            "/predictions/new/2?a=b",
            "/v2/models/new/versions/2/infer?a=b",
            id="version",
        ),
        pytest.param("/invocations", "/invocations", None, id="SageMaker's path"),
        pytest.param("/v2/models/new/infer", None, "/v2/models/new/infer", id="tensors alone"),
        pytest.param(
            "/v2/models/new/versions/2/infer",
            None,
            "/v2/models/new/versions/2/infer",
            id="tensors of a version",
        ),
    ],
)
def test_the_path_of_a_prediction(url, of_a_body, of_tensors):
    """The one that the protocol of then has for the model; None: there is none."""
    target = Target(f"{SERVER}{url}")
    for tensors, path in ((False, of_a_body), (True, of_tensors)):
        if path:
            assert target.path(captured(tensors=tensors)) == path
        else:
            kind = "tensors of the Open Inference Protocol" if tensors else "other bodies"
            with pytest.raises(ArchiveError, match=f"^the capture has {kind}, which http"):
                target.path(captured(tensors=tensors))


@pytest.mark.parametrize(
    ("then", "target", "tensors", "path"),
    [
        ("a b", "", True, "/v2/models/a%20b/infer"),
        ("a/b", "", False, "/predictions/a%2Fb"),
        ("", "new", False, "/predictions/new"),
        ("then", "new", False, "/predictions/then"),
        ("", "", False, "/invocations"),
    ],
)
def test_the_name_of_the_model(then, target, tensors, path):
    """It is quoted; that of then comes first; SageMaker's path needs none."""
    assert Target(SERVER, target).path(captured(tensors=tensors, model=then)) == path


# --- sending ---------------------------------------------------------------------------------


class Recorder:
    """What a server was sent, and what it does: ``closes`` connections after so many requests."""

    def __init__(self, closes: int = 1000, together: int = 1) -> None:
        self.closes, self.port = closes, 0
        self.requests: list[tuple[str, bytes, dict[str, str]]] = []
        self.connections = 0
        self.meeting = threading.Barrier(together, timeout=30)
        self.lock = threading.Lock()


@contextlib.contextmanager
def recording(**options):
    """A server that answers [1], and says what came."""
    seen = Recorder(**options)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            super().setup()
            self.left = seen.closes
            with seen.lock:
                seen.connections += 1

        def do_POST(self):
            seen.meeting.wait()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with seen.lock:
                seen.requests.append((self.path, body, dict(self.headers)))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"[1]")
            self.left -= 1
            self.close_connection = not self.left  # the client is not told

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        seen.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


def predictions(*models, reply=b"[1]", gap_s=0.0):
    """One for each model, in this order; their bodies are their places."""
    for place, model in enumerate(models):
        yield Captured(
            *(str(place), gap_s * place, model, b"%d" % place, {"Accept": "a/b"}, 200, 0.5),
            *(reply, "application/json"),
        )


def sent(seen):
    return [(path, body) for path, body, _ in seen.requests]


def test_all_are_sent_in_their_order_on_one_connection():
    report = Report(0)
    with recording() as seen:
        url = f"http://127.0.0.1:{seen.port}"
        replay(predictions("a", "b", "a"), Target(url, token="xyz"), report)
    assert sent(seen) == [
        ("/predictions/a", b"0"),
        ("/predictions/b", b"1"),
        ("/predictions/a", b"2"),
    ]
    assert seen.connections == 1
    headers = seen.requests[0][2]
    assert (headers["Accept"], headers["Authorization"]) == ("a/b", "Bearer xyz")
    assert report.counts == {"identical": 3}
    now = report.as_dict()["latency_ms"]["now"]
    assert 0 < now["p50"] < 10_000


def test_without_a_token_none_is_sent():
    with recording() as seen:
        replay(predictions("a"), Target(f"http://127.0.0.1:{seen.port}"), Report(0))
    assert "Authorization" not in seen.requests[0][2]


def test_one_model_of_several():
    """A prediction whose model is unknown may be its."""
    report = Report(0)
    with recording() as seen:
        target = Target(f"http://127.0.0.1:{seen.port}", "b")
        replay(predictions("a", "b", "", "c"), target, report)
    assert sent(seen) == [("/predictions/b", b"1"), ("/predictions/b", b"2")]
    assert report.total == 2


@pytest.mark.parametrize(
    ("path", "models", "reason"),
    [
        ("/predictions/x", ("a", "b"), "the predictions are of a and of b; choose those of one"),
        ("/predictions/x", ("", "b"), "the predictions are of an unknown model and of b"),
        ("/", ("a", "b"), ""),
        ("/predictions/x", ("a", "a"), ""),
    ],
    ids=["several for one", "unknown ones", "several for a server", "one for one"],
)
def test_predictions_of_several_models(path, models, reason):
    """They are not sent to one."""
    with recording() as seen:
        target = Target(f"http://127.0.0.1:{seen.port}{path}")
        if not reason:
            replay(predictions(*models), target, Report(0))
        else:
            with pytest.raises(ArchiveError, match=reason):
                replay(predictions(*models, "a", "a"), target, Report(0))
    assert len(seen.requests) == (1 if reason else 2)


def test_several_clients_send_at_one_time():
    """The server answers none before all three have come."""
    report = Report(0)
    with recording(together=3) as seen:
        target = Target(f"http://127.0.0.1:{seen.port}")
        replay(predictions(*"aaaaaa"), target, report, clients=3)
    assert (report.total, seen.connections) == (6, 3)
    assert sorted(body for _, body in sent(seen)) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_an_error_ends_all_clients():
    def broken():
        yield from predictions("a")
        raise ArchiveError("line 2 is not a captured prediction")

    with recording() as seen, pytest.raises(ArchiveError, match="^line 2 "):
        replay(broken(), Target(f"http://127.0.0.1:{seen.port}"), Report(0), clients=3)


@pytest.mark.parametrize("spaced", [True, False])
def test_times_between_them_are_kept_if_they_should_be(spaced):
    """The first is sent at once, whenever it came."""
    first, *others = predictions(*"aaa", gap_s=0.3)
    later = [each._replace(time_s=each.time_s + 1e6) for each in (first, *others)]
    start = time.monotonic()
    with recording() as seen:
        replay(iter(later), Target(f"http://127.0.0.1:{seen.port}"), Report(0), spaced=spaced)
    assert len(seen.requests) == 3
    if spaced:
        assert time.monotonic() - start >= 0.6


def test_a_connection_that_was_closed_while_idle_is_opened_again():
    """Its prediction is not lost."""
    report = Report(0)
    with recording(closes=1) as seen:
        target = Target(f"http://127.0.0.1:{seen.port}")
        replay(predictions("a", "a", "a", gap_s=0.2), target, report, spaced=True)
    assert report.counts == {"identical": 3}
    assert seen.connections == 3


def test_a_new_connection_that_is_closed_loses_its_prediction():
    """The next one has another."""
    report = Report(0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def hang_up():
            for _ in range(2):
                with listener.accept()[0] as client:
                    client.recv(1 << 16)

        thread = threading.Thread(target=hang_up)
        thread.start()
        replay(
            predictions("a", "a"), Target(f"http://127.0.0.1:{listener.getsockname()[1]}"), report
        )
        thread.join()
    assert report.counts == {"unanswered": 2}
    assert "closed" in report.reason.lower()


def test_nothing_listens():
    report = Report(0)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    replay(predictions("a", "a"), Target(f"http://127.0.0.1:{port}"), report)
    assert report.counts == {"unanswered": 2}
    assert "refused" in report.reason


def test_a_reply_that_does_not_come():
    report = Report(0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = Target(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)
        replay(predictions("a"), target, report)
    assert report.counts == {"unanswered": 1}
    assert "timed out" in report.reason


@pytest.mark.parametrize("url", ["ftp://here/", "here:8080", "http://", "/predictions/a"])
def test_what_is_no_address_of_a_server(url):
    with pytest.raises(ServerError, match="is not the address of a server: expected http://host"):
        replay(predictions("a"), Target(url), Report(0))
