"""Target: the compiled core, on buffers that end where their last byte does.

``make fuzz`` builds it with the sanitizers of addresses and of undefined behaviour for this.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
import random
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_checks import bounded
from fuzz_input import Choices

#: A folder with the core that is fuzzed; without this variable it is the installed one.
_FOLDER = os.environ.get("FUZZ_CORE")
if _FOLDER:
    _spec = importlib.util.spec_from_file_location(
        "mms_handler._core", Path(_FOLDER) / "_core.abi3.so"
    )
    assert _spec, _FOLDER
    sys.modules["mms_handler._core"] = importlib.util.module_from_spec(_spec)

from mms_handler.codecs import compiled  # noqa: E402  # it imports the core
from mms_handler.codecs import csv as csv_codec  # noqa: E402
from mms_handler.codecs import npy as npy_codec  # noqa: E402
from mms_handler.worker.mms import plane  # noqa: E402

_PIECES = [b"1", b"-0", b"0.1", b"1e5", b"123456789012345678", b",", b"[", b"]", b" ", b"\r\n"]


def core(data: bytes) -> None:
    """Several bodies are read and written again, in frames too; each result is Python's."""
    if compiled.core is None:
        return
    choices = Choices(data)
    function = choices.pick([_read_json, _read_csv, _write, _read_requests, _write_replies])
    with bounded():
        function(choices)


def _bodies(choices: Choices, is_json: bool) -> list[bytes]:
    """One body, whose pieces may be repeated; several of any pieces; or several of plain rows."""
    kind = choices.number(4)
    if kind == 0:
        return [choices.repeated(2**12)]
    if kind > 1:
        columns = choices.number(4) + 1
        return [_rows(choices, columns, is_json) for _ in range(choices.number(3) + 1)]
    bodies = []
    for _ in range(choices.number(5)):
        pieces = [choices.pick([*_PIECES, None]) or choices.take(20) for _ in range(9)]
        bodies.append(b"".join(pieces))
    return bodies


def _rows(choices: Choices, columns: int, is_json: bool) -> bytes:
    rows = []
    for _ in range(choices.number(3) + 1):
        comma = choices.pick([b",", b", ", b" ,", b",\t "])
        rows.append(comma.join(_number(choices) for _ in range(columns)))
    if not is_json:
        return choices.pick([b"\n", b"\r\n"]).join(rows) + choices.pick([b"", b"\n", b"\r\n\n"])
    between = choices.pick([b"],[", b"], [", b" ] ,\n[ "])
    return b"[[" + between.join(rows) + b"]]"


def _number(choices: Choices) -> bytes:
    """A number that JSON can have, of up to sixty digits."""
    text = choices.pick(["", "-"]) + str((choices.number(256) + 1) ** choices.number(13))
    if choices.number(3):
        text += "." + "0" * choices.number(40) + str(choices.number(256) ** choices.number(9))
    if choices.number(4) == 0:
        text += choices.pick(["e", "E", "e+", "e-", "E-0"]) + str(choices.number(64))
    return text.encode()


def _read_json(choices: Choices) -> None:
    limit = choices.pick([2**20] * 5 + [0, 4, 40])
    bodies = _bodies(choices, True)
    result = compiled.core.read_json(list(map(_exact, bodies)), limit)
    if result is None:
        return
    expected = [
        np.asarray(json.loads(body, parse_constant=_refuse), np.float64).astype(np.float32)
        for body in bodies
    ]
    _check(result, expected, limit)


def _read_csv(choices: Choices) -> None:
    limit = choices.pick([2**20] * 5 + [0, 4, 40])
    bodies = _bodies(choices, False)
    result = compiled.core.read_csv(list(map(_exact, bodies)), limit)
    if result is not None:
        _check(result, [csv_codec._by_numpy(body) for body in bodies], limit)


def _check(result: Any, expected: list[Any], limit: int) -> None:
    numbers, counts, inner = result
    assert len(numbers) <= limit
    assert counts == [len(array) for array in expected]
    assert all(array.shape[1:] == inner for array in expected)
    assert bytes(numbers) == b"".join(array.tobytes() for array in expected)


def _refuse(name: str) -> float:
    raise AssertionError(f"{name} was read")


def _exact(body: bytes) -> Any:
    """The body in memory of its own, without the zero byte behind a bytes object."""
    return np.frombuffer(body, np.uint8).copy() if body else b""


def _write(choices: Choices) -> None:
    shape = tuple(choices.number(5) for _ in range(choices.number(10)))
    counts = [choices.number(4) for _ in range(choices.number(5))]
    size = math.prod(shape) if choices.number(4) else choices.number(64)
    numbers = struct.unpack(f"<{size}f", choices.repeated(4 * size)[: 4 * size].ljust(4 * size))
    array = np.float32(numbers)
    as_json = compiled.core.write_json(array, shape, counts)
    as_csv = compiled.core.write_csv(array, shape, counts)
    right = size > 0 and 0 < len(shape) <= 8 and size == math.prod(shape)
    right = right and 0 not in counts and sum(counts) == shape[0]
    assert (as_json is not None) == (as_csv is not None) == right
    if not right:
        return
    array, start = array.reshape(shape), 0
    for count, json_body, csv_body in zip(counts, as_json, as_csv):
        rows = array[start : start + count]
        values = np.where(np.isfinite(rows), rows.astype(object), None).tolist()
        assert json_body.decode() == json.dumps(values)
        lines = [",".join(map(str, row)) + "\r\n" for row in rows.reshape(count, -1)]
        assert csv_body.decode() == "".join(lines)
        start += count


def _read_requests(choices: Choices) -> None:
    """A frame, which may be damaged, holds what its bodies hold each by itself."""
    limit = choices.pick([2**20] * 5 + [0, 40])
    reader = choices.number(3)
    bodies = _arrays(choices) if reader == 2 else _bodies(choices, reader == 0)
    frame = bytearray(_frame(choices, bodies))
    for _ in range(choices.number(4)):
        frame[choices.number(min(256, len(frame)))] = choices.number(256)
    del frame[len(frame) - choices.pick([0, 0, 0, 1, choices.number(min(256, len(frame) + 1))]) :]
    forms = {_ASKED: (reader, "form"), b"\n\n\n": None, b"c\n\n\n": (7,)}
    ids = choices.pick([None, bytearray(choices.number(12)), bytearray(4096)])
    result = compiled.core.read_requests(_exact(bytes(frame)), forms, limit, ids)
    if result is None:
        return
    form, *numbers = result
    requests = list(plane.read_requests(memoryview(frame), None))
    assert form == (reader, "form")
    assert all(request.asked == _ASKED.decode().split("\n")[:3] for request in requests)
    bodies = [bytes(request.parts()["body"]) for request in requests]
    if reader == 2:
        _check(numbers, [npy_codec.decode(body, 2**20) for body in bodies], limit)
    else:
        again = (compiled.core.read_json, compiled.core.read_csv)[reader](bodies, limit)
        assert tuple(numbers) == again
    if ids:
        written = "\n".join(request.request_id for request in requests).encode("ascii", "replace")
        assert ids[: len(written) + 1] == written[: len(ids) - 1] + b"\0"


def _arrays(choices: Choices) -> list[bytes]:
    """Files of NumPy, some of them damaged."""
    bodies = []
    for _ in range(choices.number(4)):
        shape = tuple(choices.number(4) for _ in range(choices.pick([2, 2, 2, 0, 1, 3, 9])))
        kind = choices.pick(["<f4"] * 5 + [">f4", "<f8", "i1"])
        out = io.BytesIO()
        np.save(out, np.full(shape, 7, kind), allow_pickle=False)
        body = bytearray(out.getvalue())
        for _ in range(choices.number(3)):
            body[choices.number(min(256, len(body)))] = choices.pick([*b"0123456789,()' \n", 255])
        bodies.append(bytes(body[: len(body) - choices.pick([0, 0, 0, 1, choices.number(128)])]))
    return bodies


_ASKED = b"a/b\n*/*\n\n"


def _frame(choices: Choices, bodies: list[bytes]) -> bytes:
    records, heads = b"", []
    for body in bodies:
        asked = choices.pick([_ASKED] * 20 + [b"\n\n\n", b"c\n\n\n", b"a\n", choices.take(6)])
        heads.append(
            choices.pick([b"id", b"", b"\xe9"]) + b"\n" + asked + choices.pick([b"", b"x\ny\n"])
        )
        parts = choices.pick([0] * 20 + [1])
        records += struct.pack("<IIHH", len(heads[-1]), len(body), parts, 0)
    return struct.pack("<HH", len(bodies), 0) + records + b"".join(heads + bodies)


def _write_replies(choices: Choices) -> None:
    """The bodies are those that are written without a frame, and the lengths are right."""
    rows, columns = choices.number(5), choices.number(4)
    counts = [choices.number(4) for _ in range(choices.number(4))]
    writer, start, limit = choices.number(3), choices.pick([8, 0, 64, 65]), choices.pick([2**20, 9])
    numbers = np.float32(
        struct.unpack(
            f"<{rows * columns}f",
            choices.repeated(80)[: 4 * rows * columns].ljust(4 * rows * columns),
        )
    )
    head = choices.take(20)
    result = compiled.core.write_replies(
        numbers, (rows, columns), counts, writer, head, limit, start
    )
    write = (compiled.core.write_json, compiled.core.write_csv, lambda *_: None)[writer]
    bodies = write(numbers, (rows, columns), counts)
    right = bodies is not None and start < 65 and all(len(body) <= limit for body in bodies)
    assert (result is not None) == right
    if right:
        records = [
            struct.pack("<HHII", place, 200, len(head), len(body))
            for place, body in enumerate(bodies)
        ]
        assert result == b"".join([bytes(start), *records, head * len(bodies), *bodies])


def _seeds() -> list[bytes]:
    texts = [b"[[1, 2.5],[-0,1e-5]]", b"[123456789.25, 0.1]", b"[[[1]], [[2]]]"]
    lines = [b"1,2\r\n3,4\r\n", b"-0, 1e-40\n\n"]
    chance = random.Random(0)
    return [
        *(bytes([i % 2, 0, 2, *(chance.randrange(256) for _ in range(100))]) for i in range(8)),
        *(b"\0\0\0\0\0" + text for text in texts),
        *(b"\1\0\0\0\0" + text for text in lines),
        b"\0\0\1\2" + bytes([6, 0, 5, 1, 7, 8, 8, 8, 8, 6, 2, 7, 8, 8, 8, 8, 8, 8]),
        *(bytes([2, 2, 2, 3, 2, 1, 1, 1, 0, 0]) + struct.pack("<6f", *[number] * 6)
          for number in (0.1, -1e-45, 3e38, math.nan, 1e16)),
    ]  # fmt: skip


TARGETS = {"core": (core, _seeds)}
