"""deploy/ and the pages on it, held to what the commands, the settings and AWS's service are.

No Docker, no cluster and no account: docs/deployment.md says what was tried by hand, and how.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from importlib import util
from pathlib import Path

import boto3
import dockerfile_parse
import pytest
import yaml

from mms_handler import settings
from mms_handler.cli import group
from mms_handler.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sagemaker.md").read_text()

# --- the image -------------------------------------------------------------------------------

EVERYWHERE = {  # in each Debian, for its own commands
    *("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0"),
    *("libgcc_s.so.1", "libstdc++.so.6"),
}


@pytest.fixture(scope="module")
def steps():
    """(instruction, value) of each line of the Dockerfile."""
    with open(ROOT / "deploy" / "Dockerfile", "rb") as file:
        parsed = dockerfile_parse.DockerfileParser(fileobj=io.BytesIO(file.read())).structure
    return [(one["instruction"], one["value"]) for one in parsed]


@pytest.fixture(scope="module")
def image(steps):
    """The same of the last stage, which the image is."""
    start = max(index for index, (name, _) in enumerate(steps) if name == "FROM")
    return steps[start:]


def values(steps, instruction):
    return [value for name, value in steps if name == instruction]


def commands(image):
    """What the image runs, as a list of words each: at its start, and to see its health."""
    (entry,) = values(image, "ENTRYPOINT")
    (start,) = values(image, "CMD")
    (health,) = values(image, "HEALTHCHECK")
    return json.loads(entry) + json.loads(start), json.loads(health.partition(" CMD ")[2])


def test_the_image_runs_our_commands(image):
    """Without a shell between, which would keep signals from them; each command is there."""
    assert commands(image) == (["mms-handler", "serve"], ["mms-handler", "ready"])
    assert {"serve", "ready", "train"} <= set(group.commands)


def test_sagemaker_is_told_what_the_image_can(image):
    """The port may be another, and there may be many models."""
    (labels,) = values(image, "LABEL")
    assert "com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in labels
    assert "com.amazonaws.sagemaker.capabilities.multi-models=true" in labels
    assert values(image, "EXPOSE") == [str(Settings().port)]


def test_the_user_is_a_number_and_not_root(image):
    """Kubernetes' runAsNonRoot refuses a name; the number is that of the user who is made."""
    assert values(image, "USER") == ["${RUN_AS}"]
    assert values(image, "ARG") == ["RUN_AS=10001"]
    assert any("useradd --uid 10001 " in run for run in values(image, "RUN"))


def test_nothing_that_builds_is_in_the_image(steps, image):
    """pip and its cache stay in another stage, and apt leaves no lists."""
    assert not [run for run in values(image, "RUN") if "pip install" in run or "gcc" in run]
    assert all("--no-cache-dir" in run for run in values(steps, "RUN") if "pip install" in run)
    assert all("rm -rf /var/lib/apt/lists" in run for run in values(image, "RUN") if "apt" in run)


def test_the_image_takes_each_package_from_a_lock_file(steps):
    """With its hash; only the repository's own folders are installed without, and bring nothing."""
    locked, unlocked = (run for run in values(steps, "RUN") if "pip install" in run)
    assert re.findall(r"\$pip (.+?)(?: +&&|$)", locked) == [
        "--require-hashes -r /src/requirements/build.txt",
        "--require-hashes --no-build-isolation -r /src/requirements/image-$VARIANT.txt",
    ]
    assert " --no-build-isolation --no-deps /src " in unlocked


def test_what_is_copied_is_there(steps):
    """Every source is in the repository and among what .dockerignore lets through."""
    copied = [one.split()[:-1] for one in values(steps, "COPY") if not one.startswith("--from")]
    sources = {source for some in copied for source in some}
    ignored, *kept = (ROOT / ".dockerignore").read_text().splitlines()[1:]
    assert ignored == "*"
    assert sources == {one[1:] for one in kept if one.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


def test_each_build_argument_has_a_default_and_is_told_of(steps):
    """A bare ``docker build`` works; the page's table has the same defaults."""
    told = dict(re.findall(r"^\| `(\w+)` \| `(\S+)` \|", _page("deployment"), re.MULTILINE))
    found = dict(one.split("=") for one in values(steps, "ARG") if "=" in one)
    assert found == told == {"BASE": "debian:bookworm-slim", "VARIANT": "cpu", "RUN_AS": "10001"}
    assert {name for name in values(steps, "ARG") if "=" not in name} <= set(found)
    stages = re.findall(r"AS (\w+)", "\n".join(values(steps, "FROM")))
    assert {"cpu", "gpu"} <= set(stages)


def test_the_system_has_the_libraries_that_mxnet_lacks(image):
    """What its wheel neither brings nor every Debian has is installed."""
    folder = Path(util.find_spec("mxnet").submodule_search_locations[0])
    brought = sorted(folder.glob("*.so*"))
    listed = subprocess.run(["ldd", *brought], stdout=subprocess.PIPE, text=True, check=True).stdout
    needed = set(re.findall(r"^\s+(\S+\.so\S*) => ", listed, re.MULTILINE))
    lacks = needed - {path.name for path in brought} - EVERYWHERE
    assert lacks == {"libgomp.so.1", "libquadmath.so.0"}
    (packages,) = (run for run in values(image, "RUN") if "apt-get install" in run)
    assert {"libgomp1", "libquadmath0"} <= set(packages.split())


def test_pip_installs_the_whole_package(tmp_path):
    """Files that are no Python, the front end's plugin for one, are in a copy as in a checkout."""
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    package = ROOT / "mms_handler"
    files = {path for path in package.rglob("*") if path.is_file()}
    wanted = {path.relative_to(ROOT) for path in files if path.parent.name != "__pycache__"}
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()} == wanted
    assert Path("mms_handler/plugins/mms_handler.jar") in wanted


def test_the_gpu_variant_is_the_same_mxnet():
    """Its package bears the name and version that setup.py asks for, and needs that build."""
    text = (ROOT / "deploy" / "gpu" / "pyproject.toml").read_text()
    (name,) = re.findall(r'^name = "(.+)"', text, re.MULTILINE)
    (version,) = re.findall(r'^version = "(.+)"', text, re.MULTILINE)
    assert f'"{name}=={version}"' in (ROOT / "setup.py").read_text()
    assert f'"mxnet-cu112=={version}"' in text


# --- Kubernetes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinds():
    """The manifests, by kind."""
    with open(ROOT / "deploy" / "kubernetes.yaml") as file:
        return {one["kind"]: one for one in yaml.safe_load_all(file)}


@pytest.fixture(scope="module")
def pod(kinds):
    return kinds["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (only,) = pod["containers"]
    return only


def test_the_pod_runs_serve(container):
    """``args`` are a command's, and every variable is a setting's or the system's."""
    assert container["args"] == ["serve"]
    told = {one["name"]: one["value"] for one in container["env"]}
    assert told.pop("TMPDIR") == "/tmp"
    settings.effective(told, {})


def test_every_probe_asks_ping_where_the_server_is(container):
    """The port is the one that serve takes; a start may take the four minutes of SageMaker."""
    assert container["ports"] == [{"name": "http", "containerPort": Settings().port}]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[kind]["httpGet"] == {"path": "/ping", "port": "http"}
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == 240


def test_running_requests_have_their_time(pod, container):
    """A pod is killed later than it waits, drains and ends its processes."""
    (waited,) = container["lifecycle"]["preStop"]["exec"]["command"][1:]
    drain_s = Settings.from_env({one["name"]: one["value"] for one in container["env"]}).drain_s
    assert (int(waited), drain_s) == (5, 25)
    assert pod["terminationGracePeriodSeconds"] >= int(waited) + drain_s + 10


def test_only_the_temporary_folder_can_be_written(pod, container):
    """The root is read-only, no right is left, and TMPDIR is in a volume of its own."""
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}}]


def test_what_is_planned_with_is_what_there_is(container):
    """Workers and threads are planned from the limits, so the limits are what is asked for."""
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_the_manifests_belong_together(kinds):
    """Service, autoscaler and budget are of the Deployment, whose number is the autoscaler's."""
    deployment = kinds["Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"] == {"matchLabels": labels}
    assert kinds["Service"]["spec"]["selector"] == labels
    assert kinds["Service"]["spec"]["ports"][0]["targetPort"] == "http"
    assert kinds["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": labels}
    assert kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]


# --- SageMaker -------------------------------------------------------------------------------

ANSWERS = {
    "DescribeRepositories": {"repositories": [{"repositoryUri": "ecr/mms-handler"}]},
    "DescribeEndpoint": {"EndpointStatus": "InService"},
    "DescribeTransformJob": {"TransformJobStatus": "Completed"},
    "DescribeTrainingJob": {"TrainingJobStatus": "Completed"},
}


def _page(name):
    return (ROOT / "docs" / f"{name}.md").read_text()


def test_the_calls_of_the_page_are_boto3s(monkeypatch, tmp_path):
    """Every block runs; botocore checks each call against the service's description."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris.tar.gz").touch()
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "us-east-1")
    session, called = boto3.Session(), []

    def answer(model, **more):
        called.append(model.name)
        found = {"Body": io.BytesIO(b'["setosa"]'), **ANSWERS.get(model.name, {})}
        return type("Http", (), {"status_code": 200}), {"ResponseMetadata": {}, **found}

    session.events.register("before-call.*.*", answer)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    blocks = re.findall(r"```python\n(.+?)```", _page("sagemaker"), re.DOTALL)
    exec(compile("\n".join(blocks), "docs/sagemaker.md", "exec"), {})
    assert called == [
        "PutObject",
        "DescribeRepositories",
        *("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "DescribeEndpoint"),
        "InvokeEndpoint",
        *("RegisterScalableTarget", "PutScalingPolicy"),
        *("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "DescribeEndpoint"),
        "InvokeEndpoint",
        *("CreateEndpointConfig", "CreateEndpoint"),
        *("CreateTransformJob", "DescribeTransformJob"),
        *("CreateTrainingJob", "DescribeTrainingJob"),
    ]


def test_the_variables_of_the_page_are_settings():
    """What the calls put into a container's environment, serve takes."""
    found = [json.loads(one) for one in re.findall(r'"?Environment"?[:=] ?({.+?})', PAGE)]
    assert len(found) == 3
    for told in found:
        settings.effective(told, {})
