"""The reply that a sample had when it was packed, kept in the manifest, and one it has now."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any, Mapping

from mms_handler import media
from mms_handler.errors import HandlerError

#: Bytes of a body that is kept itself; of a longer one its hash is.
MAX_BYTES = 100_000

#: How far a number may be from the packed one: other processors and libraries round differently.
RELATIVE, ABSOLUTE = 1e-4, 1e-6


def kept(status: int, content_type: str, body: bytes | None) -> dict[str, Any]:
    """A reply as the manifest has it; ``body`` is None where it is another one each time."""
    told = {"status": status, "content_type": content_type}
    if body is None:
        return told
    if len(body) > MAX_BYTES:
        return {**told, "sha256": hashlib.sha256(body).hexdigest()}
    try:
        return {**told, "body": body.decode()}
    except UnicodeDecodeError:
        return {**told, "base64": base64.b64encode(body).decode()}


def same(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two replies as ``kept`` has them are one, but for rounding."""
    if any(then.get(key) != now.get(key) for key in ("status", "content_type", "sha256")):
        return False
    try:
        before, after = _body(then), _body(now)
        if before is None or after is None or before == after:
            return before is None or before == after
        return _near(before, after, now["content_type"])
    except (ValueError, HandlerError):  # no numbers, or no body of its type
        return False


def words(reply: Mapping[str, Any]) -> str:
    """A kept reply for a person to read, but for what is too long for that."""
    body = reply.get("body", reply.get("base64", "a body that is another one each time"))
    shown = f"a body of the hash {reply['sha256']}" if "sha256" in reply else str(body)[:200]
    return f"{reply.get('status')} {reply.get('content_type')}: {shown}"


def _body(reply: Mapping[str, Any]) -> bytes | None:
    if "base64" in reply:
        return base64.b64decode(str(reply["base64"]))
    return str(reply["body"]).encode() if "body" in reply else None


def _near(one: bytes, other: bytes, content_type: str) -> bool:
    """Whether two bodies of a type say the same in numbers that hardly differ."""
    from mms_handler import codecs  # numpy takes its time

    if media.main_type(content_type) == media.JSON:
        return _near_values(json.loads(one), json.loads(other))
    return _near_arrays(codecs.decode(one, content_type), codecs.decode(other, content_type))


def _near_values(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_near_values, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near_values(one[key], other[key]) for key in one)
    if isinstance(one, float) or isinstance(other, float):
        numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
        return numbers and math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(one == other)


def _near_arrays(one: Any, other: Any) -> bool:
    import numpy as np

    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_near_arrays(one[key], other[key]) for key in one)
    if isinstance(one, dict) or isinstance(other, dict) or one.shape != other.shape:
        return False
    return bool(np.allclose(one, other, RELATIVE, ABSOLUTE, equal_nan=True))
