"""Archives: check a model_dir, pack it as ``.mar``, convert, fetch, and refuse what is not safe.

model_dir ──packing──▶ .mar ◀──converting──▶ model.tar.gz ◀──fetching── an address
              │         └──▶ zips: read as MMS will, before it does        │
           checking          tars, safety ─────────────────────────────────┘
"""

from __future__ import annotations

from mms_handler.archive.checking import check, trial
from mms_handler.archive.converting import convert, other, pack_tar
from mms_handler.archive.fetching import fetch
from mms_handler.archive.measuring import size
from mms_handler.archive.packing import Request, contents, entries, pack
from mms_handler.archive.quantizing import MIN_AGREEMENT, Body, bodies, quantize
from mms_handler.archive.safety import verify_folder
from mms_handler.archive.zips import unpack, verify
from mms_handler.manifest import (
    HANDLER,
    MANIFEST,
    NAME,
    SAMPLE,
    Manifest,
    check_name,
)

__all__ = [
    "HANDLER",
    "MANIFEST",
    "MIN_AGREEMENT",
    "NAME",
    "SAMPLE",
    "Body",
    "Manifest",
    "Request",
    "bodies",
    "check",
    "check_name",
    "contents",
    "convert",
    "entries",
    "fetch",
    "other",
    "pack",
    "pack_tar",
    "quantize",
    "size",
    "trial",
    "unpack",
    "verify",
    "verify_folder",
]
