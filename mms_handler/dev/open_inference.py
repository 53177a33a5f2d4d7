"""The Open Inference Protocol and OpenAPI on the server of ``serve --dev``.

The gate has the same paths (java/mms_handler/OpenInference.java), and answers from the same
documents.  Here there is one model, and one version of it.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Sequence

from mms_handler import media
from mms_handler.client import Answer
from mms_handler.dev.worker import VERSION, Reply
from mms_handler.server import inference_api, tensor_api
from mms_handler.server.api_parts import Described

#: The header with the bytes of a body's JSON (codecs.tensors has it, but imports numpy).
HEADER_LENGTH = "Inference-Header-Content-Length"

#: What this server does not have.
_MISSING = ("/metrics",)


def infers(path: str, name: str) -> bool:
    """Whether a path asks the model for tensors."""
    return path in [f"{start}/infer" for start in _starts(name)]


def is_open_inference(path: str) -> bool:
    """Whether a path is one of the protocol's, where errors have its form."""
    return path == "/v2" or path.startswith("/v2/")


def content_type(lengths: Sequence[str]) -> str:
    """The Content-Type that means tensors to a worker.

    Args:
        lengths: all values of HEADER_LENGTH that the client sent.
    """
    marked = f'{media.INFER}; version="{VERSION}"'
    quoted = ", ".join(lengths).replace("\\", r"\\").replace('"', r"\"")
    return f'{marked}; header-length="{quoted}"' if lengths else marked


def in_form(reply: Reply) -> Reply:
    """An error in the protocol's form; the traceback of a bug stays beside it."""
    if reply.status < 400:
        return reply
    error = {"error": Answer(*reply).message()}
    with contextlib.suppress(ValueError, TypeError, KeyError):  # a script may answer so, too
        error["traceback"] = json.loads(reply.body)["traceback"]
    formed = _json(error, reply.status)
    return formed._replace(headers={**reply.headers, **formed.headers})


def answer(path: str, name: str, described: Described | None) -> Reply | None:
    """The reply to GET; None if the path is neither the protocol's nor that of the description.

    Args:
        path: of the request.
        name: the model's.
        described: None if no worker has loaded it.
    """
    ready = described is not None
    if path == "/openapi.json":
        return _json(_description(described)) if described else _json(_NOT_LOADED, 503)
    if not is_open_inference(path):
        return None
    if path == "/v2":
        return _json(tensor_api.server_metadata())
    if path == "/v2/health/live":
        return _json({"live": True})
    if path == "/v2/health/ready":
        return _json({"ready": ready}, 200 if ready else 503)
    start, _, last = path.rpartition("/")
    if last == "ready" and start in _starts(name):
        return _json({"name": name, "ready": ready}, 200 if ready else 503)
    if path in _starts(name):
        return (
            _json(tensor_api.metadata(described, [VERSION]))
            if described
            else _json(_NOT_LOADED, 503)
        )
    return _json({"error": f"there is no such path; the model is {_starts(name)[0]}"}, 404)


_NOT_LOADED = {"error": "the model does not load; the terminal says why"}


def _starts(name: str) -> tuple[str, str]:
    """The paths of a model and of its version."""
    return f"/v2/models/{name}", f"/v2/models/{name}/versions/{VERSION}"


def _description(described: Described) -> dict[str, Any]:
    document = inference_api.description([described], described.name, multi_model=True)
    for path in _MISSING:
        del document["paths"][path]
    return document


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, {"content-type": media.JSON}, json.dumps(value).encode())
