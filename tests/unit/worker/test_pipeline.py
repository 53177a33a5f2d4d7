"""pipeline: from request to reply, with the defaults and with any mix of a script's functions."""

from __future__ import annotations

import json
import logging

import mxnet as mx
import numpy as np
import pytest

from mms_handler.errors import BadInput, Failed, NotAcceptable, ScriptError, UnsupportedType
from mms_handler.script.load import Script
from mms_handler.worker.functions import Options
from mms_handler.worker.pipeline import build
from mms_handler.worker.request import Request

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


def pipeline(model, hooks=None, **options):
    return build(Script(None, hooks or {}), model, Options(mx.cpu(), **options))


def answer(pipe, body=b"[[1, 1]]", content_type=JSON, accept=JSON, **by_name):
    (reply,) = pipe.answer([Request(body, content_type, accept, by_name)])
    if isinstance(reply, Failed):
        raise reply.exc
    return reply


def reply_to(value, **request):
    """The reply that is made of a transform_fn's return ``value``."""
    return answer(pipeline(object(), {"transform_fn": lambda *args: value}), **request)


# --- the defaults ---


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        pytest.param(JSON, b"[[1, 1], [2, 3]]", id="JSON in"),
        pytest.param(CSV, b"1,1\n2,3\n", id="CSV in"),
        pytest.param("text/csv; charset=utf-8", b"1,1\r\n2,3", id="CSV with a parameter in"),
        pytest.param(
            NPY,
            b"\x93NUMPY\x01\x00\x3a\x00{'descr': '|i1', 'fortran_order': False, 'shape': (2, 2)}\n"
            b"\x01\x01\x02\x03",
            id="NPY in",
        ),
    ],
)
@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param(JSON, (b"[[13.0], [18.0]]", JSON, 200), id="JSON out"),
        pytest.param(CSV, (b"13.0\r\n18.0\r\n", CSV, 200), id="CSV out"),
        pytest.param("", (b"[[13.0], [18.0]]", JSON, 200), id="no Accept"),
        pytest.param("text/html, text/csv;q=0.5", (b"13.0\r\n18.0\r\n", CSV, 200), id="a list"),
    ],
)
@pytest.mark.parametrize("kind", ["Module", "Block"])
def test_the_defaults(sums, sum_block, kind, content_type, body, accept, expected):
    """Without a script a Module and a Block read and write every type."""
    pipe = pipeline(sums(bound=4) if kind == "Module" else sum_block)
    assert answer(pipe, body, content_type, accept) == expected


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        pytest.param(JSON, b"[[[13.0], [18.0]], [[26.0], [36.0]]]", id="JSON: a list of outputs"),
        pytest.param(CSV, b"13.0,18.0\r\n26.0,36.0\r\n", id="CSV: a line for each output"),
    ],
)
def test_several_outputs(sums, accept, body):
    """A Module with several outputs writes all rows of each output in turn."""
    reply = answer(pipeline(sums(outputs=2)), b"[[1, 1], [2, 3]]", accept=accept)
    assert reply == (body, accept, 200)


@pytest.mark.parametrize("accept", ["", "*/*", " */* ", "text/*"])
def test_the_default_accept_is_a_setting(sum_block, accept):
    """The setting applies to */*, to no Accept, and to a range that includes it."""
    assert answer(pipeline(sum_block, accept=CSV), accept=accept) == (b"13.0\r\n", CSV, 200)


@pytest.mark.parametrize(
    ("request_", "exception", "reason"),
    [
        pytest.param({"body": b"[["}, BadInput, "^not valid application/json: ", id="broken JSON"),
        pytest.param({"body": b"[[1, 2, 3]]"}, BadInput, r"\(1, ?3\)$", id="another shape"),
        pytest.param(
            {"body": b""},
            BadInput,
            "^the body is empty; expected application/json$",
            id="an empty body",
        ),
        pytest.param(
            {"body": b"\xff"}, BadInput, "^the body is not UTF-8: ", id="JSON that is not UTF-8"
        ),
        pytest.param(
            {"content_type": "image/gif"},
            UnsupportedType,
            "^cannot read 'image/gif', only ",
            id="a picture",
        ),
        pytest.param(
            {"accept": "image/png"},
            NotAcceptable,
            "^cannot write 'image/png', only ",
            id="a picture in Accept",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["Module", "Block"])
def test_the_clients_errors(sums, sum_block, kind, request_, exception, reason):
    """Each mistake of a client has its own exception, apart from the package's and the script's."""
    with pytest.raises(exception, match=reason):
        answer(pipeline(sums() if kind == "Module" else sum_block), **request_)


# --- the script's functions ---


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ValueError("three values, please"), "^input_fn refused the body: three values, please$"),
        (KeyError("/etc/passwd"), "^input_fn cannot read the body: KeyError$"),
        (IndexError("7"), "^input_fn cannot read the body: IndexError$"),
        (TypeError("int"), "^input_fn cannot read the body: TypeError$"),
    ],
)
def test_a_body_that_input_fn_does_not_understand(sum_block, raised, message):
    """Is the client's fault; only a ValueError was written for it."""

    def input_fn(data, content_type):
        raise raised

    with pytest.raises(BadInput, match=message):
        answer(pipeline(sum_block, {"input_fn": input_fn}))


def test_functions_replace_their_own_step_only(sum_block):
    """If a script has one function, the other two steps are the defaults."""
    doubled = {"input_fn": lambda data, content_type: mx.nd.array(json.loads(data)) * 2}
    negated = {"predict_fn": lambda data, model: -model(data)}
    counted = {"output_fn": lambda prediction, accept: (str(prediction.shape), "text/plain")}
    assert answer(pipeline(sum_block, doubled)).body == b"[[16.0]]"
    assert answer(pipeline(sum_block, negated)).body == b"[[-13.0]]"
    assert answer(pipeline(sum_block, counted)) == (b"(1, 1)", "text/plain", 200)
    assert answer(pipeline(sum_block, {**doubled, **negated, **counted})).body == b"(1, 1)"


def legacy_input(model, input_data, content_type):
    return mx.nd.array(json.loads(input_data))


def sdk_input(request_body, content_type):
    return mx.nd.array(json.loads(request_body))


def ndarray_input(request_body, content_type):
    return np.array(json.loads(request_body), np.float32)


@pytest.mark.parametrize("input_fn", [legacy_input, sdk_input, ndarray_input])
@pytest.mark.parametrize("n", [1, 4, 5])
def test_a_modules_array_becomes_a_data_iter(sums, input_fn, n):
    """The guide says: the array is wrapped in a DataIter with the model's batch size."""
    reply = answer(
        pipeline(sums(bound=4), {"input_fn": input_fn}), json.dumps([[1, 1]] * n).encode()
    )
    assert json.loads(reply.body) == [[13.0]] * n


def test_a_scripts_data_iter_is_passed_on(sums):
    """A DataIter that input_fn returns reaches the model unchanged."""

    def input_fn(model, input_data, content_type):
        return mx.io.NDArrayIter(mx.nd.array(json.loads(input_data)), batch_size=1)

    assert answer(pipeline(sums(), {"input_fn": input_fn})).body == b"[[13.0]]"


@pytest.mark.parametrize(
    ("hooks", "kind"),
    [
        pytest.param(
            {"predict_fn": lambda module, data: type(data).__name__},
            "NDArrayIter",
            id="the guide's predict_fn",
        ),
        pytest.param(
            {"input_fn": sdk_input, "predict_fn": lambda module, data: type(data).__name__},
            "NDArrayIter",
            id="the guide's predict_fn behind the script's input_fn",
        ),
        pytest.param(
            {"predict_fn": lambda data, model: type(data).__name__},
            "NDArrayIter",
            id="the SDK's predict_fn behind the default input_fn",
        ),
        pytest.param(
            {"input_fn": sdk_input, "predict_fn": lambda data, model: type(data).__name__},
            "NDArray",
            id="the SDK's predict_fn behind the script's input_fn",
        ),
        pytest.param(
            {"input_fn": legacy_input, "predict_fn": lambda foo, bar: type(bar).__name__},
            "NDArrayIter",
            id="unknown names behind a legacy input_fn are in the guide's order",
        ),
        pytest.param(
            {"input_fn": sdk_input, "predict_fn": lambda foo, bar: type(foo).__name__},
            "NDArray",
            id="unknown names elsewhere are in the SDK's order",
        ),
    ],
)
def test_the_data_of_a_modules_predict_fn(sums, hooks, kind):
    """The guide's predict_fn gets a DataIter, the SDK's what the script's input_fn returned."""
    assert answer(pipeline(sums(), hooks)).body == b'"%s"' % kind.encode()


def test_the_predict_order_is_a_setting(sum_block):
    """For unknown names the setting gives the order, even behind a legacy input_fn."""
    hooks = {"predict_fn": lambda foo, bar: type(foo).__name__}
    assert answer(pipeline(sum_block, hooks)).body == b'"NDArray"'
    assert answer(pipeline(sum_block, hooks, predict_order="model,data")).body == b'"Dense"'
    legacy = {"input_fn": legacy_input, **hooks}
    assert answer(pipeline(sum_block, legacy, predict_order="data,model")).body == b'"NDArray"'


def test_a_model_of_another_kind_needs_a_predict_fn():
    """A predict_fn can serve any model; without one the model is refused when it is loaded."""
    hooks = {"predict_fn": lambda data, model: model["scale"] * data}
    assert answer(pipeline({"scale": 3}, hooks)).body == b"[[3.0, 3.0]]"
    with pytest.raises(ScriptError) as error:
        pipeline({"scale": 3}, {"input_fn": lambda data: data})
    assert str(error.value) == (
        "model_fn returned a dict, wanted a Module or a gluon Block; any other model needs a "
        "predict_fn or a transform_fn"
    )


@pytest.mark.parametrize(
    ("content_type", "body", "kind"),
    [
        pytest.param(JSON, b"[1]", "str", id="JSON is text"),
        pytest.param(CSV + "; charset=utf-8", b"1", "str", id="CSV is text, parameters or not"),
        pytest.param(NPY, b"\x93", "bytes", id="NPY is bytes"),
        pytest.param("image/png", b"\x89", "bytes", id="anything else is bytes"),
    ],
)
@pytest.mark.parametrize("hook", ["transform_fn", "input_fn"])
def test_scripts_get_text_or_bytes(hook, content_type, body, kind):
    """JSON and CSV come as str, whatever their parameters; all other types come as bytes."""
    bodies = []

    def transform_fn(model, data, content_type, accept):
        bodies.append(data)
        return ""

    def input_fn(data, content_type):
        bodies.append(data)

    hooks = {"transform_fn": transform_fn} if hook == "transform_fn" else {"input_fn": input_fn}
    answer(pipeline(object(), {**hooks, "predict_fn": lambda data, model: ""}), body, content_type)
    assert isinstance(bodies[0], str if kind == "str" else bytes)
    assert bodies[0] == (body.decode() if kind == "str" else body)


def test_text_can_be_decoded_again():
    """A text's decode() gives the text, since some scripts were written for bytes."""

    def transform_fn(model, data, content_type, accept):
        return data.decode("utf-8") + data.decode() + data

    reply = answer(pipeline(None, {"transform_fn": transform_fn}), b"\xef\xbb\xbf\xc3\xa9")
    assert reply.body.decode() == "\u00e9\u00e9\u00e9"


def test_transform_fn_takes_the_whole_request(caplog):
    """The other three functions are ignored, as the guide says, and the log names them."""
    calls = []

    def transform_fn(model, input_data, content_type, accept):
        calls.append((model, input_data, content_type, accept))
        return b"done", "text/x-own"

    hooks = {"transform_fn": transform_fn, "predict_fn": None, "input_fn": None}
    with caplog.at_level(logging.WARNING):
        pipe = pipeline("the model", hooks)
    assert caplog.messages == [
        "transform_fn replaces input_fn, predict_fn, which will not be called"
    ]
    assert answer(pipe, b"x", "text/odd", "image/*") == (b"done", "text/x-own", 200)
    assert calls == [("the model", b"x", "text/odd", "image/*")]


@pytest.mark.parametrize("accept", ["", "*/*"])
def test_scripts_get_the_default_for_any_accept(accept):
    """For */* and for no Accept a script gets the setting, since it compares accept with types."""

    def transform_fn(model, data, content_type, accept):
        return b"", accept

    pipe = pipeline(None, {"transform_fn": transform_fn}, accept=CSV)
    assert answer(pipe, accept=accept).content_type == CSV


def test_functions_get_more_by_parameter_name():
    """Parameters with these names get the context, the device, the request id and the headers."""

    def transform_fn(model, data, content_type, accept, request_id, *, headers, ctx, context):
        return [request_id, headers, str(ctx), context]

    reply = answer(
        pipeline(None, {"transform_fn": transform_fn}),
        request_id="r-1",
        headers={"x-a": "1"},
        context="MMS's",
    )
    assert json.loads(reply.body) == ["r-1", {"x-a": "1"}, "cpu(0)", "MMS's"]


def test_signatures_are_checked_when_loading(sum_block):
    """A function with an unknown signature is refused before the first request."""
    with pytest.raises(ScriptError, match=r"^output_fn\(prediction, accept, indent\): expected"):
        pipeline(sum_block, {"output_fn": lambda prediction, accept, indent: ""})


# --- what a script may return ---


class Response:
    """An object like Flask's and werkzeug's responses, which scripts of 2018 returned."""

    mimetype = "text/html"
    status_code = 418

    def get_data(self):
        return b"<p>tea</p>"


@pytest.mark.parametrize(
    ("value", "reply"),
    [
        pytest.param((b"x", "a/b"), (b"x", "a/b", 200), id="the contract's pair"),
        pytest.param(("\u00e9", "a/b"), (b"\xc3\xa9", "a/b", 200), id="a pair with text"),
        pytest.param(
            (b"\x80", "pickle_buffer"),
            (b"\x80", "pickle_buffer", 200),
            id="a pair with an unusual type",
        ),
        pytest.param(((b"x", "a/b"), "c/d"), (b"x", "a/b", 200), id="a pair in a pair"),
        pytest.param(({"a": 1}, JSON), (b'{"a": 1}', JSON, 200), id="a pair with an object"),
        pytest.param(
            ({"a": 1}, "application/json; charset=utf-8"),
            (b'{"a": 1}', "application/json; charset=utf-8", 200),
            id="an object with the type as the script wrote it",
        ),
        pytest.param(
            (mx.nd.array([[1, 2]]), CSV), (b"1.0,2.0\r\n", CSV, 200), id="a pair with an NDArray"
        ),
        pytest.param((None, "a/b"), (b"", "a/b", 200), id="a pair with None"),
        pytest.param(b"x", (b"x", JSON, 200), id="bytes"),
        pytest.param(bytearray(b"x"), (b"x", JSON, 200), id="bytearray"),
        pytest.param("x", (b"x", JSON, 200), id="text"),
        pytest.param({"a": [1]}, (b'{"a": [1]}', JSON, 200), id="a dict"),
        pytest.param([0.5, "x"], (b'[0.5, "x"]', JSON, 200), id="a list"),
        pytest.param(3, (b"3", JSON, 200), id="a number"),
        pytest.param(np.float32(0.5), (b"0.5", JSON, 200), id="NumPy's number"),
        pytest.param(np.array([1, 2]), (b"[1, 2]", JSON, 200), id="an ndarray"),
        pytest.param(mx.nd.array([1]), (b"[1.0]", JSON, 200), id="an NDArray"),
        pytest.param([[mx.nd.array([1])]], (b"[[[1.0]]]", JSON, 200), id="lists of NDArrays"),
        pytest.param(Response(), (b"<p>tea</p>", "text/html", 418), id="a web framework's reply"),
    ],
)
@pytest.mark.parametrize("hook", ["transform_fn", "output_fn"])
def test_every_kind_of_return_value(sum_block, hook, value, reply):
    """Scripts of all generations return these; each becomes a body, a type and a status."""
    hooks = {"transform_fn": lambda *args: value}
    if hook == "output_fn":
        hooks = {"output_fn": lambda *args: value}
    assert answer(pipeline(sum_block, hooks)) == reply


BODY = "bytes, text, arrays, or numbers, lists or dicts of them, or one of these and a content type"
ARRAYS = "an NDArray or a list of them"


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        pytest.param(
            {"transform_fn": lambda *args: None},
            f"transform_fn returned None, wanted {BODY}",
            id="transform_fn",
        ),
        pytest.param(
            {"output_fn": lambda prediction, accept: None},
            f"output_fn returned None, wanted {BODY}",
            id="output_fn",
        ),
        pytest.param(
            {"predict_fn": lambda data, model: None},
            f"predict_fn returned None, wanted {ARRAYS}",
            id="predict_fn",
        ),
        pytest.param(
            {"process_request_fn": lambda model, data, content_type: None},
            f"process_request_fn returned None, wanted {ARRAYS}",
            id="process_request_fn",
        ),
        pytest.param(
            {"input_fn": lambda data, content_type: None},
            "input_fn returned None, wanted data for predict_fn",
            id="input_fn",
        ),
        pytest.param(
            {"input_fn": lambda data, content_type: None, "predict_fn": lambda data, net: data[0]},
            "input_fn returned None, wanted data for predict_fn",
            id="input_fn, seen in predict_fn",
        ),
        pytest.param(
            {"predict_fn": lambda data, net: None, "output_fn": lambda out, ct: out.asnumpy()},
            f"predict_fn returned None, wanted {ARRAYS}",
            id="predict_fn, seen in output_fn",
        ),
        pytest.param(
            {
                "process_request_fn": lambda model, data, content_type: None,
                "output_fn": lambda prediction, accept: prediction.asnumpy(),
            },
            f"process_request_fn returned None, wanted {ARRAYS}",
            id="process_request_fn, seen in output_fn",
        ),
        pytest.param(
            {"output_fn": lambda prediction, accept: {1, 2}},
            f"output_fn returned a set, wanted {BODY}: JSON has no form for the type set",
            id="a set",
        ),
        pytest.param(
            {"transform_fn": lambda *args: ({"a": object()}, CSV)},
            f"transform_fn returned a tuple, wanted {BODY}: JSON has no form for the type object",
            id="an object in a dict in a pair",
        ),
        pytest.param(
            {"predict_fn": lambda data, model: object()},
            f"predict_fn returned an object, wanted {ARRAYS}: JSON has no form for the type object",
            id="an object as a prediction",
        ),
    ],
)
@pytest.mark.parametrize("accept", [JSON, CSV, "*/*"])
def test_a_result_that_cannot_be_used(sum_block, hooks, message, accept):
    """The script is at fault, whatever the client asks for, and the function is known."""
    with pytest.raises(ScriptError) as error:
        answer(pipeline(sum_block, hooks), accept=accept)
    assert str(error.value) == message
    assert error.value.function is hooks[message.split()[0]]


def test_a_block_that_returns_nothing():
    class Forgets(mx.gluon.Block):
        def forward(self, x):
            pass

    with pytest.raises(
        ScriptError, match=f"^the default predict_fn returned None, wanted {ARRAYS}"
    ):
        answer(pipeline(Forgets()))


def test_a_model_fn_that_returns_nothing():
    """It is at fault if another function stumbles over it."""
    hooks = {
        "model_fn": lambda model_dir: None,
        "transform_fn": lambda model, data, ct, accept: model(data),
    }
    with pytest.raises(ScriptError, match=r"^model_fn returned None, wanted a model$") as error:
        answer(pipeline(None, hooks))
    assert str(error.value.__cause__) == "'NoneType' object is not callable"


def test_none_on_purpose():
    """A script's own functions may hand None on, and an empty body is one with a content type."""
    hooks = {
        "model_fn": lambda model_dir: None,
        "input_fn": lambda data, content_type: None,
        "predict_fn": lambda data, model: None,
        "output_fn": lambda prediction, accept: (None, "a/b"),
    }
    assert answer(pipeline(None, hooks)) == (b"", "a/b", 200)
    hooks["output_fn"] = lambda prediction, accept: {}["gone"]
    with pytest.raises(KeyError):
        answer(pipeline(None, hooks))
    hooks["output_fn"] = lambda prediction, accept: [] + ()
    with pytest.raises(TypeError, match="can only concatenate list"):
        answer(pipeline(None, hooks))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param("text/plain", "text/plain", id="one type"),
        pytest.param("text/plain;q=0.9, text/csv", "text/csv", id="the best of several"),
        pytest.param("text/plain, text/csv", "text/plain", id="the first of equals"),
        pytest.param("image/*", JSON, id="a range is not a type"),
    ],
)
def test_a_bare_body_has_the_accepted_type(accept, content_type):
    """A body without a type gets the one type that the client accepts most."""
    assert reply_to(b"x", accept=accept) == (b"x", content_type, 200)


@pytest.mark.parametrize(
    ("value", "request_", "exception", "reason"),
    [
        pytest.param(
            object(),
            {},
            ScriptError,
            "JSON has no form for the type object$",
            id="an object of a class",
        ),
        pytest.param(
            {1: {2}}, {}, ScriptError, "JSON has no form for the type set$", id="a set inside"
        ),
        pytest.param(
            {"a": 1},
            {"accept": CSV},
            NotAcceptable,
            "text/csv: a cell can only hold",
            id="a dict as CSV",
        ),
        pytest.param(
            [1],
            {"accept": "image/png"},
            NotAcceptable,
            "^cannot write 'image/png', only ",
            id="a list as a picture",
        ),
    ],
)
def test_a_return_value_that_cannot_be_sent(value, request_, exception, reason):
    """A value that is no data is the script's error; a type that cannot hold it, the client's."""
    with pytest.raises(exception, match=reason):
        reply_to(value, **request_)


def test_a_scripts_exception_passes_through(sum_block):
    """What a script raises is passed on unchanged."""

    def predict_fn(data, model):
        raise KeyError("label")

    with pytest.raises(KeyError, match="label"):
        answer(pipeline(sum_block, {"predict_fn": predict_fn}))


# --- functions that do all of it ---


def test_process_request_fn_and_output_fn():
    """The second one writes what the first one returns; the default does if there is none."""
    hooks = {"process_request_fn": lambda model, data, content_type: [model, data, content_type]}
    assert (
        answer(pipeline("m", hooks), b"[1]", JSON, CSV).body == b"m\r\n[1]\r\napplication/json\r\n"
    )
    hooks["output_fn"] = lambda prediction, accept: (f"{prediction} as {accept}", "text/plain")
    assert answer(pipeline("m", hooks), b"[1]", JSON, CSV)[:2] == (
        f"['m', '[1]', '{JSON}'] as {CSV}".encode(),
        "text/plain",
    )


@pytest.mark.parametrize(
    ("hook", "others", "ignored"),
    [
        ("transform_fn", ["process_request_fn", "input_fn", "predict_fn", "output_fn"], 4),
        ("process_request_fn", ["input_fn", "predict_fn", "output_fn"], 2),
        ("transform_fn", [], 0),
    ],
)
def test_functions_that_are_not_called(caplog, hook, others, ignored):
    """The log names them."""
    hooks = {name: lambda model, data, content_type, accept=None: b"x" for name in [hook, *others]}
    if "output_fn" in hooks:
        hooks["output_fn"] = lambda prediction, accept: b"x"
    pipe = pipeline("m", hooks)
    assert pipe.hooks[0].name == hook
    expected = [f"{hook} replaces {', '.join(others[:ignored])}, which will not be called"]
    assert caplog.messages == (expected if ignored else [])
