"""Bodies made to cost a worker as much as they can: time, or memory, for each byte sent.

Each is a function of a size in bytes, which the body has roughly.  The tests bound the time that
they take, and ``python -m benchmarks.bodies`` measures their memory.
"""

from __future__ import annotations

import json
from typing import Callable, Dict, Tuple

from mms_handler.media import CSV, JSON, JSON_LINES

#: Content type and body of a size.
Bodies = Dict[str, Tuple[str, Callable[[int], bytes]]]


def _repeated(unit: bytes, before: bytes = b"", after: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: before + unit * (size // len(unit)) + after


def _with_names(size: int) -> bytes:
    return json.dumps({f"k{index:08}": 1 for index in range(size // 16)}).encode()


def _lines_of_names(size: int) -> bytes:
    line = json.dumps({f"k{index}": 1 for index in range(200)}).encode()
    return (line + b"\n") * (size // len(line)) + b'{"a": 1}\n'


def _long_text_among_numbers(size: int) -> bytes:
    return b'["' + b"x" * (size // 2) + b'"' + b",0" * (size // 4) + b"]"


TEXT: Bodies = {
    "JSON: numbers": (JSON, _repeated(b"0,", b"[", b"0]")),
    "JSON: numbers and a null": (JSON, _repeated(b"0,", b"[", b"null]")),
    "JSON: floats and a null": (JSON, _repeated(b"1e9,", b"[", b"null]")),
    "JSON: lists of one": (JSON, _repeated(b"[0],", b"[", b"[0]]")),
    "JSON: 32 dimensions and a null": (
        JSON,
        _repeated(
            b"[" * 31 + b"0" + b"]" * 31 + b",", b"[", b"[" * 31 + b"null" + b"]" * 31 + b"]"
        ),
    ),
    "JSON: the last list is longer": (JSON, _repeated(b"[0],", b"[", b"[0,0]]")),
    "JSON: the last value is a text": (JSON, _repeated(b"0,", b"[", b'"x"]')),
    "JSON: a long text among numbers": (JSON, _long_text_among_numbers),
    "JSON: empty lists": (JSON, _repeated(b"[],", b"[", b"[]]")),
    "JSON: empty objects": (JSON, _repeated(b"{},", b"[", b"{}]")),
    "JSON: objects in objects": (
        JSON,
        _repeated(b'{"":' * 400 + b"0" + b"}" * 400 + b",", b"[", b"0]"),
    ),
    "JSON: nested too deep": (JSON, _repeated(b"[")),
    "JSON: nested 400 deep": (JSON, _repeated(b"[" * 400 + b"]" * 400 + b",", b"[", b"0]")),
    "JSON: one integer": (JSON, _repeated(b"1", b"[", b"]")),
    "JSON: integers of 900 digits": (JSON, _repeated(b"1" * 900 + b",", b"[", b"0]")),
    "JSON: a huge exponent": (JSON, _repeated(b"9", b"[1e", b"]")),
    "JSON: names": (JSON, _with_names),
    "JSON Lines: numbers": (JSON_LINES, _repeated(b"0\n")),
    "JSON Lines: the last line is a list": (JSON_LINES, _repeated(b"0\n", after=b"[0]\n")),
    "JSON Lines: the last line is a text": (JSON_LINES, _repeated(b"0\n", after=b'"x"\n')),
    "JSON Lines: the last integer is too large": (
        JSON_LINES,
        _repeated(b"0\n", after=b"1" * 400 + b"\n"),
    ),
    "JSON Lines: objects": (JSON_LINES, _repeated(b'{"a":0}\n')),
    "JSON Lines: the last object has a list": (
        JSON_LINES,
        _repeated(b'{"a":0}\n', after=b'{"a":[0]}\n'),
    ),
    "JSON Lines: the last object has other names": (JSON_LINES, _lines_of_names),
    "JSON Lines: names": (JSON_LINES, _with_names),
    "CSV: numbers": (CSV, _repeated(b"0\n")),
    "CSV: numbers and a nan": (CSV, _repeated(b"0\n", after=b"nan\n")),
    "CSV: one line": (CSV, _repeated(b"0,", after=b"nan")),
    "CSV: the last line is longer": (CSV, _repeated(b"0\n", after=b"0,0\n")),
    "CSV: the last value is a text": (CSV, _repeated(b"0\n", after=b"x\n")),
    "CSV: the last line of a thousand values is shorter": (
        CSV,
        _repeated(b"0," * 999 + b"0\n", after=b"0\n"),
    ),
    "CSV: quotes": (CSV, _repeated(b'"0"\n')),
    "CSV: quotes that are not closed": (CSV, _repeated(b'"0\n')),
    "CSV: blank lines": (CSV, _repeated(b"\n", after=b"0")),
    "CSV: digits": (CSV, _repeated(b"1", after=b",x")),
}
