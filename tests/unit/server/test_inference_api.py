"""The description of the public port, and what the gate answers about models."""

from __future__ import annotations

import json
import sys

import pytest

from mms_handler import codecs, worker_files
from mms_handler.manifest import Sample
from mms_handler.schema import Schema, Tensor
from mms_handler.server import inference_api, tensor_api
from mms_handler.server.api_parts import Described
from mms_handler.server.documents import Documents, describe, schema_in

ROWS = Schema((Tensor("data", (None, 2), "FP32"),), (Tensor("y", (None, 1), "FP32"),))
JSON, CSV = "application/json", "text/csv"


def sample(body: bytes, content_type: str = JSON, reply: str = "[[1.5]]") -> dict:
    entry = {"status": 200, "content_type": JSON, "body": reply}
    return {"sample": Sample("MAR-INF/sample.json", content_type, "*/*", entry), "body": body}


def description(*models: Described, invocations: str = "", multi_model: bool = False) -> dict:
    """The description, which must be valid OpenAPI 3.1."""
    made = inference_api.description(models, invocations, multi_model)
    if sys.version_info >= (3, 10):  # the validator of older Pythons is another one
        from openapi_spec_validator import OpenAPIV31SpecValidator

        assert list(OpenAPIV31SpecValidator(made).iter_errors()) == []
    return json.loads(json.dumps(made))


def content(described: dict, path: str) -> tuple[dict, dict]:
    """The types of a path's requests and of its replies."""
    operation = described["paths"][path]["post"]
    return operation["requestBody"]["content"], operation["responses"]["200"]["content"]


SERVER = {"/ping", "/metrics", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready"}
TENSORS = {
    f"/v2/models/m{version}{end}"
    for version in ("", "/versions/{version}")
    for end in ("", "/ready", "/infer")
}


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        pytest.param({}, set(), id="a request must name a model"),
        pytest.param({"invocations": "m"}, {"/invocations"}, id="the only model"),
        pytest.param({"multi_model": True}, {"/models/m/invoke"}, id="models come and go"),
    ],
)
def test_paths(options, paths):
    described = description(Described("m", "1", ROWS), **options)
    assert set(described["paths"]) == {*SERVER, *TENSORS, "/predictions/m", *paths}


def test_a_server_without_models():
    assert set(description()["paths"]) == SERVER


def test_the_types_of_the_default_functions():
    """They are those that there is a codec for."""
    request, reply = content(description(Described("m", "1", ROWS)), "/predictions/m")
    assert list(request) == list(inference_api.READ)
    assert all(map(codecs.reads, set(request) - {"image/jpeg", "image/png", "application/x-image"}))
    assert list(reply) == list(inference_api.WRITTEN)
    assert all(map(codecs.writes, reply))
    assert request[JSON]["schema"] == {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "array",
            "minItems": 2,
            "maxItems": 2,
            "items": {"type": ["number", "null"]},
        },
    }


def test_several_inputs_and_outputs():
    """Inputs by name; a list of outputs."""
    two = tuple(Tensor(name, (None,), "FP32") for name in ("a", "b"))
    described = description(Described("m", "1", Schema(two, two)))
    request, reply = content(described, "/predictions/m")
    assert request[JSON]["schema"]["required"] == ["a", "b"]
    assert reply[JSON]["schema"] == {"type": "array", "minItems": 2, "maxItems": 2}


def test_a_script_reads_and_writes_what_its_sample_shows():
    body = Tensor("body", (1,), "BYTES", "image/png")
    texts = Tensor("output", (None,), "BYTES", JSON)
    described = Described("m", "1", Schema((body,), (texts,)))
    request, reply = content(description(described), "/predictions/m")
    assert (request, reply) == ({"image/png": {}}, {JSON: {}})


def test_what_is_not_known_is_anything():
    request, reply = content(description(Described("m", "1")), "/predictions/m")
    assert (request, reply) == ({"*/*": {}}, {"*/*": {}})


def test_a_sample_is_an_example():
    """With its reply; and as tensors of its own shape."""
    described = description(Described("m", "1", ROWS, **sample(b"[[1, 2], [3, 4]]")))
    request, reply = content(described, "/predictions/m")
    assert request[JSON]["example"] == [[1, 2], [3, 4]]
    assert reply[JSON]["example"] == [[1.5]]
    tensors, _ = content(described, "/v2/models/m/infer")
    assert tensors[JSON]["example"] == {
        "inputs": [{"name": "data", "datatype": "FP32", "shape": [2, 2], "data": [[1, 2], [3, 4]]}]
    }


@pytest.mark.parametrize(
    ("body", "content_type", "example"),
    [
        pytest.param(b"1,2\n", CSV, "1,2\n", id="CSV"),
        pytest.param(b"\xff", CSV, None, id="no text"),
        pytest.param(b"{", JSON, None, id="no JSON"),
        pytest.param(b" " * 3_999 + b"1", JSON, 1, id="as long as may be"),
        pytest.param(b" " * 4_000 + b"1", JSON, None, id="too long"),
    ],
)
def test_examples(body, content_type, example):
    described = description(Described("m", "1", ROWS, **sample(body, content_type)))
    request, _ = content(described, "/predictions/m")
    assert request[content_type].get("example") == example
    tensors, _ = content(described, "/v2/models/m/infer")
    assert "example" not in tensors[JSON]


def test_a_long_sample_is_in_the_description():
    """Its beginning; the schema has no cut example."""
    body = b"[" + b"1.5, " * 1_000 + b"1]"
    described = description(Described("m", "1", ROWS, **sample(body)))
    text = described["paths"]["/predictions/m"]["post"]["description"]
    assert text == f"The packed sample is application/json of 5003 bytes: {body[:200].decode()} ..."


# --- documents -------------------------------------------------------------------------------


def test_metadata():
    """-1 stands for any length; the type of a script's body is a parameter."""
    body = Tensor("body", (1,), "BYTES", CSV)
    described = Described("m", "2", Schema(ROWS.inputs, (body,)))
    assert tensor_api.metadata(described, ["1", "2"]) == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "mxnet_mxnet",
        "inputs": [{"name": "data", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [
            {
                "name": "body",
                "datatype": "BYTES",
                "shape": [1],
                "parameters": {"content_type": CSV},
            }
        ],
    }


def test_the_files(tmp_path):
    """One for each version; those of versions that are gone are removed."""
    documents = Documents(tmp_path)
    versions = {"m": Described("m", "1", ROWS), "m~2": Described("m", "2", ROWS)}
    documents.write(versions, ["m~2"], "m", False)
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"m.json", "m~2.json"}
    assert json.loads((tmp_path / "models" / "m.json").read_text())["versions"] == ["1", "2"]
    paths = json.loads((tmp_path / "openapi.json").read_text())["paths"]
    assert "/predictions/m" in paths
    documents.write({"m~2": versions["m~2"]}, ["m~2"], "m", False)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["m~2.json"]


def test_a_file_that_cannot_be_written(tmp_path):
    """As on a full disk: what was begun is removed."""
    (tmp_path / "models" / "m.json").mkdir(parents=True)
    Documents(tmp_path).write({"m": Described("m", "1", ROWS)}, ["m"], "m", False)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["m.json"]


def test_a_worker_says_what_a_model_takes(tmp_path):
    """Until it does, or if it writes nonsense, nothing is known."""
    assert schema_in(tmp_path) == Schema()
    worker_files.write_schema(tmp_path, '{"inputs": []}')
    assert schema_in(tmp_path) == Schema()
    text = '{"inputs": [{"name": "data", "shape": ["N", 2], "type": "FP32"}], "outputs": []}'
    worker_files.write_schema(tmp_path, text)
    assert schema_in(tmp_path).inputs == ROWS.inputs
    assert describe("m", "1", tmp_path).sample is None
