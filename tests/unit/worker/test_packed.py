"""packed: what was packed with a model, as a worker reads it."""

from __future__ import annotations

import json

import pytest

from mms_handler.manifest import MANIFEST
from mms_handler.schema import Schema, Tensor
from mms_handler.worker.packed import packed_int8, packed_sample, packed_schema
from mms_handler.worker.trials import context_of

SCHEMA = {"inputs": [{"name": "x", "shape": ["N", 2], "type": "FP32"}], "outputs": []}
INT8 = {
    "type": "int8", "symbol": "MAR-INF/int8-symbol.json", "operators": 1, "of": 2, "inputs": 3,
    "rows": 4, "top": 4, "mean": 0.01, "most": 0.25,
}  # fmt: skip
SAMPLE = {"name": "MAR-INF/sample.csv", "content_type": "text/csv", "accept": "a/b"}


@pytest.fixture
def packed(tmp_path):
    """Make a folder with a manifest that has these parts."""

    def build(**parts):
        (tmp_path / MANIFEST).parent.mkdir()
        model = {"modelName": "a", "handler": "mms_handler.service:handle"}
        (tmp_path / MANIFEST).write_text(json.dumps({"model": model, "mms_handler": parts}))
        (tmp_path / "MAR-INF" / "sample.csv").write_text("1,2\n")
        return tmp_path

    return build


def test_all_of_it(packed):
    folder = packed(schema=SCHEMA, quantized=INT8, sample=SAMPLE)
    assert packed_schema(folder) == Schema((Tensor("x", (None, 2), "FP32"),), ())
    graph = packed_int8(folder)
    assert (graph.symbol, graph.max_difference) == (folder / INT8["symbol"], 0.25)
    request = packed_sample(folder, context_of(folder))
    assert request[:3] == (b"1,2\n", "text/csv", "a/b")


def test_nothing_of_it(packed):
    folder = packed()
    assert packed_schema(folder) is None
    assert packed_int8(folder) is None
    assert packed_sample(folder, context_of(folder)) is None


def test_no_manifest(tmp_path):
    assert packed_schema(tmp_path) is None
    assert packed_int8(tmp_path) is None
    assert packed_sample(tmp_path, context_of(tmp_path)) is None
