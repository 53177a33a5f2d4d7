"""models: what the process that exports a model is given, and what becomes of its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from mms_handler import archive
from mms_handler.archive import child
from mms_handler.errors import ArchiveError
from mms_handler.export import TOLERANCE, export_npz, export_onnx

LINEAR = Path(__file__).parents[3] / "model_archives" / "linear"


@pytest.fixture
def process(monkeypatch):
    """The process that exports: what it was given, and what it reports."""

    class Process:
        report = {"rows": True}
        given: tuple

    def run(command, folder, target, *options):
        assert command == "export-model"
        names = {path.name for path in Path(folder).iterdir()}
        assert {"model-symbol.json", "model-0000.params"} <= names
        request = [Path(path).read_bytes() for path in options[:1]]
        Process.given = (*request, *options[1:])
        Path(target).write_bytes(b"exported")
        return Process.report

    monkeypatch.setattr(child, "run", run)
    return Process


def test_the_tolerance():
    assert TOLERANCE == 1e-5


def test_a_sample_that_is_named(process, tmp_path):
    """Its type is that of its name, or as given."""
    (tmp_path / "row.csv").write_text("3,4\n")
    exported = export_onnx(LINEAR, tmp_path / "row.csv")
    assert exported == (b"exported", {"rows": True})
    assert process.given == (b"3,4\n", "text/csv", "1e-05")
    export_onnx(LINEAR, tmp_path / "row.csv", "text/plain", 0.5)
    assert process.given == (b"3,4\n", "text/plain", "0.5")


def test_the_packed_sample(process, tmp_path):
    (tmp_path / "row.json").write_text("[[3, 4]]")
    mar = archive.pack(LINEAR, tmp_path / "linear.mar", sample=tmp_path / "row.json")
    export_onnx(mar)
    assert process.given == (b"[[3, 4]]", "application/json", "1e-05")


def test_weights_need_no_sample(process):
    assert export_npz(LINEAR) == (b"exported", {"rows": True})
    assert process.given == ()


@pytest.mark.parametrize("export", [export_onnx, export_npz])
def test_what_cannot_be_exported_says_why(process, export):
    process.report = {"error": "it has no weights"}
    with pytest.raises(ArchiveError, match=r"linear is not exported: it has no weights$"):
        export(LINEAR)
