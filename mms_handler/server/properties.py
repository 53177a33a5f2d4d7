"""MMS's config.properties: each line with its purpose and the origin of its value."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, NamedTuple

from mms_handler.server.java import FLAGS, PLUGINS
from mms_handler.settings import TABLE, Settings
from mms_handler.settings.names import PASSED_ON

_HEAD = """\
# What `mms-handler config` prints for its defaults; `mms-handler serve` writes its own.
# It works with MMS's own command too: multi-model-server --start \\
#   --mms-config config.properties --model-store model_archives --models linear=linear.mar
"""


class _Line(NamedTuple):
    """A key and its value, with its comments.

    Fields:
        fields: the fields of Settings from which the value is made.
        purpose: what the line is for; by default the help of the first field.
        origin: where the value comes from; by default where the fields come from.
    """

    key: str
    value: object
    fields: tuple[str, ...] = ()
    purpose: str = ""
    origin: str = ""


def config_properties(settings: Settings, origins: Mapping[str, str] | None = None) -> str:
    """The file's text.

    Args:
        settings: the values.
        origins: where each field's value comes from, as in ``Effective``; None: all are defaults.
    """
    text = _HEAD
    for line in _lines(settings):
        purpose = line.purpose
        if not purpose:
            setting = TABLE[line.fields[0]]
            purpose = f"{setting.help}  In {setting.unit}." if setting.unit else setting.help
        origin = line.origin or _origin(line.fields, origins or {})
        text += f"\n# {purpose}\n{line.key}={line.value}\n# {origin}\n"
    return text


def _origin(fields: tuple[str, ...], origins: Mapping[str, str]) -> str:
    names = sorted({origins.get(field, "default") for field in fields} - {"default"})
    return f"from {', '.join(names)}" if names else "default"


def _lines(settings: Settings) -> Iterator[_Line]:
    yield _Line("inference_address", f"http://{settings.host}:{settings.port}", ("host", "port"))
    yield _Line(
        "management_address",
        f"http://127.0.0.1:{settings.management_port}",
        ("management_port",),
        "Never open this port to others: anyone who reaches it can run code here.",
    )
    yield _Line("model_store", _escaped(settings.model_store), ("model_store",))
    yield _Line(
        "default_workers_per_model",
        settings.workers or 1,
        ("workers",),
        "Workers of a model that is registered without a number.  MMS's default is one per core.",
    )
    yield _Line(
        "default_response_timeout_seconds",
        settings.timeout_s,
        ("timeout_s",),
        "For one request, and for loading a model.  The key without _seconds is in minutes.",
    )
    yield _Line("max_request_size", settings.max_body_bytes, ("max_body_bytes",))
    yield _Line("max_response_size", settings.max_response_bytes, ("max_response_bytes",))
    yield _Line("job_queue_size", settings.job_queue_size, ("job_queue_size",))
    if settings.netty_threads:
        yield _Line("number_of_netty_threads", settings.netty_threads, ("netty_threads",))
    heap = [f"-Xmx{settings.heap_mb}m"] if settings.heap_mb else []
    yield _Line(
        "vmargs",
        " ".join([*FLAGS, *heap]),
        ("heap_mb",),
        "Options of the JVM: less time for its own work, and the heap if one is set.",
    )
    yield _Line("plugins_path", _plugins(), purpose="Our plug-ins for MMS.", origin="always")
    passed_on = dict(settings.passed_on)
    if settings.hide_env:
        patterns = [_regex(pattern) for pattern in settings.hide_env]
        patterns += filter(None, [passed_on.pop("blacklist_env_vars", "")])
        yield _Line("blacklist_env_vars", _escaped("|".join(patterns)), ("hide_env",))
    for key, value in passed_on.items():
        origin = f"from {PASSED_ON[key]}"
        yield _Line(key, _escaped(value), purpose="A setting of MMS.", origin=origin)


def _regex(pattern: str) -> str:
    """A pattern of hide_env as a regular expression of Java."""
    words = {"*": ".*", "?": ".", ".": r"\."}
    return "".join(words.get(letter, letter) for letter in pattern)


def _plugins() -> Path:
    """The plug-ins' folder.  Below this folder the path is relative, the same on each machine."""
    here = Path.cwd()
    return PLUGINS.relative_to(here) if here in PLUGINS.parents else PLUGINS


def _escaped(text: str) -> str:
    r"""``text`` as Java reads it: two backslashes for one, \uXXXX for what is not plain ASCII."""
    utf16 = text.replace("\\", "\\\\").encode("utf-16-be", "surrogatepass")
    units = [int.from_bytes(utf16[at : at + 2], "big") for at in range(0, len(utf16), 2)]
    return "".join(chr(unit) if 32 <= unit < 127 else f"\\u{unit:04x}" for unit in units)
