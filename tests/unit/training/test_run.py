"""training.run and outcome: a part of a job, from its check to the file that says how it ended.

Scripts run in script mode, which imports no mxnet, except in one test.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
from contextlib import contextmanager

import pytest

from mms_handler.errors import SettingsError, TrainingError
from mms_handler.training import cluster, local_hosts, recorded
from mms_handler.training.job import Job
from mms_handler.training.phases import JobFailed, Stopped, phase
from mms_handler.training.run import _has_mpi_on_several_hosts
from mms_handler.training.run import run as run_part


def run(job, **options):
    """Run a job's part and record how it ended, as the command does."""
    with recorded(job.base_dir, job.current_host):
        run_part(job, **options)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Build a job whose script has this text."""
    monkeypatch.setenv("MMS_HANDLER_CACHE_DIR", str(tmp_path / "cache"))

    def build(script, **fields):
        path = tmp_path / "code" / "train.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        defaults = {
            "hyperparameters": {},
            "channels": {},
            "model_dir": tmp_path / "ml" / "model",
            "output_data_dir": tmp_path / "ml" / "output" / "data",
            "base_dir": tmp_path / "ml",
        }
        return Job(path, **{**defaults, **fields})

    return build


def test_a_job_that_succeeds(job, tmp_path):
    """Its folders are there before; an old failure is gone afterwards."""
    output = tmp_path / "ml" / "output"
    output.mkdir(parents=True)
    (output / "failure").write_text("old")
    script = """
        import json, os, sys
        print("training")
        names = ("SM_MODEL_DIR", "SM_OUTPUT_DATA_DIR", "SM_CHECKPOINT_DIR")
        folders = [os.environ[name] for name in names]
        assert all(os.path.isdir(folder) for folder in folders)
        json.dump([sys.argv[1:], os.listdir(folders[1] + "/..")], open(folders[0] + "/saved", "w"))
    """
    script = "\n".join(line[8:] for line in script.splitlines())
    run(job(script, hyperparameters={"epochs": 3}))
    words, files = json.loads((tmp_path / "ml" / "model" / "saved").read_text())
    assert (words, files) == (["--epochs", "3"], ["data"])
    assert sorted(path.name for path in output.iterdir()) == ["data", "success"]
    assert list((tmp_path / "ml" / "checkpoints").iterdir()) == []


def test_a_model_folder_with_other_files(job, tmp_path):
    """The job fails before anything runs, and force empties the folder."""
    folder = tmp_path / "ml" / "model"
    folder.mkdir(parents=True)
    (folder / "other.params").touch()
    script = "import os\nassert not os.listdir(os.environ['SM_MODEL_DIR'])\n"
    with pytest.raises(JobFailed, match=r"^algo-1: checking the job: .* left there: other\.params"):
        run(job(script))
    assert (folder / "other.params").exists()
    run(job(script, force=True))
    assert list(folder.iterdir()) == []


def test_programs_are_those_of_this_python(job, tmp_path, monkeypatch):
    """A script that runs python or pip gets this one's, also if no environment is activated."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    script = (
        "import os, shutil\n"
        "with open(os.environ['SM_MODEL_DIR'] + '/python', 'w') as file:\n"
        "    file.write(shutil.which('python3'))\n"
    )
    run(job(script))
    assert (tmp_path / "ml" / "model" / "python").read_text() == (
        os.path.join(os.path.dirname(sys.executable), "python3")
    )


def test_checkpoints_stay(job, tmp_path):
    """A run finds what earlier ones wrote, also after a failure."""
    script = """
import os
folder = os.environ["SM_CHECKPOINT_DIR"]
open(f"{folder}/{len(os.listdir(folder))}", "w").close()
raise SystemExit(int(len(os.listdir(folder)) < 3))
"""
    for _ in range(2):
        with pytest.raises(JobFailed):
            run(job(script))
    run(job(script))
    folder = tmp_path / "ml" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "2"]


def test_checkpoints_that_cannot_be_saved(job, tmp_path, caplog):
    """Most scripts need none; but a folder that is named must be there."""
    (tmp_path / "ml").mkdir()
    folder = tmp_path / "ml" / "checkpoints"
    folder.touch()
    run(job("pass"))
    assert f"algo-1: checkpoints cannot be saved: [Errno 17] File exists: '{folder}'" in caplog.text
    with pytest.raises(JobFailed, match="^algo-1: checking the job: .*File exists"):
        run(job("pass", checkpoints=folder))


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_mxnet_does_not_take(job, seed):
    with pytest.raises(
        TrainingError,
        match=f"^algo-1: checking the job: the seed {seed} is not from 0 to 2147483647$",
    ):
        run(job("pass", seed=seed))


def test_parameters_are_checked_before_anything_is_installed(job, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "requirements.txt").write_text("no-such-package-of-any-index==1\n")
    with pytest.raises(
        TrainingError, match=r"^algo-1: checking the job: train\(\) requires data, "
    ):
        run(job("def train(data): pass"))


def test_a_job_that_fails(job, tmp_path):
    """The failure file has the reason, then the details; an old success is gone."""
    output = tmp_path / "ml" / "output"
    output.mkdir(parents=True)
    (output / "success").touch()
    reason = "algo-1: the script: ValueError: no (train.py, line 1)"
    with pytest.raises(JobFailed) as caught:
        run(job("raise ValueError('no')"))
    assert str(caught.value) == reason
    lines = (output / "failure").read_text().splitlines()
    assert lines[:2] == [reason, "ExitCode 1"]
    assert lines[-1] == "ValueError: no"
    assert not (output / "success").exists()


def test_a_job_that_cannot_start(job, tmp_path):
    """Nothing runs."""
    channels = {"train": tmp_path / "nowhere"}
    with pytest.raises(JobFailed, match="^algo-1: checking the job: channel train: the folder"):
        run(job("open('ran', 'w')", channels=channels))
    failure = tmp_path / "ml" / "output" / "failure"
    assert failure.read_text() == (
        f"algo-1: checking the job: channel train: the folder {channels['train']} does not exist\n"
    )


def test_a_disk_that_fails(job, tmp_path, monkeypatch):
    """Every failure has its file, if one can be written."""
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    with pytest.raises(
        JobFailed, match="^algo-1: starting the script: .*/nonexistent/mms-handler-"
    ):
        run(job("pass"))
    assert "/nonexistent/mms-handler-" in (tmp_path / "ml" / "output" / "failure").read_text()


def record(folder, before, exc):
    """Record a command that does something and then fails."""
    with recorded(folder, "algo-2"), phase("packing"):
        before()
        raise exc


@pytest.mark.parametrize(
    ("raised", "reason", "exit_code"),
    [
        (TrainingError("no script"), "no script", 1),
        (SettingsError("no number"), "no number", 2),
        (Stopped(15), "stopped by SIGTERM", 143),
        (OSError(28, "No space left"), "[Errno 28] No space left", 1),
        (OSError(), "OSError", 1),
        (KeyboardInterrupt(), "KeyboardInterrupt", None),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero", None),
    ],
)
def test_whatever_ends_the_command_is_recorded(tmp_path, raised, reason, exit_code):
    """Before the run and after it: the last run's files are gone, the reason is there."""
    output = tmp_path / "output"
    output.mkdir()
    for name in ("success", "failure"):
        (output / name).write_text("old")
    left = []
    with pytest.raises(JobFailed if exit_code else type(raised)) as caught:
        record(tmp_path, lambda: left.extend(output.iterdir()), raised)
    assert left == []
    line = f"algo-2: packing: {reason}"
    assert {path.name: path.read_text() for path in output.iterdir()} == {"failure": f"{line}\n"}
    if exit_code:
        assert (str(caught.value), caught.value.exit_code) == (line, exit_code)


def test_a_success_that_was_noted_too_early(tmp_path):
    """A job that fails afterwards has none."""
    success = tmp_path / "output" / "success"
    with pytest.raises(JobFailed, match="^algo-2: packing: no$"):
        record(tmp_path, success.touch, TrainingError("no"))
    assert not success.exists()


def test_the_innermost_phase_counts(tmp_path):
    """Where none is known, it is the command itself that failed."""
    with pytest.raises(JobFailed, match="^algo-2: unpacking: no$"):
        record(tmp_path, lambda: raise_in("unpacking", TrainingError("no")), None)
    with pytest.raises(JobFailed, match="^algo-1: mms-handler: no$"), recorded(tmp_path, "algo-1"):
        raise TrainingError("no")


def raise_in(name, exc):
    with phase(name):
        raise exc


def test_a_long_reason(tmp_path):
    """SageMaker shows 1,024 characters: the beginning and the place are among them."""
    with pytest.raises(JobFailed):
        record(tmp_path, list, TrainingError(f"begin {'x' * 5000} (train.py, line 3)\nand more"))
    line, *rest = (tmp_path / "output" / "failure").read_text().splitlines()
    assert len(line) < 1000
    assert line.startswith("algo-2: packing: begin xxx")
    assert line.endswith("xxx (train.py, line 3)")
    assert rest == ["and more"]


def test_the_innermost_failure_is_recorded(tmp_path):
    """A host's own reason stays, although the command's names the host; success does not."""

    def hosts():
        with recorded(tmp_path, "algo-1"):
            pass
        assert (tmp_path / "output" / "success").exists()
        with pytest.raises(JobFailed, match="^algo-2: packing: its own$"):
            record(tmp_path, list, TrainingError("its own"))

    with pytest.raises(JobFailed, match="^algo-3: train: all$"):
        record(tmp_path, hosts, JobFailed("algo-3: train: all"))
    failure = tmp_path / "output" / "failure"
    assert failure.read_text() == "algo-2: packing: its own\n"


def test_a_failure_file_that_cannot_be_written(tmp_path, caplog):
    """The script's reason is not lost: the log has it, and the disk's trouble after it."""
    failure = tmp_path / "output" / "failure"
    with pytest.raises(JobFailed, match="^algo-2: packing: no weights$"):
        record(tmp_path, lambda: failure.symlink_to("/dev/full"), TrainingError("no weights"))
    assert "algo-2: packing: no weights; " in caplog.text
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize("mode", [None, "legacy", "script"])
def test_the_mode(job, caplog, mode):
    """By the script, unless it is given; the log says which, and why."""
    caplog.set_level("INFO", "mms_handler.training.run")
    script = "def train(): print('called')\nprint(__name__)\n"
    name = "script" if mode == "script" else "legacy"
    if name == "legacy":  # it would import mxnet; this ends it before
        script += "def train(learning_rate): pass\n"
        with pytest.raises(JobFailed, match=r"^algo-1: checking the job: train\(\) requires lea"):
            run(job(script), mode=mode)
    else:
        run(job(script), mode=mode)
    assert f"{name} mode: " in caplog.text


@pytest.fixture
def joined(monkeypatch):
    """The cluster that a job joins, without its scheduler and servers."""
    calls = []

    class Member:
        variables = {"DMLC_ROLE": "worker"}

        def lost(self):
            return None

        def finished(self, stop):
            calls.append("finished")

    @contextmanager
    def join(hosts, current_host, **options):
        calls.append((hosts, current_host, options))
        yield Member()

    monkeypatch.setattr(cluster, "joined", join)
    monkeypatch.setattr(cluster, "addresses", lambda hosts, resolve: [resolve(h) for h in hosts])
    return calls


def test_a_parameter_server(job, joined, tmp_path):
    """Script mode has one if the hyperparameters say so; its variables reach the script."""
    script = (
        "import os; open(os.environ['SM_MODEL_DIR'] + '/role', 'w').write(os.environ['DMLC_ROLE'])"
    )
    parameters = {"sagemaker_parameter_server_enabled": True}
    run(job(script, hyperparameters=parameters, hosts=("localhost",), current_host="localhost"))
    (call, finished) = joined
    options = dict(call[2])
    assert options.pop("env")["MMS_HANDLER_CACHE_DIR"] == str(tmp_path / "cache")
    assert call[:2] == (("localhost",), "localhost")
    addresses = [socket.gethostbyname("localhost")]
    assert options == {
        "addresses": addresses,
        "port": 8000,
        "verbose": 0,
        "parameter_server": True,
    }
    assert finished == "finished"
    assert (tmp_path / "ml" / "model" / "role").read_text() == "worker"


def test_its_port(job, joined):
    """Hyperparameters can change it; a trial on this machine has a free one, and no names."""
    parameters = {"sagemaker_parameter_server_enabled": True, "_ps_port": "77", "_ps_verbose": 2}
    part = job("pass", hyperparameters=parameters, hosts=("localhost",), current_host="localhost")
    run(part)
    run(part._replace(hosts=("no-such-host",), current_host="no-such-host"), local_port=55)
    options = [call[2] for call in joined if call != "finished"]
    assert [(each["port"], each["verbose"]) for each in options] == [(77, 2), (55, 2)]
    assert options[1]["addresses"] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("mode", "hosts", "joins"), [("legacy", 2, True), ("legacy", 1, False), ("script", 2, False)]
)
def test_who_has_a_parameter_server(job, joined, monkeypatch, mode, hosts, joins):
    """Legacy scripts on several hosts, without being asked."""
    ran = []
    monkeypatch.setattr(
        "mms_handler.training.supervise.run", lambda command, env, member, **_: ran.append(member)
    )
    names = ("127.0.0.1", "127.0.0.2")[:hosts]
    part = job("def train(): pass", hosts=names, current_host="127.0.0.1")
    run(part, mode=mode)
    assert [member is not None for member in ran] == [joins]
    assert len(joined) == joins


@pytest.mark.parametrize("mpi", [False, True])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_who_starts_processes_on_other_hosts(job, mpi, legacy, count):
    """Script-mode scripts that ask for MPI, on several hosts."""
    part = job(
        "pass",
        hosts=("algo-1", "algo-2")[:count],
        hyperparameters={"sagemaker_mpi_enabled": True} if mpi else {},
    )
    spreads = _has_mpi_on_several_hosts(part, legacy)
    assert spreads == (mpi and not legacy and count == 2)


# --- several hosts on this machine -----------------------------------------------------------


def test_each_local_host_has_its_folders(job, tmp_path):
    """The first one the job's own."""
    hosts = ("algo-1", "algo-2")
    first, second = (local_hosts._job_of(job("pass"), host, hosts) for host in hosts)
    assert first == job("pass")._replace(hosts=hosts, current_host="algo-1")
    base = tmp_path / "ml" / "hosts" / "algo-2"
    assert second == job("pass")._replace(
        hosts=hosts,
        current_host="algo-2",
        base_dir=base,
        model_dir=base / "model",
        output_data_dir=base / "output" / "data",
    )
    assert second.checkpoint_dir == base / "checkpoints"
    part = job("pass", checkpoints=tmp_path / "c")
    assert local_hosts._job_of(part, "algo-1", hosts).checkpoint_dir == tmp_path / "c"
    assert local_hosts._job_of(part, "algo-2", hosts).checkpoint_dir == base / "checkpoints"


def test_the_reason_of_several_hosts():
    """A host that lost another one is no reason, unless there is no other."""
    lost = {"algo-1": "algo-1: train: host algo-2 was lost: train: no"}
    assert local_hosts._reason(lost) == lost["algo-1"]
    other = {"algo-2": "algo-2: train: no"}
    assert local_hosts._reason({**lost, **other}) == "algo-2: train: no"
    third = {"algo-3": "algo-3: save: no"}
    assert local_hosts._reason({**lost, **other, **third}) == "algo-2: train: no; algo-3: save: no"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("algo-1: save: no\nmore", 1, "algo-1: save: no"),
        ("", 1, "algo-1: training: mms-handler ended with 1, without a reason"),
        (None, -9, "algo-1: training: mms-handler was killed by SIGKILL, without a reason"),
    ],
)
def test_the_failure_of_a_host(job, text, code, line):
    """The file's first line; a full disk leaves an empty file, and a killed host none."""
    part = job("pass")
    part.output_dir.mkdir(parents=True)
    if text is not None:
        (part.output_dir / "failure").write_text(text)
    assert local_hosts.first_line_of_failure(part, code) == line


def test_local_hosts(job, tmp_path):
    """Each runs its part; the job fails if one of them does, and says which."""
    script = (
        "import os, sys; print(os.environ['SM_HOSTS'])\n"
        "sys.exit('no weights') if os.environ['SM_CURRENT_HOST'] == 'algo-2' else None\n"
    )
    with pytest.raises(JobFailed, match="^algo-2: the script: no weights$"):
        local_hosts.run_job(job(script), mode="script", local_hosts=2)
    assert (tmp_path / "ml" / "output" / "success").exists()
    assert (tmp_path / "ml" / "hosts" / "algo-2" / "output" / "failure").exists()


def test_checkpoints_and_seed_of_local_hosts(job, tmp_path):
    """Each has a folder of its own and the same seed."""
    script = (
        "import os, random\n"
        "with open(os.environ['SM_CHECKPOINT_DIR'] + '/drawn', 'w') as file:\n"
        "    file.write(f'{random.random()} {hash(str(5))}')\n"
    )
    local_hosts.run_job(job(script, seed=5), mode="script", local_hosts=2)
    folders = (tmp_path / "ml", tmp_path / "ml" / "hosts" / "algo-2")
    first, second = ((folder / "checkpoints" / "drawn").read_text() for folder in folders)
    assert first == second
    assert first.split()[0] == str(random.Random(5).random())


@pytest.mark.parametrize(
    ("parameters", "local_port", "port"),
    [({}, None, 8002), ({"_ps_port": 9000}, None, 9002), ({}, 20_000, None)],
)
def test_mpi_that_cannot_be_prepared(job, monkeypatch, parameters, local_port, port):
    """The failure names that phase.  sshd's port follows the hub's; in a trial any one is taken."""
    ports = []

    @contextmanager
    def joined(*_):
        yield object()

    def spread(*arguments):
        ports.append(arguments[-1])
        raise TrainingError("no sshd")

    monkeypatch.setattr("mms_handler.training.run._cluster", joined)
    monkeypatch.setattr("mms_handler.training.run.mpi_hosts.spread", spread)
    parameters = {"sagemaker_mpi_enabled": True, **parameters}
    part = job("print()", hyperparameters=parameters, hosts=("algo-1", "algo-2"))
    with pytest.raises(TrainingError):
        run(part, mode="script", local_port=local_port)
    failure = (part.output_dir / "failure").read_text()
    assert failure.splitlines()[0] == "algo-1: preparing MPI: no sshd"
    assert ports == [port]
