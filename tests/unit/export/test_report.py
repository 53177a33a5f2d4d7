"""report: what an export says for people, and for programs."""

from __future__ import annotations

from pathlib import Path

from mms_handler.export import report

ONNX = {
    "inputs": [{"name": "data", "shape": ["N", 2], "type": "float32"}],
    "outputs": [{"name": "output", "shape": ["N"], "type": "float32"}],
    "rows": True,
    "differences": [{"output": "output", "largest": 3.3e-7, "data": "1 row of zeros"}],
    "cases": ["the sample", "1 row of zeros"],
    "functions": ["input_fn", "output_fn"],
}


def test_people_read_shapes_differences_and_what_is_not_exported():
    assert report.rows(ONNX) == [
        ("input", "data (N, 2) float32"),
        ("output", "output (N,) float32"),
        ("difference", "output: 3.3e-07 of its largest value, for 1 row of zeros"),
        ("proved with", "2 inputs: the sample, and made-up rows"),
        (
            "batches",
            "rows give the same alone as beside others; a server may put requests together",
        ),
        ("not exported", "input_fn, output_fn of the script: clients have to do this"),
    ]


def test_weights_are_listed_by_name():
    arrays = [{"name": "fc_weight", "shape": [1, 2], "type": "float32"}]
    assert report.rows({"arrays": arrays, "functions": []}) == [("fc_weight", "(1, 2) float32")]


def test_programs_get_the_files_too():
    assert report.as_dict(ONNX, [Path("a/b.onnx")]) == {"files": ["a/b.onnx"], **ONNX}
