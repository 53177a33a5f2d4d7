"""deploy/kserve/ fits KServe's own schemas; its command is run in tests/e2e/test_kserve.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.version_info < (3, 10), reason="jsonschema comes with 3.10")

SCHEMAS = json.loads((ROOT / "tests" / "data" / "kserve" / "schema.json").read_text())


def manifest(name: str) -> dict:
    return yaml.safe_load((ROOT / "deploy" / "kserve" / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", ["runtime", "service"])
def test_the_manifests_fit_the_schema(name):
    """Also without fields that KServe does not know."""
    import jsonschema

    value = manifest(name)
    jsonschema.validate(value, SCHEMAS[value["kind"]])
    value["spec"]["unknown"] = 1
    with pytest.raises(jsonschema.ValidationError, match="'unknown' was unexpected"):
        jsonschema.validate(value, SCHEMAS[value["kind"]])


def test_the_service_uses_the_runtime():
    runtime, service = manifest("runtime"), manifest("service")
    model = service["spec"]["predictor"]["model"]
    formats = [each["name"] for each in runtime["spec"]["supportedModelFormats"]]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert formats == [model["modelFormat"]["name"]] == ["mxnet"]
    assert runtime["spec"]["protocolVersions"] == [model["protocolVersion"]] == ["v2"]


def test_the_probes_ask_for_readiness():
    """The container that KServe looks for has all three."""
    (container,) = manifest("runtime")["spec"]["containers"]
    assert container["name"] == "kserve-container"
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert probes == [{"path": "/v2/health/ready", "port": 8080}] * 3
