"""The reply frame as MMS writes it, shaped so that its reader in Java never loses the worker.

code, message, [id, content type, STATUS, phrase, HEADERS, body]...

Java reads a frame as its bytes come, and waits where some are missing: but for a request's status
and for its map of headers (ModelResponseDecoder.java, CodecUtils.readMap), where a read that ends
there raises, and the worker is dropped with all its batch.  Reads end at multiples of 16 bytes
from the frame's start, since netty's buffers and the kernel's pieces are such.  So the map stays
empty, what a script puts there travels in the content type's own, guarded field, and spaces before
the type, which no reader of HTTP keeps, move the status away from those places.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Sequence

#: A frame's code, and its message with its length (mms/service.py, create_predict_response).
_START = 4 + 4 + len("Prediction success")

#: Reads end at multiples of this.
_BLOCK = 16

#: What MMS sets itself, whatever a script has set (NettyUtils.sendHttpResponse).
_OF_MMS = {"x-request-id", "pragma", "cache-control", "expires"}


class TypeAlone(Dict[str, str]):
    """The headers of a reply for MMS: none, and the content type for who asks for it by name."""

    def __init__(self, content_type: str) -> None:
        super().__init__()
        self._content_type = content_type

    def get(self, key: str, default: Any = None) -> Any:
        return self._content_type if key == "content-type" else default


def settle(context: Any, bodies: Sequence[bytes]) -> None:
    """Shape the frame that MMS will write for these replies.

    Args:
        context: MMS's, with each reply's status, phrase and headers as they shall be sent: ASCII.
        bodies: the replies' bodies, in the order of the batch.
    """
    at = _START
    for index, body in enumerate(bodies):
        processor = context.request_processor[index]
        at += 4 + len(context.get_request_id(index)) + 4
        content_type = _padded(_folded(processor.get_response_headers()), at)
        processor._response_header = TypeAlone(content_type)
        _, phrase = context.get_response_status(index)
        at += len(content_type) + 4 + 4 + len(phrase or "") + 4 + 4 + len(body)


def _folded(headers: Mapping[str, str]) -> str:
    """All headers in the one that MMS writes as it is: the type, a line break, the next one."""
    kept = {name.lower(): (name, value) for name, value in headers.items()}
    _, content_type = kept.pop("content-type", ("", ""))
    others = [f"{name}: {value}" for key, (name, value) in kept.items() if key not in _OF_MMS]
    return "\r\n".join([content_type or "application/octet-stream", *others])


def _padded(content_type: str, at: int) -> str:
    """The type, behind the fewest spaces that move the four bytes after it inside of a block."""
    end = (at + len(content_type)) % _BLOCK
    spaces = 0 if 0 < end <= _BLOCK - 4 else 1 if not end else _BLOCK - end + 1
    return " " * spaces + content_type
