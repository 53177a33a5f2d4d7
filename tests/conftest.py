"""Fixtures for all tests: a restored process, tiny models, and a builder of model_dirs.

mxnet is imported only for tests that need a model.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, Callable, Iterator

import hypothesis
import pytest

# Neither an example nor the making of data fails because the machine is busy.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that sets the length of the run with many models."""
    parser.addoption(
        "--models", type=int, default=8, help="models in test_many_models_in_turn (default: 8)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes that tests start have their default signals.

    nohup ignores SIGHUP, a shell's background job SIGINT and SIGQUIT, and children inherit that.
    They do not inherit a handler.  ONNX Runtime, which some tests import, must upload nothing.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    if config.getoption("numprocesses", None):
        return  # this process runs no test itself
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


@pytest.fixture(autouse=True)
def restored_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide this shell's settings; afterwards undo what the import of a script changed."""
    for name in list(os.environ):
        if name.startswith(("SAGEMAKER_", "MMS_", "OMP_NUM_THREADS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MMS_DECODE_INPUT_REQUEST", "true")  # MMS's default, which a load changes
    path, modules, cwd = list(sys.path), set(sys.modules), os.getcwd()
    environment = dict(os.environ)
    yield
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)  # a load sets variables for MXNet and for the script
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def block() -> Any:
    """A Dense without bias, weight [[1, 2], [3, 4]]: [1, 2] gives [5, 11]."""
    import mxnet as mx

    net = mx.gluon.nn.Dense(2, in_units=2, use_bias=False)
    net.initialize()
    net.weight.set_data(mx.nd.array([[1, 2], [3, 4]]))
    return net


@pytest.fixture
def module() -> Callable[..., Any]:
    """Build a bound Module, weight [[1, 2], [3, 4]] and bias [10, 20]: [1, 2] gives [15, 31]."""
    import mxnet as mx

    def build(rows: int = 1) -> Any:
        symbol = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=2, name="fc")
        bound_module = mx.mod.Module(symbol, label_names=None)
        bound_module.bind([("data", (rows, 2))], for_training=False)
        weight, bias = mx.nd.array([[1, 2], [3, 4]]), mx.nd.array([10, 20])
        bound_module.set_params({"fc_weight": weight, "fc_bias": bias}, {})
        return bound_module

    return build


@pytest.fixture
def model_dir(tmp_path: Path, block: Any, module: Callable[..., Any]) -> Callable[..., Path]:
    """Build a model_dir: net.params, the default save's three files, code/inference.py."""
    import mxnet as mx

    def build(script: str | None = None) -> Path:
        bound_module = module()
        block.save_parameters(str(tmp_path / "net.params"))
        bound_module.symbol.save(str(tmp_path / "model-symbol.json"))
        arguments, _ = bound_module.get_params()
        params = {f"arg:{name}": value for name, value in arguments.items()}
        mx.nd.save(str(tmp_path / "model-0000.params"), params)
        (tmp_path / "model-shapes.json").write_text('[{"name": "data", "shape": [8, 2]}]')
        if script is not None:
            (tmp_path / "code").mkdir()
            (tmp_path / "code" / "inference.py").write_text(script)
        return tmp_path

    return build


class Stripes:
    """A small ResNet trained on photos of stripes: across or along, red or green.

    Attributes:
        folder: the folder with net-symbol.json and net-0000.params.
        block: the ResNet.
    """

    def __init__(self, folder: Path, block: Any) -> None:
        self.folder, self.block = folder, block

    @staticmethod
    def photos(count: int, seed: int) -> tuple[Any, Any]:
        """Return ``count`` photos, (count, 3, 32, 32), and the class of each: 0 to 3."""
        import numpy as np

        noise = np.random.RandomState(seed)
        kinds = noise.randint(0, 4, count)
        photos = noise.normal(0, 0.3, (count, 3, 32, 32)).astype(np.float32)
        for photo, kind in zip(photos, kinds):
            stripes = np.sign(np.sin(np.arange(32) / noise.uniform(1, 2) + noise.uniform(0, 6)))
            photo[kind % 2] += stripes if kind < 2 else stripes[:, None]
        return photos, kinds

    def scores(self, photos: Any) -> Any:
        """Return the ResNet's scores of each photo, computed in floats."""
        import mxnet as mx

        return self.block(mx.nd.array(photos)).asnumpy()

    def write(self, folder: Path, count: int = 12) -> Path:
        """Write photos to a folder, each as an NPY file."""
        import numpy as np

        folder.mkdir(parents=True)
        for index, photo in enumerate(self.photos(count, 5)[0]):
            np.save(folder / f"{index:02}.npy", photo[None])
        return folder


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Stripes:
    """A ResNet of the model zoo's blocks, trained for a second."""
    import mxnet as mx
    from mxnet.gluon.model_zoo.vision import resnet

    mx.random.seed(0)
    net = resnet.ResNetV1(
        resnet.BasicBlockV1, [1, 1], [16, 32, 64], classes=4, thumbnail=True, prefix="stripes_"
    )
    net.initialize(mx.init.Xavier(magnitude=2))
    net.hybridize()
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 2e-3})
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    for step in range(20):
        photos, kinds = map(mx.nd.array, Stripes.photos(16, step))
        with mx.autograd.record():
            loss(net(photos), kinds).backward()
        trainer.step(16)
    folder = tmp_path_factory.mktemp("stripes")
    net.export(str(folder / "net"))
    return Stripes(folder, net)
