"""The sample request of an archive: a file, zeros in the model's shapes, or the packed one."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from mms_handler import manifest, media
from mms_handler.errors import ArchiveError
from mms_handler.manifest import SAMPLE, Sample
from mms_handler.schema import Schema

#: The largest sample, in values, that is made of zeros.
MAX_ZEROS = 1_000_000


class SampleRequest(NamedTuple):
    """A sample request.

    Attributes:
        entry: its entry in the manifest.
        body: the request's body.
        generated: whether ``zeros`` made it, and no model has answered it; otherwise a person
            chose it, or it was answered when it was packed.
    """

    entry: Sample
    body: bytes
    generated: bool = False


class Tried(NamedTuple):
    """What is known of a model that was tried before it is packed.

    Attributes:
        request: the sample request to pack, with its reply; None packs none.
        schema: the model's inputs and outputs; None if they are not known.
    """

    request: SampleRequest | None
    schema: Schema | None = None


def from_file(
    path: Path, content_type: str | None = None, accept: str | None = None
) -> SampleRequest:
    """A file as a sample request.

    Args:
        path: the body.
        content_type: the body's; None: from the file's suffix, JSON if that is unknown.
        accept: the request's Accept; None is ``*/*``.
    """
    name = SAMPLE + (path.suffix.lower() or ".bin")
    entry = Sample(name, content_type or media.type_of_file(path), accept or "*/*")
    return SampleRequest(entry, path.read_bytes())


def zeros(files: Mapping[str, Path]) -> SampleRequest | None:
    """A row of zeros for each input, in the shapes that the default save wrote.

    Args:
        files: a model's files by name.

    Returns:
        A JSON request; None without ``model-shapes.json``, and for more than MAX_ZEROS values.

    Raises:
        ArchiveError: ``model-shapes.json`` is not a list of names and shapes.
    """
    shapes = files.get("model-shapes.json")
    if not shapes:
        return None
    try:
        inputs = {item["name"]: [1, *item["shape"][1:]] for item in json.loads(shapes.read_text())}
        count = sum(map(math.prod, inputs.values()))
    except (ValueError, TypeError, KeyError) as exc:
        raise ArchiveError(f"{shapes} is not a list of names and shapes: {exc!r}") from exc
    if count > MAX_ZEROS:
        return None
    values = {name: _nested_zeros(shape) for name, shape in inputs.items()}
    body = json.dumps(values if len(values) > 1 else next(iter(values.values()), None)).encode()
    return SampleRequest(Sample(f"{SAMPLE}.json", media.JSON, "*/*"), body, generated=True)


def _nested_zeros(shape: Sequence[int]) -> Any:
    return [_nested_zeros(shape[1:]) for _ in range(shape[0])] if shape else 0


def packed(folder: Path) -> SampleRequest | None:
    """The sample request that was packed with the model in ``folder``, if any.

    Raises:
        ArchiveError: the folder's manifest is not valid.
    """
    sample = manifest.read_sample(folder)
    if sample is None:
        return None
    entry, body = sample
    return SampleRequest(entry, body, generated=entry.reply is None and body == _zeros_in(folder))


def _zeros_in(folder: Path) -> bytes | None:
    """What ``zeros`` makes of the model in ``folder``; None if that is nothing."""
    with contextlib.suppress(ArchiveError):
        request = zeros({path.name: path for path in folder.iterdir()})
        return request.body if request else None
    return None
