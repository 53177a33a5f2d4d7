"""Turn what a script's function returned into the reply to a client."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from mms_handler import codecs, media

#: The attributes of a web framework's response.
_RESPONSE = ("get_data", "mimetype", "status_code")


class Reply(NamedTuple):
    """What the client gets."""

    body: bytes
    content_type: str
    status: int = 200


class HeadedReply(NamedTuple):
    """A Reply with headers beside its content type."""

    body: bytes
    content_type: str
    status: int
    headers: Mapping[str, str]


class Outputs(NamedTuple):
    """A prediction of the default functions that is not written yet: arrays."""

    prediction: Any


class Response(NamedTuple):
    """What is sent for a request: a Reply, or the fault of one that failed, with all headers."""

    status: int
    phrase: str
    headers: Mapping[str, str]
    body: bytes


def make_reply(result: Any, accept: str, default: str) -> Reply:
    """Make the reply from the result of transform_fn or output_fn.

    Args:
        result: any form that scripts return (CONTRACT B7): a value, bytes or text, alone or with
            a content type; or a web framework's response.
        accept: the client's Accept header.
        default: the content type for a client that accepts any.

    Raises:
        NotAcceptable: the value cannot be written as any type that the client accepts.
    """
    while _is_pair(result) and _is_pair(result[0]) and "/" in str(result[0][1]):
        result = result[0]  # transform_fn returned (output_fn(...), content_type)
    if all(hasattr(result, name) for name in _RESPONSE):
        pair = (result.get_data(), str(result.mimetype or "") or None)
        return make_reply(pair, accept, default)._replace(status=int(result.status_code))
    value, content_type = result if _is_pair(result) else (result, None)
    if value is None:
        return Reply(b"", content_type or _preferred_type(accept, default))
    if isinstance(value, str):
        value = value.encode("utf-8")
    if isinstance(value, (bytes, bytearray)):
        return Reply(bytes(value), content_type or _preferred_type(accept, default))
    from mms_handler import models  # imports mxnet, and Reply is used without it

    value = models.to_plain(value)
    if content_type is None:
        return Reply(*codecs.encode(value, accept, default))
    written_as = content_type if codecs.writes(content_type) else media.JSON
    body, _ = codecs.encode(value, media.main_type(written_as), default)
    return Reply(body, content_type)  # unchanged: the script may name any type


def _is_pair(result: Any) -> bool:
    """Whether ``result`` is the contract's (body, content type)."""
    is_pair = isinstance(result, tuple) and len(result) == 2
    return is_pair and (result[1] is None or isinstance(result[1], str))


def _preferred_type(accept: str, default: str) -> str:
    """The content type of a bare body: the one that Accept prefers; the default for a range."""
    preferred, _ = max(media.ranges(accept), key=lambda media_range: media_range[1])
    return default if "*" in preferred else preferred
