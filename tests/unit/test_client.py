"""client: what is sent to MMS, and what each kind of answer becomes."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from mms_handler import client
from mms_handler.cli import group
from mms_handler.errors import ServerError


class Handler(BaseHTTPRequestHandler):
    """Answers with ``server.reply`` and records each request."""

    def do_any(self):
        length = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.command, self.path, headers, self.rfile.read(length)))
        self.wfile.write(self.server.reply)
        self.server.hold.wait(5)

    do_GET = do_POST = do_PUT = do_DELETE = do_any

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.reply, server.hold = [], b"", threading.Event()
    server.hold.set()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()


def reply(status, body=b"", headers="", length=None):
    length = len(body) if length is None else length
    return f"HTTP/1.0 {status}\r\n{headers}Content-Length: {length}\r\n\r\n".encode() + body


@pytest.fixture
def closed_url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("status", [200, 201, 400, 404, 415, 500, 503, 507])
def test_every_status_is_an_answer(server, status):
    """An error status is an answer too, with headers by lower-case name and a body."""
    server.reply = reply(f"{status} Any Phrase", b"[1]", "Content-Type: text/csv\r\nX-Id: 7\r\n")
    answer = client.call("GET", f"{server.url}/x")
    assert answer.status == status
    assert answer.headers["x-id"] == "7"
    assert answer.content_type == "text/csv"
    assert answer.body == b"[1]"


def test_an_answer_without_a_content_type(server):
    """MMS sends no content type unless a handler sets one."""
    server.reply = reply("200 OK")
    assert client.call("GET", server.url).content_type == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b'{"code": 404, "message": "no model x"}', "no model x", id="MMS's JSON"),
        pytest.param(b" plain \n", "plain", id="plain text"),
        pytest.param(b'{"code": 404}', '{"code": 404}', id="JSON without a message"),
        pytest.param(b"[1]", "[1]", id="JSON that is not an object"),
        pytest.param(b"\xff", "\ufffd", id="bytes that are not text"),
        pytest.param(b"", "", id="an empty body"),
    ],
)
def test_the_message_of_a_failed_request(body, message):
    """It is MMS's own message, or the body."""
    assert client.Answer(404, {}, body).message() == message


@pytest.mark.parametrize(
    ("body", "identity"),
    [
        (b'{"code": 500, "request_id": "7f"}', "7f"),
        (b'{"code": 500, "request_id": 7}', "7"),
        (b'{"code": 500}', ""),
        (b"[1]", ""),
        (b"\xff", ""),
    ],
)
def test_the_id_of_a_failed_request(body, identity):
    """A model's failure has one; MMS's own failures have none."""
    assert client.Answer(500, {}, body).request_id() == identity


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="the server hangs up"),
        pytest.param(b"nonsense\r\n\r\n", id="not HTTP"),
        pytest.param(reply("200 OK", b"half", length=8), id="half an answer"),
        pytest.param(reply("500 No", b"half", length=8), id="half an error"),
    ],
)
def test_an_incomplete_answer_is_an_error(server, answer):
    """An answer may break off, as MMS's errors sometimes do; then it is no answer."""
    server.reply = answer
    with pytest.raises(ServerError, match=f"no answer from {server.url}/x: "):
        client.call("GET", f"{server.url}/x")


def test_a_closed_port(closed_url):
    """The error names the address and the reason."""
    with pytest.raises(ServerError) as caught:
        client.call("GET", closed_url)
    assert str(caught.value) == f"no answer from {closed_url}: Connection refused"


def test_no_answer_in_time(server):
    """The request to a silent server fails after timeout_s."""
    server.hold.clear()
    with pytest.raises(ServerError, match="timed out"):
        client.call("GET", server.url, timeout_s=0.1)


@pytest.mark.parametrize("url", ["no url", "http://127.0.0.1:port/", "htp://127.0.0.1/"])
def test_a_mistyped_address(url):
    """The error names the address."""
    with pytest.raises(ServerError, match=f"no answer from {url}: "):
        client.call("GET", url)


@pytest.fixture
def silent(tmp_path):
    """A Unix socket that takes connections and answers nothing."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        yield f"unix:{tmp_path / 's'}:/x"


def test_no_answer_in_time_from_a_unix_socket(silent):
    """It fails after timeout_s, too."""
    with pytest.raises(ServerError, match="^no answer from MMS: timed out$"):
        client.call("GET", silent, timeout_s=0.1)


def test_nobody_at_a_unix_socket(tmp_path):
    with pytest.raises(ServerError, match="^no answer from MMS: No such file or directory$"):
        client.call("GET", f"unix:{tmp_path}/s:/x")


def test_no_proxy_is_used(server, closed_url, monkeypatch):
    """The environment's proxy is for other machines; these servers are local."""
    monkeypatch.setenv("http_proxy", closed_url)
    server.reply = reply("200 OK")
    assert client.call("GET", server.url).status == 200


def test_invoke_posts_the_body_with_its_types(server):
    """A model gets the unchanged body, with Content-Type and Accept."""
    server.reply = reply("200 OK", b"2.0\r\n")
    url = f"{server.url}/predictions/m"
    assert client.invoke(url, b"1,\xff", "text/csv", "text/csv").body == b"2.0\r\n"
    ((method, path, headers, body),) = server.requests
    assert (method, path, body) == ("POST", "/predictions/m", b"1,\xff")
    assert (headers["content-type"], headers["accept"]) == ("text/csv", "text/csv")


def test_the_default_types_of_invoke(server):
    """By default the body is JSON, and the reply may have any type."""
    server.reply = reply("200 OK")
    client.invoke(server.url, b"[1]")
    headers = server.requests[0][2]
    assert (headers["content-type"], headers["accept"]) == ("application/json", "*/*")


@pytest.mark.parametrize(("status", "listens"), [("200 OK", True), ("500 No", False)])
def test_listening(server, status, listens):
    """A front end that answers its ping listens."""
    server.reply = reply(status)
    assert client.listening(server.url) is listens
    assert server.requests[0][:2] == ("GET", "/ping")


def test_a_closed_port_is_not_listening(closed_url):
    """Without an answer it is false, not an error."""
    assert client.listening(closed_url) is False


def test_register_is_synchronous_and_in_seconds(server):
    """The fields are in the body, where MMS reads the timeout in seconds."""
    server.reply = reply("200 OK", b'{"status": "Workers scaled"}')
    answer = client.register(
        server.url,
        "m",
        "m.mar",
        workers=2,
        batch_size=4,
        timeout_s=60,
    )
    ((method, path, headers, body),) = server.requests
    assert (answer.status, method, path) == (200, "POST", "/models")
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "model_name": "m",
        "url": "m.mar",
        "initial_workers": 2,
        "synchronous": True,
        "batch_size": 4,
        "response_timeout": 60,
        "runtime": "python",
    }


@pytest.mark.parametrize(
    ("function", "method"), [(client.unregister, "DELETE"), (client.describe, "GET")]
)
def test_the_address_of_a_model(server, function, method):
    """The name is quoted, so that it cannot lead to another address."""
    server.reply = reply("404 Not Found", b'{"message": "Model not found: a b"}')
    assert function(server.url, "a b").message() == "Model not found: a b"
    assert server.requests[0][:2] == (method, "/models/a%20b")


def test_a_number_of_workers_is_set_in_the_query(server):
    """MMS reads nothing else there; the answer comes once they are loaded."""
    server.reply = reply("200 OK", b'{"status": "Workers scaled"}')
    assert client.scale(server.url, "a b", 3, 60).status == 200
    assert [request[:2] for request in server.requests] == [
        ("PUT", "/models/a%20b?min_worker=3&max_worker=3&synchronous=true"),
    ]


def test_why_a_server_is_not_ready(server, closed_url):
    """The status and the message of its ping, or why there is no answer; None: it is ready."""
    server.reply = reply("200 OK", b'{"status": "Healthy"}')
    assert client.why_not_ready(server.url) is None
    server.reply = reply("503 No", b'{"code": 503, "message": "loading"}')
    assert client.why_not_ready(server.url) == "503 loading"
    assert (
        client.why_not_ready(closed_url) == f"no answer from {closed_url}/ping: Connection refused"
    )
    assert {request[:2] for request in server.requests} == {("GET", "/ping")}


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        (["READY"], None),
        (["LOADING", "READY"], None),
        (["LOADING", "UNLOADED"], "its workers are LOADING, UNLOADED"),
        ([], "it has no worker"),
    ],
)
def test_why_a_model_is_not_ready(server, states, reason):
    """One ready worker is enough."""
    fields = {"modelName": "m", "workers": [{"id": "9", "status": state} for state in states]}
    for answer in (fields, [fields]):  # serve's own, and MMS's
        server.reply = reply("200 OK", json.dumps(answer).encode())
        assert client.why_model_not_ready(server.url, "m", "t" * 16) == reason
    ((method, path, headers, _), _) = server.requests
    assert (method, path, headers["authorization"]) == ("GET", "/models/m", f"Bearer {'t' * 16}")


def test_why_an_unknown_model_is_not_ready(server, closed_url):
    server.reply = reply("404 Not Found", b'{"message": "Model not found: m"}')
    assert client.why_model_not_ready(server.url, "m") == "404 Model not found: m"
    assert "authorization" not in server.requests[0][2]
    reason = f"no answer from {closed_url}/models/m: Connection refused"
    assert client.why_model_not_ready(closed_url, "m") == reason


# --- mms-handler invoke ---


@pytest.mark.parametrize(
    ("words", "variable", "sent"),
    [
        pytest.param(["linear"], False, None, id="no file"),
        pytest.param(["linear"], True, "Bearer 0123456789abcdef", id="the variable's file"),
        pytest.param(["linear", "--token-file"], False, "Bearer 0123456789abcdef", id="a file"),
        pytest.param(["{url}/x"], True, None, id="another server, with the variable's file"),
        pytest.param(
            ["{url}/x", "--token-file"], False, "Bearer 0123456789abcdef", id="another, with a file"
        ),
    ],
)
def test_invoke_sends_a_token(server, tmp_path, monkeypatch, words, variable, sent):
    """It is that for inference, and the variable's is for the server of this machine alone."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"inference 0123456789abcdef\nmanagement {'m' * 16}\n")
    monkeypatch.setenv("MMS_HANDLER_TOKEN_FILE", str(tokens) if variable else "")
    server.reply = reply("200 OK", b"[1]")
    words = [word.format(url=server.url) for word in words]
    words += [str(tokens)] if words[-1] == "--token-file" else []
    words += ["--port", str(server.server_port)]
    (tmp_path / "body.json").write_bytes(b"[1]")
    words.insert(1, str(tmp_path / "body.json"))
    done = CliRunner().invoke(group, ["invoke", *words])
    assert (done.exit_code, done.stdout) == (0, "[1]")
    ((_, _, headers, _),) = server.requests
    assert headers.get("authorization") == sent


def test_how_long_workers_are_waited_for(monkeypatch):
    """As long as MMS may take to start, connect and load each of them; and not for ever."""
    limits = []
    monkeypatch.setattr(client, "call", lambda *_, timeout_s: limits.append(timeout_s))
    client.scale("http://127.0.0.1:1", "m", 2, 60)
    assert limits == [2 * (60 + 180)]
