"""manifest, packing, zips: an int8 graph is kept beside the model, and told of in the manifest."""

from __future__ import annotations

import json
import zipfile

import pytest

from mms_handler import archive, manifest
from mms_handler.archive.quantize import Int8Graph
from mms_handler.errors import ArchiveError
from mms_handler.manifest import Quantized

TOLD = Quantized("int8", "MAR-INF/int8-symbol.json", 39, 40, 30, 10, 9, 0.008, 0.043)


@pytest.fixture
def packed(tmp_path):
    """An archive with a graph that was found in what MMS would unpack."""
    seen = []

    def quantizer(folder):
        seen.extend(path.name for path in folder.iterdir())
        return Int8Graph(TOLD, b'{"nodes": []}', "")

    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "net.params").write_text("weights")
    path = archive.pack(tmp_path / "m", tmp_path / "m.mar", quantizer=quantizer)
    assert sorted(seen) == ["MAR-INF", "net.params"]
    return path


def test_a_graph_is_packed_and_told_of(packed):
    """Hashed like every entry, and found again where the archive is unpacked."""
    found = archive.verify(packed)
    assert found.quantized == TOLD
    assert set(found.hashes) == {"net.params", "MAR-INF/int8-symbol.json"}
    archive.unpack(packed, packed.parent / "there")
    assert manifest.read_folder(packed.parent / "there").quantized == TOLD
    assert (packed.parent / "there" / TOLD.symbol).read_text() == '{"nodes": []}'


def test_without_a_graph_nothing_is_told(tmp_path):
    (tmp_path / "net.params").write_text("weights")
    found = archive.verify(archive.pack(tmp_path, tmp_path / "m.mar"))
    assert found.quantized is None
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
    ids=["another type", "another entry", "less than none", "no number", "text", "more"],
)
def test_a_manifest_that_tells_something_else(change):
    """It is none of ours."""
    told = json.loads(manifest.encode("m", None, {}, None, TOLD))
    told["mms_handler"]["quantized"].update(change)
    with pytest.raises(ArchiveError, match="is not a valid manifest"):
        manifest.read(json.dumps(told).encode())


def test_a_graph_that_is_not_there(packed, tmp_path):
    """The archive is refused before it is registered."""
    with zipfile.ZipFile(packed) as mar, zipfile.ZipFile(tmp_path / "less.mar", "w") as less:
        for name in mar.namelist():
            if name != TOLD.symbol:
                less.writestr(name, mar.read(name))
    with pytest.raises(
        ArchiveError, match="the manifest's graph 'MAR-INF/int8-symbol.json' is not in"
    ):
        archive.verify(tmp_path / "less.mar")
