"""Targets: codecs.  Bodies of every type are read and what was read is written again."""

from __future__ import annotations

import contextlib
import gzip
import io
import struct
import zipfile
from typing import Any, Callable, Iterator

import numpy as np
from fuzz_checks import bounded, check_client_fault, outcome, same
from fuzz_input import Choices

from mms_handler import codecs
from mms_handler.codecs import compiled, content_types, parts
from mms_handler.codecs.text import CHARSETS, utf8
from mms_handler.media import CSV, JSON, JSON_LINES, NPY, NPZ, RECORDIO

ONE, PAIR = np.float32([[1.5, -2]]), {"a": np.float32([[1]]), "b": np.float32([[2, 3]])}


def read(body: Any, content_type: str) -> Any:
    """Read a body, check what was read, and check that NPY carries it unchanged.

    Returns:
        The arrays, or None if the body was refused.
    """
    arrays = outcome(codecs.decode, body, content_type)
    if check_client_fault(arrays):
        return None
    for name, array in arrays.items() if isinstance(arrays, dict) else [("", arrays)]:
        assert isinstance(name, str)
        assert array.dtype == np.float32
        assert array.size > 0
        assert array.ndim <= 32
    if isinstance(arrays, dict):
        assert 0 < len(arrays) <= 256
        return arrays
    written, _ = codecs.encode(arrays, NPY, NPY)
    assert same(codecs.decode(written, NPY), arrays)
    return arrays


def agree(body: bytes, content_type: str) -> None:
    """Check that the quick reader of a type says what the careful one says, or nothing."""
    codec = content_types._codecs[content_type]
    encoded = utf8(body)
    if codec.quick is None or codec.decode is None or encoded is None:
        return
    with in_python():
        by_python = _attempt(codec.quick, encoded)
    for quick in (_attempt(codec.quick, encoded), by_python):
        if quick is not None:
            _agree(quick, codec, body)


def _agree(quick: Any, codec: Any, body: bytes) -> None:
    with in_python():
        careful = _attempt(lambda: codec.decode(codecs.text(body)))
    if isinstance(quick, str) or isinstance(careful, str):
        assert quick == careful, f"the quick reader says {quick!r}, the careful one {careful!r}"
    else:
        assert same(quick, careful), f"{quick!r} read quickly, {careful!r} read carefully"


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Do without the compiled core."""
    core, compiled.core = compiled.core, None
    try:
        yield
    finally:
        compiled.core = core


def agree_in_parts(body: bytes, content_type: str, arrays: Any) -> None:
    """Check that the body gives the same arrays in parts of a few bytes, or is refused as well."""
    sizes = parts.LARGE_BYTES, parts.PART_BYTES
    parts.LARGE_BYTES, parts.PART_BYTES = 1, 7
    try:
        with in_python():
            again = read(body, content_type)
    finally:
        parts.LARGE_BYTES, parts.PART_BYTES = sizes
    assert (arrays is None) == (again is None), f"{arrays!r}, but in parts {again!r}"
    assert arrays is None or same(arrays, again), f"{arrays!r}, but in parts {again!r}"


def _attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result, or the text of an exception that ``decode`` turns into a 400."""
    with bounded():
        try:
            return function(*arguments)
        except (ValueError, TypeError, RecursionError, OverflowError) as exc:
            return f"refused: {exc}"


def _text(content_type: str) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        body = Choices(data).repeated()
        arrays = read(body, content_type)
        agree(body, content_type)
        if len(body) < 1_000:  # a part takes as long as a body
            agree_in_parts(body, content_type, arrays)

    return target


json, csv, jsonlines = _text(JSON), _text(CSV), _text(JSON_LINES)


def charsets(data: bytes) -> None:
    """Bodies of text in every charset, also as str; the parameter is spelled in several ways."""
    choices = Choices(data)
    charset = choices.pick(["", *CHARSETS, "utf-7", "hex", "zip", "idna", "rot13"])
    spelling = choices.pick(["; charset={}", ';charset="{}"', ";CHARSET = {}", "; a=b;charset={} "])
    content_type = choices.pick([JSON, CSV, JSON_LINES]) + spelling.format(charset)
    body = choices.rest()
    decoded = outcome(codecs.text, body, content_type)
    arrays = read(body, content_type)
    if check_client_fault(decoded):
        assert arrays is None
        return
    again = read(decoded, content_type) if decoded else None
    assert (arrays is None) == (again is None), f"bytes gave {arrays!r}, their text {again!r}"
    assert arrays is None or same(arrays, again)


def npy(data: bytes) -> None:
    """An NPY file as it comes, or a header of any kind with a length that fits."""
    choices = Choices(data)
    kind = choices.number(3)
    if kind == 0:
        read(choices.rest(), NPY)
        return
    dtype = choices.pick(
        ["<f4", ">f8", "|b1", "<i8", "<u2", "|O", "<f2", "<c8", "<U3", "|V4", "f16"]
    )
    order = choices.pick(["False", "True", "0", "None"])
    shape = choices.text(60) if kind == 2 else f"({choices.number(9)}, {choices.number(9)})"
    header = f"{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    version = choices.pick([b"\1\0", b"\2\0", b"\3\0", b"\1\1"])
    length = struct.pack("<H" if version[0] == 1 else "<I", len(header))
    read(b"\x93NUMPY" + version + length + header + choices.rest(), NPY)


def npz(data: bytes) -> None:
    """A ZIP as it comes, or one of any files, with some of its bytes changed."""
    choices = Choices(data)
    if choices.number(2) == 0:
        read(choices.rest(), NPZ)
        return
    files, flips = choices.number(4), choices.number(4)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", choices.pick([0, 8, 12, 14])) as archive:
        for _ in range(files):
            info = zipfile.ZipInfo(choices.text(20) + choices.pick([".npy", "", "/.npy"]))
            with _unwarned():
                archive.writestr(
                    info, choices.pick([codecs.encode(ONE, NPY, NPY)[0], choices.take()])
                )
    body = bytearray(out.getvalue())
    for _ in range(flips):
        body[(choices.number(256) * 256 + choices.number(256)) % len(body)] = choices.number(256)
    read(bytes(body), NPZ)


def _unwarned() -> Any:
    import warnings

    context = warnings.catch_warnings()
    context.__enter__()
    warnings.simplefilter("ignore")  # about names that occur twice

    class Leave:
        def __enter__(self) -> None: ...

        def __exit__(self, *exc: object) -> None:
            context.__exit__(None, None, None)

    return Leave()


def recordio(data: bytes) -> None:
    """Frames as they come, or frames of the right length around any data."""
    choices = Choices(data)
    if choices.number(2) == 0:
        read(choices.repeated(), RECORDIO)
        return
    frames = []
    while choices.more() and len(frames) < 8:
        flag = choices.pick([0, 0, 0, 1, 2, 3, 4])
        piece = choices.pick([_feature, _raw])(choices)
        word = flag << 29 | len(piece)
        frames.append(struct.pack("<II", 0xCED7230A, word) + piece + bytes(-len(piece) % 4))
    read(b"".join(frames), RECORDIO)


def _raw(choices: Choices) -> bytes:
    return choices.take()


def _feature(choices: Choices) -> bytes:
    """A record with one feature whose values, keys and shape are any bytes."""
    from mms_handler.codecs.wire import length_field

    tensor = [length_field(number, choices.take(16)) for number in (1, 2, 3)]
    value = length_field(choices.pick([2, 3, 7, 9]), *tensor)
    name = choices.pick([b"values", b"a", choices.take(8)])
    return length_field(choices.pick([1, 2]), length_field(1, name), length_field(2, value))


def gzipped(data: bytes) -> None:
    """Content-Encoding: any header over any bytes, or over valid gzip that was changed."""
    choices = Choices(data)
    coding = choices.pick(["gzip", "x-gzip", "GZIP ", "identity", "", "br", choices.text(20)])
    if choices.number(2):
        body = bytearray(gzip.compress(choices.repeated(), mtime=0))
        body[choices.number(256) % len(body)] ^= choices.number(256)
    else:
        body = bytearray(choices.rest())
    unpacked = outcome(codecs.decompress, bytes(body), coding, 10_000)
    if not check_client_fault(unpacked):
        packed = coding.strip().lower() not in ("", "identity")
        assert not packed or len(unpacked) <= 10_000


def encode(data: bytes) -> None:
    """Anything that a script may return, for any Accept; the reply is read again."""
    choices = Choices(data)
    accept = choices.pick([JSON, CSV, NPY, NPZ, JSON_LINES, RECORDIO, "*/*", choices.text(40)])
    value = _value(choices, 4)
    reply = outcome(codecs.encode, value, accept, choices.pick([JSON, CSV, NPZ]))
    if isinstance(reply, Exception):
        assert reply.status in (406, 500)  # type: ignore[attr-defined]
        return
    body, content_type = reply
    assert isinstance(body, bytes)
    assert codecs.writes(content_type)
    if body:
        read(body, content_type)  # it may be refused, for example because it is a text


def _value(choices: Choices, depth: int) -> Any:
    kind = choices.number(12 if depth else 7)
    if kind < 2:
        dtype = choices.pick(["<f4", "<f8", "<i4", "|u1", "|b1", "<i8", ">f2", "|O", "<U2", "<c8"])
        shape = [choices.number(5) for _ in range(choices.number(5))]
        if dtype in ("|O", "<U2"):
            return np.full(shape, None, dtype)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer(choices.take().ljust(size, b"\x3f")[:size], dtype).reshape(shape)
    if kind == 2:
        return struct.unpack("<d", choices.take(8).ljust(8, b"\0"))[0]
    if kind == 3:
        return choices.text()
    if kind == 4:
        return choices.take()
    if kind == 5:
        return choices.pick([None, True, 2**70, -1, object(), 1j, np.float32(3), float("nan"), {1}])
    if kind == 6:
        return np.random.RandomState(choices.number(256)).randn(choices.number(40), 3)
    items = [_value(choices, depth - 1) for _ in range(choices.number(4))]
    if kind < 9:
        return items if kind == 7 else tuple(items)
    return {choices.text(5) if kind < 11 else index: item for index, item in enumerate(items)}


def images(data: bytes) -> None:
    """Pictures."""
    from mms_handler.worker import pipeline  # registers their types; imports mxnet

    assert pipeline
    choices = Choices(data)
    read(choices.rest(), choices.pick(["image/png", "image/jpeg", "application/x-image"]))


def _seeds(content_type: str, *bodies: bytes) -> list[bytes]:
    written = [codecs.encode(value, content_type, JSON)[0] for value in (ONE, PAIR)]
    return [b"\0\0" + body for body in (*written, *bodies)]


def _pictures() -> list[bytes]:
    from PIL import Image

    seeds = []
    for index, (mode, kind) in enumerate([("RGB", "png"), ("L", "png"), ("RGB", "jpeg")]):
        out = io.BytesIO()
        Image.new(mode, (3, 2), 7).save(out, kind)
        seeds.append(bytes([index // 2]) + out.getvalue())
    return seeds


TARGETS = {
    "json": (json, lambda: _seeds(JSON, b"[[null, NaN, -0, 1e400]]", b'{"a": [1], "a": [2]}')),
    "csv": (
        csv,
        lambda: [
            b"\0\0" + body for body in (b"1,2\r\n3,4\r\n", b'"1",-0\n\nnan,1e5\n', b"\x80\x001,2\n")
        ],
    ),
    "jsonlines": (
        jsonlines,
        lambda: _seeds(JSON_LINES, b"[1]\n[2, 3]\n", b'{"a": 1}\n{"a": null}\n', b"\xf0\0[1]\n"),
    ),
    "charsets": (
        charsets,
        lambda: [bytes([i, i % 4, i % 3]) + b"[1, 2]" for i in range(len(CHARSETS) + 6)],
    ),
    "npy": (npy, lambda: [b"\0" + codecs.encode(ONE, NPY, NPY)[0], b"\1\0\0\1\2\0" + bytes(8)]),
    "npz": (
        npz,
        lambda: [b"\0" + codecs.encode(PAIR, NPZ, NPZ)[0], b"\1\1\0\1\1a\0\0", b"\1\2\1\0\1a\0\0"],
    ),
    "recordio": (
        recordio,
        lambda: (
            [b"\0\0\0" + codecs.encode(value, RECORDIO, JSON)[0] for value in (ONE, {"a": ONE})]
            + [b"\1\0\0\x08" + bytes(8) + b"\0\1\2\0\0\0"]
        ),
    ),
    "gzipped": (gzipped, lambda: [b"\0\1\0\0abc", b"\0\0" + gzip.compress(b"[1]", mtime=0)]),
    "encode": (encode, lambda: [bytes([i, j, 0, 2, 2, 2]) for i in range(8) for j in range(12)]),
    "images": (images, _pictures),
}
