"""What the page for people says of models: their versions, states, inputs and samples."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from mms_handler import __version__, manifest, worker_files
from mms_handler.archive import files
from mms_handler.errors import ArchiveError
from mms_handler.periodic import repeated
from mms_handler.server import routes
from mms_handler.server.documents import schema_in
from mms_handler.server.routes import Route
from mms_handler.server.store import Store
from mms_handler.server.versions import Versions

#: Seconds between two looks at the models.
_LOOK_S = 0.5

#: Bytes of a sample that the page gets, and of all samples.
_MAX_SAMPLE, _MAX_SAMPLES = 20_000, 1_000_000

#: A model's reason for not being served, as ``mms_models`` writes it: phase, type, text, place.
_REASON = re.compile(
    r"cannot be served: ([a-z_ ]+: )?([A-Za-z_][\w.]*):.*?( \([^()]*\))?$", re.DOTALL
)
_UNKNOWN = "it cannot be loaded; the server's log says why"

_STATES = {
    routes.READY: "ready",
    routes.LOADING: "loading",
    routes.NEW: "loading",
    routes.IDLE: "idle",
}


def short_reason(reason: str) -> str:
    """The phase, the type and the place of why a model cannot be loaded.

    The text of a script's exception may have anything; it is for the log.
    """
    died = re.search(r"died more than \d+ times in \d+ s", reason)
    if died:
        return f"its workers {died[0]}"
    match = _REASON.search(reason)
    if match is None:
        return _UNKNOWN
    return "".join(filter(None, match.groups()))


def document(models: Sequence[Mapping[str, Any]], *, dev: bool = False) -> bytes:
    """The JSON that the page reads."""
    return json.dumps({"version": __version__, "dev": dev, "models": models}).encode()


def facts(folder: Path) -> dict[str, Any]:
    """What the files of a model say of its requests: ``inputs`` and ``sample``, if they do.

    Args:
        folder: the model, unpacked.
    """
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        shapes = json.loads((folder / "model-shapes.json").read_bytes())
        known["inputs"] = [{"name": each["name"], "shape": each["shape"]} for each in shapes]
    inputs = [
        {"name": each.name, "shape": ["any" if n is None else n for n in each.shape]}
        for each in schema_in(folder).inputs
        if each.type != "BYTES"  # a body that is the script's to read
    ]
    if inputs:
        known["inputs"] = inputs
    with contextlib.suppress(OSError, ArchiveError):
        packed = manifest.read_sample(folder)
        if packed:
            known["sample"] = sample(packed[0], packed[1])
    return known


def sample(entry: manifest.Sample, body: bytes) -> dict[str, Any]:
    """A sample request; one that is too large only with its size."""
    described = {"contentType": entry.content_type, "accept": entry.accept, "bytes": len(body)}
    if len(body) > _MAX_SAMPLE:
        return described
    try:
        return {**described, "text": body.decode()}
    except UnicodeDecodeError:
        return {**described, "base64": base64.b64encode(body).decode()}


class PageModels:
    """Keeps the file that the gate answers MODELS from."""

    def __init__(self, versions: Versions, store: Store, path: Path) -> None:
        """Describe ``versions``, whose files are in ``store``, in ``path``."""
        self._versions, self._store, self._path = versions, store, path
        self._facts: dict[str, dict[str, Any]] = {}
        self._written = b""

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the file for the length of a ``with`` block."""
        self.write()
        with repeated(self.write, _LOOK_S):
            yield

    def write(self) -> None:
        """Write the file, if it has changed; a full disk only leaves it as it was."""
        text = document(self._models())
        if text == self._written:
            return
        with contextlib.suppress(OSError):
            with files.replacing(self._path, force=True) as partial:
                partial.write_bytes(text)
            self._written = text

    def _models(self) -> list[dict[str, Any]]:
        by_name: dict[str, list[dict[str, Any]]] = {}
        table = [*self._versions.state().routes()]
        budget = _MAX_SAMPLES
        for route in table:
            version = self._version(route)
            size = len(str(version.get("sample", "")))
            if size > budget:
                version["sample"] = {
                    key: value
                    for key, value in version["sample"].items()
                    if key not in ("text", "base64")
                }
            else:
                budget -= size
            by_name.setdefault(route.name, []).append(version)
        self._facts = {
            r.mms_name: self._facts[r.mms_name] for r in table if r.mms_name in self._facts
        }
        for (name, number), reason in self._versions.failures.latest().items():
            failed = {"version": number, "state": "failed", "reason": short_reason(reason)}
            by_name.setdefault(name, []).append(failed)
        return [{"name": name, "versions": by_name[name]} for name in sorted(by_name)]

    def _version(self, route: Route) -> dict[str, Any]:
        state = _STATES[route.state]
        folder = self._store.folder(route.mms_name)
        version = {"version": route.version, "state": state, "share": route.percent}
        if state == "loading":
            phase = worker_files.read_load_phase(folder)
            return {**version, "phase": phase[0] if phase else "starting"}
        if route.mms_name not in self._facts:
            self._facts[route.mms_name] = facts(folder)
        return {**version, **self._facts[route.mms_name]}
