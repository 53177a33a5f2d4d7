"""Inputs that a manifest lists: SageMaker's S3DataType ManifestFile.

    [{"prefix": "s3://bucket/folder/"}, "a.csv", "b/c.csv"]

A manifest's names follow its prefix, which may also be a folder of this machine.

Source: SageMaker's API reference, TransformS3DataSource.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Mapping, Sequence

from mms_handler.archive import s3
from mms_handler.errors import TransformError
from mms_handler.transform.inputs import (
    Input,
    checked,
    file_input,
    list_inputs,
    object_input,
    opened,
    s3_client,
)


def listed_inputs(place: str) -> list[Input]:
    """The inputs that a manifest lists, in the order of their names.

    Args:
        place: of the manifest: a file, or the s3:// address of an object.

    Raises:
        TransformError: there is no manifest, it is none, or it lists what is not there.
        ArchiveError: S3 refuses.
    """
    prefix, names = _read(place)
    find = _objects if prefix.startswith("s3://") else _files
    inputs = find(prefix, names)
    missing = [name for name in names if name not in inputs]
    if missing:
        raise TransformError(
            f"{len(missing)} of the inputs that the manifest {place} lists are not there, such as "
            f"{prefix}{missing[0]}; correct the manifest, or put them there"
        )
    return checked(list(inputs.values()))


def _read(place: str) -> tuple[str, Sequence[str]]:
    """The prefix and the names of a manifest."""
    sources = list_inputs(place)
    if len(sources) > 1:
        raise TransformError(
            f"--input {place} is {len(sources)} files; with --data-type ManifestFile it is one "
            "file, which lists the inputs"
        )
    with opened(sources[0], sources[0].name.endswith(".gz")) as begin:
        text = begin.stream.read()
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise TransformError(f"the manifest {place} is not JSON: {exc}; {_FORM}") from None
    first, *names = value if isinstance(value, list) and value else [None]
    prefix = first.get("prefix") if isinstance(first, dict) else None
    if not isinstance(prefix, str) or not names or not all(isinstance(each, str) for each in names):
        raise TransformError(f"the manifest {place} is not one of SageMaker's; {_FORM}")
    return prefix, list(map(str, names))


_FORM = 'it must be a list: [{"prefix": "s3://bucket/folder/"}, "a.csv", "b.csv"]'


def _objects(prefix: str, names: Sequence[str]) -> Mapping[str, Input]:
    """The objects that are there, by name."""
    start = os.path.commonprefix([prefix + name for name in names])  # noqa: RUF071 - no paths
    bucket, listed = s3.split(f"{prefix}.")[0], set(names)
    parent = prefix[len(f"s3://{bucket}/") :]
    inputs: dict[str, Input] = {}
    for each in s3.listed(start, s3_client()):
        name = each.key[len(parent) :]
        if name in listed:
            inputs[name] = object_input(bucket, each, name)
    return inputs


def _files(prefix: str, names: Sequence[str]) -> Mapping[str, Input]:
    """The files that are there, by name."""
    paths = {name: Path(prefix + name) for name in names}
    return {name: file_input(path, name) for name, path in paths.items() if path.is_file()}
