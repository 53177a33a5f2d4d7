"""Load a model in a process of its own, let it answer its sample, and say what was found."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

from mms_handler import manifest, media
from mms_handler.archive import children, replies, zips
from mms_handler.archive.packing import Request
from mms_handler.errors import ArchiveError
from mms_handler.manifest import Sample, check_name


def check(
    path: Path,
    sample: Path | None = None,
    content_type: str | None = None,
    accept: str | None = None,
) -> dict[str, Any]:
    """What a worker would find in an archive or folder: it is loaded in a process of its own.

    Args:
        path: a ``.mar``, or a folder with a model and its script.
        sample: a request to answer; None: the one that was packed, if one was.
        content_type: what it is; None: as it was packed, or as its suffix says.
        accept: what its reply should be; None: as it was packed, or anything.

    Returns:
        What ``loading.inspect`` does; ``error`` alone where the model would not load.
        ``differs`` is both replies in words, where the packed request has another one now.

    Raises:
        ArchiveError: ``path`` is neither, or must not be unpacked.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        folder = path.resolve()
        if path.is_file():
            folder = Path(scratch) / check_name(path.stem)
            zips.unpack(path, folder)
        request = _given(sample, content_type, accept) if sample else packed(folder)
        if request:
            request = _changed(request, content_type, accept)
        found = _inspected(folder, request)
    then = request.sample.reply if request else None
    if then and "error" not in found and not replies.same(then, _reply(found)):
        now = f"{found['status']} {found['content_type']}: {found['reply']}"
        found["differs"] = f"was answered {replies.words(then)} when it was packed, now {now}"
    return found


def packed(folder: Path) -> Request | None:
    """The request that was packed with the model in ``folder``, if one was.

    Raises:
        ArchiveError: the folder's manifest is none.
    """
    sample = manifest.read_sample(folder)
    return Request(*sample) if sample else None


def trial(folder: Path, request: Request | None) -> Request | None:
    """The request with its reply: the model in ``folder`` loads and answers it.

    A request that was made up is None where the model does not take it.

    Raises:
        ArchiveError: it does not load, or does not answer the request that was given.
    """
    found = _inspected(folder, request)
    if "error" in found:
        raise ArchiveError(f"{folder.name} would not load: {found['error']}")
    if request is None or (request.made_up and found["status"] >= 400):
        return None
    if found["status"] >= 400:
        raise ArchiveError(f"the sample is answered {found['status']}: {found['reply']}")
    reply = _reply(found)
    if str(folder) in str(reply.get("body")):  # it would be another one in another folder
        del reply["body"]
    return request._replace(sample=request.sample._replace(reply=reply))


def _given(sample: Path, content_type: str | None, accept: str | None) -> Request:
    kind = content_type or media.type_of_file(sample)
    return Request(Sample(sample.name, kind, accept or "*/*"), sample.read_bytes())


def _changed(request: Request, content_type: str | None, accept: str | None) -> Request:
    """A packed request; once it is another, its reply is not what is expected."""
    then = request.sample
    sample = then._replace(
        content_type=content_type or then.content_type, accept=accept or then.accept
    )
    return request._replace(sample=then if sample == then else sample._replace(reply=None))


def _reply(found: dict[str, Any]) -> dict[str, Any]:
    body = base64.b64decode(found["body"]) if "body" in found else None
    return replies.kept(found["status"], found["content_type"], body)


def _inspected(folder: Path, request: Request | None) -> dict[str, Any]:
    """What ``loading.inspect`` finds in ``folder``, or how its process ended."""
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        report, body = Path(scratch) / "report.json", Path(scratch) / "body"
        words: list[str] = []
        if request:
            body.write_bytes(request.body)
            words = [str(body), request.sample.content_type, request.sample.accept]
        return children.reported(folder, "inspect", report, *words)
