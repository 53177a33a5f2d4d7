"""Codecs: request bodies to arrays, and predictions to reply bodies.

    body in JSON, CSV, NPY, NPZ, JSON Lines or RecordIO ──decode──▶ float32 array, or a dict of them
    array, list or dict of arrays ──encode──▶ body of the type that Accept prefers

No codec unpickles, executes or fetches anything.  ``docs/content-types.md`` lists each type's
shapes and its treatment of NaN.
"""

from __future__ import annotations

import importlib
from typing import Any

from mms_handler.codecs import csv, json, jsonlines, npy
from mms_handler.codecs.arrays import MAX_ARRAY_BYTES, numbers
from mms_handler.codecs.compression import decompress
from mms_handler.codecs.content_types import (
    Codec,
    decode,
    encode,
    encode_each,
    encode_rows,
    known,
    negotiate,
    reads,
    register,
    writes,
)
from mms_handler.codecs.text import text
from mms_handler.codecs.together import Rows
from mms_handler.codecs.together import decode as decode_together
from mms_handler.codecs.together import encode as encode_together
from mms_handler.media import CSV, JSON, JSON_LINES, NPY, NPZ, RECORDIO

__all__ = [
    "MAX_ARRAY_BYTES",
    "Codec",
    "Rows",
    "decode",
    "decode_together",
    "decompress",
    "encode",
    "encode_each",
    "encode_rows",
    "encode_together",
    "known",
    "negotiate",
    "numbers",
    "reads",
    "register",
    "text",
    "writes",
]

#: Modules of codecs that few requests need, which import much, and are imported by the first one.
LATER = ("mms_handler.codecs.npz", "mms_handler.codecs.recordio")


def _later(content_type: str, module: str) -> Codec:
    """A codec of a module that the first call imports."""

    def read(body: bytes, limit_bytes: int) -> Any:
        return importlib.import_module(module).decode(body, limit_bytes)

    def write(prediction: Any) -> bytes:
        body: bytes = importlib.import_module(module).encode(prediction)
        return body

    return Codec(content_type, read, write)


register(Codec(JSON, json.decode, json.encode, text=True, quick=json.quick))
register(Codec(CSV, csv.decode, csv.encode, text=True, quick=csv.quick))
register(Codec(NPY, npy.decode, npy.encode))
register(_later(NPZ, LATER[0]))
register(Codec(JSON_LINES, jsonlines.decode, jsonlines.encode, text=True))
register(Codec("application/x-jsonlines", jsonlines.decode, None, text=True))
register(Codec("application/jsonl", jsonlines.decode, None, text=True))
register(Codec("application/x-ndjson", jsonlines.decode, None, text=True))
register(_later(RECORDIO, LATER[1]))
