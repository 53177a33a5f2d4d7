"""Load a model in a separate process, let it answer its sample request, and report."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

from mms_handler.archive import child, packed_reply, samples
from mms_handler.archive.samples import SampleRequest
from mms_handler.archive.verify import unpack
from mms_handler.errors import ArchiveError
from mms_handler.manifest import check_name


def check(
    path: Path,
    sample: Path | None = None,
    content_type: str | None = None,
    accept: str | None = None,
) -> dict[str, Any]:
    """Load a model as a worker does, let it answer a request, and report the model and the reply.

    Args:
        path: a ``.mar``, or a folder with a model and its script.
        sample: a file with a request; None: the packed sample request, if there is one.
        content_type: the request's; None: the packed one's, or from the file's suffix.
        accept: the request's Accept; None: the packed one's, or ``*/*``.

    Returns:
        The report of the hidden command ``inspect``; if the model does not load, ``error`` alone.
        If the packed request gets another reply now, ``differs`` has both, as the rest of a
        sentence about the sample.

    Raises:
        ArchiveError: ``path`` is not a ``.mar``, or is not safe to unpack.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        folder = path.resolve()
        if path.is_file():
            folder = Path(scratch) / check_name(path.stem)
            unpack(path, folder)
        if sample:
            request: SampleRequest | None = samples.from_file(sample, content_type, accept)
        else:
            request = _with_types(samples.packed(folder), content_type, accept)
        report = _inspect(folder, request)
    packed = request.entry.reply if request else None
    if packed and "error" not in report and not packed_reply.same(packed, _reply(report)):
        current = f"{report['status']} {report['content_type']}: {report['reply']}"
        report["differs"] = (
            f"was answered {packed_reply.describe_reply(packed)} when it was packed, now {current}"
        )
    return report


def try_sample(folder: Path, request: SampleRequest | None) -> SampleRequest | None:
    """Load the model in ``folder`` and let it answer a sample request.

    Args:
        folder: an unpacked model.
        request: the request; None: the model is only loaded.

    Returns:
        The request with its reply; None if it was generated and the model refuses it.

    Raises:
        ArchiveError: the model does not load, or refuses a request that a person chose.
    """
    report = _inspect(folder, request)
    if "error" in report:
        raise ArchiveError(f"{folder.name} does not load: {report['error']}")
    if request is None or (request.generated and report["status"] >= 400):
        return None
    if report["status"] >= 400:
        raise ArchiveError(f"the sample request gets {report['status']}: {report['reply']}")
    reply = _reply(report)
    if str(folder) in str(reply.get("body")):  # the body depends on the folder
        del reply["body"]
    return request._replace(entry=request.entry._replace(reply=reply))


def _with_types(
    request: SampleRequest | None, content_type: str | None, accept: str | None
) -> SampleRequest | None:
    """A packed request with these types.  If they differ from its own, it has no expected reply."""
    if request is None:
        return None
    packed = request.entry
    entry = packed._replace(
        content_type=content_type or packed.content_type, accept=accept or packed.accept
    )
    return request._replace(entry=packed if packed == entry else entry._replace(reply=None))


def _reply(report: dict[str, Any]) -> dict[str, Any]:
    body = base64.b64decode(report["body"]) if "body" in report else None
    return packed_reply.encode(report["status"], report["content_type"], body)


def _inspect(folder: Path, request: SampleRequest | None) -> dict[str, Any]:
    """The report of ``inspect`` on ``folder``, or how its process ended."""
    if request is None:
        return child.run("inspect", folder)
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        body = Path(scratch) / "body"
        body.write_bytes(request.body)
        types = request.entry.content_type, request.entry.accept
        return child.run("inspect", folder, str(body), *types)
