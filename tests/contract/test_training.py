"""The developer guide's training interface, sentence by sentence; each id is its sentence."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from mms_handler import errors, training
from mms_handler.training import legacy

NINE = [
    "hyperparameters",
    "input_data_config",
    "channel_input_dirs",
    "output_data_dir",
    "model_dir",
    "num_gpus",
    "num_cpus",
    "hosts",
    "current_host",
]


@pytest.fixture
def run(tmp_path):
    """Train with a script; returns the content of model_dir/result.json, if there is one."""

    def run(source: str, **changed: object):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "train.py").write_text(f"import json, os\n{source}")
        job = training.Job(
            entry_point=tmp_path / "train.py",
            hyperparameters={"epochs": 3, "optimizer": "adam"},
            channels={"training": tmp_path / "data"},
            model_dir=tmp_path / "model",
            output_data_dir=tmp_path / "output" / "data",
        )._replace(**changed)
        legacy.train(job)
        result = tmp_path / "model" / "result.json"
        return json.loads(result.read_text()) if result.exists() else None

    return run


SHOW_KWARGS = """
def train(**kwargs):
    with open(os.path.join(kwargs["model_dir"], "result.json"), "w") as file:
        json.dump(kwargs, file)
"""


def test_the_nine_arguments(run, tmp_path):
    """Amazon SageMaker invokes your train function with the following python kwargs."""
    assert list(run(SHOW_KWARGS)) == NINE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(
            "hyperparameters",
            {"epochs": 3, "optimizer": "adam"},
            id="hyperparameters: The Amazon SageMaker Hyperparameters dictionary.",
        ),
        pytest.param(
            "input_data_config",
            {
                "training": {
                    "TrainingInputMode": "File",
                    "S3DistributionType": "FullyReplicated",
                    "RecordWrapperType": "None",
                }
            },
            id="input_data_config: The Amazon SageMaker input channel configuration for this job.",
        ),
        pytest.param(
            "channel_input_dirs",
            {"training": "{here}/data"},
            id="channel_input_dirs: A dict of string-to-string maps from the Amazon SageMaker "
            "algorithm input channel name to the directory containing files for that input "
            "channel.",
        ),
        pytest.param(
            "output_data_dir",
            "{here}/output/data",
            id="output_data_dir: The Amazon SageMaker output data directory.",
        ),
        pytest.param(
            "model_dir", "{here}/model", id="model_dir: The Amazon SageMaker model directory."
        ),
        pytest.param(
            "num_gpus",
            0,
            id="num_gpus: The number of GPU devices available on the host this script is being "
            "executed on.",
        ),
        pytest.param(
            "num_cpus",
            multiprocessing.cpu_count(),
            id="num_cpus: The number of CPU devices available on the host this script is being "
            "executed on.",
        ),
        pytest.param(
            "hosts",
            ["algo-1"],
            id="hosts: A list of hostnames in the Amazon SageMaker training job cluster.",
        ),
        pytest.param(
            "current_host",
            "algo-1",
            id="current_host: This host's name. It will exist in the hosts list.",
        ),
    ],
)
def test_each_argument(run, tmp_path, monkeypatch, name, value):
    """Each of the nine has the documented value, of the documented type."""
    monkeypatch.setenv("PATH", "")  # no nvidia-smi, whatever the machine has
    here = json.dumps(value).replace("{here}", str(tmp_path.resolve()))
    assert run(SHOW_KWARGS)[name] == json.loads(here)


def test_data_written_to_the_directories(run, tmp_path):
    """Data written to output_data_dir and model_dir is there after the function returns."""
    run(
        "def train(output_data_dir, model_dir, **kwargs):\n"
        "    for folder in (output_data_dir, model_dir):\n"
        "        open(os.path.join(folder, 'written'), 'w').close()"
    )
    assert (tmp_path / "model" / "written").is_file()
    assert (tmp_path / "output" / "data" / "written").is_file()


SAVE = """
def save(model, model_dir):
    with open(os.path.join(model_dir, "result.json"), "w") as file:
        json.dump([model, model_dir], file)
"""


@pytest.mark.parametrize(
    ("source", "result"),
    [
        pytest.param(
            "def train(**kwargs): return {'a': 1}" + SAVE,
            [{"a": 1}, "{here}/model"],
            id="When called, if this function returns an object, that object is passed to a save "
            "function.",
        ),
        pytest.param(
            "def train(**kwargs): pass" + SAVE,
            None,
            id="If you do not return anything (or return None), the save function is not called.",
        ),
        pytest.param(
            "def train(**kwargs): return []" + SAVE,
            [[], "{here}/model"],
            id="This function is called with the return value of train, if there is one.",
        ),
        pytest.param(
            "def train(hosts, *, num_cpus: int, other=5): return [hosts, num_cpus > 0, other]"
            + SAVE,
            [[["algo-1"], True, 5], "{here}/model"],
            id="The **kwargs parameter can be used to absorb any Amazon SageMaker parameters that "
            "your training job doesn't need to use.",
        ),
        pytest.param(
            "def train(**kwargs): return 5\n"
            "def save(model_dir, net):\n"
            "    with open(os.path.join(model_dir, 'result.json'), 'w') as file: file.write('7')",
            7,
            id="You are free to implement this to perform your own saving operation.",
        ),
    ],
)
def test_save(run, tmp_path, source, result):
    """What train returns decides whether save is called, and with what."""
    expected = json.dumps(result).replace("{here}", str(tmp_path.resolve()))
    assert run(source) == json.loads(expected)


MODULE = """
import mxnet as mx

def train(**kwargs):
    data = mx.sym.var("data")
    module = mx.mod.Module(mx.sym.FullyConnected(data, num_hidden=1, name="fc"), label_names=None)
    module.bind([("data", (8, 2))], for_training=False)
    module.set_params({"fc_weight": mx.nd.array([[1, 2]]), "fc_bias": mx.nd.array([3])}, {})
    return module
"""


def test_the_default_save(run, tmp_path):
    """The default save function serializes Modules, in the format that MXNet itself reads."""
    import mxnet as mx

    run(MODULE)
    folder = tmp_path / "model"
    assert sorted(path.name for path in folder.iterdir()) == [
        "model-0000.params",
        "model-shapes.json",
        "model-symbol.json",
    ]
    assert json.loads((folder / "model-shapes.json").read_text()) == [
        {"name": "data", "shape": [8, 2]}
    ]
    symbol, arg_params, aux_params = mx.model.load_checkpoint(str(folder / "model"), 0)
    assert symbol.list_outputs() == ["fc_output"]
    assert arg_params["fc_weight"].asnumpy().tolist() == [[1.0, 2.0]]
    assert arg_params["fc_bias"].asnumpy().tolist() == [3.0]
    assert aux_params == {}


def test_the_default_save_runs_on_the_first_host_alone(run, tmp_path):
    """The model directory of the other hosts stays empty."""
    run(MODULE, hosts=("algo-2", "algo-1"), current_host="algo-2")
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "changed", "error", "words"),
    [
        pytest.param(
            "import mxnet as mx\ndef train(**kwargs): return mx.gluon.nn.Dense(3)",
            {},
            errors.ModelError,
            "define save(model, model_dir)",
            id="If you are using the Gluon API, you should provide your own save function",
        ),
        pytest.param(
            "def train(data, hosts, rate): raise SystemExit",
            {},
            errors.TrainingError,
            "train() requires data, rate,",
            id="parameters that train is not called with are named before it runs",
        ),
        pytest.param(
            "", {}, errors.TrainingError, "train.py defines no function train()", id="no train"
        ),
        pytest.param(
            SHOW_KWARGS,
            {"channels": {"test": Path("not-there")}},
            errors.TrainingError,
            "channel test: the folder not-there does not exist",
            id="a channel that is not there",
        ),
        pytest.param(
            SHOW_KWARGS,
            {"current_host": "algo-3"},
            errors.TrainingError,
            "the current host algo-3 is not among the hosts algo-1; correct --hosts",
            id="a host that is not among the hosts",
        ),
        pytest.param(
            SHOW_KWARGS,
            {"entry_point": Path("gone.py")},
            errors.TrainingError,
            "the script gone.py does not exist",
            id="no script",
        ),
    ],
)
def test_what_cannot_be_trained(run, source, changed, error, words):
    """A job that cannot start, or whose result cannot be saved, says why."""
    with pytest.raises(error, match=words.replace("(", r"\(").replace(")", r"\)")):
        run(source, **changed)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("3", 3, id="a number"),
        pytest.param("[1, 2]", [1, 2], id="a list"),
        pytest.param('"adam"', "adam", id="a text in JSON"),
        pytest.param("adam", "adam", id="a text that is no JSON"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_hyperparameters_are_decoded(tmp_path, text, value):
    """A value is decoded where it is JSON, and is itself where it is not."""
    path = tmp_path / "hyperparameters.json"
    path.write_text(json.dumps({"name": text, "plain": 0.5}))
    assert training.decode_hyperparameters({"name": text}) == {"name": value}
    assert training.read_hyperparameters(path) == {"name": value, "plain": 0.5}
