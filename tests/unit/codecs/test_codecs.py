"""codecs: exact bytes in and out, refused bodies, and which type Accept gets."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import struct

import numpy as np
import pytest

from mms_handler import codecs, media
from mms_handler.codecs import content_types, together
from mms_handler.errors import BadInput, NotAcceptable, ScriptError, UnsupportedType

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
TYPES = [
    *(JSON, CSV, NPY, "application/x-npz"),
    *("application/jsonlines", "application/x-jsonlines", "application/jsonl"),
    "application/x-ndjson",
    "application/x-recordio-protobuf",
]


def npy(descr="<f4", shape="(2,)", data=b"", *, header=None, version=(1, 0)):
    """An NPY body with any header, valid or not."""
    header = header or f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header.encode("latin-1") + data


ONE_TWO = b"\x00\x00\x80?\x00\x00\x00@"  # 1.0 and 2.0, little-endian float32


# --- decode ---


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        pytest.param(JSON, b"[[1, 2], [3, 4.5]]", [[1, 2], [3, 4.5]], id="JSON rows"),
        pytest.param(JSON, b"5", 5, id="a JSON number alone"),
        pytest.param(JSON, b"\xef\xbb\xbf[1]", [1], id="JSON with a byte order mark"),
        pytest.param(JSON, b"[1, null, NaN]", [1, np.nan, np.nan], id="JSON null is NaN"),
        pytest.param(JSON, b"[[[1]], [[2]]]", [[[1]], [[2]]], id="JSON of three dimensions"),
        pytest.param(JSON, b"[18446744073709551616, 1]", [2.0**64, 1], id="JSON beyond 64 bits"),
        pytest.param(JSON, "[1, 2]", [1, 2], id="JSON that is text already"),
        pytest.param(JSON, b"[Infinity, -Infinity]", [np.inf, -np.inf], id="JSON infinities"),
        pytest.param(JSON, b"null", np.nan, id="JSON null alone"),
        pytest.param(JSON, b"[1e39, -1e400]", [np.inf, -np.inf], id="JSON beyond float32"),
        pytest.param(JSON, b"[true, 0.5]", [1, 0.5], id="JSON truth"),
        pytest.param(
            "application/json; charset=latin-1", b"[1]\x20", [1], id="JSON of another charset"
        ),
        pytest.param(
            'text/csv; header=absent; charset="UTF-16"',
            "1,2\n".encode("utf-16"),
            [[1, 2]],
            id="CSV in UTF-16",
        ),
        pytest.param(
            "text/csv;charset=windows-1252", b'"1",2\n', [[1, 2]], id="CSV in Windows' charset"
        ),
        pytest.param("Application/JSON ; charset=utf-8", b"[1]", [1], id="type with parameters"),
        pytest.param(CSV, b"1,2\n3,4\n", [[1, 2], [3, 4]], id="CSV lines"),
        pytest.param(CSV, b"1,2\r\n3,4\r\n", [[1, 2], [3, 4]], id="CSV with CRLF"),
        pytest.param(CSV, b"1,2", [[1, 2]], id="one CSV line without an end"),
        pytest.param(CSV, b"1\n2\n", [[1], [2]], id="one CSV column"),
        pytest.param(CSV, b"7", [[7]], id="one CSV value"),
        pytest.param(CSV, b'"1.5"," 2 "\n', [[1.5, 2]], id="quoted CSV values"),
        pytest.param(CSV, b"\xef\xbb\xbf1,2\n", [[1, 2]], id="CSV with a byte order mark"),
        pytest.param(CSV, b"nan,-inf\n", [[np.nan, -np.inf]], id="CSV NaN and infinity"),
        pytest.param(CSV, b"1,2\n\n3,4\n\n", [[1, 2], [3, 4]], id="empty CSV lines"),
        pytest.param(CSV, "1,2\n", [[1, 2]], id="CSV that is text already"),
        pytest.param(NPY, npy("<f4", "(2,)", ONE_TWO), [1, 2], id="NPY 1.0"),
        pytest.param(NPY, npy("<f4", "(2, 1)", ONE_TWO, version=(2, 0)), [[1], [2]], id="NPY 2.0"),
        pytest.param(NPY, npy("<f4", "()", ONE_TWO[:4]), 1, id="an NPY number alone"),
        pytest.param(NPY, npy(">i2", "(2,)", b"\x00\x01\x00\x02"), [1, 2], id="NPY big-endian"),
        pytest.param(NPY, npy("|b1", "(2,)", b"\x01\x00"), [1, 0], id="NPY booleans"),
        pytest.param(NPY, npy("<f8", "(1,)", struct.pack("<d", 0.5)), [0.5], id="NPY doubles"),
        pytest.param(
            NPY,
            npy(
                header="{'descr': '<u1', 'fortran_order': True, 'shape': (2, 2), }\n",
                data=b"\x01\x02\x03\x04",
            ),
            [[1, 3], [2, 4]],
            id="NPY in Fortran's order",
        ),
    ],
)
def test_decode_gives_float32(content_type, body, expected):
    """A body becomes a float32 array of exactly these values and this shape."""
    array = codecs.decode(body, content_type)
    assert array.dtype == np.float32
    assert array.shape == np.shape(expected)
    np.testing.assert_array_equal(array, np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        pytest.param(
            JSON,
            b"[[1, 2], [3]]",
            "not valid application/json: the list at [1] has 1 item, its siblings have 2",
            id="ragged JSON",
        ),
        pytest.param(
            JSON,
            b"[[1, 2], 3]",
            "not valid application/json: 3 at [1] is not a list, but its siblings are",
            id="JSON of mixed depth",
        ),
        pytest.param(
            JSON,
            b'[[1, 2], [3, "x"]]',
            'not valid application/json: "x" at [1][1] is not a number',
            id="a JSON text among numbers",
        ),
        pytest.param(
            JSON,
            b'["1"]',
            'not valid application/json: "1" at [0] is not a number',
            id="a JSON number in quotes",
        ),
        pytest.param(
            JSON,
            b'{"a": 1, "b": [1, "x"]}',
            'not valid application/json: "x" at "b"[1] is not a number',
            id="a JSON object with a text",
        ),
        pytest.param(
            JSON,
            b'{"a": [[1, 2], [3]]}',
            'not valid application/json: the list at "a"[1] has 1 item, its siblings have 2',
            id="a JSON object with a ragged array",
        ),
        pytest.param(
            JSON,
            b'{"a": {"b": 1}}',
            'not valid application/json: {"b": 1} at "a" is not a number',
            id="a JSON object in an object",
        ),
        pytest.param(JSON, b"{}", "no values in the application/json body", id="no JSON keys"),
        pytest.param(
            JSON,
            b'{"a": [1], "b": []}',
            "no values in 'b' of the application/json body (shape (0,))",
            id="a JSON object with an empty array",
        ),
        pytest.param(
            JSON,
            b"[[1, 2], [3], [4, 5, 6]]",
            "not valid application/json: the list at [1] has 1 item, its siblings have 2",
            id="ragged JSON whose total length fits",
        ),
        pytest.param(
            JSON,
            b'["1", null]',
            'not valid application/json: "1" at [0] is not a number',
            id="a JSON number in quotes beside null",
        ),
        pytest.param(
            JSON,
            b'"abc"',
            'not valid application/json: "abc" at the top level is not a number',
            id="a JSON text alone",
        ),
        pytest.param(
            JSON,
            b"",
            "the body is empty; expected application/json",
            id="an empty JSON body",
        ),
        pytest.param(
            JSON,
            b"[1, 2",
            "not valid application/json: Expecting ',' delimiter: line 1 column 6 (char 5)",
            id="truncated JSON",
        ),
        pytest.param(
            JSON,
            b"[]",
            "no values in the application/json body (shape (0,))",
            id="an empty JSON list",
        ),
        pytest.param(
            JSON,
            b"[[], []]",
            "no values in the application/json body (shape (2, 0))",
            id="empty JSON rows",
        ),
        pytest.param(
            JSON,
            b"\xff[1]",
            "the body is not UTF-8: invalid start byte at byte 0",
            id="JSON that is not UTF-8",
        ),
        pytest.param(
            CSV,
            b"1,2\n3\n",
            "not valid text/csv: line 2 has 1 value, line 1 has 2",
            id="ragged CSV",
        ),
        pytest.param(
            CSV,
            b"a,b\n1,2\n",
            "not valid text/csv: line 1, column 1: 'a' is not a number",
            id="a CSV header",
        ),
        pytest.param(
            CSV,
            b"1,,3\n",
            "not valid text/csv: line 1, column 2: '' is not a number",
            id="an empty CSV cell",
        ),
        pytest.param(
            CSV,
            b"#1,2\n",
            "not valid text/csv: line 1, column 1: '#1' is not a number",
            id="a CSV comment, which CSV does not have",
        ),
        pytest.param(
            CSV,
            b"1,2\n\r\n3\n4,5,6\n",
            "not valid text/csv: line 3 has 1 value, line 1 has 2",
            id="ragged CSV whose total length fits, after an empty line",
        ),
        pytest.param(
            CSV,
            b'1,2\n3,"a,b"\n',
            "not valid text/csv: line 2, column 2: 'a,b' is not a number",
            id="a CSV text with a comma",
        ),
        pytest.param(
            CSV,
            b"1,1_000\n",
            "not valid text/csv: line 1, column 2: '1_000' is not a number",
            id="a number as Python writes it",
        ),
        pytest.param(
            CSV,
            "1,\u0663\n".encode(),
            "not valid text/csv: line 1, column 2: '\u0663' is not a number",
            id="a digit outside ASCII",
        ),
        pytest.param(
            CSV,
            b"1," + b"9" * 200_000 + b"x\n",
            "not valid text/csv: line 1, column 1: "
            "'1,99999999999999999999999999999999999999' is not a number",
            id="a CSV cell larger than csv reads",
        ),
        pytest.param(CSV, b"", "the body is empty; expected text/csv", id="an empty CSV body"),
        pytest.param(
            CSV, b"\n\n", "no values in the text/csv body (shape (0, 1))", id="blank CSV lines"
        ),
        pytest.param(
            CSV,
            b"1,\xe9\n",
            "the body is not UTF-8: invalid continuation byte at byte 2",
            id="CSV in Latin-1",
        ),
        pytest.param(
            NPY,
            b"",
            "the body is empty; expected application/x-npy",
            id="an empty NPY body",
        ),
        pytest.param(
            NPY,
            npy("<f4", "(2,)", ONE_TWO[:-1]),
            "not valid application/x-npy: "
            "shape (2,) of float32 takes 8 bytes, but 7 follow the header",
            id="truncated NPY",
        ),
        pytest.param(
            NPY,
            npy("<f4", "(2,)", ONE_TWO + b"\x00"),
            "not valid application/x-npy: "
            "shape (2,) of float32 takes 8 bytes, but 9 follow the header",
            id="NPY with more behind it",
        ),
        pytest.param(
            NPY,
            npy("<f4", "(999999999999,)", b"x"),
            "not valid application/x-npy: "
            "shape (999999999999,) of float32 takes 3999999999996 bytes, but 1 follow the header",
            id="an NPY header that claims terabytes",
        ),
        pytest.param(
            NPY,
            npy("<f4", "(0,)"),
            "no values in the application/x-npy body (shape (0,))",
            id="NPY without values",
        ),
        pytest.param(
            NPY,
            npy("<c8", "(1,)", bytes(8)),
            "not valid application/x-npy: values of dtype complex64 are not numbers",
            id="complex NPY",
        ),
        pytest.param(
            NPY,
            npy("<f4", "(2,)", ONE_TWO, version=(3, 0)),
            "not valid application/x-npy: NPY version (3, 0) is not 1.0 or 2.0",
            id="NPY 3.0",
        ),
    ],
)
def test_decode_describes_the_problem(content_type, body, message):
    """A body that is not of its type is the client's fault; one sentence says why."""
    with pytest.raises(BadInput) as caught:
        codecs.decode(body, content_type)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        pytest.param(
            JSON, b"[" * 100_000, "(recursion|nested)", id="JSON opened a hundred thousand times"
        ),
        pytest.param(
            JSON,
            b"[" * 500 + b"]" * 500,
            "lists are nested more than 32 deep",
            id="JSON five hundred deep",
        ),
        pytest.param(
            JSON,
            b"[1" + b"0" * 400 + b"]",
            "an integer is too large",
            id="a JSON integer beyond any float",
        ),
        pytest.param(
            "application/jsonlines",
            b"1\n2\n1" + b"0" * 400 + b"\n",
            "line 3: an integer is too large",
            id="JSON Lines with an integer beyond any float in the last line",
        ),
        pytest.param(
            CSV,
            b"\n1,2\n3\n",
            "line 3 has 1 value, line 2 has 2",
            id="ragged CSV that begins with an empty line",
        ),
        pytest.param(
            CSV,
            b"1\r2\r",
            r"line 1, column 1: '1\\r2' is not a number",
            id="CSV with the line ends of old Macs",
        ),
        pytest.param(NPY, b"\x93NUMPY", "expected 8 bytes got 6", id="NPY cut in its magic"),
        pytest.param(
            NPY,
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
            "the header has 4294967295 bytes; the limit is 10000",
            id="NPY with a 4 GiB header",
        ),
        pytest.param(
            NPY,
            npy(header=" " * 60_000),
            "the header has 60000 bytes; the limit is 10000",
            id="NPY with a header of blanks",
        ),
        pytest.param(
            NPY,
            npy(header="[" * 200_000, version=(2, 0)),
            "the header has 200000 bytes; the limit is 10000",
            id="NPY header of brackets",
        ),
        pytest.param(
            NPY,
            npy(header="{'shape': (2"),
            "the header cannot be read: ",
            id="NPY header not closed",
        ),
        pytest.param(
            NPY,
            npy(header="{1: 2, 'a': 3}"),
            "not supported between",
            id="NPY header with other keys",
        ),
        pytest.param(NPY, npy(header="open('/')"), "malformed node", id="NPY header with a call"),
        pytest.param(
            NPY,
            npy("<f4", "(-1, -2)", ONE_TWO),
            r"shape \(-1, -2\) of float32 takes 8 bytes, but 8 follow",
            id="NPY with negative lengths",
        ),
        pytest.param(
            NPY,
            npy("<f4", f"({2**70}, 0)"),
            "Maximum allowed dimension exceeded",
            id="NPY wider than any memory but empty",
        ),
        pytest.param(
            NPY,
            npy("<f3", "(1,)", b"abc"),
            "descr is not a valid dtype",
            id="NPY of no known dtype",
        ),
        pytest.param(
            NPY,
            npy("|V4", "(1,)", b"abcd"),
            r"values of dtype \|V4 are not numbers",
            id="NPY of raw bytes",
        ),
    ],
)
def test_decode_refuses_hostile_bodies(content_type, body, reason):
    """Such a body raises BadInput: 400, not 500."""
    with pytest.raises(BadInput, match=f"^not valid {content_type}: .*{reason}"):
        codecs.decode(body, content_type)


def test_npy_bodies_of_one_header_have_their_own_data():
    """A cached header does not affect the data after it."""
    body = codecs.encode(np.array([1, 2], np.float32), NPY, JSON)[0]
    assert codecs.decode(body, NPY).tolist() == [1, 2]
    assert codecs.decode(body[:-8] + body[-4:] + body[-8:-4], NPY).tolist() == [2, 1]
    with pytest.raises(BadInput, match="takes 8 bytes, but 4 follow the header"):
        codecs.decode(body[:-4], NPY)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_in_npy_does_not_run(tmp_path):
    """An NPY body of objects, which NumPy would unpickle, is refused without reading them."""
    path = tmp_path / "touched"
    body = npy("|O", "(1,)", pickle.dumps(np.array([Touch(path)], object)))
    with pytest.raises(BadInput, match="values of dtype object are not numbers"):
        codecs.decode(body, NPY)
    assert not path.exists()
    np.load(io.BytesIO(body), allow_pickle=True)[0].close()
    assert path.exists()  # the body was loaded, in both senses


@pytest.mark.parametrize(
    "content_type",
    [
        "image/gif",
        "",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "text/plain",
    ],
)
def test_an_unknown_type_is_refused_with_a_list_of_the_known_ones(content_type):
    """The message lists every type that is read."""
    with pytest.raises(UnsupportedType) as caught:
        codecs.decode(b"1", content_type)
    known = ", ".join(filter(codecs.reads, TYPES))
    assert str(caught.value).startswith(f"cannot read {content_type!r}, only {known}")


def test_a_type_has_one_codec():
    """A second codec for a type is refused."""
    with pytest.raises(ValueError, match="text/csv already has a codec"):
        codecs.register(codecs.Codec("text/csv", np.array, bytes))


@pytest.fixture
def one_way(monkeypatch):
    """A type that is only read and one that is only written, for the length of a test."""
    monkeypatch.setattr(content_types, "_codecs", dict(content_types._codecs))
    pixels = lambda body, limit: np.frombuffer(body, np.uint8).astype(np.float32)  # noqa: E731
    codecs.register(codecs.Codec("image/test", pixels, None))
    codecs.register(codecs.Codec("text/test", None, lambda value: b"written"))


@pytest.mark.usefixtures("one_way")
def test_a_type_may_only_be_read():
    """It is decoded, and never chosen for a reply."""
    assert codecs.decode(b"\x01\x02", "image/test").tolist() == [1, 2]
    assert codecs.known("image/test")
    assert codecs.reads("Image/Test; a=b")
    assert not codecs.writes("image/test")
    with pytest.raises(NotAcceptable) as caught:
        codecs.encode(np.ones(1), "image/test, image/*", JSON)
    assert str(caught.value).startswith("cannot write 'image/test, image/*', only application/json")
    assert str(caught.value).endswith("text/test")
    assert codecs.negotiate("image/test, */*;q=0.1", "image/test") == JSON


@pytest.mark.usefixtures("one_way")
def test_a_type_may_only_be_written():
    """It is encoded; a body of it is refused with the list of types that are read."""
    assert codecs.encode(1, "text/test", JSON) == (b"written", "text/test")
    assert codecs.writes("text/test")
    assert not codecs.reads("text/test")
    with pytest.raises(UnsupportedType) as caught:
        codecs.decode(b"1", "text/test")
    assert str(caught.value).startswith("cannot read 'text/test', only application/json")
    assert str(caught.value).endswith("image/test")


@pytest.mark.usefixtures("one_way")
def test_a_quick_reader_is_asked_first():
    """It gets UTF-8; what is in another charset, or what it is unsure of, is read by the other."""
    asked = []
    quick = lambda body: asked.append(body) or (np.ones(1) if b"q" in body else None)  # noqa: E731
    decode = lambda text: np.zeros(len(text))  # noqa: E731
    codecs.register(codecs.Codec("text/quick", decode, None, text=True, quick=quick))
    for body, charset, expected in [
        (b"quick", "", [1]),
        ("quick \u00e9", "", [1]),
        (b"slow", "", [0, 0, 0, 0]),
        (b"quick", "; charset=latin-1", [0, 0, 0, 0, 0]),
    ]:
        assert codecs.decode(body, f"text/quick{charset}").tolist() == expected
    assert asked == [b"quick", b"quick \xc3\xa9", b"slow"]


def test_what_can_be_written_together():
    """Arrays of numbers that differ in their rows alone, if they are not large."""
    one = np.ones((1, 2), F)
    assert together.alike([one, np.ones((3, 2), F)])
    for values in (
        ["a", "b"],
        [one, "a"],
        [one, np.ones((1, 3), F)],
        [one, np.ones((1, 2))],
        [np.float32(1), np.float32(1)],
        [np.array(1), np.array(1)],
    ):
        assert not together.alike(values)
    for array in (
        np.array([None, None]),
        np.array(["a", "b"]),
        np.ones((0, 2), F),
        np.ones((2, 0), F),
        np.asfortranarray(np.ones((2, 2))),
        np.ones(2**16 + 1, F),
    ):
        assert together.encode(array, [1, len(array) - 1], JSON) is None
    assert together.encode(np.ones(2, F), [2, 0], JSON) is None
    assert together.encode(np.ones(2**16, F), [1, 2**16 - 1], JSON)[0] == b"[1.0]"


def test_which_types_are_read_and_written():
    """JSON Lines has four names; replies have the first one."""
    assert [name for name in TYPES if not codecs.reads(name)] == []
    assert [name for name in TYPES if not codecs.writes(name)] == [
        "application/x-jsonlines",
        "application/jsonl",
        "application/x-ndjson",
    ]


@pytest.mark.parametrize(
    ("content_type", "is_text"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/csv;header=absent", True),
        ("application/x-npy", False),
        ("text/plain", False),
        ("application/jsonlines", False),
    ],
)
def test_scripts_get_text_for_json_and_csv(content_type, is_text):
    """JSON and CSV are text, with any parameters; all other types are bytes."""
    assert media.is_text(content_type) is is_text


# --- encode ---

F = np.float32
LOOP = [1.0]
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "accept", "body"),
    [
        pytest.param(np.array([[0.1, 2]]), JSON, b"[[0.1, 2.0]]", id="JSON of doubles"),
        pytest.param(
            np.array([[0.1, 2]], F), JSON, b"[[0.10000000149011612, 2.0]]", id="JSON of float32"
        ),
        pytest.param(
            [np.array([[1], [2]], F), np.array([3], F)],
            JSON,
            b"[[[1.0], [2.0]], [3.0]]",
            id="JSON of several outputs",
        ),
        pytest.param(
            [[np.array([1], F)], [np.array([2], F)]],
            JSON,
            b"[[[1.0]], [[2.0]]]",
            id="JSON of lists of outputs",
        ),
        pytest.param(
            {"label": "caf\u00e9", "p": F(0.5), "n": np.int64(3)},
            JSON,
            b'{"label": "caf\\u00e9", "p": 0.5, "n": 3}',
            id="JSON of a script's own",
        ),
        pytest.param(b"abc", JSON, b'"abc"', id="JSON of bytes"),
        pytest.param(None, JSON, b"null", id="JSON of nothing"),
        pytest.param(
            np.array([[0.1, 1e-8], [3, -2.5]], F), CSV, b"0.1,1e-08\r\n3.0,-2.5\r\n", id="CSV rows"
        ),
        pytest.param(np.array([1, 2], F), CSV, b"1.0\r\n2.0\r\n", id="CSV of one dimension"),
        pytest.param(F(5), CSV, b"5.0\r\n", id="CSV of one value"),
        pytest.param(
            np.array([[[1, 2], [3, 4]]], F), CSV, b"1.0,2.0,3.0,4.0\r\n", id="CSV row, flattened"
        ),
        pytest.param(
            [np.array([[1], [2]], F), np.array([[3, 4]], F)],
            CSV,
            b"1.0,2.0\r\n3.0,4.0\r\n",
            id="CSV line for each of several outputs",
        ),
        pytest.param(np.array([[1, 2]]), CSV, b"1,2\r\n", id="CSV of integers"),
        pytest.param(["a,b", "c"], CSV, b'"a,b"\r\nc\r\n', id="CSV of texts"),
        pytest.param(
            np.array([[np.nan, np.inf, -np.inf]], F), CSV, b"nan,inf,-inf\r\n", id="CSV of NaN"
        ),
        pytest.param(
            np.array([[np.nan, 0.5], [np.inf, -np.inf]], F),
            JSON,
            b"[[null, 0.5], [null, null]]",
            id="JSON of NaN",
        ),
        pytest.param(
            {
                "p": F(np.nan),
                "q": [1, float("inf"), np.array([1.5, -np.inf])],
                "r": (np.float64("nan"), np.array([3]), "NaN", None, True),
                "s": np.array([None, np.nan, "x"], object),
            },
            JSON,
            b'{"p": null, "q": [1, null, [1.5, null]], "r": [null, [3], "NaN", null, true], '
            b'"s": [null, null, "x"]}',
            id="JSON of NaN, however deep",
        ),
        pytest.param(float("nan"), JSON, b"null", id="JSON of NaN alone"),
        pytest.param([0.5, [float("nan")]], JSON, b"[0.5, [null]]", id="JSON of NaN in lists"),
        pytest.param(np.array(np.nan, F), JSON, b"null", id="JSON of an array that is NaN alone"),
        pytest.param(
            np.array([1, 2], "<f4"),
            NPY,
            b"\x93NUMPY\x01\x00v\x00"
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }"
            + b" " * 60
            + b"\n"
            + ONE_TWO,
            id="NPY of float32",
        ),
    ],
)
def test_encode_gives_these_bytes(value, accept, body):
    """A prediction becomes exactly these bytes, of the requested type."""
    assert codecs.encode(value, accept, JSON) == (body, accept)


@pytest.mark.parametrize(
    ("value", "accept", "exception", "reason"),
    [
        pytest.param(
            {"a": 1},
            CSV,
            NotAcceptable,
            "a cell can only hold a number or a text",
            id="an object as CSV",
        ),
        pytest.param(
            {"a": 1}, NPY, NotAcceptable, "it is not an array of numbers", id="an object as NPY"
        ),
        pytest.param(["a"], NPY, NotAcceptable, "it is not an array of numbers", id="texts as NPY"),
        pytest.param(
            [np.zeros(2), np.zeros(3)],
            NPY,
            NotAcceptable,
            "its outputs have different shapes",
            id="unequal outputs as NPY",
        ),
        pytest.param(
            object(),
            JSON,
            ScriptError,
            "JSON has no form for the type object",
            id="an object of a class as JSON",
        ),
        pytest.param(
            {1, 2}, JSON, ScriptError, "JSON has no form for the type set", id="a set as JSON"
        ),
        pytest.param(
            b"\xff",
            JSON,
            ScriptError,
            "'utf-8' codec can't decode byte 0xff",
            id="bytes that are no text as JSON",
        ),
        pytest.param(
            [1j],
            JSON,
            ScriptError,
            "JSON has no form for the type complex",
            id="a complex number as JSON",
        ),
        pytest.param(
            LOOP,
            JSON,
            ScriptError,
            "maximum recursion depth exceeded",
            id="a list that holds itself as JSON",
        ),
        pytest.param(
            LOOP,
            CSV,
            ScriptError,
            "maximum recursion depth exceeded",
            id="a list that holds itself as CSV",
        ),
        pytest.param(
            {"a": {1}},
            CSV,
            ScriptError,
            "JSON has no form for the type set",
            id="a set as CSV",
        ),
    ],
)
def test_what_a_type_cannot_hold(value, accept, exception, reason):
    """It is the client's fault if another type could hold the value, the script's if none could."""
    refused = "this prediction cannot be written as .*: "
    fault = "the script's prediction cannot be sent: " if exception is ScriptError else refused
    with pytest.raises(exception, match=f"^{fault}{reason}"):
        codecs.encode(value, accept, JSON)


SPECIAL = [0.0, -0.0, 1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 0.1, 16777217.0, 1 / 3]


def arrays():
    """Arrays of every bit pattern that is a finite float32, in shapes of 1 to 3 dimensions."""
    rng = np.random.default_rng(20180508)
    yield np.array(SPECIAL, np.float32)
    for dimensions in (1, 2, 3) * 40:
        shape = tuple(rng.integers(1, 5, dimensions))
        array = rng.integers(0, 2**32, shape, np.uint32).view(np.float32)
        yield np.where(np.isfinite(array), array, np.float32(1.5))


@pytest.mark.parametrize("content_type", list(filter(codecs.writes, TYPES)))
def test_decode_undoes_encode(content_type):
    """decode(encode(a)) == a for float32, to the last bit.

    CSV has two dimensions only, RecordIO at least two, and NPZ names its one array.
    """
    for array in arrays():
        if content_type == CSV or (content_type == TYPES[-1] and array.ndim == 1):
            array = array.reshape(array.shape[0], -1)
        body, _ = codecs.encode(array, content_type, JSON)
        again = codecs.decode(body, content_type)
        if content_type == "application/x-npz":
            (again,) = again.values()
        assert again.dtype == np.float32
        assert again.shape == array.shape
        assert again.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (JSON, [[np.nan, np.nan, np.nan, 0.5]]),
        ("application/jsonlines", [[np.nan, np.nan, np.nan, 0.5]]),
        (CSV, [[np.nan, np.inf, -np.inf, 0.5]]),
        (NPY, [[np.nan, np.inf, -np.inf, 0.5]]),
        ("application/x-recordio-protobuf", [[np.nan, np.inf, -np.inf, 0.5]]),
    ],
)
def test_values_that_are_not_finite_there_and_back(content_type, expected):
    """JSON has no such numbers and writes null, which is read as NaN; other types keep them."""
    body, _ = codecs.encode(np.array([[np.nan, np.inf, -np.inf, 0.5]], F), content_type, JSON)
    np.testing.assert_array_equal(codecs.decode(body, content_type), np.array(expected, F))


@pytest.mark.parametrize(
    "value", [np.array([1.0, np.nan]), [0.5, float("inf")], {"a": F(np.nan)}, -np.inf]
)
def test_json_never_contains_nan_or_infinity(value):
    """JSON does not have them, and strict readers refuse them."""
    body, _ = codecs.encode(value, JSON, JSON)
    json.loads(body, parse_constant=pytest.fail)


def test_a_json_object_names_its_arrays():
    """An object is a dict of arrays in the object's order, even with one key."""
    arrays = codecs.decode(b'{"b": [[1, 2]], "a": 3}', JSON)
    assert list(arrays) == ["b", "a"]
    assert arrays["b"].tolist() == [[1, 2]]
    assert arrays["a"].tolist() == 3
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    assert list(codecs.decode(b'{"instances": [1]}', JSON)) == ["instances"]


def shape_of(value):
    """The shape of nested lists, or None for ragged ones, found without NumPy."""
    if not isinstance(value, list):
        return ()
    shapes = {shape_of(item) for item in value}
    return (len(value), *shapes.pop()) if len(shapes) == 1 and None not in shapes else None


def test_ragged_lists_never_become_arrays():
    """Nested lists of any kind have their own shape, or are refused."""
    rng = random.Random(8)

    def nested(depth):
        if depth == 0 or rng.random() < 0.1:
            return rng.choice([1, 2.5, None, 2**70])
        return [nested(depth - 1) for _ in range(rng.choice([1, 2, 2, 2]))]

    for _ in range(3_000):
        value = nested(rng.randint(1, 3))
        if shape_of(value) is None:
            with pytest.raises(ValueError, match="siblings|is not a number"):
                codecs.numbers(value)
        else:
            assert codecs.numbers(value).shape == shape_of(value)


def test_json_of_finite_values_is_json():
    """Any other JSON reader reads the same doubles."""
    for array in arrays():
        body, _ = codecs.encode(array, JSON, JSON)
        assert json.loads(body, parse_constant=pytest.fail) == array.tolist()


# --- Accept ---


@pytest.mark.parametrize(
    ("accept", "default", "content_type"),
    [
        pytest.param("", JSON, JSON, id="nothing"),
        pytest.param("*/*", JSON, JSON, id="anything"),
        pytest.param("*/*", CSV, CSV, id="anything with CSV as default"),
        pytest.param("application/*", NPY, NPY, id="a range with the default in it"),
        pytest.param("application/*", CSV, JSON, id="a range without the default in it"),
        pytest.param("text/*", JSON, CSV, id="a range of text"),
        pytest.param("text/csv", JSON, CSV, id="one type"),
        pytest.param(" Text/CSV ; charset=utf-8", JSON, CSV, id="case and parameters"),
        pytest.param("text/csv, application/json", JSON, CSV, id="the first of two equals"),
        pytest.param("text/csv;q=0.5, application/json", JSON, JSON, id="the better of two"),
        pytest.param("application/json; q=0.4, text/csv; Q=0.8", JSON, CSV, id="capital Q"),
        pytest.param("text/html, application/x-npy;q=0.1", JSON, NPY, id="the only one we write"),
        pytest.param("*/*;q=0.1, text/csv;q=0.9", JSON, CSV, id="a range as second choice"),
        pytest.param("*/*, application/json;q=0", JSON, CSV, id="anything but JSON"),
        pytest.param(
            "application/json;q=0.2, application/*;q=0.9", JSON, NPY, id="the specific q counts"
        ),
        pytest.param("text/csv;q=x, application/json;q=0.1", CSV, JSON, id="a q that is a word"),
        pytest.param("text/csv;q=nan, application/json;q=0.1", CSV, JSON, id="a q that is nan"),
        pytest.param("text/csv;q=7, application/json", JSON, CSV, id="a q over one is one"),
        pytest.param(",, text/csv ,", JSON, CSV, id="empty items"),
        pytest.param("*/*", "pickle_buffer", JSON, id="a default that only scripts can write"),
        pytest.param("application/json; indent=2", CSV, JSON, id="a parameter that is not q"),
        pytest.param(
            'text/csv; a="x, application/json;q=1"; q=0.1, application/x-npy;q=0.2',
            JSON,
            NPY,
            id="commas and semicolons in quotes",
        ),
        pytest.param('text/csv; a="x', JSON, CSV, id="a quote that does not end"),
        pytest.param('text/csv; a="\\', JSON, CSV, id="a quote that ends in a backslash"),
        pytest.param(
            "application/json;version=2;q=0, application/json;q=0.5, text/csv;q=0.1",
            CSV,
            JSON,
            id="one type twice, with parameters and without",
        ),
        pytest.param("text/html, image/gif, *; q=.2", CSV, CSV, id="a star alone, as Java sends"),
        pytest.param("application/x-npz", JSON, "application/x-npz", id="NPZ"),
        pytest.param("application/jsonlines, */*;q=0.1", JSON, TYPES[4], id="JSON Lines"),
        pytest.param("application/jsonl, */*;q=0.1", JSON, JSON, id="a type that is only read"),
        pytest.param("application/x-recordio-protobuf", JSON, TYPES[-1], id="RecordIO"),
    ],
)
def test_accept_gets_its_preferred_type(accept, default, content_type):
    """RFC 9110's rules choose among the types; the default wins a tie."""
    assert codecs.negotiate(accept, default) == content_type


@pytest.mark.parametrize(
    "accept",
    ["image/png", "application/json;q=0", "*/*;q=0", "text/html, image/*", "application/jsonl"],
)
def test_accept_without_a_type_that_is_written(accept):
    """It is refused with the list of types that are written."""
    with pytest.raises(NotAcceptable) as caught:
        codecs.negotiate(accept, JSON)
    assert str(caught.value) == (
        f"cannot write {accept!r}, only {', '.join(filter(codecs.writes, TYPES))}"
    )


def test_any_accept_is_answered_or_refused():
    """Random headers never raise anything else."""
    rng = random.Random(9110)
    pieces = [
        "text/csv",
        "*/*",
        "application/*",
        ";",
        "q=",
        "0.5",
        "1e400",
        "=",
        ",",
        " ",
        "\u00e9",
        '"',
        "\\",
    ]
    for _ in range(500):
        accept = "".join(rng.choices(pieces, k=rng.randint(0, 8)))
        with contextlib.suppress(NotAcceptable):
            assert codecs.negotiate(accept, JSON) in TYPES
