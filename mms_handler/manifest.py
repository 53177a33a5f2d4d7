"""MAR-INF/MANIFEST.json: what MMS reads of an archive, and what we keep in it beside that.

MMS takes a model's name and handler from it and leaves alone what it does not know.  Ours is
under ``mms_handler``: the versions it was packed with, each file's hash, the sample.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Iterable, Mapping, NamedTuple

from mms_handler import __version__
from mms_handler.errors import ArchiveError

HANDLER = "mms_handler.service:handle"
MANIFEST = "MAR-INF/MANIFEST.json"
SAMPLE = "MAR-INF/sample"  # with a suffix that tells its type
INT8 = "MAR-INF/int8-symbol.json"

#: Bytes of a manifest: the hashes of as many files as an archive may have.
MAX_BYTES = 20 * 10**6

#: What MMS can address in a URL and the worker's command line can take (``-rf`` it cannot).
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def check_name(name: str) -> str:
    """``name`` if it can name a model.

    Raises:
        ArchiveError: it cannot; says what can.
    """
    if not NAME.fullmatch(name):
        raise ArchiveError(
            f"{name!r} cannot name a model: letters, digits, '_', '.' and '-' can, "
            "and the first is a letter or digit"
        )
    return name


class Sample(NamedTuple):
    """A request that is kept in an archive, and the reply it had when it was packed."""

    name: str  # of its entry
    content_type: str
    accept: str
    reply: Mapping[str, Any] | None = None  # as replies.kept has it; None: nobody asked


class Quantized(NamedTuple):
    """A graph of the model in eight-bit numbers that is kept in an archive, and how it did."""

    type: str  # int8
    symbol: str  # its entry
    operators: int  # that compute in eight bits
    of: int
    inputs: int  # requests that it was made of and judged by
    rows: int  # of scores that were compared
    top: int  # of these, with the largest score at the same place
    mean: float  # difference in parts of the largest value
    most: float


class Manifest(NamedTuple):
    """What an archive says of itself."""

    name: str
    handler: str
    hashes: Mapping[str, str] | None = None  # entry to SHA-256; None: another tool packed it
    packages: Mapping[str, str] = {}
    sample: Sample | None = None
    quantized: Quantized | None = None


# --- writing ---------------------------------------------------------------------------------


def written(
    name: str,
    script: str | None,
    hashes: Mapping[str, str] | None = None,
    sample: Sample | None = None,
    quantized: Quantized | None = None,
) -> bytes:
    """The manifest of a model, the same bytes for the same model and versions.

    Args:
        name: the model's.
        script: the script's, relative to its folder, if there is one.
        hashes: of every other entry; None for a folder, whose files are not hashed.
        sample: the request that is kept.
        quantized: what is known of the int8 graph that is kept.
    """
    model = {"modelName": name, "handler": HANDLER}
    ours: dict[str, Any] = {"version": __version__, "packages": _packages()}
    if hashes is not None:
        ours["files"] = dict(sorted(hashes.items()))
    if sample:
        kept = sample._asdict()
        ours["sample"] = {key: value for key, value in kept.items() if value is not None}
    if quantized:
        ours["quantized"] = quantized._asdict()
    found = {
        "runtime": "python",
        "model": {**model, "script": script} if script else model,
        "modelServerVersion": "1.0",
        "implementationVersion": "1.0",
        "specificationVersion": "1.0",
        "mms_handler": ours,
    }
    return json.dumps(found, indent=2).encode()


def _packages() -> dict[str, str]:
    """The versions that a prediction depends on; an mxnet of another name has none."""
    found = {"python": platform.python_version()}
    for name in ("mxnet", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return dict(sorted(found.items()))


# --- reading ---------------------------------------------------------------------------------


def read(text: bytes) -> Manifest:
    """A manifest as its archive has it.

    Raises:
        ArchiveError: it is none, it names no model or handler, or our part of it is not ours.
    """
    try:
        found = json.loads(text)
        model, ours = found["model"], found.get("mms_handler", {})
        sample = ours.get("sample")
        return Manifest(
            name=check_name(_text(model["modelName"])),
            handler=_text(model["handler"]),
            hashes=_texts(ours["files"]) if "files" in ours else None,
            packages=_texts(ours.get("packages", {})),
            sample=_sample(**sample) if sample else None,
            quantized=_quantized(**ours["quantized"]) if "quantized" in ours else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ArchiveError(f"{MANIFEST} does not say what a model is: {exc!r}") from exc


def read_folder(folder: Path) -> Manifest | None:
    """The manifest of an unpacked model; None if the folder has none.

    Raises:
        ArchiveError: the manifest is not valid.
    """
    path = folder / MANIFEST
    return read(path.read_bytes()) if path.is_file() else None


def read_sample(folder: Path) -> tuple[Sample, bytes] | None:
    """The sample request that was packed with the model in ``folder``, and its body, if any.

    Raises:
        ArchiveError: the manifest is not valid.
    """
    manifest = read_folder(folder)
    sample = manifest.sample if manifest else None
    return (sample, (folder / sample.name).read_bytes()) if sample else None


def script_name(manifest: Any) -> str | None:
    """The script that a manifest names, relative to its folder.

    Args:
        manifest: the file's JSON, as MMS hands it to a worker; anything else has no script.
    """
    model = manifest.get("model") if isinstance(manifest, dict) else None
    name = model.get("script") if isinstance(model, dict) else None
    return name if isinstance(name, str) else None


def _sample(name: str, content_type: str, accept: str, reply: Any = None) -> Sample:
    if not name.startswith(f"{SAMPLE}.") or "/" in name[len(SAMPLE) :]:
        raise ValueError(f"the sample is called {name!r}")
    if reply is not None and not isinstance(reply, dict):
        raise TypeError(f"the sample's reply is {reply!r}")
    return Sample(name, _text(content_type), _text(accept), reply)


def _quantized(type: str, symbol: str, **numbers: float) -> Quantized:
    if (type, symbol) != ("int8", INT8):
        raise ValueError(f"a graph of type {type!r} in {symbol!r}")
    found = Quantized(type, symbol, **numbers)  # type: ignore[arg-type]  # its names are checked here
    if not all(isinstance(one, (int, float)) and one >= 0 for one in numbers.values()):
        raise ValueError(f"the int8 graph's numbers are {numbers}")
    return found


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: _text(value) for name, value in values.items()}


def check_handler(handler: str, entries: Iterable[str]) -> None:
    """Do nothing if MMS finds ``handler`` in an archive of ``entries`` or in this Python.

    Raises:
        ArchiveError: it is not module:function, it leads elsewhere, or there is no such module.
    """
    module, _, function = handler.partition(":")
    if not (module and function.isidentifier()) or module.startswith("/") or ".." in module:
        raise ArchiveError(
            f"the handler {handler!r} is not module:function, of the archive or installed"
        )
    path = re.sub(r"\.py$", "", module).replace(".", "/")
    if not {f"{path}.py", f"{path}/__init__.py"} & set(entries) and not _installed(path):
        raise ArchiveError(f"the handler {handler!r} is neither in the archive nor installed")


def _installed(path: str) -> bool:
    """Whether this Python has the module's package; it is not imported to find out."""
    top = path.partition("/")[0]
    if top in ("", "__main__"):  # a worker's own, whatever this process has
        return False
    return importlib.util.find_spec(top) is not None
