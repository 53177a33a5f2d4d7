"""Load a model in a separate process, let it answer its sample request, and report."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any, Mapping

from mms_handler import schema, settings
from mms_handler.archive import child, packed_reply, samples
from mms_handler.archive.report import Report, make_report, make_script_report
from mms_handler.archive.samples import SampleRequest, Tried
from mms_handler.archive.unpacking import unpack_any
from mms_handler.errors import ArchiveError, ScriptError
from mms_handler.script.find import find_script


def check(
    path: Path,
    sample: Path | None = None,
    content_type: str | None = None,
    accept: str | None = None,
    script: Path | None = None,
) -> Report:
    """Load a model as a worker does, let it answer a request, and report the model and the reply.

    Args:
        path: a folder with a model and its script, a ``.mar``, a model.tar.gz, or a script alone.
        sample: a file with a request; None: the packed sample request, if there is one.
        content_type: the request's; None: the packed one's, or from the file's suffix.
        accept: the request's Accept; None: the packed one's, or ``*/*``.
        script: a script to use where it lies, instead of the model's own; or its folder.

    Raises:
        ArchiveError: ``path`` is an archive that is not safe to unpack, or none of these.
        ScriptError: several files of the folder ``script`` could be the script.
    """
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        if path.suffix == ".py":
            options = ["--script", str(path.resolve()), "--alone"]
            return make_script_report(str(path), child.run("inspect", Path(scratch), *options))
        folder, statement = path.resolve(), ""
        if path.is_file():
            folder, statement = unpack_any(path, Path(scratch))
        if sample:
            request: SampleRequest | None = samples.from_file(sample, content_type, accept)
        else:
            request = _with_types(samples.packed(folder), content_type, accept)
        inspected = _inspect(folder, request, script and script_at(script))
    description = str(sample) if sample else "the packed sample" if request else ""
    if request and request.generated and inspected.get("status", 0) >= 400:
        description = ""  # nobody knows whether the script reads zeros
    differs = _difference(request, inspected)
    return make_report(str(path), inspected, statement, description, differs)


def script_at(path: Path) -> Path:
    """The script that a person named: the file, or the script of the folder.

    Raises:
        ScriptError: the file is not a .py file, or the folder has none or several.
    """
    if path.is_dir():
        script = find_script(path, settings.current().program)
        if script is None:
            raise ScriptError(f"{path} has no .py file; name the script, or its folder")
        return script.resolve()
    if path.suffix != ".py":
        raise ScriptError(f"{path} is not a .py file; name the script, or its folder")
    return path.resolve()


def _difference(request: SampleRequest | None, inspected: Mapping[str, Any]) -> str | None:
    """How a reply differs from the packed one, as the rest of a sentence about the sample.

    Returns:
        "" if they are the same; None if there is no packed reply, or no new one.
    """
    packed = request.entry.reply if request else None
    if not packed or "error" in inspected:
        return None
    if packed_reply.same(packed, _reply(inspected)):
        return ""
    current = f"{inspected['status']} {inspected['content_type']}: {inspected['reply']}"
    return f"was answered {packed_reply.describe_reply(packed)} when it was packed, now {current}"


def try_sample(folder: Path, request: SampleRequest | None) -> Tried:
    """Load the model in ``folder`` and let it answer a sample request.

    Args:
        folder: an unpacked model.
        request: the request; None: the model is only loaded.

    Returns:
        The request with its reply, none if it was generated and the model refuses it; and the
        model's inputs and outputs.

    Raises:
        ArchiveError: the model does not load, or refuses a request that a person chose.
    """
    report = _inspect(folder, request)
    traceback = report.get("traceback", "")
    if "error" in report:
        raise ArchiveError(f"{folder.name} does not load: {report['error']}", traceback)
    shapes = schema.read(report["schema"]) if "schema" in report else None
    if request is None or (request.generated and report["status"] >= 400):
        return Tried(None, shapes)
    if report["status"] >= 400:
        message = f"the sample request gets {report['status']}: {report['reply']}"
        raise ArchiveError(message, traceback)
    reply = _reply(report)
    if str(folder) in str(reply.get("body")):  # the body depends on the folder
        del reply["body"]
    return Tried(request._replace(entry=request.entry._replace(reply=reply)), shapes)


def _with_types(
    request: SampleRequest | None, content_type: str | None, accept: str | None
) -> SampleRequest | None:
    """A packed request with these types.

    If they differ from its own, it has no expected reply, and a person chose it.
    """
    if request is None:
        return None
    packed = request.entry
    entry = packed._replace(
        content_type=content_type or packed.content_type, accept=accept or packed.accept
    )
    if packed == entry:
        return request
    return SampleRequest(entry._replace(reply=None), request.body)


def _reply(report: Mapping[str, Any]) -> dict[str, Any]:
    body = base64.b64decode(report["body"]) if "body" in report else None
    return packed_reply.encode(report["status"], report["content_type"], body)


def _inspect(
    folder: Path, request: SampleRequest | None, script: Path | None = None
) -> dict[str, Any]:
    """The report of ``inspect`` on ``folder``, or how its process ended."""
    options = ["--script", str(script)] if script else []
    if request is None:
        return child.run("inspect", folder, *options)
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        body = Path(scratch) / "body"
        body.write_bytes(request.body)
        types = request.entry.content_type, request.entry.accept
        return child.run("inspect", folder, str(body), *types, *options)
