"""Archives: pack a model_dir as ``.mar``, check, convert, fetch and verify archives.

    model_dir ──pack──▶ .mar ◀──convert──▶ model.tar.gz ◀──fetch── an address
                 │        └──▶ verify: read it as MMS will, before MMS does
               check

``pack`` also packs an int8 graph that ``quantize`` makes, or an ONNX twin that ``make_twin`` makes.
``signing`` signs archives with ``keys`` in the format of ``sshsig``, and tells ``verify`` who
signed one.  ``safety`` has the rules for entries; ``zips`` and ``tars`` read and write the two
formats.
"""

from __future__ import annotations

from mms_handler.archive.check import check, script_at, try_sample
from mms_handler.archive.convert import convert
from mms_handler.archive.fetch import check_url, fetch
from mms_handler.archive.formats import other_suffix, size
from mms_handler.archive.keys import Keys, read_private, read_trusted, required
from mms_handler.archive.pack import contents, entries, pack, pack_tar
from mms_handler.archive.quantize import MIN_AGREEMENT, calibration_requests, quantize
from mms_handler.archive.report import Question, Report
from mms_handler.archive.retuning import write_tuned
from mms_handler.archive.signing import sign
from mms_handler.archive.twin import make_twin
from mms_handler.archive.unpacking import unpack_any
from mms_handler.archive.verify import (
    manifest_of,
    read_parts,
    refuse_unsigned,
    unpack,
    verify,
    verify_folder,
)

__all__ = [
    "MIN_AGREEMENT",
    "Keys",
    "Question",
    "Report",
    "calibration_requests",
    "check",
    "check_url",
    "contents",
    "convert",
    "entries",
    "fetch",
    "make_twin",
    "manifest_of",
    "other_suffix",
    "pack",
    "pack_tar",
    "quantize",
    "read_parts",
    "read_private",
    "read_trusted",
    "refuse_unsigned",
    "required",
    "script_at",
    "sign",
    "size",
    "try_sample",
    "unpack",
    "unpack_any",
    "verify",
    "verify_folder",
    "write_tuned",
]
