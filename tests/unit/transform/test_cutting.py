"""An input is cut into parts of whole records, the same ones wherever cutting begins."""

from __future__ import annotations

import io
import struct

import pytest

from mms_handler.transform import cutting
from mms_handler.transform.cutting import Position, cut, part_bytes, records_of
from mms_handler.transform.part import Options

LINES = Options(split_type="Line")


def parts_of(content, options=LINES, size=10, start=Position()):  # noqa: B008 - a constant
    stream = io.BufferedReader(io.BytesIO(content[start.offset :]), 16)
    return list(cut(stream, "in.csv", "text/csv", options, size, start))


def test_parts_end_with_lines():
    parts = parts_of(b"1,2\n3,4\n5,6\n7,8\n9,10")
    assert [part.data for part in parts] == [b"1,2\n3,4\n", b"5,6\n7,8\n", b"9,10"]
    assert [part.number for part in parts] == [0, 1, 2]
    assert [part.first for part in parts] == [1, 3, 5]
    assert [(part.offset, part.end, part.next_first) for part in parts] == [
        (0, 8, 3),
        (8, 16, 5),
        (16, 20, 5),
    ]


def test_an_empty_input_has_no_parts():
    assert parts_of(b"") == []


def test_a_line_may_be_longer_than_a_part():
    parts = parts_of(b"1\n" + b"2" * 25 + b"\n3\n", size=10)
    assert [part.data for part in parts] == [b"1\n", b"2" * 25 + b"\n", b"3\n"]


def test_a_line_beyond_the_payload_is_passed_over():
    options = LINES._replace(max_payload_bytes=20)
    parts = parts_of(b"1\n" + b"2" * 3_000 + b"\n3\n4\n", options, size=10)
    assert [part.data for part in parts] == [b"1\n", b"", b"3\n4\n"]
    assert [part.first for part in parts] == [1, 2, 3]
    assert parts[1].problem == "it is larger than the payload limit of 20 bytes"
    assert parts[1].end == parts[2].offset == 3_003


@pytest.mark.parametrize("split_type", ["Line", "None"])
def test_a_payload_may_have_no_limit(split_type):
    options = Options(split_type=split_type, max_payload_bytes=0)
    (part,) = parts_of(b"1" * 3_000, options)
    assert (part.data, part.problem) == (b"1" * 3_000, "")
    (record,) = records_of(part, options)
    assert record.data == b"1" * 3_000


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_a_line_as_long_as_the_payload_is_read(ends):
    options = LINES._replace(max_payload_bytes=20)
    parts = parts_of(b"2" * 20 + ends + b"3" + ends, options, size=10)
    assert [part.problem for part in parts] == ["", ""]
    records = [record for part in parts for record in records_of(part, options)]
    assert [(record.number, record.data) for record in records] == [(1, b"2" * 20), (2, b"3")]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_cutting_goes_on_from_any_part(after):
    content = b"".join(b"%d\n" % number for number in range(40))
    parts = parts_of(content)
    earlier = parts[after - 1]
    start = Position(after, earlier.next_first, earlier.end)
    assert parts_of(content, start=start) == parts[after:]


def test_lines_keep_their_numbers_and_offsets():
    content = b"a\n\nb\n \nc"
    records = [record for part in parts_of(content, size=4) for record in records_of(part, LINES)]
    assert [(record.number, record.offset, record.data) for record in records] == [
        (1, 0, b"a"),
        (3, 3, b"b"),
        (5, 7, b"c"),
    ]


def frame(data):
    """A frame of RecordIO: magic number, length, data, zeros to a multiple of 4."""
    return struct.pack("<II", 0xCED7230A, len(data)) + data + b"\0" * (-len(data) % 4)


def test_frames_stay_whole():
    options = Options(split_type="RecordIO")
    frames = [frame(b"one"), frame(b"three"), frame(b"seven")]
    parts = parts_of(b"".join(frames), options, size=30)
    assert [part.data for part in parts] == [frames[0] + frames[1], frames[2]]
    assert [(part.first, part.offset, part.end) for part in parts] == [(1, 0, 28), (3, 28, 44)]
    records = [record.data for part in parts for record in records_of(part, options)]
    assert records == [b"one", b"three", b"seven"]


def test_a_frame_that_is_cut_off_is_a_part_of_its_own():
    options = Options(split_type="RecordIO")
    content = frame(b"one") + frame(b"three")[:-4]
    good, bad = parts_of(content, options, size=30)
    assert good.data == frame(b"one")
    assert (bad.first, bad.offset, bad.data) == (2, 12, b"")
    assert "cut off" in bad.problem
    assert (bad.end > len(content), bad.next_first) == (True, 3)  # nothing follows it


def test_an_input_that_is_not_split_is_one_record():
    options = Options(split_type="None", max_payload_bytes=20)
    (part,) = parts_of(b"1\n2\n", options)
    assert part.data == b"1\n2\n"
    (part,) = parts_of(b"1" * 21, options)
    assert part.problem == "it is larger than the payload limit of 20 bytes"


def size_of(content, options):
    return part_bytes(io.BytesIO(content), options)


def test_parts_of_large_records_have_enough_for_a_batch():
    small, large, huge = (b"1" * count + b"\n" for count in (10, 100_000, 3_000_000))
    assert size_of(small, LINES) == cutting.PART_BYTES
    assert size_of(large, LINES) == 32 * 100_001
    assert size_of(huge, LINES) == cutting.MAX_PART_BYTES


def test_a_part_of_several_records_together_is_a_payload():
    options = LINES._replace(strategy="MultiRecord", max_payload_bytes=1_000)
    assert size_of(b"1\n", options) == 1_000
    filtered = options._replace(input_filter="$[1:]")  # its records go one by one
    assert size_of(b"1\n", filtered) == cutting.PART_BYTES
