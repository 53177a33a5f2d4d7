"""transform.splitting: every record of a file, with its place; and what is wrong with others."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
from typing import NamedTuple

import mxnet as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mms_handler.errors import SettingsError
from mms_handler.transform.splitting import SPLIT_TYPES, BadRecord, Record, place, records

LIMIT = 100
MAGIC = struct.pack("<I", 0xCED7230A)
WHOLE, FIRST, MIDDLE, LAST = range(4)

bodies = st.lists(st.binary(max_size=40), max_size=8)


class Found(NamedTuple):
    """A record as the tests expect it; ``framed`` is the record as it is in the file."""

    number: int
    offset: int
    data: bytes
    framed: bytes


def found_in(split):
    """Records as Found; others as they are."""
    return [
        Found(each.number, each.offset, each.data, each.framed)
        if isinstance(each, Record)
        else each
        for each in split
    ]


def split(data, split_type, limit=LIMIT, **more):
    return found_in(records(io.BytesIO(data), split_type, limit, **more))


def frame(data, flag=WHOLE):
    header = MAGIC + struct.pack("<I", flag << 29 | len(data))
    return header + data + bytes(-len(data) % 4)


def crc32c(data):
    """Bit by bit, from RFC 3720's polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def tfrecord(data):
    def masked(text):
        crc = crc32c(text)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def test_the_checksum_of_the_tests_is_the_standards():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720's own kind of example


# --- None and Line ---------------------------------------------------------------------------


def test_without_splitting_the_file_is_one_record():
    assert split(b"a\nb\n", "None") == [Found(1, 0, b"a\nb\n", b"a\nb\n")]
    assert split(b"", "None") == []


def test_a_file_above_the_limit():
    assert split(bytes(LIMIT), "None") == [Found(1, 0, bytes(LIMIT), bytes(LIMIT))]
    (bad,) = split(bytes(LIMIT + 1), "None")
    assert bad == BadRecord(1, 0, "it is larger than the payload limit of 100 bytes")


def test_lines():
    """LF and CRLF end a line, the last one needs neither; lines without anything only count."""
    assert split(b"1,2\n3,4\r\n\n \t\r\n5,6", "Line") == [
        Found(1, 0, b"1,2", b"1,2\n"),
        Found(2, 4, b"3,4", b"3,4\r\n"),
        Found(5, 14, b"5,6", b"5,6"),
    ]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_of_the_limits_length(end):
    """Its line end is not part of the payload."""
    assert split(b"x" * LIMIT + end, "Line")[0].data == b"x" * LIMIT


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT + 2, LIMIT + 3, 3 * 2**20])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_after_a_line_above_the_limit(size, end):
    assert split(b"a" + end + b"x" * size + end + b"b" + end, "Line") == [
        Found(1, 0, b"a", b"a" + end),
        BadRecord(2, 1 + len(end), "it is larger than the payload limit of 100 bytes"),
        Found(3, 1 + size + 2 * len(end), b"b", b"b" + end),
    ]


def test_the_last_line_above_the_limit_may_lack_its_end():
    assert [type(record) for record in split(b"a\n" + bytes(LIMIT + 9), "Line")] == [
        Found,
        BadRecord,
    ]


@given(st.lists(st.text(alphabet="ab,\r \x00", max_size=9), max_size=9), st.booleans())
def test_any_lines(lines, ended):
    """As Python's split finds them; what was read is the file."""
    data = "\n".join(lines).encode() + b"\n" * ended
    expected = [
        (number, line[:-1] if line.endswith(b"\r") and last_end else line)
        for number, line in enumerate(data.split(b"\n"), 1)
        for last_end in [number <= data.count(b"\n")]
        if line.strip()
    ]
    found = split(data, "Line")
    assert [(record.number, record.data) for record in found] == expected
    for record in found:
        assert data[record.offset :].startswith(record.framed)
        assert record.framed.rstrip(b"\r\n") == record.data.rstrip(b"\r")


# --- RecordIO --------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from([MAGIC, b"", b"x", b"abcd", b"12345"])), max_size=6))
def test_recordio_as_mxnet_writes_it(tmp_path_factory, pieces):
    """MXNet cuts records at the magic number; the data are what was written."""
    written = [b"".join(record) for record in pieces]
    path = tmp_path_factory.mktemp("recordio") / "file.rec"
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for data in written:
        writer.write(data)
    writer.close()
    data = path.read_bytes()
    found = split(data, "RecordIO", 1000)
    assert [record.data for record in found] == written
    assert b"".join(record.framed for record in found) == data
    assert [record.number for record in found] == list(range(1, len(written) + 1))
    for record in found:
        assert data[record.offset :].startswith(record.framed)


def test_recordio_in_several_frames():
    """The magic number stood between them."""
    framed = frame(b"ab", FIRST) + frame(b"", MIDDLE) + frame(b"c", LAST)
    data = b"ab" + MAGIC + MAGIC + b"c"
    assert split(framed + frame(b"d"), "RecordIO") == [
        Found(1, 0, data, framed),
        Found(2, len(framed), b"d", frame(b"d")),
    ]


def test_the_limit_is_of_a_record_with_what_was_cut_out():
    """The magic number between two frames takes four bytes."""
    (record,) = split(frame(bytes(48), FIRST) + frame(bytes(48), LAST), "RecordIO")
    assert record.data == bytes(48) + MAGIC + bytes(48)


TWO = frame(b"good"), frame(b"next")


@pytest.mark.parametrize(
    ("damaged", "problem"),
    [
        (b"12345678", "its frame 1 does not begin with RecordIO's magic number"),
        (b"1234", "its frame 1 does not begin with RecordIO's magic number"),
        (bytes(2**20), "its frame 1 does not begin with RecordIO's magic number"),
        (bytes(2**21 - 4), "its frame 1 does not begin with RecordIO's magic number"),
        (MAGIC, "it has a misplaced frame (flag 6)"),
        (frame(b"x", LAST), "it has a misplaced frame (flag 3)"),
        (frame(b"x", FIRST), "it has no last frame"),
        (frame(b"x", FIRST) + b"12345678", "its frame 2 does not begin with"),
        (frame(bytes(LIMIT + 1)), "it is larger than the payload limit of 100 bytes"),
        (
            frame(bytes(60), FIRST) + frame(bytes(60), MIDDLE) + frame(b"", LAST),
            "it is larger than the payload limit of 100 bytes",
        ),
        (
            frame(bytes(61), FIRST) + frame(bytes(61), MIDDLE) + frame(b"x", LAST),
            "it is larger than the payload limit of 100 bytes",
        ),
        (frame(bytes(48), FIRST) + frame(bytes(49), LAST), "it is larger than the payload limit"),
        (frame(bytes(101), FIRST), "it is larger than the payload limit of 100 bytes"),
    ],
)
def test_recordio_goes_on_after_damage(damaged, problem):
    """The next record that begins a frame is found, wherever it is."""
    good, following = TWO
    first, bad, last = split(good + damaged + following, "RecordIO")
    assert first == Found(1, 0, b"good", good)
    assert (bad.number, bad.offset) == (2, len(good))
    assert bad.problem.startswith(problem)
    assert last == Found(3, len(good + damaged), b"next", following)


def test_recordio_that_is_too_large_and_damaged():
    """What follows its first frame is no header of one: it counts as a record of its own."""
    _, large, bad, last = split(
        TWO[0] + frame(bytes(101), FIRST) + b"12345678" + TWO[1], "RecordIO"
    )
    assert large.problem == "it is larger than the payload limit of 100 bytes"
    assert (bad.number, bad.offset) == (3, len(TWO[0]) + 8 + 104)
    assert bad.problem.startswith("its frame 1 does not begin with RecordIO's magic number")
    assert (last.number, last.data) == (4, b"next")


@pytest.mark.parametrize("size", range(1, 12))
def test_recordio_that_is_cut_off(size):
    good, following = TWO
    first, bad = split(good + following[:size], "RecordIO")
    assert first.data == b"good"
    assert bad.problem.startswith("it is cut off: ")


def test_recordio_with_nothing_after_damage():
    _, bad = split(TWO[0] + bytes(64), "RecordIO")
    assert bad.problem.endswith("magic number; no record was found after it")


def test_a_length_that_is_not_there_allocates_nothing():
    """A frame claims 512 MB."""
    header = MAGIC + struct.pack("<I", 2**29 - 1)
    tracemalloc.start()
    (bad,) = split(header + b"x", "RecordIO", 2**30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bad.problem == "it is cut off: 1 of its frame's 536870912 bytes are there"
    assert peak < 2**22


def test_damage_everywhere_takes_no_quadratic_time():
    """A hundred thousand first frames without a last one."""
    found = split(b"12345678" + frame(b"", FIRST) * 100_000, "RecordIO")
    assert len(found) == 100_001
    assert all(isinstance(record, BadRecord) for record in found)


# --- TFRecord --------------------------------------------------------------------------------


@given(bodies)
def test_tfrecord(written):
    data = b"".join(map(tfrecord, written))
    found = split(data, "TFRecord")
    assert [record.data for record in found] == written
    assert b"".join(record.framed for record in found) == data


def test_tfrecord_as_tensorflow_writes_it():
    """The bytes that TFRecordWriter gives for the record b"abc"."""
    framed = bytes.fromhex("0300000000000000") + struct.pack("<I", mask(crc32c(b"\3" + bytes(7))))
    framed += b"abc" + struct.pack("<I", mask(0x364B3FB7))  # the CRC32C of "abc"
    assert split(framed, "TFRecord") == [Found(1, 0, b"abc", framed)]


def mask(crc):
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def changed(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_tfrecord_with_damaged_data_goes_on():
    """Data and their checksum; the length still tells where the next record is."""
    good, following = tfrecord(b"good"), tfrecord(b"next")
    for at in (12, 15, 16, 19):
        _, bad, last = split(good + changed(good, at) + following, "TFRecord")
        assert bad == BadRecord(2, 20, "the checksum of its data is wrong")
        assert last == Found(3, 40, b"next", following)


def test_tfrecord_with_a_damaged_length_ends():
    good = tfrecord(b"good")
    for at in range(12):
        first, bad = split(good + changed(good, at) + good, "TFRecord")
        assert first.data == b"good"
        assert bad.problem == "the checksum of its length is wrong; nothing after it can be read"


@pytest.mark.parametrize("size", range(1, 20))
def test_tfrecord_that_is_cut_off(size):
    good = tfrecord(b"good")
    first, bad = split(good + good[:size], "TFRecord")
    assert first.data == b"good"
    assert bad.problem.startswith("it is cut off: ")


def test_tfrecord_above_the_limit_goes_on():
    large = tfrecord(bytes(LIMIT + 1))
    bad, last = split(large + tfrecord(b"next"), "TFRecord")
    assert bad == BadRecord(1, 0, "it is larger than the payload limit of 100 bytes")
    assert (last.number, last.offset, last.data) == (2, len(large), b"next")


def test_tfrecord_without_its_library(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'mms_handler\[transform\]'"):
        split(b"x", "TFRecord")


# --- all -------------------------------------------------------------------------------------

WRITERS = {"Line": lambda data: data + b"\n", "RecordIO": frame, "TFRecord": tfrecord}
SAMPLE = [b"1,2", b"33", b"x" * 50]


@pytest.mark.parametrize("split_type", WRITERS)
def test_gzip(split_type):
    """Several members are one file; offsets are those of the unpacked bytes."""
    parts = [WRITERS[split_type](data) for data in SAMPLE]
    packed = gzip.compress(parts[0]) + gzip.compress(parts[1] + parts[2])
    found = split(packed, split_type, gzipped=True)
    assert found == split(b"".join(parts), split_type)
    assert [record.data for record in found] == SAMPLE


@pytest.mark.parametrize("split_type", SPLIT_TYPES)
@pytest.mark.parametrize("damage", ["cut", "checksum", "not gzip"])
def test_damaged_gzip(split_type, damage):
    """What was read before stays; the damage is a bad record."""
    data = b"".join(WRITERS.get(split_type, bytes)(body) for body in SAMPLE)
    packed = gzip.compress(data)
    packed = {
        "cut": packed[:-9],
        "checksum": changed(packed, len(packed) - 8),
        "not gzip": data,
    }[damage]
    *before, bad = split(packed, split_type, 1000, gzipped=True)
    assert isinstance(bad, BadRecord)
    assert bad.problem.startswith("the gzip data are damaged, and nothing after it can be read: ")
    assert [record.data for record in before] == SAMPLE[: len(before)]


class Trickle(io.BufferedIOBase):
    """Gives at most three bytes at once, as a socket may."""

    def __init__(self, data):
        self._stream = io.BytesIO(data)

    def readable(self):
        return True

    def read(self, size=-1):
        return self._stream.read(min(3, size))

    def readline(self, size=-1):
        return self._stream.readline(size)


@pytest.mark.parametrize("split_type", WRITERS)
def test_a_stream_that_gives_little_at_once(split_type):
    data = b"".join(map(WRITERS[split_type], SAMPLE))
    assert found_in(records(Trickle(data), split_type, LIMIT)) == split(data, split_type)


@pytest.mark.parametrize("split_type", WRITERS)
def test_reading_goes_on_from_any_record(split_type):
    """With its number and offset, the records are those of the whole file."""
    data = b"".join(map(WRITERS[split_type], SAMPLE))
    found = split(data, split_type)
    second = found[1]
    assert (
        split(data[second.offset :], split_type, number=second.number, offset=second.offset)
        == found[1:]
    )


class Repeated(io.RawIOBase):
    """A file of one piece, again and again."""

    def __init__(self, piece, count):
        self._piece, self._left = piece * 1000, count // 1000

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._left:
            return 0
        count = min(len(buffer), len(self._piece))
        assert count == len(self._piece)
        buffer[:count] = self._piece
        self._left -= 1
        return count


@pytest.mark.parametrize("split_type", WRITERS)
def test_memory_is_bounded(split_type):
    """Those of a file of 6 MB take less than 2 MB."""
    piece = WRITERS[split_type](b"1.5,2.5,3.5," * 8)
    stream = io.BufferedReader(Repeated(piece, 50_000), 1000 * len(piece))
    tracemalloc.start()
    count = sum(1 for _ in records(stream, split_type, LIMIT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 50_000
    assert peak < 2**21


def test_places():
    record = Found(7, 1234, b"", b"")
    assert place("a/b.csv", "Line", record) == "a/b.csv, line 7"
    assert place("a.rec", "RecordIO", record) == "a.rec, record 7 (at byte 1234)"
    assert place("a.json", "None", BadRecord(1, 0, "")) == "a.json"
    assert place("日本 b.csv", "Line", record) == "日本 b.csv, line 7"
    assert place("a\nerror: b", "Line", record) == "'a\\nerror: b', line 7"
    assert place("\udcff.csv", "None", record) == "'\\udcff.csv'"
