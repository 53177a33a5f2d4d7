"""Variables that are named like settings but are not in the table: passed on, refused, unknown."""

from __future__ import annotations

import difflib
from typing import Mapping

from mms_handler.errors import SettingsError
from mms_handler.settings import texts
from mms_handler.settings.setting import Setting, parse

#: Keys of MMS's configuration that do not break what we promise, with their variables.  A variable
#: that is set becomes a line of config.properties.
PASSED_ON = {
    key: f"MMS_{key.upper()}"
    for key in (
        "async_logging",
        "blacklist_env_vars",
        "cors_allowed_headers",
        "cors_allowed_methods",
        "cors_allowed_origin",
        "debug",
        "decode_input_request",
        "io_ratio",
        "metric_time_interval",
        "netty_client_threads",
        "number_of_gpu",
        "prefer_direct_buffer",
        "unregister_model_timeout",
    )
}

_PLAIN_HTTP = "the front end speaks plain HTTP; end TLS in a proxy in front of it"

#: Variables that would break what we promise, and what to do instead.
REFUSED = {
    "MMS_CERTIFICATE_FILE": _PLAIN_HTTP,
    "MMS_CONFIG_FILE": "MMS would read that file instead of the configuration that serve writes",
    "MMS_DEFAULT_RESPONSE_TIMEOUT": (
        "MMS reads it in minutes; set SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"
    ),
    "MMS_DEFAULT_SERVICE_HANDLER": "each archive names its handler",
    "MMS_INFERENCE_ADDRESS": "set MMS_HANDLER_HOST and SAGEMAKER_BIND_TO_PORT",
    "MMS_KEYSTORE": _PLAIN_HTTP,
    "MMS_KEYSTORE_PASS": _PLAIN_HTTP,
    "MMS_KEYSTORE_TYPE": _PLAIN_HTTP,
    "MMS_LOAD_MODELS": "serve loads the PATHS of its command line",
    "MMS_MANAGEMENT_ADDRESS": "set MMS_HANDLER_MANAGEMENT_PORT; the address is always 127.0.0.1",
    "MMS_PLUGINS_PATH": "serve adds the plug-ins that it needs",
    "MMS_PRELOAD_MODEL": "serve forks workers where it can; set MMS_HANDLER_FORK",
    "MMS_PRIVATE_KEY_FILE": _PLAIN_HTTP,
    "MMS_VMARGS": "set MMS_HANDLER_HEAP_MB",
}


def passed_on(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The keys of ``PASSED_ON`` whose variables are set, with their texts.

    Raises:
        SettingsError: a text would make more than one line.
    """
    return tuple(
        (key, parse(env, variable, texts.line))
        for key, variable in PASSED_ON.items()
        if env.get(variable)
    )


def check(env: Mapping[str, str], table: Mapping[str, Setting]) -> None:
    """Check that every variable of ``env`` that is named like a setting is one.

    Args:
        env: the environment; an empty variable counts as absent.
        table: the settings.

    Raises:
        SettingsError: names a variable, and why it is refused or the setting nearest to it.
    """
    settings = table.values()
    variables = [variable for setting in settings for variable in setting.variables]
    known = [*variables, *PASSED_ON.values()]
    by_option = {_of_option(each.option): next(iter(each.variables)) for each in settings}
    for name in sorted(name for name in env if name.startswith("MMS_") and env[name]):
        if name in REFUSED:
            raise SettingsError(f"{name} cannot be set: {REFUSED[name]}")
        if name not in known:
            (nearest,) = difflib.get_close_matches(name, known, 1, cutoff=0)
            nearest = by_option.get(name, nearest)
            raise SettingsError(f"{name} is not a setting; did you mean {nearest}?")


def _of_option(option: str) -> str:
    """The variable that someone who knows an option may expect: MMS_HANDLER_PORT for --port."""
    return f"MMS_HANDLER_{option.upper().replace('-', '_')}"
