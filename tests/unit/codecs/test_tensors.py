"""codecs.tensors: requests and replies of the Open Inference Protocol, and what is refused."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from mms_handler.codecs import tensors
from mms_handler.errors import BadInput, NotAcceptable, TooLarge

TYPE = "application/vnd.mms-handler.infer+json"
LIMIT = 10**6


def tensor(data=None, shape=(2, 2), datatype="FP32", name="x", **more):
    entry = {"name": name, "shape": list(shape), "datatype": datatype, **more}
    return entry if data is None else {**entry, "data": data}


def read(*inputs, binary=b"", limit=LIMIT, **more):
    """What is read of a request with these inputs."""
    head = json.dumps({"inputs": list(inputs), **more}).encode()
    content_type = f'{TYPE}; header-length="{len(head)}"' if binary else TYPE
    return tensors.read(head + binary, content_type, limit)


def refused(*inputs, **more):
    with pytest.raises(BadInput) as caught:
        read(*inputs, **more)
    return str(caught.value).replace("not a valid inference request: ", "")


# --- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datatype", "dtype", "values"),
    [
        pytest.param("BOOL", "?", [True, False], id="BOOL"),
        pytest.param("UINT8", "u1", [0, 255], id="UINT8"),
        pytest.param("UINT16", "u2", [0, 2**16 - 1], id="UINT16"),
        pytest.param("UINT32", "u4", [0, 2**32 - 1], id="UINT32"),
        pytest.param("UINT64", "u8", [0, 2**64 - 1], id="UINT64"),
        pytest.param("INT8", "i1", [-128, 127], id="INT8"),
        pytest.param("INT16", "i2", [-(2**15), 2**15 - 1], id="INT16"),
        pytest.param("INT32", "i4", [-(2**31), 2**31 - 1], id="INT32"),
        pytest.param("INT64", "i8", [-(2**63), 2**63 - 1], id="INT64"),
        pytest.param("FP16", "f2", [-0.5, 65504.0], id="FP16"),
        pytest.param("FP32", "f4", [-0.5, 3.0e38], id="FP32"),
        pytest.param("FP64", "f8", [-0.5, 1e300], id="FP64"),
    ],
)
def test_numbers_of_each_type_in_json_and_in_binary(datatype, dtype, values):
    """To the last bit, read and written."""
    expected = np.array(values, f"<{dtype}")
    raw = expected.tobytes()
    size = {"parameters": {"binary_data_size": len(raw)}}
    asked = read(tensor(values, (2,), datatype))
    in_binary = read(tensor(None, (2,), datatype, **size), binary=raw)
    for array in (asked.inputs["x"], in_binary.inputs["x"]):
        assert array.dtype == expected.dtype
        assert array.tobytes() == raw
    written = tensors.write(asked._replace(binary=True), "m", {"y": expected})
    assert written.body.endswith(raw)
    assert json.loads(written.body[: -len(raw)])["outputs"][0]["datatype"] == datatype


def test_data_may_be_flat_or_nested():
    """Both mean the same."""
    flat, nested = read(tensor([1, 2, 3, 4])), read(tensor([[1, 2], [3, 4]]))
    assert flat.inputs["x"].tolist() == nested.inputs["x"].tolist() == [[1, 2], [3, 4]]


def test_null_and_nan_are_nan():
    """As in JSON bodies."""
    body = b'{"inputs": [{"name": "x", "shape": [3], "datatype": "FP32", "data": [null, NaN, 1]}]}'
    values = tensors.read(body, TYPE, LIMIT).inputs["x"]
    assert np.isnan(values).tolist() == [True, True, False]


def test_a_bool_in_binary_is_true_unless_it_is_0():
    """No byte becomes a value that NumPy does not have."""
    asked = read(tensor(None, (3,), "BOOL", parameters={"binary_data_size": 3}), binary=b"\0\1\xff")
    assert asked.inputs["x"].tolist() == [False, True, True]
    assert asked.inputs["x"].tobytes() == b"\0\1\1"


def test_several_inputs_in_binary_and_in_json():
    """The binary ones follow each other, in their order."""
    asked = read(
        tensor(None, (1,), "INT16", "a", parameters={"binary_data_size": 2}),
        tensor([5.0], (1,), "FP32", "b"),
        tensor(None, (2,), "UINT8", "c", parameters={"binary_data_size": 2}),
        binary=b"\x07\x00\x01\x02",
    )
    assert {name: array.tolist() for name, array in asked.inputs.items()} == {
        "a": [7],
        "b": [5.0],
        "c": [1, 2],
    }


# --- texts -----------------------------------------------------------------------------------


def test_texts():
    """UTF-8 in JSON; in binary, bytes after their length."""
    raw = b"\2\0\0\0\xff\0" + b"\0\0\0\0"
    asked = read(
        tensor(["é", "b"], (2,), "BYTES", "a"),
        tensor(
            None,
            (2,),
            "BYTES",
            "b",
            parameters={"binary_data_size": 10, "content_type": "image/png"},
        ),
        binary=raw,
    )
    assert asked.inputs["a"].tolist() == ["é".encode(), b"b"]
    assert asked.inputs["b"].tolist() == [b"\xff\0", b""]
    assert asked.content_types == {"a": "", "b": "image/png"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"\0\0\0", "the values end inside a text's length", id="no length"),
        pytest.param(b"\2\0\0\0a", "a text has 2 bytes, but 1 are left", id="cut off"),
        pytest.param(b"\xff" * 8, "a text has 4294967295 bytes, but 4 are left", id="huge"),
        pytest.param(b"\0" * 12, "'x' has not 2 texts, as its shape says", id="too many"),
        pytest.param(b"\0" * 4, "'x' has not 2 texts, as its shape says", id="too few"),
    ],
)
def test_texts_in_binary_that_are_refused(raw, message):
    entry = tensor(None, (2,), "BYTES", parameters={"binary_data_size": len(raw)})
    assert refused(entry, binary=raw) == message


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"[]", "the JSON is not an object", id="a list"),
        pytest.param(b"{}", '"inputs" is missing or empty', id="no inputs"),
        pytest.param(b'{"inputs": []}', '"inputs" is missing or empty', id="empty inputs"),
        pytest.param(b'{"inputs": {}}', '"inputs" is not a list of up to 256 tensors', id="object"),
        pytest.param(
            b'{"inputs": [1]}', 'an item of "inputs" is not an object with a name', id="a number"
        ),
        pytest.param(b"[" * 100_000, "maximum recursion depth exceeded", id="deep"),
        pytest.param(b"\xff", "'utf-8' codec can't decode byte 0xff", id="not UTF-8"),
        pytest.param(b"", "Expecting value", id="nothing"),
    ],
)
def test_bodies_that_are_no_request(body, message):
    with pytest.raises(BadInput) as caught:
        tensors.read(body, TYPE, LIMIT)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param(
            tensor([1], (1,), "FP8"), "'x' has the datatype 'FP8'; expected one of BOOL", id="type"
        ),
        pytest.param(tensor([1], (1,), None), "'x' has the datatype 'None'", id="no type"),
        pytest.param(tensor([1], (1,), ["FP32"]), "'x' has the datatype \"['FP32']\"", id="a list"),
        pytest.param(
            {"name": "x", "datatype": "FP32", "data": [1]},
            "the shape of 'x' is not a list of up to 32 lengths",
            id="no shape",
        ),
        pytest.param(tensor([1], (-1,)), "the shape of 'x' is not a list", id="negative"),
        pytest.param(tensor([1], (1.0,)), "the shape of 'x' is not a list", id="a float"),
        pytest.param(tensor([1], (True,)), "the shape of 'x' is not a list", id="a bool"),
        pytest.param(tensor([1], [1] * 33), "the shape of 'x' is not a list", id="33 dimensions"),
        pytest.param(tensor([], (0,)), "'x' has no values (shape [0])", id="no values"),
        pytest.param(
            tensor(None, (1,)),
            '\'x\' has neither a list "data" nor "binary_data_size"',
            id="no data",
        ),
        pytest.param(
            tensor([1, 2, 3]), "'x' has data of the shape (3,), expected (2, 2)", id="too few"
        ),
        pytest.param(
            tensor([[1, 2, 3, 4]]), "'x' has data of the shape (1, 4), expected (2, 2)", id="shape"
        ),
        pytest.param(
            tensor([[1, 2], [3]]), "the data of 'x' are not numbers in a list", id="ragged"
        ),
        pytest.param(
            tensor([1, 2, 3, "4"]), "the data of 'x' are not numbers in a list", id="a text"
        ),
        pytest.param(
            tensor([1, 2, 3, 256], datatype="UINT8"),
            "the data of 'x' are not all UINT8",
            id="too large",
        ),
        pytest.param(
            tensor([1, 2, 3, 0.5], datatype="INT8"), "the data of 'x' are not all INT8", id="0.5"
        ),
        pytest.param(tensor([1, 2], (2,), "BYTES"), "the data of 'x' are not texts", id="no texts"),
        pytest.param(
            {**tensor([1], (1,), parameters=[]), "parameters": [1]},
            '"parameters" is not an object',
            id="parameters",
        ),
        pytest.param(
            tensor(None, (1,), parameters={"shared_memory_region": "a"}),
            "shared memory is not read",
            id="shared memory",
        ),
        pytest.param(
            tensor(["a"], (1,), "BYTES", parameters={"content_type": "a\nb"}),
            "the content_type of 'x' is not one",
            id="content type",
        ),
    ],
)
def test_inputs_that_are_refused(entry, message):
    assert message in refused(entry)


def test_an_input_that_is_there_twice():
    """A client's name may be long."""
    assert refused(tensor([1], (1,)), tensor([2], (1,))) == "\"inputs\" has 'x' twice"
    long = {**tensor([1], (1,)), "name": 70 * "x"}
    assert refused(long, long) == f'"inputs" has \'{59 * "x"} twice'


@pytest.mark.parametrize(
    ("more", "message"),
    [
        pytest.param({"id": 3}, '"id" is not a text', id="id"),
        pytest.param({"outputs": 3}, '"outputs" is not a list of up to 256 tensors', id="outputs"),
        pytest.param(
            {"outputs": [{"name": "y"}] * 2}, "\"outputs\" has 'y' twice", id="an output twice"
        ),
        pytest.param(
            {"outputs": [{"name": "y", "parameters": {"classification": 3}}]},
            "outputs are not classified here; ask for them without classification",
            id="classification",
        ),
        pytest.param({"parameters": 3}, '"parameters" is not an object', id="parameters"),
    ],
)
def test_requests_that_are_refused(more, message):
    assert refused(tensor([1], (1,)), **more) == message


def test_values_both_in_json_and_in_binary():
    """One of them would be passed over."""
    both = tensor([1.0, 2.0], (2,), "FP32", parameters={"binary_data_size": 8})
    with pytest.raises(BadInput, match="'x' has data in JSON beside \"binary_data_size\""):
        read(both, binary=b"\0" * 8)


@pytest.mark.parametrize(
    ("size", "raw", "message"),
    [
        pytest.param(7, b"\0" * 7, "FP32 of shape [2] takes 8", id="not of its shape"),
        pytest.param(8, b"\0" * 7, "'x' has 8 bytes, but 7 are left", id="too few"),
        pytest.param(8, b"\0" * 9, "1 bytes in binary belong to no input", id="too many"),
        pytest.param(-8, b"\0" * 8, "is -8, which is not a number of bytes", id="negative"),
        pytest.param("8" * 99, b"", f"is {'8' * 40}, which is not", id="a text"),
        pytest.param(True, b"\0", "is True, which is not a number of bytes", id="a bool"),
        pytest.param(2**62, b"\0", "bytes, but 1 are left", id="huge"),
        pytest.param(2**70, b"\0", "of 'x' is 1.18059", id="beyond 64 bits"),
    ],
)
def test_sizes_that_do_not_agree(size, raw, message):
    entry = tensor(None, (2,), parameters={"binary_data_size": size})
    assert message in refused(entry, binary=raw)


def test_a_header_length_of_the_whole_body():
    """There are no values in binary then."""
    body = json.dumps({"inputs": [tensor([1], (1,))]}).encode()
    request = tensors.read(body, f'{TYPE}; header-length="{len(body)}"', LIMIT)
    assert request == tensors.read(body, TYPE, LIMIT)
    with pytest.raises(BadInput, match=f"is {len(body) + 1}, but the body has {len(body)} bytes"):
        tensors.read(body, f'{TYPE}; header-length="{len(body) + 1}"', LIMIT)


@pytest.mark.parametrize(
    ("length", "message"),
    [
        pytest.param(
            "9999", "Inference-Header-Content-Length is 9999, but the body has", id="long"
        ),
        pytest.param("-1", "'-1', which is not a number of bytes", id="negative"),
        pytest.param("1e3", "'1e3', which is not a number of bytes", id="no number"),
        pytest.param("٣", "which is not a number of bytes", id="another digit"),
        pytest.param("9" * 5_000, "which is not a number of bytes", id="very long"),
        pytest.param("3", "Unterminated string starting at", id="inside the JSON"),
    ],
)
def test_header_lengths_that_are_refused(length, message):
    body = json.dumps({"inputs": [tensor([1], (1,))]}).encode()
    with pytest.raises(BadInput) as caught:
        tensors.read(body, f'{TYPE}; header-length="{length}"', LIMIT)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(tensor([1], (10**6,)), id="values that are not there"),
        pytest.param(tensor([1], (2**62, 2**62)), id="huge"),
        pytest.param(tensor([""], (20_000,), "BYTES"), id="texts"),
    ],
)
def test_arrays_that_are_too_large(entry):
    """They are refused by their shape, before memory is taken."""
    with pytest.raises(TooLarge, match="bytes as float32; the limit is 1000000"):
        read(entry)


# --- writing ---------------------------------------------------------------------------------

OUTPUTS = {"y": np.float32([[0.1], [2]]), "z": np.int64([7])}


def test_a_reply_in_json():
    """Floats are written as in a JSON body: float32 as the double of the same value."""
    asked = read(tensor([1], (1,)), id="7")
    written = tensors.write(asked, "m", OUTPUTS)
    assert written == (
        b'{"model_name": "m", "id": "7", "outputs": ['
        b'{"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [0.10000000149011612, 2.0]}, '
        b'{"name": "z", "datatype": "INT64", "shape": [1], "data": [7]}]}',
        "application/json",
        {},
    )


def test_a_reply_says_which_version_has_answered():
    """As the gate says in the content type; a version is a text."""
    content_type = f'{TYPE}; version="2.0-b"'
    body = json.dumps({"id": "7", "inputs": [tensor([1], (1,))]}).encode()
    written = tensors.write(tensors.read(body, content_type, LIMIT), "m", {"z": np.int64([7])})
    assert json.loads(written.body) == {
        "model_name": "m",
        "model_version": "2.0-b",
        "id": "7",
        "outputs": [{"name": "z", "datatype": "INT64", "shape": [1], "data": [7]}],
    }


def test_outputs_as_they_are_asked_for():
    """In the client's order; in binary where it says so."""
    wanted = [{"name": "z", "parameters": {"binary_data": True}}, {"name": "y"}]
    body, content_type, headers = tensors.write(
        read(tensor([1], (1,)), outputs=wanted), "m", OUTPUTS
    )
    length = int(headers["Inference-Header-Content-Length"])
    assert content_type == "application/octet-stream"
    assert json.loads(body[:length]) == {
        "model_name": "m",
        "outputs": [
            {
                "name": "z",
                "datatype": "INT64",
                "shape": [1],
                "parameters": {"binary_data_size": 8},
            },
            {"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [0.10000000149011612, 2.0]},
        ],
    }
    assert body[length:] == struct.pack("<q", 7)


def test_an_output_that_there_is_not():
    asked = read(tensor([1], (1,)), outputs=[{"name": "q"}])
    with pytest.raises(BadInput, match="^the model's outputs are y, z; it has no 'q'$"):
        tensors.write(asked, "m", OUTPUTS)


def test_texts_are_written():
    """With their type, if there is one to name; what is no text, only in binary."""
    text = np.empty(1, object)
    text[0] = b"\xff"
    asked = read(tensor([1], (1,)))
    with pytest.raises(NotAcceptable, match="ask for it in binary"):
        tensors.write(asked, "m", {"y": text}, "image/png")
    body, _, _ = tensors.write(asked._replace(binary=True), "m", {"y": text}, "image/png")
    assert body.endswith(b'"content_type": "image/png"}}]}\1\0\0\0\xff')
