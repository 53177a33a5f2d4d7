"""MAR-INF/MANIFEST.json: what MMS reads in an archive, and what this package adds to it.

MMS takes a model's name and handler from the manifest and ignores unknown keys.  Ours is
``mms_handler``: the versions that the archive was packed with, each file's hash, the sample, the
model's inputs and outputs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from mms_handler import __version__
from mms_handler import schema as schemas
from mms_handler.errors import ArchiveError
from mms_handler.schema import Schema

HANDLER = "mms_handler.service:handle"
MANIFEST = "MAR-INF/MANIFEST.json"
SAMPLE = "MAR-INF/sample"  # plus a suffix for its content type
INT8 = "MAR-INF/int8-symbol.json"
PARTS = "MAR-INF/bom.json"
TWIN = "MAR-INF/twin.onnx"

#: The largest manifest in bytes: room for the hashes of as many files as an archive may have.
MAX_BYTES = 20 * 10**6

#: Names that MMS can address in a URL and that are safe on a worker's command line (not ``-rf``).
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

#: Letters of the longest name.  A file name may have 255 bytes, and suffixes are appended.
_MAX_NAME = 200


def check_name(name: str) -> str:
    """Return ``name`` if it is a valid model name.

    Raises:
        ArchiveError: it is not; lists the valid characters.
    """
    if len(name) > _MAX_NAME:
        raise ArchiveError(
            f"the model name {name[:20]!r}... has {len(name)} characters; use at most {_MAX_NAME}"
        )
    if not NAME.fullmatch(name):
        raise ArchiveError(
            f"{name!r} is not a valid model name: use letters, digits, '_', '.' and '-', "
            "and start with a letter or digit"
        )
    return name


class Sample(NamedTuple):
    """The manifest's entry for the sample request.

    Attributes:
        name: of the archive's entry with the body.
        content_type: the request's Content-Type.
        accept: the request's Accept.
        reply: the reply when the archive was packed, as archive.packed_reply.encode writes it;
            None if the request was not sent then.
    """

    name: str
    content_type: str
    accept: str
    reply: Mapping[str, Any] | None = None


class Quantized(NamedTuple):
    """The manifest's entry for the int8 graph, and how well the graph agreed with the model.

    Attributes:
        type: "int8".
        symbol: name of the archive's entry with the graph.
        quantized_operators: how many operators compute in eight bits.
        operators: how many operators the whole graph has, after MXNet fused it.
        requests: how many requests it was made from and judged by.
        rows: how many rows of scores were compared.
        same_top: how many of these rows have their largest score at the same place.
        mean_difference: between predictions, as a fraction of each prediction's largest value.
        max_difference: the largest such difference.
    """

    type: str
    symbol: str
    quantized_operators: int
    operators: int
    requests: int
    rows: int
    same_top: int
    mean_difference: float
    max_difference: float


class Twin(NamedTuple):
    """The manifest's entry for the ONNX twin, and how well it agreed with the model.

    Attributes:
        file: name of the archive's entry with the twin.
        sha256: of the twin.
        inputs: their names, in the model's order.
        shapes: of a row of each input.
        fixed: whether the model takes rows of these shapes alone; else MXNet answers other rows.
        outputs: their names, in the model's order.
        max_rows: limit of rows in one run.
        cases: how many inputs were compared.
        difference: between predictions at most, as a fraction of the largest value of each.
        tolerance: the difference that is allowed.
        gain: how many times as fast as MXNet it was when it was packed; 1 if both were quick.
    """

    file: str
    sha256: str
    inputs: Sequence[str]
    shapes: Sequence[Sequence[int]]
    fixed: bool
    outputs: Sequence[str]
    max_rows: int
    cases: int
    difference: float
    tolerance: float
    gain: float


class Tuned(NamedTuple):
    """The manifest's entry for the settings that serve the model fastest, as ``tune`` found.

    Attributes:
        cpus: cores of the machine where they were found.
        workers: as the setting; None: the default.
        threads: likewise.
        batch_size: likewise.
        core: likewise.
        optimize: likewise.
    """

    cpus: float
    workers: int | None = None
    threads: int | None = None
    batch_size: int | None = None
    core: str | None = None
    optimize: str | None = None

    def settings(self) -> dict[str, Any]:
        """The settings by name, without those that have their defaults."""
        fields = self._asdict()
        del fields["cpus"]
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        words = [f"{name} {value}" for name, value in self.settings().items()]
        text = ", ".join(words).replace("_", " ") or "the defaults"
        return f"{text}, for {self.cpus:g} cores"


#: The most workers, threads and requests of a batch that an archive may ask for.
_MAX_TUNED = 1024

#: The keys of Quantized's fields in a manifest.
QUANTIZED_KEYS = ("type", "symbol", "operators", "of", "inputs", "rows", "top", "mean", "most")


class Manifest(NamedTuple):
    """An archive's manifest.

    Attributes:
        name: the model's.
        handler: ``module:function`` that MMS calls.
        hashes: the SHA-256 of each entry by name; None if another tool packed the archive.
        packages: versions of the packages that predictions depend on.
        sample: the sample request, if there is one.
        quantized: the int8 graph, if there is one.
        version: the model's; "" if it has none.
        schema: the model's inputs and outputs; None if they were not looked for.
        tuned: the settings that serve it fastest, if they are known.
        parts: name of the entry that lists the model's parts and requirements; "" if none does.
        signer: who signed the archive, as ``archive.verify`` found; "" for nobody.
        twin: the ONNX twin, if there is one.
    """

    name: str
    handler: str
    hashes: Mapping[str, str] | None = None
    packages: Mapping[str, str] = {}
    sample: Sample | None = None
    quantized: Quantized | None = None
    version: str = ""
    schema: Schema | None = None
    tuned: Tuned | None = None
    parts: str = ""
    signer: str = ""
    twin: Twin | None = None


# --- writing ---------------------------------------------------------------------------------


def encode(
    name: str,
    script: str | None,
    hashes: Mapping[str, str] | None = None,
    sample: Sample | None = None,
    quantized: Quantized | None = None,
    handler: str = HANDLER,
    version: str | None = None,
    schema: Schema | None = None,
    parts: str | None = None,
    twin: Twin | None = None,
) -> bytes:
    """A manifest as JSON.  The same model and versions give the same bytes.

    Args:
        name: the model's.
        script: the script, relative to its folder; None for a model without one.
        hashes: the SHA-256 of every other entry; None for a folder, whose files are not hashed.
        sample: the sample request, if there is one.
        quantized: the int8 graph, if there is one.
        handler: ``module:function`` that MMS calls.
        version: the model's; None: it has none.
        schema: the model's inputs and outputs; None: they were not looked for.
        parts: name of the entry that lists the model's parts and requirements; None: none does.
        twin: the ONNX twin, if there is one.
    """
    model = {"modelName": name, "handler": handler}
    if version:
        model["modelVersion"] = version
    extension: dict[str, Any] = {"version": __version__, "packages": packages()}
    if hashes is not None:
        extension["files"] = dict(sorted(hashes.items()))
    if sample:
        entry = sample._asdict()
        extension["sample"] = {key: value for key, value in entry.items() if value is not None}
    if schema:
        extension["schema"] = schemas.encode(schema)
    if quantized:
        extension["quantized"] = dict(zip(QUANTIZED_KEYS, quantized))
    if parts:
        extension["parts"] = parts
    if twin:
        extension["twin"] = twin._asdict()
    manifest = {
        "runtime": "python",
        "model": {**model, "script": script} if script else model,
        "modelServerVersion": "1.0",
        "implementationVersion": "1.0",
        "specificationVersion": "1.0",
        "mms_handler": extension,
    }
    return json.dumps(manifest, indent=2).encode()


def with_tuned(text: bytes, tuned: Tuned) -> bytes:
    """A manifest that is valid, with these settings instead of those that it has."""
    manifest = json.loads(text)
    entry = {"cpus": tuned.cpus, **tuned.settings()}
    manifest["mms_handler"] = {**manifest.get("mms_handler", {}), "tuned": entry}
    return json.dumps(manifest, indent=2).encode()


def packages() -> dict[str, str]:
    """Versions of the packages that predictions depend on; no mxnet under another name."""
    versions = {"python": platform.python_version()}
    for name in ("mxnet", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return dict(sorted(versions.items()))


# --- reading ---------------------------------------------------------------------------------


def read(text: bytes) -> Manifest:
    """Parse a manifest.

    Raises:
        ArchiveError: it is not JSON, it lacks a name or a handler, or our part of it is invalid.
    """
    try:
        manifest = json.loads(text)
        model, extension = manifest["model"], manifest.get("mms_handler", {})
        sample = extension.get("sample")
        return Manifest(
            name=check_name(_string(model["modelName"])),
            handler=_string(model["handler"]),
            version=str(model.get("modelVersion") or ""),
            hashes=_strings(extension["files"]) if "files" in extension else None,
            packages=_strings(extension.get("packages", {})),
            sample=_sample(**sample) if sample else None,
            quantized=_quantized(extension["quantized"]) if "quantized" in extension else None,
            schema=schemas.read(extension["schema"]) if "schema" in extension else None,
            tuned=_tuned(extension["tuned"]) if "tuned" in extension else None,
            parts=_string(extension.get("parts", "")),
            twin=_twin(extension["twin"]) if "twin" in extension else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ArchiveError(f"{MANIFEST} is not a valid manifest: {exc!r}") from exc


def read_folder(folder: Path) -> Manifest | None:
    """The manifest of an unpacked model; None if the folder has none.

    Raises:
        ArchiveError: the manifest is not valid.
    """
    path = folder / MANIFEST
    return read(path.read_bytes()) if path.is_file() else None


def foreign_handler(folder: Path) -> str | None:
    """The handler that the manifest in ``folder`` names, if it is not this package's.

    None also for a manifest that is not valid: a new one is written.
    """
    with contextlib.suppress(ArchiveError):
        manifest = read_folder(folder)
        if manifest and manifest.handler != HANDLER:
            return manifest.handler
    return None


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
        manifest: the file's JSON, as MMS passes it to a worker.  Anything else names no script.
    """
    model = manifest.get("model") if isinstance(manifest, dict) else None
    name = model.get("script") if isinstance(model, dict) else None
    return name if isinstance(name, str) else None


def _sample(name: str, content_type: str, accept: str, reply: Any = None) -> Sample:
    if not name.startswith(f"{SAMPLE}.") or "/" in name[len(SAMPLE) :]:
        raise ValueError(f"the sample is {name!r}; expected {SAMPLE} with a suffix")
    if reply is not None and not isinstance(reply, dict):
        raise TypeError(f"the sample's reply is {reply!r}; expected an object")
    return Sample(name, _string(content_type), _string(accept), reply)


def _quantized(entry: Mapping[str, Any]) -> Quantized:
    if entry.keys() != set(QUANTIZED_KEYS):
        raise ValueError(
            f"the int8 graph has the keys {sorted(entry)}; expected {sorted(QUANTIZED_KEYS)}"
        )
    quantized = Quantized(*(entry[key] for key in QUANTIZED_KEYS))
    if (quantized.type, quantized.symbol) != ("int8", INT8):
        raise ValueError(
            f"a graph of type {quantized.type!r} is in {quantized.symbol!r}; expected 'int8' in "
            f"{INT8!r}"
        )
    if not all(isinstance(number, (int, float)) and number >= 0 for number in quantized[2:]):
        raise ValueError(f"the int8 graph's numbers are {quantized[2:]}; expected 0 or more")
    return quantized


def _twin(entry: Mapping[str, Any]) -> Twin:
    twin = Twin(**entry)
    if twin.file != TWIN:
        raise ValueError(f"the ONNX twin is {twin.file!r}; expected {TWIN!r}")
    for names in (twin.inputs, twin.outputs):
        if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            raise TypeError(f"the ONNX twin's names are {str(names)[:80]}; expected strings")
    lengths = [length for shape in twin.shapes for length in (*shape, 1)]
    if len(twin.shapes) != len(twin.inputs) or not all(_is_count(length) for length in lengths):
        raise ValueError("the ONNX twin's shapes are not a list of lengths for each input")
    if not (_is_count(twin.max_rows) and _is_count(twin.cases) and type(twin.fixed) is bool):
        raise ValueError("the ONNX twin's rows and cases are not counts")
    numbers = (twin.difference, twin.tolerance, twin.gain)
    if not all(type(number) in (int, float) and 0 <= number < math.inf for number in numbers):
        raise ValueError(f"the ONNX twin's numbers are {numbers}; expected 0 or more")
    return twin._replace(sha256=_string(twin.sha256))


def _is_count(value: object) -> bool:
    return type(value) is int and value > 0


def _tuned(entry: Mapping[str, Any]) -> Tuned:
    tuned = Tuned(**entry)
    counts = (tuned.workers, tuned.threads, tuned.batch_size)
    if not all(
        count is None or (type(count) is int and 0 < count <= _MAX_TUNED) for count in counts
    ):
        raise ValueError(f"the tuned numbers are {counts}; expected 1 to {_MAX_TUNED} each")
    words = (tuned.core, tuned.optimize)
    if words[0] not in (None, "auto", "off") or words[1] not in (None, "on", "off", "float"):
        raise ValueError(f"the tuned core and optimize are {words}; expected words of the settings")
    if not isinstance(tuned.cpus, (int, float)):
        raise TypeError(f"the tuned cores are {tuned.cpus!r}; expected a number")
    return tuned


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _strings(values: Mapping[str, object]) -> dict[str, str]:
    return {name: _string(value) for name, value in values.items()}


def check_handler(handler: str, entries: Iterable[str]) -> None:
    """Check that MMS can find ``handler`` among an archive's ``entries`` or in this Python.

    Args:
        handler: ``module:function``, or ``module``, which MMS takes for ``module:handle``, or for
            its only class (mms/model_loader.py:118-135).
        entries: names in the archive.

    Raises:
        ArchiveError: it is neither of these, it leads outside the archive, or there is no such
            module.
    """
    module, separator, function = handler.partition(":")
    if (
        not (module and function.isidentifier() == bool(separator))
        or module.startswith("/")
        or ".." in module
    ):
        raise ArchiveError(
            f"the handler {handler!r} is not module:function or module, with a module in the "
            "archive or an installed one"
        )
    path = re.sub(r"\.py$", "", module).replace(".", "/")
    if not {f"{path}.py", f"{path}/__init__.py"} & set(entries) and not _is_installed(path):
        raise ArchiveError(f"the handler {handler!r} is neither in the archive nor installed")


def _is_installed(path: str) -> bool:
    """Whether this Python has the module's package.  The package is not imported."""
    package = path.partition("/")[0]
    if package in ("", "__main__"):  # in a worker, __main__ is another module than here
        return False
    return importlib.util.find_spec(package) is not None
