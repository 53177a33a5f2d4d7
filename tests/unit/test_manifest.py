"""manifest: what is written and read; what is not one is refused, whatever it is instead."""

from __future__ import annotations

import json
import platform

import numpy as np
import pytest

from mms_handler import __version__, manifest
from mms_handler.errors import ArchiveError
from mms_handler.schema import Schema, Tensor

MODEL = {"modelName": "m", "handler": "mms_handler.service:handle"}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"{", "JSONDecodeError", id="not JSON"),
        pytest.param(b"\xff", "UnicodeDecodeError", id="not UTF-8"),
        pytest.param({"model": MODEL, "mms_handler": []}, "AttributeError", id="a list"),
        pytest.param({"model": MODEL, "mms_handler": "x"}, "AttributeError", id="a text"),
        pytest.param(
            {"model": MODEL, "mms_handler": {"sample": [1]}}, "TypeError", id="a list for a sample"
        ),
        pytest.param({"model": []}, "TypeError", id="a list for the model"),
        pytest.param({"mms_handler": {}}, "KeyError", id="no model"),
        pytest.param([MODEL], "TypeError", id="a list for all"),
        pytest.param(b"[" * 100_000, "RecursionError", id="nested too deep"),
    ],
)
def test_what_is_no_manifest(content, error):
    """One error of ours, with the reason, for each exception of Python's."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(ArchiveError) as caught:
        manifest.read(text)
    message = str(caught.value)
    assert message.startswith(f"MAR-INF/MANIFEST.json is not a valid manifest: {error}(")


# --- writing and reading ---------------------------------------------------------------------

SAMPLE = manifest.Sample("MAR-INF/sample.csv", "text/csv", "*/*", {"status": 200})
QUANTIZED = manifest.Quantized("int8", "MAR-INF/int8-symbol.json", 3, 5, 7, 9, 8, 0.25, 0.5)


def test_what_is_written():
    """As MMS reads it, with our part."""
    written = manifest.encode("iris", "serve.py", {"b": "2", "a": "1"}, SAMPLE, QUANTIZED)
    assert written.startswith(b'{\n  "runtime": "python",\n  "model": {\n    "modelName": "iris"')
    content = json.loads(written)
    extension = content.pop("mms_handler")
    assert content == {
        "runtime": "python",
        "model": {
            "modelName": "iris",
            "handler": "mms_handler.service:handle",
            "script": "serve.py",
        },
        "modelServerVersion": "1.0",
        "implementationVersion": "1.0",
        "specificationVersion": "1.0",
    }
    packages = extension.pop("packages")
    assert list(packages) == sorted({"python", "numpy", "mxnet"} & packages.keys())
    assert packages["python"] == platform.python_version()
    assert packages["numpy"] == np.__version__
    assert extension == {
        "version": __version__,
        "files": {"a": "1", "b": "2"},
        "sample": {
            "name": "MAR-INF/sample.csv",
            "content_type": "text/csv",
            "accept": "*/*",
            "reply": {"status": 200},
        },
        "quantized": {
            "type": "int8",
            "symbol": "MAR-INF/int8-symbol.json",
            "operators": 3,
            "of": 5,
            "inputs": 7,
            "rows": 9,
            "top": 8,
            "mean": 0.25,
            "most": 0.5,
        },
    }
    assert list(extension["files"]) == ["a", "b"]
    read = manifest.read(written)
    assert read[:3] == ("iris", "mms_handler.service:handle", {"a": "1", "b": "2"})
    assert (read.packages, read.sample, read.quantized) == (packages, SAMPLE, QUANTIZED)
    assert manifest.script_name(json.loads(written)) == "serve.py"


def test_what_is_left_out():
    """Of a folder, which has no hashes, and of another tool's archive."""
    content = json.loads(manifest.encode("iris", None, sample=SAMPLE._replace(reply=None)))
    assert "script" not in content["model"]
    assert content["mms_handler"].keys() == {"version", "packages", "sample"}
    assert content["mms_handler"]["sample"].keys() == {"name", "content_type", "accept"}
    assert manifest.read(json.dumps({"model": MODEL}).encode()) == manifest.Manifest(
        "m", "mms_handler.service:handle"
    )


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        ({"files": {"a": 1}}, "1 is not a string"),
        ({"packages": {"a": 1}}, "1 is not a string"),
        ({"sample": {**SAMPLE._asdict(), "name": "sample.csv"}}, "the sample is 'sample.csv'"),
        ({"sample": {**SAMPLE._asdict(), "name": "MAR-INF/sample"}}, "expected MAR-INF/sample wit"),
        ({"sample": {**SAMPLE._asdict(), "name": "MAR-INF/sample.a/../b"}}, "expected MAR-INF/sam"),
        ({"sample": {**SAMPLE._asdict(), "reply": [1]}}, "the sample's reply is"),
        ({"sample": {**SAMPLE._asdict(), "accept": 1}}, "1 is not a string"),
        ({"sample": {**SAMPLE._asdict(), "content_type": 1}}, "1 is not a string"),
        ({"sample": {**SAMPLE._asdict(), "more": 1}}, "more"),
        ({"quantized": {"type": "int8"}}, r"the int8 graph has the keys \['type'\]"),
    ],
)
def test_our_part(extension, reason):
    """Each value is what it must be."""
    text = json.dumps({"model": MODEL, "mms_handler": extension}).encode()
    with pytest.raises(ArchiveError, match=f"is not a valid manifest: .*{reason}"):
        manifest.read(text)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("type", "uint8", "a graph of type 'uint8' is in 'MAR-INF/int8-symbol.json'"),
        ("symbol", "other.json", "a graph of type 'int8' is in 'other.json'"),
        ("of", -1, "the int8 graph's numbers are .*; expected 0 or more"),
        ("mean", "0.5", "the int8 graph's numbers are .*; expected 0 or more"),
    ],
)
def test_the_int8_graphs_entry(field, value, reason):
    entry = {**dict(zip(manifest.QUANTIZED_KEYS, QUANTIZED)), field: value}
    text = json.dumps({"model": MODEL, "mms_handler": {"quantized": entry}}).encode()
    with pytest.raises(ArchiveError, match=reason):
        manifest.read(text)
    entry = dict(zip(manifest.QUANTIZED_KEYS, QUANTIZED._replace(mean_difference=0)))
    text = json.dumps({"model": MODEL, "mms_handler": {"quantized": entry}}).encode()
    assert manifest.read(text).quantized.mean_difference == 0


@pytest.mark.parametrize(
    "content", [None, [], "x", {"model": []}, {"model": {"script": 7}}, {"model": {}}, {}]
)
def test_a_manifest_that_names_no_script(content):
    assert manifest.script_name(content) is None


def test_the_manifest_of_a_folder(tmp_path):
    """It may have none, and then no sample; a folder in its place is none."""
    assert manifest.read_folder(tmp_path) is None
    assert manifest.read_sample(tmp_path) is None
    (tmp_path / "MAR-INF").mkdir()
    (tmp_path / manifest.MANIFEST).write_bytes(manifest.encode("iris", None))
    assert manifest.read_sample(tmp_path) is None
    (tmp_path / manifest.MANIFEST).write_bytes(manifest.encode("iris", None, sample=SAMPLE))
    (tmp_path / SAMPLE.name).write_text("1,2")
    assert manifest.read_folder(tmp_path).name == "iris"
    assert manifest.read_sample(tmp_path) == (SAMPLE, b"1,2")


# --- what tune writes ------------------------------------------------------------------------


def tuned(**entry):
    return json.dumps({"model": MODEL, "mms_handler": {"tuned": entry}}).encode()


def test_tuned_settings_are_written_and_read():
    text = manifest.encode("iris", None, {"a": "1"})
    settings = manifest.Tuned(2, workers=1, batch_size=8)
    written = manifest.with_tuned(text, settings)
    assert manifest.read(written) == manifest.read(text)._replace(tuned=settings)
    assert str(manifest.read(written).tuned) == "workers 1, batch size 8, for 2 cores"
    again = manifest.with_tuned(written, manifest.Tuned(2))
    assert str(manifest.read(again).tuned) == "the defaults, for 2 cores"


@pytest.mark.parametrize(
    "entry",
    [
        {"cpus": 2, "workers": 0},
        {"cpus": 2, "threads": 1025},
        {"cpus": 2, "batch_size": True},
        {"cpus": 2, "core": "on"},
        {"cpus": 2, "optimize": 1},
        {"cpus": "2"},
        {"cpus": 2, "colour": "red"},
        {},
    ],
    ids=str,
)
def test_tuned_settings_that_are_not_valid(entry):
    with pytest.raises(ArchiveError, match="is not a valid manifest"):
        manifest.read(tuned(**entry))


# --- the rest of our part --------------------------------------------------------------------

TWIN = manifest.Twin(
    file="MAR-INF/twin.onnx", sha256="ab", inputs=["x", "y"], shapes=[[2], []], fixed=True,
    outputs=["z"], max_rows=3, cases=4, difference=0, tolerance=1e-5, gain=2.5,
)  # fmt: skip


def test_all_that_may_be_written():
    schema = Schema((Tensor("x", (None, 2), "FP32"),), ())
    handler = "service:handle"
    written = manifest.encode(
        "iris", None, handler=handler, version="2", schema=schema, parts="MAR-INF/a", twin=TWIN
    )
    read = manifest.read(written)
    assert json.loads(written)["model"] == {
        "modelName": "iris", "handler": handler, "modelVersion": "2",
    }  # fmt: skip
    assert (read.handler, read.version, read.schema) == (handler, "2", schema)
    assert (read.parts, read.twin, read.hashes) == ("MAR-INF/a", TWIN, None)
    none = manifest.read(manifest.encode("iris", None))
    assert (none.version, none.schema, none.parts, none.twin) == ("", None, "", None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file": "twin.onnx"}, "the ONNX twin is 'twin.onnx'; expected 'MAR-INF/twin.onnx'"),
        *(
            ({field: value}, "the ONNX twin's names are .*; expected strings")
            for field in ("inputs", "outputs")
            for value in ([], [1], "x", None)
        ),
        *(
            ({"shapes": shapes}, "the ONNX twin's shapes are not a list of lengths for each input")
            for shapes in ([[2]], [[2], [], []], [[2], [0]], [[2], [1.5]], [[2], [True]])
        ),
        *(
            ({field: value}, "the ONNX twin's rows and cases are not counts")
            for field in ("max_rows", "cases")
            for value in (0, True, 1.0)
        ),
        ({"fixed": 1}, "the ONNX twin's rows and cases are not counts"),
        *(
            ({field: value}, "the ONNX twin's numbers are .*; expected 0 or more")
            for field in ("difference", "tolerance", "gain")
            for value in (-0.1, "1", True, float("inf"), float("nan"))
        ),
        ({"sha256": 5}, "5 is not a string"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_the_twins_entry(change, reason):
    text = json.dumps({"model": MODEL, "mms_handler": {"twin": {**TWIN._asdict(), **change}}})
    with pytest.raises(ArchiveError, match=reason):
        manifest.read(text.encode())


@pytest.mark.parametrize("core", [None, "auto", "off"])
@pytest.mark.parametrize("optimize", [None, "on", "off", "float"])
def test_tuned_words(core, optimize):
    """And the limits of the numbers."""
    words = {"core": core, "optimize": optimize, "workers": 1, "threads": 1024}
    read = manifest.read(tuned(cpus=0.5, **words)).tuned
    assert (read.cpus, read.core, read.optimize, read.threads) == (0.5, core, optimize, 1024)


@pytest.mark.parametrize(
    ("handler", "foreign"),
    [("mms_handler.service:handle", None), ("service:handle", "service:handle")],
)
def test_a_handler_of_another_tool(tmp_path, handler, foreign):
    """Nothing is said of a manifest that is missing or not valid."""
    assert manifest.foreign_handler(tmp_path) is None
    path = tmp_path / manifest.MANIFEST
    path.parent.mkdir()
    path.write_text(json.dumps({"model": {**MODEL, "handler": handler}}))
    assert manifest.foreign_handler(tmp_path) == foreign
    path.write_text("{")
    assert manifest.foreign_handler(tmp_path) is None
