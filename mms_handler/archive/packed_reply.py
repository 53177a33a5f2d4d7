"""The reply to a sample that an archive keeps, and whether a new reply is still the same."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any, Mapping

from mms_handler import media
from mms_handler.errors import HandlerError

#: The largest body in bytes that is stored.  For a larger one, its hash is stored.
MAX_BYTES = 100_000

#: How far a number may be from the packed one: processors and libraries round differently.
RELATIVE, ABSOLUTE = 1e-4, 1e-6


def encode(status: int, content_type: str, body: bytes | None) -> dict[str, Any]:
    """A reply as the manifest keeps it.

    Args:
        status: HTTP status.
        content_type: of the body.
        body: None if it changes between calls (a timestamp, a random number).
    """
    reply = {"status": status, "content_type": content_type}
    if body is None:
        return reply
    if len(body) > MAX_BYTES:
        return {**reply, "sha256": hashlib.sha256(body).hexdigest()}
    try:
        return {**reply, "body": body.decode()}
    except UnicodeDecodeError:
        return {**reply, "base64": base64.b64encode(body).decode()}


def same(packed: Mapping[str, Any], current: Mapping[str, Any]) -> bool:
    """Whether two encoded replies are the same up to rounding.

    A packed reply without a body matches any body.
    """
    if any(packed.get(key) != current.get(key) for key in ("status", "content_type", "sha256")):
        return False
    try:
        packed_body, current_body = _body(packed), _body(current)
        if packed_body is None or current_body is None or packed_body == current_body:
            return packed_body is None or packed_body == current_body
        return _near(packed_body, current_body, current["content_type"])
    except (ValueError, HandlerError):  # not numbers, or not a body of its type
        return False


def describe_reply(reply: Mapping[str, Any]) -> str:
    """An encoded reply in one line for a message; a long body is cut."""
    body = reply.get("body", reply.get("base64", "a body that changes between calls"))
    shown = f"a body with the hash {reply['sha256']}" if "sha256" in reply else str(body)[:200]
    return f"{reply.get('status')} {reply.get('content_type')}: {shown}"


def _body(reply: Mapping[str, Any]) -> bytes | None:
    if "base64" in reply:
        return base64.b64decode(str(reply["base64"]))
    return str(reply["body"]).encode() if "body" in reply else None


def _near(first: bytes, second: bytes, content_type: str) -> bool:
    """Whether two bodies of a content type hold almost the same numbers."""
    from mms_handler import codecs  # imports numpy

    if media.main_type(content_type) == media.JSON:
        return _near_values(json.loads(first), json.loads(second))
    return _near_arrays(codecs.decode(first, content_type), codecs.decode(second, content_type))


def _near_values(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_near_values, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            _near_values(first[key], second[key]) for key in first
        )
    if isinstance(first, float) or isinstance(second, float):
        numbers = isinstance(first, (int, float)) and isinstance(second, (int, float))
        return numbers and math.isclose(first, second, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(first == second)


def _near_arrays(first: Any, second: Any) -> bool:
    import numpy as np

    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            _near_arrays(first[key], second[key]) for key in first
        )
    if isinstance(first, dict) or isinstance(second, dict) or first.shape != second.shape:
        return False
    return bool(np.allclose(first, second, RELATIVE, ABSOLUTE, equal_nan=True))
