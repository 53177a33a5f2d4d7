"""Content types: request bodies to arrays, predictions to reply bodies, and Accept.

    JSON, CSV, NPY body ──decode──▶ float32 array
    array, or several ──encode──▶ JSON, CSV, NPY body

No codec unpickles, executes or fetches anything.
"""

from __future__ import annotations

import csv
import io
import json
import tokenize
import warnings
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
import numpy.typing as npt

from mms_handler.errors import BadInput, NotAcceptable, ScriptError, UnsupportedType

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


class Codec(NamedTuple):
    """One content type, both ways.

    ``decode`` raises ValueError or TypeError for a body that is not of its type; ``encode``
    takes arrays, nested lists of arrays, and whatever of JSON's values the type can hold.
    """

    content_type: str
    decode: Callable[[Any], npt.NDArray[Any]]  # from bytes; from str for a type that is text
    encode: Callable[[Any], bytes]


_codecs: dict[str, Codec] = {}


def register(codec: Codec) -> Codec:
    """Add a content type; the first one registered is what a range such as ``text/*`` gets."""
    if codec.content_type in _codecs:
        raise ValueError(f"{codec.content_type} already has a codec")
    _codecs[codec.content_type] = codec
    return codec


def known(content_type: str) -> bool:
    """Whether there is a codec for a Content-Type, parameters and all."""
    return main_type(content_type) in _codecs


def main_type(content_type: str) -> str:
    """A Content-Type without its parameters: ``text/CSV; charset=utf-8`` is ``text/csv``."""
    return content_type.partition(";")[0].strip().lower()


def is_text(content_type: str) -> bool:
    """Whether a script's functions are given bodies of this type as str."""
    return main_type(content_type) in (JSON, CSV)


def text(body: bytes | str) -> str:
    """A body as text, which JSON and CSV have in UTF-8.

    Raises:
        BadInput: it is not UTF-8.
    """
    if isinstance(body, str):
        return body
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise BadInput(f"the body is not UTF-8: {exc.reason} at byte {exc.start}") from None


def decode(body: bytes | str, content_type: str) -> npt.NDArray[Any]:
    """Read a request body.

    Args:
        body: as it came; JSON and CSV also as text.
        content_type: the header as sent, parameters and all: ``text/csv; charset=utf-8``.

    Returns:
        A float32 array of any shape with at least one value.  A CSV body is (lines, columns).

    Raises:
        UnsupportedType: no codec reads this type.
        BadInput: the body is not of the type it claims.
    """
    codec = _codecs.get(main_type(content_type))
    if codec is None:
        raise UnsupportedType(f"cannot read {content_type!r}, only {', '.join(_codecs)}")
    try:
        array = codec.decode(body)
    except (ValueError, TypeError, RecursionError, OverflowError) as exc:
        reason = str(exc).partition(";")[0]  # numpy goes on with advice for programmers
        raise BadInput(f"not valid {codec.content_type}: {reason}") from exc
    if not array.size:
        raise BadInput(f"no values in the {codec.content_type} body (shape {array.shape})")
    return array


def encode(value: Any, accept: str, default: str) -> tuple[bytes, str]:
    """Write ``value`` as the best type that ``accept`` allows.

    Args:
        value: an array, lists of arrays, or JSON's own values.
        accept: the Accept header as sent; ranges and q-values count (RFC 9110, 12.5.1).
        default: the type for ``*/*`` and for a range that includes it.

    Returns:
        The body and its content type.

    Raises:
        NotAcceptable: ``accept`` allows no type that there is a codec for, or the one it
            allows cannot hold ``value``.
        ScriptError: ``value`` is nothing that could be sent.
    """
    content_type = negotiate(accept, default)
    try:
        return _codecs[content_type].encode(value), content_type
    except (ValueError, TypeError) as exc:
        if content_type == JSON:  # what JSON cannot hold, nothing here can
            raise ScriptError(f"the prediction is not data: {exc}") from exc
        raise NotAcceptable(f"this prediction cannot be written as {content_type}: {exc}") from exc


def negotiate(accept: str, default: str) -> str:
    """The registered type that ``accept`` wants most.

    Raises:
        NotAcceptable: there is none.
    """
    offered = [default] if default in _codecs else []
    offered += [name for name in _codecs if name not in offered]
    wanted = ranges(accept)
    ranked = [
        (_quality(name, wanted), -_position(name, wanted), -index, name)
        for index, name in enumerate(offered)
    ]
    quality, _, _, best = max(ranked)
    if quality == 0:
        raise NotAcceptable(f"cannot write {accept!r}, only {', '.join(_codecs)}")
    return best


def ranges(accept: str) -> list[tuple[str, float]]:
    """An Accept header as (media range, q), in its own order; q not a number counts as 0."""
    result = []
    for part in accept.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if name:
            result.append((name, _q(parameters)))
    return result or [("*/*", 1.0)]


def _q(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                q = float(value)
            except ValueError:
                return 0.0
            return min(1.0, q) if q > 0 else 0.0  # NaN is not above 0
    return 1.0


def _matching(name: str, wanted: list[tuple[str, float]]) -> list[int]:
    """Places in ``wanted`` that cover ``name``, the most specific first."""
    patterns = (name, name.partition("/")[0] + "/*", "*/*")
    return [i for pattern in patterns for i, (item, _) in enumerate(wanted) if item == pattern]


def _quality(name: str, wanted: list[tuple[str, float]]) -> float:
    places = _matching(name, wanted)
    return wanted[places[0]][1] if places else 0.0


def _position(name: str, wanted: list[tuple[str, float]]) -> int:
    places = _matching(name, wanted)
    return places[0] if places else len(wanted)


# --- JSON ---------------------------------------------------------------------------------


def _decode_json(body: bytes | str) -> npt.NDArray[Any]:
    value = json.loads(text(body))
    if isinstance(value, dict):
        raise ValueError(f"an array of numbers was wanted, got an object with {sorted(value)}")
    return numbers(value)


def numbers(value: Any) -> npt.NDArray[Any]:
    """Nested lists of numbers as a float32 array; ``null`` is NaN.

    Raises:
        ValueError: names the first place that is not a number or not as long as its siblings.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # ragged lists are only a warning to numpy 1.23
        try:
            array = np.array(value)
        except (ValueError, Warning):
            raise ValueError(_odd_place(value)) from None
    if array.dtype.kind in "biuf":
        return array.astype(np.float32)
    try:
        if array.dtype.kind == "O":  # null, or integers beyond 64 bits
            return np.array(value, np.float32)
    except (ValueError, TypeError):
        pass
    raise ValueError(_odd_place(value))


def _odd_place(value: Any) -> str:
    """Where ``value`` stops being an array of numbers, in words."""
    shape: list[int] = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None

    def find(item: Any, depth: int, place: str) -> str | None:
        if depth == len(shape):
            if item is None or isinstance(item, (int, float)):
                return None
            return f"{json.dumps(item)[:40]} at {place or 'the top'} is not a number"
        if not isinstance(item, list):
            return f"{json.dumps(item)[:40]} at {place} is not a list, its siblings are"
        if len(item) != shape[depth]:
            return f"{len(item)} items at {place}, {shape[depth]} in its siblings"
        found = (find(child, depth + 1, f"{place}[{i}]") for i, child in enumerate(item))
        return next(filter(None, found), None)

    return find(value, 0, "") or "not an array of numbers"


def _encode_json(value: Any) -> bytes:
    return json.dumps(value, default=_jsonable).encode()


def _jsonable(item: Any) -> Any:
    """Arrays as nested lists: a float32 is written as the double it equals."""
    if isinstance(item, (np.ndarray, np.generic)):
        return item.tolist()
    if isinstance(item, (bytes, bytearray)):
        return bytes(item).decode("utf-8")
    raise TypeError(f"a {type(item).__name__} has no JSON form")


# --- CSV ----------------------------------------------------------------------------------


def _decode_csv(body: bytes | str) -> npt.NDArray[Any]:
    lines = io.StringIO(text(body))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an empty body; decode() says so in words
        return np.loadtxt(lines, np.float32, comments=None, delimiter=",", ndmin=2, quotechar='"')


def _encode_csv(value: Any) -> bytes:
    """One line a row, or a line for each item of a list; CRLF, float32 as short text."""
    rows = value if isinstance(value, (list, tuple)) else np.atleast_1d(np.asarray(value))
    out = io.StringIO()
    writer = csv.writer(out)
    for row in rows:
        writer.writerow(_cells(row))
    return out.getvalue().encode()


def _cells(row: Any) -> list[Any]:
    """Everything in ``row``, however deep its lists and arrays, as cells of one line."""
    if isinstance(row, (list, tuple)):
        return [cell for one in row for cell in _cells(one)]
    cells = np.ravel(row)
    if cells.dtype.kind == "O":
        raise TypeError("numbers or texts were wanted")
    return list(cells)


# --- NPY ----------------------------------------------------------------------------------


def _decode_npy(body: bytes) -> npt.NDArray[Any]:
    """Read an array without pickle, and without believing its header's size."""
    stream = io.BytesIO(body)
    npy: Any = np.lib.format
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(stream)
    if version not in readers:
        raise ValueError(f"NPY version {version} is not 1.0 or 2.0")
    try:
        shape, fortran, dtype = readers[version](stream)
    except (SyntaxError, tokenize.TokenError) as exc:  # the header is a Python literal
        raise ValueError(f"its header cannot be read: {exc}") from exc
    if dtype.kind not in "biuf":
        raise ValueError(f"values of dtype {dtype} are not numbers")
    data = body[stream.tell() :]
    wanted = dtype.itemsize
    for length in shape:
        wanted *= length
    if len(data) != wanted:
        raise ValueError(
            f"shape {shape} of {dtype} takes {wanted} bytes, {len(data)} follow the header"
        )
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return np.ascontiguousarray(array, np.float32).reshape(shape)


def _encode_npy(value: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            array = np.asarray(value)
        except Warning:
            raise ValueError("its outputs have different shapes") from None
    if array.dtype.kind not in "biuf":
        raise ValueError("it is not an array of numbers")
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


register(Codec(JSON, _decode_json, _encode_json))
register(Codec(CSV, _decode_csv, _encode_csv))
register(Codec(NPY, _decode_npy, _encode_npy))
