"""transform.filters and transform.joining: the examples of SageMaker's guide, and its rules."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_handler.errors import BadInput, SettingsError
from mms_handler.transform.filters import Filter
from mms_handler.transform.joining import Joiner, assemble

JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"


# --- the examples of "Associate Prediction Results with Input Records" -------------------------


def test_only_inferences():
    joiner = Joiner("$", "None", "$")
    assert not joiner.filters_input
    assert not joiner.changes_output
    assert joiner.body(b"any\xff", "image/png") == b"any\xff"
    assert joiner.output(b"any\xff", "image/png", b"result\xfe", "x/y") == b"result\xfe"


@pytest.mark.parametrize(
    "content_type",
    [
        *(JSON, LINES, "application/json; charset=utf-8"),
        *("application/x-jsonlines", "application/jsonl", "application/x-ndjson"),
    ],
)
def test_input_and_inferences_of_json(content_type):
    output = Joiner("$", "Input").output(b'{"key":1}', content_type, b'{"label":1}', content_type)
    assert output == b'{"key":1,"SageMakerOutput":{"label":1}}'


def test_what_is_not_an_object_gets_a_new_one():
    output = Joiner("$", "Input").output(b"[1, 2]\n", LINES, b'{"label":1}\n', LINES)
    assert output == b'{"SageMakerInput":[1,2],"SageMakerOutput":{"label":1}}'


def test_input_and_inferences_of_csv():
    assert Joiner("$", "Input").output(b"1,2,3", CSV, b"1\r\n", CSV) == b"1,2,3,1"


def test_an_id_column_is_not_for_the_model():
    joiner = Joiner("$[1:]", "Input", "$")
    assert joiner.body(b"id7,1,2,3,4", CSV) == b"1,2,3,4"
    assert joiner.output(b"id7,1,2,3,4", CSV, b"0.5", CSV) == b"id7,1,2,3,4,0.5"


def test_an_id_attribute_is_not_for_the_model():
    joiner = Joiner("$.features", "Input", "$['id','SageMakerOutput']")
    record = b'{"id": "a", "features": [1, 2.5], "more": null}'
    assert joiner.body(record, LINES) == b"[1,2.5]"
    assert joiner.output(record, LINES, b"[0.5]", LINES) == b'{"id":"a","SageMakerOutput":[0.5]}'


# --- paths: the examples of the table of operators, and of the API ---------------------------

OBJECT = {"id": {"a": 1, "b": [2]}, "x": 3, "a.b": 4, "rows": [{"c": 5}, {"c": 6}, {}]}
ROW = ["a", "b", "c", "d", "e", "f", "g"]


@pytest.mark.parametrize(
    ("path", "value", "selected"),
    [
        ("$", OBJECT, OBJECT),
        ("$.x", OBJECT, 3),
        ("$.id.*", OBJECT, [1, [2]]),
        ("$.id.b[*]", OBJECT, [2]),
        ("$['x','a.b']", OBJECT, {"x": 3, "a.b": 4}),
        ("$.id.['a','b']", OBJECT, {"a": 1, "b": [2]}),
        ("$.id['b'][0]", OBJECT, 2),
        ("$.rows[:2].c", OBJECT, [5, 6]),
        ("$.rows[*].c", OBJECT, [5, 6]),
        ("$['rows','id'][0]", OBJECT, [{"c": 5}]),
        ("$[1]", ROW, "b"),
        ("$[-1]", ROW, "g"),
        ("$[1,3,5]", ROW, ["b", "d", "f"]),
        ("$[0,-1]", ROW, ["a", "g"]),
        ("$[0,5:]", ROW, ["a", "f", "g"]),
        ("$[2:5]", ROW, ["c", "d", "e"]),
        ("$[:5]", ROW, ["a", "b", "c", "d", "e"]),
        ("$[2:]", ROW, ["c", "d", "e", "f", "g"]),
        ("$[0:-1]", ROW, ["a", "b", "c", "d", "e", "f"]),
        ("$[5:99]", ROW, ["f", "g"]),
        ("$[*]", ROW, ROW),
    ],
)
def test_paths(path, value, selected):
    assert Filter("InputFilter", path).select(value) == selected


UNSUPPORTED = (
    "uses what SageMaker does not support; it supports "
    "$  .name  ['name', 'name']  [index, index]  [start:end]  *"
)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "does not begin with $, which is the record"),
        ("id", "does not begin with $, which is the record"),
        ("$[1:", "is not a JSONPath: unexpected end of segment"),
        ("$[99999999999999999999]", "is not a JSONPath: index out of range"),
        ("$" + ".abc" * 16, "has 65 characters; SageMaker's limit is 63"),
        ("$..id", UNSUPPORTED),
        ("$[?@.id]", UNSUPPORTED),
        ("$[1:4:2]", UNSUPPORTED),
        ("$[0] | $[1]", UNSUPPORTED),
        ("$[id]", UNSUPPORTED),
    ],
)
def test_paths_that_sagemaker_does_not_have(path, problem):
    with pytest.raises(SettingsError) as raised:
        Joiner("$", "None", path)
    assert str(raised.value) == f"OutputFilter {path!r} {problem}"


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("$.id", {"x": 1}, ": an object with the names 'x' has no name 'id'"),
        ("$.id", {}, ": an empty object has no name 'id'"),
        ("$['x','id']", {"x": 1}, ": an object with the names 'x' has no name 'id'"),
        ("$.x.y", {"x": "text"}, ": the value 'text' has no name 'y'"),
        ("$.x[0]", {"x": "text"}, ": the value 'text' has no index 0"),
        ("$[2]", [1, 2], ": a list of 2 has no index 2"),
        ("$[0,2]", [1, 2], ": a list of 2 has no index 2"),
        ("$[-3]", [1, 2], ": a list of 2 has no index -3"),
        ("$[2:]", [1, 2], " selects nothing of a list of 2"),
        ("$.*", {}, " selects nothing of an empty object"),
        ("$[*].x", [{"y": 1}], " selects nothing of a list of 1"),
    ],
)
def test_what_a_path_does_not_find(path, value, problem):
    with pytest.raises(BadInput) as raised:
        Filter("InputFilter", path).select(value)
    assert str(raised.value) == f"InputFilter {path!r}{problem}"


def test_filters_without_their_library(monkeypatch):
    """The path "$" needs none."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    Joiner("$", "Input", "$")
    with pytest.raises(SettingsError, match=r"pip install 'mms_handler\[transform\]'"):
        Joiner("$.x")


# --- the rules of a job ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("types", "assembly", "problem"),
    [
        (("image/png", CSV), ("None", "None"), "as content type, not image/png"),
        ((CSV, "application/x-npy"), ("Line", "Line"), "as accept, not application/x-npy"),
        ((CSV, JSON), ("Line", "Line"), "CSV as content type and as accept, or JSON as both"),
        ((JSON, CSV), ("Line", "Line"), "CSV as content type and as accept, or JSON as both"),
        ((CSV, CSV), ("None", "Line"), "the split type Line and the assembly with Line, not None"),
        ((CSV, ""), ("Line", "None"), "the assembly with Line, not Line and None"),
        ((CSV, CSV), ("Line", "Line"), "OutputFilter '$.x' has a name, but the columns of CSV"),
    ],
)
def test_rules_for_filters_and_joins(types, assembly, problem):
    with pytest.raises(SettingsError) as raised:
        Joiner("$[1:]", "Input", "$.x").check(*types, *assembly)
    assert problem in str(raised.value)
    Joiner().check(*types, *assembly)  # which are those of filters alone


@pytest.mark.parametrize(
    ("types", "assembly"),
    [
        ((CSV, CSV), ("Line", "Line")),
        ((LINES, JSON), ("Line", "Line")),
        ((JSON, ""), ("None",) * 2),
    ],
)
def test_jobs_that_sagemaker_has(types, assembly):
    Joiner("$[1:]", "Input", "$[0]").check(*types, *assembly)


def test_a_filter_of_names_is_not_for_csv():
    with pytest.raises(SettingsError, match="InputFilter '\\$.x' has a name, but the columns"):
        Joiner("$.x").check(CSV, JSON, "Line", "Line")
    Joiner("$[0]", "None", "$.x").check(CSV, JSON, "Line", "Line")  # nothing is joined


# --- records that cannot be read -------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "content_type", "problem"),
    [
        (b"{", JSON, "InputFilter: the record is not JSON: "),
        (b"\xff", JSON, "InputFilter: the record is not UTF-8: "),
        (b"[" * 100_000, JSON, "InputFilter: the record is "),
        (b'"a', CSV, "InputFilter: the record is not CSV: unexpected end of data"),
        (b'1\n"2"', CSV, "InputFilter: the record is not CSV: it has 2 lines"),
        (b"", "image/png", "InputFilter: the record is image/png; only text/csv, "),
        (b"[1, NaN]", JSON, "InputFilter: the record has NaN, Infinity or a number beyond"),
        (b"[1, 1e999]", JSON, "InputFilter: the record has NaN, Infinity or a number beyond"),
    ],
)
def test_records_that_cannot_be_filtered(record, content_type, problem):
    with pytest.raises(BadInput) as raised:
        Joiner("$[1:]").body(record, content_type)
    assert str(raised.value).startswith(problem)


@pytest.mark.parametrize(
    ("record", "types", "result", "problem"),
    [
        (b"{", (JSON, JSON), b"1", "JoinSource: the record is not JSON: "),
        (b"1", (JSON, JSON), b"{", "the result is not JSON: "),
        (b"1", (JSON, CSV), b"1", "JoinSource: a record of application/json cannot be joined with"),
        (
            b'{"SageMakerOutput": 1}',
            (JSON, JSON),
            b"1",
            "JoinSource: the record has the attribute SageMakerOutput, which is for results",
        ),
        (b"1", (JSON, JSON), b"NaN", "OutputFilter: the output has NaN, Infinity or a number"),
    ],
)
def test_records_that_cannot_be_joined(record, types, result, problem):
    with pytest.raises(BadInput) as raised:
        Joiner("$", "Input").output(record, types[0], result, types[1])
    assert str(raised.value).startswith(problem)


# --- any records -----------------------------------------------------------------------------

cells = st.lists(st.text(alphabet='ab1 ,"ä.', max_size=5), min_size=1, max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)  # fmt: skip


def csv_line(row, end):
    out = io.StringIO()
    csv.writer(out, lineterminator=end).writerow(row)
    return out.getvalue().encode()


@given(cells, cells, st.sampled_from(["", "\n", "\r\n"]))
def test_any_rows_joined(row, result, end):
    """Python's csv reads the columns of both, one after the other."""
    output = Joiner("$", "Input").output(csv_line(row, end), CSV, csv_line(result, "\r\n"), CSV)
    assert list(csv.reader([output.decode()])) == [row + result]


@given(cells)
def test_rows_keep_their_columns_but_the_first(row):
    (read,) = csv.reader([Joiner("$[1:]").body(csv_line(["id", *row], ""), CSV).decode()])
    assert read == row


@given(st.dictionaries(st.text(max_size=3), values), values)
def test_any_objects_joined(record, result):
    """Numbers are the same to the last bit, and half a surrogate pair is still text."""
    joiner = Joiner("$", "Input")
    output = joiner.output(json.dumps(record).encode(), JSON, json.dumps(result).encode(), JSON)
    assert json.loads(output.decode()) == {**record, "SageMakerOutput": result}
    assert b"\n" not in output


def test_half_a_surrogate_pair_stays():
    assert Joiner("$[0]").body(b'["\\ud83d"]', JSON) == b'"\\ud83d"'


def test_a_byte_order_mark_is_not_a_part_of_the_first_column():
    assert Joiner("$[0]").body(b"\xef\xbb\xbf1,2\r\n", CSV) == b"1"


def test_an_empty_column_alone_is_no_empty_line():
    assert Joiner("$[0]").body(b",2", CSV) == b'""'


# --- assembling ------------------------------------------------------------------------------


def test_assembling_with_lines():
    """A line feed follows each; a reply that has one gets no second."""
    assert assemble([b"1\r\n", b"2\n", b"3", b"", b"4\n\n"], "Line") == b"1\n2\n3\n\n4\n\n"


def test_assembling_with_nothing():
    assert assemble([b"1\r\n", b"2", b"3"], "None") == b"1\r\n23"
