"""deploy/ and its pages agree with the commands, the settings and AWS's service.

This needs no Docker, no cluster and no account.  docs/deployment.md says what was tried by hand.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
from importlib import util
from pathlib import Path

import boto3
import botocore.validate
import dockerfile_parse
import pytest
import yaml

from mms_handler import settings
from mms_handler.cli import group
from mms_handler.settings import Settings
from mms_handler.training import supervise

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sagemaker.md").read_text()

# --- the image -------------------------------------------------------------------------------

DEBIAN = {  # libraries that every Debian has for its own commands
    *("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0"),
    *("libgcc_s.so.1", "libstdc++.so.6"),
}


@pytest.fixture(scope="module")
def steps():
    """The instruction and the value of each line of the Dockerfile."""
    with open(ROOT / "deploy" / "Dockerfile", "rb") as file:
        parsed = dockerfile_parse.DockerfileParser(fileobj=io.BytesIO(file.read())).structure
    return [(line["instruction"], line["value"]) for line in parsed]


@pytest.fixture(scope="module")
def image(steps):
    """The steps of the last stage, which becomes the image."""
    start = max(index for index, (name, _) in enumerate(steps) if name == "FROM")
    return steps[start:]


def values(steps, instruction):
    return [value for name, value in steps if name == instruction]


def commands(image):
    """The words of the command that the image runs, and of its health check."""
    (entry,) = values(image, "ENTRYPOINT")
    (start,) = values(image, "CMD")
    (health,) = values(image, "HEALTHCHECK")
    return json.loads(entry) + json.loads(start), json.loads(health.partition(" CMD ")[2])


def test_the_image_runs_our_commands(image):
    """No shell is between, which would keep signals from them; the commands exist."""
    assert commands(image) == (["mms-handler", "serve"], ["mms-handler", "ready"])
    assert {"serve", "ready", "train"} <= set(group.commands)


def test_the_labels_for_sagemaker(image):
    """SageMaker may choose the port and serve many models."""
    (labels,) = values(image, "LABEL")
    assert "com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in labels
    assert "com.amazonaws.sagemaker.capabilities.multi-models=true" in labels
    assert values(image, "EXPOSE") == [str(Settings().port)]


def test_the_user_is_a_number_and_not_root(image):
    """Kubernetes' runAsNonRoot refuses a name; the number is the new user's."""
    assert values(image, "USER") == ["${RUN_AS}"]
    assert values(image, "ARG") == ["RUN_AS=10001"]
    assert any("useradd --uid 10001 " in run for run in values(image, "RUN"))


def test_the_image_has_no_build_tools(steps, image):
    """pip and its cache stay in another stage, and apt leaves no lists."""
    assert not [run for run in values(image, "RUN") if re.search(r"pip install|gcc|g\+\+", run)]
    assert all("--no-cache-dir" in run for run in values(steps, "RUN") if "pip install" in run)
    assert all("rm -rf /var/lib/apt/lists" in run for run in values(image, "RUN") if "apt" in run)


def test_the_image_takes_each_package_from_a_lock_file(steps):
    """Each has a hash.  Only the repository's own folders have none, and they bring no packages."""
    locked, unlocked = (run for run in values(steps, "RUN") if "pip install" in run)
    assert re.findall(r"\$pip (.+?)(?: +&&|$)", locked) == [
        "--require-hashes -r /src/requirements/build.txt",
        "--require-hashes --no-build-isolation -r /src/requirements/image-$VARIANT.txt",
    ]
    assert " --no-build-isolation --no-deps /src " in unlocked


def test_copied_files_exist(steps):
    """Every source is in the repository, and .dockerignore lets exactly these through."""
    copies = [copy.split() for copy in values(steps, "COPY") if not copy.startswith("--from")]
    sources = {source for copy in copies for source in copy[:-1]}
    ignored, *exceptions = (ROOT / ".dockerignore").read_text().splitlines()[1:]
    assert ignored == "*"
    assert sources == {line[1:] for line in exceptions if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)


def test_each_build_argument_has_a_default_and_is_documented(steps):
    """``docker build`` works without arguments; the page's table has the same defaults."""
    documented = dict(re.findall(r"^\| `(\w+)` \| `(\S+)` \|", _page("deployment"), re.MULTILINE))
    defaults = dict(argument.split("=") for argument in values(steps, "ARG") if "=" in argument)
    assert defaults == documented
    assert defaults == {"BASE": "debian:bookworm-slim", "VARIANT": "cpu", "RUN_AS": "10001"}
    assert {name for name in values(steps, "ARG") if "=" not in name} <= set(defaults)
    stages = re.findall(r"AS (\w+)", "\n".join(values(steps, "FROM")))
    assert {"cpu", "gpu"} <= set(stages)


def test_the_system_has_the_libraries_that_mxnet_lacks(image):
    """Libraries that neither its wheel nor every Debian has are installed."""
    folder = Path(util.find_spec("mxnet").submodule_search_locations[0])
    wheel = sorted(folder.glob("*.so*"))
    output = subprocess.run(["ldd", *wheel], stdout=subprocess.PIPE, text=True, check=True).stdout
    needed = set(re.findall(r"^\s+(\S+\.so\S*) => ", output, re.MULTILINE))
    lacks = needed - {path.name for path in wheel} - DEBIAN
    assert lacks == {"libgomp.so.1", "libquadmath.so.0"}
    (packages,) = (run for run in values(image, "RUN") if "apt-get install" in run)
    assert {"libgomp1", "libquadmath0"} <= set(packages.split())


def test_pip_installs_the_whole_package(tmp_path):
    """An installed copy has all files of a checkout, also the plug-in, which is not Python."""
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    package = ROOT / "mms_handler"
    # The compiled core is no copy: it is built.
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".so"}
    expected = {path.relative_to(ROOT) for path in files if path.parent.name != "__pycache__"}
    assert {
        path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()
    } == expected
    assert Path("mms_handler/plugins/mms_handler.jar") in expected


def test_the_gpu_variant_is_the_same_mxnet():
    """Its package has the name and version that setup.py requires, and requires that build."""
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
        return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(file)}


@pytest.fixture(scope="module")
def pod(kinds):
    return kinds["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod):
    (only,) = pod["containers"]
    return only


def test_the_pod_runs_serve(container):
    """``args`` are a command, and every variable is a setting or TMPDIR."""
    assert container["args"] == ["serve"]
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    assert env.pop("TMPDIR") == "/tmp"
    settings.effective(env, {})


def test_every_probe_requests_ping(container):
    """The port is serve's default; a start may take four minutes, as on SageMaker."""
    assert container["ports"] == [{"name": "http", "containerPort": Settings().port}]
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[kind]["httpGet"] == {"path": "/ping", "port": "http"}
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == 240


def test_running_requests_can_finish(pod, container):
    """A pod is killed only after it has waited, drained and ended its processes."""
    (wait_s,) = container["lifecycle"]["preStop"]["exec"]["command"][1:]
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    drain_s = Settings.from_env(env).drain_s
    assert (int(wait_s), drain_s) == (5, 25)
    assert pod["terminationGracePeriodSeconds"] >= int(wait_s) + drain_s + 10


def test_only_the_temporary_folder_can_be_written(pod, container):
    """The root is read-only, there are no capabilities, and TMPDIR is in its own volume."""
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}}]


def test_limits_are_requested(container):
    """Workers and threads are planned from the limits, so the pod requests the limits."""
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}


def test_the_manifests_belong_together(kinds):
    """Service, autoscaler and budget refer to the Deployment; the autoscaler sets its size."""
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


@pytest.fixture(scope="module")
def training():
    """The manifests of a training job, by kind."""
    with open(ROOT / "deploy" / "training-job.yaml") as file:
        return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(file)}


def test_every_pod_of_a_training_is_a_host(training):
    """As many as HOSTS says; the headless Service gives them the names that the command uses."""
    job, service = training["Job"], training["Service"]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(env["HOSTS"])
    assert job["spec"]["backoffLimit"] == 0
    assert pod["subdomain"] == service["metadata"]["name"] == job["metadata"]["name"] == env["JOB"]
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == (
        "None",
        True,
    )
    labels = job["spec"]["template"]["metadata"]["labels"]
    policy = training["NetworkPolicy"]["spec"]
    assert service["spec"]["selector"] == policy["podSelector"]["matchLabels"] == labels
    (rule,) = policy["ingress"]
    assert rule == {"from": [{"podSelector": {"matchLabels": labels}}]}


def test_a_pod_of_a_training(training):
    """It has a script's time after SIGTERM, and can write only where results and scratch go."""
    pod = training["Job"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] > supervise.GRACE_S
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
    assert writable == {
        *("/opt/ml/model", "/opt/ml/output", "/opt/ml/checkpoints"),
        *("/tmp", "/dev/shm"),
    }
    assert {mount["name"] for mount in mounts.values()} == {
        volume["name"] for volume in pod["volumes"]
    }


@pytest.mark.parametrize("version", ["1.27", "1.37"])
@pytest.mark.parametrize("name", ["kubernetes.yaml", "training-job.yaml"])
def test_the_manifests_fit_the_schema(name, version):
    """Also without fields that Kubernetes does not know."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="22 MB of schemas")
    with open(ROOT / "deploy" / name) as file:
        for manifest in yaml.safe_load_all(file):
            kubernetes_validate.validate(manifest, version, strict=True)


# --- SageMaker -------------------------------------------------------------------------------

ANSWERS = {
    "DescribeRepositories": {"repositories": [{"repositoryUri": "ecr/mms-handler"}]},
    "DescribeEndpoint": {"EndpointStatus": "InService"},
    "DescribeTransformJob": {"TransformJobStatus": "Completed"},
    "DescribeTrainingJob": {"TrainingJobStatus": "Completed"},
}


def _page(name):
    return (ROOT / "docs" / f"{name}.md").read_text()


def test_the_settings_for_metrics_are_valid():
    """Those that the page shows, where botocore knows them: it needs Python 3.10 for that."""
    service = boto3.session.Session()._session.get_service_model("sagemaker")
    config = service.shape_for("CreateEndpointConfigInput").members.get("MetricsConfig")
    if config is None or "EnableDetailedObservability" not in config.members:
        pytest.skip("this botocore is older than the setting")
    metrics = re.search(r"^MetricsConfig=(.+)$", PAGE, re.M)[1]
    container = re.search(r'^"ContainerMetricsConfig".+$', PAGE, re.M)[0]
    definition = service.shape_for("ContainerDefinition")
    validator = botocore.validate.ParamValidator()
    for text, shape in ((metrics, config), (f"{{{container}}}", definition)):
        report = validator.validate(ast.literal_eval(text), shape)
        assert not report.has_errors(), report.generate_report()


def test_the_calls_of_the_page_are_valid(monkeypatch, tmp_path):
    """Every block runs; botocore checks each call against the service's description."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iris.tar.gz").touch()
    for name in ("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "us-east-1")
    session, calls = boto3.Session(), []

    def answer(model, **more):
        calls.append(model.name)
        fields = {"Body": io.BytesIO(b'["setosa"]'), **ANSWERS.get(model.name, {})}
        return type("Http", (), {"status_code": 200}), {"ResponseMetadata": {}, **fields}

    session.events.register("before-call.*.*", answer)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    blocks = re.findall(r"```python\n(.+?)```", _page("sagemaker"), re.DOTALL)
    exec(compile("\n".join(blocks), "docs/sagemaker.md", "exec"), {})
    assert calls == [
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
        "CreateTrainingJob",
        "CreateHyperParameterTuningJob",
    ]


def test_the_variables_of_the_page_are_settings():
    """serve accepts the environment that the calls give to a container."""
    environments = [json.loads(text) for text in re.findall(r'"?Environment"?[:=] ?({.+?})', PAGE)]
    assert len(environments) == 3
    for env in environments:
        settings.effective(env, {})
