"""transform by a server: the same output as by processes, and servers that are busy or gone."""

from __future__ import annotations

import contextlib
import http.server
import json
import subprocess
import threading

import pytest
from running_mms import BIN, EXAMPLES


def transform(model, source, output, *options, code=0):
    command = [BIN / "mms-handler", "transform", model, "--input", source, "--output", output,
               "--split-type", "Line", "--assemble-with", "Line", *options]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.csv"
    lines = [f"{number},{number % 7}" for number in range(300)]
    lines[123] = "1,oops"
    file.write_text("\n".join(lines))
    return file


def test_a_server_gives_the_same_as_processes(front, rows, tmp_path):
    url = f"{front.inference}/predictions/linear"
    for strategy in ("SingleRecord", "MultiRecord"):
        options = ("--strategy", strategy, "--accept", "text/csv")
        by_url, here = tmp_path / f"url-{strategy}", tmp_path / f"here-{strategy}"
        told = transform(url, rows, by_url, *options, code=3)
        assert "rows.csv, line 124: 400 not valid text/csv" in told
        transform(EXAMPLES / "linear", rows, here, *options, "--workers", "1", code=3)
        written = (by_url / "rows.csv.out").read_bytes()
        assert written == (here / "rows.csv.out").read_bytes()
        assert written.count(b"\n") == 300


class Busy(http.server.BaseHTTPRequestHandler):
    """Sends 503 to each body at first, and then the body; or the status that the body names."""

    protocol_version = "HTTP/1.1"
    asked: dict[bytes, int] = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked[body] = self.asked.get(body, 0) + 1
        status = 503 if self.asked[body] == 1 else 200
        if body.startswith(b"4"):
            status = int(body)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/invocations"
        server.shutdown()
        thread.join()


def test_a_busy_server_is_asked_again(tmp_path):
    (tmp_path / "rows.json").write_text("1\n404\n2\n")
    with served() as url:
        transform(url, tmp_path / "rows.json", tmp_path / "out", code=3)
    first, error, third = (tmp_path / "out" / "rows.json.out").read_text().splitlines()
    assert (first, third) == ("1", "2")
    assert json.loads(error)["error"]["code"] == 404
    assert Busy.asked == {b"1": 2, b"404": 1, b"2": 2}


def test_a_server_that_is_gone_ends_the_job(ports, tmp_path):
    (tmp_path / "rows.json").write_text("1\n2\n")
    url = f"http://127.0.0.1:{ports[0]}/invocations"
    told = transform(url, tmp_path / "rows.json", tmp_path / "out", code=1)
    assert "Connection refused; see to the server, and run the same command again" in told
