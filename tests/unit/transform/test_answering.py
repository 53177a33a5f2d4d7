"""The records of a part are answered, each in its place, with an error where one has none."""

from __future__ import annotations

import gzip
import json

import pytest

from mms_handler.transform.answering import Answering, Failure, error_piece, failed
from mms_handler.transform.cutting import Position, cut
from mms_handler.transform.part import Options, RecordError, checksum
from mms_handler.worker.reply import Reply

LINES = Options(split_type="Line", assemble_with="Line")


def double(query):
    """Numbers twice as large, in JSON or CSV; as a model that sees several lines at once."""
    replies = []
    for body in query.bodies:
        try:
            numbers = [2 * int(line) for line in body.split()]
        except ValueError:
            replies.append(Failure(400, f"not a number: {body.decode()}"))
            continue
        if query.accept == "text/csv":
            text = "".join(f"{number}\r\n" for number in numbers)
            replies.append(Reply(text.encode(), "text/csv"))
        else:
            replies.append(Reply(json.dumps(numbers).encode(), "application/json"))
    return replies


class Asked:
    """Answers as ``double``, and keeps what it was asked."""

    def __init__(self):
        self.bodies = []

    def __call__(self, query):
        self.bodies += query.bodies
        return double(query)


def processed(content, options, ask=double, content_type="text/csv", ask_lines=lambda *_: None):
    import io

    stream = io.BytesIO(content)
    (part,) = cut(stream, "in.csv", content_type, options, 1_000, Position())
    return Answering(options, ask, ask_lines).process(part)


def test_each_record_has_a_line():
    done = processed(b"1\n2\n3\n", LINES)
    assert done.output == b"[2]\n[4]\n[6]\n"
    assert (done.records, done.errors) == (3, ())
    assert done.checksum == checksum(b"[2]\n[4]\n[6]\n")


def test_replies_follow_each_other_as_they_are():
    assert processed(b"1\n2\n", LINES._replace(assemble_with="None")).output == b"[2][4]"


def test_a_bad_record_has_an_error_in_its_place():
    done = processed(b"1\nx\n3\n", LINES)
    first, error, third = done.output.splitlines()
    assert (first, third) == (b"[2]", b"[6]")
    expected = {"record": 2, "code": 400, "message": "not a number: x"}
    assert json.loads(error) == {"error": expected}
    assert done.errors == (RecordError(2, 2, 400, "not a number: x"),)
    assert done.records == 3


def test_lines_of_white_space_are_no_records_but_count_as_lines():
    done = processed(b"1\n\n \nx\n5", LINES)
    assert done.records == 3
    assert [error.record for error in done.errors] == [4]
    assert done.output.splitlines()[::2] == [b"[2]", b"[10]"]


def test_line_ends_are_no_part_of_a_record():
    asked = Asked()
    processed(b"1\r\n2\r\n", LINES, asked)
    assert asked.bodies == [b"1", b"2"]


def test_a_record_beyond_the_payload_has_an_error():
    done = processed(b"1\n" + b"2" * 30 + b"\n3\n", LINES._replace(max_payload_bytes=20))
    assert [(error.record, error.status) for error in done.errors] == [(2, 400)]
    assert "payload limit of 20 bytes" in done.errors[0].message
    assert done.output.splitlines()[::2] == [b"[2]", b"[6]"]


@pytest.mark.parametrize("content", [b"1\n2\n3\n", b"1\r\n2\r\n3", b"1\n2\n3"])
def test_lines_may_be_answered_at_once(content):
    counts = []

    def at_once(part, count):
        assert part.data == content
        counts.append(count)
        return [b"2\r\n", b"4\r\n", b"6\r\n"]

    done = processed(content, LINES, None, ask_lines=at_once)
    assert counts == [3]
    assert (done.output, done.records, done.errors) == (b"2\n4\n6\n", 3, ())


def test_lines_that_cannot_be_answered_at_once_are_requests():
    asked = Asked()
    assert processed(b"1\n2\n", LINES, asked, ask_lines=lambda *_: None).output == b"[2]\n[4]\n"
    assert asked.bodies == [b"1", b"2"]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"join_source": "Input"}, id="joined"),
        pytest.param({"max_payload_bytes": 3}, id="of a limit that is near"),
        pytest.param({"strategy": "MultiRecord"}, id="sent together"),
    ],
)
def test_other_lines_are_never_answered_at_once(changed):
    def at_once(part, count):
        raise AssertionError

    options = LINES._replace(accept="text/csv", **changed)
    assert processed(b"1\n2\n", options, ask_lines=at_once).records == 2


MULTI = LINES._replace(strategy="MultiRecord", accept="text/csv")


def test_several_records_go_in_one_request():
    asked = Asked()
    done = processed(b"1\n2\n3\n", MULTI, asked)
    assert asked.bodies == [b"1\n2\n3\n"]
    assert done.output == b"2\r\n4\r\n6\n"
    assert done.records == 3


def test_if_they_fail_together_they_go_one_by_one():
    asked = Asked()
    done = processed(b"1\nx\n3\n", MULTI, asked)
    assert asked.bodies == [b"1\nx\n3\n", b"1", b"x", b"3"]
    first, _, third = done.output.splitlines()
    assert (first, third) == (b"2", b"6")
    assert [error.record for error in done.errors] == [2]


def test_if_the_reply_has_fewer_lines_they_go_one_by_one():
    def loses_one(query):
        first, *_ = query.bodies
        return [Reply(b"2\r\n", "text/csv")] if first == b"1\n2\n" else double(query)

    done = processed(b"1\n2\n", MULTI, loses_one)
    assert done.output == b"2\n4\n"


def test_filters_and_joins_apply_to_each_record():
    asked = Asked()
    options = LINES._replace(
        strategy="MultiRecord", input_filter="$[1:]", join_source="Input", output_filter="$[0,-1]"
    )
    done = processed(b"a,1\nb,2\n", options, asked)
    assert asked.bodies == [b"1", b"2"]
    assert done.output == b"a,2\nb,4\n"  # CSV is accepted where nothing else is


def test_a_record_without_what_is_filtered_has_an_error():
    options = LINES._replace(input_filter="$[1]")
    done = processed(b"a,1\nb\n", options)
    assert [error.record for error in done.errors] == [2]
    assert done.output.splitlines()[0] == b"2"


def test_an_output_may_be_compressed():
    done = processed(b"1\n2\n", LINES._replace(gzip_output=True))
    assert gzip.decompress(done.output) == b"[2]\n[4]\n"
    assert gzip.decompress(done.output * 2) == b"[2]\n[4]\n" * 2
    assert done.checksum == checksum(done.output)


def test_a_part_may_fail_as_a_whole():
    import io

    (part,) = cut(io.BytesIO(b"1\n2\n"), "in", "text/csv", MULTI, 100, Position())
    done = failed(part, MULTI, 500, "the process died")
    assert [(e.record, e.status, e.message) for e in done.errors] == [
        (1, 500, "the process died"),
        (2, 500, "the process died"),
    ]
    assert len(done.output.splitlines()) == 2


@pytest.mark.parametrize(
    ("accept", "piece"),
    [
        ("", '{"error": {"record": 7, "code": 400, "message": "a \\"b\\""}}'),
        ("application/json", '{"error": {"record": 7, "code": 400, "message": "a \\"b\\""}}'),
        (
            "application/jsonlines",
            '{"error": {"record": 7, "code": 400, "message": "a \\"b\\""}}\n',
        ),
        (
            "text/csv",
            '"{""error"": {""record"": 7, ""code"": 400, ""message"": ""a \\""b\\""""}}"\r\n',
        ),
        ("application/x-npy", ""),
    ],
)
def test_an_error_is_written_as_the_output_is(accept, piece):
    assert error_piece(RecordError(7, 0, 400, 'a "b"'), accept).decode() == piece
