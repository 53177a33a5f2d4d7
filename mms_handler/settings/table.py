"""The table: each setting with its variables, type, unit, default, and a sentence."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Callable, Mapping, NamedTuple

from mms_handler.errors import SettingsError
from mms_handler.settings import names, texts

#: MMS's own default for a request's and a reply's body (ConfigManager.java), in bytes.
MMS_BODY_BYTES = 6_553_500

#: Requests that come together at most, unless a number was chosen.  More gain nothing: of 32 small
#: ones each costs little more than its own reading and writing.
BATCH = 32


class Setting(NamedTuple):
    """How a field of Settings is told.

    Fields:
        default: where nothing tells it.
        variables: those that tell it, the first that is set wins, and what reads each.
        help: what it is, in a sentence.
        unit: of what the first variable holds.
        option: of the command, without its dashes; or none.
        text: a value as the first variable holds it.
        follows: the field from which ``derive`` makes the default.
        derive: gets the values of the fields above.
    """

    default: Any
    variables: Mapping[str, Callable[[str], Any]]
    help: str
    unit: str = ""
    option: str = ""
    text: Callable[[Any], str] = texts.of
    follows: str = ""
    derive: Callable[[Mapping[str, Any]], Any] | None = None

    def otherwise(self, values: Mapping[str, Any]) -> Any:
        """The value where nothing tells it and the others are ``values``."""
        return self.derive(values) if self.derive else self.default


def _setting(
    default: Any, variables: Mapping[str, Callable[[str], Any]], help: str, **more: Any
) -> Any:
    told = Setting(default, variables, help, **more)
    return dataclasses.field(default=default, metadata={"setting": told})


def _management_port(values: Mapping[str, Any]) -> int:
    """The first port that may be used and is not the clients'."""
    first, last = values["safe_port_range"] or (8081, 8082)
    return first + 1 if first == values["port"] and first < last else first


@dataclass(frozen=True)
class Settings:
    """One process's settings.

    Units are in the names, because MMS's are not to be trusted: it documents
    ``default_response_timeout`` in seconds and reads it in minutes
    (ConfigManager.java:526-540).
    """

    base_dir: str | None = _setting(
        None, {"SAGEMAKER_BASE_DIR": str}, "The folder that stands for /opt/ml."
    )
    multi_model: bool = _setting(
        False,
        {"SAGEMAKER_MULTI_MODEL": texts.boolean},
        "Whether models come and go by requests, all APIs on one port.",
        option="multi-model",
    )
    program: str | None = _setting(None, {"SAGEMAKER_PROGRAM": str}, "The script's file name.")
    accept: str = _setting(
        "application/json",
        {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": str},
        "The type of replies where Accept is */* or absent.",
    )
    first_dimension: int = _setting(
        1,
        {"SAGEMAKER_DEFAULT_MODEL_FIRST_DIMENSION_SIZE": texts.natural},
        "Rows that a Module is bound to; 0: as it was saved.",
    )
    predict_order: str | None = _setting(
        None,
        {"MMS_HANDLER_PREDICT_ORDER": texts.order},
        "predict_fn's parameters where their names tell nothing: model,data or data,model.",
    )
    host: str = _setting(
        "127.0.0.1",
        {"MMS_HANDLER_HOST": str},
        "Address that clients use; 0.0.0.0 for serve without PATHS.",
        option="host",
    )
    port: int = _setting(
        8080, {"SAGEMAKER_BIND_TO_PORT": texts.port}, "Port that clients use.", option="port"
    )
    safe_port_range: tuple[int, int] | None = _setting(
        None,
        {"SAGEMAKER_SAFE_PORT_RANGE": texts.port_range},
        "Ports that are ours beside the clients': the first is the management API's.",
        text=lambda ports: f"{ports[0]}-{ports[1]}",
    )
    management_port: int = _setting(
        8081,
        {"MMS_HANDLER_MANAGEMENT_PORT": texts.port},
        "Port of the management API, on 127.0.0.1.",
        option="management-port",
        follows="safe_port_range",
        derive=_management_port,
    )
    model_store: str = _setting(
        "model_archives",
        {"MMS_HANDLER_MODEL_STORE": str, "MMS_MODEL_STORE": str},
        "The folder that MMS takes archives from.",
        option="model-store",
    )
    allowed_urls: tuple[str, ...] = _setting(
        (),
        {"MMS_HANDLER_ALLOWED_URLS": texts.words},
        "Beginnings of the addresses that archives may come from, with commas; none: nowhere.",
        option="allowed-urls",
    )
    workers: int | None = _setting(
        None,
        {
            "SAGEMAKER_MODEL_SERVER_WORKERS": texts.positive,
            "MMS_DEFAULT_WORKERS_PER_MODEL": texts.positive,
        },
        "Worker processes of each model; else as many as fit.",
        option="workers",
    )
    threads: int | None = _setting(
        None,
        {"OMP_NUM_THREADS": texts.threads},
        "Threads of each worker; else the cores, divided among the workers.",
        option="threads",
    )
    memory_bytes: int | None = _setting(
        None,
        {"MMS_HANDLER_MEMORY_MB": texts.megabytes},
        "Memory to plan with; else the container's limit, or the machine's.",
        unit="MB",
        text=lambda count: str(count // 2**20),
        option="memory-mb",
    )
    heap_mb: int | None = _setting(
        None,
        {"MMS_HANDLER_HEAP_MB": texts.positive},
        "Java's heap; else what the bodies need.",
        unit="MB",
        option="heap-mb",
    )
    batch_size: int | None = _setting(
        None,
        {"MMS_HANDLER_BATCH_SIZE": texts.positive},
        "Requests that MMS may hand to a worker together; else 32 where they can share a pass.",
        option="batch-size",
    )
    max_batch_delay_ms: int = _setting(
        1,
        {"MMS_HANDLER_MAX_BATCH_DELAY_MS": texts.positive},
        "How long the first request of a batch waits for others.",
        unit="ms",
        option="max-batch-delay-ms",
    )
    job_queue_size: int = _setting(
        100,
        {"MMS_JOB_QUEUE_SIZE": texts.positive},
        "Requests of one model that may wait; more are answered 503.",
        option="job-queue-size",
    )
    netty_threads: int | None = _setting(
        None,
        {"MMS_NUMBER_OF_NETTY_THREADS": texts.positive},
        "Threads of the front end; else as many as MMS takes.",
        option="netty-threads",
    )
    timeout_s: int = _setting(
        60,
        {
            "SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": texts.positive,
            "MMS_DEFAULT_RESPONSE_TIMEOUT_SECONDS": texts.positive,
            "SAGEMAKER_MODEL_SERVER_TIMEOUT": texts.positive,
        },
        "For one request, and for loading a model.",
        unit="s",
        option="timeout-s",
    )
    max_body_bytes: int = _setting(
        MMS_BODY_BYTES,
        {
            "MMS_MAX_REQUEST_SIZE": texts.body_bytes,
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": texts.payload_megabytes,
        },
        "The longest request.",
        unit="bytes",
        option="max-body-bytes",
    )
    max_response_bytes: int = _setting(
        MMS_BODY_BYTES,
        {"MMS_MAX_RESPONSE_SIZE": texts.body_bytes},
        "The longest reply; else as the longest request.",
        unit="bytes",
        option="max-response-bytes",
        follows="max_body_bytes",
        derive=lambda values: values["max_body_bytes"],
    )
    drain_s: int = _setting(
        25,
        {"MMS_HANDLER_DRAIN_SECONDS": texts.natural},
        "How long running requests have when serve is told to end; SageMaker kills after 30 s.",
        unit="s",
        option="drain-s",
    )
    restarts: int = _setting(
        5,
        {"MMS_HANDLER_MAX_RESTARTS": texts.natural},
        "Deaths of a model's workers in one minute that serve puts up with.",
        option="restarts",
    )
    keep_going: bool = _setting(
        False,
        {"MMS_HANDLER_KEEP_GOING": texts.boolean},
        "Whether serve goes on without a model that cannot be loaded.",
        option="keep-going",
    )
    optimize: str = _setting(
        "on",
        {"MMS_HANDLER_OPTIMIZE": texts.graphs},
        "Whether faster graphs of a model are tried when it is loaded: on, off, or float, which "
        "leaves an archive's int8 graph alone.",
    )
    supervised: bool = _setting(
        False, {"MMS_HANDLER_SUPERVISED": texts.boolean}, "Set by serve for its workers."
    )
    cache_dir: str | None = _setting(
        None,
        {"MMS_HANDLER_CACHE_DIR": str},
        "Where installed requirements are kept; else in the user's own cache.",
    )
    #: Lines of MMS's configuration that are the user's: keys of names.PASSED_ON and their texts.
    passed_on: tuple[tuple[str, str], ...] = ()

    @property
    def most_together(self) -> int:
        """Requests that MMS may hand to a worker together, where they can share a pass."""
        return self.batch_size or BATCH

    @property
    def model_dir(self) -> str:
        """The model that ``serve`` without PATHS serves."""
        return os.path.join(self.base_dir or "/opt/ml", "model")

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Read ``env``; an empty variable is an absent one, an unknown one someone else's.

        Raises:
            SettingsError: names the variable, what it holds and what is wanted.
        """
        return cls(**read(env, {})[0])

    def variables(self) -> dict[str, str]:
        """The variables from which a process reads these settings: none for a default."""
        values = {name: getattr(self, name) for name in declared()}
        ours = {
            next(iter(one.variables)): one.text(values[name])
            for name, one in declared().items()
            if values[name] != one.otherwise(values)
        }
        return {**ours, **{names.variable(key): value for key, value in self.passed_on}}


def declared() -> dict[str, Setting]:
    """The table: how each field of Settings is told, by its name."""
    fields = dataclasses.fields(Settings)
    return {one.name: one.metadata["setting"] for one in fields if one.metadata}


def read(
    env: Mapping[str, str], given: Mapping[str, object]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of ``env`` but for those ``given``, and where each came from, by field."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, one in declared().items():
        told = [(_parsed(env, v, parse), v) for v, parse in one.variables.items() if env.get(v)]
        if name in given:
            told.insert(0, (given[name], f"option --{one.option}"))
        otherwise = (one.otherwise(values), origins.get(one.follows, "default"))
        values[name], origins[name] = told[0] if told else otherwise
    return {**values, "passed_on": names.passed_on(env)}, origins


def _parsed(env: Mapping[str, str], variable: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(env[variable])
    except ValueError as exc:
        raise SettingsError(f"{variable}: {env[variable]!r} is not {exc}") from None
