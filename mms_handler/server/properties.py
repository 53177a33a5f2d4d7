"""MMS's config.properties for our settings: each line with its reason and its origin."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Mapping, NamedTuple

from mms_handler.server.java import FLAGS, PLUGINS
from mms_handler.settings import TABLE, Setting, Settings
from mms_handler.settings.names import PASSED_ON

_HEAD = """\
# What `mms-handler config` prints for its defaults; `mms-handler serve` writes its own.
# It works with MMS's own command too: multi-model-server --start \\
#   --mms-config config.properties --model-store model_archives --models linear=linear.mar
"""


class _Line(NamedTuple):
    key: str
    value: object
    fields: tuple[str, ...] = ()  # of Settings, that the value is made of
    reason: str = ""  # else what the first field is
    origin: str = ""  # else where the fields came from


def properties(chosen: Settings, origins: Mapping[str, str] | None = None) -> str:
    """The file's text.

    Args:
        chosen: what it says.
        origins: where each field came from, as ``Effective`` has it; without, from defaults.
    """
    return _HEAD + "".join(_told(line, origins or {}) for line in _lines(chosen))


def _told(line: _Line, origins: Mapping[str, str]) -> str:
    reason = line.reason or _described(TABLE[line.fields[0]])
    return f"\n# {reason}\n{line.key}={line.value}\n# {line.origin or _origin(line, origins)}\n"


def _origin(line: _Line, origins: Mapping[str, str]) -> str:
    named = sorted({origins.get(field, "default") for field in line.fields} - {"default"})
    return f"from {', '.join(named)}" if named else "default"


def _described(setting: Setting) -> str:
    return f"{setting.help}  In {setting.unit}." if setting.unit else setting.help


def _lines(chosen: Settings) -> Iterator[_Line]:
    yield _Line("inference_address", f"http://{chosen.host}:{chosen.port}", ("host", "port"))
    yield _Line(
        "management_address",
        f"http://127.0.0.1:{chosen.management_port}",
        ("management_port",),
        "Whoever reaches this port can run code: it is never opened to others.",
    )
    yield _Line("model_store", _escaped(chosen.model_store), ("model_store",))
    yield _Line(
        "default_workers_per_model",
        chosen.workers or 1,
        ("workers",),
        "Workers of a model that is registered without a number; MMS's default is one a core.",
    )
    yield _Line(
        "default_response_timeout_seconds",
        chosen.timeout_s,
        ("timeout_s",),
        "For one request, and for loading a model.  The key without _seconds is in minutes.",
    )
    yield _Line("max_request_size", chosen.max_body_bytes, ("max_body_bytes",))
    yield _Line("max_response_size", chosen.max_response_bytes, ("max_response_bytes",))
    yield _Line("job_queue_size", chosen.job_queue_size, ("job_queue_size",))
    if chosen.netty_threads:
        yield _Line("number_of_netty_threads", chosen.netty_threads, ("netty_threads",))
    heap = [f"-Xmx{chosen.heap_mb}m"] if chosen.heap_mb else []
    yield _Line(
        "vmargs",
        " ".join([*FLAGS, *heap]),
        ("heap_mb",),
        "Less time for the JVM's own work; and its heap, where one was chosen.",
    )
    yield _Line(
        "decode_input_request",
        "false",
        reason="The handler reads bodies: a malformed one gets 400.  MMS would lose the worker.",
        origin="always",
    )
    yield _Line("plugins_path", _plugins(), reason="What we add to MMS's APIs.", origin="always")
    for key, value in chosen.passed_on:
        origin = f"from {PASSED_ON[key]}"
        yield _Line(key, _escaped(value), reason="A setting of MMS's own.", origin=origin)


def _plugins() -> Path:
    """Where our plug-ins are: the same on each machine, seen from the folder that has us."""
    here = Path.cwd()
    return PLUGINS.relative_to(here) if here in PLUGINS.parents else PLUGINS


def _escaped(text: str) -> str:
    r"""``text`` as Java reads it: a backslash is written twice, what is not ASCII as \uXXXX."""
    utf16 = text.replace("\\", "\\\\").encode("utf-16-be", "surrogatepass")
    units = [int.from_bytes(utf16[at : at + 2], "big") for at in range(0, len(utf16), 2)]
    return "".join(chr(unit) if unit < 128 else f"\\u{unit:04x}" for unit in units)
