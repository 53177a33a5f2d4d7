"""archive.pack, verify, manifest: an ONNX twin is packed and described in the manifest."""

from __future__ import annotations

import json
import zipfile

import pytest

from mms_handler import archive, manifest
from mms_handler.archive import child
from mms_handler.archive.samples import SampleRequest
from mms_handler.archive.twin import OnnxTwin, make_twin
from mms_handler.errors import ArchiveError
from mms_handler.manifest import PARTS, TWIN, Sample, Twin

ENTRY = Twin(
    file=TWIN, sha256="a1", inputs=["data"], shapes=[[4]], fixed=True, outputs=["out"],
    max_rows=8, cases=13, difference=3e-7, tolerance=1e-5, gain=2.5,
)  # fmt: skip

REQUEST = SampleRequest(Sample("MAR-INF/sample.json", "application/json", "*/*"), b"[1]")


@pytest.fixture
def packed(tmp_path):
    """An archive with a twin that was made from the folder that MMS would unpack."""
    asked = []

    def maker(folder, request):
        asked.append((sorted(path.name for path in folder.iterdir()), request))
        return OnnxTwin(ENTRY, b"onnx", "")

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "net.params").write_text("weights")
    path = archive.pack(tmp_path / "m", tmp_path / "m.mar", twin_maker=maker)
    assert asked == [(["MAR-INF", "net.params"], None)]
    return path


def test_a_twin_is_packed(packed):
    """It has a hash like every entry, and the unpacked folder has it, too."""
    read = archive.verify(packed)
    assert read.twin == ENTRY
    assert set(read.hashes) == {"net.params", TWIN, PARTS}
    archive.unpack(packed, packed.parent / "there")
    assert manifest.read_folder(packed.parent / "there").twin == ENTRY
    assert (packed.parent / "there" / TWIN).read_bytes() == b"onnx"


def test_without_a_twin_there_is_no_entry(tmp_path):
    (tmp_path / "net.params").write_text("weights")
    assert archive.verify(archive.pack(tmp_path, tmp_path / "m.mar")).twin is None


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../twin.onnx"},
        {"sha256": 1},
        {"inputs": []},
        {"inputs": [1]},
        {"inputs": "data"},
        {"outputs": []},
        {"shapes": []},
        {"shapes": [[0]]},
        {"shapes": [["N"]]},
        {"shapes": [4]},
        {"fixed": 1},
        {"max_rows": 0},
        {"max_rows": 1.5},
        {"cases": 0},
        {"difference": -1},
        {"tolerance": float("inf")},
        {"gain": "2"},
        {"gain": float("nan")},
        {"more": 1},
    ],
    ids=str,
)
def test_an_invalid_entry_for_a_twin(change):
    """The manifest is refused."""
    decoded = json.loads(manifest.encode("m", None, {}, twin=ENTRY))
    decoded["mms_handler"]["twin"].update(change)
    with pytest.raises(ArchiveError, match="is not a valid manifest"):
        manifest.read(json.dumps(decoded).encode())


def test_a_twin_that_is_missing(packed, tmp_path):
    """The archive is refused before it is registered."""
    with zipfile.ZipFile(packed) as mar, zipfile.ZipFile(tmp_path / "other.mar", "w") as other:
        for name in mar.namelist():
            if name != TWIN:
                other.writestr(name, mar.read(name))
    with pytest.raises(
        ArchiveError, match="the manifest's ONNX twin 'MAR-INF/twin.onnx' is not in the archive"
    ):
        archive.verify(tmp_path / "other.mar")


# --- what is made of the report of the process that makes a twin -------------------------------


@pytest.fixture
def report(monkeypatch):
    """The process writes a twin, and this report."""
    report = {"entry": ENTRY._asdict()}

    def run(command, folder, target, body, content_type, accept):
        assert (command, folder.name, content_type, accept) == (
            "twin", "m", "application/json", "*/*"
        )  # fmt: skip
        with open(body, "rb") as file:
            assert file.read() == b"[1]"
        with open(target, "wb") as file:
            file.write(b"onnx")
        return report

    monkeypatch.setattr(child, "run", run)
    return report


def test_what_is_said_of_a_twin(report, tmp_path):
    twin = make_twin(tmp_path / "m", REQUEST)
    assert (twin.entry, twin.content) == (ENTRY, b"onnx")
    assert twin.summary == (
        "onnx: agrees for 13 inputs, differences 3e-07 at most of the largest value; 2.50 times as "
        "fast as MXNet"
    )


def test_a_twin_that_cannot_be_made(report, tmp_path):
    report["error"] = "no reason"
    with pytest.raises(ArchiveError, match="cannot make an ONNX twin of m: no reason"):
        make_twin(tmp_path / "m", REQUEST)
