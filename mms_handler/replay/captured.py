"""Read captured predictions: those of ``serve --capture``, and of SageMaker's data capture."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from mms_handler import media
from mms_handler.archive import s3
from mms_handler.errors import ArchiveError

#: Says how many bytes of a body with tensors are JSON (codecs.tensors, which imports numpy).
HEADER_LENGTH = "Inference-Header-Content-Length"

#: A file that is written now, or whose server was killed.
_PART = ".jsonl.part"


class Captured(NamedTuple):
    """A prediction as it was captured.

    Fields:
        id: of the request; "" if it is unknown.
        time_s: when the request came, since 1970.
        model: as its client called it; "" if it is unknown, as in SageMaker's captures.
        body: of the request.
        headers: of the request, those that were captured.
        status: of the reply.  SageMaker captures only good ones.
        latency_s: None if it is unknown.
        reply: the reply's body; None if it was not captured.
        reply_type: its Content-Type; "" if it has none.
        tensors: whether both bodies are tensors of the Open Inference Protocol.
        reply_header_length: the bytes of the reply's JSON, if values in binary follow; else "".
    """

    id: str
    time_s: float
    model: str
    body: bytes
    headers: Mapping[str, str]
    status: int
    latency_s: float | None
    reply: bytes | None
    reply_type: str
    tensors: bool = False
    reply_header_length: str = ""


@contextlib.contextmanager
def fetched(place: str) -> Iterator[Sequence[Path]]:
    """The files of a capture, in the order of their names, for the length of a ``with`` block.

    Args:
        place: a file, a folder, or the address of one in S3.

    Raises:
        ArchiveError: there is nothing, or it cannot be downloaded.
    """
    if "://" not in place:
        yield _files(Path(place), place)
        return
    is_file = place.endswith(".jsonl")
    address = place if is_file else place.rstrip("/") + "/"
    with tempfile.TemporaryDirectory(prefix="mms-handler-replay-") as scratch:
        target = Path(scratch) / ("capture.jsonl" if is_file else "capture")
        yield _files(s3.download(address, target), place)


def _files(path: Path, place: str) -> Sequence[Path]:
    if path.is_file():
        return [path]
    files = sorted([*path.rglob("*.jsonl"), *path.rglob(f"*{_PART}")])
    if not files:
        raise ArchiveError(
            f"{place} has no captured predictions: expected .jsonl files, as serve --capture and "
            "SageMaker's data capture write them"
        )
    return files


def read(files: Sequence[Path]) -> Iterator[Captured]:
    """The predictions of files, one file after the other, each in the order of its requests.

    Raises:
        ArchiveError: a line is not a captured prediction; names it.
    """
    for file in files:
        predictions = []
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip() or (file.name.endswith(_PART) and not line.endswith(b"\n")):
                    continue  # the server is writing it
                try:
                    predictions.append(_captured(json.loads(line)))
                except (ValueError, TypeError, KeyError, AttributeError) as exc:
                    raise ArchiveError(
                        f"{file}, line {number} is not a captured prediction: {exc!r}"
                    ) from exc
        yield from sorted(predictions, key=lambda prediction: prediction.time_s)


def _captured(record: Mapping[str, Any]) -> Captured:
    request, event = record["captureData"]["endpointInput"], record["eventMetadata"]
    reply = record["captureData"].get("endpointOutput") or {}
    details = record.get("mmsHandler", {})
    body = _body(request)
    if body is None:
        raise ValueError("the request has no data")
    headers = {str(name): str(value) for name, value in details.get("headers", {}).items()}
    tensors = details.get("protocol") == "v2"
    if not tensors or request.get("observedContentType"):
        headers["Content-Type"] = request.get("observedContentType") or media.JSON
    latency_ms = details.get("latencyMs")
    return Captured(
        id=str(event.get("eventId") or ""),
        time_s=_seconds(details.get("time") or event["inferenceTime"]),
        model=details.get("model", ""),
        body=body,
        headers=headers,
        status=int(details.get("status", 200)),
        latency_s=None if latency_ms is None else latency_ms / 1000,
        reply=_body(reply),
        reply_type=reply.get("observedContentType") or "",
        tensors=tensors,
        reply_header_length=str(details.get("replyHeaders", {}).get(HEADER_LENGTH, "")),
    )


def _body(part: Mapping[str, Any]) -> bytes | None:
    if part.get("data") is None:
        return None
    if part.get("encoding") == "BASE64":
        return base64.b64decode(part["data"], validate=True)
    return str(part["data"]).encode()


def _seconds(text: str) -> float:
    form = "%Y-%m-%dT%H:%M:%S.%fZ" if "." in text else "%Y-%m-%dT%H:%M:%SZ"
    return datetime.strptime(text, form).replace(tzinfo=timezone.utc).timestamp()
