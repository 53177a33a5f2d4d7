"""archive.pack, verify, manifest: an int8 graph is packed and described in the manifest."""

from __future__ import annotations

import json
import zipfile

import pytest

from mms_handler import archive, manifest
from mms_handler.archive.quantize import Int8Graph
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
    assert set(read.hashes) == {"net.params", "MAR-INF/int8-symbol.json"}
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
