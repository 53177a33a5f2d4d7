"""The command transform, with its processes: killed, stopped, and with models that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mms_handler.transform.inputs import STATE

#: Records of this many bytes are nine parts.
PAD, RECORDS = 10_000, 1_800

#: Doubles a number, and writes down that it did; does first what the file "plan" says.
SCRIPT = """
import json, os, signal, time

HERE = {folder!r}

def model_fn(model_dir):
    print("printed by the script")

def transform_fn(model, data, content_type, accept):
    number = json.loads(data)
    with open(os.path.join(HERE, "plan.json")) as file:
        plan = json.load(file)
    while number in plan.get("wait", []) and not os.path.exists(os.path.join(HERE, "go")):
        time.sleep(0.05)
    if number in plan.get("die", []):
        os.kill(os.getpid(), signal.SIGKILL)
    if number in plan.get("die once", []):
        try:
            os.mkdir(os.path.join(HERE, "died"))
            os.kill(os.getpid(), signal.SIGSEGV)
        except FileExistsError:
            pass
    with open(os.path.join(HERE, "answered"), "a") as file:
        file.write(f"{{number}}\\n")
    return str(2 * number)
"""


class Job:
    """A job of 1800 numbers in nine parts, and a model that does what its plan says."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"
        (folder / "model").mkdir()
        (folder / "model" / "inference.py").write_text(SCRIPT.format(folder=str(folder)))
        self.rows = folder / "rows.json"
        self.rows.write_text("".join(f"{n}".ljust(PAD) + "\n" for n in range(RECORDS)))

    def plan(self, **plan):
        plan = {name.replace("_", " "): value for name, value in plan.items()}
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def start(self, *options):
        command = [sys.executable, "-m", "mms_handler", "transform", self.folder / "model",
                   "--input", self.rows, "--output", self.out, "--split-type", "Line",
                   "--assemble-with", "Line", "--workers", "2",
                   "--json", self.folder / "report.json", *options]  # fmt: skip
        return subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *options, code=0):
        process = self.start(*options)
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == code, stderr
        return stdout, stderr

    def answered(self):
        return list(map(int, (self.folder / "answered").read_text().split()))

    def written(self):
        return (self.out / "rows.json.out").read_text().splitlines()

    def report(self):
        return json.loads((self.folder / "report.json").read_text())


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def wait_for(condition, limit_s=60):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


DOUBLED = [str(2 * number) for number in range(RECORDS)]

#: A part has 209 records: 2**21 bytes.
PART = 209


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_job_that_is_stopped_goes_on(job, number):
    """Parts 0, 1 and 3 are done, 2 and 4 are not."""
    job.plan(wait=[2 * PART + 5, 4 * PART])
    process = job.start()

    def three_are_done():
        journals = list((job.out / STATE).glob("*/journal")) if job.out.exists() else []
        waiting = list((job.out / STATE).glob("*/parts/3")) if job.out.exists() else []
        return journals and journals[0].read_bytes().count(b"\n") == 2 and waiting

    wait_for(three_are_done)
    children = psutil.Process(process.pid).children(recursive=True)
    wait_for(lambda: 3 * PART in job.answered())
    assert not (job.out / "rows.json.out").exists()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    psutil.wait_procs(children, timeout=30)
    assert not any(child.is_running() for child in children)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert f"stopped: {3 * PART} records are done; the same command goes on" in stderr
        assert job.report()["records"] == 3 * PART
    before = job.answered()
    (job.folder / "go").touch()
    stdout, stderr = job.run()
    assert "printed by the script" in stderr
    assert "printed by the script" not in stdout
    assert job.written() == DOUBLED
    after = job.answered()[len(before) :]
    done = {*range(2 * PART), *range(3 * PART, 4 * PART)}
    assert done <= {*before}
    assert sorted(after) == [n for n in range(RECORDS) if n not in done]
    assert "of an earlier run  627 records" in stdout
    assert os.listdir(job.out) == ["rows.json.out"]


def test_a_record_that_kills_its_process_has_an_error(job):
    job.plan(die=[PART + 1])
    job.rows.write_text("".join(f"{n}".ljust(PAD) + "\n" for n in range(PART, PART + 4)))
    _, stderr = job.run("--workers", "1", code=3)
    first, error, *rest = job.written()
    assert [first, *rest] == [str(2 * n) for n in (PART, PART + 2, PART + 3)]
    reason = json.loads(error)["error"]
    assert (reason["record"], reason["code"]) == (2, 500)
    assert "was killed by SIGKILL, perhaps by the system for memory" in reason["message"]
    assert "rows.json, line 2: 500 the model's process was killed" in stderr


def test_a_process_that_dies_once_is_replaced(job):
    job.plan(die_once=[3])
    job.rows.write_text("".join(f"{n}\n" for n in range(8)))
    job.run("--workers", "1")
    assert job.written() == DOUBLED[:8]


def test_a_model_that_kills_every_process_ends_the_job(job):
    job.plan(die=list(range(RECORDS)))
    job.rows.write_text("".join(f"{n}\n" for n in range(40)))
    _, stderr = job.run("--workers", "1", code=1)
    assert "processes died in turn, the last one was killed by SIGKILL" in stderr
    assert "rows.json, line " in stderr


def test_a_model_that_does_not_load_is_told(job):
    job.plan()
    (job.folder / "model" / "inference.py").write_text("def model_fn(model_dir):\n    1 / 0\n")
    _, stderr = job.run(code=1)
    assert "error: model_fn: ZeroDivisionError: division by zero (inference.py, line 2)" in stderr


def test_no_name_of_a_file_looks_like_a_line_of_its_own(job):
    job.plan()
    folder = job.folder / "in"
    folder.mkdir()
    (folder / "a\nerror: b.json").write_text("one")
    (folder / "c\nerror: d.gz").write_text("not packed")
    job.rows = folder
    _, stderr = job.run(code=1)
    assert "'a\\nerror: b.json', line 1: 500 " in stderr
    assert "'c\\nerror: d.gz' has no output: the gzip data are damaged" in stderr
    assert [line for line in stderr.splitlines() if line.startswith("error:")] == [
        "error: 1 input has no output; run the same command again when that is mended"
    ]


def test_a_url_has_no_workers(job):
    command = [sys.executable, "-m", "mms_handler", "transform", "http://127.0.0.1:1/x",
               "--input", str(job.rows), "--output", str(job.out), "--workers", "2"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--workers, --script and --ray are not for a model at a URL" in done.stderr
