"""A job keeps order and count, goes on after it was stopped, and mixes nothing."""

from __future__ import annotations

import gzip
import json
import os
import resource

import pytest
from transform_jobs import LINES, Doubling, run

from mms_handler.errors import SettingsError, TransformError
from mms_handler.transform import cutting
from mms_handler.transform.inputs import STATE, Input


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of a hundred bytes."""
    monkeypatch.setattr(cutting, "PART_BYTES", 100)


@pytest.fixture
def rows(tmp_path):
    """An input of 200 numbers, in some nine parts."""
    file = tmp_path / "in" / "rows.json"
    file.parent.mkdir()
    file.write_text("".join(f"{number}\n" for number in range(200)))
    return file


DOUBLED = "".join(f"{2 * number}\n" for number in range(200))


@pytest.mark.parametrize("held_back", [1, 4])
def test_order_and_count_are_kept(rows, tmp_path, held_back):
    executor = Doubling(held_back=held_back)
    report = run(executor, rows, tmp_path / "out")
    assert (tmp_path / "out" / "rows.json.out").read_text() == DOUBLED
    assert len(executor.parts) > 5
    assert (report.records, report.error_count, report.complete) == (200, 0, True)
    assert report.line().endswith(" 0 errors, 100%")
    assert os.listdir(tmp_path / "out") == ["rows.json.out"]


def test_a_folder_keeps_its_names(tmp_path):
    for name in ("a.json", "b/c.json", "b/d/e"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "in" / name).write_text(f"{len(name)}\n")
    (tmp_path / "in" / "empty").touch()
    report = run(Doubling(), tmp_path / "in", tmp_path / "out")
    found = {
        file.relative_to(tmp_path / "out").as_posix(): file.read_text()
        for file in (tmp_path / "out").rglob("*.out")
    }
    assert found == {
        "a.json.out": "12\n",
        "b/c.json.out": "16\n",
        "b/d/e.out": "10\n",
        "empty.out": "",
    }
    assert report.as_dict()["outputs"]["b/c.json"] == {"parts": 1, "records": 1, "errors": 0}


def test_a_pattern_selects_files(tmp_path):
    for name in ("a.json", "b.json", "c.txt"):
        (tmp_path / name).write_text("1\n")
    run(Doubling(), tmp_path / "*.json", tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["a.json.out", "b.json.out"]


def test_a_manifest_lists_files(tmp_path):
    for name in ("a.json", "b.json", "c.json"):
        (tmp_path / name).write_text(f"{ord(name[0])}\n")
    manifest = tmp_path / "list.json"
    manifest.write_text(json.dumps([{"prefix": f"{tmp_path}/"}, "c.json", "a.json"]))
    run(Doubling(), manifest, tmp_path / "out", is_manifest=True)
    assert sorted(os.listdir(tmp_path / "out")) == ["a.json.out", "c.json.out"]
    assert (tmp_path / "out" / "c.json.out").read_text() == "198\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not JSON: .*it must be a list: "),
        ("[]", "is not one of SageMaker's; it must be a list: "),
        ('["a.json"]', "is not one of SageMaker's"),
        ('[{"prefix": "s3://bucket/"}]', "is not one of SageMaker's"),
        ('[{"prefix": "s3://bucket/"}, 7]', "is not one of SageMaker's"),
        ('[{"prefix": "nowhere/"}, "a.json"]', "1 of the inputs .* not there, such as nowhere/a"),
        ('[{"prefix": ""}, "../in/rows.json"]', "a name that is not safe as an output's"),
    ],
)
def test_a_manifest_that_is_wrong(rows, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(rows.parent)
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(TransformError, match=message):
        run(Doubling(), tmp_path / "list.json", tmp_path / "out", is_manifest=True)


def test_compressed_inputs_and_outputs(rows, tmp_path):
    packed = tmp_path / "rows.json.gz"
    packed.write_bytes(gzip.compress(rows.read_bytes()))
    options = LINES._replace(gzip_output=True)
    run(Doubling(options, held_back=3), packed, tmp_path / "out", options=options)
    written = (tmp_path / "out" / "rows.json.gz.out.gz").read_bytes()
    assert gzip.decompress(written).decode() == DOUBLED


def test_compression_may_be_told(rows, tmp_path):
    packed = tmp_path / "rows"
    packed.write_bytes(gzip.compress(rows.read_bytes()))
    options = LINES._replace(compression_type="Gzip")
    run(Doubling(options), packed, tmp_path / "out", options=options)
    assert (tmp_path / "out" / "rows.out").read_text() == DOUBLED


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.csv", "text/csv"),
        ("a.csv.gz", "text/csv"),
        ("a.CSV.GZ", "text/csv"),
        ("a.jsonl", "application/jsonlines"),
        ("a.json.gz", "application/json"),
        ("a.gz.csv", "text/csv"),
        ("a", "application/json"),
    ],
)
def test_the_type_of_records_is_that_of_the_name(name, content_type):
    assert Input(name, f"in/{name}", 1, "").content_type() == content_type


def test_a_bad_record_is_written_and_told(rows, tmp_path):
    lines = rows.read_text().splitlines()
    lines[149] = "bad"
    rows.write_text("\n".join(lines))
    report = run(Doubling(held_back=2), rows, tmp_path / "out")
    written = (tmp_path / "out" / "rows.json.out").read_text().splitlines()
    assert written[:149] == DOUBLED.splitlines()[:149]
    assert json.loads(written[149])["error"]["record"] == 150
    assert written[150:] == DOUBLED.splitlines()[150:]
    errors = (tmp_path / "out" / "rows.json.out.errors").read_text()
    assert json.loads(errors) == {
        "record": 150,
        "offset": len("".join(f"{n}\n" for n in range(149))),
        "status": 400,
        "message": "not JSON",
    }
    assert report.as_dict()["first_errors"] == [{"input": "rows.json", **json.loads(errors)}]
    assert report.complete


def test_fail_fast_ends_at_the_first_bad_record(rows, tmp_path):
    rows.write_text(rows.read_text().replace("150\n", "bad\n"))
    executor = Doubling()
    with pytest.raises(TransformError, match=r"rows\.json, line 151: 400 not JSON"):
        run(executor, rows, tmp_path / "out", fail_fast=True)
    assert os.listdir(tmp_path / "out") == [STATE]
    later = Doubling()
    assert run(later, rows, tmp_path / "out").error_count == 1
    assert later.parts[0] == executor.parts[-1]  # the part with the bad record was not kept


# --- jobs that were stopped ---


class Stop(Exception):
    """Stands for whatever ends a job."""


def stop_at(number):
    def before(part):
        if part.number == number:
            raise Stop

    return before


@pytest.mark.parametrize("held_back", [1, 3])
@pytest.mark.parametrize("number", [0, 4])
def test_a_job_goes_on_where_it_was_stopped(rows, tmp_path, held_back, number):
    first = Doubling(held_back=held_back, before=stop_at(number))
    with pytest.raises(Stop):
        run(first, rows, tmp_path / "out")
    second = Doubling()
    report = run(second, rows, tmp_path / "out")
    assert (tmp_path / "out" / "rows.json.out").read_text() == DOUBLED
    assert not {*first.parts} & {*second.parts}
    assert report.earlier + report.records == 200
    assert report.as_dict()["records"] == 200


def test_a_compressed_input_goes_on_where_it_was_stopped(rows, tmp_path):
    packed = tmp_path / "rows.json.gz"
    packed.write_bytes(gzip.compress(rows.read_bytes()))
    first, second = Doubling(before=stop_at(4)), Doubling()
    with pytest.raises(Stop):
        run(first, packed, tmp_path / "out")
    run(second, packed, tmp_path / "out")
    assert (tmp_path / "out" / "rows.json.gz.out").read_text() == DOUBLED
    assert [number for _, number in [*first.parts, *second.parts]] == list(
        range(len(first.parts) + len(second.parts))
    )


def test_errors_of_an_earlier_run_are_told_again(rows, tmp_path):
    rows.write_text(rows.read_text().replace("\n10\n", "\nbad\n"))
    with pytest.raises(Stop):
        run(Doubling(before=stop_at(4)), rows, tmp_path / "out")
    report = run(Doubling(), rows, tmp_path / "out")
    assert report.as_dict()["errors"] == 1
    assert (tmp_path / "out" / "rows.json.out.errors").read_text().count("\n") == 1


def test_an_output_that_was_whole_but_not_moved_is_moved(rows, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("mms_handler.transform.outputs.Outputs.deliver", stop_at_once)
        with pytest.raises(Stop):
            run(Doubling(), rows, tmp_path / "out")
    executor = Doubling()
    report = run(executor, rows, tmp_path / "out")
    assert executor.parts == []
    assert report.complete
    assert (tmp_path / "out" / "rows.json.out").read_text() == DOUBLED


def stop_at_once(*arguments):
    raise Stop


def begun(rows, tmp_path):
    with pytest.raises(Stop):
        run(Doubling(before=stop_at(4)), rows, tmp_path / "out")


def test_another_model_is_told(rows, tmp_path):
    begun(rows, tmp_path)
    with pytest.raises(TransformError, match=r"model was 'model' and is 'other'.*--overwrite"):
        run(Doubling(), rows, tmp_path / "out", model="other")


def test_other_options_are_told(rows, tmp_path):
    begun(rows, tmp_path)
    options = LINES._replace(accept="text/csv")
    with pytest.raises(TransformError, match="accept was '' and is 'text/csv'"):
        run(Doubling(options), rows, tmp_path / "out", options=options)


def test_a_changed_input_is_told(rows, tmp_path):
    begun(rows, tmp_path)
    rows.write_text(rows.read_text().replace("199", "99"))
    with pytest.raises(TransformError, match=r"the input rows\.json was changed"):
        run(Doubling(), rows, tmp_path / "out")
    run(Doubling(), rows, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "rows.json.out").read_text() == DOUBLED.replace("398", "198")


def test_an_input_that_changes_meanwhile_has_no_output(rows, tmp_path):
    def change(part):
        if part.number == 2:
            with rows.open("a") as file:
                file.write("200\n")

    report = run(Doubling(before=change), rows, tmp_path / "out")
    assert not report.complete
    assert "has changed since this job began" in report.failed[0].reason
    assert os.listdir(tmp_path / "out") == [STATE]


def test_an_output_that_is_there_is_kept(rows, tmp_path):
    run(Doubling(), rows, tmp_path / "out")
    executor = Doubling()
    with pytest.raises(TransformError, match=r"rows\.json\.out.*--overwrite"):
        run(executor, rows, tmp_path / "out")
    assert executor.parts == []
    rows.write_text("1\n")
    run(executor, rows, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "rows.json.out").read_text() == "2\n"


def test_two_jobs_cannot_share_an_output(rows, tmp_path):
    def another(part):
        with pytest.raises(TransformError, match="another transform writes to this output"):
            run(Doubling(), rows, tmp_path / "out")

    run(Doubling(before=another), rows, tmp_path / "out")


# --- inputs and outputs that cannot be used ---


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not gzip", "Not a gzipped file"),
        (gzip.compress(b"1\n" * 500, mtime=0)[:-9], "Compressed file ended"),
        (gzip.compress(b"1\n" * 500, mtime=0)[:14] + b"x" * 60, "Error -3 while decompressing"),
    ],
    ids=["other", "cut off", "wrong"],
)
def test_a_damaged_input_leaves_the_others_alone(rows, tmp_path, content, reason):
    (rows.parent / "a.json.gz").write_bytes(content)
    report = run(Doubling(), rows.parent, tmp_path / "out")
    assert (tmp_path / "out" / "rows.json.out").read_text() == DOUBLED
    (failed,) = report.failed
    assert failed.name == "a.json.gz"
    assert f"the gzip data are damaged: {reason}" in failed.reason
    assert not report.complete
    (rows.parent / "a.json.gz").write_bytes(gzip.compress(b"1\n"))
    with pytest.raises(TransformError, match=r"the input a\.json\.gz was changed"):
        run(Doubling(), rows.parent, tmp_path / "out")
    (rows.parent / "a.json.gz").write_bytes(content)
    with pytest.raises(TransformError, match=r"a\.json\.gz: the gzip data are damaged"):
        run(Doubling(), rows.parent, tmp_path / "other", fail_fast=True)


def test_an_input_that_cannot_be_opened_leaves_the_others_alone(rows, tmp_path, monkeypatch):
    """A device that gives an error when it is read: /proc/self/mem at 0."""
    (rows.parent / "a.json").symlink_to("/proc/self/mem")
    report = run(Doubling(), rows.parent, tmp_path / "out")
    assert (tmp_path / "out" / "rows.json.out").read_text() == DOUBLED
    (failed,) = report.failed
    assert (failed.name, failed.reason) == ("a.json", "it cannot be read: Input/output error")


def test_a_missing_input_is_told(tmp_path):
    with pytest.raises(TransformError, match="there is no such file, folder or object"):
        run(Doubling(), tmp_path / "none", tmp_path / "out")


def test_outputs_may_not_become_inputs(rows, tmp_path):
    with pytest.raises(TransformError, match="is in the input"):
        run(Doubling(), rows.parent, rows.parent / "out")


def test_the_output_is_a_folder(rows, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(TransformError, match="is a file; name a folder"):
        run(Doubling(), rows, tmp_path / "out")


def test_a_full_disk_is_told(rows, tmp_path):
    """Files that may not grow stand for a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(part):
        if part.number == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (400, hard))

    try:
        with pytest.raises(TransformError, match=r"the disk is full.*the same command again"):
            run(Doubling(before=fill), rows, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run(Doubling(), rows, tmp_path / "out")
    assert (tmp_path / "out" / "rows.json.out").read_text() == DOUBLED


def test_a_run_that_has_done_nothing_binds_no_later_one(rows, tmp_path):
    """Such as one whose model did not load, which is mended then."""

    def fail(part):
        raise TransformError("it does not load")

    with pytest.raises(TransformError, match="it does not load"):
        run(Doubling(before=fail), rows, tmp_path / "out")
    assert run(Doubling(), rows, tmp_path / "out", model="mended").complete


def test_many_small_outputs_are_finished(tmp_path):
    """Several at a time."""
    (tmp_path / "in").mkdir()
    for number in range(100):
        (tmp_path / "in" / f"{number}.json").write_text(f"{number}\n")
    report = run(Doubling(), tmp_path / "in", tmp_path / "out")
    written = {file.name: file.read_text() for file in (tmp_path / "out").iterdir()}
    assert written == {f"{number}.json.out": f"{2 * number}\n" for number in range(100)}
    assert report.complete


def test_a_small_output_that_cannot_be_put_in_its_place_ends_the_job(tmp_path):
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "in" / "b" / "c.json").write_text("1\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").touch()
    with pytest.raises(TransformError, match=r"out/b is a file; remove that"):
        run(Doubling(), tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "b").unlink()
    later = Doubling()
    assert run(later, tmp_path / "in", tmp_path / "out").complete
    assert later.parts == []  # it was done
    assert (tmp_path / "out" / "b" / "c.json.out").read_text() == "2\n"


def test_filters_are_checked_before_anything_is_read(rows, tmp_path):
    options = LINES._replace(input_filter="features")
    with pytest.raises(SettingsError, match="InputFilter"):
        run(Doubling(), rows, tmp_path / "out", options=options)


def test_several_records_need_a_split(rows, tmp_path):
    options = LINES._replace(strategy="MultiRecord", split_type="None")
    with pytest.raises(TransformError, match="needs --split-type Line"):
        run(Doubling(), rows, tmp_path / "out", options=options)
