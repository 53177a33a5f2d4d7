"""The commands archive, check, verify and convert, and their archives in a real MMS."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import zipfile

import pytest
from running_mms import BIN, EXAMPLES

from mms_handler import archive


def run(
    *arguments: object, cwd=None, stderr=subprocess.PIPE, **env: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(BIN / "mms-handler"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=cwd,
        env={**os.environ, **env},
        timeout=120,
    )


def succeeds(*arguments: object, **kwargs: str) -> list[str]:
    """Run a command that must succeed, and return the lines it prints."""
    process = run(*arguments, **kwargs)
    assert process.returncode == 0, process.stderr.decode()
    return process.stdout.decode().splitlines()


def fails(*arguments: object, **kwargs: str) -> str:
    """Run a command that must fail, and return the last line on standard error."""
    process = run(*arguments, **kwargs)
    assert process.returncode == 1, process.stdout.decode()
    return process.stderr.decode().splitlines()[-1]


def tree(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def script(folder, source, **files):
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "inference.py").write_text(source)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def packed_reply(path):
    """The reply to its sample that an archive keeps."""
    with zipfile.ZipFile(path) as mar:
        manifest = json.loads(mar.read("MAR-INF/MANIFEST.json"))
    return manifest["mms_handler"].get("sample", {}).get("reply")


# --- archive ---------------------------------------------------------------------------------


def test_from_a_folder_to_a_tar_and_back_the_reply_is_the_same(front, tmp_path):
    """archive, convert, convert: MMS serves the first and the last archive with the same reply."""
    (line,) = succeeds(
        "archive", EXAMPLES / "gluon_blocks", "--name", "there", "--model-store", tmp_path
    )
    assert line.startswith(f"{tmp_path / 'there.mar'}  ")
    (line,) = succeeds("convert", tmp_path / "there.mar", "--model-store", tmp_path)
    assert line.startswith(f"{tmp_path / 'there.tar.gz'}  ")
    succeeds("convert", tmp_path / "there.tar.gz", "--name", "back", "--model-store", tmp_path)
    for name in ("there", "back"):
        shutil.copy(tmp_path / f"{name}.mar", front.store)
        assert front.add(name).status == 200
        assert front.ask(name, b"5.1,3.5,1.4,0.2", "text/csv").body == b'["setosa"]'


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    """Including the reply of the loaded model, from any path and at any time."""
    succeeds("archive", EXAMPLES / "linear", "--model-store", tmp_path / "1")
    shutil.copytree(EXAMPLES / "linear", tmp_path / "deep" / "linear")
    for path in (tmp_path / "deep" / "linear").iterdir():
        os.utime(path, (86_400, 86_400))
    succeeds("archive", "linear", "--model-store", "2", cwd=tmp_path / "deep", TMPDIR=str(tmp_path))
    first = (tmp_path / "1" / "linear.mar").read_bytes()
    assert (tmp_path / "deep" / "2" / "linear.mar").read_bytes() == first
    assert packed_reply(tmp_path / "1" / "linear.mar") == {
        "status": 200,
        "content_type": "application/json",
        "body": "[[2.4798819140414707e-06]]",  # zeros in, the Module's bias out
    }


TIME = "import time\ndef transform_fn(model, data, content_type, accept): return str(time.time())"
PLACE = "def model_fn(model_dir): return model_dir\ndef transform_fn(model, data): return model"


@pytest.mark.parametrize("source", [TIME, PLACE], ids=["a time", "a path"])
def test_a_reply_that_changes(tmp_path, source):
    """Its status and type are packed and its body is not, so that the bytes stay the same."""
    model = script(tmp_path / "m", source + "\ndef model_fn(model_dir): return model_dir\n")
    (tmp_path / "a.json").write_text("1")
    for store in ("1", "2"):
        succeeds(
            "archive", model, "--sample", tmp_path / "a.json", "--model-store", tmp_path / store
        )
    first, second = (tmp_path / store / "m.mar" for store in ("1", "2"))
    assert first.read_bytes() == second.read_bytes()
    assert packed_reply(first) == {"status": 200, "content_type": "application/json"}


def test_a_model_that_does_not_load_is_not_packed(tmp_path):
    """The reason is the one that a worker would give."""
    model = script(tmp_path / "broken", "import no_such_library")
    reason = fails("archive", model, "--model-store", tmp_path / "store")
    assert reason == (
        "error: broken does not load: script: ModuleNotFoundError: "
        "No module named 'no_such_library' (code/inference.py, line 1)"
    )
    assert list((tmp_path / "store").iterdir()) == []


def test_a_script_that_needs_a_file_that_is_not_packed(tmp_path):
    """The packed files are checked: a hidden file exists in the folder but not in the archive."""
    source = "def model_fn(model_dir): return open(f'{model_dir}/.key').read()\n" + TIME
    model = script(tmp_path / "keys", source, **{".key": "secret"})
    succeeds("check", model)
    reason = fails("archive", model, "--model-store", tmp_path)
    assert "keys does not load: model_fn: FileNotFoundError" in reason
    assert not (tmp_path / "keys.mar").exists()


def test_a_sample_that_the_model_refuses(tmp_path):
    """A sample of --sample is an error; one that was generated is not packed."""
    model = tmp_path / "linear"
    shutil.copytree(EXAMPLES / "linear", model)
    (tmp_path / "bad.json").write_text("[[1,")
    arguments = ("archive", model, "--model-store", tmp_path)
    assert fails(*arguments, "--sample", tmp_path / "bad.json").startswith(
        "error: the sample request gets 400: not valid application/json"
    )
    assert not (tmp_path / "linear.mar").exists()
    source = "def input_fn(data, content_type): raise ValueError('text, please')\n"
    script(model, source)
    succeeds(*arguments)
    assert packed_reply(tmp_path / "linear.mar") is None
    succeeds("check", tmp_path / "linear.mar")


def test_a_sample_with_its_own_types(tmp_path):
    """--content-type and --accept are packed with it and used by check."""
    source = (
        "def model_fn(model_dir): return 0\n"
        "def transform_fn(model, data, content_type, accept):\n"
        "    return f'{len(data)} of {content_type}', accept\n"
    )
    (tmp_path / "words").write_text("one two")
    model = script(tmp_path / "m", source)
    succeeds(
        "archive", model, "--model-store", tmp_path, "--sample", tmp_path / "words",
        "--content-type", "text/plain", "--accept", "text/csv",
    )  # fmt: skip
    assert packed_reply(tmp_path / "m.mar")["body"] == "7 of text/plain"
    assert "200 text/csv: 7 of text/plain" in "".join(succeeds("check", tmp_path / "m.mar"))


def test_an_archive_that_exists(tmp_path):
    """The command fails before it loads anything; --force replaces the archive."""
    (tmp_path / "linear.mar").write_text("old")
    arguments = ("archive", EXAMPLES / "linear", "--model-store", tmp_path)
    message = f"error: {tmp_path / 'linear.mar'} already exists; --force replaces it"
    assert fails(*arguments) == message
    assert (tmp_path / "linear.mar").read_text() == "old"
    process = run(*arguments, "--force")
    assert (process.returncode, b"%" in process.stderr) == (0, False)  # no bar in a pipe
    assert archive.verify(tmp_path / "linear.mar").name == "linear"


def test_a_terminal_sees_a_bar(tmp_path):
    """The bar goes to standard error, results go to standard output."""
    arguments = ("archive", EXAMPLES / "linear", "--model-store", tmp_path)
    terminal, end = pty.openpty()
    process = run(*arguments, stderr=end, TERM="xterm")
    os.close(end)
    output = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "linear.mar" in output
    assert "%" in output
    assert process.stdout.decode().startswith(f"{tmp_path / 'linear.mar'}  ")


# --- check -----------------------------------------------------------------------------------

FACTOR = """
import os
import mxnet as mx

def model_fn(model_dir):
    return float(os.environ["FACTOR"])

def predict_fn(model, data):
    if model > 100:
        raise ValueError("too large")
    return data * model
"""


@pytest.fixture(scope="module")
def doubling(tmp_path_factory):
    """An archive whose model doubles its input if FACTOR is 2."""
    folder = tmp_path_factory.mktemp("doubling")
    (folder / "row.json").write_text("[[1.5, 3]]")
    model = script(folder / "doubling", FACTOR)
    options = ("--sample", folder / "row.json", "--model-store", folder)
    succeeds("archive", model, *options, FACTOR="2")
    return folder / "doubling.mar"


def test_the_packed_reply(doubling):
    """Numbers may differ from it by less than 1e-4 of themselves."""
    succeeds("check", doubling, FACTOR="2.0001")


@pytest.mark.parametrize(
    ("factor", "current"),
    [
        ("2.001", "200 application/json: [[3.001499891281128, 6.002999782562256]]"),
        (
            "1000",
            "500 application/json: ValueError: too large (code/inference.py, line 10)",
        ),
    ],
    ids=["numbers", "a failure"],
)
def test_another_reply_than_the_packed_one(doubling, factor, current):
    """The message has both, and the exit code is 1."""
    assert fails("check", doubling, FACTOR=factor) == (
        "error: the sample was answered 200 application/json: [[3.0, 6.0]] when it was packed, "
        f"now {current}"
    )


def test_another_request_has_no_expected_reply(doubling, tmp_path):
    """Neither has the packed request with another Accept."""
    (tmp_path / "row.csv").write_text("1,1")
    lines = succeeds("check", doubling, "--sample", tmp_path / "row.csv", FACTOR="5")
    assert "200 application/json: [[5.0, 5.0]]" in "".join(lines)
    lines = succeeds("check", doubling, "--accept", "text/csv", FACTOR="5")
    assert "200 text/csv: 7.5,15.0" in "".join(lines)


# --- verify, convert -------------------------------------------------------------------------


def hostile(folder, kind):
    """An archive that MMS would unpack, and the reason for which it is refused."""
    path = folder / "evil.mar"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as mar:
        model = {"modelName": "evil", "handler": "mms_handler.service:handle"}
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps({"runtime": "python", "model": model}))
        mar.write(EXAMPLES / "transform" / "code" / "inference.py", "code/inference.py")
        if kind == "zip slip":
            mar.writestr("../../../evil.txt", "evil")
            return path, "the entry '../../../evil.txt' leads outside the archive's folder"
        if kind == "link":
            link = zipfile.ZipInfo("link")
            link.external_attr = 0o120777 << 16
            mar.writestr(link, "/etc/passwd")
            return path, "the entry 'link' is a link; replace it with the file itself"
        mar.writestr("zeros", bytes(60_000_000))
        packed = mar.getinfo("zeros").compress_size
        return path, (
            f"the entry 'zeros' unpacks from {packed:,} to 60,000,000 bytes; at most 200 times its "
            "packed size is allowed"
        )


@pytest.mark.parametrize("kind", ["zip slip", "link", "bomb"])
def test_serve_refuses_an_unsafe_archive(ports, tmp_path, kind):
    """MMS does not get it: nothing is written beside it or in the temporary folder."""
    (tmp_path / "temp").mkdir()
    path, reason = hostile(tmp_path, kind)
    flags = ("--port", ports[0], "--management-port", ports[1])
    assert (
        fails("serve", path, *flags, TMPDIR=str(tmp_path / "temp")) == f"error: evil.mar: {reason}"
    )
    assert tree(tmp_path) == ["evil.mar", "temp"]


def test_verify_prints_a_line_for_each(doubling, tmp_path):
    """For one of our archives, one of another tool, and a folder."""
    with zipfile.ZipFile(tmp_path / "other.mar", "w") as mar:
        model = {"modelName": "other", "handler": "json:loads"}
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": model}))
    packed, other, folder = succeeds(
        "verify", doubling, tmp_path / "other.mar", EXAMPLES / "linear"
    )
    assert packed.startswith(
        f"{doubling}: doubling, 3 files as they were packed, with mxnet 1.9.1, "
    )
    assert other == f"{tmp_path / 'other.mar'}: other, packed by another tool, without hashes"
    assert folder == f"{EXAMPLES / 'linear'}: a folder without links that lead out of it"


def test_verify_reports_what_is_not_safe(doubling, tmp_path):
    """In one line with the reasons, after the lines for the safe ones."""
    path, reason = hostile(tmp_path, "link")
    (tmp_path / "empty").mkdir()
    process = run("verify", path, doubling, tmp_path / "empty")
    assert process.returncode == 1
    assert process.stdout.decode().startswith(f"{doubling}: doubling, ")
    assert (
        process.stderr.decode() == f"error: evil.mar: {reason}; {tmp_path / 'empty'} has no files\n"
    )


def test_convert_an_older_tar(front, tmp_path):
    """With the script in a sourcedir.tar.gz; MMS serves the archive."""
    for name, folder in (("model", "gluon_blocks"), ("sourcedir", "gluon_blocks/code")):
        shutil.make_archive(tmp_path / name, "gztar", EXAMPLES / folder)
    succeeds(
        "convert", tmp_path / "model.tar.gz", "--script", tmp_path / "sourcedir.tar.gz",
        "--name", "older", "--model-store", front.store, SAGEMAKER_PROGRAM="inference.py",
    )  # fmt: skip
    assert front.add("older").status == 200
    assert front.ask("older", b"5.1,3.5,1.4,0.2", "text/csv").body == b'["setosa"]'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", EXAMPLES / "linear" / "README.md"], "is neither a .mar nor a model.tar.gz"),
        (["convert", EXAMPLES / "linear"], "is neither a .mar nor a model.tar.gz"),
    ],
    ids=["a text file", "a folder"],
)
def test_what_cannot_be_converted(tmp_path, arguments, message):
    assert fails(*arguments, "--name", "m", "--model-store", tmp_path).endswith(message)
