"""wire, record: protobuf, byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

from mms_handler.codecs import record, wire
from mms_handler.codecs.wire import FIXED32, FIXED64, LENGTH, VARINT
from mms_handler.errors import TooLarge

# --- the wire format -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (0, b"\0"),
        (1, b"\1"),
        (127, b"\x7f"),
        (128, b"\x80\1"),
        (300, b"\xac\2"),
        (2**14 - 1, b"\xff\x7f"),
        (2**14, b"\x80\x80\1"),
        (2**31, b"\x80\x80\x80\x80\x08"),
        (2**64 - 1, b"\xff" * 9 + b"\1"),
        (-1, b"\xff" * 9 + b"\1"),
        (-(2**31), b"\x80\x80\x80\x80\xf8" + b"\xff" * 4 + b"\1"),
    ],
)
def test_varints(number, data):
    """Seven bits in a byte, the lowest first; a negative number has 64 bits."""
    assert wire.varint(number) == data
    assert wire.varints(data).tolist() == [number % 2**64]
    assert wire.packed_varints([number, 5, number]) == data + b"\5" + data
    assert wire.varints(data + b"\5" + data).tolist() == [number % 2**64, 5, number % 2**64]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80", "the data ends inside a number"),
        (b"\1\xff\xff", "the data ends inside a number"),
        (b"\x80" * 10 + b"\1", "a number has more than 10 bytes"),
        (b"\1" + b"\x80" * 10 + b"\1" + b"\1", "a number has more than 10 bytes"),
    ],
)
def test_numbers_that_are_none(data, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        wire.varints(data)


def test_numbers_are_decoded_in_windows(monkeypatch):
    """The result is the same, wherever one ends."""
    numbers = [0, 300, 2**40, 7, 2**63, 1]
    data = wire.packed_varints(numbers)
    for window_bytes in range(10, len(data) + 1):
        monkeypatch.setattr(wire, "_WINDOW_BYTES", window_bytes)
        assert wire.varints(data).tolist() == numbers
    assert wire.varints(b"").dtype == np.uint64


def fields(message):
    return [(number, kind, bytes(data)) for number, kind, data in wire.fields(memoryview(message))]


def tag(number, kind):
    return wire.varint(number << 3 | kind)


LONG = bytes(range(200))


def test_fields():
    """Each with its number, its type and its data; a number may be large."""
    message = (
        *(tag(1, VARINT), b"\xac\2", tag(2, FIXED64), b"12345678", tag(3, FIXED32), b"abcd"),
        *(tag(16, LENGTH), b"\2hi", tag(2**28, LENGTH), b"\xc8\1", LONG, tag(5, LENGTH), b"\0"),
    )
    assert fields(b"".join(message)) == [
        (1, VARINT, b"\xac\2"),
        (2, FIXED64, b"12345678"),
        (3, FIXED32, b"abcd"),
        (16, LENGTH, b"hi"),
        (2**28, LENGTH, LONG),
        (5, LENGTH, b""),
    ]
    assert fields(b"") == []
    assert wire.length_field(16, b"h", b"i") == tag(16, LENGTH) + b"\2hi"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (tag(1, LENGTH) + b"\3ab", "field 1 takes 3 bytes, but 2 are left"),
        (tag(1, LENGTH) + b"\xc8\1" + LONG[1:], "field 1 takes 200 bytes, but 199 are left"),
        (tag(9, FIXED32) + b"abc", "field 9 takes 4 bytes, but 3 are left"),
        (tag(9, FIXED64) + b"abcdefg", "field 9 takes 8 bytes, but 7 are left"),
        (tag(1, VARINT), "the data ends inside a number"),
        (tag(1, LENGTH), "the data ends inside a number"),
        (tag(1, VARINT) + b"\x80", "the data ends inside a number"),
        (b"\x80", "the data ends inside a number"),
        (b"\x80" * 10 + b"\1", "a number has more than 10 bytes"),
        (tag(7, 3), "field 7 has the unknown wire type 3"),
        (tag(7, 4), "field 7 has the unknown wire type 4"),
        (tag(7, 6), "field 7 has the unknown wire type 6"),
    ],
)
def test_fields_that_are_none(message, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        fields(message)


# --- records ---------------------------------------------------------------------------------

FLOAT32, FLOAT64, INT32, BYTES = 2, 3, 7, 9
LIMIT = 2**20


def tensor(kind, values, keys=(), shape=()):
    """A Value with one packed tensor."""
    parts = [wire.length_field(1, values)]
    for number, numbers in ((2, keys), (3, shape)):
        if numbers:
            parts.append(wire.length_field(number, wire.packed_varints(numbers)))
    return wire.length_field(kind, *parts)


def entry(number, name, value):
    key, value = wire.length_field(1, name.encode()), wire.length_field(2, value)
    return wire.length_field(number, key, value)


def read(*entries, limit_bytes=LIMIT):
    tensors = record.read_record(memoryview(b"".join(entries)), limit_bytes)
    assert all(array.dtype == np.float32 for array in tensors.values())
    return {name: array.tolist() for name, array in tensors.items()}


FLOATS = np.array([1.5, -2], "<f4").tobytes()


def test_each_type_of_numbers():
    """float32, float64 and int32, of which negative ones have 64 bits."""
    doubles = np.array([1e10, 3], "<f8").tobytes()
    integers = wire.packed_varints([7, -7, 2**31 - 1, -(2**31)])
    assert read(
        entry(1, "a", tensor(FLOAT32, FLOATS)),
        entry(1, "b", tensor(FLOAT64, doubles)),
        entry(1, "c", tensor(INT32, integers)),
    ) == {"a": [1.5, -2], "b": [1e10, 3], "c": [7, -7, 2**31, -(2**31)]}


def test_numbers_one_by_one():
    """Each in a field of its own, as well as packed."""
    one = wire.varint(1 << 3 | FIXED32)
    value = wire.length_field(FLOAT32, one, FLOATS[:4], one, FLOATS[4:])
    assert read(entry(1, "a", value)) == {"a": [1.5, -2]}
    number = wire.varint(1 << 3 | VARINT)
    value = wire.length_field(INT32, number, b"\5", number, b"\6", wire.varint(3 << 3), b"\2")
    assert read(entry(1, "a", value)) == {"a": [5, 6]}
    other = wire.varint(1 << 3 | FIXED64) + bytes(8)  # of another type: as protobuf does, skipped
    assert read(entry(1, "a", wire.length_field(FLOAT32, one, FLOATS[:4], other))) == {"a": [1.5]}


def test_features_or_else_the_label():
    feature, label = (entry(number, "a", tensor(FLOAT32, FLOATS)) for number in (1, 2))
    assert read(label, label.replace(b"a", b"b")) == {"a": [1.5, -2], "b": [1.5, -2]}
    assert read(label.replace(b"a", b"b"), feature) == {"a": [1.5, -2]}
    other = entry(3, "metadata", b"")
    assert read(other, feature) == {"a": [1.5, -2]}
    with pytest.raises(ValueError, match="^no features$"):
        read(other)


def test_shapes():
    assert read(entry(1, "a", tensor(FLOAT32, FLOATS, shape=(2, 1)))) == {"a": [[1.5], [-2]]}
    with pytest.raises(ValueError, match=r"^'a': 2 values for shape \[3\]$"):
        read(entry(1, "a", tensor(FLOAT32, FLOATS, shape=(3,))))
    assert read(entry(1, "a", tensor(FLOAT32, FLOATS, shape=(1,) * 31 + (2,))))
    for dimensions in (33, 400):
        with pytest.raises(ValueError, match="^'a': the shape has (33|more than 32) dimensions"):
            read(entry(1, "a", tensor(FLOAT32, FLOATS, shape=(1,) * (dimensions - 1) + (2,))))


def test_sparse_tensors():
    """Keys are indices of the values; without a value all is 0."""
    sparse = entry(1, "a", tensor(FLOAT32, FLOATS, keys=(3, 1), shape=(2, 2)))
    assert read(sparse) == {"a": [[0, -2], [0, 1.5]]}
    assert read(entry(1, "a", tensor(FLOAT32, b"", shape=(2,)))) == {"a": [0, 0]}
    assert read(entry(1, "a", tensor(FLOAT32, b"", shape=(0,)))) == {"a": []}
    assert read(entry(1, "a", tensor(FLOAT32, b""))) == {"a": []}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (tensor(FLOAT32, FLOATS, keys=(1, 2)), "the tensor is sparse but has no shape"),
        (tensor(FLOAT32, FLOATS, keys=(1,), shape=(4,)), "2 values for 1 key"),
        (tensor(FLOAT32, FLOATS[:4], keys=(1, 2), shape=(4,)), "1 value for 2 keys"),
        (tensor(FLOAT32, FLOATS, keys=(1, 4), shape=(4,)), r"key 4 is outside shape \[4\]"),
        (tensor(FLOAT32, FLOATS, keys=(1, 1), shape=(4,)), "a key occurs twice"),
        (tensor(FLOAT32, FLOATS[:5]), "5 bytes of values are not whole float32s"),
        (tensor(FLOAT64, FLOATS[:5]), "5 bytes of values are not whole float64s"),
        (tensor(BYTES, b"image"), "expected numbers, found bytes"),
        (tensor(4, FLOATS), "no tensor"),
    ],
)
def test_tensors_that_are_none(value, reason):
    with pytest.raises(ValueError, match=f"^'a': {reason}$"):
        read(entry(1, "a", value))


def test_what_a_record_may_take():
    """All its tensors together, as float32."""
    both = [entry(1, name, tensor(FLOAT32, FLOATS)) for name in "ab"]
    assert len(read(*both, limit_bytes=16)) == 2
    with pytest.raises(TooLarge, match=r"^a tensor of shape \[\] takes more than the 7 bytes left"):
        read(*both, limit_bytes=15)
    sparse = entry(1, "a", tensor(FLOAT32, b"", shape=(2, 3)))
    assert read(sparse, limit_bytes=24)
    with pytest.raises(TooLarge, match=r"of shape \[2, 3\] takes more than the 23 bytes left$"):
        read(sparse, limit_bytes=23)
    with pytest.raises(TooLarge):  # without 2**62 zeros
        read(entry(1, "a", tensor(FLOAT32, b"", shape=(2**31, 2**31))))


def test_how_many_tensors_a_record_may_have():
    every = [entry(1, str(number), tensor(FLOAT32, b"")) for number in range(257)]
    assert len(read(*every[:256])) == 256
    with pytest.raises(ValueError, match="^more than 256 tensors$"):
        read(*every)


@pytest.mark.parametrize(
    ("array", "kind", "values"),
    [
        (np.array([1.5, -2], "f4"), FLOAT32, FLOATS),
        (np.array([1.5, -2], "f2"), FLOAT32, FLOATS),
        (np.array([1.5], "f8"), FLOAT64, np.array([1.5], "<f8").tobytes()),
        (np.array([1.5], ">f8"), FLOAT64, np.array([1.5], "<f8").tobytes()),
        (np.array([-(2**31), 2**31 - 1]), INT32, wire.packed_varints([-(2**31), 2**31 - 1])),
        (np.array([True, False]), INT32, b"\1\0"),
        (np.zeros(0, int), INT32, b""),
    ],
)
def test_what_is_written(array, kind, values):
    """The label, each in the type that holds it; a shape only if it could not be read without."""
    assert record.write_record({"a": array}) == entry(2, "a", tensor(kind, values))


def test_a_shape_is_written():
    written = record.write_record({"a": np.array([[1.5, -2]], "f4"), "b": np.array(7)})
    parts = tensor(FLOAT32, FLOATS, shape=(1, 2)), tensor(INT32, b"\7")
    assert written == entry(2, "a", parts[0]) + entry(2, "b", parts[1])
    assert read(written) == {"a": [[1.5, -2]], "b": [7]}


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1])
def test_integers_that_do_not_fit(number):
    with pytest.raises(ValueError, match="^an integer does not fit into 32 bits$"):
        record.write_record({"a": np.array([0, number, 0])})
