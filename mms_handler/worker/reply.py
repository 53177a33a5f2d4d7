"""What a script's function returned, as the reply to a client."""

from __future__ import annotations

from typing import Any, NamedTuple

from mms_handler import codecs, media, models

#: What a web framework's response has.
_RESPONSE = ("get_data", "mimetype", "status_code")


class Reply(NamedTuple):
    """What goes back to the client."""

    body: bytes
    content_type: str
    status: int = 200


def reply(answer: Any, accept: str, default: str) -> Reply:
    """The reply in ``answer``, in any of the forms scripts have returned it (CONTRACT B7).

    Args:
        answer: what transform_fn or output_fn returned.
        accept: the content types that the client takes, as it sent them.
        default: the content type where it takes any.

    Raises:
        NotAcceptable: the value cannot be written as any of those.
    """
    while _is_pair(answer) and _is_pair(answer[0]) and "/" in str(answer[0][1]):
        answer = answer[0]  # transform_fn returned (output_fn(...), content_type)
    if all(hasattr(answer, name) for name in _RESPONSE):
        pair = (answer.get_data(), str(answer.mimetype or "") or None)
        return reply(pair, accept, default)._replace(status=int(answer.status_code))
    value, content_type = answer if _is_pair(answer) else (answer, None)
    if value is None:
        return Reply(b"", content_type or _single(accept, default))
    if isinstance(value, str):
        value = value.encode("utf-8")
    if isinstance(value, (bytes, bytearray)):
        return Reply(bytes(value), content_type or _single(accept, default))
    value = models.to_plain(value)
    if content_type is None:
        return Reply(*codecs.encode(value, accept, default))
    written_as = content_type if codecs.writes(content_type) else media.JSON
    body, _ = codecs.encode(value, media.main_type(written_as), default)
    return Reply(body, content_type)  # as the script has it: odd types pass through


def _is_pair(answer: Any) -> bool:
    """Whether ``answer`` is the contract's (body, content type)."""
    pair = isinstance(answer, tuple) and len(answer) == 2
    return pair and (answer[1] is None or isinstance(answer[1], str))


def _single(accept: str, default: str) -> str:
    """One content type for a bare body: what Accept wants most, unless that is a range."""
    wanted = max(media.ranges(accept), key=lambda one: one[1])[0]
    return default if "*" in wanted else wanted
