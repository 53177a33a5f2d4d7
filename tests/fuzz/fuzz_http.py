"""Target: the HTTP surface.  Raw bytes go to a real server, to both of its ports."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from fuzz_checks import no_leak
from fuzz_input import Choices

from mms_handler import client

ROOT = Path(__file__).parents[2]

#: Seconds in which a reply, or the end of the connection, must come.
LIMIT_S = 20

#: Inputs between two good requests that must be answered.
CHECK_EVERY = 25

#: Statuses from 500 on that are no fault: an unknown method, a full queue, an unknown version.
_ANSWERS = (501, 503, 505)

GOOD = (b"[[1, 2]]", "application/json", "application/json")


class Running(NamedTuple):
    process: subprocess.Popen[bytes]
    ports: tuple[int, int]
    log: Path


@functools.lru_cache(maxsize=None)
def _server() -> Running:
    """A server of one model with two workers, for as long as this process lives."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    ports = _free_port(), _free_port()
    words = ["serve", str(ROOT / "model_archives" / "linear"), "--workers", "2"]
    words += ["--port", str(ports[0]), "--management-port", str(ports[1])]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "mms-handler"), *words], stdout=log, stderr=log
        )
    atexit.register(_end, process)
    url = f"http://127.0.0.1:{ports[0]}"
    deadline = time.monotonic() + 120
    while not client.listening(url):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, "the server was not ready"
        time.sleep(0.2)
    return Running(process, ports, folder / "log")


def _free_port() -> int:
    """A free port of those that MMS can use."""
    for port in range(20_000 + os.getpid() % 9_000, 32_000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _taken:
                _taken.append(port)
                return port
    raise RuntimeError("no free port")


_taken: list[int] = []


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()


_count = 0

_STARTS = [
    *(b"POST /predictions/linear HTTP/1.1", b"GET /ping HTTP/1.1", b"OPTIONS * HTTP/1.1"),
    *(b"POST /invocations HTTP/1.1", b"GET /predictions/% HTTP/1.1", b"GET / HTTP/1.0"),
    *(b"POST /models HTTP/1.1", b"GET /models/linear HTTP/1.1", b"PUT http://a/ HTTP/1.1"),
    *(b"POST /predictions/linear?a=%zz HTTP/1.1", b"GET /metrics HTTP/1.1", b"HEAD /ping HTTP/1.1"),
]
_LINES = [
    *(b"Content-Type: application/json", b"Content-Type: text/csv", b"Accept: text/csv"),
    *(b"Content-Type: multipart/form-data; boundary=b", b"Content-Encoding: gzip"),
    *(b"Content-Type: application/x-www-form-urlencoded", b"Expect: 100-continue"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Content-Length: 5"),
    *(b"Content-Length: -1", b"Connection: close", b"Connection: Upgrade", b"Host: a"),
    *(b" folded", b"No-colon", b"A:" + b"b" * 9000, b"Content-Length: 8", b"TE: trailers"),
]
_BODIES = [
    *(b"[[1, 2]]", b"1,2\r\n", b"8\r\n[[1, 2]]\r\n0\r\n\r\n", b"8\n[[1, 2]]\r\n0\r\n\r\n"),
    *(b"a=1&b=2", b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n[1]\r\n--b--\r\n"),
    *(b"", b"GET /ping HTTP/1.1\r\n\r\n", b"ffffffffff\r\n", b"-1\r\n\r\n"),
]


def http(data: bytes) -> None:
    """Whatever is sent, whole replies come and the connection ends; the server goes on."""
    global _count
    running, choices = _server(), Choices(data)
    port = choices.pick([running.ports[0]] * 3 + [running.ports[1]])
    sent = b""
    for _ in range(1 + choices.number(3)):
        body = choices.pick([*_BODIES, choices.take()])
        lines = [choices.pick([*_STARTS, choices.take(80)])]
        lines += [choices.pick([*_LINES, choices.take(80)]) for _ in range(choices.number(5))]
        if choices.number(2):
            lines.append(b"Content-Length: %d" % len(body))
        sent += choices.pick([b"\r\n"] * 7 + [b"\n"]).join(lines) + b"\r\n\r\n" + body
    sent += choices.rest()
    _check(_reply(port, sent), sent)
    _count += 1
    if _count % CHECK_EVERY == 0:
        url = f"http://127.0.0.1:{running.ports[0]}/predictions/linear"
        answer = client.invoke(url, *GOOD)
        assert answer.status == 200, f"a good request got {answer}"
        assert running.process.poll() is None, running.log.read_text()[-2000:]


def _reply(port: int, sent: bytes) -> bytes:
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as peer:
        try:
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            while piece := peer.recv(2**16):
                received += piece
        except ConnectionError:
            pass
        except socket.timeout as exc:
            raise AssertionError(f"no end within {LIMIT_S} s of {sent[:500]!r}") from exc
    return received


def _check(received: bytes, sent: bytes) -> None:
    text = received.decode("latin-1")
    no_leak(text)
    if not received:
        return
    assert re.match(r"HTTP/1\.[01] \d{3}", text), f"{sent[:300]!r}: {text[:300]!r}"
    statuses = [int(code) for code in re.findall(r"^HTTP/1\.[01] (\d{3})", text, re.MULTILINE)]
    assert all(status < 500 or status in _ANSWERS for status in statuses), (
        f"{sent[:500]!r} was answered {statuses}: {text[:500]!r}"
    )


TARGETS = {
    "http": (
        http,
        lambda: [
            bytes([0, 0, body, start, 1, line, 1, 0])
            for start in range(len(_STARTS))
            for line in range(len(_LINES))
            for body in (0, 2, 5)
        ],
    )
}
