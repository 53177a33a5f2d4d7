"""Every environment variable that means something to us, with its type, unit and default.

The only reader of the environment.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, TypeVar

from mms_handler.errors import SettingsError

T = TypeVar("T")

#: MMS's own default for a request's and a reply's body (ConfigManager.java), in bytes.
MMS_BODY_BYTES = 6_553_500


@dataclass(frozen=True)
class Settings:
    """One process's settings.

    Units are in the names, because MMS's are not to be trusted: it documents
    ``default_response_timeout`` in seconds and reads it in minutes
    (ConfigManager.java:526-540).
    """

    base_dir: str | None = None  # SAGEMAKER_BASE_DIR: /opt/ml, or a folder like it
    program: str | None = None  # SAGEMAKER_PROGRAM: file name of the script
    accept: str = (
        "application/json"  # SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT: Accept's */* or absence
    )
    first_dimension: int = (
        1  # SAGEMAKER_DEFAULT_MODEL_FIRST_DIMENSION_SIZE: rows bound; 0: as saved
    )
    predict_order: str | None = None  # MMS_HANDLER_PREDICT_ORDER: "model,data" or "data,model"
    host: str = "127.0.0.1"  # MMS_HANDLER_HOST: address the front end listens on
    port: int = 8080  # SAGEMAKER_BIND_TO_PORT: inference API
    management_port: int = 8081  # MMS_HANDLER_MANAGEMENT_PORT: management API, always on 127.0.0.1
    model_store: str = "model_archives"  # MMS_HANDLER_MODEL_STORE: folder with the archives
    workers: int = 1  # SAGEMAKER_MODEL_SERVER_WORKERS: workers of each model
    batch_size: int = 1  # MMS_HANDLER_BATCH_SIZE: requests MMS may hand over together
    max_batch_delay_ms: int = 1  # MMS_HANDLER_MAX_BATCH_DELAY_MS: how long it waits for them
    cache_dir: str | None = None  # MMS_HANDLER_CACHE_DIR: installed requirements; see cache_folder
    timeout_s: int = 60  # SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS: one request, and one load
    max_body_bytes: int = MMS_BODY_BYTES  # SAGEMAKER_MAX_PAYLOAD_IN_MB, times 2**20
    max_response_bytes: int = MMS_BODY_BYTES  # MMS_MAX_RESPONSE_SIZE, else as max_body_bytes

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read ``env``; an empty variable is an absent one.

        Raises:
            SettingsError: names the variable, what it holds and what is wanted.
        """

        def read(name: str, parse: Callable[[str], T], default: T) -> T:
            try:
                return parse(env[name]) if env.get(name) else default
            except ValueError as exc:
                raise SettingsError(f"{name}: {env[name]!r} is not {exc}") from None

        max_body_bytes = read("SAGEMAKER_MAX_PAYLOAD_IN_MB", _megabytes, cls.max_body_bytes)
        return cls(
            base_dir=read("SAGEMAKER_BASE_DIR", str, None),
            program=read("SAGEMAKER_PROGRAM", str, None),
            accept=read("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", str, cls.accept),
            first_dimension=read(
                "SAGEMAKER_DEFAULT_MODEL_FIRST_DIMENSION_SIZE", _natural, cls.first_dimension
            ),
            predict_order=read("MMS_HANDLER_PREDICT_ORDER", _order, None),
            host=read("MMS_HANDLER_HOST", str, cls.host),
            port=read("SAGEMAKER_BIND_TO_PORT", _port, cls.port),
            management_port=read("MMS_HANDLER_MANAGEMENT_PORT", _port, cls.management_port),
            model_store=read("MMS_HANDLER_MODEL_STORE", str, cls.model_store),
            workers=read("SAGEMAKER_MODEL_SERVER_WORKERS", _positive, cls.workers),
            batch_size=read("MMS_HANDLER_BATCH_SIZE", _positive, cls.batch_size),
            max_batch_delay_ms=read(
                "MMS_HANDLER_MAX_BATCH_DELAY_MS", _positive, cls.max_batch_delay_ms
            ),
            cache_dir=read("MMS_HANDLER_CACHE_DIR", str, None),
            timeout_s=read("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", _positive, cls.timeout_s),
            max_body_bytes=max_body_bytes,
            max_response_bytes=read("MMS_MAX_RESPONSE_SIZE", _positive, max_body_bytes),
        )


def current() -> Settings:
    """The settings of this process."""
    return Settings.from_env(os.environ)


def environment() -> dict[str, str]:
    """A copy of this process's environment, for a child of it."""
    return dict(os.environ)


def cache_folder(chosen: Settings) -> Path:
    """Where what is installed for scripts is kept: as chosen, else in the user's own cache."""
    if chosen.cache_dir:
        return Path(chosen.cache_dir)
    home = os.path.expanduser("~")
    return Path(home, ".cache") / "mms_handler" if os.access(home, os.W_OK) else _temporary()


def _temporary() -> Path:
    return Path(tempfile.gettempdir()) / f"mms_handler-{os.getuid()}"


def export(name: str, value: str) -> None:
    """Set a variable for what this process imports and starts from here on."""
    os.environ[name] = value


def export_defaults(values: Mapping[str, str]) -> None:
    """Set those variables that are not set."""
    for name, value in values.items():
        os.environ.setdefault(name, value)


def _natural(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError("a whole number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not text.strip().isdecimal() or int(text) == 0:
        raise ValueError("a whole number, 1 or more")
    return int(text)


def _megabytes(text: str) -> int:
    return _positive(text) * 2**20


def _port(text: str) -> int:
    # MMS refuses ports from 32,767 on (Connector.java).
    if not text.strip().isdecimal() or not 0 < int(text) < 32_767:
        raise ValueError("a port from 1 to 32766")
    return int(text)


def _order(text: str) -> str:
    order = text.replace(" ", "").lower()
    if order not in ("model,data", "data,model"):
        raise ValueError("'model,data' or 'data,model'")
    return order
