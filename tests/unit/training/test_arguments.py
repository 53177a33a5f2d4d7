"""training.arguments: the nine arguments of a legacy train()."""

from __future__ import annotations

import multiprocessing

import pytest

from mms_handler.errors import TrainingError
from mms_handler.training import arguments
from mms_handler.training.job import Job


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put an nvidia-smi with this output and exit code on the PATH; without it there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(listing, code=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n[ $1 = --list-gpus ] && echo '{listing}'\nexit {code}\n")
        program.chmod(0o755)

    return write


def test_the_nine(tmp_path, monkeypatch, nvidia_smi):
    """Folders are absolute texts; a channel without a configuration is in FILE mode."""
    monkeypatch.chdir(tmp_path)
    nvidia_smi("GPU 0: A\nGPU 1: B\nno GPU")
    (tmp_path / "d").mkdir()
    job = Job(
        entry_point=tmp_path / "train.py",
        hyperparameters={"lr": 1},
        channels={"a": tmp_path / "d" / ".." / "d", "b": tmp_path / "b"},
        model_dir=tmp_path / "m",
        output_data_dir=tmp_path / "o",
        hosts=("h1", "h2"),
        current_host="h2",
        input_data_config={"b": {"TrainingInputMode": "Pipe"}, "c": {"X": 1}},
    )
    assert list(arguments.keyword_arguments(job).items()) == [
        ("hyperparameters", {"lr": 1}),
        (
            "input_data_config",
            {
                "a": {
                    "TrainingInputMode": "File",
                    "S3DistributionType": "FullyReplicated",
                    "RecordWrapperType": "None",
                },
                "b": {"TrainingInputMode": "Pipe"},
                "c": {"X": 1},
            },
        ),
        ("channel_input_dirs", {"a": f"{tmp_path}/d", "b": f"{tmp_path}/b"}),
        ("output_data_dir", f"{tmp_path}/o"),
        ("model_dir", f"{tmp_path}/m"),
        ("num_gpus", 2),
        ("num_cpus", multiprocessing.cpu_count()),
        ("hosts", ["h1", "h2"]),
        ("current_host", "h2"),
    ]


def test_no_gpus(nvidia_smi):
    """No nvidia-smi, and one that fails."""
    assert arguments.host_gpu_count() == 0
    nvidia_smi("GPU 0: broken", code=1)
    assert arguments.host_gpu_count() == 0


VALUES = {"hosts": 1, "num_cpus": 2}


def some(hosts, *, num_cpus): ...
def every(hosts, **others): ...
def own(hosts, learning_rate=0.1): ...
def more(hosts, learning_rate): ...
def keyword(*rest, learning_rate): ...
def positional(learning_rate, /): ...


@pytest.mark.parametrize(
    ("function", "selected"),
    [(some, VALUES), (every, VALUES), (own, {"hosts": 1}), (lambda: 0, {}), (lambda *a: 0, {})],
)
def test_select(function, selected):
    """The parameters that a function has; all for ``**kwargs``."""
    assert arguments.select(function, VALUES) == selected


@pytest.mark.parametrize("function", [more, keyword, positional])
def test_a_parameter_that_nobody_passes(function):
    with pytest.raises(TrainingError, match=r"^train\(\) requires learning_rate, but is called o"):
        arguments.select(function, VALUES)


def test_required_parameters():
    """All that are unknown are named; the nine are none of them."""
    arguments.check_required(arguments.NAMES)
    with pytest.raises(TrainingError, match=r"^train\(\) requires lr, depth, but"):
        arguments.check_required(["lr", "hosts", "depth"])
