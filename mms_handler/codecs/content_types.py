"""The known content types: which codec reads a request, and which one writes its reply."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from mms_handler.codecs import together
from mms_handler.codecs.arrays import MAX_ARRAY_BYTES, Array, Arrays, check_bytes
from mms_handler.codecs.text import text, utf8
from mms_handler.errors import BadInput, NotAcceptable, ScriptError, UnsupportedType
from mms_handler.media import JSON, main_type, preference, ranges


class Codec(NamedTuple):
    """One content type; ``decode`` or ``encode`` is None if the type is only written or only read.

    ``decode`` raises ValueError or TypeError for a body that is not of its type, and TooLarge
    before it allocates more than the limit.  The arrays of a text take little more than the text.
    ``encode`` takes arrays, lists and dicts of arrays, and JSON's values as far as the type can
    hold them.
    ``quick`` reads UTF-8.  It returns or raises what ``decode`` would, or returns None if it is
    unsure.
    """

    content_type: str
    #: From bytes and the limit of the arrays' bytes as float32; from a str alone if ``text``.
    decode: Callable[..., Arrays] | None
    encode: Callable[[Any], bytes] | None
    text: bool = False
    quick: Callable[[bytes], Arrays | None] | None = None


_codecs: dict[str, Codec] = {}


def register(codec: Codec) -> Codec:
    """Add a content type.  For a range such as ``text/*``, the first one registered is used."""
    if codec.content_type in _codecs:
        raise ValueError(f"{codec.content_type} already has a codec")
    _codecs[codec.content_type] = codec
    negotiate.cache_clear()
    return codec


def known(content_type: str) -> bool:
    """Whether a codec reads or writes this Content-Type, with or without parameters."""
    return main_type(content_type) in _codecs


def reads(content_type: str) -> bool:
    """Whether ``decode`` reads bodies of this type."""
    return main_type(content_type) in _readable()


def writes(content_type: str) -> bool:
    """Whether ``encode`` can write this type."""
    return main_type(content_type) in _writable()


def _readable() -> list[str]:
    return [name for name, codec in _codecs.items() if codec.decode]


def _writable() -> list[str]:
    return [name for name, codec in _codecs.items() if codec.encode]


def decode(body: bytes | str, content_type: str, limit_bytes: int = MAX_ARRAY_BYTES) -> Arrays:
    """Read a request body.

    Args:
        body: as received; a text type may also be str.
        content_type: the header as sent, with parameters: ``text/csv; charset=utf-8``.
        limit_bytes: what the arrays may take.  A sparse kilobyte can become terabytes.

    Returns:
        A float32 array of any shape with at least one value.  A body that names its arrays gives
        a dict of them, even if there is only one.  An array may be read-only.

    Raises:
        UnsupportedType: no codec reads this type, or its charset is unknown.
        BadInput: the body does not match its type.
        TooLarge: the arrays take more than the limit.
    """
    codec = _codecs.get(main_type(content_type))
    if codec is None or codec.decode is None:
        raise UnsupportedType(f"cannot read {content_type!r}, only {', '.join(_readable())}")
    if not body:
        raise BadInput(f"the body is empty; expected {codec.content_type}")
    try:
        arrays = _decode(codec, body, content_type, limit_bytes)
    except (ValueError, TypeError, RecursionError, OverflowError) as exc:
        raise BadInput(f"not valid {codec.content_type}: {exc}") from exc
    _check_sizes(arrays, codec.content_type, limit_bytes)
    return arrays


def _decode(codec: Codec, body: bytes | str, content_type: str, limit_bytes: int) -> Arrays:
    assert codec.decode is not None
    encoded = utf8(body, content_type) if codec.quick else None
    arrays = codec.quick(encoded) if codec.quick and encoded is not None else None
    if arrays is not None:
        return arrays
    if codec.text:
        return codec.decode(text(body, content_type))
    return codec.decode(body, limit_bytes)


def _check_sizes(arrays: Arrays, content_type: str, limit_bytes: int) -> None:
    if isinstance(arrays, dict) and not arrays:
        raise BadInput(f"no values in the {content_type} body")
    array_bytes = 0
    for name, array in arrays.items() if isinstance(arrays, dict) else [("", arrays)]:
        if not array.size:
            place = f"{name[:40]!r} of the" if name else "the"
            raise BadInput(f"no values in {place} {content_type} body (shape {array.shape})")
        array_bytes += array.nbytes
    check_bytes(array_bytes, limit_bytes)


def encode(value: Any, accept: str, default: str) -> tuple[bytes, str]:
    """Write ``value`` as the type that ``accept`` prefers.

    Args:
        value: an array, lists or a dict of arrays, or JSON's own values.
        accept: the Accept header as sent; ranges and q-values count (RFC 9110, 12.5.1).
        default: the type for ``*/*``, and for any range that includes it.

    Returns:
        The body and its content type.

    Raises:
        NotAcceptable: ``accept`` allows no type that can be written, or the type that it allows
            cannot hold ``value``.
        ScriptError: no type can hold ``value``.
    """
    content_type = negotiate(accept, default)
    write = _codecs[content_type].encode
    assert write is not None  # negotiate returns no other
    try:
        return write(value), content_type
    except (ValueError, TypeError, RecursionError) as exc:
        if content_type == JSON:  # no other type holds a value that JSON cannot hold
            raise ScriptError(f"the script's prediction cannot be sent: {exc}") from exc
        encode(value, JSON, JSON)
        raise NotAcceptable(
            f"this prediction cannot be written as {content_type}: {exc}; try Accept: {JSON}"
        ) from exc


def encode_each(values: Sequence[Any], accept: str, default: str) -> list[tuple[bytes, str]]:
    """Write each of ``values`` as ``encode`` does, in less time if they are arrays of one kind.

    Raises:
        NotAcceptable, ScriptError: as ``encode``, for any of them.
    """
    if len(values) > 1 and together.alike(values):
        written = encode_rows(np.concatenate(values), list(map(len, values)), accept, default)
        if written is not None:
            return written
    return [encode(value, accept, default) for value in values]


def encode_rows(
    array: Array, counts: Sequence[int], accept: str, default: str
) -> list[tuple[bytes, str]] | None:
    """Write the rows of several bodies as ``encode`` writes each body's.

    Args:
        array: the rows of all.
        counts: how many rows each body has.
        accept: the Accept header of all, as sent.
        default: the type for ``*/*``, and for any range that includes it.

    Returns:
        None if they can only be written one by one, or if that takes no longer.

    Raises:
        NotAcceptable: as ``encode``.
    """
    content_type = negotiate(accept, default)
    bodies = together.encode(array, counts, content_type)
    return None if bodies is None else [(body, content_type) for body in bodies]


@lru_cache(maxsize=64)
def negotiate(accept: str, default: str) -> str:
    """Choose the type that ``accept`` prefers among those that can be written.

    Raises:
        NotAcceptable: ``accept`` allows none of them.
    """
    if accept in _codecs and _codecs[accept].encode:  # a single type, as most clients send
        return accept
    accepted = ranges(accept)
    candidates = sorted(_writable(), key=lambda name: name != default)  # of equals, the first wins
    best = max(candidates, key=lambda name: preference(name, accepted))
    if preference(best, accepted)[0] == 0:
        raise NotAcceptable(f"cannot write {accept!r}, only {', '.join(_writable())}")
    return best
