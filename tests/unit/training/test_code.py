"""training.code: fetch code from folders, archives, files and S3."""

from __future__ import annotations

import io
import os
import sys
import tarfile

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import code

pytest_plugins = ["local_s3"]


@pytest.fixture
def code_dir(tmp_path):
    return tmp_path / "base" / "code"


@pytest.fixture
def folder(tmp_path):
    """A folder with a script, a sibling in a package, and files that are not copied."""
    folder = tmp_path / "my source"
    for name in ("train.py", "pkg/__init__.py", "pkg/net.json", "__pycache__/x.pyc", ".git/HEAD"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def archive(path, *entries, mode="w:gz"):
    """Write an archive of entries: a name, and maybe type, mode and link target."""
    with tarfile.open(path, mode) as tar:
        for name, *rest in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.linkname = (
                *rest,
                *(tarfile.REGTYPE, 0o644, "")[len(rest) :],
            )
            data = name.encode() if entry.isreg() else b""
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


SOURCE = (("train.py",), ("pkg", tarfile.DIRTYPE), ("pkg/__init__.py",), ("data/a/b.txt",))
FILES = ["data/a/b.txt", "pkg/__init__.py", "train.py"]


# --- from this machine ---


@pytest.mark.parametrize("form", ["{}", "file://{}", "FILE://localhost{}"])
def test_a_folder(folder, code_dir, form):
    """It is copied without caches; the original stays."""
    source = str(folder) if form == "{}" else form.format(str(folder).replace(" ", "%20"))
    assert code.fetch(source, code_dir) == code_dir
    assert files(code_dir) == ["pkg/__init__.py", "pkg/net.json", "train.py"]
    assert (folder / "train.py").exists()


@pytest.mark.parametrize("mode", ["w:gz", "w", "w:bz2", "w:xz"])
@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_an_archive(tmp_path, code_dir, mode, form):
    """It is unpacked, whatever its compression is."""
    path = archive(tmp_path / "sourcedir.tar.gz", *SOURCE, mode=mode)
    code.fetch(form.format(path), code_dir)
    assert files(code_dir) == FILES
    assert (code_dir / "train.py").read_text() == "train.py"


def test_an_archive_of_dots(tmp_path, code_dir):
    """As ``tar -C folder .`` writes it."""
    path = archive(tmp_path / "s.tgz", (".", tarfile.DIRTYPE), ("./train.py",), ("./a/b.py",))
    code.fetch(str(path), code_dir)
    assert files(code_dir) == ["a/b.py", "train.py"]


def test_a_file(tmp_path, code_dir):
    """It is copied under its name."""
    (tmp_path / "mine.py").write_text("x = 1")
    code.fetch(str(tmp_path / "mine.py"), code_dir)
    assert files(code_dir) == ["mine.py"]


def test_modes(tmp_path, code_dir):
    """Executable files stay executable; nothing else of a mode is kept."""
    path = archive(
        tmp_path / "s.tar.gz",
        ("run.sh", tarfile.REGTYPE, 0o6711),
        ("a.py", tarfile.REGTYPE, 0o000),
        ("d", tarfile.DIRTYPE, 0o000),
        ("d/b.py", tarfile.REGTYPE, 0o644),
    )
    code.fetch(str(path), code_dir)
    assert {name: (code_dir / name).stat().st_mode & 0o7777 for name in files(code_dir)} == {
        "run.sh": 0o755,
        "a.py": 0o644,
        "d/b.py": 0o644,
    }


# --- what is there already ---


def test_a_folder_with_files_stays_as_it_is(code_dir):
    """As in the containers, whatever the source is."""
    code_dir.mkdir(parents=True)
    (code_dir / "train.py").write_text("old")
    assert code.fetch("s3://bucket/gone.tar.gz", code_dir) == code_dir
    assert (code_dir / "train.py").read_text() == "old"


def test_replace(tmp_path, folder, code_dir):
    """Files of the same name are replaced, others stay."""
    for name in ("train.py", "own.py", "pkg/own.py"):
        (code_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (code_dir / name).write_text("old")
    code.fetch(str(folder), code_dir, replace=True)
    assert files(code_dir) == [
        "own.py",
        "pkg/__init__.py",
        "pkg/net.json",
        "pkg/own.py",
        "train.py",
    ]
    assert (code_dir / "train.py").read_text() == "train.py"
    assert (code_dir / "own.py").read_text() == "old"


def test_the_code_folder_itself(code_dir):
    """If the source is the code folder, nothing is copied, whether it is empty or not."""
    code_dir.mkdir(parents=True)
    assert code.fetch(str(code_dir), code_dir) == code_dir
    (code_dir / "train.py").write_text("x")
    assert code.fetch(str(code_dir), code_dir, replace=True) == code_dir
    assert files(code_dir) == ["train.py"]


def test_half_a_fetch_is_no_fetch(tmp_path, code_dir):
    """The folder of a process that was killed does not count as code; a failure leaves none."""
    (code_dir / ".mms-handler-killed" / "code").mkdir(parents=True)
    (code_dir / ".mms-handler-killed" / "code" / "half.py").touch()
    bad = archive(tmp_path / "bad.tar.gz", ("train.py",), ("../x.py",))
    with pytest.raises(TrainingError, match=r"the entry '\.\./x\.py' leads outside"):
        code.fetch(str(bad), code_dir)
    assert os.listdir(code_dir) == [".mms-handler-killed"]
    code.fetch(str(archive(tmp_path / "s.tar.gz", *SOURCE)), code_dir)
    assert (code_dir / "train.py").exists()


# --- refused ---


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        pytest.param(("../x.py",), "'../x.py' leads out", id="up"),
        pytest.param(("a/../../x.py",), "'a/../../x.py' leads out", id="up, within"),
        pytest.param(("/tmp/x.py",), "'/tmp/x.py' leads out", id="absolute"),
        pytest.param(("a\\x.py",), "leads out", id="a backslash"),
        pytest.param(("x", tarfile.SYMTYPE, 0, "/etc"), "'x' is a link", id="a symbolic link"),
        pytest.param(("x", tarfile.LNKTYPE, 0, "/etc"), "'x' is a link", id="a hard link"),
        pytest.param(("x", tarfile.CHRTYPE), "'x' is neither", id="a device"),
        pytest.param(("x", tarfile.FIFOTYPE), "'x' is neither", id="a pipe"),
    ],
)
def test_archives_that_are_not_safe(tmp_path, code_dir, entry, message):
    """The error names the entry; nothing is written, not even the entries before it."""
    path = archive(tmp_path / "s.tar.gz", ("train.py",), entry)
    with pytest.raises(TrainingError) as error:
        code.fetch(str(path), code_dir)
    assert message in str(error.value)
    assert os.listdir(code_dir) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"no archive", "s.tar.gz is not a tar archive", id="text"),
        pytest.param(None, "s.tar.gz cannot be unpacked: ", id="cut off"),
    ],
)
def test_broken_archives(tmp_path, code_dir, content, message):
    path = tmp_path / "s.tar.gz"
    if content is None:
        with tarfile.open(path, "w:gz") as tar:
            entry = tarfile.TarInfo("x.py")
            entry.size = 200_000
            tar.addfile(entry, io.BytesIO(os.urandom(entry.size)))
        content = path.read_bytes()[:100_000]
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        code.fetch(str(path), code_dir)
    assert os.listdir(code_dir) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        pytest.param("gone", "the code gone does not exist", id="not there"),
        pytest.param("https://x/y.tar.gz", "use s3://bucket/key.tar.gz, ", id="a web address"),
        pytest.param("file://elsewhere/x", "use s3://bucket/key.tar.gz, ", id="another machine"),
        pytest.param("s3://bucket", "is not an object's address", id="a bucket"),
        pytest.param("s3://bucket/", "is not an object's address", id="a bucket's top"),
    ],
)
def test_sources_that_cannot_be(tmp_path, code_dir, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError) as error:
        code.fetch(source, code_dir)
    assert message in str(error.value)


def test_a_source_around_the_code_folder(tmp_path, code_dir):
    """It would be copied into itself, with all data."""
    with pytest.raises(TrainingError, match="contains the code folder"):
        code.fetch(str(tmp_path), code_dir)


def test_a_link_to_nothing(folder, code_dir):
    """The error names the file that cannot be copied."""
    (folder / "broken").symlink_to("gone")
    with pytest.raises(TrainingError, match="broken cannot be copied: .*No such file"):
        code.fetch(str(folder), code_dir)


def test_a_code_folder_that_cannot_be_made(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be fetched"):
        code.fetch(str(folder), tmp_path / "file" / "code")


# --- S3 ---


@pytest.mark.parametrize("scheme", ["s3", "S3"])
def test_s3(bucket, tmp_path, code_dir, scheme):
    """An object is downloaded from its region and unpacked, with progress in bytes."""
    path = archive(tmp_path / "s.tar.gz", *SOURCE)
    bucket.put("a/s.tar.gz", path)
    bucket.s3.region = "eu-west-1"
    counts = []
    code.fetch(
        f"{scheme}://bucket/a/s.tar.gz", code_dir, region="eu-west-1", progress=counts.append
    )
    assert files(code_dir) == FILES
    assert sum(counts) == path.stat().st_size
    assert bucket.s3.redirects == 0


def test_s3_file(bucket, code_dir):
    """An object that is not an archive is copied as a file."""
    bucket.put("train?.py", b"x = 1")
    code.fetch("s3://bucket/train?.py", code_dir)
    assert files(code_dir) == ["train?.py"]


def test_s3_folder(bucket, code_dir):
    """The objects of a folder are its files."""
    bucket.put("src/train.py", b"x = 1")
    bucket.put("src/lib/util.py", b"y = 1")
    code.fetch("s3://bucket/src/", code_dir)
    assert files(code_dir) == ["lib/util.py", "train.py"]


def test_s3_breaks(bucket, tmp_path, code_dir):
    """A broken connection is made again; the progress adds up to the object's size."""
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        entry = tarfile.TarInfo("train.py")
        entry.size = 900_000
        tar.addfile(entry, io.BytesIO(b"#" * entry.size))
    bucket.put("s.tar", tmp_path / "s.tar")
    bucket.s3.breaks = 2
    counts = []
    code.fetch("s3://bucket/s.tar", code_dir, progress=counts.append)
    assert (code_dir / "train.py").stat().st_size == 900_000
    assert sum(counts) == (tmp_path / "s.tar").stat().st_size
    assert min(counts) < 0


def test_s3_without_the_object(bucket, code_dir):
    with pytest.raises(TrainingError, match=r"s3://bucket/gone cannot be downloaded: .*NoSuchKey"):
        code.fetch("s3://bucket/gone", code_dir)
    assert os.listdir(code_dir) == []


def test_s3_without_boto3(code_dir, monkeypatch):
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(TrainingError, match=r"pip install 'mms_handler\[s3\]'"):
        code.fetch("s3://bucket/s.tar.gz", code_dir)
