"""mms-handler train with SageMaker's folders and with options; each way a training can end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from running_mms import BIN, EXAMPLES, wait_for

from mms_handler import archive


def run(*words: object, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(BIN / "mms-handler"), *map(str, words)],
        capture_output=True,
        env={**os.environ, **env},
        timeout=120,
        check=False,
    )


@pytest.fixture
def base(tmp_path):
    """A folder like /opt/ml for one host, with a channel in FILE mode and one in PIPE mode."""
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    files = {
        "hyperparameters": {
            "epochs": "3",
            "optimizer": '"adam"',
            "name": "plain text",
            "sagemaker_program": '"train.py"',
        },
        "inputdataconfig": {
            "training": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"},
            "stream": {"TrainingInputMode": "Pipe"},
        },
        "resourceconfig": {"current_host": "algo-1", "hosts": ["algo-1"]},
    }
    for name, content in files.items():
        (config / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "input" / "data" / "training").mkdir(parents=True)
    (tmp_path / "code").mkdir()
    return tmp_path


def write(base: Path, source: str) -> None:
    (base / "code" / "train.py").write_text(f"import json, os, sys\n{source}")


SHOW = """
def train(**kwargs):
    channels = {k: v for k, v in os.environ.items() if k.startswith("SM_CHANNEL")}
    with open(os.path.join(kwargs["output_data_dir"], "result.json"), "w") as file:
        json.dump({**kwargs, "cwd": os.getcwd(), "variables": channels}, file)
    print("this is the script")
"""


def test_a_container_of_sagemaker(base):
    """`train` without options reads SageMaker's files and leaves the success file."""
    write(base, SHOW)
    done = run("train", SAGEMAKER_BASE_DIR=str(base), PATH="")
    assert done.returncode == 0, done.stderr.decode()
    assert b"this is the script\n" in done.stdout
    assert b"legacy mode: " in done.stderr
    assert (base / "output" / "success").read_bytes() == b""
    assert not (base / "output" / "failure").exists()
    result = json.loads((base / "output" / "data" / "result.json").read_text())
    assert result.pop("num_cpus") == os.cpu_count()
    result.pop("cwd")
    assert result == {
        "hyperparameters": {
            "epochs": 3,
            "optimizer": "adam",
            "name": "plain text",
            "sagemaker_program": "train.py",
        },
        "input_data_config": {
            "training": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"},
            "stream": {"TrainingInputMode": "Pipe"},
        },
        "channel_input_dirs": {"training": f"{base}/input/data/training"},
        "output_data_dir": f"{base}/output/data",
        "model_dir": f"{base}/model",
        "num_gpus": 0,
        "hosts": ["algo-1"],
        "current_host": "algo-1",
        "variables": {"SM_CHANNEL_STREAM": f"{base}/input/data/stream"},
    }


def test_options_win_over_files(base, tmp_path_factory):
    """A channel, a hyperparameter, a host and a folder of the command line replace the files'."""
    other = tmp_path_factory.mktemp("other")
    write(base, SHOW)
    done = run(
        "train", "--base-dir", base, "--channel", f"training={other}", "--hp", "epochs=9",
        "--output-data-dir", base / "elsewhere", "--hosts", "me", "--current-host", "me",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads((base / "elsewhere" / "result.json").read_text())
    assert result["hyperparameters"]["epochs"] == 9
    assert result["hyperparameters"]["optimizer"] == "adam"
    assert result["channel_input_dirs"] == {"training": str(other)}
    assert (result["hosts"], result["current_host"]) == (["me"], "me")
    done = run("train", "--base-dir", base, "--raw-hyperparameters", "--hp", "epochs=9")
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads((base / "output" / "data" / "result.json").read_text())
    assert result["hyperparameters"] == {
        "epochs": "9",
        "optimizer": '"adam"',
        "name": "plain text",
        "sagemaker_program": "train.py",
    }


@pytest.mark.parametrize(
    ("source", "first_line"),
    [
        pytest.param(
            "def train(**kwargs):\n    raise ValueError('too\\nbad')",
            "train: ValueError: too bad (train.py, line 3)",
            id="an exception",
        ),
        pytest.param(
            "def train(**kwargs):\n    raise OSError('no number')",
            "train: OSError: no number (train.py, line 3)",
            id="an OSError without errno",
        ),
        pytest.param(
            "def train(**kwargs):\n    sys.exit(0)",
            "train: SystemExit: 0 (train.py, line 3)",
            id="sys.exit",
        ),
        pytest.param(
            "def train(**kwargs):\n    raise KeyboardInterrupt",
            "train: KeyboardInterrupt (train.py, line 3)",
            id="KeyboardInterrupt",
        ),
        pytest.param(
            "def train(**kwargs):\n    os._exit(0 + 7)",
            "train: ended with exit code 7",
            id="os._exit",
        ),
        pytest.param(
            "def train(**kwargs):\n    os.kill(os.getpid(), 9)",
            "train: killed by SIGKILL",
            id="killed",
        ),
        pytest.param(
            "open('/nowhere', 'w')\ndef train(data, rate, hosts): pass",
            "checking the job: train() requires data, rate, but is called only with "
            "hyperparameters, input_data_config, channel_input_dirs, output_data_dir, model_dir, "
            "num_gpus, num_cpus, hosts, current_host",
            id="parameters that train is not called with, before anything is run",
        ),
        pytest.param(
            "import mxnet as mx\ndef train(**kwargs): return mx.gluon.nn.Dense(3)",
            "save: the default save writes a Module, or a HybridBlock that was called; train "
            "returned a Dense: define save(model, model_dir) in the script, or save the model in "
            "train and return nothing",
            id="a Block that was never called, without save",
        ),
        pytest.param(
            "def train(**kwargs: pass",
            "checking the job: train.py, line 2: invalid syntax",
            id="a syntax error",
        ),
        pytest.param(
            "def train(**kwargs):\n    os._exit(0)",
            "train: the script ended its process with exit code 0 before train and save had ",
            id="os._exit with 0",
        ),
        pytest.param(
            "def train(**kwargs): return 1\ndef save(model, model_dir): os._exit(0)",
            "save: the script ended its process with exit code 0 before train and save had ",
            id="os._exit with 0 in save",
        ),
        pytest.param(
            "def train(**kwargs):\n    sys.stderr.close(); raise KeyError('closed')",
            "train: KeyError: 'closed' (train.py, line 3)",
            id="an exception after standard error was closed",
        ),
        pytest.param(
            "import ctypes\ndef train(**kwargs): ctypes.string_at(0)",
            "train: Fatal Python error: Segmentation fault (train.py, line 3, in train)",
            id="native code",
        ),
        pytest.param(
            "def train(**kwargs): pass",
            "starting the script: hyperparameter sagemaker_container_log_level: 'loud' is not a "
            "level of Python's logging; use a number or a name, such as 20 or INFO",
            id="a log level",
        ),
    ],
)
def test_each_failure(base, source, first_line):
    """Exit code 1, no success file, and the reason on the failure file's first line."""
    write(base, source)
    level = ["--hp", "sagemaker_container_log_level=loud"] if "loud" in first_line else []
    done = run("train", "--base-dir", base, *level)
    assert done.returncode == 1
    assert not (base / "output" / "success").exists()
    reason = (base / "output" / "failure").read_text().splitlines()[0]
    assert reason.startswith(f"algo-1: {first_line}")
    if first_line.startswith(("train: ValueError", "train: OSError")):
        # The traceback is the script's alone.
        assert b'train.py", line 3, in train' in done.stderr
        assert b"legacy.py" not in done.stderr
    assert done.stderr.decode().splitlines()[-1] == f"error: {reason}"


@pytest.mark.parametrize(
    ("file", "content", "words", "reason"),
    [
        pytest.param("input/config/hyperparameters.json", "{", [],
                     "reading the job: cannot read {base}/input/config/hyperparameters.json: ",
                     id="bad JSON"),
        pytest.param("input/config/inputdataconfig.json", '{"train": 3}', [],
                     "reading the job: {base}/input/config/inputdataconfig.json: channel train is "
                     "a JSON int, but must be an object", id="a channel that is no object"),
        pytest.param("input/config/hyperparameters.json", "{}", [],
                     "reading the job: no script is named; ", id="no script"),
        pytest.param("extra", "", ["--source-dir", "{base}/missing.tar.gz"],
                     "fetching the code: the code {base}/missing.tar.gz does not exist",
                     id="no archive"),
        pytest.param("extra", "", ["--archive", "a/../../b"], "packing: ", id="packing"),
    ],
)  # fmt: skip
def test_what_fails_before_or_after_the_run(base, file, content, words, reason):
    """The failure file has it too; the last run's success is gone."""
    write(base, "def train(**kwargs): pass")
    (base / "output").mkdir()
    (base / "output" / "success").touch()
    (base / file).write_text(content)
    done = run("train", "--base-dir", base, *(word.format(base=base) for word in words))
    assert done.returncode == 1
    (path,) = (path for path in (base / "output").iterdir() if path.is_file())
    assert path.name == "failure"
    line = path.read_text().splitlines()[0]
    assert line.startswith(f"algo-1: {reason.format(base=base)}")
    assert line in done.stderr.decode().splitlines()[-1]


def test_a_hybrid_block_without_save_is_exported(base):
    """With the shapes it was called with, so that the defaults serve it."""
    write(
        base,
        "import mxnet as mx\n"
        "def train(**kwargs):\n"
        "    net = mx.gluon.nn.Dense(1, in_units=2)\n"
        "    net.initialize(mx.init.One())\n"
        "    net(mx.nd.ones((5, 2)))\n"
        "    return net\n",
    )
    assert run("train", "--base-dir", base).returncode == 0
    (base / "two.json").write_text("[[1, 2], [3, 4]]")
    shapes = json.loads((base / "model" / "model-shapes.json").read_text())
    assert [entry["shape"] for entry in shapes] == [[5, 2]]
    done = run("check", base / "model", "--sample", base / "two.json")
    assert "200 application/json: [[3.0], [7.0]]" in done.stdout.decode()


FITS = """
import multiprocessing, time
import mxnet as mx

def sleep(_):
    while True:
        try:
            time.sleep(600)
        except BaseException:  # as loaders that skip bad pictures have it
            pass

def train(hyperparameters, **kwargs):
    data = mx.io.NDArrayIter({"data": mx.nd.ones((4, 2))}, {"softmax_label": mx.nd.zeros((4,))}, 2)
    layer = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2)
    module = mx.mod.Module(mx.sym.SoftmaxOutput(layer, name="softmax"))
    module.fit(data, num_epoch=2, eval_metric="acc")
    pool = multiprocessing.Pool(8)
    pool.map_async(sleep, range(8))
    time.sleep(0.5)  # most of them sleep by now
    pool.terminate()  # sends SIGTERM, and waits
    pool.join()
    return module

def save(model, model_dir):
    pass
"""


def test_a_module_that_fits(base):
    """Its lines are in the log once, at the job's level; workers that it forked end by SIGTERM.

    A save that writes nothing is warned of.
    """
    write(base, FITS)
    for level, count in (("20", 1), ('"WARNING"', 0)):
        done = run("train", "--base-dir", base, "--hp", f"sagemaker_container_log_level={level}")
        assert done.returncode == 0, done.stderr.decode()
        lines = done.stderr.decode().splitlines()
        assert sum("Epoch[1] Train-accuracy=1.0" in line for line in lines) == count
        assert [line.partition(" - ")[2] for line in lines if "WARNING" in line] == [
            "mms_handler.training.legacy - train.py: train returned a Module, but nothing was "
            f"saved to the model's folder {base}/model"
        ]


STOPPABLE = """
import time

def train(model_dir, **kwargs):
    try:
        open(os.path.join(model_dir, "started"), "w").close()
        time.sleep(60)
    finally:
        open(os.path.join(model_dir, "saved"), "w").close()
"""


def test_sigterm_gives_the_script_its_chance(base):
    """The script's finally runs, the exit code is 143, and the failure file names the signal."""
    write(base, STOPPABLE)
    process = subprocess.Popen(
        [str(BIN / "mms-handler"), "train", "--base-dir", str(base)], stderr=subprocess.PIPE
    )
    wait_for(lambda: (base / "model" / "started").exists(), 20)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 143
    assert b"Traceback" not in log  # the script has not failed
    assert (base / "model" / "saved").exists()
    assert (base / "output" / "failure").read_text().startswith("algo-1: train: stopped by SIGTERM")
    assert not (base / "output" / "success").exists()


DESTRUCTOR = """
import time

class Slow:
    def __del__(self):
        open(sys.argv[-1], "w").close()
        time.sleep(600)

def train(model_dir, **kwargs):
    sys.argv.append(os.path.join(model_dir, "started"))
    Slow()
    time.sleep(600)
"""


def test_sigterm_in_a_destructor(base):
    """Python drops the exception there, so it is raised again after it."""
    write(base, DESTRUCTOR)
    process = subprocess.Popen([str(BIN / "mms-handler"), "train", "--base-dir", str(base)])
    wait_for(lambda: (base / "model" / "started").exists(), 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143


SCRIPT_MODE = """
import argparse

def train(batch_size, model_dir):
    with open(os.path.join(model_dir, "result.json"), "w") as file:
        channels = {k: v for k, v in os.environ.items() if k.startswith("SM_CHANNEL")}
        json.dump([batch_size, os.getcwd(), channels], file)
    sys.exit(int(os.environ["SM_HP_CODE"]))

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--code")
    parser.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
    args, _ = parser.parse_known_args()
    train(args.batch_size, args.model_dir)
"""


@pytest.mark.parametrize("code", [0, 3])
def test_script_mode(base, code):
    """The file is run in its folder, with hyperparameters as arguments; its exit code decides."""
    write(base, SCRIPT_MODE)
    done = run("train", "--base-dir", base, "--hp", "batch-size=32", "--hp", f"code={code}")
    assert b"script mode: " in done.stderr
    assert done.returncode == (1 if code else 0)
    assert (base / "output" / "success").exists() == (code == 0)
    result = json.loads((base / "model" / "result.json").read_text())
    channels = {
        "SM_CHANNELS": '["stream","training"]',
        "SM_CHANNEL_TRAINING": f"{base}/input/data/training",
        "SM_CHANNEL_STREAM": f"{base}/input/data/stream",
    }
    assert result == [32, str(base / "code"), channels]


def test_from_training_to_an_archive_in_one_line(tmp_path):
    """--archive packs the model and the script, as .mar and as SageMaker's model.tar.gz."""
    from sklearn.datasets import load_iris

    data, species = load_iris(return_X_y=True)
    np.savetxt(tmp_path / "iris.csv", np.column_stack([data, species]), delimiter=",", fmt="%g")
    done = run(
        "train", "--source-dir", EXAMPLES / "gluon_blocks" / "code", "--entry-point", "train.py",
        "--channel", f"train={tmp_path}", "--base-dir", tmp_path / "base",
        "--archive", "irises", "--model-store", tmp_path / "store",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    archive.unpack(tmp_path / "store" / "irises.mar", tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "code" / "inference.py").is_file()
    (tmp_path / "flower.csv").write_text("5.1,3.5,1.4,0.2")
    done = run("check", tmp_path / "store" / "irises.mar", "--sample", tmp_path / "flower.csv")
    assert '200 application/json: ["setosa"]' in done.stdout.decode()
    with tarfile.open(tmp_path / "store" / "irises.tar.gz") as packed:
        assert sorted(packed.getnames()) == ["code/inference.py", "code/train.py", "net.params"]


IN_A_SUBFOLDER = """
from shared.words import greeting
import sibling
import vendored

def train(hyperparameters):
    return hyperparameters["name"]

def save(name, model_dir):
    with open(model_dir + "/name", "w") as file:
        file.write(name)

def model_fn(model_dir):
    return open("name").read()

def transform_fn(model, data, content_type, accept):
    return [greeting, model, sibling.NAME, vendored.NAME]
"""


def test_a_script_in_a_subfolder(tmp_path):
    """It imports from its own folder and from its code's; the archive knows where it is."""
    for name, source in {
        "jobs/main.py": IN_A_SUBFOLDER,
        "jobs/sibling.py": "NAME = 'sibling'",
        "shared/words.py": "greeting = 'hello'",
        "lib/vendored.py": "NAME = 'vendored'",
        "other.py": "",
    }.items():
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_text(source)
    done = run(
        "train", "--source-dir", tmp_path / "code", "--entry-point", "jobs/main.py",
        "--hp", "name=world", "--base-dir", tmp_path / "base",
        "--archive", "nested", "--model-store", tmp_path / "store",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "any.json").write_text("[1]")
    done = run("check", tmp_path / "store" / "nested.mar", "--sample", tmp_path / "any.json")
    assert '200 application/json: ["hello", "world", "sibling", "vendored"]' in done.stdout.decode()


WRITES_ITS_RANK = """
import mxnet as mx

def train(hosts, current_host, model_dir, **kwargs):
    kv = mx.kv.create("dist_sync")
    kv.init("sum", mx.nd.zeros(1))
    kv.push("sum", mx.nd.array([10 ** kv.rank]))
    total = mx.nd.zeros(1)
    kv.pull("sum", out=total)
    with open(os.path.join(model_dir, "result.json"), "w") as file:
        json.dump([kv.num_workers, kv.rank, total.asscalar().item(), current_host], file)
"""


def test_two_local_hosts_add_up(base):
    """Each worker has its rank, and the sum holds what both pushed."""
    write(base, WRITES_ITS_RANK)
    done = run("train", "--base-dir", base, "--local-hosts", "2")
    assert done.returncode == 0, done.stderr.decode()
    folders = [base / "model", base / "hosts" / "algo-2" / "model"]
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    assert sorted(rank for _, rank, _, _ in results) == [0, 1]
    assert [(workers, total, host) for workers, _, total, host in results] == [
        (2, 11.0, "algo-1"),
        (2, 11.0, "algo-2"),
    ]


def test_digits_on_two_hosts_are_learnt_as_well(tmp_path):
    """Each of two hosts has half the pictures; their model is no worse than that of one host."""
    import mxnet as mx
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    order = np.random.RandomState(7).permutation(len(labels))
    training, held_out = order[360:], order[:360]
    table = np.column_stack([labels[training], pictures[training]])
    np.savetxt(tmp_path / "digits.csv", table, delimiter=",", fmt="%d")
    accuracy = {}
    for hosts in (1, 2):
        done = run(
            "train", "--entry-point", EXAMPLES / "digits" / "code" / "digits.py", "--base-dir",
            tmp_path / str(hosts), "--channel", f"train={tmp_path}", "--local-hosts", hosts,
            "--hp", "epochs=40",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        symbol, arguments, _ = mx.model.load_checkpoint(
            str(tmp_path / str(hosts) / "model/model"), 0
        )
        module = mx.mod.Module(symbol, label_names=None)
        module.bind([("data", (360, 64))], for_training=False)
        module.set_params(arguments, {}, allow_missing=True)
        predicted = module.predict(mx.io.NDArrayIter(pictures[held_out], batch_size=360)).asnumpy()
        accuracy[hosts] = (predicted.argmax(axis=1) == labels[held_out]).mean()
    assert accuracy[1] >= 0.95
    assert accuracy[2] >= accuracy[1]


DIES_ON_ALGO_2 = """
import time
import mxnet as mx

def train(current_host, model_dir, **kwargs):
    kv = mx.kv.create("dist_sync")
    open(os.path.join(model_dir, "started"), "w").close()
    if current_host == "algo-2":
        os.kill(os.getpid(), 9)
    time.sleep(60)
"""


def test_a_lost_worker_ends_the_job(base):
    """kill -9 of one host's worker: exit code 1, and the other host's failure file names it."""
    write(base, DIES_ON_ALGO_2)
    started_at = time.monotonic()
    done = run("train", "--base-dir", base, "--local-hosts", "2")
    assert done.returncode == 1
    assert time.monotonic() - started_at < 40
    failures = [
        (folder / "output" / "failure").read_text().splitlines()[0]
        for folder in (base, base / "hosts" / "algo-2")
    ]
    assert failures == [
        "algo-1: train: host algo-2 was lost: train: killed by SIGKILL",
        "algo-2: train: killed by SIGKILL",
    ]
    assert done.stderr.decode().splitlines()[-1] == ("error: algo-2: train: killed by SIGKILL")


# Rounds in step on two hosts, in a function whose frame alone holds the store.
IN_STEP = """
import mxnet as mx

def steps():
    kv = mx.kv.create("dist_sync")
    kv.init("sum", mx.nd.zeros(3))
    out = mx.nd.zeros(3)
    for step in range(1000000):
        kv.push("sum", mx.nd.ones(3))
        kv.pull("sum", out=out)
        out.wait_to_read()
        if step == 3 and os.environ["CURRENT_HOST"] == "algo-2":
            {}

def train(**kwargs):
    steps()

if __name__ == "__main__":
    steps()
"""


@pytest.mark.parametrize(
    ("mode", "statement", "reason"),
    [
        ("legacy", "raise ValueError('a bad batch')", "train: ValueError: a bad batch"),
        ("script", "sys.exit(3)", "the script: SystemExit: 3"),
    ],
)
def test_a_failure_in_a_synchronous_step_ends_every_host(base, mode, statement, reason):
    """The store's destructor, which waits for the other hosts, is not called."""
    write(base, IN_STEP.format(statement))
    reason += " (train.py, line 14)"
    done = run(
        "train", "--base-dir", base, "--local-hosts", "2", "--mode", mode,
        "--hp", "sagemaker_parameter_server_enabled=true",
    )  # fmt: skip
    assert done.returncode == 1
    failures = [
        (folder / "output" / "failure").read_text().splitlines()[0]
        for folder in (base, base / "hosts" / "algo-2")
    ]
    phase = reason.partition(":")[0]
    assert failures == [
        f"algo-1: {phase}: host algo-2 was lost: {reason}",
        f"algo-2: {reason}",
    ]
    assert done.stderr.decode().splitlines()[-1] == f"error: algo-2: {reason}"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "model has files that no training left there: x"),
        (["--channel", "test=no-data"], "channel test: the folder no-data does not exist"),
    ],
    ids=["algo-2", "both"],
)
def test_a_failure_before_a_host_has_joined_ends_every_host(base, words, reason):
    """Whether the others wait already, start later, or fail as well; all give one reason."""
    write(base, IN_STEP.format("pass"))
    folders = {"algo-1": base, "algo-2": base / "hosts" / "algo-2"}
    if not words:
        (folders["algo-2"] / "model").mkdir(parents=True)
        (folders["algo-2"] / "model" / "x").touch()
    done = run("train", "--base-dir", base, "--local-hosts", "2", "--mode", "legacy", *words)
    assert done.returncode == 1
    first, second = (
        (folder / "output" / "failure").read_text().splitlines()[0] for folder in folders.values()
    )
    assert reason in first
    assert reason in second
    if "algo-2 was lost" in first:
        assert second == first.partition(": ")[2].partition(": ")[2].replace(
            "host algo-2 was lost", "algo-2"
        )
    else:
        assert words
        assert second == f"algo-2: checking the job: {first}".replace(
            ": algo-1:", ": host algo-1 was lost:"
        )


@pytest.mark.parametrize(
    ("number", "mode", "reason"),
    [
        (signal.SIGTERM, "legacy", "train: stopped by SIGTERM"),
        (signal.SIGKILL, "script", "its connection closed"),
    ],
)
def test_a_signal_to_one_host_ends_every_host(base, number, mode, reason):
    """In a synchronous step; the other one names it."""
    write(base, IN_STEP.format("open('started', 'w').close()"))
    process = subprocess.Popen(
        [
            *(BIN / "mms-handler", "train", "--base-dir", base, "--local-hosts", "2"),
            *("--mode", mode, "--hp", "sagemaker_parameter_server_enabled=true"),
        ],
        cwd=base,
        stderr=subprocess.PIPE,
    )
    wait_for(lambda: list(base.rglob("started")), 60)
    (host,) = (
        child
        for child in psutil.Process(process.pid).children()
        if "train-host" in child.cmdline() and "algo-2" in " ".join(child.cmdline())
    )
    host.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    line = (base / "output" / "failure").read_text().splitlines()[0]
    assert line.endswith(f": host algo-2 was lost: {reason}")
    assert errors.decode().splitlines()[-1].startswith("error: algo-2: train")


UNEVEN = """
import threading, time

def train(current_host, **kwargs):
    if current_host == "algo-1":
        threading.Event().wait()
    while True:
        sum(range(1000))
"""


def test_a_host_that_does_nothing(base):
    """With a limit, the job fails, and every host says which host it was."""
    write(base, UNEVEN)
    done = run("train", "--base-dir", base, "--local-hosts", "2", "--stall-s", "3")
    assert done.returncode == 1
    reason = "algo-1: train: no processor time used for 3 s"
    assert (base / "output" / "failure").read_text().startswith(reason)
    assert done.stderr.decode().splitlines()[-1].startswith(f"error: {reason}")


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not installed")
def test_a_rank_that_fails(base):
    """The reason is its exception, not mpirun's own words."""
    write(
        base,
        "import time\n"
        "if os.environ['OMPI_COMM_WORLD_RANK'] == '1':\n"
        "    raise ValueError('a bad batch')\n"
        "time.sleep(60)\n",
    )
    done = run(
        "train", "--base-dir", base, "--hp", "sagemaker_mpi_enabled=true",
        "--hp", "sagemaker_mpi_num_of_processes_per_host=2",
        "--hp", "sagemaker_mpi_custom_mpi_options=--NCCL_DEBUG INFO",
    )  # fmt: skip
    assert done.returncode == 1
    reason = (base / "output" / "failure").read_text().splitlines()[0]
    assert reason == "algo-1: the script: ValueError: a bad batch (train.py, line 4)"


def test_the_package_needs_no_container():
    """`python -m mms_handler` is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "mms_handler", "train", "--help"], capture_output=True, check=True
    )
    assert b"--local-hosts" in done.stdout


def test_mpirun_is_missing(base):
    """The error names the package that has it."""
    write(base, "")
    done = run("train", "--base-dir", base, "--hp", "sagemaker_mpi_enabled=true", PATH="")
    assert done.returncode == 1
    reason = "mpirun is not installed: apt-get install openmpi-bin"
    assert done.stderr.decode().splitlines()[-1].endswith(f": {reason}")


RANKS = """
with open(os.environ["SM_MODEL_DIR"] + "/" + os.environ["OMPI_COMM_WORLD_RANK"], "w") as file:
    file.write(f"{os.environ['OMPI_COMM_WORLD_SIZE']} {len(os.sched_getaffinity(0))}")
"""


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not installed")
def test_mpi_runs_processes_of_one_host(base):
    """As many as the hyperparameter says; each may use all cores."""
    write(base, RANKS)
    done = run(
        "train", "--base-dir", base, "--hp", "sagemaker_mpi_enabled=true",
        "--hp", "sagemaker_mpi_num_of_processes_per_host=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    ranks = {path.name: path.read_text() for path in (base / "model").iterdir()}
    assert ranks == dict.fromkeys("01", f"2 {len(os.sched_getaffinity(0))}")
