"""Export a model in a process of its own, which loads it as a worker does."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from mms_handler.archive import child, samples
from mms_handler.archive.samples import SampleRequest
from mms_handler.archive.unpacking import unpack_any
from mms_handler.errors import ArchiveError

#: The largest difference from MXNet's answers, relative to an output's largest value.
TOLERANCE = 1e-5

#: What an export to ONNX imports.
_PACKAGES = ("onnx", "onnxruntime")


class Exported(NamedTuple):
    """An exported model.

    Fields:
        content: of the file.
        report: what the process said of it; see ``worker.exporting``.
    """

    content: bytes
    report: Mapping[str, Any]


def check_installed() -> None:
    """Check, before a model is loaded, that ONNX is here.

    Raises:
        ArchiveError: it is not; names the extra.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ArchiveError(
            f"an export to ONNX needs {' and '.join(missing)}, which is not installed: "
            "pip install 'mms_handler[onnx]'"
        )


def export_onnx(
    model: Path,
    sample: Path | None = None,
    content_type: str | None = None,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Export a model to ONNX, if ONNX Runtime answers as MXNet does.

    Args:
        model: a folder with a model, a ``.mar`` or a model.tar.gz.
        sample: a file with a request; None: the packed one, else a row of zeros in the shapes that
            the default save wrote.
        content_type: of the sample; None: from its suffix, or the packed one's.
        tolerance: the largest difference from MXNet's answers, relative to an output's largest
            value.

    Raises:
        ArchiveError: the model cannot be exported, or answers differently; says why.
    """
    check_installed()
    with _unpacked(model) as folder, tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        request = _request(folder, sample, content_type)
        body, target = Path(scratch) / "the sample", Path(scratch) / "onnx"
        body.write_bytes(request.body)
        options = [str(body), content_type or request.entry.content_type, repr(tolerance)]
        return _run(model, folder, target, options)


def export_npz(model: Path) -> Exported:
    """Export the weights of a model as a ``.npz`` file that NumPy reads without pickle.

    Raises:
        ArchiveError: the model does not load, or has no weights.
    """
    with _unpacked(model) as folder, tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        return _run(model, folder, Path(scratch) / "npz", [])


def _run(model: Path, folder: Path, target: Path, options: Sequence[str]) -> Exported:
    report = child.run("export-model", folder, str(target), *options)
    if "error" in report:
        raise ArchiveError(f"{model} is not exported: {report['error']}")
    return Exported(target.read_bytes(), report)


@contextlib.contextmanager
def _unpacked(model: Path) -> Iterator[Path]:
    """The folder of a model, which may be in an archive.

    Raises:
        ArchiveError: it is not an archive, or is not safe.
    """
    if model.is_dir():
        yield model.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="mms-handler-") as scratch:
        yield unpack_any(model, Path(scratch))[0]


def _request(folder: Path, sample: Path | None, content_type: str | None) -> SampleRequest:
    if sample:
        return samples.from_file(sample, content_type)
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    request = samples.packed(folder) or samples.zeros(files)
    if request is None:
        raise ArchiveError(
            f"{folder.name} has no sample request, by which the export is proved and the shapes of "
            "its inputs are known: add --sample FILE"
        )
    return request
