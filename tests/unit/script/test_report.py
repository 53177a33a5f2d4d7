"""report: what a script's process leaves for the one that supervises it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mms_handler.script import report


def test_the_first_report_stays(tmp_path):
    path = tmp_path / "report"
    report.write_report(path, "first", "all of it")
    report.write_report(path, "second")
    assert report.read_report(path) == {"line": "first", "details": "all of it"}


def test_a_report_without_details(tmp_path):
    report.write_report(tmp_path / "report", "a line")
    assert report.read_report(tmp_path / "report") == {"line": "a line", "details": None}


def test_a_report_that_cannot_be_written(tmp_path, capsys):
    """The line is printed, and nothing is left behind."""
    report.write_report(tmp_path / "missing" / "report", "a line")
    assert capsys.readouterr().err == "a line\n"
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    report.write_report(full, "a line")  # it is there already
    assert capsys.readouterr().err == ""


def test_what_there_is_of_a_process(tmp_path):
    """An empty file of one that succeeded; none of one that was killed, or is not known."""
    assert report.read_report(None) is None
    assert report.read_report(tmp_path / "none") is None
    (tmp_path / "good").touch()
    assert report.read_report(tmp_path / "good") == {}


def test_phases(tmp_path):
    """The last one counts; a folder that is gone is no error."""
    assert report.read_phase(None) == ""
    assert report.read_phase(tmp_path / "report") == ""
    for name in ("import", "train"):
        report.enter_phase(tmp_path, name)
    assert report.read_phase(tmp_path / "report") == "train"
    report.enter_phase(tmp_path / "gone", "save")


def test_stacks_are_written_now_and_then(tmp_path):
    """Also of native code; a folder that is gone is no error."""
    program = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from mms_handler.script import report\n"
        "report.STACKS_S = 0.05\n"
        "folder = Path(sys.argv[1])\n"
        "report.record_stacks(folder / 'gone')\n"
        "report.record_stacks(folder)\n"
        "def here():\n"
        "    for _ in range(1200):\n"
        "        if (folder / 'stacks').read_text().count('in here') > 2: return\n"
        "        threading.Event().wait(0.05)\n"
        "    sys.exit(3)\n"
        "here()\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=120)


@pytest.mark.parametrize("close", ["", "sys.stdout.close()", "os.close(1)"])
def test_a_process_ends_at_once(close):
    """What was printed is there; destructors and atexit do not run."""
    program = (
        "import atexit, os, sys\n"
        "from mms_handler.script import report\n"
        "atexit.register(print, 'exit', file=sys.stderr)\n"
        "print('out')\n"
        "sys.stderr.write('err')\n"
        f"{close}\n"
        "report.end_now(5)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (5, "err")
    if close != "os.close(1)":
        assert done.stdout == "out\n"
