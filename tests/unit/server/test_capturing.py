"""capturing: a folder that can be written, and uploads that are tried again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mms_handler.errors import ServerError
from mms_handler.server import capturing, left_captures
from mms_handler.server.capturing import Uploads, folder_for

pytest_plugins = ["local_s3"]

NAME = "capture-20261127T103100.018Z-1a2b3c4d.jsonl"
KEY = f"captured/2026/11/27/10/{NAME}"


def keys(bucket) -> list[str]:
    objects = bucket.client.list_objects_v2(Bucket="bucket").get("Contents", [])
    return [entry["Key"] for entry in objects]


def test_a_folder_is_made_and_stays(tmp_path):
    """Only its owner may enter it; nothing is left of the probe."""
    place = tmp_path / "a" / "captured"
    with folder_for(str(place)) as folder:
        assert folder == str(place)
    assert place.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root may write anywhere else")
def test_a_full_folder():
    """What is seen at the start is said at the start: /proc takes no file from anyone."""
    with pytest.raises(ServerError, match="^predictions cannot be captured in /proc/captured: "):
        folder_for("/proc/captured").__enter__()


def test_finished_files_are_uploaded(bucket, tmp_path):
    """Into the folder of their hour, and removed; the one that is being written stays."""
    (tmp_path / NAME).write_text("line\n")
    (tmp_path / f"{NAME[:-10]}0.jsonl.part").write_text("li")
    Uploads(tmp_path, "s3://bucket/captured/").look()
    assert keys(bucket) == [KEY]
    assert bucket.client.get_object(Bucket="bucket", Key=KEY)["Body"].read() == b"line\n"
    assert [file.suffix for file in tmp_path.iterdir()] == [".part"]


def test_an_upload_that_fails_is_tried_again(bucket, tmp_path, caplog):
    """After a pause, with one warning, which says what is missing."""
    caplog.set_level("INFO")
    uploads = Uploads(tmp_path, "s3://bucket/captured")
    (tmp_path / NAME).write_text("line\n")
    bucket.s3.refusal = "AccessDenied"
    uploads.look()
    asked = len(bucket.s3.requests)
    uploads.look()
    assert len(bucket.s3.requests) == asked
    uploads.end(0.3)
    assert (tmp_path / NAME).exists()
    bucket.s3.refusal = None
    uploads.end(5)
    assert keys(bucket) == [KEY]
    messages = [
        record.getMessage() for record in caplog.records if record.name.startswith("mms_handler")
    ]
    assert messages[0].startswith(
        f"captured predictions wait: s3://bucket/{KEY} cannot be uploaded"
    )
    assert "s3:PutObject" in messages[0]
    assert messages[1:] == [
        "files of captured predictions that are lost: 1, for s3://bucket/captured",
        "captured predictions are uploaded again",
    ]


def test_an_address_has_a_folder_for_a_while(bucket, monkeypatch):
    """What the gate writes there is uploaded while it writes, and at the end: SIGTERM raises."""
    monkeypatch.setattr(capturing, "_EVERY_S", 0.05)

    def write(folder: str) -> None:
        path = os.path.join(folder, NAME)
        Path(path).write_text("line\n")
        deadline = time.monotonic() + 10
        while os.path.exists(path):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        Path(path.replace("103100", "113100")).write_text("the last\n")
        raise KeyboardInterrupt

    folders = []
    with pytest.raises(KeyboardInterrupt), folder_for("s3://bucket/captured") as folder:
        write(folders.append(folder) or folder)
    assert len(keys(bucket)) == 2
    assert not os.path.exists(folders[0])


# --- what a killed server has left ---


def part_in(folder: Path, data: bytes, name: str = NAME) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.part"
    path.write_bytes(data)
    return path


def test_a_file_that_was_left_gets_its_name(tmp_path):
    """Without its last line if that is broken; a file without a line is of no use."""
    part_in(tmp_path, b"one\ntwo\nthr")
    others = "capture-b.jsonl", "capture-c.jsonl"
    part_in(tmp_path, b"tw", others[0])
    os.utime(tmp_path / f"{others[0]}.part", (1, 1))
    part_in(tmp_path, b"", others[1])  # of a server that starts just now
    with folder_for(str(tmp_path)):
        assert (tmp_path / NAME).read_bytes() == b"one\ntwo\n"
        names = sorted(file.name for file in tmp_path.iterdir())
        assert names == sorted([NAME, f"{others[1]}.part"])


def test_a_name_that_is_no_file(tmp_path):
    """Another's file behind a link is not cut, and nothing waits for a pipe."""
    place, outside = tmp_path / "captured", tmp_path / "notes"
    place.mkdir()
    outside.write_bytes(b"one\ntw")
    (place / f"{NAME}.part").symlink_to(outside)
    os.mkfifo(place / "capture-pipe.jsonl.part")
    with folder_for(str(place)):
        names = sorted(path.name for path in place.iterdir())
    assert names == sorted([f"{NAME}.part", "capture-pipe.jsonl.part"])
    assert outside.read_bytes() == b"one\ntw"


def test_files_that_were_not_uploaded(bucket, tmp_path, monkeypatch):
    """The next server with the same address uploads them, unless their own one still runs."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, other, used = (tmp_path / f"{left_captures.PREFIX}{name}" for name in "abc")
    for folder, url in ((left, "s3://bucket/captured"), (other, "s3://bucket/other")):
        part_in(folder, b"line\n")
        (folder / "owner").write_text(url)
    part_in(used, b"line\n", "capture-d.jsonl")
    with left_captures.owned(used, "s3://bucket/captured"), folder_for("s3://bucket/captured"):
        pass
    assert keys(bucket) == [KEY]
    assert [folder.exists() for folder in (left, other, used)] == [False, True, True]
    assert [file.suffix for file in other.iterdir() if file.name != "owner"] == [".part"]
