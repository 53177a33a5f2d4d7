"""deploy/ray/ fits KubeRay's schema and the command; tests/cluster runs that on a real cluster."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from mms_handler.cli import group

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manifests():
    with open(ROOT / "deploy" / "ray" / "job.yaml") as file:
        return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(file)}


@pytest.fixture(scope="module")
def pods(manifests):
    """The head's, and that of the nodes with models."""
    cluster = manifests["RayJob"]["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    return [each["template"]["spec"] for each in (cluster["headGroupSpec"], workers)]


@pytest.mark.skipif(sys.version_info < (3, 10), reason="jsonschema comes with 3.10")
def test_the_job_fits_the_schema(manifests):
    """Also without fields that KubeRay does not know."""
    import jsonschema

    schema = json.loads((ROOT / "tests" / "data" / "kuberay" / "schema.json").read_text())
    job = json.loads(json.dumps(manifests["RayJob"]))
    jsonschema.validate(job, schema)
    job["spec"]["rayClusterSpec"]["unknown"] = 1
    with pytest.raises(jsonschema.ValidationError, match="'unknown' was unexpected"):
        jsonschema.validate(job, schema)


def test_the_entrypoint_is_a_command(manifests):
    """Its driver is on the head; what it must not lose is in the claim's volume."""
    program, name, *words = shlex.split(manifests["RayJob"]["spec"]["entrypoint"])
    assert (program, name) == ("mms-handler", "transform")
    options = group.commands[name].make_context(name, words).params
    assert options["ray"] == "auto"
    assert options["state"] == Path("/state")
    assert options["json_file"] == Path("/state/report.json")


def test_only_the_head_keeps_something(manifests, pods):
    """It has no actors; the state is a claim, the object stores are in memory."""
    cluster = manifests["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    claim = manifests["PersistentVolumeClaim"]["metadata"]["name"]
    mounts = [
        {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        for pod in pods
    ]
    assert mounts == [{"/state": "state", "/dev/shm": "shm"}, {"/dev/shm": "shm"}]
    assert pods[0]["volumes"][0] == {
        "name": "state",
        "persistentVolumeClaim": {"claimName": claim},
    }
    for pod in pods:
        assert pod["volumes"][-1]["emptyDir"]["medium"] == "Memory"


def test_the_pods_have_no_privileges(pods):
    for pod in pods:
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"] == container["resources"]["limits"]


def test_all_have_one_ray(manifests, pods):
    """The image's is that of the manifest, and the one that is tested."""
    dockerfile = (ROOT / "deploy" / "ray" / "Dockerfile").read_text()
    locked = (ROOT / "requirements" / "test.txt").read_text()
    (version,) = re.findall(r'"ray\[default\]==(.+?)"', dockerfile)
    assert manifests["RayJob"]["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert f"\nray=={version} ; python_full_version >= '3.10'" in locked
    assert {pod["containers"][0]["image"] for pod in pods} == {"mms-handler:ray"}
    assert re.findall(r"^(?:USER|ENTRYPOINT) (.+)", dockerfile, re.MULTILINE)[-2:] == [
        "10001",
        "[]",
    ]
