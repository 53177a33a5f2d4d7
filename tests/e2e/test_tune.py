"""tune on real servers: it searches, goes on where it was ended, and serve uses what it wrote."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess

import pytest
from running_mms import BIN, EXAMPLES, free_ports, wait_for

from mms_handler import archive, client
from mms_handler.bench import target
from mms_handler.bench.order import Timing
from mms_handler.manifest import Tuned
from mms_handler.server.machine import this_machine
from mms_handler.settings import Settings
from mms_handler.tuning.candidate import Candidate
from mms_handler.tuning.trial import State, Trial
from mms_handler.tuning.tuner import Limits, Tuner

SHORT = ("--seconds", "0.4", "--warmup-s", "0.1")
CPUS = this_machine().cpus


@pytest.fixture
def linear(tmp_path):
    command = [BIN / "mms-handler", "archive", EXAMPLES / "linear", "--model-store", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path / "linear.mar"


def tune(*words, code=0):
    done = subprocess.run(
        [BIN / "mms-handler", "tune", *map(str, words)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done


def state_of(mar):
    """The state of a run with the options SHORT, and the first other candidate that it tries."""
    request = target.from_model(mar, None, None)
    tuner = Tuner(mar, request, Settings(), Limits(), Timing(0.1, 0.4))
    workers, threads = tuner.space.pairs[1]
    return State(mar.with_name("linear.mar.tune"), tuner.key()), Candidate(workers, threads)


def test_the_defaults_are_measured(linear):
    """An archive for which they are best stays as it is."""
    before = linear.read_bytes()
    done = tune(linear, *SHORT, "--max-trials", "1")
    heading, row, conclusion = done.stdout.splitlines()
    assert heading.split() == ["TRIAL", "CLIENTS", "REPLIES/S", "P99", "MB", "SETTINGS"]
    assert row.startswith("short ")
    assert row.endswith("  the defaults")
    assert conclusion.startswith("the defaults are best: ")
    assert linear.read_bytes() == before
    assert not linear.with_name("linear.mar.tune").exists()


def test_a_run_goes_on_and_what_it_finds_is_served(linear, tmp_path):
    """All but a round are there.  They say that the first other candidate is best."""
    state, first = state_of(linear)
    workers, threads = first[:2]
    state.add(Trial(Candidate(), 0, 8, rate=0.1))
    state.add(Trial(first, 0, 8, rate=0.2))
    for number in (1, 2):
        state.add(Trial(Candidate(), number, 8, rate=0.1))
        state.add(Trial(first, number, 8, rate=0.2))
    state.add(Trial(Candidate(), 3, 8, rate=0.1))
    done = tune(linear, *SHORT, "--max-trials", "2", "--plot", tmp_path / "tune.svg")
    assert "going on: 7 trials are there" in done.stderr
    assert archive.verify(linear).tuned == Tuned(CPUS, *first)
    assert f"{linear} is served with {first}, for {CPUS:g} cores" in done.stdout
    assert "<svg" in (tmp_path / "tune.svg").read_text()

    port, management = free_ports()
    ports = ("--port", str(port), "--management-port", str(management))
    with subprocess.Popen(
        [BIN / "mms-handler", "serve", linear, *ports],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as server, contextlib.ExitStack() as stack:  # fmt: skip
        stack.callback(server.terminate)  # before Popen waits for it
        assert server.stdout.readline().startswith("linear is ready")
        answer = client.describe(f"http://127.0.0.1:{management}", "linear")
        description = client.description(answer)
        assert description["tuned"] == {
            "cpus": CPUS,
            "workers": workers,
            "threads": threads,
        }
        assert len(description["workers"]) == workers
        described = subprocess.run(
            [BIN / "mms-handler", "models", "describe", "linear", *ports[2:]],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert f"tuned    {first}, for {CPUS:g} cores" in described.stdout
        server.terminate()
        assert f"linear is served as it was tuned: {first}" in server.stderr.read()


def test_what_does_not_keep_to_the_limits(linear):
    done = tune(
        linear, *SHORT, "--max-trials", "1", "--memory-mb", "900", "--p99-ms", "0.001", code=1
    )
    assert "nothing keeps to --p99-ms 0.001 and --memory-mb 900 (the defaults: p99 " in done.stderr


def test_ctrl_c_leaves_the_best_so_far(linear):
    """And the trials, for the next run."""
    state, first = state_of(linear)
    state.add(Trial(Candidate(), 0, 8, rate=100))
    state.add(Trial(first, 0, 8, rate=200))
    with subprocess.Popen(
        [BIN / "mms-handler", "tune", linear, *SHORT],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        path = linear.with_name("linear.mar.tune")
        wait_for(lambda: len(path.read_text().splitlines()) > 3, 60)  # one more trial
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: the same command goes on from here" in errors
    assert "not confirmed" in output
    assert archive.manifest_of(linear).tuned is not None
    assert len(State(path, json.loads(path.read_text().splitlines()[0])["tune"]).trials) >= 3
