"""Inputs and outputs in S3, with what S3 refuses, breaks off or replaces."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from transform_jobs import LINES, Doubling, run

from mms_handler import archive
from mms_handler.archive import s3
from mms_handler.errors import ArchiveError, TransformError
from mms_handler.transform import cutting, models
from mms_handler.transform.inputs import list_inputs

pytest_plugins = ["local_s3"]

ROWS = "".join(f"{number}\n" for number in range(200))
DOUBLED = "".join(f"{2 * number}\n" for number in range(200))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of a hundred bytes."""
    monkeypatch.setattr(cutting, "PART_BYTES", 100)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def objects(bucket):
    return {
        each["Key"]: bucket.client.get_object(Bucket="bucket", Key=each["Key"])["Body"].read()
        for each in bucket.client.list_objects_v2(Bucket="bucket").get("Contents", [])
    }


def test_a_folder_goes_to_a_folder(bucket, state):
    bucket.put("in/a.json", ROWS.encode())
    bucket.put("in/b/c.json.gz", gzip.compress(b"1\n2\n"))
    bucket.put("in/b/", b"")  # consoles make such objects
    bucket.put("in.json", b"5\n")
    report = run(Doubling(held_back=3), "s3://bucket/in/", "s3://bucket/out/", state=state)
    written = {key: value for key, value in objects(bucket).items() if key.startswith("out/")}
    assert written == {"out/a.json.out": DOUBLED.encode(), "out/b/c.json.gz.out": b"2\n4\n"}
    assert report.complete
    assert not state.exists()


def test_errors_go_beside_the_output(bucket, state):
    bucket.put("in/a.json", b"1\nbad\n")
    run(Doubling(), "s3://bucket/in/a.json", "s3://bucket/out", state=state)
    assert b'"record": 2' in objects(bucket)["out/a.json.out.errors"]


def test_an_address_is_an_object_a_folder_or_a_pattern(bucket):
    for key in ("in/a.json", "in/a.json.old", "in/b.csv", "in/x/c.json"):
        bucket.put(key, b"1\n")

    def names(place):
        return [each.name for each in list_inputs(place)]

    assert names("s3://bucket/in/a.json") == ["a.json"]
    assert names("s3://bucket/in/") == ["a.json", "a.json.old", "b.csv", "x/c.json"]
    assert names("s3://bucket/in/*.json") == ["a.json", "x/c.json"]
    assert names("s3://bucket/") == [f"in/{name}" for name in names("s3://bucket/in/")]
    with pytest.raises(TransformError, match="there is no such file, folder or object"):
        names("s3://bucket/in/a")


def test_a_job_goes_on_from_the_middle_of_an_object(bucket, state):
    bucket.put("in/a.json", ROWS.encode())
    first, second = Doubling(before=stop_at_four), Doubling()
    with pytest.raises(KeyError):
        run(first, "s3://bucket/in/a.json", "s3://bucket/out", state=state)
    assert "out/a.json.out" not in objects(bucket)
    run(second, "s3://bucket/in/a.json", "s3://bucket/out", state=state)
    assert objects(bucket)["out/a.json.out"] == DOUBLED.encode()
    assert not {*first.parts} & {*second.parts}


def stop_at_four(part):
    if part.number == 4:
        raise KeyError


def test_an_object_that_was_replaced_is_told(bucket, state):
    bucket.put("in/a.json", ROWS.encode())
    with pytest.raises(KeyError):
        run(Doubling(before=stop_at_four), "s3://bucket/in/", "s3://bucket/out", state=state)
    bucket.put("in/a.json", ROWS.replace("199", "99").encode())
    with pytest.raises(TransformError, match=r"the input a\.json was changed"):
        run(Doubling(), "s3://bucket/in/", "s3://bucket/out", state=state)


def test_an_output_that_is_there_is_kept(bucket, state):
    bucket.put("in/a.json", ROWS.encode())
    bucket.put("out/a.json.out", b"precious")
    with pytest.raises(TransformError, match=r"a\.json\.out, or|such as a\.json\.out"):
        run(Doubling(), "s3://bucket/in/", "s3://bucket/out", state=state)
    assert objects(bucket)["out/a.json.out"] == b"precious"


def test_a_connection_that_breaks_is_opened_again(bucket):
    bucket.put("a", ROWS.encode())
    (source,) = list_inputs("s3://bucket/a")
    bucket.s3.breaks = 2
    reader = io.BufferedReader(s3.Reader(source.place, source.version, bucket.client))
    assert reader.read() == ROWS.encode()


def test_a_reader_begins_anywhere(bucket):
    bucket.put("a", b"0123456789")
    (source,) = list_inputs("s3://bucket/a")
    for offset in (0, 4, 9, 10):
        reader = io.BufferedReader(s3.Reader(source.place, source.version, bucket.client, offset))
        assert reader.read() == b"0123456789"[offset:]


def test_a_reader_reads_one_version(bucket):
    bucket.put("a", b"old")
    (source,) = list_inputs("s3://bucket/a")
    bucket.put("a", b"new")
    with pytest.raises(ArchiveError, match="it was replaced meanwhile"):
        s3.Reader(source.place, source.version, bucket.client).read()


def test_missing_rights_are_told(bucket, state):
    bucket.put("in/a.json", ROWS.encode())
    bucket.s3.refusal = "AccessDenied"
    with pytest.raises(ArchiveError, match=r"cannot be listed: the credentials do not allow it"):
        run(Doubling(), "s3://bucket/in/", "s3://bucket/out", state=state)


def test_an_output_that_is_refused_is_tried_again_without_the_model(bucket, state):
    bucket.put("in/a.json", ROWS.encode())

    def refuse(method, path):
        bucket.s3.refusal = "AccessDenied" if method == "PUT" else None

    bucket.s3.before = refuse
    with pytest.raises(ArchiveError, match="cannot be uploaded: the credentials do not allow it"):
        run(Doubling(), "s3://bucket/in/", "s3://bucket/out", state=state)
    bucket.s3.before, bucket.s3.refusal = lambda method, path: None, None
    executor = Doubling()
    run(executor, "s3://bucket/in/", "s3://bucket/out", state=state)
    assert executor.parts == []
    assert objects(bucket)["out/a.json.out"] == DOUBLED.encode()


@pytest.mark.parametrize("key", ["in/../../x", "in/a//b", "in/./a"])
def test_a_key_that_would_leave_the_output_is_refused(bucket, tmp_path, key):
    bucket.client.put_object(Bucket="bucket", Key=key, Body=b"1\n")
    with pytest.raises(TransformError, match="has a name that is not safe"):
        run(Doubling(), "s3://bucket/in/", tmp_path / "out")


def test_outputs_may_not_become_inputs(bucket, state):
    bucket.put("in/a.json", ROWS.encode())
    with pytest.raises(TransformError, match="is in the input"):
        run(Doubling(LINES), "s3://bucket/in/", "s3://bucket/in/out", state=state)


def test_a_model_may_be_in_s3(bucket, tmp_path):
    linear = Path(__file__).parents[3] / "model_archives" / "linear"
    archive.pack(linear, tmp_path / "linear.mar")
    bucket.put("models/linear.mar", tmp_path / "linear.mar")
    with models.unpacked("s3://bucket/models/linear.mar", None) as unpacked:
        names = {path.name for path in unpacked.folder.iterdir()}
        assert {"model-symbol.json", "model-0000.params"} <= names
    with pytest.raises(ArchiveError, match="the bucket has no such object"), models.unpacked(
        "s3://bucket/models/other.mar", None
    ):
        pass


def test_a_manifest_lists_objects(bucket, state):
    for key in ("rows/a.json", "rows/b/c.json", "rows/other.json"):
        bucket.put(key, f"{len(key)}\n".encode())
    bucket.put("list.manifest", b'[{"prefix": "s3://bucket/rows/"}, "b/c.json", "a.json"]')
    run(Doubling(), "s3://bucket/list.manifest", "s3://bucket/out", state=state, is_manifest=True)
    written = {key: value for key, value in objects(bucket).items() if key.startswith("out/")}
    assert written == {"out/a.json.out": b"22\n", "out/b/c.json.out": b"26\n"}


def test_a_manifest_may_list_an_object_that_is_not_there(bucket, state):
    bucket.put("rows/a.json", b"1\n")
    bucket.put("list.manifest", b'[{"prefix": "s3://bucket/rows/"}, "a.json", "b.json"]')
    place = "s3://bucket/list.manifest"
    with pytest.raises(
        TransformError, match=r"1 of the inputs .* such as s3://bucket/rows/b\.json"
    ):
        run(Doubling(), place, "s3://bucket/out", state=state, is_manifest=True)
