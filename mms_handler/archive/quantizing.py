"""The int8 graph of a model, made in a process of its own of a folder of requests."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import NamedTuple, Sequence

from mms_handler import media
from mms_handler.archive import children
from mms_handler.errors import ArchiveError
from mms_handler.manifest import INT8, Quantized

#: What part of the judged predictions must be the model's own, unless somebody wants less.
MIN_AGREEMENT = 0.95


class Body(NamedTuple):
    """A file that is a request."""

    path: Path
    content_type: str


class Int8(NamedTuple):
    """An int8 graph for an archive."""

    told: Quantized  # for the manifest
    symbol: bytes
    words: str  # for a person


def bodies(folder: Path, content_type: str | None = None) -> list[Body]:
    """The requests of a folder, in the order of their names; hidden files are none.

    Args:
        folder: a file is a request.
        content_type: what they are; None: as their suffixes say.

    Raises:
        ArchiveError: it has none, a folder, or a file of which nobody knows what it is.
    """
    found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    if not found:
        raise ArchiveError(f"{folder} has no files; each would be a request to calibrate with")
    return [Body(path, content_type or _type(path)) for path in found]


def _type(path: Path) -> str:
    if not path.is_file():
        raise ArchiveError(f"{path} is no file; a folder of requests has nothing else")
    kind = media.known_type_of_file(path)
    if kind is None:
        raise ArchiveError(
            f"{path}: the suffix does not say what it is ({', '.join(media.SUFFIXES)} do); "
            "--content-type does"
        )
    return kind


def quantize(folder: Path, requests: Sequence[Body], min_agreement: float = MIN_AGREEMENT) -> Int8:
    """The int8 graph of the model in ``folder``.

    Args:
        folder: as MMS would unpack an archive.
        requests: two of three say what values come; the others are judged by.
        min_agreement: part of the judged rows of scores that must have their largest score at
            the same place; without scores, 1 less the mean difference.

    Raises:
        ArchiveError: there is none, or it does not agree.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        asked = Path(scratch) / "asked.json"
        asked.write_text(json.dumps([(str(one.path.resolve()), one[1]) for one in requests]))
        report = Path(scratch) / "report.json"
        found = children.reported(folder, "quantize", report, str(asked))
    if "error" in found:
        raise ArchiveError(f"no int8 graph of {folder.name}: {found['error']}")
    told = Quantized("int8", INT8, *(found[name] for name in Quantized._fields[2:]))
    if not found["part"] >= min_agreement:  # NaN is not
        raise ArchiveError(
            f"the int8 graph of {folder.name} does not agree with the model: {_agreement(told)}; "
            f"{min_agreement:.0%} is wanted (--min-agreement)"
        )
    head = f"int8: {told.operators} of {told.of} operators, from {told.inputs} requests"
    words = f"{head}; {_agreement(told)}; {found['speed']}"
    return Int8(told, found["symbol"].encode(), words)


def _agreement(told: Quantized) -> str:
    top = f"top-1 agrees on {told.top} of {told.rows} rows, " if told.rows else ""
    return f"{top}differences {told.mean:.1%} mean, {told.most:.1%} at most, of the largest value"
