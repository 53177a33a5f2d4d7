"""archive.pack, verify, manifest: an int8 graph is packed and described in the manifest."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from mms_handler import archive, manifest
from mms_handler.archive import child
from mms_handler.archive.quantize import CalibrationRequest, Int8Graph, quantize
from mms_handler.errors import ArchiveError
from mms_handler.manifest import Quantized

ENTRY = Quantized("int8", "MAR-INF/int8-symbol.json", 39, 40, 30, 10, 9, 0.008, 0.043)


@pytest.fixture
def packed(tmp_path):
    """An archive with a graph that was made from the folder that MMS would unpack."""
    names = []

    def quantizer(folder):
        names.extend(path.name for path in folder.iterdir())
        return Int8Graph(ENTRY, b'{"nodes": []}', "")

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "net.params").write_text("weights")
    path = archive.pack(tmp_path / "m", tmp_path / "m.mar", quantizer=quantizer)
    assert sorted(names) == ["MAR-INF", "net.params"]
    return path


def test_a_graph_is_packed(packed):
    """It has a hash like every entry, and the unpacked folder has it, too."""
    read = archive.verify(packed)
    assert read.quantized == ENTRY
    assert set(read.hashes) == {"net.params", "MAR-INF/int8-symbol.json", "MAR-INF/bom.json"}
    archive.unpack(packed, packed.parent / "there")
    assert manifest.read_folder(packed.parent / "there").quantized == ENTRY
    assert (packed.parent / "there" / ENTRY.symbol).read_text() == '{"nodes": []}'


def test_without_a_graph_there_is_no_entry(tmp_path):
    (tmp_path / "net.params").write_text("weights")
    read = archive.verify(archive.pack(tmp_path, tmp_path / "m.mar"))
    assert read.quantized is None
    assert manifest.read_folder(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"type": "int4"},
        {"symbol": "../int8-symbol.json"},
        {"most": -1},
        {"most": float("nan")},
        {"most": "0.1"},
        {"more": 1},
    ],
    ids=["another type", "another entry", "negative", "NaN", "a string", "an extra key"],
)
def test_an_invalid_entry_for_a_graph(change):
    """The manifest is refused."""
    decoded = json.loads(manifest.encode("m", None, {}, None, ENTRY))
    decoded["mms_handler"]["quantized"].update(change)
    with pytest.raises(ArchiveError, match="is not a valid manifest"):
        manifest.read(json.dumps(decoded).encode())


def test_a_graph_that_is_missing(packed, tmp_path):
    """The archive is refused before it is registered."""
    with zipfile.ZipFile(packed) as mar, zipfile.ZipFile(tmp_path / "other.mar", "w") as other:
        for name in mar.namelist():
            if name != ENTRY.symbol:
                other.writestr(name, mar.read(name))
    with pytest.raises(
        ArchiveError, match="the manifest's graph 'MAR-INF/int8-symbol.json' is not in"
    ):
        archive.verify(tmp_path / "other.mar")


# --- what is made of the report of the process that makes a graph ------------------------------

REPORT = {
    **dict(zip(manifest.QUANTIZED_KEYS[2:], ENTRY[2:])),
    "part": 0.9,
    "speed": "2 times as fast",
    "symbol": '{"nodes": []}',
}
TOP = "top-1 agrees on 9 of 10 rows, "
DIFFERENCES = "differences 0.8% mean, 4.3% at most, of the largest value"


@pytest.fixture
def asked(monkeypatch):
    """Answer with ``.report``; ``.requests`` are those that were listed for the process."""

    def run(command, folder, listed):
        assert (command, folder.name) == ("quantize", "m")
        asked.requests = json.loads(Path(listed).read_text())
        return asked.report

    def asked():
        pass

    asked.report = REPORT
    monkeypatch.setattr(child, "run", run)
    return asked


def test_a_graph_that_agrees(asked, tmp_path):
    """At exactly the part that must agree, too."""
    requests = [CalibrationRequest(tmp_path / "a" / ".." / "1.csv", "text/csv")]
    graph = quantize(tmp_path / "m", requests, 0.9)
    assert asked.requests == [[str(tmp_path / "1.csv"), "text/csv"]]
    summary = f"int8: 39 of 40 operators, from 30 requests; {TOP}{DIFFERENCES}; 2 times as fast"
    assert graph == (ENTRY, b'{"nodes": []}', summary)
    asked.report = {**REPORT, "rows": 0, "top": 0}  # no scores
    assert f"30 requests; {DIFFERENCES}" in quantize(tmp_path / "m", [], 0.9).summary


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"part": 0.94},
            f"the int8 graph of m does not agree with the model: {TOP}{DIFFERENCES}; ",
        ),
        ({"part": float("nan")}, "at least 95% must agree (--min-agreement)"),
        ({"error": "no convolution"}, "cannot make an int8 graph of m: no convolution"),
    ],
)
def test_a_graph_that_is_not_packed(asked, tmp_path, change, reason):
    asked.report = {**REPORT, **change}
    with pytest.raises(ArchiveError) as caught:
        quantize(tmp_path / "m", [])
    assert reason in str(caught.value)
