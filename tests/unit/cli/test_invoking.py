"""cli.invoking: what invoke says of a request that fails, and what to do next."""

from __future__ import annotations

import http.server
import json
import socket
import threading

import pytest

from mms_handler.cli import group

FAULT = {"code": 500, "type": "KeyError", "message": "the model failed", "request_id": "4f-1c"}


@pytest.fixture
def answering():
    """Start a server that gives one answer; returns its port."""
    servers = []

    def start(status, body=b"", reason=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status, reason)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        server.timeout = 20
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        servers.append((server, thread))
        return server.server_port

    yield start
    for server, thread in servers:
        thread.join(30)
        server.server_close()


@pytest.fixture
def invoke(tmp_path, capsys):
    """Run the command; returns its exit code, standard output and the lines on standard error."""
    (tmp_path / "row.json").write_text("[[1, 2]]")

    def run(port, *options):
        words = ["invoke", "iris", str(tmp_path / "row.json"), "--port", str(port), *options]
        with pytest.raises(SystemExit) as ended:
            group(words)
        output = capsys.readouterr()
        return ended.value.code, output.out, output.err.splitlines()

    return run


def test_a_reply(invoke, answering):
    assert invoke(answering(200, b"[1]")) == (0, "[1]", [])


def test_a_request_that_failed_in_a_worker_can_be_found(invoke, answering):
    """Its id, as the log has it."""
    code, _, lines = invoke(answering(500, json.dumps(FAULT).encode()))
    assert code == 1
    assert lines == [
        "error: 500 the model failed",
        "find it in the server's log by its id: 4f-1c",
    ]


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (
            413,
            "error: 413 Request Entity Too Large; this body has 8 bytes, "
            "serve --max-body-bytes sets the limit",
        ),
        (404, "error: 404 Not Found; serve prints the names of its models"),
        (401, "error: 401 Unauthorized; name the server's token file with --token-file"),
        (503, "error: 503 Service Unavailable; try again later"),
        (500, "error: 500 Internal Server Error"),
        (599, "error: 599 without a reason"),
    ],
)
def test_an_empty_answer_has_a_reason(invoke, answering, status, line):
    """MMS sends no text with some; then it is the status's own.  What to do follows."""
    assert invoke(answering(status)) == (1, "", [line])


def test_no_server(invoke):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert invoke(port)[2] == [
            f"error: no answer from http://127.0.0.1:{port}/predictions/iris: Connection refused; "
            "start a server (mms-handler serve), or name its port with --port"
        ]


def test_a_server_that_says_nothing(invoke):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        (line,) = invoke(silent.getsockname()[1], "--timeout-s", "0.2")[2]
    assert line.endswith("timed out; --timeout-s waits longer")


def test_a_server_that_closes_the_connection(invoke):
    """As some do when a body is too large."""
    with socket.socket() as closing:
        closing.bind(("127.0.0.1", 0))
        closing.listen()

        def close():
            connection, _ = closing.accept()
            # With data unread, the client gets a reset.
            connection.recv(1)
            connection.close()

        thread = threading.Thread(target=close)
        thread.start()
        (line,) = invoke(closing.getsockname()[1])[2]
        thread.join(20)
    assert line.endswith("; a server does this when a body is too large: this one has 8 bytes")
