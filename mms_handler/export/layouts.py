"""Write an exported model in the layout that a server reads.

    triton     FOLDER/NAME/config.pbtxt, FOLDER/NAME/1/model.onnx    a model repository
    kserve     FOLDER/NAME.yaml, FOLDER/models/ as for Triton         an InferenceService
    sagemaker  FILE: NAME/config.pbtxt, NAME/1/model.onnx             a model.tar.gz

Source: Triton's docs, "Model Repository" and "Model Configuration"; the script ``serve`` of
SageMaker's Triton containers, which refuses a config.pbtxt at the top; KServe's docs, "Deploying
ONNX Models", and its kserve-tritonserver, for which storageUri is the model repository.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from mms_handler.archive import files
from mms_handler.errors import ArchiveError

#: The most rows that Triton puts together, unless a person says otherwise.
MAX_BATCH_SIZE = 32

#: Triton's names of NumPy's types.
_TYPES = {
    **{"bool": "TYPE_BOOL", "float16": "TYPE_FP16", "float32": "TYPE_FP32"},
    **{"float64": "TYPE_FP64", "uint8": "TYPE_UINT8", "int8": "TYPE_INT8"},
    **{"int32": "TYPE_INT32", "int64": "TYPE_INT64"},
}


class Layout(NamedTuple):
    """What is written for a server.

    Fields:
        files: their contents, by path below the target, of a model's name, content and report.
        packed: whether the target is one file with all of them.
        default: the target, of the model's name.
    """

    files: Callable[[str, bytes, Mapping[str, Any], int], Mapping[str, bytes]]
    packed: bool
    default: Callable[[str], str]


def write(
    layout: str,
    name: str,
    content: bytes,
    report: Mapping[str, Any],
    target: Path,
    *,
    max_batch_size: int = MAX_BATCH_SIZE,
    force: bool = False,
) -> list[Path]:
    """Write a model for a server; each file is complete or absent.

    Args:
        layout: one of LAYOUTS.
        name: the model's.
        content: the model in ONNX.
        report: of the export.
        target: the folder, or the file for SageMaker.
        max_batch_size: the most rows that Triton puts together.
        force: replace files that exist.

    Returns:
        The files that were written.

    Raises:
        ArchiveError: a file exists.
    """
    server = LAYOUTS[layout]
    entries = server.files(name, content, report, max_batch_size)
    if server.packed:
        return [_write(target, _tar(entries), force)]
    for path in entries:
        files.check_free(target / path, force)
    return [_write(target / path, data, force) for path, data in entries.items()]


def _write(path: Path, data: bytes, force: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path, force) as partial:
        partial.write_bytes(data)
    return path


def _tar(entries: Mapping[str, bytes]) -> bytes:
    """A tar.gz; the same entries give the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed, tarfile.open(
        fileobj=packed, mode="w", format=tarfile.GNU_FORMAT
    ) as tar:
        for path, data in entries.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


# --- Triton ----------------------------------------------------------------------------------


def _repository(
    name: str, content: bytes, report: Mapping[str, Any], max_batch_size: int
) -> Mapping[str, bytes]:
    config = triton_config(name, report, max_batch_size).encode()
    return {f"{name}/config.pbtxt": config, f"{name}/1/model.onnx": content}


def triton_config(name: str, report: Mapping[str, Any], max_batch_size: int) -> str:
    """A config.pbtxt.

    Where each input and output begins with the rows, Triton adds that dimension and puts requests
    together; else it hands each request to the model as it came.

    Raises:
        ArchiveError: Triton has no such type, or no arrays without a dimension.
    """
    batched = report["rows"] and max_batch_size > 0
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {max_batch_size if batched else 0}",
        *_tensors("input", report["inputs"], batched),
        *_tensors("output", report["outputs"], batched),
        *(["dynamic_batching { }"] if batched else []),
    ]
    return "\n".join(lines) + "\n"


def _tensors(kind: str, tensors: Sequence[Mapping[str, Any]], batched: bool) -> list[str]:
    lines = [f"{kind} ["]
    for place, tensor in enumerate(tensors):
        comma = "" if place == len(tensors) - 1 else ","
        lines += [
            "  {",
            f"    name: {json.dumps(tensor['name'])}",
            f"    data_type: {_type(tensor)}",
            *_shape(tensor, batched),
            "  }" + comma,
        ]
    return [*lines, "]"]


def _type(tensor: Mapping[str, Any]) -> str:
    if tensor["type"] not in _TYPES:
        raise ArchiveError(f"Triton has no type for {tensor['name']}, which is {tensor['type']}")
    return _TYPES[tensor["type"]]


def _shape(tensor: Mapping[str, Any], batched: bool) -> list[str]:
    """The dimensions; an array with rows alone needs one more for clients, and loses it."""
    sides = [-1 if isinstance(side, str) else side for side in tensor["shape"]]
    if batched:
        sides = sides[1:]
    if not sides:
        return ["    dims: [ 1 ]", "    reshape: { shape: [ ] }"]
    return [f"    dims: [ {', '.join(map(str, sides))} ]"]


# --- KServe ----------------------------------------------------------------------------------

_SERVICE = """\
# Copy models/ to a bucket or a volume, and name the copy as storageUri.
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {service}
spec:
  predictor:
    model:
      modelFormat: {{name: onnx}}
      protocolVersion: v2
      runtime: kserve-tritonserver
      storageUri: s3://my-bucket/models/
"""


def _kserve(
    name: str, content: bytes, report: Mapping[str, Any], max_batch_size: int
) -> Mapping[str, bytes]:
    repository = _repository(name, content, report, max_batch_size)
    service = _SERVICE.format(service=_service_name(name))
    models = {f"models/{path}": data for path, data in repository.items()}
    return {**models, f"{name}.yaml": service.encode()}


def _service_name(name: str) -> str:
    """A model's name as Kubernetes takes it: lower case, digits and hyphens, a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{'' if plain[:1].isalpha() else 'model-'}{plain}"[:63].strip("-")


LAYOUTS = {
    "triton": Layout(_repository, False, lambda name: "model_repository"),
    "kserve": Layout(_kserve, False, lambda name: "kserve"),
    "sagemaker": Layout(_repository, True, lambda name: f"{name}.tar.gz"),
}
