"""The command export: its files, its report, and how it refuses."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from mms_handler import archive
from mms_handler.cli import main

ROOT = Path(__file__).parents[3]
LINEAR = ROOT / "model_archives" / "linear"


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run the command in an empty folder; returns its exit code, its output and its errors."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        monkeypatch.setattr(sys, "argv", ["mms-handler", "export", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        return (caught.value.code or 0, *capfd.readouterr())

    return invoke


def test_an_archive_is_exported_by_its_sample(run, tmp_path):
    request = tmp_path / "row.json"
    request.write_text("[[3, 4]]")
    archive.pack(LINEAR, tmp_path / "linear.mar", sample=request)
    code, output, error = run(tmp_path / "linear.mar", "--to", "onnx", "--as", "triton", "--json")
    assert code == 0, error
    report = json.loads(output)
    assert report["files"] == [
        "model_repository/linear/config.pbtxt",
        "model_repository/linear/1/model.onnx",
    ]
    assert report["outputs"] == [{"name": "lro_output", "shape": ["N", 1], "type": "float32"}]
    assert (tmp_path / report["files"][1]).stat().st_size > 100


def test_a_folder_is_exported_by_zeros_in_its_shapes(run, tmp_path):
    code, output, error = run(LINEAR, "--to", "onnx", "--name", "line")
    lines = output.splitlines()
    assert code == 0, error
    assert lines[0].split() == ["input", "data", "(N,", "2)", "float32"]
    assert lines[1].split() == ["output", "lro_output", "(N,", "1)", "float32"]
    assert lines[-1].startswith("line.onnx  ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["line.onnx"]


def test_weights_are_written_for_numpy(run, tmp_path):
    code, output, error = run(LINEAR, "--to", "npz", "--output", "out.npz")
    assert code == 0, error
    assert "fc1_weight  (1, 2) float32" in output
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert arrays["fc1_weight"].shape == (1, 2)


def test_a_model_without_a_sample_is_refused(run, tmp_path):
    shutil.copytree(LINEAR, tmp_path / "bare")
    (tmp_path / "bare" / "model-shapes.json").unlink()
    code, _, error = run(tmp_path / "bare", "--to", "onnx")
    assert code == 1
    assert "bare has no sample request" in error
    assert "add --sample FILE" in error
    assert not (tmp_path / "bare.onnx").exists()


def test_a_file_that_exists_is_kept(run, tmp_path):
    (tmp_path / "linear.onnx").write_text("mine")
    code, _, error = run(LINEAR, "--to", "onnx")
    assert code == 1
    assert "linear.onnx already exists; --force replaces it" in error
    assert (tmp_path / "linear.onnx").read_text() == "mine"


def test_a_model_does_not_replace_itself(run, tmp_path):
    (tmp_path / "linear.tar.gz").write_text("mine")
    options = "--to", "onnx", "--as", "sagemaker", "--force"
    code, _, error = run("linear.tar.gz", *options)
    assert code == 2
    assert "linear.tar.gz is the model itself; name another file with --output" in error
    assert (tmp_path / "linear.tar.gz").read_text() == "mine"


def test_a_missing_package_names_the_extra(run, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    code, _, error = run(LINEAR, "--to", "onnx")
    assert code == 1
    assert "onnxruntime, which is not installed: pip install 'mms_handler[onnx]'" in error


def test_what_is_no_archive_is_refused(run):
    code, _, error = run(ROOT / "README.md", "--to", "onnx")
    assert code == 1
    assert "README.md is neither a .mar nor a model.tar.gz" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "npz", "--as", "triton"], "--as only works with --to onnx, not --to npz"),
        (["--to", "npz", "--tolerance", "1"], "--tolerance only works with --to onnx"),
        (["--to", "onnx", "--max-batch-size", "4"], "--max-batch-size only works with --as"),
        ([], "Missing option '--to'"),
        (["--to", "onnx", "--tolerance", "0"], "0.0 is not in the range x>0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message, run):
    code, _, error = run(LINEAR, *options)
    assert code == 2
    assert message in error
