"""Variables that are named like settings and are none of the table: passed on, refused, unknown."""

from __future__ import annotations

import difflib
from typing import Mapping, Sequence

from mms_handler.errors import SettingsError

#: Keys of MMS's configuration that change nothing we promise: MMS_<KEY> becomes a line of it.
PASSED_ON = (
    "async_logging",
    "blacklist_env_vars",
    "cors_allowed_headers",
    "cors_allowed_methods",
    "cors_allowed_origin",
    "debug",
    "io_ratio",
    "metric_time_interval",
    "netty_client_threads",
    "number_of_gpu",
    "prefer_direct_buffer",
    "unregister_model_timeout",
)

_PLAIN = "the front end speaks plain HTTP; let TLS end before it"

#: Those that would break what we promise, and what to do instead.
REFUSED = {
    "MMS_CERTIFICATE_FILE": _PLAIN,
    "MMS_CONFIG_FILE": "MMS would read that file, not the configuration that serve writes",
    "MMS_DEFAULT_RESPONSE_TIMEOUT": (
        "MMS reads it in minutes; set SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"
    ),
    "MMS_DEFAULT_SERVICE_HANDLER": "each archive names its handler",
    "MMS_INFERENCE_ADDRESS": "set MMS_HANDLER_HOST and SAGEMAKER_BIND_TO_PORT",
    "MMS_KEYSTORE": _PLAIN,
    "MMS_KEYSTORE_PASS": _PLAIN,
    "MMS_KEYSTORE_TYPE": _PLAIN,
    "MMS_LOAD_MODELS": "serve loads the PATHS that it is given",
    "MMS_MANAGEMENT_ADDRESS": "set MMS_HANDLER_MANAGEMENT_PORT; the address is always 127.0.0.1",
    "MMS_PLUGINS_PATH": "serve adds the plug-ins that it needs",
    "MMS_PRELOAD_MODEL": "each worker loads its own model; MXNet does not survive a fork",
    "MMS_PRIVATE_KEY_FILE": _PLAIN,
    "MMS_VMARGS": "set MMS_HANDLER_HEAP_MB",
}

#: MMS sets it for its workers; serve and the handler turn it off whatever it holds.
_MMS_OWN = "MMS_DECODE_INPUT_REQUEST"


def variable(key: str) -> str:
    """The variable for a key of MMS's configuration."""
    return f"MMS_{key.upper()}"


def passed_on(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The keys of PASSED_ON that ``env`` tells, and their values."""
    told = [(key, env.get(variable(key), "")) for key in PASSED_ON]
    for key, value in told:
        if not value.isprintable():
            raise SettingsError(f"{variable(key)}: {value!r} is not one line of text")
    return tuple((key, value) for key, value in told if value)


def check(env: Mapping[str, str], ours: Sequence[str]) -> None:
    """Do nothing if every variable of ``env`` that is named like a setting is one.

    Args:
        env: what is set; an empty variable is an absent one.
        ours: the variables of the table.

    Raises:
        SettingsError: names a variable, and why it cannot be or the one nearest to it.
    """
    known = [*ours, *map(variable, PASSED_ON)]
    for name in sorted(name for name in env if name.startswith("MMS_") and env[name]):
        if name in REFUSED:
            raise SettingsError(f"{name} cannot be set: {REFUSED[name]}")
        if name not in known and name != _MMS_OWN:
            (nearest,) = difflib.get_close_matches(name, known, 1, cutoff=0)
            raise SettingsError(f"{name} is no setting; the nearest is {nearest}")
