"""Make the ONNX twin of a model that is packed, in a separate process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from mms_handler.archive import child
from mms_handler.archive.samples import SampleRequest
from mms_handler.errors import ArchiveError
from mms_handler.manifest import Twin


class OnnxTwin(NamedTuple):
    """An ONNX twin to pack.

    Attributes:
        entry: its entry in the manifest.
        content: the ONNX file.
        summary: one line about it for a person.
    """

    entry: Twin
    content: bytes
    summary: str


def make_twin(folder: Path, sample: SampleRequest | None) -> OnnxTwin:
    """Make the ONNX twin of the model in ``folder``.

    Args:
        folder: the model, as MMS would unpack its archive.
        sample: a request that the model answers.

    Raises:
        ArchiveError: there is no sample; or the model has no ONNX twin, or one that disagrees.
    """
    if sample is None:
        raise ArchiveError(
            "--engine onnx needs a request by which workers check the twin: add --sample FILE"
        )
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        body, target = Path(scratch) / "body", Path(scratch) / "twin.onnx"
        body.write_bytes(sample.body)
        types = sample.entry.content_type, sample.entry.accept
        report = child.run("twin", folder, str(target), str(body), *types)
        if "error" in report:
            raise ArchiveError(f"cannot make an ONNX twin of {folder.name}: {report['error']}")
        content = target.read_bytes()
    entry = Twin(**report["entry"])
    summary = (
        f"onnx: agrees for {entry.cases} inputs, differences {entry.difference:.1g} at most of the "
        f"largest value; {entry.gain:.2f} times as fast as MXNet"
    )
    return OnnxTwin(entry, content, summary)
