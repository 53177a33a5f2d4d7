"""archive: what goes into a .mar, what stays out, and that its bytes tell nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zipfile
from importlib import metadata

import pytest

from mms_handler import archive, manifest
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
    "code/inference.py",
    "code/lib/helper.py",
    "labels.txt",
    "model-0000.params",
    "model-symbol.json",
    "MAR-INF/MANIFEST.json",
]


def test_an_archive_has_the_manifest_and_the_files(tmp_path, model_dir):
    """Every file comes in the order of names, with its bytes; the manifest, with hashes, last."""
    told = []
    target = archive.pack(model_dir, tmp_path / "new" / "digits.mar", progress=told.append)
    inside = entries(target)
    assert target == tmp_path / "new" / "digits.mar"
    assert list(inside) == PACKED
    assert told == [6, 6, 9, 7, 2]  # bytes of each
    assert inside["code/inference.py"] == "x = 1\n"
    assert inside["model-0000.params"] == "weights"


def test_the_manifest_names_the_model_and_the_handler(tmp_path, model_dir):
    """MMS reads the model's name and entry point from MAR-INF/MANIFEST.json, we the script's."""
    inside = entries(archive.pack(model_dir, tmp_path / "other-name.mar"))
    told = json.loads(inside["MAR-INF/MANIFEST.json"])
    assert set(told.pop("mms_handler")) == {"version", "packages", "files"}
    assert told == {
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
    assert {info.external_attr >> 16 for info in infos.values()} == {0o100644}
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
    assert list(archive.contents(model_dir)) == PACKED[:-1]
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
    assert str(caught.value) == f"{model_dir}/linked is a link; replace it with the file itself"


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
        "code/deep/a.py",
        "code/serve.py",
        "labels.txt",
        "model-0000.params",
        "model-symbol.json",
        "MAR-INF/MANIFEST.json",
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
    assert manifest.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-rf", ".hidden", "..", "_x", "a/b", "a b", "caf\u00e9", "a\n", "a%2f", "a?b"]
)
def test_names_that_cannot_name_a_model(name):
    """What MMS cannot address, or would take for an option, is refused."""
    with pytest.raises(ArchiveError) as caught:
        manifest.check_name(name)
    assert str(caught.value) == (
        f"{name!r} is not a valid model name: use letters, digits, '_', '.' and '-', "
        "and start with a letter or digit"
    )


def test_an_archive_is_replaced_by_force_only(tmp_path, model_dir):
    """What is there stays there, unless force says otherwise."""
    target = put(tmp_path, **{"digits.mar": "old"}) / "digits.mar"
    with pytest.raises(ArchiveError, match=r"digits\.mar already exists; --force replaces it"):
        archive.pack(model_dir, target)
    assert target.read_text() == "old"
    archive.pack(model_dir, target, force=True)
    assert list(entries(target)) == PACKED


def test_a_failure_leaves_nothing_behind(tmp_path, model_dir):
    """An archive is there whole or not at all, and an old one survives."""
    target = put(tmp_path / "out", **{"digits.mar": "old"}) / "digits.mar"

    def full(count):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        archive.pack(model_dir, target, force=True, progress=full)
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


def test_a_sample_has_the_type_it_is_said_to_have(tmp_path, model_dir):
    """Where its suffix tells nothing, or it is to be answered in a type of its own."""
    (tmp_path / "words").write_text("one two")
    target = archive.pack(
        model_dir,
        tmp_path / "m.mar",
        sample=tmp_path / "words",
        content_type="text/plain",
        accept="text/csv",
    )
    assert archive.verify(target).sample == (
        "MAR-INF/sample.bin",
        "text/plain",
        "text/csv",
        None,
    )


def test_the_manifest_keeps_hashes_and_versions(tmp_path, model_dir):
    """The SHA-256 of every other entry, and what a prediction depends on."""
    shapes = put(model_dir, **{"model-shapes.json": "[]"})
    found = archive.verify(archive.pack(shapes, tmp_path / "digits.mar"))
    assert found.name == "digits"
    assert found.hashes == {
        "MAR-INF/sample.json": sha256(b"null"),
        "code/inference.py": sha256(b"x = 1\n"),
        "code/lib/helper.py": sha256(b"y = 2\n"),
        "labels.txt": sha256(b"zero\none\n"),
        "model-0000.params": sha256(b"weights"),
        "model-shapes.json": sha256(b"[]"),
        "model-symbol.json": sha256(b"{}"),
    }
    assert found.packages == {
        "mxnet": "1.9.1",
        "numpy": metadata.version("numpy"),
        "python": platform.python_version(),
    }


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_what_is_large_is_stored(tmp_path, model_dir):
    """It would take its time, and if it shrank a lot it would look like a bomb to verify."""
    (model_dir / "zeros.bin").write_bytes(bytes(11_000_000))
    target = archive.pack(model_dir, tmp_path / "digits.mar")
    assert archive.verify(target).hashes["zeros.bin"] == sha256(bytes(11_000_000))
    assert target.stat().st_size > 11_000_000
    assert archive.size(target) == 11_000_030 + len(entries(target)["MAR-INF/MANIFEST.json"])


def test_a_pipe_is_refused(model_dir):
    """It is not left out in silence: whoever put it there wanted it."""
    os.mkfifo(model_dir / "stream")
    with pytest.raises(ArchiveError, match=r"stream is neither a file nor a folder"):
        archive.contents(model_dir)


@pytest.mark.parametrize("name", ["a\\b.txt", "a\nb.txt", "caf\udce9.txt", "mar-inf/manifest.json"])
def test_a_name_that_would_not_be_unpacked_is_not_packed(tmp_path, model_dir, name):
    """What verify refuses is never made."""
    put(model_dir, **{name: "x"})
    with pytest.raises(ArchiveError, match="the entry "):
        archive.pack(model_dir, tmp_path / "out" / "digits.mar")
    assert not list(tmp_path.glob("out/*"))


# --- the trial -------------------------------------------------------------------------------


def test_what_is_tried_is_what_was_packed(tmp_path, model_dir):
    """Unpacked again, with a manifest, in a folder of the model's name."""
    put(model_dir, **{".env": "secret"})
    seen = {}

    def trial(folder, request):
        seen.update({p.relative_to(folder).as_posix(): p.read_bytes() for p in files(folder)})
        assert folder.name == "m"

    archive.pack(model_dir, tmp_path / "m.mar", trial=trial)
    assert sorted(seen) == sorted(PACKED)
    assert json.loads(seen["MAR-INF/MANIFEST.json"])["model"]["script"] == "inference.py"


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_reply_of_the_trial_is_kept(tmp_path, model_dir):
    """Beside the request that it answers."""
    (tmp_path / "row.csv").write_text("1,2")
    reply = {"status": 200, "content_type": "text/csv", "body": "3"}

    def trial(folder, request):
        assert request.body == b"1,2"
        return request._replace(entry=request.entry._replace(reply=reply))

    target = archive.pack(model_dir, tmp_path / "m.mar", sample=tmp_path / "row.csv", trial=trial)
    found = archive.verify(target).sample
    assert found == ("MAR-INF/sample.csv", "text/csv", "*/*", reply)


def test_a_request_that_the_trial_drops_is_not_packed(tmp_path, model_dir):
    """One that was made up and that the script does not take."""
    put(model_dir, **{"model-shapes.json": SHAPES})
    target = archive.pack(model_dir, tmp_path / "m.mar", trial=lambda folder, request: None)
    assert archive.verify(target).sample is None
    assert "MAR-INF/sample.json" not in entries(target)


def test_a_failed_trial_leaves_nothing(tmp_path, model_dir):
    """No archive, not half of one, and no scratch."""

    def trial(folder, request):
        raise ArchiveError("would not load")

    with pytest.raises(ArchiveError, match="would not load"):
        archive.pack(model_dir, tmp_path / "out" / "m.mar", trial=trial)
    assert list((tmp_path / "out").iterdir()) == []


# --- without an archive ----------------------------------------------------------------------


def test_the_entries_of_a_folder(tmp_path, model_dir):
    """What MMS would find, for who makes a folder of links: a manifest without hashes, a sample."""
    put(model_dir, **{"model-shapes.json": SHAPES})
    found = archive.entries(model_dir, "m")
    told = json.loads(found.pop("MAR-INF/MANIFEST.json"))
    assert told["model"] == {
        "modelName": "m",
        "handler": "mms_handler.service:handle",
        "script": "inference.py",
    }
    assert "files" not in told["mms_handler"]
    assert found.pop("MAR-INF/sample.json") == b"[[[0], [0]]]"
    assert found == {name: model_dir / name for name in [*PACKED[:-1], "model-shapes.json"]}
    assert archive.size(model_dir) == 6 + 6 + 9 + 7 + 2 + len(SHAPES)
