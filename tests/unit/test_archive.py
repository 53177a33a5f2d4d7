"""archive: what goes into a .mar, what stays out, and that its bytes tell nothing else."""

from __future__ import annotations

import json
import os
import zipfile

import pytest

from mms_handler import archive
from mms_handler.errors import ArchiveError, ScriptError


@pytest.fixture
def model_dir(tmp_path):
    return put(
        tmp_path / "digits",
        **{
            "model-0000.params": "weights",
            "model-symbol.json": "{}",
            "code/inference.py": "x = 1\n",
            "code/lib/helper.py": "y = 2\n",
            "labels.txt": "zero\none\n",
        },
    )


def put(folder, **files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def entries(path):
    with zipfile.ZipFile(path) as mar:
        assert mar.testzip() is None
        return {info.filename: mar.read(info).decode() for info in mar.infolist()}


PACKED = [
    "MAR-INF/MANIFEST.json",
    "code/inference.py",
    "code/lib/helper.py",
    "labels.txt",
    "model-0000.params",
    "model-symbol.json",
]


def test_an_archive_has_the_manifest_and_the_files(tmp_path, model_dir):
    """The manifest comes first, then every file in the order of names, with its bytes."""
    told = []
    target = archive.pack(model_dir, tmp_path / "new" / "digits.mar", packed=told.append)
    inside = entries(target)
    assert target == tmp_path / "new" / "digits.mar"
    assert list(inside) == PACKED
    assert told == PACKED[1:]
    assert inside["code/inference.py"] == "x = 1\n"
    assert inside["model-0000.params"] == "weights"


def test_the_manifest_names_the_model_and_the_handler(tmp_path, model_dir):
    """MMS reads the model's name and entry point from MAR-INF/MANIFEST.json, we the script's."""
    inside = entries(archive.pack(model_dir, tmp_path / "other-name.mar"))
    assert json.loads(inside["MAR-INF/MANIFEST.json"]) == {
        "runtime": "python",
        "model": {
            "modelName": "other-name",
            "handler": "mms_handler.service:handle",
            "script": "inference.py",
        },
        "modelServerVersion": "1.0",
        "implementationVersion": "1.0",
        "specificationVersion": "1.0",
    }


def test_the_same_files_give_the_same_bytes(tmp_path, model_dir):
    """Times, permissions and the order of creation do not show in an archive."""
    one = archive.pack(model_dir, tmp_path / "a" / "digits.mar").read_bytes()
    twin = tmp_path / "elsewhere" / "digits"
    for path in sorted((p for p in model_dir.rglob("*") if p.is_file()), reverse=True):
        copy = twin / path.relative_to(model_dir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o755)
        os.utime(copy, (86_400, 86_400))  # 1970, which a zip cannot write
    assert archive.pack(twin, tmp_path / "b" / "digits.mar").read_bytes() == one


def test_entries_are_plain_files_of_1980(tmp_path, model_dir):
    """Weights are stored, text is compressed, and nothing is executable."""
    with zipfile.ZipFile(archive.pack(model_dir, tmp_path / "digits.mar")) as mar:
        infos = {info.filename: info for info in mar.infolist()}
    assert {info.date_time for info in infos.values()} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.external_attr >> 16 for info in infos.values()} == {0o644}
    assert infos["model-0000.params"].compress_type == zipfile.ZIP_STORED
    assert infos["labels.txt"].compress_type == zipfile.ZIP_DEFLATED


@pytest.mark.parametrize(
    "name",
    [
        ".env",
        ".git/config",
        "code/.ipynb_checkpoints/inference.py",
        "code/__pycache__/inference.cpython-38.pyc",
        "code/old.pyc",
        "__MACOSX/x",
        "MAR-INF/MANIFEST.json",
        "digits.mar",
    ],
)
def test_what_does_not_belong_is_left_out(tmp_path, model_dir, name):
    """Hidden files, compiled Python, archives and what archivers add stay outside."""
    put(model_dir, **{name: "secret"})
    assert list(archive.contents(model_dir)) == PACKED[1:]
    inside = entries(archive.pack(model_dir, tmp_path / "out" / "digits.mar"))
    assert "secret" not in inside.values()


def test_a_nested_manifest_is_a_file_like_any_other(model_dir):
    """MMS's own archiver drops every MANIFEST.json; here only MAR-INF is left out."""
    put(model_dir, **{"code/MANIFEST.json": "{}"})
    assert "code/MANIFEST.json" in archive.contents(model_dir)


@pytest.mark.parametrize("target", ["labels.txt", "code", "/etc/passwd", "nowhere"])
def test_links_are_refused(model_dir, target):
    """A link to a file, a folder, outside or nowhere is refused by name, never followed."""
    (model_dir / "linked").symlink_to(target)
    with pytest.raises(ArchiveError) as caught:
        archive.contents(model_dir)
    assert str(caught.value) == f"{model_dir}/linked is a link; put the file itself there"


def test_links_in_the_code_are_refused(tmp_path, model_dir):
    """The code that takes the place of the model_dir's own has no links either."""
    code = put(tmp_path / "src", **{"inference.py": ""})
    (code / "helper.py").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="is a link"):
        archive.contents(model_dir, code)


def test_another_folder_of_code_takes_the_codes_place(tmp_path, model_dir):
    """With code=folder nothing of the model_dir's code is left, all else is."""
    code = put(tmp_path / "src", **{"serve.py": "new\n", "deep/a.py": "", ".env": "secret"})
    inside = entries(archive.pack(model_dir, tmp_path / "digits.mar", code=code))
    assert list(inside) == [
        "MAR-INF/MANIFEST.json",
        "code/deep/a.py",
        "code/serve.py",
        "labels.txt",
        "model-0000.params",
        "model-symbol.json",
    ]
    assert inside["code/serve.py"] == "new\n"


def test_another_script_takes_the_codes_place(tmp_path, model_dir):
    """With code=file that file alone is the code."""
    code = put(tmp_path, **{"my_script.py": "new\n"}) / "my_script.py"
    inside = entries(archive.pack(model_dir, tmp_path / "digits.mar", code=code))
    assert [name for name in inside if name.startswith("code/")] == ["code/my_script.py"]


@pytest.mark.parametrize(
    "name", ["a", "A-b_c.9", "0", "resnet-18", "x" * 200], ids=lambda name: name[:10]
)
def test_names_that_can_name_a_model(name):
    """Letters, digits, '_', '.' and '-' can, from a letter or digit on."""
    assert archive.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-rf", ".hidden", "..", "_x", "a/b", "a b", "caf\u00e9", "a\n", "a%2f", "a?b"]
)
def test_names_that_cannot_name_a_model(name):
    """What MMS cannot address, or would take for an option, is refused."""
    with pytest.raises(ArchiveError) as caught:
        archive.check_name(name)
    assert str(caught.value) == (
        f"{name!r} cannot name a model: letters, digits, '_', '.' and '-' can, "
        "and the first is a letter or digit"
    )


def test_an_archive_is_replaced_by_force_only(tmp_path, model_dir):
    """What is there stays there, unless force says otherwise."""
    target = put(tmp_path, **{"digits.mar": "old"}) / "digits.mar"
    with pytest.raises(ArchiveError, match=r"digits\.mar is there already; --force replaces it"):
        archive.pack(model_dir, target)
    assert target.read_text() == "old"
    archive.pack(model_dir, target, force=True)
    assert list(entries(target)) == PACKED


def test_a_failure_leaves_nothing_behind(tmp_path, model_dir):
    """An archive is there whole or not at all, and an old one survives."""
    target = put(tmp_path / "out", **{"digits.mar": "old"}) / "digits.mar"

    def full(name):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        archive.pack(model_dir, target, force=True, packed=full)
    assert [path.name for path in target.parent.iterdir()] == ["digits.mar"]
    assert target.read_text() == "old"


def test_which_script_is_asked_when_packing(tmp_path, model_dir):
    """Two possible scripts are refused before a worker would refuse them; a program tells."""
    code = put(tmp_path / "src", **{"a.py": "", "b.py": ""})
    with pytest.raises(ScriptError, match=r"which file is the script\? a\.py, b\.py"):
        archive.pack(model_dir, tmp_path / "digits.mar", code=code)
    assert not (tmp_path / "digits.mar").exists()
    archive.pack(model_dir, tmp_path / "digits.mar", code=code, program="b.py")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: None, "there is no folder {}", id="no folder"),
        pytest.param(lambda path: path.write_text(""), "there is no folder {}", id="a file"),
        pytest.param(lambda path: path.mkdir(), "{} has no files to pack", id="an empty folder"),
        pytest.param(
            lambda path: put(path, **{".env": "secret"}),
            "{} has no files to pack",
            id="only hidden files",
        ),
    ],
)
def test_nothing_to_pack(tmp_path, make, message):
    """MMS would load an empty archive as an empty model; none is made."""
    make(tmp_path / "m")
    with pytest.raises(ArchiveError) as caught:
        archive.pack(tmp_path / "m", tmp_path / "out.mar")
    assert str(caught.value) == message.format(tmp_path / "m")


def test_code_that_is_not_there(tmp_path, model_dir):
    """A mistyped code is an error, not an archive without code."""
    with pytest.raises(ArchiveError, match=r"there is no .*gone"):
        archive.contents(model_dir, tmp_path / "gone")


SHAPES = '[{"name": "data", "shape": [100, 2, 1]}]'
TWO = '[{"name": "a", "shape": [4, 2]}, {"name": "b", "shape": [4]}]'


@pytest.mark.parametrize(
    ("shapes", "sample"),
    [
        pytest.param(SHAPES, "[[[0], [0]]]", id="one input"),
        pytest.param(TWO, '{"a": [[0, 0]], "b": [0]}', id="two inputs"),
    ],
)
def test_a_sample_is_made_of_the_shapes_that_the_default_save_left(tmp_path, shapes, sample):
    """One row of zeros for each input, kept where check finds it."""
    model_dir = tmp_path / "model"
    model_dir.mkdir()
    (model_dir / "model-shapes.json").write_text(shapes)
    inside = entries(archive.pack(model_dir, tmp_path / "m.mar"))
    assert inside["MAR-INF/sample.json"] == sample


def test_a_sample_of_ones_own_is_kept(tmp_path, model_dir):
    """Under its suffix, which tells its type."""
    (tmp_path / "Row.CSV").write_text("1,2")
    inside = entries(archive.pack(model_dir, tmp_path / "m.mar", sample=tmp_path / "Row.CSV"))
    assert inside["MAR-INF/sample.csv"] == "1,2"


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        pytest.param("../out.txt", 0o644, "leads out of", id="a path that leads out"),
        pytest.param("/etc/out.txt", 0o644, "leads out of", id="an absolute path"),
        pytest.param("code/link", 0o120777, "is a link", id="a link"),
    ],
)
def test_an_unsafe_archive_is_not_unpacked(tmp_path, name, mode, words):
    """Not one file of it is written."""
    path = tmp_path / "bad.mar"
    with zipfile.ZipFile(path, "w") as bad:
        bad.writestr("first.txt", "x")
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        bad.writestr(entry, "x")
    with pytest.raises(ArchiveError, match=words):
        archive.unpack(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    assert not (tmp_path / "out.txt").exists()
