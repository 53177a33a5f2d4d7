"""Make the int8 graph of a model from a folder of requests, in a separate process."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import NamedTuple, Sequence

from mms_handler import media
from mms_handler.archive import child
from mms_handler.errors import ArchiveError
from mms_handler.manifest import INT8, QUANTIZED_KEYS, Quantized

#: The default fraction of judged predictions that must agree with the model's own.
MIN_AGREEMENT = 0.95


class CalibrationRequest(NamedTuple):
    """A file with the body of a request."""

    path: Path
    content_type: str


class Int8Graph(NamedTuple):
    """An int8 graph to pack.

    Attributes:
        entry: its entry in the manifest.
        symbol: MXNet's JSON.
        summary: one line about it for a person.
    """

    entry: Quantized
    symbol: bytes
    summary: str


def calibration_requests(folder: Path, content_type: str | None = None) -> list[CalibrationRequest]:
    """The requests in a folder, a file each, sorted by name.  Hidden files are ignored.

    Args:
        folder: the folder.
        content_type: of all files; None: from their suffixes.

    Raises:
        ArchiveError: the folder is empty, or contains a folder or a file of an unknown type.
    """
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    if not paths:
        raise ArchiveError(f"{folder} has no files; each file is a request to calibrate with")
    return [CalibrationRequest(path, content_type or _type_of(path)) for path in paths]


def _type_of(path: Path) -> str:
    if not path.is_file():
        raise ArchiveError(f"{path} is not a file; a calibration folder may only have files")
    content_type = media.known_type_of_file(path)
    if content_type is None:
        raise ArchiveError(
            f"{path}: unknown suffix; known are {', '.join(media.SUFFIXES)}; "
            "for other files use --content-type"
        )
    return content_type


def quantize(
    folder: Path, requests: Sequence[CalibrationRequest], min_agreement: float = MIN_AGREEMENT
) -> Int8Graph:
    """Make the int8 graph of the model in ``folder``.

    Args:
        folder: the model, as MMS would unpack its archive.
        requests: two of three calibrate the graph; the others judge it.
        min_agreement: the fraction of the judged rows of scores that must have their largest
            score at the same place.  For predictions that are not scores, 1 minus the mean
            difference must reach it.

    Raises:
        ArchiveError: the graph cannot be made, or does not agree with the model.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        listed = Path(scratch) / "requests.json"
        listed.write_text(json.dumps([(str(path.resolve()), type_) for path, type_ in requests]))
        report = child.run("quantize", folder, str(listed))
    if "error" in report:
        raise ArchiveError(f"cannot make an int8 graph of {folder.name}: {report['error']}")
    entry = Quantized("int8", INT8, *(report[key] for key in QUANTIZED_KEYS[2:]))
    if not report["part"] >= min_agreement:  # a comparison with NaN is False
        raise ArchiveError(
            f"the int8 graph of {folder.name} does not agree with the model: {_agreement(entry)}; "
            f"at least {min_agreement:.0%} must agree (--min-agreement)"
        )
    operators = f"{entry.quantized_operators} of {entry.operators} operators"
    summary = (
        f"int8: {operators}, from {entry.requests} requests; {_agreement(entry)}; {report['speed']}"
    )
    return Int8Graph(entry, report["symbol"].encode(), summary)


def _agreement(entry: Quantized) -> str:
    top = f"top-1 agrees on {entry.same_top} of {entry.rows} rows, " if entry.rows else ""
    return (
        f"{top}differences {entry.mean_difference:.1%} mean, {entry.max_difference:.1%} at most, "
        "of the largest value"
    )
