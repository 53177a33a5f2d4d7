"""What the descriptions of both ports say, where a validator passes over what it does not know.

The whole descriptions are in tests/data/openapi.  To write those files anew:

    .venv/bin/python tests/unit/server/test_openapi.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Iterator

import pytest

from mms_handler import __version__
from mms_handler.manifest import Sample
from mms_handler.schema import Schema, Tensor
from mms_handler.server import inference_api, openapi
from mms_handler.server.api_parts import Described

ROWS = Schema((Tensor("data", (None, 2), "FP32"),), (Tensor("y", (None, 1), "FP32"),))
DESCRIPTIONS = {
    "management": openapi.description(),
    "inference": inference_api.description([Described("m", "1.0", ROWS)], "m", True),
}

#: Models that differ in all that a description says of one.
MODELS = [
    Described(
        "rows",
        "1.0",
        Schema((Tensor("data", (None, 2), "FP32"),), (Tensor("y", (None, 1), "FP32"),)),
        Sample(
            *("MAR-INF/sample.json", "application/json; charset=utf-8", "*/*"),
            {"status": 200, "content_type": "text/csv", "body": "1.5\n2.5\n"},
        ),
        b"[[1, 2], [3, 4]]",
    ),
    Described(
        "pair",
        "2",
        Schema(
            (Tensor("flags", (None, 3), "BOOL"), Tensor("words", (4,), "BYTES")),
            (Tensor("a", (None,), "FP32"), Tensor("b", (None,), "FP32")),
        ),
        Sample("MAR-INF/sample.csv", "text/csv", "*/*"),
        b"1,2\n" * 1_001,
    ),
    Described(
        "script",
        "3",
        Schema(
            (
                Tensor("picture", (1,), "BYTES", "image/png"),
                Tensor("lengths", (2,), "INT64", "application/x-npy"),
            ),
            (Tensor("output", (None,), "BYTES", "application/json"),),
        ),
    ),
]

DATA = Path(__file__).parents[2] / "data" / "openapi"


def whole(name: str) -> str:
    """A whole description, an operation a line, with VERSION for the package's."""
    described = {
        "management": openapi.description(),
        "inference": inference_api.description(MODELS, "rows", True),
    }[name]
    described["info"]["version"] = described["info"]["version"].replace(__version__, "VERSION")
    lines = [
        f"{method} {path} {json.dumps(operation)}"
        for path, operations in described.pop("paths").items()
        for method, operation in operations.items()
    ]
    return "\n".join([*lines, json.dumps(described, indent=1), ""])


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_the_whole_description(name):
    """Nothing that clients are told changes by mistake."""
    assert whole(name) == (DATA / f"{name}.txt").read_text()


def schemas(value: Any) -> Iterator[dict[str, Any]]:
    """All schemas in a description."""
    if isinstance(value, list):
        for each in value:
            yield from schemas(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key in ("schema", "items"):
                yield each
            elif key in ("properties", "schemas"):
                yield from each.values()
            yield from schemas(each)


@pytest.mark.parametrize("description", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_each_schema_says_what_it_means(description):
    """It has a type, and describes the fields that are required."""
    found = list(schemas(description))
    assert len(found) > 10
    for schema in found:
        assert schema.keys() & {"type", "$ref", "enum", "const", "allOf"}, schema
        if "properties" in schema:
            assert set(schema.get("required", ())) <= schema["properties"].keys(), schema


@pytest.mark.parametrize("description", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_each_operation_describes_its_parameters(description):
    """Those in the path are required; the others have a sentence."""
    for path, operations in description["paths"].items():
        for operation in operations.values():
            parameters = operation.get("parameters", [])
            in_path = [each for each in parameters if each["in"] == "path"]
            assert [each["name"] for each in in_path] == re.findall(r"\{(\w+)\}", path)
            assert all(each["required"] for each in in_path)
            others = [each for each in parameters if each["in"] != "path"]
            assert all(each["description"] for each in others)
            fields = operation.get("requestBody", {}).get("content", {})
            assert operation["operationId"]
            assert fields or "requestBody" not in operation


def test_fields_in_a_body_are_described():
    """As those in a query are."""
    registering = DESCRIPTIONS["management"]["paths"]["/models"]["post"]
    fields = registering["requestBody"]["content"]["application/json"]["schema"]["properties"]
    in_query = {each["name"]: each for each in registering["parameters"]}
    assert fields.keys() == in_query.keys()
    for name, field in fields.items():
        assert field == {
            "type": in_query[name]["schema"]["type"],
            "description": in_query[name]["description"],
        }


if __name__ == "__main__":
    for name in DESCRIPTIONS:
        (DATA / f"{name}.txt").write_text(whole(name))
