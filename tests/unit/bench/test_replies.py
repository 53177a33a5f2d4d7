"""bench.replies: the bytes of a connection to replies, and which of them are right."""

from __future__ import annotations

import pytest

from mms_handler.bench.replies import KNOWN, Judge, Parser, Reply, content_type, parse

LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n"


@pytest.mark.parametrize("whole", [LENGTH, CHUNKS], ids=["with a length", "in chunks"])
@pytest.mark.parametrize("size", [3, 60])
def test_a_reply_is_there_when_its_last_byte_is(whole, size):
    if size == 60:  # one part of many bytes
        whole = whole.replace(b"length: 3", b"length: 60").replace(b"1;x=y", b"3A;x=y")
        whole = whole.replace(b"c\r\n0\r\n", 58 * b"c" + b"\r\n0\r\n").replace(
            b"abc", b"ab" + 58 * b"c"
        )
    for count in range(len(whole)):
        assert parse(whole[:count], closed=False) is None
    reply = parse(whole, closed=False)
    assert (reply.status, reply.body, reply.ends) == (200, b"ab" + (size - 2) * b"c", False)


@pytest.mark.parametrize(
    ("data", "status", "body"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 503, b""),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ],
    ids=["that says so", "of HTTP/1.0"],
)
def test_a_reply_that_ends_its_connection(data, status, body):
    reply = parse(data, closed=False)
    assert (reply.status, reply.body, reply.ends) == (status, body, True)


def test_the_size_of_a_chunk_is_hexadecimal():
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = parse(head + b"1A\r\n" + b"z" * 26 + b"\r\n0\r\n\r\n", closed=False)
    assert reply.body == b"z" * 26


def test_a_reply_without_a_length_ends_with_its_connection():
    data = b"HTTP/1.1 200 OK\r\n\r\nabc"
    assert parse(data, closed=False) is None
    assert parse(data, closed=True) == Reply(200, b"HTTP/1.1 200 OK", b"abc", True)


def test_a_head_may_be_empty():
    assert parse(b"\r\n\r\nabc", closed=True) == Reply(0, b"", b"abc", True)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length:3", 200),
        (b"HTTP/1.1 200 OK\r\ncontent-LENGTH:  3 \r\nA: b", 200),
    ],
    ids=["no blank", "several blanks"],
)
def test_how_a_length_is_written(head, status):
    assert parse(head + b"\r\n\r\nabc", closed=False) == Reply(status, head, b"abc", False)
    assert parse(head + b"\r\n\r\nab", closed=False) is None


@pytest.mark.parametrize(
    ("head", "status"), [(b"HTTP/1.1 204", 204), (b"abc", 0), (b"a b", 0), (b"", 0)]
)
def test_the_status_of_a_head(head, status):
    """A phrase may be missing."""
    assert parse(head + b"\r\n\r\n", closed=True).status == status


def test_what_is_no_http_has_no_status():
    assert parse(b"SSH-2.0\r\ncontent-length: 0\r\n\r\n", closed=False).status == 0


def json_reply(body: bytes) -> Reply:
    return Reply(200, b"HTTP/1.1 200 OK\r\nContent-Type: application/json", body, False)


@pytest.mark.parametrize(
    ("body", "right"),
    [(b"[[0.1]]", True), (b"[[0.100001]]", True), (b"[[0.2]]", False), (b"oops", False)],
    ids=["the same", "rounded", "another number", "no number"],
)
def test_a_right_reply_is_the_expected_one_up_to_rounding(body, right):
    judge = Judge({"status": 200, "content_type": "application/json", "body": "[[0.1]]"})
    assert [judge.is_right(json_reply(body)) for _ in range(3)] == [right] * 3


@pytest.mark.parametrize(("number", "right"), [(0.0008, True), (0.0012, False)])
def test_a_difference_counts_beside_the_largest_number(number, right):
    judge = Judge({"status": 200, "content_type": "application/json", "body": "[[0, 1.0]]"})
    assert judge.is_right(json_reply(b"[[%g, 1.0]]" % number)) is right


def test_each_body_is_judged_once(monkeypatch):
    """Some are remembered, and not all that a server makes up."""
    judge, judged = Judge({"status": 200, "body": "[1]"}), []
    monkeypatch.setattr(
        judge, "_same", lambda expected, reply: judged.append(reply.body) or reply.body == b"1"
    )
    for number in (1, 2, 1, 2):
        assert judge.is_right(json_reply(b"%d" % number)) is (number == 1)
    assert judged == [b"1", b"2"]
    for number in range(3, 2 * KNOWN):
        assert not judge.is_right(json_reply(b"%d" % number))
    assert len(judge._known) == KNOWN


def test_without_an_expected_body_any_is_right():
    """As of a model whose replies have the time."""
    judge = Judge({"status": 200, "content_type": "application/json"})
    assert judge.is_right(json_reply(b"1"))
    assert judge.is_right(json_reply(b"2"))


def test_without_an_expected_reply_any_is_right():
    assert Judge(None).is_right(json_reply(b"1"))


def test_the_content_type_of_a_reply():
    assert content_type(b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-TYPE:  text/csv ") == "text/csv"
    assert content_type(b"HTTP/1.1 200 OK") == ""


OTHERS = [
    LENGTH,
    LENGTH.replace(b"abc", b"xyz"),
    LENGTH.replace(b"abc", b"abcd"),  # a byte too many
    LENGTH.replace(b"200 OK", b"500 200 "),
    LENGTH.replace(b"3", b"2"),
    LENGTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    LENGTH[:-1],
    LENGTH.replace(b"content-length: 3", b"x-content-length: 3\r\ncontent-length: 1"),
    CHUNKS,
]


@pytest.mark.parametrize("data", OTHERS, ids=range(len(OTHERS)))
@pytest.mark.parametrize("last", OTHERS, ids=range(len(OTHERS)))
def test_the_last_reply_does_not_change_how_one_is_read(last, data):
    parser = Parser()
    parser.parse(last, closed=False)
    assert parser.parse(data, closed=False) == parse(data, closed=False)


def test_a_reply_like_the_last_one_is_there_when_its_last_byte_is():
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\nA: b\r\n\r\n" + 40 * b"x"
    parser = Parser()
    reply = parser.parse(whole, closed=False)
    for count in range(len(whole)):
        assert parser.parse(whole[:count], closed=False) is None
    assert parser.parse(whole, closed=False) == reply
    assert parser.parse(whole, closed=True) == reply._replace(ends=True)
