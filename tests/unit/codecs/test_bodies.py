"""compression, json, text, npz: limits at their edge, and the ways that save time are taken."""

from __future__ import annotations

import gzip
import io
import struct

import numpy as np
import pytest

from mms_handler import codecs
from mms_handler.codecs import compression, csv, digits, json, jsonlines, npy, npz, parsers, parts
from mms_handler.codecs.text import CHARSETS, text
from mms_handler.errors import BadInput

# --- text ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHARSETS)
def test_every_charset(name):
    """As Python writes it, whatever its letters' case."""
    written = "1,2 a".encode(name)
    assert text(written, f"text/csv; charset={name}") == "1,2 a"
    assert text(written, f'text/csv; charset="{name.upper()}"') == "1,2 a"


# --- json ------------------------------------------------------------------------------------


def test_the_longest_integer():
    """A thousand digits are read, though no double holds them; one more is not."""
    assert parsers.loads(f"[{10**999}]") == [10**999]
    for value in (f"[{10**1000}]", f"[1, -{10**1000}]", f'{{"a": {10**1000}}}'):
        with pytest.raises(ValueError, match="^an integer is too large$"):
            parsers.loads(value)
    for value in (f"0.{10**1000}", f"{10**1000}.5", f"{10**1000}e-999"):
        assert isinstance(parsers.loads(value), float)


@pytest.mark.parametrize(
    ("unit", "is_read"),
    [('{"a":1},', False), ("[0],", False), ("10,", True), ('"text",', True)],
)
def test_what_python_values_would_take(unit, is_read):
    """json makes a list or dict of each; of numbers and texts it may make as many as there are."""
    text = "[" + unit * 300_000 + "0]"
    if is_read:
        assert len(parsers.loads(text)) == 300_001
        return
    with pytest.raises(ValueError, match="^not an array of numbers; it has too many lists to say "):
        parsers.loads(text)


def test_large_numbers_in_a_large_text():
    """Their values may take more than those of a small text, in proportion."""
    assert len(parsers.loads("[" + "1.2345678," * 900_000 + "0]")) == 900_001


def test_how_many_names_an_object_may_have():
    names = {str(number): [number] for number in range(257)}
    with pytest.raises(ValueError, match="^the object has 257 names; the limit is 256$"):
        json.decode(json.dumps(names))
    del names["0"]
    assert len(json.decode(json.dumps(names))) == 256
    assert len(json.quick(json.dumps(names).encode())) == 256


@pytest.mark.parametrize("body", [b'{"a":[1],"b":[2],"c":[3]}', b"[[1,2],[3,4]]", b"7"])
def test_small_bodies_are_read_quickly(monkeypatch, body):
    """By orjson; the result is the same."""
    monkeypatch.setattr(parts, "arrays", lambda _: pytest.fail("in parts"))
    quick, slow = json.quick(body), json.decode(body.decode())
    assert quick is not None
    assert str(quick) == str(slow)


def test_parts_are_large():
    """A part takes some microseconds, whatever is in it."""
    assert len(list(parts.split(b"1," * 1_000_000, b","))) in range(8, 32)


def test_where_parts_end(monkeypatch):
    """At a separator, which belongs to none, and after at least so many bytes."""
    monkeypatch.setattr(parts, "PART_BYTES", 2)
    assert list(parts.split("ab,cd,e,f,", ",")) == ["ab", "cd", "e,f"]
    assert list(parts.split(",a,b", ",")) == [",a", "b"]
    assert list(parts.split("abcdef", ",")) == ["abcdef"]
    assert list(parts.split("", ",")) == []


def test_lines_are_read_quickly(monkeypatch):
    """Without a look at each value, if there is no text among them."""
    monkeypatch.setattr(jsonlines, "_slow", lambda *_: pytest.fail("the slow way"))
    arrays = jsonlines.decode('{"a": [1], "b": 2}\n{"a": [3], "b": 4}\n')
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "a": [[1], [3]],
        "b": [2, 4],
    }
    assert jsonlines.decode("[1, 2]\n[3, 4]\n").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("line", ["[[1], [2]]", '{"a": [1, 2], "b": [[3]]}', "7"])
def test_large_lines_are_read_quickly(monkeypatch, line):
    """Some in each part, also where a part is as large as those that are read one by one."""
    monkeypatch.setattr(parts, "LARGE_BYTES", 2 * len(line))
    monkeypatch.setattr(parts, "PART_BYTES", 2 * len(line))
    monkeypatch.setattr(jsonlines, "_slow", lambda *_: pytest.fail("the slow way"))
    arrays = jsonlines.decode("\n".join([line] * 11))
    expected = jsonlines.decode("\n".join([line]))
    for name, array in expected.items() if isinstance(expected, dict) else [(None, expected)]:
        lines = arrays if name is None else arrays[name]
        assert lines.tolist() == array.tolist() * 11


@pytest.mark.parametrize("line", ["[[1], [2]]", '{"a": [1, 2], "b": [[3]]}'])
def test_a_large_line_is_read_in_parts(monkeypatch, line):
    """No parser holds all of it, nor Python's lists."""
    expected = jsonlines.decode(line)
    monkeypatch.setattr(parts, "LARGE_BYTES", 1)
    monkeypatch.setattr(parsers, "orjson", None)
    monkeypatch.setattr(jsonlines, "_slow", lambda *_: pytest.fail("the slow way"))
    assert str(jsonlines.decode(line)) == str(expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("[1]\n[2]\n[3]\n[NaN]\n[4]", "[[1.]\n [2.]\n [3.]\n [nan]\n [4.]]"),
        ('{"a": 1}\n{"a": 2}\n{"a": NaN}', "{'a': array([ 1.,  2., nan], dtype=float32)}"),
    ],
)
def test_a_later_part_that_only_json_reads(monkeypatch, body, expected):
    """Its rows follow those of the other parts, and the first line is not among them again."""
    monkeypatch.setattr(parts, "PART_BYTES", 4)
    assert str(jsonlines.decode(body)).replace("[ ", "[") == expected.replace("[ ", "[")


# --- csv -------------------------------------------------------------------------------------


def test_arrays_of_numbers_are_written_at_once(monkeypatch):
    """Not cell by cell."""
    monkeypatch.setattr(csv, "_cells", lambda row: pytest.fail("the slow way"))
    array = np.arange(64, dtype="f4").reshape(2, 4, 8)
    lines = [
        ",".join(f"{number}.0" for number in numbers) for numbers in (range(32), range(32, 64))
    ]
    assert csv.encode(array).decode() == "\r\n".join(lines) + "\r\n"


def test_no_rows_are_no_lines():
    assert csv.encode(np.zeros((0, 3), "f4")) == b""
    assert csv.encode(np.zeros((2, 0), "f4")) == b"\r\n\r\n"


# --- digits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [31, 32])
def test_few_values_are_written_one_by_one(count):
    """From 32 on it takes less time together."""
    written = digits.encode_floats(np.zeros(count), np.float64, lambda numbers: [])
    assert (written is not None) == (count == 32)


@pytest.mark.parametrize(
    ("dtype", "numbers", "asked"),
    [
        (np.float64, [1e-6, 9.9e-6, 2e-4, 1e14, -1e-6, 0, -5], []),
        (np.float64, [2e-5, 9e-5, 2e15, -2e15, np.nan, np.inf], [2e-5, 9e-5, 2e15, -2e15]),
        (np.float32, [1e-7, 2e-4, 1e6], []),
        (np.float32, [2e-6, 9e-5, 2e7], [2e-6, 9e-5, 2e7]),
    ],
)
def test_numbers_that_are_spelled_in_several_ways(dtype, numbers, asked):
    """Are left to Python or NumPy; so are those that are not finite."""
    seen = []

    def spell(different):
        seen.extend(different.tolist())
        return map(str, different)

    array = np.array(numbers + [1.5] * 40, dtype)
    written = digits.encode_floats(array, dtype, spell)
    finite = [number for number in seen if np.isfinite(number)]
    assert finite == np.array(asked, dtype).tolist()
    assert len(seen) - len(finite) == sum(not np.isfinite(number) for number in numbers)
    assert written == ("[" + ",".join(map(str, array)) + "]").encode()


# --- npy, npz --------------------------------------------------------------------------------


def test_each_dimension_has_its_place():
    """In Fortran's order too."""
    array = np.arange(6, dtype="f8").reshape(2, 3)
    for order in "CF":
        out = io.BytesIO()
        np.save(out, np.asarray(array, order=order))
        assert npy.decode(out.getvalue(), 24).tolist() == array.tolist()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_the_longest_header(version):
    """Its length has two bytes in version 1.0, and four in 2.0."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.array([1.5, 2], "f4"), version=version)
    body = out.getvalue()
    assert npy.decode(body, 8).tolist() == [1.5, 2]
    start = 10 if version == (1, 0) else 12
    header = body[start:].split(b"\n")[0]
    for length in (npy.MAX_HEADER_BYTES, npy.MAX_HEADER_BYTES + 1):
        padded = header.ljust(length - 1) + b"\n"
        longer = body[:8] + length.to_bytes(start - 8, "little") + padded + body[-8:]
        if length == npy.MAX_HEADER_BYTES:
            assert npy.decode(longer, 8).tolist() == [1.5, 2]
        else:
            with pytest.raises(ValueError, match="has 10001 bytes; the limit is 10000$"):
                npy.decode(longer, 8)


def zip_of(count):
    return npz.encode({str(number): np.array(1.5) for number in range(count)})


def test_how_many_files_a_zip_may_have():
    """Its end is asked, before the directory is read; and then the directory."""
    assert len(npz.decode(zip_of(256), 2**20)) == 256
    with pytest.raises(ValueError, match="^the ZIP has 257 files; the limit is 256$"):
        npz.decode(zip_of(257), 2**20)
    body = zip_of(1)
    lying = body[: -22 + 10] + struct.pack("<H", 999) + body[-22 + 12 :]
    with pytest.raises(ValueError, match="^the ZIP has 999 files; the limit is 256$"):
        npz.decode(lying, 2**20)
    body = zip_of(257)
    modest = body[: -22 + 10] + struct.pack("<H", 1) + body[-22 + 12 :]
    with pytest.raises(ValueError, match="^the ZIP has 257 files; the limit is 256$"):
        npz.decode(modest, 2**20)


def test_a_large_directory():
    """A kilobyte for each array that there may be."""
    body = zip_of(1)
    for directory_bytes, refused in ((1024 * 256, False), (1024 * 256 + 1, True)):
        changed = body[: -22 + 12] + struct.pack("<I", directory_bytes) + body[-22 + 16 :]
        reason = (
            "'s directory has more than 262144 bytes"
            if refused
            else (" cannot be read: its directory is larger than itself")
        )
        with pytest.raises(ValueError, match=f"^the ZIP{reason}$"):
            npz.decode(changed, 2**20)


# --- compression -----------------------------------------------------------------------------


def test_large_and_many_members():
    """Longer than what is read at a time; with padding behind them."""
    noise = np.random.RandomState(0).bytes(200_000)
    body = gzip.compress(noise) + bytes(100) + gzip.compress(b"") + gzip.compress(b"end") + b"\0"
    whole = noise + b"end"
    assert codecs.decompress(body, "gzip", len(whole)) == whole
    zeros = gzip.compress(bytes(300_000))
    assert codecs.decompress(zeros, " X-GZIP ", 300_000) == bytes(300_000)


def test_how_many_members_there_may_be():
    empty = gzip.compress(b"")
    body = empty * compression.MAX_MEMBERS
    assert codecs.decompress(body, "gzip", 10) == b""
    with pytest.raises(BadInput, match="^the gzip body has more than 1000 members$"):
        codecs.decompress(body + empty, "gzip", 10)


def test_lines_are_read_in_parts(monkeypatch):
    """Which end at a line end, but not at one between quotes."""
    monkeypatch.setattr(parts, "PART_BYTES", 4)
    body = b'1,2\n3,4\n"5\n\n6",7\n8,9\n'
    assert list(csv._split_lines(body)) == [b"1,2\n3,4", b'"5\n\n6",7', b"8,9\n"]
    assert list(csv._split_lines(b'1\n"2\n3\n4\n5\n6')) == [b'1\n"2\n3\n4\n5\n6']
    assert csv.decode('1,2\n3,4\n5,"6"\n').tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_long_line_with_another_in_it(monkeypatch, end):
    """A line end of old Macs is one wherever the parts end."""
    monkeypatch.setattr(parts, "PART_BYTES", 4)
    assert csv.decode(f"0,-0.0,7,5{end}").tolist() == [[0, 0, 7, 5]]
    with pytest.raises(ValueError, match="is not a number$|has 2 values"):
        csv.decode(f"0,-0.0\r,-0{end}")
