"""codecs.compiled and the core: numbers as Python reads and writes them, and nothing else."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import sysconfig
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mms_handler.codecs import compiled

core = compiled.core
needs_core = pytest.mark.skipif(core is None, reason="there is no compiled core")


@pytest.fixture(autouse=True)
def way():
    """These tests are of the core alone, so they run once."""


def test_the_core_is_there_where_a_compiler_is():
    """An editable install builds it; a skip of what follows would not be seen."""
    compiler = shutil.which("g++") and os.path.exists(sysconfig.get_path("include") + "/Python.h")
    assert core is not None or not compiler, "make, or pip install -e ., builds it"


def test_the_core_can_be_turned_off():
    try:
        compiled.use(False)
        assert compiled.core is None
        assert compiled.read_json(b"[1]") is None
        assert compiled.write_json(np.ones(1, np.float32)) is None
        compiled.use(True)
        assert compiled.core is core
    finally:
        compiled.use(core is not None)


def in_python(texts):
    """The float32s of JSON's numbers by json and NumPy."""
    return np.asarray(json.loads(f"[{','.join(texts)}]"), np.float64).astype(np.float32)


def read(body, function="read_json", limit=2**20):
    """The array that the core reads from one body; None if it takes it not."""
    result = getattr(core, function)((body,), limit)
    if result is None:
        return None
    numbers, lengths, inner = result
    return np.frombuffer(numbers, np.float32).reshape(*lengths, *inner)


def middle(chance):
    """A number close to the middle of two neighbouring float32s."""
    low = np.float32(chance.gauss(0, 1) * 10 ** chance.randint(-20, 20))
    high = np.nextafter(low, np.float32(np.inf))
    exact = (float(low) + float(high)) / 2
    return repr(float(np.nextafter(exact, chance.choice([-np.inf, exact, np.inf]))))


def long_middle(chance):
    """The same with a digit before the point and up to 45 behind it, as close as they allow."""
    low = np.float32(10 ** chance.uniform(-4, 1))
    exact = (Decimal(float(low)) + Decimal(float(np.nextafter(low, np.float32(20))))) / 2
    digits = chance.randint(12, 45)
    exact += chance.choice([-1, 0, 1]) * Decimal(10) ** -chance.randint(10, digits)
    return f"{chance.choice(['', '-'])}{exact:.{digits}f}"


WRITTEN = [
    lambda chance: repr(float(np.float32(chance.gauss(0, 1)))),
    lambda chance: repr(chance.gauss(0, 1)),
    lambda chance: repr(chance.gauss(0, 1) * 10 ** chance.randint(-45, 37)),
    lambda chance: str(chance.randint(-300, 300)),
    lambda chance: str(chance.randint(-(2**70), 2**70)),
    lambda chance: "%.*f" % (chance.randint(0, 40), chance.gauss(0, 100)),
    lambda chance: "%.*e" % (chance.randint(0, 40), chance.gauss(0, 1e3)),
    lambda chance: f"0.{'0' * chance.randint(0, 60)}{chance.randint(0, 10**18)}",
    lambda chance: f"{chance.randint(-9, 9)}E{chance.choice('+-')}0{chance.randint(0, 30)}",
    lambda chance: "%.*f" % (chance.randint(10, 32), chance.uniform(-1, 1)),
    middle,
    long_middle,
]


@needs_core
def test_numbers_are_read_as_by_json_and_numpy():
    """Two thousand of each kind, to the last bit, and with their signs."""
    chance = random.Random(7)
    for kind in WRITTEN:
        texts = [kind(chance) for _ in range(2_000)]
        array = read(f"[{','.join(texts)}]".encode())
        differ = array.view(np.uint32) != in_python(texts).view(np.uint32)
        assert not differ.any(), [text for text, wrong in zip(texts, differ) if wrong]


@needs_core
@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,3})?", fullmatch=True)
)
@settings(max_examples=500)
def test_any_number_is_read_as_by_json_or_left(text):
    """What is not finite as float32 is left to Python."""
    with np.errstate(all="ignore"):
        expected = in_python([text])
    for blanks in ("", " " * 40):  # a number with much text behind it is read in another way
        array = read(f"[{text}{blanks}]".encode())
        if np.isfinite(expected[0]):
            assert array.view(np.uint32) == expected.view(np.uint32)
        else:
            assert array is None


@needs_core
@pytest.mark.parametrize(
    "body",
    """[[01]] [[1.]] [[.5]] [[+1]] [[1,]] [[,1]] [[1] [[1]]] [[1][2]] [[1,,2]] [[-]] [[1e]] [[1e+]]
    [[NaN]] [[Infinity]] [[null]] [[true]] [["1"]] [[1],[2,3]] [[1,2],[3]] [[1],2] [1,[2]]
    [[1],[[2]]] [[1,2],[3]] [[1]]x x[[1]] [] [[]] [[],[]] [[1],[]] 1 {"a":[1]} [[1e39]] [[-1e999]]
    [[1]\xa0] [[\xd9\xa3]] [ [[1] [[[[[[[[[1]]]]]]]]] [1_0] [0x1] [1;2] [--1] [1-] [1e5.0] [-.5]
    [0.] [0.e1] [1.e1] [00]
    [0.12345678901234567.] [0.12345678901234567e] [0.123456789012345678-1] [0.123456789012345x]
    [01.2345678901234567] [-.12345678901234567] [--0.12345678901234567] [0.12345678901234567E+]
    [0,12345678901234567] [[0.12345678901234567][1]] [0.1234567890123456:1]""".split(),
)
def test_all_else_is_left_to_python(body):
    """Whole, with its last bytes missing, and with blanks behind it."""
    encoded = body.encode("latin-1")
    for end in range(len(encoded), -1, -1):
        for text in (encoded[:end], encoded[:end] + b" " * 40):
            array = read(text)
            assert array is None or array.tolist() == np.float32(json.loads(text)).tolist()


@needs_core
@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("[1]", (1,)),
        (" [ 1 , 2 ]\n", (2,)),
        ("[[1,2],[3,4]\t,\r\n[5,6]]", (3, 2)),
        ("[[[1],[2]]]", (1, 2, 1)),
        ("[[[[[[[[1,2]]]]]]]]", (1, 1, 1, 1, 1, 1, 1, 2)),
    ],
)
def test_nested_lists_give_an_array_of_their_shape(body, shape):
    """From bytes and from any other buffer."""
    for buffer in (body.encode(), memoryview(b"[" + body.encode())[1:], bytearray(body.encode())):
        array = read(buffer)
        assert array.shape == shape
        assert array.ravel().tolist() == list(range(1, array.size + 1))


@needs_core
def test_several_bodies_give_one_array():
    """If their inner lists have the same lengths."""
    numbers, lengths, inner = core.read_json([b"[[1,2]]", b"[[3,4],[5,6]]"], 100)
    assert np.frombuffer(numbers, np.float32).tolist() == [1, 2, 3, 4, 5, 6]
    assert (lengths, inner) == ([1, 2], (2,))
    assert core.read_json([b"[[1,2]]", b"[[3]]"], 100) is None
    assert core.read_json([b"[[1,2]]", b"[3]"], 100) is None
    assert core.read_json([b"[1]", b"[2, 3]"], 100)[1:] == ([1, 2], ())
    assert core.read_json([], 100) is None
    numbers, lengths, inner = core.read_csv([b"1,2\n", b"3,4\r\n5,6"], 100)
    assert np.frombuffer(numbers, np.float32).tolist() == [1, 2, 3, 4, 5, 6]
    assert (lengths, inner) == ([1, 2], (2,))
    assert core.read_csv([b"1,2\n", b"3"], 100) is None


@needs_core
@pytest.mark.parametrize("function", ["read_json", "read_csv"])
def test_the_numbers_take_no_more_than_the_limit(function):
    body = b"[1,2,3]" if function == "read_json" else b"1,2,3"
    assert read(body, function, 12) is not None
    assert read(body, function, 11) is None
    assert read(body, function, 0) is None
    assert read(body, function, -1) is None


@needs_core
@pytest.mark.parametrize("body", ["", "\n", "1,2\n\n3,4", "1,", ",1", "1\r2", "1 2", "1,2\r\r\n"])
def test_other_lines_are_left_to_numpy(body):
    assert read(body.encode(), "read_csv") is None


@needs_core
def test_lines_have_a_minus_zero():
    """And a list has none, where it is an integer."""
    assert np.signbit(read(b"-0,-0.0, -0 \t,0\r\n\n", "read_csv")).tolist() == [[1, 1, 1, 0]]
    assert np.signbit(read(b"[-0,-0.0,-0e0,0]")).tolist() == [0, 1, 1, 0]


def random_floats(count, seed):
    """Float32s of any bits, and plain ones."""
    chance = np.random.RandomState(seed)
    bits = chance.randint(0, 2**32, count, np.uint32).view(np.float32)
    powers = np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32)
    plain = [chance.randn(count), chance.randint(-(10**8), 10**8, count), chance.rand(count)]
    tens = [float(f"{digit}e{power}") for digit in (1, 3, 9.5) for power in range(-45, 38)]
    return np.concatenate([bits, powers, -powers, tens, *plain, [0, -0.0]]).astype(np.float32)


@needs_core
def test_json_is_written_as_by_python():
    """A quarter of a million numbers."""
    floats = random_floats(60_000, 1)
    written = core.write_json(floats, floats.shape, [floats.size])[0].decode()
    values = [value if np.isfinite(value) else None for value in floats.tolist()]
    assert written == json.dumps(values)


@needs_core
def test_csv_is_written_as_by_numpy():
    """A hundred thousand numbers."""
    floats = random_floats(25_000, 2)
    (written,) = core.write_csv(floats, floats.shape, [floats.size])
    assert written.decode().split("\r\n")[:-1] == list(map(str, floats))


@needs_core
@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 3), (4, 2, 3), (3, 1, 2, 2), (2, 1, 1, 1, 3)])
def test_each_body_gets_its_rows(shape):
    array = np.random.RandomState(0).randn(*shape).astype(np.float32)
    counts = [1] * (len(array) - 2) + [2]
    ends = np.cumsum(counts)
    parts = [array[end - count : end] for end, count in zip(ends, counts)]
    assert core.write_json(array, shape, counts) == [
        json.dumps(part.tolist()).encode() for part in parts
    ]
    assert core.write_csv(array, shape, counts) == [in_csv(part) for part in parts]


def in_csv(array):
    out = io.StringIO()
    csv.writer(out).writerows([list(np.ravel(row)) for row in array])
    return out.getvalue().encode()


@needs_core
@pytest.mark.parametrize(
    ("shape", "counts"),
    [
        ((2, 3), [1]),
        ((2, 3), [1, 2]),
        ((2, 3), [2, 0]),
        ((2, 3), [3, -1]),
        ((3, 3), [3]),
        ((1, 3), [1]),
        ((0, 3), []),
        ((2**62, 2**62), [1]),
        ((-2, -3), [1]),
        ((), []),
        ((2, 3, 1, 1, 1, 1, 1, 1, 1), [2]),
    ],
)
def test_shapes_that_are_not_the_array_s_are_refused(shape, counts):
    """Nothing is read beyond the array."""
    array = np.ones((2, 3), np.float32)
    assert core.write_json(array, shape, counts) is None
    assert core.write_csv(array, shape, counts) is None


@needs_core
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("[1]", 9),
        (["[1]"], 9),
        ([None], 9),
        (None, 9),
        ([b"[1]"], "9"),
        ([b"[1]"], 2**70),
        ([memoryview(b"[[11]]")[::2]], 9),
    ],
)
def test_wrong_arguments_of_readers_raise(arguments):
    with pytest.raises((TypeError, OverflowError, BufferError)):
        core.read_json(*arguments)


@needs_core
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (None, (1,), [1]),
        (np.ones(1, np.float32), [1], [1]),
        (np.ones(1, np.float32), ("1",), [1]),
        (np.ones(1, np.float32), (1,), ["1"]),
        (np.ones(1, np.float32), (1,), None),
        (np.ones(1, np.float32), (2**70,), [1]),
        (np.ones(1, np.float32), (1,), [2**70]),
        (np.ones((2, 2), np.float32)[:, 1], (2,), [2]),
    ],
)
def test_wrong_arguments_of_writers_raise(arguments):
    with pytest.raises((TypeError, OverflowError, BufferError, ValueError)):
        core.write_json(*arguments)


@needs_core
def test_only_plain_arrays_of_float32_are_written():
    """All others keep their way."""
    ones = np.ones((2, 2), np.float32)
    assert compiled.write_json(ones[:, ::2]) == b"[[1.0], [1.0]]"
    assert compiled.write_csv(ones.T) == b"1.0,1.0\r\n1.0,1.0\r\n"
    for other in (ones.astype(">f4"), ones.astype(float), ones[:0], np.float32(1), ones[0, 0]):
        assert compiled.write_json(other) is None
        assert compiled.write_csv(other) is None


# --- frames ----------------------------------------------------------------------------------

ASKED = b"a/b\n\n\n"
FRAME = b"\1\0\0\0" + b"\x0a\0\0\0" + b"\3\0\0\0" + b"\0\0\0\0" + b"id\n" + ASKED + b"x" + b"[1]"


@needs_core
def test_a_frame_of_requests():
    forms = {ASKED: (0, "form")}
    ids = bytearray(b"....")
    form, numbers, counts, inner = core.read_requests(FRAME, forms, 9, ids)
    assert (form, bytes(numbers), counts, inner) == ((0, "form"), b"\0\0\x80\x3f", [1], ())
    assert ids == b"id\0."
    assert core.read_requests(FRAME, {}, 9, None) is None
    assert core.read_requests(FRAME, {ASKED: None}, 9, None) is None
    assert core.read_requests(FRAME, {ASKED: (2,)}, 9, None) is None
    assert core.read_requests(FRAME, {ASKED: (-1,)}, 9, None) is None
    assert core.read_requests(FRAME, forms, 3, None) is None
    for end in range(len(FRAME)):
        assert core.read_requests(FRAME[:end], forms, 9, bytearray()) is None


@needs_core
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (None, {}, 9, None),
        (FRAME, [], 9, None),
        (FRAME, {ASKED: ("0",)}, 9, None),
        (FRAME, {ASKED: (0,)}, 9, b"read-only"),
        (FRAME, {ASKED: 0}, 9, None),
        (FRAME, {ASKED: ()}, 9, None),
        (FRAME, {}, "9", None),
    ],
)
def test_wrong_arguments_of_the_reader_of_frames_raise(arguments):
    with pytest.raises((TypeError, BufferError, SystemError, IndexError)):
        core.read_requests(*arguments)


@needs_core
def test_replies_in_a_frame():
    """Two of different lengths."""
    numbers = np.float32([1, 2, 3])
    frame = core.write_replies(numbers, (3, 1), [1, 2], 0, b"OK", 14, 3)
    records = b"\0\0\xc8\0\2\0\0\0\7\0\0\0" + b"\1\0\xc8\0\2\0\0\0\x0e\0\0\0"
    assert frame == b"\0\0\0" + records + b"OKOK" + b"[[1.0]]" + b"[[2.0], [3.0]]"
    assert core.write_replies(numbers, (3, 1), [1, 2], 0, b"OK", 13, 3) is None
    assert core.write_replies(numbers, (3, 1), [1, 2], 2, b"OK", 99, 3) is None
    assert core.write_replies(numbers, (3, 1), [1, 1], 0, b"OK", 99, 3) is None
    assert core.write_replies(numbers, (3, 1), [1, 3], 0, b"OK", 99, 3) is None
    assert core.write_replies(numbers, (3, 1), [3], 0, b"OK", 99, -1) is None
    assert core.write_replies(numbers, (3, 2), [3], 0, b"OK", 99, 0) is None
    assert core.write_replies(numbers, (3, 1), [3], 0, b"OK", -1, 0) is None
    assert (
        core.write_replies(numbers[:1].repeat(70_000), (70_000,), [1] * 70_000, 0, b"", 9, 0)
        is None
    )


@needs_core
@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (None, (1,), [1], 0, b"", 9, 0),
        (b"1234", [1], [1], 0, b"", 9, 0),
        (b"1234", (1,), None, 0, b"", 9, 0),
        (b"1234", (1,), ["1"], 0, b"", 9, 0),
        (b"1234", (1,), [1], 0, "OK", 9, 0),
    ],
)
def test_wrong_arguments_of_the_writer_of_frames_raise(arguments):
    with pytest.raises(TypeError):
        core.write_replies(*arguments)


@needs_core
def test_wrong_arguments_of_a_forward():
    """None of them reaches MXNet."""
    assert core.forward(1, 2, 3, 2, 1, b"1234") is None
    assert core.forward(1, 2, 3, 1, 0, b"1234") is None
    assert core.forward(1, 2, 3, 1, -1, b"1234") is None
    assert core.forward(1, 2, 3, 1, 2**62, b"1234") is None
    for arguments in ((), (1, 2, 3, 1, 1, None), ("1", 2, 3, 1, 1, b"1234")):
        with pytest.raises(TypeError):
            core.forward(*arguments)
    with pytest.raises(TypeError):
        core.use_mxnet(1, 2)
