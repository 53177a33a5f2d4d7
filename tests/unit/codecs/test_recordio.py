"""codecs, RecordIO-protobuf: against the protobuf library, and hostile bodies."""

from __future__ import annotations

import contextlib
import random
import struct
import tracemalloc

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from mms_handler import codecs, media
from mms_handler.codecs import wire
from mms_handler.errors import BadInput, NotAcceptable, TooLarge

RECORDIO = "application/x-recordio-protobuf"
MAGIC = struct.pack("<I", 0xCED7230A)
F = np.float32


def record_class(packed):
    """The developer guide's aialgs.data.Record, made without a compiler.

    ``packed``: whether repeated numbers are packed into one field, as in the guide's proto, or
    written one by one, which any reader of protobuf must accept too.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"record_{packed}.proto", package="aialgs.data", syntax="proto2"
    )

    def field(message, name, number, kind, repeated=False, type_name=None):
        added = message.field.add(name=name, number=number, type=kind, type_name=type_name)
        added.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
        if repeated and type_name is None:
            added.options.packed = packed
        return added

    for name, kind in (
        ("Float32Tensor", kinds.TYPE_FLOAT),
        ("Float64Tensor", kinds.TYPE_DOUBLE),
        ("Int32Tensor", kinds.TYPE_INT32),
    ):
        tensor = file.message_type.add(name=name)
        field(tensor, "values", 1, kind, repeated=True)
        field(tensor, "keys", 2, kinds.TYPE_UINT64, repeated=True)
        field(tensor, "shape", 3, kinds.TYPE_UINT64, repeated=True)
    some_bytes = file.message_type.add(name="Bytes")
    some_bytes.field.add(name="value", number=1, type=kinds.TYPE_BYTES, label=kinds.LABEL_REPEATED)
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="value")
    for name, number, type_name in (
        ("float32_tensor", 2, "Float32Tensor"),
        ("float64_tensor", 3, "Float64Tensor"),
        ("int32_tensor", 7, "Int32Tensor"),
        ("bytes", 9, "Bytes"),
    ):
        full_name = f".aialgs.data.{type_name}"
        field(value, name, number, kinds.TYPE_MESSAGE, type_name=full_name).oneof_index = 0
    record = file.message_type.add(name="Record")
    for name, number, entry_name in (("features", 1, "FeaturesEntry"), ("label", 2, "LabelEntry")):
        entry = record.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        field(entry, "key", 1, kinds.TYPE_STRING)
        field(entry, "value", 2, kinds.TYPE_MESSAGE, type_name=".aialgs.data.Value")
        entry_type = f".aialgs.data.Record.{entry_name}"
        field(record, name, number, kinds.TYPE_MESSAGE, repeated=True, type_name=entry_type)
    field(record, "uid", 3, kinds.TYPE_STRING)
    field(record, "metadata", 4, kinds.TYPE_STRING)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("aialgs.data.Record"))


Record, UnpackedRecord = record_class(packed=True), record_class(packed=False)


def frame(data, flag=0):
    return MAGIC + struct.pack("<I", flag << 29 | len(data)) + data + bytes(-len(data) % 4)


def body_of(*records):
    return b"".join(frame(record.SerializeToString()) for record in records)


def filled(tensor, values, keys=(), shape=()):
    tensor.values.extend(values)
    tensor.keys.extend(keys)
    tensor.shape.extend(shape)


def record(kind="float32_tensor", record_type=Record, part="features", **tensors):
    """A Record; each tensor is given as values or as (values, keys, shape)."""
    result = record_type()
    for name, tensor in tensors.items():
        parts = tensor if isinstance(tensor, tuple) else (tensor,)
        filled(getattr(getattr(result, part)[name], kind), *parts)
    return result


def read(body):
    records, at = [], 0
    while at < len(body):
        assert body[at : at + 4] == MAGIC
        (length,) = struct.unpack_from("<I", body, at + 4)
        records.append(Record.FromString(body[at + 8 : at + 8 + length]))
        at += 8 + length + -length % 4
    assert at == len(body)
    return records


# --- in ---


@pytest.mark.parametrize("record_type", [Record, UnpackedRecord])
@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("float32_tensor", [[0.1, -2, np.nan], [np.inf, -np.inf, 1e-45]]),
        ("float64_tensor", [[0.1, -2, 1e300], [1, 2, 3]]),
        ("int32_tensor", [[0, 127, 128], [-1, 2**31 - 1, -(2**31)]]),
    ],
)
def test_values_of_every_kind(kind, rows, record_type):
    """Records with only "values" are one float32 array (N, columns), packed or not."""
    body = body_of(*(record(kind, record_type, values=row) for row in rows))
    array = codecs.decode(body, RECORDIO)
    assert array.dtype == F
    np.testing.assert_array_equal(array, np.array(rows, F))


def test_features_by_name():
    """Other names, or several, give a dict; each feature has its own shape."""
    body = body_of(
        record(a=[1, 2], b=([3, 4, 5, 6], (), (2, 2))),
        record(b=([7, 8, 9, 10], (), (2, 2)), a=[11, 12]),
    )
    arrays = codecs.decode(body, RECORDIO)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "a": [[1, 2], [11, 12]],
        "b": [[[3, 4], [5, 6]], [[7, 8], [9, 10]]],
    }
    assert list(codecs.decode(body_of(record(a=[1])), RECORDIO)) == ["a"]


@pytest.mark.parametrize("record_type", [Record, UnpackedRecord])
def test_sparse_rows(record_type):
    """Keys are the places of values, in row-major order; a row of zeros has neither."""
    body = body_of(
        record(record_type=record_type, values=([5, 6], (3, 0), (2, 2))),
        record(record_type=record_type, values=([], (), (2, 2))),
        record(record_type=record_type, values=([1, 2, 3, 4], (), (2, 2))),
    )
    assert codecs.decode(body, RECORDIO).tolist() == [
        [[6, 0], [0, 5]],
        [[0, 0], [0, 0]],
        [[1, 2], [3, 4]],
    ]


def test_other_fields_are_ignored():
    """A label beside features, an id, and fields of other versions."""
    labelled = record(values=[1, 2])
    filled(labelled.label["values"].float32_tensor, [9])
    labelled.uid, labelled.metadata = "1", "{}"
    more = wire.varint(15 << 3) + b"\x01" + wire.varint(16 << 3 | 5) + b"1234"
    more += wire.varint(17 << 3 | 1) + b"12345678" + wire.length_field(18, b"x")
    body = frame(labelled.SerializeToString() + more)
    assert codecs.decode(body, RECORDIO).tolist() == [[1, 2]]


def test_an_answer_is_a_request():
    """Records without features give their label: in a pipeline, replies are sent on as bodies."""
    body = body_of(
        record(part="label", score=[0.5], predicted_label=[1]),
        record(part="label", score=[0.25], predicted_label=[0]),
    )
    arrays = codecs.decode(body, RECORDIO)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "score": [[0.5], [0.25]],
        "predicted_label": [[1], [0]],
    }


def test_a_record_in_several_frames():
    """MXNet's writer cuts a record where it contains the magic number, and leaves that out."""
    (inside,) = struct.unpack("<f", MAGIC)
    data = record(values=[1, inside, 2, inside]).SerializeToString()
    first, second, third = data.split(MAGIC)
    cut = frame(first, 1) + frame(second, 2) + frame(third, 3)
    whole = codecs.decode(frame(data), RECORDIO)
    assert whole.tobytes() == np.array([[1, inside, 2, inside]], F).tobytes()
    again = codecs.decode(frame(data) + cut + frame(data), RECORDIO)
    assert again.tobytes() == whole.tobytes() * 3


GOOD = record(values=[1, 2])
DATA = GOOD.SerializeToString()


def entry(value, name=b"values"):
    """A record of one feature, its Value as bytes."""
    return frame(wire.length_field(1, wire.length_field(1, name), wire.length_field(2, value)))


def tensor(*fields):
    return entry(wire.length_field(2, *fields))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            frame(DATA) + b"abc", "frame 2 has 3 bytes, but its header takes 8", id="half a header"
        ),
        pytest.param(
            frame(DATA) + b"abcdefgh",
            "frame 2 does not begin with RecordIO's magic number",
            id="no magic",
        ),
        pytest.param(
            MAGIC + struct.pack("<I", 2**29 - 1),
            "frame 1 takes 536870912 bytes, but 0 are left",
            id="a length of half a gigabyte",
        ),
        pytest.param(
            frame(b"\x0a")[:-1],
            "frame 1 takes 4 bytes, but 3 are left",
            id="no padding",
        ),
        pytest.param(frame(DATA, 1), "record 1 has no last frame", id="a first frame alone"),
        pytest.param(
            frame(DATA) + frame(DATA, 3),
            "record 2 has a misplaced frame (flag 3)",
            id="a last frame alone",
        ),
        pytest.param(
            frame(DATA, 1) + frame(DATA),
            "record 1 has a misplaced frame (flag 0)",
            id="a whole frame among parts",
        ),
        pytest.param(
            frame(DATA, 4), "record 1 has a misplaced frame (flag 4)", id="an unknown flag"
        ),
        pytest.param(frame(b""), "record 1: no features", id="an empty record"),
        pytest.param(
            frame(DATA) + frame(b"\x0a\x7f"),
            "record 2: field 1 takes 127 bytes, but 0 are left",
            id="a field beyond its record",
        ),
        pytest.param(
            frame(b"\x0b"),
            "record 1: field 1 has the unknown wire type 3",
            id="a group, which none has",
        ),
        pytest.param(frame(b"\x80"), "record 1: the data ends inside a number", id="half a tag"),
        pytest.param(
            frame(b"\xff" * 11), "record 1: a number has more than 10 bytes", id="an endless tag"
        ),
        pytest.param(
            frame(b"\x0a" + b"\xff" * 9 + b"\x01"),
            "record 1: field 1 takes 18446744073709551615 bytes, but 0 are left",
            id="a field of 2**64 bytes",
        ),
        pytest.param(entry(b""), "record 1: 'values': no tensor", id="no tensor"),
        pytest.param(
            entry(wire.length_field(9, b"")),
            "record 1: 'values': expected numbers, found bytes",
            id="bytes",
        ),
        pytest.param(
            tensor(wire.length_field(1, b"12345")),
            "record 1: 'values': 5 bytes of values are not whole float32s",
            id="half a value",
        ),
        pytest.param(
            entry(wire.length_field(7, wire.length_field(1, b"\x01\x80"))),
            "record 1: 'values': the data ends inside a number",
            id="half an integer",
        ),
        pytest.param(
            entry(wire.length_field(7, wire.length_field(1, b"\x80" * 10 + b"\x01"))),
            "record 1: 'values': a number has more than 10 bytes",
            id="an integer of eleven bytes",
        ),
        pytest.param(
            body_of(GOOD, record(values=[1, 2, 3])),
            "record 2: 'values' has shape (3,), but in record 1 it is (2,)",
            id="ragged",
        ),
        pytest.param(
            body_of(GOOD, record(values=[1]), record(values=[1, 2, 3])),
            "record 2: 'values' has shape (1,), but in record 1 it is (2,)",
            id="ragged, with a total length that fits",
        ),
        pytest.param(
            body_of(GOOD, record(values=[1, 2], x=[1])),
            "record 2 differs from record 1 in the tensors x",
            id="another feature",
        ),
        pytest.param(
            body_of(record(values=([1, 2, 3], (), (2, 2)))),
            "record 1: 'values': 3 values for shape [2, 2]",
            id="a shape that does not fit",
        ),
        pytest.param(
            body_of(record(values=([1, 2], (0, 1)))),
            "record 1: 'values': the tensor is sparse but has no shape",
            id="sparse without a shape",
        ),
        pytest.param(
            body_of(record(values=([1], (0, 1), (3,)))),
            "record 1: 'values': 1 value for 2 keys",
            id="a key too many",
        ),
        pytest.param(
            body_of(record(values=([1], (2**64 - 1,), (3,)))),
            "record 1: 'values': key 18446744073709551615 is outside shape [3]",
            id="a key outside",
        ),
        pytest.param(
            body_of(record(values=([1, 2], (1, 1), (3,)))),
            "record 1: 'values': a key occurs twice",
            id="a key twice",
        ),
        pytest.param(
            body_of(record(values=([1], (), [1] * 33))),
            "record 1: 'values': the shape has 33 dimensions; the limit is 32",
            id="more dimensions than NumPy has",
        ),
        pytest.param(
            body_of(record(values=[])),
            "no values in the {} body (shape (1, 0))",
            id="no values",
        ),
        pytest.param(
            body_of(record(**{f"f{i}": [1] for i in range(257)})),
            "record 1: more than 256 tensors",
            id="very many features",
        ),
        pytest.param(
            tensor(wire.length_field(3, b"\x01" * 321)),
            "record 1: 'values': the shape has more than 32 dimensions",
            id="very many dimensions",
        ),
        pytest.param(b"[[1, 2]]", "frame 1 does not begin with RecordIO's magic number", id="JSON"),
    ],
)
def test_the_message_names_the_record(body, message):
    """Records and frames count from 1."""
    with pytest.raises(BadInput) as caught:
        codecs.decode(body, RECORDIO)
    text = str(caught.value).replace(f"not valid {RECORDIO}: ", "")
    assert text == message.format(RECORDIO)


@pytest.mark.parametrize(
    "shape", [(2**26 + 1,), (2**40,), (2**63,), (2**20, 2**20), [2**63] * 32], ids=str
)
def test_a_huge_sparse_row_is_refused(shape):
    """A few bytes that stand for gigabytes take no memory."""
    body = body_of(record(values=([1], (0,), shape)))
    tracemalloc.start()
    try:
        with pytest.raises(
            TooLarge,
            match="^record 1: a tensor of shape .* takes more than the 268435456 bytes left$",
        ):
            codecs.decode(body, RECORDIO)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_huge_sparse_rows_together_are_refused():
    """The limit is for all records of a body."""
    row = record(values=([1], (0,), (400,)))
    assert codecs.decode(body_of(row, row), RECORDIO, 4_000).shape == (2, 400)
    with pytest.raises(TooLarge, match=r"^record 3: a tensor of shape \[400\]"):
        codecs.decode(body_of(row, row, row), RECORDIO, 4_000)


def test_a_record_in_very_many_parts_takes_little_more_than_its_body():
    """An object for each part would take thirty times as much."""
    body = frame(b"", 1) + frame(b"", 2) * 20_000 + frame(b"", 3)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="record 1: "):
            codecs.decode(body, RECORDIO)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(body)
    finally:
        tracemalloc.stop()


def test_dense_rows_are_limited_too():
    """Numbers of one byte take four times as much as their body, which any default allows."""
    body = body_of(record("int32_tensor", values=[1] * 500))
    assert codecs.decode(body, RECORDIO, 2_000).size == 500
    with pytest.raises(
        TooLarge, match=r"^record 1: a tensor of shape \[\] takes more than the 1999"
    ):
        codecs.decode(body, RECORDIO, 1_999)


@pytest.mark.parametrize("bits", [1, 0x80, 0xFF])
def test_any_byte_may_be_wrong(bits):
    """A body with one changed byte, or cut anywhere, is read or refused; nothing else is raised."""
    body = body_of(
        record(a=[1, 2], b=([3], (1,), (2, 2))), record("int32_tensor", a=[300, -1], b=[1])
    )
    for at in range(len(body)):
        broken = bytearray(body)
        broken[at] ^= bits
        for hostile in (bytes(broken), body[:at]):
            with contextlib.suppress(BadInput, TooLarge):
                codecs.decode(hostile, RECORDIO)


def test_many_varints():
    """Numbers of every length are read as protobuf wrote them, more than are decoded at a time."""
    rng = random.Random(7)
    values = [
        rng.randint(-(2 ** rng.randint(1, 31)), 2 ** rng.randint(0, 30)) for _ in range(40_000)
    ]
    body = body_of(record("int32_tensor", values=values))
    assert codecs.decode(body, RECORDIO).tolist() == [np.array(values, F).tolist()]


# --- out ---


def test_exact_bytes():
    """One float32 row is magic, length, label "values", packed values and padding."""
    body, content_type = codecs.encode(np.array([[1, 2]], F), RECORDIO, media.JSON)
    assert content_type == RECORDIO
    assert body == (
        b"\x0a\x23\xd7\xce\x18\x00\x00\x00"
        b"\x12\x16\x0a\x06values\x12\x0c\x12\x0a\x0a\x08\x00\x00\x80?\x00\x00\x00@"
    )
    assert len(body) % 4 == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(
            np.array([[0.1, np.nan], [3, np.inf]], F),
            [record(part="label", values=[0.1, np.nan]), record(part="label", values=[3, np.inf])],
            id="rows",
        ),
        pytest.param(
            np.array([1, 2], F),
            [record(part="label", values=[1]), record(part="label", values=[2])],
            id="one dimension",
        ),
        pytest.param(5.0, [record("float64_tensor", part="label", values=[5])], id="one number"),
        pytest.param(
            np.array([[[1, 2], [3, 4]]], F),
            [record(part="label", values=([1, 2, 3, 4], (), (2, 2)))],
            id="rows of rows",
        ),
        pytest.param(
            np.array([[1, 300, -1]]),
            [record("int32_tensor", part="label", values=[1, 300, -1])],
            id="integers",
        ),
        pytest.param(
            np.array([[True, False]]),
            [record("int32_tensor", part="label", values=[1, 0])],
            id="truth",
        ),
        pytest.param(
            [np.array([[1], [2]], F), np.array([3, 4], F)],
            [
                record(part="label", values_0=[1], values_1=[3]),
                record(part="label", values_0=[2], values_1=[4]),
            ],
            id="several outputs",
        ),
        pytest.param(
            {"score": np.array([0.5], F), "label": np.array([[1]], F)},
            [record(part="label", score=[0.5], label=[1])],
            id="named outputs",
        ),
        pytest.param(np.zeros((0, 2), F), [], id="no rows"),
    ],
)
def test_protobuf_reads_what_is_written(value, expected):
    """There is a record per row, and protobuf reads it."""
    body, _ = codecs.encode(value, RECORDIO, media.JSON)
    assert list(map(str, read(body))) == list(map(str, expected))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("text", "it is not an array of numbers"),
        (["a"], "it is not an array of numbers"),
        ({"a": 1}, "it is not an array of numbers"),
        ({"a": np.array(["x"])}, "it is not an array of numbers"),
        ([np.zeros(2), np.zeros(3)], "its outputs have different numbers of rows"),
        ([np.zeros(2), np.array(1.0)], "its outputs have different numbers of rows"),
        (np.array([2**31]), "an integer does not fit into 32 bits"),
        (np.array([-(2**31) - 1]), "an integer does not fit into 32 bits"),
        (np.array([2**63], np.uint64), "an integer does not fit into 32 bits"),
    ],
    ids=repr,
)
def test_what_records_cannot_hold(value, reason):
    """Another type may hold it."""
    with pytest.raises(NotAcceptable, match=f"x-recordio-protobuf: {reason}; try Accept: "):
        codecs.encode(value, RECORDIO, media.JSON)


def test_as_many_records_out_as_in():
    body = body_of(*(record(values=[i, 0.5]) for i in range(100)))
    again, _ = codecs.encode(codecs.decode(body, RECORDIO), RECORDIO, media.JSON)
    values = [row.label["values"].float32_tensor.values[0] for row in read(again)]
    assert values == list(range(100))
