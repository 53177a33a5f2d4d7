"""archive.pack: what goes into a .mar, what is left out, and what its bytes depend on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import zipfile
from importlib import metadata

import pytest

from mms_handler import archive, names
from mms_handler.archive.samples import Tried
from mms_handler.errors import ArchiveError, BadInput, ScriptError
from mms_handler.schema import Schema, Tensor
from mms_handler.script.frames import SOURCES


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
    "MAR-INF/bom.json",
    "MAR-INF/MANIFEST.json",
]
FILES = PACKED[:-2]


def test_an_archive_has_the_manifest_and_the_files(tmp_path, model_dir):
    """The files are sorted by name; the manifest, with their hashes, is last."""
    steps = []
    target = archive.pack(model_dir, tmp_path / "new" / "digits.mar", progress=steps.append)
    inside = entries(target)
    assert target == tmp_path / "new" / "digits.mar"
    assert list(inside) == PACKED
    assert steps == [6, 6, 9, 7, 2]  # bytes of each
    assert inside["code/inference.py"] == "x = 1\n"
    assert inside["model-0000.params"] == "weights"


def test_the_manifest_names_the_model_and_the_handler(tmp_path, model_dir):
    """MMS reads the model's name and handler from it, and the worker the script's name."""
    inside = entries(archive.pack(model_dir, tmp_path / "other-name.mar"))
    decoded = json.loads(inside["MAR-INF/MANIFEST.json"])
    assert set(decoded.pop("mms_handler")) == {"version", "packages", "files", "parts"}
    assert decoded == {
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


def test_a_model_with_a_version(tmp_path, model_dir):
    """A server with several versions of the model knows it by this one."""
    target = archive.pack(model_dir, tmp_path / "digits.mar", version="2026-11")
    decoded = json.loads(entries(target)["MAR-INF/MANIFEST.json"])
    assert decoded["model"]["modelVersion"] == "2026-11"
    assert archive.manifest_of(target).version == "2026-11"


def test_what_is_no_version(tmp_path, model_dir):
    with pytest.raises(BadInput, match="^'of today' is no version: use up to 50 letters, digits"):
        archive.pack(model_dir, tmp_path / "digits.mar", version="of today")
    assert not (tmp_path / "digits.mar").exists()


def test_the_same_files_give_the_same_bytes(tmp_path, model_dir):
    """Times, permissions and the order of creation make no difference."""
    packed = archive.pack(model_dir, tmp_path / "a" / "digits.mar").read_bytes()
    twin = tmp_path / "elsewhere" / "digits"
    for path in sorted((p for p in model_dir.rglob("*") if p.is_file()), reverse=True):
        copy = twin / path.relative_to(model_dir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o755)
        os.utime(copy, (86_400, 86_400))  # 1970, which a zip cannot write
    assert archive.pack(twin, tmp_path / "b" / "digits.mar").read_bytes() == packed


def test_entries_are_plain_files_of_1980(tmp_path, model_dir):
    """Weights are stored, text is compressed, and no entry is executable."""
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
        "code/__pycache__/notes.txt",
        "code/old.pyc",
        "__MACOSX/x",
        "MAR-INF/MANIFEST.json",
        "digits.mar",
    ],
)
def test_files_that_are_left_out(tmp_path, model_dir, name):
    """Hidden files, compiled Python, other archives, and folders that archivers add."""
    put(model_dir, **{name: "secret"})
    assert list(archive.contents(model_dir)) == FILES
    inside = entries(archive.pack(model_dir, tmp_path / "out" / "digits.mar"))
    assert "secret" not in inside.values()


def test_a_nested_manifest_is_a_file_like_any_other(model_dir):
    """MMS's own archiver leaves out every MANIFEST.json; here only MAR-INF is left out."""
    put(model_dir, **{"code/MANIFEST.json": "{}"})
    assert "code/MANIFEST.json" in archive.contents(model_dir)


@pytest.mark.parametrize("target", ["labels.txt", "code", "/etc/passwd", "nowhere"])
def test_links_are_refused(model_dir, target):
    """A link to a file, a folder, outside or nowhere is refused by name and never followed."""
    (model_dir / "linked").symlink_to(target)
    with pytest.raises(ArchiveError) as caught:
        archive.contents(model_dir)
    assert str(caught.value) == f"{model_dir}/linked is a link; replace it with the file itself"


def test_links_in_the_code_are_refused(tmp_path, model_dir):
    """Code that is packed instead of model_dir's must not have links, either."""
    code = put(tmp_path / "src", **{"inference.py": ""})
    (code / "helper.py").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveError, match="is a link"):
        archive.contents(model_dir, code)


def test_another_folder_of_code(tmp_path, model_dir):
    """code=folder replaces model_dir's code and nothing else."""
    code = put(tmp_path / "src", **{"serve.py": "new\n", "deep/a.py": "", ".env": "secret"})
    inside = entries(archive.pack(model_dir, tmp_path / "digits.mar", code=code))
    assert list(inside) == [
        "code/deep/a.py",
        "code/serve.py",
        "labels.txt",
        "model-0000.params",
        "model-symbol.json",
        "MAR-INF/bom.json",
        "MAR-INF/MANIFEST.json",
    ]
    assert inside["code/serve.py"] == "new\n"


def test_another_script(tmp_path, model_dir):
    """With code=file, that file is the only code."""
    code = put(tmp_path, **{"my_script.py": "new\n"}) / "my_script.py"
    inside = entries(archive.pack(model_dir, tmp_path / "digits.mar", code=code))
    assert [name for name in inside if name.startswith("code/")] == ["code/my_script.py"]


@pytest.mark.parametrize(
    "name", ["a", "A-b_c.9", "0", "resnet-18", "x" * 200], ids=lambda name: name[:10]
)
def test_valid_model_names(name):
    """Letters, digits, '_', '.' and '-', starting with a letter or digit."""
    assert names.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-rf", ".hidden", "..", "_x", "a/b", "a b", "caf\u00e9", "a\n", "a%2f", "a?b"]
)
def test_invalid_model_names(name):
    """Names that MMS cannot address, or would take for an option."""
    with pytest.raises(ArchiveError) as caught:
        names.check_name(name)
    assert str(caught.value) == (
        f"{name!r} is not a valid model name: use letters, digits, '_', '.' and '-', "
        "and start with a letter or digit"
    )


def test_an_existing_archive_is_replaced_only_by_force(tmp_path, model_dir):
    """Without force it is unchanged."""
    target = put(tmp_path, **{"digits.mar": "old"}) / "digits.mar"
    with pytest.raises(ArchiveError, match=r"digits\.mar already exists; --force replaces it"):
        archive.pack(model_dir, target)
    assert target.read_text() == "old"
    archive.pack(model_dir, target, force=True)
    assert list(entries(target)) == PACKED


def test_a_failure_leaves_nothing_behind(tmp_path, model_dir):
    """No part of an archive is left, and an old one is unchanged."""
    target = put(tmp_path / "out", **{"digits.mar": "old"}) / "digits.mar"

    def full(count):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        archive.pack(model_dir, target, force=True, progress=full)
    assert [path.name for path in target.parent.iterdir()] == ["digits.mar"]
    assert target.read_text() == "old"


def test_several_possible_scripts(tmp_path, model_dir):
    """They are refused when the model is packed, as a worker would; program names the script."""
    code = put(tmp_path / "src", **{"a.py": "", "b.py": ""})
    with pytest.raises(ScriptError, match=r"several files could be the script: a\.py, b\.py"):
        archive.pack(model_dir, tmp_path / "digits.mar", code=code)
    assert not (tmp_path / "digits.mar").exists()
    archive.pack(model_dir, tmp_path / "digits.mar", code=code, program="b.py")


@pytest.mark.parametrize(
    ("create", "message"),
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
def test_nothing_to_pack(tmp_path, create, message):
    """No empty archive is written: MMS would load it as an empty model."""
    create(tmp_path / "m")
    with pytest.raises(ArchiveError) as caught:
        archive.pack(tmp_path / "m", tmp_path / "out.mar")
    assert str(caught.value) == message.format(tmp_path / "m")


def test_code_that_does_not_exist(tmp_path, model_dir):
    """A mistyped code is an error, not an archive without code."""
    with pytest.raises(ArchiveError, match=r".*gone does not exist$"):
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
def test_a_sample_of_zeros(tmp_path, shapes, sample):
    """One row for each input, in the shapes that the default save wrote."""
    model_dir = tmp_path / "model"
    model_dir.mkdir()
    (model_dir / "model-shapes.json").write_text(shapes)
    inside = entries(archive.pack(model_dir, tmp_path / "m.mar"))
    assert inside["MAR-INF/sample.json"] == sample


def test_a_sample_from_a_file(tmp_path, model_dir):
    """It keeps its suffix, which gives its type."""
    (tmp_path / "Row.CSV").write_text("1,2")
    inside = entries(archive.pack(model_dir, tmp_path / "m.mar", sample=tmp_path / "Row.CSV"))
    assert inside["MAR-INF/sample.csv"] == "1,2"


def test_a_sample_with_its_own_types(tmp_path, model_dir):
    """Its Content-Type and Accept may be given, for example if its suffix gives no type."""
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
    """The SHA-256 of every other entry, and the versions of what predictions depend on."""
    shapes = put(model_dir, **{"model-shapes.json": "[]"})
    read = archive.verify(archive.pack(shapes, tmp_path / "digits.mar"))
    assert read.name == "digits"
    assert {**read.hashes, "MAR-INF/bom.json": ""} == {
        "MAR-INF/bom.json": "",
        "MAR-INF/sample.json": sha256(b"null"),
        "code/inference.py": sha256(b"x = 1\n"),
        "code/lib/helper.py": sha256(b"y = 2\n"),
        "labels.txt": sha256(b"zero\none\n"),
        "model-0000.params": sha256(b"weights"),
        "model-shapes.json": sha256(b"[]"),
        "model-symbol.json": sha256(b"{}"),
    }
    assert read.packages == {
        "mxnet": "1.9.1",
        "numpy": metadata.version("numpy"),
        "python": platform.python_version(),
    }


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_large_files_are_stored(tmp_path, model_dir):
    """Compressing takes time, and a file that shrinks a lot would look like a bomb to verify."""
    (model_dir / "zeros.bin").write_bytes(bytes(11_000_000))
    target = archive.pack(model_dir, tmp_path / "digits.mar")
    assert archive.verify(target).hashes["zeros.bin"] == sha256(bytes(11_000_000))
    assert target.stat().st_size > 11_000_000
    inside = entries(target)
    ours = len(inside["MAR-INF/bom.json"]) + len(inside["MAR-INF/MANIFEST.json"])
    assert archive.size(target) == 11_000_030 + ours


def test_a_pipe_is_refused(model_dir):
    """It is not left out silently: somebody may need it."""
    os.mkfifo(model_dir / "stream")
    with pytest.raises(ArchiveError, match=r"stream is neither a file nor a folder"):
        archive.contents(model_dir)


@pytest.mark.parametrize("name", ["a\\b.txt", "a\nb.txt", "caf\udce9.txt", "mar-inf/manifest.json"])
def test_unsafe_names_are_not_packed(tmp_path, model_dir, name):
    """pack writes no archive that verify refuses."""
    put(model_dir, **{name: "x"})
    with pytest.raises(ArchiveError, match="the entry "):
        archive.pack(model_dir, tmp_path / "out" / "digits.mar")
    assert not list(tmp_path.glob("out/*"))


# --- the trial -------------------------------------------------------------------------------


def test_the_trial_gets_the_packed_files(tmp_path, model_dir):
    """They are unpacked again, with a manifest, into a folder with the model's name.

    Another file says where they came from, for tracebacks.
    """
    put(model_dir, **{".env": "secret"})
    tried = {}

    def trial(folder, request):
        tried.update({p.relative_to(folder).as_posix(): p.read_bytes() for p in files(folder)})
        assert folder.name == "m"
        return Tried(request)

    archive.pack(model_dir, tmp_path / "m.mar", trial=trial)
    sources = json.loads(tried.pop(SOURCES))
    assert sorted(tried) == sorted([*FILES, "MAR-INF/MANIFEST.json"])
    assert json.loads(tried["MAR-INF/MANIFEST.json"])["model"]["script"] == "inference.py"
    assert sources[""] == "m"
    assert sources["code/inference.py"] == str(model_dir / "code" / "inference.py")


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_reply_of_the_trial_is_packed(tmp_path, model_dir):
    """With the sample request, and the model's inputs and outputs."""
    (tmp_path / "row.csv").write_text("1,2")
    schema = Schema((Tensor("data", (None, 2), "FP32"),), (Tensor("y", (None,), "FP32"),))
    reply = {"status": 200, "content_type": "text/csv", "body": "3"}

    def trial(folder, request):
        assert request.body == b"1,2"
        return Tried(request._replace(entry=request.entry._replace(reply=reply)), schema)

    target = archive.pack(model_dir, tmp_path / "m.mar", sample=tmp_path / "row.csv", trial=trial)
    sample = archive.verify(target).sample
    assert sample == ("MAR-INF/sample.csv", "text/csv", "*/*", reply)
    assert archive.verify(target).schema == schema


def test_a_request_that_the_trial_drops_is_not_packed(tmp_path, model_dir):
    """For example a generated one that the script refuses."""
    put(model_dir, **{"model-shapes.json": SHAPES})
    target = archive.pack(model_dir, tmp_path / "m.mar", trial=lambda folder, request: Tried(None))
    assert archive.verify(target).sample is None
    assert "MAR-INF/sample.json" not in entries(target)


def test_a_failed_trial_leaves_nothing(tmp_path, model_dir):
    """No archive, no part of one, and no scratch folder."""

    def trial(folder, request):
        raise ArchiveError("does not load")

    with pytest.raises(ArchiveError, match="does not load"):
        archive.pack(model_dir, tmp_path / "out" / "m.mar", trial=trial)
    assert list((tmp_path / "out").iterdir()) == []


# --- without an archive ----------------------------------------------------------------------


def test_the_entries_of_a_folder(tmp_path, model_dir):
    """The files, a manifest without hashes, and a sample: enough to make a folder of links."""
    put(model_dir, **{"model-shapes.json": SHAPES})
    entries = archive.entries(model_dir, "m")
    decoded = json.loads(entries.pop("MAR-INF/MANIFEST.json"))
    assert decoded["model"] == {
        "modelName": "m",
        "handler": "mms_handler.service:handle",
        "script": "inference.py",
    }
    assert "files" not in decoded["mms_handler"]
    assert decoded["mms_handler"]["sample"] == {
        "name": "MAR-INF/sample.json",
        "content_type": "application/json",
        "accept": "*/*",
    }
    assert entries.pop("MAR-INF/sample.json") == b"[[[0], [0]]]"
    assert entries == {name: model_dir / name for name in [*FILES, "model-shapes.json"]}
    assert archive.size(model_dir) == 6 + 6 + 9 + 7 + 2 + len(SHAPES)
