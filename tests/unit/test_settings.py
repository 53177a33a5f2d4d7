"""settings: environment variables to one frozen object."""

from __future__ import annotations

import dataclasses

import pytest

from mms_handler import settings
from mms_handler.errors import SettingsError
from mms_handler.settings import Settings

DEFAULTS = {
    "program": None,
    "accept": "application/json",
    "first_dimension": 1,
    "predict_order": None,
    "host": "127.0.0.1",
    "port": 8080,
    "management_port": 8081,
    "model_store": "model_archives",
    "workers": 1,
    "batch_size": 1,
    "max_batch_delay_ms": 1,
    "cache_dir": None,
    "base_dir": None,
    "timeout_s": 60,
    "max_body_bytes": 6_553_500,
    "max_response_bytes": 6_553_500,
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
        ("MMS_HANDLER_MAX_BATCH_DELAY_MS", "50", {"max_batch_delay_ms": 50}),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "120", {"timeout_s": 120}),
        ("SAGEMAKER_BASE_DIR", "/srv/ml", {"base_dir": "/srv/ml"}),
        ("MMS_HANDLER_CACHE_DIR", "/var/cache/x", {"cache_dir": "/var/cache/x"}),
        (
            "SAGEMAKER_MAX_PAYLOAD_IN_MB",
            "6",
            {"max_body_bytes": 6_291_456, "max_response_bytes": 6_291_456},
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
    chosen = Settings.from_env(both)
    assert (chosen.max_body_bytes, chosen.max_response_bytes) == (1_048_576, 77)


def test_an_empty_variable_is_an_absent_one():
    """Containers set variables to nothing; that sets nothing."""
    env = {"SAGEMAKER_PROGRAM": "", "SAGEMAKER_BIND_TO_PORT": "", "MMS_MAX_RESPONSE_SIZE": ""}
    assert Settings.from_env(env) == Settings()


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
            "SAGEMAKER_MAX_PAYLOAD_IN_MB: '6MB' is not a whole number, 1 or more",
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
            "MMS_HANDLER_MAX_BATCH_DELAY_MS",
            " ",
            "MMS_HANDLER_MAX_BATCH_DELAY_MS: ' ' is not a whole number, 1 or more",
            id="a blank",
        ),
    ],
)
def test_a_value_that_means_nothing_is_refused(name, text, message):
    """The error names the variable, what it holds and what is wanted."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: text})
    assert str(caught.value) == message


def test_settings_do_not_change():
    """One process, one set of settings."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1


def test_current_reads_this_process(monkeypatch):
    """current() reads the variables as they are now, export() sets one for it."""
    monkeypatch.setenv("MMS_HANDLER_BATCH_SIZE", "3")
    assert settings.current().batch_size == 3
    settings.export("MMS_HANDLER_BATCH_SIZE", "4")
    assert settings.current().batch_size == 4


def test_environment_is_a_copy(monkeypatch):
    """A child's environment can be changed without changing ours."""
    monkeypatch.setenv("MMS_HANDLER_BATCH_SIZE", "3")
    copy = settings.environment()
    copy["MMS_HANDLER_BATCH_SIZE"] = "9"
    assert settings.current().batch_size == 3
