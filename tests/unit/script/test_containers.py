"""script.containers: the old containers' modules and variables."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import mxnet as mx
import pytest

from mms_handler.errors import ModelError, ScriptError
from mms_handler.script import containers

FILES = ["model-0000.params", "model-shapes.json", "model-symbol.json"]


@pytest.fixture(autouse=True)
def without_hosts(monkeypatch):
    """Remove this shell's SM_* variables, and afterwards the modules that were installed."""
    for name in ("SM_HOSTS", "SM_CURRENT_HOST", "SM_TRAINING_ENV"):
        monkeypatch.delenv(name, raising=False)
    yield
    for name in list(sys.modules):
        if name.partition(".")[0] in containers.PACKAGES:
            del sys.modules[name]


def saved(folder):
    return sorted(path.name for path in folder.iterdir())


# --- the modules ---


@pytest.mark.parametrize("package", ["sagemaker_mxnet_container", "sagemaker_mxnet_training"])
def test_training_utils_can_be_imported_by_both_names(package):
    """As a module and as its package's attribute; a second install changes nothing."""
    containers.install()
    utils = importlib.import_module(f"{package}.training_utils")
    containers.install()
    assert importlib.import_module(package).training_utils is utils
    assert sys.modules[f"{package}.training_utils"] is utils
    assert (utils.save, utils.scheduler_host) == (
        containers.save,
        containers.scheduler_host,
    )


def test_the_package_has_no_other_modules():
    """Other modules of the real package are not found."""
    containers.install()
    with pytest.raises(ModuleNotFoundError, match="sagemaker_mxnet_container.serving"):
        importlib.import_module("sagemaker_mxnet_container.serving")


def test_an_installed_package_is_kept(tmp_path, monkeypatch):
    """If the real package can be imported, scripts get its save."""
    (tmp_path / "sagemaker_mxnet_container").mkdir()
    (tmp_path / "sagemaker_mxnet_container" / "training_utils.py").write_text("save = 'real'\n")
    (tmp_path / "sagemaker_mxnet_container" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    containers.install()
    assert importlib.import_module("sagemaker_mxnet_container.training_utils").save == "real"
    stand_in = importlib.import_module("sagemaker_mxnet_training.training_utils")
    assert stand_in.save is containers.save


def test_installing_does_not_import_mxnet():
    """In a fresh process."""
    code = (
        "import sys; from mms_handler.script import containers; containers.install(); "
        "from sagemaker_mxnet_container.training_utils import save, scheduler_host; "
        "print('mxnet' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


# --- training_env ---


def test_training_env_is_the_job_that_runs(monkeypatch):
    """By both packages' names; the values are attributes."""
    job = {"channel_input_dirs": {"train": "/data"}, "hyperparameters": {"lr": 0.1}, "num_gpus": 0}
    monkeypatch.setenv("SM_TRAINING_ENV", json.dumps(job))
    containers.install()
    first = importlib.import_module("sagemaker_containers").training_env()
    environment = importlib.import_module("sagemaker_training.environment")
    assert importlib.import_module("sagemaker_training").environment is environment
    for env in (first, environment.Environment()):
        assert env.channel_input_dirs["train"] == "/data"
        assert (env.hyperparameters, env.num_gpus) == ({"lr": 0.1}, 0)


def test_training_env_without_a_job():
    """A worker has no job: the message says where to ask for it."""
    with pytest.raises(ScriptError, match="no script-mode training runs here; .* ask for it below"):
        containers.training_env()


# --- save ---


def test_save_takes_the_folder_first_or_second(tmp_path, sums):
    """The argument that is a str or a Path is the folder (CONTRACT C14, C17)."""
    for number, call in enumerate(
        [
            lambda folder: containers.save(str(folder), sums()),
            lambda folder: containers.save(sums(), str(folder)),
            lambda folder: containers.save(folder, sums()),
            lambda folder: containers.save(model=sums(), model_dir=folder),
        ]
    ):
        call(tmp_path / str(number))
        assert saved(tmp_path / str(number)) == FILES


def test_save_expects_one_folder_and_one_model(tmp_path, sums):
    """Two models, or two paths, are refused with their types."""
    with pytest.raises(ModelError, match="one folder and one model, got Module and Module"):
        containers.save(sums(), sums())
    with pytest.raises(ModelError, match="got str and str"):
        containers.save(str(tmp_path), "model")


def test_save_of_a_hybridized_block(tmp_path):
    """A script-mode script calls it with its network, in the order of the wild (CONTRACT C17)."""
    net = mx.gluon.nn.Dense(1, in_units=2, use_bias=False, prefix="sum_")
    net.initialize(mx.init.One())
    net.hybridize()
    net(mx.nd.ones((1, 2)))
    (tmp_path / "model-shapes.json").write_text("[]")  # another model's
    containers.save(net, str(tmp_path))
    assert saved(tmp_path) == ["model-0000.params", "model-symbol.json"]
    symbol, arguments, _ = mx.model.load_checkpoint(str(tmp_path / "model"), 0)
    assert symbol.list_arguments() == ["data", "sum_weight"]
    assert arguments["sum_weight"].asnumpy().tolist() == [[1.0, 1.0]]


def test_save_of_something_else_than_a_model(tmp_path):
    """The default save's error says what to do."""
    with pytest.raises(ModelError, match="define save"):
        containers.save(str(tmp_path), {"a": 1})


@pytest.mark.parametrize(
    ("current", "hosts", "saves"),
    [
        ("algo-1", ["algo-1", "algo-2"], True),
        ("algo-2", ["algo-1", "algo-2"], False),
        ("algo-2", ["algo-2", "algo-1"], True),
    ],
)
def test_only_the_first_host_saves(tmp_path, sums, monkeypatch, current, hosts, saves):
    """The hosts come from arguments, else from SM_CURRENT_HOST and SM_HOSTS."""
    containers.save(tmp_path, sums(), current, hosts)
    assert bool(saved(tmp_path)) == saves
    for path in tmp_path.iterdir():
        path.unlink()
    monkeypatch.setenv("SM_CURRENT_HOST", current)
    monkeypatch.setenv("SM_HOSTS", json.dumps(hosts))
    containers.save(sums(), str(tmp_path))
    assert bool(saved(tmp_path)) == saves


def test_scheduler_host_is_the_first_by_name():
    """In any order of the list."""
    assert containers.scheduler_host(["algo-2", "algo-1"]) == "algo-1"


# --- the variables ---


def test_hosting_variables_are_as_in_the_containers():
    """Strings are unchanged, all else is compact JSON (CONTRACT A7)."""
    assert containers.hosting_variables("/m", gpus=1, cpus=4) == {
        "SM_MODEL_DIR": "/m",
        "SM_MODULE_DIR": "/m/code",
        "SM_NUM_CPUS": "4",
        "SM_NUM_GPUS": "1",
        "SM_HOSTS": '["algo-1"]',
        "SM_CURRENT_HOST": "algo-1",
        "SM_RESOURCE_CONFIG": '{"current_host":"algo-1","hosts":["algo-1"]}',
        "SM_NETWORK_INTERFACE_NAME": "eth0",
        "SM_INPUT_DIR": "/opt/ml/input",
        "SM_INPUT_CONFIG_DIR": "/opt/ml/input/config",
        "SM_INPUT_DATA_CONFIG": "{}",
        "SM_CHANNELS": "[]",
        "SM_OUTPUT_DIR": "/opt/ml/output",
        "SM_OUTPUT_DATA_DIR": "/opt/ml/output/data",
        "SM_OUTPUT_INTERMEDIATE_DIR": "/opt/ml/output/intermediate",
        "SM_HPS": "{}",
        "SM_FRAMEWORK_PARAMS": "{}",
        "SM_USER_ARGS": "[]",
        "SM_LOG_LEVEL": "20",
    }
