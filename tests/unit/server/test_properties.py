"""server.properties: MMS's configuration for each setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from mms_handler import settings
from mms_handler.server import config_properties
from mms_handler.settings import Settings

ROOT = Path(__file__).parents[3]


def keys(text):
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


FLAGS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

DEFAULTS = {
    "inference_address": "http://127.0.0.1:8080",
    "management_address": "http://127.0.0.1:8081",
    "model_store": "model_archives",
    "default_workers_per_model": "1",
    "default_response_timeout_seconds": "60",
    "max_request_size": "6553500",
    "max_response_size": "6553500",
    "job_queue_size": "100",
    "vmargs": FLAGS,
    "plugins_path": "mms_handler/plugins",
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_defaults():
    """The default settings give exactly these keys and values."""
    assert keys(config_properties(Settings())) == DEFAULTS


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        pytest.param(
            {"host": "0.0.0.0", "port": 9000},
            {"inference_address": "http://0.0.0.0:9000"},
            id="other machines reach the inference address only",
        ),
        pytest.param(
            {"management_port": 9001},
            {"management_address": "http://127.0.0.1:9001"},
            id="another management port",
        ),
        pytest.param({"model_store": "/srv/m"}, {"model_store": "/srv/m"}, id="another store"),
        pytest.param(
            {"model_store": "C:\\é𝄞"},
            {"model_store": "C:\\\\\\u00e9\\ud834\\udd1e"},
            id="a store's path escaped for Java",
        ),
        pytest.param(
            {"model_store": "/a b/~\x7f"},
            {"model_store": "/a b/~\\u007f"},
            id="a store's path with a blank and a control character",
        ),
        pytest.param(
            {"model_store": "a\nload_models=b"},
            {"model_store": "a\\u000aload_models=b"},
            id="a store's path with a line end",
        ),
        pytest.param({"workers": 4}, {"default_workers_per_model": "4"}, id="four workers"),
        pytest.param(
            {"timeout_s": 90}, {"default_response_timeout_seconds": "90"}, id="a timeout in seconds"
        ),
        pytest.param(
            {"max_body_bytes": 10, "max_response_bytes": 20},
            {"max_request_size": "10", "max_response_size": "20"},
            id="limits of requests and replies",
        ),
        pytest.param({"job_queue_size": 5}, {"job_queue_size": "5"}, id="a shorter queue"),
        pytest.param({"netty_threads": 5}, {"number_of_netty_threads": "5"}, id="Netty's threads"),
        pytest.param({"heap_mb": 99}, {"vmargs": f"{FLAGS} -Xmx99m"}, id="Java's heap"),
        pytest.param(
            {"passed_on": (("io_ratio", "70"), ("blacklist_env_vars", "AWS_\\w*"))},
            {"io_ratio": "70", "blacklist_env_vars": "AWS_\\\\w*"},
            id="settings of MMS's own",
        ),
        pytest.param(
            {"hide_env": ("AWS_*", "a.?-b"), "passed_on": (("blacklist_env_vars", "DB_\\w*"),)},
            {"blacklist_env_vars": "AWS_.*|a\\\\..-b|DB_\\\\w*"},
            id="hidden variables",
        ),
    ],
)
def test_lines_follow_the_settings(changes, lines):
    """A setting changes only its own keys."""
    assert keys(config_properties(Settings(**changes))) == {**DEFAULTS, **lines}


def test_plugins_are_found_from_elsewhere(monkeypatch, tmp_path):
    """The path is absolute if the folder is not below the current one."""
    monkeypatch.chdir(tmp_path)
    path = keys(config_properties(Settings()))["plugins_path"]
    assert path == str(ROOT / "mms_handler" / "plugins")


def test_each_line_has_its_origin():
    """A comment after each line names options or variables, or says that it is the default."""
    env = {"SAGEMAKER_BIND_TO_PORT": "9000", "MMS_IO_RATIO": "70"}
    text = config_properties(*settings.effective(env, {"workers": 2, "host": "::"}))
    lines = text.splitlines()
    origins = {
        line.split("=")[0]: lines[at + 1]
        for at, line in enumerate(lines)
        if "=" in line and not line.startswith("#")
    }
    assert origins == {
        "inference_address": "# from SAGEMAKER_BIND_TO_PORT, option --host",
        "management_address": "# default",
        "model_store": "# default",
        "default_workers_per_model": "# from option --workers",
        "default_response_timeout_seconds": "# default",
        "max_request_size": "# default",
        "max_response_size": "# default",
        "job_queue_size": "# default",
        "vmargs": "# default",
        "plugins_path": "# always",
        "io_ratio": "# from MMS_IO_RATIO",
    }


def test_the_origin_of_each_setting():
    """Each line names what set the fields that it is made of."""
    fields = {
        "inference_address": ("host", "port"),
        "management_address": ("management_port",),
        "model_store": ("model_store",),
        "default_workers_per_model": ("workers",),
        "default_response_timeout_seconds": ("timeout_s",),
        "max_request_size": ("max_body_bytes",),
        "max_response_size": ("max_response_bytes",),
        "job_queue_size": ("job_queue_size",),
        "number_of_netty_threads": ("netty_threads",),
        "vmargs": ("heap_mb",),
        "blacklist_env_vars": ("hide_env",),
    }
    changed = Settings(netty_threads=2, hide_env=("A",))
    text = config_properties(changed, {name: name for names in fields.values() for name in names})
    lines = text.splitlines()
    for key, names in fields.items():
        (at,) = (at for at, line in enumerate(lines) if line.startswith(f"{key}="))
        assert lines[at + 1] == f"# from {', '.join(sorted(names))}"


def test_the_committed_file_has_the_defaults():
    """config.properties at the root is what the command prints."""
    assert (ROOT / "config.properties").read_text() == config_properties(Settings())
