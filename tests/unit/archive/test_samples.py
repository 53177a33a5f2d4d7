"""samples: a request of a file, or of zeros."""

from __future__ import annotations

import json

import pytest

from mms_handler.archive import samples
from mms_handler.archive.samples import SampleRequest
from mms_handler.errors import ArchiveError
from mms_handler.manifest import MANIFEST, Sample, encode


@pytest.mark.parametrize(
    ("name", "types", "entry"),
    [
        ("a.CSV", (), Sample("MAR-INF/sample.csv", "text/csv", "*/*")),
        ("a.txt", (), Sample("MAR-INF/sample.txt", "application/json", "*/*")),
        ("a", (), Sample("MAR-INF/sample.bin", "application/json", "*/*")),
        ("a.csv", ("a/b", "c/d"), Sample("MAR-INF/sample.csv", "a/b", "c/d")),
    ],
)
def test_a_file(tmp_path, name, types, entry):
    """Its suffix says the type, unless a person does."""
    (tmp_path / name).write_bytes(b"\xff1")
    assert samples.from_file(tmp_path / name, *types) == SampleRequest(entry, b"\xff1", False)


def zeros(tmp_path, content):
    path = tmp_path / "model-shapes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return samples.zeros({"model-shapes.json": path})


@pytest.mark.parametrize(
    ("shapes", "body"),
    [
        ({"data": [32, 2, 3]}, [[[0, 0, 0], [0, 0, 0]]]),
        ({"data": [32]}, [0]),
        ({"a": [8, 2], "b": [8]}, {"a": [[0, 0]], "b": [0]}),
        ({"data": [5, 1_000_000]}, [[0] * 1_000_000]),
    ],
)
def test_zeros(tmp_path, shapes, body):
    """One row for each input; an input alone has no name."""
    request = zeros(tmp_path, [{"name": name, "shape": shape} for name, shape in shapes.items()])
    assert json.loads(request.body) == body
    assert request.entry == Sample("MAR-INF/sample.json", "application/json", "*/*")
    assert request.generated


def test_no_zeros(tmp_path):
    """Of no shapes, and of too many values."""
    assert samples.zeros({"other.json": tmp_path}) is None
    assert zeros(tmp_path, [{"name": "data", "shape": [1, 1_000_001]}]) is None
    large = [{"name": name, "shape": [1, 600_000]} for name in "ab"]
    assert zeros(tmp_path, large) is None


@pytest.mark.parametrize("content", ["{", "3", '[{"name": "a"}]', '[{"shape": [1]}]', "[[]]"])
def test_shapes_that_are_none(tmp_path, content):
    with pytest.raises(ArchiveError, match="json is not a list of names and shapes: "):
        zeros(tmp_path, content)


def test_the_packed_one(tmp_path):
    """As the manifest says it is."""
    assert samples.packed(tmp_path) is None
    entry = Sample("MAR-INF/sample.csv", "text/csv", "a/b", {"status": 200})
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / MANIFEST).write_bytes(encode("iris", None, sample=entry))
    (tmp_path / entry.name).write_bytes(b"1,2")
    assert samples.packed(tmp_path) == SampleRequest(entry, b"1,2", False)
