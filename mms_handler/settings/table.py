"""The table of settings: variables, type, unit, default, option and help text of each."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Mapping

from mms_handler.settings import names, texts
from mms_handler.settings.defaults import (
    ARRAY_BYTES_PER_BODY_BYTE,
    DEFAULT_BATCH_SIZE,
    MMS_BODY_BYTES,
    management_port,
)
from mms_handler.settings.setting import DERIVED, Setting, declare, parse


@dataclass(frozen=True)
class Settings:
    """One process's settings.

    Units are in the names, because MMS confuses its own: it documents
    ``default_response_timeout`` in seconds and reads it in minutes
    (ConfigManager.java:526-540).
    """

    base_dir: str | None = declare(
        None,
        {"SAGEMAKER_BASE_DIR": str},
        "Folder used in place of /opt/ml.",
        default_text="/opt/ml",
    )
    raw_hyperparameters: bool = declare(
        False,
        {"MMS_HANDLER_RAW_HYPERPARAMETERS": texts.boolean},
        "Hand hyperparameters to a training script as the texts that they are, not as JSON.",
    )
    multi_model: bool = declare(
        False,
        {"SAGEMAKER_MULTI_MODEL": texts.boolean},
        "Let clients load and unload models, with all APIs on one port.",
        option="multi-model",
    )
    program: str | None = declare(
        None,
        {"SAGEMAKER_PROGRAM": str},
        "File name of the script.",
        default_text="the archive's, else inference.py, else the only .py file",
    )
    submit_directory: str | None = declare(
        None,
        {"SAGEMAKER_SUBMIT_DIRECTORY": str},
        "Address in S3 of the code of a model that has no script: a tar.gz with SAGEMAKER_PROGRAM.",
        default_text="the model's own",
    )
    accept: str = declare(
        "application/json",
        {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": str},
        "Content type of replies if Accept is absent or */*.",
    )
    first_dimension: int = declare(
        1,
        {"SAGEMAKER_DEFAULT_MODEL_FIRST_DIMENSION_SIZE": texts.natural},
        "Number of rows to bind a Module for; 0 keeps the number with which it was saved.",
    )
    predict_order: str | None = declare(
        None,
        {"MMS_HANDLER_PREDICT_ORDER": texts.order},
        "Order of predict_fn's parameters if their names do not show it: model,data or data,model.",
        default_text="model,data if input_fn takes the model first, else data,model",
    )
    host: str = declare(
        "127.0.0.1",
        {"MMS_HANDLER_HOST": texts.line},
        "Address to listen on for clients; serve without PATHS uses 0.0.0.0 unless this is set.",
        option="host",
        metavar="ADDRESS",
    )
    port: int = declare(
        8080,
        {"SAGEMAKER_BIND_TO_PORT": texts.port},
        "Port for clients.",
        option="port",
        metavar="PORT",
    )
    safe_port_range: tuple[int, int] | None = declare(
        None,
        {"SAGEMAKER_SAFE_PORT_RANGE": texts.port_range},
        "Ports that may be used besides the port for clients; the management API gets the first.",
        default_text="8081-8082",
        text=lambda ports: f"{ports[0]}-{ports[1]}",
    )
    management_port: int = declare(
        8081,
        {"MMS_HANDLER_MANAGEMENT_PORT": texts.port},
        "Port of the management API, on 127.0.0.1; if not set, from SAGEMAKER_SAFE_PORT_RANGE.",
        option="management-port",
        metavar="PORT",
        follows="safe_port_range",
        derive=management_port,
    )
    model_store: str = declare(
        "model_archives",
        {"MMS_HANDLER_MODEL_STORE": str, "MMS_MODEL_STORE": str},
        "Folder that MMS loads archives from.",
        option="model-store",
        metavar="FOLDER",
    )
    allowed_urls: tuple[str, ...] = declare(
        (),
        {"MMS_HANDLER_ALLOWED_URLS": texts.words},
        "URL prefixes that archives may be downloaded from, separated by commas.",
        default_text="none",
        option="allowed-urls",
        metavar="URLS",
    )
    allowed_hosts: tuple[str, ...] = declare(
        (),
        {"MMS_HANDLER_ALLOWED_HOSTS": texts.words},
        "Names in the Host header by which clients may call the server, separated by commas.",
        default_text="on loopback its addresses, otherwise any",
        option="allowed-hosts",
        metavar="NAMES",
    )
    token_file: str | None = declare(
        None,
        {"MMS_HANDLER_TOKEN_FILE": str},
        "File with the tokens that requests need: lines `inference TOKEN`, `management TOKEN`.",
        default_text="none: requests need no token",
        option="token-file",
        metavar="FILE",
    )
    require_signature: str | None = declare(
        None,
        {"MMS_HANDLER_REQUIRE_SIGNATURE": str},
        "File or folder with public keys, one of which must have signed each archive.",
        default_text="none: archives need no signature",
        option="require-signature",
        metavar="KEYS",
    )
    hide_env: tuple[str, ...] = declare(
        (),
        {"MMS_HANDLER_HIDE_ENV": texts.patterns},
        "Variables that workers and scripts do not get, such as AWS_*, separated by commas.",
        default_text="none",
        option="hide-env",
        metavar="NAMES",
    )
    workers: int | None = declare(
        None,
        {
            "SAGEMAKER_MODEL_SERVER_WORKERS": texts.positive,
            "MMS_DEFAULT_WORKERS_PER_MODEL": texts.positive,
        },
        "Worker processes per model.",
        default_text="as many as fit",
        option="workers",
    )
    threads: int | None = declare(
        None,
        {"OMP_NUM_THREADS": texts.threads},
        "Threads per worker.",
        default_text="1, or for large models the cores divided among the workers",
        option="threads",
    )
    memory_bytes: int | None = declare(
        None,
        {"MMS_HANDLER_MEMORY_MB": texts.megabytes},
        "Memory that workers and Java may use together.",
        default_text="the container's limit, or the machine's memory",
        unit="MB",
        text=lambda count: str(count // 2**20),
        option="memory-mb",
    )
    heap_mb: int | None = declare(
        None,
        {"MMS_HANDLER_HEAP_MB": texts.positive},
        "Size of Java's heap.",
        default_text="from the memory and the size limits of bodies",
        unit="MB",
        option="heap-mb",
    )
    java_jars: str | None = declare(
        None,
        {"MMS_HANDLER_JAVA_JARS": str},
        "Folder with jars that Java uses before MMS's own, such as newer ones of netty.",
        default_text="none",
        option="java-jars",
        metavar="FOLDER",
    )
    batch_size: int | None = declare(
        None,
        {"MMS_HANDLER_BATCH_SIZE": texts.positive},
        "Maximum batch size.",
        default_text="32 for models that can batch, else 1",
        option="batch-size",
    )
    job_queue_size: int = declare(
        100,
        {"MMS_JOB_QUEUE_SIZE": texts.positive},
        "Requests that may wait for one model; further ones get 503.",
        option="job-queue-size",
    )
    netty_threads: int | None = declare(
        None,
        {"MMS_NUMBER_OF_NETTY_THREADS": texts.positive},
        "Threads of the front end.",
        default_text="one for four cores",
        option="netty-threads",
    )
    timeout_s: int = declare(
        60,
        {
            "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": texts.positive,
            "MMS_DEFAULT_RESPONSE_TIMEOUT_SECONDS": texts.positive,
            "SAGEMAKER_MODEL_SERVER_TIMEOUT": texts.positive,
        },
        "Time limit for one request, and for loading a model.",
        unit="s",
        option="timeout-s",
    )
    max_body_bytes: int = declare(
        MMS_BODY_BYTES,
        {
            "MMS_MAX_REQUEST_SIZE": texts.body_bytes,
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": texts.payload_megabytes,
        },
        "Size limit of a request's body.",
        unit="bytes",
        option="max-body-bytes",
    )
    max_response_bytes: int = declare(
        MMS_BODY_BYTES,
        {"MMS_MAX_RESPONSE_SIZE": texts.body_bytes},
        "Size limit of a reply's body; if not set, the same as for requests.",
        unit="bytes",
        option="max-response-bytes",
        follows="max_body_bytes",
        derive=lambda values: values["max_body_bytes"],
    )
    max_array_bytes: int = declare(
        ARRAY_BYTES_PER_BODY_BYTE * MMS_BODY_BYTES,
        {"MMS_HANDLER_MAX_ARRAY_BYTES": texts.positive},
        "Size limit of the float32 arrays that a request's body becomes; unless set, "
        f"{ARRAY_BYTES_PER_BODY_BYTE} times the limit of bodies.",
        unit="bytes",
        option="max-array-bytes",
        follows="max_body_bytes",
        derive=lambda values: ARRAY_BYTES_PER_BODY_BYTE * values["max_body_bytes"],
    )
    drain_s: int = declare(
        25,
        {"MMS_HANDLER_DRAIN_SECONDS": texts.natural},
        "Time for running requests to finish when serve stops; SageMaker kills the container "
        "after 30 s.",
        unit="s",
        option="drain-s",
    )
    keep_alive_s: int = declare(
        75,
        {"MMS_HANDLER_KEEP_ALIVE_SECONDS": texts.positive},
        "Time that a connection may be without a request; SageMaker keeps its own for 60 s.",
        unit="s",
        option="keep-alive-s",
    )
    header_timeout_s: int = declare(
        10,
        {"MMS_HANDLER_HEADER_TIMEOUT_SECONDS": texts.positive},
        "Time for the head of a request to arrive, from its first byte.",
        unit="s",
        option="header-timeout-s",
    )
    body_timeout_s: int = declare(
        60,
        {"MMS_HANDLER_BODY_TIMEOUT_SECONDS": texts.positive},
        "Time for the body of a request to arrive, and for the client to take the reply.",
        unit="s",
        option="body-timeout-s",
    )
    max_connections: int = declare(
        1024,
        {"MMS_HANDLER_MAX_CONNECTIONS": texts.positive},
        "Open connections, if descriptors suffice; a further one replaces the longest idle one.",
        option="max-connections",
    )
    client_rate: float | None = declare(
        None,
        {"MMS_HANDLER_CLIENT_RATE": texts.rate},
        "Predictions a second that one client may ask for, such as 20/s; further ones get 429.",
        default_text="no limit",
        text=lambda rate: f"{rate:.15g}",
        option="client-rate",
    )
    client_burst: int | None = declare(
        None,
        {"MMS_HANDLER_CLIENT_BURST": texts.burst},
        "Predictions that one client may ask for at once, if there is a rate.",
        default_text="those of a second",
        option="client-burst",
    )
    client_concurrency: int | None = declare(
        None,
        {"MMS_HANDLER_CLIENT_CONCURRENCY": texts.burst},
        "Predictions of one client that may be under way; further ones get 429.",
        default_text="no limit",
        option="client-concurrency",
    )
    trusted_proxies: int = declare(
        0,
        {"MMS_HANDLER_TRUSTED_PROXIES": texts.proxies},
        "Proxies in front of the server, each of which adds its client to X-Forwarded-For; with 0 "
        "the header is not read.",
        option="trusted-proxies",
    )
    capture: str | None = declare(
        None,
        {"MMS_HANDLER_CAPTURE": texts.place},
        "Folder, or s3:// address, into which a share of the predictions is written.",
        default_text="none: nothing is kept",
        option="capture",
        metavar="PLACE",
    )
    capture_share: float = declare(
        0.01,
        {"MMS_HANDLER_CAPTURE_SHARE": texts.share},
        "Share of the predictions that is captured, such as 0.01 or 1%.",
        text=lambda share: f"{share:.15g}",
        option="capture-share",
        metavar="SHARE",
    )
    capture_max_mb: int = declare(
        1000,
        {"MMS_HANDLER_CAPTURE_MAX_MB": texts.positive},
        "Size that captured predictions may have in the folder; the oldest are removed.",
        unit="MB",
        option="capture-max-mb",
    )
    capture_types: tuple[str, ...] = declare(
        (),
        {"MMS_HANDLER_CAPTURE_TYPES": texts.media_types},
        "Content types of bodies that may be captured, separated by commas.",
        default_text="all",
        option="capture-types",
        metavar="TYPES",
    )
    restarts: int = declare(
        5,
        {"MMS_HANDLER_MAX_RESTARTS": texts.natural},
        "Worker deaths per model and minute that serve tolerates; also failures to load it again.",
        option="restarts",
    )
    max_requests: int | None = declare(
        None,
        {"MMS_HANDLER_MAX_REQUESTS": texts.positive},
        "Requests after which serve replaces a worker's process, between two requests.",
        default_text="no limit",
        option="max-requests",
    )
    max_worker_mb: int | None = declare(
        None,
        {"MMS_HANDLER_MAX_WORKER_MB": texts.positive},
        "Memory of its own above which serve replaces a worker's process, between two requests.",
        default_text="no limit",
        unit="MB",
        option="max-worker-mb",
    )
    keep_going: bool = declare(
        False,
        {"MMS_HANDLER_KEEP_GOING": texts.boolean},
        "Serve the other models if one cannot be loaded.",
        option="keep-going",
    )
    log_format: str = declare(
        "text",
        {"MMS_HANDLER_LOG_FORMAT": texts.log_format},
        "Form of the log's records: text for people, or json, a line for each record.",
        option="log-format",
        metavar="FORMAT",
    )
    log_level: str = declare(
        "info",
        {"MMS_HANDLER_LOG_LEVEL": texts.log_level},
        "Least level of what is logged: debug, info, warning or error.",
        option="log-level",
        metavar="LEVEL",
    )
    access_log: str = declare(
        "off",
        {"MMS_HANDLER_ACCESS_LOG": texts.access_log},
        "Requests with a record in the log: off (none), on (all), or errors (from status 400 on).",
        option="access-log",
        metavar="WHICH",
    )
    ui: bool = declare(
        False,
        {"MMS_HANDLER_UI": texts.boolean},
        "Serve a page on which models can be watched and tried, at /ui/ of the port for clients.",
        option="ui",
    )
    optimize: str = declare(
        "on",
        {"MMS_HANDLER_OPTIMIZE": texts.graphs},
        "Try faster graphs when a model is loaded: on, off, or float (on, but without an "
        "archive's int8 graph).",
    )
    engine: str = declare(
        "auto",
        {"MMS_HANDLER_ENGINE": texts.engine},
        "What computes predictions: auto (an archive's ONNX twin, where it agrees and is faster), "
        "or mxnet.",
    )
    fork: str = declare(
        "auto",
        {"MMS_HANDLER_FORK": texts.auto},
        "Fork a model's workers from a process that has loaded it: auto (where it can be), or off.",
    )
    core: str = declare(
        "auto",
        {"MMS_HANDLER_CORE": texts.auto},
        "Read and write numbers in the compiled core: auto (where it is installed), or off.",
    )
    supervised: bool = declare(
        False,
        {"MMS_HANDLER_SUPERVISED": texts.boolean},
        "Set by serve for its workers; not for users.",
    )
    cache_dir: str | None = declare(
        None,
        {"MMS_HANDLER_CACHE_DIR": str},
        "Folder for the requirements installed for scripts, and for Java's class data.",
        default_text="~/.cache/mms_handler",
    )
    #: Lines for MMS's configuration: keys of names.PASSED_ON and their texts.
    passed_on: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Make the defaults that follow other fields."""
        for field, setting in TABLE.items():
            if getattr(self, field) is DERIVED:
                object.__setattr__(self, field, setting.default_for(vars(self)))

    @property
    def max_batch_size(self) -> int:
        """The largest batch for a model that can batch."""
        return self.batch_size or DEFAULT_BATCH_SIZE

    @property
    def model_dir(self) -> str:
        """The folder of the model that ``serve`` without PATHS serves."""
        return os.path.join(self.base_dir or "/opt/ml", "model")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read ``env``.  An empty variable counts as absent; unknown variables are ignored.

        Raises:
            SettingsError: a value is invalid; names the variable, its value and what is valid.
        """
        return cls(**read(env, {})[0])

    def variables(self) -> dict[str, str]:
        """The variables from which another process reads these settings, without the defaults."""
        values = {field: getattr(self, field) for field in TABLE}
        changed = {
            next(iter(setting.variables)): setting.text(values[field])
            for field, setting in TABLE.items()
            if values[field] != setting.default_for(values)
        }
        return {**changed, **{names.PASSED_ON[key]: text for key, text in self.passed_on}}


#: Every setting, by its field of Settings.
TABLE: dict[str, Setting] = {
    field.name: field.metadata["setting"]
    for field in dataclasses.fields(Settings)
    if field.metadata
}


def read(
    env: Mapping[str, str], options: Mapping[str, object]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read each setting from ``options``, else from ``env``, else take its default.

    Args:
        env: an environment; empty variables count as absent.
        options: values, already parsed, by field.

    Returns:
        The values and their origins, both by field.

    Raises:
        SettingsError: a variable has an invalid value, even if an option overrides it.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for field, setting in TABLE.items():
        sources = [
            (parse(env, variable, parser), variable)
            for variable, parser in setting.variables.items()
            if env.get(variable)
        ]
        if field in options:
            sources.insert(0, (options[field], f"option --{setting.option}"))
        default = (setting.default_for(values), origins.get(setting.follows, "default"))
        values[field], origins[field] = sources[0] if sources else default
    values["passed_on"] = names.passed_on(env)
    return values, origins
