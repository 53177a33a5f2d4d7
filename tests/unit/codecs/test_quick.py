"""codecs, the quick routes: they give what the slow ones give, bit for bit, or nothing."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import subprocess
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mms_handler
from mms_handler import codecs
from mms_handler.codecs import compiled, content_types, csv, jsonlines, parsers, parts
from mms_handler.codecs import json as json_codec
from mms_handler.errors import BadInput, HandlerError

JSON, CSV, LINES = "application/json", "text/csv", "application/jsonlines"
HAS_SIMDJSON = parsers.simdjson is not None  # not on Python 3.8


def bits(arrays):
    """An array, or a dict of them, in a form that can be compared; all NaNs are equal."""
    if arrays is None or isinstance(arrays, str):
        return arrays
    if isinstance(arrays, dict):
        return [(name, bits(array)) for name, array in arrays.items()]
    nan = np.isnan(arrays)
    return arrays.dtype, arrays.shape, np.where(nan, 0, arrays).tobytes(), nan.tobytes()


def slow(decode, body):
    """What json or NumPy's loadtxt makes of ``body``; None for an error."""
    try:
        return decode(codecs.text(body))
    except (ValueError, TypeError, RecursionError, OverflowError, BadInput):
        return None


def by_orjson(body):
    """json_codec.quick without pysimdjson, as for small bodies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_codec, "_MIN_BYTES", sys.maxsize)
        return json_codec.quick(body)


@contextlib.contextmanager
def in_small_parts():
    """Read each body as if it was large, in parts of a few bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "LARGE_BYTES", 1)
        patch.setattr(parts, "PART_BYTES", 5)
        yield


def assert_quick_as_slow(body, content_type):
    """The whole codec gives the same values, or the same error, without its quick route."""

    def answer():
        try:
            return bits(codecs.decode(body, content_type))
        except HandlerError as exc:
            return f"{type(exc).__name__}: {exc}"

    with pytest.MonkeyPatch.context() as patch:
        codec = content_types._codecs[JSON]
        patch.setitem(content_types._codecs, JSON, codec._replace(quick=None))
        expected = answer()
    assert answer() == expected


# --- bodies ---

EDGES = """0 -0 0.0 -0.0 0e0 -0E+5 1e-0 5e-324 2.4703282292062327e-324 -1e-400 1e-45 7e-46
    7.0064923216240862e-46 1.1754943e-38 3.4028235e38 3.4028235677973366e38 1e39
    1.7976931348623157e308 1e400 -1e400
    9007199254740991 9007199254740992 9007199254740993 -9007199254740993
    9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809
    18446744073709551615 18446744073709551616 1.0000000596046448 1.00000005960464477539062500001
    16777217 123456789012345678 0.1 1E5 1e+5 1e-5""".split()
OTHERS = """null true false NaN Infinity -Infinity "x" "1" {} {"a":1} [] [1] 01 +1 .5 1. 1e - -- 0x1
    1_0 nan inf # 1;2 \u0663 \u00e9 \u00a0""".split()

any_number = st.one_of(
    st.sampled_from(EDGES),
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
)
leaves = st.sampled_from(
    [
        st.integers(0, 255).map(str),
        st.integers(-(2**64), 2**64).map(str),
        st.floats(-2, 2).map(repr),
        st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
        any_number,
        st.one_of(any_number, st.sampled_from(OTHERS), st.just("")),
        st.sampled_from(["true", "2", "0.5", "-0"]),
    ]
)
blanks = st.sampled_from(["", "", "", " ", "\t", "\n", "\r\n", " \r ", "\x0c", "\u00a0", "\x00"])
keys = st.sampled_from(['"a"', '"b"', '""', '"["', '"a\\u0000"', '"\\ud800"', '"a/b"', '"\u00e9"'])


@st.composite
def nested(draw):
    """JSON of nested lists, mostly even and of one kind of number."""
    leaf, shape = draw(leaves), draw(st.lists(st.integers(1, 3), min_size=0, max_size=4))
    slips = draw(st.sampled_from([[0], [0], [0] * 8 + [-1, 1]]))
    blank = draw(st.sampled_from([st.just(""), st.just(" "), blanks]))

    def text(shape):
        if not shape:
            return draw(leaf)
        items = [text(shape[1:]) for _ in range(max(0, shape[0] + draw(st.sampled_from(slips))))]
        return "[" + ",".join(draw(blank) + item + draw(blank) for item in items) + "]"

    return text(shape)


@st.composite
def spoilt(draw, texts):
    """Bytes of a text, sometimes with an insertion, a cut or byte order marks."""
    body = draw(texts).encode()
    change = draw(st.sampled_from(["", "", "", "insert", "cut", "mark"]))
    at = draw(st.integers(0, len(body)))
    if change == "insert":
        pieces = [b"[", b"]", b",", b"-", b"0", b".", b"e", b'"', b"{", b"}", b"\r", b"\n", b"x"]
        body = body[:at] + draw(st.sampled_from([*pieces, b"\x00", b"\xff", b"\xc3"])) + body[at:]
    if change == "cut":
        body = body[:at] + body[at + 1 :]
    return b"\xef\xbb\xbf" * draw(st.sampled_from([1, 2])) + body if change == "mark" else body


@st.composite
def objects(draw):
    """JSON of an object of nested lists."""
    members = draw(st.lists(st.tuples(keys, nested()), max_size=3))
    return "{" + ",".join(f"{key}: {value}" for key, value in members) + "}"


@st.composite
def tables(draw):
    """CSV, mostly even lines of one kind of number."""
    leaf, columns = draw(leaves), draw(st.integers(1, 3))
    slips = draw(st.sampled_from([[0], [0] * 8 + [-1, 1]]))
    commas = draw(st.sampled_from([[","], [",", ", ", " ,", ",\t", ",,", ";"]]))
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\n", "\r\n", "\r", "\n\n", " \n", "\n "]]))
    text = ""
    for _ in range(draw(st.integers(0, 4))):
        cells = [draw(leaf) for _ in range(columns + draw(st.sampled_from(slips)))]
        text += draw(st.sampled_from(commas)).join(cells) + draw(st.sampled_from(ends))
    return text if draw(st.booleans()) else text.rstrip()


@given(spoilt(nested() | objects()))
@settings(max_examples=300)
def test_json_is_read_as_by_json(body):
    """Each quick route gives the slow route's array, or nothing."""
    expected = bits(slow(json_codec.decode, body))
    if not body.startswith(b"\xef\xbb\xbf"):  # codecs.decode keeps such bodies from them
        assert bits(parsers.arrays(body)) in (None, expected)
        assert bits(by_orjson(body)) in (None, expected)
        with in_small_parts():
            assert bits(json_codec.quick(body)) in (None, expected)
            assert bits(slow(json_codec.decode, body)) == expected


def by_numpy(text):
    """What NumPy reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an empty text
        return np.loadtxt(
            io.StringIO(text), np.float32, comments=None, delimiter=",", ndmin=2, quotechar='"'
        )


@given(spoilt(tables()))
@settings(max_examples=200)
def test_csv_is_read_as_by_numpy(body):
    """Whole and in parts, from bytes and from text."""
    expected = bits(slow(by_numpy, body))
    assert bits(slow(csv.decode, body)) == expected
    with in_small_parts():
        assert bits(slow(csv.decode, body)) == expected
        if not body.startswith(b"\xef\xbb\xbf"):
            assert bits(csv.quick(body)) == expected


@given(spoilt(st.lists(nested() | objects(), min_size=1, max_size=3).map("\n".join)))
@settings(max_examples=80)
def test_json_lines_are_read_as_by_json(body):
    """Values and errors are the same without orjson, and values in parts."""

    def answer():
        try:
            return bits(jsonlines.decode(codecs.text(body)))
        except (ValueError, TypeError, RecursionError, OverflowError, BadInput) as exc:
            return str(exc)

    result = answer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsers, "orjson", None)
        assert answer() == result
    with in_small_parts():
        assert bits(slow(jsonlines.decode, body)) == (None if isinstance(result, str) else result)


@given(spoilt(nested() | objects()), st.sampled_from(["", ";charset=utf-8", "; charset=UTF8"]))
@settings(max_examples=100)
def test_the_whole_codec_answers_as_the_slow_route(body, charset):
    """Values and error messages are the same on both routes."""
    assert_quick_as_slow(body, JSON + charset)


# --- shapes ---


def all_nested(depth):
    """The number 1, and every nesting of lists of up to two items around it."""
    if depth == 0:
        return [1]
    inner = all_nested(depth - 1)
    return [1, *(list(items) for n in range(3) for items in itertools.product(inner, repeat=n))]


def shape_of(value):
    """The shape of nested lists, or None for ragged ones."""
    if not isinstance(value, list):
        return ()
    shapes = {shape_of(item) for item in value}
    return (len(value), *shapes.pop()) if len(shapes) == 1 and None not in shapes else None


@pytest.mark.parametrize("wrap", ["{}", '{{"a": {}}}', '{{"a": [[1, 1]], "b": {}}}'])
def test_no_ragged_list_is_taken_and_every_even_one(wrap):
    """All 508 trees of three levels cover every way of being ragged."""
    for value in all_nested(3):
        array = parsers.arrays(wrap.format(json.dumps(value)).encode())
        array = list(array.values())[-1] if isinstance(array, dict) else array
        shape = shape_of(value)
        even = shape and 0 not in shape and HAS_SIMDJSON  # a number alone is not a list
        assert (array.shape if array is not None else None) == (shape if even else None)
        with in_small_parts():
            array = parts.arrays(wrap.format(json.dumps(value)).encode())
        array = list(array.values())[-1] if isinstance(array, dict) else array
        even = shape and 0 not in shape
        assert (array.shape if array is not None else None) == (shape if even else None)


def test_every_short_text_of_brackets_and_commas():
    """In parts it is the array that json reads, or none."""
    for length in range(1, 8):
        for letters in itertools.product("[],1", repeat=length):
            text = "".join(letters)
            try:
                shape = shape_of(json.loads(text))
            except ValueError:
                shape = None
            array = parts.arrays(text.encode())
            assert (array.shape if array is not None else None) == (
                shape if shape and 0 not in shape else None
            ), text


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("[[1, 2], [3], [4, 5, 6]]", id="as many as 3x2"),
        pytest.param("[[1, 2], [3, [4]]]", id="as many as 2x2, one deeper"),
        pytest.param("[[1], [[2]]]", id="rows of one length, of two depths"),
        pytest.param("[[[1, 2]], [[3], [4]]]", id="as many as 2x2x1"),
        pytest.param("[[1, 2], 3, 4]", id="numbers beside a list"),
        pytest.param("[1, 2, [3, 4]]", id="a list beside numbers"),
        pytest.param("[[1, 2], []]", id="an empty list beside another"),
        pytest.param('[[1, 2], "ab"]', id="a text as long as its siblings"),
        pytest.param('{"[": [[1, 2]], "a": [1, [2]]}', id="a bracket in a key"),
        pytest.param("[" * 33 + "1" + "]" * 33, id="33 dimensions"),
        pytest.param("[1, null]", id="null"),
        pytest.param("[1, true]", id="a truth"),
        pytest.param("[1, 9007199254740993]", id="an integer that is no double"),
        pytest.param("[1, 18446744073709551616]", id="an integer of 65 bits"),
        pytest.param("[1e400]", id="a number beyond doubles"),
        pytest.param("[NaN]", id="NaN"),
        pytest.param('{"a": [1], "a": [2]}', id="a key twice"),
        pytest.param('{"a": [1], "a\\u0000": [2]}', id="a key with NUL"),
        pytest.param('{"a": 1}', id="an object of a number"),
        pytest.param("1", id="a number"),
        pytest.param("[1] [2]", id="more behind"),
    ],
)
def test_pysimdjson_leaves_these_to_the_slow_route(body):
    """It would flatten them, or has no exact double for them."""
    assert parsers.arrays(body.encode()) is None


@pytest.mark.parametrize(
    ("quick", "body", "expected"),
    [
        (json_codec.quick, "[[0.5, 1e0], [-2, 300]]", [[0.5, 1], [-2, 300]]),
        (json_codec.quick, " [ 9007199254740991 ]\n", [9007199254740991]),
        (json_codec.quick, "[0.1, null]", [0.1, np.nan]),
        (json_codec.quick, "[9007199254740993, 1]", [9007199254740992, 1]),
    ],
)
def test_the_quick_routes_take(quick, body, expected):
    """These bodies are read without the slow route, at any size."""
    for padding in (b"", b" " * 1000):
        array = quick(padding + body.encode())
        assert bits(array) == bits(np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("0.5,1e0\r\n-2,300\r\n", [[0.5, 1], [-2, 300]]),
        ("1\n2\n\n", [[1], [2]]),
        (" 1 , 2 ", [[1, 2]]),
        ("0,-0.0,1e-05\n", [[0, -0.0, 1e-5]]),
        ("9007199254740991,0.1", [[9007199254740991, 0.1]]),
        ("9007199254740991,-9007199254740991", [[9007199254740991, -9007199254740991]]),
    ],
)
def test_pysimdjson_takes_csv(body, expected, monkeypatch):
    """Lines of numbers that are spelled as in JSON."""
    if HAS_SIMDJSON:
        monkeypatch.setattr(csv, "_by_numpy", None)
    assert bits(csv.quick(body.encode())) == bits(np.array(expected, np.float32))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("1,2],[3,4\n", id="brackets that would make two lines"),
        pytest.param("[1],[2]\n", id="brackets of its own"),
        pytest.param("-0,1\n", id="-0, which JSON reads as 0"),
        pytest.param("1\r,2\n", id="a lone carriage return"),
        pytest.param("1,2\r\r\n", id="two carriage returns"),
        pytest.param("1,2\n\n3,4\n", id="an empty line"),
        pytest.param("1,nan\n", id="nan"),
        pytest.param('"1",2\n', id="quotes"),
        pytest.param("true,1\n", id="a truth"),
        pytest.param("\n", id="no lines"),
    ],
)
def test_csv_unlike_json_is_left_to_numpy(body, monkeypatch):
    """It reads the lines, or refuses them."""
    monkeypatch.setattr(compiled, "core", None)  # the core knows a minus zero
    left = []
    monkeypatch.setattr(csv, "_by_numpy", lambda lines: left.append(lines) or np.zeros((1, 1)))
    csv.quick(body.encode())
    assert left == [body.encode()]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("1,2,3,4,5,6,nan", [[1, 2, 3, 4, 5, 6, np.nan]], id="a long line"),
        pytest.param("1,2\n3,4\n5,nan\n7,8\n", [[1, 2], [3, 4], [5, np.nan], [7, 8]], id="lines"),
        pytest.param('"1",2\n"3\n",4\n5,"6"', [[1, 2], [3, 4], [5, 6]], id="quoted line ends"),
        pytest.param("1\n\n\n\n\n\n\n\n2", [[1], [2]], id="blank lines"),
        pytest.param("1,2,3,4,5,6,nan,", None, id="a long line that ends with a comma"),
        pytest.param('"123456,7,8', None, id="a long line of one quoted value"),
        pytest.param("1,2,3,4,5,,nan", None, id="a long line without a value"),
        pytest.param("1,2\n3,4\n5,6,7\n", None, id="one line is longer"),
    ],
)
def test_csv_in_parts(body, expected):
    """Parts end where lines end; only a long line is divided."""
    with in_small_parts():
        array = csv.quick(body.encode())
    assert bits(array) == (None if expected is None else bits(np.array(expected, np.float32)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("[1, null, NaN, -Infinity]", [1, np.nan, np.nan, -np.inf], id="no numbers"),
        pytest.param("[1, 9007199254740993]", [1, 9007199254740992], id="no double"),
        pytest.param("[" * 32 + "null" + "]" * 32, np.full((1,) * 32, np.nan), id="32 dimensions"),
        pytest.param(" [\n[1 , 2] ,\t[3 , 4 ]\r\n]", [[1, 2], [3, 4]], id="blanks"),
        pytest.param(
            '{"a, [": [1],\n"\\u00e9\\"" : [[2, null]] }',
            {"a, [": [1], 'é"': [[2, np.nan]]},
            id="names",
        ),
        pytest.param("[[]1,[2]]", None, id="a number behind its list"),
        pytest.param("[1[],[2]]", None, id="a number in front of its list"),
        pytest.param("[[1]2,[3]]", None, id="a number between lists"),
        pytest.param("[[1] [2],[3]]", None, id="no comma"),
        pytest.param("[1 2,3]", None, id="no comma between numbers"),
        pytest.param("[1,2,3,4,5,]", None, id="a comma at the end"),
        pytest.param("[,1]", None, id="a comma at the start"),
        pytest.param("[[1,2],[3],[4,5,6]]", None, id="ragged, of the same length"),
        pytest.param("[[1],2]", None, id="a number beside a list"),
        pytest.param("[1],[2]", None, id="two lists"),
        pytest.param('["1"]', None, id="a text"),
        pytest.param("[{}]", None, id="an object"),
        pytest.param("[{1:2}]", None, id="an object without texts"),
        pytest.param("[[1, 2}]", None, id="another bracket"),
        pytest.param("[[1]", None, id="not closed"),
        pytest.param("[" * 33 + "1" + "]" * 33, None, id="33 dimensions"),
        pytest.param("5", None, id="a number alone"),
        pytest.param('{"a": [1]', None, id="an object that is not closed"),
        pytest.param('{"a": [1]x', None, id="an object that ends in something else"),
        pytest.param('{"a": [1],}', None, id="a comma behind the last name"),
        pytest.param('{"a": [1] "b": [2]}', None, id="no comma between names"),
        pytest.param('{"a": [1], "a": [2]}', None, id="a name twice"),
        pytest.param('{"a": [1], b: [2]}', None, id="a name without quotes"),
        pytest.param('{"a": 1}', None, id="a number by name"),
        pytest.param("{}", None, id="no names"),
    ],
)
def test_json_in_parts(body, expected):
    """Every array of numbers is read; what is not one, or not certainly, is left."""
    with in_small_parts():
        result = parts.arrays(body.encode())
    if isinstance(expected, dict):
        expected = {name: np.array(array, np.float32) for name, array in expected.items()}
    elif expected is not None:
        expected = np.array(expected, np.float32)
    assert bits(result) == bits(expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("1\n2\n3\n[4]\n5\n", "line 4 has shape (1,), but in line 1 it is ()"),
        ('[1]\n[2]\n[3]\n[4]\n["x"]\n', 'line 5: "x" at [0] is not a number'),
        ('{"a": 1}\n{"a": 2}\n{"b": 3}\n', "line 3 differs from line 1 in the keys a, b"),
        ('{"a": 1}\n{"a": 2}\n3\n', "line 3 is not an object, but other lines are"),
        ('1\n2\n3\n{"a": 2}\n', "line 1 is not an object, but other lines are"),
        ('[1]\n[2]\n[3]\n{"a": [2]}\n', "line 1 is not an object, but other lines are"),
        ('{"a": [1]}\n{"a": [2]}\n[3]\n', "line 3 is not an object, but other lines are"),
        (
            '{"a": [1]}\n{"a": [2]}\n{"a": [3], "b": [4]}\n',
            "line 3 differs from line 1 in the keys b",
        ),
        (
            '{"a": 1}\n{"a": 2}\n{"a": [3]}\n',
            '"a" in line 3 has shape (1,), but in line 1 it is ()',
        ),
        ("1\n2\n3\n\n5\n", "line 4 is blank, but more lines follow"),
        ("1\n2\n3\n4 5\n6\n", "line 4, column 3: Extra data"),
    ],
)
def test_json_lines_in_parts(body, message):
    """Messages count the lines of the whole body."""
    with in_small_parts(), pytest.raises(ValueError, match="^" + re.escape(message)):
        jsonlines.decode(body)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        jsonlines.decode(body)


@pytest.mark.skipif(not HAS_SIMDJSON, reason="pysimdjson")
@pytest.mark.parametrize(
    ("bodies", "expected"),
    [
        pytest.param(["[[1,2]]", "[[3,4],[5,6.5]]"], ([1, 2, 3, 4, 5, 6.5], [1, 2]), id="rows"),
        pytest.param([" [ [ 1 ] ] "], ([1], [1]), id="one value"),
        pytest.param(["[[1,2]]", "[[3]]"], None, id="rows of two lengths"),
        pytest.param(["[[1,2],[3],[4,5,6]]"], None, id="uneven rows"),
        pytest.param(["[1,2]"], None, id="no rows"),
        pytest.param(["[[[1]]]"], None, id="rows of lists"),
        pytest.param(["[]"], None, id="nothing"),
        pytest.param(["[[]]"], None, id="an empty row"),
        pytest.param(['{"a":[[1]]}'], None, id="names"),
        pytest.param(["[[9007199254740993]]"], None, id="no double"),
        pytest.param(["[[null]]"], None, id="no number"),
        pytest.param(["[[1]"], None, id="broken"),
    ],
)
def test_the_rows_of_several_bodies(bodies, expected):
    """Usual bodies are read by the fast parser; it refuses what json reads in another way."""
    read = parsers.rows([body.encode() for body in bodies])
    if expected is None:
        assert read is None
    else:
        array, counts = read
        assert (array.ravel().tolist(), counts, array.dtype) == (*expected, np.float32)
        assert len(array) == sum(counts)


def test_large_bodies_without_the_parsers(monkeypatch):
    """json reads the parts."""
    monkeypatch.setattr(parsers, "simdjson", None)
    monkeypatch.setattr(parsers, "orjson", None)
    with in_small_parts():
        assert parts.arrays(b"[[1, 2.5], [NaN, null]]").tolist()[0] == [1, 2.5]
        assert parts.arrays(b"[[1, 2.5], [3, x]]") is None


def test_a_large_object_of_many_names():
    """It has the limit that a small one has."""
    names = {f"k{number}": [0.5] * 100 for number in range(256)}
    assert len(codecs.decode(json.dumps(names).encode(), JSON)) == 256
    assert len(parts.arrays(json.dumps(names).encode())) == 256
    body = json.dumps({**names, "one more": [0.5]}).encode()
    assert len(body) > parts.LARGE_BYTES
    assert refusal(body).endswith("the object has 257 names; the limit is 256")


def test_a_large_text_of_lists_is_refused_without_making_them():
    """Python's lists would take sixty bytes for each of the body's; small ones name the place."""
    body = b"[" + b"[0]," * 20 + b"[0, 0]]"
    place = "the list at [20] has 2 items, its siblings have 1"
    assert refusal(body) == f"not valid application/json: {place}"
    body = b"[" + b"[0]," * 250_000 + b"[0, 0]]"
    tracemalloc.start()
    message = refusal(body)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message == (
        "not valid application/json: not an array of numbers; it has too many lists to say where"
    )
    assert peak_bytes < 12 * len(body)


def refusal(body):
    with pytest.raises(BadInput) as caught:
        codecs.decode(body, JSON)
    return str(caught.value)


def test_minus_zero_keeps_its_sign_in_csv():
    """NumPy reads it so; in JSON it is the integer 0."""
    assert np.signbit(codecs.decode(b"-0,1\n", CSV)).tolist() == [[True, False]]
    assert np.signbit(codecs.decode(b"[-0, 1]", JSON)).tolist() == [False, False]


# --- text ---


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param("[1, 2]".encode("utf-16"), JSON + ";charset=utf-16", id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf[1, 2]", JSON, id="a byte order mark"),
        pytest.param("[1, 2]", JSON + ";charset=utf-16", id="str, whatever its bytes were in"),
        pytest.param(b"[1, 2]\xa0", JSON + ";charset=latin-1", id="not valid, in Latin-1"),
        pytest.param("\ufeff[1, 2]", JSON, id="str with a byte order mark"),
        pytest.param("\ufeff[1, 2]" + " " * 1000, JSON, id="long str with a byte order mark"),
        pytest.param(b'{"\xc3\xa9": [1]}', JSON + ";charset=latin-1", id="UTF-8 called Latin-1"),
        pytest.param(b"[1, 2]", JSON + ";charset=rot13", id="an unknown charset"),
        pytest.param('{"\ud800": [1]}', JSON, id="str with half a character"),
        pytest.param(b"[1, 2]\xff", JSON, id="not UTF-8"),
    ],
)
def test_a_charset_counts_on_every_route(body, content_type):
    """The quick routes read only UTF-8; other charsets give the same values and errors."""
    assert_quick_as_slow(body, content_type)


# --- the parser ---


def test_threads_do_not_share_a_parser():
    """Each has its own values, however they alternate."""
    failed = []

    def read(number):
        body = json.dumps([[number] * 300] * 2).encode()
        for _ in range(200):
            if not (codecs.decode(body, JSON) == number).all():
                failed.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_an_array_outlives_the_next_body(monkeypatch):
    """The next body does not overwrite it, whether the parser is reused or not."""
    for limit in (0, 2**23):
        monkeypatch.setattr(parsers, "_REUSE_BYTES", limit)
        first = codecs.decode(json.dumps([0.5] * 500).encode(), JSON)
        codecs.decode(json.dumps([1.5] * 500).encode(), JSON)
        assert (first == 0.5).all()


@pytest.mark.skipif(not HAS_SIMDJSON, reason="pysimdjson has no wheel for this Python")
def test_a_parser_is_made_only_for_very_large_bodies(monkeypatch):
    """It keeps twelve times its largest body; making it takes longer than a small body."""
    largest = b"[[9007199254740991, -9007199254740991]" + b" " * 100_000 + b"]"
    with monkeypatch.context() as patch:
        patch.setattr(parsers.simdjson, "Parser", lambda: pytest.fail("made for this body"))
        assert parsers.arrays(largest).shape == (1, 2)
    monkeypatch.setattr(parsers, "_thread_parser", None)
    assert parsers.arrays(b"[1" + b" " * 2**23 + b"]").tolist() == [1]


@pytest.mark.skipif(not HAS_SIMDJSON, reason="pysimdjson has no wheel for this Python")
def test_absolute_values_are_made_of_few_numbers(monkeypatch):
    """Those of many would take as much memory as the numbers."""
    made = []
    absolute = np.abs
    monkeypatch.setattr(parsers.np, "abs", lambda array: made.append(array.size) or absolute(array))
    for size in (60_000, 70_000):
        assert parsers.arrays(b"[" + b"-1," * (size - 1) + b"1]").size == size
    assert made == [60_000]


def test_numbers_are_read_by_the_fastest_parser_there_is(monkeypatch):
    """By pysimdjson, else orjson; what they cannot read is left to json."""
    monkeypatch.setattr(parsers, "loads", lambda text: [f"json: {text}"])
    if HAS_SIMDJSON:
        with monkeypatch.context() as patch:
            patch.setattr(parsers, "orjson", None)
            assert parsers.numbers_between_commas(b"1, 2.5").tolist() == [1, 2.5]
    monkeypatch.setattr(parsers, "simdjson", None)
    assert parsers.numbers_between_commas(b"1, null")[0] == 1
    with pytest.raises(ValueError, match="json: .NaN, 1."):
        parsers.numbers_between_commas(b"NaN, 1")


# --- without the parsers ---

CHILD = """
import json, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split()))  # None: importing it is an ImportError
import numpy as np
from mms_handler import codecs
from mms_handler.codecs import parsers

def read(content_type, body):
    try:
        array = codecs.decode(body.encode(), content_type)
    except codecs.content_types.BadInput as exc:
        return str(exc)
    return [array.shape, array.tobytes().hex()]

task = json.load(sys.stdin)
array = np.array(task["array"], np.float32)
json.dump({
    "installed": [name for name in ("simdjson", "orjson") if getattr(parsers, name)],
    "read": [read(*body) for body in task["bodies"]],
    "written": [codecs.encode(array, name, name)[0].decode() for name in task["types"]],
}, sys.stdout)
"""


def child(hidden):
    """What a Python that cannot import ``hidden`` reads and writes."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, hidden],
        input=json.dumps({"bodies": BODIES, "array": ARRAY, "types": [JSON, CSV, LINES]}),
        cwd=Path(mms_handler.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


MANY = ", ".join(["0.5"] * 200)
BODIES = [
    (JSON, "[[1, 2], [3, 4.5]]"),
    (JSON, f"[[{MANY}], [{MANY}]]"),
    (JSON, f"[[{MANY}], [0.5]]"),
    (JSON, f"[{MANY}, null]"),
    (JSON, f"[{MANY}"),
    (CSV, "1,2\n3,4.5\n"),
    (CSV, "1,2\n3\n"),
    (CSV, MANY + "\n"),
    (LINES, "[1, 2]\n[3, 4.5]\n"),
    (LINES, "[1, 2]\n[3]\n"),
]
ARRAY = [[0.1, 1e-05], [1e-08, 2.0]] * 20
ONE_TO_4 = [[2, 2], np.array([1, 2, 3, 4.5], np.float32).tobytes().hex()]


@pytest.mark.parametrize(
    ("hidden", "installed"),
    [
        ("", {"simdjson", "orjson"}),
        ("simdjson", {"orjson"}),
        ("csimdjson", {"orjson"}),  # its compiled half
        ("orjson", {"simdjson"}),
        ("simdjson orjson", set()),
    ],
)
def test_every_route_reads_and_writes_the_same(hidden, installed):
    """Without pysimdjson, orjson or both, only the speed differs."""
    report = child(hidden)
    assert set(report["installed"]) == (installed if HAS_SIMDJSON else installed - {"simdjson"})
    assert report["read"] == [
        ONE_TO_4,
        [[2, 200], "0000003f" * 400],
        "not valid application/json: the list at [1] has 1 item, its siblings have 200",
        [[201], "0000003f" * 200 + "0000c07f"],
        "not valid application/json: Expecting ',' delimiter: line 1 column 1000 (char 999)",
        ONE_TO_4,
        "not valid text/csv: line 2 has 1 value, line 1 has 2",
        [[1, 200], "0000003f" * 200],
        ONE_TO_4,
        "not valid application/jsonlines: line 2 has shape (1,), but in line 1 it is (2,)",
    ]
    in_json = [
        "[0.10000000149011612, 9.999999747378752e-06]",
        "[9.99999993922529e-09, 2.0]",
    ] * 20
    assert report["written"] == [
        "[" + ", ".join(in_json) + "]",
        "0.1,1e-05\r\n1e-08,2.0\r\n" * 20,
        "\n".join(in_json) + "\n",
    ]


# --- digits ---

FLOATS = st.one_of(
    st.floats(width=32),
    st.sampled_from(
        [0.0, -0.0, 1e-4, 1e-5, 1e-6, 1e-9, 1e-10, 1e7, 4.1683547e13, 1e15, 1e16, 3e38]
    ),
    st.floats(0, 1).map(lambda number: number**8),  # mostly small, as probabilities are
)


@given(st.lists(FLOATS, min_size=2, max_size=60), st.sampled_from(["<f4", ">f4", "<f8"]))
@settings(max_examples=150)
def test_many_floats_have_the_digits_of_few(values, dtype):
    """JSON is as Python writes doubles, with null for what is not finite; CSV as NumPy writes."""
    array = np.array(values * 20).astype(dtype).reshape(-1, len(values))
    doubles = [[x if np.isfinite(x) else None for x in row] for row in array.tolist()]
    assert codecs.encode(array, JSON, JSON)[0] == json.dumps(doubles).encode()
    lines = "".join(json.dumps(row) + "\n" for row in doubles)
    assert codecs.encode(array, LINES, JSON)[0] == lines.encode()
    rows = "".join(",".join(map(str, row)) + "\r\n" for row in array)
    assert codecs.encode(array, CSV, JSON)[0] == rows.encode()


@pytest.mark.parametrize("content_type", [JSON, CSV, LINES])
@pytest.mark.parametrize("shape", [(64,), (8, 8), (64, 1), (4, 4, 4), (1, 64), (2, 4, 2, 4)])
def test_many_rows_are_written_as_one_by_one(content_type, shape):
    """Brackets, commas and line ends do not depend on the route or the memory layout."""
    array = np.arange(64, dtype=np.float32).reshape(shape) / 8
    expected = codecs.encode(
        array.astype(np.float16), content_type, JSON
    )  # a type that orjson does not write
    assert codecs.encode(array, content_type, JSON) == expected
    assert codecs.encode(np.asfortranarray(array), content_type, JSON) == expected


def test_several_outputs_are_written_as_one_by_one():
    """Outputs may be large or small, named or not."""
    large, small = np.full((2, 40), 0.5, np.float32), np.array([1e-7], np.float32)
    row = ", ".join(["0.5"] * 40)
    in_json = f"[[{row}], [{row}]]"
    line = ",".join(["0.5"] * 80)
    assert codecs.encode([large, small], JSON, JSON)[0] == (
        f"[{in_json}, [1.0000000116860974e-07]]".encode()
    )
    assert codecs.encode({"a": large, 'b"': small}, JSON, JSON)[0] == (
        f'{{"a": {in_json}, "b\\"": [1.0000000116860974e-07]}}'.encode()
    )
    assert codecs.encode([large, small], CSV, JSON)[0] == f"{line}\r\n1e-07\r\n".encode()


def test_a_masked_array_is_written_with_its_mask():
    """Masked values are None in NumPy's list, and so null."""
    array = np.ma.masked_equal(np.arange(40.0), 1)
    assert codecs.encode(array, JSON, JSON)[0].startswith(b"[0.0, null, 2.0")


def test_a_name_of_many_digits():
    """It is no integer: the slow route reads it, too, as with NaN beside it."""
    name = "9" * 1_001
    assert_quick_as_slow(f'{{"{name}": [1]}}'.encode(), JSON)
    arrays = codecs.decode(f'{{"{name}": [1, NaN]}}'.encode(), JSON)
    assert (list(arrays), arrays[name][0]) == ([name], 1)
