"""Forms: what they may cost, beside a client whose requests must not wait."""

from __future__ import annotations

import threading
import time
from typing import Iterator

import pytest
from plugin_mms import LIMIT, QUIET_LOG, Running, running
from running_mms import free_ports, wait_for

from mms_handler import client

URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=XX"}


@pytest.fixture(scope="module")
def mms(tmp_path_factory) -> Iterator[Running]:
    """A gate before a sleeper with one worker."""
    words = ("--log-config", str(QUIET_LOG))
    with running(tmp_path_factory.mktemp("forms"), *words, gate=free_ports()[0]) as mms:
        wait_for(lambda: mms.ping(mms.inference)[0], 30)
        assert mms.register().status == 200
        yield mms


def part(name: bytes, header: bytes = b"", body: bytes = b"0", end: bytes = b"\r\n") -> bytes:
    disposition = b'Content-Disposition: form-data; name="%s"' % name
    return b"--XX" + end + disposition + end + header + end + body + end


def parts(number: int, **how: bytes) -> bytes:
    return b"".join(part(b"n%d" % i, **how) for i in range(number)) + b"--XX--\r\n"


def fill(text: bytes) -> bytes:
    """As much of a repeated text as a body may have."""
    return (text * (LIMIT // len(text) + 1))[:LIMIT]


BOMBS = {
    "fields": (fill(b"a&"), URLENCODED, 413, "more than 100 parts"),
    "fields with values": (fill(b"a=b&"), URLENCODED, 413, "more than 100 parts"),
    "empty fields": (fill(b"&"), URLENCODED, 413, "more than 100 parts"),
    "a long name": (b"a" * 300 + b"=1", URLENCODED, 400, "longer than 256 bytes"),
    "parts": (parts(20_000), MULTIPART, 413, "more than 100 parts"),
    "parts with LF alone": (parts(20_000, end=b"\n"), MULTIPART, 400, "followed by"),
    "parts with LF alone inside one": (
        part(b"a", body=b"\n" + parts(20_000, end=b"\n")) + b"--XX--",
        MULTIPART,
        400,
        "begins with LF alone",
    ),
    "delimiters": (fill(b"--XX\r\n"), MULTIPART, 400, "header"),
    "a long header": (
        parts(1, header=fill(b"X: y\r\n")[: 6 * 1000]),
        MULTIPART,
        400,
        "longer than 4096",
    ),
    "a long name of a part": (parts(1)[:-8] + part(b"a" * 300), MULTIPART, 400, "256 bytes"),
    "no name": (part(b"a").replace(b"name=", b"mane="), MULTIPART, 400, "no name"),
    "no end": (part(b"a"), MULTIPART, 400, "no end"),
    "no beginning": (b"x" + parts(1), MULTIPART, 400, "does not begin"),
    "no LF after CR": (b"--XX\rx" + parts(1), MULTIPART, 400, "CR and LF"),
    "a form in a form": (
        parts(1, header=b"Content-Type: multipart/mixed; boundary=YY\r\n"),
        MULTIPART,
        400,
        "a form itself",
    ),
    "an unknown charset": (
        parts(1, header=b"Content-Type: text/csv; charset=nope\r\n"),
        MULTIPART,
        400,
        "cannot be decoded",
    ),
    "an unknown coding": (
        part(b'a"; filename="b', b"Content-Transfer-Encoding: base64\r\n") + b"--XX--",
        MULTIPART,
        400,
        "cannot be decoded",
    ),
    "an unknown charset of the form": (
        parts(1),
        {"Content-Type": "multipart/form-data; boundary=XX; charset=nope"},
        400,
        "cannot be decoded",
    ),
    "a % without digits": (b"a=%zz", URLENCODED, 400, "cannot be decoded"),
}


@pytest.mark.parametrize("path", ["/predictions/sleeper", "/predictions/unknown"])
@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [pytest.param(*bomb, id=name) for name, bomb in BOMBS.items()],
)
def test_a_form_that_costs_too_much_is_refused(mms, path, body, headers, status, words):
    """It gets its answer in a moment, and the log has no traceback."""
    logged = len(mms.log())
    start = time.monotonic()
    answer = client.call("POST", mms.gate + path, body, headers)
    assert (answer.status, words in answer.body.decode()) == (status, True), answer.body[:300]
    assert time.monotonic() - start < 3
    assert "Exception" not in mms.log()[logged:]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        pytest.param(b"data=0", URLENCODED, id="a field"),
        pytest.param(b"data=0" + b"+" * (LIMIT - 6), URLENCODED, id="a large field"),
        pytest.param(part(b"a", b"") + b"--XX--", MULTIPART, id="a part"),
        pytest.param(b"\r\n" + parts(1) + b"and so on", MULTIPART, id="more around the parts"),
        pytest.param(
            parts(1, header=b"X: y\r\nContent-Type: text/csv\r\n", body=b"0\n"),
            MULTIPART,
            id="more lines in the header",
        ),
        pytest.param(parts(1, body=b"0" + b"\n\r\n" * 100_000), MULTIPART, id="CR and LF by turns"),
        pytest.param(parts(1, body=b"0\n" + fill(b"\r")[:-300]), MULTIPART, id="carriage returns"),
        pytest.param(parts(1, body=b"0\n" + fill(b"\r\n")[:-300]), MULTIPART, id="line ends"),
        pytest.param(
            parts(1),
            {"Content-Type": 'multipart/form-data; charset=utf-8; boundary="XX"'},
            id="a quoted boundary",
        ),
    ],
)
def test_a_form_of_one_part_reaches_the_model(mms, body, headers):
    """Its part is the body; float() of the script ignores blanks."""
    start = time.monotonic()
    answer = client.call("POST", f"{mms.gate}/predictions/sleeper", body, headers)
    assert answer.status == 200, answer.body[:300]
    assert time.monotonic() - start < 3


def test_lines_that_are_almost_delimiters_belong_to_the_part(mms):
    """The script gets them, and cannot make a number of them."""
    body = parts(1, body=b"0\r\n" + fill(b"\r\n--X")[:-300])
    answer = client.call("POST", f"{mms.gate}/predictions/sleeper", body, MULTIPART)
    assert (answer.status, b"ValueError" in answer.body) == (500, True)


def test_neighbours_of_form_bombs_wait_under_a_second(mms):
    """Eight clients send bombs; a ninth asks for a prediction again and again."""
    bombs = [BOMBS[name] for name in ("fields", "fields with values", "parts", "a long header")]
    waits: list[float] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set() or len(waits) < 4:
            start = time.monotonic()
            assert mms.ask(0).status == 200
            waits.append(time.monotonic() - start)

    def send(body: bytes, headers: dict[str, str]) -> None:
        for _ in range(3):
            client.call("POST", f"{mms.gate}/predictions/sleeper", body, headers)

    neighbour = threading.Thread(target=ask)
    neighbour.start()
    senders = [threading.Thread(target=send, args=bomb[:2]) for bomb in bombs * 2]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(30)
    ended.set()
    neighbour.join(30)
    assert len(waits) > 3
    assert sorted(waits)[len(waits) // 2] < 1
