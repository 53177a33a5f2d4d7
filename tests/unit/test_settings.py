"""settings: environment variables to one frozen object."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import tempfile
from pathlib import Path

import click
import pytest

from mms_handler import settings
from mms_handler.cli.serving import serve
from mms_handler.errors import SettingsError
from mms_handler.settings import Settings, cache_folder

ROOT = Path(__file__).parents[2]
BIN = os.path.dirname(sys.executable)

DEFAULTS = {
    "program": None,
    "accept": "application/json",
    "first_dimension": 1,
    "predict_order": None,
    "host": "127.0.0.1",
    "port": 8080,
    "management_port": 8081,
    "model_store": "model_archives",
    "workers": None,
    "batch_size": None,
    "cache_dir": None,
    "base_dir": None,
    "raw_hyperparameters": False,
    "timeout_s": 60,
    "max_body_bytes": 6_553_500,
    "max_response_bytes": 6_553_500,
    "max_array_bytes": 52_428_000,
    "multi_model": False,
    "submit_directory": None,
    "safe_port_range": None,
    "allowed_urls": (),
    "allowed_hosts": (),
    "token_file": None,
    "require_signature": None,
    "hide_env": (),
    "threads": None,
    "memory_bytes": None,
    "heap_mb": None,
    "java_jars": None,
    "job_queue_size": 100,
    "netty_threads": None,
    "drain_s": 25,
    "keep_alive_s": 75,
    "header_timeout_s": 10,
    "body_timeout_s": 60,
    "max_connections": 1024,
    "capture": None,
    "capture_share": 0.01,
    "capture_max_mb": 1000,
    "capture_types": (),
    "client_rate": None,
    "client_burst": None,
    "client_concurrency": None,
    "trusted_proxies": 0,
    "restarts": 5,
    "max_requests": None,
    "max_worker_mb": None,
    "keep_going": False,
    "log_format": "text",
    "log_level": "info",
    "access_log": "off",
    "optimize": "on",
    "engine": "auto",
    "fork": "auto",
    "core": "auto",
    "ui": False,
    "supervised": False,
    "passed_on": (),
}


def test_an_empty_environment_gives_the_defaults():
    """These are the defaults, each in its unit."""
    assert dataclasses.asdict(Settings.from_env({})) == DEFAULTS
    assert dataclasses.asdict(Settings()) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "text", "changed"),
    [
        ("SAGEMAKER_PROGRAM", "serve.py", {"program": "serve.py"}),
        ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "text/csv", {"accept": "text/csv"}),
        ("SAGEMAKER_DEFAULT_MODEL_FIRST_DIMENSION_SIZE", "8", {"first_dimension": 8}),
        ("SAGEMAKER_DEFAULT_MODEL_FIRST_DIMENSION_SIZE", "0", {"first_dimension": 0}),
        ("MMS_HANDLER_PREDICT_ORDER", "model,data", {"predict_order": "model,data"}),
        ("MMS_HANDLER_PREDICT_ORDER", "Data, Model", {"predict_order": "data,model"}),
        ("MMS_HANDLER_HOST", "0.0.0.0", {"host": "0.0.0.0"}),
        ("SAGEMAKER_BIND_TO_PORT", "32766", {"port": 32766}),
        ("MMS_HANDLER_MANAGEMENT_PORT", "1", {"management_port": 1}),
        ("MMS_HANDLER_MODEL_STORE", "/srv/models", {"model_store": "/srv/models"}),
        ("SAGEMAKER_MODEL_SERVER_WORKERS", "4", {"workers": 4}),
        ("MMS_HANDLER_BATCH_SIZE", "16", {"batch_size": 16}),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "120", {"timeout_s": 120}),
        ("MMS_DEFAULT_RESPONSE_TIMEOUT_SECONDS", "121", {"timeout_s": 121}),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "122", {"timeout_s": 122}),
        ("MMS_DEFAULT_WORKERS_PER_MODEL", "5", {"workers": 5}),
        ("MMS_MODEL_STORE", "/srv/m", {"model_store": "/srv/m"}),
        ("SAGEMAKER_BASE_DIR", "/srv/ml", {"base_dir": "/srv/ml"}),
        ("MMS_HANDLER_RAW_HYPERPARAMETERS", "yes", {"raw_hyperparameters": True}),
        ("SAGEMAKER_MULTI_MODEL", "true", {"multi_model": True}),
        ("SAGEMAKER_SUBMIT_DIRECTORY", "s3://b/c.tar.gz", {"submit_directory": "s3://b/c.tar.gz"}),
        ("SAGEMAKER_MULTI_MODEL", "No", {"multi_model": False}),
        ("SAGEMAKER_BIND_TO_PORT", "8081", {"port": 8081, "management_port": 8082}),
        (
            "SAGEMAKER_SAFE_PORT_RANGE",
            "9000-9999",
            {"safe_port_range": (9000, 9999), "management_port": 9000},
        ),
        (
            "SAGEMAKER_SAFE_PORT_RANGE",
            "8080-8090",
            {"safe_port_range": (8080, 8090), "management_port": 8081},
        ),
        (
            "MMS_HANDLER_ALLOWED_URLS",
            "s3://models/, https://a.org/x",
            {"allowed_urls": ("s3://models/", "https://a.org/x")},
        ),
        ("MMS_HANDLER_ALLOWED_HOSTS", "a.org, b", {"allowed_hosts": ("a.org", "b")}),
        ("MMS_HANDLER_TOKEN_FILE", "/run/tokens", {"token_file": "/run/tokens"}),
        ("MMS_HANDLER_REQUIRE_SIGNATURE", "/srv/keys", {"require_signature": "/srv/keys"}),
        ("MMS_HANDLER_HIDE_ENV", "AWS_*, DB.?", {"hide_env": ("AWS_*", "DB.?")}),
        ("OMP_NUM_THREADS", "4", {"threads": 4}),
        ("OMP_NUM_THREADS", "4,2", {"threads": 4}),
        ("MMS_HANDLER_MEMORY_MB", "2000", {"memory_bytes": 2_097_152_000}),
        ("MMS_HANDLER_HEAP_MB", "200", {"heap_mb": 200}),
        ("MMS_HANDLER_JAVA_JARS", "/srv/jars", {"java_jars": "/srv/jars"}),
        ("MMS_JOB_QUEUE_SIZE", "7", {"job_queue_size": 7}),
        ("MMS_NUMBER_OF_NETTY_THREADS", "3", {"netty_threads": 3}),
        ("MMS_HANDLER_DRAIN_SECONDS", "0", {"drain_s": 0}),
        ("MMS_HANDLER_KEEP_ALIVE_SECONDS", "90", {"keep_alive_s": 90}),
        ("MMS_HANDLER_HEADER_TIMEOUT_SECONDS", "1", {"header_timeout_s": 1}),
        ("MMS_HANDLER_BODY_TIMEOUT_SECONDS", "600", {"body_timeout_s": 600}),
        ("MMS_HANDLER_MAX_CONNECTIONS", "9", {"max_connections": 9}),
        ("MMS_HANDLER_CAPTURE", "/srv/captured", {"capture": "/srv/captured"}),
        ("MMS_HANDLER_CAPTURE", "s3://bucket/a", {"capture": "s3://bucket/a"}),
        ("MMS_HANDLER_CAPTURE_SHARE", "0.25", {"capture_share": 0.25}),
        ("MMS_HANDLER_CAPTURE_SHARE", "2.5%", {"capture_share": 0.025}),
        ("MMS_HANDLER_CAPTURE_SHARE", "100%", {"capture_share": 1.0}),
        ("MMS_HANDLER_CAPTURE_MAX_MB", "20", {"capture_max_mb": 20}),
        (
            "MMS_HANDLER_CAPTURE_TYPES",
            "Text/CSV, application/x-npy",
            {"capture_types": ("text/csv", "application/x-npy")},
        ),
        ("MMS_HANDLER_CLIENT_RATE", "20/s", {"client_rate": 20.0}),
        ("MMS_HANDLER_CLIENT_RATE", " 0.5 ", {"client_rate": 0.5}),
        ("MMS_HANDLER_CLIENT_RATE", "1000000", {"client_rate": 1e6}),
        ("MMS_HANDLER_CLIENT_BURST", "7", {"client_burst": 7}),
        ("MMS_HANDLER_CLIENT_CONCURRENCY", "8", {"client_concurrency": 8}),
        ("MMS_HANDLER_TRUSTED_PROXIES", "2", {"trusted_proxies": 2}),
        ("MMS_HANDLER_MAX_RESTARTS", "0", {"restarts": 0}),
        ("MMS_HANDLER_MAX_REQUESTS", "1000", {"max_requests": 1000}),
        ("MMS_HANDLER_MAX_WORKER_MB", "800", {"max_worker_mb": 800}),
        ("MMS_HANDLER_KEEP_GOING", "1", {"keep_going": True}),
        ("MMS_HANDLER_UI", "yes", {"ui": True}),
        ("MMS_HANDLER_CORE", "OFF", {"core": "off"}),
        ("MMS_HANDLER_LOG_FORMAT", "JSON", {"log_format": "json"}),
        ("MMS_HANDLER_LOG_LEVEL", "Debug", {"log_level": "debug"}),
        ("MMS_HANDLER_ACCESS_LOG", "errors", {"access_log": "errors"}),
        ("MMS_HANDLER_OPTIMIZE", "OFF", {"optimize": "off"}),
        ("MMS_HANDLER_FORK", "Off", {"fork": "off"}),
        ("MMS_HANDLER_ENGINE", "MXNet", {"engine": "mxnet"}),
        ("MMS_HANDLER_SUPERVISED", "yes", {"supervised": True}),
        ("MMS_IO_RATIO", "70", {"passed_on": (("io_ratio", "70"),)}),
        (
            "SAGEMAKER_MAX_PAYLOAD_IN_MB",
            "0",
            {
                "max_body_bytes": 104_857_600,
                "max_response_bytes": 104_857_600,
                "max_array_bytes": 838_860_800,
            },
        ),
        (
            "MMS_MAX_REQUEST_SIZE",
            "9",
            {"max_body_bytes": 9, "max_response_bytes": 9, "max_array_bytes": 72},
        ),
        ("MMS_HANDLER_MAX_ARRAY_BYTES", "1000", {"max_array_bytes": 1000}),
        ("MMS_HANDLER_CACHE_DIR", "/var/cache/x", {"cache_dir": "/var/cache/x"}),
        (
            "SAGEMAKER_MAX_PAYLOAD_IN_MB",
            "6",
            {
                "max_body_bytes": 6_291_456,
                "max_response_bytes": 6_291_456,
                "max_array_bytes": 50_331_648,
            },
        ),
        ("MMS_MAX_RESPONSE_SIZE", "1000", {"max_response_bytes": 1000}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_variable_changes_its_setting_and_no_other(name, text, changed):
    """A variable reaches exactly the settings written here."""
    assert dataclasses.asdict(Settings.from_env({name: text})) == {**DEFAULTS, **changed}


def test_the_reply_limit_has_a_variable_of_its_own():
    """MMS_MAX_RESPONSE_SIZE wins over what the payload's limit says."""
    both = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1", "MMS_MAX_RESPONSE_SIZE": "77"}
    limits = Settings.from_env(both)
    assert (limits.max_body_bytes, limits.max_response_bytes) == (1_048_576, 77)


def test_a_default_that_follows_another_setting_follows_it_in_python_too():
    """Settings made directly have the defaults that the same variables give."""
    small = Settings(max_body_bytes=1_000, safe_port_range=(9000, 9005))
    assert (small.max_response_bytes, small.max_array_bytes) == (1_000, 8_000)
    assert small.management_port == 9000
    assert Settings.from_env(small.variables()) == small
    assert Settings(max_body_bytes=1_000, max_array_bytes=52_428_000).max_array_bytes == 52_428_000


def test_the_help_says_what_each_option_takes():
    """Its unit, or what the value is."""
    text = serve.get_help(click.Context(serve))
    values = set(re.findall(r"^  --[\w-]+ (\S+)", text, re.MULTILINE))
    assert values == {
        *("BYTES", "MB", "S", "NUMBER"),
        *("ADDRESS", "PORT", "FOLDER", "URLS", "NAMES", "FILE", "FORMAT", "LEVEL", "WHICH"),
        *("PLACE", "SHARE", "TYPES", "KEYS"),
    }


def test_the_model_is_in_sagemakers_folder():
    """What serve without PATHS serves follows from SAGEMAKER_BASE_DIR."""
    assert Settings().model_dir == "/opt/ml/model"
    assert Settings.from_env({"SAGEMAKER_BASE_DIR": "/srv/ml/"}).model_dir == "/srv/ml/model"


def test_the_first_variable_of_a_setting_wins():
    """Bytes win over megabytes."""
    both = {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "1", "MMS_MAX_REQUEST_SIZE": "77"}
    assert Settings.from_env(both).max_body_bytes == 77


def test_an_empty_variable_is_an_absent_one():
    """Containers set variables to nothing; they count as absent."""
    env = {"SAGEMAKER_PROGRAM": "", "SAGEMAKER_BIND_TO_PORT": "", "MMS_MAX_RESPONSE_SIZE": ""}
    env.update({"MMS_IO_RATIO": "", "MMS_HANDLER_TYPO": "", "MMS_VMARGS": ""})
    assert settings.effective(env, {}).settings == Settings()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        pytest.param(
            "SAGEMAKER_BIND_TO_PORT",
            "http",
            "SAGEMAKER_BIND_TO_PORT: 'http' is not a port from 1 to 32766",
            id="a port that is a word",
        ),
        pytest.param(
            "SAGEMAKER_BIND_TO_PORT",
            "32767",
            "SAGEMAKER_BIND_TO_PORT: '32767' is not a port from 1 to 32766",
            id="a port that MMS refuses",
        ),
        pytest.param(
            "MMS_HANDLER_MANAGEMENT_PORT",
            "0",
            "MMS_HANDLER_MANAGEMENT_PORT: '0' is not a port from 1 to 32766",
            id="port zero",
        ),
        pytest.param(
            "SAGEMAKER_MODEL_SERVER_WORKERS",
            "0",
            "SAGEMAKER_MODEL_SERVER_WORKERS: '0' is not a whole number, 1 or more",
            id="no workers",
        ),
        pytest.param(
            "MMS_HANDLER_CLIENT_RATE",
            "0",
            "MMS_HANDLER_CLIENT_RATE: '0' is not a number of requests a second, such as 20/s or "
            "0.5, up to 1000000",
            id="no rate",
        ),
        pytest.param(
            "MMS_HANDLER_CAPTURE",
            "https://a/b",
            "MMS_HANDLER_CAPTURE: 'https://a/b' is not a folder, or s3://bucket/folder",
            id="captured by another protocol",
        ),
        pytest.param(
            "MMS_HANDLER_CAPTURE_SHARE",
            "0",
            "MMS_HANDLER_CAPTURE_SHARE: '0' is not a share above 0 and up to 1, or 100%",
            id="no share",
        ),
        pytest.param(
            "MMS_HANDLER_CAPTURE_SHARE",
            "half",
            "MMS_HANDLER_CAPTURE_SHARE: 'half' is not a share such as 0.01 or 1%",
            id="a share in words",
        ),
        pytest.param(
            "MMS_HANDLER_CAPTURE_TYPES",
            "json",
            "MMS_HANDLER_CAPTURE_TYPES: 'json' is not content types separated by commas, such as "
            "application/json,text/csv",
            id="no content type",
        ),
        pytest.param(
            "MMS_HANDLER_TRUSTED_PROXIES",
            "21",
            "MMS_HANDLER_TRUSTED_PROXIES: '21' is not a whole number from 0 to 20",
            id="too many proxies",
        ),
        pytest.param(
            "MMS_HANDLER_BATCH_SIZE",
            "-1",
            "MMS_HANDLER_BATCH_SIZE: '-1' is not a whole number, 1 or more",
            id="a negative batch",
        ),
        pytest.param(
            "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
            "1.5",
            "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS: '1.5' is not a whole number, 1 or more",
            id="part of a second",
        ),
        pytest.param(
            "SAGEMAKER_MAX_PAYLOAD_IN_MB",
            "6MB",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB: '6MB' is not a whole number from 0 to 2047",
            id="a unit in the value",
        ),
        pytest.param(
            "SAGEMAKER_DEFAULT_MODEL_FIRST_DIMENSION_SIZE",
            "1_0",
            "SAGEMAKER_DEFAULT_MODEL_FIRST_DIMENSION_SIZE: '1_0' is not a whole number, 0 or more",
            id="Python's own way to write numbers",
        ),
        pytest.param(
            "MMS_HANDLER_PREDICT_ORDER",
            "model",
            "MMS_HANDLER_PREDICT_ORDER: 'model' is not 'model,data' or 'data,model'",
            id="half an order",
        ),
        pytest.param(
            "MMS_HANDLER_HIDE_ENV",
            "AWS_[AB]",
            "MMS_HANDLER_HIDE_ENV: 'AWS_[AB]' is not names separated by commas, in which * and ? "
            "stand for other letters",
            id="a pattern that MMS would read otherwise",
        ),
        pytest.param(
            "MMS_MAX_REQUEST_SIZE",
            "2147483648",
            "MMS_MAX_REQUEST_SIZE: '2147483648' is not a number of bytes from 1 to 2147483647",
            id="more bytes than MMS counts",
        ),
        pytest.param(
            "SAGEMAKER_MULTI_MODEL",
            "ture",
            "SAGEMAKER_MULTI_MODEL: 'ture' is not true or false",
            id="nearly true",
        ),
        pytest.param(
            "MMS_HANDLER_OPTIMIZE",
            "true",
            "MMS_HANDLER_OPTIMIZE: 'true' is not on, float or off",
            id="true where on is meant",
        ),
        pytest.param(
            "SAGEMAKER_SAFE_PORT_RANGE",
            "9000",
            "SAGEMAKER_SAFE_PORT_RANGE: '9000' is not two ports, such as 1111-2222, "
            "the first from 1 to 32766",
            id="one port",
        ),
        pytest.param(
            "SAGEMAKER_SAFE_PORT_RANGE",
            "40000-41000",
            "SAGEMAKER_SAFE_PORT_RANGE: '40000-41000' is not two ports, such as 1111-2222, "
            "the first from 1 to 32766",
            id="ports that MMS refuses",
        ),
        pytest.param(
            "MMS_HANDLER_HOST",
            "a\nload_models=b",
            "MMS_HANDLER_HOST: 'a\\nload_models=b' is not one line of text",
            id="a host that adds a line to the configuration",
        ),
        pytest.param(
            "MMS_HANDLER_HEAP_MB",
            "9" * 5_000,
            f"MMS_HANDLER_HEAP_MB: '{'9' * 5_000}' is not a whole number, 1 or more",
            id="more digits than Python reads",
        ),
        pytest.param(
            "MMS_BLACKLIST_ENV_VARS",
            "A\nmodel_store=/",
            "MMS_BLACKLIST_ENV_VARS: 'A\\nmodel_store=/' is not one line of text",
            id="a second line for the configuration",
        ),
        pytest.param(
            "MMS_JOB_QUEUE_SIZE",
            " ",
            "MMS_JOB_QUEUE_SIZE: ' ' is not a whole number, 1 or more",
            id="a blank",
        ),
    ],
)
def test_an_invalid_value_is_refused(name, text, message):
    """The error names the variable, its value and what is valid."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: text})
    assert str(caught.value) == message


def test_settings_do_not_change():
    """One process, one set of settings."""
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'port'"):
        Settings().port = 1


@pytest.mark.parametrize(("batch_size", "largest"), [(None, 32), (8, 8)])
def test_the_largest_batch(batch_size, largest):
    assert Settings(batch_size=batch_size).max_batch_size == largest


def test_current_reads_this_process(monkeypatch):
    """current() reads the variables as they are now; export() sets one."""
    monkeypatch.setenv("MMS_HANDLER_BATCH_SIZE", "3")
    assert settings.current().batch_size == 3
    settings.export("MMS_HANDLER_BATCH_SIZE", "4")
    assert settings.current().batch_size == 4


@pytest.mark.parametrize(
    ("path", "others"),
    [
        ("/usr/bin:/bin", ["/usr/bin", "/bin"]),
        (f"/usr/bin:{BIN}:/bin", ["/usr/bin", "/bin"]),
        ("", os.defpath.split(":")),
        (None, os.defpath.split(":")),
    ],
)
def test_programs_are_those_of_this_python(path, others):
    """The folder of its interpreter comes first, once."""
    assert settings.path_of_programs(path).split(":") == [BIN, *others]


def test_environment_is_a_copy(monkeypatch):
    """A child's environment can be changed without changing ours."""
    monkeypatch.setenv("MMS_HANDLER_BATCH_SIZE", "3")
    copy = settings.environment()
    copy["MMS_HANDLER_BATCH_SIZE"] = "9"
    assert settings.current().batch_size == 3


# --- the command's half ---


def test_each_value_has_an_origin():
    """Options win over variables, variables over defaults; a derived default has its source's."""
    env = {
        "SAGEMAKER_BIND_TO_PORT": "9000",
        "MMS_HANDLER_BATCH_SIZE": "8",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1",
    }
    values, origins = settings.effective(env, {"batch_size": 4, "memory_bytes": 2**30})
    assert (values.port, origins["port"]) == (9000, "SAGEMAKER_BIND_TO_PORT")
    assert (values.batch_size, origins["batch_size"]) == (4, "option --batch-size")
    assert origins["memory_bytes"] == "option --memory-mb"
    assert (values.timeout_s, origins["timeout_s"]) == (60, "default")
    assert origins["max_response_bytes"] == "SAGEMAKER_MAX_PAYLOAD_IN_MB"
    assert set(origins) == set(settings.TABLE)


def test_an_invalid_variable_is_an_error_even_with_an_option():
    """An option does not hide an invalid variable."""
    with pytest.raises(SettingsError, match="^SAGEMAKER_BIND_TO_PORT: 'http'"):
        settings.effective({"SAGEMAKER_BIND_TO_PORT": "http"}, {"port": 9000})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "MMS_HANDLER_BATCHSIZE",
            "MMS_HANDLER_BATCHSIZE is not a setting; did you mean MMS_HANDLER_BATCH_SIZE?",
        ),
        (
            "MMS_HANDLER_PORT",
            "MMS_HANDLER_PORT is not a setting; did you mean SAGEMAKER_BIND_TO_PORT?",
        ),
        (
            "MMS_HANDLER_JOB_QUEUE_SIZE",
            "MMS_HANDLER_JOB_QUEUE_SIZE is not a setting; did you mean MMS_JOB_QUEUE_SIZE?",
        ),
        (
            "MMS_MAX_RESPONSE_BYTES",
            "MMS_MAX_RESPONSE_BYTES is not a setting; did you mean MMS_MAX_RESPONSE_SIZE?",
        ),
        (
            "MMS_DEFAULT_RESPONSE_TIMEOUT",
            "MMS_DEFAULT_RESPONSE_TIMEOUT cannot be set: MMS reads it in minutes; "
            "set SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
        ),
        (
            "MMS_CONFIG_FILE",
            "MMS_CONFIG_FILE cannot be set: MMS would read that file "
            "instead of the configuration that serve writes",
        ),
    ],
    ids=[
        "a typo",
        "an option",
        "an option of MMS's",
        "no key of MMS's",
        "in minutes",
        "another configuration",
    ],
)
def test_the_command_refuses_unknown_names(name, message):
    """A worker may have them: MMS and the platform set others."""
    with pytest.raises(SettingsError) as caught:
        settings.effective({name: "1"}, {})
    assert str(caught.value) == message
    assert Settings.from_env({name: "1"}) == Settings()


def test_other_programs_variables_are_ignored():
    """SageMaker's, for example."""
    env = {"SAGEMAKER_REGION": "eu-west-1", "HOME": "/root"}
    assert settings.effective(env, {}).settings == Settings()


def test_hosting_listens_everywhere_unless_a_host_is_set():
    """A container listens on 0.0.0.0; a host that is set stays, even if it is the default."""
    values, origins = settings.effective({}, {}).hosting()
    assert (values.host, origins["host"]) == ("0.0.0.0", "serve without PATHS")
    values, origins = settings.effective({"MMS_HANDLER_HOST": "127.0.0.1"}, {}).hosting()
    assert (values.host, origins["host"]) == ("127.0.0.1", "MMS_HANDLER_HOST")


#: For each field a value that is not its default.
OTHERS = {
    "base_dir": "/srv",
    "raw_hyperparameters": True,
    "multi_model": True,
    "program": "serve.py",
    "submit_directory": "s3://bucket/code.tar.gz",
    "accept": "text/csv",
    "first_dimension": 0,
    "predict_order": "model,data",
    "host": "0.0.0.0",
    "port": 9000,
    "safe_port_range": (9001, 9009),
    "management_port": 9005,
    "model_store": "/srv/store",
    "allowed_urls": ("s3://a/", "https://b/"),
    "allowed_hosts": ("a.org", "b"),
    "token_file": "/run/tokens",
    "require_signature": "/srv/keys",
    "hide_env": ("AWS_*", "?"),
    "workers": 3,
    "threads": 2,
    "memory_bytes": 2**30,
    "heap_mb": 99,
    "java_jars": "/srv/jars",
    "batch_size": 8,
    "job_queue_size": 9,
    "netty_threads": 2,
    "timeout_s": 7,
    "max_body_bytes": 1000,
    "max_response_bytes": 2000,
    "max_array_bytes": 3000,
    "drain_s": 1,
    "keep_alive_s": 2,
    "header_timeout_s": 3,
    "body_timeout_s": 4,
    "max_connections": 50,
    "capture": "s3://a/b",
    "capture_share": 0.3,
    "capture_max_mb": 5,
    "capture_types": ("text/csv", "image/png"),
    "client_rate": 0.125,
    "client_burst": 3,
    "client_concurrency": 4,
    "trusted_proxies": 1,
    "restarts": 1,
    "max_requests": 6,
    "max_worker_mb": 11,
    "keep_going": True,
    "log_format": "json",
    "log_level": "error",
    "access_log": "on",
    "optimize": "off",
    "engine": "mxnet",
    "fork": "off",
    "ui": True,
    "supervised": True,
    "cache_dir": "/c",
    "core": "off",
    "passed_on": (("io_ratio", "70"),),
}


def test_variables_are_what_differs_from_the_defaults():
    """There is none for a default; every field has one."""
    assert Settings().variables() == {}
    assert Settings(timeout_s=7, keep_going=True).variables() == {
        "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "7",
        "MMS_HANDLER_KEEP_GOING": "true",
    }
    assert set(OTHERS) == {field.name for field in dataclasses.fields(Settings)}
    assert Settings.from_env(Settings(**OTHERS).variables()) == Settings(**OTHERS)


@pytest.mark.parametrize("field", OTHERS)
def test_a_child_reads_the_same_settings(field, monkeypatch):
    """A child with environment(changed) has ``changed``, whatever this process's variables say."""
    for name, value in Settings(**OTHERS).variables().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SAGEMAKER_MAX_PAYLOAD_IN_MB", "3")
    monkeypatch.setenv("SAGEMAKER_REGION", "eu-west-1")
    for changed in (
        Settings(),
        Settings(**{field: OTHERS[field]}),
        dataclasses.replace(Settings(**OTHERS), **{field: getattr(Settings(), field)}),
    ):
        env = settings.environment(changed)
        assert env["SAGEMAKER_REGION"] == "eu-west-1"
        assert Settings.from_env(env) == changed


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ((), {"AWS_KEY", "AWS", "aws_key", "OMP_NUM_THREADS", "PATH"}),
        (("AWS_*",), {"AWS", "aws_key", "OMP_NUM_THREADS", "PATH"}),
        (("AW?", "P*H"), {"AWS_KEY", "aws_key", "OMP_NUM_THREADS"}),
        (("*",), {"OMP_NUM_THREADS"}),
    ],
)
def test_hidden_variables(patterns, left):
    """Those that a pattern names as a whole are removed; what sets the settings is not."""
    env = dict.fromkeys(("AWS_KEY", "AWS", "aws_key", "OMP_NUM_THREADS", "PATH"), "1")
    changed = Settings(threads=1, hide_env=patterns)
    hidden = settings.hidden_removed(env, changed)
    assert set(hidden) - {"MMS_HANDLER_HIDE_ENV"} == left
    assert Settings.from_env(hidden) == changed


def table() -> str:
    """The table of docs/settings.md."""
    rows = ["| variable | option | default | unit | what it does |", "|---|---|---|---|---|"]
    for setting in settings.TABLE.values():
        default = setting.default_text or f"`{setting.text(setting.default)}`"
        variables = "<br>".join(f"`{variable}`" for variable in setting.variables)
        option = f"`--{setting.option}`" if setting.option else ""
        text = setting.help.replace("*", r"\*")
        rows.append(f"| {variables} | {option} | {default} | {setting.unit} | {text} |")
    return "\n".join(rows)


def test_the_documentation_has_the_table():
    """docs/settings.md has a row for each setting."""
    assert table() in (ROOT / "docs" / "settings.md").read_text()


@pytest.mark.parametrize("field", settings.TABLE)
def test_each_setting_has_a_default_to_show(field):
    """A default of None or () is described in words, any other by its value."""
    setting = settings.TABLE[field]
    assert (setting.default_text != "") == (setting.default in (None, ()))


@pytest.mark.parametrize(
    ("own", "folder"),
    [
        pytest.param(True, "home/.cache/mms_handler", id="a home of one's own"),
        pytest.param(False, f"temp/mms_handler-{os.geteuid()}", id="another user's home"),
        pytest.param(None, f"temp/mms_handler-{os.geteuid()}", id="no home"),
    ],
)
def test_the_folder_for_requirements(tmp_path, monkeypatch, own, folder):
    """It is in the user's home, but not in one that others own; nothing is created."""
    for name in ("home", "temp"):
        (tmp_path / name).mkdir()
    if own is None:
        (tmp_path / "home").rmdir()
    if own is False:
        uid = os.geteuid()
        try:
            os.chown(tmp_path / "home", 12345, -1)
        except PermissionError:  # only root can; so this process is another user
            monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
            folder = f"temp/mms_handler-{uid + 1}"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    assert cache_folder(Settings()) == tmp_path / folder
    assert cache_folder(Settings(cache_dir="/a/folder")) == Path("/a/folder")
    assert list(tmp_path.glob("*/*")) == []


PLAIN_HTTP = "the front end speaks plain HTTP; end TLS in a proxy in front of it"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MMS_CERTIFICATE_FILE", PLAIN_HTTP),
        (
            "MMS_CONFIG_FILE",
            "MMS would read that file instead of the configuration that serve writes",
        ),
        (
            "MMS_DEFAULT_RESPONSE_TIMEOUT",
            "MMS reads it in minutes; set SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS",
        ),
        ("MMS_DEFAULT_SERVICE_HANDLER", "each archive names its handler"),
        ("MMS_INFERENCE_ADDRESS", "set MMS_HANDLER_HOST and SAGEMAKER_BIND_TO_PORT"),
        ("MMS_KEYSTORE", PLAIN_HTTP),
        ("MMS_KEYSTORE_PASS", PLAIN_HTTP),
        ("MMS_KEYSTORE_TYPE", PLAIN_HTTP),
        ("MMS_LOAD_MODELS", "serve loads the PATHS of its command line"),
        (
            "MMS_MANAGEMENT_ADDRESS",
            "set MMS_HANDLER_MANAGEMENT_PORT; the address is always 127.0.0.1",
        ),
        ("MMS_PLUGINS_PATH", "serve adds the plug-ins that it needs"),
        ("MMS_PRELOAD_MODEL", "serve forks workers where it can; set MMS_HANDLER_FORK"),
        ("MMS_PRIVATE_KEY_FILE", PLAIN_HTTP),
        ("MMS_VMARGS", "set MMS_HANDLER_HEAP_MB"),
    ],
)
def test_a_refused_name(name, reason):
    """It would break what serve promises; the message says what to do instead.  "" is absent."""
    with pytest.raises(SettingsError) as caught:
        settings.effective({name: "1"}, {})
    assert str(caught.value) == f"{name} cannot be set: {reason}"
    assert settings.effective({name: ""}, {}).settings == Settings()


@pytest.mark.parametrize("name", ["MMS_0", "MMS_" + "Q" * 80])
def test_a_name_that_resembles_nothing(name):
    """It is refused, too, with some setting that exists."""
    with pytest.raises(SettingsError) as caught:
        settings.effective({name: "1"}, {})
    match = re.fullmatch(
        f"{name} is not a setting; did you mean (MMS_[A-Z_]+)[?]", str(caught.value)
    )
    assert match
    settings.effective({match[1]: ""}, {})


@pytest.mark.parametrize(
    "key",
    [
        *("async_logging", "blacklist_env_vars", "cors_allowed_headers", "cors_allowed_methods"),
        *("cors_allowed_origin", "debug", "io_ratio", "metric_time_interval"),
        *("netty_client_threads", "number_of_gpu", "prefer_direct_buffer"),
        "unregister_model_timeout",
    ],
)
def test_what_is_mms_own(key):
    """Is passed on to it as it is, if it is one line."""
    name = f"MMS_{key.upper()}"
    assert settings.effective({name: "a b"}, {}).settings.passed_on == ((key, "a b"),)
    with pytest.raises(SettingsError, match=f"^{name}: 'a.nb' is not one line of text$"):
        settings.effective({name: "a\nb"}, {})


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318", "OTEL_SDK_DISABLED": "True"}, False),
    ],
)
def test_whether_traces_are_wanted(monkeypatch, variables, wanted):
    """By OpenTelemetry's own variables."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings.traces() is wanted


@pytest.mark.parametrize(("own", "value"), [(None, "1"), ("0", "0")])
def test_the_telemetry_of_onnx_runtime(monkeypatch, own, value):
    """It is off, unless the user has set the variable."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    if own:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", own)
    settings.forbid_telemetry()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == value
