"""Files about the models that are served, which the gate sends to clients (OpenInference.java)."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Mapping, Sequence

from mms_handler import manifest, schema, worker_files
from mms_handler.archive import files
from mms_handler.errors import ArchiveError
from mms_handler.schema import Schema
from mms_handler.server import inference_api, tensor_api
from mms_handler.server.api_parts import Described


def schema_in(folder: Path) -> Schema:
    """What the model in a folder of the store takes and gives, as far as is known."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        return schema.read(json.loads(worker_files.read_schema(folder)))
    with contextlib.suppress(ArchiveError):
        packed = manifest.read_folder(folder)
        if packed and packed.schema:
            return packed.schema
    return Schema()


def describe(name: str, version: str, folder: Path) -> Described:
    """A version of a model, from its folder in the store."""
    sample, body = None, b""
    with contextlib.suppress(ArchiveError, OSError):
        sample, body = manifest.read_sample(folder) or (None, b"")
    return Described(name, version, schema_in(folder), sample, body)


class Documents:
    """The files.  One thread at a time may write them."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the one in which the gate looks for them."""
        self._folder = folder
        self._models = folder / "models"

    def write(
        self,
        versions: Mapping[str, Described],
        served: Sequence[str],
        invocations: str,
        multi_model: bool,
    ) -> None:
        """Replace the files; a full disk only keeps the old ones.

        Args:
            versions: all versions by MMS's names.
            served: MMS's names of those that answer requests without a version.
            invocations: as for ``inference_api.description``.
            multi_model: likewise.
        """
        with contextlib.suppress(OSError):
            self._models.mkdir(parents=True, exist_ok=True)
            for mms_name, each in versions.items():
                same = [other.version for other in versions.values() if other.name == each.name]
                self._put(f"models/{mms_name}", tensor_api.metadata(each, same))
            for path in self._models.iterdir():
                if path.name[: -len(".json")] not in versions:
                    path.unlink()
            models = [versions[mms_name] for mms_name in served]
            self._put("openapi", inference_api.description(models, invocations, multi_model))
            self._put("server", tensor_api.server_metadata())

    def _put(self, name: str, document: Mapping[str, Any]) -> None:
        with files.replacing(self._folder / f"{name}.json", force=True) as partial:
            partial.write_text(json.dumps(document))
