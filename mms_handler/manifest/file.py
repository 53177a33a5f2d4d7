"""MAR-INF/MANIFEST.json: what MMS reads in an archive, and what this package adds to it.

MMS takes a model's name and handler from the manifest and ignores unknown keys.  Ours is
``mms_handler``: the versions that the archive was packed with, each file's hash, the sample, the
model's inputs and outputs.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Mapping, NamedTuple

from mms_handler import __version__, names
from mms_handler import schema as schemas
from mms_handler.errors import ArchiveError
from mms_handler.manifest import entries
from mms_handler.manifest.entries import (
    QUANTIZED_KEYS,
    Quantized,
    Sample,
    Tuned,
    Twin,
    string,
)
from mms_handler.schema import Schema

HANDLER = "mms_handler.service:handle"
MANIFEST = "MAR-INF/MANIFEST.json"
PARTS = "MAR-INF/bom.json"

#: The largest manifest in bytes: room for the hashes of as many files as an archive may have.
MAX_BYTES = 20 * 10**6


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
    import platform
    from importlib import metadata  # workers, which read manifests, need none of it

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
            name=names.check_name(string(model["modelName"])),
            handler=string(model["handler"]),
            version=str(model.get("modelVersion") or ""),
            hashes=_strings(extension["files"]) if "files" in extension else None,
            packages=_strings(extension.get("packages", {})),
            sample=entries.read_sample(**sample) if sample else None,
            quantized=entries.read_quantized(extension["quantized"])
            if "quantized" in extension
            else None,
            schema=schemas.read(extension["schema"]) if "schema" in extension else None,
            tuned=entries.read_tuned(extension["tuned"]) if "tuned" in extension else None,
            parts=string(extension.get("parts", "")),
            twin=entries.read_twin(extension["twin"]) if "twin" in extension else None,
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


def _strings(values: Mapping[str, object]) -> dict[str, str]:
    return {name: string(value) for name, value in values.items()}
