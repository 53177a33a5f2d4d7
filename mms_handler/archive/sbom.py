"""The list of an archive's parts, in CycloneDX's JSON: a software bill of materials (SBOM).

The model is the subject.  Its files, with their hashes, are parts of it; what it needs are
components of their own: the packages with which predictions were made when it was packed, and the
script's requirements.  The same archive and packages give the same bytes.

Source: CycloneDX 1.6, cyclonedx.org/docs/1.6/json.
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from typing import Any, Iterable, Mapping

from mms_handler import __version__, settings

_MODEL = "model"  # by which other parts of the list refer to it

#: A line of requirements.txt: a name, extras in brackets, and which versions are wanted.
_REQUIREMENT = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:\[[^]]*\])?\s*($|[=<>!~@(;].*)")
_PINNED = re.compile(r"={2,3}\s*([\w.+!-]+)\s*")


def encode(
    name: str,
    version: str | None,
    hashes: Mapping[str, str],
    packages: Mapping[str, str],
    requirements: Iterable[str] = (),
) -> bytes:
    """The list of parts of a model.

    Args:
        name: the model's.
        version: the model's; None: it has none.
        hashes: the SHA-256 of each file by name.
        packages: versions by name, of Python and of the packages that predictions depend on.
        requirements: the lines of the script's requirements.txt.

    Raises:
        SettingsError: SOURCE_DATE_EPOCH is not a time.
    """
    present = {**packages, "mms_handler": __version__}
    components = [_package(package, number) for package, number in present.items()]
    known = {_normal(component["name"]) for component in components}
    for component in filter(None, map(_required, _joined(requirements))):
        if _normal(component["name"]) not in known:  # others are held at the server's version
            known.add(_normal(component["name"]))
            components.append(component)
    components.sort(key=lambda component: str(component["bom-ref"]))
    model: dict[str, Any] = {"type": "machine-learning-model", "bom-ref": _MODEL, "name": name}
    if version:
        model["version"] = version
    model["components"] = [_file(path, digest) for path, digest in sorted(hashes.items())]
    tool = {"type": "application", "name": "mms_handler", "version": __version__}
    metadata: dict[str, Any] = {"tools": {"components": [tool]}, "component": model}
    time_s = settings.source_date_s()
    if time_s is not None:
        text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_s))
        metadata = {"timestamp": text, **metadata}
    references = [component["bom-ref"] for component in components]
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": components,
        "dependencies": [{"ref": _MODEL, "dependsOn": references}],
    }
    return json.dumps(bill, indent=2).encode()


def _file(path: str, digest: str) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": digest}]
    return {"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": hashes}


def _package(name: str, version: str | None, versions: str = "") -> dict[str, Any]:
    """A package of PyPI, or Python itself; ``versions`` is what a requirement says of them."""
    is_python = name == "python"
    url = f"pkg:{'generic' if is_python else 'pypi'}/{_normal(name)}"
    if version:
        url += f"@{urllib.parse.quote(version, safe='')}"
    component: dict[str, Any] = {
        "type": "platform" if is_python else "library",
        "bom-ref": url,
        "name": name,
        **({"version": version} if version else {}),
        "purl": url,
    }
    if versions:
        component["properties"] = [{"name": "mms_handler:requirement", "value": versions}]
    return component


def _joined(lines: Iterable[str]) -> Iterable[str]:
    """Lines of requirements, of which those that end with a backslash go on in the next."""
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def _required(line: str) -> dict[str, Any] | None:
    """The package that a line of requirements names; None for options, paths and addresses."""
    text = re.split(r"\s#|\s--", f"{line} ")[0].strip()
    match = _REQUIREMENT.fullmatch(text)
    if not match:
        return None
    name, condition = match[1], match[2].strip()
    if condition.startswith("@"):  # an address, which may have a password
        return _package(name, None)
    versions = condition.partition(";")[0].strip()
    pinned = _PINNED.fullmatch(versions)
    return _package(name, pinned[1] if pinned else None, "" if pinned else versions)


def _normal(name: str) -> str:
    """A package's name as PyPI has it in addresses."""
    return re.sub(r"[-_.]+", "-", name).lower()
