"""The developer guide's inference code interface, sentence by sentence; the ids are its sentences.

Every case loads a script into the handler inside MMS's own Service, and reads the frames that MMS
would send.  Sentences that only point to other documents are left out.
"""

from __future__ import annotations

import struct
from pathlib import Path
from textwrap import dedent
from typing import Any, Callable, NamedTuple

import mms.service
import pytest

from mms_handler.errors import LoadError
from mms_handler.worker import loading, service

JSON, CSV, TEXT, PROBLEM = "application/json", "text/csv", "text/plain", "application/problem+json"

# --- the models: [1, 2] gives [5, 11] from the Block and [15, 31] from the Modules -------------

DEFAULT_MODULE = """
import mxnet as mx
"""

BLOCK = """
import mxnet as mx

def model_fn(model_dir):
    global loaded
    loaded = mx.gluon.nn.Dense(2, in_units=2, use_bias=False)
    loaded.load_parameters(model_dir + "/net.params")
    return loaded
"""

#: Bound for 4 rows.
MODULE = """
import mxnet as mx

def bound(symbol, args, aux):
    global loaded
    loaded = mx.mod.Module(symbol, label_names=None)
    loaded.bind([("data", (4, 2))], for_training=False)
    loaded.set_params(args, aux)
    return loaded

def model_fn(model_dir):
    return bound(*mx.model.load_checkpoint(model_dir + "/model", 0))
"""

#: The second output is ten times the sum of the first one's columns.
TWO_OUTPUTS = (
    MODULE
    + """
def model_fn(model_dir):
    symbol, *params = mx.model.load_checkpoint(model_dir + "/model", 0)
    return bound(mx.sym.Group([symbol, symbol.sum(axis=1) * 10]), *params)
"""
)

SIX_ROWS = b"[[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]"
FIRST_FOUR = b"[[12.0, 24.0], [18.0, 38.0], [24.0, 52.0], [30.0, 66.0]]"
LAST_TWO = b"[[36.0, 80.0], [42.0, 94.0]]"
ALL_SIX = FIRST_FOUR[:-1] + b", " + LAST_TWO[1:]

#: The sentence that has three cases.
BLOCK_OR_MODULE = (
    "If you want to take advantage of Amazon SageMaker's default request handling functions, the "
    "returned object should be a `Gluon Block <https://mxnet.incubator.apache.org/api/python/"
    "gluon/gluon.html#mxnet.gluon.Block> or MXNet `Module <https://mxnet.incubator.apache.org/api/"
    "python/module.html>`, described below."
)

# --- the harness -------------------------------------------------------------------------------


class Exchange(NamedTuple):
    """A reply with its type and status, and the request that must get it."""

    reply: bytes
    reply_type: str = JSON
    status: int = 200
    body: bytes = b"[[1, 2]]"
    content_type: str = JSON
    accept: str = JSON


def case(sentence: str, model: str, script: str, *exchanges: Exchange) -> Any:
    """Make a case: the exchanges show that ``sentence`` is true of ``model + script``."""
    return pytest.param(model + dedent(script), exchanges, id=sentence)


def section(*cases: Any) -> Any:
    """Parametrize a test with the cases of one section of the guide."""
    return pytest.mark.parametrize(("script", "exchanges"), cases)


Answer = Callable[[Exchange], Exchange]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Start a worker on a model_dir, as MMS does."""

    def run(folder: Path) -> Answer:
        monkeypatch.chdir(folder)
        handle = service.Service(loading.load)
        worker = mms.service.Service("m", str(folder), None, handle, None, 1)
        handle(None, worker.context)
        return lambda exchange: answer(worker, exchange)

    return run


def answer(worker: mms.service.Service, exchange: Exchange) -> Exchange:
    """Send the request of ``exchange``, and return it with the reply it gets."""
    headers = {b"Content-Type": exchange.content_type, b"Accept": exchange.accept}
    request = {
        "requestId": b"r1",
        "headers": [{"name": name, "value": value.encode()} for name, value in headers.items()],
        "parameters": [
            {
                "name": "body",
                "value": bytearray(exchange.body),
                "contentType": exchange.content_type,
            }
        ],
    }
    status, reply_type, reply = read_frame(bytes(worker.predict([request])))
    return exchange._replace(reply=reply, reply_type=reply_type, status=status)


def read_frame(frame: bytes) -> tuple[int, str, bytes]:
    """Return status, content type and body of the only reply in one of MMS's frames."""
    offset = 0

    def number() -> int:
        nonlocal offset
        offset += 4
        return int(struct.unpack_from("!i", frame, offset - 4)[0])

    def buffer() -> bytes:
        nonlocal offset
        length = number()
        offset += length
        return frame[offset - length : offset]

    assert number() == 200, buffer()  # the batch's status: the handler itself never fails
    assert buffer() == b"Prediction success"
    assert buffer() == b"r1"
    reply_type, status, _phrase = buffer().decode().lstrip(" "), number(), buffer()
    for _header in range(number()):
        buffer(), buffer()
    reply = buffer()
    assert number() == -1
    return status, reply_type, reply


def check(folder: Path, start: Callable[[Path], Answer], exchanges: tuple[Exchange, ...]) -> None:
    """Assert that a worker on ``folder`` answers each exchange's request with its reply."""
    assert exchanges
    answer = start(folder)
    assert [answer(exchange) for exchange in exchanges] == list(exchanges)


# --- model_fn ----------------------------------------------------------------------------------


@section(
    case(
        "[Optional] Loads a model from disk, reading from model_dir.",
        BLOCK,
        "",
        Exchange(b"[[5.0, 11.0]]"),
    ),
    case(
        "Called once by each inference service worker when it is started.",
        "",
        """
        calls = []

        def model_fn(model_dir):
            calls.append("load")

        def transform_fn(model, input_data, content_type, accept):
            return str(calls), "text/plain"
        """,
        Exchange(b"['load']", TEXT),
        Exchange(b"['load']", TEXT),
    ),
    case(
        "If you are providing your own transform_fn, then your model_fn can return anything that "
        "is compatible with your transform_fn.",
        "",
        """
        def model_fn(model_dir):
            return {"anything": 1}

        def transform_fn(model, input_data, content_type, accept):
            return repr(model), "text/plain"
        """,
        Exchange(b"{'anything': 1}", TEXT),
    ),
    case(
        "Amazon SageMaker provides a default model_fn that works with the serialization format "
        "used by the Amazon SageMaker default save function, discussed above.",
        DEFAULT_MODULE,
        """
        def transform_fn(model, input_data, content_type, accept):
            (data,) = model.data_shapes
            return repr((type(model).__name__, data.name, data.shape)), "text/plain"
        """,
        Exchange(b"('Module', 'data', (1, 2))", TEXT),
    ),
    case(
        "model_dir: The Amazon SageMaker model directory.",
        "",
        """
        import os

        def model_fn(model_dir):
            return sorted(os.listdir(model_dir))

        def transform_fn(model, input_data, content_type, accept):
            return " ".join(model), "text/plain"
        """,
        Exchange(
            b"code model-0000.params model-shapes.json model-symbol.json net.params",
            TEXT,
        ),
    ),
    case(
        "Returns: - (object): Optional. The deserialized model.",
        "",
        """
        def model_fn(model_dir):
            pass

        def transform_fn(model, input_data, content_type, accept):
            return repr(model), "text/plain"
        """,
        Exchange(b"None", TEXT),
    ),
)
def test_model_fn(script, exchanges, model_dir, start):
    """The guide's ``model_fn(model_dir)`` loads the model; without one the default does."""
    check(model_dir(script), start, exchanges)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        pytest.param(
            'def model_fn(model_dir):\n    raise ValueError("no model today")\n',
            r"^model_fn: ValueError: no model today \(code/inference\.py, line 2\)$",
            id="Called once by each inference service worker when it is started.",
        ),
        pytest.param(
            'def model_fn(model_dir):\n    return "a model of no known kind"\n',
            r"^functions: ScriptError: model_fn returned a str, wanted a Module or a gluon Block",
            id=BLOCK_OR_MODULE,
        ),
    ],
)
def test_errors_at_load(script, message, model_dir, start):
    """An error at the start of a worker fails the load, before any request."""
    folder = model_dir(script)
    with pytest.raises(LoadError, match=message):
        start(folder)


@pytest.mark.parametrize(
    "exchanges",
    [
        pytest.param(
            (Exchange(b"[[15.0, 31.0]]"),),
            id="If you saved your model using the default save function, you do not need to "
            "provide a model_fn in your hosting script.",
        )
    ],
)
def test_default_save(exchanges, module, tmp_path, start):
    """A model that the default save wrote is served without a script."""
    from mms_handler import models

    models.save(module(rows=8), tmp_path)
    check(tmp_path, start, exchanges)


# --- transform_fn ------------------------------------------------------------------------------

ECHO = """
def transform_fn(model, input_data, content_type, accept):
    return repr((model is loaded, input_data, content_type, accept)), "text/plain"
"""


@section(
    case(
        "[Optional] Transforms input data into a prediction result.",
        BLOCK,
        """
        import json

        def transform_fn(model, input_data, content_type, accept):
            array = mx.nd.array(json.loads(input_data))
            return json.dumps(model(array).asnumpy().tolist()), "application/json"
        """,
        Exchange(b"[[5.0, 11.0]]"),
    ),
    case(
        "Amazon SageMaker invokes your transform_fn in response to an InvokeEndpoint operation on "
        "an Amazon SageMaker endpoint containing this script.",
        BLOCK,
        """
        calls = []

        def transform_fn(model, input_data, content_type, accept):
            calls.append(input_data)
            return "; ".join(calls), "text/plain"
        """,
        Exchange(b"first", TEXT, body=b"first"),
        Exchange(b"first; second", TEXT, body=b"second"),
    ),
    case(
        "Amazon SageMaker passes in the model, previously loaded with model_fn, along with the "
        "input data, request content type, and accept content type from the InvokeEndpoint "
        "request.",
        BLOCK,
        ECHO,
        Exchange(
            b"(True, '1,2', 'text/csv', 'text/plain')",
            TEXT,
            body=b"1,2",
            content_type=CSV,
            accept=TEXT,
        ),
        Exchange(
            b"(True, b'\\x89PNG\\xff', 'image/png', 'text/plain')",
            TEXT,
            body=b"\x89PNG\xff",
            content_type="image/png",
            accept=TEXT,
        ),
    ),
    case(
        "The output returned should have the given accept content type.",
        BLOCK,
        """
        def transform_fn(model, input_data, content_type, accept):
            return {"text/csv": "5,11", "application/json": "[5, 11]"}[accept], accept
        """,
        Exchange(b"5,11", CSV, accept=CSV),
        Exchange(b"[5, 11]", JSON, accept=JSON),
    ),
    case(
        "This function should return a tuple of (transformation result, content type).",
        BLOCK,
        """
        def transform_fn(model, input_data, content_type, accept):
            return b"\\x00\\xff", "application/octet-stream"
        """,
        Exchange(b"\x00\xff", "application/octet-stream"),
    ),
    case(
        "In most cases, the returned content type should be the same as the accept content type, "
        "but it might differ.",
        BLOCK,
        """
        def transform_fn(model, input_data, content_type, accept):
            return "5 and 11", "text/plain"
        """,
        Exchange(b"5 and 11", TEXT, accept=CSV),
    ),
    case(
        "For example, when your code needs to return an error response.",
        BLOCK,
        """
        def transform_fn(model, input_data, content_type, accept):
            return '{"title": "no rows"}', "application/problem+json"
        """,
        Exchange(b'{"title": "no rows"}', PROBLEM, accept=CSV),
    ),
    case(
        "If you provide a transform_fn in your hosting script, it will be used to handle the "
        "entire request.",
        BLOCK,
        """
        def transform_fn(model, input_data, content_type, accept):
            return input_data[::-1], accept
        """,
        Exchange(b"fdp%", "x/out", body=b"%pdf", content_type="x/in", accept="x/out"),
    ),
    case(
        "You don't need to provide any other request handling functions (input_fn, predict_fn, or "
        "output_fn).",
        "",
        """
        def model_fn(model_dir):
            return 3

        def transform_fn(model, input_data, content_type, accept):
            return str(model * int(input_data)), accept
        """,
        Exchange(b"12", body=b"4"),
    ),
    case(
        "If you do provide them, they will be ignored.",
        BLOCK + ECHO,
        """
        def input_fn(input_data, content_type):
            raise AssertionError("input_fn was called")

        def predict_fn(block, array):
            raise AssertionError("predict_fn was called")

        def output_fn(ndarray, accept):
            raise AssertionError("output_fn was called")
        """,
        Exchange(b"(True, '[[1, 2]]', 'application/json', 'application/json')", TEXT),
    ),
    case(
        "input_data: The input data from the payload of the InvokeEndpoint request.",
        BLOCK,
        """
        def transform_fn(model, input_data, content_type, accept):
            return input_data, accept
        """,
        Exchange('["\u00e9"]'.encode(), body='["\u00e9"]'.encode()),
        Exchange(
            bytes(range(256)), body=bytes(range(256)), content_type="application/octet-stream"
        ),
    ),
    case(
        "content_type: The content type of the request.",
        BLOCK,
        """
        def transform_fn(model, input_data, content_type, accept):
            return content_type, "text/plain"
        """,
        Exchange(b"text/csv; header=absent", TEXT, content_type="text/csv; header=absent"),
    ),
    case(
        "accept: The content type from the request's Accept header.",
        BLOCK,
        """
        def transform_fn(model, input_data, content_type, accept):
            return accept, "text/plain"
        """,
        Exchange(b"image/png", TEXT, accept="image/png"),
    ),
    case(
        "Returns: - (object, string): A tuple containing the transformed result and its content "
        "type",
        BLOCK,
        """
        def transform_fn(model, input_data, content_type, accept):
            return (input_data.upper(), "text/upper")
        """,
        Exchange(b"ABC", "text/upper", body=b"abc"),
    ),
)
def test_transform_fn(script, exchanges, model_dir, start):
    """The guide's ``transform_fn(model, input_data, content_type, accept)`` does everything."""
    check(model_dir(script), start, exchanges)


NOT_JSON = Exchange(
    b'{"code": 400, "type": "BadInput", "message": "not valid application/json: '
    b'Extra data: line 1 column 2 (char 1)", "request_id": "r1"}',
    status=400,
    body=b"1,2",
)


@section(
    case(BLOCK_OR_MODULE, BLOCK, "", Exchange(b"[[5.0, 11.0]]")),
    case("The input data is expected to have the given content_type.", BLOCK, "", NOT_JSON),
    case(
        "Amazon SageMaker provides default transform_fn implementations that work with Gluon and "
        "Module models.",
        BLOCK,
        "",
        Exchange(b"[[5.0, 11.0]]"),
    ),
    case(
        "These support JSON input and output, and for Module models, also CSV.",
        BLOCK,
        "",
        Exchange(b"[[5.0, 11.0], [2.0, 4.0]]", body=b"[[1, 2], [0, 1]]"),
    ),
    case(
        "To use the default transform_fn, provide a hosting script without a transform_fn or any "
        "other request handling functions.",
        BLOCK,
        "",
        Exchange(b"[[-1.5, -2.5]]", body=b"[[0.5, -1]]"),
    ),
)
def test_default_transform_fn_of_a_block(script, exchanges, model_dir, start):
    """The defaults serve a script that only loads a Block."""
    check(model_dir(script), start, exchanges)


@section(
    case(BLOCK_OR_MODULE, MODULE, "", Exchange(b"[[15.0, 31.0]]")),
    case(
        "The input data is expected to have the given content_type.", DEFAULT_MODULE, "", NOT_JSON
    ),
    case(
        "Amazon SageMaker provides default transform_fn implementations that work with Gluon and "
        "Module models.",
        MODULE,
        "",
        Exchange(b"[[15.0, 31.0]]"),
    ),
    case(
        "These support JSON input and output, and for Module models, also CSV.",
        DEFAULT_MODULE,
        "",
        Exchange(b"[[15.0, 31.0], [12.0, 24.0]]", body=b"[[1, 2], [0, 1]]"),
        Exchange(
            b"15.0,31.0\r\n12.0,24.0\r\n", CSV, body=b"1,2\n0,1\n", content_type=CSV, accept=CSV
        ),
        Exchange(b"[[15.0, 31.0], [12.0, 24.0]]", body=b"1,2\n0,1\n", content_type=CSV),
        Exchange(b"15.0,31.0\r\n", CSV, accept=CSV),
    ),
    case(
        "To use the default transform_fn, provide a hosting script without a transform_fn or any "
        "other request handling functions.",
        "",
        "",
        Exchange(b"[[8.5, 17.5]]", body=b"[[0.5, -1]]"),
    ),
)
def test_default_transform_fn_of_a_module(script, exchanges, model_dir, start):
    """The defaults serve a Module, whether the script's model_fn or the default loads it."""
    check(model_dir(script), start, exchanges)


# --- request handlers for Gluon models ---------------------------------------------------------


@section(
    case(
        "[Optional] Prepares data for transformation.",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            return mx.nd.array([[float(word) for word in input_data.split()]])
        """,
        Exchange(b"[[5.0, 11.0]]", body=b"1 2"),
    ),
    case(
        "Amazon SageMaker invokes your input_fn in response to an InvokeEndpoint operation on an "
        "Amazon SageMaker endpoint that contains this script.",
        BLOCK,
        """
        calls = 0

        def input_fn(input_data, content_type):
            global calls
            calls += 1
            return mx.nd.array([[calls, 0]])
        """,
        Exchange(b"[[1.0, 3.0]]"),
        Exchange(b"[[2.0, 6.0]]"),
    ),
    case(
        "Amazon SageMaker passes in input data and content type from the InvokeEndpoint request.",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            return mx.nd.array([[input_data == b"1 2", content_type == "text/x-words"]])
        """,
        Exchange(b"[[3.0, 7.0]]", body=b"1 2", content_type="text/x-words"),
    ),
    case(
        "The function should return an NDArray that can be passed to the predict_fn.",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            global inputs
            inputs = mx.nd.array([[1, 2]])
            return inputs

        def predict_fn(block, array):
            return mx.nd.array([array is inputs])
        """,
        Exchange(b"[1.0]"),
    ),
    case(
        "If you omit this function, Amazon SageMaker provides a default implementation.",
        BLOCK,
        """
        def predict_fn(block, array):
            return array

        def output_fn(ndarray, accept):
            return str(ndarray.asnumpy().tolist()), accept
        """,
        Exchange(b"[[1.0, 2.0]]"),
    ),
    case(
        "The default input_fn converts JSON-encoded array data into an NDArray.",
        BLOCK,
        """
        def predict_fn(block, array):
            facts = [isinstance(array, mx.nd.NDArray), array.ndim, array.sum().asscalar()]
            return mx.nd.array(facts)
        """,
        Exchange(b"[1.0, 3.0, 10.0]", body=b"[[[1, 2], [3, 4]]]"),
    ),
    case(
        "input_data: The input data from the payload of the InvokeEndpoint request.",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            return mx.nd.array([list(input_data)])
        """,
        Exchange(b"[[515.0, 1035.0]]", body=b"\x05\xff", content_type="application/octet-stream"),
    ),
    case(
        "content_type: The content type of the request.",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            return mx.nd.array([[len(content_type), 0]])
        """,
        Exchange(b"[[9.0, 27.0]]", content_type="image/png"),
    ),
    case(
        "Returns: - (NDArray): An NDArray",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            return mx.nd.array([[1, 2], [0, 1]])
        """,
        Exchange(b"[[5.0, 11.0], [2.0, 4.0]]"),
    ),
)
def test_input_fn_of_a_block(script, exchanges, model_dir, start):
    """The guide's ``input_fn(input_data, content_type)`` makes the NDArray."""
    check(model_dir(script), start, exchanges)


@section(
    case(
        "[Optional] Performs prediction on an NDArray object.",
        BLOCK,
        """
        def predict_fn(block, array):
            return block(array) * 100
        """,
        Exchange(b"[[500.0, 1100.0]]"),
    ),
    case(
        "In response to an InvokeEndpoint request, Amazon SageMaker invokes your predict_fn with "
        "the model returned by your model_fn and the result of the input_fn.",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            global inputs
            inputs = mx.nd.array([[1, 2]])
            return inputs

        def predict_fn(block, array):
            return mx.nd.array([block is loaded, array is inputs])
        """,
        Exchange(b"[1.0, 1.0]"),
    ),
    case(
        "The function should return an NDArray containing the prediction results.",
        BLOCK,
        """
        def predict_fn(block, array):
            global prediction
            prediction = block(array)
            return prediction

        def output_fn(ndarray, accept):
            return str(ndarray is prediction), "text/plain"
        """,
        Exchange(b"True", TEXT),
    ),
    case(
        "If you omit this function, Amazon SageMaker provides a default implementation.",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            return mx.nd.array([[2, 2]])

        def output_fn(ndarray, accept):
            return str(ndarray.asnumpy().tolist()), accept
        """,
        Exchange(b"[[6.0, 14.0]]"),
    ),
    case(
        "The default predict_fn call passes the array to the forward method of the Gluon block, "
        "for example, block(array).",
        DEFAULT_MODULE,
        """
        class Negative(mx.gluon.Block):
            def forward(self, array):
                return -array

        def model_fn(model_dir):
            return Negative()
        """,
        Exchange(b"[[-1.0, -2.0]]"),
    ),
    case(
        "block (Block): The loaded Gluon model; the result of calling model_fn on this script.",
        BLOCK,
        """
        def predict_fn(block, array):
            return mx.nd.array([isinstance(block, mx.gluon.Block), block is loaded])
        """,
        Exchange(b"[1.0, 1.0]"),
    ),
    case(
        "array (NDArray): The result of a call to input_fn in response to an Amazon SageMaker "
        "InvokeEndpoint request.",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            return mx.nd.array([[3, 4, 5]])

        def predict_fn(block, array):
            return array
        """,
        Exchange(b"[[3.0, 4.0, 5.0]]"),
    ),
    case(
        "Returns: - (NDArray): An NDArray containing the prediction result.",
        BLOCK,
        """
        def predict_fn(block, array):
            return mx.nd.array([0.5, 0.25])
        """,
        Exchange(b"[0.5, 0.25]"),
    ),
)
def test_predict_fn_of_a_block(script, exchanges, model_dir, start):
    """The guide's ``predict_fn(block, array)`` runs the Block."""
    check(model_dir(script), start, exchanges)


@section(
    case(
        "[Optional] Serializes prediction results.",
        BLOCK,
        """
        def output_fn(ndarray, accept):
            return " ".join(str(value) for value in ndarray.asnumpy().ravel()), accept
        """,
        Exchange(b"5.0 11.0", TEXT, accept=TEXT),
    ),
    case(
        "Amazon SageMaker invokes your output_fn with the NDArray returned by your predict_fn and "
        "the content type from the InvokeEndpoint request's accept header.",
        BLOCK,
        """
        def predict_fn(block, array):
            global prediction
            prediction = block(array)
            return prediction

        def output_fn(ndarray, accept):
            return repr((ndarray is prediction, accept)), "text/plain"
        """,
        Exchange(b"(True, 'image/png')", TEXT, accept="image/png"),
    ),
    case(
        "This function should return a tuple of (transformation result, content type).",
        BLOCK,
        """
        def output_fn(ndarray, accept):
            return bytes(ndarray.asnumpy().astype("uint8").ravel().tolist()), "x/bytes"
        """,
        Exchange(b"\x05\x0b", "x/bytes"),
    ),
    case(
        "In most cases, the returned content type should be the same as the accept content type, "
        "but it might differ; for example, when your code needs to return an error response.",
        BLOCK,
        """
        def output_fn(ndarray, accept):
            if ndarray.max().asscalar() < 100:
                return '{"title": "too small"}', "application/problem+json"
            return "large", accept
        """,
        Exchange(b'{"title": "too small"}', PROBLEM, accept=TEXT),
        Exchange(b"large", TEXT, body=b"[[50, 50]]", accept=TEXT),
    ),
    case(
        "If you omit this function, Amazon SageMaker provides a default implementation.",
        BLOCK,
        """
        def input_fn(input_data, content_type):
            return mx.nd.array([[1, 2]])

        def predict_fn(block, array):
            return block(array)
        """,
        Exchange(b"[[5.0, 11.0]]"),
    ),
    case(
        "The default output_fn converts the prediction result into a JSON-encoded array data.",
        BLOCK,
        """
        def predict_fn(block, array):
            return mx.nd.array([[[0.5]], [[-2]]])
        """,
        Exchange(b"[[[0.5]], [[-2.0]]]"),
    ),
    case(
        "ndarray: NDArray. The result of calling predict_fn.",
        BLOCK,
        """
        def output_fn(ndarray, accept):
            return repr((type(ndarray).__name__, ndarray.asnumpy().tolist())), "text/plain"
        """,
        Exchange(b"('NDArray', [[5.0, 11.0]])", TEXT),
    ),
    case(
        "content_type: string. The content type from the InvokeEndpoint request's Accept header.",
        BLOCK,
        """
        def output_fn(ndarray, content_type):
            return repr((isinstance(content_type, str), content_type)), "text/plain"
        """,
        Exchange(b"(True, 'text/csv')", TEXT, accept=CSV),
    ),
    case(
        "Returns: - (object, string): A tuple containing the transformed result and its content "
        "type",
        BLOCK,
        """
        def output_fn(ndarray, accept):
            return (str(ndarray.shape), "text/plain")
        """,
        Exchange(b"(1, 2)", TEXT),
    ),
)
def test_output_fn_of_a_block(script, exchanges, model_dir, start):
    """The guide's ``output_fn(ndarray, accept)`` makes the reply."""
    check(model_dir(script), start, exchanges)


# --- request handlers for Module models --------------------------------------------------------


@section(
    case(
        "[Optional] Prepares data for transformation.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.array([[float(word) for word in input_data.split()]])
        """,
        Exchange(b"[[15.0, 31.0]]", body=b"1 2"),
    ),
    case(
        "Amazon SageMaker invokes your input_fn in response to an InvokeEndpoint operation on an "
        "Amazon SageMaker endpoint that contains this script.",
        MODULE,
        """
        calls = 0

        def input_fn(model, input_data, content_type):
            global calls
            calls += 1
            return mx.nd.array([[calls, 0]])
        """,
        Exchange(b"[[11.0, 23.0]]"),
        Exchange(b"[[12.0, 26.0]]"),
    ),
    case(
        "Amazon SageMaker passes in the MXNet Module returned by your model_fn, along with the "
        "input data and content type from the InvokeEndpoint request.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            checks = (model is loaded, input_data == b"1 2", content_type == "text/x-words")
            return mx.nd.array([[all(checks), 0]])
        """,
        Exchange(b"[[11.0, 23.0]]", body=b"1 2", content_type="text/x-words"),
    ),
    case(
        "The function should return an NDArray.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.array([[1, 2], [0, 1]])
        """,
        Exchange(b"[[15.0, 31.0], [12.0, 24.0]]"),
    ),
    case(
        "Amazon SageMaker wraps the returned NDArray in a DataIter with a batch size that matches "
        "your model, and then passes it to your predict_fn.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.arange(12).reshape((6, 2))

        def predict_fn(module, data):
            facts = [isinstance(data, mx.io.DataIter), data.batch_size]
            return [mx.nd.array(facts), module.predict(data)]
        """,
        Exchange(b"[[1.0, 4.0], " + ALL_SIX + b"]"),
    ),
    case(
        "If you omit this function, Amazon SageMaker provides a default implementation.",
        MODULE,
        """
        def predict_fn(module, data):
            return [mx.nd.array([isinstance(data, mx.io.DataIter), data.batch_size])]
        """,
        Exchange(b"[[1.0, 4.0]]"),
    ),
    case(
        "The default input_fn converts a JSON or CSV-encoded array data into an NDArray.",
        MODULE,
        """
        def predict_fn(module, data):
            (array,) = data.next().data
            return [mx.nd.array([isinstance(array, mx.nd.NDArray)]), array[:2]]
        """,
        Exchange(b"[[1.0], [[1.0, 2.0], [3.0, 4.0]]]", body=b"[[1, 2], [3, 4]]"),
        Exchange(b"[[1.0], [[1.0, 2.0], [3.0, 4.0]]]", body=b"1,2\n3,4\n", content_type=CSV),
    ),
    case(
        "model: A Module; the result of calling model_fn on this script.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.array([[isinstance(model, mx.mod.Module), model is loaded]])
        """,
        Exchange(b"[[13.0, 27.0]]"),
    ),
    case(
        "input_data: The input data from the payload of the InvokeEndpoint request.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.array([list(input_data)])
        """,
        Exchange(b"[[525.0, 1055.0]]", body=b"\x05\xff", content_type="application/octet-stream"),
    ),
    case(
        "content_type: The content type of the request.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.array([[len(content_type), 0]])
        """,
        Exchange(b"[[19.0, 47.0]]", content_type="image/png"),
    ),
    case(
        "Returns: - (NDArray): an NDArray",
        DEFAULT_MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.array([[1, 2], [0, 1]])
        """,
        Exchange(b"[[15.0, 31.0], [12.0, 24.0]]"),
    ),
)
def test_input_fn_of_a_module(script, exchanges, model_dir, start):
    """The guide's ``input_fn(model, input_data, content_type)`` makes the NDArray."""
    check(model_dir(script), start, exchanges)


@section(
    case(
        "[Optional] Performs prediction on an MXNet DataIter object.",
        MODULE,
        """
        def predict_fn(module, data):
            return [module.predict(data) * 100]
        """,
        Exchange(b"[[[1500.0, 3100.0]]]"),
    ),
    case(
        "In response to an InvokeEndpoint request, Amazon SageMaker invokes your predict_fn with "
        "the model returned by your model_fn and DataIter that contains the result of the "
        "input_fn.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.array([[7, 8]])

        def predict_fn(module, data):
            facts = [module is loaded, isinstance(data, mx.io.DataIter)]
            return [mx.nd.array(facts), data.next().data[0][:1]]
        """,
        Exchange(b"[[1.0, 1.0], [[7.0, 8.0]]]"),
    ),
    case(
        "The function should return a list of NDArray or a list of list of NDArray containing the "
        "prediction results.",
        MODULE,
        """
        def predict_fn(module, data):
            if data.num_data == 1:
                return [mx.nd.array([1]), mx.nd.array([2, 3])]
            return [[mx.nd.array([1]), mx.nd.array([2, 3])], [mx.nd.array([4])]]
        """,
        Exchange(b"[[1.0], [2.0, 3.0]]"),
        Exchange(b"[[[1.0], [2.0, 3.0]], [[4.0]]]", body=SIX_ROWS),
    ),
    case(
        "If you omit this function, Amazon SageMaker provides a default implementation.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.arange(12).reshape((6, 2))

        def output_fn(data, accept):
            return str([row.asnumpy().tolist() for row in data]), accept
        """,
        Exchange(ALL_SIX),
    ),
    case(
        "The default predict_fn calls module.predict on the input data and returns the result.",
        MODULE,
        """
        def model_fn(model_dir):
            module = bound(*mx.model.load_checkpoint(model_dir + "/model", 0))
            predict = module.predict
            module.predict = lambda data: [predict(data), mx.nd.array([data.batch_size])]
            return module
        """,
        Exchange(b"[[[15.0, 31.0]], [4.0]]"),
    ),
    case(
        "module (Module): The loaded MXNet Module; the result of calling model_fn on this script.",
        MODULE,
        """
        def predict_fn(module, data):
            return [mx.nd.array([isinstance(module, mx.mod.Module), module is loaded])]
        """,
        Exchange(b"[[1.0, 1.0]]"),
    ),
    case(
        "data (DataIter): A DataIter containing the results of a call to input_fn.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.arange(12).reshape((6, 2))

        def predict_fn(module, data):
            return [mx.nd.concat(*(batch.data[0][: 4 - batch.pad] for batch in data), dim=0)]
        """,
        Exchange(
            b"[[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0], [10.0, 11.0]]]",
        ),
    ),
    case(
        "Returns: - (object): A list of NDArray or list of list of NDArray containing the "
        "prediction results.",
        MODULE,
        """
        def predict_fn(module, data):
            return module.predict(data, merge_batches=False)
        """,
        Exchange(b"[[[[15.0, 31.0]]]]"),
        Exchange(b"[[" + FIRST_FOUR + b"], [" + LAST_TWO + b"]]", body=SIX_ROWS),
    ),
)
def test_predict_fn_of_a_module(script, exchanges, model_dir, start):
    """The guide's ``predict_fn(module, data)`` runs the Module on a DataIter."""
    check(model_dir(script), start, exchanges)


@section(
    case(
        "[Optional] Serializes prediction results.",
        MODULE,
        """
        def output_fn(data, accept):
            return " ".join(str(value) for value in data.asnumpy().ravel()), accept
        """,
        Exchange(b"15.0 31.0", TEXT, accept=TEXT),
    ),
    case(
        "Amazon SageMaker invokes your output_fn with the results of predict_fn and the content "
        "type from the InvokeEndpoint request's accept header.",
        MODULE,
        """
        def predict_fn(module, data):
            global predictions
            predictions = [module.predict(data)]
            return predictions

        def output_fn(data, accept):
            return repr((data is predictions, accept)), "text/plain"
        """,
        Exchange(b"(True, 'image/png')", TEXT, accept="image/png"),
    ),
    case(
        "This function should return a tuple of (transformation result, content type).",
        MODULE,
        """
        def output_fn(data, accept):
            return bytes(data.asnumpy().astype("uint8").ravel().tolist()), "x/bytes"
        """,
        Exchange(b"\x0f\x1f", "x/bytes"),
    ),
    case(
        "In most cases, the returned content type should be the same as the accept content type, "
        "but it might differ.",
        MODULE,
        """
        def output_fn(data, accept):
            return "15 and 31", "text/plain"
        """,
        Exchange(b"15 and 31", TEXT, accept=CSV),
    ),
    case(
        "For example, when your code needs to return an error response.",
        MODULE,
        """
        def output_fn(data, accept):
            return '{"title": "too small"}', "application/problem+json"
        """,
        Exchange(b'{"title": "too small"}', PROBLEM, accept=CSV),
    ),
    case(
        "If you omit this function, Amazon SageMaker provides a default implementation.",
        MODULE,
        """
        def input_fn(model, input_data, content_type):
            return mx.nd.array([[1, 2]])

        def predict_fn(module, data):
            return [module.predict(data)]
        """,
        Exchange(b"[[[15.0, 31.0]]]"),
    ),
    case(
        "The default output_fn converts the prediction result into JSON or CSV- encoded array "
        "data, depending on the value of the accept header.",
        TWO_OUTPUTS,
        """
        def predict_fn(module, data):
            return module.predict(data, merge_batches=data.num_data == 1)
        """,
        # A list of NDArray has a line for each NDArray.
        Exchange(b"[[[15.0, 31.0]], [460.0]]"),
        Exchange(b"15.0,31.0\r\n460.0\r\n", CSV, accept=CSV),
        # A list of list of NDArray has a line for each inner list.
        Exchange(
            b"[[[[12.0, 24.0], [15.0, 31.0]], [360.0, 460.0]]]",
            body=b"[[0, 1], [1, 2]]",
        ),
        Exchange(
            b"12.0,24.0,15.0,31.0,360.0,460.0\r\n",
            CSV,
            body=b"[[0, 1], [1, 2]]",
            accept=CSV,
        ),
    ),
    case(
        "data: A list of NDArray or list of list of NDArray. The result of calling predict_fn.",
        TWO_OUTPUTS,
        """
        def output_fn(data, accept):
            facts = [(type(array).__name__, array.asnumpy().tolist()) for array in data]
            return repr((type(data).__name__, facts)), "text/plain"
        """,
        Exchange(b"('list', [('NDArray', [[15.0, 31.0]]), ('NDArray', [460.0])])", TEXT),
    ),
    case(
        "content_type: A string. The content type from the InvokeEndpoint request's Accept header.",
        MODULE,
        """
        def output_fn(data, content_type):
            return repr((isinstance(content_type, str), content_type)), "text/plain"
        """,
        Exchange(b"(True, 'text/csv')", TEXT, accept=CSV),
    ),
    case(
        "Returns: - (object, string): A tuple containing the transformed result and its content "
        "type.",
        MODULE,
        """
        def output_fn(data, accept):
            return (str(data.shape), "text/plain")
        """,
        Exchange(b"(1, 2)", TEXT),
    ),
)
def test_output_fn_of_a_module(script, exchanges, model_dir, start):
    """The guide's ``output_fn(data, accept)`` makes the reply."""
    check(model_dir(script), start, exchanges)
