"""The reply to a sample that an archive keeps, and whether a new reply is still the same."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from typing import Any, Iterator, Mapping

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


def same(packed: Mapping[str, Any], current: Mapping[str, Any], share: float = 0) -> bool:
    """Whether two encoded replies are the same up to rounding.

    A packed reply without a body matches any body.  ``share``: how far a number may also be from
    the packed one, as a share of the largest packed number.
    """
    if any(packed.get(key) != current.get(key) for key in ("status", "content_type", "sha256")):
        return False
    try:
        packed_body, current_body = _body(packed), _body(current)
        if packed_body is None or current_body is None or packed_body == current_body:
            return packed_body is None or packed_body == current_body
        return _near(packed_body, current_body, current["content_type"], share)
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


def _near(first: bytes, second: bytes, content_type: str, share: float) -> bool:
    """Whether two bodies of a content type hold almost the same numbers."""
    from mms_handler import codecs  # imports numpy

    if media.main_type(content_type) == media.JSON:
        packed = json.loads(first)
        absolute = max(ABSOLUTE, share * max(_sizes(packed), default=0.0))
        return _near_values(packed, json.loads(second), absolute)
    decoded = codecs.decode(first, content_type)
    arrays = decoded.values() if isinstance(decoded, dict) else [decoded]
    largest = max((abs(array).max() for array in arrays if share and array.size), default=0.0)
    absolute = max(ABSOLUTE, share * float(largest))
    return _near_arrays(decoded, codecs.decode(second, content_type), absolute)


def _sizes(value: Any) -> Iterator[float]:
    """The sizes of all finite numbers in a value of JSON."""
    if isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _sizes(each)
    elif isinstance(value, float) and math.isfinite(value):
        yield abs(value)


def _near_values(first: Any, second: Any, absolute: float) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(
            _near_values(*each, absolute) for each in zip(first, second)
        )
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            _near_values(first[key], second[key], absolute) for key in first
        )
    if isinstance(first, float) or isinstance(second, float):
        numbers = isinstance(first, (int, float)) and isinstance(second, (int, float))
        return numbers and math.isclose(first, second, rel_tol=RELATIVE, abs_tol=absolute)
    return bool(first == second)


def _near_arrays(first: Any, second: Any, absolute: float) -> bool:
    import numpy as np

    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            _near_arrays(first[key], second[key], absolute) for key in first
        )
    if isinstance(first, dict) or isinstance(second, dict) or first.shape != second.shape:
        return False
    return bool(np.allclose(first, second, RELATIVE, absolute, equal_nan=True))
