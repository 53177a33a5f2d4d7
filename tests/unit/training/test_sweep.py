"""training.sweep: real runs of small scripts, two at a time where they fit."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
from types import SimpleNamespace

import psutil
import pytest

from mms_handler.errors import TrainingError
from mms_handler.server import machine
from mms_handler.training import grid, sweep
from mms_handler.training.job import Job

#: A run whose second one begins only when there is another beside it.
MEETS = """
import os, pathlib, sys, time
mine, folder = sys.argv[-1], pathlib.Path(os.environ["SM_INPUT_DIR"])
(folder / mine).touch()
deadline = time.monotonic() + 60
while mine > "1" and not (folder / {"2": "3", "3": "2"}[mine]).exists():
    if time.monotonic() > deadline:
        sys.exit("alone")
    time.sleep(0.02)
"""

#: A run that fails if there is another beside it.
ALONE = """
import os, pathlib, sys, time
lock = pathlib.Path(os.environ["SM_INPUT_DIR"], "lock")
lock.mkdir()
time.sleep(0.5)
lock.rmdir()
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Build a job whose script has this text."""
    monkeypatch.setenv("MMS_HANDLER_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "ml" / "input").mkdir(parents=True)

    def build(script="pass", **fields):
        (tmp_path / "train.py").write_text(script)
        ml = tmp_path / "ml"
        folders = {"model_dir": ml / "model", "output_data_dir": ml / "data", "base_dir": ml}
        return Job(
            tmp_path / "train.py", **{"hyperparameters": {}, "channels": {}}, **folders
        )._replace(**fields)

    return build


def room(cpus=2.0, available_bytes=2**40):
    return sweep.Room(cpus, lambda: available_bytes, machine.used_bytes)


def swept(job, space=None, **options):
    """The runs of a sweep over n = 1, 2, 3, and the signal that ended it."""
    runs = sweep.runs_of(job, grid.points({"n": "1,2,3"}))
    input_dir = job.base_dir / "input"
    number = sweep.Sweep(runs, space or room(), input_dir=input_dir, **options).run()
    return runs, number


def test_two_at_a_time(job, tmp_path):
    """The first tells how much memory a run takes; then two run at once, with half of the cores."""
    events = []
    runs, number = swept(
        job(MEETS + "print(os.environ['OMP_NUM_THREADS'])", hyperparameters={"epochs": 2}),
        room(cpus=6.5),
        report=lambda run: events.append((run.name, run.state)),
    )
    logs = [run.log.read_text() for run in runs]
    assert (number, [run.state for run in runs]) == (None, ["succeeded"] * 3), logs
    assert events[:2] == [("001", "running"), ("001", "succeeded")]
    assert {events[2], events[3]} == {("002", "running"), ("003", "running")}
    assert all(log.endswith("\n3\n") for log in logs)
    assert all(run.seconds > 0 for run in runs)
    for n, run in enumerate(runs, 1):
        base = tmp_path / "ml" / "sweep" / f"00{n}"
        names = {path.name for path in base.glob("[!.]*")}
        assert names == {
            *("input", "job.json", "log", "metrics.jsonl"),
            *("checkpoints", "model", "output"),
        }
        assert (base / "output" / "success").exists()
        assert os.path.samefile(base / "input", tmp_path / "ml" / "input")
        assert json.loads((base / "job.json").read_text())["hyperparameters"] == {
            "epochs": 2,
            "n": n,
        }
        assert run.job.checkpoint_dir == base / "checkpoints"


@pytest.mark.parametrize(
    "space",
    [
        pytest.param(room(cpus=1.9), id="one core"),
        pytest.param(room(available_bytes=2**30 - 1), id="no memory"),
    ],
)
def test_one_at_a_time(job, space):
    runs, _ = swept(job(ALONE), space)
    assert [run.state for run in runs] == ["succeeded"] * 3, runs[1].log.read_text()


@pytest.mark.parametrize(
    ("active_s", "waiting", "options", "fits"),
    [
        pytest.param([], 3, {"available_bytes": 0}, True, id="none runs"),
        pytest.param([9], 2, {}, True, id="one runs"),
        pytest.param([9, 9], 1, {}, False, id="two run"),
        pytest.param([4.9], 2, {}, False, id="what the first one uses is not known yet"),
        pytest.param([0.1], 1, {}, True, id="what it used is known"),
        pytest.param([9], 2, {"cpus": 1.9}, False, id="one core"),
        pytest.param([9], 2, {"gpus": 1}, False, id="a GPU"),
        pytest.param([9], 2, {"local_hosts": 2}, False, id="two hosts for two cores"),
        pytest.param([9], 2, {"local_hosts": 2, "cpus": 4}, True, id="two hosts for four cores"),
        pytest.param([9], 2, {"available_bytes": 2**30 - 1}, False, id="little memory"),
        pytest.param([9], 2, {"available_bytes": 2**30}, True, id="enough memory"),
        pytest.param([9], 2, {"largest_bytes": 2**31}, True, id="as much as the largest used"),
        pytest.param([9], 2, {"largest_bytes": 2**31 + 1}, False, id="less than that"),
    ],
)
def test_whether_one_more_fits(job, monkeypatch, active_s, waiting, options, fits):
    """Two at once need a core for each host, no GPU, and memory for the largest."""
    defaults = {"available_bytes": 2**31, "cpus": 2, "gpus": 0, "local_hosts": 1}
    options = {"largest_bytes": 0, **defaults, **options}
    monkeypatch.setattr(sweep, "host_gpu_count", lambda: options["gpus"])
    space = room(options["cpus"], options["available_bytes"])
    runs = sweep.runs_of(job(), grid.points({"n": "1,2,3"}))
    running = sweep.Sweep(runs, space, input_dir=job().base_dir, local_hosts=options["local_hosts"])
    running._active = [SimpleNamespace(seconds=seconds) for seconds in active_s]
    for _ in range(3 - waiting):
        running._waiting.popleft()
    running._largest_bytes = options["largest_bytes"]
    assert running._fits() is fits


def test_a_run_that_fails(job, tmp_path):
    """The others run; the reason is that of its failure file.  A later sweep counts on."""
    script = (
        "import sys\nn = sys.argv[-1]\nprint(f'epoch 1: accuracy {n}, loss 0.5')\n"
        "if n == '2': raise ValueError('two')\nprint('epoch 2: accuracy 0.75')"
    )
    runs, number = swept(job(script))
    assert (number, [run.state for run in runs]) == (None, ["succeeded", "failed", "succeeded"])
    assert runs[1].reason == "algo-1: the script: ValueError: two (train.py, line 4)"
    assert [run.metrics for run in runs] == [
        {"loss": 0.5, "accuracy": 0.75},
        {"loss": 0.5, "accuracy": 2},
        {"loss": 0.5, "accuracy": 0.75},
    ]
    assert [list(run.metrics) for run in runs] == [["loss", "accuracy"]] * 3
    assert "ValueError: two" in runs[1].log.read_text()
    (run,) = sweep.runs_of(job(), [{"n": "4"}])
    assert (run.name, run.job.base_dir) == ("004", tmp_path / "ml" / "sweep" / "004")
    raw = sweep.runs_of(job(), [{"n": "4"}], raw=True)
    assert (run.job.hyperparameters, raw[0].job.hyperparameters) == ({"n": 4}, {"n": "4"})


def test_a_signal_ends_all(job, tmp_path):
    """Those that run end by it, and those that wait are not run."""
    script = MEETS + "print('ready', flush=True)\ntime.sleep(600 if mine > '1' else 0)\n"

    def interrupt():
        logs = [tmp_path / "ml" / "sweep" / name / "log" for name in ("002", "003")]
        ready = threading.Event()
        while not all(log.exists() and "ready" in log.read_text() for log in logs):
            ready.wait(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    runs = sweep.runs_of(job(script), grid.points({"n": "1,2,3,4"}))
    waiting = threading.Thread(target=interrupt, daemon=True)
    waiting.start()
    number = sweep.Sweep(runs, room(), input_dir=tmp_path / "ml" / "input").run()
    assert number == signal.SIGTERM
    assert [run.state for run in runs] == ["succeeded", "stopped", "stopped", "not run"]
    assert runs[1].reason == "algo-1: the script: stopped by SIGTERM"
    assert not (tmp_path / "ml" / "sweep" / "004").exists()


def test_an_error_ends_what_runs(job):
    """If nobody reads the reports any more, for example."""

    def report(run):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        swept(job("import time; time.sleep(600)"), report=report)
    assert not [child for child in psutil.Process().children() if "train-run" in child.cmdline()]


def test_the_last_metrics(tmp_path):
    """Those of the first host; what is no line of metrics is left out."""
    lines = [
        {"host": "algo-2", "name": "loss", "value": 1},
        {"host": "algo-1", "name": "loss", "value": 0.5},
        {"host": "algo-1", "name": "loss", "value": "nan"},
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"host": "algo-1", "na')
    metrics = sweep.last_metrics(file)
    assert list(metrics) == ["loss"]
    assert math.isnan(metrics["loss"])
    assert sweep.last_metrics(tmp_path / "none") == {}


def test_jobs_that_cannot_be_swept(job):
    pipe = {"live": {"TrainingInputMode": "Pipe"}}
    with pytest.raises(
        TrainingError, match="^channel live is in PIPE mode, and .* --channel live="
    ):
        sweep.runs_of(job(input_data_config=pipe), [{}])
    with pytest.raises(TrainingError, match="^--sweep needs one host; .* --local-hosts$"):
        sweep.runs_of(job(hosts=("a", "b"), current_host="a"), [{}])
