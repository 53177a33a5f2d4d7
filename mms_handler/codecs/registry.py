"""The content types there are, and the one that a request is read or answered in."""

from __future__ import annotations

from typing import Any, Callable, Iterable, NamedTuple

from mms_handler.codecs.arrays import Arrays
from mms_handler.codecs.text import text, utf8
from mms_handler.errors import BadInput, NotAcceptable, ScriptError, UnsupportedType
from mms_handler.media import JSON, main_type, preference, ranges


class Codec(NamedTuple):
    """One content type; ``decode`` or ``encode`` is None where it goes one way only.

    ``decode`` raises ValueError or TypeError for a body that is not of its type; ``encode``
    takes arrays, lists and dicts of arrays, and whatever of JSON's values the type can hold.
    ``quick`` gives what ``decode`` would, from UTF-8, or None where it is not sure.
    """

    content_type: str
    decode: Callable[[Any], Arrays] | None  # from bytes; from str if ``text``
    encode: Callable[[Any], bytes] | None
    text: bool = False
    quick: Callable[[bytes], Arrays | None] | None = None


_codecs: dict[str, Codec] = {}


def register(codec: Codec) -> Codec:
    """Add a content type; the first one registered is what a range such as ``text/*`` gets."""
    if codec.content_type in _codecs:
        raise ValueError(f"{codec.content_type} already has a codec")
    _codecs[codec.content_type] = codec
    return codec


def known(content_type: str) -> bool:
    """Whether there is a codec for a Content-Type, parameters and all, be it one way only."""
    return main_type(content_type) in _codecs


def reads(content_type: str) -> bool:
    """Whether ``decode`` takes a body of this type."""
    return main_type(content_type) in _readable()


def writes(content_type: str) -> bool:
    """Whether ``encode`` can answer in this type."""
    return main_type(content_type) in _writable()


def _readable() -> list[str]:
    return [name for name, codec in _codecs.items() if codec.decode]


def _writable() -> list[str]:
    return [name for name, codec in _codecs.items() if codec.encode]


def decode(body: bytes | str, content_type: str) -> Arrays:
    """Read a request body.

    Args:
        body: as it came; what is text also as str.
        content_type: the header as sent, parameters and all: ``text/csv; charset=utf-8``.

    Returns:
        A float32 array of any shape with at least one value, or a dict of such arrays when the
        body names them, even one alone.  An array may be read-only.

    Raises:
        UnsupportedType: no codec reads this type, or its charset.
        BadInput: the body is not of the type it claims.
        TooLarge: it is small, but not what it unpacks to.
    """
    codec = _codecs.get(main_type(content_type))
    if codec is None or codec.decode is None:
        raise UnsupportedType(f"cannot read {content_type!r}, only {', '.join(_readable())}")
    if not body:
        raise BadInput(f"the body is empty; {codec.content_type} was wanted")
    try:
        arrays = _arrays(codec, body, content_type)
    except (ValueError, TypeError, RecursionError, OverflowError) as exc:
        raise BadInput(f"not valid {codec.content_type}: {exc}") from exc
    _check_sizes(arrays, codec.content_type)
    return arrays


def _arrays(codec: Codec, body: bytes | str, content_type: str) -> Arrays:
    assert codec.decode is not None
    encoded = utf8(body, content_type) if codec.quick else None
    found = codec.quick(encoded) if codec.quick and encoded is not None else None
    if found is not None:
        return found
    return codec.decode(text(body, content_type) if codec.text else body)


def _check_sizes(arrays: Arrays, content_type: str) -> None:
    if isinstance(arrays, dict) and not arrays:
        raise BadInput(f"no values in the {content_type} body")
    for name, array in arrays.items() if isinstance(arrays, dict) else [("", arrays)]:
        if not array.size:
            place = f"{name[:40]!r} of the" if name else "the"
            raise BadInput(f"no values in {place} {content_type} body (shape {array.shape})")


def encode(value: Any, accept: str, default: str) -> tuple[bytes, str]:
    """Write ``value`` as the best type that ``accept`` allows.

    Args:
        value: an array, lists or a dict of arrays, or JSON's own values.
        accept: the Accept header as sent; ranges and q-values count (RFC 9110, 12.5.1).
        default: the type for ``*/*`` and for a range that includes it.

    Returns:
        The body and its content type.

    Raises:
        NotAcceptable: ``accept`` allows no type that can be written, or the one it allows
            cannot hold ``value``.
        ScriptError: ``value`` is nothing that could be sent.
    """
    content_type = negotiate(accept, default)
    write = _codecs[content_type].encode
    assert write is not None  # negotiate offers no other
    try:
        return write(value), content_type
    except (ValueError, TypeError, RecursionError) as exc:
        if content_type == JSON:  # what JSON cannot hold, nothing here can
            raise ScriptError(f"the prediction is not data: {exc}") from exc
        raise NotAcceptable(f"this prediction cannot be written as {content_type}: {exc}") from exc


def negotiate(accept: str, default: str) -> str:
    """The type that ``accept`` wants most of those that can be written.

    Raises:
        NotAcceptable: there is none.
    """
    if accept in _codecs and _codecs[accept].encode:  # one type alone, as most clients ask
        return accept
    wanted = ranges(accept)
    best = max(_offered(default), key=lambda name: preference(name, wanted))  # the first of equals
    if preference(best, wanted)[0] == 0:
        raise NotAcceptable(f"cannot write {accept!r}, only {', '.join(_writable())}")
    return best


def _offered(default: str) -> Iterable[str]:
    """The types that can be written, ``default`` first."""
    return sorted(_writable(), key=lambda name: name != default)
