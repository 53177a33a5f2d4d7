"""Content types: of the headers Content-Type and Accept, and of files.  Knows no codec."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Sequence

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
NPZ, JSON_LINES = "application/x-npz", "application/jsonlines"
RECORDIO = "application/x-recordio-protobuf"

#: Tensors by the Open Inference Protocol: the type that the gate gives to requests of its paths.
#: The parameter ``header-length`` is what the client sent as Inference-Header-Content-Length,
#: ``version`` is that of the model that answers.
INFER = "application/vnd.mms-handler.infer+json"

#: Content types of files, by suffix.
SUFFIXES = {
    ".csv": CSV,
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": JSON,
    ".jsonl": JSON_LINES,
    ".npy": NPY,
    ".npz": NPZ,
    ".png": "image/png",
}


def type_of_file(path: Path) -> str:
    """The content type of a file by its suffix; JSON if the suffix is unknown."""
    return known_type_of_file(path) or JSON


def known_type_of_file(path: Path) -> str | None:
    """The content type of a file by its suffix; None if the suffix is unknown."""
    return SUFFIXES.get(path.suffix.lower())


@lru_cache(maxsize=64)
def main_type(content_type: str) -> str:
    """A Content-Type without its parameters: ``text/CSV; charset=utf-8`` is ``text/csv``."""
    return content_type.partition(";")[0].strip().lower()


def is_text(content_type: str) -> bool:
    """Whether a script's functions get bodies of this type as str."""
    return main_type(content_type) in (JSON, CSV)


@lru_cache(maxsize=64)
def charset(content_type: str) -> str:
    """The charset parameter in lower case, without quotes; "" if there is none."""
    return parameter(content_type, "charset").lower()


@lru_cache(maxsize=64)
def parameter(content_type: str, parameter_name: str) -> str:
    """The value of a parameter, without quotes; "" if there is none of this name.

    ``parameter_name`` is in lower case.
    """
    for piece in _split(content_type, ";")[1:]:
        name, _, value = piece.partition("=")
        if name.strip().lower() == parameter_name:
            return value.strip().strip('"')
    return ""


def ranges(accept: str) -> list[tuple[str, float]]:
    """Split an Accept header into (media range, q), in the header's order.

    Parameters other than q are dropped.  A q that is not a number counts as 0.
    """
    result = []
    for part in _split(accept, ","):
        name, *parameters = (piece.strip().lower() for piece in _split(part, ";"))
        if name:
            result.append(("*/*" if name == "*" else name, _q(parameters)))
    return result or [("*/*", 1.0)]


def preference(name: str, accepted: Sequence[tuple[str, float]]) -> tuple[float, int]:
    """Rank a content type by a client's ``ranges``; the larger result is preferred.

    Returns:
        The q of the most specific range that covers ``name``, or 0 if none does; then a number
        that is larger for a range further to the front.

    Source: RFC 9110, 12.5.1.
    """
    for pattern in (name, name.partition("/")[0] + "/*", "*/*"):
        places = [index for index, (item, _) in enumerate(accepted) if item == pattern]
        if places:  # several if only their parameters differ
            return max((accepted[index][1], -index) for index in places)
    return 0.0, -len(accepted)


def _split(header: str, separator: str) -> list[str]:
    """Split ``header`` at each separator outside quotes into one piece or more."""
    quoted = r'"(?:\\.|[^"\\])*"?'
    joined = [""]
    for piece in re.split(rf"({quoted})|{separator}", header):
        if piece is None:  # a separator
            joined.append("")
        else:
            joined[-1] += piece
    return joined


def _q(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                q = float(value)
            except ValueError:
                return 0.0
            return min(1.0, max(0.0, q))  # 0 for NaN
    return 1.0
