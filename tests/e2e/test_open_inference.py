"""The Open Inference Protocol with Triton's own client, and the API's description."""

from __future__ import annotations

import http.client
import json
import math
import sys
from typing import Any, Iterator

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("Triton's client needs Python 3.10", allow_module_level=True)

import tritonclient.http as triton
from openapi_spec_validator import OpenAPIV31SpecValidator
from running_mms import EXAMPLES, ROOT, Serving, free_ports, mms_handler, wait_for
from tritonclient.utils import InferenceServerException

from mms_handler import client

VERSION = "/versions/{version}"

MNIST = ROOT / "tests" / "data" / "mnist"

SLOW = """\
import time

def model_fn(model_dir):
    time.sleep(4)

def transform_fn(model, data, content_type, accept):
    return data, content_type
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory) -> Iterator[Serving]:
    """The linear example and MNIST with their samples, and a script without one."""
    store = tmp_path_factory.mktemp("store")
    sample = store / "row.csv"
    sample.write_text("5.1,3.5,1.4,0.2\n")
    for folder, *more in (
        (EXAMPLES / "linear",),
        (MNIST,),
        (EXAMPLES / "gluon_blocks", "--sample", sample),
    ):
        packed = mms_handler("archive", folder, "--model-store", store, *more)
        assert packed.returncode == 0, packed.stderr
    models = (store / "linear.mar", store / "mnist.mar", store / "gluon_blocks.mar")
    with Serving(free_ports(), *models, EXAMPLES / "transform") as serving:
        yield serving


@pytest.fixture
def server(serving) -> Iterator[Any]:
    """Triton's client."""
    with triton.InferenceServerClient(serving.inference.partition("//")[2]) as server:
        yield server


def infer_input(name: str, array: Any, datatype: str = "FP32", binary: bool = True) -> Any:
    tensor = triton.InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def post(serving: Serving, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """A request's status, and the JSON of its reply."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.call("POST", f"{serving.inference}{path}", encoded, headers)
    return answer.status, json.loads(answer.body)


def get(serving: Serving, path: str) -> tuple[int, Any]:
    answer = client.call("GET", f"{serving.inference}{path}")
    return answer.status, json.loads(answer.body)


# --- health and metadata ---------------------------------------------------------------------


def test_health(server):
    assert server.is_server_live()
    assert server.is_server_ready()
    assert server.is_model_ready("linear")
    assert server.is_model_ready("linear", "1")
    assert not server.is_model_ready("linear", "2")
    assert not server.is_model_ready("nobody")


def test_metadata(server):
    """What a model takes and gives has the names of its symbol; N is -1."""
    about = server.get_server_metadata()
    assert (about["name"], about["extensions"]) == ("mms_handler", ["binary_tensor_data"])
    assert server.get_model_metadata("linear") == {
        "name": "linear",
        "versions": ["1"],
        "platform": "mxnet_mxnet",
        "inputs": [{"name": "data", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "lro_output", "datatype": "FP32", "shape": [-1, 1]}],
    }
    assert server.get_model_metadata("linear", "1") == server.get_model_metadata("linear")
    assert server.get_model_metadata("gluon_blocks")["outputs"] == [
        {
            "name": "output",
            "datatype": "BYTES",
            "shape": [-1],
            "parameters": {"content_type": "application/json"},
        }
    ]


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        pytest.param("/v2/models/nobody", 404, "Model not found: nobody", id="no model"),
        pytest.param(
            "/v2/models/linear/versions/2", 404, "Model not found: linear/2", id="version"
        ),
        pytest.param("/v2/models/linear~1", 404, "Model not found: linear~1", id="MMS's own name"),
        pytest.param("/v2/models/nobody/ready", 404, "Model not found: nobody", id="ready"),
        pytest.param("/v2/models/linear/config", 404, "there is no such path", id="config"),
        pytest.param("/v2/health/x", 404, "there is no such path", id="health"),
        pytest.param("/v2/models/linear/infer", 405, "the path has POST, OPTIONS", id="GET infer"),
    ],
)
def test_paths_that_there_are_not(serving, path, status, error):
    assert get(serving, path) == (status, {"error": error})


def test_other_methods(serving):
    """POST to what is read; and OPTIONS, which says what there is."""
    assert post(serving, "/v2/models/linear", b"")[0] == 405
    for path in ("/v2", "/openapi.json", "/v2/health/live"):
        answer = client.call("OPTIONS", f"{serving.inference}{path}")
        assert (answer.status, answer.headers["allow"]) == (200, "GET, HEAD, OPTIONS")
        answer = client.call("HEAD", f"{serving.inference}{path}")
        assert (answer.status, answer.body) == (200, b"")


# --- predictions -----------------------------------------------------------------------------


@pytest.mark.parametrize("binary_in", [True, False], ids=["binary in", "JSON in"])
@pytest.mark.parametrize("binary_out", [True, False], ids=["binary out", "JSON out"])
@pytest.mark.parametrize("packed", [None, "gzip"], ids=["plain", "gzip"])
def test_the_same_as_predictions(serving, server, binary_in, binary_out, packed):
    """To the last bit, in every form."""
    rows = np.random.default_rng(7).random((3, 784), np.float32)
    answer = serving.ask("mnist", json.dumps(rows.tolist()).encode())
    (name,) = (each["name"] for each in server.get_model_metadata("mnist")["outputs"])
    result = server.infer(
        "mnist",
        [infer_input("data", rows, binary=binary_in)],
        outputs=[triton.InferRequestedOutput(name, binary_data=binary_out)],
        request_id="7",
        request_compression_algorithm=packed,
    )
    assert result.as_numpy(name).tolist() == json.loads(answer.body)
    reply = result.get_response()
    assert (reply["id"], reply["model_name"], reply["model_version"]) == ("7", "mnist", "1")


@pytest.mark.parametrize("version", ["", "1"])
def test_all_outputs_if_none_is_named(server, version):
    result = server.infer(
        "linear", [infer_input("data", np.float32([[1, 2], [3, 4]]))], model_version=version
    )
    assert result.as_numpy("lro_output").tolist() == [[4.9999918937683105], [10.999981880187988]]


@pytest.mark.parametrize("datatype", ["INT8", "UINT8", "INT32", "INT64", "FP16", "FP64"])
def test_other_types_of_numbers(server, datatype):
    """They are read as float32, as all numbers are."""
    dtype = {"FP16": np.float16, "FP64": np.float64}.get(datatype) or datatype.lower()
    result = server.infer("linear", [infer_input("data", np.array([[1, 2]], dtype), datatype)])
    assert result.as_numpy("lro_output").tolist() == [[4.9999918937683105]]


def test_a_script_that_writes_texts(serving, server):
    result = server.infer("gluon_blocks", [infer_input("x", np.float32([[5.1, 3.5, 1.4, 0.2]]))])
    assert result.as_numpy("output").tolist() == [b"setosa"]
    assert serving.ask("gluon_blocks", b"[[5.1, 3.5, 1.4, 0.2]]").body == b'["setosa"]'


def test_a_script_that_reads_texts(serving, server):
    """It gets the text, with the type that the client names."""
    text = b"good movie"
    expected = serving.ask("transform", text, content_type="text/plain")
    tensor = {
        "name": "text",
        "datatype": "BYTES",
        "shape": [1],
        "data": [text.decode()],
        "parameters": {"content_type": "text/plain"},
    }
    status, answer = post(serving, "/v2/models/transform/infer", {"inputs": [tensor]})
    assert status == 200
    assert answer["outputs"][0]["data"] == np.ravel(json.loads(expected.body)).tolist()


def test_the_private_type_means_the_same_elsewhere(serving):
    """A client that sends it to /predictions gets tensors; no other type means it there."""
    tensor = {"name": "data", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    body = {"inputs": [tensor]}
    private = {"Content-Type": "application/vnd.mms-handler.infer+json"}
    text = {"Content-Type": "text/csv"}
    status, reply = post(serving, "/v2/models/linear/infer", body, **text)
    assert (status, reply.pop("model_version")) == (200, "1")  # the gate says it on its own paths
    assert post(serving, "/predictions/linear", body, **private) == (200, reply)
    assert (
        post(serving, "/predictions/linear", body, **{"Content-Type": "application/json"})[0] == 400
    )


def test_errors_of_the_client(server):
    """Triton's client reads the reason."""
    with pytest.raises(InferenceServerException, match="Model not found: nobody"):
        server.infer("nobody", [infer_input("data", np.float32([[1, 2]]))])
    with pytest.raises(InferenceServerException, match="the model's input is data"):
        server.infer("linear", [infer_input("x", np.float32([[1, 2]]))])
    with pytest.raises(InferenceServerException, match=r"the model takes \(N, 2\)"):
        server.infer("linear", [infer_input("data", np.float32([[1, 2, 3]]))])
    with pytest.raises(InferenceServerException, match="the model's outputs are lro_output"):
        server.infer(
            "linear",
            [infer_input("data", np.float32([[1, 2]]))],
            outputs=[triton.InferRequestedOutput("y")],
        )


@pytest.mark.parametrize(
    ("body", "length", "status", "error"),
    [
        pytest.param(b"{", None, 400, "not a valid inference request", id="no JSON"),
        pytest.param(b"", None, 400, "not a valid inference request", id="nothing"),
        pytest.param(b"[" * 10_000, None, 400, "not a valid inference request", id="deep"),
        pytest.param(b"{}", "7", 400, "is 7, but the body has 2 bytes", id="longer than the body"),
        pytest.param(b"{}", 'x; y="', 400, "which is not a number of bytes", id="no number"),
        pytest.param(b"{}", '2"; version="9', 400, "not a number of bytes", id="a parameter"),
        pytest.param(b"{}", "2\\", 400, "is '2", id="a backslash"),
    ],
)
def test_bodies_that_are_refused(serving, body, length, status, error):
    headers = {"Inference-Header-Content-Length": length} if length else {}
    got, answer = post(serving, "/v2/models/linear/infer", body, **headers)
    assert got == status
    assert error in answer["error"]


def test_two_lengths_of_the_json(serving):
    """The first does not win: a proxy may go by the other one."""
    connection = http.client.HTTPConnection(serving.inference.partition("//")[2], timeout=30)
    connection.putrequest("POST", "/v2/models/linear/infer")
    for length in ("2", "1"):
        connection.putheader("Inference-Header-Content-Length", length)
    connection.putheader("Content-Length", "2")
    connection.endheaders(b"{}")
    reply = connection.getresponse()
    assert (reply.status, "is '2, 1', which is not" in json.loads(reply.read())["error"]) == (
        400,
        True,
    )
    connection.close()


def test_a_model_that_is_being_loaded(tmp_path):
    """503 until it answers, and then its metadata."""
    (tmp_path / "slow" / "code").mkdir(parents=True)
    (tmp_path / "slow" / "code" / "inference.py").write_text(SLOW)
    with Serving(free_ports(), EXAMPLES / "linear", "--model-store", tmp_path) as serving:
        url = f"{serving.management}/models?url=slow&initial_workers=1&synchronous=false"
        assert client.call("POST", url).status == 202
        loading = "the model is being loaded; try again later"
        wait_for(lambda: get(serving, "/v2/models/slow") == (503, {"error": loading}), 3)
        assert get(serving, "/v2/models/slow/ready") == (503, {"name": "slow", "ready": False})
        status, answer = post(serving, "/v2/models/slow/infer", {})
        assert (status, answer) == (503, {"error": loading})
        assert get(serving, "/v2/health/ready") == (200, {"ready": True})


# --- OpenAPI ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def description(serving) -> dict[str, Any]:
    return get(serving, "/openapi.json")[1]


def test_the_description_is_openapi(description):
    assert list(OpenAPIV31SpecValidator(description).iter_errors()) == []
    assert description["openapi"] == "3.1.0"


def test_the_paths_that_are_described(description):
    names = ["gluon_blocks", "linear", "mnist", "transform"]
    starts = [
        f"/v2/models/{name}{version}" for name in names for version in ("", "/versions/{version}")
    ]
    assert sorted(description["paths"]) == sorted(
        [
            *("/ping", "/metrics", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready"),
            *(f"/predictions/{name}" for name in names),
            *(f"{start}{end}" for start in starts for end in ("", "/ready", "/infer")),
        ]
    )


def test_the_examples_are_what_the_server_answers(serving, description):
    """Each is whole, and gets the reply that is beside it."""
    answered = []
    for path, operations in description["paths"].items():
        operation = operations.get("post", {})
        for content_type, content in operation.get("requestBody", {}).get("content", {}).items():
            if "example" not in content:
                continue
            example = content["example"]
            body = example if isinstance(example, str) else json.dumps(example)
            url = f"{serving.inference}{path.replace('{version}', '1')}"
            answer = client.invoke(url, body.encode(), content_type, "*/*")
            assert answer.status == 200
            answered.append(path)
            reply = operation["responses"]["200"]["content"]["application/json"].get("example")
            assert reply is None or near(json.loads(answer.body), reply)
            assert (reply is None) == path.startswith("/v2")
    starts = [f"/v2/models/{name}{end}" for name in ("linear", "mnist") for end in ("", VERSION)]
    names = ("gluon_blocks", "linear", "mnist")
    expected = [*(f"/predictions/{name}" for name in names), *(f"{each}/infer" for each in starts)]
    assert sorted(answered) == sorted(expected)


def near(first: Any, second: Any) -> bool:
    if isinstance(first, list):
        return len(first) == len(second) and all(map(near, first, second))
    return first == second or math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-6)


def test_shapes_that_are_described(description):
    content = description["paths"]["/predictions/mnist"]["post"]["requestBody"]["content"]
    lists, lengths = content["application/json"]["schema"], []
    while lists["type"] == "array":
        lengths.append((lists["minItems"], lists.get("maxItems")))
        lists = lists["items"]
    assert lengths == [(1, None), (1, 1), (28, 28), (28, 28)]
