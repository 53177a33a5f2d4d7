"""open_inference: serve --dev answers the Open Inference Protocol, and describes itself."""

from __future__ import annotations

import dataclasses
import http.client
import json
import struct
import sys

import pytest

from mms_handler import client, dev
from mms_handler.dev import open_inference
from mms_handler.dev.worker import Reply
from mms_handler.settings import Settings
from tests.unit.dev.test_dev import ROOT, free_port

TENSOR = {"name": "data", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}

SCRIPT = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    raise KeyError("a bug")
"""


@pytest.fixture(scope="module")
def url():
    """Of a server of the linear example."""
    settings = dataclasses.replace(Settings(), port=free_port())
    with dev.serve(ROOT / "model_archives" / "linear", None, settings, print) as server:
        yield server.url.partition("/predictions")[0]


def get(url):
    answer = client.call("GET", url)
    return answer.status, json.loads(answer.body)


def post(url, body, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.call("POST", url, body, headers)


def test_what_is_asked_first(url):
    """As serve says it; the only version is 1."""
    assert get(f"{url}/v2")[1]["extensions"] == ["binary_tensor_data"]
    assert get(f"{url}/v2/health/live") == (200, {"live": True})
    assert get(f"{url}/v2/health/ready") == (200, {"ready": True})
    metadata = {
        "name": "linear",
        "versions": ["1"],
        "platform": "mxnet_mxnet",
        "inputs": [{"name": "data", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "lro_output", "datatype": "FP32", "shape": [-1, 1]}],
    }
    for path in ("/v2/models/linear", "/v2/models/linear/versions/1"):
        assert get(f"{url}{path}") == (200, metadata)
        assert get(f"{url}{path}/ready") == (200, {"name": "linear", "ready": True})
    for path in ("/v2/models/other", "/v2/models/linear/versions/2", "/v2/x", "/v2/models/ready"):
        message = "there is no such path; the model is /v2/models/linear"
        assert get(f"{url}{path}") == (404, {"error": message})


@pytest.mark.parametrize("path", ["/v2/models/linear", "/v2/models/linear/versions/1"])
def test_tensors(url, path):
    """In JSON, and in binary."""
    reply = json.loads(post(f"{url}{path}/infer", {"id": "7", "inputs": [TENSOR]}).body)
    assert reply == {
        "model_name": "linear",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {
                "name": "lro_output",
                "datatype": "FP32",
                "shape": [1, 1],
                "data": [4.9999918937683105],
            }
        ],
    }
    size = {"parameters": {"binary_data_size": 8}}
    tensor = {name: TENSOR[name] for name in ("name", "datatype", "shape")}
    message = {"inputs": [{**tensor, **size}], "parameters": {"binary_data_output": True}}
    head = json.dumps(message).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    answer = post(f"{url}{path}/infer", head + struct.pack("<2f", 1, 2), **length)
    at = int(answer.headers["inference-header-content-length"])
    assert struct.unpack("<f", answer.body[at:]) == (4.9999918937683105,)


@pytest.mark.parametrize(
    ("lengths", "shown"),
    [
        pytest.param(["2", "1"], "'2, 1'", id="two"),
        pytest.param(['2"; version="9'], "'2\\\\\"; version=\\\\\"9'", id="a parameter"),
    ],
)
def test_lengths_of_the_json_that_are_refused(url, lengths, shown):
    """As serve does."""
    connection = http.client.HTTPConnection(url.partition("//")[2], timeout=30)
    connection.putrequest("POST", "/v2/models/linear/infer")
    for length in lengths:
        connection.putheader("Inference-Header-Content-Length", length)
    connection.putheader("Content-Length", "2")
    connection.endheaders(b"{}")
    reply = connection.getresponse()
    error = json.loads(reply.read())["error"]
    connection.close()
    name = "Inference-Header-Content-Length"
    assert (reply.status, error) == (
        400, f"not a valid inference request: {name} is {shown}, which is not a number of bytes"
    )  # fmt: skip


def test_errors(url):
    """They have the protocol's form."""
    answer = post(f"{url}/v2/models/linear/infer", b"{")
    assert (answer.status, list(json.loads(answer.body))) == (400, ["error"])
    answer = post(f"{url}/v2/models/other/infer", {})
    assert (answer.status, list(json.loads(answer.body))) == (404, ["error"])


def test_a_bug_of_the_script(tmp_path):
    """Its traceback stays for the person who edits; the next load says why there is no model."""
    (tmp_path / "words" / "code").mkdir(parents=True)
    script = tmp_path / "words" / "code" / "inference.py"
    script.write_text(SCRIPT)
    settings = dataclasses.replace(Settings(), port=free_port())
    with dev.serve(tmp_path / "words", None, settings, print) as server:
        url = server.url.partition("/predictions")[0]
        answer = post(f"{url}/v2/models/words/infer", {"inputs": [TENSOR]})
        error = json.loads(answer.body)
        assert (answer.status, error["error"]) == (
            500, "KeyError: 'a bug' (code/inference.py, line 6)"
        )  # fmt: skip
        assert error["traceback"].endswith("KeyError: 'a bug'")


def test_without_a_model():
    """Nothing is described, and all is not ready."""
    for path in ("/openapi.json", "/v2/models/m", "/v2/models/m/ready", "/v2/health/ready"):
        assert open_inference.answer(path, "m", None).status == 503
    assert open_inference.answer("/v2", "m", None).status == 200
    assert open_inference.answer("/ui/", "m", None) is None


def test_an_error_that_a_script_writes():
    """Its text is the error, and its headers stay."""
    reply = Reply(418, {"content-type": "text/plain", "x-mine": "a"}, b"a teapot")
    formed = open_inference.in_form(reply)
    assert (formed.status, json.loads(formed.body)) == (418, {"error": "a teapot"})
    assert formed.headers == {"content-type": "application/json", "x-mine": "a"}


def test_the_description(url):
    """It has what this server has, and an example from the model's shapes."""
    description = get(f"{url}/openapi.json")[1]
    starts = ("/v2/models/linear", "/v2/models/linear/versions/{version}")
    assert sorted(description["paths"]) == sorted(
        [
            *("/ping", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready"),
            *("/predictions/linear", "/models/linear/invoke", "/invocations"),
            *(f"{start}{end}" for start in starts for end in ("", "/ready", "/infer")),
        ]
    )
    content = description["paths"]["/predictions/linear"]["post"]["requestBody"]["content"]
    assert content["application/json"]["example"] == [[0, 0]]
    if sys.version_info >= (3, 10):
        from openapi_spec_validator import OpenAPIV31SpecValidator

        assert list(OpenAPIV31SpecValidator(description).iter_errors()) == []


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Triton's client needs Python 3.10")
def test_tritons_client(url):
    import numpy as np
    import tritonclient.http as triton

    with triton.InferenceServerClient(url.partition("//")[2]) as server:
        assert server.is_model_ready("linear")
        tensor = triton.InferInput("data", (1, 2), "FP32")
        tensor.set_data_from_numpy(np.float32([[1, 2]]), binary_data=True)
        result = server.infer("linear", [tensor])
        assert result.as_numpy("lro_output").tolist() == [[4.9999918937683105]]
